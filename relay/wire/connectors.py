"""Connectors: locally installed adapters, each a program (messaging-control 10)."""

from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .vocabulary import ConnectorVerb

__all__ = ["Connector", "ConnectorAction", "ConnectorAnswer", "ConnectorConfig", "ConnectorResult"]


@attrs.frozen(kw_only=True)
class ConnectorAction:
    """`POST /api/connectors/:id/actions` (CON-2)."""

    action: ConnectorVerb = f.choice(ConnectorVerb, required=True)


@attrs.frozen(kw_only=True)
class ConnectorConfig:
    """`PUT /api/connectors/:id/config` (CON-4)."""

    config: dict[str, Any] = f.mapping()


@attrs.frozen(kw_only=True)
class ConnectorAnswer:
    """What the program writes on its standard output. `status` may tell whether it is `running`, and which `version`."""

    ok: bool = f.boolean(required=True)
    message: str | None = f.text(4_000)
    data: dict[str, Any] | None = f.mapping(default=None)
    status: dict[str, Any] | None = f.mapping(default=None)


@attrs.frozen(kw_only=True)
class ConnectorResult:
    """What came of an action. `error` is there unless it is `ok`; `exit_code` if it is not 0, above 128 for a signal;
    `stderr` is the end of what the program wrote there."""

    action: ConnectorVerb = f.choice(ConnectorVerb, required=True)
    ok: bool = f.boolean(required=True)
    message: str | None = f.text(8_000)
    data: dict[str, Any] | None = f.document(default=None)
    status: dict[str, Any] | None = f.document(default=None)
    error: str | None = f.text(8_000)
    exit_code: int | None = f.integer(0)
    stderr: str | None = f.text(8_000)


@attrs.frozen(kw_only=True)
class Connector:
    """The record of a connector. `path` is absent while there is no such program; `running` is what it last said.

    In answers, members of `config` that look like secrets are masked.
    """

    id: str = f.text(80, required=True)
    path: str | None = f.text(4_096)
    installed: bool = f.boolean(default=False)
    enabled: bool = f.boolean(default=False)
    running: bool | None = f.boolean()
    version: str | None = f.text(80)
    config: dict[str, Any] = f.document()
    last_action: ConnectorVerb | None = f.choice(ConnectorVerb)
    last_result: ConnectorResult | None = f.item(ConnectorResult, nested)
    updated_at: f.Instant | None = f.instant()
