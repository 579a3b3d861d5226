"""What the agent says, and what follows from it (1.17, 1.33.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import trio

from relay import wire

from ._frames import Invalid, optional, required
from .activity import TURN, Activity
from .adapter import DeliveryFailed
from .approvals import Approvals
from .claims import Claims
from .command import CommandAgent
from .inbox import Inbox
from .options import Options
from .outbox import Outbox
from .presence import Presence

__all__ = ["Hearing"]

log = logging.getLogger(__name__)

POSTED = ("to", "replyTo", "subject", "body", "payload", "meta", "channel", "idempotencyKey", "attachments")
DETAILS = ("label", "role", "parentId", "metadata")


class Hearing:
    """Listens to one process, `agent`, whose session is `session_id`."""

    def __init__(
        self,
        agent: CommandAgent,
        session_id: str,
        options: Options,
        *,
        activity: Activity,
        approvals: Approvals,
        claims: Claims,
        inbox: Inbox,
        outbox: Outbox,
        presence: Presence,
    ) -> None:
        self._agent = agent
        self._options = options
        self._session_id = session_id
        self._activity = activity
        self._approvals = approvals
        self._claims = claims
        self._inbox = inbox
        self._outbox = outbox
        self._presence = presence

    async def run(self) -> None:
        """Hear the agent until cancelled."""
        async for frame in self._agent.frames:
            self.hear(frame)
            await trio.lowlevel.checkpoint()

    def hear_the_rest(self) -> None:
        """The last words of an agent that has ended."""
        with suppress(trio.WouldBlock):
            while True:
                self.hear(self._agent.frames.receive_nowait())

    def hear(self, frame: Mapping[str, Any]) -> None:
        """One frame. What makes no sense is logged and has no effect."""
        try:
            self._hear(frame)
        except (Invalid, DeliveryFailed) as error:
            log.warning("the agent's %s frame is ignored: %s", frame["type"], error)

    def _hear(self, frame: Mapping[str, Any]) -> None:
        match frame["type"]:
            case "turn":
                if frame.get("state") not in {"start", "end"}:
                    raise Invalid("state: expected start or end")
                turn = optional(frame, "id", str)
                update = {"id": turn, "metadata": frame.get("metadata")}
                if frame["state"] == "start":
                    self._status({"status": "busy", **update})
                else:
                    self._status({"status": "idle", **update, "clear": [] if turn else [TURN]})
            case "status":
                self._status(frame)
            case "reply":
                self._post(frame, wire.MessageKind.CHAT)
            case "react":
                self._react(frame)
            case "session":
                self._post(
                    {**frame, "to": "user", "meta": {"role": frame.get("role")}}, wire.MessageKind.SESSION
                )
            case "task":
                self._claims.said(
                    required(frame, "taskId", int),
                    _task_status(frame),
                    optional(frame, "body", str),
                    optional(frame, "metadata", dict),
                )
            case "context":
                self._presence.facts["context"] = optional(frame, "context", dict) or {}
                self._presence.publish()
            case "permission-request":
                self._approvals.requested(
                    self._agent,
                    required(frame, "approvalId", str),
                    required(frame, "toolName", str),
                    optional(frame, "description", str),
                )
            case "log":
                log.info("agent: %s", frame.get("text"))

    def _status(self, update: Mapping[str, Any]) -> None:
        """A status update of 1.17. One of another session changes nothing (R-I19)."""
        if optional(update, "providerSessionId", str) not in (None, self._session_id):
            return
        kind = optional(update, "reason", str) or TURN
        id_ = optional(update, "id", str) or kind
        match required(update, "status", str):
            case "busy":
                self._activity.ended = None
                self._activity.start(kind, id_, **_details(update))
                if kind == TURN:
                    self._claims.turn_began()
            case "idle":
                self._activity.ended = None
                self._activity.finish(kind, id_)
                if kind == TURN:
                    self._claims.turn_ended(failed=_failed(update))
                    self._inbox.look()
            case "offline" | "error" as ended:
                self._activity.ended = ended
            case other:
                raise Invalid(f"status: {other} is none")
        self._report(optional(update, "timeline", dict))
        self._activity.clear(
            *(kind for kind in optional(update, "clear", list) or () if isinstance(kind, str))
        )
        self._presence.publish()

    def _report(self, event: Mapping[str, Any] | None) -> None:
        try:
            if event is not None:
                self._presence.report(event)
        except wire.Invalid as error:
            log.warning("the agent's timeline entry is ignored: %s", error)

    def _react(self, frame: Mapping[str, Any]) -> None:
        number = required(frame, "messageId", int)
        reaction = {
            "agentId": self._options.agent_id,
            "emoji": frame.get("emoji"),
            "remove": frame.get("remove"),
        }
        try:
            self._outbox.put_reaction(number, wire.decode(wire.React, reaction))
        except wire.Invalid as error:
            raise Invalid(str(error)) from None
        except OSError as error:
            log.error("a reaction of the agent cannot be kept: %s", error)

    def _post(self, frame: Mapping[str, Any], kind: wire.MessageKind) -> None:
        message = {name: frame[name] for name in POSTED if frame.get(name) is not None}
        try:
            self._outbox.put({**message, "from": self._options.agent_id, "kind": kind.value})
        except OSError as error:
            log.error("a message of the agent cannot be kept: %s", error)


def _task_status(frame: Mapping[str, Any]) -> wire.TaskStatus:
    status = required(frame, "status", str)
    if status not in [*wire.TaskStatus]:
        raise Invalid(f"status: expected one of {', '.join(wire.TaskStatus)}")
    return wire.TaskStatus(status)


def _failed(update: Mapping[str, Any]) -> bool:
    """Whether the turn was ended by a failure: it proves nothing then (1.34.1)."""
    metadata = update.get("metadata")
    return isinstance(metadata, dict) and metadata.get("failed") is True


def _details(update: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept with the work that the agent has begun."""
    details = {name: update[name] for name in DETAILS if update.get(name) is not None}
    state = optional(update, "providerState", dict)
    if state is not None:
        details["metadata"] = {**(optional(update, "metadata", dict) or {}), "providerState": state}
    return details
