"""The HTTP API as methods; records are classes of `relay.wire`, their instants epoch seconds.

Every method raises `RelayError`. `Refused` has the status that a docstring names; 400 (a request that is not well formed),
401 and 403 (the token) may come from any. Trouble is `Unreachable`, `Overloaded` and `ServerFailed`: what may be made
twice is tried three times, and any other change may have been made or not.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

from relay import wire

from ._bus import Bus, open_bus
from ._errors import Garbled
from ._events import StreamedEvent, events
from ._transport import DEFAULT_URL, Transport, find_token

__all__ = ["Client", "open_client"]

T = TypeVar("T")


def _id(value: str) -> str:
    """The id as one segment of a path. Dots alone would be taken for a step to another path."""
    segment = quote(value, safe="", errors="surrogatepass")
    return segment.replace(".", "%2E") if value in (".", "..") else segment


class Client:
    """Made by `open_client`. The surrounding cancel scope limits every call; each try is limited to 35 s.

    Numbers in docstrings are HTTP statuses of `Refused`; letters with a number are rules of the specification.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._call = transport.call

    @property
    def url(self) -> str:
        """Where relay is, without a slash at the end."""
        return self._transport.url

    async def health(self) -> wire.Health:
        """How relay is doing, and how much of what it has (O-56). Needs no token."""
        return self._one(wire.Health, await self._get("/api/health"))

    def events(self, agent_id: str | None = None, after: int | None = None) -> AsyncGenerator[StreamedEvent]:
        """Events newer than `after` (a place in the log), those that concern one agent or all; see `StreamedEvent`.
        Close it with `contextlib.aclosing`."""
        return events(self._transport, agent_id, after)

    def open_bus(self, hello: wire.bus.Hello) -> AbstractAsyncContextManager[Bus]:
        """One connection for all that an agent says and hears: `async with client.open_bus(hello) as bus:`. Waits until relay
        has welcomed it. Raises `Unauthorized`, and `Refused` when the hello is not as it should be (400), or this relay has no
        bus (404)."""
        return open_bus(self._transport, hello)

    # -- agents

    async def register_agent(self, agent: wire.RegisterAgent) -> wire.Agent:
        """Put an agent on record, or renew its card: what is None keeps its value. Another `instance_id` takes the agent
        over, and its earlier session gets 409 from then on (AGT-20)."""
        return self._one(wire.Agent, await self._call("POST", "/api/agents", agent, repeatable=True))

    async def agents(self) -> list[wire.Agent]:
        """All agents, by id."""
        return self._list(wire.Agent, await self._get("/api/agents"))

    async def agent(self, id: str) -> wire.Agent:  # noqa: A002 - the contract's word
        """One agent. 404: nobody has that id."""
        return self._one(wire.Agent, await self._get(f"/api/agents/{_id(id)}"))

    async def set_status(self, id: str, status: wire.SetStatus) -> None:  # noqa: A002
        """How the agent is. 404: unknown. 409: `instance_id` is not that of the present session (AGT-20)."""
        await self._call("PATCH", f"/api/agents/{_id(id)}/status", status, repeatable=True)

    async def set_ready(self, id: str, ready: wire.SetReady) -> None:  # noqa: A002
        """Whether the agent takes messages. 404 and 409 as of `set_status`."""
        await self._call("PATCH", f"/api/agents/{_id(id)}/ready", ready, repeatable=True)

    async def heartbeat(self, id: str, beat: wire.Heartbeat) -> None:  # noqa: A002
        """The agent is there: one that is stale (90 s without contact) or offline (180 s) is back (AGT-16). `meta` is merged
        into what is known. 404 and 409 as of `set_status`."""
        await self._call("POST", f"/api/agents/{_id(id)}/heartbeat", beat, repeatable=True)

    async def set_label(self, id: str, label: str | None) -> None:  # noqa: A002
        """The name for people and for `label:` addresses; None takes it away (AGT-22). 404: unknown."""
        body = wire.SetLabel(label=label)
        await self._call("PATCH", f"/api/agents/{_id(id)}/label", body, repeatable=True)

    async def set_tags(self, id: str, tags: list[str]) -> wire.Agent:  # noqa: A002
        """Replace all tags (AGT-28); the answer is the agent. 404: unknown."""
        body = wire.SetTags(tags=tags)
        return self._one(
            wire.Agent, await self._call("PATCH", f"/api/agents/{_id(id)}/tags", body, repeatable=True)
        )

    async def delete_agent(self, id: str) -> None:  # noqa: A002
        """Forget the agent (AGT-18). 404: unknown. Not repeated: trouble leaves open whether it is gone."""
        await self._call("DELETE", f"/api/agents/{_id(id)}")

    # -- messages

    async def send(self, message: wire.SendMessage) -> wire.Message:
        """Store a message, or get the one that the sender has sent with the same idempotency key (MSG-13). 422: the agent it is
        for is offline (MSG-10). Repeated only with a key; without one, trouble leaves open whether it was sent."""
        again = message.idempotency_key is not None
        return self._one(wire.Message, await self._call("POST", "/api/messages", message, repeatable=again))

    async def messages(
        self,
        *,
        for_: str | None = None,
        since: int | None = None,
        unread: bool = False,
        limit: int | None = None,
    ) -> list[wire.Message]:
        """What reaches agent `for_` with an id greater than `since`, oldest first, its own messages apart; `unread`: only what it
        has not read. Without `for_` the newest of all, newest first (MSG-21). `limit`: 100 unless told, at most 500."""
        query = {"for": for_, "since": since, "unread": "1" if unread else None, "limit": limit}
        return self._list(wire.Message, await self._get("/api/messages", query))

    async def cursor(self) -> int:
        """The newest message's id, 0 when there is none: the `since` of whoever starts afresh (MSG-22)."""
        return self._one(wire.Cursor, await self._get("/api/messages/cursor")).latest_id

    async def message(self, id: int) -> wire.Message:  # noqa: A002
        """One message, with its claim and its read marks. 404: unknown."""
        return self._one(wire.Message, await self._get(f"/api/messages/{id}"))

    async def thread(self, id: int) -> list[wire.Message]:  # noqa: A002
        """The thread that a message belongs to, oldest first, at most 1 000 messages (MSG-24). 404: unknown."""
        return self._list(wire.Message, await self._get(f"/api/messages/{id}/thread"))

    async def delivery(self, id: int) -> wire.Delivery:  # noqa: A002
        """How far a message got: queued, available, read by whom (MSG-35). 404: unknown."""
        return self._one(wire.Delivery, await self._get(f"/api/messages/{id}/status"))

    async def mark_read(self, id: int, agent_id: str) -> None:  # noqa: A002
        """The agent has read it; saying so twice is harmless (MSG-25). 404: unknown."""
        body = wire.MarkRead(agent_id=agent_id)
        await self._call("POST", f"/api/messages/{id}/read", body, repeatable=True)

    async def claim(self, id: int, agent_id: str) -> wire.Claim:  # noqa: A002
        """Take a claimable message for 900 s, or renew the own claim (MSG-27). 409: not claimable, or claimed by another agent.
        403: not addressed to this one. 404: unknown."""
        body = wire.ClaimMessage(agent_id=agent_id)
        return self._one(
            wire.Claim, await self._call("POST", f"/api/messages/{id}/claim", body, repeatable=True)
        )

    async def renew_claim(self, id: int, agent_id: str) -> wire.Claim:  # noqa: A002
        """Hold the claim for another 900 s (MSG-28). 409: the agent does not hold it (any more). 404: unknown."""
        body = wire.ClaimMessage(agent_id=agent_id)
        path = f"/api/messages/{id}/claim/renew"
        return self._one(wire.Claim, await self._call("POST", path, body, repeatable=True))

    # -- how far messages get

    async def take(self, agent_id: str, take: wire.TakeDeliveries | None = None) -> list[wire.HandOver]:
        """Be handed what is due to the agent, oldest first, each with a token to settle it with; claimable messages are claimed.
        404: unknown. 409: `instance_id` is not that of the present session. Repeated: an answer that was lost is made
        good by what `holding` says, or by time."""
        body = take or wire.TakeDeliveries()
        path = f"/api/agents/{_id(agent_id)}/deliveries"
        answer = await self._call("POST", path, body, repeatable=True)
        return self._one(wire.HandOvers, answer).deliveries

    async def ack(self, agent_id: str, acks: Sequence[wire.Ack]) -> list[wire.AckResult]:
        """Say what became of hand-overs, 1 to 500; the results are in the same order. 409: there is one, and its token is stale.
        404: unknown."""
        path = f"/api/agents/{_id(agent_id)}/deliveries/ack"
        answer = await self._call("POST", path, wire.AckDeliveries(acks=list(acks)), repeatable=True)
        return self._one(wire.AckResults, answer).results

    async def progress(
        self,
        id: int,  # noqa: A002
        *,
        rung: str | None = None,
        any: bool = False,  # noqa: A002
        wait: float | None = None,
    ) -> list[wire.Progress]:
        """How far the message got with each recipient there is. With `rung`: once all of them, or one if `any`, have come as far,
        or `wait` seconds (at most 25) are over. 404: unknown."""
        wait_ms = None if wait is None else round(wait * 1000)
        query = {"rung": rung, "any": "1" if any else None, "waitMs": wait_ms}
        return self._list(wire.Progress, await self._get(f"/api/messages/{id}/deliveries", query))

    async def mailbox_progress(
        self, agent_id: str, *, since: int | None = None, unread: bool = False, limit: int | None = None
    ) -> list[wire.Progress]:
        """How far each message got with the agent, of those that `messages` lists for it. 404: unknown."""
        query = {"since": since, "unread": "1" if unread else None, "limit": limit}
        path = f"/api/agents/{_id(agent_id)}/deliveries"
        return self._list(wire.Progress, await self._get(path, query))

    async def dead_letters(
        self, *, agent_id: str | None = None, before: int | None = None, limit: int | None = None
    ) -> list[wire.Progress]:
        """What was given up, newest message first, with the messages; `before` is the id of a message, exclusive. `limit`: 100
        unless told, at most 500."""
        query = {"agentId": agent_id, "before": before, "limit": limit}
        return self._list(wire.Progress, await self._get("/api/dead-letters", query))

    async def redeliver(self, id: int, agent_id: str | None = None) -> list[str]:  # noqa: A002
        """Begin afresh with that agent, or with all, with whom the message is dead; the answer is with whom. 409: with nobody.
        404: unknown. Not repeated, for the repeat of a success would be a 409."""
        body = wire.Redeliver(agent_id=agent_id)
        answer = await self._call("POST", f"/api/messages/{id}/redeliver", body)
        return self._one(wire.Redelivered, answer).redelivered

    async def react(self, id: int, reaction: wire.React) -> wire.Message:  # noqa: A002
        """Put an emoji to a message, or take it back; the answer is the message with its reactions. 422: it has as many as
        it can have. 404: unknown."""
        answer = await self._call("POST", f"/api/messages/{id}/reactions", reaction, repeatable=True)
        return self._one(wire.Message, answer)

    async def broadcast(self, message: wire.Broadcast) -> wire.Message:
        """A message from relay itself to everybody (MSG-48). Not repeated: trouble leaves open whether it was sent."""
        return self._one(wire.Message, await self._call("POST", "/api/system/broadcast", message))

    async def reply_obligations(self, agent_id: str) -> list[wire.Obligation]:
        """The messages whose senders wait for an answer of the agent, who has read them; the oldest first, at most 100.
        404: unknown."""
        return self._list(wire.Obligation, await self._get(f"/api/agents/{_id(agent_id)}/reply-obligations"))

    # -- pairs

    async def propose_pair(self, proposal: wire.ProposePair) -> wire.Pair:
        """Invite an agent to work as a pair (PAR-2). 422: it is offline. Not repeated: trouble leaves open whether it was
        invited."""
        return self._one(wire.Pair, await self._call("POST", "/api/pairs", proposal))

    async def pairs(
        self, *, status: str | None = None, agent_id: str | None = None, limit: int | None = None
    ) -> list[wire.Pair]:
        """Those that fit every filter, the newest first. `limit`: 100 unless told, at most 500."""
        query = {"status": status, "agentId": agent_id, "limit": limit}
        return self._list(wire.Pair, await self._get("/api/pairs", query))

    async def pair(self, id: str) -> wire.Pair:  # noqa: A002
        """One pair. 404: unknown."""
        return self._one(wire.Pair, await self._get(f"/api/pairs/{_id(id)}"))

    async def accept_pair(self, id: str, agent_id: str) -> wire.Pair:  # noqa: A002
        """Accept the invitation (PAR-3). 403: another agent was invited. 409: it is not pending (any more). 422: who invited is
        offline. 404: unknown. Not repeated, for the repeat of a success would be a 409."""
        return await self._answer_pair(id, "accept", agent_id)

    async def reject_pair(self, id: str, agent_id: str) -> wire.Pair:  # noqa: A002
        """Reject the invitation. Refused and not repeated as of `accept_pair`."""
        return await self._answer_pair(id, "reject", agent_id)

    async def end_pair(self, id: str, agent_id: str) -> wire.Pair:  # noqa: A002
        """End the pair, or take the invitation back. 403: no member. 409: it has ended. 404: unknown. Not repeated, for the
        repeat of a success would be a 409."""
        return await self._answer_pair(id, "end", agent_id)

    async def send_in_pair(self, id: str, message: wire.PairMessage) -> wire.Message:  # noqa: A002
        """Write to the other member (PAR-4). 403: no member. 409: the pair is not active. 404: unknown. Repeated only with an
        idempotency key."""
        again = message.idempotency_key is not None
        answer = await self._call("POST", f"/api/pairs/{_id(id)}/messages", message, repeatable=again)
        return self._one(wire.Message, answer)

    async def _answer_pair(self, key: str, verb: str, agent_id: str) -> wire.Pair:
        body = wire.Member(agent_id=agent_id)
        return self._one(wire.Pair, await self._call("POST", f"/api/pairs/{_id(key)}/{verb}", body))

    # -- tasks

    async def tasks(
        self,
        *,
        status: str | None = None,
        source: str | None = None,
        target: str | None = None,
        channel: str | None = None,
        claimed_by: str | None = None,
        limit: int | None = None,
    ) -> list[wire.Task]:
        """Those that fit every filter, newest first (TSK-12). `limit`: 100 unless told, at most 500."""
        query = {
            "status": status,
            "source": source,
            "target": target,
            "channel": channel,
            "claimedBy": claimed_by,
            "limit": limit,
        }
        return self._list(wire.Task, await self._get("/api/tasks", query))

    async def task(self, id: int) -> wire.Task:  # noqa: A002
        """One task. 404: unknown."""
        return self._one(wire.Task, await self._get(f"/api/tasks/{id}"))

    async def task_events(self, id: int) -> list[wire.TaskEvent]:  # noqa: A002
        """What happened to the task, oldest first, at most the newest 1 000. 404: unknown."""
        return self._list(wire.TaskEvent, await self._get(f"/api/tasks/{id}/events"))

    async def claim_task(self, id: int, agent_id: str) -> wire.TaskClaim:  # noqa: A002
        """Take a task, and the message that hands it over, for 900 s, or hold them for longer (MSG-29a). 409: another agent
        holds it, or it has ended. 403: it is not for this one. 404: unknown."""
        body = wire.ClaimTask(agent_id=agent_id)
        return self._one(
            wire.TaskClaim, await self._call("POST", f"/api/tasks/{id}/claim", body, repeatable=True)
        )

    async def set_task_status(self, id: int, status: wire.SetTaskStatus) -> wire.Task:  # noqa: A002
        """Say how a task is (TSK-4); whoever begins with one that nobody holds, holds it. An end lets go of it. The end that
        it has may be told again. 409: another agent holds it, or that cannot follow on how it is. 404: unknown."""
        return self._one(
            wire.Task, await self._call("POST", f"/api/tasks/{id}/status", status, repeatable=True)
        )

    # -- connectors

    async def connectors(self) -> list[wire.Connector]:
        """The adapters that are installed beside the server, by id, their secrets masked (CON-1)."""
        return self._list(wire.Connector, await self._get("/api/connectors"))

    async def connector(self, id: str) -> wire.Connector:  # noqa: A002
        """One connector. 404: unknown."""
        return self._one(wire.Connector, await self._get(f"/api/connectors/{_id(id)}"))

    async def configure_connector(self, id: str, config: dict[str, Any]) -> wire.Connector:  # noqa: A002
        """Replace its configuration (CON-4); a mask in it stands for what it hides. 404: unknown."""
        path = f"/api/connectors/{_id(id)}/config"
        body = {"config": config}
        return self._one(wire.Connector, await self._call("PUT", path, body, repeatable=True))

    async def connector_action(self, id: str, action: wire.ConnectorVerb) -> wire.ConnectorResult:  # noqa: A002
        """Have its program do something; the answer says whether it is `ok` (CON-3). It takes up to 25 s, and longer behind
        other actions. 404: unknown. Not repeated: trouble leaves open whether it was done."""
        body = wire.ConnectorAction(action=action)
        path = f"/api/connectors/{_id(id)}/actions"
        answer = await self._call("POST", path, body, told_by=502)
        return self._one(wire.ConnectorResult, answer)

    # -- commands

    async def commands(
        self,
        *,
        target: str | None = None,
        status: str | None = None,
        type: str | None = None,  # noqa: A002
        since: int | None = None,
        limit: int | None = None,
    ) -> list[wire.Command]:
        """Those that fit every filter, oldest first (CMD-4). `since` is epoch milliseconds, inclusive: when they were made.
        `limit`: 100 unless told, at most 500."""
        query = {"target": target, "status": status, "type": type, "since": since, "limit": limit}
        return self._list(wire.Command, await self._get("/api/commands", query))

    async def command(self, id: str) -> wire.Command:  # noqa: A002
        """One command. 404: unknown."""
        return self._one(wire.Command, await self._get(f"/api/commands/{_id(id)}"))

    async def create_command(self, command: wire.NewCommand) -> wire.Command:
        """A new command, pending (CMD-1); whoever it is for polls for it. Not repeated: trouble leaves open whether it
        was made."""
        return self._one(wire.Command, await self._call("POST", "/api/commands", command))

    async def patch_command(self, id: str, patch: wire.PatchCommand) -> wire.Command:  # noqa: A002
        """Report on a command; None keeps a member (CMD-7). The same report twice is harmless. 409: it has ended otherwise,
        cannot go back (CMD-11), or somebody else has claimed it. 404: unknown."""
        answer = await self._call("PATCH", f"/api/commands/{_id(id)}", patch, repeatable=True)
        return self._one(wire.Command, answer)

    async def claim_command(self, id: str, claimant: str | None = None) -> int | None:  # noqa: A002
        """Take a pending command, or one that this claimant has taken before (CMD-14): the token that reports of it must carry.
        None when it is somebody else's. 404: unknown. Repeated only with a name; without one,
        trouble may leave it taken by nobody who knows."""
        body = wire.ClaimCommand(claimant=claimant)
        again = claimant is not None
        answer = self._object(
            await self._call("POST", f"/api/commands/{_id(id)}/claim", body, repeatable=again)
        )
        token = answer.get("token")
        return token if answer.get("claimed") is True and isinstance(token, int) else None

    async def cancel_command(self, id: str) -> None:  # noqa: A002
        """End a command that has not ended (CMD-9). 404: unknown, or ended already. Not repeated, for the repeat of a success would be a 404."""
        await self._call("DELETE", f"/api/commands/{_id(id)}")

    # -- orchestrators

    async def register_orchestrator(self, host: wire.RegisterOrchestrator) -> wire.Orchestrator:
        """Put a host on record, or renew its card; it is online from now on (ORC-3)."""
        answer = await self._call("POST", "/api/orchestrators", host, repeatable=True)
        return self._one(wire.Orchestrator, answer)

    async def orchestrators(self) -> list[wire.Orchestrator]:
        """All hosts, by id."""
        return self._list(wire.Orchestrator, await self._get("/api/orchestrators"))

    async def orchestrator(self, id: str) -> wire.Orchestrator:  # noqa: A002
        """One host. 404: unknown."""
        return self._one(wire.Orchestrator, await self._get(f"/api/orchestrators/{_id(id)}"))

    async def orchestrator_heartbeat(self, id: str, beat: wire.OrchestratorHeartbeat) -> None:  # noqa: A002
        """The host is there; without contact for 90 s it is offline (ORC-9). 404: relay does not know it, register again
        (ORC-5)."""
        await self._call("POST", f"/api/orchestrators/{_id(id)}/heartbeat", beat, repeatable=True)

    async def report_roster(self, id: str, roster: wire.Roster) -> None:  # noqa: A002
        """Replace the list of agents that the host runs, and tell which have ended (ORC-10). 404: unknown."""
        await self._call("PATCH", f"/api/orchestrators/{_id(id)}/agents", roster, repeatable=True)

    async def spawn(self, orchestrator: str, agent: wire.SpawnAgent) -> wire.Command:
        """Ask a host to start an agent (14.4); the answer is the command that does it. 409: it is offline. 400: it lacks the
        provider, or the folder is outside its own. 404: unknown. Not repeated: trouble leaves it open."""
        answer = await self._call("POST", f"/api/orchestrators/{_id(orchestrator)}/spawn", agent)
        return self._one(wire.Command, self._object(answer).get("command"))

    async def orchestrator_action(self, id: str, action: wire.OrchestratorAction) -> wire.Command:  # noqa: A002
        """Restart or shut down one agent of the host, or all; the answer is the command that does it (14.5). 404: unknown.
        Not repeated: trouble leaves it open."""
        answer = await self._call("POST", f"/api/orchestrators/{_id(id)}/actions", action)
        return self._one(wire.Command, self._object(answer).get("command"))

    async def delete_orchestrator(self, id: str) -> None:  # noqa: A002
        """Forget the host (ORC-8). 404: unknown. Not repeated: trouble leaves open whether it is gone."""
        await self._call("DELETE", f"/api/orchestrators/{_id(id)}")

    # -- workspaces

    async def workspaces(
        self, *, status: str | None = None, repo_root: str | None = None, agent_id: str | None = None
    ) -> list[wire.Workspace]:
        """Those that fit every filter, by id. `repo_root` is the absolute path of a repository."""
        query = {"status": status, "repoRoot": repo_root, "agentId": agent_id}
        return self._list(wire.Workspace, await self._get("/api/workspaces", query))

    async def workspace(self, id: str) -> wire.Workspace:  # noqa: A002
        """One workspace. 404: unknown."""
        return self._one(wire.Workspace, await self._get(f"/api/workspaces/{_id(id)}"))

    async def act(self, id: str, action: wire.WorkspaceAction) -> dict[str, Any]:  # noqa: A002
        """Do something to a workspace (8.3). The answer has `workspace`, and `command` for a merge or cleanup; that of `status`
        is the workspace itself. 409: its repository is being merged, or no host is there to do it. 422: it has no worktree
        of its own. 404: unknown. Not repeated: trouble leaves it open."""
        return self._object(await self._call("POST", f"/api/workspaces/{_id(id)}/actions", action))

    async def delete_workspace(self, id: str) -> None:  # noqa: A002
        """Forget the workspace; the disk is left as it is (W-I27). 404: unknown. Not repeated: trouble leaves open
        whether it is gone."""
        await self._call("DELETE", f"/api/workspaces/{_id(id)}")

    async def git_state(self, id: str) -> dict[str, Any]:  # noqa: A002
        """What the host says of the worktree, or `{"available": False, "reason": …}` when it cannot be asked (9.1). 404: unknown."""
        return await self._get_object(f"/api/workspaces/{_id(id)}/git-state")

    async def merge_preview(self, id: str, strategy: str | None = None) -> dict[str, Any]:  # noqa: A002
        """What the host says a merge would do; when it cannot be asked as `git_state`. 404: unknown."""
        return await self._get_object(f"/api/workspaces/{_id(id)}/merge-preview", {"strategy": strategy})

    async def diff(self, id: str, *, patch: bool = True) -> dict[str, Any]:  # noqa: A002
        """What the host says was changed, `patch`: with the text of it; when it cannot be asked as `git_state`. 404: unknown."""
        return await self._get_object(f"/api/workspaces/{_id(id)}/diff", {"patch": None if patch else "0"})

    async def merge_leases(self) -> list[wire.MergeLease]:
        """The repositories that are being merged, by path, and for whom (11.4)."""
        return self._list(wire.MergeLease, await self._get("/api/merge-leases"))

    # -- channels

    async def channels(self) -> list[wire.Channel]:
        """All channels with their bindings, by id (CHN-1)."""
        return self._list(wire.Channel, await self._get("/api/channels"))

    async def channel(self, id: str) -> wire.Channel:  # noqa: A002
        """One channel. 404: no agent is a channel of that id."""
        return self._one(wire.Channel, await self._get(f"/api/channels/{_id(id)}"))

    async def channel_event(self, id: str, event: wire.ChannelEvent) -> wire.FannedOut:  # noqa: A002
        """Something came in on the channel: one message for each of its bindings, or those of the same idempotency key (CHN-12).
        409: it has no bindings. 400: one of them leads nowhere now, and nothing is stored. 404: unknown. Repeated only with
        a key; without one, trouble leaves open whether it was stored."""
        again = event.idempotency_key is not None
        answer = await self._call("POST", f"/api/channels/{_id(id)}/events", event, repeatable=again)
        return self._one(wire.FannedOut, answer)

    async def channel_bindings(self, channel_id: str | None = None) -> list[wire.Binding]:
        """The bindings of one channel or of all, oldest first."""
        query = {"channelId": channel_id}
        return self._list(wire.Binding, await self._get("/api/channel-bindings", query))

    async def bind_channel(self, binding: wire.NewBinding) -> wire.Binding:
        """Lead a channel to a target. An exclusive binding replaces all others, a broadcast one the exclusive one (CHN-7); the same
        one twice is one. 404: no such channel. 409: it has 100 already."""
        answer = await self._call("POST", "/api/channel-bindings", binding, repeatable=True)
        return self._one(wire.Binding, answer)

    async def unbind_channel(self, id: str) -> None:  # noqa: A002
        """Delete a binding. 404: unknown. Not repeated: trouble leaves open whether it is gone."""
        await self._call("DELETE", f"/api/channel-bindings/{_id(id)}")

    # -- activity

    async def activity(
        self,
        *,
        agent_id: str | None = None,
        kind: str | None = None,
        view: str | None = None,
        message_id: int | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[wire.Activity]:
        """What happened, newest first: what fits every filter. `before` is the id of a record, to go on from it.
        `limit`: 100 unless told, at most 500."""
        query = {
            "agentId": agent_id,
            "kind": kind,
            "view": view,
            "messageId": message_id,
            "before": before,
            "limit": limit,
        }
        return self._list(wire.Activity, await self._get("/api/activity", query))

    async def post_activity(self, activity: wire.NewActivity) -> wire.Activity:
        """Write it down; the same `client_id` twice is one record (ACT-2)."""
        answer = await self._call("POST", "/api/activity", activity, repeatable=True)
        return self._one(wire.Activity, answer)

    async def _get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        return await self._call("GET", path, query=query, repeatable=True)

    async def _get_object(self, path: str, query: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._object(await self._get(path, query))

    def _one(self, kind: type[T], answer: Any) -> T:
        try:
            return wire.decode(kind, self._object(answer))
        except wire.Invalid as error:
            raise Garbled(self.url, str(error)) from error

    def _list(self, kind: type[T], answer: Any) -> list[T]:
        if not isinstance(answer, list):
            raise Garbled(self.url, "it is no list")
        return [self._one(kind, item) for item in answer]

    def _object(self, answer: Any) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise Garbled(self.url, "it is no object")
        return answer


@asynccontextmanager
async def open_client(url: str | None = None, token: str | None = None) -> AsyncGenerator[Client]:
    """A client of the relay at `url` (default: `AGENT_RELAY_URL`, else loopback) with `token` (default: as found)."""
    transport = Transport(url or os.environ.get("AGENT_RELAY_URL") or DEFAULT_URL, token or find_token())
    try:
        yield Client(transport)
    finally:
        await transport.http.aclose()
