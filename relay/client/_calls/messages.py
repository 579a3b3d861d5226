"""Messages: what agents and people write to each other, and who works on it."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class MessageCalls(Calls):
    async def send(self, message: wire.SendMessage) -> wire.Message:
        """Store a message, or get the one that the sender has sent with the same idempotency key (MSG-13). 422: the agent it is
        for is offline (MSG-10). Repeated only with a key; without one, trouble leaves open whether it was sent."""
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
        """What reaches agent `for_` with an id greater than `since`, oldest first, its own messages apart; `unread`: only what it
        has not read. Without `for_` the newest of all, newest first (MSG-21). `limit`: 100 unless told, at most 500."""
        query = {"for": for_, "since": since, "unread": "1" if unread else None, "limit": limit}
        return self._list(wire.Message, await self._get("/api/messages", query))

    async def cursor(self) -> int:
        """The newest message's id, 0 when there is none: the `since` of whoever starts afresh (MSG-22)."""
        return self._one(wire.Cursor, await self._get("/api/messages/cursor")).latest_id

    async def message(self, id: int) -> wire.Message:
        """One message, with its claim and its read marks. 404: unknown."""
        return self._one(wire.Message, await self._get(f"/api/messages/{id}"))

    async def queued_messages(self, for_: str, *, limit: int | None = None) -> list[wire.Message]:
        """What waits for a policy (`policy:reviewer`, or its name), oldest first (MSG-34). `limit`: 100 unless told, at most 500."""
        return self._list(
            wire.Message, await self._get("/api/messages/queued", {"for": for_, "limit": limit})
        )

    async def delete_message(self, id: int) -> None:
        """Take the message away, with all that belongs to it (MSG-26). 404: unknown. Not repeated: trouble leaves open whether
        it is gone."""
        await self._call("DELETE", f"/api/messages/{id}")

    async def thread(self, id: int) -> list[wire.Message]:
        """The thread that a message belongs to, oldest first, at most 1 000 messages (MSG-24). 404: unknown."""
        return self._list(wire.Message, await self._get(f"/api/messages/{id}/thread"))

    async def delivery(self, id: int) -> wire.Delivery:
        """How far a message got: queued, available, read by whom (MSG-35). 404: unknown."""
        return self._one(wire.Delivery, await self._get(f"/api/messages/{id}/status"))

    async def mark_read(self, id: int, agent_id: str) -> None:
        """The agent has read it; saying so twice is harmless (MSG-25). 404: unknown."""
        body = wire.MarkRead(agent_id=agent_id)
        await self._call("POST", f"/api/messages/{id}/read", body, repeatable=True)

    async def claim(self, id: int, agent_id: str) -> wire.Claim:
        """Take a claimable message for 900 s, or renew the own claim (MSG-27). 409: not claimable, or claimed by another agent.
        403: not addressed to this one. 404: unknown."""
        body = wire.ClaimMessage(agent_id=agent_id)
        return self._one(
            wire.Claim, await self._call("POST", f"/api/messages/{id}/claim", body, repeatable=True)
        )

    async def renew_claim(self, id: int, agent_id: str) -> wire.Claim:
        """Hold the claim for another 900 s (MSG-28). 409: the agent does not hold it (any more). 404: unknown."""
        body = wire.ClaimMessage(agent_id=agent_id)
        path = f"/api/messages/{id}/claim/renew"
        return self._one(wire.Claim, await self._call("POST", path, body, repeatable=True))

    async def react(self, id: int, reaction: wire.React) -> wire.Message:
        """Put an emoji to a message, or take it back; the answer is the message with its reactions. 422: it has as many as
        it can have. 404: unknown."""
        answer = await self._call("POST", f"/api/messages/{id}/reactions", reaction, repeatable=True)
        return self._one(wire.Message, answer)

    async def broadcast(self, message: wire.Broadcast) -> wire.Message:
        """A message from relay itself to everybody (MSG-48). Not repeated: trouble leaves open whether it was sent."""
        return self._one(wire.Message, await self._call("POST", "/api/system/broadcast", message))

    async def reply_obligations(self, agent_id: str) -> list[wire.Obligation]:
        """The messages whose senders wait for an answer of the agent, who has read them; the oldest first, at most 100.
        404: unknown."""
        return self._list(
            wire.Obligation, await self._get(f"/api/agents/{segment(agent_id)}/reply-obligations")
        )
