"""Policies as they are read: what each says, and how its agent is."""

from __future__ import annotations

from relay import wire
from relay.store import Store

from ._config_rows import find_versions, list_live
from ._config_values import SPAWN_POLICY
from ._errors import NotFound
from ._policy_protocol import Link
from ._policy_rules import find_policy_state
from ._records import text_member

__all__ = [
    "alarms",
    "find_host",
    "find_policy",
    "get_policy",
    "host_of",
    "link_of",
    "list_policies",
    "status_of",
]


def find_policy(store: Store, name: str) -> wire.SpawnPolicy | None:
    entry = find_versions(store, SPAWN_POLICY, name).live
    return wire.decode(wire.SpawnPolicy, entry.value) if entry else None


def get_policy(store: Store, name: str) -> wire.ConfigEntry:
    """The entry that says what the policy is; raises `NotFound`."""
    entry = find_versions(store, SPAWN_POLICY, name).live
    if entry is None:
        raise NotFound(f"no such policy: {name}")
    return entry


def status_of(store: Store, entry: wire.ConfigEntry) -> wire.PolicyReport:
    """What it says, and the state of its agent (POL-1), which is stopped where nothing is known of it."""
    policy = wire.decode(wire.SpawnPolicy, entry.value)
    state = find_policy_state(store, entry.key) or wire.PolicyState(
        policy_name=entry.key,
        orchestrator_id=policy.orchestrator_id,
        provider=policy.provider,
        updated_at=wire.Instant(0.0),
    )
    return wire.PolicyReport(policy=entry.value, state=state)


def list_policies(store: Store) -> list[wire.PolicyReport]:
    """All policies with their states, by name (POL-2)."""
    return [status_of(store, entry) for entry in list_live(store, SPAWN_POLICY)]


def alarms(store: Store) -> list[str]:
    """What needs somebody's care. Without names, for anybody may ask for the health of a server."""
    sql = "select count(*) from managed_agents where record ->> '$.quarantined' = 1"
    row = store.row(sql)
    count = int(row[0]) if row else 0
    whose = "the agent of 1 policy" if count == 1 else f"the agents of {count} policies"
    return [f"{whose} failed too often, and waits for a person: relay policies shows which"] if count else []


def find_host(store: Store, orchestrator_id: str) -> wire.Orchestrator | None:
    row = store.row("select record from orchestrators where id = ?", orchestrator_id)
    return wire.decode(wire.Orchestrator, row[0]) if row else None


def host_of(store: Store, orchestrator_id: str) -> wire.Orchestrator:
    """Raises `NotFound`."""
    host = find_host(store, orchestrator_id)
    if host is None:
        raise NotFound(f"no such orchestrator: {orchestrator_id}")
    return host


def link_of(card: wire.Agent) -> tuple[str, Link] | None:
    """The policy that the agent was started for, and what tells it so (AGT-3)."""
    policy, request = text_member(card.meta, "policyName"), text_member(card.meta, "spawnRequestId")
    return (policy, Link(card.id, request)) if policy and request else None
