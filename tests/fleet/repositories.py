"""The hosts and workspaces of the specification's examples (agents-workspaces 0.3), and short ways to use them."""

from __future__ import annotations

from typing import Any

from relay import wire
from relay.fleet import Fleet, agents, commands, merges, orchestrators, workspaces

BASES = {"o1": "/home/u", "o2": "/home/u", "o3": "/srv"}

REPORTS = {
    name: wire.WorkspaceReport(
        id=name,
        mode=wire.WorkspaceMode.ISOLATED,
        repo_root=repository,
        source_cwd=repository,
        worktree_path=f"/home/u/.agent-relay/workspaces/repo-1/{name}",
        branch=f"agent/a/{name}",
        base_ref="main",
        base_sha="b0",
    )
    for name, repository in {"w1": "/home/u/repo", "w2": "/home/u/repo", "w3": "/home/u/other"}.items()
}
SHARED = wire.WorkspaceReport(id="ws", mode=wire.WorkspaceMode.SHARED, source_cwd="/home/u/repo")

GONE_AFTER = 125.0
"""Seconds of silence after which a host is offline, and a few more."""


class Hosts:
    """A fleet with its hosts: what a host would do, by hand."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.store = fleet.store

    async def online(self, name: str = "o1", base: str | None = None) -> None:
        card = wire.RegisterOrchestrator(id=name, hostname="h", base_dir=base or BASES[name])
        await self.fleet.orchestrators[name].ask(orchestrators.Register(card))

    async def leave(self, name: str = "o1") -> None:
        """What a host says before it ends."""
        goodbye = agents.SetStatus(wire.AgentStatus.OFFLINE)
        await self.fleet.agents[f"orchestrator-{name}"].ask(goodbye)

    async def report(
        self, workspace: wire.WorkspaceReport, agent: str = "a1", host: str = "o1"
    ) -> wire.Workspace:
        return await self.fleet.workspaces[workspace.id].ask(workspaces.Report(workspace, agent, host))

    async def act(self, workspace: str, action: str, **body: Any) -> workspaces.Acted:
        asked = wire.WorkspaceAction(action=wire.WorkspaceVerb(action), **body)
        return await self.fleet.workspaces[workspace].ask(workspaces.Act(asked))

    async def command(self, workspace: str, action: str, **body: Any) -> wire.Command:
        """The command that `merge` or `cleanup` causes."""
        made = (await self.act(workspace, action, **body)).command
        assert made is not None
        return made

    async def patch(self, command: wire.Command, status: str, **rest: Any) -> wire.Command:
        change = wire.PatchCommand(status=wire.CommandStatus(status), **rest)
        return await self.fleet.commands[command.id].ask(commands.Patch(change))

    async def cancel(self, command: wire.Command) -> None:
        await self.fleet.commands[command.id].ask(commands.Cancel())

    async def remove(self, workspace: str) -> wire.Workspace:
        return await self.fleet.workspaces[workspace].ask(workspaces.Remove())

    def row(self, workspace: str) -> wire.Workspace:
        return workspaces.get_workspace(self.store, workspace)

    def status(self, workspace: str) -> str | None:
        found = workspaces.find_workspace(self.store, workspace)
        return found.status.value if found is not None else None

    def leases(self) -> dict[str, wire.MergeLease]:
        found = merges.list_leases(self.store, self.fleet.system.wall())
        assert len({lease.repo_root for lease in found}) == len(found)
        return {lease.repo_root: lease for lease in found}

    def commands(self, kind: str = "workspace.merge") -> list[wire.Command]:
        return commands.list_commands(self.store, type=kind, limit=1_000)

    def trace(self) -> list[list[tuple[Any, ...]]]:
        """All that a refused request must not have changed (W-I3)."""
        tables = ("workspaces", "merge_leases", "commands", "events", "activity")
        return [self.store.rows(f"select * from {table} order by 1") for table in tables]


async def at_work(fleet: Fleet) -> Hosts:
    """`o1` is online, and w1, w2, w3 and ws are active."""
    hosts = Hosts(fleet)
    await hosts.online()
    for workspace in (*REPORTS.values(), SHARED):
        await hosts.report(workspace)
    return hosts
