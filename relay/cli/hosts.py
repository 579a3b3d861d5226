"""Hosts: who runs agents where, what only the host knows, its version, and what was left on its disk."""

from __future__ import annotations

import json
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import click

from .options import Listing, Target, must_be_one_of, target
from .output import age, one_line, say, show, show_json
from .server import ask
from .terminal import visible

if TYPE_CHECKING:
    from relay import wire
    from relay.client import Client

__all__ = ["hosts"]

PARTS = ("auto", "all", "codex", "claude", "orchestrator")


@click.group(cls=Listing)
def hosts() -> None:
    """List the hosts; look into one, change its version, clean up after it."""


@hosts.command("list")
@click.option("--status", help="Only those with this status.")
@target
def list_(target: Target, status: str | None, as_json: bool) -> None:
    """List the hosts, by id."""
    from relay import wire

    must_be_one_of(wire.OrchestratorStatus, status, f"no host can be {status}", command="hosts list")
    listed = ask(target, lambda client: client.orchestrators())
    found = [host for host in listed if status in (None, host.status)]
    if as_json:
        return show_json([wire.to_json(host) for host in found])
    rows = [
        (
            host.id,
            host.status,
            host.version,
            host.upgrade.status if host.upgrade else None,
            len(host.managed_agents),
            host.base_dir,
            age(host.last_seen),
        )
        for host in found
    ]
    columns = ("host", "status", "version", "upgrade", "agents", "base directory", "seen")
    return show(columns, rows, empty="no hosts")


@hosts.command("show")
@click.argument("host")
@target
def show_(target: Target, host: str, as_json: bool) -> None:
    """Show one host: its agents, and the last upgrade."""
    from relay import wire

    found = ask(target, lambda client: client.orchestrator(host))
    if as_json:
        return show_json(wire.to_json(found))
    version = found.version or "an unknown version"
    say(one_line(f"{found.id} is {found.status}, of {version}, at {found.api_url or 'no address'}"))
    if found.upgrade is not None:
        say(one_line(_upgrade(found.upgrade)))
    rows = [
        (agent.agent_id, agent.provider, agent.session_name, agent.pid, age(agent.started_at))
        for agent in found.managed_agents
    ]
    return show(("agent", "provider", "session", "process", "started"), rows, empty="no agents")


def _upgrade(upgrade: wire.Upgrade) -> str:
    why = f": {upgrade.error}" if upgrade.error else ""
    came = upgrade.from_version or "?"
    return f"upgrade from {came} to {upgrade.desired_version}: {upgrade.status}{why}"


@hosts.command("upgrade")
@click.argument("host")
@click.option("--to", "version", help="The version.  [default: that of the server]")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="What of it. Repeatable.")
@click.option("--force", is_flag=True, help="Also if it is an older version.")
@target
def upgrade(
    target: Target, host: str, version: str | None, parts: tuple[str, ...], force: bool, as_json: bool
) -> None:
    """Have a host change its version. `relay hosts show HOST` tells how it came out."""
    from relay import wire

    asked = wire.UpgradeOrchestrator(
        action="upgrade", target_version=version, providers=list(parts) or None, force=force
    )
    command = ask(target, lambda client: client.upgrade_orchestrator(host, asked))
    if as_json:
        return show_json(wire.to_json(command))
    return say(f"{host} is to become {command.params['targetVersion']} (command {command.id})")


@hosts.command("sessions")
@click.argument("host")
@target
def sessions(target: Target, host: str, as_json: bool) -> None:
    """List the sessions that run on a host, as the host tells it."""
    told = ask(target, lambda client: client.host_says(host, "sessions"))
    if as_json:
        return show_json(told)
    rows = [
        (*(_member(each, name) for name in ("name", "agentId", "pid")), _yes(_member(each, "alive")))
        for each in _list(told, "sessions")
    ]
    return show(("session", "agent", "process", "alive"), rows, empty="no sessions")


@hosts.command("directories")
@click.argument("host")
@click.argument("path", default="")
@target
def directories(target: Target, host: str, path: str, as_json: bool) -> None:
    """List the folders on a host, from its base directory on."""
    told = ask(target, lambda client: client.host_says(host, "directories", {"path": path or None}))
    if as_json:
        return show_json(told)
    rows = [(_member(each, "name"), _member(each, "path")) for each in _list(told, "entries")]
    return show(("folder", "path"), rows, empty="no folders")


@hosts.command("logs")
@click.argument("host")
@click.argument("session")
@click.option("--lines", type=click.IntRange(1, 1_000), default=100, show_default=True)
@click.option("--follow", is_flag=True, help="Go on with what is new, until the session is over.")
@target
def logs(target: Target, host: str, session: str, lines: int, follow: bool, as_json: bool) -> None:
    """Show what a session on a host printed. `relay hosts sessions HOST` lists them."""

    def tell(found: list[str]) -> None:
        for line in found:
            say(json.dumps({"line": line}) if as_json else visible(line))

    async def read(client: Client) -> None:
        if not follow:
            told = await client.host_says(host, f"logs/{session}", {"lines": lines})
            tell([str(line) for line in _list(told, "lines")])
            return
        async with aclosing(client.follow_log(host, session, lines=lines)) as parts:
            async for part in parts:
                tell(part)

    with suppress(KeyboardInterrupt, BrokenPipeError):
        ask(target, read)


@hosts.command("orphans")
@target
def orphans(target: Target, as_json: bool) -> None:
    """List worktrees on hosts that no workspace is in any more."""
    found = ask(target, lambda client: client.orphans())
    if as_json:
        return show_json(found)
    rows = [tuple(_member(each, name) for name in ("worktreePath", "branch", "repoRoot")) for each in found]
    return show(("worktree", "branch", "repository"), rows, empty="no orphans")


@hosts.command("reclaim")
@click.argument("repository")
@click.argument("worktree")
@click.option("--branch", help="Its branch, which is removed as well if its work has landed.")
@target
def reclaim(target: Target, repository: str, worktree: str, branch: str | None, as_json: bool) -> None:
    """Have the host of REPOSITORY remove an orphan. What has not landed stays."""
    from relay import wire

    orphan = wire.Reclaim(worktree_path=worktree, repo_root=repository, branch=branch)
    command = ask(target, lambda client: client.reclaim_orphan(orphan))
    if as_json:
        return show_json(wire.to_json(command))
    return say(one_line(f"{command.target} is to remove {worktree} (command {command.id})"))


@hosts.command("forget")
@click.argument("host")
@target
def forget(target: Target, host: str, as_json: bool) -> None:
    """Forget a host that does not come back."""
    ask(target, lambda client: client.delete_orchestrator(host))
    return show_json({"ok": True}) if as_json else say(f"{host} is forgotten")


def _list(told: Any, name: str) -> list[Any]:
    found = told.get(name) if isinstance(told, dict) else None
    return found if isinstance(found, list) else []


def _yes(told: Any) -> str:
    return "yes" if told is True else "no"


def _member(each: Any, name: str) -> Any:
    return each.get(name) if isinstance(each, dict) else None
