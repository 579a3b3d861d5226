"""Tokens: where the root token lives, and whom a request's token stands for."""

import os
import stat
from pathlib import Path

import pytest

from relay.http.auth import ROOT, Authenticator, Principal, RootToken, TokenUnusable, load_token

READER = Principal("reader", frozenset({"agent:read"}))
BOTH = Authenticator({"root-token": ROOT, "reader-token": READER})


@pytest.mark.spec("AUTH-1")
@pytest.mark.parametrize(
    ("headers", "principal"),
    [
        ({b"x-agent-relay-token": b"root-token"}, ROOT),
        ({b"authorization": b"Bearer root-token"}, ROOT),
        ({b"authorization": b"bEARER   reader-token "}, READER),
        ({b"x-agent-relay-token": b"reader-token", b"authorization": b"Bearer root-token"}, READER),
        ({b"x-agent-relay-token": b"wrong", b"authorization": b"Bearer root-token"}, None),
        ({b"x-agent-relay-token": b"root-toke"}, None),
        ({b"x-agent-relay-token": b"root-token "}, None),
        ({b"authorization": b"Basic root-token"}, None),
        ({b"authorization": b"root-token"}, None),
        ({b"authorization": b"Bearer"}, None),
        ({b"x-agent-relay-token": b""}, None),
        ({b"x-agent-relay-token": b"\xff\xfe"}, None),
        ({}, None),
    ],
)
def test_a_token_stands_for_its_principal(headers: dict[bytes, bytes], principal: Principal | None) -> None:
    assert BOTH.principal(headers) is principal


def test_root_may_everything_and_others_only_what_they_hold() -> None:
    assert ROOT.may("anything:write")
    assert READER.may("agent:read")
    assert not READER.may("agent:write")


def test_the_first_start_makes_a_private_token_file(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    token = load_token(home, {})
    assert len(token.text) >= 32
    assert token.file == home / "token"
    assert stat.S_IMODE((home / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert [path.name for path in home.iterdir()] == ["token"]


def test_a_later_start_finds_the_same_token(tmp_path: Path) -> None:
    assert load_token(tmp_path, {}) == load_token(tmp_path, {})


def test_two_homes_have_two_tokens(tmp_path: Path) -> None:
    assert load_token(tmp_path / "a", {}) != load_token(tmp_path / "b", {})


@pytest.mark.spec("AUTH-2")
def test_the_environment_wins_and_leaves_no_file(tmp_path: Path) -> None:
    assert load_token(tmp_path, {"AGENT_RELAY_TOKEN": " as-given "}) == RootToken("as-given", None)
    assert not list(tmp_path.iterdir())


def test_a_file_that_others_can_read_is_made_private_again(tmp_path: Path) -> None:
    token = load_token(tmp_path, {})
    (tmp_path / "token").chmod(0o644)
    assert load_token(tmp_path, {}) == token
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_a_file_of_somebody_else_is_read_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_token(tmp_path, {})
    (tmp_path / "token").chmod(0o644)
    monkeypatch.setattr(os, "geteuid", lambda: -2)
    assert load_token(tmp_path, {}).file == tmp_path / "token"
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o644


def test_a_folder_is_no_token_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir(mode=0o755)
    with pytest.raises(TokenUnusable, match=str(tmp_path / "token")):
        load_token(tmp_path, {})
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o755


def test_a_pipe_is_no_token_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token", 0o644)
    with pytest.raises(TokenUnusable, match="no regular file"):
        load_token(tmp_path, {})
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o644


def test_what_a_link_leads_to_is_read_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("a-token-kept-elsewhere\n")
    (tmp_path / "elsewhere").chmod(0o644)
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    assert load_token(tmp_path, {}).text == "a-token-kept-elsewhere"
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o644


def test_a_short_token_of_the_environment_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(TokenUnusable, match="AGENT_RELAY_TOKEN"):
        load_token(tmp_path, {"AGENT_RELAY_TOKEN": "abc"})


@pytest.mark.parametrize("content", [b"", b"\n", b"short\n", b"\xff" * 40])
def test_a_token_file_without_a_token_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(TokenUnusable, match=str(tmp_path / "token")):
        load_token(tmp_path, {})


def test_a_home_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenUnusable, match="AGENT_RELAY_TOKEN"):
        load_token(tmp_path / "file" / "home", {})
