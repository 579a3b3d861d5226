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
        ('{"apiPort": "many"}', "api_port"),
        ('{"pollIntervalMs": "soon"}', "pollIntervalMs"),
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
