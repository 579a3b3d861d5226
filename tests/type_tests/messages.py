"""What a type checker accepts of messages and refs, and what it refuses: the lines marked `# refused`.

Checked by `test_types.py`; never run.
"""

from typing import assert_type

import attrs

from relay.actors import Actor, Ask, Context, Family, Ref, System, Tell


class Lease:
    """A lease."""


class Observable:
    """Whatever can be looked at."""


@attrs.frozen
class Grant:
    token: int


@attrs.frozen
class Acquire(Ask[Lease, Grant]):
    owner: str


@attrs.frozen
class Release(Tell[Lease]):
    token: int


@attrs.frozen
class Look(Ask[Observable, str]):
    pass


class MergeLease(Actor[Lease]):
    def __init__(self, repository: str) -> None:
        self.repository = repository

    def handle(self, message: Acquire | Release, context: Context[Lease]) -> None:
        match message:
            case Acquire():
                context.reply(message, Grant(1))
                context.reply(message, 1)  # refused
                context.defer(message).set(Grant(2))
                context.defer(message).set("late")  # refused
            case Release():
                context.reply(message, None)  # refused


async def use(lease: Ref[Lease], both: Ref[Lease | Observable], leases: Family[str, Lease]) -> None:
    assert_type(await lease.ask(Acquire("a")), Grant)
    assert_type(await leases["/srv/repository"].ask(Acquire("a")), Grant)
    lease.tell(Release(1))
    await lease.send(Release(1))
    whatever: object = await lease.ask(Acquire("a"))
    print(whatever, await lease.ask(Acquire("a")))
    wrong: str = await lease.ask(Acquire("a"))  # refused
    await lease.ask(Look())  # refused
    await lease.ask(Release(1))  # refused
    lease.tell(Acquire("a"))  # refused
    narrowed: Ref[Lease] = both
    widened: Ref[Lease | Observable] = lease  # refused
    print(wrong, narrowed, widened)


class Reading:
    """Whoever may only read."""


class Writing:
    """Whoever may write as well."""


@attrs.frozen
class Read(Ask[Reading, str]):
    pass


@attrs.frozen
class Write(Tell[Writing]):
    text: str


class Page(Actor[Reading | Writing]):
    def handle(self, message: Read | Write, context: Context[Reading | Writing]) -> None:
        match message:
            case Read():
                context.reply(message, "text")
            case Write():
                reader: Ref[Reading] = context.self_ref
                print(reader)


async def read(reader: Ref[Reading]) -> str:
    """Who is handed less can do less, and cannot get it back."""
    reader.tell(Write("more"))  # refused
    writer: Ref[Reading | Writing] = reader  # refused
    print(writer)
    return await reader.ask(Read())


async def narrow(page: Ref[Reading | Writing]) -> None:
    page.tell(Write("more"))
    print(await read(page))


async def start(system: System) -> None:
    assert_type(await system.spawn(MergeLease, "/srv/repository"), Ref[Lease])
    assert_type(await system.spawn(Page), Ref[Reading | Writing])
    await system.spawn(MergeLease)  # refused
    await system.spawn(MergeLease, 7)  # refused
