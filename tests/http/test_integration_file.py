"""The file of the integrations: what it may say, and that a bad one is never half understood."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from relay.http.auth import Authenticator
from relay.http.integration_file import IntegrationFile, IntegrationsUnusable, per_minute, principals

SECRET = "secret-of-sixteen-characters"
CI = {"name": "ci", "secret": SECRET}


def write(home: Path, document: Any) -> IntegrationFile:
    path = home / "integrations.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    path.chmod(0o600)
    return IntegrationFile.of(home, {})


def refusal(file: IntegrationFile, *tokens: str) -> str:
    with pytest.raises(IntegrationsUnusable) as found:
        file.load(*tokens)
    assert str(found.value).startswith(f"{file.path}: ")
    assert SECRET not in str(found.value)
    return str(found.value).removeprefix(f"{file.path}: ")


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert IntegrationFile.of(tmp_path, {}).load() == []


def test_a_file_that_somebody_named_must_be_there(tmp_path: Path) -> None:
    named = IntegrationFile.of(tmp_path, {"AGENT_RELAY_INTEGRATIONS": str(tmp_path / "elsewhere.json")})
    assert refusal(named) == "No such file or directory"
    (tmp_path / "elsewhere.json").write_text(json.dumps([CI]))
    assert [each.name for each in named.load()] == ["ci"]


def test_a_home_that_nobody_has_is_told() -> None:
    with pytest.raises(IntegrationsUnusable, match=r"AGENT_RELAY_INTEGRATIONS: ~nobody-has-this-name/x: "):
        IntegrationFile.of(Path("/"), {"AGENT_RELAY_INTEGRATIONS": "~nobody-has-this-name/x"})


@pytest.mark.spec("INT-1")
def test_an_integration_is_as_the_file_says_and_may_report_by_default(tmp_path: Path) -> None:
    everything = {
        **CI,
        "targets": ["a1", "tag:t"],
        "channels": ["c"],
        "scopes": ["integration:write", "task:read"],
        "callbackUrl": "https://hooks.example:8443/relay?a=b",
        "callbackAllow": ["hooks.example", "10.0.0.0/8", "fd00::/8", "127.0.0.1"],
    }
    full, plain = write(tmp_path, [everything, {"name": "other", "secret": SECRET[::-1]}]).load()
    assert (full.targets, full.channels) == (["a1", "tag:t"], ["c"])
    assert full.callback_url == "https://hooks.example:8443/relay?a=b"
    assert full.callback_allow == ["hooks.example", "10.0.0.0/8", "fd00::/8", "127.0.0.1"]
    assert (plain.targets, plain.channels, plain.callback_url) == ([], [], None)
    known = principals([full, plain])
    assert known[SECRET].scopes == {"integration:write", "task:read"}
    assert known[SECRET[::-1]].scopes == {"integration:write"}
    assert known[SECRET[::-1]].subject == "integration:other"


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"name": None}, "name: is required"),
        ({"name": "x" * 121}, "name: longer than 120 characters"),
        ({"name": "a b"}, "name: expected a name of letters"),
        ({"name": "root"}, "name: root is taken"),
        ({"name": "user"}, "name: user is taken"),
        ({"secret": None}, "secret: is required"),
        ({"secret": "x" * 15}, "secret: shorter than 16 characters"),
        ({"secret": "x" * 241}, "secret: longer than 240 characters"),
        ({"secret": "sixteen characters with spaces"}, "secret: expected printable ASCII"),
        ({"secret": "größer-als-sechzehn"}, "secret: expected printable ASCII"),
        ({"targets": "a1"}, "targets: expected a list of texts"),
        ({"channels": [1]}, "channels: expected a list of texts"),
        ({"targets": [" "]}, "targets: holds nothing, which would allow everything; leave it out"),
        ({"channels": ["", ""]}, "channels: holds nothing, which would allow everything; leave it out"),
        ({"scopes": ["write"]}, "scopes: write is no scope"),
        ({"target": ["a1"]}, "target: there is no such member"),
        ({"callbackURL": "https://hooks.example"}, "callbackURL: there is no such member"),
        ({"callbackUrl": "hooks.example"}, "callbackUrl: expected an http"),
        ({"callbackUrl": "ftp://hooks.example/"}, "callbackUrl: expected an http"),
        ({"callbackUrl": "https://user@hooks.example/"}, "callbackUrl: expected an http"),
        ({"callbackUrl": "https://user:word@hooks.example/"}, "callbackUrl: expected an http"),
        ({"callbackUrl": "https://hooks.example:99999/"}, "callbackUrl: expected http"),
        ({"callbackUrl": "https://:80/"}, "callbackUrl: expected http"),
        ({"callbackUrl": "https://[::1/"}, "callbackUrl: expected http"),
        ({"callbackAllow": ["http://hooks.example"]}, "callbackAllow: http://hooks.example is no host"),
        ({"callbackAllow": ["10.0.0.1/8"]}, "callbackAllow: 10.0.0.1/8 is no host"),
        ({"callbackAllow": ["*"]}, "callbackAllow: * is no host"),
    ],
)
def test_a_member_that_does_not_fit_is_named(tmp_path: Path, members: dict[str, Any], problem: str) -> None:
    assert f"[0] {problem}" in refusal(write(tmp_path, [{**CI, **members}]))


@pytest.mark.parametrize("name", ["x" * 120, "CI_1.a-b"])
@pytest.mark.parametrize("secret", ["x" * 16, "~" * 240])
def test_names_and_secrets_at_their_limits_are_taken(tmp_path: Path, name: str, secret: str) -> None:
    assert write(tmp_path, [{"name": name, "secret": secret}]).load()[0].name == name


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    told = refusal(write(tmp_path, [CI, {"name": "b c", "secret": "short"}, 7, {"nam": "d"}]))
    assert "[1] name: expected a name" in told
    assert "[2] expected an object" in told
    assert "[3] nam: there is no such member; [3] name: is required; [3] secret: is required" in told
    assert "[0]" not in told


def test_names_and_secrets_are_of_one_integration_each(tmp_path: Path) -> None:
    told = refusal(
        write(tmp_path, [CI, {"name": "cd", "secret": SECRET}, {"name": "ci", "secret": "y" * 16}])
    )
    assert told == "there are 2 integrations with the name ci; ci, cd have the same secret"


def test_no_secret_is_the_root_token(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, [CI]), SECRET) == "[0] secret: it is the root token"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is not JSON"),
        ("[", "it is not JSON"),
        ("{}", "expected a list of at most 200 integrations"),
        ("null", "expected a list"),
        (json.dumps([CI] * 201), "expected a list of at most 200"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    assert refusal(write(tmp_path, text)).startswith(problem)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "integrations.json").write_bytes(b"\xff\xfe[]")
    assert "can't decode" in refusal(IntegrationFile.of(tmp_path, {}))


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "integrations.json")
    assert refusal(IntegrationFile.of(tmp_path, {})) == "it is no regular file"
    (tmp_path / "folder").mkdir()
    assert refusal(IntegrationFile(tmp_path / "folder", named=True)) == "Is a directory"


def test_others_can_read_the_file_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path, [CI])
    file.path.chmod(0o644)
    assert len(file.load()) == 1
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert "consider replacing its secrets" in caplog.text


@pytest.mark.spec("O-34")
def test_the_rate_is_sixty_unless_it_is_configured() -> None:
    assert per_minute({}) == per_minute({"INTEGRATION_RATE_LIMIT_PER_MINUTE": " "}) == 60
    assert per_minute({"INTEGRATION_RATE_LIMIT_PER_MINUTE": "1"}) == 1
    assert per_minute({"INTEGRATION_RATE_LIMIT_PER_MINUTE": "1000000"}) == 1_000_000


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "1000001", "many", "1_0", "٣", "9" * 30])
def test_a_rate_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(IntegrationsUnusable, match="INTEGRATION_RATE_LIMIT_PER_MINUTE: expected a number"):
        per_minute({"INTEGRATION_RATE_LIMIT_PER_MINUTE": given})


@pytest.mark.spec("AUTH-3")
def test_other_integrations_take_the_place_of_those_before(tmp_path: Path) -> None:
    before = write(tmp_path, [CI]).load()
    known = Authenticator(principals(before))
    assert known.principal({b"x-agent-relay-token": SECRET.encode()}).integration == "ci"  # type: ignore[union-attr]
    known.replace(principals(write(tmp_path, [{"name": "ci", "secret": "y" * 16}]).load()))
    assert known.principal({b"x-agent-relay-token": SECRET.encode()}) is None
    assert known.principal({b"authorization": b"Bearer " + b"y" * 16}).integration == "ci"  # type: ignore[union-attr]
