"""Channels: what comes in from outside, and whom it goes to.

One actor, the switchboard, owns the bindings of all channels and with them the slots of pools. Rules:

1. A channel has one exclusive binding, or any number of broadcast ones: a new exclusive binding replaces all others, a
   broadcast one the exclusive one (O-30). The same binding made again is the one there is.
2. The slots of pools are evaluated when bindings or agents change, before an event or a target is resolved, when
   maintenance asks, and at the start. Every change is announced (O-32, H-05).
3. An event becomes one message per binding. All addresses are known before anything is stored, and then all messages
   are stored at once (H-04). Nothing else is done meanwhile, so a binding that was taken away gets nothing any more.
4. An event with a key names the same messages as long as they are kept, wherever its bindings lead by now (M-I36).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import orjson
import trio

from relay import wire
from relay.actors import ActorError, Bounds, Context, Step
from relay.store import Decision, Event, Store, Write

from ._actor import FleetActor
from ._audit import audit
from ._bindings import address_of, change, delete, insert, list_bindings, target_of
from ._channel_cards import find_channel, get_channel, list_channels
from ._channel_protocol import (
    Bind,
    Bound,
    Inbound,
    Reconsider,
    Reevaluate,
    Resolved,
    ResolveTarget,
    Switching,
    Unbind,
    Unresolvable,
)
from ._errors import Conflict, Invalid, NotFound
from ._letters import joined
from ._pool_rules import concerns, evaluate
from ._records import find_activity
from .agents import find_agent
from .messages import SendMany, Sent

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "MOST_BINDINGS",
    "SWITCHBOARD",
    "Bind",
    "Bound",
    "Inbound",
    "Reconsider",
    "Reevaluate",
    "ResolveTarget",
    "Resolved",
    "Switchboard",
    "Switching",
    "Unbind",
    "Unresolvable",
    "find_channel",
    "get_channel",
    "list_bindings",
    "list_channels",
    "target_of",
]

MOST_BINDINGS = 100  # of one channel: an event makes so many messages at once
STORE_WITHIN = 20.0  # seconds for the post office
LONGEST_KEY = 240
LONGEST_NOTE = 4_000  # characters of an event that its activity record repeats

EXCLUSIVE = wire.BindingMode.EXCLUSIVE
EARLIER = "select address from messages where sender = ? and idempotency_key = ?"
CANDIDATES = (
    "select id, status from agents where kind = 'provider' and status in ('idle', 'online', 'busy')"
    " and instr(record, ?) > 0"
)


class Switchboard(FleetActor[Switching]):
    """The one actor for the bindings of all channels."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self._bindings = {binding.id: binding for binding in list_bindings(self.store)}

    def started(self, context: Context[Switching]) -> None:
        context.self_ref.tell(Reconsider())

    def handle(self, message: Any, context: Context[Switching]) -> Step:
        match message:
            case Bind(asked):
                self._bind(message, asked, context)
            case Unbind(binding_id):
                self._unbind(message, binding_id, context)
            case Reconsider(agent_id):
                self._reconsider(message, agent_id, context)
            case Reevaluate():
                self.settle(message, self._evaluate(), context)
            case Inbound(channel_id, event):
                return self._take_in(message, channel_id, event, context)
            case ResolveTarget(channel_id):
                return self._resolve(message, channel_id, context)
        return None

    def _bind(self, message: Bind, asked: wire.NewBinding, context: Context[Switching]) -> None:
        channel = get_channel(self.store, asked.channel_id)
        target = target_of(asked)
        before = self._of(channel.id)
        same = next((each for each in before if (each.target, each.mode) == (target, asked.mode)), None)
        if same is not None:
            self.settle(message, Decision(reply=Bound(same, new=False)), context)
            return
        gone = [each for each in before if EXCLUSIVE in (asked.mode, each.mode)]
        if len(before) - len(gone) >= MOST_BINDINGS:
            raise Conflict(f"a channel has at most {MOST_BINDINGS} bindings; delete one first")
        self._replace(message, gone, self._made(channel, target, asked.mode), context)

    def _made(
        self, channel: wire.Channel, target: wire.BindingTarget, mode: wire.BindingMode
    ) -> wire.Binding:
        moment = self.moment()
        key = moment.new_id("bnd")
        return wire.Binding(id=key, channel_id=channel.id, target=target, mode=mode, created_at=moment.at)

    def _replace(
        self, message: Bind, gone: list[wire.Binding], made: wire.Binding, context: Context[Switching]
    ) -> None:
        for each in gone:
            del self._bindings[each.id]
        self._bindings[made.id] = made
        rows = (*map(delete, gone), insert(made, self.store.next_id("bindings")))
        slots = self._evaluate()
        reply = Bound(self._bindings[made.id], new=True)
        self.settle(message, joined(reply, Decision(reply=None, writes=rows), slots), context)

    def _unbind(self, message: Unbind, binding_id: str, context: Context[Switching]) -> None:
        gone = self._bindings.pop(binding_id, None)
        if gone is None:
            raise NotFound("no such binding")
        row: Decision[None] = Decision(reply=None, writes=(delete(gone),))
        self.settle(message, joined(None, row, self._evaluate()), context)

    def _reconsider(self, message: Reconsider, agent_id: str | None, context: Context[Switching]) -> None:
        slots = self._slots()
        if not slots:
            return
        if agent_id is None or concerns(slots, agent_id, find_agent(self.store, agent_id)):
            self.settle(message, self._evaluate(), context)

    def _evaluate(self) -> Decision[tuple[wire.SlotChange, ...]]:
        """What changes among the slots. It counts from now on, and is to be staged at once."""
        slots = self._slots()
        changes = evaluate(slots, partial(find_agent, self.store), partial(_candidates, self.store))
        rows: list[Write] = []
        events: list[Event] = []
        for each in changes:
            binding = attrs.evolve(self._bindings[each.binding_id], pool_agent_id=each.new_agent_id)
            self._bindings[binding.id] = binding
            row, event = change(binding, each)
            rows.append(row)
            events.append(event)
        return Decision(reply=tuple(changes), writes=tuple(rows), events=tuple(events))

    async def _take_in(
        self, message: Inbound, channel_id: str, event: wire.ChannelEvent, context: Context[Switching]
    ) -> None:
        channel = get_channel(self.store, channel_id)
        if not self._of(channel.id):
            raise Conflict(f"channel {channel.id} is bound to nobody")
        await self.commit(self._evaluate(), context)
        letters = tuple(self._letter(channel, binding, event) for binding in self._of(channel.id))
        batch = SendMany(letters, together=True, even_offline=True, audited=False)
        try:
            with trio.fail_after(STORE_WITHIN):
                answers = await self.fleet.post_office.ask(batch)
        except (ActorError, trio.TooSlowError) as failure:  # the post office's, not this actor's
            context.defer(message).fail(failure)
            return
        sent = tuple(each for each in answers if isinstance(each, Sent))
        try:
            await self.commit(self._noted(channel, event, sent), context)
        finally:  # the messages are stored, whatever becomes of the note
            new = sum(each.new for each in sent)
            context.reply(message, wire.FannedOut(messages=[each.message for each in sent], created=new))

    def _letter(
        self, channel: wire.Channel, binding: wire.Binding, event: wire.ChannelEvent
    ) -> wire.SendMessage:
        """What goes to one binding (CHN-12). A repeat goes where the first one went."""
        key = scoped(event.idempotency_key, binding)
        earlier = self.store.row(EARLIER, channel.agent_id, key) if key is not None else None
        return wire.SendMessage(
            from_=channel.agent_id,
            to=earlier[0] if earlier is not None else address_of(binding),
            kind=wire.MessageKind.CHANNEL_EVENT,
            subject=event.subject,
            body=event.body,
            payload=event.payload,
            channel=channel.id,
            claimable=False,
            idempotency_key=key,
        )

    def _noted(
        self, channel: wire.Channel, event: wire.ChannelEvent, sent: tuple[Sent, ...]
    ) -> Decision[None]:
        """One activity record per event (CHN-3). A repeat writes it only if a crash kept the first one from it."""
        new = [each.message.id for each in sent if each.new]
        first = (new or [each.message.id for each in sent])[0]
        client_id = f"server-channel-event-{first}"
        if not new and find_activity(self.store, client_id) is not None:
            return Decision(reply=None)
        write, created = audit(
            self.moment(),
            client_id,
            f"{channel.label or channel.id}: {event.subject or 'an event'}",
            kind=wire.ActivityKind.MESSAGE,
            body=event.body[:LONGEST_NOTE],
            meta=channel.id,
            icon="ti-broadcast",
            view="messages",
            agent_id=channel.agent_id,
            message_id=first,
            metadata={"channelId": channel.id, "messageIds": new},
        )
        told = Event("channel.activity", "server", None, created.data)
        return Decision(reply=None, writes=(write,), events=(created, told))

    async def _resolve(self, message: ResolveTarget, channel_id: str, context: Context[Switching]) -> None:
        """The steps of 9.3, in their order."""
        await self.commit(self._evaluate(), context)
        if find_channel(self.store, channel_id) is None:
            raise Unresolvable(f"channel:{channel_id}: no such channel")
        bindings = self._of(channel_id)
        if len(bindings) != 1:
            raise Unresolvable(f"channel:{channel_id} has {len(bindings)} bindings; work needs exactly one")
        try:
            address = address_of(bindings[0])
        except Invalid as refusal:
            raise Unresolvable(f"channel:{channel_id}: {refusal}") from None
        if not address.startswith("policy:") and find_agent(self.store, address) is None:
            raise Unresolvable(f"channel:{channel_id} leads to {address}, which is no agent and no policy")
        context.reply(message, Resolved(address, channel_id, bindings[0].id))

    def _of(self, channel_id: str) -> list[wire.Binding]:
        return [binding for binding in self._bindings.values() if binding.channel_id == channel_id]

    def _slots(self) -> list[wire.Binding]:
        return [each for each in self._bindings.values() if each.target.type is wire.TargetType.POOL]


def scoped(key: str | None, binding: wire.Binding) -> str | None:
    """The key of one binding's message (O-31)."""
    if key is None:
        return None
    whole = f"{key}:{binding.id}"
    if wire.length(whole) > LONGEST_KEY:
        raise Invalid(f"idempotencyKey: longer than {LONGEST_KEY - 1 - len(binding.id)} characters")
    return whole


def _latest_only(message: Any) -> str | None:
    """Of the changes of one agent that wait in the mailbox, the last is enough."""
    return f"agent {message.agent_id}" if isinstance(message, Reconsider) else None


SWITCHBOARD = Bounds(capacity=10_000, coalesce=_latest_only)
"""The mailbox of the switchboard: many agents may change at once. What is too much, maintenance makes up for."""


def _candidates(store: Store, pool: str) -> list[tuple[str, wire.AgentStatus]]:
    """Those that may be in the pool: their cards have its name somewhere, written as it is here."""
    rows = store.rows(CANDIDATES, orjson.dumps(pool).decode())
    return [(name, wire.AgentStatus(status)) for name, status in rows]
