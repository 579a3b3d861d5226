"""`/api/providers` and `/api/host/directories` on a whole server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from relay.http.login_shell import look_up

CODEX = "/api/providers/codex/config"


@pytest.mark.spec("PRV-1", "PRV-2")
async def test_a_provider_that_was_never_written_has_its_defaults(api: httpx2.AsyncClient) -> None:
    every = (await api.get("/api/providers/config")).json()
    assert sorted(every) == ["claude", "codex"]
    assert every["codex"] == (await api.get(CODEX)).json()
    assert (every["codex"]["command"], every["codex"]["env"]) == ("codex", {})
    assert (await api.get("/api/providers/gemini/config")).status_code == 400


@pytest.mark.spec("PRV-3", "PRV-4", "PRV-5", "M-198", "O-48")
async def test_a_write_replaces_and_values_of_the_environment_are_not_shown(api: httpx2.AsyncClient) -> None:
    events = (await api.get("/api/stats")).status_code
    given = {
        "command": "codex",
        "env": {"A": "1", "TOKEN": "secret"},
        "defaultArgs": ["-x"],
        "defaultApprovalMode": "open",
        "headless": {"tmuxPrefix": "p"},
    }
    first = await api.put(CODEX, json=given)
    assert (first.status_code, events) == (200, 200)
    assert first.json()["env"] == {"A": "********", "TOKEN": "********"}
    assert first.json()["headless"] == {"tmuxPrefix": "p", "shutdownTimeoutMs": 10_000}
    assert "secret" not in (await api.get("/api/providers/config")).text
    second = (await api.put(CODEX, json={"command": "codex"})).json()
    assert second == {
        "provider": "codex",
        "command": "codex",
        "defaultArgs": [],
        "pluginDirs": [],
        "defaultCapabilities": [],
        "defaultTags": [],
        "defaultApprovalMode": "guarded",
        "env": {},
        "headless": {"tmuxPrefix": "ar", "shutdownTimeoutMs": 10_000},
    }
    assert (await api.get(CODEX)).json() == second
    odd = await api.put(CODEX, json={"command": "codex", "headless": 5})
    assert (odd.status_code, odd.json()) == (200, second)


@pytest.mark.spec("PRV-3", "M-199")
@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"command": "c", "env": {"A": 1}}, "env: the values of A are no texts"),
        ({}, "command: is required"),
        (
            {"command": "c", "headless": {"shutdownTimeoutMs": 0}},
            "shutdownTimeoutMs: expected an integer from 1",
        ),
        ({"command": "c" * 501}, "command: longer than 500 characters"),
        ({"command": "c", "defaultApprovalMode": "x" * 81}, "defaultApprovalMode: longer than 80 characters"),
        ({"command": "c", "env": {"A": "********"}}, "env.A: ******** is no value, but what hides one"),
        ([], "body must be an object"),
    ],
)
async def test_what_is_not_well_formed_is_refused(api: httpx2.AsyncClient, body: Any, wrong: str) -> None:
    before = (await api.get(CODEX)).json()
    refused = await api.put(CODEX, json=body)
    assert (refused.status_code, wrong in refused.json()["error"]) == (400, True), refused.text
    assert (await api.get(CODEX)).json() == before


@pytest.mark.spec("PRV-3")
async def test_the_provider_is_looked_at_before_the_body(api: httpx2.AsyncClient) -> None:
    refused = await api.put("/api/providers/gemini/config", content=b"{")
    assert refused.json() == {"error": "provider: expected one of claude, codex"}


@pytest.mark.spec("PRV-6", "M-200")
async def test_a_program_is_looked_for_in_a_login_shell(api: httpx2.AsyncClient) -> None:
    await api.put(CODEX, json={"command": "no-such-binary"})
    missing = await api.post(f"{CODEX}/test")
    assert missing.status_code == 422
    assert (missing.json()["ok"], missing.json()["command"]) == (False, "no-such-binary")
    assert missing.json()["error"]
    await api.put(CODEX, json={"command": "sh"})
    found = await api.post(f"{CODEX}/test")
    assert (found.status_code, found.json()["ok"]) == (200, True)
    assert found.json()["path"].endswith("/sh")


@pytest.mark.spec("PRV-6")
async def test_a_name_is_never_part_of_the_shells_text(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    found = await look_up(f"sh; touch {mark}", {"PATH": os.environ["PATH"]})
    assert (found.ok, mark.exists()) == (False, False)


@pytest.mark.spec("PRV-6", "O-48")
async def test_a_shell_that_does_not_answer_is_ended_with_all_it_started(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    (tmp_path / ".profile").write_text(f"sleep 1000 & echo $! > {started}; sleep 1000")
    found = await look_up("sh", {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, within=1.0)
    assert (found.ok, "did not answer within 1 s" in (found.error or "")) == (False, True)
    state = Path(f"/proc/{started.read_text().strip()}/stat")

    def gone() -> bool:
        try:
            return ") Z " in state.read_text()
        except OSError:
            return True

    with trio.fail_after(10):
        while not gone():  # it has been killed, and dies when the machine comes to it
            await trio.sleep(0.01)


async def test_a_shell_is_not_told_the_servers_token_and_may_be_talkative(tmp_path: Path) -> None:
    (tmp_path / ".profile").write_text('echo "welcome $AGENT_RELAY_TOKEN"')
    known = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AGENT_RELAY_TOKEN": "secret"}
    found = await look_up("sh", known)
    assert found.ok
    assert (found.path or "").endswith("/sh")


# -- directories


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the server may show: two folders, one of them hidden, a file, and a way out."""
    base = tmp_path / "base"
    for name in ("b/inner", "a", ".hidden"):
        (base / name).mkdir(parents=True)
    (base / "file").write_text("x")
    (base / "out").symlink_to("/etc")
    monkeypatch.setenv("AGENT_RELAY_BASE_DIR", str(base))
    return base


async def listed(api: httpx2.AsyncClient, path: str | None = None) -> httpx2.Response:
    return await api.get("/api/host/directories", params={"path": path} if path is not None else {})


@pytest.mark.spec("HST-1", "ORC-66", "O-55")
async def test_folders_below_the_base_are_listed(base: Path, api: httpx2.AsyncClient) -> None:
    top = (await listed(api)).json()
    assert (top["path"], top["baseDir"], "parent" in top) == (str(base), str(base), False)
    assert [entry["name"] for entry in top["entries"]] == ["a", "b", "out"]
    below = (await listed(api, str(base / "b"))).json()
    assert (below["parent"], below["entries"]) == (
        str(base),
        [{"name": "inner", "path": str(base / "b" / "inner")}],
    )
    assert (await listed(api, "b")).json() == below


@pytest.mark.spec("HST-1", "O-55")
@pytest.mark.parametrize("path", ["/", "/etc", "..", "b/../../base-evil", "out", "file", "none", "x" * 1001])
async def test_nothing_else_is_listed(base: Path, api: httpx2.AsyncClient, path: str) -> None:
    assert (await listed(api, path)).status_code == 400
