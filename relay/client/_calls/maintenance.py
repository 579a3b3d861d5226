"""Maintenance: what relay does by itself, and whether the audit is as it was written."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class MaintenanceCalls(Calls):
    async def stats(self) -> wire.Stats:
        """How much of what there is, and in which status."""
        return self._one(wire.Stats, await self._get("/api/stats"))

    async def reap(self) -> wire.Reaped:
        """A maintenance run now, and what it has ended or freed (SYS-11)."""
        return self._one(wire.Reaped, await self._call("POST", "/api/system/reap", repeatable=True))

    async def jobs(self) -> list[wire.Job]:
        """What relay does by itself now and then, and how the last runs went."""
        return self._list(wire.Job, await self._get("/api/maintenance/jobs"))

    async def run_job(self, name: str) -> wire.JobRun:
        """A run now; answered after it. `ok` is False when the run failed. 404; 504 when it takes longer, and goes on."""
        answer = await self._call("POST", f"/api/maintenance/jobs/{segment(name)}/run")
        return self._one(wire.JobRun, answer)

    async def verify_audit(self, head: str | None = None) -> wire.AuditVerdict:
        """Computes the chain of the audit again. `head` is a link that was noted once, as `number:digest`."""
        return self._one(wire.AuditVerdict, await self._get("/api/audit/verify", {"head": head}))
