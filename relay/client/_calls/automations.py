"""Automations: work that is begun by the clock, by an event, or by hand."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class AutomationCalls(Calls):
    async def create_automation(self, asked: wire.NewAutomation) -> wire.Automation:
        """Make an automation (AUT-1). Not repeated: trouble leaves open whether there is one now."""
        return self._one(wire.Automation, await self._call("POST", "/api/automations", asked))

    async def automations(self) -> list[wire.Automation]:
        """All of them, in the order in which they were made."""
        return self._list(wire.Automation, await self._get("/api/automations"))

    async def automation(self, id: str) -> wire.Automation:
        """One automation. 404: unknown."""
        return self._one(wire.Automation, await self._get(f"/api/automations/{segment(id)}"))

    async def change_automation(self, id: str, change: wire.ChangeAutomation) -> wire.Automation:
        """Change what is named (AUT-3). 404: unknown."""
        path = f"/api/automations/{segment(id)}"
        return self._one(wire.Automation, await self._call("PATCH", path, change, repeatable=True))

    async def delete_automation(self, id: str) -> None:
        """Remove it; runs of it that go on have failed (AUT-4). 404: unknown. Not repeated, for the repeat of a success would be
        a 404."""
        await self._call("DELETE", f"/api/automations/{segment(id)}")

    async def run_automation(self, id: str) -> wire.RunDispatch:
        """Begin a run now (AUT-5). 400: it cannot be dispatched, and the run has failed. 404: unknown. Not repeated: trouble
        leaves open whether there is a run."""
        answer = await self._call("POST", f"/api/automations/{segment(id)}/run")
        return self._one(wire.RunDispatch, answer)

    async def coming_runs(self, id: str, *, limit: int | None = None) -> list[wire.Instant]:
        """When it runs next, as far as that is known: `limit` times, 5 unless told, at most 100. 404: unknown."""
        answer = await self._get(f"/api/automations/{segment(id)}/next", {"limit": limit})
        return [at / 1000 for at in self._one(wire.ComingRuns, answer).times or []]

    async def automation_runs(
        self, *, automation_id: str | None = None, status: str | None = None, limit: int | None = None
    ) -> list[wire.AutomationRun]:
        """Runs that fit every filter, the newest first (AUT-7). `limit`: 100 unless told, at most 500."""
        query = {"automationId": automation_id, "status": status, "limit": limit}
        return self._list(wire.AutomationRun, await self._get("/api/automation-runs", query))
