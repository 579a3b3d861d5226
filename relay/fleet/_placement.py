"""Which host a spawn goes to that names none (3.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay import wire
from relay.actors import Refusal

from ._audit import Caller
from ._errors import Conflict, Invalid, NotFound
from ._orchestrator_protocol import Dispatched, Spawn
from ._orchestrator_rows import list_orchestrators

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["spawn_anywhere"]


async def spawn_anywhere(fleet: Fleet, request: wire.SpawnAgent, by: Caller | None = None) -> Dispatched:
    """Spawn on the first fitting host, by id (AGT-43, O-12). Raises `Invalid` when there is none (AGT-47).

    A host that has just gone is passed over, and so is one whose base directory does not contain `cwd`.
    """
    refused: Refusal | None = None
    for host in list_orchestrators(fleet.store, status=wire.OrchestratorStatus.ONLINE):
        if request.provider in host.providers:
            try:
                return await fleet.orchestrators[host.id].ask(Spawn(request, anywhere=True, by=by))
            except (Conflict, Invalid, NotFound) as refusal:
                refused = refused or refusal
    raise Invalid(
        str(refused) if refused else f"no host that is online has the provider {request.provider.value}"
    )
