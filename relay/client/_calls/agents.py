"""Agents: who is there, and how they are."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class AgentCalls(Calls):
    async def register_agent(self, agent: wire.RegisterAgent) -> wire.Agent:
        """Put an agent on record, or renew its card: what is None keeps its value. Another `instance_id` takes the agent
        over, and its earlier session gets 409 from then on (AGT-20)."""
        return self._one(wire.Agent, await self._call("POST", "/api/agents", agent, repeatable=True))

    async def agents(self) -> list[wire.Agent]:
        """All agents, by id."""
        return self._list(wire.Agent, await self._get("/api/agents"))

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
