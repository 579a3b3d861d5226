"""A whole server: the actor system, the store, the fleet, and the edge as a supervised child beside them.

`serve` is a task for a nursery; `run` is a process: it turns SIGTERM and SIGINT into a graceful stop and makes sure,
by a watchdog that needs no event loop, that the process ends. Everything acknowledged is on disk by then.
"""

import faulthandler
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

import attrs
import trio

from relay.actors import ActorError, open_system
from relay.connectors import LocalPrograms, folders
from relay.fleet import open_fleet
from relay.fleet.callbacks import Sweep
from relay.fleet.integrations import Integrations
from relay.recipes import Cookbook
from relay.store import open_store

from .api import table
from .auth import ROOT, Authenticator, RootToken, load_token
from .edge import Edge
from .guard import Guard, Hosts, Limits
from .hangups import Hangups
from .host_addresses import HostNetworks, parse_networks
from .host_tokens import load_host_key
from .hosting import Hosting, keep_serving
from .integration_file import IntegrationFile, IntegrationsUnusable, per_minute, principals
from .keys import Keyring
from .listening import base_url, listen
from .outgoing import PinnedOutgoing
from .trouble import log_trouble
from .upstream import open_upstream

__all__ = ["Ready", "Settings", "run", "serve"]

log = logging.getLogger(__name__)

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
GC_THRESHOLD = (
    20_000,
    20,
    50,
)  # a request makes hundreds of objects and hardly a cycle: a sixth of its time was this
STOP_WITHIN = 20.0  # seconds beyond the grace that fleet and store have to close before the process is ended


@attrs.frozen
class Settings:
    """What a server is started with. Durations are seconds; `database` None keeps everything in memory."""

    database: Path | None
    home: Path
    host: str = "127.0.0.1"
    port: int = 4850
    allowed_hosts: tuple[str, ...] = ()
    limits: Limits = attrs.Factory(Limits)
    answer_within: float = 30.0
    hosting: Hosting = attrs.Factory(Hosting)
    dump_on: int | None = None
    """On this signal the process prints what every actor is doing."""


@attrs.frozen
class Ready:
    """Where a started server is: `token` is the root token, `token_file` where the command line finds it; None if it
    was given in the environment."""

    base_url: str
    token: str
    token_file: Path | None


