"""What `docs/integrations.md` shows, done with a whole server: its file, its call, its receiver."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx2
import pytest
import trio

from relay.cli.demo.ports import reserve_port
from relay.http import Settings, serve
from relay.http.hosting import Hosting

PAGE = (Path(__file__).parent.parent.parent / "docs" / "integrations.md").read_text()


def block(language: str) -> str:
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


async def test_the_page_works_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENT_RELAY_TOKEN", raising=False)
    port = str(reserve_port())
    [configured] = json.loads(block("json"))
    body = re.search(r"-d '(.*)'", block("sh"))
    assert body is not None
    environment = {**os.environ, "RELAY_SECRET": configured["secret"], "PORT": port}
    configured["callbackUrl"] = configured["callbackUrl"].replace("9000", port)
    (tmp_path / "integrations.json").write_text(json.dumps([configured]))
    (tmp_path / "integrations.json").chmod(0o600)
    receiver = await trio.lowlevel.open_process(
        [sys.executable, "-c", block("python")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        task = await _report(tmp_path, configured["secret"], body[1], receiver)
        forged = await _forge(port)
    finally:
        receiver.kill()
        await receiver.wait()
    assert task["title"] == "build 7 broke"
    assert forged == 401


async def _report(home: Path, secret: str, body: str, receiver: trio.Process) -> dict[str, str]:
    """The task, once the receiver has told of it."""
    stop = trio.Event()
    settings = Settings(database=None, home=home, port=0, hosting=Hosting(grace=0.5))
    async with trio.open_nursery() as nursery:
        ready = await nursery.start(partial(serve, settings, stop=stop))
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx2.AsyncClient(base_url=ready.base_url, headers=headers, trust_env=False) as client:
            answer = await client.post("/api/integrations/events", content=body.encode())
        task: dict[str, str] = answer.json()["task"]
        assert receiver.stdout is not None
        said = b""
        with trio.fail_after(60):
            while b"\n" not in said:
                said += await receiver.stdout.receive_some()
        assert said.decode() == f"task.created {task['id']} open\n"
        stop.set()
    return task


async def _forge(port: str) -> int:
    headers = {"X-Agent-Relay-Signature": "sha256=" + "0" * 64}
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/relay", json={}, headers=headers)
    return answer.status_code
