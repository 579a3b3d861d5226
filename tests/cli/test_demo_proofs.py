"""The demo's proofs: they hold for an honest run, and each finds the one thing that is wrong.

The evidence is a real repository and a real database with relay's schema, written as a run would leave them.
"""

import copy
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from relay.cli.demo import plan, proofs
from relay.cli.demo.stage import Git, opened

SCHEMA = Path(plan.__file__).parent.parent.parent / "store" / "migrations" / "0001_initial.sql"
BASE = "main"


class Run:
    """What a run leaves behind; the tests change one thing of it."""

    def __init__(self, root: Path) -> None:
        self.plan = plan.make(quick=True)
        self.journals: dict[str, list[dict[str, Any]]] = {name: [] for name in self.plan.team}
        self.merges: list[dict[str, Any]] = []
        self.original: Git | None = None
        self.place(root)

    def place(self, root: Path) -> None:
        """Where the files are."""
        self.root = root
        self.git = Git(root / "repo")
        self.database = apsw.Connection(str(root / "relay.db"))

    def commit(self, step: plan.Step) -> str:
        path = self.git.root / step.file
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write("\n".join(step.lines) + "\n")
        self.git("add", "--all")
        self.git("commit", "-q", "-m", f"{step.subject}\n\nRelay-Demo: {step.id}")
        return self.git("rev-parse", "HEAD")

    def merge(self, name: str, **result: Any) -> None:
        number = len(self.merges) + 1
        where = {"repoRoot": str(self.git.root), "worktreePath": f"/w/{name}", "leaseToken": number}
        status = "succeeded" if result.get("merged") else "failed"
        command = {
            "id": f"cmd_{number}",
            "type": "workspace.merge",
            "params": where,
            "result": result,
            "status": status,
        }
        self.merges.append(command)
        self.insert("commands", id=command["id"], seq=number, type="workspace.merge", source="system", target="host",
                    status=status, created_at=0, record=json.dumps(command))  # fmt: skip
        self.event("command.requested", {"command": command | {"status": "pending"}})
        self.event(f"command.{status}", {"command": command})

    def event(self, kind: str, data: dict[str, Any]) -> None:
        self.insert("events", at=0, type=kind, source="system", data=json.dumps(data))

    def message(self, key: str, receivers: set[str]) -> int:
        sender = key.partition("-")[0]
        body = json.dumps({"body": f"said [{key}]"})
        number = self.insert("messages", sender=sender, address="x", kind="chat", thread_id=1, idempotency_key=key,
                             record=body, created_at=0)  # fmt: skip
        for name in receivers:
            self.insert("message_reads", agent_id=name, message_id=number, at=0)
            self.journals[name].append({"event": "received", "id": number})
        return number

    def insert(self, table: str, **row: Any) -> int:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self.database.execute(f"insert into {table} ({names}) values ({marks})", tuple(row.values()))
        return self.database.last_insert_rowid()

    def judge(self) -> dict[str, proofs.Proof]:
        for name, entries in self.journals.items():
            lines = [json.dumps(entry) for entry in entries]
            (self.root / "journals" / f"{name}.jsonl").write_text("\n".join(lines))
        folder, database = self.root / "journals", self.root / "relay.db"
        with closing(proofs.Evidence(self.git, BASE, database, folder, self.plan)) as evidence:
            evidence.original = self.original
            evidence.seen, evidence.acknowledged = {1: "command.requested"}, {"ada-hello": 1}
            return {proof.claim: proof for proof in proofs.examine(evidence)}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which everything went well; it is only copied."""
    root = tmp_path_factory.mktemp("honest")
    (root / "repo").mkdir()
    (root / "journals").mkdir()
    run = Run(root)
    run.database.execute(SCHEMA.read_text()).fetchall()
    run.git("init", "-q", "-b", BASE)
    for setting in ("user.name=Ada", "user.email=ada@example.org"):
        run.git("config", *setting.split("="))
    run.git("commit", "-q", "--allow-empty", "-m", "start")
    for name in run.plan.team:
        for step in run.plan.steps[name]:
            sha = run.commit(step)
        if name == run.plan.rivals[1]:
            run.merge(name, status="conflict", merged=False)
        run.merge(name, status="active", merged=True, mergedSha=sha)
    for key, receiver in run.plan.messages().items():
        others = set(run.plan.team) - {key.partition("-")[0]}
        run.message(key, others if receiver == "*" else {receiver})
    run.journals[run.plan.victim] += [{"event": "started"}, {"event": "started"}, {"event": "landed"}]
    run.insert("activity", client_id=f"server-agent-{run.plan.victim}-exited-1", kind="state", created_at=0,
               record=json.dumps({"metadata": {"signal": "SIGKILL"}}))  # fmt: skip
    run.database.close()
    return run


@pytest.fixture
def run(honest: Run, tmp_path: Path) -> Iterator[Run]:
    run = copy.copy(honest)
    run.journals = copy.deepcopy(honest.journals)
    run.place(Path(shutil.copytree(honest.root, tmp_path / "run")))
    yield run
    run.database.close()


def test_an_honest_run_is_proven(run: Run) -> None:
    wrong = {claim: proof.found for claim, proof in run.judge().items() if not proof.holds}
    assert wrong == {}


def lose_a_commit(run: Run) -> None:
    run.git("reset", "-q", "--hard", "HEAD~1")


def report_a_merge_that_did_not_happen(run: Run) -> None:
    run.merge("ada", status="active", merged=True, mergedSha="0" * 40)


def begin_a_merge_during_another(run: Run) -> None:
    params = {"repoRoot": str(run.git.root), "leaseToken": 99}
    for number in (8, 9):
        command = {"id": f"cmd_{number}", "type": "workspace.merge", "status": "pending", "params": params}
        run.event("command.requested", {"command": command})


def give_a_fencing_token_twice(run: Run) -> None:
    again = run.merges[0] | {"id": "cmd_again"}
    run.event("command.requested", {"command": again | {"status": "pending"}})
    run.event("command.succeeded", {"command": again})


def lose_a_message(run: Run) -> None:
    run.database.execute("delete from messages where idempotency_key = 'ben-ready'")


def store_a_message_twice(run: Run) -> None:
    run.insert("messages", sender="ben-2", address="x", kind="chat", thread_id=1, created_at=0,
               record=json.dumps({"body": "said [ben-ready]"}))  # fmt: skip


def lose_a_receipt(run: Run) -> None:
    run.journals["ben"].pop()


def receive_a_message_twice(run: Run) -> None:
    run.journals["ben"].append(run.journals["ben"][0])


def forget_a_read_mark(run: Run) -> None:
    run.database.execute("delete from message_reads where agent_id = 'ben'")


def lose_one_side_of_the_conflict(run: Run) -> None:
    (run.git.root / plan.SHARED).write_text("- ben leads\n")
    run.git("commit", "-q", "--all", "-m", "tidy up")


def never_come_back(run: Run) -> None:
    run.journals[run.plan.victim].remove({"event": "started"})


def not_notice_the_death(run: Run) -> None:
    run.database.execute("delete from activity")


def lose_an_event(run: Run) -> None:
    run.database.execute("delete from events where id = 2")


def lose_an_event_that_was_shown(run: Run) -> None:
    run.database.execute("update events set type = 'other' where id = 1")


def leave_the_checkout_dirty(run: Run) -> None:
    (run.git.root / "stray").touch()


def let_a_commit_into_the_original(run: Run) -> None:
    subprocess.run(["git", "clone", "-q", run.git.root, run.root / "original"], check=True)
    run.original = Git(run.root / "original")


def leave_a_worktree_in_the_original(run: Run) -> None:
    run.original = Git(run.root / "original")
    subprocess.run(["git", "init", "-q", run.original.root], check=True)
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    run.original(*who, "commit", "-q", "--allow-empty", "-m", "of its own")
    run.original("worktree", "add", "-q", str(run.git.root / "worktree"))


@pytest.mark.parametrize(
    ("spoil", "claim"),
    [
        (lose_a_commit, "every commit landed"),
        (report_a_merge_that_did_not_happen, "every commit landed"),
        (begin_a_merge_during_another, "no two merges overlapped"),
        (give_a_fencing_token_twice, "no two merges overlapped"),
        (lose_a_message, "every message was received exactly once"),
        (store_a_message_twice, "every message was received exactly once"),
        (lose_a_receipt, "every message was received exactly once"),
        (receive_a_message_twice, "every message was received exactly once"),
        (forget_a_read_mark, "every message was received exactly once"),
        (lose_one_side_of_the_conflict, "the conflict was told, rebased and landed"),
        (never_come_back, "the killed runner came back and finished"),
        (not_notice_the_death, "the killed runner came back and finished"),
        (lose_an_event, "nothing acknowledged was lost with the killed server"),
        (lose_an_event_that_was_shown, "nothing acknowledged was lost with the killed server"),
        (leave_the_checkout_dirty, "the base checkout follows its branch"),
        (let_a_commit_into_the_original, "the original repository is untouched"),
        (leave_a_worktree_in_the_original, "the original repository is untouched"),
    ],
)
def test_a_claim_that_does_not_hold_is_found(run: Run, spoil: Callable[[Run], None], claim: str) -> None:
    spoil(run)
    proof = run.judge()[claim]
    assert not proof.holds, proof.found
    assert proof.found


def test_a_stage_leaves_neither_folder_nor_process_behind(run: Run) -> None:
    with opened(run.git.root, keep=False) as stage:
        stage.start_server()
        assert stage.git.root != run.git.root
        assert stage.git("remote") == ""
        assert list(stage.processes())
    assert not list(stage.processes())
    assert not stage.root.exists()


def test_a_clone_of_a_detached_head_gets_a_branch_to_merge_into(run: Run) -> None:
    run.git("checkout", "-q", "--detach")
    with opened(run.git.root, keep=False) as stage:
        assert stage.git("symbolic-ref", "--short", "HEAD") == stage.base


def test_without_a_checkout_there_is_a_small_repository() -> None:
    with opened(None, keep=False) as stage:
        assert subprocess.run(["git", "-C", stage.git.root, "log", "-1"], capture_output=True).returncode == 0
