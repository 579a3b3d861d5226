"""What is known of a runner that has ended (2.7): taken once, when its death is first seen, and never guessed."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from relay import wire

__all__ = ["log_tail", "report"]

TAIL_LINES = 20
TAIL_BYTES = 1024 * 1024
TAIL_CHARACTERS = 8_000
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]")


def report(
    entry: wire.ManagedAgent, code: int | None, now: float, log: Path, *, restarted: bool
) -> wire.ExitedAgent:
    """The end of the agent that the roster knew as `entry`. `code` is None when nobody saw how it ended."""
    by_signal = _signal_name(-code) if code is not None and code < 0 else None
    how = (
        f"signal {by_signal}"
        if by_signal
        else f"exit code {code}"
        if code is not None
        else "in a way nobody saw"
    )
    tail = log_tail(log)
    last = tail.rpartition("\n")[2] if tail else "its log is empty"
    started = entry.started_at or wire.Instant(now)
    return wire.ExitedAgent(
        agent_id=entry.agent_id,
        session_name=entry.session_name,
        policy_name=entry.policy_name,
        spawn_request_id=entry.spawn_request_id,
        pid=entry.pid,
        started_at=started,
        detected_at=wire.Instant(now),
        runtime_ms=max(0, round((now - started) * 1000)),
        signal=by_signal,
        exit_code=code if code is not None and code >= 0 else None,
        log_file=str(log),
        log_tail=tail,
        last_error=f"the runner ended by {how}: {last}"[:4_000],
        restarted=restarted,
        workspace=entry.workspace,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def log_tail(path: Path, lines: int = TAIL_LINES, *, raw: bool = False) -> str | None:
    """The last lines of a log that are not empty, without terminal control sequences; None when there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return None
    kept = [line for line in (text if raw else CONTROL.sub("", text)).splitlines() if line.strip()]
    return "\n".join(kept[-lines:])[-TAIL_CHARACTERS:] or None
