"""Integrations: which there are, how often each may call, what it may ask for (messaging-control 9).

They are configured, not registered: whoever runs the server reads them from a file and puts them here, at the start and
again when that has changed. What an integration reports is a task, which belongs to the post office; this module decides
whether it gets there.

1. A window begins with the first request that passes, and lasts a minute. As many as are allowed pass in it, the others
   do not count (O-34). Windows know nothing of each other, and outlive a change of the configuration (M-I35).
2. Whether a target may be used is judged as it was asked for, before a channel is resolved to who it is bound to (INT-5).
   It is judged so for whatever an integration may do: the edge asks `permit` before mail, invitations and events.
3. The source of a task is the integration's name, whatever it says itself (M-I37).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from relay import wire

from ._channel_protocol import ResolveTarget
from ._errors import Forbidden, Invalid
from ._task_protocol import Ingest

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["PER_MINUTE", "Integrations", "ingest", "list_integrations", "resolved"]

PER_MINUTE = 60
WINDOW = 60.0  # seconds
CHANNEL = "channel:"
ROOT = "root"
"""The source of what whoever runs the server reports."""


@attrs.define
class _Window:
    """`began` is in seconds of the system."""

    began: float
    passed: int = 0


class Integrations:
    """Those that are configured now, and their windows."""

    def __init__(
        self, configured: Iterable[wire.IntegrationSettings] = (), *, per_minute: int = PER_MINUTE
    ) -> None:
        self.per_minute = per_minute
        self._configured = {each.name: each for each in configured}
        self._windows: dict[str, _Window] = {}

    def all(self) -> list[wire.IntegrationSettings]:
        """In the order of the configuration."""
        return list(self._configured.values())

    def find(self, name: str) -> wire.IntegrationSettings | None:
        return self._configured.get(name)

    def permit(self, name: str, target: str | None, channel: str | None = None) -> None:
        """Raises `Forbidden` unless the integration of this name may use the target and the channel (INT-6)."""
        caller = self.find(name)
        if caller is None:
            raise Forbidden(f"{name} is no integration any more")
        _permit(caller, target, channel or _channel_of(target or ""))

    def replace(self, configured: Iterable[wire.IntegrationSettings]) -> None:
        """From now on it is these."""
        self._configured = {each.name: each for each in configured}
        for name in self._windows.keys() - self._configured.keys():
            del self._windows[name]

    def admit(self, name: str, now: float) -> float:
        """0 if the integration may call now, and then it has; else the seconds until it may again."""
        window = self._windows.get(name)
        if window is None or now >= window.began + WINDOW:
            window = self._windows[name] = _Window(now)
        if window.passed >= self.per_minute:
            return window.began + WINDOW - now
        window.passed += 1
        return 0.0


def list_integrations(integrations: Integrations) -> list[wire.Integration]:
    """What may be known of them, by name (INT-2). The query of an address may well hold a secret."""
    found = [
        wire.Integration(
            name=each.name,
            targets=each.targets,
            channels=each.channels,
            scopes=each.scopes,
            callback_url=each.callback_url and each.callback_url.partition("?")[0],
        )
        for each in integrations.all()
    ]
    return sorted(found, key=lambda each: each.name)


async def ingest(
    fleet: Fleet, caller: wire.IntegrationSettings | None, event: wire.IntegrationEvent
) -> wire.Ingested:
    """What becomes of an event (9.2, from step 5 on). Without a `caller` it is whoever runs the server, who may name any
    target. Raises `Invalid` for a target that leads nowhere, and `Forbidden` for one that is not the caller's."""
    channel = _channel_of(event.target)
    if caller is not None:
        _permit(caller, event.target, event.channel or channel)
    event = await resolved(fleet, event)
    return await fleet.post_office.ask(Ingest(caller.name if caller is not None else ROOT, event))


def _channel_of(target: str) -> str | None:
    """The channel that a target names, or None."""
    if not target.startswith(CHANNEL):
        return None
    channel = target.removeprefix(CHANNEL).strip()
    if not channel:
        raise Invalid(f"target: {CHANNEL} must be followed by the id of a channel")
    return channel


def _permit(caller: wire.IntegrationSettings, target: str | None, channel: str | None) -> None:
    if caller.targets and target is None:
        raise Forbidden(f"{caller.name} must name one of its targets")
    if caller.targets and target not in caller.targets:
        raise Forbidden(f"{caller.name} may not use the target {target}")
    if caller.channels and channel is not None and channel not in caller.channels:
        raise Forbidden(f"{caller.name} may not use the channel {channel}")


async def resolved(fleet: Fleet, event: wire.IntegrationEvent) -> wire.IntegrationEvent:
    """The event, for whoever the channel is bound to that its target names; what was asked for stays on record (9.3, INT-8)."""
    channel = _channel_of(event.target)
    if channel is None:
        return event
    found = await fleet.switchboard.ask(ResolveTarget(channel))
    record = {
        "relayRequestedTarget": event.target,
        "relayResolvedChannelId": found.channel_id,
        "relayResolvedChannelBindingId": found.binding_id,
    }
    return attrs.evolve(
        event,
        target=found.address,
        channel=event.channel or channel,
        metadata={**(event.metadata or {}), **record},
    )
