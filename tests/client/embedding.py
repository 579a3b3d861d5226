"""A program that uses the client and the contract, to be checked by mypy and not to be run."""

# ruff: noqa: F841, B007 - what is assigned shows its type
from contextlib import aclosing

from relay import wire
from relay.client import Garbled, Overloaded, Refused, RelayError, StreamedEvent, Unreachable, open_client


async def main() -> None:
    async with open_client("http://127.0.0.1:4850") as client:
        agent: wire.Agent = await client.register_agent(wire.RegisterAgent(id="a1", tags=["t"]))
        seen: float | None = agent.last_seen
        await client.set_status("a1", wire.SetStatus(status=wire.AgentStatus.IDLE))
        message: wire.Message = await client.send(wire.SendMessage(from_="a1", to="a2", body="x"))
        number: int = message.id
        unread: list[wire.Message] = await client.messages(for_="a2", unread=True)
        try:
            commands: list[wire.Command] = await client.commands(target="a1")
        except Overloaded as error:
            pause: float = error.retry_after
        except Refused as error:
            status: int = error.status
        except (Unreachable, Garbled) as error:
            either: RelayError = error
        async with aclosing(client.events("a1")) as events:
            async for event in events:
                told: StreamedEvent = event
        text: bytes = wire.encode(agent)
        card: wire.Agent = wire.decode(wire.Agent, text)

        await client.send(wire.RegisterAgent(id="a1"))  # refused
        await client.agent(7)  # refused
        wire.SendMessage("a1", "x")  # refused
        wire.SetStatus(status="idle")  # refused
        agent.label = "x"  # refused
        other: wire.Message = wire.decode(wire.Agent, text)  # refused
        for event in client.events():  # refused
            pass
        open_client(token=b"secret")  # refused
