"""`/api/connectors` on a whole server, with real programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from rawhttp import serving

from relay.actors import open_system
from relay.connectors import LocalPrograms
from relay.fleet import open_fleet
from relay.http.api import table
from relay.http.auth import ROOT, Authenticator
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.upstream import open_upstream
from relay.store import open_store

sys.path.append(str(Path(__file__).parent.parent / "connectors"))

from connectorkit import SCRIPTS, install, write

ACTIONS = ("install", "uninstall", "enable", "disable", "start", "stop", "restart", "status", "doctor")


@pytest.fixture
def folder(server: Any) -> Path:
    return Path(server.home) / "connectors"


async def act(api: httpx2.AsyncClient, name: str, action: Any) -> httpx2.Response:
    return await api.post(f"/api/connectors/{name}/actions", json={"action": action})


@pytest.mark.spec("M-120", "CON-2", "CON-3", "H-16")
async def test_a_failing_action_is_502_an_unknown_connector_404_an_unknown_action_400(
    api: httpx2.AsyncClient, folder: Path
) -> None:
    write(folder, "k", SCRIPTS["failing"])
    failed = await act(api, "k", "start")
    assert failed.status_code == 502
    assert failed.json() == {
        "action": "start",
        "ok": False,
        "message": "no luck with start",
        "error": "no luck with start",
        "stderr": "it hurts",
    }
    for name in ("nothing", "..", "a%2Fb", "%20"):
        assert (await act(api, name, "start")).status_code == 404, name
    assert (await act(api, "nothing", "dance")).status_code == 400
    for wrong in ("dance", "", None, 7, "Start"):
        assert (await act(api, "k", wrong)).status_code == 400, wrong
    for body in (b"[]", b"", b"null", b'"start"'):
        assert (await api.post("/api/connectors/k/actions", content=body)).status_code == 400


@pytest.mark.spec("CON-1", "CON-2", "CON-3")
async def test_all_nine_actions_reach_the_program(api: httpx2.AsyncClient, folder: Path) -> None:
    install(folder, "fine")
    for action in ACTIONS:
        done = await act(api, "fine", action)
        assert (done.status_code, done.json()["message"]) == (200, f"done {action}")
    (found,) = (await api.get("/api/connectors")).json()
    assert found == (await api.get("/api/connectors/fine")).json()
    assert (found["id"], found["lastAction"], found["version"]) == ("fine", "doctor", "1.2")
    audits = (await api.get("/api/activity", params={"view": "agents"})).json()
    assert len([each for each in audits if each["clientId"].startswith("server-connector-fine-")]) == 9


@pytest.mark.spec("CON-4")
async def test_configurations(api: httpx2.AsyncClient, folder: Path) -> None:
    install(folder, "fine")
    path = "/api/connectors/fine/config"
    done = await api.put(path, json={"url": "http://h", "apiKey": "very-secret"})
    assert (done.status_code, done.json()["config"]) == (200, {"url": "http://h", "apiKey": "********"})
    assert (await api.put(path, json={"config": {"a": 1}})).json()["config"] == {"a": 1}
    assert (await api.put("/api/connectors/none/config", json={})).status_code == 404
    frame = len('{"x":""}')
    assert (await api.put(path, json={"x": "y" * (65_536 - frame)})).status_code == 200
    assert (await api.put(path, json={"x": "y" * (65_537 - frame)})).status_code == 400
    assert (await api.put(path, json={"password": "********"})).status_code == 400
    for body in (b"[]", b"", b"null", b"3", b"{"):
        assert (await api.put(path, content=body)).status_code == 400


async def test_an_answer_that_comes_too_late_is_504_and_the_action_goes_on(tmp_path: Path) -> None:
    install(tmp_path, "counting")
    programs = LocalPrograms((tmp_path,), "http://x", within=10.0, grace=0.3)
    async with (
        open_system() as system,
        open_store(None, system) as store,
        open_fleet(system, store, programs=programs) as fleet,
        open_upstream("root") as upstream,
    ):
        edge = Edge(fleet, table(), Authenticator({"root": ROOT}), upstream, answer_within=0.2)
        async with (
            serving(Guard(edge)) as port,
            httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", headers={"X-Agent-Relay-Token": "root"}
            ) as api,
        ):
            late = await act(api, "counting", "install")
            assert late.status_code == 504
            with trio.fail_after(10):
                while (await api.get("/api/connectors/counting")).json().get("lastAction") is None:
                    await trio.sleep(0.05)
            assert (await api.get("/api/connectors/counting")).json()["installed"] is True
    assert (tmp_path / "runs").read_text() == "x\n"


async def test_scopes_of_connectors(limited_to: Any) -> None:
    async with limited_to("connector:read") as (_, limited):
        assert (await limited.get("/api/connectors")).json() == []
        assert (await act(limited, "k", "start")).status_code == 403
        assert (await limited.put("/api/connectors/k/config", json={})).status_code == 403
