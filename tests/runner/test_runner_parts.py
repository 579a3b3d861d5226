"""The runner's parts that need nobody else."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from relay import wire
from relay.client import Refused, RelayError, Unreachable
from relay.runner._questions import Questions
from relay.runner._retry import Complaints, answered
from relay.runner.acknowledged import KEPT, Acknowledged, Key, key_of
from relay.runner.activity import SUBAGENT, TURN, Activity
from relay.runner.adapter import AgentGone


@pytest.mark.spec("R-77", "R-I30")
async def test_the_same_complaint_is_made_once_in_five_minutes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    complain = Complaints(logging.getLogger("test"))
    for status, at in ((500, 0), (500, 100), (500, 240), (503, 240), (500, 299), (503, 300), (500, 301)):
        await trio.sleep_until(trio.current_time() - trio.current_time() % 1000 + at)
        complain(Refused(status, "it hurts"))
    said = [record.getMessage() for record in caplog.records]
    assert [text[-4:-1] for text in said] == ["500", "503", "500"]


async def test_a_call_is_repeated_until_relay_answers(autojump_clock: MockClock) -> None:
    begun: list[float] = []

    async def call() -> str:
        begun.append(trio.current_time())
        if len(begun) < 12:
            raise Unreachable("away")
        return "here"

    complaints: list[RelayError] = []
    assert await answered(call, complaints.append) == "here"
    pauses = [later - earlier for earlier, later in pairwise(begun)]
    assert pauses[0] < 0.4
    assert 7.0 < max(pauses) < 13.0
    assert len(complaints) == 11


def key(number: int, *, created_at: int = 1_000, sender: str = "b1") -> Key:
    return Key(number, created_at, sender)


@pytest.mark.spec("R-38")
def test_what_was_acknowledged_is_known_to_a_later_life(tmp_path: Path) -> None:
    path = tmp_path / "acknowledged"
    Acknowledged(path).add([key(3), key(5)])
    Acknowledged(path).add([key(5), key(7)])
    later = Acknowledged(path)
    assert [number for number in range(10) if key(number) in later] == [3, 5, 7]


def test_a_message_of_another_database_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "acknowledged"
    Acknowledged(path).add([key(3, sender='"ä\n')])
    later = Acknowledged(path)
    assert key(3, sender='"ä\n') in later
    assert key(3) not in later
    assert key(3, sender='"ä\n', created_at=1_001) not in later


def test_a_key_tells_id_milliseconds_and_sender() -> None:
    message = wire.Message(id=3, from_="b1", to="a1", body="x", created_at=1_700_000_000.123)
    assert key_of(message) == Key(3, 1_700_000_000_123, "b1")


@pytest.mark.parametrize(
    "odd",
    [
        b"[12,100",
        b"garbage\n",
        b"\xff\xfe\n1",
        b"7\n",
        b"[7]\n",
        b'["7",1,"b1"]\n',
        b"[7,1,[]]\n",
        b"[[],1,[]]\n",
    ],
    ids=["torn", "garbage", "bytes", "an id alone, as was written once", "short", "text", "list", "lists"],
)
def test_an_odd_line_is_none(tmp_path: Path, odd: bytes) -> None:
    path = tmp_path / "acknowledged"
    Acknowledged(path).add([key(3)])
    with path.open("ab") as file:
        file.write(odd)
    Acknowledged(path).add([key(45)])
    later = Acknowledged(path)
    assert [number for number in range(2_000) if key(number) in later] == [3, 45]


def test_only_the_newest_acknowledgements_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "acknowledged"
    known = Acknowledged(path)
    for number in range(3 * KEPT):
        known.add([key(number)])
    assert len(path.read_bytes().splitlines()) <= 2 * KEPT
    assert key(0) not in known
    later = Acknowledged(path)
    assert [number for number in range(3 * KEPT) if key(number) in later] == list(range(2 * KEPT, 3 * KEPT))


@pytest.mark.spec("R-I20")
def test_busy_is_work_or_an_unexpired_claim_unless_the_agent_has_ended() -> None:
    now = [100.0]
    activity = Activity(lambda: now[0])
    assert activity.status is wire.AgentStatus.IDLE
    activity.claim("message", "1", 110.0)
    assert activity.status is wire.AgentStatus.BUSY
    now[0] = 111.0
    assert activity.status is wire.AgentStatus.IDLE
    activity.start(TURN, "t")
    activity.start(TURN, "t", label="again")
    activity.start(SUBAGENT, "s")
    assert activity.facts()["busyReasons"] == [TURN, SUBAGENT]
    assert [item["label"] for item in activity.facts()["activeWork"] if item["kind"] == TURN] == ["again"]
    activity.ended = "error"
    assert activity.status is wire.AgentStatus.OFFLINE
    assert activity.facts()["terminalStatus"] == "error"
    activity.ended = None
    activity.finish(TURN, "t")
    activity.finish(TURN, "unknown")
    activity.clear(SUBAGENT)
    assert activity.status is wire.AgentStatus.IDLE


def test_an_answer_is_heard_once_in_time_or_late_and_never_after_the_end() -> None:
    questions, heard = Questions(), []
    with questions.asking(heard.append) as in_time:
        questions.answered(in_time.id, {"type": "ack"})
        questions.answered(in_time.id, {"type": "nack"})
    with questions.asking(heard.append) as late:
        pass
    questions.answered(late.id, {"type": "late"})
    questions.answered(late.id, {"type": "later"})
    assert [answer["type"] for answer in heard] == ["ack", "late"]
    with questions.asking() as last:
        questions.end()
        with pytest.raises(AgentGone):
            last.result()
    with pytest.raises(AgentGone), questions.asking():
        pass
