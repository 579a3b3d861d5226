"""The types accept the right programs and refuse the wrong ones, without a plugin."""

import re
from pathlib import Path

from mypy import api

HERE = Path(__file__).parent


def test_mypy_refuses_the_marked_lines_and_no_other() -> None:
    program = HERE / "messages.py"
    marked = {
        number
        for number, line in enumerate(program.read_text().splitlines(), start=1)
        if line.endswith("# refused")
    }

    said, trouble, _ = api.run(["--strict", "--config-file=", "--no-error-summary", str(program)])

    refused = {int(found[1]) for found in re.finditer(r"messages\.py:(\d+): error:", said)}
    assert not trouble
    assert refused == marked, said
