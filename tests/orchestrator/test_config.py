"""What the daemon is told: file, environment, options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relay.orchestrator import Refused, load_config


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("AGENT_RELAY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RELAY_HOME", str(tmp_path))


def test_options_win_over_the_file_and_the_file_over_the_environment(
    tmp_path: Path, base_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    file = {
        "id": "file",
        "baseDir": str(base_dir),
        "pollIntervalMs": 250,
        "providers": ["command", "unknown"],
    }
    (tmp_path / "orchestrator.json").write_text(json.dumps(file))
    monkeypatch.setenv("AGENT_RELAY_ORCHESTRATOR_ID", "environment")
    monkeypatch.setenv("AGENT_RELAY_ORCHESTRATOR_API_PORT", "4861")
    config = load_config()
    assert (config.id, config.agent_id, config.poll, config.api_port) == (
        "file",
        "orchestrator-file",
        0.25,
        4861,
    )
    assert config.providers == ("command",)
    assert load_config(id="option").id == "option"
    assert (config.heartbeat, config.watch, config.spawns) == (30.0, 0.5, 2)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "JSON object"),
        ('{"apiPort": "many"}', "apiPort must be a port, 0 to 65535, not 'many'"),
        ('{"apiPort": 65536}', "apiPort must be"),
        (
            '{"pollIntervalMs": "soon"}',
            "pollIntervalMs must be a positive number of milliseconds, not 'soon'",
        ),
        ('{"pollIntervalMs": true}', "pollIntervalMs"),
        ('{"pollIntervalMs": NaN}', "pollIntervalMs"),
        ('{"pollIntervalMs": 0}', "pollIntervalMs"),
        ('{"maxConcurrentSpawns": 0}', "maxConcurrentSpawns"),
        ('{"maxConcurrentSpawns": 1.5}', "maxConcurrentSpawns"),
        ('{"baseDir": 5}', "baseDir must be a path, not 5"),
        ('{"baseDir": "~nobody-of-that-name/x"}', "baseDir must be a path"),
        ('{"id": ["a"]}', "id must be a text"),
        ('{"relayUrl": ""}', "relayUrl must be a text"),
        ('{"providers": "command", "env": ["A"]}', "env must be an object of texts"),
        ('{"providers": 5}', "providers must be a list of names"),
        ('{"restart": "no"}', "restart must be true or false, not 'no'"),
        ('{"bogus": 5}', "bogus"),
        ('{"baseDir": "/nowhere/at/all"}', "base directory"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, base_dir: Path, file: str, said: str):
    path = tmp_path / "given.json"
    path.write_text(file)
    with pytest.raises(Refused, match=said):
        load_config(path, **({} if "baseDir" in file else {"base_dir": base_dir}))


def test_a_file_that_was_named_must_be_there(tmp_path: Path):
    with pytest.raises(Refused, match="no configuration file"):
        load_config(tmp_path / "none.json")


def test_an_unknown_key_is_named_beside_the_known_ones(tmp_path: Path, base_dir: Path):
    path = tmp_path / "given.json"
    path.write_text('{"basedir": "/srv", "id": "host"}')
    with pytest.raises(Refused) as refused:
        load_config(path, base_dir=base_dir)
    assert str(refused.value).startswith(
        f"{path} has a key that means nothing here, 'basedir'; known are id, "
    )
    assert "baseDir" in str(refused.value)


def test_a_variable_that_makes_no_sense_is_named(base_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AGENT_RELAY_ORCHESTRATOR_API_PORT", "http")
    with pytest.raises(
        Refused, match="AGENT_RELAY_ORCHESTRATOR_API_PORT must be a port, 0 to 65535, not 'http'"
    ):
        load_config(base_dir=base_dir)


def test_every_setting_is_read(tmp_path: Path, base_dir: Path):
    file = {
        "id": "a", "hostname": "b", "relayUrl": "http://c", "token": "d", "baseDir": str(base_dir),
        "providers": "command, claude", "env": {"E": "f"}, "tmuxPrefix": "g", "apiHost": "0.0.0.0", "apiPort": 0,
        "restart": False, "maxConcurrentSpawns": 3, "spawnAdmission": False, "spawnMaxLoadPerCpu": 1.5,
        "heartbeatIntervalMs": 1000, "pollIntervalMs": 2000, "healthIntervalMs": 3000,
        "spawnRegistrationTimeoutMs": 4000,
    }  # fmt: skip
    path = tmp_path / "given.json"
    path.write_text(json.dumps(file))
    config = load_config(path)
    assert (config.id, config.hostname, config.relay_url, config.token) == ("a", "b", "http://c", "d")
    assert (config.base_dir, config.providers, config.env) == (base_dir, ("claude", "command"), {"E": "f"})
    assert (config.prefix, config.api_host, config.api_port) == ("g", "0.0.0.0", 0)
    assert (config.restart, config.spawns, config.admission, config.load_per_cpu) == (False, 3, False, 1.5)
    assert (config.heartbeat, config.poll, config.watch, config.registration) == (1.0, 2.0, 3.0, 4.0)
