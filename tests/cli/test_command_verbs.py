"""`relay commands`, against a server."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from shell import Run, Served, answer


def post(server: Served, path: str, body: dict[str, Any]) -> Any:
    token = (server.home / "token").read_text().strip()
    headers = {"X-Agent-Relay-Token": token, "Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as told:
        return json.load(told)


def test_commands_are_listed_shown_and_called_off(run: Run, server: Served) -> None:
    first = post(server, "/api/commands", {"type": "t", "source": "s", "target": "a1"})["id"]
    second = post(server, "/api/commands", {"type": "u", "source": "s", "target": "a2"})["id"]
    assert [each["id"] for each in answer(run("commands", "list", "--json"))] == [first, second]
    for narrowed in (("--target", "a2"), ("--type", "u"), ("--after", first)):
        assert [each["id"] for each in answer(run("commands", "list", *narrowed, "--json"))] == [second]
    assert f"{first}  t for a1: pending" in run("commands", "show", first).output
    post(server, f"/api/commands/{first}/claim", {"claimant": "me"})
    assert run("commands", "cancel", first).output == f"{first} is canceled\n"
    told = run("commands", "list", "--status", "canceled").output
    assert "whether it was done is unknown" in told
    assert second not in told
    assert answer(run("commands", "cancel", second, "--json")) == {"ok": True}
    assert answer(run("commands", "show", second, "--json"))["status"] == "canceled"


@pytest.mark.parametrize(
    "arguments",
    [("list", "--status", "odd"), ("show", "cmd_x"), ("cancel", "cmd_x"), ("list", "--after", "cmd_x")],
)
def test_what_cannot_be_done_with_commands_is_told_with_a_next_step(
    run: Run, arguments: tuple[str, ...]
) -> None:
    told = json.loads(run("commands", *arguments, "--json").stderr)
    assert told["next"].startswith("relay ")
