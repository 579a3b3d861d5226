"""What the frames of a client ask for, each with the scope that it needs. They are the HTTP routes' own deeds.

A deed does a frame for somebody and gives one outcome for each thing that was asked for, in the same order:
`{ok, status, …}`, where `status` is what the HTTP API would answer (COM-2).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import attrs
import orjson
import trio

from relay import wire
from relay.actors import Refusal
from relay.fleet import Fleet, Forbidden, Invalid, agents, bus_sessions, commands, deliveries, messages, tasks
from relay.http.auth import Principal
from relay.http.errors import answer_to
from relay.http.reach import about, channel_of, policy_named, reads, refers, takes
from relay.wire import bus

__all__ = ["DEEDS", "Client", "Outcome", "failed", "say_still_there", "send"]

Outcome = Mapping[str, Any]
T = TypeVar("T")


@attrs.define
class Client:
    """Who is at the other end of a connection. `within`: seconds that relay gives itself to do a frame; `confirmed`: the
    last event that the client has worked off, as far as this connection knows."""

    fleet: Fleet
    principal: Principal
    role: bus.Role
    component_id: str
    agent_id: str | None
    instance_id: str | None
    within: float
    confirmed: int = 0

    @property
    def place(self) -> str:
        """By what its place in the log is known. A component is one of its agent's: nobody else goes on from there."""
        return self.component_id if self.agent_id is None else f"{self.agent_id}/{self.component_id}"

    def need(self, scope: str) -> None:
        if not self.principal.may(scope):
            raise Forbidden("forbidden")

    def reach(self, target: str | None, channel: str | None) -> None:
        """As for HTTP: an integration reaches only whom it is configured for."""
        if self.principal.integration is not None:
            self.fleet.integrations.permit(self.principal.integration, target, channel)

    def may_say(self, meta: Mapping[str, Any] | None) -> None:
        """Of its own agent, whatever policy that is to be of."""
        if not self.principal.reaches(policy=policy_named(meta)):
            raise Forbidden("meta.policyName: this token is not for that policy")

    def agent(self, named: str | None) -> str:
        """The agent that a frame is about."""
        if (found := self.agent_if_any(named)) is None:
            raise Invalid("agentId: is required, for this connection has no agent of its own")
        return found

    def agent_if_any(self, named: str | None) -> str | None:
        """The agent that a frame names, or else that of the connection."""
        if named not in (None, self.agent_id) and not self.principal.may_be(named, self.agent_id):
            raise Forbidden(f"agentId: this connection does not speak for {named}")
        return named or self.agent_id


Deed = Callable[[Client, Any], Awaitable[Sequence[Outcome]]]


async def heartbeat(client: Client, frame: bus.Heartbeat) -> Sequence[Outcome]:
    if client.agent_id is not None:
        client.may_say(frame.meta)
        beat = agents.Heartbeat(client.instance_id, frame.status, frame.meta)
        await client.fleet.agents[client.agent_id].ask(beat)
    await client.fleet.bus_sessions.send(bus_sessions.Acknowledged(client.place, client.confirmed))
    return (done(),)


async def status(client: Client, frame: bus.Status) -> Sequence[Outcome]:
    client.may_say(frame.meta)
    update = agents.Update(frame.agent_status, frame.ready, frame.meta, client.instance_id)
    agent = await client.fleet.agents[client.agent(None)].ask(update)
    return (done(agent=agent),)


async def say_still_there(client: Client) -> None:
    """A client that says anything is there (O-10)."""
    await heartbeat(client, bus.Heartbeat())


async def update_command(client: Client, frame: bus.CommandUpdate) -> Sequence[Outcome]:
    target = commands.get_command(client.fleet.store, frame.command_id).target
    if not takes(client.fleet.store, client.principal, target):
        raise Forbidden("commandId: this token is not for commands of its target")
    change = wire.PatchCommand(status=frame.status, result=frame.result, error=frame.error, token=frame.token)
    command = await client.fleet.commands[frame.command_id].ask(commands.Patch(change))
    return (done(command=command),)


async def send(client: Client, frames: Sequence[bus.Send]) -> list[Sequence[Outcome]]:
    """All messages of several frames in one transaction; those that are not well formed do not hinder the others."""
    read = [[_message(client, item) for item in frame.messages] for frame in frames]
    sound = tuple(item for items in read for item in items if isinstance(item, wire.SendMessage))
    sent: Iterable[messages.Sent | Refusal] = ()
    if sound:
        with trio.fail_after(client.within):
            sent = await client.fleet.post_office.ask(messages.SendMany(sound))
    answers = iter(sent)
    return [
        [_sent(next(answers)) if isinstance(item, wire.SendMessage) else failed(item) for item in items]
        for items in read
    ]


