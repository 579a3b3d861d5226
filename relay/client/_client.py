"""The HTTP API as methods. Every method raises `RelayError`; records are classes of `relay.wire`."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

from relay import wire

from ._errors import Garbled
from ._events import StreamedEvent, events
from ._transport import DEFAULT_URL, Transport, find_token

__all__ = ["Client", "open_client"]

T = TypeVar("T")


def _id(value: str) -> str:
    """The id as one segment of a path. Dots alone would be taken for a step to another path."""
    segment = quote(value, safe="", errors="surrogatepass")
    return segment.replace(".", "%2E") if value in (".", "..") else segment


class Client:
    """Made by `open_client`. The surrounding cancel scope limits every call; each try is limited to 35 s."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._call = transport.call

    @property
    def url(self) -> str:
        return self._transport.url

    async def health(self) -> wire.Health:
        return self._one(wire.Health, await self._get("/api/health"))

    def events(self, agent_id: str | None = None, after: int | None = None) -> AsyncGenerator[StreamedEvent]:
        """Events newer than `after`, those for one agent or all; reconnects for ever."""
        return events(self._transport, agent_id, after)

    # -- agents

    async def register_agent(self, agent: wire.RegisterAgent) -> wire.Agent:
        return self._one(wire.Agent, await self._call("POST", "/api/agents", agent, repeatable=True))

    async def agents(self) -> list[wire.Agent]:
        return self._list(wire.Agent, await self._get("/api/agents"))

    async def agent(self, id: str) -> wire.Agent:  # noqa: A002 - the contract's word
        return self._one(wire.Agent, await self._get(f"/api/agents/{_id(id)}"))

    async def set_status(self, id: str, status: wire.SetStatus) -> None:  # noqa: A002
        await self._call("PATCH", f"/api/agents/{_id(id)}/status", status, repeatable=True)

    async def set_ready(self, id: str, ready: wire.SetReady) -> None:  # noqa: A002
        await self._call("PATCH", f"/api/agents/{_id(id)}/ready", ready, repeatable=True)

    async def heartbeat(self, id: str, beat: wire.Heartbeat) -> None:  # noqa: A002
        await self._call("POST", f"/api/agents/{_id(id)}/heartbeat", beat, repeatable=True)

    async def set_label(self, id: str, label: str | None) -> None:  # noqa: A002
        body = wire.SetLabel(label=label)
        await self._call("PATCH", f"/api/agents/{_id(id)}/label", body, repeatable=True)

    async def set_tags(self, id: str, tags: list[str]) -> wire.Agent:  # noqa: A002
        body = wire.SetTags(tags=tags)
        return self._one(
            wire.Agent, await self._call("PATCH", f"/api/agents/{_id(id)}/tags", body, repeatable=True)
        )

    async def delete_agent(self, id: str) -> None:  # noqa: A002
        await self._call("DELETE", f"/api/agents/{_id(id)}")

    # -- messages

    async def send(self, message: wire.SendMessage) -> wire.Message:
        """Send. Repeated on trouble only when it carries an idempotency key."""
        again = message.idempotency_key is not None
        return self._one(wire.Message, await self._call("POST", "/api/messages", message, repeatable=again))

    async def messages(
        self,
        *,
        for_: str | None = None,
        since: int | None = None,
        unread: bool = False,
        limit: int | None = None,
    ) -> list[wire.Message]:
        query = {"for": for_, "since": since, "unread": "1" if unread else None, "limit": limit}
        return self._list(wire.Message, await self._get("/api/messages", query))

    async def cursor(self) -> int:
        return self._one(wire.Cursor, await self._get("/api/messages/cursor")).latest_id

    async def message(self, id: int) -> wire.Message:  # noqa: A002
        return self._one(wire.Message, await self._get(f"/api/messages/{id}"))

    async def thread(self, id: int) -> list[wire.Message]:  # noqa: A002
        return self._list(wire.Message, await self._get(f"/api/messages/{id}/thread"))

    async def delivery(self, id: int) -> wire.Delivery:  # noqa: A002
        return self._one(wire.Delivery, await self._get(f"/api/messages/{id}/status"))

    async def mark_read(self, id: int, agent_id: str) -> None:  # noqa: A002
        body = wire.MarkRead(agent_id=agent_id)
        await self._call("POST", f"/api/messages/{id}/read", body, repeatable=True)

    async def claim(self, id: int, agent_id: str) -> wire.Claim:  # noqa: A002
        body = wire.ClaimMessage(agent_id=agent_id)
        return self._one(
            wire.Claim, await self._call("POST", f"/api/messages/{id}/claim", body, repeatable=True)
        )

    async def renew_claim(self, id: int, agent_id: str) -> wire.Claim:  # noqa: A002
        body = wire.ClaimMessage(agent_id=agent_id)
        path = f"/api/messages/{id}/claim/renew"
        return self._one(wire.Claim, await self._call("POST", path, body, repeatable=True))

    # -- commands

    async def commands(
        self,
        *,
        target: str | None = None,
        status: str | None = None,
        type: str | None = None,  # noqa: A002
        since: int | None = None,
        limit: int | None = None,
    ) -> list[wire.Command]:
        query = {"target": target, "status": status, "type": type, "since": since, "limit": limit}
        return self._list(wire.Command, await self._get("/api/commands", query))

    async def command(self, id: str) -> wire.Command:  # noqa: A002
        return self._one(wire.Command, await self._get(f"/api/commands/{_id(id)}"))

    async def create_command(self, command: wire.NewCommand) -> wire.Command:
        return self._one(wire.Command, await self._call("POST", "/api/commands", command))

    async def patch_command(self, id: str, patch: wire.PatchCommand) -> wire.Command:  # noqa: A002
        answer = await self._call("PATCH", f"/api/commands/{_id(id)}", patch, repeatable=True)
        return self._one(wire.Command, answer)

    async def claim_command(self, id: str, claimant: str | None = None) -> int | None:  # noqa: A002
        """Take a pending command, or one that this claimant has taken before: the token that reports of it must carry.
        None when it is somebody else's. Without a name it is not repeated, so trouble means not taken."""
        body = wire.ClaimCommand(claimant=claimant)
        again = claimant is not None
        answer = self._object(
            await self._call("POST", f"/api/commands/{_id(id)}/claim", body, repeatable=again)
        )
        token = answer.get("token")
        return token if answer.get("claimed") is True and isinstance(token, int) else None

    async def cancel_command(self, id: str) -> None:  # noqa: A002
        await self._call("DELETE", f"/api/commands/{_id(id)}")

    # -- orchestrators

    async def register_orchestrator(self, host: wire.RegisterOrchestrator) -> wire.Orchestrator:
        answer = await self._call("POST", "/api/orchestrators", host, repeatable=True)
        return self._one(wire.Orchestrator, answer)

    async def orchestrators(self) -> list[wire.Orchestrator]:
        return self._list(wire.Orchestrator, await self._get("/api/orchestrators"))

    async def orchestrator(self, id: str) -> wire.Orchestrator:  # noqa: A002
        return self._one(wire.Orchestrator, await self._get(f"/api/orchestrators/{_id(id)}"))

    async def orchestrator_heartbeat(self, id: str, beat: wire.OrchestratorHeartbeat) -> None:  # noqa: A002
        await self._call("POST", f"/api/orchestrators/{_id(id)}/heartbeat", beat, repeatable=True)

    async def report_roster(self, id: str, roster: wire.Roster) -> None:  # noqa: A002
        await self._call("PATCH", f"/api/orchestrators/{_id(id)}/agents", roster, repeatable=True)

    async def spawn(self, orchestrator: str, agent: wire.SpawnAgent) -> wire.Command:
        """Ask a host to start an agent; the answer is the command that does it."""
        answer = await self._call("POST", f"/api/orchestrators/{_id(orchestrator)}/spawn", agent)
        return self._one(wire.Command, self._object(answer).get("command"))

    async def orchestrator_action(self, id: str, action: wire.OrchestratorAction) -> wire.Command:  # noqa: A002
        answer = await self._call("POST", f"/api/orchestrators/{_id(id)}/actions", action)
        return self._one(wire.Command, self._object(answer).get("command"))

    async def delete_orchestrator(self, id: str) -> None:  # noqa: A002
        await self._call("DELETE", f"/api/orchestrators/{_id(id)}")

    # -- workspaces

    async def workspaces(
        self, *, status: str | None = None, repo_root: str | None = None, agent_id: str | None = None
    ) -> list[wire.Workspace]:
        query = {"status": status, "repoRoot": repo_root, "agentId": agent_id}
        return self._list(wire.Workspace, await self._get("/api/workspaces", query))

    async def workspace(self, id: str) -> wire.Workspace:  # noqa: A002
        return self._one(wire.Workspace, await self._get(f"/api/workspaces/{_id(id)}"))

    async def act(self, id: str, action: wire.WorkspaceAction) -> dict[str, Any]:  # noqa: A002
        """Do something to a workspace; the answer is what the API answers to that action."""
        return self._object(await self._call("POST", f"/api/workspaces/{_id(id)}/actions", action))

    async def delete_workspace(self, id: str) -> None:  # noqa: A002
        await self._call("DELETE", f"/api/workspaces/{_id(id)}")

    async def git_state(self, id: str) -> dict[str, Any]:  # noqa: A002
        return await self._get_object(f"/api/workspaces/{_id(id)}/git-state")

    async def merge_preview(self, id: str, strategy: str | None = None) -> dict[str, Any]:  # noqa: A002
        return await self._get_object(f"/api/workspaces/{_id(id)}/merge-preview", {"strategy": strategy})

    async def diff(self, id: str, *, patch: bool = True) -> dict[str, Any]:  # noqa: A002
        return await self._get_object(f"/api/workspaces/{_id(id)}/diff", {"patch": None if patch else "0"})

    async def merge_leases(self) -> list[wire.MergeLease]:
        return self._list(wire.MergeLease, await self._get("/api/merge-leases"))

    # -- activity

    async def activity(self, *, limit: int | None = None) -> list[wire.Activity]:
        return self._list(wire.Activity, await self._get("/api/activity", {"limit": limit}))

    async def post_activity(self, activity: wire.NewActivity) -> wire.Activity:
        answer = await self._call("POST", "/api/activity", activity, repeatable=True)
        return self._one(wire.Activity, answer)

    async def _get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        return await self._call("GET", path, query=query, repeatable=True)

    async def _get_object(self, path: str, query: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._object(await self._get(path, query))

    def _one(self, kind: type[T], answer: Any) -> T:
        try:
            return wire.decode(kind, self._object(answer))
        except wire.Invalid as error:
            raise Garbled(self.url, str(error)) from error

    def _list(self, kind: type[T], answer: Any) -> list[T]:
        if not isinstance(answer, list):
            raise Garbled(self.url, "it is no list")
        return [self._one(kind, item) for item in answer]

    def _object(self, answer: Any) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise Garbled(self.url, "it is no object")
        return answer


@asynccontextmanager
async def open_client(url: str | None = None, token: str | None = None) -> AsyncGenerator[Client]:
    """A client of the relay at `url` (default: `AGENT_RELAY_URL`, else loopback) with `token` (default: as found)."""
    transport = Transport(url or os.environ.get("AGENT_RELAY_URL") or DEFAULT_URL, token or find_token())
    try:
        yield Client(transport)
    finally:
        await transport.http.aclose()
