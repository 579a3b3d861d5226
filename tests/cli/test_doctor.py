"""The doctor: content when all is in order, and only then."""

from pathlib import Path

import apsw
import pytest
from shell import Run, answer, invoke


def test_the_doctor_is_content_with_a_running_server(run: Run) -> None:
    findings = answer(run("doctor", "--json"))
    assert {finding["check"] for finding in findings} == {
        "python", "git", "home", "disk", "server", "token", "upkeep", "database", "backup", "audit"
    }  # fmt: skip
    assert all(finding["ok"] for finding in findings)
    assert not any("next" in finding for finding in findings)


def test_the_doctor_tries_the_token_that_the_other_verbs_use(run: Run, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("some-other-token")
    (tmp_path / "token").chmod(0o600)
    result = run("doctor", "--token-file", str(tmp_path / "token"))
    assert result.exit_code == 1
    assert "✓ server" in result.output
    assert "✗ token" in result.output
    assert "--token-file" in result.output
    assert "✗ token" in run("doctor", "--token-file", str(tmp_path / "missing")).output


def test_no_server_is_not_in_order(nowhere: Path) -> None:
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "✗ server" in result.output
    assert "next: relay serve" in result.output
    assert "✓ port" in result.output
    assert "✓ token" in result.output


def test_the_doctor_looks_at_the_files(nowhere: Path) -> None:
    (nowhere / "relay.db").write_bytes(b"no database, though long enough to be taken for one" * 99)
    (nowhere / "token").chmod(0o644)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "✗ database" in result.output
    assert "✗ token" in result.output
    assert "next: chmod 600" in result.output


def test_the_doctor_looks_at_the_database_that_it_is_told(nowhere: Path) -> None:
    other = nowhere / "other.db"
    with apsw.Connection(str(other)) as connection:
        connection.execute("create table t (x)")
    connection.close()
    assert f"✓ database     {other}: ok" in invoke("doctor", "--database", str(other)).output
    missing = invoke("doctor", "--database", str(nowhere / "none.db")).output
    assert "✗ database" in missing
    assert not (nowhere / "none.db").exists()


def test_a_home_that_cannot_be_made_is_said(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_HOME", str(nowhere / "token"))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "✗ home" in result.output


def test_the_doctor_looks_at_the_integrations(nowhere: Path) -> None:
    file = nowhere / "integrations.json"
    assert "integrations" not in invoke("doctor").output
    file.write_text('[{"name": "ci", "secret": "secret-of-sixteen-characters", "target": []}]')
    file.chmod(0o644)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert f"✗ integrations {file} is readable by others" in result.output
    assert file.stat().st_mode & 0o777 == 0o644  # it looks, and changes nothing
    file.chmod(0o600)
    result = invoke("doctor")
    assert f"✗ integrations {file}: [0] target: there is no such member" in result.output
    assert "next: mend it" in result.output
    file.write_text('[{"name": "ci", "secret": "secret-of-sixteen-characters"}]')
    assert f"✓ integrations {file}: 1, each with 60 requests in a minute" in invoke("doctor").output


def test_the_doctor_knows_the_file_and_the_rate_that_are_named(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_RELAY_INTEGRATIONS", str(nowhere / "elsewhere.json"))
    assert f"✗ integrations {nowhere / 'elsewhere.json'}: No such file" in invoke("doctor").output
    monkeypatch.setenv("AGENT_RELAY_INTEGRATIONS", "~nobody-has-this-name/x")
    assert "✗ integrations AGENT_RELAY_INTEGRATIONS: ~nobody-has-this-name/x" in invoke("doctor").output
    monkeypatch.delenv("AGENT_RELAY_INTEGRATIONS")
    monkeypatch.setenv("INTEGRATION_RATE_LIMIT_PER_MINUTE", "many")
    assert "✗ integrations INTEGRATION_RATE_LIMIT_PER_MINUTE: expected" in invoke("doctor").output
    monkeypatch.delenv("INTEGRATION_RATE_LIMIT_PER_MINUTE")
    token = (nowhere / "token").read_text().strip()
    (nowhere / "integrations.json").write_text(f'[{{"name": "ci", "secret": "{token}"}}]')
    (nowhere / "integrations.json").chmod(0o600)
    assert "secret: it is the root token" in invoke("doctor").output
