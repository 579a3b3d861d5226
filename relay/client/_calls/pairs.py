"""Pairs: two agents who have agreed to talk."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class PairCalls(Calls):
    async def propose_pair(self, proposal: wire.ProposePair) -> wire.Pair:
        """Invite an agent to work as a pair (PAR-2). 422: it is offline. Not repeated: trouble leaves open whether it was
        invited."""
        return self._one(wire.Pair, await self._call("POST", "/api/pairs", proposal))

    async def pairs(
        self, *, status: str | None = None, agent_id: str | None = None, limit: int | None = None
    ) -> list[wire.Pair]:
        """Those that fit every filter, the newest first. `limit`: 100 unless told, at most 500."""
        query = {"status": status, "agentId": agent_id, "limit": limit}
        return self._list(wire.Pair, await self._get("/api/pairs", query))

    async def pair(self, id: str) -> wire.Pair:
        """One pair. 404: unknown."""
        return self._one(wire.Pair, await self._get(f"/api/pairs/{segment(id)}"))

    async def accept_pair(self, id: str, agent_id: str) -> wire.Pair:
        """Accept the invitation (PAR-3). 403: another agent was invited. 409: it is not pending (any more). 422: who invited is
        offline. 404: unknown. Not repeated, for the repeat of a success would be a 409."""
        return await self._answer_pair(id, "accept", agent_id)

    async def reject_pair(self, id: str, agent_id: str) -> wire.Pair:
        """Reject the invitation. Refused as of `accept_pair`. Not repeated, for the repeat of a success would be a 409."""
        return await self._answer_pair(id, "reject", agent_id)

    async def end_pair(self, id: str, agent_id: str) -> wire.Pair:
        """End the pair, or take the invitation back. 403: no member. 409: it has ended. 404: unknown. Not repeated, for the
        repeat of a success would be a 409."""
        return await self._answer_pair(id, "end", agent_id)

    async def send_in_pair(self, id: str, message: wire.PairMessage) -> wire.Message:
        """Write to the other member (PAR-4). 403: no member. 409: the pair is not active. 404: unknown. Repeated only with an
        idempotency key."""
        again = message.idempotency_key is not None
        answer = await self._call("POST", f"/api/pairs/{segment(id)}/messages", message, repeatable=again)
        return self._one(wire.Message, answer)

    async def _answer_pair(self, key: str, verb: str, agent_id: str) -> wire.Pair:
        body = wire.Member(agent_id=agent_id)
        return self._one(wire.Pair, await self._call("POST", f"/api/pairs/{segment(key)}/{verb}", body))
