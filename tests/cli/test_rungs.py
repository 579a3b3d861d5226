"""How far a message got, from a terminal: waiting for a rung, dead letters, and the words for it."""

from __future__ import annotations

import ast
import json
import re
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from shell import PATIENCE, Run, Served, answer

import relay

LOWER = ("stored", "routed", "handed", "expired", "dead")


def post(server: Served, path: str, **members: Any) -> Any:
    request = urllib.request.Request(
        f"{server.url}{path}",
        data=json.dumps(members).encode(),
        headers={
            "Authorization": f"Bearer {(server.home / 'token').read_text().strip()}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return json.loads(response.read())


def take(server: Served, agent: str, wait: int = 20_000) -> dict[str, Any]:
    (handed,) = post(server, f"/api/agents/{agent}/deliveries", waitMs=wait)["deliveries"]
    return dict(handed)


def settle(server: Served, agent: str, handed: dict[str, Any], outcome: str, **more: Any) -> None:
    ack = {"messageId": handed["messageId"], "token": handed["token"], "outcome": outcome, **more}
    post(server, f"/api/agents/{agent}/deliveries/ack", acks=[ack])


def kill(server: Served, agent: str) -> int:
    """Make a dead letter of the next message."""
    for _ in range(2):
        handed = take(server, agent)
        settle(server, agent, handed, "died", error="it ended", retryMs=0)
    return int(handed["messageId"])


def test_waiting_for_what_has_been_reached_ends_at_once(run: Run, server: Served) -> None:
    server.register("w1")
    assert run("send", "w1", "hello", "--wait", "stored").output.endswith(" is stored\n")
    shown = answer(run("send", "nobody", "hello", "--wait", "stored", "--json"))
    assert (shown["to"], shown["rung"], shown["deliveries"]) == ("nobody", "stored", [])


@pytest.mark.parametrize("end", ["dead", "expired"])
def test_nobody_waits_for_what_is_over(end: str) -> None:
    """The server answers at once, so whoever asked it again would do so without a pause."""
    from relay import wire
    from relay.cli.rungs import Reached

    sent = wire.decode(wire.Message, {"id": 1, "from": "a", "to": "tag:t", "body": "x", "createdAt": 1})
    reached = Reached(sent, "confirmed", one=False)
    first, second = (wire.Progress(message_id=1, agent_id=name, rung=wire.Rung(end)) for name in ("b", "c"))
    reached.progress = [first]
    assert reached.hopeless
    reached.progress = [first, wire.Progress(message_id=1, agent_id="d", rung=wire.Rung.HANDED)]
    assert not reached.hopeless
    reached.progress = [first, second]
    assert reached.hopeless


def test_who_waited_in_vain_is_told_where_to_look(run: Run, server: Served) -> None:
    server.register("w0", tags=["w0s"])
    told = run("send", "tag:w0s", "hello", "--wait", "handed", "--timeout", "0")
    assert told.exit_code == 7
    assert "next: relay inbox w0\n" in told.stderr
    assert run("inbox", "w0").exit_code == 0


def test_a_sender_waits_until_the_agent_has_confirmed_and_replied(run: Run, server: Served) -> None:
    server.register("w2")

    def agent() -> None:
        handed = take(server, "w2")
        settle(server, "w2", handed, "confirmed", evidence="turn 1")
        post(server, "/api/messages", **{"from": "w2", "body": "done", "replyTo": handed["messageId"]})

    thread = threading.Thread(target=agent)
    thread.start()
    shown = answer(run("send", "w2", "do it", "--wait", "replied", "--timeout", "20", "--json"))
    thread.join()
    assert shown["rung"] == "replied"
    assert [(each["agentId"], each["evidence"]) for each in shown["deliveries"]] == [("w2", "turn 1")]


@pytest.mark.parametrize(
    ("rung", "steps", "got"),
    [("handed", 0, "routed"), ("confirmed", 1, "handed"), ("replied", 2, "confirmed")],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_when_the_time_is_over_the_rung_is_told_with_exit_code_7(
    run: Run, server: Served, rung: str, steps: int, got: str, as_json: bool
) -> None:
    name = f"late-{rung}-{as_json}"
    server.register(name)

    def agent() -> None:
        handed = take(server, name)
        if steps > 1:
            settle(server, name, handed, "confirmed")

    thread = threading.Thread(target=agent)
    if steps:
        thread.start()
    how = ("--json",) if as_json else ()
    result = run("send", name, "x", "--wait", rung, "--timeout", "1.5", *how)
    if steps:
        thread.join()
    assert result.exit_code == 7, result.output
    if as_json:
        assert json.loads(result.stdout)["rung"] == got
        assert got in json.loads(result.stderr)["error"]
    else:
        assert f"is {got}\n" in result.stdout
        assert f"is {got}, and not {rung} within 1.5 s" in result.stderr


def test_a_shared_address_is_waited_for_as_a_whole_or_for_any(run: Run, server: Served) -> None:
    for name in ("m1", "m2"):
        server.register(name, tags=["many"])
    threads = [threading.Thread(target=take, args=(server, "m1")) for _ in range(2)]
    threads[0].start()
    result = run("send", "tag:many", "x", "--wait", "handed", "--timeout", "1")
    assert result.exit_code == 7
    assert "  m1  handed\n  m2  routed\n" in result.stdout
    threads[1].start()
    assert run("send", "tag:many", "x", "--wait", "handed", "--timeout", "20", "--any").exit_code == 0
    for thread in threads:
        thread.join()


def test_dead_letters_are_shown_waited_for_no_longer_and_redelivered(run: Run, server: Served) -> None:
    server.register("deaf")
    assert run("dlq").output == "no dead letters\n"
    thread = threading.Thread(target=kill, args=(server, "deaf"))
    thread.start()
    result = run("send", "deaf", "hello", "--wait", "confirmed", "--timeout", "20")
    thread.join()
    assert result.exit_code == 1
    assert "is dead, and was to be confirmed" in result.stderr
    (letter,) = answer(run("dlq", "--json"))
    number = str(letter["messageId"])
    assert f"relay dlq redeliver {number}" in result.stderr
    assert (letter["agentId"], letter["rung"], letter["error"], letter["message"]["body"]) == (
        "deaf",
        "dead",
        "it ended",
        "hello",
    )
    shown = run("dlq", "--agent", "deaf").output
    assert number in shown and "it ended" in shown
    assert answer(run("dlq", "--agent", "other", "--json")) == []
    assert "dead" in run("inbox", "deaf").output
    assert run("dlq", "redeliver", number, "other").exit_code == 1
    assert answer(run("dlq", "redeliver", number, "deaf", "--json")) == {"redelivered": ["deaf"]}
    again = run("dlq", "redeliver", number)
    assert again.exit_code == 1
    assert "not dead" in again.stderr
    settle(server, "deaf", take(server, "deaf"), "confirmed")
    assert [each["rung"] for each in answer(run("inbox", "deaf", "--json"))] == ["confirmed"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--wait", "delivered"),
        ("--wait", "handed", "--timeout", "-1"),
        ("--timeout", "soon", "--wait", "handed"),
    ],
)
def test_wrong_usage_is_told(run: Run, server: Served, wrong: tuple[str, ...]) -> None:
    assert run("send", "x", "y", *wrong).exit_code == 2
    assert run("dlq", "redeliver", "none").exit_code == 2
    assert run("dlq", "redeliver").exit_code == 2


def test_no_lower_rung_is_ever_called_delivered(run: Run, server: Served) -> None:
    server.register("word")
    results = [
        run("send", "word", "x"),
        run("send", "word", "x", "--wait", "stored"),
        run("send", "word", "x", "--wait", "handed", "--timeout", "0"),
        run("send", "word", "x", "--wait", "replied", "--timeout", "0", "--json"),
        run("inbox", "word"),
        run("inbox", "word", "--json"),
        run("dlq"),
    ]
    for result in results:
        assert any(rung in result.output for rung in (*LOWER, "no dead letters"))
        assert "delivered" not in result.output + result.stderr


def test_nothing_that_relay_says_calls_a_message_delivered() -> None:
    """What is said comes from texts in the source: none of them has the word, but for what documents the source."""
    found = []
    for path in Path(relay.__file__).parent.rglob("*.py"):
        if {"actors", "testing", "demo"} & set(path.parts):
            continue
        tree = ast.parse(path.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            said = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
            if said and re.search(r"\bdelivered\b", node.value, re.IGNORECASE):
                found.append(f"{path.name}:{node.lineno}: {node.value!r}")
    assert found == []
