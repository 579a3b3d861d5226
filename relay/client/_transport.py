"""One connection pool, the token on every request, and retries where a repeat is harmless."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from http import HTTPStatus
from pathlib import Path
from random import random
from typing import Any
from urllib.parse import urlencode

import httpx2
import orjson
import trio

from relay import wire

from ._errors import Garbled, Overloaded, Refused, RelayError, ServerFailed, Unauthorized, Unreachable

__all__ = ["DEFAULT_URL", "Another", "Transport", "find_token", "from_file", "home", "token_file"]

DEFAULT_URL = "http://127.0.0.1:4850"
TRIES = 3
TRY = 35.0  # seconds that one try may take; relay itself gives up after 30
CONNECT = 5.0  # seconds
LONGEST_PAUSE = 5.0  # seconds between tries, whatever relay asks for
CONNECTIONS = 100  # at once; an event stream holds one
LARGEST = 512 * 1_048_576  # bytes of an answer: more than the longest list of the longest messages has
BUSY = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
DIRECT = ("all://127.0.0.1", "all://localhost", "all://[::1]")  # never through a proxy


def home() -> Path:
    """Where relay keeps its token and database: `RELAY_HOME`, else `~/.relay`."""
    return Path(os.environ.get("RELAY_HOME") or Path.home() / ".relay")


def token_file() -> Path:
    """The file with the root token: `AGENT_RELAY_TOKEN_FILE`, else `token` in the home."""
    return Path(os.environ.get("AGENT_RELAY_TOKEN_FILE") or home() / "token")


Another = Callable[[str], Awaitable[str | None]]
"""Given a token that was refused: another, if there is one."""


async def from_file(refused: str) -> str | None:
    """What the token file holds now: whoever runs an agent keeps its token there, which is replaced from time to time."""
    if "AGENT_RELAY_TOKEN_FILE" not in os.environ:
        return None
    try:
        found = token_file().read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return found if found and found != refused else None


def find_token() -> str | None:
    """`AGENT_RELAY_TOKEN`, else what the token file holds; None when there is neither."""
    if given := os.environ.get("AGENT_RELAY_TOKEN"):
        return given
    try:
        return token_file().read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


class Transport:
    """Sends requests and turns answers that are no success into exceptions."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self.another: Another | None = None
        """Where there is another token, when this one is none any more."""
        try:
            self.http = httpx2.AsyncClient(
                base_url=self.url,
                headers=_credentials(token),
                timeout=httpx2.Timeout(None, connect=CONNECT),
                limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=20),
                mounts=dict.fromkeys(DIRECT),
            )
        except httpx2.InvalidURL as error:
            raise Unreachable(f"{url} is no address: {error}") from error

    def use(self, token: str) -> None:
        """From now on it is this token."""
        self.token = token
        self.http.headers.update(_credentials(token))

    async def replaced(self, error: Refused, used: str | None) -> bool:
        """Whether there is another token in place of the one that was refused: then the same may be asked again."""
        if error.status != HTTPStatus.UNAUTHORIZED or used is None:
            return False
        if self.token == used and self.another is not None:
            found = await self.another(used)
            if found is not None and self.token == used:
                self.use(found)
        return self.token != used

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, Any] | None = None,
        repeatable: bool = False,
        told_by: int | None = None,
        as_it_is: bool = False,
    ) -> Any:
        """The parsed answer. `repeatable`: try up to three times, for requests that may be made twice. `told_by`: with
        this status, too, an object with `ok` is an answer, and not a failure. `as_it_is`: with this token, and no other."""
        given = {key: value for key, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(given, errors='surrogatepass')}" if given else path
        content = None if body is None else _text(body)
        for attempt in range(1, TRIES + 1):
            used = self.token
            try:
                return await self._try(method, target, content, told_by)
            except Unauthorized as error:
                if as_it_is or not await self.replaced(error, used):
                    raise
                return await self._try(method, target, content, told_by)
            except (Unreachable, Overloaded, ServerFailed) as error:
                if not repeatable or attempt == TRIES:
                    raise
                asked = min(LONGEST_PAUSE, getattr(error, "retry_after", 0.0))
                await trio.sleep(asked + 0.1 * attempt * (0.5 + random()))
        raise AssertionError

    async def _try(self, method: str, target: str, content: bytes | None, told_by: int | None) -> Any:
        headers = {"content-type": "application/json"} if content is not None else {}
        with self.told(), trio.fail_after(TRY):
            async with self.http.stream(method, target, content=content, headers=headers) as answer:
                body = await self.read(answer)
        if not answer.is_success and not (answer.status_code == told_by and _is_outcome(body)):
            raise failure(self.url, answer, body)
        try:
            return orjson.loads(body) if body else None
        except orjson.JSONDecodeError as error:
            raise Garbled(self.url, str(error)) from None

    async def read(self, answer: httpx2.Response) -> bytes:
        """The whole body, within bounds."""
        body = bytearray()
        async with aclosing(answer.aiter_bytes()) as parts:
            async for part in parts:
                body += part
                if len(body) > LARGEST:
                    raise Garbled(self.url, f"it has more than {LARGEST} bytes")
        return bytes(body)

    @contextmanager
    def told(self) -> Iterator[None]:
        """What goes wrong on the way is told in this package's errors."""
        try:
            yield
        except (httpx2.DecodingError, httpx2.SSEError) as error:
            raise Garbled(self.url, str(error)) from error
        except httpx2.TransportError as error:
            raise Unreachable(f"{self.url} did not answer: {str(error) or type(error).__name__}") from error
        except trio.TooSlowError:
            raise Unreachable(f"{self.url} did not answer within {TRY:g} s") from None


def _credentials(token: str | None) -> dict[str, str]:
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()):
        raise Unauthorized(401, "the token has characters that no token of relay has")
    return {"X-Agent-Relay-Token": token}


def _is_outcome(body: bytes) -> bool:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(said, dict) and "ok" in said


def _text(body: object) -> bytes:
    try:
        return wire.encode(body)
    except TypeError as error:  # relay would refuse it with the same status
        raise Refused(400, f"this cannot be written as JSON: {error}") from error


def failure(url: str, answer: httpx2.Response, body: bytes) -> RelayError:
    """The exception that an answer without success becomes. Relay speaks JSON; a proxy before it may be in trouble in
    words of its own."""
    status = answer.status_code
    words = _words(body)
    said = words or answer.reason_phrase or "refused"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Unauthorized(status, said)
    if status in BUSY:
        pause = answer.headers.get("retry-after", "")
        return Overloaded(status, said, float(pause) if pause.isdecimal() else 0.5)
    if words is None and status != HTTPStatus.BAD_GATEWAY:
        return Garbled(url, f"{status} without JSON: {body[:200].decode(errors='replace')!r}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerFailed(status, said)
    return Refused(status, said)


def _words(body: bytes) -> str | None:
    """What a refusal says: its `error`, else the JSON it is, empty when it is empty. None when it is no JSON."""
    try:
        said = orjson.loads(body) if body else ""
    except orjson.JSONDecodeError:
        return None
    error = said.get("error") if isinstance(said, dict) else None
    return error if isinstance(error, str) else body[:200].decode(errors="replace")
