"""What keeps the agent busy: work it has begun, and claims held for it (1.17, 1.18).

The agent is busy while there is any of either, unless it has ended. Starting twice is one, with the later details;
finishing what is unknown is nothing, and so is beginning more than anybody can do. A claim that has expired counts no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from relay import wire

__all__ = ["SUBAGENT", "TURN", "Activity"]

TURN = "provider-turn"
SUBAGENT = "subagent"
MOST_WORK = 1_000

Key = tuple[str, str]


@attrs.frozen
class _Work:
    """Begun by the agent. `started_at` is epoch seconds."""

    started_at: float
    details: Mapping[str, Any]


class Activity:
    """Work and claims by (kind, id). `wall` tells epoch seconds, in which claims expire."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._work: dict[Key, _Work] = {}
        self._claims: dict[Key, float | None] = {}
        self.ended: Literal["offline", "error"] | None = None

    def start(self, kind: str, id: str, **details: Any) -> None:  # noqa: A002 - the contract's word
        known = self._work.get((kind, id))
        if known is None and len(self._work) >= MOST_WORK:
            return
        self._work[kind, id] = _Work(known.started_at if known else self._wall(), details)

    def finish(self, kind: str, id: str) -> None:  # noqa: A002
        self._work.pop((kind, id), None)

    def clear(self, *kinds: str) -> None:
        """All work of these kinds is over."""
        self._work = {key: work for key, work in self._work.items() if key[0] not in kinds}

    def has(self, kind: str) -> bool:
        return any(begun == kind for begun, _ in self._work)

    def claim(self, kind: str, id: str, expires_at: float | None = None) -> None:  # noqa: A002
        self._claims[kind, id] = expires_at

    def release(self, kind: str, id: str) -> None:  # noqa: A002
        self._claims.pop((kind, id), None)

    @property
    def status(self) -> wire.AgentStatus:
        """What relay is told."""
        if self.ended is not None:
            return wire.AgentStatus.OFFLINE
        return wire.AgentStatus.BUSY if self._work or self._held() else wire.AgentStatus.IDLE

    def facts(self) -> dict[str, Any]:
        """Why the agent is as it is, for the card (1.6.2). What there is none of is null, so that it is forgotten."""
        items = [
            {"kind": kind, "id": id_, "startedAt": round(work.started_at * 1000), **work.details}
            for (kind, id_), work in self._work.items()
        ]
        subagents = [item for item in items if item["kind"] == SUBAGENT]
        states = [
            item["metadata"].get("providerState") for item in items if isinstance(item.get("metadata"), dict)
        ]
        return {
            "busyReasons": sorted({kind for kind, _ in (*self._work, *self._held())}),
            "activeWork": items,
            "activeSubagents": subagents,
            "activeSubagentCount": len(subagents),
            "providerState": next((state for state in states if isinstance(state, dict)), None),
            "terminalStatus": "error" if self.ended == "error" else None,
        }

    def _held(self) -> dict[Key, float | None]:
        now = self._wall()
        self._claims = {key: until for key, until in self._claims.items() if until is None or until > now}
        return self._claims
