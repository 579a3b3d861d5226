"""What the server does by itself now and then, and having it done now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .failure import Failure
from .options import Listing, Target, target
from .output import age, say, show, show_json
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["jobs"]


@click.group(cls=Listing)
def jobs() -> None:
    """List the server's maintenance jobs; run one now.

    \b
    relay jobs
    relay jobs run backup
    """


@jobs.command("list")
@target
def list_(target: Target, as_json: bool) -> None:
    """List the jobs: when each ran last, how that went, and when it comes round next."""
    from relay import wire

    found = ask(target, lambda client: client.jobs())
    if as_json:
        return show_json([wire.to_json(job) for job in found])
    rows = [
        (
            job.name,
            _span(job.every_ms),
            age(job.last_run_at),
            _span(job.last_duration_ms),
            _outcome(job),
            job.about,
        )
        for job in found
    ]
    return show(("job", "every", "last run", "took", "outcome", "what it does"), rows, empty="no jobs")


@jobs.command()
@click.argument("name")
@target
def run(target: Target, name: str, as_json: bool) -> None:
    """Run the job NAME now, and wait until it is done. Exits with 1 if it failed."""
    from relay import wire

    ran = ask(target, lambda client: client.run_job(name))
    if not ran.ok:
        raise Failure(f"{name} failed", why=ran.job.last_error, then="relay doctor, and the server's log")
    if as_json:
        return show_json(wire.to_json(ran))
    did = ", ".join(f"{what}: {value}" for what, value in (ran.job.report or {}).items())
    return say(
        f"{name} is {ran.job.last_outcome}, in {_span(ran.job.last_duration_ms)}"
        + (f"; {did}" if did else "")
    )


def _outcome(job: wire.Job) -> str:
    if job.running:
        return "running"
    return f"{job.last_outcome or ''}{': ' + job.last_error if job.last_error else ''}"


def _span(ms: int | None) -> str:
    if ms is None:
        return ""
    for unit, length in (("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if ms >= length:
            return f"{ms / length:.3g} {unit}"
    return f"{ms} ms"
