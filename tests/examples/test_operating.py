"""The commands of docs/operating.md, pasted into a shell one block after the other, do what the page says.

What differs is where it happens: the home folder is a temporary one, and the port a free one.
"""

import re
import shlex
import shutil
from pathlib import Path

import click.testing
import pytest
from shellkit import ROOT, pasted

from relay.cli import main
from relay.cli.demo.ports import reserve_port

PAGE = (ROOT / "docs" / "operating.md").read_text()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_fleet_is_operated_as_the_page_says(tmp_path: Path) -> None:
    port = str(reserve_port())
    script = "set -e -o pipefail\n" + "\n".join(
        re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    )
    status, said = pasted(
        script.replace("4850", port),
        tmp_path,
        f"http://127.0.0.1:{port}",
        limit=240.0,
        AGENT_RELAY_UPGRADE_COMMAND="true",  # for the version that runs already there is nothing to install
    )
    assert status == 0, said
    for line in (
        r"message \d+ to policy:scribe is replied",
        r"notes\.yaml: all is well",
        r"rcp_\w+ is stopping; 1 agent to be shut down",
        r"07:00:00 CES?T",
        r"of morning: succeeded, message \d+",
        r"tok_\w+ is revoked",
        r"key \w+ signs now; 1 older key can still verify",
        r"relay\.db is as it was",
        r"\d+ records, all as they were written",
        r"upgrade from (\S+) to \1: (pending|succeeded)",
        r"scribe +stopped",
    ):
        assert re.search(line, said), f"{line}\n{said}"
    assert said.count("to policy:scribe is replied") == 3, said
    noted = [path.read_text() for path in tmp_path.glob(".agent-relay/workspaces/**/NOTES.md")]
    notes = [path.read_text() for path in (tmp_path / "projects").rglob("NOTES.md")] + noted
    assert any("- from a recipe\n" in each for each in notes), notes
    assert "- the fleet is up\n- still there\n- good morning\n- and there again\n" in notes, notes


@pytest.mark.parametrize("line", re.findall(r"^ExecStart=(.+)$", PAGE, re.MULTILINE))
def test_units_start_what_there_is(line: str) -> None:
    """Options that there are not are wrong usage, whatever the help says."""
    program, *arguments = shlex.split(line)
    assert Path(program).name == "relay"
    told = click.testing.CliRunner().invoke(main, [*arguments, "--help"])
    assert told.exit_code == 0, told.output
