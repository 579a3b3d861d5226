"""The state machines: the page shows what the code has, and the code has what the contract says.

`CONTRACT` is the rows of the contract's tables, word for word, each with the events of ours that stand for it. Where ours
is another way, the row says why. What ours has besides stands in `MORE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from relay.fleet import machines
from relay.fleet._machine import AS_BEFORE, AS_GIVEN, NONE

ROOT = Path(__file__).parent.parent.parent
REFUSED = None
"""There is no such move."""

MACHINES = {machine.name: machine for machine in machines.MACHINES}


@attrs.frozen
class Row:
    """A row of the contract: from, when, to. `ours` are events of our table, with what they lead to; `states` are ours that
    the first column means. `not_so` says why our table has something else there, `beyond` why it is not about the table."""

    state: str
    event: str
    new: str
    ours: Mapping[str, Any] = attrs.field(factory=dict)
    states: tuple[str, ...] = ()
    not_so: str = ""
    beyond: str = ""

    def meant(self) -> Iterable[str]:
        if self.states:
            return self.states
        return [NONE if name == "(none)" else name.strip() for name in self.state.split(", ")]


ENDS = ("succeeded", "failed", "timed_out", "rejected", "canceled")
ALL_ENDS = {
    "succeed": "succeeded",
    "fail": "failed",
    "reject": "rejected",
    "time_out": "timed_out",
    "cancel": "canceled",
}
NO_END = dict.fromkeys(ALL_ENDS, REFUSED)
OPEN_TASKS = ("open", "claimed", "in_progress", "blocked", "orphaned")
TASK_ENDS = ("done", "failed", "canceled")
LIVE = ("online", "idle", "busy")
AGENTS = (*LIVE, "stale", "offline")
WORKSPACES = (
    *("active", "ready", "conflict", "review_requested", "merge_planned"),
    *("merged", "abandoned", "cleanup_requested", "cleaned"),
)
POLICIES = ("stopped", "starting", "running", "stopping", "failed")
SWEPT = "the maintenance run looks for what is due, and moves nothing else"
IDEMPOTENT = "a repeat is found before anything moves"

CONTRACT: Mapping[str, Mapping[str, list[Row]]] = {
    "22.1": {
        "Message": [
            Row("(none)", "send to non-policy address accepted", "available", {"sent": "available"}),
            Row("(none)", "send to non-policy address, direct target offline, kind not exempt", "(none)",
                beyond="refused before it is stored"),
            Row("(none)", "send to `policy:P`, P has a running live agent A", "available, resolvedToAgent A",
                {"sent": "available"}),
            Row("(none)", "send to `policy:P`, otherwise", "queued", {"sent to an unserved policy": "queued"}),
            Row("(none)", "send with a used idempotency key", "unchanged old message", beyond=IDEMPOTENT),
            Row("queued", "registration of A linked to P, life time not over", "available, resolvedToAgent A",
                {"released": "available"}),
            Row("queued", "registration linked, life time over but not yet swept", "queued (then expired by sweep)",
                beyond="a release takes nothing whose time is over"),
            Row("queued", "maintenance, life time over", "expired", {"expired": "expired"}),
            Row("queued", "maintenance, life time not over", "queued", beyond=SWEPT),
            Row("queued", "registration not linked / other policy", "queued", beyond="the queue of the policy is not looked at"),
            Row("queued", "delete", "deleted", {"deleted": NONE}),
            Row("queued", "policy deleted", "queued until expiry [open O-62]", beyond="the queue does not look at the entry"),
            Row("available", "registration linked again (same or other agent)", "available, resolvedToAgent unchanged",
                {"released": REFUSED}),
            Row("available", "maintenance", "available", {"expired": REFUSED}),
            Row("available", "delete", "deleted", {"deleted": NONE}),
            Row("expired", "registration linked", "expired", {"released": REFUSED}),
            Row("expired", "delete", "deleted", {"deleted": NONE}),
            Row("deleted", "any", "deleted", {"released": REFUSED, "expired": REFUSED, "deleted": REFUSED}, (NONE,)),
        ],
    },
    "22.2": {
        "Claim on a message": [
            Row("unclaimed", "claim by A (matching)", "claimed(A, t+L)", {"claim": "mine"}, ("free",)),
            Row("unclaimed", "renew by A", "unclaimed", {"renew": REFUSED}, ("free",)),
            Row("claimed(A)", "claim by A again", "claimed(A, t+L)", {"claim": "mine"}, ("mine",)),
            Row("claimed(A)", "claim by B before expiry", "claimed(A)", {"claim": REFUSED}, ("another's",)),
            Row("claimed(A), expired not swept", "claim by B", "claimed(B, t+L)", {"claim": "mine"}, ("another's but over",)),
            Row("claimed(A)", "renew by A", "claimed(A, t+L)", {"renew": "mine"}, ("mine",)),
            Row("claimed(A)", "renew by B", "claimed(A)", {"renew": REFUSED}, ("another's", "another's but over")),
            Row("claimed(A), expired not swept", "renew by A", "claimed(A, t+L)",
                {"renew": "mine", "claim": "mine"}, ("mine but over",)),
            Row("claimed(A), expired", "maintenance", "unclaimed", {"maintenance": "free"},
                ("mine but over", "another's but over")),
            Row("claimed(A)", "its task reaches an end status", "done (not claimable again)", {"task ends": "free"},
                ("mine", "another's", "mine but over", "another's but over"),
                not_so="the claim goes, and the task, which is asked at each claim, refuses the next one"),
            Row("any", "claim on a message with `claimable` not true", "unchanged", beyond="refused before the claim is looked at"),
        ],
    },
    "22.3": {
        "Task": [
            Row("(none)", "ingest, new key", "open", {"ingested": "open"}),
            Row("any but end", "ingest, same key", "unchanged status", {"reported again": "same"}, OPEN_TASKS),
            Row("end", "ingest, same key", "open [open O-35]", {"reported again": "open"}, TASK_ENDS),
            Row("open", "claim by A", "claimed", {"claimed": "claimed"}),
            Row("open, claimed, blocked", "status `in_progress` by holder / first worker", "in_progress",
                {"report in_progress": "in_progress"}),
            Row("in_progress", "status `blocked`", "blocked", {"report blocked": "blocked"}),
            Row("blocked", "status `in_progress`", "in_progress", {"report in_progress": "in_progress"}),
            Row("any but end", "status `done` / `failed` / `canceled`", "that",
                {f"report {end}": end for end in TASK_ENDS}, OPEN_TASKS),
            Row("claimed, in_progress, blocked", "holder offline or deleted", "orphaned", {"holder gone": "orphaned"}),
            Row("orphaned", "former holder reports a status", "that status",
                {f"report {status}": status for status in ("open", "claimed", "in_progress", "blocked", *TASK_ENDS)}),
            Row("orphaned", "maintenance step 2, grace over", "open", {"maintenance": "open"}),
            Row("orphaned", "maintenance step 2, grace not over", "orphaned", beyond=SWEPT),
            Row("claimed, in_progress, blocked", "claim expired, maintenance step 1", "open", {"maintenance": "open"}),
            Row("done, failed, canceled", "other status", "unchanged",
                {f"report {status}": REFUSED for status in OPEN_TASKS} | {"claimed": REFUSED, "holder gone": REFUSED}),
        ],
    },
    "22.4": {
        "Command": [
            Row("(none)", "create", "pending", beyond="a new command is made pending, by whoever inserts it"),
            Row("pending", "PATCH accepted / running / any end status", "that",
                {"accept": "accepted", "run": "running", **ALL_ENDS}),
            Row("accepted", "PATCH running / end status", "that", {"run": "running", **ALL_ENDS}),
            Row("running", "PATCH end status", "that", ALL_ENDS),
            Row("pending, accepted, running", "PATCH without status or same status", "same", {"note": "same"}),
            Row("accepted, running", "PATCH backwards", "same", {"accept": REFUSED}, ("running",)),
            Row("pending, accepted, running", "DELETE", "canceled", {"cancel": "canceled"}),
            Row("pending, accepted, running", "life time over + maintenance", "timed_out", {"time_out": "timed_out"}),
            Row("pending, accepted, running", "no life time + maintenance", "same", beyond=SWEPT),
            Row("end status", "PATCH other status", "same", {"accept": REFUSED, "run": REFUSED, **NO_END}, ENDS),
            Row("end status", "DELETE", "same", {"cancel": REFUSED}, ENDS),
            Row("end status", "maintenance", "same", {"time_out": REFUSED}, ENDS),
            Row("any", "PATCH unknown id", "—", beyond="there is no actor's row to move"),
        ],
    },
    "22.5": {
        "Agent of a policy": [
            Row("none, stopped, failed", "start, host online", "starting (new R)", {"start": "starting"}, ("stopped", "failed")),
            Row("any", "start, host offline", "unchanged", beyond="the host is looked at first"),
            Row("any", "start/stop/restart, policy or host unknown", "unchanged", beyond="both are looked up first"),
            Row("starting, running, stopping", "start, host online", "starting (new R)", {"start": REFUSED}, ("starting", "running"),
                not_so="409, as H-10 and O-47 advise: it would leave an agent that nobody knows of"),
            Row("starting, running, stopping", "start, host online", "starting (new R)", {"start": "starting"}, ("stopping",)),
            Row("any incl. none", "stop", "stopping (R, agent kept)", {"stop": "stopping"}, POLICIES),
            Row("any incl. none", "restart", "starting (R, agent kept)", {"restart": "starting"}, POLICIES),
            Row("any", "DELETE policy", "stopping", {"stop": "stopping"}, POLICIES),
            Row("any", "registration with (P, R)", "running(agent), healthySince, lastError cleared",
                {"link": "running"}, ("stopped", "starting", "running", "failed")),
            Row("any", "registration with (P, R)", "running(agent), healthySince, lastError cleared", {"link": "stopping"}, ("stopping",),
                not_so="as H-01 advises: an agent that is being stopped is known, and gets no mail"),
            Row("any", "registration with (P, other id)", "unchanged", beyond="whose it is, is compared first"),
            Row("running", "registration again with (P, R)", "running (agent id of the newcomer)", {"link": "running"}),
            Row("stopping", "`agent.shutdown` with R succeeded", "stopped", {"shut down": "stopped"}),
            Row("starting", "`agent.spawn` with R failed, rejected, timed out, canceled", "failed", {"spawn failed": "failed"}),
            Row("running", "linked agent offline", "failed", {"agent gone": "failed"}),
            Row("failed", "supervisor delay over, restart wanted", "starting (new R), restartCount+1", {"retry": "starting"}),
            Row("any", "PUT policy", "unchanged", beyond="what the policy says does not move its agent"),
        ],
    },
    "22.6": {
        "Slot of a pool": [
            Row("empty", "evaluate, eligible agent exists", "held(A)", {"somebody may": "held"}),
            Row("empty", "evaluate, none eligible", "empty", {"nobody may": "empty"}),
            Row("held(A)", "evaluate, A eligible", "held(A)", {"holder may": "held"}, ("held",)),
            Row("held(A)", "evaluate, A not eligible, B is", "held(B)", {"somebody may": "held"}, ("held",)),
            Row("held(A)", "evaluate, A not eligible, no other", "empty", {"nobody may": "empty"}, ("held",)),
            Row("held(A)", "channel event", "held(A)", beyond="an event moves no slot"),
            Row("empty", "channel event or integration target", "empty", beyond="an event moves no slot"),
            Row("any", "binding replaced or deleted", "gone", {"unbound": NONE}, ("empty", "held")),
        ],
    },
    "22.7": {
        "Run of an automation": [
            Row("(none)", "run now / schedule due", "running", {"begin": "running"}),
            Row("(none)", "schedule due, earlier run still running, overlap `skip`", "skipped", {"skip": "skipped"}),
            Row("(none)", "dispatch fails", "failed", {"refuse": "failed"}),
            Row("running", "message action stored", "succeeded", {"succeed": "succeeded"}),
            Row("running", "its command succeeded / its task done", "succeeded", {"succeed": "succeeded"}),
            Row("running", "its command failed, rejected, timed_out, canceled / its task failed, canceled", "failed", {"fail": "failed"}),
            Row("succeeded, failed, skipped", "any", "same", {"succeed": REFUSED, "fail": REFUSED}),
        ],
    },
    "22.8": {
        "Run of a recipe": [
            Row("(none)", "start ok", "starting", beyond="a new run is made starting"),
            Row("(none)", "start fails", "(none)", beyond="it is refused before anything is stored"),
            Row("starting", "a spawn command accepted / running", "starting", {"begin": "starting"}),
            Row("starting", "last spawn command succeeded", "running", {"run": "running"}),
            Row("starting, running", "a spawn command failed, rejected, timed_out, canceled", "failed", {"fail": "failed"}),
            Row("starting, running", "a spawn command failed, rejected, timed_out, canceled", "failed", {"hold": "held"},
                not_so="one that somebody had begun when its time was over may have been done: a person decides"),
            Row("starting, running, failed", "stop", "stopping", {"stop": "stopping"}),
            Row("stopping", "all shutdown commands in an end status", "stopped", {"end": "stopped"}),
            Row("stopping", "a late spawn success", "stopping", beyond="its shutdown is one more to wait for"),
            Row("stopped", "stop", "stopped", {"stop": REFUSED}),
            Row("unknown id", "stop", "—", beyond="there is no run"),
        ],
    },
    "22.9": {
        "Pair": [
            Row("(none)", "create", "pending", beyond="a new pair is made pending"),
            Row("pending", "accept by invited", "active", {"accept": "active"}),
            Row("pending", "reject by invited", "rejected", {"reject": "rejected"}),
            Row("pending", "end by either", "ended", {"end": "ended"}),
            Row("pending", "life time over", "expired", {"expire": "expired"}),
            Row("active", "message by member", "active", beyond="a message moves no pair"),
            Row("active", "end by either, or a member offline/deleted", "ended", {"end": "ended", "leave": "ended"}),
            Row("ended, rejected, expired", "any", "same",
                dict.fromkeys(("accept", "reject", "end", "expire", "leave"), REFUSED)),
        ],
    },
    "22.10": {
        "Agent": [
            Row("unknown", "register", "online (or given status)", {"registered": "online"}, (NONE,)),
            Row("online, idle, busy, stale", "status write", "given", {"status write": AS_GIVEN}),
            Row("online, idle, busy", "no contact, stale limit", "stale [open O-10]", {"quiet": "stale"}),
            Row("any but offline", "no contact, offline limit, maintenance", "offline", {"lost": "offline"}, (*LIVE, "stale")),
            Row("offline", "maintenance", "offline", {"lost": REFUSED, "quiet": REFUSED}),
            Row("stale, offline", "heartbeat / register", "live", {"contact": AS_BEFORE}),
            Row("any", "delete", "unknown", {"deleted": NONE}, AGENTS),
        ],
    },
    "22.11": {
        "Upgrade of a host": [
            Row("none, succeeded, failed, pending", "upgrade accepted", "pending", {"asked": "pending"}),
            Row("pending", "contact, version = desired", "succeeded", {"arrived": "succeeded"}),
            Row("pending", "contact, version ≠ desired, > 300 000 ms", "failed", {"missed": "failed"}),
            Row("pending", "contact, version ≠ desired, ≤ 300 000 ms", "pending", beyond="it is not late yet"),
            Row("pending", "no contact at all", "pending", beyond="only contact says anything"),
        ],
    },
    "22.12": {
        "Token": [
            Row("(none)", "create", "live", {"create": "live"}),
            Row("live", "revoke", "revoked", {"revoke": "revoked"}),
            Row("revoked", "revoke", "revoked", {"revoke": REFUSED}),
            Row("live", "`exp` passed", "expired (may still be revoked)", {"its time passes": "expired"}),
            Row("live", "`exp` passed", "expired (may still be revoked)", {"revoke": "revoked"}, ("expired",)),
        ],
    },
    "18.1": {
        "Workspace": [
            Row("(none)", "workspace reported by a spawn", "`active` [later version]", {"reported by its host": "active"}),
            Row("any", "action `status`", "same", beyond="it asks, and moves nothing"),
            Row("any", "action `ready`", "`ready`", {"ready": "ready"}, WORKSPACES),
            Row("any", "action `conflict-found`", "`conflict`", {"conflict-found": "conflict"}, WORKSPACES),
            Row("any", "action `request-review`", "`review_requested`", {"request-review": "review_requested"}, WORKSPACES),
            Row("any", "action `merge-plan`", "`merge_planned`", {"merge-plan": "merge_planned"}, WORKSPACES),
            Row("any", "action `abandon`", "`abandoned`", {"abandon": "abandoned"}, WORKSPACES),
            Row("any, isolated ([open]: not terminal, not `cleanup_requested`)", "action `merge`, lease free, online owner",
                "`merge_planned`", {"merge": "merge_planned"}, WORKSPACES[:5]),
            Row("any, isolated", "action `merge`, lease held", "same", beyond="the lease is asked first"),
            Row("any, isolated", "action `merge`, no online owner", "same", beyond="the owner is looked up first"),
            Row("any, not isolated or no worktree", "action `merge` / `cleanup`", "same", beyond="refused before"),
            Row("any, isolated", "action `cleanup`, owner exists", "`cleanup_requested`",
                {"cleanup": "cleanup_requested"}, WORKSPACES),
            Row("any, isolated", "action `cleanup`, no owner", "`cleanup_requested` in the sources, same recommended (8.4)",
                beyond="the owner is looked up first"),
            Row("any", "merge command `succeeded` with status S", "S", {"merge succeeded": AS_GIVEN}, WORKSPACES),
            Row("`merge_planned`", "merge command `failed`", "`review_requested`",
                {"merge failed": "review_requested"}, ("merge_planned",)),
            Row("any but `merge_planned`", "merge command `failed`", "same", {"merge failed": REFUSED},
                tuple(status for status in WORKSPACES if status != "merge_planned")),
            Row("`merge_planned`", "merge command `timed_out` / `rejected` / `canceled`", "[open] `review_requested`",
                {"merge failed": "review_requested"}, ("merge_planned",)),
            Row("LIVE", "reconcile `succeeded`, removed", "(none)", {"dropped by reconcile": NONE}, ("active", "ready")),
            Row("LIVE", "reconcile `succeeded`, not removed, status S", "S", {"reconcile succeeded": AS_GIVEN}, ("active", "ready")),
            Row("any but LIVE", "reconcile `succeeded`", "same",
                {"reconcile succeeded": REFUSED, "dropped by reconcile": REFUSED}, WORKSPACES[2:]),
            Row("any", "reconcile `failed`", "same", beyond="it moves nothing"),
            Row("any", "cleanup command `succeeded`, names the row", "`cleaned` [inferred]", {"cleanup succeeded": "cleaned"}, WORKSPACES),
            Row("any", "cleanup command `failed`", "same [open]", beyond="it is written down, and moves nothing"),
            Row("any", "DELETE", "(none)", {"deleted": NONE}, WORKSPACES),
            Row("`cleaned`", "24 hours passed", "(none) [inferred]", {"deleted": NONE}, ("cleaned",)),
        ],
    },
    "18.2": {
        "Merge lease": [
            Row("Free", "acquire(w, h)", "Held(w, h)", {"acquire": "held"}, ("free",)),
            Row("Held(w, h)", "acquire(w2, h2), not expired", "same", {"acquire": REFUSED}, ("held",)),
            Row("Held(w, h)", "bind(c)", "Bound(w, h, c)", beyond="it is bound by being acquired"),
            Row("Held(w, h)", "failure before dispatch; no online owner", "Free",
                {"its command ended": "free", "it never had a command": "free"}, ("held",)),
            Row("Held(w, h)", "release by command c", "same", beyond="there is none that is not bound"),
            Row("Bound(w, h, c)", "acquire, not expired", "same", {"acquire": REFUSED}, ("held",)),
            Row("Bound(w, h, c)", "command c `accepted` / `running`", "same", beyond="it hears of ends only"),
            Row("Bound(w, h, c)", "command c terminal", "Free", {"its command ended": "free"}, ("held",)),
            Row("Bound(w, h, c)", "other command c2 terminal", "same", beyond="it is not its command"),
            Row("Bound(w, h, c)", "bind(c2) by a caller that lost the lease", "same", beyond="nobody binds"),
            Row("Held or Bound", "`expiresAt` reached", "Free", {"its term is over": "free"}, ("held",)),
            Row("Free", "release in any form, bind", "Free",
                {"its command ended": REFUSED, "its term is over": REFUSED, "it never had a command": REFUSED}, ("free",)),
            Row("any", "DELETE of workspace w", "same [open]", beyond="it is not told"),
        ],
    },
    "18.3": {
        "Command": [
            Row("(none)", "create", "`pending`", beyond="a new command is made pending, by whoever inserts it"),
            Row("`pending`", "executor accepts", "`accepted`", {"accept": "accepted"}, ("pending",)),
            Row("`pending`, `accepted`", "executor starts", "`running`", {"run": "running"}, ("pending", "accepted")),
            Row("`running`", "executor repeats `running` with progress result", "`running`",
                {"note": "running", "run": "running"}, ("running",)),
            Row("`pending`, `accepted`, `running`", "PATCH `succeeded` / `failed` / `rejected`", "that status",
                {"succeed": "succeeded", "fail": "failed", "reject": "rejected"}, ("pending", "accepted", "running")),
            Row("`pending`, `accepted`, `running`", "TTL passed and sweep runs", "`timed_out`",
                {"time_out": "timed_out"}, ("pending", "accepted", "running")),
            Row("`pending` ([open]: `accepted`)", "DELETE (cancel)", "`canceled`", {"cancel": "canceled"}, ("pending", "accepted")),
            Row("`pending`, `accepted`, `running` (type `orchestrator.upgrade`)", "host reconciles", "`succeeded` / `failed`",
                {"succeed": "succeeded", "fail": "failed"}, ("pending", "accepted", "running")),
            Row("terminal", "same terminal PATCH", "same", {"note": REFUSED}, ENDS),
            Row("terminal", "other PATCH", "same", {"accept": REFUSED, "run": REFUSED, **NO_END}, ENDS),
        ],
    },
    "18.4": {
        "Upgrade of a host": [
            Row("none, `succeeded`, `failed`", "accepted upgrade request", "`pending`", {"asked": "pending"}, (NONE, "succeeded", "failed")),
            Row("`pending`", "accepted upgrade request", "`pending` (new record)", {"asked": "pending"}, ("pending",)),
            Row("any", "refused upgrade request (400, 403, 409)", "same", beyond="it is refused first"),
            Row("`pending`", "contact, version equal to desired", "`succeeded`", {"arrived": "succeeded"}, ("pending",)),
            Row("`pending`", "contact, other version, age <= 300 000 ms", "`pending`", beyond="it is not late yet"),
            Row("`pending`", "contact, other version, age > 300 000 ms", "`failed`", {"missed": "failed"}, ("pending",)),
            Row("`pending`", "executor reports the command failed", "`failed` [open]", {"failed": "failed"}, ("pending",)),
            Row("`pending`", "no contact", "`pending`", beyond="only contact says anything"),
            Row("`succeeded`, `failed`, none", "contact", "same",
                {"arrived": REFUSED, "missed": REFUSED, "failed": REFUSED}, ("succeeded", "failed", NONE)),
        ],
    },
    "18.5": {
        "Life of an agent's session": [
            Row("any", "accepted `shutdown` / `restart` / `resume`", "`shutting-down` / `restarting` / `resuming`",
                {"shutdown": "shutting-down", "restart": "restarting", "resume": "resuming"}),
            Row("any", "accepted `reconnect` / `compact` / `clearContext` / `interrupt`", "same",
                dict.fromkeys(("reconnect", "compact", "clearContext", "interrupt"), REFUSED)),
            Row("any", "runner status report", "what the report says (null clears) [older]", {"reported by its runner": AS_GIVEN}),
            Row("`shutting-down`", "runner deregisters [older]", "agent gone", beyond="the card goes, with all of its meta"),
        ],
    },
}  # fmt: skip

MORE: Mapping[str, Mapping[str, str]] = {
    "Agent of a policy": {
        "exited": "its host has seen its session end, whoever it was linked to",
        "healthy": "after a while of running, earlier failures do not count",
        "not shut down": "the shutdown failed: it is said, and the agent may still be there",
        "overdue": "it has not registered in time",
        "retry": "one that has ended by itself, where the policy wants one always",
        "retry elsewhere": "its former host may still run it, and is asked to end it first",
    },
    "Run of a recipe": {
        "begin": "a step that was held is tried again",
        "fail": "of one that failed already, or was held: more of it",
        "hold": "what is held is held by one thing more",
        "run": "a step that was held went well, as a person says",
        "stop": "one that is held can be stopped, too",
    },
    "Token": {
        "remint": "through its host: replaced by another one of its family, also after its time",
        "renew": "by whoever has it: replaced by another one of its family",
    },
    "Task": {
        "claimed": "a holder claims again, or comes back (TSK-9); a claim that is over can be taken over",
        "report open": "a holder may give a task back",
        "report claimed": "the same as a claim, for those who report",
        "report blocked": "of one that is blocked already: more about it",
        "report in_progress": "of one that is in progress already: more about it",
        "report done": "the same end again is no news",
        "report failed": "the same end again is no news",
        "report canceled": "the same end again is no news",
    },
    "Command": {
        "accept": "one that is accepted already may be accepted again (CMD-11)",
    },
    "Slot of a pool": {"bound": "a new binding has a slot that nobody holds yet"},
    "Agent": {
        "contact": "who is there stays as it is",
        "status write": "who is offline may say that it is back",
    },
}
"""By machine: events of ours in states of which the contract's table says nothing, and what they are for."""

