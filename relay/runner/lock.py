"""One runner per state directory: two would send what is kept there twice."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .options import BadOptions, Options

__all__ = ["alone"]


@contextmanager
def alone(options: Options) -> Iterator[None]:
    """Hold the state directory; the kernel frees it when the runner ends, however it ends. Raises `BadOptions`."""
    try:
        options.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(options.state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadOptions(
            f"nothing can be kept in {options.state_dir} ({error.strerror}):"
            " set AGENT_RELAY_STATE_DIR, or RELAY_HOME, to a folder of yours"
        ) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(file, 20, 0).decode().strip()
            raise BadOptions(
                f"agent {options.agent_id} is run already, by process {pid}: stop that one"
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)
