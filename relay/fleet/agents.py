"""Agents: who takes part, and who is still there.

One actor per id owns the agent's row: its card, its status, its session.

1. A registration inserts the card or refreshes what it names. Another instance takes the session over; from then on
   writes in the name of the former one are refused (O-08).
2. Registration, status and heartbeat are contact. Without contact an agent goes stale, then offline, by `LIVENESS`;
   the next contact restores the status it had. `user` and `system` are always there, and the identity of an
   orchestrator follows its host (O-10).
3. A heartbeat that changes nothing is not stored, but for `lastSeen` now and then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Ask, Context, Tell
from relay.store import Decision, Event, Store, Write

from ._actor import FleetActor
from ._audit import audit
from ._contact import Contact
from ._errors import Conflict, NotFound
from ._moment import Moment

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "Agent",
    "AgentProtocol",
    "Exited",
    "Follow",
    "Heartbeat",
    "Register",
    "Registered",
    "Remove",
    "SetLabel",
    "SetReady",
    "SetStatus",
    "SetTags",
    "find_agent",
    "get_agent",
    "list_agents",
]

ONLINE, IDLE, BUSY = wire.AgentStatus.ONLINE, wire.AgentStatus.IDLE, wire.AgentStatus.BUSY
STALE, OFFLINE = wire.AgentStatus.STALE, wire.AgentStatus.OFFLINE
LIVE = frozenset({ONLINE, IDLE, BUSY})

STALE_AFTER = 90.0  # seconds without contact
OFFLINE_AFTER = 180.0

LIVENESS: Mapping[wire.AgentStatus, Mapping[str, wire.AgentStatus]] = {
    ONLINE: {"quiet": STALE, "lost": OFFLINE},
    IDLE: {"quiet": STALE, "lost": OFFLINE},
    BUSY: {"quiet": STALE, "lost": OFFLINE},
    STALE: {"lost": OFFLINE},
    OFFLINE: {},
}
"""What silence does to a status (spec 22.10)."""

RESERVED = frozenset({"user", "system"})


class AgentProtocol:
    """What the actor of one agent understands."""


@attrs.frozen
class Registered:
    agent: wire.Agent
    new: bool


@attrs.frozen
class Register(Ask[AgentProtocol, Registered]):
    """Insert or refresh the card (AGT-1 to AGT-10)."""

    card: wire.RegisterAgent


@attrs.frozen
class SetStatus(Ask[AgentProtocol, wire.Agent]):
    """`instance` is the session guard; None is let through. So in all of these."""

    status: wire.AgentStatus
    instance: str | None = None


@attrs.frozen
class SetReady(Ask[AgentProtocol, wire.Agent]):
    ready: bool
    instance: str | None = None


@attrs.frozen
class Heartbeat(Ask[AgentProtocol, wire.Agent]):
    """`status` is what to come back to from stale or offline; `meta` is merged into the card's."""

    instance: str | None = None
    status: wire.AgentStatus | None = None
    meta: Mapping[str, Any] | None = None


@attrs.frozen
class SetLabel(Ask[AgentProtocol, wire.Agent]):
    label: str | None


@attrs.frozen
class SetTags(Ask[AgentProtocol, wire.Agent]):
    tags: list[str]


@attrs.frozen
class Remove(Ask[AgentProtocol, None]):
    """Forget the agent (AGT-18)."""


@attrs.frozen
class Exited(Ask[AgentProtocol, bool]):
    """A host reports that the agent's session ended; `succeeded` when another one of it already runs there.

    The answer says whether the report was news.
    """

    report: wire.ExitedAgent
    succeeded: bool = False


@attrs.frozen
class Follow(Tell[AgentProtocol]):
    """The host behind this identity came or went."""

    status: wire.AgentStatus


@attrs.frozen
class Silence(Tell[AgentProtocol]):
    """It is time to look how long there has been no contact."""