ROWS = [
    pytest.param(name, row, id=f"{section}: {row.state} / {row.event}")
    for section, by_machine in CONTRACT.items()
    for name, rows in by_machine.items()
    for row in rows
]


def test_the_page_shows_the_tables_of_the_code() -> None:
    shown = (ROOT / "docs" / "machines.md").read_text()
    assert shown == machines.page(), "write it anew: python -m relay.fleet.machines > docs/machines.md"


def test_every_table_of_the_contract_is_compared() -> None:
    sections = {section.strip() for machine in machines.MACHINES for section in machine.spec.split(",")}
    assert sections - {"beside the contract"} == CONTRACT.keys()


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_the_code_moves_as_the_contract_says(name: str, row: Row) -> None:
    assert bool(row.ours) is not bool(row.beyond), "either it is in the table, or it says why not"
    moves = MACHINES[name].moves
    for state in row.meant() if row.ours else ():
        assert state in moves, state
        for event, after in row.ours.items():
            expected = state if after == "same" else after
            assert moves[state].get(event) == expected, (state, event)


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_what_the_code_has_besides_is_known(name: str) -> None:
    said = {
        (state, event)
        for by_machine in CONTRACT.values()
        for row in by_machine.get(name, ())
        for state in row.meant()
        for event in row.ours
    }
    if not said:
        assert MACHINES[name].spec == "beside the contract"
        return
    moves = MACHINES[name].moves
    more = {
        (state, event) for state, events in moves.items() for event in events if (state, event) not in said
    }
    assert {event for _, event in more} == MORE.get(name, {}).keys()


def test_no_state_is_a_dead_end_but_those_that_are_meant_to_be() -> None:
    ends = {
        machine.name: [str(state) for state in machine.moves if not machine.moves[state]]
        for machine in machines.MACHINES
    }
    assert {name: states for name, states in ends.items() if states} == DEAD_ENDS


DEAD_ENDS = {
    "Command": ["succeeded", "failed", "rejected", "timed_out", "canceled"],
    "Delivery": ["replied"],
    "Run of a recipe": ["stopped"],
    "Run of an automation": ["succeeded", "failed", "skipped"],
    "Token": ["replaced", "revoked"],
    "Pair": ["ended", "rejected", "expired"],
}


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_what_a_move_leads_to_is_a_state(name: str) -> None:
    moves = MACHINES[name].moves
    if "any" not in moves:
        assert {after for events in moves.values() for after in events.values()} <= {
            NONE,
            AS_GIVEN,
            AS_BEFORE,
            *moves,
        }
