"""One connection pool, the token on every request, and retries where a repeat is harmless."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from random import random
from typing import Any

import httpx2
import trio

from relay import wire

from ._errors import Overloaded, Refused, Unauthorized, Unreachable

__all__ = ["DEFAULT_URL", "Transport", "find_token", "home", "token_file"]

DEFAULT_URL = "http://127.0.0.1:4850"
TRIES = 3
BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
CALL = httpx2.Timeout(30.0, connect=5.0)
STREAM = httpx2.Timeout(10.0, read=45.0)  # relay writes a comment every 15 s


def home() -> Path:
    """Where relay keeps its token and database: `RELAY_HOME`, else `~/.relay`."""
    return Path(os.environ.get("RELAY_HOME") or Path.home() / ".relay")


def token_file() -> Path:
    """The file with the root token: `AGENT_RELAY_TOKEN_FILE`, else `token` in the home."""
    return Path(os.environ.get("AGENT_RELAY_TOKEN_FILE") or home() / "token")


def find_token() -> str | None:
    """`AGENT_RELAY_TOKEN`, else what the token file holds."""
    if given := os.environ.get("AGENT_RELAY_TOKEN"):
        return given
    try:
        return token_file().read_text().strip() or None
    except OSError:
        return None


class Transport:
    """Sends requests and turns answers that are no success into exceptions."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        headers = {"X-Agent-Relay-Token": token} if token else {}
        self.http = httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=CALL)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, Any] | None = None,
        repeatable: bool = False,
    ) -> Any:
        """The parsed answer. `repeatable`: try up to three times, for requests that may be made twice."""
        params = {key: value for key, value in (query or {}).items() if value is not None}
        content = None if body is None else wire.encode(body)
        for attempt in range(1, TRIES + 1):
            try:
                return await self._once(method, path, content, params)
            except (Unreachable, Overloaded) as error:
                if not repeatable or attempt == TRIES:
                    raise
                await trio.sleep(
                    min(5.0, getattr(error, "retry_after", 0.0)) + 0.1 * attempt * (0.5 + random())
                )
        raise AssertionError

    async def _once(self, method: str, path: str, content: bytes | None, params: dict[str, Any]) -> Any:
        headers = {"content-type": "application/json"} if content is not None else {}
        try:
            answer = await self.http.request(method, path, content=content, params=params, headers=headers)
        except httpx2.TransportError as error:
            raise Unreachable(f"{self.url} did not answer: {str(error) or type(error).__name__}") from error
        if answer.is_success:
            return json.loads(answer.content) if answer.content else None
        raise failure(answer.status_code, answer.content, answer.headers.get("retry-after"))


def failure(status: int, content: bytes, retry_after: str | None) -> Refused:
    """The exception that a refusal becomes."""
    try:
        said = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        said = content[:200].decode(errors="replace") or HTTPStatus(status).phrase
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Unauthorized(status, said)
    if status in BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        delay = float(retry_after) if retry_after and retry_after.isdecimal() else 0.5
        return Overloaded(status, said, delay)
    return Refused(status, said)
