"""Slots: a policy has one agent on this host at most.

Every start, stop and restart of a policy's agent carries an epoch that only grows. The highest one seen is kept on disk, with
the spawn request whose session may run; it is raised before anything else is done. So:

1. What comes late, twice or out of order is refused: it is older than what is on disk.
2. Before an agent is started, every other session of the policy is ended, and proven dead with all of its agent. If that
   cannot be proven, nothing is started.
3. Whoever was about to start an agent looks once more right before: nothing lies between that look and the start.

A spawn without an epoch was not made by the policy. It may not take the place of a session that the policy has here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import attrs

from relay._files import read_json, write_json

from ._problems import Refused
from .session import Launch

__all__ = ["GRACE", "Fence", "Fences", "Slot", "Slots"]

GRACE = 10.0  # seconds an agent has to end
ATTEMPTS = 5  # to end what may be started again meanwhile


@attrs.frozen
class Slot:
    """What a command says of the place of a policy. `epoch` is None when the policy has not made it."""

    policy: str
    epoch: int | None
    request: str | None

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Slot | None:
        """None for a command that concerns no policy."""
        policy, epoch, request = (
            params.get(name) for name in ("policyName", "policyEpoch", "spawnRequestId")
        )
        if not isinstance(policy, str) or not policy:
            return None
        known = epoch if isinstance(epoch, int) and not isinstance(epoch, bool) else None
        return cls(policy, known, request if isinstance(request, str) and request else None)


@attrs.frozen
class Fence:
    """What is on disk: the highest epoch, and the request whose session may run. None: none may."""

    epoch: int = 0
    request: str | None = None


class Fences:
    """The fences of one host, on its disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, policy: str) -> Fence:
        """Raises `Refused` when it cannot be read: what runs by it is not known then."""
        path = self._file(policy)
        known = read_json(path)
        if known is None and not path.exists():
            return Fence()
        try:
            return Fence(int(known["epoch"]), known["spawnRequestId"])
        except (KeyError, TypeError, ValueError):
            raise Refused(
                f"{path} cannot be read: end the sessions of policy {policy} on this host, then delete the file"
            ) from None

    def write(self, policy: str, fence: Fence) -> None:
        known = {"policyName": policy, "epoch": fence.epoch, "spawnRequestId": fence.request}
        write_json(self._file(policy), known)

    def _file(self, policy: str) -> Path:
        return self._folder / f"{hashlib.sha256(policy.encode()).hexdigest()[:32]}.json"


class Kept(Protocol):
    """A session, as far as it matters here."""

    @property
    def launch(self) -> Launch: ...


S = TypeVar("S", bound=Kept)


class Keeper(Protocol[S]):
    """Whoever keeps the sessions."""

    @property
    def live(self) -> Mapping[str, S]: ...

    async def stop(self, session: S, grace: float) -> bool:
        """End it; whether its process is proven dead."""

    async def vacated(self, session: S) -> bool:
        """Whether nothing of its agent is left."""


class Slots(Generic[S]):
    """The slots of one host."""

    def __init__(self, fences: Fences, keeper: Keeper[S]) -> None:
        self._fences = fences
        self._keeper = keeper

    async def enter(self, slot: Slot | None) -> None:
        """Make room for the session of `slot.request`. Raises `Refused` when it has none to be here."""
        if slot is None:
            return
        if slot.epoch is None:
            self.check(slot)
            return
        self._raise(slot, slot.request)
        await self.clear(slot, GRACE)

    def vacate(self, slot: Slot) -> bool:
        """No session of the policy may run from now on. False if a later start or stop was here already."""
        if (slot.epoch or 0) < self._fences.read(slot.policy).epoch:
            return False
        self._raise(slot, None)
        return True

    def check(self, slot: Slot | None) -> None:
        """Whether the session may be started right now; raises `Refused`."""
        if slot is None:
            return
        fence = self._fences.read(slot.policy)
        others = self._others(slot.policy, slot.request)
        if slot.epoch is None:
            if any(each.launch.spawn_request_id == fence.request for each in others if fence.request):
                raise Refused(
                    f"policy {slot.policy} has its agent here: POST /api/spawn-policy/{slot.policy}/restart"
                    " restarts it; leave policyName out for an agent beside it"
                )
        elif fence != Fence(slot.epoch, slot.request):
            raise Refused(_late(slot, fence))
        elif others:
            raise Refused(f"another session of policy {slot.policy} is here: {others[0].launch.name}")

    async def clear(self, slot: Slot, grace: float, *, all_: bool = False) -> None:
        """End the sessions of the policy, but for that of `slot.request` unless it is `all_`; raises `Refused` while one of
        them may be alive."""
        for _ in range(ATTEMPTS):
            others = self._others(slot.policy, None if all_ else slot.request)
            if not others:
                return
            for each in others:
                gone = await self._keeper.stop(each, grace) and await self._keeper.vacated(each)
                if not gone:
                    name = each.launch.name
                    raise Refused(
                        f"session {name} of policy {slot.policy} could not be ended: end it on this host"
                    )
        raise Refused(f"sessions of policy {slot.policy} are started again and again: stop the policy first")

    def _others(self, policy: str, request: str | None) -> list[S]:
        return [
            each
            for each in self._keeper.live.values()
            if each.launch.policy_name == policy
            and (request is None or each.launch.spawn_request_id != request)
        ]

    def _raise(self, slot: Slot, request: str | None) -> None:
        """On disk before anything is done about it. Raises `Refused` for an epoch that is over."""
        fence, epoch = self._fences.read(slot.policy), slot.epoch or 0
        if epoch < fence.epoch or (epoch == fence.epoch and request not in (None, fence.request)):
            raise Refused(_late(slot, fence))
        if fence != Fence(epoch, request):
            self._fences.write(slot.policy, Fence(epoch, request))


def _late(slot: Slot, fence: Fence) -> str:
    return f"this is over: policy {slot.policy} was started or stopped again since (epoch {slot.epoch}, now {fence.epoch})"
