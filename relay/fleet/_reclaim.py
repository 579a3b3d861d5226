"""Orphans: worktrees of agents that no workspace is in any more, and how they are taken away (agents-workspaces 10).

Only the host knows what is on its disk; which of that is an orphan is decided by the rows. A worktree whose path any row that
has not ended names is never one, and whoever asks for it meanwhile is refused: the row is looked for again in the very
transaction that makes the command (W-I24).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Decision, Store, Write

from ._audit import audit
from ._errors import Conflict, Invalid
from ._moment import Moment
from ._new_command import COLUMNS, new_command
from ._orchestrator_protocol import Reclaim
from ._owners import online
from ._paths import normalised, within

__all__ = ["OWN_BRANCHES", "Orphan", "live_in", "must_be_orphan", "orphans", "reclaim", "repositories"]

OWN_BRANCHES = "agent/"
ENDED = (wire.WorkspaceStatus.CLEANED, wire.WorkspaceStatus.MERGED, wire.WorkspaceStatus.ABANDONED)
_ENDED = ", ".join(f"'{status.value}'" for status in ENDED)
_WHERE = (
    f"(worktree_path = ? or substr(worktree_path, 1, length(?) + 1) = ? || '/') and status not in ({_ENDED})"
)
_LIVE = f"select id from workspaces where {_WHERE} order by id"
_FENCED = (
    f"insert into commands ({COLUMNS}) select ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
    f" where not exists (select 1 from workspaces where {_WHERE})"
)


@attrs.frozen(kw_only=True)
class Orphan:
    """A worktree on disk without a live row. `had_terminal_row`: there is one that has ended."""

    worktree_path: str
    repo_root: str
    branch: str
    head_sha: str | None
    had_terminal_row: bool


def repositories(store: Store) -> list[str]:
    """The repositories that any workspace was ever in."""
    sql = (
        "select distinct repo_root from workspaces where repo_root is not null and repo_root <> '' order by 1"
    )
    return [root for (root,) in store.rows(sql)]


def orphans(store: Store, repo_root: str, worktrees: Iterable[Any]) -> Iterator[Orphan]:
    """Those among the worktrees of a repository, as its host lists them (10.1, step 5). What makes no sense is none."""
    for entry in worktrees:
        path, branch = _text(entry, "path"), _text(entry, "branch")
        if not path or normalised(path) == normalised(repo_root):
            continue
        if not branch or not branch.startswith(OWN_BRANCHES) or live_in(store, path) is not None:
            continue
        sql = f"select 1 from workspaces where worktree_path = ? and status in ({_ENDED})"
        ended = store.row(sql, normalised(path)) is not None
        yield Orphan(
            worktree_path=path,
            repo_root=repo_root,
            branch=branch,
            head_sha=_text(entry, "headSha"),
            had_terminal_row=ended,
        )


def _text(entry: Any, name: str) -> str | None:
    value = entry.get(name) if isinstance(entry, Mapping) else None
    return value if isinstance(value, str) else None


def live_in(store: Store, path: str) -> str | None:
    """The workspace, of any repository, that has not ended and is in this directory, or below it."""
    row = store.row(_LIVE, *[normalised(path)] * 3)
    return str(row[0]) if row else None


def must_be_orphan(store: Store, asked: wire.Reclaim) -> None:
    """Raises `Invalid` for what is no agent's worktree, and `Conflict` when a workspace is in it."""
    if asked.branch is not None and not asked.branch.startswith(OWN_BRANCHES):
        raise Invalid(
            f"branch: {asked.branch} is a person's; only those that begin with {OWN_BRANCHES} are reclaimed"
        )
    if normalised(asked.worktree_path) == normalised(asked.repo_root):
        raise Invalid("worktreePath: that is the repository itself")
    if (live := live_in(store, asked.worktree_path)) is not None:
        raise Conflict(
            f"workspace {live} is in {asked.worktree_path} and has not ended: clean that up instead"
        )


def reclaim(
    host: wire.Orchestrator, message: Reclaim, store: Store, moment: Moment
) -> Decision[wire.Command]:
    """A cleanup without a workspace, for a host that is there and owns the repository."""
    asked = message.asked
    must_be_orphan(store, asked)
    if not online(host) or not within(host.base_dir, asked.repo_root):
        raise Conflict(
            f"no host that is online owns {asked.repo_root}: start its orchestrator, then ask again"
        )
    params = {
        "action": "cleanup",
        **wire.to_json(asked),
        "deleteBranch": True,
        "reclaim": True,
        "requestedBy": "dashboard",
        "requestedAt": moment.ms,
    }
    new = wire.NewCommand(type="workspace.cleanup", source="system", target=host.agent_id, params=params)
    command, (insert,), events = new_command(moment, new)
    fenced = Write(_FENCED, (*insert.params, *[normalised(asked.worktree_path)] * 3), 1)
    note, noted = audit(
        moment,
        f"workspace-orphan-reclaim-{moment.ms}",
        "removal of an orphan worktree was asked for",
        body=asked.worktree_path,
        meta=asked.branch or asked.repo_root,
        icon="ti-trash",
        view="orchestrators",
        metadata={**wire.to_json(asked), "commandId": command.id},
        by=message.by,
    )
    return Decision(reply=command, writes=(fenced, note), events=(*events, noted))