async def serve(
    settings: Settings,
    *,
    stop: trio.Event | None = None,
    hangups: AsyncIterator[object] | None = None,
    task_status: trio.TaskStatus[Ready] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until `stop` is set or the task is cancelled. Reads the integrations again whenever `hangups` has one more.

    Raises `CannotListen`, `TokenUnusable`, `IntegrationsUnusable`, and what the store raises when the database is held by
    another process."""
    stop = trio.Event() if stop is None else stop
    token = load_token(settings.home)
    host_key = load_host_key(settings.home)
    file = IntegrationFile.of(settings.home)
    configured = file.load(token.text)
    integrations = Integrations(configured, per_minute=per_minute())
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(settings.host, settings.port, stalled=settings.hosting.stalled))
        system = await stack.enter_async_context(open_system(dump_on=settings.dump_on))
        stack.enter_context(system.on_event(log_trouble))
        store = await stack.enter_async_context(open_store(settings.database, system))
        keys = Keyring.load(settings.home, system.wall())
        outgoing = PinnedOutgoing()
        places = folders(settings.home, os.environ.get("AGENT_RELAY_CONNECTOR_PATH"))
        programs = LocalPrograms(places, base_url(listener))
        fleet = await stack.enter_async_context(
            open_fleet(
                system,
                store,
                integrations=integrations,
                outgoing=outgoing,
                programs=programs,
                cookbook=Cookbook(settings.home / "recipes"),
            )
        )
        upstream = await stack.enter_async_context(open_upstream(host_key, HostNetworks(parse_networks())))
        authenticator = Authenticator({token.text: ROOT, **principals(configured)})
        edge = Edge(fleet, table(), authenticator, upstream, answer_within=settings.answer_within, keys=keys)
        ready = Ready(base_url(listener), token.text, token.file)
        beside = partial(_read_again, hangups, file, token, edge, authenticator)
        await serve_edge(
            edge, listener, settings, stop, started=partial(task_status.started, ready), beside=beside
        )


async def _read_again(
    hangups: AsyncIterator[object] | None,
    file: IntegrationFile,
    token: RootToken,
    edge: Edge,
    authenticator: Authenticator,
) -> None:
    """Take over what the file says, each time; what cannot be used changes nothing."""
    if hangups is None:
        return
    async for _ in hangups:
        try:
            configured = file.load(token.text)
        except IntegrationsUnusable as error:
            log.error("the integrations stay as they were: %s", error)
            continue
        fleet = edge.fleet
        fleet.integrations.replace(configured)
        authenticator.replace({token.text: ROOT, **principals(configured)})
        edge.end_strangers()
        with suppress(ActorError):  # it sweeps by itself, later
            fleet.callbacks.tell(Sweep())
        log.info("%d integrations are configured now", len(configured))


async def serve_edge(
    edge: Edge,
    listener: socket.socket,
    settings: Settings,
    stop: trio.Event,
    *,
    started: Callable[[], None],
    beside: Callable[[], Awaitable[None]],
) -> None:
    """Serves the edge, guarded, on the socket until `stop`, then ends its streams and gives requests their grace. As
    long as that takes, `beside` runs."""
    own = () if settings.host in EVERYWHERE else (settings.host,)
    guard = Guard(edge, hosts=Hosts((*own, *settings.allowed_hosts)), limits=settings.limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_close_streams_at, stop, edge)
        nursery.start_soon(beside)
        started()
        await keep_serving(guard, listener, settings.hosting, stop)
        nursery.cancel_scope.cancel()


async def _close_streams_at(stop: trio.Event, edge: Edge) -> None:
    await stop.wait()
    edge.close_streams()


def run(
    *,
    database: Path | None,
    home: Path,
    host: str = "127.0.0.1",
    port: int = 4850,
    allowed_hosts: tuple[str, ...] = (),
    ready: Callable[[Ready], None],
) -> None:
    """Serves until SIGTERM or SIGINT. Calls `ready` once requests are answered.

    SIGHUP reads the integrations again. SIGUSR1 prints what every actor is doing on standard error.
    """
    settings = Settings(
        database=database,
        home=home,
        host=host,
        port=port,
        allowed_hosts=tuple(allowed_hosts),
        dump_on=signal.SIGUSR1,
    )
    try:
        trio.run(_run, settings, ready)
    finally:
        faulthandler.cancel_dump_traceback_later()


async def _run(settings: Settings, ready: Callable[[Ready], None]) -> None:
    stop = trio.Event()
    gc.set_threshold(*GC_THRESHOLD)
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    with (
        trio.CancelScope() as scope,
        _stopping_on_signals(stop, scope, settings.hosting.grace + STOP_WITHIN),
        trio.open_signal_receiver(signal.SIGHUP) as hangups,
    ):
        await serve(
            settings, stop=stop, hangups=Hangups(hangups, ignored=ignored), task_status=_Started(ready)
        )


class _Started(trio.TaskStatus[Ready]):
    """Calls `ready` where a nursery would go on."""

    def __init__(self, ready: Callable[[Ready], None]) -> None:
        self._ready = ready

    def started(self, value: Ready | None = None) -> None:
        assert value is not None
        gc.freeze()  # what was imported and set up stays; later collections need not look at it
        self._ready(value)


@contextmanager
def _stopping_on_signals(stop: trio.Event, scope: trio.CancelScope, within: float) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`, a second one cancels. From the first on a watchdog counts that needs neither the
    event loop nor the interpreter: after `within` seconds it shows every thread's stack and ends the process."""
    token = trio.lowlevel.current_trio_token()

    def asked_to_stop(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            token.run_sync_soon(scope.cancel)
            return
        faulthandler.dump_traceback_later(within, exit=True)
        token.run_sync_soon(stop.set)

    before = {number: signal.signal(number, asked_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
