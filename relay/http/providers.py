"""`/api/providers`: how the programs of providers are started, and whether they are there (messaging-control 17)."""

from typing import Any

from relay import wire
from relay.fleet import providers

from .answers import Answer, answer, ok
from .login_shell import look_up
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/api/providers/config", scope="provider:read")
async def list_(call: Call[None]) -> Answer:
    store = call.fleet.store
    return ok({name: providers.public(providers.find_config(store, name)) for name in providers.PROVIDERS})


@route("GET", "/api/providers/:provider/config", scope="provider:read")
async def get(call: Call[None]) -> Answer:
    return ok(providers.public(_config(call)))


@route("PUT", "/api/providers/:provider/config", scope="provider:write", body=bytes)
async def put(call: Call[bytes]) -> Answer:
    """The provider is looked at before the body is (PRV-3)."""
    name = providers.check(call.path["provider"])
    asked = wire.decode(wire.SetProviderConfig, call.body)
    return ok(providers.public(await call.fleet.providers[name].ask(providers.Replace(asked))))


@route("POST", "/api/providers/:provider/config/test", scope="provider:write")
async def test(call: Call[None]) -> Answer:
    """200 when the program is found, 422 otherwise (PRV-6)."""
    found = await look_up(_config(call).command)
    return answer(200 if found.ok else 422, found)


def _config(call: Call[Any]) -> wire.ProviderConfig:
    return providers.find_config(call.fleet.store, call.path["provider"])
