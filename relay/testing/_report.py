"""How the failure of a simulated test is told, with the command that repeats it."""

from __future__ import annotations

import os
import shlex

from ._choices import Record, encode
from ._explore import Exploration
from ._run import Run
from ._session import session
from ._shrink import not_tame
from ._twice import HiddenNondeterminism

__all__ = ["ReplayDiffers", "replayed", "report"]

LONGEST = 20_000  # characters of a schedule on a command line
SHOWN = 12  # steps


class ReplayDiffers(AssertionError):
    """The replayed schedule does not fail, or not any more."""


def report(found: Exploration) -> None:
    """Raise the failure, with what is needed to see it again."""
    __tracebackhide__ = True
    assert found.failed is not None
    assert found.first is not None
    error = found.failed.error
    assert error is not None
    if found.seed is not None:
        tame, before = _size(found.failed), _size(found.first)
        made = "" if tame == before else f", from {before}"
        last = found.failed.log[-SHOWN:]
        steps = " Last steps:" if last else ""
        error.add_note(f"run {found.runs} of this test failed; {tame} choices are not tame{made}.{steps}")
        for line in last:
            error.add_note(f"  {line}")
        error.add_note(_replay(found, found.failed))
    raise error


def replayed(run: Run, record: Record) -> None:
    """Raise what the replayed run came to, or that it does not fail."""
    __tracebackhide__ = True
    fits = "" if record.fits else "the code makes other choices now than those that were recorded"
    if run.error is not None:
        if fits:
            run.error.add_note(f"this may be another failure than the recorded one: {fits}")
        raise run.error
    raise ReplayDiffers(f"the replayed run does not fail; {fits or 'the recorded choices fit'}{_hashing()}")


def _size(run: Run) -> str:
    return f"{not_tame(run)} of {len(run.record)}"


def _replay(found: Exploration, failed: Run) -> str:
    if isinstance(failed.error, HiddenNondeterminism):
        return "no replay: the choices do not determine the run"
    command = f"pytest {shlex.quote(session.test)}"
    hashing = os.environ.get("PYTHONHASHSEED", "random")
    if hashing != "random":
        command = f"PYTHONHASHSEED={hashing} {command}"
    schedule = encode(failed.record)
    if len(schedule) > LONGEST:
        return f"replay, from the first run on, for this schedule is too long: {command} --relay-seed={found.start}"
    return f"replay: {command} --relay-seed={found.seed} --relay-replay={schedule}"


def _hashing() -> str:
    """Why it may not."""
    if os.environ.get("PYTHONHASHSEED", "random") != "random":
        return ""
    return (
        ". The order of sets of strings differs from process to process: should the test depend on it, find the "
        "failure again with PYTHONHASHSEED=0"
    )
