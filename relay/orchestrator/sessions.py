"""Sessions: the runners this host keeps (2.6, 2.7, 2.8).

A runner outlives the daemon; the next daemon finds it by its record: process id, start time and boot. A record is on
disk before the process is started, and goes only when the process is proven dead.

How a runner ended decides what follows:

    killed by a signal                         started again: same agent, session, workspace
    unseen, and it had no time to tidy up      started again, unless the host has booted since
    exit code, or unseen and tidied up         it is over: the runner itself tries again where that makes sense
    asked to stop                              it is over, and no news

Rapid deaths (less than 30 s after the start) are followed by longer pauses, and the fourth within two minutes is the
last. Every death is reported exactly once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import trio

from relay._files import read_json

from . import diagnosis
from ._problems import Refused
from ._processes import Life, boot, start_tick, stop_group
from .config import Config
from .exits import Exits
from .launching import start_runner
from .orphans import end_agent, is_gone
from .records import Records
from .session import Launch, Session

__all__ = ["KEYS", "Sessions"]

log = logging.getLogger(__name__)

WINDOW = 120.0  # seconds in which deaths are counted
RAPID = 30.0
RAPID_ALLOWED = 3
KEYS = {
    "sessionName": "name",
    "tmuxSession": "name",
    "agentId": "agent_id",
    "spawnRequestId": "spawn_request_id",
    "policyName": "policy_name",
}
"""By what a session can be named, best first (2.6-4), and the member of `Launch` that it is."""


class Sessions:
    """All sessions of one daemon. `wall` gives epoch seconds."""

    def __init__(self, config: Config, wall: Callable[[], float]) -> None:
        self._config = config
        self._wall = wall
        self.records = Records(config.state, wall)
        self.exits = Exits(config.state / "exits")
        self.live: dict[str, Session] = {}
        self._ended: list[Session] = []
        """What a daemon before this one had ended, and had no time to say so."""

    def recover(self) -> None:
        """Find what an earlier daemon left: whatever is not proven dead is ours again; the dead are buried later."""
        for session in self.records.recover():
            dead = session.life() is Life.DEAD
            if session.asked and dead:
                self._ended.append(session)
                self._forget(session)
                continue
            session.asked = False
            if session.pid or session.due is not None:
                self.live[session.launch.name] = session
            else:
                self.records.forget(session)  # it was never started; whoever asked for it asks again

    def _forget(self, session: Session) -> None:
        end_agent(self._config.state / "state" / session.launch.name)
        self.live.pop(session.launch.name, None)
        self.records.forget(session)

    # -- starting

    def start(
        self, launch: Launch, deaths: list[float] | None = None, *, cause: str = "", again: bool = False
    ) -> Session:
        """Start a runner and put it on record; one that runs `again` is due until it does. Raises `Refused` when it
        cannot be started."""
        session = Session(
            launch=launch, deaths=deaths or [], cause=cause, due=self._wall() if again else None
        )
        self.records.save(session)
        self.records.info_file(launch.name).unlink(missing_ok=True)
        try:
            session.pid = start_runner(launch, self._config, self.records, fresh=deaths is None)
        except (OSError, ValueError) as error:
            self._forget(session)
            raise Refused(f"the runner could not be started in {launch.cwd}: {error}") from error
        session.child, session.tick, session.due = True, start_tick(session.pid) or "gone", None
        session.boot, session.started_at = boot(), self._wall()
        self.live[launch.name] = session
        try:
            self.records.save(session)
        except OSError as error:  # it runs, and the next daemon finds it by its environment
            log.error("session %s is on record without its process: %s", launch.name, error)
        return session

    def is_registered(self, session: Session) -> bool:
        """Whether the runner has registered with relay (2.5-14)."""
        info = read_json(self.records.info_file(session.launch.name))
        return isinstance(info, dict) and bool(info.get("registeredAt")) and info.get("pid") == session.pid

    async def registered(self, session: Session) -> bool:
        """As `is_registered`, waiting for it a while. False at once when the runner ends before."""
        with trio.move_on_after(self._config.registration):
            while session.life() is not Life.DEAD:
                if self.is_registered(session):
                    return True
                await trio.sleep(0.1)
        return False

    # -- ending

    async def stop(self, session: Session, grace: float) -> bool:
        """Stop a runner on request; whether it is gone. The record stays while it is not."""
        async with session.ending:
            gone = await self._stopped(session, grace, asked=True)
            if gone and self._is_current(session):
                self._forget(session)
            return gone

    async def vacated(self, session: Session) -> bool:
        """Whether nothing of the agent of a session that has ended is left, after a little while at most."""
        return await is_gone(self._config.state / "state" / session.launch.name)

    async def restart(
        self, session: Session, grace: float, cause: str, launch: Launch | None = None
    ) -> Session | None:
        """Stop a runner and start it anew, as `launch` says; None when it could not be stopped. One that was started for
        this very `cause` (a command's id) stays. A daemon that ends in between starts it when it comes back. Raises `Refused`
        when it was shut down meanwhile, or cannot be started."""
        async with session.ending:
            if not self._is_current(session):
                raise Refused(f"{session.launch.agent_id} was ended meanwhile")
            if session.cause == cause and session.life() is not Life.DEAD:
                return session
            before, session.launch = session.launch, launch or session.launch
            if not await self._stopped(session, grace, due=self._wall()):
                session.launch = before
                self.records.save(session)
                return None
            return self.start(session.launch, cause=cause, again=True)

    async def _stopped(
        self, session: Session, grace: float, *, asked: bool = False, due: float | None = None
    ) -> bool:
        """Whether it is gone. What is to follow (nothing, or a start) is on disk while it ends."""
        current = self._is_current(session)
        if current:
            session.asked, session.due = asked, due
            self.records.save(session)
        gone = session.life() is Life.DEAD or await stop_group(session.pid, session.tick, grace)
        session.life()  # so that it does not stay a zombie
        if current and not gone:
            session.asked, session.due = False, None
            self.records.save(session)
        return gone

    def _is_current(self, session: Session) -> bool:
        """Whether nobody has ended it, or started it anew, while one waited for it."""
        return self.live.get(session.launch.name) is session

    # -- deaths

    def look(self) -> bool:
        """See who has died unasked, and start again who is due. Whether the roster has changed."""
        changed = False
        for session in list(self.live.values()):
            if session.ending.locked():
                continue
            if session.due is not None:
                changed = self._start_again(session) or changed
            elif session.life() is Life.DEAD:
                self._bury(session)
                changed = True
        return changed

    def _bury(self, session: Session) -> None:
        now = self._wall()
        name = session.launch.name
        again = self._config.restart and self._was_killed(session)
        recent = [*(death for death in session.deaths if death > now - WINDOW), now]
        if now - session.started_at < RAPID and len(recent) > RAPID_ALLOWED:
            again = False
        log_file = self.records.log_file(name)
        report = diagnosis.report(session.entry, session.code, now, log_file, restarted=again)
        log.warning("%s: %s", session.launch.agent_id, report.last_error)
        self.exits.put(name, report)
        if again:
            session.deaths, session.due = recent, now + min(10.0, 0.5 * len(recent))
            self.records.save(session)
        else:
            self._forget(session)

    def _was_killed(self, session: Session) -> bool:
        if session.boot != boot():
            return False
        if session.code is None:
            return self.records.info_file(session.launch.name).exists()
        return session.code < 0

    def _start_again(self, session: Session) -> bool:
        if session.due is None or session.due > self._wall():
            return False
        life = session.life()
        if life is not Life.DEAD:
            if life is Life.ALIVE:
                session.due = None  # a restart that an earlier daemon did not get to the end of
                self.records.save(session)
            return False
        try:
            self.start(session.launch, session.deaths, cause=session.cause, again=True)
        except Refused as refused:
            log.error("%s is not started again: %s", session.launch.agent_id, refused)
        return True

    # -- looking

    def find(self, keys: Mapping[str, Any], but: object = None) -> Session | None:
        """The session that one of the given keys names, the newest for a policy (2.6-4). `but` is a spawn request whose
        session is not meant."""
        known = [each for each in (*self._ended, *self.live.values()) if each.launch.spawn_request_id != but]
        for key, attribute in KEYS.items():
            for session in reversed(known):
                if keys.get(key) and getattr(session.launch, attribute) == keys[key]:
                    return session
        return None

    def occupant(self, path: str) -> str | None:
        """The agent that works, or may be working, in a worktree. Until it is buried, something of it may."""
        for session in self.live.values():
            if Path(session.launch.cwd).resolve().is_relative_to(Path(path).resolve()):
                return session.launch.agent_id
        return None
