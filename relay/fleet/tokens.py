"""Tokens: who may do what, for how long, and until when (messaging-control 18 and 22.12, agents-workspaces 15).

One actor, the authority, owns all records. What a token's text is it does not know: the edge signs what stands here. They move by `MOVES`.

1. A token never has more than its maker: scopes, constraints and time only narrow.
2. Those that replaced each other are a family. A successor is stored and its predecessor ended in one transaction, so of
   several who ask with one token only one gets another. A revocation ends all of the family.
3. Who verified a token and remembers it is told of its end before anybody hears that it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Ask, Context, Step
from relay.store import Decision, Event, Store, Write

from ._actor import FleetActor
from ._audit import Caller, audit
from ._errors import Forbidden, NotFound
from ._moment import Moment
from ._records import text_of
from ._runner_tokens import host_of, host_with, startable
from ._token_profiles import AGENT, INTERACTIVE, PROFILES
from ._token_rules import (
    LEEWAY,
    MOVES,
    REMINT_WITHIN,
    Held,
    created,
    excess,
    for_host,
    for_runner,
    reminted,
    renewed,
    state_of,
    within_reach,
)

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "LEEWAY",
    "PROFILES",
    "Authority",
    "Create",
    "Held",
    "MintForHost",
    "MintForRunner",
    "NoteRotation",
    "Purge",
    "Remint",
    "Renew",
    "Revocations",
    "Revoke",
    "TokenProtocol",
    "find_token",
    "get_token",
    "host_of",
    "host_with",
    "list_tokens",
    "newest",
    "startable",
    "within_reach",
]

INSERT = (
    "insert into tokens (jti, family, sub, role, expires_at, revoked_at, replaced_by, record, created_at)"
    " values (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
END = "update tokens set revoked_at = ?, replaced_by = ?, record = ? where jti = ? and revoked_at is null"
PURGE = "delete from tokens where expires_at < ?1 or revoked_at < ?1 * 1000"
KEPT = 2 * REMINT_WITHIN  # seconds that a record is kept when the token is of no more use
REGISTRATION = "registration"


class TokenProtocol:
    """What the authority understands."""


@attrs.frozen
class Create(Ask[TokenProtocol, wire.Token]):
    """A token that somebody asks for who has `held` (TOK-3)."""

    asked: wire.NewToken
    held: Held
    by: Caller


@attrs.frozen
class MintForHost(Ask[TokenProtocol, wire.Token | None]):
    """For a host that has registered, in place of what it got for that before. None when its caller has no more than half
    used up what it got, or could not give that much away."""

    host_id: str
    agent_id: str
    held: Held
    by: Caller


@attrs.frozen
class MintForRunner(Ask[TokenProtocol, wire.Token]):
    """For the runner of one agent: one that `host_id` is about to start, or a person at a terminal."""

    agent_id: str
    host_id: str | None
    policy: str | None
    held: Held
    by: Caller
    command_id: str | None = None


@attrs.frozen
class Renew(Ask[TokenProtocol, wire.Token]):
    """Replaces the token with this `jti`, for whoever has it."""

    jti: str
    by: Caller


@attrs.frozen
class Remint(Ask[TokenProtocol, wire.Token]):
    """Replaces the token of a runner of this host, also after its expiry (15.3). `lost`: it was replaced before, and the host
    vouches that the runner has never had what took its place; that is what is replaced then."""

    jti: str
    host_id: str
    by: Caller
    lost: bool = False


@attrs.frozen
class Revoke(Ask[TokenProtocol, None]):
    """Ends the token, and all of its family (TOK-5)."""

    jti: str
    held: Held
    by: Caller


@attrs.frozen
class NoteRotation(Ask[TokenProtocol, None]):
    """Another key signs from now on."""

    kid: str
    by: Caller


@attrs.frozen
class Purge(Ask[TokenProtocol, int]):
    """Forgets tokens that have been of no use for long; the answer is how many."""


class Revocations:
    """Whoever remembers verified tokens is told here which to forget; None stands for all."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Collection[str] | None], None]] = []

    def tell(self, jtis: Collection[str] | None) -> None:
        for listener in self.listeners:
            listener(jtis)


