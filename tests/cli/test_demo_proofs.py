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
from relay.cli.demo.evidence import Evidence, Outage
from relay.cli.demo.stage import Git, opened
from relay.store.chain import register

MIGRATIONS = Path(plan.__file__).parent.parent.parent / "store" / "migrations"
BASE = "main"


class Run:
    """What a run leaves behind; the tests change one thing of it. Each merge takes its ten seconds: it is asked for at
    0, runs from 1 and ends at 2; the server is dead from 1.2 to 1.8 of the first."""

    def __init__(self, root: Path) -> None:
        self.plan = plan.make(quick=True)
        self.journals: dict[str, list[dict[str, Any]]] = {name: [started(1)] for name in self.plan.team}
        self.merges: list[dict[str, Any]] = []
        self.acknowledged: dict[str, int] = {}
        self.outages = [Outage(11.2, 11.8)]
        self.original: Git | None = None
        self.place(root)

    def place(self, root: Path) -> None:
        """Where the files are."""
        self.root = root
        self.git = Git(root / "repo")
        self.database = apsw.Connection(str(root / "relay.db"))
        register(self.database)

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
        where = {
            "repoRoot": str(self.git.root),
            "worktreePath": f"/w/{name}",
            "branch": f"agent/{name}",
            "leaseToken": number,
        }
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
        self.event("command.requested", {"command": command | {"status": "pending"}}, at=number * 10)
        self.event("command.running", {"command": command | {"status": "running"}}, at=number * 10 + 1)
        self.event(f"command.{status}", {"command": command}, at=number * 10 + 2)

    def event(self, kind: str, data: dict[str, Any], at: float = 60) -> None:
        self.insert("events", at=round(at * 1000), type=kind, source="system", data=json.dumps(data))

    def message(self, key: str, receivers: set[str], read: float = 2) -> int:
        sender = key.partition("-")[0]
        body = json.dumps({"body": f"said [{key}]"})
        number = self.insert("messages", sender=sender, address="x", kind="chat", thread_id=1, idempotency_key=key,
                             record=body, created_at=0)  # fmt: skip
        for name in receivers:
            self.insert("message_reads", agent_id=name, message_id=number, at=round(read * 1000))
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
        with closing(Evidence(self.git, BASE, database, folder, self.plan)) as evidence:
            evidence.original = self.original
            evidence.seen, evidence.acknowledged = {1: "command.requested"}, self.acknowledged
            evidence.outages = self.outages
            return {proof.claim: proof for proof in proofs.examine(evidence)}


