"""What the demo claims, proven from git and from the database file after everything has stopped.

A proof is a function that returns what it found, as one line, or raises `Unproven` with what is wrong. What the demo
itself remembers is never evidence that something happened; it is only held against what is on disk.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from .evidence import FINISHED, Evidence, Outage, Unproven
from .plan import FOLDER, SHARED
from .receipts import messages_arrived_once

__all__ = ["Proof", "examine"]


@dataclass(frozen=True)
class Proof:
    """A claim and how it went: `found` is the evidence, or what is wrong."""

    claim: str
    holds: bool
    found: str


def examine(evidence: Evidence) -> Iterator[Proof]:
    for claim, prove in CLAIMS.items():
        try:
            yield Proof(claim, holds=True, found=prove(evidence))
        except Unproven as problem:
            yield Proof(claim, holds=False, found=str(problem))


def every_commit_landed(evidence: Evidence) -> str:
    commits = 0
    for name, steps in evidence.plan.steps.items():
        for step in steps:
            found = evidence.git(
                "log", "--format=%H", "--fixed-strings", f"--grep=Relay-Demo: {step.id}", evidence.base
            ).split()
            if len(found) != 1:
                raise Unproven(f"{step.id} of {name} is {len(found)} times on {evidence.base}")
            commits += 1
    landed = 0
    for command in evidence.merges():
        result = command.get("result") or {}
        if result.get("merged"):
            landed += 1
            if not evidence.git.holds("merge-base", "--is-ancestor", result["mergedSha"], evidence.base):
                raise Unproven(f"{result['mergedSha']} was reported as merged and is not on {evidence.base}")
    if landed < len(evidence.plan.team):
        raise Unproven(f"{landed} merges were reported for {len(evidence.plan.team)} agents")
    return f"{commits} commits in {landed} merges are reachable from {evidence.base}"


def merges_took_turns(evidence: Evidence) -> str:
    """A merge holds its repository from the event that requests it to the one that ends it; event ids order both."""
    holder: dict[str, str] = {}
    tokens: list[int] = []
    for number, _, kind, command in evidence.merge_events():
        repository = command["params"]["repoRoot"]
        if kind == "command.requested" and holder.get(repository) != command["id"]:
            if repository in holder:
                raise Unproven(
                    f"event {number}: {command['id']} began while {holder[repository]} was running"
                )
            holder[repository] = command["id"]
            tokens.append(command["params"]["leaseToken"])
        elif command["status"] in FINISHED and holder.get(repository) == command["id"]:
            del holder[repository]
    if holder or not tokens:
        raise Unproven(f"{', '.join(holder.values())} never ended" if holder else "there was no merge")
    if tokens != sorted(set(tokens)):
        raise Unproven(f"the fencing tokens of the merges are {tokens}, and must grow")
    return (
        f"{len(tokens)} merges, each ended before the next began, with fencing tokens {tokens[0]} to {tokens[-1]}; "
        f"git says that the base branch moved {_moves(evidence)} times, each time to what the next of them reported"
    )


def _moves(evidence: Evidence) -> int:
    """Git's own record of the base branch must be what the merges reported, in the order of their fencing tokens."""
    _, *moves = reversed(evidence.git("log", "-g", "--format=%H", f"refs/heads/{evidence.base}").split())
    merged = {
        command["params"]["leaseToken"]: command["result"]["mergedSha"]
        for command in evidence.merges()
        if (command.get("result") or {}).get("merged")
    }
    reported = [merged[token] for token in sorted(merged)]
    if moves != reported:
        raise Unproven(
            f"{evidence.base} moved to {_short(moves)}, and the merges reported {_short(reported)}"
        )
    return len(moves)


def _short(commits: list[str]) -> str:
    return ", ".join(sha[:10] for sha in commits) or "nothing"


def conflict_was_rebased(evidence: Evidence) -> str:
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for command in evidence.merges():
        results[command["params"]["worktreePath"]].append(command.get("result") or {})
    for worktree, attempts in results.items():
        for attempt, following in pairwise(attempts):
            if attempt.get("status") == "conflict" and following.get("merged"):
                text = evidence.git("show", f"{evidence.base}:{SHARED}")
                missing = [name for name in evidence.plan.rivals if f"- {name} leads" not in text]
                if missing:
                    raise Unproven(f"{SHARED} on {evidence.base} lacks what {', '.join(missing)} wrote")
                return (
                    f"{Path(worktree).name} met a conflict, rebased, and landed; both sides are in {SHARED}"
                )
    raise Unproven("no workspace landed after a conflict")


def killed_runner_came_back(evidence: Evidence) -> str:
    victim, work = evidence.plan.victim, evidence.plan.work_to_interrupt
    sql = "select record from activity where client_id glob ? order by id"
    exits = [json.loads(row[0])["metadata"] for row in evidence.rows(sql, f"server-agent-{victim}-exited-*")]
    if not exits:
        raise Unproven(f"the database does not know that the runner of {victim} died")
    if exits[0].get("signal") != "SIGKILL":
        raise Unproven(
            f"the runner of {victim} was not killed: {exits[0].get('lastError', 'no reason known')}"
        )
    starts = {name: len(_lives(journal)) for name, journal in evidence.journals.items()}
    if starts != dict.fromkeys(starts, 1) | {victim: 2}:
        raise Unproven(f"only {victim} was to be started twice; it was {starts}")
    first, second = _lives(evidence.journals[victim])
    if not _did(first, "turn", what=work) or _did(first, "committed", step=work):
        raise Unproven(f"the runner of {victim} was not killed while it worked on {work}")
    if not _did(second, "landed"):
        raise Unproven(f"{victim} did not finish")
    return f"the death of {victim}'s runner during {work} is on record (SIGKILL); its second life finished the work"


