"""How the programs of providers are started (messaging-control 17)."""

from typing import Any

import attrs

from . import _fields as f
from ._json import nested

__all__ = ["Headless", "ProviderConfig", "ProviderLookup", "SetProviderConfig"]


@attrs.frozen(kw_only=True)
class Headless:
    """How its agents run without a terminal of their own."""

    tmux_prefix: str | None = f.text(120)
    shutdown_timeout_ms: int | None = f.integer(1)


def _lenient(value: Any, kind: type[Headless]) -> Headless:
    """What is no object counts as an empty one (PRV-3)."""
    return nested(value if isinstance(value, dict) else {}, kind)


@attrs.frozen(kw_only=True)
class SetProviderConfig:
    """`PUT /api/providers/:provider/config`. It replaces: what is absent has the provider's default, not what it had (PRV-3)."""

    command: str = f.text(500, required=True)
    default_args: list[str] | None = f.texts(default=None)
    plugin_dirs: list[str] | None = f.texts(default=None)
    default_capabilities: list[str] | None = f.texts(default=None)
    default_tags: list[str] | None = f.texts(default=None)
    default_approval_mode: str | None = f.text(80)
    env: dict[str, str] | None = f.environment()
    headless: Headless = f.item(Headless, _lenient, default=Headless)


@attrs.frozen(kw_only=True)
class ProviderConfig:
    """How one provider's program is started. What is shown of it has a mask for each value of `env`."""

    provider: str = f.text(80, required=True)
    command: str = f.text(500, required=True)
    default_args: list[str] = f.texts()
    plugin_dirs: list[str] = f.texts()
    default_capabilities: list[str] = f.texts()
    default_tags: list[str] = f.texts()
    default_approval_mode: str = f.text(80, default="guarded")
    env: dict[str, str] = f.document()
    headless: Headless = f.item(Headless, nested, default=Headless)


@attrs.frozen(kw_only=True)
class ProviderLookup:
    """Whether the program is there, and where; or what was said instead (PRV-6)."""

    ok: bool = f.boolean(required=True)
    command: str = f.text(500, required=True)
    path: str | None = f.text(4_000)
    error: str | None = f.text(4_000)
