"""Finding the route of a request, and reading its query."""

import pytest

from relay.http.answers import Answer, ok
from relay.http.errors import Refused
from relay.http.query import Query
from relay.http.routing import Call, Routes, Table


def table(*declared: tuple[str, str]) -> Table:
    route = Routes()

    async def handler(call: Call[None]) -> Answer:
        return ok({})

    for method, path in declared:
        route(method, path, scope="thing:read")(handler)
    return Table(route)


def found(table: Table, method: str, path: bytes) -> tuple[str, dict[str, str]] | None:
    match = table.find(method, path)
    return match and (match[0].path, match[1])


@pytest.mark.spec("COM-9", "RTE-1")
def test_a_literal_segment_wins_over_a_parameter_whatever_is_declared_first() -> None:
    for order in (1, -1):
        paths = [("GET", "/api/messages/:id"), ("GET", "/api/messages/cursor")][::order]
        assert found(table(*paths), "GET", b"/api/messages/cursor") == ("/api/messages/cursor", {})
        assert found(table(*paths), "GET", b"/api/messages/7") == ("/api/messages/:id", {"id": "7"})


def test_a_literal_that_leads_nowhere_does_not_hide_the_parameter() -> None:
    routes = table(("GET", "/api/x/literal/a"), ("GET", "/api/x/:id/b"))
    assert found(routes, "GET", b"/api/x/literal/b") == ("/api/x/:id/b", {"id": "literal"})


@pytest.mark.spec("O-50", "COM-8")
def test_a_method_that_a_path_does_not_have_is_unknown() -> None:
    assert found(table(("GET", "/api/x")), "POST", b"/api/x") is None


@pytest.mark.spec("RTE-3")
@pytest.mark.parametrize(
    ("raw", "value"),
    [(b"a%2Fb", "a/b"), (b"%2525", "%25"), (b"na%C3%AFve", "naïve"), (b"a+b", "a+b"), (b"a;b", "a;b")],
)
def test_a_parameter_is_decoded_once_after_splitting(raw: bytes, value: str) -> None:
    assert found(table(("GET", "/api/x/:id")), "GET", b"/api/x/" + raw) == ("/api/x/:id", {"id": value})


@pytest.mark.parametrize(
    "path",
    [
        b"/api/x/",
        b"/api/x//",
        b"/api/x",
        b"//api/x/1",
        b"/api/x/1/",
        b"/api/x/%FF",
        b"http://h/api/x/1",
        b"*",
        b"",
    ],
)
def test_what_is_no_path_of_a_route_is_not_found(path: bytes) -> None:
    assert found(table(("GET", "/api/x/:id")), "GET", path) is None


def test_two_routes_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="told apart"):
        table(("GET", "/api/x/:id"), ("GET", "/api/x/:name"))


@pytest.mark.spec("M-004")
@pytest.mark.parametrize("value", ["0", "501", "abc", "1.5", "", " 1", "1_0", "-1", "٣", "9" * 30])
def test_an_integer_out_of_bounds_is_400(value: str) -> None:
    with pytest.raises(Refused, match="limit") as refused:
        Query(f"limit={value}".encode() if value.isascii() else b"limit=%D9%A3").integer("limit", 1, 500)
    assert refused.value.answer.status == 400


def test_query_members_are_read_with_their_bounds() -> None:
    query = Query(b"limit=500&for=%20a%2Fb%20&unread=1&empty=&all")
    assert query.integer("limit", 1, 500) == 500
    assert query.integer("since", 0, 9) is None
    assert query.text("for") == "a/b"
    assert query.text("empty") is None
    assert query.text("missing") is None
    assert query.flag("unread")
    assert query.flag("all")
    assert not query.flag("missing")


@pytest.mark.parametrize("text", [b"a=%FF", b"\xff=1", b"&".join([b"a=1"] * 65)])
def test_a_broken_query_string_is_400(text: bytes) -> None:
    with pytest.raises(Refused, match="query"):
        Query(text)


def test_a_text_that_is_too_long_is_400() -> None:
    with pytest.raises(Refused, match="for"):
        Query(b"for=" + b"x" * 241).text("for")


def test_a_flag_is_true_or_false() -> None:
    with pytest.raises(Refused, match="unread"):
        Query(b"unread=maybe").flag("unread")
