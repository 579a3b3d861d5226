"""Deliveries: how far each message got with each agent, and hand-overs to whoever speaks for one."""

from __future__ import annotations

from collections.abc import Sequence

from relay import wire

from .base import Calls, segment


class DeliveryCalls(Calls):
    async def take(self, agent_id: str, take: wire.TakeDeliveries | None = None) -> list[wire.HandOver]:
        """Be handed what is due to the agent, oldest first, each with a token to settle it with; claimable messages are claimed.
        404: unknown. 409: `instance_id` is not that of the present session. Repeated: an answer that was lost is made
        good by what `holding` says, or by time."""
        body = take or wire.TakeDeliveries()
        path = f"/api/agents/{segment(agent_id)}/deliveries"
        answer = await self._call("POST", path, body, repeatable=True)
        return self._one(wire.HandOvers, answer).deliveries

    async def ack(self, agent_id: str, acks: Sequence[wire.Ack]) -> list[wire.AckResult]:
        """Say what became of hand-overs, 1 to 500; the results are in the same order. 409: there is one, and its token is stale.
        404: unknown."""
        path = f"/api/agents/{segment(agent_id)}/deliveries/ack"
        answer = await self._call("POST", path, wire.AckDeliveries(acks=list(acks)), repeatable=True)
        return self._one(wire.AckResults, answer).results

    async def progress(
        self,
        id: int,
        *,
        rung: str | None = None,
        any: bool = False,
        wait: float | None = None,
    ) -> list[wire.Progress]:
        """How far the message got with each recipient there is. With `rung`: once all of them, or one if `any`, have come as far,
        or `wait` seconds (at most 25) are over. 404: unknown."""
        wait_ms = None if wait is None else round(wait * 1000)
        query = {"rung": rung, "any": "1" if any else None, "waitMs": wait_ms}
        return self._list(wire.Progress, await self._get(f"/api/messages/{id}/deliveries", query))

    async def mailbox_progress(
        self, agent_id: str, *, since: int | None = None, unread: bool = False, limit: int | None = None
    ) -> list[wire.Progress]:
        """How far each message got with the agent, of those that `messages` lists for it. 404: unknown."""
        query = {"since": since, "unread": "1" if unread else None, "limit": limit}
        path = f"/api/agents/{segment(agent_id)}/deliveries"
        return self._list(wire.Progress, await self._get(path, query))

    async def dead_letters(
        self, *, agent_id: str | None = None, before: int | None = None, limit: int | None = None
    ) -> list[wire.Progress]:
        """What was given up, newest message first, with the messages; `before` is the id of a message, exclusive. `limit`: 100
        unless told, at most 500."""
        query = {"agentId": agent_id, "before": before, "limit": limit}
        return self._list(wire.Progress, await self._get("/api/dead-letters", query))

    async def redeliver(self, id: int, agent_id: str | None = None) -> list[str]:
        """Begin afresh with that agent, or with all, with whom the message is dead; the answer is with whom. 409: with nobody.
        404: unknown. Not repeated, for the repeat of a success would be a 409."""
        body = wire.Redeliver(agent_id=agent_id)
        answer = await self._call("POST", f"/api/messages/{id}/redeliver", body)
        return self._one(wire.Redelivered, answer).redelivered
