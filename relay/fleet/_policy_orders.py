"""What a person, or the supervisor, has a policy's host do: each is the state as it becomes and the command that does it,
in one decision. They look at rows and change nothing."""

from __future__ import annotations

from typing import Any

import attrs

from relay import wire
from relay.store import Decision, Store

from ._errors import Conflict, NotFound
from ._letters import joined
from ._moment import Moment
from ._outfits import managed
from ._policy_commands import New, action, next_epoch, spawn, spawn_params
from ._policy_rules import MOVES, Last, begun, changed, ended, restarted
from ._policy_views import find_host, host_of

__all__ = ["Order", "Standing"]

ONLINE = wire.OrchestratorStatus.ONLINE


@attrs.frozen
class Order:
    """A start or stop: what the state becomes, and the command."""

    state: wire.PolicyState
    last: Last
    command: wire.Command
    decision: Decision[Any]


@attrs.frozen
class Standing:
    """How a policy is when something is asked of it. Each order leaves in the state which host it is for: that one has to answer
    for its agent before another host starts any."""

    name: str
    store: Store
    policy: wire.SpawnPolicy | None
    state: wire.PolicyState | None
    last: Last
    moment: Moment

    def start(self, reason: str) -> Order:
        """Raises `NotFound` when policy or host are not there, `Conflict` when it cannot be started now (POL-8, POL-9): also
        for want of its profile."""
        policy, host = self._there()
        state = self.state
        if state is not None and "start" not in MOVES[state.status]:
            who = f" (agent {state.agent_id})" if state.agent_id else ""
            raise Conflict(f"policy {self.name} is {state.status}{who}: stop or restart it")
        if host.status is not ONLINE:
            raise Conflict(f"host {host.id} is offline: start its orchestrator, then start the policy")
        if (other := self._elsewhere(policy)) is not None:
            raise Conflict(
                f"the agent may still run on host {other.id}: stop the policy first, or delete that host"
            )
        return self._started(policy, host, reason, None)

    def stop(self, reason: str, *also: Decision[Any]) -> Order:
        """Works in every state, also when the host is away (POL-15). Raises `NotFound`."""
        policy, host = self._there()
        return self._stopped(self._elsewhere(policy) or host, reason, None, *also)

    def restart(self, reason: str) -> Order:
        """With the spawn request that there is; without one it is a start (POL-16). Raises `NotFound`, `Conflict`."""
        policy, host = self._there()
        if self.state is None or self.state.spawn_request_id is None:
            return self.start(reason)
        epoch = next_epoch(self.last.epoch, self.moment)
        outfit = managed(self.store, policy)
        again = spawn_params(self.name, outfit, self.state.spawn_request_id, epoch, self.moment)
        to = self._elsewhere(policy) or host
        after = attrs.evolve(restarted(self.state, self.moment), orchestrator_id=to.id)
        return self._order(after, action("restart", after, to, reason, epoch, self.moment, again), epoch)

    def retry(self) -> Order | None:
        """What the supervisor does about an agent that failed; None while the host is away. On another host than before
        only once the earlier one has said that its agent has ended. Raises `Conflict` for want of its profile."""
        policy, state = self.policy, self.state
        if policy is None or state is None:
            return None
        if (other := self._elsewhere(policy)) is not None:
            return self._stopped(other, "policy-moved", state.retry_at)
        host = find_host(self.store, policy.orchestrator_id)
        if host is None or host.status is not ONLINE:
            return None
        return self._started(policy, host, "supervisor-restart", state)

    def _there(self) -> tuple[wire.SpawnPolicy, wire.Orchestrator]:
        if self.policy is None:
            raise NotFound(f"no such policy: {self.name}")
        return self.policy, host_of(self.store, self.policy.orchestrator_id)

    def _elsewhere(self, policy: wire.SpawnPolicy) -> wire.Orchestrator | None:
        """The host, another than the policy's, that has not said that the agent it started has ended."""
        state = self.state
        if state is None or state.status is wire.PolicyStatus.STOPPED or state.spawn_request_id is None:
            return None
        if state.orchestrator_id is None or state.orchestrator_id == policy.orchestrator_id:
            return None
        return find_host(self.store, state.orchestrator_id)

    def _started(
        self,
        policy: wire.SpawnPolicy,
        host: wire.Orchestrator,
        reason: str,
        again: wire.PolicyState | None,
    ) -> Order:
        moment = self.moment
        request = moment.new_spawn_request()
        epoch = next_epoch(self.last.epoch, moment)
        state = begun(
            self.name, request, moment, orchestrator_id=host.id, provider=policy.provider, again=again
        )
        params = spawn_params(self.name, managed(self.store, policy), request, epoch, moment)
        return self._order(state, spawn(params, host, reason, moment), epoch)

    def _stopped(
        self,
        host: wire.Orchestrator,
        reason: str,
        retry_at: wire.Instant | None,
        *also: Decision[Any],
    ) -> Order:
        epoch = next_epoch(self.last.epoch, self.moment)
        before = self.state or wire.PolicyState(policy_name=self.name, orchestrator_id=host.id)
        state = attrs.evolve(ended(before, self.moment), orchestrator_id=host.id, retry_at=retry_at)
        return self._order(state, action("shutdown", state, host, reason, epoch, self.moment), epoch, *also)

    def _order(self, state: wire.PolicyState, made: New, epoch: int, *also: Decision[Any]) -> Order:
        """The state and its event stand before the command and its event (M-I18)."""
        command, writes, events = made
        last = Last(epoch, command.id)
        asked: Decision[Any] = Decision(reply=None, writes=writes, events=events)
        return Order(state, last, command, joined(None, changed(state, last, None), asked, *also))
