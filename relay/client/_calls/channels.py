"""Channels: where what comes in from outside goes."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class ChannelCalls(Calls):
    async def channels(self) -> list[wire.Channel]:
        """All channels with their bindings, by id (CHN-1)."""
        return self._list(wire.Channel, await self._get("/api/channels"))

    async def channel(self, id: str) -> wire.Channel:
        """One channel. 404: no agent is a channel of that id."""
        return self._one(wire.Channel, await self._get(f"/api/channels/{segment(id)}"))

    async def channel_event(self, id: str, event: wire.ChannelEvent) -> wire.FannedOut:
        """Something came in on the channel: one message for each of its bindings, or those of the same idempotency key (CHN-12).
        409: it has no bindings. 400: one of them leads nowhere now, and nothing is stored. 404: unknown. Repeated only with
        a key; without one, trouble leaves open whether it was stored."""
        again = event.idempotency_key is not None
        answer = await self._call("POST", f"/api/channels/{segment(id)}/events", event, repeatable=again)
        return self._one(wire.FannedOut, answer)

    async def channel_bindings(self, channel_id: str | None = None) -> list[wire.Binding]:
        """The bindings of one channel or of all, oldest first."""
        query = {"channelId": channel_id}
        return self._list(wire.Binding, await self._get("/api/channel-bindings", query))

    async def bind_channel(self, binding: wire.NewBinding) -> wire.Binding:
        """Lead a channel to a target. An exclusive binding replaces all others, a broadcast one the exclusive one (CHN-7); the same
        one twice is one. 404: no such channel. 409: it has 100 already."""
        answer = await self._call("POST", "/api/channel-bindings", binding, repeatable=True)
        return self._one(wire.Binding, answer)

    async def unbind_channel(self, id: str) -> None:
        """Delete a binding. 404: unknown. Not repeated: trouble leaves open whether it is gone."""
        await self._call("DELETE", f"/api/channel-bindings/{segment(id)}")
