"""Every route of the HTTP API is a call of the client, and every call goes to a route that there is."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import trio
from callkit import TWINS, page, reached

from relay.http.api import routes

PAGE = Path(__file__).parent.parent.parent / "docs" / "client.md"


async def test_every_route_is_a_call() -> None:
    found = await reached()
    assert [name for name, led in found.items() if not led or None in led] == []
    led = set().union(*found.values())
    known = {(route["method"], route["path"]) for route in routes()} - {("GET", "/bus")}
    assert {route for route in known if TWINS.get(route, route) not in led} == set()


def test_what_has_a_twin_is_a_route() -> None:
    assert TWINS.keys() <= {(route["method"], route["path"]) for route in routes()}


async def test_the_page_lists_every_call() -> None:
    assert PAGE.read_text() == await page(), "write it anew: python tests/client/callkit.py > docs/client.md"


async def test_the_program_on_the_page_runs(server: Any) -> None:
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    place = {"AGENT_RELAY_URL": server.base_url, "AGENT_RELAY_TOKEN": server.token}
    done = await trio.run_process(
        [sys.executable, "-c", program], env={**os.environ, **place}, capture_stdout=True
    )
    assert done.stdout == b"[]\n"
