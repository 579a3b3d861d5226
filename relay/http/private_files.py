"""Files that hold secrets: nobody but their owner should be able to read them."""

import logging
import os
import secrets
import stat
from pathlib import Path

__all__ = ["kept_secret", "read_private"]

log = logging.getLogger(__name__)


def kept_secret(path: Path, secret: str) -> str:
    """The secret in the file, which is made when it is missing. Raises `OSError` and `UnicodeDecodeError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _create(path, secrets.token_urlsafe(32))
    return read_private(path, secret)


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


def _create(path: Path, secret: str) -> None:
    """Writes the file whole under another name and links it, so that of two first starts one wins entirely."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret + "\n")
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
