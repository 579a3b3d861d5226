"""The host API: what relay asks this host directly (2.26). Reading only, but for directories and terminals.

Whoever asks shows the token that relay was told for this host, and no other. Every path is checked against the base directory,
every question to git is limited, and a failure is an answer.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import attrs
import trio

from relay import __version__, wire
from relay.client import RelayError, Unreachable

from ._http import Bad, Request, Streamed, serve_http
from ._processes import Life
from .config import Config
from .diagnosis import log_tail
from .following import follow
from .gitstate import diff, preview, probe, state
from .guests import Guests
from .paths import inside
from .sessions import Sessions

__all__ = ["HostApi", "serve_host_api"]

GIT_WITHIN = 8.0  # seconds; relay waits 10
ENTRIES = 1_000
LINES = 1_000
DEFAULT_LINES = 100
STREAMS = 16
GUESTS = "/api/terminal-guests/"

Answer = dict[str, Any]


@attrs.frozen
class HostApi:
    """The routes of one daemon. `token` is what relay was told for it; None as long as relay has told none. `remint` gets
    another token for a runner; it is told whether that is asked for on this machine."""

    config: Config
    sessions: Sessions
    health: Callable[[], dict[str, object]]
    token: Callable[[], str | None]
    guests: Guests
    remint: Callable[[str, bool], Awaitable[wire.IssuedToken]] | None = None
    _streams: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(STREAMS))

    async def answer(self, request: Request) -> tuple[int, Answer] | Streamed:
        """Status and JSON, or a stream; raises `Bad`."""
        self._check_host(request)
        if (request.method, request.path) == ("GET", "/api/health"):
            return 200, dict(self.health())
        if (request.method, request.path) == ("POST", "/api/runtime-tokens/runner-renew"):
            return await self._runner_renewed(request)
        self._authorise(request)
        if request.path.startswith("/api/logs/") and request.method == "GET":
            return self._log(request)
        if request.path.startswith(GUESTS) and request.method == "DELETE":
            return await self._close_guest(request)
        route = self._routes().get((request.method, request.path))
        if route is None:
            raise Bad(404, f"{request.method} {request.path} is not served here")
        with trio.move_on_after(GIT_WITHIN):
            return await route(request)
        return 200, {"error": f"git took longer than {GIT_WITHIN:.0f} s"}

    def _routes(self) -> Mapping[tuple[str, str], Callable[[Request], Awaitable[tuple[int, Answer]]]]:
        return {
            ("GET", "/api/sessions"): self._sessions,
            ("GET", "/api/version"): self._version,
            ("GET", "/api/providers"): self._providers,
            ("GET", "/api/directories"): self._directories,
            ("POST", "/api/directories"): self._make_directory,
            ("POST", "/api/terminal-guests"): self._open_guest,
            ("GET", "/api/workspace/probe"): self._probe,
            ("GET", "/api/workspace/state"): self._state,
            ("GET", "/api/workspace/merge-preview"): self._preview,
            ("GET", "/api/workspace/diff"): self._diff,
        }

    # -- who may ask

    def _check_host(self, request: Request) -> None:
        """A page of another site that resolves its own name to this host is turned away by the name."""
        name = request.headers.get("host", "")
        host, colon, port = name.rpartition(":")
        known = {"127.0.0.1", "localhost", "[::1]", self.config.api_host, self.config.hostname}
        if (host if colon and port.isdecimal() else name) not in known:
            raise Bad(421, "this host does not answer to that name")

    def _authorise(self, request: Request) -> None:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = request.headers.get("x-agent-relay-token") or (bearer if scheme.lower() == "bearer" else "")
        token = self.token() or ""
        if not token or not secrets.compare_digest(given.strip().encode(), token.encode()):
            raise Bad(401, "the token is missing or wrong")

    async def _runner_renewed(self, request: Request) -> tuple[int, Answer]:
        """A runner shows its token, and needs no other credential: relay looks at it (15.5)."""
        try:
            shown = wire.decode(wire.PresentToken, request.body)
        except wire.Invalid as error:
            raise Bad(400, str(error)) from None
        if self.remint is None:
            raise Bad(503, "there is no connection to relay")
        try:
            with trio.fail_after(GIT_WITHIN):
                return 201, dict(wire.to_json(await self.remint(shown.token, request.is_here)))
        except (Unreachable, trio.TooSlowError):
            raise Bad(503, "there is no connection to relay") from None
        except RelayError as error:
            raise Bad(502, f"relay gives no other token: {error}") from None

    def _path(self, text: str) -> Path:
        """The directory or file that a path names, taken from the base directory; raises `Bad`."""
        path = Path(os.path.normpath(self.config.base_dir / text))
        if "\0" in text or not inside(self.config.base_dir, path):
            raise Bad(400, f"path must be inside {self.config.base_dir}")
        return path

    # -- the host

    async def _sessions(self, request: Request) -> tuple[int, Answer]:
        found = [
            {
                "name": name,
                "sessionName": name,
                "agentId": session.launch.agent_id,
                "pid": session.pid,
                "alive": session.life() is Life.ALIVE,
                "supervisor": "process",
                "terminalAvailable": False,
                "logFile": str(self.sessions.records.log_file(name)),
            }
            for name, session in self.sessions.live.items()
        ]
        return 200, {"sessions": found}

    async def _version(self, request: Request) -> tuple[int, Answer]:
        return 200, {
            "package": {"name": "relay", "version": __version__},
            "contracts": {"orchestratorProtocol": 1, "runnerProtocol": 1},
            "orchestrator": __version__,
            "runner": __version__,
            "adapters": ["command"],
        }

    async def _providers(self, request: Request) -> tuple[int, Answer]:
        runner = {"command": sys.executable, "ok": True, "version": __version__}
        return 200, {
            "providers": [
                {
                    "name": str(name),
                    "available": name == "command",
                    "runner": runner,
                    "runnerVersion": __version__,
                }
                | ({} if name == "command" else {"reason": "this runner has no adapter for it yet"})
                for name in self.config.providers
            ]
        }

    async def _directories(self, request: Request) -> tuple[int, Answer]:
        return 200, self._listing(self._path(request.query.get("path", "")))

    def _listing(self, path: Path) -> Answer:
        if not path.is_dir():
            raise Bad(400, f"{path} is not a directory")
        names = sorted(
            each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")
        )
        parent = {} if path == self.config.base_dir else {"parent": str(path.parent)}
        entries = [{"name": name, "path": str(path / name)} for name in names[:ENTRIES]]
        return {"path": str(path), **parent, "baseDir": str(self.config.base_dir), "entries": entries}

    async def _make_directory(self, request: Request) -> tuple[int, Answer]:
        try:
            asked = json.loads(request.body)
            parent, name = self._path(asked["path"]), asked["name"]
        except (ValueError, KeyError, TypeError):
            raise Bad(400, "the body must be an object with the texts path and name") from None
        if not isinstance(name, str) or not name or name.startswith(".") or set(name) & set("/\\\0"):
            raise Bad(400, "name must be one path segment that does not begin with a dot")
        try:
            (parent / name).mkdir()
        except OSError as error:
            raise Bad(400, f"{parent / name} cannot be made: {error.strerror}") from error
        return 201, self._listing(parent / name)

    def _log(self, request: Request) -> tuple[int, Answer] | Streamed:
        name = request.path.removeprefix("/api/logs/")
        path = self.sessions.records.log_file(name)
        if not name.startswith(f"{self.config.prefix}-") or path.name != f"{name}.log" or not path.is_file():
            raise Bad(400, f"{name} is not a session of this host")
        asked = request.query.get("lines", "")
        lines = min(LINES, max(1, int(asked))) if asked.isdecimal() else DEFAULT_LINES
        raw = request.query.get("raw") == "1"
        if request.query.get("stream", "0") != "0":
            return Streamed(self._followed(path, lines, name, raw=raw))
        text = log_tail(path, lines, raw=raw)
        told = text.split("\n") if text else []
        return 200, {"session": name, "lines": told, "running": name in self.sessions.live}

    def _followed(self, path: Path, lines: int, name: str, *, raw: bool) -> AsyncGenerator[bytes]:
        if self._streams.available_tokens < 1:
            raise Bad(503, f"{STREAMS} logs are being followed already: end one of them")

        async def parts() -> AsyncGenerator[bytes]:
            async with (
                self._streams,
                aclosing(follow(path, lines, lambda: name in self.sessions.live, raw=raw)) as found,
            ):
                async for part in found:
                    yield part

        return parts()

    # -- terminals

    async def _open_guest(self, request: Request) -> tuple[int, Answer]:
        asked = _object(request)
        return 201, await self.guests.start(asked.get("agentId"), asked.get("ttlMs"))

    async def _close_guest(self, request: Request) -> tuple[int, Answer]:
        await self.guests.close(request.path.removeprefix(GUESTS), _object(request).get("agentId"))
        return 200, {"ok": True}

    # -- worktrees

    def _place(self, request: Request) -> tuple[Path, str | None, str | None]:
        if not request.query.get("path"):
            raise Bad(400, "path is missing")
        query = request.query
        return self._path(query["path"]), query.get("baseRef") or None, query.get("baseSha") or None

    async def _probe(self, request: Request) -> tuple[int, Answer]:
        return 200, await probe(self._place(request)[0])

    async def _state(self, request: Request) -> tuple[int, Answer]:
        return 200, await state(*self._place(request))

    async def _preview(self, request: Request) -> tuple[int, Answer]:
        strategy = request.query.get("strategy") or "auto"
        return 200, await preview(*self._place(request), strategy, fetch=True)

    async def _diff(self, request: Request) -> tuple[int, Answer]:
        return 200, await diff(*self._place(request), patch=request.query.get("patch") != "0")


def _object(request: Request) -> dict[str, Any]:
    try:
        asked = json.loads(request.body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise Bad(400, "the body must be a JSON object")
    return asked


async def serve_host_api(
    api: HostApi, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; started with the base URL. Raises `Refused` when it cannot listen."""
    await serve_http(api.answer, api.config.api_host, api.config.api_port, task_status=task_status)
