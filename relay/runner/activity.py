"""What keeps the agent busy: turns it has begun, and claims it holds (1.18)."""

from __future__ import annotations

from relay import wire

__all__ = ["Activity"]


class Activity:
    """Work and claims by (kind, id). Starting twice is one; finishing what is unknown is nothing."""

    def __init__(self) -> None:
        self._work: dict[tuple[str, str], None] = {}
        self._claims: dict[tuple[str, str], float | None] = {}
        self.gone = False

    def start(self, kind: str, id: str) -> None:  # noqa: A002 - the contract's word
        self._work[kind, id] = None

    def finish(self, kind: str, id: str) -> None:  # noqa: A002
        self._work.pop((kind, id), None)

    def claim(self, kind: str, id: str, expires_at: float | None) -> None:  # noqa: A002
        self._claims[kind, id] = expires_at

    def release(self, kind: str, id: str) -> None:  # noqa: A002
        self._claims.pop((kind, id), None)

    def clear(self) -> None:
        """The agent's process ended, and its turns with it."""
        self._work.clear()

    def reasons(self) -> list[str]:
        return sorted({kind for kind, _ in (*self._work, *self._claims)})

    def status(self, now: float) -> wire.AgentStatus:
        """What relay is told. A claim that has expired counts no more."""
        if self.gone:
            return wire.AgentStatus.OFFLINE
        claims = {key: until for key, until in self._claims.items() if until is None or until > now}
        self._claims = claims
        return wire.AgentStatus.BUSY if self._work or claims else wire.AgentStatus.IDLE
