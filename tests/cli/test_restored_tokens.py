"""Tokens after a restore: nothing that was revoked is good again, and nothing that was made since is lost."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import attrs
import pytest
import trio
from shell import answer, invoke

from relay import wire
from relay.actors import open_system
from relay.fleet import Caller, open_fleet, tokens
from relay.http.auth import BadToken
from relay.http.keys import Keyring
from relay.http.verifying import Verifier
from relay.store import open_store

ROOT = Caller("root", "root")
ALL = tokens.Held(frozenset({"*"}))


@attrs.define
class Server:
    """One that is up only while something is done with it. `texts` are the tokens by their names."""

    home: Path
    keys: Keyring = attrs.Factory(Keyring.passing)
    texts: dict[str, str] = attrs.Factory(dict)

    @property
    def path(self) -> Path:
        return self.home / "relay.db"

    def do(self, *asked: tuple[str, Any]) -> list[Any]:
        """Ask the authority; what it makes is remembered by the name beside."""

        async def live() -> list[Any]:
            async with (
                open_system() as system,
                open_store(self.path, system) as store,
                open_fleet(system, store) as fleet,
            ):
                edge = Verifier(self.keys, fleet)
                answers = [(name, await fleet.tokens.ask(message)) for name, message in asked]
                self.texts |= {name: edge.issue(made).token for name, made in answers if made is not None}
                return [made for _, made in answers]

        return trio.run(live)

    def good(self) -> set[str]:
        """The names of the tokens that pass."""

        async def live() -> set[str]:
            async with (
                open_system() as system,
                open_store(self.path, system) as store,
                open_fleet(system, store) as fleet,
            ):
                return {name for name, text in self.texts.items() if passes(Verifier(self.keys, fleet), text)}

        return trio.run(live)


def passes(edge: Verifier, text: str) -> bool:
    try:
        edge.principal(text)
    except BadToken:
        return False
    return True


def new(**asked: Any) -> tokens.Create:
    profile: Any = {"role": "provider", "profile_id": "provider-agent", "sub": "runner:a1"}
    return tokens.Create(wire.NewToken(**{**profile, **asked}), ALL, ROOT)


@pytest.fixture
def server(nowhere: Path) -> Server:
    """Since its backup one token was revoked, one was renewed, one was made, and one is as it was."""
    server = Server(nowhere)
    _, revoked, renewed = server.do(("stays", new()), ("revoked", new()), ("renewed", new()))
    answer(invoke("backup", "--json"))
    server.do(
        ("", tokens.Revoke(revoked.jti, ALL, ROOT)),
        ("successor", tokens.Renew(renewed.jti, ROOT)),
        ("made", new()),
    )
    assert server.good() == {"stays", "successor", "made"}
    return server


@pytest.mark.spec("TOK-6", "M-I34")
def test_a_restore_turns_no_token_back(server: Server) -> None:
    result = invoke("restore")
    assert "what was revoked stays so" in result.output, result.output
    assert server.good() == {"stays", "successor", "made"}


def test_what_was_forgotten_since_the_backup_stays_forgotten(server: Server) -> None:
    with closing(apsw.Connection(str(server.path))) as connection:
        connection.execute("delete from tokens where revoked_at is not null")
    assert answer(invoke("restore", "--json"))["tokens"] == "kept"
    assert server.good() == {"stays", "successor", "made"}


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_without_a_database_to_ask_the_backup_counts_and_that_is_said(server: Server, damage: str) -> None:
    if damage == "gone":
        server.path.unlink()
    else:
        server.path.write_bytes(b"no database at all " * 1_000)
    result = invoke("restore")
    assert "--end-tokens" in result.output, result.output
    assert server.good() == {"stays", "revoked", "renewed"}


def test_another_database_in_its_place_takes_no_token_away(server: Server) -> None:
    server.path.unlink()
    server.do(("other", new()))
    assert answer(invoke("restore", "--json"))["tokens"] == "kept"
    assert server.good() == {"stays", "revoked", "renewed", "other"}


def test_all_tokens_can_be_ended_with_a_restore(server: Server) -> None:
    server.path.unlink()
    assert "all tokens have ended" in invoke("restore", "--end-tokens").output
    assert server.good() == set()
    server.do(("after", new()))
    assert server.good() == {"after"}
    with closing(apsw.Connection(str(server.path))) as connection:
        records = connection.execute("select record from tokens where revoked_at is not null").fetchall()
    assert all(wire.decode(wire.Token, record).revoked_at is not None for (record,) in records)
