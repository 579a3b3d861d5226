"""Relay's bus: one connection for all that an agent says and hears."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from relay import wire
from relay.wire import bus

from ._bus_frames import outcome, read, refused
from ._bus_link import Link
from ._errors import Refused
from ._events import StreamedEvent
from ._transport import Transport

__all__ = ["Bus", "open_bus"]


class Bus:
    """Made by `Client.open_bus`. Calls wait while relay is away; the surrounding cancel scope limits them.

    Each call raises what the client's do. What is asked for several things at once gives one outcome for each, in order:
    what was asked for, or the `Refused` that it was answered with. `Superseded` ends all of it: somebody else is the
    agent's session now.
    """

    def __init__(self, link: Link, url: str) -> None:
        self._link = link
        self._url = url

    @property
    def lost(self) -> int:
        """How many connections have been lost so far."""
        return self._link.lost

    async def events(self) -> AsyncGenerator[StreamedEvent]:
        """What happens, for ever, each event once and in order: all that concerns the agent, or everything for a dashboard
        (BUS-8). A `reset` says that events were lost to age. Whoever asks for the next event has worked off the last: relay
        does not tell it again to a client that starts anew under the same `component_id`. Close it with
        `contextlib.aclosing`; one loop at a time."""
        while True:
            event = await self._link.next_event()
            done: StreamedEvent | None = None
            try:
                yield event
                done = event
            finally:
                self._link.work_off(done)

    async def send(self, messages: Iterable[wire.SendMessage]) -> list[wire.Message | Refused]:
        """Send up to 100 messages in one transaction. Repeated only if all of them have an idempotency key; otherwise
        `Unreachable` leaves open whether they were sent."""
        given = list(messages)
        repeatable = all(message.idempotency_key is not None for message in given)
        results = await self._link.ask("send", {"messages": given}, repeatable=repeatable)
        return [outcome(result, wire.Message, "message") for result in results]

    async def claim(self, ids: Iterable[int], agent_id: str | None = None) -> list[wire.Claim | Refused]:
        """As `Client.claim`, for up to 100 messages."""
        members = {"messageIds": list(ids), "agentId": agent_id}
        return [outcome(each, wire.Claim) for each in await self._link.ask("claim", members)]

    async def renew_claim(
        self, ids: Iterable[int], agent_id: str | None = None
    ) -> list[wire.Claim | Refused]:
        """As `Client.renew_claim`, for up to 100 messages."""
        members = {"messageIds": list(ids), "agentId": agent_id}
        return [outcome(each, wire.Claim) for each in await self._link.ask("renew", members)]

    async def mark_read(self, ids: Iterable[int], agent_id: str | None = None) -> list[Refused | None]:
        """As `Client.mark_read`, for up to 100 messages."""
        members = {"messageIds": list(ids), "agentId": agent_id}
        return [None if each["ok"] else refused(each) for each in await self._link.ask("read", members)]

    async def heartbeat(
        self, status: wire.AgentStatus | None = None, meta: dict[str, Any] | None = None
    ) -> None:
        """As `Client.heartbeat`. One is said every 30 s in any case."""
        self._remember(meta=meta)
        await self._one("heartbeat", {"status": status, "meta": meta})

    async def set_status(
        self,
        status: wire.AgentStatus | None = None,
        *,
        ready: bool | None = None,
        meta: dict[str, Any] | None = None,
    ) -> wire.Agent:
        """How the agent is, all of it at once; what is None stays (BUS-3). `meta` is merged."""
        self._remember(status=status, ready=ready, meta=meta)
        result = await self._one("status", {"agentStatus": status, "ready": ready, "meta": meta})
        return read(wire.Agent, result["agent"], self._url)

    async def patch_command(self, id: str, patch: wire.PatchCommand) -> wire.Command:  # noqa: A002
        """As `Client.patch_command`."""
        result = await self._one("command.update", {"commandId": id, **wire.to_json(patch)})
        return read(wire.Command, result["command"], self._url)

    def _remember(
        self, status: wire.AgentStatus | None = None, ready: bool | None = None, meta: Any = None
    ) -> None:
        """The next hello must not take back what was said since the first one."""
        before = self._link.hello
        self._link.hello = attrs.evolve(
            before,
            status=status or before.status,
            ready=before.ready if ready is None else ready,
            meta={**(before.meta or {}), **meta} if meta else before.meta,
        )

    async def _one(self, kind: str, members: dict[str, Any]) -> dict[str, Any]:
        (result,) = await self._link.ask(kind, members)
        if not result["ok"]:
            raise refused(result)
        return result


@asynccontextmanager
async def open_bus(transport: Transport, hello: bus.Hello) -> AsyncGenerator[Bus]:
    """A bus that relay has welcomed, for as long as the block takes."""
    link = Link(transport, hello)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.keep_up)
        try:
            await link.connected.wait()
            link.raise_if_over()
            yield Bus(link, transport.url)
            await link.acknowledge()
        except Exception as error:  # noqa: BLE001 - raised below, as it is and not within a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
