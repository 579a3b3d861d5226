"""What relay is told about the tasks that messages hand over (1.13-7, 1.14).

Nothing that goes wrong here keeps a message from the agent. A refusal is an answer: relay knows better how the task is.
"""

from __future__ import annotations

import logging

import trio

from relay import wire
from relay.client import Client, Overloaded, Refused, RelayError, Unauthorized

__all__ = ["Tasks", "task_of"]

log = logging.getLogger(__name__)

WITHIN = 10.0  # seconds that the agent waits for its messages because relay is told that a task has begun


class Tasks:
    """Speaks of tasks in the name of one agent."""

    def __init__(self, relay: Client, agent_id: str) -> None:
        self._relay = relay
        self._agent_id = agent_id

    async def begun(self, task: int, message: int) -> None:
        """The agent is about to get it."""
        with trio.move_on_after(WITHIN):
            await self.tell(task, self._report(wire.TaskStatus.IN_PROGRESS, message))

    async def done(self, task: int, message: int) -> bool:
        """A turn that the agent had the task in has ended. Whether relay knows."""
        return await self.tell(task, self._report(wire.TaskStatus.DONE, message))

    async def said(self, task: int, status: wire.TaskStatus, body: str | None, metadata: object) -> bool:
        """The agent speaks for itself. Whether relay has heard it."""
        metadata = metadata if isinstance(metadata, dict) else None
        report = wire.SetTaskStatus(status=status, agent_id=self._agent_id, body=body, metadata=metadata)
        return await self.tell(task, report)

    def _report(self, status: wire.TaskStatus, message: int) -> wire.SetTaskStatus:
        body = f"message {message} was worked on in a turn that has ended" if status.final else None
        metadata = {"messageId": message, "completedBy": "runner"}
        return wire.SetTaskStatus(status=status, agent_id=self._agent_id, body=body, metadata=metadata)

    async def tell(self, task: int, report: wire.SetTaskStatus) -> bool:
        """Whether relay has answered."""
        try:
            await self._relay.set_task_status(task, report)
        except (Overloaded, Unauthorized) as error:
            log.warning("relay is not told that task %d is %s: %s", task, report.status, error)
            return False
        except Refused as error:  # it has ended otherwise, is somebody else's by now, or there is none
            log.info("relay does not take task %d for %s: %s", task, report.status, error)
        except RelayError as error:
            log.warning("relay is not told that task %d is %s: %s", task, report.status, error)
            return False
        return True


def task_of(message: wire.Message) -> int | None:
    """The task that the message hands over, if it does (1.13-11)."""
    task = (message.payload or {}).get("taskId")
    return task if isinstance(task, int) and not isinstance(task, bool) and abs(task) < 2**53 else None
