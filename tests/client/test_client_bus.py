"""The bus of the client: what it says and hears, and that connections may come and go."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
import trio

from relay import wire
from relay.client import Refused, StreamedEvent, Superseded, Unauthorized, open_client
from relay.wire.bus import Hello, Role

HELLO = Hello(role=Role.PROVIDER, component_id="runner-1", agent_id="w", instance_id="i1")


def message(**members: Any) -> wire.SendMessage:
    return wire.SendMessage(**{"from_": "a1", "to": "w", "body": "x", **members})


async def heard(events: Any, count: int, kind: str = "message.new") -> list[StreamedEvent]:
    found: list[StreamedEvent] = []
    with trio.fail_after(20):
        async for event in events:
            found += [event] if event.type == kind else []
            if len(found) == count:
                break
    return found


async def test_an_agent_says_and_hears_over_one_connection(server: Any) -> None:
    async with open_client(server.base_url, server.token) as client, client.open_bus(HELLO) as bus:
        sent = await bus.send([message(body="1"), message(body=""), message(body="2", claimable=True)])
        assert isinstance(sent[0], wire.Message)
        assert isinstance(sent[1], Refused)
        assert sent[1].status == 400
        assert isinstance(sent[2], wire.Message)
        async with aclosing(bus.events()) as events:
            assert [event.data["id"] for event in await heard(events, 2)] == [sent[0].id, sent[2].id]
        claimed, not_claimable = await bus.claim([sent[2].id, sent[0].id])
        assert isinstance(claimed, wire.Claim)
        assert isinstance(not_claimable, Refused)
        assert isinstance((await bus.renew_claim([sent[2].id]))[0], wire.Claim)
        assert (await bus.mark_read([sent[0].id])) == [None]
        agent = await bus.set_status(wire.AgentStatus.BUSY, ready=True, meta={"k": 1})
        assert (agent.status, agent.ready, agent.meta) == (wire.AgentStatus.BUSY, True, {"k": 1})
        await bus.heartbeat(meta={"l": 2})
        assert (await client.agent("w")).meta == {"k": 1, "l": 2}
        command = await client.create_command(wire.NewCommand(type="x", source="s", target="w"))
        async with aclosing(bus.events()) as events:
            (told,) = await heard(events, 1, "command.requested")
            assert told.data["command"]["id"] == command.id
        done = await bus.patch_command(command.id, wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED))
        assert done.status is wire.CommandStatus.SUCCEEDED
        with pytest.raises(Refused, match="409"):
            await bus.patch_command(command.id, wire.PatchCommand(status=wire.CommandStatus.FAILED))
