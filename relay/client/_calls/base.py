"""What all calls are made of: the transport, and the way from an answer to records of `relay.wire`."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import quote

from relay import wire
from relay.client._errors import Garbled
from relay.client._transport import Transport

T = TypeVar("T")


def segment(id: str) -> str:
    """The id as one segment of a path. Dots alone would be taken for a step to another path."""
    quoted = quote(id, safe="", errors="surrogatepass")
    return quoted.replace(".", "%2E") if id in (".", "..") else quoted


class Calls:
    """One connection pool, which all concepts share."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._call = transport.call

    @property
    def url(self) -> str:
        """Where relay is, without a slash at the end."""
        return self._transport.url

    async def _get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        return await self._call("GET", path, query=query, repeatable=True)

    async def _get_object(self, path: str, query: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._object(await self._get(path, query))

    def _one(self, kind: type[T], answer: Any) -> T:
        try:
            return wire.decode(kind, self._object(answer))
        except wire.Invalid as error:
            raise Garbled(self.url, str(error)) from error

    def _list(self, kind: type[T], answer: Any) -> list[T]:
        if not isinstance(answer, list):
            raise Garbled(self.url, "it is no list")
        return [self._one(kind, item) for item in answer]

    def _command(self, answer: Any) -> wire.Command:
        """The command that an answer says stands for what was asked."""
        return self._one(wire.Command, self._object(answer).get("command"))

    def _object(self, answer: Any) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise Garbled(self.url, "it is no object")
        return answer
