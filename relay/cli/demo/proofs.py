"""What the demo claims, proven from git and from the database file after everything has stopped.

A proof is a function that returns what it found, as one line, or raises `Unproven` with what is wrong. What the demo
itself remembers is never evidence that something happened; it is only held against what is on disk.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw

from .plan import FOLDER, SHARED, Plan
from .stage import Git

__all__ = ["Evidence", "Proof", "Unproven", "examine"]

FINISHED = {"succeeded", "failed", "rejected", "canceled", "timed_out"}


class Unproven(Exception):
    """A claim does not hold; the text says where."""


@dataclass(frozen=True)
class Proof:
    """A claim and how it went: `found` is the evidence, or what is wrong."""

    claim: str
    holds: bool
    found: str


class Evidence:
    """The traces on disk: the repository, the database (read only) and the agents' journals."""

    def __init__(self, git: Git, base: str, database: Path, journals: Path, plan: Plan) -> None:
        self.git = git
        self.base = base
        self.plan = plan
        self._database = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        self.journals = {name: _journal(journals / f"{name}.jsonl") for name in plan.team}
        self.seen: dict[int, str] = {}  # what the live feed showed: event id -> type
        self.acknowledged: dict[str, int] = {}  # what the demo itself sent: key -> id in the answer
        self.original: Git | None = None  # the given repository

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return list(self._database.execute(sql, values))

    def merges(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Event id, event type and command of everything that happened to merge commands, in order."""
        for number, kind, data in self.rows(
            "select id, type, data from events where type glob 'command.*' order by id"
        ):
            command = json.loads(data)["command"]
            if command["type"] == "workspace.merge":
                yield number, kind, command

    def commands(self, kind: str) -> list[dict[str, Any]]:
        return [
            json.loads(row[0])
            for row in self.rows("select record from commands where type = ? order by seq", kind)
        ]

    def close(self) -> None:
        self._database.close()


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
    for command in evidence.commands("workspace.merge"):
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
    for number, kind, command in evidence.merges():
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
        f"the base branch moved {_moves(evidence)} times, each time from where it stood"
    )


def _moves(evidence: Evidence) -> int:
    """Git's own record of the base branch: every move starts where the one before ended."""
    common = Path(evidence.git("rev-parse", "--path-format=absolute", "--git-common-dir"))
    lines = (common / "logs" / "refs" / "heads" / evidence.base).read_text().splitlines()
    moves = [tuple(line.split()[:2]) for line in lines]
    for (_, before), (start, after) in pairwise(moves):
        if before != start:
            raise Unproven(f"{evidence.base} was moved from {start} to {after} while it stood at {before}")
    return len(moves) - 1


def messages_arrived_once(evidence: Evidence) -> str:
    """What was meant to be sent, what the database has, and what each agent wrote down on receipt, are the same."""
    stored: dict[str, list[int]] = defaultdict(list)
    for number, record in evidence.rows("select id, record from messages order by id"):
        stored[json.loads(record)["body"].rpartition("[")[2].rstrip("]")].append(number)
    receipts = deliveries = 0
    for key, receiver in evidence.plan.messages().items():
        if len(stored[key]) != 1:
            raise Unproven(f"{key} is {len(stored[key])} times in the database")
        [number] = stored[key]
        sender = key.partition("-")[0]
        for name in (set(evidence.plan.team) - {sender}) if receiver == "*" else {receiver}:
            _received_once(evidence, name, key, number)
            receipts += 1
    for name, journal in evidence.journals.items():
        counts = Counter(entry["id"] for entry in journal if entry["event"] == "received")
        twice = [number for number, count in counts.items() if count > 1]
        if twice:
            raise Unproven(f"{name} received {twice} more than once")
        deliveries += sum(entry["event"] == "redelivered" for entry in journal)
    again = f" ({deliveries} redelivered and recognised)" if deliveries else ""
    return (
        f"{len(evidence.plan.messages())} messages sent, {receipts} receipts, none missing, none twice{again}"
    )


def _received_once(evidence: Evidence, name: str, key: str, number: int) -> None:
    noted = [
        entry for entry in evidence.journals[name] if entry["event"] == "received" and entry["id"] == number
    ]
    if len(noted) != 1:
        raise Unproven(f"{name} received {key} (message {number}) {len(noted)} times")
    if not evidence.rows("select 1 from message_reads where message_id = ? and agent_id = ?", number, name):
        raise Unproven(
            f"{name} received {key} (message {number}), and the database does not know that it was read"
        )


def conflict_was_rebased(evidence: Evidence) -> str:
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for command in evidence.commands("workspace.merge"):
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
    victim = evidence.plan.victim
    exits = [
        json.loads(row[0])["metadata"]
        for row in evidence.rows(
            "select record from activity where client_id glob ?", f"server-agent-{victim}-exited-*"
        )
    ]
    if not exits:
        raise Unproven(f"the database does not know that the runner of {victim} died")
    lives = [entry for entry in evidence.journals[victim] if entry["event"] == "started"]
    if len(lives) < 2:
        raise Unproven(f"{victim} was started {len(lives)} times")
    if not any(entry["event"] == "landed" for entry in evidence.journals[victim]):
        raise Unproven(f"{victim} did not finish")
    how = exits[0].get("signal") or exits[0].get("lastError") or "no reason known"
    return f"the death of {victim}'s runner is on record ({how}); it ran {len(lives)} times and finished"


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
        f"{len(evidence.acknowledged)} acknowledged messages and all {len(evidence.seen)} events shown live "
        f"are among the {len(ids)} in the database, without a gap"
    )


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


def _journal(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
