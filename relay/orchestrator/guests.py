"""Guest terminals: somebody looks into an agent's session, in a tmux session of its own (2.26-7).

A session of relay's has no screen, so the guest follows its log. It ends with the session, when it is closed, or when its time is
over. What was opened is on disk before tmux is asked, so that no daemon after this one leaves it running. All of it is on a tmux
server of this daemon's: nobody else's sessions can be named.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import attrs
import trio

from relay._files import read_json, write_json

from ._http import Bad
from .config import Config
from .sessions import Sessions

__all__ = ["Guests"]

log = logging.getLogger(__name__)

USUAL, SHORTEST, LONGEST = 3_600.0, 60.0, 4 * 3_600.0  # seconds
LOOK_EVERY = 60.0  # seconds
TMUX_WITHIN = 5.0  # seconds
MOST = 32
LINES = "200"


@attrs.frozen
class Guest:
    """One terminal: of which session, and until when (epoch seconds)."""

    session: str
    agent_id: str
    ends_at: float


class Guests:
    """The guest terminals of one daemon. `wall` gives epoch seconds."""

    def __init__(self, config: Config, sessions: Sessions, wall: Callable[[], float]) -> None:
        self._config = config
        self._sessions = sessions
        self._wall = wall
        self._file = config.state / "guests.json"
        self._server = f"agent-relay-{re.sub(r'[^A-Za-z0-9_-]+', '-', config.id)[:60]}"
        self.open = self._known()

    def _known(self) -> dict[str, Guest]:
        known = read_json(self._file)
        try:
            return {name: Guest(**guest) for name, guest in (known or {}).items()}
        except (AttributeError, TypeError):
            log.warning("%s is damaged: terminals that it named end with their sessions", self._file)
            return {}

    def _save(self) -> None:
        write_json(self._file, {name: attrs.asdict(guest) for name, guest in self.open.items()})

    async def start(self, agent_id: object, ttl_ms: object) -> dict[str, Any]:
        """Its name, and the command that shows it here. Raises `Bad`."""
        if not isinstance(agent_id, str) or not agent_id:
            raise Bad(400, "agentId must be the id of an agent")
        if ttl_ms is not None and (not isinstance(ttl_ms, int) or isinstance(ttl_ms, bool) or ttl_ms <= 0):
            raise Bad(400, "ttlMs must be a positive number of milliseconds")
        session = self._sessions.find({"agentId": agent_id})
        if session is None:
            raise Bad(404, f"{agent_id} does not run on this host")
        if len(self.open) >= MOST:
            raise Bad(409, f"{MOST} terminals are open already: close one of them")
        tmux = _tmux()
        safe = re.sub(r"[^A-Za-z0-9_-]+", "-", agent_id)[:80]
        name = f"{self._config.prefix}-guest-{session.launch.provider}-{safe}-{secrets.token_hex(4)}"
        seconds = USUAL if ttl_ms is None else min(LONGEST, max(SHORTEST, ttl_ms / 1000))
        self.open[name] = Guest(session.launch.name, agent_id, self._wall() + seconds)
        self._save()
        shown = ["tail", "-n", LINES, "-F", str(self._sessions.records.log_file(session.launch.name))]
        code, said = await self._ask("new-session", "-d", "-s", name, "-x", "120", "-y", "40", *shown)
        if code:
            self._forget(name)
            raise Bad(500, f"tmux could not open a terminal: {said}")
        command = [tmux, "-L", self._server, "attach-session", "-r", "-t", f"={name}"]
        attach = {"command": command, "host": self._config.hostname}
        return {"session": name, "attach": attach, "expiresAt": round(self.open[name].ends_at * 1000)}

    async def close(self, name: str, agent_id: object) -> None:
        """Raises `Bad` when there is none of that name, or not of that agent."""
        guest = self.open.get(name)
        if guest is None or guest.agent_id != agent_id:
            raise Bad(404, f"{name} is no terminal of {agent_id}")
        await self._end(name)

    async def watch(self) -> None:
        """End those whose time, or whose session, is over; for ever."""
        while True:
            await self.reap()
            await trio.sleep(LOOK_EVERY)

    async def reap(self) -> None:
        for name, guest in list(self.open.items()):
            if guest.ends_at <= self._wall() or guest.session not in self._sessions.live:
                await self._end(name)

    async def _end(self, name: str) -> None:
        await self._ask("kill-session", "-t", f"={name}")  # one that is gone already is as good
        self._forget(name)

    def _forget(self, name: str) -> None:
        if self.open.pop(name, None) is not None:
            self._save()

    async def _ask(self, *words: str) -> tuple[int, str]:
        """Exit code, and what tmux said."""
        with trio.move_on_after(TMUX_WITHIN):
            done = await trio.run_process(
                [_tmux(), "-L", self._server, *words],
                stdin=subprocess.DEVNULL,
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
            return done.returncode, done.stdout.decode(errors="replace").strip()
        return 1, f"no answer within {TMUX_WITHIN:g} s"


def _tmux() -> str:
    found = shutil.which("tmux")
    if found is None:
        raise Bad(422, "there is no tmux on this host: install it there, then ask again")
    return found
