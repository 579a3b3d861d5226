"""What a new token may be: never more than whoever asks for it has. They decide and do nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from relay import wire

from ._errors import Conflict, Forbidden, Invalid
from ._machine import NONE, Moves
from ._paths import within
from ._token_profiles import AGENT, EVERYTHING, HOST, PROFILES, ROLE_SCOPES, Profile

__all__ = [
    "LEEWAY",
    "LIVE",
    "MOVES",
    "REMINT_WITHIN",
    "Held",
    "created",
    "excess",
    "for_host",
    "for_runner",
    "reminted",
    "renewed",
    "state_of",
    "within_reach",
]

LIVE, EXPIRED, REPLACED, REVOKED = "live", "expired", "replaced", "revoked"

MOVES: Moves = {
    NONE: {"create": LIVE},
    LIVE: {"renew": REPLACED, "remint": REPLACED, "revoke": REVOKED, "its time passes": EXPIRED},
    EXPIRED: {"remint": REPLACED, "revoke": REVOKED},
    REPLACED: {},
    REVOKED: {},
}
"""Spec 22.12. `create` is for somebody who has at least as much, a host that registered, a runner; `renew` by whoever has it;
`remint` through its host; `revoke` is of all of its family."""

REMINT_WITHIN = 2_592_000  # seconds since it expired (15.3)
LARGEST = 5_800  # bytes of a record: the text of its token has a third more
LEEWAY = 5  # seconds that clocks may differ
RUNNER = "runner:"
RESERVED = "root"
KINDS = tuple(field.name for field in attrs.fields(wire.Constraints))


@attrs.frozen
class Held:
    """What a caller has, and so may give away. `expires_at` is epoch seconds; `jti` is None for who has no such token."""

    scopes: frozenset[str]
    constraints: wire.Constraints = attrs.Factory(wire.Constraints)
    expires_at: int | None = None
    jti: str | None = None


def state_of(token: wire.Token, at: float) -> str:
    """What the token is at this instant: a state of `MOVES`."""
    if token.revoked_at is not None:
        return REVOKED if token.replaced_by is None else REPLACED
    return LIVE if token.expires_at is None or at <= token.expires_at + LEEWAY else EXPIRED


def covers(held: wire.Constraints, wanted: wire.Constraints) -> str | None:
    """The first kind in which `wanted` reaches further than `held`; None if it does not."""
    for kind in KINDS:
        has, wants = getattr(held, kind), getattr(wanted, kind)
        if has is not None and (wants is None or not all(_reached(kind, has, name) for name in wants)):
            return kind
    return None


def _reached(kind: str, names: Iterable[str], name: str) -> bool:
    return any(within(path, name) for path in names) if kind == "paths" else name in names


def excess(held: Held, token: wire.Token) -> str | None:
    """What the token would have that its maker has not; None if that is nothing."""
    if EVERYTHING not in held.scopes:
        more = [scope for scope in token.scope if scope not in held.scopes]
        if more:
            return f"scope: {', '.join(more)}: whoever makes a token has that scope itself"
    wanted = token.constraints or wire.Constraints()
    if (kind := covers(held.constraints, wanted)) is not None:
        return f"constraints.{kind}: a token reaches no further than whoever makes it: {getattr(held.constraints, kind)}"
    if held.expires_at is not None and (token.expires_at is None or token.expires_at > held.expires_at):
        return "ttlSeconds: a token does not outlive whoever makes it"
    return None


def within_reach(held: Held, token: wire.Token) -> str | None:
    """The kind in which a token reaches further than whoever wants to see or end it; None if it does not, or is its own."""
    return (
        None if token.jti == held.jti else covers(held.constraints, token.constraints or wire.Constraints())
    )


def created(asked: wire.NewToken, held: Held, jti: str, at: float, maker: str) -> wire.Token:
    """The token that is asked for. Raises `Invalid`, and `Forbidden` when it would be more than `held`."""
    for member, name in (("role", asked.role), ("sub", asked.sub)):
        if name == RESERVED:
            raise Invalid(f"{member}: root is the token of the server's own file; choose another")
    profile = _profile(asked)
    scope = asked.asked
    if scope is None:
        scope = list(profile.scopes if profile else ROLE_SCOPES.get(asked.role, ()))
    sub = asked.sub or asked.role
    token = wire.Token(
        jti=jti,
        family=jti,
        sub=sub,
        role=asked.role,
        scope=scope,
        profile_id=asked.profile_id,
        constraints=_constraints(asked, held, sub),
        created_at=wire.Instant(at),
        created_by=asked.created_by or maker,
        expires_at=_expiry(asked, profile, held, int(at)),
        renewable_until=held.expires_at,
    )
    if len(wire.encode(token)) > LARGEST:
        raise Invalid("scope, constraints: together they are longer than a token can be")
    if (more := excess(held, token)) is not None:
        raise Forbidden(more)
    return token


def _profile(asked: wire.NewToken) -> Profile | None:
    if asked.profile_id is None:
        return None
    profile = PROFILES.get(asked.profile_id)
    if profile is None:
        raise Invalid(f"profileId: expected one of {', '.join(PROFILES)}")
    if asked.role != profile.role:
        raise Invalid(f"role: a token of the profile {asked.profile_id} has the role {profile.role}")
    beyond = [scope for scope in asked.asked or () if scope not in profile.scopes]
    if beyond and EVERYTHING not in profile.scopes:
        raise Invalid(f"scope: a token of the profile {asked.profile_id} does not have {', '.join(beyond)}")
    if asked.ttl_seconds is not None and asked.ttl_seconds > profile.longest:
        raise Invalid(
            f"ttlSeconds: a token of the profile {asked.profile_id} lives {profile.longest} s at most"
        )
    return profile


def _expiry(asked: wire.NewToken, profile: Profile | None, held: Held, now: int) -> int | None:
    """What is asked for, else the profile's; who says nothing gets no more than the maker has."""
    if asked.ttl_seconds is not None:
        return now + asked.ttl_seconds
    given = None if profile is None else now + profile.life
    bounds = [each for each in (given, held.expires_at) if each is not None]
    return min(bounds, default=None)


