"""Users' values as text, for errors and snapshots."""

from __future__ import annotations

__all__ = ["said", "shown"]

LONGEST = 200  # characters


def shown(value: object) -> str:
    """The `repr` of a value, cut to a length that fits a line of a log. Never raises: a `repr` may be broken."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - the value's own defect
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def said(error: BaseException) -> str:
    """What an error says. Never raises."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the error's own defect
        return shown(error)
