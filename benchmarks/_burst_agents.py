"""Agents without programs of their own, several in one process: `python _burst_agents.py URL TOKEN FOLDER TAG AGENT...`.

Each has what a runner has between relay and its agent's program: `relay.runner`'s own presence, events, mailbox, ladder and
notebook of what was acknowledged, and a folder of its own for them. In the place of the program stands `Agent`: what it is
offered and what it takes are lines of its journal, which are written before it acknowledges. It takes nothing twice: a message
that its journal has already is acknowledged only. Ends with SIGTERM; may be killed and started again at any time.
"""

import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import trio

from relay.client import Client, RelayError, open_client
from relay.runner import Options
from relay.runner.activity import Activity
from relay.runner.claims import Claims
from relay.runner.inbox import Inbox
from relay.runner.presence import Presence


class Agent:
    """Takes what it is offered."""

    capabilities: Mapping[str, bool] = {}

    def __init__(self, journal: Path) -> None:
        self._taken = set(entries(journal, "taken"))
        self._journal = journal.open("a")

    async def deliver(self, messages: Sequence[Mapping[str, Any]], acknowledged: Callable[[], None]) -> None:
        ids = [message["id"] for message in messages]
        new = [number for number in ids if number not in self._taken]
        self._taken.update(new)
        lines = [{"event": "offered", "ids": ids}, *([{"event": "taken", "ids": new}] if new else [])]
        self._journal.write("".join(json.dumps(line) + "\n" for line in lines))
        self._journal.flush()
        acknowledged()


def entries(journal: Path, event: str) -> list[int]:
    """The messages that this agent was "offered", or has "taken", in that order. A line without its end was never written."""
    whole = journal.read_text().split("\n")[:-1] if journal.exists() else []
    return [
        number for line in whole if (entry := json.loads(line))["event"] == event for number in entry["ids"]
    ]


async def host(options: Options) -> None:
    """One agent, until cancelled."""
    async with open_client(options.relay_url, options.token) as relay:
        await live(options, relay)


async def live(options: Options, relay: Client) -> None:
    options.state_dir.mkdir(parents=True, exist_ok=True)
    agent = Agent(options.state_dir / "journal")
    activity = Activity(time.time)
    presence = Presence(options, relay, activity, time.time(), lambda: inbox.look())  # noqa: PLW0108 - it is made below
    claims = Claims(options, relay, activity, presence.publish)
    inbox = Inbox(options, relay, claims)
    await presence.register()
    presence.ready = True
    presence.publish()
    async with trio.open_nursery() as nursery:
        for loop in (presence.keep_alive, presence.tell_changes):
            nursery.start_soon(loop)
        nursery.start_soon(listen, options.agent_id, relay, inbox)
        nursery.start_soon(inbox.run, agent)


async def listen(agent_id: str, relay: Client, inbox: Inbox) -> None:
    while True:
        try:
            async with aclosing(relay.events(agent_id)) as events:
                async for event in events:
                    if event.type.startswith("message.") or event.type == "reset":
                        inbox.look()
        except RelayError:
            await trio.sleep(1.0)


async def main(url: str, token: str, folder: str, tag: str, *agents: str) -> None:
    async with trio.open_nursery() as nursery:
        for agent_id in agents:
            options = Options(
                provider="command",
                agent_id=agent_id,
                cwd=Path(folder),
                relay_url=url,
                token=token,
                provider_config={},
                tags=(tag,),
                state_dir=Path(folder) / agent_id,
            )
            nursery.start_soon(host, options)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    trio.run(main, *sys.argv[1:])
