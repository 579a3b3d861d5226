"""Talking to agents from a terminal: sending, the inbox, and what strangers may write into it."""

import pytest
from shell import Run, Served, answer

ESCAPES = "\x1b[31mred \x1b]0;title\x07 \x9b2J \u202eright to left\u2066 \r over \x7f"


def test_a_message_is_sent_once_and_found_in_the_inbox(run: Run, server: Served) -> None:
    server.register("planner")
    sent = answer(run("send", "planner", "tests pass", "--key", "k1", "--json"))
    again = answer(run("send", "planner", "tests pass", "--key", "k1", "--json"))
    assert sent == again
    assert (sent["from"], sent["to"], sent["body"]) == ("user", "planner", "tests pass")
    assert [
        message["id"] for message in answer(run("inbox", "planner", "--unread", "--mark-read", "--json"))
    ] == [sent["id"]]
    assert answer(run("inbox", "planner", "--unread", "--json")) == []
    assert "tests pass" in run("inbox", "planner").output


def test_a_person_and_an_agent_talk_to_each_other(run: Run, server: Served) -> None:
    server.register("helper")
    asked = answer(run("send", "helper", "does it build?", "--json"))
    run("send", "user", "yes, it does", "--from", "helper", "--reply-to", str(asked["id"]))
    assert "yes, it does" in run("inbox").output
    assert "yes, it does" in run("inbox", "--unread", "--mark-read").output
    assert run("inbox", "--unread").output == "no messages for user\n"


def test_messages_are_shown_whole(run: Run, server: Served) -> None:
    server.register("reader")
    run("send", "reader", f"first line\n\n  indented\n{'long ' * 100}the end", "--subject", "the subject")
    shown = run("inbox", "reader").output
    assert "the subject" in shown
    assert "    first line\n\n      indented\n" in shown
    assert f"{'long ' * 100}the end\n" in shown


def test_an_address_that_nobody_has_is_noticed(run: Run, server: Served) -> None:
    server.register("somebody", label="sam", tags=["t"], capabilities=["review"])
    sent = run("send", "somebdoy", "hello?")
    assert sent.exit_code == 0
    assert "nobody has the id somebdoy" in sent.stderr
    assert "nobody has" not in run("send", "somebody", "hello").stderr
    assert "nobody has" not in run("send", "user", "note to myself", "--from", "somebody").stderr
    for address in ("tag:t", "label:sam", "cap:review", "broadcast"):
        assert "nobody has" not in run("send", address, "anybody?").stderr
    for address, said in {
        "tag:u": "tag u",
        "label:x": "label x",
        "cap:y": "capability y",
        "foo:bar": "id foo:bar",
    }.items():
        assert f"nobody has the {said} yet" in run("send", address, "anybody?").stderr
    looked = run("inbox", "somebdoy")
    assert looked.exit_code == 1
    assert "nobody has the id somebdoy" in looked.stderr
    assert "relay agents" in looked.stderr


@pytest.mark.parametrize("json", [False, True])
def test_no_control_characters_of_strangers_reach_the_terminal(run: Run, server: Served, json: bool) -> None:
    server.register("evil", label=ESCAPES)
    server.register(f"worse{ESCAPES}", tags=[ESCAPES])
    server.register("victim")
    how = ("--json",) if json else ()
    run("send", "victim", f"{ESCAPES}\nbody", "--from", f"stranger{ESCAPES}", "--subject", ESCAPES)
    outputs = [
        run("agents", *how),
        run("inbox", "victim", *how),
        run("tail", "--after", "0", "--count", "6", *how),
        run("send", "victim", "x", "--from", f"stranger{ESCAPES}", *how),
        run("send", f"victim{ESCAPES}", "x", *how),
        run("inbox", f"nobody{ESCAPES}", *how),
        run("merge", f"none{ESCAPES}", *how),
    ]
    for result in outputs:
        shown = result.output + result.stderr
        assert "red" in shown
        assert not set(shown) & set(ESCAPES) - set(" ") - {c for c in ESCAPES if c.isprintable()}, shown
