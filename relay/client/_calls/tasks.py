"""Tasks: work that integrations ask for, and who does it."""

from __future__ import annotations

from relay import wire

from .base import Calls


class TaskCalls(Calls):
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

    async def integrations(self) -> list[wire.Integration]:
        """The programs that may report tasks, without their secrets (INT-2)."""
        return self._list(wire.Integration, await self._get("/api/integrations"))

    async def report_event(self, event: wire.IntegrationEvent) -> wire.Ingested:
        """What an integration has to say: a task, made or brought up to date (9.2). 403: the token is of no integration, or it may
        not address that target. 429: too often. Repeated only with a key; without one, trouble leaves open whether there is a task."""
        path, again = "/api/integrations/events", event.identity is not None
        return self._one(wire.Ingested, await self._call("POST", path, event, repeatable=again))

    async def task(self, id: int) -> wire.Task:
        """One task. 404: unknown."""
        return self._one(wire.Task, await self._get(f"/api/tasks/{id}"))

    async def task_events(self, id: int) -> list[wire.TaskEvent]:
        """What happened to the task, oldest first, at most the newest 1 000. 404: unknown."""
        return self._list(wire.TaskEvent, await self._get(f"/api/tasks/{id}/events"))

    async def claim_task(self, id: int, agent_id: str) -> wire.TaskClaim:
        """Take a task, and the message that hands it over, for 900 s, or hold them for longer (MSG-29a). 409: another agent
        holds it, or it has ended. 403: it is not for this one. 404: unknown."""
        body = wire.ClaimTask(agent_id=agent_id)
        return self._one(
            wire.TaskClaim, await self._call("POST", f"/api/tasks/{id}/claim", body, repeatable=True)
        )

    async def set_task_status(self, id: int, status: wire.SetTaskStatus) -> wire.Task:
        """Say how a task is (TSK-4); whoever begins with one that nobody holds, holds it. An end lets go of it. The end that
        it has may be told again. 409: another agent holds it, or that cannot follow on how it is. 404: unknown."""
        return self._one(
            wire.Task, await self._call("POST", f"/api/tasks/{id}/status", status, repeatable=True)
        )
