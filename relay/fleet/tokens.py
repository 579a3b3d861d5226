"""Tokens: who may do what, for how long, and until when (messaging-control 18 and 22.12, agents-workspaces 15).

One actor, the authority, owns all records. What a token's text is it does not know: the edge signs what stands here.
They move by `MOVES`.

1. A token never has more than its maker, in scopes and in constraints, nor is there longer; but what a host gets for
   registering, and a runner for being started, is there for as long as they are. Who asks must have a token that stands when
   it is made, however early the request was let in.
2. Those that replaced each other are a family. A successor is stored and its predecessor ended in one transaction, so of
   several who ask with one token only one gets another. A revocation ends all of the family.
3. Who verified a token and remembers it is told of its end before anybody hears that it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Context, Step
from relay.store import Decision, Event, Write

from ._actor import FleetActor
from ._audit import Caller
from ._errors import Forbidden, NotFound
from ._moment import Moment
from ._runner_tokens import granted, host_of, host_with, startable
from ._token_notes import noted, rotated
from ._token_profiles import AGENT, INTERACTIVE, PROFILES
from ._token_protocol import (
    Create,
    MintForHost,
    MintForRunner,
    NoteRotation,
    Purge,
    Remint,
    Renew,
    Revoke,
    TokenProtocol,
)
from ._token_rows import (
    ended,
    find_token,
    get_token,
    inserted,
    list_tokens,
    live_in,
    live_of,
    newest,
    purged,
)
from ._token_rules import (
    LEEWAY,
    LIVE,
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
    "granted",
    "host_of",
    "host_with",
    "list_tokens",
    "newest",
    "startable",
    "within_reach",
]

KEPT = 2 * REMINT_WITHIN  # seconds that a record is kept when the token is of no more use
REGISTRATION = "registration"


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

    def moment(self) -> Moment:
        """Now, by the clock that tokens are held against: also when it was set back, and right."""
        return Moment.now(self.fleet.system, self.store)

    def started(self, context: Context[TokenProtocol]) -> None:
        """What an earlier life has ended, and had no time to say so."""
        self.fleet.revocations.tell(None)

    def handle(self, message: Any, context: Context[TokenProtocol]) -> Step:
        if not isinstance(message, Purge):
            self._must_stand(message.by)
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
        note = noted("create", f"a token was made for {token.sub}", token, moment, message.by)
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
        before = [each for each in live_of(self.store, token.sub) if each.created_by == REGISTRATION]
        note = noted("mint", f"host {host_id} received a token", token, moment, message.by)
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
        await self._put(token, (), noted("mint", title, token, moment, message.by, facts), moment, context)
        context.reply(message, token)

    async def _renew(self, message: Renew, context: Context[TokenProtocol]) -> None:
        moment = self.moment()
        before = self._shown(message.jti, "renew", moment)
        token = renewed(before, moment.new_id("tok"), moment.at)
        note = noted("renew", f"{token.sub} renewed its token", token, moment, message.by)
        await self._put(token, (before,), note, moment, context)
        context.reply(message, token)

    async def _remint(self, message: Remint, context: Context[TokenProtocol]) -> None:
        moment = self.moment()
        jti = newest(self.store, message.jti) if message.lost else message.jti
        before = self._shown(jti, "remint", moment)
        token = reminted(before, message.host_id, moment.new_id("tok"), moment.at)
        facts = {"orchestratorId": message.host_id}
        title = f"{token.sub} received a new token through its host"
        note = noted("remint", title, token, moment, message.by, facts)
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
        family = live_in(self.store, token.family)
        writes = tuple(ended(each, None, moment) for each in family)
        note, told = noted("revoke", f"the token of {token.sub} was revoked", token, moment, message.by)
        await self.commit(Decision(reply=None, writes=(*writes, note), events=(told,)), context)
        self.fleet.revocations.tell([each.jti for each in family])
        context.reply(message, None)

    async def _note_rotation(self, message: NoteRotation, context: Context[TokenProtocol]) -> None:
        note, told = rotated(message.kid, self.moment(), message.by)
        await self.commit(Decision(reply=None, writes=(note,), events=(told,)), context)
        context.reply(message, None)

    async def _purge(self, message: Purge, context: Context[TokenProtocol]) -> None:
        before = int(self.moment().at - self.fleet.absence.leapt()) - KEPT
        count, writes = purged(self.store, before)
        await self.commit(Decision(reply=None, writes=writes), context)
        context.reply(message, count)

    def _must_stand(self, by: Caller) -> None:
        """Whoever asks may have been let in before its token was ended here. Raises `Forbidden`."""
        token = find_token(self.store, by.jti) if by.jti is not None else None
        if by.jti is not None and (token is None or state_of(token, self.moment().at) != LIVE):
            raise Forbidden("the token that asks for this is not valid any more")

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
        ends = tuple(ended(each, token.jti, moment) for each in instead_of)
        write, told = note
        await self.commit(
            Decision(reply=None, writes=(inserted(token), *ends, write), events=(told,)), context
        )
        if instead_of:
            self.fleet.revocations.tell([each.jti for each in instead_of])


def _half_used(token: wire.Token, at: float) -> bool:
    return token.expires_at is not None and 2 * at > (token.created_at or 0.0) + token.expires_at