def _lives(journal: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What an agent wrote down, one list for each time it was started."""
    lives: list[list[dict[str, Any]]] = []
    for entry in journal:
        if entry["event"] == "started":
            lives.append([])
        if lives:
            lives[-1].append(entry)
    return lives


def _did(life: list[dict[str, Any]], event: str, **details: Any) -> bool:
    wanted = {"event": event, **details}
    return any(wanted.items() <= entry.items() for entry in life)


def nothing_acknowledged_is_lost(evidence: Evidence) -> str:
    ids = [number for (number,) in evidence.rows("select id from events order by id")]
    if ids != list(range(1, len(ids) + 1)):
        raise Unproven("the event log has gaps")
    types = dict(evidence.rows("select id, type from events"))
    for number, kind in evidence.seen.items():
        if types.get(number) != kind:
            raise Unproven(f"the feed showed event {number} ({kind}), the database has {types.get(number)}")
    for key, number in evidence.acknowledged.items():
        found = [row[0] for row in evidence.rows("select id from messages where idempotency_key = ?", key)]
        if found != [number]:
            raise Unproven(f"{key} was acknowledged as message {number}, the database has {found}")
    [(verdict,)] = evidence.rows("pragma integrity_check")
    if verdict != "ok":
        raise Unproven(f"SQLite: {verdict}")
    return (
        f"{_killed_in_a_merge(evidence)}; {len(evidence.acknowledged)} acknowledged messages and all "
        f"{len(evidence.seen)} events shown live are among the {len(ids)} in the database, without a gap"
    )


def _killed_in_a_merge(evidence: Evidence) -> str:
    """Somebody sent messages all the time, so a server that was never dead would have written in between."""
    if not evidence.outages:
        raise Unproven("the server was not killed")
    for outage in evidence.outages:
        _was_silent(evidence, outage)
    for outage in evidence.outages:
        if command := _merge_across(evidence, outage):
            seconds = outage.started - outage.killed
            return f"dead for at least {seconds:.1f} s in the middle of the merge of {command['params']['branch']}"
    raise Unproven("no merge was running when the server was killed")


def _was_silent(evidence: Evidence, outage: Outage) -> None:
    killed, started = round(outage.killed * 1000), round(outage.started * 1000)
    sql = "select count(*) from events where at between ? and ?"
    for what, start, end, silent in (
        ("before the server was killed", 0, killed - 1, False),
        ("while the server was dead", killed + 1, started - 1, True),
        ("after the server was started again", started, 2**62, False),
    ):
        [(count,)] = evidence.rows(sql, start, end)
        if silent is not (count == 0):
            raise Unproven(f"{count} events were written {what}")


def _merge_across(evidence: Evidence, outage: Outage) -> dict[str, Any] | None:
    """The merge that ran before the outage and ended after it."""
    running: set[str] = set()
    for _, at, kind, command in evidence.merge_events():
        if kind == "command.running" and at <= outage.killed * 1000:
            running.add(command["id"])
        elif command["status"] in FINISHED and command["id"] in running:
            if at >= outage.started * 1000:
                return command
            running.discard(command["id"])
    return None


def checkout_is_clean(evidence: Evidence) -> str:
    dirt = evidence.git("status", "--porcelain")
    if dirt:
        raise Unproven(f"the base checkout is dirty: {dirt.splitlines()[0]}")
    files = evidence.git("ls-tree", "--name-only", evidence.base, f"{FOLDER}/").split()
    on_disk = [name for name in files if (evidence.git.root / name).exists()]
    if files != on_disk or not files:
        raise Unproven(f"of {len(files)} new files {len(on_disk)} are in the checkout")
    return f"the checkout of {evidence.base} is clean and has all {len(files)} new files"


def original_is_untouched(evidence: Evidence) -> str:
    """Others may work in the original meanwhile, so it is not compared with itself: it must know nothing of the demo."""
    if evidence.original is None:
        return "the demo made its own repository"
    made = evidence.git("log", "--format=%H", "--fixed-strings", "--grep=Relay-Demo: ", "--all").split()
    leaked = [sha for sha in made if evidence.original.holds("cat-file", "-e", sha)]
    if leaked:
        raise Unproven(f"{evidence.original.root} has {leaked[0]}")
    if str(evidence.git.root) in evidence.original("worktree", "list", "--porcelain"):
        raise Unproven(f"{evidence.original.root} has a worktree of the demo")
    return f"{evidence.original.root} has none of the demo's {len(made)} commits and none of its worktrees"


CLAIMS: dict[str, Callable[[Evidence], str]] = {
    "every commit landed": every_commit_landed,
    "no two merges overlapped": merges_took_turns,
    "every message was received exactly once": messages_arrived_once,
    "the conflict was told, rebased and landed": conflict_was_rebased,
    "the killed runner came back and finished": killed_runner_came_back,
    "nothing acknowledged was lost with the killed server": nothing_acknowledged_is_lost,
    "the base checkout follows its branch": checkout_is_clean,
    "the original repository is untouched": original_is_untouched,
}