class Agent(FleetActor[AgentProtocol]):
    """The actor of one agent."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.card = find_agent(self.store, key)
        self._contact = Contact(fleet.system, (STALE_AFTER, OFFLINE_AFTER))

    def started(self, context: Context[AgentProtocol]) -> None:
        if self.card is not None and self.card.kind is wire.AgentKind.ORCHESTRATOR:
            context.self_ref.tell(Silence())
        self._watch(context)

    def handle(self, message: Any, context: Context[AgentProtocol]) -> None:
        if isinstance(message, Silence):
            self._look(message, context)
            return
        card, decision = decide(self.card, message, self.moment())
        if isinstance(message, Register | SetStatus | Heartbeat):
            self._contact.heard()
        if card is not None and card is not self.card and not decision.writes and self._contact.storable:
            decision = attrs.evolve(decision, writes=(_row(card),))
        if decision.writes:
            self._contact.stored()
        self.card = card
        self.settle(message, decision, context)
        self._watch(context)

    def _look(self, tick: Silence, context: Context[AgentProtocol]) -> None:
        quiet = self._contact.silence()
        if self.card is None:
            return
        if _watched(self.card):
            self.card, decision = silent(self.card, quiet, self.moment())
            self.settle(tick, decision, context)
        elif self.card.kind is wire.AgentKind.ORCHESTRATOR and not self._host_is_online():
            self.card, decision = decide(self.card, Follow(OFFLINE), self.moment())
            self.settle(tick, decision, context)
        self._watch(context)

    def _watch(self, context: Context[AgentProtocol]) -> None:
        watched = self.card is not None and _watched(self.card)
        self._contact.watch(context, Silence() if watched else None)

    def _host_is_online(self) -> bool:
        row = self.store.row("select 1 from orchestrators where agent_id = ? and status = 'online'", self.id)
        return row is not None


Outcome = tuple[wire.Agent | None, Decision[Any]]


def decide(card: wire.Agent | None, message: Any, moment: Moment) -> Outcome:
    """What `message` makes of the card, and what follows from it."""
    if isinstance(message, Register):
        return _register(card, message.card, moment)
    if card is None:
        if isinstance(message, Exited | Follow):
            return None, Decision(reply=False)
        raise NotFound("no such agent")
    match message:
        case SetStatus(status, instance):
            _guard(card, instance)
            return _set(card, attrs.evolve(_moved(card, status), last_seen=moment.at), moment)
        case SetReady(ready, instance):
            _guard(card, instance)
            return _set(card, attrs.evolve(card, ready=ready), moment)
        case Heartbeat():
            return _heartbeat(card, message, moment)
        case SetLabel(label):
            return _set_label(card, label, moment)
        case SetTags(tags):
            return _set_tags(card, tags, moment)
        case Remove():
            write = Write("delete from agents where id = ?", (card.id,), 1)
            event = Event("agent.removed", "server", card.id, {"agentId": card.id})
            return None, Decision(reply=None, writes=(write,), events=(event,))
        case Exited():
            return _exited(card, message, moment)
        case Follow(status):
            return _follow(card, status, moment)
    raise NotImplementedError(message)


def silent(card: wire.Agent, quiet: float, moment: Moment) -> Outcome:
    """What `quiet` seconds without contact make of the agent."""
    event = "lost" if quiet >= OFFLINE_AFTER else "quiet" if quiet >= STALE_AFTER else "contact"
    status = LIVENESS[card.status].get(event)
    if status is None:
        return card, Decision(reply=None)
    after = _moved(card, status)
    if status is not OFFLINE:
        return after, _announced(after, None)
    record = audit(
        moment,
        f"server-agent-{card.id}-heartbeat-lost-{moment.ms}",
        f"{_name(card)} lost its heartbeat",
        body="marked offline",
        meta=card.id,
        icon="ti-heart-off",
        view="chat",
        agent_id=card.id,
    )
    return after, _announced(after, None, record)


def _register(card: wire.Agent | None, asked: wire.RegisterAgent, moment: Moment) -> Outcome:
    if card is None:
        before = wire.Agent(id=asked.id, created_at=moment.at)
        status = ONLINE
    else:
        before = card
        taken_over = asked.instance_id is not None and asked.instance_id != card.instance_id
        status = ONLINE if taken_over else _alive(card)
        if taken_over:
            before = attrs.evolve(before, ready=False)
    named = attrs.asdict(asked, recurse=False, filter=lambda _, value: value is not None)
    del named["id"]
    after = _moved(attrs.evolve(before, **{**named, "status": before.status}), named.get("status", status))
    after = attrs.evolve(after, last_seen=moment.at)
    record = None if card is not None else _registered(after, moment)
    new = record is not None
    return after, _announced(after, Registered(after, new), *([record] if record else []))


def _heartbeat(card: wire.Agent, beat: Heartbeat, moment: Moment) -> Outcome:
    _guard(card, beat.instance)
    meta = {**card.meta, **beat.meta} if beat.meta else card.meta
    after = attrs.evolve(card, last_seen=moment.at, meta=meta)
    if card.status in LIVE:
        return after, Decision(reply=after)
    after = _moved(after, beat.status or _alive(card))
    return after, _announced(after, after)


def _set(card: wire.Agent, after: wire.Agent, moment: Moment) -> Outcome:
    """A status or ready flag was written: audited when it changed something (AGT-14)."""
    if (card.status, card.ready) == (after.status, after.ready):
        return after, _announced(after, after)
    readiness = "ready" if after.ready else "not ready"
    title = f"{_name(after)} is {after.status if after.status is not card.status else readiness}"
    client_id = f"server-agent-{card.id}-status-{moment.ms}"
    return after, _announced(after, after, audit(moment, client_id, title, meta=card.id, agent_id=card.id))


def _follow(card: wire.Agent, status: wire.AgentStatus, moment: Moment) -> Outcome:
    if card.status is status:
        return card, Decision(reply=None)
    return _set(card, _moved(card, status), moment)


def _set_label(card: wire.Agent, label: str | None, moment: Moment) -> Outcome:
    after = attrs.evolve(card, label=label)
    if label == card.label:
        return after, _announced(after, after)
    record = audit(
        moment,
        f"server-agent-{card.id}-label-{moment.ms}",
        f"{card.id} is labelled {label}" if label else f"{card.id} has no label any more",
        body=label or card.label or "",
        meta=card.id,
        icon="ti-tag",
        view="chat",
        agent_id=card.id,
        metadata={"field": "label", "previous": card.label, "next": label},
    )
    return after, _announced(after, after, record)


def _set_tags(card: wire.Agent, tags: list[str], moment: Moment) -> Outcome:
    after = attrs.evolve(card, tags=tags)
    if tags == card.tags:
        return after, _announced(after, after)
    record = audit(
        moment,
        f"server-agent-{card.id}-tags-{moment.ms}",
        f"{_name(card)} has other tags",
        body=", ".join(tags),
        meta=card.id,
        icon="ti-tags",
        view="chat",
        agent_id=card.id,
        metadata={"field": "tags", "previous": card.tags, "next": tags},
    )
    return after, _announced(after, after, record)


def _exited(card: wire.Agent, message: Exited, moment: Moment) -> Outcome:
    report = message.report
    if not _same_session(card, report):
        return card, Decision(reply=False)
    after = card if message.succeeded else _moved(card, OFFLINE)
    ended = report.detected_at or report.started_at
    how = f"signal {report.signal}" if report.signal else f"exit code {report.exit_code}"
    record = audit(
        moment,
        f"server-agent-{card.id}-exited-{round(ended * 1000) if ended else moment.ms}",
        f"the session of {_name(card)} ended",
        body=report.last_error or how,
        meta=card.id,
        icon="ti-plug-x",
        view="agents",
        agent_id=card.id,
        metadata=wire.to_json(report),
    )
    if after is card:
        return card, Decision(reply=True, writes=(record[0],), events=(record[1],))
    return after, _announced(after, True, record)


def _same_session(card: wire.Agent, report: wire.ExitedAgent) -> bool:
    """Whether what ended is what the card describes, and not what ran before it. Both clocks are the host's."""
    request = card.meta.get("spawnRequestId")
    if report.spawn_request_id and request and report.spawn_request_id != request:
        return False
    began = card.meta.get("startedAt")
    return not (report.detected_at and isinstance(began, int | float) and began / 1000 > report.detected_at)


