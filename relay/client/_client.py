"""The HTTP API as methods; records are classes of `relay.wire`, their instants epoch seconds.

Every method raises `RelayError`. `Refused` has the status that a docstring names; 400 (a request that is not well formed),
401 and 403 (the token) may come from any. Trouble is `Unreachable`, `Overloaded` and `ServerFailed`: what may be made
twice is tried three times, and any other change may have been made or not.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from relay import wire

from ._bus import Bus, open_bus
from ._calls import (
    ActivityCalls,
    AgentCalls,
    AutomationCalls,
    ChannelCalls,
    CommandCalls,
    ConfigCalls,
    ConnectorCalls,
    DeliveryCalls,
    MaintenanceCalls,
    MessageCalls,
    OrchestratorCalls,
    PairCalls,
    PolicyCalls,
    ProviderCalls,
    RecipeCalls,
    TaskCalls,
    TokenCalls,
    WorkspaceCalls,
)
from ._events import StreamedEvent, events
from ._transport import DEFAULT_URL, Another, Transport, find_token, from_file

__all__ = ["Client", "open_client"]


class Client(
    AgentCalls,
    MessageCalls,
    DeliveryCalls,
    PairCalls,
    RecipeCalls,
    TaskCalls,
    CommandCalls,
    OrchestratorCalls,
    WorkspaceCalls,
    ChannelCalls,
    ConfigCalls,
    PolicyCalls,
    ProviderCalls,
    ConnectorCalls,
    AutomationCalls,
    ActivityCalls,
    MaintenanceCalls,
    TokenCalls,
):
    """Made by `open_client`. The surrounding cancel scope limits every call; each try is limited to 35 s.

    Numbers in docstrings are HTTP statuses of `Refused`; letters with a number are rules of the specification. The calls are in
    `_calls`, a module for each concept; what takes a connection of its own is here.
    """

    @property
    def token(self) -> str | None:
        """What relay is shown."""
        return self._transport.token

    def use_token(self, token: str) -> None:
        """Show relay this token from now on."""
        self._transport.use(token)

    def when_refused(self, another: Another) -> None:
        """Where to get another token when this one is none any more (401): what was asked is asked again then."""
        self._transport.another = another

    async def health(self) -> wire.Health:
        """How relay is doing, and how much of what it has (O-56). Needs no token."""
        return self._one(wire.Health, await self._get("/api/health"))

    def events(self, agent_id: str | None = None, after: int | None = None) -> AsyncGenerator[StreamedEvent]:
        """Events newer than `after` (a place in the log), those that concern one agent or all; see `StreamedEvent`.
        Close it with `contextlib.aclosing`."""
        return events(self._transport, agent_id, after)

    def open_bus(self, hello: wire.bus.Hello) -> AbstractAsyncContextManager[Bus]:
        """One connection for all that an agent says and hears: `async with client.open_bus(hello) as bus:`. Waits until relay
        has welcomed it. Raises `Unauthorized`, and `Refused` when the hello is not as it should be (400), or this relay has no
        bus (404)."""
        return open_bus(self._transport, hello)


@asynccontextmanager
async def open_client(url: str | None = None, token: str | None = None) -> AsyncGenerator[Client]:
    """A client of the relay at `url` (default: `AGENT_RELAY_URL`, else loopback) with `token` (default: as found)."""
    transport = Transport(url or os.environ.get("AGENT_RELAY_URL") or DEFAULT_URL, token or find_token())
    if token is None:
        transport.another = from_file
    try:
        yield Client(transport)
    finally:
        await transport.http.aclose()
