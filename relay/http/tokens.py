"""`/api/tokens`, and the tokens of hosts and runners (messaging-control 14.7 and 18, agents-workspaces 15).

A token's text is made here of its record, told once, and kept by nobody.
"""

from typing import Any

from relay import wire
from relay.fleet import Forbidden, commands, orchestrators, tokens
from relay.fleet.tokens import within_reach

from .answers import OK, Answer, created, ok
from .auth import BadToken
from .errors import Refused
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/api/tokens", scope="token:read")
async def list_(call: Call[None]) -> Answer:
    """The newest first, of those that reach no further than the caller's own."""
    live = call.fleet.system.wall() if call.query.flag("live") else None
    found = tokens.list_tokens(
        call.fleet.store,
        sub=call.query.text("sub"),
        role=call.query.text("role"),
        live=live,
        seen_by=call.principal.held if call.principal.is_limited else None,
        limit=call.query.integer("limit", 1, 500) or 100,
    )
    return ok(found)


@route("POST", "/api/tokens", scope="token:write", body=wire.NewToken)
async def create(call: Call[wire.NewToken]) -> Answer:
    _no_integration(call)
    made = await call.fleet.tokens.ask(tokens.Create(call.body, call.principal.held, call.by))
    return _issued(call, made)


@route("GET", "/api/tokens/:jti", scope="token:read")
async def get(call: Call[None]) -> Answer:
    token = tokens.get_token(call.fleet.store, call.path["jti"])
    if within_reach(call.principal.held, token) is not None:
        raise Forbidden("the token reaches further than your own")
    return ok(token)


@route("POST", "/api/tokens/:jti/revoke", scope="token:write")
async def revoke(call: Call[None]) -> Answer:
    """The token, and all that replaced each other with it."""
    await call.fleet.tokens.ask(tokens.Revoke(call.path["jti"], call.principal.held, call.by))
    return OK


@route("POST", "/api/tokens/rotate-key", scope="token:write", late=True)
async def rotate(call: Call[None]) -> Answer:
    """Another key signs from now on; the others verify until they retire."""
    _only_root(call)
    verifier = call.edge.tokens
    key = verifier.keys.rotate(call.fleet.system.wall())
    verifier.forget(None)
    await call.fleet.tokens.ask(tokens.NoteRotation(key.kid, call.by))
    return created(wire.RotatedKey(kid=key.kid, retires=verifier.keys.retiring()))


@route("POST", "/api/runtime-tokens/renew", scope="token:renew", late=True)
async def renew(call: Call[None]) -> Answer:
    """Whoever has a token may replace it, with one that may do the same (15.2)."""
    if call.principal.jti is None:
        raise Refused(403, "only a token that expires is renewed, and by whoever has it")
    return _issued(call, await call.fleet.tokens.ask(tokens.Renew(call.principal.jti, call.by)))


@route("POST", "/api/runtime-tokens/interactive-runner", scope="token:write", late=True, body=bytes)
async def exchange(call: Call[bytes]) -> Answer:
    """A person who has the root token gets one for the runner of an agent (15.1)."""
    _only_root(call)
    asked = wire.decode(wire.ExchangeToken, call.body)
    minted = await call.fleet.tokens.ask(
        tokens.MintForRunner(
            asked.agent_id, asked.orchestrator_id, asked.policy_name, call.principal.held, call.by
        )
    )
    return _issued(call, minted)


@route(
    "POST",
    "/api/orchestrators/:id/runner-token",
    scope="command:write",
    on="orchestrator",
    late=True,
    body=bytes,
)
async def remint(call: Call[bytes]) -> Answer:
    """Host (404), scope (403), body (400), token (403), in this order (ORC-50)."""
    host = orchestrators.get_orchestrator(call.fleet.store, call.path["id"])
    call.need("command:write", orchestrator=host.id)
    shown = wire.decode(wire.PresentToken, call.body)
    try:
        claims, _ = call.edge.tokens.keys.claims(shown.token, call.fleet.system.wall(), expired=True)
    except BadToken as bad:
        raise Forbidden(str(bad)) from None
    return _issued(
        call, await call.fleet.tokens.ask(tokens.Remint(claims["jti"], host.id, call.by, shown.lost is True))
    )


@route(
    "POST", "/api/commands/:id/runner-token", scope="orchestrator:write", late=True, body=wire.MintRunnerToken
)
async def mint(call: Call[wire.MintRunnerToken]) -> Answer:
    """For the agent that the command has its host start, and what else that takes: no command holds a secret (W-I39)."""
    command = commands.get_command(call.fleet.store, call.path["id"])
    host = tokens.host_of(call.fleet.store, command)
    call.need("orchestrator:write", orchestrator=host, agent=command.target)
    agent_id = call.body.agent_id
    _no_integration(call)
    policy = tokens.startable(call.fleet.store, command, host, agent_id)
    besides = tokens.granted(call.fleet.store, command)
    minted = tokens.MintForRunner(agent_id, host, policy, call.principal.held, call.by, command.id)
    issued = call.edge.tokens.issue(await call.fleet.tokens.ask(minted))
    return created(wire.RunnerGrant(token=issued.token, record=issued.record, **besides))


def _issued(call: Call[Any], token: wire.Token) -> Answer:
    return created(call.edge.tokens.issue(token))


def _no_integration(call: Call[Any]) -> None:
    """What it is configured for is no constraint, which a token would inherit: it would reach further."""
    if call.principal.integration is not None:
        raise Refused(403, "an integration makes no tokens")


def _only_root(call: Call[Any]) -> None:
    if not call.principal.is_root:
        raise Refused(403, "only the root token may do this")
