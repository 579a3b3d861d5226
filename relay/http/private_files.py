"""Files that hold secrets: nobody but their owner should be able to read them."""

import logging
import os
import stat
from pathlib import Path

__all__ = ["read_private"]

log = logging.getLogger(__name__)


def read_private(path: Path, secret: str, *, encoding: str = "ascii") -> str:
    """What the file holds. If it is ours and others can read it, they no longer can, and the log says to consider
    replacing the `secret`; what a link leads to is left alone."""
    with open(path, encoding=encoding, opener=_without_waiting) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no regular file")
        if found.st_mode & 0o077 and found.st_uid == os.geteuid() and not path.is_symlink():
            mode = stat.S_IMODE(found.st_mode)
            log.warning(
                "others could read %s (mode %o); now they cannot, consider replacing %s", path, mode, secret
            )
            os.fchmod(file.fileno(), 0o600)
        return file.read().strip()


def _without_waiting(path: str, flags: int) -> int:
    """A pipe would wait for somebody to write to it."""
    return os.open(path, flags | os.O_NONBLOCK)
