"""docs/agents.md names the frames that the runner knows, and no others."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SPEAKING = ("command.py", "hearing.py", "deeds.py")  # of relay/runner: those that read and write frames


def test_the_page_names_the_frames_that_the_runner_knows() -> None:
    page = (ROOT / "docs" / "agents.md").read_text().partition("## What it hears")[2].partition("## Being")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    named = set(re.findall(r"`([a-z-]+)`", " ".join(cells)))
    source = "".join((ROOT / "relay" / "runner" / name).read_text() for name in SPEAKING)
    assert named <= set(re.findall(r'"([a-z-]+)"', source))
    read = re.findall(r"^            case ((?:\"[a-z-]+\"(?: \| )?)+):", source, re.MULTILINE)
    written = re.findall(r"type\"?[:=] ?\"([a-z-]+)\"", source)
    assert len(written) >= 6
    assert {*re.findall(r"[a-z-]+", " ".join(read)), *written} - STATES <= named


STATES = {"busy", "idle"}  # values of a member, and no types
