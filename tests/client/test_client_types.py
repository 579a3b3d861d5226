"""Who embeds the client has its types, and those of the contract, without a plugin."""

import re
from pathlib import Path

from mypy import api

PROGRAM = Path(__file__).with_name("embedding.py")


def test_mypy_refuses_the_marked_lines_and_no_other() -> None:
    lines = PROGRAM.read_text().splitlines()
    marked = {number for number, line in enumerate(lines, start=1) if line.endswith("# refused")}
    said, trouble, _ = api.run(["--strict", "--config-file=", "--no-error-summary", str(PROGRAM)])
    assert not trouble
    assert {int(found[1]) for found in re.finditer(r"embedding\.py:(\d+): error:", said)} == marked, said
