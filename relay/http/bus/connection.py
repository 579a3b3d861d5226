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
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from relay.fleet import Conflict, NotFound
from relay.fleet.denials import Denied
from relay.http.auth import BadToken, Principal
from relay.http.errors import answer_to
from relay.http.feed import Feed
from relay.wire import bus

from . import ends
from .deeds import DEEDS, Client, Outcome, failed, say_still_there, send
from .ends import End, Ended
from .frames import Bad, Frame, grouped, parse
from .greeting import identified, listening, placed, registered, welcome
from .socket import Gone, Socket, TooLarge
from .telling import Teller

if TYPE_CHECKING:
    from ._bus import Bus

__all__ = ["Connection"]

HELLO_WITHIN = 10.0  # seconds
SILENCE = 90.0  # seconds without a frame until the client counts as lost
CONTACT = 20.0  # seconds after which any frame is told to the agent as a sign of life
STRIKES = 5  # malformed frames
STRIKES_WITHIN = 60.0  # seconds
MOST_FRAMES = 32  # read before they are done, but no more after so much text


class Connection:
    """One client. `principal` is who it is, None until it has said so; `agent_id` its agent, once it has said hello and if
    it has one."""

    def __init__(
        self, bus: Bus, socket: Socket, principal: Principal | None, peer: str | None = None
    ) -> None:
        self._bus = bus
        self._peer = peer
        self._socket = socket
        self._teller = Teller(socket)
        self.principal = principal
        self.agent_id: str | None = None
        self._strikes: deque[float] = deque(maxlen=STRIKES)
        self._contact_at = 0.0
        self._scope = trio.CancelScope()
        self._end: End | None = None
        self._limit()

    def _limit(self) -> None:
        """The connection lasts no longer than the token."""
        if self.principal is not None:
            self._scope.deadline = self._bus.ends_at(self.principal)

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
                    bound = client.role is not bus.Role.DASHBOARD
                    nursery.start_soon(partial(self._teller.events, feed, bound=bound))
                    await self._listen(client)
                except Ended as ended:
                    self.end(ended.end)
        end = self._end or (ends.UNAUTHORIZED if self._has_expired() else ends.GOING_AWAY)
        if end is not ends.GONE:
            if end.error is not None:
                await self._teller.error(end.error, end.reason)
            await self._socket.close(end.close, end.reason)

    def _has_expired(self) -> bool:
        return trio.current_time() >= self._scope.deadline

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
                        await self._teller.failure(self._failed(error, "hello"))
                elif isinstance(frame, Bad):
                    await self._strike(frame)
                else:
                    await self._strike(Bad("invalid", "the first frame must be a hello", frame.id))
        raise Ended(ends.NO_HELLO)

    async def _begin(self, hello: bus.Hello) -> tuple[Client, Feed]:
        """The place in the log is taken before the agent is registered: what its registration sets free is told (M-240)."""
        principal = self._whose(hello)
        client = identified(hello, principal, self._bus.fleet, self._bus.answer_within)
        self.principal = principal
        self._limit()
        place, resumed = await placed(client, hello)
        if client.agent_id is not None:
            await registered(client.agent_id, client, hello)
            self.agent_id = client.agent_id
            self._bus.take_over(client.agent_id, self)
        feed = listening(client, place)
        if lost := feed.lost:
            feed.start_over()
        else:
            client.confirmed = place
        await self._teller.tell(welcome(client, feed, resumed=resumed and not lost, reset=lost))
        return client, feed

    def _whose(self, hello: bus.Hello) -> Principal:
        """Whose token came with the hello, or else before it. Raises `Ended`."""
        try:
            if hello.token is not None:
                return self._bus.principal(hello.token)
            if self.principal is not None:
                return self.principal
            raise BadToken("there is no token")
        except BadToken as bad:
            self._bus.denied(Denied(401, str(bad), peer=self._peer, by=bad.by))
            raise Ended(ends.UNAUTHORIZED) from None

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
        while _may_have_more(texts) and (more := await self._receive_at_once()) is not None:
            texts += more
        return texts

    async def _send(self, client: Client, frames: list[bus.Send]) -> None:
        try:
            client.need("message:send")
            results = await send(client, frames)
        except Exception as error:  # noqa: BLE001 - every failure becomes an answer
            results = [[failed(error)] * len(frame.messages) for frame in frames]
        self._note_refusals(client, "send", (outcome for outcomes in results for outcome in outcomes))
        for frame, outcomes in zip(frames, results, strict=True):
            await self._teller.result(frame.id, outcomes)

    async def _do(self, client: Client, frame: Frame) -> None:
        if isinstance(frame, bus.Ping):
            await self._teller.tell(
                {"type": "pong"} if frame.id is None else {"type": "pong", "id": frame.id}
            )
        elif isinstance(frame, bus.Hello):
            await self._teller.error("conflict", "the hello was already said; connect again to say another")
        elif not isinstance(frame, bus.Pong):
            outcomes = await self._done(client, frame)
            self._note_refusals(client, type(frame).__name__, outcomes)
            if frame.id is not None:
                await self._teller.result(frame.id, outcomes)
            else:
                for outcome in outcomes:
                    if not outcome["ok"]:
                        await self._teller.failure(outcome)

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

    def _failed(self, error: Exception, what: str) -> Outcome:
        """The outcome; what is refused is on record."""
        outcome = failed(error)
        if outcome["status"] == ends.FORBIDDEN:
            by = None if self.principal is None else self.principal.caller
            self._bus.denied(Denied(ends.FORBIDDEN, outcome["error"], f"bus {what}", self._peer, by))
        return outcome

    def _note_refusals(self, client: Client, what: str, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if outcome["status"] == ends.FORBIDDEN:
                by = client.principal.caller
                self._bus.denied(Denied(ends.FORBIDDEN, outcome["error"], f"bus {what}", self._peer, by))

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
        await self._teller.error(bad.code, bad.text, bad.id)
        if not bad.counts:
            return
        now = trio.current_time()
        self._strikes.append(now)
        if len(self._strikes) == STRIKES and now - self._strikes[0] < STRIKES_WITHIN:
            raise Ended(ends.MALFORMED)


def _may_have_more(texts: Sequence[str | None]) -> bool:
    return len(texts) < MOST_FRAMES and sum(len(text or "") for text in texts) < bus.LARGEST


def _ends_it(error: Exception) -> None:
    """What a sign of life is refused with: the agent is no longer this client's."""
    if isinstance(error, Conflict):
        raise Ended(ends.TAKEN_OVER) from None
    if isinstance(error, NotFound):
        raise Ended(ends.DELETED) from None
