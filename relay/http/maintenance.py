"""`/api/maintenance/jobs`, and whether the audit is as it was written."""

from relay import wire
from relay.fleet import jobs

from .answers import Answer, ok
from .errors import Refused
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/api/maintenance/jobs", scope="system:read")
async def list_(call: Call[None]) -> Answer:
    return ok(jobs.list_jobs(call.fleet))


@route("POST", "/api/maintenance/jobs/:name/run", scope="system:write")
async def run(call: Call[None]) -> Answer:
    """Answered after the run. It goes on when the answer would come too late (504)."""
    job = await jobs.run_job(call.fleet, call.path["name"], call.by)
    return ok(wire.JobRun(ok=job.last_outcome is not wire.JobOutcome.FAILED, job=job))


@route("GET", "/api/audit/verify", scope="system:read", waits=True)
async def verify(call: Call[None]) -> Answer:
    """`head` is a link that was noted once, as `number:digest`."""
    try:
        return ok(await jobs.verify(call.fleet, call.query.text("head")))
    except ValueError as error:
        raise Refused(400, f"head: {error}") from None
