"""Permissions that the agent waits for (1.16, 1.25-7, 1.33).

    asked     decided -> answered with the decision     nobody decides in time -> answered with `deny`
    asked     the agent's process ends -> forgotten

Every request is answered once; the first decision counts. While one waits the agent is busy, and its card says with what.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio

from .activity import Activity
from .adapter import Adapter, DeliveryFailed

__all__ = ["DECISIONS", "Approvals"]

log = logging.getLogger(__name__)

DECISIONS = ("approve", "approve-session", "deny", "abort")
APPROVAL = "permission-request"
MOST = 100  # requests that wait at a time
SUMMARY = 200  # characters of the description


@attrs.frozen
class _Request:
    agent: Adapter
    state: Mapping[str, Any]
    deadline: float


class Approvals:
    """The requests of one agent. They end with the process that made them."""

    def __init__(
        self,
        activity: Activity,
        publish: Callable[[], None],
        wall: Callable[[], float],
        patience: float,
    ) -> None:
        self._activity = activity
        self._publish = publish
        self._wall = wall
        self._patience = patience
        self._requests: dict[str, _Request] = {}
        self._changed = trio.Event()

    def requested(self, agent: Adapter, approval_id: str, tool: str, description: str | None) -> None:
        """The agent asks. The same id again is the same request; one too many is denied at once."""
        if approval_id in self._requests:
            return
        if len(self._requests) >= MOST:
            agent.decide(approval_id, "deny", "too many requests wait")
            return
        state = {
            "state": "awaiting-approval",
            "approvalId": approval_id,
            "toolName": tool,
            "summary": (description or tool)[:SUMMARY],
            "options": list(DECISIONS),
            "requestedAt": round(self._wall() * 1000),
        }
        self._requests[approval_id] = _Request(agent, state, trio.current_time() + self._patience)
        self._show()

    def decide(self, approval_id: str, decision: str, reason: str | None) -> None:
        """Somebody has decided. Raises `ValueError` when nothing waits for that, `DeliveryFailed`."""
        request = self._requests.get(approval_id)
        if request is None:
            raise ValueError(f"no request {approval_id} waits for a decision")
        request.agent.decide(approval_id, decision, reason)
        del self._requests[approval_id]
        self._show()

    def forget(self) -> None:
        """Their process has ended."""
        self._requests.clear()
        self._show()

    async def watch(self) -> None:
        """Deny what nobody decides on in time, for ever."""
        while True:
            self._changed = trio.Event()
            deadline = min((request.deadline for request in self._requests.values()), default=math.inf)
            with trio.move_on_at(deadline):
                await self._changed.wait()
            now = trio.current_time()
            for approval_id in [key for key, request in self._requests.items() if request.deadline <= now]:
                log.warning("nobody decided on %s in time; it is denied", approval_id)
                try:
                    self.decide(approval_id, "deny", "nobody decided in time")
                except DeliveryFailed as error:
                    log.warning("%s", error)  # it does not read any more; its pings will show that
                    del self._requests[approval_id]

    def _show(self) -> None:
        """The oldest request that waits is what the turn is at."""
        self._changed.set()
        waiting = next(iter(self._requests.values()), None)
        if waiting is not None:
            self._activity.start(APPROVAL, APPROVAL, metadata={"providerState": dict(waiting.state)})
        else:
            self._activity.finish(APPROVAL, APPROVAL)
        self._publish()
