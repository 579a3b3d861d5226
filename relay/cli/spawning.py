"""Saying at a terminal which agent is to be started, for whatever starts one."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import click

from .failure import Failure
from .options import must_be_one_of

__all__ = ["program_config", "spawn_members", "spawn_options"]

OPTIONS = (
    click.option("--provider", required=True, help="claude, codex or command."),
    click.option(
        "--program",
        metavar="LINE",
        help="The provider's program with its arguments, as 'python3 agent.py'; command has none by itself.",
    ),
    click.option("--cwd", help="Where it works on that host.  [default: the host's base directory]"),
    click.option("--workspace", help="isolated: in a git worktree of its own; shared: in --cwd itself."),
    click.option("--label", help="Its name for people, and for label: addresses."),
    click.option("--tag", "tags", multiple=True, help="Repeatable."),
    click.option("--cap", "capabilities", multiple=True, help="Repeatable."),
    click.option(
        "--approval",
        help="open, guarded or read-only.  [default: what its profile says, or else its provider]",
    ),
    click.option("--prompt", help="What it is told first."),
    click.option("--model"),
    click.option("--effort", help="How hard the model is to think."),
    click.option("--profile", help="Says what is not said here."),
)


def spawn_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say which agent it is to be."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def spawn_members(options: dict[str, Any], command: str) -> dict[str, Any]:
    """Takes these options out of those of a command: the members that a spawn and a policy have in common. `approval` is left, as
    the two call it by names of their own: a mode now, or None. Raises `Failure` for a word that means nothing."""
    from relay import wire

    provider, workspace, effort = (options.pop(name) for name in ("provider", "workspace", "effort"))
    must_be_one_of(wire.Provider, provider, f"there is no provider {provider}", command=command)
    must_be_one_of(wire.WorkspaceMode, workspace, f"no workspace can be {workspace}", command=command)
    must_be_one_of(wire.Effort, effort, f"{effort} is no effort", command=command)
    approval = options["approval"]
    must_be_one_of(wire.ApprovalMode, approval, f"no agent can be {approval}", command=command)
    options["approval"] = approval and wire.ApprovalMode(approval)
    plain = {name: options.pop(name) for name in ("cwd", "label", "prompt", "model", "profile")}
    lists = {name: list(options.pop(name)) for name in ("tags", "capabilities")}
    return {
        "provider": wire.Provider(provider),
        "workspace_mode": workspace and wire.WorkspaceMode(workspace),
        "effort": effort and wire.Effort(effort),
        "provider_config": program_config(options.pop("program"), command),
        **plain,
        **lists,
    }


def program_config(line: str | None, command: str) -> dict[str, Any] | None:
    """The provider configuration that a command line stands for. Raises `Failure` when it names no program."""
    if line is None:
        return None
    try:
        words = shlex.split(line)
    except ValueError as error:
        words, why = [], str(error)
    else:
        why = "there is no word in it"
    if not words:
        raise Failure(f"--program {line!r} names no program", why=why, then=f"relay {command} --help")
    return {"command": words[0], "defaultArgs": words[1:]}
