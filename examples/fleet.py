"""A fleet in one file: a server in memory, and two agents that are clients of it like any other program.

python examples/fleet.py
"""

import tempfile
from functools import partial
from pathlib import Path

import trio

from relay import wire
from relay.client import Client, open_client
from relay.http import Settings, serve


async def reviewer(client: Client, *, task_status: trio.TaskStatus[None]) -> None:
    """Takes what is sent to anybody who can review, and answers the sender."""
    await client.register_agent(wire.RegisterAgent(id="reviewer", capabilities=["review"]))
    task_status.started()
    while True:
        for message in await client.messages(for_="reviewer", unread=True):
            print(f"reviewer got: {message.body}")
            answer = wire.SendMessage(from_="reviewer", reply_to=message.id, body="looks good")
            await client.send(answer)
            await client.mark_read(message.id, "reviewer")
        await trio.sleep(0.05)


async def writer(client: Client) -> None:
    """Asks for a review without knowing who will do it."""
    await client.register_agent(wire.RegisterAgent(id="writer"))
    asked = await client.send(
        wire.SendMessage(from_="writer", to="cap:review", body="please look at branch x")
    )
    while True:
        for message in await client.messages(for_="writer", since=asked.id):
            print(
                f"writer got: {message.body} (from {message.from_}, in reply to message {message.reply_to})"
            )
            return
        await trio.sleep(0.05)


async def main() -> None:
    with tempfile.TemporaryDirectory() as home, trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            settings = Settings(database=None, home=Path(home), port=0)
            server = await nursery.start(partial(serve, settings))
            async with open_client(server.base_url, server.token) as client:
                await nursery.start(reviewer, client)
                await writer(client)
                for agent in await client.agents():
                    print(f"{agent.id} is {agent.status}")
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
