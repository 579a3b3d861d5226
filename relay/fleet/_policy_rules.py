"""How the state of a policy's agent moves, and what it becomes. They decide and do nothing else."""

from __future__ import annotations

from typing import Any

import attrs

from relay import wire
from relay.store import Decision, Event, Store, Write

from ._audit import audit
from ._machine import Moves
from ._moment import Moment
from ._policy_protocol import AgentBack, Link
from ._records import text_of

__all__ = [
    "MOVES",
    "REGISTERS_WITHIN",
    "Last",
    "begun",
    "changed",
    "ended",
    "failed",
    "find_last",
    "find_policy_state",
    "linked",
    "quarantined",
    "restarted",
    "retry_delay",
    "settled",
    "timer",
]

Status = wire.PolicyStatus
STOPPED, STARTING, RUNNING = Status.STOPPED, Status.STARTING, Status.RUNNING
STOPPING, FAILED = Status.STOPPING, Status.FAILED

MOVES: Moves = {
    STOPPED: {"start": STARTING, "stop": STOPPING, "restart": STARTING, "link": RUNNING, "retry": STARTING},
    STARTING: {
        "stop": STOPPING,
        "restart": STARTING,
        "link": RUNNING,
        "spawn failed": FAILED,
        "exited": FAILED,
        "overdue": FAILED,
    },
    RUNNING: {
        "stop": STOPPING,
        "restart": STARTING,
        "link": RUNNING,
        "agent gone": FAILED,
        "exited": FAILED,
        "healthy": RUNNING,
    },
    STOPPING: {
        "start": STARTING,
        "stop": STOPPING,
        "restart": STARTING,
        "link": STOPPING,
        "shut down": STOPPED,
        "exited": STOPPED,
        "not shut down": STOPPING,
    },
    FAILED: {
        "start": STARTING,
        "stop": STOPPING,
        "restart": STARTING,
        "link": RUNNING,
        "retry": STARTING,
        "retry elsewhere": STOPPING,
    },
}
"""Spec 22.5, with O-25 and O-47. No state at all is `STOPPED`."""

REGISTERS_WITHIN = 300.0  # seconds after its start was reported that an agent has to register
LONGEST = 4_000  # characters of an error
JITTER = 0.1  # of a delay, at most, beyond it


@attrs.frozen
class Last:
    """The last start or stop of the policy's agent: its number, and the command that it was."""

    epoch: int = 0
    command_id: str | None = None


def begun(
    name: str,
    request: str,
    moment: Moment,
    *,
    orchestrator_id: str | None,
    provider: wire.Provider | None,
    again: wire.PolicyState | None = None,
) -> wire.PolicyState:
    """An agent is being started: the state is replaced (POL-9). `again` is the one that failed, if it is for that."""
    return wire.PolicyState(
        policy_name=name,
        status=STARTING,
        spawn_request_id=request,
        orchestrator_id=orchestrator_id,
        provider=provider,
        last_spawn_at=moment.at,
        restart_count=again.restart_count + 1 if again else 0,
        consecutive_failures=again.consecutive_failures if again else 0,
        updated_at=moment.at,
    )


def ended(state: wire.PolicyState, moment: Moment) -> wire.PolicyState:
    """It is being stopped: everything else is kept (POL-13)."""
    return _kept(state, STOPPING, moment)


def restarted(state: wire.PolicyState, moment: Moment) -> wire.PolicyState:
    """As `ended`, to be started again. A person's word ends the quarantine."""
    failures = 0 if state.quarantined else state.consecutive_failures
    return attrs.evolve(_kept(state, STARTING, moment), consecutive_failures=failures)


def _kept(state: wire.PolicyState, status: wire.PolicyStatus, moment: Moment) -> wire.PolicyState:
    return attrs.evolve(
        state,
        status=status,
        last_stop_at=moment.at,
        healthy_since=None,
        last_error=None,
        quarantined=None,
        retry_at=None,
        updated_at=moment.at,
    )


def linked(state: wire.PolicyState | None, link: Link | AgentBack, moment: Moment) -> wire.PolicyState | None:
    """The state with the agent linked; None when it does not concern it (AGT-5). Who is back was there before, so that is
    news only where it was missed; who is being stopped gets no work (H-01)."""
    if state is None or state.spawn_request_id != link.spawn_request_id:
        return None
    if isinstance(link, AgentBack) and state.status is not FAILED:
        return None
    status = MOVES[state.status]["link"]
    if status is STOPPING:
        return attrs.evolve(state, agent_id=link.agent_id, updated_at=moment.at)
    return attrs.evolve(
        state,
        status=status,
        agent_id=link.agent_id,
        healthy_since=moment.at,
        last_error=None,
        quarantined=None,
        retry_at=None,
        updated_at=moment.at,
    )


