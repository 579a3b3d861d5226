"""`/api/config`, `/api/steward-config` and `/api/agent-profiles` on a whole server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import pytest
import trio

Limited = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]]

ENTRY = "/api/config/ns/k"


@pytest.mark.spec("CFG-6", "CFG-8", "CFG-9", "CFG-10", "M-180", "M-182", "M-183", "M-184")
async def test_a_value_is_written_read_deleted_and_remembered(api: httpx2.AsyncClient) -> None:
    first = await api.put(ENTRY, json={"value": None, "updatedBy": "me"})
    assert first.status_code == 201
    assert {**first.json(), "updatedAt": 0} == {
        "namespace": "ns",
        "key": "k",
        "value": None,
        "version": 1,
        "updatedBy": "me",
        "updatedAt": 0,
    }
    second = await api.put(ENTRY, json={"value": {"x": [1, 2]}})
    assert (second.status_code, second.json()["version"]) == (200, 2)
    assert (await api.get(ENTRY)).json() == second.json()
    assert (await api.get("/api/config/ns")).json() == [second.json()]
    gone = await api.delete(ENTRY, params={"updatedBy": "you"})
    assert (gone.status_code, gone.json()) == (200, {"ok": True})
    assert (await api.get(ENTRY)).status_code == 404
    assert (await api.delete(ENTRY)).status_code == 404
    third = await api.put(ENTRY, json={"value": 7})
    assert (third.status_code, third.json()["version"]) == (200, 4)
    past = (await api.get(f"{ENTRY}/history")).json()
    assert [each["version"] for each in past] == [4, 3, 2, 1]
    assert (past[1]["deleted"], past[1]["updatedBy"]) == (True, "you")
    assert len((await api.get(f"{ENTRY}/history", params={"limit": 2})).json()) == 2
    assert (await api.get(f"{ENTRY}/history", params={"limit": 501})).status_code == 400


@pytest.mark.spec("CFG-2", "CFG-5", "M-181", "M-007", "O-05", "VAL-4")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", ENTRY, {}),
        ("PUT", ENTRY, []),
        ("PUT", ENTRY, {"value": 1, "updatedBy": "x" * 201}),
        ("PUT", ENTRY, {"value": 1, "updatedBy": 5}),
        ("PUT", f"/api/config/ns/{'k' * 241}", {"value": 1}),
        ("PUT", f"/api/config/{'n' * 241}/k", {"value": 1}),
        ("PUT", "/api/config/ns/%20", {"value": 1}),
        ("PUT", ENTRY, {"value": "x" * 70_000}),
        ("GET", "/api/config/ns/%20", None),
        ("GET", "/api/config/%20", None),
        ("GET", f"/api/config/{'n' * 241}", None),
        ("GET", "/api/config/ns/%20/history", None),
        ("DELETE", f"{ENTRY}?updatedBy={'x' * 201}", None),
        ("PUT", "/api/steward-config", {"value": {"enabled": 1}}),
        ("PUT", "/api/steward-config", [1]),
        ("PUT", "/api/steward-config", {"enabled": True, "updatedBy": "x" * 201}),
        ("PUT", "/api/agent-profiles/p", {"name": "q"}),
    ],
)
async def test_what_is_not_well_formed_is_refused(
    api: httpx2.AsyncClient, method: str, path: str, body: Any
) -> None:
    refused = await api.request(method, path, json=body)
    assert (refused.status_code, list(refused.json())) == (400, ["error"])
    assert (await api.get("/api/config/ns")).json() == []
    assert (await api.get("/api/steward-config")).json()["version"] == 0


@pytest.mark.spec("M-185", "CFG-12")
async def test_of_writes_at_once_one_is_the_first(api: httpx2.AsyncClient) -> None:
    answers: list[httpx2.Response] = []

    async def write(number: int) -> None:
        answers.append(await api.put(ENTRY, json={"value": number}))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(write, number)
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 21))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]


@pytest.mark.spec("W-112", "W-113", "W-115")
async def test_the_stewards_configuration_comes_wrapped_or_bare(api: httpx2.AsyncClient) -> None:
    before = await api.get("/api/steward-config")
    assert (before.status_code, before.json()["version"]) == (200, 0)
    wrapped = await api.put("/api/steward-config", json={"value": {"enabled": True}, "updatedBy": "me"})
    assert (wrapped.status_code, wrapped.json()["value"], wrapped.json()["updatedBy"]) == (
        201,
        {"enabled": True},
        "me",
    )
    bare = await api.put("/api/steward-config", json={"strategy": "rebase-ff", "updatedBy": "you"})
    assert (bare.status_code, bare.json()["value"], bare.json()["updatedBy"]) == (
        200,
        {"strategy": "rebase-ff"},
        "you",
    )
    assert (await api.get("/api/steward-config")).json() == bare.json()


@pytest.mark.spec("CFG-6", "POL-4")
async def test_profiles_are_entries_with_a_route_of_their_own(api: httpx2.AsyncClient) -> None:
    first = await api.put("/api/agent-profiles/reviewer", json={"base": "host", "skills": ["review"]})
    again = await api.put("/api/agent-profiles/reviewer", json={"value": {"base": "isolated"}})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["value"] == {"base": "isolated", "name": "reviewer"}
    assert (await api.get("/api/agent-profiles")).json() == [again.json()]
    assert (await api.get("/api/config/agent-profile/reviewer")).json() == again.json()
    assert (await api.delete("/api/agent-profiles/reviewer")).json() == {"ok": True}
    assert (await api.get("/api/agent-profiles/reviewer")).status_code == 404


@pytest.mark.spec("AUTH-4")
async def test_writing_takes_what_the_routes_of_the_namespace_take(limited_to: Limited) -> None:
    async with limited_to("config:read", "config:write") as (_, limited):
        assert (await limited.put(ENTRY, json={"value": 1})).status_code == 201
        assert (await limited.put("/api/config/steward/global", json={"value": {}})).status_code == 403
        assert (await limited.put("/api/steward-config", json={})).status_code == 403
        refused = await limited.delete("/api/config/spawn-policy/P")
        assert refused.status_code == 403
