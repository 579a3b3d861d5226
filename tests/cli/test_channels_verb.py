"""Channels from a terminal: where they lead, and what comes in on them."""

from __future__ import annotations

import pytest
from shell import Run, Served, answer

from relay import wire


@pytest.fixture
def line(server: Served) -> str:
    server.register("line", kind=wire.AgentKind.CHANNEL)
    server.register("oncall", tags=["pool-1"])
    return "line"


def test_a_channel_is_led_somewhere_and_what_comes_in_goes_there(run: Run, line: str) -> None:
    assert "nobody" in run("channels", "list").output
    bound = run("channels", "bind", line, "pool:pool-1")
    assert "line leads to pool:pool-1, held by oncall (bnd_" in bound.output
    other = answer(run("channels", "bind", line, "tag:t", "--beside", "--json"))
    assert other["target"] == {"type": "tag", "id": "t"}
    (channel,) = answer(run("channels", "list", "--json"))
    assert [each["mode"] for each in channel["bindings"]] == ["broadcast"]
    answer(run("channels", "bind", line, "pool:pool-1", "--beside", "--json"))
    listed = run("channels", "list").output
    assert all(word in listed for word in ("line", "pool:pool-1", "oncall", "tag:t", other["id"]))
    sent = run("channels", "send", line, "disk full", "--key", "k")
    assert "to oncall (available)" in sent.output
    assert "to tag:t" in sent.output
    again = run("channels", "send", line, "disk full", "--key", "k")
    assert again.output.startswith("nothing new")
    assert answer(run("channels", "send", line, "disk full", "--key", "k", "--json"))["created"] == 0
    assert "disk full" in run("inbox", "oncall").output
    assert "is deleted" in run("channels", "unbind", other["id"]).output


def test_mail_for_a_channel_is_sent_like_any_other(run: Run, line: str) -> None:
    sent = run("send", "channel:line", "hello, world", "--json")
    assert answer(sent)["to"] == "line"
    assert "nobody has" not in sent.stderr
    assert run("send", "channel:nowhere", "hello").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bind", "nowhere", "a"), "no such channel"),
        (("bind", "line", "tag:"), "needs an id"),
        (("unbind", "bnd_none"), "no such binding"),
        (("send", "nowhere", "x"), "no such channel"),
        (("send", "line", " "), "nothing to send"),
    ],
)
def test_what_cannot_be_is_said_with_a_next_step(
    run: Run, line: str, arguments: tuple[str, ...], said: str
) -> None:
    result = run("channels", *arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "next: relay" in result.stderr
