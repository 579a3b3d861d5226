"""`/api/spawn-policies` and `/api/spawn-policy` (messaging-control 16)."""

from typing import Any

from relay import wire
from relay.fleet import config, policies

from .answers import Answer, accepted, created, ok
from .routing import Call, Routes

__all__ = ["permit", "route"]

route = Routes()


@route("GET", "/api/spawn-policies", scope="policy:read")
async def list_(call: Call[None]) -> Answer:
    return ok(_of_the_caller(call))


@route("GET", "/api/spawn-policies/health", scope="policy:read")
async def list_health(call: Call[None]) -> Answer:
    return ok(_of_the_caller(call))


@route("GET", "/api/spawn-policy/:name", scope="policy:read", on="policy")
async def get(call: Call[None]) -> Answer:
    return ok(policies.get_policy(call.fleet.store, _name(call)))


@route("GET", "/api/spawn-policy/:name/status", scope="policy:read", on="policy")
async def status(call: Call[None]) -> Answer:
    return ok(policies.status_of(call.fleet.store, policies.get_policy(call.fleet.store, _name(call))))


@route("GET", "/api/spawn-policy/:name/health", scope="policy:read", on="policy")
async def health(call: Call[None]) -> Answer:
    return ok(policies.status_of(call.fleet.store, policies.get_policy(call.fleet.store, _name(call))))


@route("PUT", "/api/spawn-policy/:name", scope="policy:write", body=object, on="policy")
async def put(call: Call[object]) -> Answer:
    """201 for the first version. Nothing is started or stopped by it (POL-4, POL-5)."""
    name, given = _name(call), config.wrapped(call.body)
    permit(call, name, given.value)
    entry = await config.set_value(call.fleet, config.SPAWN_POLICY, name, given.value, given.updated_by)
    return created(entry, new=entry.version == 1)


@route("DELETE", "/api/spawn-policy/:name", scope="policy:write", on="policy")
async def delete(call: Call[None]) -> Answer:
    by = call.query.text("updatedBy", longest=200)
    return await _ask(call, policies.Delete(by))


@route("POST", "/api/spawn-policy/:name/start", scope="policy:write", on="policy")
async def start(call: Call[None]) -> Answer:
    return await _ask(call, policies.Start())


@route("POST", "/api/spawn-policy/:name/stop", scope="policy:write", on="policy")
async def stop(call: Call[None]) -> Answer:
    return await _ask(call, policies.Stop())


@route("POST", "/api/spawn-policy/:name/restart", scope="policy:write", on="policy")
async def restart(call: Call[None]) -> Answer:
    return await _ask(call, policies.Restart())


def _of_the_caller(call: Call[None]) -> list[wire.PolicyReport]:
    found = policies.list_policies(call.fleet.store)
    return [each for each in found if call.principal.reaches(policy=each.state.policy_name)]


def permit(call: Call[Any], name: str, value: object = None) -> None:
    """That the caller may have agents run on the hosts that the policy names, as it is and as it is to be."""
    known = policies.find_policy(call.fleet.store, name)
    if known is not None:
        call.need("policy:write", policy=name, orchestrator=known.orchestrator_id, path=known.cwd)
    if isinstance(value, dict):
        asked = wire.decode(wire.SpawnPolicy, value)
        call.need("policy:write", policy=name, orchestrator=asked.orchestrator_id, path=asked.cwd)


async def _ask(call: Call[None], message: Any) -> Answer:
    name = _name(call)
    permit(call, name)
    command = await call.fleet.policies[name].ask(message)
    return accepted({"ok": True, "command": command})


def _name(call: Call[Any]) -> str:
    return wire.decode(wire.ConfigKey, {"namespace": config.SPAWN_POLICY, "key": call.path["name"]}).key
