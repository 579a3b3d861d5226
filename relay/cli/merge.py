"""Landing a workspace: asked of relay, done by its host. What the host says of it reaches the person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from posixpath import normpath
from typing import TYPE_CHECKING, Any

import click

from .failure import Failure
from .mail import ME
from .options import Target, target
from .output import say, show_json
from .server import ask
from .terminal import visible

if TYPE_CHECKING:
    from relay import wire
    from relay.client import Client

__all__ = ["merge"]

LOOK = 0.3  # seconds between two looks at the command
QUIET = 3.0  # seconds before it is said what there is to wait for


@click.command()
@click.argument("workspace")
@click.option("--strategy", type=click.Choice(["auto", "rebase-ff"]), default="auto", show_default=True)
@click.option("--keep", is_flag=True, help="Keep branch and worktree: the agent goes on working there.")
@click.option("--wait/--no-wait", default=True, help="Wait for the host to finish; waits by default.")
@target
def merge(target: Target, workspace: str, strategy: str, keep: bool, wait: bool, as_json: bool) -> None:
    """Land WORKSPACE on its base branch.

    Merges of one repository take turns. One that conflicts changes nothing: rebase the worktree, then ask again.
    """
    from relay import wire

    wish = wire.WorkspaceAction(
        action=wire.WorkspaceVerb.MERGE, strategy=wire.Strategy(strategy), delete_branch=not keep, agent_id=ME
    )

    async def land(client: Client) -> wire.Command:
        command = await _asked(client, workspace, wish)
        return await _finished(client, command, silent=as_json) if wait else command

    command = ask(target, land)
    failure = _not_landed(workspace, command)
    if as_json:
        show_json(wire.to_json(command))
    elif not command.status.final:
        say(f"{command.id} is {command.status}: relay tail shows how it goes on")
    elif failure is None:
        say("\n".join([_landed(workspace, command), *_left(command)]))
    if failure is not None:
        raise failure


async def _asked(client: Client, workspace: str, wish: wire.WorkspaceAction) -> wire.Command:
    """The command that relay made of it. Raises `Failure` when another merge of the repository is in the way."""
    from relay import wire
    from relay.client import Refused

    try:
        answer = await client.act(workspace, wish)
    except Refused as refusal:
        if refusal.status == 409 and (other := await _in_the_way(client, workspace)):
            advice = f"relay merge {workspace}, when that has ended; {_cancel(other)}"
            raise Failure(
                refusal.error, why=await _how(client, other), then=advice, refused=True
            ) from refusal
        raise
    return wire.decode(wire.Command, answer["command"])


async def _in_the_way(client: Client, workspace: str) -> wire.Command | None:
    """The merge that holds the lease of the workspace's repository, if it is still there."""
    from relay.client import Refused

    with suppress(Refused):
        root = normpath((await client.workspace(workspace)).repo_root or "/")
        for lease in await client.merge_leases():
            if normpath(lease.repo_root) == root:
                return await client.command(lease.command_id)
    return None


async def _finished(client: Client, command: wire.Command, *, silent: bool) -> wire.Command:
    """Waits for as long as the host takes, and says what for; the command's own time limit ends it."""
    import trio

    said, began = "", trio.current_time()
    while not command.status.final:
        if not silent and trio.current_time() - began >= QUIET:
            now = await _how(client, command)
            if now != said:
                _note(f"waiting: {now}")
            if not said:
                _note(f"  Ctrl-C leaves it to the host; {_cancel(command)}")
            said = now
        await trio.sleep(LOOK)
        command = await client.command(command.id)
    return command


async def _how(client: Client, command: wire.Command) -> str:
    """How a command is, and how the host that is to carry it out."""
    from relay.client import RelayError

    host = command.target.removeprefix("orchestrator-")
    try:
        known = await client.orchestrator(host)
    except RelayError:
        return f"{command.id} is {command.status}, host {host} is unknown"
    return f"{command.id} is {command.status}, host {host} is {known.status}"


def _cancel(command: wire.Command) -> str:
    return f"DELETE /api/commands/{command.id} cancels it"


def _note(text: str) -> None:
    click.echo(visible(text), err=True)


def _landed(workspace: str, command: wire.Command) -> str:
    result: dict[str, Any] = command.result or {}
    if result.get("merged"):
        return f"{workspace} landed on {result.get('baseRef', 'its base')} as {result.get('mergedSha', '?')}"
    return f"{workspace}: nothing to merge" if result.get("noop") else f"{workspace}: {command.status}"


def _left(command: wire.Command) -> Iterator[str]:
    """What the host could not do, or did not want to."""
    result: dict[str, Any] = command.result or {}
    if trouble := _unsynced(result):
        yield f"  left to you: {trouble}"
    if reason := result.get("branchPreservedReason"):
        branch = f"branch {result.get('branch') or command.params.get('branch')}"
        kept = branch if result.get("worktreeRemoved") else f"worktree {_worktree(command)} and {branch}"
        yield f"  kept: {kept} ({reason})"


def _unsynced(result: dict[str, Any]) -> str | None:
    """What is wrong with a checkout of the base."""
    report = result.get("baseWorktreeSync")
    if not isinstance(report, dict) or report.get("reconciled") is not False:
        return None
    return str(report.get("message") or "a checkout of the base does not show what has landed")


def _worktree(command: wire.Command) -> str:
    return str(command.params.get("worktreePath", "its worktree"))


def _not_landed(workspace: str, command: wire.Command) -> Failure | None:
    """Why the work did not land and what to do, if it has ended so."""
    result: dict[str, Any] = command.result or {}
    outcome = result.get("status")
    if not command.status.final or (command.status == "succeeded" and outcome != "conflict"):
        return None
    why = command.error or result.get("error") or f"{command.id} is {command.status}"
    match outcome:
        case "conflict" if not _unsynced(result):
            base = result.get("baseRef", "its base branch")
            then = f"git -C {_worktree(command)} rebase {base}, then relay merge {workspace}"
        case "cleaned":
            root, branch = command.params.get("repoRoot", "."), command.params.get("branch", "its branch")
            then = f"git -C {root} merge {branch}"
        case _:
            then = f"relay merge {workspace}, once that is put right"
    why = "; ".join(str(part) for part in (why, _unsynced(result)) if part)
    return Failure(f"{workspace} did not land", why=why, then=then)
