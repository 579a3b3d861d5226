"""The fence of a repository: which merge lease was here last, and what it landed.

A reference to a small text, so that it moves in the same git transaction as the base. Its token only grows: a holder
whose lease went to somebody else finds a newer token, or loses the transaction. What a command landed stands here
before anybody is told, so a command that is carried out again after a crash finds its own work.
"""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from ._git import git, git_result

__all__ = ["NOTHING", "REFERENCE", "Fence", "FenceBroken", "FenceMoved", "move", "read"]

REFERENCE = "refs/relay/merge-fence"
NOTHING = ""
"""What `update-ref` takes for "no such reference yet", however long the repository's object names are."""


class FenceMoved(Exception):
    """The transaction was refused: the base or the fence is not what it was."""


class FenceBroken(Exception):
    """What stands there cannot be read, as after a loss of power. So nobody knows what the last merge has landed."""


@attrs.frozen
class Fence:
    """What the fence says; `landed` is the base before and after the landing, and the tip that landed."""

    token: int = 0
    command_id: str = ""
    landed: tuple[str, str, str] | None = None
    blob: str = NOTHING

    def text(self) -> bytes:
        return json.dumps([self.token, self.command_id, self.landed]).encode() + b"\n"


async def read(path: str | Path) -> Fence:
    """What stands there now. Raises `FenceBroken`."""
    code, blob, _ = await git_result(path, "rev-parse", "--verify", "--quiet", REFERENCE)
    if code:
        return Fence()
    code, text, said = await git_result(path, "cat-file", "blob", blob)
    try:
        token, command_id, landed = json.loads(text)
        return Fence(int(token), str(command_id), tuple(landed) if landed else None, blob)
    except (TypeError, ValueError) as error:
        raise FenceBroken(said or str(error)) from error


async def move(
    path: str | Path, before: Fence, after: Fence, base: tuple[str, str, str] | None = None
) -> Fence:
    """Replace the fence and, in the same transaction, move `base` (its branch, its new and its expected old tip).

    Raises `FenceMoved`.
    """
    blob = await git(path, "hash-object", "-w", "--stdin", stdin=after.text())
    lines = [f"update {REFERENCE} {blob} {before.blob}"]
    if base is not None:
        branch, new, old = base
        lines.append(f"update refs/heads/{branch} {new} {old}")
    script = "\n".join(["start", *lines, "prepare", "commit", ""])
    code, _, said = await git_result(
        path, "update-ref", "-m", "relay: land", "--stdin", stdin=script.encode()
    )
    if code:
        raise FenceMoved(said)
    return attrs.evolve(after, blob=blob)
