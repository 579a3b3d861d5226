"""Agents: who is there, and how they are."""

from __future__ import annotations

from typing import Any

from relay import wire

from .base import Calls, segment


class AgentCalls(Calls):
    async def register_agent(self, agent: wire.RegisterAgent) -> wire.Agent:
        """Put an agent on record, or renew its card: what is None keeps its value. Another `instance_id` takes the agent
        over, and its earlier session gets 409 from then on (AGT-20)."""
        return self._one(wire.Agent, await self._call("POST", "/api/agents", agent, repeatable=True))

    async def agents(
        self, *, status: wire.AgentStatus | None = None, kind: wire.AgentKind | None = None
    ) -> list[wire.Agent]:
        """Those that fit every filter, by id."""
        query = {"status": status, "kind": kind}
        return self._list(wire.Agent, await self._get("/api/agents", query))

    async def agent(self, id: str) -> wire.Agent:
        """One agent. 404: nobody has that id."""
        return self._one(wire.Agent, await self._get(f"/api/agents/{segment(id)}"))

    async def set_status(self, id: str, status: wire.SetStatus) -> None:
        """How the agent is. 404: unknown. 409: `instance_id` is not that of the present session (AGT-20)."""
        await self._call("PATCH", f"/api/agents/{segment(id)}/status", status, repeatable=True)

    async def set_ready(self, id: str, ready: wire.SetReady) -> None:
        """Whether the agent takes messages. 404 and 409 as of `set_status`."""
        await self._call("PATCH", f"/api/agents/{segment(id)}/ready", ready, repeatable=True)

    async def heartbeat(self, id: str, beat: wire.Heartbeat) -> None:
        """The agent is there: one that is stale (90 s without contact) or offline (180 s) is back (AGT-16). `meta` is merged
        into what is known. 404 and 409 as of `set_status`."""
        await self._call("POST", f"/api/agents/{segment(id)}/heartbeat", beat, repeatable=True)

    async def set_label(self, id: str, label: str | None) -> None:
        """The name for people and for `label:` addresses; None takes it away (AGT-22). 404: unknown."""
        body = wire.SetLabel(label=label)
        await self._call("PATCH", f"/api/agents/{segment(id)}/label", body, repeatable=True)

    async def set_tags(self, id: str, tags: list[str]) -> wire.Agent:
        """Replace all tags (AGT-28); the answer is the agent. 404: unknown."""
        body = wire.SetTags(tags=tags)
        return self._one(
            wire.Agent, await self._call("PATCH", f"/api/agents/{segment(id)}/tags", body, repeatable=True)
        )

    async def delete_agent(self, id: str) -> None:
        """Forget the agent (AGT-18). 404: unknown. Not repeated: trouble leaves open whether it is gone."""
        await self._call("DELETE", f"/api/agents/{segment(id)}")

    async def timeline(
        self, id: str, *, before: int | None = None, limit: int | None = None
    ) -> list[wire.TimelineEntry]:
        """What happened to the agent, newest first; `before` is the id of an entry, to go on from it. `limit`: 100 unless told,
        at most 500. 404: unknown."""
        query = {"before": before, "limit": limit}
        return self._list(wire.TimelineEntry, await self._get(f"/api/agents/{segment(id)}/timeline", query))

    async def spawn_anywhere(self, agent: wire.SpawnAgent) -> wire.Command:
        """Start an agent on the first host that fits; the answer is the command that does it (14.4). 400: no host does. `spawn`
        names the host. Not repeated: trouble leaves it open."""
        return self._command(await self._call("POST", "/api/agents/spawn", agent))

    async def agent_action(self, id: str, action: wire.AgentVerb) -> wire.Command:
        """Have the agent restarted, shut down, interrupted …; the answer is the command that does it (AGT-30). 400: it
        cannot do that as it is now. 409, 422: it cannot be resumed. 404: unknown. Not repeated: trouble leaves it open."""
        body = wire.ActOnAgent(action=action)
        return self._command(await self._call("POST", f"/api/agents/{segment(id)}/actions", body))

    async def prompt(self, id: str, text: str) -> dict[str, Any]:
        """A text of the user's for the agent's session; the answer has `messageId` and `commandId` (AGT-48). 404: unknown. 422: it
        is offline. Not repeated: trouble leaves open whether it is said."""
        body = wire.PromptAgent(body=text)
        return self._object(await self._call("POST", f"/api/agents/{segment(id)}/prompt", body))

    async def decide_permission(self, id: str, answer: wire.DecidePermission) -> wire.Command:
        """A person's answer to a question of the agent. 404: unknown. 422: it is offline. Not repeated:
        trouble leaves it open."""
        path = f"/api/agents/{segment(id)}/permission-decision"
        return self._command(await self._call("POST", path, answer))

    async def open_terminal(self, id: str, ttl_ms: int | None = None) -> dict[str, Any]:
        """A terminal beside the agent's session, on its host, for `ttl_ms` (an hour unless told, at most four). The answer has
        `session`, and `attach`, the command that shows it there. 404: unknown. 422: its host has none to give. Not repeated:
        trouble leaves open whether there is one."""
        body = wire.OpenTerminal(ttl_ms=ttl_ms)
        return self._object(await self._call("POST", f"/api/agents/{segment(id)}/terminal-session", body))

    async def close_terminal(self, id: str, session: str) -> None:
        """End a terminal. 404: unknown. Not repeated: trouble leaves open whether it has ended."""
        await self._call("DELETE", f"/api/agents/{segment(id)}/terminal-session/{segment(session)}")