class Authority(FleetActor[TokenProtocol]):
    """Makes and ends tokens, one after the other."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)

    def started(self, context: Context[TokenProtocol]) -> None:
        """What an earlier life has ended, and had no time to say so."""
        self.fleet.revocations.tell(None)

    def handle(self, message: Any, context: Context[TokenProtocol]) -> Step:
        match message:
            case Create():
                return self._create(message, context)
            case MintForHost():
                return self._mint_for_host(message, context)
            case MintForRunner():
                return self._mint_for_runner(message, context)
            case Renew():
                return self._renew(message, context)
            case Remint():
                return self._remint(message, context)
            case Revoke():
                return self._revoke(message, context)
            case NoteRotation():
                return self._note_rotation(message, context)
            case Purge():
                return self._purge(message, context)
        return None

    async def _create(self, message: Create, context: Context[TokenProtocol]) -> None:
        moment = self.moment()
        token = created(message.asked, message.held, moment.new_id("tok"), moment.at, message.by.subject)
        note = _note("create", f"a token was made for {token.sub}", token, moment, message.by)
        await self._put(token, (), note, moment, context)
        context.reply(message, token)

    async def _mint_for_host(self, message: MintForHost, context: Context[TokenProtocol]) -> None:
        moment, host_id = self.moment(), message.host_id
        shown = find_token(self.store, message.held.jti) if message.held.jti is not None else None
        own = shown if shown is not None and shown.sub == f"orchestrator:{host_id}" else None
        if own is not None and own.created_by == REGISTRATION and not _half_used(own, moment.at):
            context.reply(message, None)
            return
        family = None if own is None else own.family
        token = for_host(host_id, message.agent_id, moment.new_id("tok"), family, moment.at)
        if excess(attrs.evolve(message.held, expires_at=None), token) is not None:
            context.reply(message, None)
            return
        before = [each for each in _live_of(self.store, token.sub) if each.created_by == REGISTRATION]
        note = _note("mint", f"host {host_id} received a token", token, moment, message.by)
        await self._put(token, before, note, moment, context)
        context.reply(message, token)

    async def _mint_for_runner(self, message: MintForRunner, context: Context[TokenProtocol]) -> None:
        moment = self.moment()
        token = for_runner(
            message.agent_id,
            held=message.held,
            host_id=message.host_id,
            policy=message.policy,
            profile_id=INTERACTIVE if message.command_id is None else AGENT,
            created_by=message.by.subject,
            jti=moment.new_id("tok"),
            at=moment.at,
        )
        facts = {"orchestratorId": message.host_id, "commandId": message.command_id}
        title = f"the runner of {message.agent_id} received a token"
        await self._put(token, (), _note("mint", title, token, moment, message.by, facts), moment, context)
        context.reply(message, token)

    async def _renew(self, message: Renew, context: Context[TokenProtocol]) -> None:
        moment = self.moment()
        before = self._shown(message.jti, "renew", moment)
        token = renewed(before, moment.new_id("tok"), moment.at)
        note = _note("renew", f"{token.sub} renewed its token", token, moment, message.by)
        await self._put(token, (before,), note, moment, context)
        context.reply(message, token)

    async def _remint(self, message: Remint, context: Context[TokenProtocol]) -> None:
        moment = self.moment()
        jti = newest(self.store, message.jti) if message.lost else message.jti
        before = self._shown(jti, "remint", moment)
        token = reminted(before, message.host_id, moment.new_id("tok"), moment.at)
        facts = {"orchestratorId": message.host_id}
        title = f"{token.sub} received a new token through its host"
        note = _note("remint", title, token, moment, message.by, facts)
        await self._put(token, (before,), note, moment, context)
        context.reply(message, token)

    async def _revoke(self, message: Revoke, context: Context[TokenProtocol]) -> None:
        moment, token = self.moment(), get_token(self.store, message.jti)
        if "revoke" not in MOVES[state_of(token, moment.at)]:
            by = token.replaced_by
            raise NotFound(
                f"the token was replaced by {by}; revoke that" if by else "the token was revoked before"
            )
        if (kind := within_reach(message.held, token)) is not None:
            raise Forbidden(
                f"constraints.{kind}: the token reaches further than the one that wants it revoked"
            )
        ended = _live_in(self.store, token.family)
        writes = tuple(_end(each, None, moment) for each in ended)
        note, told = _note("revoke", f"the token of {token.sub} was revoked", token, moment, message.by)
        await self.commit(Decision(reply=None, writes=(*writes, note), events=(told,)), context)
        self.fleet.revocations.tell([each.jti for each in ended])
        context.reply(message, None)

    async def _note_rotation(self, message: NoteRotation, context: Context[TokenProtocol]) -> None:
        moment = self.moment()
        note, told = audit(
            moment,
            f"server-token-key-{message.kid}-{moment.ms}",
            "another key signs tokens from now on",
            body=message.kid,
            icon="ti-key",
            view="security",
            metadata={"kid": message.kid},
            by=message.by,
        )
        await self.commit(Decision(reply=None, writes=(note,), events=(told,)), context)
        context.reply(message, None)

    async def _purge(self, message: Purge, context: Context[TokenProtocol]) -> None:
        before = int(self.moment().at) - KEPT
        useless = "select count(*) from tokens where expires_at < ?1 or revoked_at < ?1 * 1000"
        (count,) = self.store.row(useless, before) or (0,)
        await self.commit(Decision(reply=None, writes=(Write(PURGE, (before,)),) if count else ()), context)
        context.reply(message, count)

    def _shown(self, jti: str, event: str, moment: Moment) -> wire.Token:
        """The record of a token that somebody has shown. Raises `Forbidden`, if nothing can come of the event."""
        token = find_token(self.store, jti)
        if token is None or event not in MOVES[state_of(token, moment.at)]:
            raise Forbidden("the token is not valid, or was revoked")
        return token

    async def _put(
        self,
        token: wire.Token,
        instead_of: Collection[wire.Token],
        note: tuple[Write, Event],
        moment: Moment,
        context: Context[TokenProtocol],
    ) -> None:
        """Store it and end those that it replaces, together; then whoever remembers those forgets them."""
        ends = tuple(_end(each, token.jti, moment) for each in instead_of)
        write, told = note
        await self.commit(Decision(reply=None, writes=(_row(token), *ends, write), events=(told,)), context)
        if instead_of:
            self.fleet.revocations.tell([each.jti for each in instead_of])


def _half_used(token: wire.Token, at: float) -> bool:
    return token.expires_at is not None and 2 * at > (token.created_at or 0.0) + token.expires_at


def _row(token: wire.Token) -> Write:
    known = text_of(wire.to_json(token))
    created_at = round((token.created_at or 0.0) * 1000)
    return Write(
        INSERT,
        (token.jti, token.family, token.sub, token.role, token.expires_at, None, None, known, created_at),
    )


def _end(token: wire.Token, replaced_by: str | None, moment: Moment) -> Write:
    after = attrs.evolve(token, revoked_at=wire.Instant(moment.at), replaced_by=replaced_by)
    return Write(END, (moment.ms, replaced_by, text_of(wire.to_json(after)), token.jti), 1)


def _note(
    what: str,
    title: str,
    token: wire.Token,
    moment: Moment,
    by: Caller,
    facts: Mapping[str, str | None] | None = None,
) -> tuple[Write, Event]:
    """What is on record of it; never the token's text (W-I39)."""
    kind = "runner-token-remint" if what == "remint" else f"token-{what}"
    known = {**(facts or {}), "jti": token.jti, "sub": token.sub, "profileId": token.profile_id}
    return audit(
        moment,
        f"server-{kind}-{token.jti}-{moment.ms}",
        title,
        body=token.sub,
        meta=token.jti,
        icon="ti-key",
        view="security",
        metadata={name: value for name, value in known.items() if value is not None},
        by=by,
    )


