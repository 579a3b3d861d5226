"""`GET /bus` by whoever does not ask for a WebSocket: told what it takes. Those who do never come here."""

from relay.http.answers import Answer, failure
from relay.http.routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/bus", scope="event:read")
async def bus(_: Call[None]) -> Answer:
    return failure(426, "the bus is a WebSocket: ask with Upgrade: websocket", (b"upgrade", b"websocket"))
