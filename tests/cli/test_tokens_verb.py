"""Tokens from a terminal: made, listed, ended."""

from __future__ import annotations

import pytest
from shell import Run, Served, answer


@pytest.mark.spec("M-201", "M-203")
def test_a_token_is_printed_once_and_ended(run: Run, server: Served) -> None:
    assert "no tokens besides the root token" in run("tokens").output
    made = answer(
        run("tokens", "create", "ci", "--scope", "message:send", "--to", "planner", "--ttl", "30d", "--json")
    )
    record = made["record"]
    assert record["expiresAt"] - record["createdAt"] // 1000 == 30 * 86_400
    assert record["constraints"] == {"targets": ["planner"]}
    listed = run("tokens", "list").output
    assert record["jti"] in listed
    assert made["token"] not in listed
    shown = run("tokens", "show", record["jti"]).output
    assert all(word in shown for word in ("ci", "message:send", "--to: planner"))
    assert "is revoked" in run("tokens", "revoke", record["jti"]).output
    assert record["jti"] not in run("tokens", "list").output
    assert "revoked" in run("tokens", "list", "--all").output
    assert run("tokens", "revoke", record["jti"]).exit_code == 1


def test_a_token_is_all_that_is_printed_for_people(run: Run) -> None:
    printed = run("tokens", "create", "observer", "--profile", "observer").output.strip()
    assert len(printed.split(".")) == 3


def test_another_key_signs(run: Run) -> None:
    assert "1 older key can still verify" in run("tokens", "rotate").output
    assert len(answer(run("tokens", "rotate", "--json"))["retires"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create", "root"), 1, "choose another"),
        (("create", "r", "--profile", "none"), 1, "expected one of admin"),
        (("create", "r", "--ttl", "soon"), 2, "is no time"),
        (("create", "r", "--ttl", "0"), 2, "is no time"),
        (("show", "tok_none"), 1, "no such token"),
    ],
)
def test_what_is_wrong_is_told(run: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = run("tokens", *arguments)
    assert (result.exit_code, said in result.output + result.stderr) == (code, True), result.output
