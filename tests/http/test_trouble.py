"""Trouble among the actors reaches the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from relay.actors import Actor, Context, Refusal, Tell, Unavailable, open_system
from relay.http.trouble import log_trouble

if TYPE_CHECKING:
    import pytest


class Doing:
    """A protocol."""


@attrs.frozen
class Fail(Tell[Doing]):
    error: Exception


class Doer(Actor[Doing]):
    def handle(self, message: Fail, context: Context[Doing]) -> None:
        raise message.error


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
    dead, failed, away = caplog.records
    assert dead.getMessage() == "Fail for doer: refused: not now"
    assert failed.getMessage() == "doer failed"
    assert failed.exc_info is not None
    assert str(failed.exc_info[1]) == "broken"
    assert away.getMessage() == "other begins anew: no disk"
    assert away.exc_info is None
