"""Activity: the record of what happened, for people."""

from __future__ import annotations

from relay import wire

from .base import Calls


class ActivityCalls(Calls):
    async def activity(
        self,
        *,
        agent_id: str | None = None,
        kind: str | None = None,
        view: str | None = None,
        message_id: int | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[wire.Activity]:
        """What happened, newest first: what fits every filter. `before` is the id of a record, to go on from it.
        `limit`: 100 unless told, at most 500."""
        query = {
            "agentId": agent_id,
            "kind": kind,
            "view": view,
            "messageId": message_id,
            "before": before,
            "limit": limit,
        }
        return self._list(wire.Activity, await self._get("/api/activity", query))

    async def post_activity(self, activity: wire.NewActivity) -> wire.Activity:
        """Write it down; the same `client_id` twice is one record (ACT-2)."""
        answer = await self._call("POST", "/api/activity", activity, repeatable=True)
        return self._one(wire.Activity, answer)
