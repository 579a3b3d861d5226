"""Workspaces: the git worktrees of agents, what is in them, and what becomes of them. Landing one is `relay merge`."""

from __future__ import annotations

from typing import Any

import click

from .mail import ME
from .options import Listing, Target, must_be_one_of, target
from .output import age, members, one_line, say, show, show_json
from .server import ask

__all__ = ["workspaces"]


@click.group(cls=Listing)
def workspaces() -> None:
    """List the workspaces: who works on which branch; look into one, give one up."""


@workspaces.command("list")
@click.option("--status", help="Only those with this status.")
@target
def list_(target: Target, status: str | None, as_json: bool) -> None:
    """List the workspaces, by id."""
    from relay import wire

    must_be_one_of(wire.WorkspaceStatus, status, f"no workspace can be {status}", command="workspaces list")
    found = ask(target, lambda client: client.workspaces(status=status))
    if as_json:
        return show_json([wire.to_json(workspace) for workspace in found])
    rows = [
        (row.id, row.status, row.agent_id, row.branch, row.base_ref, age(row.updated_at), row.repo_root)
        for row in found
    ]
    return show(
        ("workspace", "status", "agent", "branch", "base", "changed", "repository"),
        rows,
        empty="no workspaces",
    )


@workspaces.command("show")
@click.argument("workspace")
@target
def show_(target: Target, workspace: str, as_json: bool) -> None:
    """Show all that is known of one workspace."""
    from relay import wire

    found = wire.to_json(ask(target, lambda client: client.workspace(workspace)))
    return show_json(found) if as_json else members(found)


@workspaces.command("diff")
@click.argument("workspace")
@target
def diff(target: Target, workspace: str, as_json: bool) -> None:
    """Show what was changed in WORKSPACE since its base, as its host tells it."""
    told = ask(target, lambda client: client.diff(workspace))
    if as_json:
        return show_json(told)
    if not told.get("available", True):
        return say(one_line(f"its host cannot be asked: {told.get('reason') or 'it gave no reason'}"))
    return say(str(told.get("patch") or "nothing was changed"))


@workspaces.command("abandon")
@click.argument("workspace")
@target
def abandon(target: Target, workspace: str, as_json: bool) -> None:
    """Say that nothing of WORKSPACE is wanted any more. Its worktree stays until it is cleaned up."""
    _done(_act(target, workspace, "abandon"), f"{workspace} is abandoned", as_json)


@workspaces.command("cleanup")
@click.argument("workspace")
@target
def cleanup(target: Target, workspace: str, as_json: bool) -> None:
    """Have the host remove the worktree of WORKSPACE. What has not landed stays, on its branch."""
    told = _act(target, workspace, "cleanup")
    command = (told.get("command") or {}).get("id")
    _done(told, f"{workspace} is being cleaned up (command {command})", as_json)


@workspaces.command("forget")
@click.argument("workspace")
@target
def forget(target: Target, workspace: str, as_json: bool) -> None:
    """Take WORKSPACE off the record; the disk is left as it is."""
    ask(target, lambda client: client.delete_workspace(workspace))
    _done({"ok": True}, f"{workspace} is forgotten", as_json)


def _act(target: Target, workspace: str, verb: str) -> dict[str, Any]:
    from relay import wire

    action = wire.WorkspaceAction(action=wire.WorkspaceVerb(verb), agent_id=ME)
    return ask(target, lambda client: client.act(workspace, action))


def _done(told: dict[str, Any], text: str, as_json: bool) -> None:
    return show_json(told) if as_json else say(one_line(text))
