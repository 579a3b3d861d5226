"""Trouble among the actors reaches the log."""

from __future__ import annotations

import attrs
import pytest

from relay.actors import (
    Actor,
    Bounds,
    Context,
    MailboxFull,
    Refusal,
    Supervision,
    Tell,
    Unavailable,
    open_system,
)
from relay.http.trouble import log_trouble


class Doing:
    """A protocol."""


@attrs.frozen
class Fail(Tell[Doing]):
    error: Exception


class Doer(Actor[Doing]):
    def handle(self, message: Fail, context: Context[Doing]) -> None:
        raise message.error


class Member(Doer):
    def __init__(self, key: str) -> None:
        """One of a family."""


async def test_failures_come_with_their_traceback_and_dead_letters_with_their_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_system() as system:
        with system.on_event(log_trouble):
            doer = await system.spawn(Doer, name="doer")
            doer.tell(Fail(Refusal("not now")))
            doer.tell(Fail(ValueError("broken")))
            await system.idle()
            system.note(Unavailable("no disk"), "other")
            members = system.family(
                Member, name="members", supervision=Supervision(restarts=0), bounds=Bounds(capacity=1)
            )
            members["a"].tell(Fail(ValueError("broken")))
            with pytest.raises(MailboxFull):
                members["a"].tell(Fail(ValueError("broken")))
            await system.idle()
    dead, failed, away, full, *_, quarantined = caplog.records
    assert full.getMessage() == "the mailbox of members/a is full: it holds 1 messages"
    assert quarantined.getMessage() == "members/a is given up for a while: it failed again and again"
    assert dead.getMessage() == "Fail for doer: refused: not now"
    assert failed.getMessage() == "doer failed"
    assert failed.exc_info is not None
    assert str(failed.exc_info[1]) == "broken"
    assert away.getMessage() == "other begins anew: no disk"
    assert away.exc_info is None
