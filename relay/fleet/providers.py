"""Provider configs: how the programs of providers are started (messaging-control 17).

One actor per provider owns its row. A write replaces the whole, and is told to nobody (PRV-4). What is shown has masks for the
values of `env`; a mask that comes back is refused, for nobody knows the value that it hid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Ask, Context, Step
from relay.store import Decision, Store, Write

from ._actor import FleetActor
from ._errors import Invalid
from ._records import text_of
from ._secrets import MASK

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "PROVIDERS",
    "Provider",
    "ProviderProtocol",
    "Replace",
    "check",
    "find_config",
    "is_configured",
    "public",
]

HEADLESS = wire.Headless(tmux_prefix="ar", shutdown_timeout_ms=10_000)

PROVIDERS: Mapping[str, wire.ProviderConfig] = {
    name: wire.ProviderConfig(provider=name, command=name, headless=HEADLESS) for name in ("claude", "codex")
}
"""What holds for each provider as long as nobody has said otherwise (PRV-1, PRV-2)."""

UPSERT = (
    "insert into provider_configs (provider, record, updated_at) values (?, ?, ?)"
    " on conflict (provider) do update set record = excluded.record, updated_at = excluded.updated_at"
)


class ProviderProtocol:
    """What the actor of one provider understands."""


@attrs.frozen
class Replace(Ask[ProviderProtocol, wire.ProviderConfig]):
    """Raises `Invalid` for a mask in the place of a value."""

    asked: wire.SetProviderConfig


class Provider(FleetActor[ProviderProtocol]):
    """The actor of one provider."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self._name = key

    def handle(self, message: Any, context: Context[ProviderProtocol]) -> Step:
        config = replaced(self._name, message.asked)
        row = (self._name, text_of(wire.to_json(config)), self.moment().ms)
        self.settle(message, Decision(reply=config, writes=(Write(UPSERT, row),)), context)
        return None


def check(name: str) -> str:
    """The name of a provider; raises `Invalid`."""
    if name not in PROVIDERS:
        raise Invalid(f"provider: expected one of {', '.join(PROVIDERS)}")
    return name


def replaced(name: str, asked: wire.SetProviderConfig) -> wire.ProviderConfig:
    """What is absent has the provider's default; `headless` member by member (PRV-3)."""
    masks = [variable for variable, value in (asked.env or {}).items() if value == MASK]
    if masks:
        raise Invalid(
            f"env.{masks[0]}: {MASK} is no value, but what hides one; give the value, or leave it out"
        )
    given = attrs.asdict(asked, recurse=False, filter=lambda _, value: value is not None)
    headless = attrs.asdict(given.pop("headless"), filter=lambda _, value: value is not None)
    return attrs.evolve(PROVIDERS[name], **given, headless=attrs.evolve(HEADLESS, **headless))


def find_config(store: Store, name: str) -> wire.ProviderConfig:
    """As it was written last, else its defaults. Raises `Invalid` for a provider that there is not."""
    row = store.row("select record from provider_configs where provider = ?", check(name))
    return wire.decode(wire.ProviderConfig, row[0]) if row else PROVIDERS[name]


def is_configured(store: Store, name: str) -> bool:
    """Whether somebody has said how its program is started."""
    return store.row("select 1 from provider_configs where provider = ?", name) is not None


def public(config: wire.ProviderConfig) -> wire.ProviderConfig:
    """Without the values of its environment (PRV-5)."""
    return attrs.evolve(config, env=dict.fromkeys(config.env, MASK))
