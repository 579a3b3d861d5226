"""`/api/merge-leases`, and who looks after merges (agents-workspaces 11 and 13)."""

from relay.fleet import merges, stewards

from .answers import Answer, ok
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/api/merge-leases", scope="workspace:read")
async def list_(call: Call[None]) -> Answer:
    leases = merges.list_leases(call.fleet.store, call.fleet.system.wall())
    return ok([lease for lease in leases if call.principal.reaches(path=lease.repo_root)])


@route("GET", "/api/repo-stewards", scope="steward:read")
async def list_stewards(call: Call[None]) -> Answer:
    found = stewards.list_stewards(call.fleet.store)
    return ok([each for each in found if call.principal.reaches(path=each.repo_root)])
