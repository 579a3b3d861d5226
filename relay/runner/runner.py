"""The runner: one agent identity, one agent process at a time, and everything between it and relay.

    start   info file, what an earlier life left behind, registration, the process, the first prompt (1.7)
    then    mailbox, commands, liveness and what the agent says, side by side
    end     the process, outcomes and messages that relay does not have yet, a goodbye (1.8)

Relay may be away at any time: what it is owed is on disk, and told when it is back. The agent's process may die: it is
started again, within reason (`keeper`). Only another runner of the same agent is final: this one ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

import trio

from relay.client import Client, Outcomes, Refused, RelayError, open_client

from .activity import SUBAGENT, TURN, Activity
from .adapter import AgentGone, DeliveryFailed
from .approvals import Approvals
from .capabilities import provider_capabilities
from .claims import Claims
from .command import CommandAgent
from .commands import Commands
from .credential import RENEWED, Renewal
from .deeds import Deeds
from .hearing import Hearing
from .inbox import Inbox
from .info import InfoFile
from .keeper import GIVEN_UP, OVER, Keeper
from .leftover import end_leftover
from .options import Options
from .outbox import Outbox
from .presence import Presence

__all__ = ["TAKEN_OVER", "Runner", "serve"]

log = logging.getLogger(__name__)

TAKEN_OVER = 3  # exit code
LISTEN_AGAIN = 60.0  # seconds
WAKING = {"delivery.redelivered", "reset"}  # besides all about messages
GOODBYE = 60.0  # seconds for what relay is owed at the end
HASTY_GOODBYE = 2.0  # when somebody waits for the end


class Runner:
    """One runner's life; `run` returns its exit code."""

    def __init__(self, options: Options, relay: Client, wall: Callable[[], float] = time.time) -> None:
        self._options = options
        self._relay = relay
        self._wall = wall
        self._info = InfoFile(options, wall)
        self._activity = Activity(wall)
        self._presence = Presence(options, relay, self._activity, self._info.started_at, self._look)
        publish = self._presence.publish
        self._renewal = Renewal(
            options.credential,
            relay,
            options.agent_id,
            options.state_dir,
            host_url=lambda: options.host,
            told=self._tell_of_token,
            wall=wall,
        )
        self._claims = Claims(options, relay, self._activity, publish)
        self._approvals = Approvals(self._activity, publish, wall, options.patience.decision)
        self._inbox = Inbox(options, relay, self._claims)
        self._outbox = Outbox(options.state_dir / "outbox", f"{options.agent_id}/{options.instance_id}")
        self._outcomes = Outcomes(options.state_dir / "outcomes")
        self._keeper = Keeper(options, self._beside, self._leave)
        self._deeds = Deeds(
            options,
            keeper=self._keeper,
            inbox=self._inbox,
            presence=self._presence,
            approvals=self._approvals,
            wall=wall,
        )
        self._commands = Commands(options, relay, self._outcomes, self._deeds, self._activity, publish)
        self._handing_over = trio.CancelScope()
        self._goodbye = trio.CancelScope()
        self._goodbye_within = GOODBYE

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> int:
        """Run until stopped, taken over, or until the agent ended for good."""
        self._info.write()
        await end_leftover(self._options.state_dir / "agent.json")
        try:
            code = await self._life(task_status)
        except Refused as error:
            log.error("relay does not accept this runner: %s", error)
            code = GIVEN_UP
        except trio.Cancelled:
            self._info.remove()
            raise
        self._info.remove()
        return code

    async def stop(self) -> None:
        """End the agent, then the runner; somebody waits for it."""
        self._goodbye_within = HASTY_GOODBYE
        await self._keeper.end(self._options.grace)
        self._goodbye.deadline = trio.current_time() + HASTY_GOODBYE

    async def _life(self, task_status: trio.TaskStatus[None]) -> int:
        await self._renewal.begin()
        self._presence.facts["auth"] = self._options.credential.facts
        await self._presence.register()
        self._info.write(registered=True)
        async with trio.open_nursery() as nursery:
            for loop in (
                self._presence.keep_alive,
                self._presence.tell_changes,
                self._renewal.run,
                self._claims.renew,
                self._claims.report,
                self._approvals.watch,
                self._commands.run,
                self._listen,
                self._give_way,
            ):
                nursery.start_soon(loop)
            nursery.start_soon(self._outbox.deliver, self._relay)
            nursery.start_soon(self._outcomes.deliver, self._relay)
            task_status.started()
            code = await self._keeper.run()
            await self._say_goodbye(code)
            nursery.cancel_scope.cancel()
        return TAKEN_OVER if self._presence.taken_over.is_set() else code

    # -- beside the agent's process

    async def _beside(self, agent: CommandAgent, session_id: str) -> None:
        """What goes on while one process lives."""
        hearing = Hearing(
            agent,
            session_id,
            self._options,
            activity=self._activity,
            approvals=self._approvals,
            claims=self._claims,
            inbox=self._inbox,
            outbox=self._outbox,
            presence=self._presence,
        )
        self._activity.ended = None
        self._presence.facts["providerCapabilities"] = provider_capabilities(agent.capabilities)
        self._presence.ready = True
        self._presence.publish()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hearing.run)
            nursery.start_soon(self._feed, agent)
            await agent.exited.wait()
            nursery.cancel_scope.cancel()
        hearing.hear_the_rest()
        self._forget_the_process()

    async def _feed(self, agent: CommandAgent) -> None:
        """The first prompt, then the mailbox."""
        with trio.CancelScope() as self._handing_over:
            await self._first_prompt(agent)
            await self._inbox.run(agent)

    def _leave(self) -> None:
        """The process is ended on request: nothing more is handed over."""
        self._handing_over.cancel()

    def _forget_the_process(self) -> None:
        self._presence.ready = False
        self._activity.clear(TURN, SUBAGENT)
        self._claims.agent_died()
        self._approvals.forget()

    async def _first_prompt(self, agent: CommandAgent) -> None:
        """Once per session, however often agent and runner are started again (1.10)."""
        done = self._options.state_dir / "prompted"
        text = (self._options.prompt or "").strip()
        if not text or done.exists():
            return
        try:
            await agent.prompt(text)
            done.touch()
        except (DeliveryFailed, AgentGone) as error:
            log.error("the first prompt was not taken: %s", error)

    # -- relay

    def _tell_of_token(self, event: Mapping[str, Any]) -> None:
        """Another token, or none yet."""
        self._presence.facts["auth"] = self._options.credential.facts
        self._presence.report(event)
        if event["status"] == RENEWED:
            self._presence.renewed()
        self._presence.publish()

    def _look(self) -> None:
        self._inbox.look()
        self._commands.look()

    async def _listen(self) -> None:
        """Relay's events only wake the polls; polling stays the source of truth."""
        while True:
            try:
                async with aclosing(self._relay.events(self._options.agent_id)) as events:
                    async for event in events:
                        if event.type.startswith("message.") or event.type in WAKING:
                            self._inbox.look()
                        if event.type in {"command.requested", "reset"}:
                            self._commands.look()
            except RelayError as error:
                log.warning("relay announces nothing: %s", error)
            await trio.sleep(LISTEN_AGAIN)

    async def _give_way(self) -> None:
        """The agent belongs to another runner now."""
        await self._presence.taken_over.wait()
        await self.stop()

    async def _say_goodbye(self, code: int) -> None:
        """What relay is owed, then that the agent is gone; while relay is away only for so long."""
        self._presence.ready = False
        self._activity.ended = "offline" if code == OVER else "error"
        self._goodbye.deadline = trio.current_time() + self._goodbye_within
        with self._goodbye, suppress(RelayError):
            await self._commands.finish()
            await self._outcomes.settled()
            await self._outbox.settled()
            await self._inbox.finish()
            await self._claims.finish()
            if self._presence.taken_over.is_set():
                return
            if self._commands.ended_the_agent:
                await self._relay.delete_agent(self._options.agent_id)
            else:
                await self._presence.tell()


async def serve(options: Options, *, task_status: trio.TaskStatus[Runner] = trio.TASK_STATUS_IGNORED) -> int:
    """Run one agent until it ended for good; started, with the runner, once it is registered."""
    options.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    code = OVER
    async with open_client(options.relay_url, options.token) as relay, trio.open_nursery() as nursery:
        runner = Runner(options, relay)

        async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            nonlocal code
            code = await runner.run(task_status=task_status)
            nursery.cancel_scope.cancel()

        await nursery.start(run)
        task_status.started(runner)
    return code
