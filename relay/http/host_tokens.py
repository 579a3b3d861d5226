"""By what relay is known to each host's API: a token of its own, which is good there and nowhere else.

It is derived from a key that never leaves the server (`<home>/host-key`, readable by its owner only), so that nothing has to be
kept for a host, and one that is told to somebody opens one host's API and nothing of relay's. A host is told its token when
it registers; with another key, all hosts get others at their next registration.
"""

import hashlib
import hmac
from pathlib import Path

from .auth import TokenUnusable
from .private_files import kept_secret

__all__ = ["host_token", "load_host_key"]

SHORTEST = 32  # characters


def host_token(key: str, host: str) -> str:
    """The token for the API of this host: 64 hexadecimal digits."""
    return hmac.new(key.encode(), b"host:" + host.encode(), hashlib.sha256).hexdigest()


def load_host_key(home: Path) -> str:
    """The key, made when it is missing. Raises `TokenUnusable`."""
    path = home / "host-key"
    try:
        key = kept_secret(path, "the key")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenUnusable(f"cannot use the key file {path}: {error}") from error
    if len(key) < SHORTEST:
        raise TokenUnusable(f"the key in {path} is too short: delete the file to have a new one made")
    return key
