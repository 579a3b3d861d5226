"""Every class of the contract, and Hypothesis strategies for its objects and for bodies that resemble them."""

from __future__ import annotations

import types
import typing
from enum import StrEnum
from functools import cache
from typing import Any, Union

import attrs
from hypothesis import strategies as st

from relay import wire

SAFE = 2**53 - 1
CLASSES: list[type[Any]] = [
    kind for _, kind in sorted(vars(wire).items()) if isinstance(kind, type) and attrs.has(kind)
]
NESTED = (
    wire.Counts,
    wire.WorkspaceReport,
    wire.ManagedAgent,
    wire.ExitedAgent,
    wire.QueuedSpawn,
    wire.Upgrade,
)

TYPED: tuple[type[Any], ...] = (
    wire.ManualSchedule,
    wire.IntervalSchedule,
    wire.CronSchedule,
    wire.OnceSchedule,
    wire.EventSchedule,
    wire.MessageAction,
    wire.TaskAction,
    wire.SpawnAction,
)

some_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
kept_texts = some_texts.map(str.strip).filter(bool)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | some_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(some_texts, inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(some_texts, json_values, max_size=4)

BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "env": st.dictionaries(
        st.from_regex(r"[A-Za-z_ ][A-Za-z0-9_]{0,10}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
        max_size=3,
    ),
    "exit_code": st.none() | st.integers(-256, 256),
    "max_age_seconds": st.none() | st.integers(0, 2_592_000),
    "limit": st.integers(1, 100),
    "bytes_": st.integers(1, 262_144),
    "wait_ms": st.integers(0, 25_000),
    "ttl_seconds": st.integers(1, 86_400),
    "secret": st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20),
    "callback_url": st.sampled_from([None, "http://h:1", "https://host.example/hook"]),
    "retry_ms": st.none() | st.integers(0, 300_000),
    "base_dir": st.sampled_from(["/", "/srv/projects", "C:\\projects"]),
    "provider_status": st.none() | st.lists(json_objects, max_size=3),
    "provider_catalog": st.none() | st.lists(json_objects, max_size=3),
    "api_url": st.sampled_from([None, "http://h:1", "https://host.example/api"]),
}
BY_MEMBER: dict[tuple[type[Any], str], st.SearchStrategy[Any]] = {
    (wire.ConnectorResult, "exit_code"): st.none() | st.integers(0, 256),
    (wire.IntegrationSettings, "name"): st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True),
    (wire.Recipe, "name"): st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    (wire.RecipeRole, "role"): st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True),
    (wire.RecipeStep, "id"): st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True),
    (wire.OrchestratorAction, "action"): st.sampled_from(["restart", "shutdown"]),
    (wire.IntervalSchedule, "seconds"): st.integers(60, 366 * 86_400),
    (wire.EventSchedule, "event"): st.sampled_from(["task.created", "message.claim.released"]),
    (wire.EventSchedule, "where"): st.none()
    | st.dictionaries(
        st.sampled_from(["a", "a.b"]), st.none() | st.booleans() | some_texts | st.lists(some_texts)
    ),
    **{(kind, "type"): st.just(attrs.fields(kind).type.default) for kind in TYPED},
    (wire.UpgradeOrchestrator, "action"): st.just("upgrade"),
    (wire.Restart, "delay_ms"): st.integers(1, 3_600_000),
    (wire.Restart, "max_delay_ms"): st.integers(1, 86_400_000),
    (wire.Restart, "healthy_after_ms"): st.integers(1, 86_400_000),
    (wire.Restart, "quarantine_after"): st.integers(0, 1_000),
    (wire.Retention, "event_days"): st.integers(1, 3_650),
    (wire.Retention, "audit_days"): st.integers(1, 36_500),
    (wire.Retention, "automation_run_days"): st.integers(1, 3_650),
    (wire.Retention, "cleaned_workspace_hours"): st.integers(1, 8_760),
    (wire.UpgradeOrchestrator, "target_version"): st.sampled_from([None, "1.2.3", "0.12.0-rc.1"]),
    (wire.SpawnAction, "cwd"): st.sampled_from([None, "/srv/a", "/"]),
    (wire.Reclaim, "worktree_path"): st.sampled_from(["/srv/a", "/"]),
    (wire.Reclaim, "repo_root"): st.sampled_from(["/srv/a", "/"]),
}
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    str: kept_texts,
    bool: st.booleans(),
    int: st.integers(1, SAFE),
    float: st.integers(0, 2**44).map(lambda milliseconds: milliseconds / 1000),
    dict[str, int]: st.dictionaries(some_texts, st.integers(0, SAFE), max_size=3),
    dict[str, str]: st.dictionaries(some_texts, some_texts, max_size=3),
    dict[str, Any]: json_objects,
    Any: json_values,
}


def json_name(name: str) -> str:
    """`from_` is `from`, and `reply_to` is `replyTo`."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part.capitalize() for part in rest)


@cache
def objects(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Objects of `kind` as `decode` makes them: texts trimmed, lists without repeats."""
    hints = typing.get_type_hints(kind)
    members = {field.name: _member(kind, field.name, hints[field.name]) for field in attrs.fields(kind)}
    return st.builds(kind, **members)


def _member(kind: type[Any], name: str, declared: Any) -> st.SearchStrategy[Any]:
    found = BY_MEMBER.get((kind, name), BY_NAME.get(name))
    return _typed(declared) if found is None else found


def _typed(declared: Any) -> st.SearchStrategy[Any]:
    if declared in PLAIN:
        return PLAIN[declared]
    arguments = typing.get_args(declared)
    if typing.get_origin(declared) in (Union, types.UnionType):
        return st.one_of([_typed(each) for each in arguments])
    if typing.get_origin(declared) is tuple:
        return st.lists(_typed(arguments[0]), max_size=3).map(tuple)
    if arguments:
        return st.lists(
            _typed(arguments[0]), max_size=3, unique=not (arguments[0] is Any or attrs.has(arguments[0]))
        )
    return st.sampled_from(list(declared)) if issubclass(declared, StrEnum) else objects(declared)


@cache
def resembling(kind: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects whose members have names of `kind`, and right or wrong values."""
    awkward = [[], [{}], [None, {"agentId": 1}], {}, "", " ", "online", -1, 1.0, 1.5, SAFE + 1, 1e300, -1e300]
    strange = json_values | st.sampled_from(awkward)
    if kind not in NESTED:
        within = st.one_of([resembling(each) for each in NESTED])
        strange = strange | within | st.lists(within, max_size=3)
    return st.fixed_dictionaries(
        {}, optional={json_name(field.name): strange for field in attrs.fields(kind)}
    )
