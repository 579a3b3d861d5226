"""Sets the stage, lets the play run, and judges it."""

import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import trio

import relay
from relay.cli.failure import Failure

from . import plan
from .evidence import Evidence
from .play import Play
from .proofs import examine
from .stage import Git, opened
from .timeline import Timeline

__all__ = ["direct"]


async def direct(repo: Path | None, quick: bool, keep: bool, as_json: bool) -> bool:
    """Runs the demo; returns whether everything is proven. SIGTERM ends it as Ctrl-C does."""
    if shutil.which("git") is None:
        raise Failure("the demo needs git, and there is none on PATH", then="install git 2.38 or newer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_on_sigterm)
        proven = await _demo(top_of(repo) if repo else own_checkout(), quick, keep, as_json)
        nursery.cancel_scope.cancel()
    return proven


async def _demo(source: Path | None, quick: bool, keep: bool, as_json: bool) -> bool:
    timeline = Timeline(as_json=as_json)
    todo = plan.make(quick=quick)
    timeline.say(
        "demo", f"{len(todo.team)} agents on a clone of {source}" if source else f"{len(todo.team)} agents"
    )
    with timeline, opened(source, keep=keep) as stage:
        play = Play(stage, todo, timeline)
        await play.run()
        await trio.to_thread.run_sync(stage.stop)
        with closing(Evidence(stage.git, stage.base, stage.database, stage.journals, todo)) as evidence:
            evidence.seen, evidence.acknowledged = play.witness.seen, play.acknowledged
            evidence.outages = play.outages
            evidence.original = Git(source) if source else None
            proven = timeline.conclude(examine(evidence))
        if keep:
            timeline.say("demo", f"kept {stage.root}")
        return proven


def top_of(folder: Path) -> Path:
    """The checkout that the folder is in; the folder itself if it is in none, or bare."""
    try:
        return Path(Git(folder)("rev-parse", "--show-toplevel"))
    except subprocess.CalledProcessError:
        return folder.resolve()


def own_checkout() -> Path | None:
    """The checkout that this relay runs from, if it does run from one."""
    root = Path(relay.__file__).parent.parent
    try:
        top = Git(root)("rev-parse", "--show-toplevel")
    except (subprocess.SubprocessError, OSError):
        return None
    return root if Path(top) == root.resolve() else None


async def _end_on_sigterm() -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            raise SystemExit(128 + signal.SIGTERM)
