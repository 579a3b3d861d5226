"""Commands: what relay asks for is taken, done and reported (2.4).

    pending    accepted -> queued: written down at relay before anything is done, so that no poll returns it again
    queued     spawns in their order, as many at a time as may wait for their runner; everything else at once
    begun      looked at once more: ended or canceled meanwhile -> dropped
    done       outcome on disk, then reported until relay has answered

Commands that an earlier life of the daemon had begun are begun again when the connection is there: all of them may be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing
from math import inf

import trio

from relay import wire
from relay.client import Client, Outcomes, Refused as RefusedByRelay, RelayError

from ._loops import RETRY, kept_up
from .config import Config
from .link import Link
from .work import Workshop

__all__ = ["Intake"]

log = logging.getLogger(__name__)

POLLED = 50  # commands
RESULT_LIMIT = 60_000  # characters of a result's JSON text
ESSENTIAL = ("workspaceId", "status", "merged", "mergedSha", "removed", "error")
LISTEN_AGAIN = 60.0  # seconds
STALLED_AFTER = 45 * 60.0  # seconds: longer than any command may take


class Intake:
    """The commands of one daemon. `done` is called after each, whatever came of it."""

    def __init__(
        self, config: Config, relay: Client, link: Link, workshop: Workshop, done: Callable[[], None]
    ) -> None:
        self._config = config
        self._relay = relay
        self._link = link
        self._workshop = workshop
        self._done = done
        self._outcomes = Outcomes(config.state / "outbox")
        self._woken = trio.Event()
        self._to_catch_up = True
        self._under_way: dict[str, tuple[wire.Command, float]] = {}
        self._spawns, self._spawns_to_do = trio.open_memory_channel[wire.Command](inf)

    async def run(self) -> None:
        """Take, do and report commands until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept_up, self._listen)
            nursery.start_soon(kept_up, self._outcomes.deliver, self._relay)
            for _ in range(self._config.spawns):
                nursery.start_soon(self._do_spawns)
            nursery.start_soon(kept_up, self._poll, nursery)

    def catch_up(self) -> None:
        """Look for what an earlier life, or an earlier connection, has left unfinished."""
        self._to_catch_up = True
        self._woken.set()

    @property
    def facts(self) -> dict[str, object]:
        """For the health of the host (2.4-8)."""
        now = trio.current_time()
        begun = [
            {
                "handlingId": command.id,
                "handlingType": command.type,
                "activeForMs": round((now - since) * 1000),
            }
            for command, since in self._under_way.values()
        ]
        return {
            "inFlight": bool(begun),
            "phase": "handler" if begun else "idle",
            "stalled": any(now - since > STALLED_AFTER for _, since in self._under_way.values()),
            "commands": begun,
        }

    # -- taking

    async def _listen(self) -> None:
        """A command that is announced is fetched at once; polling stays the source of truth (2.4-1)."""
        await self._link.connected()
        try:
            async with aclosing(self._relay.events(self._config.agent_id)) as events:
                async for event in events:
                    if event.type in {"command.requested", "reset"}:
                        self._woken.set()
        except RefusedByRelay as error:
            log.info("relay announces nothing: %s", error)
            await trio.sleep(LISTEN_AGAIN)

    async def _poll(self, nursery: trio.Nursery) -> None:
        while True:
            await self._link.connected()
            self._woken = trio.Event()
            try:
                await self._fetch(nursery)
            except RelayError as error:
                self._link.lost(error)
            with trio.move_on_after(self._config.poll):
                await self._woken.wait()

    async def _fetch(self, nursery: trio.Nursery) -> None:
        statuses = ["pending"]
        if self._to_catch_up:
            self._to_catch_up = False
            statuses = ["accepted", "running", "pending"]
        for status in statuses:
            found = await self._relay.commands(target=self._config.agent_id, status=status, limit=POLLED)
            for command in found:
                await self._take(command, nursery)

    async def _take(self, command: wire.Command, nursery: trio.Nursery) -> None:
        """Make the command ours before anything is done about it (2.4-4)."""
        if command.id in self._under_way or command.id in self._outcomes:
            return
        if command.status is wire.CommandStatus.PENDING and not await self._said(command, "accepted"):
            return
        self._under_way[command.id] = (command, trio.current_time())
        if command.type == "agent.spawn":
            self._spawns.send_nowait(command)
        else:
            nursery.start_soon(self._do, command)

    async def _said(self, command: wire.Command, status: str) -> bool:
        """Whether relay let the command become that."""
        try:
            await self._relay.patch_command(command.id, wire.PatchCommand(status=wire.CommandStatus(status)))
        except RefusedByRelay as error:
            log.warning("command %s is not %s: %s", command.id, status, error)
            return False
        return True

    # -- doing

    async def _do_spawns(self) -> None:
        async for command in self._spawns_to_do:
            await self._do(command)

    async def _do(self, command: wire.Command) -> None:
        """Do it, unless it has ended meanwhile. The outcome is final once it is on disk."""
        try:
            if await self._is_wanted(command):
                log.info("%s %s", command.type, command.id)
                result = await self._workshop.do(command)
                self._outcomes.put(command.id, _outcome(result))
                self._done()
        except Exception:
            log.exception(
                "command %s has no outcome; it is begun again when relay is next connected", command.id
            )
        finally:
            del self._under_way[command.id]

    async def _is_wanted(self, command: wire.Command) -> bool:
        """The replay guard (2.4-5): asked of relay just before, however long that takes."""
        while True:
            await self._link.connected()
            try:
                now = await self._relay.command(command.id)
                if now.status.final:
                    return False
                return now.status is wire.CommandStatus.RUNNING or await self._said(command, "running")
            except RefusedByRelay as error:
                if error.status == 404:
                    return False
                await trio.sleep(RETRY)
            except RelayError as error:
                self._link.lost(error)


def _outcome(result: dict[str, object]) -> wire.PatchCommand:
    error = result.get("error")
    if len(wire.encode(result)) > RESULT_LIMIT:
        result = {name: result[name] for name in ESSENTIAL if name in result}
    if error is None:
        return wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED, result=result)
    return wire.PatchCommand(status=wire.CommandStatus.FAILED, result=result, error=str(error)[:4_000])
