"""The connector of the examples, on a whole server."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx2
import trio
from connectorkit import alive

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "connector.py"


async def test_the_example_tells_of_files_until_it_is_stopped(
    api: httpx2.AsyncClient, server: Any, tmp_path: Path
) -> None:
    home = Path(server.home) / "connectors"
    home.mkdir()
    shutil.copy(EXAMPLE, home / "relay-connector-inbox")
    folder = tmp_path / "inbox"

    async def act(action: str) -> httpx2.Response:
        return await api.post("/api/connectors/inbox/actions", json={"action": action})

    assert (await act("start")).status_code == 502, "it is not configured"
    config = {"folder": str(folder), "to": "scribe", "token": server.token}
    await api.put("/api/connectors/inbox/config", json=config)
    assert (await act("start")).json()["status"] == {"running": True}
    watcher = int((folder / ".watched-by").read_text())
    assert alive(watcher), "the action is over, and it goes on"
    await api.post("/api/agents", json={"id": "scribe"})
    with trio.fail_after(20):
        number = 0
        while not (mail := (await api.get("/api/messages", params={"for": "scribe"})).json()):
            number += 1  # those that come before it has looked for the first time are not told of
            (folder / f"report-{number}").touch()
            await trio.sleep(0.1)
    assert mail[0]["from"] == "inbox"
    assert mail[0]["body"].endswith(" is in")
    assert (await act("restart")).status_code == 200
    assert (await act("stop")).json()["status"]["running"] is False
    with trio.fail_after(10):
        while alive(watcher):
            await trio.sleep(0.01)