def _message(client: Client, item: Any) -> wire.SendMessage | wire.Invalid | Refusal:
    try:
        message = wire.decode(wire.SendMessage, item)
    except wire.Invalid as error:
        return error
    if not client.principal.may_be(message.from_, client.agent_id):
        return Forbidden(f"from: this connection does not send as {message.from_}")
    if not client.principal.reaches(target=message.to or "", channel=channel_of(message)):
        return Forbidden("to: this token does not send there")
    try:
        client.reach(message.to, message.channel)
        refers(client.fleet.store, client.principal, message.reply_to, message.payload)
    except Refusal as no:
        return no
    return message


def _sent(answer: messages.Sent | Refusal) -> Outcome:
    if isinstance(answer, Refusal):
        return failed(answer)
    return done(201 if answer.new else 200, message=orjson.Fragment(answer.text))


async def claim(client: Client, frame: bus.Claim) -> Sequence[Outcome]:
    agent = client.agent(frame.agent_id)
    return await _each(client, (messages.Claim(number, agent) for number in frame.message_ids))


async def renew(client: Client, frame: bus.Renew) -> Sequence[Outcome]:
    agent = client.agent(frame.agent_id)
    return await _each(client, (messages.Renew(number, agent) for number in frame.message_ids))


async def read(client: Client, frame: bus.Read) -> Sequence[Outcome]:
    agent = client.agent(frame.agent_id)
    if client.principal.constraints.agents is not None:
        for number in frame.message_ids:
            reads(client.fleet.store, client.principal, number)
    return await _each(client, (messages.MarkRead(number, agent) for number in frame.message_ids))


async def update_task(client: Client, frame: bus.TaskUpdate) -> Sequence[Outcome]:
    about(client.principal, client.agent_if_any(frame.agent_id), "agentId")
    asked = wire.SetTaskStatus(
        status=frame.status,
        agent_id=client.agent_if_any(frame.agent_id),
        body=frame.body,
        metadata=frame.metadata,
    )
    task = await client.fleet.post_office.ask(tasks.SetTaskStatus(frame.task_id, asked))
    return (done(task=task),)


async def take(client: Client, frame: bus.DeliveryTake) -> Sequence[Outcome]:
    asked = deliveries.Take(
        instance=client.instance_id,
        limit=frame.limit,
        most_bytes=frame.bytes_,
        holding=None if frame.holding is None else frozenset(frame.holding),
    )
    handed = await client.fleet.deliveries[client.agent(None)].ask(asked)
    return tuple(done(delivery=wire.to_json(each)) for each in handed.deliveries)


async def settle(client: Client, frame: bus.DeliveryAck) -> Sequence[Outcome]:
    agent = client.agent(None)
    results = await client.fleet.deliveries[agent].ask(deliveries.Ack(tuple(frame.acks)))
    return tuple(_settled(each) for each in results)


def _settled(result: wire.AckResult) -> Outcome:
    status = 200 if result.ok else 404 if result.error == "unknown" else 409
    return {**wire.to_json(result), "status": status}


async def acknowledge(client: Client, frame: bus.Ack) -> Sequence[Outcome]:
    if frame.event_id > client.fleet.events.last_id:
        raise Invalid("eventId: there is no such event yet")
    client.confirmed = max(client.confirmed, frame.event_id)
    await client.fleet.bus_sessions.send(bus_sessions.Acknowledged(client.place, client.confirmed))
    return (done(),)


DEEDS: Mapping[type[Any], tuple[str, Deed]] = {
    bus.Heartbeat: ("event:read", heartbeat),  # of its own agent: the hello needed more
    bus.Status: ("agent:write", status),
    bus.CommandUpdate: ("command:write", update_command),
    bus.Claim: ("message:read", claim),
    bus.Renew: ("message:read", renew),
    bus.Read: ("message:read", read),
    bus.TaskUpdate: ("task:write", update_task),
    bus.DeliveryTake: ("message:read", take),
    bus.DeliveryAck: ("message:read", settle),
    bus.Ack: ("event:read", acknowledge),
}


def done(status: int = 200, **members: Any) -> Outcome:
    return {"ok": True, "status": status, **members}


def failed(error: Exception) -> Outcome:
    answer = answer_to(error)
    return {"ok": False, "status": answer.status, "error": orjson.loads(answer.body)["error"]}


async def _each(client: Client, asked: Iterable[Any]) -> Sequence[Outcome]:
    """Asks the post office for all at once: so they share its commits."""
    found: dict[int, Outcome] = {}

    async def ask(place: int, question: Any) -> None:
        found[place] = await _outcome(partial(client.fleet.post_office.ask, question))

    async with trio.open_nursery() as nursery:
        for place, question in enumerate(asked):
            nursery.start_soon(ask, place, question)
    return [found[place] for place in range(len(found))]


async def _outcome(act: Callable[[], Awaitable[Any]]) -> Outcome:
    try:
        value = await act()
    except Exception as error:  # noqa: BLE001 - every failure becomes an answer
        return failed(error)
    return done(**cast("dict[str, Any]", wire.to_json(value) if value is not None else {}))
