"""Paths on hosts, as text: relay never touches them.

Containment is decided on lexically normalised absolute paths (10.3): `p`, `p/`, `p/.` and `p/x/..` are one path, and
a sibling that shares a prefix of the name is outside. A first segment below the base that begins with two dots
counts as outside.
"""

import posixpath

__all__ = ["normalised", "within"]


def normalised(path: str) -> str:
    """The absolute path without `.`, `..`, repeated and trailing slashes. Symbolic links are not followed."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def within(base: str, path: str) -> bool:
    """Whether `path` is `base` or lies below it."""
    if not base.startswith("/") or not path.startswith("/"):
        return False
    relative = posixpath.relpath(normalised(path), normalised(base))
    return not relative.startswith("..")
