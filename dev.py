#!/usr/bin/env python3
"""Everything a developer runs, with nothing installed but Python 3.11+ and git.

    python3 dev.py demo [--quick] [--repo PATH]   a fleet of agents does real work on a real repository, and proves it
    python3 dev.py test [PYTEST ARGUMENTS]        the tests
    python3 dev.py check                          format, lint, types, layers
    python3 dev.py serve [ARGUMENTS]              the server
    python3 dev.py bench [NAME] [--json FILE]     side-by-side measurements

The first run takes uv from PATH or fetches it into .tools, then installs what uv.lock pins into .venv.
"""

import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
UV = "0.13.8"
CHECKS = (
    ("ruff", "format", "--check"),
    ("ruff", "check"),
    ("mypy",),
    ("lint-imports",),
)


def main(arguments: list[str]) -> int:
    """Runs one command; returns the exit code of what it ran."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is where an older Python is told
        print(
            f"relay needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}.",
            file=sys.stderr,
        )
        return 2
    match arguments:
        case ["demo" | "serve" as verb, *rest]:
            return run(
                "relay", verb, *rest, groups=["--no-default-groups", "--extra", "server"], cwd=Path.cwd()
            )
        case ["test", *rest]:
            return run("pytest", "-q", "--numprocesses=auto", "--dist=worksteal", *rest)
        case ["check"]:
            return check()
        case ["bench", *rest]:
            return run("python", str(ROOT / "benchmarks"), *rest, cwd=Path.cwd())
        case [] | ["-h" | "--help" | "help"]:
            print(__doc__)
            return 0
        case _:
            print(f"dev.py does not know `{' '.join(arguments)}`.\n\n{__doc__}", file=sys.stderr)
            return 2


def check() -> int:
    """Runs every check, also after one has failed, so that one run shows all there is to mend."""
    code = run("python", "-c", "", groups=["--group", "types"])
    if code:  # every check would fail of the same
        return code
    failed = []
    for command in CHECKS:
        print("==>", *command, flush=True)
        if run(*command):
            failed.append(" ".join(command))
    print(f"check: failed: {', '.join(failed)}" if failed else "check: all passed", flush=True)
    return 1 if failed else 0


def run(*command: str, groups: Sequence[str] = (), cwd: Path = ROOT) -> int:
    """Runs a command in the project's environment, brought up to date first. `groups` are uv's options for what belongs to
    it; by default the development tools do."""
    if not (ROOT / ".venv").exists():
        print("Setting up .venv …", file=sys.stderr, flush=True)
    uv = [find_uv(), "run", "--frozen", "--quiet", "--project", str(ROOT), *groups, "--"]
    child = subprocess.Popen([*uv, *command], cwd=cwd, env=environment())
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while True:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            continue  # the child got it too, and cleans up before it ends
        return code if code >= 0 else 128 - code


def environment() -> dict[str, str]:
    """What uv needs to use this very Python, and the index and certificates that pip would use."""
    environ = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONHOME"}}
    environ |= {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    for theirs, ours in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_CERT", "SSL_CERT_FILE")):
        if theirs in environ:
            environ.setdefault(ours, environ[theirs])
    trusted = ssl.get_default_verify_paths()
    if trusted.cafile or trusted.capath:
        environ.setdefault(
            "UV_SYSTEM_CERTS", "1"
        )  # as pip: a company's own certificate is known to the system only
    return environ


def find_uv() -> str:
    """The path of a uv of the pinned minor version; the one in .tools is installed when there is none."""
    own = ROOT / ".tools" / f"uv-{UV}"
    installed = own / "bin" / "uv"
    for candidate in (shutil.which("uv"), str(installed)):
        if candidate and is_pinned(candidate):
            return candidate
    print(f"Installing uv {UV} into {own} …", file=sys.stderr, flush=True)
    shutil.rmtree(own, ignore_errors=True)
    try:
        import venv

        venv.create(own, with_pip=True)
        pip = [str(own / "bin" / "python"), "-m", "pip", "install"]
    except (subprocess.CalledProcessError, ImportError, OSError):  # Debian without python3-venv
        shutil.rmtree(own, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--target", str(own)]
    fetched = subprocess.run([*pip, "--quiet", "--disable-pip-version-check", f"uv=={UV}"], check=False)
    if fetched.returncode or not is_pinned(str(installed)):
        shutil.rmtree(own, ignore_errors=True)
        raise SystemExit(
            f"dev.py could not install uv {UV} with pip. Is the package index reachable, and is pip or python3-venv there?\n"
            "Otherwise install uv yourself (https://docs.astral.sh/uv), put it on PATH, and run this command again."
        )
    return str(installed)


def is_pinned(uv: str) -> bool:
    """Whether this uv starts and has the pinned major and minor version."""
    try:
        said = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout.split()
    except OSError:
        return False
    return len(said) > 1 and said[1].split(".")[:2] == UV.split(".")[:2]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
