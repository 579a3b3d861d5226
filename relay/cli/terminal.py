"""What may reach a terminal. Agents are fed by strangers: what they write must neither move the cursor nor hide."""

import re

__all__ = ["visible"]

# Controls except line end and tab; marks of direction; line separators; halves of characters, which have no encoding
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """`text`, with each character that would act on the terminal or on its neighbours written as `\\uXXXX`. So a JSON
    document still means what it meant."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
