"""`/api/merge-leases` (agents-workspaces 11)."""

from relay.fleet import merges

from .answers import Answer, ok
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/api/merge-leases", scope="workspace:read")
async def list_(call: Call[None]) -> Answer:
    leases = merges.list_leases(call.fleet.store, call.fleet.system.wall())
    return ok([lease for lease in leases if call.principal.reaches(path=lease.repo_root)])