def _registered(card: wire.Agent, moment: Moment) -> tuple[Write, Event]:
    client_id = f"server-agent-{card.id}-registered-{moment.ms}"
    return audit(moment, client_id, f"{_name(card)} registered", meta=card.id, agent_id=card.id)


def _guard(card: wire.Agent, instance: str | None) -> None:
    if instance is not None and card.instance_id is not None and instance != card.instance_id:
        raise Conflict("the agent is bound to another session")


def _moved(card: wire.Agent, status: wire.AgentStatus) -> wire.Agent:
    live = status if status in LIVE else card.last_live_status
    return attrs.evolve(card, status=status, last_live_status=live)


def _alive(card: wire.Agent) -> wire.AgentStatus:
    """The status to be in after contact."""
    return card.status if card.status in LIVE else card.last_live_status or ONLINE


def _announced(card: wire.Agent, reply: Any, *records: tuple[Write, Event]) -> Decision[Any]:
    """The card is stored and everybody hears of it."""
    event = Event("agent.status", "server", card.id, wire.to_json(card))
    return Decision(
        reply=reply,
        writes=(_row(card), *(write for write, _ in records)),
        events=(event, *(event for _, event in records)),
    )


def _row(card: wire.Agent) -> Write:
    seen = round((card.last_seen or card.created_at or 0.0) * 1000)
    values = (card.id, card.status, card.kind, card.label, wire.encode(card).decode(), seen)
    return Write(
        "insert into agents (id, status, kind, label, record, updated_at) values (?, ?, ?, ?, ?, ?)"
        " on conflict (id) do update set status = excluded.status, kind = excluded.kind, label = excluded.label,"
        " record = excluded.record, updated_at = excluded.updated_at",
        values,
    )


def _watched(card: wire.Agent) -> bool:
    """Whether silence means anything."""
    follows = card.id in RESERVED or card.kind is wire.AgentKind.ORCHESTRATOR
    return not follows and card.status is not OFFLINE


def _name(card: wire.Agent) -> str:
    return card.label or card.id


def find_agent(store: Store, key: str) -> wire.Agent | None:
    row = store.row("select record from agents where id = ?", key)
    return wire.decode(wire.Agent, row[0]) if row else None


def get_agent(store: Store, key: str) -> wire.Agent:
    """The agent; raises `NotFound`."""
    agent = find_agent(store, key)
    if agent is None:
        raise NotFound("no such agent")
    return agent


def list_agents(
    store: Store, *, status: wire.AgentStatus | None = None, kind: wire.AgentKind | None = None
) -> list[wire.Agent]:
    """Agents in the order of their ids."""
    sql = "select record from agents where (?1 is null or status = ?1) and (?2 is null or kind = ?2) order by id"
    return [wire.decode(wire.Agent, record) for (record,) in store.rows(sql, status, kind)]