def started(at: float) -> dict[str, Any]:
    return {"event": "started", "at": at}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which everything went well; it is only copied."""
    root = tmp_path_factory.mktemp("honest")
    (root / "repo").mkdir()
    (root / "journals").mkdir()
    run = Run(root)
    for script in sorted(MIGRATIONS.glob("*.sql")):
        run.database.execute(script.read_text()).fetchall()
    run.git("init", "-q", "-b", BASE)
    for setting in ("user.name=Ada", "user.email=ada@example.org"):
        run.git("config", *setting.split("="))
    run.git("commit", "-q", "--allow-empty", "-m", "start")
    run.git("checkout", "-q", "--detach")
    for name in run.plan.team:
        for step in run.plan.steps[name]:
            sha = run.commit(step)
        if name == run.plan.rivals[1]:
            run.merge(name, status="conflict", conflict=True, merged=False)
        run.git("update-ref", f"refs/heads/{BASE}", sha)
        run.merge(name, status="active", merged=True, mergedSha=sha)
    run.git("checkout", "-q", BASE)
    victim, work = run.plan.victim, run.plan.work_to_interrupt
    underway = f"{run.plan.team[-2]}-hello"  # the victim wrote it down, and was killed before relay knew
    numbers = {
        key: run.message(key, receivers, read=6 if key == underway else 2)
        for key, receivers in run.plan.messages(["demo-note-1"]).items()
    }
    run.acknowledged["demo-note-1"] = numbers["demo-note-1"]
    run.journals[victim] += [
        {"event": "turn", "what": work},
        started(5),
        {"event": "redelivered", "id": numbers[underway]},
        {"event": "committed", "step": work},
        {"event": "landed"},
    ]
    run.insert("activity", client_id=f"server-agent-{victim}-exited-1", kind="state", created_at=0,
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


def move_the_base_by_force(run: Run) -> None:
    tip = run.git("rev-parse", BASE)
    run.git("update-ref", f"refs/heads/{BASE}", "HEAD~1")
    run.git("update-ref", f"refs/heads/{BASE}", tip)


def lose_a_message(run: Run) -> None:
    run.database.execute("delete from messages where idempotency_key = 'ben-ready'")


def store_a_message_twice(run: Run) -> None:
    run.insert("messages", sender="ben-2", address="x", kind="chat", thread_id=1, created_at=0,
               record=json.dumps({"body": "said [ben-ready]"}))  # fmt: skip


def lose_a_receipt(run: Run) -> None:
    run.journals["ben"].pop()


def receive_a_message_twice(run: Run) -> None:
    run.journals["ben"].append(run.journals["ben"][-1])


def deliver_a_message_twice(run: Run) -> None:
    run.journals["ben"].append(run.journals["ben"][-1] | {"event": "redelivered"})


def deliver_to_the_victim_what_it_had_read(run: Run) -> None:
    number = next(entry["id"] for entry in run.journals[run.plan.victim] if entry["event"] == "received")
    again = [entry for entry in run.journals[run.plan.victim] if entry["event"] == "redelivered"]
    assert number not in [entry["id"] for entry in again]
    run.journals[run.plan.victim].append({"event": "redelivered", "id": number})


def deliver_a_third_time(run: Run) -> None:
    again = [entry for entry in run.journals[run.plan.victim] if entry["event"] == "redelivered"]
    run.journals[run.plan.victim] += again


def send_what_nobody_was_to_send(run: Run) -> None:
    run.message("ben-extra", {"ada"})


def receive_what_is_for_others(run: Run) -> None:
    number = next(entry["id"] for entry in run.journals["ben"] if entry["event"] == "received")
    run.journals["cora"].append({"event": "received", "id": number})


def forget_a_read_mark(run: Run) -> None:
    run.database.execute("delete from message_reads where agent_id = 'ben'")


def lose_one_side_of_the_conflict(run: Run) -> None:
    (run.git.root / plan.SHARED).write_text("- ben leads\n")
    run.git("commit", "-q", "--all", "-m", "tidy up")


def never_come_back(run: Run) -> None:
    run.journals[run.plan.victim].remove(started(5))


def die_of_something_else(run: Run) -> None:
    run.database.execute("drop trigger activity_never_changes")
    run.database.execute("update activity set record = ?", (json.dumps({"metadata": {"exitCode": 1}}),))


def die_while_idle(run: Run) -> None:
    run.journals[run.plan.victim].remove({"event": "turn", "what": run.plan.work_to_interrupt})


def die_after_the_work(run: Run) -> None:
    journal = run.journals[run.plan.victim]
    journal.insert(journal.index(started(5)), {"event": "committed", "step": run.plan.work_to_interrupt})


def start_a_bystander_twice(run: Run) -> None:
    run.journals["ben"].append(started(7))


def not_notice_the_death(run: Run) -> None:
    run.database.execute("delete from activity")


def not_kill_the_server(run: Run) -> None:
    run.outages.clear()


def kill_the_server_between_merges(run: Run) -> None:
    run.outages = [Outage(14.2, 14.8)]


def keep_the_server_alive(run: Run) -> None:
    run.event("message.new", {}, at=11.5)


def lose_a_message_that_was_acknowledged(run: Run) -> None:
    run.database.execute(
        "update messages set idempotency_key = null where id = ?", (run.acknowledged["demo-note-1"],)
    )


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
        (move_the_base_by_force, "no two merges overlapped"),
        (lose_a_message, "every message was received exactly once"),
        (store_a_message_twice, "every message was received exactly once"),
        (lose_a_receipt, "every message was received exactly once"),
        (receive_a_message_twice, "every message was received exactly once"),
        (deliver_a_message_twice, "every message was received exactly once"),
        (deliver_to_the_victim_what_it_had_read, "every message was received exactly once"),
        (deliver_a_third_time, "every message was received exactly once"),
        (send_what_nobody_was_to_send, "every message was received exactly once"),
        (receive_what_is_for_others, "every message was received exactly once"),
        (forget_a_read_mark, "every message was received exactly once"),
        (lose_one_side_of_the_conflict, "the conflict was told, rebased and landed"),
        (never_come_back, "the killed runner came back and finished"),
        (not_notice_the_death, "the killed runner came back and finished"),
        (die_of_something_else, "the killed runner came back and finished"),
        (die_while_idle, "the killed runner came back and finished"),
        (die_after_the_work, "the killed runner came back and finished"),
        (start_a_bystander_twice, "the killed runner came back and finished"),
        (not_kill_the_server, "nothing acknowledged was lost with the killed server"),
        (kill_the_server_between_merges, "nothing acknowledged was lost with the killed server"),
        (keep_the_server_alive, "nothing acknowledged was lost with the killed server"),
        (lose_a_message_that_was_acknowledged, "nothing acknowledged was lost with the killed server"),
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
        assert stage.processes()
    assert not stage.processes()
    assert not stage.root.exists()


def test_a_stage_keeps_off_the_repository_that_the_environment_names(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.git("remote", "add", "origin", "/nowhere")
    before = run.git("config", "--list")
    for name, value in {"GIT_DIR": ".git", "GIT_WORK_TREE": "", "GIT_INDEX_FILE": ".git/index"}.items():
        monkeypatch.setenv(name, str(run.git.root / value))
    with opened(run.git.root, keep=False) as stage:
        assert stage.git("rev-parse", "--show-toplevel") == str(stage.git.root)
        assert stage.git("remote") == ""
    assert run.git("config", "--list") == before


def test_a_clone_of_a_detached_head_gets_a_branch_to_merge_into(run: Run) -> None:
    run.git("checkout", "-q", "--detach")
    with opened(run.git.root, keep=False) as stage:
        assert stage.git("symbolic-ref", "--short", "HEAD") == stage.base


def test_without_a_checkout_there_is_a_small_repository() -> None:
    with opened(None, keep=False) as stage:
        assert subprocess.run(["git", "-C", stage.git.root, "log", "-1"], capture_output=True).returncode == 0
