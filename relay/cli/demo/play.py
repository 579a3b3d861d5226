"""The course of the demo: start everything, let the agents work, kill a runner and the server, wait for the end.

It acts through relay's API and with signals; what it knows it has from its witness. Every wait has the limit of the whole.
"""

import os
import signal
import sys
import time

import trio

from relay import wire
from relay.client import Client, Refused, RelayError, open_client

from . import agent as program
from .evidence import FINISHED, Outage
from .plan import Plan
from .stage import Stage
from .timeline import Timeline
from .witness import LOOK, Witness

__all__ = ["Play"]

LIMIT = 85.0  # seconds for everything between set-up and proofs
HOST = "demo-host"
NOTE = 0.15  # seconds between two messages of the demo's own
DEAD = 1.0  # seconds between the death of the server and its next life; long enough to miss several notes


class Play:
    """One run on one stage. Afterwards `witness.seen`, `acknowledged` and `outages` are what the proofs hold against the
    database."""

    def __init__(self, stage: Stage, plan: Plan, timeline: Timeline) -> None:
        self.stage = stage
        self.plan = plan
        self.say = timeline.say
        self.witness = Witness(stage, plan, timeline)
        self.acknowledged: dict[str, int] = {}
        self.outages: list[Outage] = []
        self._enough = trio.Event()

    async def run(self) -> None:
        """Raises `Failure` when it takes too long or something ends that should not."""
        with trio.move_on_after(LIMIT) as limit:
            try:
                await self._acts()
            except* RelayError as errors:
                raise self.witness.failure(
                    f"relay failed while the demo waited for {self.witness.waits_for}"
                ) from errors
        if limit.cancelled_caught:
            raise self.witness.failure(
                f"the demo waited {LIMIT:.0f} s and did not see {self.witness.waits_for}"
            )

    async def _acts(self) -> None:
        self.stage.start_server()
        await self._until_answering("started")
        async with open_client(self.stage.url, self.stage.token) as client, trio.open_nursery() as nursery:
            nursery.start_soon(self.witness.watch_events, client)
            nursery.start_soon(self.witness.watch_journals)
            nursery.start_soon(self._watch_processes)
            await self._open_host(client)
            for name in self.plan.team:
                await self._spawn(client, name)
            await self.witness.until(
                "all agents at work",
                lambda: all(self.witness.did(name, "started") for name in self.plan.team),
            )
            async with trio.open_nursery() as notes:
                notes.start_soon(self._send_notes, client)
                await self._kill_a_runner(client)
                await self._kill_the_server(client)
                await self.witness.until(
                    "all work landed",
                    lambda: all(self.witness.did(name, "landed") for name in self.plan.team),
                )
                self._enough.set()
            self.say("demo", f"has sent {len(self.acknowledged)} notes to {self.plan.lead} meanwhile")
            await self.witness.until(
                "the last message received", lambda: self.witness.all_received(self.acknowledged)
            )
            await self._all_read(client)
            await self._dismiss(client)
            nursery.cancel_scope.cancel()

    async def _open_host(self, client: Client) -> None:
        self.stage.start_orchestrator(HOST)
        self.witness.waits_for = "the host daemon registered"
        while not any(host.status == "online" for host in await client.orchestrators()):
            await trio.sleep(LOOK)
        self.say("host", f"{HOST} registered; works on {self.stage.base} of a clone in {self.stage.git.root}")

    async def _spawn(self, client: Client, name: str) -> None:
        told = self.plan.write(name, self.stage.journals)
        wish = wire.SpawnAgent(
            provider=wire.Provider.COMMAND,
            agent_id=name,
            label=name,
            cwd=str(self.stage.git.root),
            workspace_mode=wire.WorkspaceMode.ISOLATED,
            approval_mode=wire.ApprovalMode.OPEN,
            spawn_request_id=f"demo-{name}",
            prompt="; ".join(step.subject for step in self.plan.steps[name]),
            provider_config={
                "command": sys.executable,
                "defaultArgs": ["-P", program.__file__, str(told)],
                "protocol": "jsonl",
            },
        )
        await client.spawn(HOST, wish)

    async def _kill_a_runner(self, client: Client) -> None:
        victim, work = self.plan.victim, self.plan.work_to_interrupt
        await self.witness.until(f"{victim} at {work}", lambda: self.witness.did(victim, "turn", what=work))
        pid = await self._runner_of(client, victim)
        self.witness.expected_exits[victim] += 1
        os.kill(pid, signal.SIGKILL)
        self.say(
            "demo", f"kills the runner of {victim} (SIGKILL to {pid}) while it works on {work}", loud=True
        )
        await self.witness.until(f"the death of {victim} noticed", lambda: self.witness.exited[victim] > 0)
        await self.witness.until(f"{victim} back at work", lambda: self.witness.times(victim, "started") > 1)

    async def _runner_of(self, client: Client, name: str) -> int:
        """Its process, as the host has reported it."""
        while True:
            for agent in (await client.orchestrator(HOST)).managed_agents:
                if agent.agent_id == name and agent.pid:
                    return agent.pid
            await trio.sleep(LOOK)

    async def _kill_the_server(self, client: Client) -> None:
        """During a merge; if that was over a moment sooner, during the next."""
        merge = await self._next_merge()
        while True:
            self.stage.kill_server()
            killed = time.time()
            self.say("demo", "kills the server (SIGKILL) during a merge", loud=True)
            await trio.sleep(DEAD)
            self.outages.append(Outage(killed, time.time()))
            self.stage.start_server()
            await self._until_answering("back, on the same database")
            self.witness.look_again()
            if not await self._ended_before(client, merge, killed):
                return
            self.say("demo", "was too late, that merge was over; does it again")
            merge = await self._next_merge()

    async def _next_merge(self) -> str:
        """The command of a merge that has just begun to run."""
        before = len(self.witness.merges)
        await self.witness.until("a merge", lambda: len(self.witness.merges) > before)
        return self.witness.merges[-1]

    async def _ended_before(self, client: Client, merge: str, instant: float) -> bool:
        command = await client.command(merge)
        return command.status in FINISHED and (command.updated_at or 0) < instant

    async def _all_read(self, client: Client) -> None:
        """A receipt comes before its read mark; that must have arrived, too."""
        self.witness.waits_for = "every message marked as read"
        for name in self.plan.team:
            while await client.messages(for_=name, unread=True):
                await trio.sleep(LOOK)

    async def _dismiss(self, client: Client) -> None:
        """Asks the host to end the agents; what does not end is ended with the stage."""
        self.witness.expected_exits.update(self.plan.team)
        for name in self.plan.team:
            wish = wire.OrchestratorAction(
                action="shutdown", spawn_request_id=f"demo-{name}", reason="demo is over"
            )
            await client.orchestrator_action(HOST, wish)
        with trio.move_on_after(10):
            while any(
                agent.status != "offline" for agent in await client.agents() if agent.id in self.plan.team
            ):
                await trio.sleep(LOOK)

    async def _until_answering(self, how: str) -> None:
        """Health needs no token, so this works before there is one."""
        self.witness.waits_for = f"the server {how}"
        while True:
            self._check()
            try:
                async with open_client(self.stage.url, "none") as client:
                    await client.health()
            except Refused:
                break
            except RelayError:
                await trio.sleep(LOOK)
            else:
                break
        self.say("server", how)

    async def _watch_processes(self) -> None:
        while True:
            self._check()
            await trio.sleep(LOOK)

    def _check(self) -> None:
        ended = self.stage.ended()
        if ended is not None:
            raise self.witness.failure(ended)

    async def _send_notes(self, client: Client) -> None:
        """A sender that keeps count of what was acknowledged, right through the death of the server."""
        number = 0
        while not self._enough.is_set():
            number += 1
            key = f"demo-note-{number}"
            message = wire.SendMessage(
                from_="demo", to=self.plan.lead, body=f"note {number} [{key}]", idempotency_key=key
            )
            while key not in self.acknowledged:
                try:
                    self.acknowledged[key] = (await client.send(message)).id
                except RelayError:
                    await trio.sleep(LOOK)
            with trio.move_on_after(NOTE):
                await self._enough.wait()
