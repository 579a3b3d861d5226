"""What becomes of a connector: what its program's end means, and what an action changes. No process, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from relay import wire
from relay.store import Decision, Write

from ._audit import audit
from ._moment import Moment
from ._programs import Ended
from ._records import text_of
from ._secrets import masked, masked_end, secrets_in

__all__ = ["EFFECTS", "acted", "configured", "result_of", "shown", "shown_result"]

Verb = wire.ConnectorVerb

LONGEST = 4_000  # characters of an error

EFFECTS: Mapping[Verb, Mapping[str, Any]] = {
    Verb.INSTALL: {"installed": True},
    Verb.UNINSTALL: {"installed": False, "enabled": False, "running": False},
    Verb.ENABLE: {"enabled": True},
    Verb.DISABLE: {"enabled": False},
    Verb.START: {"running": True},
    Verb.STOP: {"running": False},
    Verb.RESTART: {"running": True},
    Verb.STATUS: {},
    Verb.DOCTOR: {},
}
"""What an action that succeeds makes of the record. `running` and `version` in the program's own status come on top; an
action that fails changes none of it."""


def result_of(action: Verb, ended: Ended) -> wire.ConnectorResult:
    """What came of it (CON-3)."""
    answer, wrong = _answer(ended)
    error = ended.trouble
    if error is None and ended.exit_code:
        error = (
            answer.message if answer is not None else None
        ) or f"the program ended with {ended.exit_code}"
    elif error is None and answer is None:
        error = wrong
    elif error is None and answer is not None and not answer.ok:
        error = answer.message or "the program says that it did not succeed"
    return wire.ConnectorResult(
        action=action,
        ok=error is None,
        message=answer.message if answer else None,
        data=answer.data if answer else None,
        status=answer.status if answer else None,
        error=error[:LONGEST] if error is not None else None,
        exit_code=ended.exit_code or None,
        stderr=ended.errors.strip() or None,
    )


def _answer(ended: Ended) -> tuple[wire.ConnectorAnswer | None, str]:
    """What the program said, or else what is wrong with it."""
    if not ended.output.strip():
        return None, "the program wrote no answer"
    try:
        said = orjson.loads(ended.output)
        return wire.decode(wire.ConnectorAnswer, said), ""
    except wire.Invalid as error:
        return None, f"the program's answer is not one: {error}"
    except orjson.JSONDecodeError as error:
        return None, f"the program's answer is no JSON: {error}"


def acted(
    before: wire.Connector, result: wire.ConnectorResult, moment: Moment
) -> tuple[wire.Connector, Decision[wire.ConnectorResult]]:
    """The record after an action. What the program said is kept as it may be seen."""
    seen = shown_result(result, before.config)
    changes: dict[str, Any] = {"last_action": result.action, "last_result": seen, "updated_at": moment.at}
    if result.ok:
        changes |= {**EFFECTS[result.action], **_reported(result.status or {})}
    after = attrs.evolve(before, **changes)
    record = audit(
        moment,
        f"server-connector-{before.id}-{result.action}-{moment.ms}",
        f"connector {before.id}: {result.action} {'succeeded' if result.ok else 'failed'}",
        body=seen.message if seen.ok else seen.error,
        meta=before.id,
        icon="ti-plug",
        view="agents",
        metadata={"connectorId": before.id, "action": result.action.value, "ok": result.ok},
    )
    return after, Decision(reply=seen, writes=(row_of(after, moment), record[0]), events=(record[1],))


def _reported(status: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(status.get("running"), bool):
        found["running"] = status["running"]
    if isinstance(version := status.get("version"), str) and 0 < len(version) <= 80:
        found["version"] = version
    return found


def configured(
    before: wire.Connector, config: dict[str, Any], moment: Moment
) -> tuple[wire.Connector, Decision[wire.Connector]]:
    """The record with another configuration."""
    after = attrs.evolve(before, config=config, updated_at=moment.at)
    record = audit(
        moment,
        f"server-connector-{before.id}-config-{moment.ms}",
        f"connector {before.id} is configured",
        body=", ".join(sorted(config)),
        meta=before.id,
        icon="ti-plug",
        view="agents",
        metadata={"connectorId": before.id},
    )
    return after, Decision(reply=shown(after), writes=(row_of(after, moment), record[0]), events=(record[1],))


def shown(connector: wire.Connector) -> wire.Connector:
    """The record as it may be seen."""
    return attrs.evolve(connector, config=masked(connector.config))


def shown_result(result: wire.ConnectorResult, config: Mapping[str, Any]) -> wire.ConnectorResult:
    """The result without the secrets of the configuration, which a program may well repeat."""
    secrets = secrets_in(config)
    texts = {name: masked(getattr(result, name), secrets) for name in ("message", "error", "data", "status")}
    stderr = masked_end(result.stderr, secrets) if result.stderr is not None else None
    return attrs.evolve(result, **texts, stderr=stderr)


def row_of(connector: wire.Connector, moment: Moment) -> Write:
    kept = wire.to_json(attrs.evolve(connector, config={}, path=None))
    values = (
        connector.id,
        connector.installed,
        connector.enabled,
        text_of(connector.config),
        text_of(kept),
        moment.ms,
    )
    return Write(
        "insert into connectors (id, installed, enabled, config, record, updated_at) values (?, ?, ?, ?, ?, ?)"
        " on conflict (id) do update set installed = excluded.installed, enabled = excluded.enabled,"
        " config = excluded.config, record = excluded.record, updated_at = excluded.updated_at",
        values,
    )
