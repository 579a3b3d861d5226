"""Tokens: who may do what, to whom, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import Listing, Target, target
from .output import age, counted, say, show, show_json, when
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["tokens"]

KINDS = {
    "agents": "--agent",
    "orchestrators": "--host",
    "policies": "--policy",
    "channels": "--channel",
    "targets": "--to",
    "workspaces": "--workspace",
    "paths": "--path",
}
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _Span(click.ParamType[int]):
    """Seconds, or so many minutes, hours or days: 90, 15m, 12h, 30d."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, context: click.Context | None) -> int:
        text = str(value)
        number, unit = (text[:-1], UNITS.get(text[-1])) if text[-1:] in UNITS else (text, 1)
        if (
            unit is None
            or not (number.isascii() and number.isdecimal())
            or len(number) > 9
            or int(number) < 1
        ):
            self.fail(f"{text} is no time: give seconds, or 15m, 12h, 30d", param, context)
        return int(number) * unit


@click.group(cls=Listing)
def tokens() -> None:
    """List tokens; make, end and renew what they are signed with."""


@tokens.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are revoked or have expired.")
@click.option("--sub", help="Only those for this subject.")
@click.option("--role", help="Only those of this role.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@target
def list_(
    target: Target, everything: bool, sub: str | None, role: str | None, limit: int, as_json: bool
) -> None:
    """List the tokens that are good, the newest first."""
    from relay import wire

    live = None if everything else True
    found = ask(target, lambda client: client.tokens(sub=sub, role=role, live=live, limit=limit))
    if as_json:
        return show_json([wire.to_json(token) for token in found])
    rows = [(row.jti, row.sub, row.profile_id or row.role, _ends(row), age(row.created_at)) for row in found]
    return show(("token", "for", "profile", "ends", "made"), rows, empty="no tokens besides the root token")


@tokens.command("show")
@click.argument("jti")
@target
def show_(target: Target, jti: str, as_json: bool) -> None:
    """Show what one token is for; its text nobody has but whoever it was made for."""
    from relay import wire

    found = ask(target, lambda client: client.one_token(jti))
    if as_json:
        return show_json(wire.to_json(found))
    return say("\n".join(_lines(found)))


@tokens.command("create")
@click.argument("role")
@click.option(
    "--profile", help="What it is for: gives scopes and a life, such as observer or provider-agent."
)
@click.option("--sub", help="Whom it is for.  [default: the role]")
@click.option("--scope", multiple=True, help="What it may do, such as agent:read; repeatable.")
@click.option("--ttl", type=_Span(), help="How long it is good, such as 12h.")
@click.option("--agent", "agents", multiple=True, help="Only for this agent; repeatable.")
@click.option("--host", "orchestrators", multiple=True, help="Only for this host; repeatable.")
@click.option("--policy", "policies", multiple=True, help="Only for this policy; repeatable.")
@click.option("--channel", "channels", multiple=True, help="Only on this channel; repeatable.")
@click.option("--to", "targets", multiple=True, help="Only to this address; repeatable.")
@click.option("--workspace", "workspaces", multiple=True, help="Only for this workspace; repeatable.")
@click.option("--path", "paths", multiple=True, help="Only below this directory of hosts; repeatable.")
@target
def create(
    target: Target,
    role: str,
    profile: str | None,
    sub: str | None,
    scope: tuple[str, ...],
    ttl: int | None,
    as_json: bool,
    **kinds: tuple[str, ...],
) -> None:
    """Make a token for ROLE, and print it: this once, for relay does not keep it.

    \b
    relay tokens create observer --profile observer
    relay tokens create ci --scope message:send --to planner --ttl 30d
    """
    from relay import wire

    given = {kind: list(names) for kind, names in kinds.items() if names}
    asked = wire.NewToken(
        role=role,
        profile_id=profile,
        sub=sub,
        scope=list(scope) or None,
        ttl_seconds=ttl,
        constraints=wire.Constraints(**given) if given else None,
    )
    made = ask(target, lambda client: client.create_token(asked))
    if as_json:
        return show_json(wire.to_json(made))
    return say(made.token)


@tokens.command("revoke")
@click.argument("jti")
@target
def revoke(target: Target, jti: str, as_json: bool) -> None:
    """End the token JTI, and all that replaced each other with it, at once."""
    ask(target, lambda client: client.revoke_token(jti))
    if as_json:
        return show_json({"ok": True})
    return say(f"{jti} is revoked")


@tokens.command("rotate")
@target
def rotate(target: Target, as_json: bool) -> None:
    """Have another key sign tokens from now on; those that are signed stay good until they expire."""
    from relay import wire

    made = ask(target, lambda client: client.rotate_key())
    if as_json:
        return show_json(wire.to_json(made))
    return say(f"key {made.kid} signs now; {counted(len(made.retires), 'older key')} can still verify")


def _ends(token: wire.Token) -> str:
    if token.revoked_at is not None:
        return "replaced" if token.replaced_by else "revoked"
    if token.expires_at is None:
        return "never"
    return when(token.expires_at)


def _lines(token: wire.Token) -> list[str]:
    constraints = token.constraints
    kinds = {kind: getattr(constraints, kind, None) for kind in KINDS}
    return [
        f"{token.jti}  {token.profile_id or token.role}, for {token.sub}",
        f"ends: {_ends(token)}" + (f", replaced by {token.replaced_by}" if token.replaced_by else ""),
        f"made by {token.created_by or 'nobody known'}",
        f"scope: {', '.join(token.scope) or 'nothing'}",
        *(
            f"{KINDS[kind]}: {', '.join(names) or 'none'}"
            for kind, names in kinds.items()
            if names is not None
        ),
    ]
