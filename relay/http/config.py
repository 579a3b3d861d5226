"""`/api/config`, and what is kept there under routes of its own: the steward's configuration and agent profiles
(messaging-control 15, agents-workspaces 14)."""

from typing import Any

from relay import wire
from relay.fleet import Forbidden, config

from . import reach
from .answers import OK, Answer, created, ok
from .policies import permit as permit_policy
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/api/config/:namespace", scope="config:read")
async def list_(call: Call[None]) -> Answer:
    namespace = wire.decode(wire.ConfigKey, {**call.path, "key": "-"}).namespace
    found = config.list_entries(call.fleet.store, namespace)
    return ok([each for each in found if _may_read(call, each.namespace, each.key)])


@route("GET", "/api/config/:namespace/:key", scope="config:read")
async def get(call: Call[None]) -> Answer:
    place = _read_place(call)
    return ok(config.get_entry(call.fleet.store, place.namespace, place.key))


@route("GET", "/api/config/:namespace/:key/history", scope="config:read")
async def history(call: Call[None]) -> Answer:
    place = _read_place(call)
    limit = call.query.integer("limit", 1, 500) or 100
    return ok(config.history(call.fleet.store, place.namespace, place.key, limit))


@route("PUT", "/api/config/:namespace/:key", scope="config:write", body=dict)
async def put(call: Call[dict[str, Any]]) -> Answer:
    """201 for the first version (CFG-6)."""
    given = call.read(wire.SetConfig)
    place = _place(call)
    _permit(call, place, given.value)
    return await _set(call, place, given)


@route("DELETE", "/api/config/:namespace/:key", scope="config:write")
async def delete(call: Call[None]) -> Answer:
    place = _place(call)
    by = call.query.text("updatedBy", longest=200)
    _permit(call, place)
    await config.delete_value(call.fleet, place.namespace, place.key, by)
    return OK


@route("GET", "/api/steward-config", scope="config:read")
async def steward(call: Call[None]) -> Answer:
    return ok(config.steward_entry(call.fleet.store))


@route("PUT", "/api/steward-config", scope="command:write", body=object)
async def put_steward(call: Call[object]) -> Answer:
    reach.whole_fleet(call.principal)
    place = wire.ConfigKey(namespace=config.STEWARD, key=config.STEWARD_KEY)
    return await _set(call, place, config.wrapped(call.body))


@route("GET", "/api/agent-profiles", scope="config:read")
async def profiles(call: Call[None]) -> Answer:
    return ok(config.list_entries(call.fleet.store, config.AGENT_PROFILE))


@route("GET", "/api/agent-profiles/:name", scope="config:read")
async def profile(call: Call[None]) -> Answer:
    place = _profile(call)
    return ok(config.get_entry(call.fleet.store, place.namespace, place.key))


@route("PUT", "/api/agent-profiles/:name", scope="config:write", body=object)
async def put_profile(call: Call[object]) -> Answer:
    return await _set(call, _profile(call), config.wrapped(call.body))


@route("DELETE", "/api/agent-profiles/:name", scope="config:write")
async def delete_profile(call: Call[None]) -> Answer:
    place = _profile(call)
    by = call.query.text("updatedBy", longest=200)
    await config.delete_value(call.fleet, place.namespace, place.key, by)
    return OK


async def _set(call: Call[Any], place: wire.ConfigKey, given: wire.SetConfig) -> Answer:
    entry = await config.set_value(call.fleet, place.namespace, place.key, given.value, given.updated_by)
    return created(entry, new=entry.version == 1)


def _place(call: Call[Any]) -> wire.ConfigKey:
    return wire.decode(wire.ConfigKey, dict(call.path))


def _may_read(call: Call[Any], namespace: str, key: str) -> bool:
    """A policy is read here as it is under the routes of its own."""
    return namespace != config.SPAWN_POLICY or call.principal.reaches(policy=key)


def _read_place(call: Call[Any]) -> wire.ConfigKey:
    place = _place(call)
    if not _may_read(call, place.namespace, place.key):
        raise Forbidden(f"this token is not for policy {place.key}")
    return place


def _profile(call: Call[Any]) -> wire.ConfigKey:
    return wire.decode(wire.ConfigKey, {"namespace": config.AGENT_PROFILE, "key": call.path["name"]})


def _permit(call: Call[Any], place: wire.ConfigKey, value: object = None) -> None:
    """The generic routes are no way around what the routes of a namespace ask for."""
    if place.namespace == config.STEWARD:
        call.need("command:write")
    elif place.namespace == config.SPAWN_POLICY:
        call.need("policy:write", policy=place.key)
        permit_policy(call, place.key, value)