def settled(state: wire.PolicyState, moment: Moment) -> wire.PolicyState:
    """It has ended, as was asked: agent and session are cleared (POL-21)."""
    return attrs.evolve(
        state,
        status=STOPPED,
        agent_id=None,
        tmux_session=None,
        healthy_since=None,
        last_error=None,
        updated_at=moment.at,
    )


def failed(
    state: wire.PolicyState,
    why: str,
    restart: wire.Restart | None,
    moment: Moment,
    *,
    jitter: float,
    well: bool = False,
) -> wire.PolicyState:
    """It is gone without having been asked to go. `restart` is what the policy says of that, None when there is none any
    more; `jitter` is a number from 0 to 1."""
    failures = state.consecutive_failures + 1
    wanted = restart is not None and (
        restart.mode is wire.RestartMode.ALWAYS or (restart.mode is wire.RestartMode.ON_FAILURE and not well)
    )
    over = bool(wanted and restart and restart.quarantine_after and failures >= restart.quarantine_after)
    later = restart is not None and wanted and not over
    return attrs.evolve(
        state,
        status=FAILED,
        healthy_since=None,
        last_error=why[:LONGEST],
        consecutive_failures=failures,
        quarantined=True if over else None,
        retry_at=wire.Instant(moment.at + retry_delay(restart, failures, jitter))
        if later and restart
        else None,
        updated_at=moment.at,
    )


def retry_delay(restart: wire.Restart, failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row: twice as long each time, and a little more by chance."""
    doubled: int = restart.delay_ms << min(max(failures, 1) - 1, 30)
    return min(doubled, restart.max_delay_ms) / 1000 * (1 + JITTER * jitter)


def timer(state: wire.PolicyState, policy: wire.SpawnPolicy | None, wall: float) -> tuple[str, float] | None:
    """The one thing that time does to the state, and in how many seconds. `wall` is the wall clock."""
    if policy is None:
        return None
    if state.retry_at is not None and "retry" in MOVES[state.status]:
        if state.status is STOPPED:
            return "retry", 0.0
        longest = policy.restart.max_delay_ms / 1000 * (1 + JITTER)
        return "retry", min(max(state.retry_at - wall, 0.0), longest)
    if state.status is RUNNING and state.consecutive_failures:
        return "healthy", policy.restart.healthy_after_ms / 1000
    return ("overdue", REGISTERS_WITHIN) if state.status is STARTING else None


def changed(state: wire.PolicyState, last: Last, reply: Any) -> Decision[Any]:
    """The state is stored and announced (POL-18)."""
    known = wire.to_json(state)
    row = (
        state.policy_name,
        state.status,
        state.spawn_request_id,
        state.agent_id,
        state.orchestrator_id,
        last.epoch,
        last.command_id,
        text_of(known),
        round((state.updated_at or 0.0) * 1000),
    )
    write = Write(
        "insert or replace into managed_agents (policy_name, status, spawn_request_id, agent_id, orchestrator_id,"
        " epoch, command_id, record, updated_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )
    event = Event("policy.state.changed", "server", state.policy_name, known)
    return Decision(reply=reply, writes=(write,), events=(event,))


def quarantined(state: wire.PolicyState, moment: Moment) -> Decision[None]:
    """A person must look at it."""
    name = state.policy_name
    write, event = audit(
        moment,
        f"server-policy-{name}-quarantined-{moment.ms}",
        f"{name} is left alone after {state.consecutive_failures} failures in a row",
        body=state.last_error,
        meta=name,
        icon="ti-alert-triangle",
        view="orchestrators",
        agent_id=state.agent_id,
        metadata={"policyName": name, "consecutiveFailures": state.consecutive_failures},
    )
    return Decision(reply=None, writes=(write,), events=(event,))


def find_policy_state(store: Store, name: str) -> wire.PolicyState | None:
    row = store.row("select record from managed_agents where policy_name = ?", name)
    return wire.decode(wire.PolicyState, row[0]) if row else None


def find_last(store: Store, name: str) -> Last:
    row = store.row("select epoch, command_id from managed_agents where policy_name = ?", name)
    return Last(*row) if row else Last()
