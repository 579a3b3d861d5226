"""All connections of the bus."""

from collections.abc import Callable, Mapping

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope

from relay.fleet import Fleet
from relay.fleet.denials import Denied
from relay.http.answers import failure
from relay.http.auth import Authenticator, BadToken, Principal, peer_of, unauthorized
from relay.http.errors import CHALLENGE

from .connection import Connection
from .ends import GOING_AWAY, SUPERSEDED, UNAUTHORIZED
from .socket import Socket, refuse

__all__ = ["Bus"]

MOST_CONNECTIONS = 2_000
MOST_STRANGERS = 100  # of them, who have yet to say who they are: they must not keep out those who did
TOKEN_HEADERS = (b"x-agent-relay-token", b"authorization")


class Bus:
    """Takes connections. An agent has one at a time: the newest, as with sessions (O-08). `ends_at` tells when somebody's
    token expires, on trio's clock; `denied` records what is refused."""

    def __init__(
        self,
        fleet: Fleet,
        authenticator: Authenticator,
        ends_at: Callable[[Principal], float],
        denied: Callable[[Denied], None],
        *,
        answer_within: float,
    ) -> None:
        self.fleet = fleet
        self.ends_at = ends_at
        self.denied = denied
        self.answer_within = answer_within
        self._authenticator = authenticator
        self._open: set[Connection] = set()
        self._agents: dict[str, Connection] = {}
        self._closing = False

    @property
    def connections(self) -> int:
        return len(self._open)

    async def serve(
        self, scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """One connection, from the request for it to its end."""
        headers = dict(scope["headers"])
        principal, peer = None, peer_of(scope)
        try:
            if any(name in headers for name in TOKEN_HEADERS):
                principal = self._authenticator.identified(headers)
        except BadToken as bad:
            self.denied(Denied(401, str(bad), peer=peer, by=bad.by))
            await refuse(failure(401, unauthorized(bad), CHALLENGE), receive, send)
            return
        if self._closing or len(self._open) >= MOST_CONNECTIONS or not (principal or self._takes_strangers()):
            await refuse(failure(503, "too many connections", (b"retry-after", b"5")), receive, send)
            return
        connection = Connection(self, Socket(receive, send), principal, peer)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)
            if self._agents.get(connection.agent_id or "") is connection:
                del self._agents[connection.agent_id or ""]

    def _takes_strangers(self) -> bool:
        return sum(each.principal is None for each in self._open) < MOST_STRANGERS

    def principal(self, token: str) -> Principal:
        """Whose token it is. Raises `BadToken`."""
        headers: Mapping[bytes, bytes] = {b"x-agent-relay-token": token.encode(errors="replace")}
        return self._authenticator.identified(headers)

    def take_over(self, agent_id: str, connection: Connection) -> None:
        """From now on the agent's connection is this one."""
        before = self._agents.get(agent_id)
        self._agents[agent_id] = connection
        if before is not None and before is not connection:
            before.end(SUPERSEDED)

    def end_strangers(self) -> None:
        """Ends the connections of those whose token is none any more."""
        for connection in list(self._open):
            if connection.principal is not None and not self._authenticator.knows(connection.principal):
                connection.end(UNAUTHORIZED)

    def end_those(self, over: Callable[[Principal], bool]) -> None:
        """Ends the connections of those for whom it is over."""
        for connection in list(self._open):
            if connection.principal is not None and over(connection.principal):
                connection.end(UNAUTHORIZED)

    def close(self) -> None:
        """Ends all connections, and takes no more."""
        self._closing = True
        for connection in list(self._open):
            connection.end(GOING_AWAY)
