"""Who else hears of a command: some before its event, so that nobody sees the event and not what it led to; the others
once its end is durable.

Whom a command concerns stands in the command itself: `recipeInstanceId`, `policyName` with `spawnRequestId`, the type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay import wire
from relay.actors import Ref, Tell

from ._command_rules import spawned
from ._orchestrator_protocol import UpgradeMoved
from ._paths import normalised
from ._policy_protocol import CommandMoved
from ._recipe_protocol import CommandMoved as RecipeCommandMoved
from ._records import text_member
from ._runner_tokens import host_with
from ._workspace_protocol import Report, Settle
from .merges import Release

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["others_to_tell", "tell_afterwards", "tell_before"]

UPGRADE = "orchestrator.upgrade"
POLICY_COMMANDS = ("agent.spawn", "agent.restart", "agent.shutdown")

Tells = tuple[tuple[Ref[Any], Tell[Any]], ...]


def others_to_tell(after: wire.Command) -> bool:
    """Whether somebody must know how the command is now before its event is seen."""
    if _recipe_of(after) is not None:
        return True
    return after.status.final and (after.type.startswith("workspace.") or bool(spawned(after)))


async def tell_before(fleet: Fleet, after: wire.Command) -> None:
    """Those who must know first. Each takes the same news as often as it comes."""
    if after.status.final:
        await _tell_workspaces(fleet, after)
    if (instance := _recipe_of(after)) is not None:
        await fleet.recipes[instance].ask(RecipeCommandMoved(after))


def _recipe_of(command: wire.Command) -> str | None:
    """The run of a recipe whose command it is."""
    return text_member(command.params, "recipeInstanceId")


async def _tell_workspaces(fleet: Fleet, after: wire.Command) -> None:
    host = host_with(fleet.store, after.target) or after.target.removeprefix("orchestrator-")
    for entry in spawned(after):
        assert entry.workspace is not None
        report = Report(entry.workspace, agent_id=entry.agent_id, orchestrator_id=str(host))
        await fleet.workspaces[entry.workspace.id].ask(report)
    if after.type.startswith("workspace.") and after.correlation_id is not None:
        settle = Settle(after.id, after.type, after.status, after.result, after.error)
        await fleet.workspaces[after.correlation_id].ask(settle)
    repository = after.params.get("repoRoot")
    if after.type == "workspace.merge" and isinstance(repository, str):
        await fleet.leases[normalised(repository)].ask(Release(after.id))


def tell_afterwards(fleet: Fleet, after: wire.Command) -> Tells:
    """What to tell whom of the end, once it is durable. A host, or a policy, that misses it looks at the command itself."""
    if not after.status.final:
        return ()
    if after.type == UPGRADE:
        host = fleet.orchestrators[after.target.removeprefix("orchestrator-")]
        return ((host, UpgradeMoved(after.id, after.status, after.error)),)
    policy = text_member(after.params, "policyName")
    if policy is not None and "policyEpoch" in after.params and after.type in POLICY_COMMANDS:
        return ((fleet.policies[policy], CommandMoved(after)),)
    return ()
