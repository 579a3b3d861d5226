"""What is on record of tokens; never the text of one (W-I39)."""

from __future__ import annotations

from collections.abc import Mapping

from relay import wire
from relay.store import Event, Write

from ._audit import Caller, audit
from ._moment import Moment

__all__ = ["noted", "rotated"]


def noted(
    what: str,
    title: str,
    token: wire.Token,
    moment: Moment,
    by: Caller,
    facts: Mapping[str, str | None] | None = None,
) -> tuple[Write, Event]:
    """That something was done with the token."""
    kind = "runner-token-remint" if what == "remint" else f"token-{what}"
    known = {**(facts or {}), "jti": token.jti, "sub": token.sub, "profileId": token.profile_id}
    return audit(
        moment,
        f"server-{kind}-{token.jti}-{moment.ms}",
        title,
        body=token.sub,
        meta=token.jti,
        icon="ti-key",
        view="security",
        metadata={name: value for name, value in known.items() if value is not None},
        by=by,
    )


def rotated(kid: str, moment: Moment, by: Caller) -> tuple[Write, Event]:
    """That another key signs from now on."""
    return audit(
        moment,
        f"server-token-key-{kid}-{moment.ms}",
        "another key signs tokens from now on",
        body=kid,
        icon="ti-key",
        view="security",
        metadata={"kid": kid},
        by=by,
    )
