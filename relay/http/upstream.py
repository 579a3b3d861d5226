"""Calls of the edge to orchestrators, for routes that only pass on what a host says (`agents-workspaces` 9.1).

An address comes from the record of a registered orchestrator. Redirects are not followed, what is read is bounded,
and the whole call has one time limit.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
import trio

from .answers import JSON, Answer, ok

__all__ = ["Upstream", "open_upstream"]

WITHIN = 10.0  # seconds, for the whole call
LARGEST = 4 * 1_048_576  # bytes


class Upstream:
    """Fetches from hosts."""

    def __init__(self, client: httpx2.AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"X-Agent-Relay-Token": token}

    async def get(self, url: str, query: Mapping[str, str]) -> Answer:
        """What the host answers, unchanged; when it does not, 200 `{available: false, reason}`."""
        try:
            with trio.fail_after(WITHIN):
                return await self._fetch(url, query)
        except trio.TooSlowError:
            return unavailable(f"the host did not answer within {WITHIN:.0f} seconds")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return unavailable(f"the host cannot be reached: {error}")

    async def _fetch(self, url: str, query: Mapping[str, str]) -> Answer:
        async with self._client.stream("GET", url, params=dict(query), headers=self._headers) as response:
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
    """Hosts are called directly, whatever proxy the environment names."""
    async with httpx2.AsyncClient(timeout=None, trust_env=False, follow_redirects=False) as client:
        yield Upstream(client, token)
