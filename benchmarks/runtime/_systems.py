"""The systems that are measured, the versions of each, and the environment in which it is installed.

A competitor has an environment of its own in `.tools/bench/NAME`, made when it is first measured and again when its
pins change. Where that fails, and where there is no Erlang, it is skipped, and the report says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

__all__ = ["LOCAL", "SYSTEMS", "System", "Unavailable"]

PROGRAMS = Path(__file__).parent / "programs"
ENVIRONMENTS = Path(__file__).parents[2] / ".tools" / "bench"
PATIENCE = 600.0  # seconds for an installation


class Unavailable(Exception):
    """Why a system cannot be measured here."""


@dataclass(frozen=True)
class System:
    """`pins` are installed for its program; without any it runs in the environment that runs this."""

    name: str
    program: str
    pins: tuple[str, ...] = ()
    library: str | None = None  # of that environment, whose version says what was measured

    def command(self) -> list[str]:
        """What starts its program. Installs what that needs; raises `Unavailable`."""
        program = PROGRAMS / self.program
        if program.suffix == ".escript":
            escript = shutil.which("escript")
            if escript is None:
                raise Unavailable("there is no escript on PATH")
            return [escript, str(program)]
        return [str(self._python()), str(program)]

    def version(self) -> str:
        """Its name and what is measured of it, for the head of the report."""
        if self.pins:
            return self.pins[0].replace("==", " ")
        if self.program.endswith(".escript"):
            return f"{self.name} {_erlang_release()}"
        if self.library:
            return f"{self.name}: {self.library} {metadata.version(self.library)}"
        return f"{self.name} of Python"

    def _python(self) -> Path:
        if not self.pins:
            return Path(sys.executable)
        folder = ENVIRONMENTS / self.name
        python, made = folder / "bin" / "python", folder / "pins"
        pins = "\n".join((sys.version, *self.pins))
        if not (made.exists() and made.read_text() == pins):
            print(f"Installing {self.name} into {folder} …", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            for step in _installation(folder, python, self.pins):
                _run(step)
            made.write_text(pins)
        return python


LOCAL = (
    System("relay", "on_relay.py", library="relay"),
    System("trio channel", "on_trio.py", library="trio"),
    System("asyncio queue", "on_asyncio.py"),
)
SYSTEMS = (
    *LOCAL,
    System("pykka", "on_pykka.py", ("pykka==4.5.0",)),
    System("thespian", "on_thespian.py", ("thespian==4.0.1",)),
    System(
        "triotp",
        "on_triotp.py",
        (
            "triotp==0.2.1",
            "async-generator==1.10",
            "attrs==26.1.0",
            "idna==3.20",
            "logbook==1.10.1",
            "outcome==1.3.0.post0",
            "sniffio==1.3.1",
            "sortedcontainers==2.4.0",
            "tenacity==8.5.0",
            "trio==0.19.0",
            "trio-util==0.7.0",
            "typing-extensions==4.16.0",
        ),
    ),
    System(
        "xoscar",
        "on_xoscar.py",
        (
            "xoscar==0.12.2",
            "click==8.5.1",
            "cloudpickle==3.1.2",
            "numpy==2.4.6",
            "packaging==26.3",
            "pandas==3.1.1",
            "psutil==7.2.2",
            "python-dateutil==4.0.0",
            "scipy==1.16.3",
            "tblib==3.2.2",
            "tzdata==2026.6",
            "uvloop==0.23.0",
        ),
    ),
    System("erlang", "on_erlang.escript"),
)


def _erlang_release() -> str:
    escript = shutil.which("escript")
    if escript is None:
        return "is not here"
    said = subprocess.run(
        [escript, str(PROGRAMS / "on_erlang.escript"), "version"], check=False, capture_output=True, text=True
    )
    return said.stdout.strip() or "of an unknown release"


def _installation(folder: Path, python: Path, pins: Sequence[str]) -> Iterator[list[str]]:
    """With the uv that dev.py runs us under, else with the standard library's means."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is not None:
        yield [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
        yield [uv, "pip", "install", "--quiet", "--python", str(python), *pins]
    else:
        yield [sys.executable, "-m", "venv", str(folder)]
        yield [str(python), "-m", "pip", "install", "--quiet", *pins]


def _run(step: list[str]) -> None:
    try:
        done = subprocess.run(step, check=False, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"it could not be installed: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise Unavailable(f"it could not be installed: {said[-1].strip()}")
