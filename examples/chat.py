"""Actors beside your own web application: a chat over HTTP whose rooms are a family of actors, all in one process.

python examples/chat.py
"""

import attrs
import httpx2
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import request
from quart_trio import QuartTrio

from relay.actors import Actor, Ask, Context, Family, Tell, open_system


class Room:
    """The protocol."""


@attrs.frozen
class Say(Tell[Room]):
    line: str


@attrs.frozen
class Listen(Ask[Room, list[str]]):
    heard: int  # answered with the lines after so many, as soon as there are any


class Talk(Actor[Room]):
    def __init__(self, name: str) -> None:
        self.lines = [f"Welcome to the {name}"]

    def handle(self, message: Say | Listen, context: Context[Room]) -> None:
        match message:
            case Say(line):
                self.lines.append(line)
                context.unstash()  # whoever listens is looked at again
            case Listen(heard) if heard < len(self.lines):
                context.reply(message, self.lines[heard:])
            case Listen():
                context.stash(message)


def application(rooms: Family[str, Room]) -> QuartTrio:
    app = QuartTrio(__name__)

    @app.post("/rooms/<name>")
    async def say(name: str) -> tuple[str, int]:
        rooms[name].tell(Say((await request.get_json())["line"]))
        return "", 202

    @app.get("/rooms/<name>/after/<int:heard>")
    async def listen(name: str, heard: int) -> list[str]:
        return await rooms[name].ask(Listen(heard))

    return app


async def ben(chat: httpx2.AsyncClient) -> None:
    print("Ben hears", (await chat.get("/rooms/kitchen/after/1")).json())  # waits until somebody speaks
    await chat.post("/rooms/kitchen", json={"line": "Ben: half a pot"})


async def main() -> None:
    async with open_system() as system, trio.open_nursery() as nursery:
        app = application(system.family(Talk, name="rooms", idle=3600.0))  # an idle room is forgotten
        [url] = await nursery.start(serve, app, Config.from_mapping(bind="127.0.0.1:0", errorlog=None))
        async with httpx2.AsyncClient(base_url=url) as chat, trio.open_nursery() as visitors:
            visitors.start_soon(ben, chat)
            await chat.post("/rooms/kitchen", json={"line": "Ada: is there coffee?"})
            print("Ada hears", (await chat.get("/rooms/kitchen/after/2")).json())
            print("Next door:", (await chat.get("/rooms/garden/after/0")).json())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
