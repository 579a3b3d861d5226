"""Tokens: who may do what, to whom (messaging-control 18, agents-workspaces 15)."""

import attrs

from . import _fields as f

__all__ = ["Constraints"]


@attrs.frozen(kw_only=True)
class Constraints:
    """Whom and what a token is for. A kind that is absent is not restricted; of one that is there, only what it names.

    `paths` are directories on hosts, with all that lies below them.
    """

    agents: list[str] | None = f.texts(default=None)
    orchestrators: list[str] | None = f.texts(default=None)
    policies: list[str] | None = f.texts(default=None)
    channels: list[str] | None = f.texts(default=None)
    targets: list[str] | None = f.texts(default=None)
    workspaces: list[str] | None = f.texts(default=None)
    paths: list[str] | None = f.texts(default=None)
