"""Calls of the edge to orchestrators, for routes that only pass on what a host says (`agents-workspaces` 9.1).

An address comes from the record of a registered orchestrator. Redirects are not followed, what is read is bounded, and
the whole call has one time limit. The client is made for the first call: most servers never need it, and it weighs
several megabytes.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from .answers import JSON, Answer, ok

if TYPE_CHECKING:
    import httpx2

__all__ = ["Upstream", "open_upstream", "unavailable"]

WITHIN = 10.0  # seconds, for the whole call
LARGEST = 4 * 1_048_576  # bytes


class Upstream:
    """Fetches from hosts. Made by `open_upstream`."""

    def __init__(self, token: str) -> None:
        self._headers = {"X-Agent-Relay-Token": token}
        self._client: httpx2.AsyncClient | None = None

    async def get(self, url: str, query: Mapping[str, str]) -> Answer:
        """What the host answers, unchanged; when it does not, 200 `{available: false, reason}`."""
        import httpx2

        if self._client is None:  # hosts are called directly, whatever proxy the environment names
            self._client = httpx2.AsyncClient(
                headers=self._headers, timeout=None, trust_env=False, follow_redirects=False
            )
        try:
            with trio.fail_after(WITHIN):
                return await _fetch(self._client, url, query)
        except trio.TooSlowError:
            return unavailable(f"the host did not answer within {WITHIN:g} seconds")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return unavailable(f"the host cannot be reached: {error}")

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()


async def _fetch(client: "httpx2.AsyncClient", url: str, query: Mapping[str, str]) -> Answer:
    async with client.stream("GET", url, params=dict(query)) as response:
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > LARGEST:
                return unavailable(f"the host answered with more than {LARGEST} bytes")
        kind = response.headers.get("content-type", "application/json").encode("latin1")
        return Answer(response.status_code, bytes(body), (JSON[0], kind))


def unavailable(reason: str) -> Answer:
    return ok({"available": False, "reason": reason})


@asynccontextmanager
async def open_upstream(token: str) -> AsyncIterator[Upstream]:
    """Calls hosts with `token`, the server's own (9.1, step 5)."""
    upstream = Upstream(token)
    try:
        yield upstream
    finally:
        await upstream.aclose()
