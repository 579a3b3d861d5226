"""The roster: what relay knows of the sessions here (2.3).

One report at a time, always of how things are when it is sent, so an older one never overrides a newer one. Whoever
changes something owes a report; the debt is paid when relay has taken one that was begun after it arose (R-I45).
"""

from __future__ import annotations

import trio

from relay import wire
from relay.client import Client, RelayError

from ._loops import RETRY
from .config import Config
from .link import Link
from .sessions import Sessions

__all__ = ["Roster"]


class Roster:
    """The reports of one daemon."""

    def __init__(self, config: Config, relay: Client, link: Link, sessions: Sessions) -> None:
        self._config = config
        self._relay = relay
        self._link = link
        self._sessions = sessions
        self._owed = trio.Event()

    def owe(self) -> None:
        self._owed.set()

    async def watch(self) -> None:
        """Look after the sessions, and owe a report when one has changed."""
        while True:
            if self._sessions.look():
                self.owe()
            await trio.sleep(self._config.watch)

    async def report(self) -> None:
        """Pay what is owed, for ever."""
        while True:
            await self._owed.wait()
            await self._link.connected()
            self._owed = trio.Event()
            exits = self._sessions.exits.pending()
            agents = [session.entry for session in self._sessions.live.values()]
            roster = wire.Roster(agents=agents, exited_agents=list(exits.values()))
            try:
                await self._relay.report_roster(self._config.id, roster)
            except RelayError as error:
                self._link.lost(error)
                self.owe()
                await trio.sleep(RETRY)
            else:
                self._sessions.exits.told(exits)
