"""Containment of paths (10.3), against a reference on lists of segments."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from relay.fleet._paths import normalised, within

SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", "..a", ".", "..", ""]), max_size=6)
PATHS = st.builds(
    lambda segments, slashes: "/" + "/".join(segments) + slashes, SEGMENTS, st.sampled_from(["", "/", "//"])
)


def reference(path: str) -> list[str]:
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    return kept


@pytest.mark.spec("W-I22", "W-64", "W-65")
@pytest.mark.parametrize(
    ("base", "path", "contained"),
    [
        ("/home/u", "/home/u", True),
        ("/home/u", "/home/u/", True),
        ("/home/u/", "/home/u/repo", True),
        ("/home/u/", "/home/u/x/../repo", True),
        ("/home/u", "/home/u2/repo", False),
        ("/home/u", "/home/u/../v", False),
        ("/home/u", "/home/u/a/../b", True),
        ("/home/u", "/home", False),
        ("/home/u", "/home/u/..x", False),
        ("/", "/anything", True),
        ("home/u", "/home/u", False),
        ("/home/u", "home/u", False),
        ("/home/u", "", False),
    ],
)
def test_the_table_of_the_specification(base: str, path: str, contained: bool) -> None:
    assert within(base, path) is contained


@pytest.mark.spec("W-I22")
@given(base=PATHS, path=PATHS)
@settings(max_examples=500, deadline=None)
def test_containment_is_decided_on_segments(base: str, path: str) -> None:
    outer, inner = reference(base), reference(path)
    below = inner[len(outer) :]
    contained = inner[: len(outer)] == outer and not (below and below[0].startswith(".."))
    assert within(base, path) is contained


@pytest.mark.spec("W-I22")
@given(path=PATHS)
@settings(max_examples=200, deadline=None)
def test_one_path_has_one_form(path: str) -> None:
    plain = normalised(path)
    assert plain == "/" + "/".join(reference(path))
    assert {normalised(path + tail) for tail in ("", "/", "/.", "/x/..")} == {plain}
