"""What a runner makes of its agent's profile, and what it tells of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relay.runner import Options, read_options
from relay.runner.environment import agent_environment
from relay.runner.profile import projection, system_prompt, uses_host_globals

PROFILE: dict[str, Any] = {
    "name": "reviewer",
    "base": "clean",
    "instructions": {"system": "the system text", "append": ["more text"], "globalInstructions": False},
    "skills": [
        {"name": "a", "text": "what a is"},
        {"name": "b", "enabled": True},
        {"name": "c", "enabled": False},
    ],
    "mcp": {"mode": "only", "servers": {"db": {"env": {"KEY": "hidden key"}}}},
    "hooks": {"mode": "none"},
    "permissions": {"allow": ["read"]},
    "relay": {"context": False},
}


def options(tmp_path: Path, **variables: str) -> Options:
    config = {"command": "/bin/cat", "env": {"OF_PROVIDER": "yes"}}
    known = {"AGENT_RELAY_PROVIDER_CONFIG_JSON": json.dumps(config), "AGENT_RELAY_STATE_DIR": str(tmp_path)}
    return read_options(["command", "--cwd", str(tmp_path)], {**known, **variables})


@pytest.mark.spec("R-16")
def test_the_projection_counts_and_tells_no_text() -> None:
    told = projection(PROFILE)
    assert told == {
        "name": "reviewer",
        "base": "clean",
        "provider": "any",
        "relay": {"context": False},
        "instructions": {
            "repoInstructions": None,
            "globalInstructions": False,
            "appendCount": 1,
            "hasSystem": True,
        },
        "skills": 2,
        "plugins": 0,
        "mcp": {"mode": "only"},
        "hooks": {"mode": "none"},
        "permissions": {"allow": ["read"]},
    }
    text = json.dumps(told)
    for hidden in ("the system text", "more text", "what a is", "hidden key"):
        assert hidden not in text
    assert projection(None) is None


@pytest.mark.parametrize(
    "odd", [{}, {"instructions": 7, "skills": "x", "mcp": [], "hooks": None, "plugins": {}}]
)
def test_odd_profiles_are_told_of_all_the_same(odd: dict[str, Any]) -> None:
    told = projection(odd)
    assert told is not None
    assert (told["skills"], told["plugins"], told["mcp"]) == (0, 0, {"mode": None})
    assert system_prompt(odd, "asked") == "asked"


@pytest.mark.spec("R-7")
@pytest.mark.parametrize(("base", "given"), [("clean", False), ("host", True), (None, True)])
def test_the_profile_decides_whether_the_agent_has_what_all_of_its_provider_have(
    tmp_path: Path, base: str | None, given: bool
) -> None:
    profile = json.dumps({"name": "reviewer", **({"base": base} if base else {})})
    found = options(tmp_path, AGENT_RELAY_AGENT_PROFILE_JSON=profile, AGENT_RELAY_AGENT_PROFILE="reviewer")
    assert found.profile == "reviewer"
    assert uses_host_globals(found.agent_profile) is given
    assert ("OF_PROVIDER" in agent_environment(found, "s1", {})) is given


@pytest.mark.spec("R-6")
def test_without_a_profile_the_agent_has_them(tmp_path: Path) -> None:
    found = options(tmp_path)
    assert agent_environment(found, "s1", {})["OF_PROVIDER"] == "yes"
    assert (found.profile, found.agent_profile, found.system_prompt) == (None, None, None)


def test_what_a_profile_says_comes_before_what_was_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(PROFILE))
    found = options(
        tmp_path,
        AGENT_RELAY_AGENT_PROFILE_JSON_FILE=str(file),
        AGENT_RELAY_SYSTEM_PROMPT_APPEND="and this",
    )
    assert found.system_prompt == "the system text\n\nmore text\n\nand this"
