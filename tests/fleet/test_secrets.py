"""What is a secret in a configuration, and that nothing but a mask is seen of it."""

from __future__ import annotations

from typing import Any

import pytest

from relay.fleet import Invalid, connectors
from relay.fleet._secrets import MASK, masked, masked_end, restored, secrets_in


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "botToken",
        "PASSWORD",
        "passphrase",
        "pwd",
        "api_key",
        "apiKey",
        "signing-key",
        "client_secret",
    ],
)
def test_a_member_whose_name_looks_like_a_secret_is_masked(name: str) -> None:
    config = {name: "open sesame", "deep": {name: ["open", "sesame"]}, "list": [{name: 4711}]}
    assert masked(config) == {name: MASK, "deep": {name: MASK}, "list": [{name: MASK}]}


@pytest.mark.parametrize("name", ["url", "user", "keyboard", "monkey", "path", "compass", "useToken"])
def test_other_members_are_seen(name: str) -> None:
    value = True if name == "useToken" else "seen"
    assert masked({name: value}) == {name: value}


def test_a_secret_is_masked_wherever_it_is_repeated() -> None:
    secrets = secrets_in({"token": "open sesame", "pinToken": 123_456, "deep": {"pwd": ["mellon!"]}})
    said = {
        "open sesame": ["say open sesame", 123_456, 123_457],
        "pin": "it is 123456",
        "n": {"x": "mellon!"},
    }
    assert masked(said, secrets) == {
        MASK: [f"say {MASK}", MASK, 123_457],
        "pin": f"it is {MASK}",
        "n": {"x": MASK},
    }


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("sesame, and more", f"{MASK}, and more"),
        ("\ufffdn sesame and more", f"{MASK} and more"),
        ("open sesame sesame", f"{MASK} sesame"),
        ("esame is too short to be one", "esame is too short to be one"),
        ("nothing of it", "nothing of it"),
        ("", ""),
    ],
)
def test_the_end_of_a_text_may_begin_within_a_secret(text: str, seen: str) -> None:
    assert masked_end(text, ("open sesame",)) == seen


BOTS = [{"name": "a", "token": "of a"}, {"name": "b", "token": "of b"}]


@pytest.mark.parametrize(
    ("before", "given", "after"),
    [
        (BOTS, masked(BOTS), BOTS),
        (BOTS, masked(BOTS)[::-1], BOTS[::-1]),
        (BOTS, masked(BOTS)[1:], BOTS[1:]),
        (BOTS, [*masked(BOTS), {"name": "c", "token": "of c"}], [*BOTS, {"name": "c", "token": "of c"}]),
        ([{"token": 1}, {"token": 2}], [{"token": MASK}] * 2, [{"token": 1}, {"token": 2}]),
        ([{"token": 1}, {"token": 1}], [{"token": MASK}], [{"token": 1}]),
        ([[BOTS], ["x"]], masked([[BOTS], ["x"]]), [[BOTS], ["x"]]),
        (["x"], ["y", MASK, 7], ["y", MASK, 7]),
    ],
)
def test_masks_in_a_list_stand_for_what_was_shown_so(before: Any, given: Any, after: Any) -> None:
    assert restored({"bots": given}, {"bots": before}) == {"bots": after}


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ([{"name": "c", "token": MASK}], r"config.bots\[0\].token"),
        (
            [{"name": "a", "token": "new"}, {"name": "a", "user": "u", "token": MASK}],
            r"config.bots\[1\].token",
        ),
        ([[{"token": MASK}]], r"config.bots\[0\]\[0\].token"),
    ],
)
def test_a_mask_in_a_list_that_stands_for_nothing_is_refused(given: Any, place: str) -> None:
    with pytest.raises(Invalid, match=place):
        restored({"bots": given}, {"bots": BOTS})


def test_a_mask_that_may_stand_for_one_of_several_is_refused() -> None:
    before = {"bots": [{"token": 1}, {"token": 2}]}
    with pytest.raises(Invalid, match=r"config.bots\[0\]: .* several"):
        restored({"bots": [{"token": MASK}]}, before)


def test_what_an_actor_is_busy_with_shows_no_configuration() -> None:
    assert "open sesame" not in repr(connectors.Configure({"token": "open sesame"}))
