"""The life of one connection of the bus.

| state | what happens | next | the client is told |
|---|---|---|---|
| new | hello | ready | `welcome` |
| new | hello that is refused | new | `error` |
| new | hello without a valid token | ended | `error` unauthorized, close 4401 |
| new | any other frame | new | `error` invalid |
| new | 10 s have passed | ended | close 4408 |
| ready | frame | ready | what it asks for, and `result` if it has an id |
| ready | hello | ready | `error` conflict |
| ready | events | ready | `event`, `message.new`, `command`, or `events` with several of them |
| ready | a newer connection of the agent | ended | `error` superseded, close 4409 |
| ready | another session of the agent has registered | ended | `error` instance_mismatch, close 4409 |
| ready | the agent was deleted | ended | `error` not_found, close 4404 |
| ready | 90 s without a frame | ended | close 4408 |
| any | malformed frame | the same | `error` malformed, unknown_type or invalid |
| any | the fifth malformed one within 60 s | ended | close 4400 |
| any | frame of more than 1 MiB | ended | `error` too_large, close 1009 |
| any | the server stops | ended | close 1001 |
| any | the client goes, or takes nothing for too long | ended | |

One task reads and does what is asked, in order; it reads on only when the client has taken the answers, so a client that
does not listen is not listened to. Another is a cursor on the log and tells events (`relay.http.feed`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio

from relay import wire
from relay.fleet import Conflict, Forbidden, NotFound, agents, bus_sessions
from relay.http.auth import Principal
from relay.http.errors import answer_to
from relay.http.feed import Feed, Matcher, everything
from relay.wire import bus

from . import ends
from .deeds import DEEDS, Client, Outcome, failed, say_still_there, send
from .ends import End, Ended
from .frames import Bad, Frame, grouped, parse
from .socket import Gone, Socket, TooLarge
from .telling import frames

if TYPE_CHECKING:
    from ._bus import Bus

__all__ = ["Connection"]

HELLO_WITHIN = 10.0  # seconds
SILENCE = 90.0  # seconds without a frame until the client counts as lost
CONTACT = 20.0  # seconds after which any frame is told to the agent as a sign of life
STRIKES = 5  # malformed frames
STRIKES_WITHIN = 60.0  # seconds
MOST_FRAMES = 32  # read before they are done

CODES = {
    400: "invalid",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    422: "invalid",
    503: "overloaded",
}
"""What an HTTP status is called in an error frame."""


class Connection:
    """One client. `agent_id` is its agent, once it has said hello and if it has one."""

    def __init__(self, bus: Bus, socket: Socket, principal: Principal | None) -> None:
        self._bus = bus
        self._fleet = bus.fleet
        self._socket = socket
        self._principal = principal
        self.agent_id: str | None = None
        self._strikes: deque[float] = deque(maxlen=STRIKES)
        self._contact_at = 0.0
        self._scope = trio.CancelScope()
        self._end: End | None = None

    def end(self, end: End) -> None:
        """Have the connection end soon. Only the first reason counts."""
        self._end = self._end or end
        self._scope.cancel()

    async def run(self) -> None:
        """Returns when the connection has ended."""
        await self._socket.accept()
        with self._scope:
            async with trio.open_nursery() as nursery:
                try:
                    client, feed = await self._greeted()
                    nursery.start_soon(self._tell_events, feed, client.role is not bus.Role.DASHBOARD)
                    await self._listen(client)
                except Ended as ended:
                    self.end(ended.end)
        end = self._end or ends.GOING_AWAY
        if end is not ends.GONE:
            if end.error is not None:
                await self._tell_error(end.error, end.reason)
            await self._socket.close(end.close, end.reason)

    # -- the state `new`

    async def _greeted(self) -> tuple[Client, Feed]:
        with trio.move_on_after(HELLO_WITHIN):
            while True:
                frame = parse(await self._receive())
                if isinstance(frame, bus.Hello):
                    try:
                        return await self._begin(frame)
                    except Ended:
                        raise
                    except Exception as error:  # noqa: BLE001 - it is answered, as in HTTP
                        await self._tell_failure(failed(error))
                elif isinstance(frame, Bad):
                    await self._strike(frame)
                else:
                    await self._strike(Bad("invalid", "the first frame must be a hello", frame.id))
        raise Ended(ends.NO_HELLO)

    async def _begin(self, hello: bus.Hello) -> tuple[Client, Feed]:
        """The place in the log is taken before the agent is registered: what its registration sets free is told (M-240)."""
        client = self._identified(hello)
        log = self._fleet.events
        now = log.last_id
        begin = bus_sessions.Begin(client.component_id, client.agent_id, hello.after, now)
        after = await self._fleet.bus_sessions.ask(begin)
        if client.agent_id is not None:
            await self._fleet.agents[client.agent_id].ask(agents.Register(_card(hello, client.agent_id)))
            self.agent_id = client.agent_id
            self._bus.take_over(client.agent_id, self)
        place = now if after is None else after
        feed = Feed(log, self._matcher(client, place), place)
        lost = feed.start_over() if feed.lost else None
        welcome = {
            "type": "welcome",
            "protocol": bus.PROTOCOL,
            "sessionId": self._fleet.system.new_id("bus"),
            "agentId": client.agent_id,
            "lastEventId": feed.cursor,
            "heartbeatMs": round(bus.HEARTBEAT * 1000),
            "serverTime": round(self._fleet.system.wall() * 1000),
            "resumed": after is not None and lost is None,
            "reset": True if lost is not None else None,
        }
        await self._tell({name: value for name, value in welcome.items() if value is not None})
        return client, feed

    def _identified(self, hello: bus.Hello) -> Client:
        principal = self._bus.principal(hello.token) if hello.token is not None else self._principal
        if principal is None:
            raise Ended(ends.UNAUTHORIZED)
        agent_id = hello.agent_id if hello.role.kind is not None else None
        if hello.role.kind is not None and agent_id is None:
            raise wire.Invalid([f"agentId: is required for a {hello.role}"])
        if not principal.may("event:read") or not (agent_id is None or principal.may("agent:write")):
            raise Forbidden("forbidden")
        within = self._bus.answer_within
        return Client(
            self._fleet, principal, hello.role, hello.component_id, agent_id, hello.instance_id, within
        )

    def _matcher(self, client: Client, place: int) -> Matcher:
        """What the client is told (BUS-8)."""
        if client.agent_id is None:
            return everything
        if client.role is bus.Role.ORCHESTRATOR:
            return self._fleet.orders(client.agent_id)
        return self._fleet.matcher(client.agent_id, place)

    # -- the state `ready`

    async def _listen(self, client: Client) -> None:
        self._contact_at = trio.current_time() + CONTACT
        while True:
            for group in grouped(await self._some()):
                if isinstance(group, list):
                    await self._send(client, group)
                elif isinstance(group, Bad):
                    await self._strike(group)
                else:
                    await self._do(client, group)
            await self._be_there(client)

    async def _some(self) -> list[str | None]:
        """The frames that are here, at least one."""
        with trio.move_on_after(SILENCE) as silence:
            texts = [await self._receive()]
        if silence.cancelled_caught:
            raise Ended(ends.SILENT)
        while len(texts) < MOST_FRAMES and (more := await self._receive_at_once()) is not None:
            texts += more
        return texts

    async def _send(self, client: Client, frames: list[bus.Send]) -> None:
        try:
            client.need("message:send")
            results = await send(client, frames)
        except Exception as error:  # noqa: BLE001 - every failure becomes an answer
            results = [[failed(error)] * len(frame.messages) for frame in frames]
        for frame, outcomes in zip(frames, results, strict=True):
            await self._tell_result(frame.id, outcomes)

    async def _do(self, client: Client, frame: Frame) -> None:
        if isinstance(frame, bus.Ping):
            await self._tell({"type": "pong"} if frame.id is None else {"type": "pong", "id": frame.id})
        elif isinstance(frame, bus.Hello):
            await self._tell_error("conflict", "the hello was already said; connect again to say another")
        elif not isinstance(frame, bus.Pong):
            outcomes = await self._done(client, frame)
            if frame.id is not None:
                await self._tell_result(frame.id, outcomes)
            else:
                for outcome in outcomes:
                    if not outcome["ok"]:
                        await self._tell_failure(outcome)

    async def _done(self, client: Client, frame: Frame) -> Sequence[Outcome]:
        scope, deed = DEEDS[type(frame)]
        lively = isinstance(frame, bus.Heartbeat | bus.Status)
        try:
            client.need(scope)
            with trio.fail_after(client.within):
                outcomes = await deed(client, frame)
        except Exception as error:  # noqa: BLE001 - every failure becomes an answer
            if lively:
                _ends_it(error)
            return (failed(error),)
        if lively:
            self._contact_at = trio.current_time() + CONTACT
        return outcomes

    async def _be_there(self, client: Client) -> None:
        """Whoever says anything is there (O-10)."""
        if trio.current_time() < self._contact_at:
            return
        self._contact_at = trio.current_time() + CONTACT
        try:
            with trio.fail_after(client.within):
                await say_still_there(client)
        except Exception as error:  # noqa: BLE001 - the next frame tries again
            _ends_it(error)
            answer_to(error)  # logs what is a defect

    async def _tell_events(self, feed: Feed, bound: bool) -> None:
        ping_at = trio.current_time() + bus.HEARTBEAT
        while True:
            if feed.lost:
                told = feed.start_over()
                await self._tell({"type": "reset", "eventId": told["last"], **told})
            for text in frames(await feed.next(ping_at), bound=bound):
                await self._socket.send(text)
                ping_at = trio.current_time() + bus.HEARTBEAT
            if trio.current_time() >= ping_at:
                await self._tell({"type": "ping", "eventId": feed.cursor})
                ping_at = trio.current_time() + bus.HEARTBEAT

    # -- both

    async def _receive(self) -> str | None:
        try:
            return await self._socket.receive()
        except Gone:
            raise Ended(ends.GONE) from None
        except TooLarge:
            raise Ended(ends.TOO_LARGE) from None

    async def _receive_at_once(self) -> tuple[str | None] | None:
        try:
            return await self._socket.receive_at_once()
        except Gone:
            raise Ended(ends.GONE) from None
        except TooLarge:
            raise Ended(ends.TOO_LARGE) from None

    async def _strike(self, bad: Bad) -> None:
        await self._tell_error(bad.code, bad.text, bad.id)
        if not bad.counts:
            return
        now = trio.current_time()
        self._strikes.append(now)
        if len(self._strikes) == STRIKES and now - self._strikes[0] < STRIKES_WITHIN:
            raise Ended(ends.MALFORMED)

    async def _tell(self, frame: dict[str, Any]) -> None:
        await self._socket.send(wire.encode(frame).decode())

    async def _tell_result(self, name: str, outcomes: Sequence[Outcome]) -> None:
        ok = all(outcome["ok"] for outcome in outcomes)
        await self._tell({"type": "result", "id": name, "ok": ok, "results": outcomes})

    async def _tell_failure(self, outcome: Outcome) -> None:
        await self._tell_error(CODES.get(outcome["status"], "internal"), outcome["error"])

    async def _tell_error(self, code: str, text: str, name: str | None = None) -> None:
        told = {"type": "error", "code": code, "error": text}
        await self._tell(told if name is None else {**told, "id": name})


def _card(hello: bus.Hello, agent_id: str) -> wire.RegisterAgent:
    return wire.RegisterAgent(
        id=agent_id,
        kind=hello.role.kind,
        status=hello.status,
        ready=hello.ready,
        label=hello.label,
        tags=hello.tags,
        capabilities=hello.capabilities,
        machine=hello.machine,
        instance_id=hello.instance_id,
        meta=hello.meta,
        provider_capabilities=hello.provider_capabilities,
    )


def _ends_it(error: Exception) -> None:
    """What a sign of life is refused with: the agent is no longer this client's."""
    if isinstance(error, Conflict):
        raise Ended(ends.TAKEN_OVER) from None
    if isinstance(error, NotFound):
        raise Ended(ends.DELETED) from None
