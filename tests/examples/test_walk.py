"""The walk in README.md: pasted into a shell as it stands there, it ends with a commit that an agent has landed.

What differs is where it happens: the home folder is a temporary one, and the port a free one.
"""

import re
import shutil
from pathlib import Path

import pytest
from shellkit import ROOT, pasted

from relay.cli.demo.ports import reserve_port


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_walk_in_the_readme_lands_what_the_agent_wrote(tmp_path: Path) -> None:
    port = str(reserve_port())
    status, said = pasted(walk().replace("4850", port), tmp_path, f"http://127.0.0.1:{port}")
    assert status == 0, said
    assert re.search(r"noted in commit [0-9a-f]{7}", said), said
    assert "first landed on main as" in said, said
    assert re.search(r"^[0-9a-f]{7} Note: relay works here\n[0-9a-f]{7} Begin$", said, re.MULTILINE), said
    assert (tmp_path / "projects" / "hello" / "NOTES.md").read_text() == "- relay works here\n"


def walk() -> str:
    [script] = re.findall(
        r"^```sh\n(PATH=.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return str(script)
