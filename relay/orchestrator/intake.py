"""Commands: what relay asks for is taken, done and reported (2.4).

    pending    claimed -> queued: ours at relay before anything is done, so that no poll returns it again, and no
               other daemon that goes by our name may do it too
    queued     spawns in their order, as many at a time as may wait for their runner; everything else at once
    begun      looked at once more: ended or canceled meanwhile -> dropped
    done       outcome on disk, then reported until relay has answered

Commands that an earlier life of the daemon had begun are claimed and begun again when the connection is there: all of
them may be. The new claim has a new token, and relay listens to the newest only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing, suppress
from math import inf
from uuid import uuid4

import attrs
import trio

from relay import wire
from relay._files import read_json, write_json
from relay.client import Client, Outcomes, Refused as RefusedByRelay, RelayError

from ._loops import RETRY, kept_up
from ._problems import Refused, Rejected, Restart
from .config import Config
from .link import Link
from .upgrading import COMMAND as UPGRADE, Upgrades
from .work import Workshop

__all__ = ["Intake"]

log = logging.getLogger(__name__)

POLLED = 50  # commands
RESULT_LIMIT = 60_000  # characters of a result's JSON text
ESSENTIAL = ("workspaceId", "status", "merged", "mergedSha", "removed", "error")
LISTEN_AGAIN = 60.0  # seconds
STALLED_AFTER = 45 * 60.0  # seconds: longer than any command may take


@attrs.frozen
class Claimed:
    """A command that is ours. `token` goes with every report of it; `since` is on trio's clock."""

    command: wire.Command
    token: int
    since: float


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
        self._upgrades = Upgrades(config)
        self.restart: str | None = None
        """What the daemon is to end for, so that it is started again."""
        self.restarts = trio.Event()
        self._outcomes = Outcomes(config.state / "outbox")
        self._woken = trio.Event()
        self._to_catch_up = True
        self._claimant = _claimant(config)
        self._under_way: dict[str, Claimed] = {}
        self._spawns, self._spawns_to_do = trio.open_memory_channel[Claimed](inf)

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
                "handlingId": each.command.id,
                "handlingType": each.command.type,
                "activeForMs": round((now - each.since) * 1000),
            }
            for each in self._under_way.values()
        ]
        return {
            "inFlight": bool(begun),
            "phase": "handler" if begun else "idle",
            "stalled": any(now - each.since > STALLED_AFTER for each in self._under_way.values()),
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
        catching_up, self._to_catch_up = self._to_catch_up, False
        try:
            for status in ("accepted", "running", "pending") if catching_up else ("pending",):
                found = await self._relay.commands(target=self._config.agent_id, status=status, limit=POLLED)
                if catching_up and len(found) == POLLED:
                    self._to_catch_up = True  # there may be more, and those are listed when these have ended
                for command in found:
                    await self._take(command, nursery)
        except RelayError:
            self._to_catch_up = self._to_catch_up or catching_up
            raise

    async def _take(self, command: wire.Command, nursery: trio.Nursery) -> None:
        """Make the command ours before anything is done about it (2.4-4)."""
        if command.id in self._under_way or command.id in self._outcomes:
            return
        try:
            token = await self._relay.claim_command(command.id, self._claimant)
        except RefusedByRelay as error:
            log.warning("command %s is not ours: %s", command.id, error)
            return
        if token is None:
            log.warning("command %s is somebody else's", command.id)
            return
        claimed = Claimed(command, token, trio.current_time())
        self._under_way[command.id] = claimed
        if command.type == "agent.spawn":
            self._spawns.send_nowait(claimed)
        else:
            nursery.start_soon(self._do, claimed)

    # -- doing

    async def _do_spawns(self) -> None:
        async for claimed in self._spawns_to_do:
            await self._do(claimed)

    async def _do(self, claimed: Claimed) -> None:
        """Do it, unless it has ended meanwhile. The outcome is final once it is on disk."""
        command = claimed.command
        try:
            if await self._is_wanted(claimed):
                log.info("%s %s", command.type, command.id)
                result = await self._carried_out(claimed)
                if result is not None:
                    await self._keep(command.id, _outcome(result, claimed.token))
                self._done()
        except Exception:
            log.exception(
                "command %s has no outcome; it is begun again when relay is next connected", command.id
            )
        finally:
            del self._under_way[command.id]

    async def _carried_out(self, claimed: Claimed) -> dict[str, object] | None:
        """The result of the command; None when relay learns the outcome in another way."""
        if claimed.command.type != UPGRADE:
            return await self._workshop.do(claimed.command)

        async def report(result: dict[str, object]) -> None:
            running = wire.PatchCommand(status=wire.CommandStatus.RUNNING, result=result, token=claimed.token)
            with suppress(RelayError):  # it is only progress
                await self._relay.patch_command(claimed.command.id, running)

        try:
            await self._upgrades.do(claimed.command, report)
        except Restart as restart:
            self.restart = str(restart)
            self.restarts.set()
        except (Refused, OSError) as error:
            return {"error": str(error), "rejected": isinstance(error, Rejected)}
        return None

    async def _keep(self, command_id: str, outcome: wire.PatchCommand) -> None:
        """Put it on disk. While the disk does not take it the command stays under way: it must not be done again."""
        while True:
            try:
                self._outcomes.put(command_id, outcome)
                return
            except OSError as error:
                log.error("the outcome of command %s cannot be written down yet: %s", command_id, error)
            await trio.sleep(RETRY)

    async def _is_wanted(self, claimed: Claimed) -> bool:
        """The replay guard (2.4-5): relay lets it run, unless it has ended or is somebody else's by now."""
        running = wire.PatchCommand(status=wire.CommandStatus.RUNNING, token=claimed.token)
        while True:
            await self._link.connected()
            try:
                await self._relay.patch_command(claimed.command.id, running)
                return True
            except RefusedByRelay as error:
                if error.status in (404, 409):
                    log.warning("command %s is not begun: %s", claimed.command.id, error)
                    return False
                await trio.sleep(RETRY)
            except RelayError as error:
                self._link.lost(error)


def _claimant(config: Config) -> str:
    """By what relay knows whose claim it is: the same in every life of this daemon, and in no other daemon's."""
    path = config.state / "claimant.json"
    known = read_json(path)
    if not isinstance(known, str):
        known = f"{config.id}/{uuid4().hex}"
        write_json(path, known)
    return known


def _outcome(result: dict[str, object], token: int) -> wire.PatchCommand:
    error = result.get("error")
    if len(wire.encode(result)) > RESULT_LIMIT:
        result = {name: result[name] for name in ESSENTIAL if name in result}
    if error is None:
        return wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED, result=result, token=token)
    text = str(error)[:4_000]
    status = wire.CommandStatus.REJECTED if result.get("rejected") is True else wire.CommandStatus.FAILED
    return wire.PatchCommand(status=status, result=result, error=text, token=token)