def _constraints(asked: wire.NewToken, held: Held, sub: str) -> wire.Constraints | None:
    """What is asked for; of a kind that is not named, what the maker has."""
    given = asked.constraints
    if given is None and asked.asked is None and asked.profile_id is None:
        given = _itself(asked.role, sub)
    known = {kind: getattr(given, kind, None) for kind in KINDS}
    whole = {
        kind: names if names is not None else getattr(held.constraints, kind) for kind, names in known.items()
    }
    return wire.Constraints(**whole) if any(names is not None for names in whole.values()) else None


def _itself(role: str, sub: str) -> wire.Constraints | None:
    """The role's own scopes are limited to itself (TOK-4)."""
    name = sub.partition(":")[2] or sub
    if role == "provider":
        return wire.Constraints(agents=[name])
    if role == "orchestrator":
        return wire.Constraints(agents=[f"orchestrator-{name}"], orchestrators=[name])
    return None


def for_host(host_id: str, agent_id: str, jti: str, family: str | None, at: float) -> wire.Token:
    """What a host gets for registering."""
    profile = PROFILES[HOST]
    return wire.Token(
        jti=jti,
        family=family or jti,
        sub=f"orchestrator:{host_id}",
        role=profile.role,
        scope=list(profile.scopes),
        profile_id=HOST,
        constraints=wire.Constraints(agents=[agent_id], orchestrators=[host_id]),
        created_at=wire.Instant(at),
        created_by="registration",
        expires_at=int(at) + profile.life,
    )


def for_runner(
    agent_id: str,
    *,
    held: Held,
    host_id: str | None,
    policy: str | None,
    profile_id: str,
    created_by: str,
    jti: str,
    at: float,
) -> wire.Token:
    """What the runner of one agent gets, for this agent and no other: of what its profile may do what the asker may, too,
    and of all that no agent is bound to by itself what the asker is limited to."""
    profile = PROFILES[profile_id]
    scope = [name for name in profile.scopes if name in held.scopes or EVERYTHING in held.scopes]
    return wire.Token(
        jti=jti,
        family=jti,
        sub=f"{RUNNER}{agent_id}",
        role=profile.role,
        scope=scope,
        profile_id=profile_id,
        constraints=attrs.evolve(
            held.constraints,
            agents=[agent_id],
            orchestrators=[] if host_id is None else [host_id],
            policies=[] if policy is None else [policy],
        ),
        created_at=wire.Instant(at),
        created_by=created_by,
        expires_at=int(at) + profile.life,
    )


def renewed(token: wire.Token, jti: str, at: float) -> wire.Token:
    """The successor that whoever has the token asks for (15.2). Raises `Conflict`."""
    profile = PROFILES.get(token.profile_id or "")
    if profile is None or not profile.renewable or token.expires_at is None:
        kinds = ", ".join(name for name, each in PROFILES.items() if each.renewable)
        raise Conflict(f"only tokens of the profiles {kinds} that expire are renewed; create another")
    if token.renewable_until is not None and token.renewable_until <= token.expires_at:
        raise Conflict("the token was made by one that expires with it; it is not renewed any more")
    life = token.expires_at - int(token.created_at or at)
    return attrs.evolve(
        token,
        jti=jti,
        created_at=wire.Instant(at),
        created_by=f"renewal:{token.jti}",
        expires_at=_bounded(token, int(at) + min(life, profile.longest)),
    )


def reminted(token: wire.Token, host_id: str, jti: str, at: float) -> wire.Token:
    """The successor of a runner's token that has expired, or may have (15.3). Raises `Forbidden`."""
    if token.role != "provider" or not token.sub.startswith(RUNNER):
        raise Forbidden("the token is no runner's")
    hosts = token.constraints.orchestrators if token.constraints is not None else None
    if hosts is None or host_id not in hosts:
        raise Forbidden(f"the token is not for runners of host {host_id}")
    if token.expires_at is not None and int(at) - token.expires_at > REMINT_WITHIN:
        raise Forbidden(f"the token expired more than {REMINT_WITHIN // 86_400} days ago")
    if token.renewable_until is not None and token.renewable_until <= at:
        raise Forbidden("the token was made by one that has expired")
    return attrs.evolve(
        token,
        jti=jti,
        profile_id=AGENT,
        created_at=wire.Instant(at),
        created_by=f"orchestrator-remint:{host_id}",
        expires_at=_bounded(token, int(at) + PROFILES[AGENT].life),
    )


def _bounded(token: wire.Token, expires_at: int) -> int:
    return expires_at if token.renewable_until is None else min(expires_at, token.renewable_until)
