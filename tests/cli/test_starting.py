"""Programs that start, and programs that cannot: what they say, and what to do next."""

import json
import socket
from pathlib import Path

import apsw
import pytest
from shell import Run, Served, relay, serving, started


def test_a_server_says_where_it_is_once_and_is_quiet_then(tmp_path: Path) -> None:
    with started("serve", "--port", "0", RELAY_HOME=str(tmp_path)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("relay is at http://127.0.0.1:")
        assert line.endswith(f"its token is in {tmp_path / 'token'}\n")
        process.terminate()
        assert process.wait(20) == 0
        assert process.stdout.read() + process.stderr.read() == ""


def test_a_server_whose_token_is_given_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, AGENT_RELAY_TOKEN="given-by-me") as served:
        assert "tokenFile" not in served.announced
    with started(
        "serve", "--port", "0", RELAY_HOME=str(tmp_path), AGENT_RELAY_TOKEN="given-by-me"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("its token is that of AGENT_RELAY_TOKEN\n")
    assert not (tmp_path / "token").exists()


def test_a_second_server_on_one_database_says_who_holds_it(run: Run, server: Served) -> None:
    result = run("serve", "--port", "0", "--database", str(server.home / "relay.db"))
    assert result.exit_code == 1
    assert "in use by process" in result.stderr
    assert "tick" not in result.stderr
    assert "next: stop that server, or relay serve --port 0 --database PATH" in result.stderr


def refused(*arguments: str, **settings: str) -> dict[str, str]:
    done = relay(*arguments, "--json", **settings)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    told = json.loads(done.stderr.splitlines()[-1])
    assert isinstance(told, dict)
    return told


def test_a_short_token_is_refused(tmp_path: Path) -> None:
    told = refused("serve", "--port", "0", RELAY_HOME=str(tmp_path), AGENT_RELAY_TOKEN="abc")
    assert "AGENT_RELAY_TOKEN" in told["why"]
    assert "AGENT_RELAY_TOKEN" in told["next"]


def test_integrations_that_cannot_be_used_keep_a_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "integrations.json").write_text('[{"name": "ci", "secret": "short", "target": []}]')
    told = refused("serve", "--port", "0", RELAY_HOME=str(tmp_path))
    assert told["why"] == (
        f"{tmp_path / 'integrations.json'}: [0] target: there is no such member; "
        "[0] secret: shorter than 16 characters"
    )
    assert "relay doctor" in told["next"]
    elsewhere = refused(
        "serve", "--port", "0", RELAY_HOME=str(tmp_path), AGENT_RELAY_INTEGRATIONS="/nowhere.json"
    )
    assert elsewhere["why"] == "/nowhere.json: No such file or directory"
    (tmp_path / "integrations.json").unlink()
    rate = refused("serve", "--port", "0", RELAY_HOME=str(tmp_path), INTEGRATION_RATE_LIMIT_PER_MINUTE="0")
    assert "INTEGRATION_RATE_LIMIT_PER_MINUTE" in rate["why"]


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in ("/proc/relay", str(tmp_path / "file")):
        told = refused("serve", "--port", "0", RELAY_HOME=home)
        assert home in told["error"]
        assert "RELAY_HOME" in told["next"]


def test_an_address_that_cannot_be_had_names_one_that_can(tmp_path: Path) -> None:
    told = refused("serve", "--host", "no.such.host.invalid", "--port", "0", RELAY_HOME=str(tmp_path))
    assert told["next"] == "relay serve --host 127.0.0.1"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = refused("serve", "--port", port, RELAY_HOME=str(tmp_path))
    assert told["next"] == "relay serve --port 0"


@pytest.mark.parametrize("kind", ["newer", "corrupt", "foreign"])
def test_a_database_that_cannot_be_used_is_named_with_a_way_out(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "some.db"
    if kind == "corrupt":
        path.write_bytes(b"no database, though long enough to be taken for one" * 99)
    else:
        with apsw.Connection(str(path)) as connection:
            connection.execute(
                "create table agents (x)" if kind == "foreign" else "pragma user_version = 999"
            )
        connection.close()
    told = refused("serve", "--port", "0", "--database", str(path), RELAY_HOME=str(tmp_path))
    assert "--database" in told["next"]
    assert "doctor" not in told["next"]


def test_other_programs_that_cannot_start_say_what_to_do(tmp_path: Path) -> None:
    home = {"RELAY_HOME": str(tmp_path), "AGENT_RELAY_TOKEN": "never-used"}
    assert "absent" in refused("orchestrator", "--base-dir", str(tmp_path / "absent"), **home)["why"]
    assert "AGENT_RELAY_PROVIDER_CONFIG_JSON" in refused("runner", "command", **home)["why"]


def test_the_runner_explains_its_options(tmp_path: Path) -> None:
    shown = relay("runner", "--help").stdout
    options = [line for line in shown.splitlines() if line.strip().startswith("--")]
    assert len(options) >= 12
    assert all(len(line.split("  ")) > 1 for line in options)
    missing = relay("runner")
    assert missing.returncode == 2
    assert missing.stderr.endswith("required: provider\n")


def test_a_host_daemon_finds_the_server_by_its_configuration(server: Served, tmp_path: Path) -> None:
    known = {"relayUrl": server.url, "token": (server.home / "token").read_text().strip(), "apiPort": 0}
    path = tmp_path / "orchestrator.json"
    path.write_text(json.dumps({"id": "by-file", "baseDir": str(tmp_path), **known}))
    with started("orchestrator", "--config", str(path), RELAY_HOME=str(tmp_path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"orchestrator-by-file is registered at {server.url}\n"
        process.terminate()
        assert process.wait(20) == 0
