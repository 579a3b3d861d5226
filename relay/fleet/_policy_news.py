"""What the state of a policy's agent becomes by what happens without anybody asking the policy: the agent goes, its session
ends, a host reports, a command is over, time passes. Pure: no actor, no store, no clock."""

from __future__ import annotations

from typing import Any

import attrs

from relay import wire

from ._moment import Moment
from ._policy_protocol import AgentGone, CommandMoved, Exited, Healthy, HostRemoved, Listed, Overdue
from ._policy_rules import MOVES, REGISTERS_WITHIN, failed, settled

__all__ = ["Situation", "news"]

Status = wire.PolicyStatus


@attrs.frozen
class Situation:
    """What is known when something happens. `restart` is what the policy says of that, None when there is no policy any
    more; `chance` is a number from 0 to 1."""

    state: wire.PolicyState
    epoch: int
    restart: wire.Restart | None
    moment: Moment
    chance: float

    def can(self, event: str) -> bool:
        return event in MOVES[self.state.status]

    def failed(self, event: str, why: str, *, well: bool = False) -> wire.PolicyState:
        assert MOVES[self.state.status][event] is Status.FAILED
        return failed(self.state, why, self.restart, self.moment, jitter=self.chance, well=well)

    def settled(self) -> wire.PolicyState:
        return settled(self.state, self.moment)

    def with_(self, **changes: Any) -> wire.PolicyState:
        return attrs.evolve(self.state, **changes, updated_at=self.moment.at)


def news(message: Any, now: Situation) -> wire.PolicyState | None:
    """The state after it; None when that is as before."""
    state = now.state
    match message:
        case CommandMoved(command):
            return _moved(command, now)
        case AgentGone(agent_id, why) if now.can("agent gone") and state.agent_id == agent_id:
            return now.failed("agent gone", why)
        case Exited(request, why, well) if now.can("exited") and state.spawn_request_id == request:
            return _exited(why, now, well=well)
        case HostRemoved(host) if now.can("exited") and state.orchestrator_id == host:
            return _exited(f"host {host} was removed", now)
        case Listed() if state.spawn_request_id == message.spawn_request_id:
            return _listed(message, now)
        case Healthy() if now.can("healthy"):
            return now.with_(consecutive_failures=0)
        case Overdue() if now.can("overdue"):
            return now.failed("overdue", f"the agent did not register within {REGISTERS_WITHIN:.0f} s")
    return None


def _moved(command: wire.Command, now: Situation) -> wire.PolicyState | None:
    """What came of the last start or stop; earlier ones do not count."""
    if command.params.get("policyEpoch") != now.epoch or not command.status.final:
        return None
    well = command.status is wire.CommandStatus.SUCCEEDED
    said = command.error or f"the command {command.type} was {command.status.value.replace('_', ' ')}"
    if command.type != "agent.shutdown":
        return now.failed("spawn failed", said) if not well and now.can("spawn failed") else None
    if well or (command.result or {}).get("targetNotFound") is True:
        return now.settled() if now.can("shut down") else None
    return now.with_(last_error=said) if now.can("not shut down") else None


def _exited(why: str, now: Situation, *, well: bool = False) -> wire.PolicyState:
    if MOVES[now.state.status]["exited"] is Status.STOPPED:
        return now.settled()
    return now.failed("exited", why, well=well)


def _listed(message: Listed, now: Situation) -> wire.PolicyState | None:
    state = now.state
    after = now.with_(
        agent_id=state.agent_id or message.agent_id, tmux_session=message.session or state.tmux_session
    )
    there = (after.agent_id, after.tmux_session) == (state.agent_id, state.tmux_session)
    return None if there or not now.can("exited") else after
