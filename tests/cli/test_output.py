"""Where output cannot go, and words that are not understood: told in a line, as JSON where that was asked for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from shell import PATIENCE, Run, Served, clean, invoke, relay


def shell(script: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A shell script in which `$relay` is the command."""
    command = f"{sys.executable} -m relay"
    return subprocess.run(
        ["sh", "-c", script],
        env=clean(relay=command, **settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "arguments", ["--help", "-h", "--version", "serve --help", "demo --quick", "demo --json"]
)
def test_what_cannot_be_written_is_told_in_two_lines(arguments: str) -> None:
    done = shell(f"$relay {arguments} > /dev/full")
    assert (done.returncode, done.stderr.splitlines()[:1]) == (1, _UNWRITTEN["json" in arguments])
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) <= 2


_UNWRITTEN = {
    False: ["relay: the output cannot be written"],
    True: ['{"error": "the output cannot be written", "why": "No space left on device"}'],
}


@pytest.mark.parametrize(
    "arguments", ["tail --after 0 --count 1", "tail --after 0 --count 1 --json", "agents", "routes"]
)
def test_output_that_nobody_wants_is_left_out(server: Served, arguments: str) -> None:
    server.register("somebody")
    done = shell(f"$relay {arguments} <&- >&-", RELAY_HOME=str(server.home), AGENT_RELAY_URL=server.url)
    assert (done.returncode, done.stderr) == (0, "")


def test_messages_that_nobody_wants_are_left_out() -> None:
    done = shell("$relay tail --bogus >&- 2>&-")
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "error", "help_of"),
    [
        ("bogus --json", "No such command 'bogus'.", ""),
        ("--bogus --json", "No such option '--bogus'.", ""),
        ("tail --json --bogus", "No such option '--bogus'.", "tail "),
        ("send --json", "Missing argument 'TO'.", "send "),
        (
            "tail --count many --json",
            "Invalid value for '--count': 'many' is not a valid integer range.",
            "tail ",
        ),
        ("runner --json", "the following arguments are required: provider", "runner "),
    ],
)
def test_wrong_usage_is_told_as_json_to_who_asks_for_json(arguments: str, error: str, help_of: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 2
    assert json.loads(result.stderr) == {"error": error, "next": f"relay {help_of}--help"}
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", ["tail --bogus", "bogus", "tail --bogus -- --json"])
def test_wrong_usage_is_told_to_people_as_ever(arguments: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


def test_a_question_for_help_is_answered_also_where_json_is_wanted(run: Run) -> None:
    result = run("tail", "--json", "--help")
    assert (result.exit_code, result.stdout.split()[0]) == (0, "Usage:")


@pytest.mark.parametrize("more", [[], ["--repo", "."]])
def test_a_demo_without_git_says_so(tmp_path: Path, more: list[str]) -> None:
    done = relay("demo", "--json", *more, PATH=str(tmp_path))
    assert done.returncode == 1
    told = json.loads(done.stderr)
    assert told == {
        "error": "the demo needs git, and there is none on PATH", "next": "install git 2.38 or newer"
    }  # fmt: skip
    assert not any(tmp_path.iterdir())