def find_token(store: Store, jti: str) -> wire.Token | None:
    row = store.row("select record from tokens where jti = ?", jti)
    return wire.decode(wire.Token, row[0]) if row else None


def newest(store: Store, jti: str) -> str:
    """What has taken this token's place, after however many others; itself if nothing has."""
    while (found := find_token(store, jti)) is not None and found.replaced_by is not None:
        jti = found.replaced_by
    return jti


def get_token(store: Store, jti: str) -> wire.Token:
    """The record; raises `NotFound`."""
    token = find_token(store, jti)
    if token is None:
        raise NotFound("no such token")
    return token


def list_tokens(
    store: Store,
    *,
    sub: str | None = None,
    role: str | None = None,
    live: float | None = None,
    limit: int = 100,
) -> list[wire.Token]:
    """The newest first; with `live`, an instant, only those that are neither revoked nor expired then."""
    sql = (
        "select record from tokens where (?1 is null or sub = ?1) and (?2 is null or role = ?2)"
        " and (?3 is null or (revoked_at is null and (expires_at is null or expires_at > ?3)))"
        " order by created_at desc, jti desc limit ?4"
    )
    return [wire.decode(wire.Token, record) for (record,) in store.rows(sql, sub, role, live, limit)]


def _live_in(store: Store, family: str) -> list[wire.Token]:
    sql = "select record from tokens where family = ? and revoked_at is null"
    return [wire.decode(wire.Token, record) for (record,) in store.rows(sql, family)]


def _live_of(store: Store, sub: str) -> list[wire.Token]:
    sql = "select record from tokens where sub = ? and revoked_at is null"
    return [wire.decode(wire.Token, record) for (record,) in store.rows(sql, sub)]
