"""`/api/tokens` on a whole server: what a token may be, who it stands for, and that it ends."""

from __future__ import annotations

import json
import stat
from typing import Any

import httpx2
import pytest
from tokenkit import as_, make, part, parts, refusals, signed, using

from relay import wire
from relay.http import keys, verifying
from relay.http.auth import BadToken


@pytest.mark.spec("M-201", "TOK-1", "TOK-2", "TOK-3", "TOK-7", "TOK-8")
async def test_a_token_is_told_once_and_its_record_listed(api: httpx2.AsyncClient) -> None:
    made = await make(api, role="r")
    record = made["record"]
    assert (record["sub"], record["role"], record["scope"]) == ("r", "r", [])
    assert len(made["token"].split(".")) == 3
    listed = await api.get("/api/tokens")
    assert [each["jti"] for each in listed.json()] == [record["jti"]]
    assert made["token"] not in listed.text
    one = await api.get(f"/api/tokens/{record['jti']}")
    assert one.json() == record
    assert (await api.get("/api/tokens/tok_none")).status_code == 404


@pytest.mark.spec("M-202", "TOK-3")
@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({"ttlSeconds": 0}, "ttlSeconds"),
        ({"ttlSeconds": 1.5}, "ttlSeconds"),
        ({"ttlSeconds": "60"}, "ttlSeconds"),
        ({"ttlSeconds": 10**12}, "ttlSeconds"),
        ({"role": None}, "role"),
        ({"role": "r" * 81}, "role"),
        ({"role": "root"}, "role"),
        ({"sub": "root"}, "sub"),
        ({"sub": "s" * 161}, "sub"),
        ({"createdBy": "c" * 121}, "createdBy"),
        ({"scope": "agent:read"}, "scope"),
        ({"scope": [1]}, "scope"),
        ({"profileId": "nothing"}, "profileId"),
        ({"profileId": "observer"}, "role"),
        ({"profileId": "observer", "role": "observer", "scope": ["agent:write"]}, "scope"),
        ({"profileId": "provider-agent", "role": "provider", "ttlSeconds": 8 * 86_400}, "ttlSeconds"),
        ({"constraints": {"agent": ["a"]}}, "constraints"),
        ({"constraints": {"agents": "a"}}, "constraints.agents"),
        ({"constraints": ["a"]}, "constraints"),
        ({"constraints": {"paths": ["/" + "p" * 230 + str(n) for n in range(40)]}}, "constraints"),
    ],
)
async def test_what_no_token_can_be_is_told_and_not_stored(
    api: httpx2.AsyncClient, asked: dict[str, Any], place: str
) -> None:
    answer = await api.post("/api/tokens", json={"role": "r", **asked})
    assert (answer.status_code, place in answer.json()["error"]) == (400, True), answer.text
    assert (await api.get("/api/tokens")).json() == []


@pytest.mark.spec("M-204", "TOK-4", "O-49")
async def test_scopes_are_those_named_or_else_the_roles(api: httpx2.AsyncClient) -> None:
    async def scope(**asked: Any) -> list[str]:
        found: list[str] = (await make(api, **asked))["record"]["scope"]
        return found

    assert await scope(scopes=["a"]) == ["a"]
    assert await scope(scope=["b"], scopes=["a"]) == ["b"]
    assert await scope(scope=None, scopes=["a"]) == ["a"]
    assert await scope(role="admin") == ["*"]
    assert set(await scope(role="provider")) == {
        "agent:write",
        "message:send",
        "message:read",
        "command:read",
        "command:write",
    }
    assert "orchestrator:write" in await scope(role="orchestrator")
    limited = (await make(api, role="provider", sub="runner:a1"))["record"]
    assert limited["constraints"] == {"agents": ["a1"]}


async def test_a_profile_gives_scopes_and_a_life(api: httpx2.AsyncClient) -> None:
    record = (await make(api, role="observer", profileId="observer"))["record"]
    assert record["expiresAt"] - record["createdAt"] / 1000 == pytest.approx(90 * 86_400, abs=2)
    assert all(scope.endswith(":read") for scope in record["scope"])


@pytest.mark.spec("M-203", "TOK-5", "TOK-6", "M-I34")
async def test_a_revoked_token_is_none_from_then_on(api: httpx2.AsyncClient) -> None:
    made = await make(api, scope=["agent:read"])
    jti = made["record"]["jti"]
    assert (await as_(api, made["token"], "GET", "/api/agents")).status_code == 200
    revoked = await api.post(f"/api/tokens/{jti}/revoke", content=b"{not even JSON")
    assert (revoked.status_code, revoked.json()) == (200, {"ok": True})
    refused = await as_(api, made["token"], "GET", "/api/agents")
    assert (refused.status_code, "revoked" in refused.json()["error"]) == (401, True)
    assert refused.headers["www-authenticate"] == "Bearer"
    assert (await api.post(f"/api/tokens/{jti}/revoke")).status_code == 404
    assert (await api.post("/api/tokens/tok_none/revoke")).status_code == 404
    assert (await api.get(f"/api/tokens/{jti}")).json()["revokedAt"] > 0


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

SPELT = {
    "spare bits": lambda text: text[:-1] + ALPHABET[ALPHABET.index(text[-1]) | 1],
    "a sign that base64 has not": lambda text: text[:-5] + "!" + text[-5:],
    "filled up": lambda text: text + "=",
    "filled up too much": lambda text: text + "====",
}
"""Other texts with the same claims and, to whoever reads them leniently, the same signature."""


@pytest.mark.spec("TOK-6", "TOK-7", "M-I34")
@pytest.mark.parametrize("kind", SPELT)
async def test_a_token_has_one_spelling_and_no_other_outlives_it(api: httpx2.AsyncClient, kind: str) -> None:
    made = await make(api, scope=["agent:read"])
    other = SPELT[kind](made["token"])
    assert other != made["token"]
    for text, status in ((made["token"], 200), (other, 401), (made["token"], 200)):
        assert (await as_(api, text, "GET", "/api/agents")).status_code == status
    await api.post(f"/api/tokens/{made['record']['jti']}/revoke")
    for text in (made["token"], other):
        assert (await as_(api, text, "GET", "/api/agents")).status_code == 401


async def test_who_has_a_token_has_its_scopes_and_no_others(api: httpx2.AsyncClient) -> None:
    token = (await make(api, scope=["agent:read"]))["token"]
    assert (await as_(api, token, "GET", "/api/agents")).status_code == 200
    assert (await as_(api, token, "GET", "/api/commands")).status_code == 403
    bearer = {"Authorization": f"Bearer {token}", "X-Agent-Relay-Token": ""}
    assert (await api.get("/api/agents", headers=bearer)).status_code == 200


FORGED = {
    "another key": lambda header, claims, home: f"{part(header)}.{part(claims)}.{part(b'0' * 32)}",
    "alg none": lambda header, claims, home: f"{part({**header, 'alg': 'none'})}.{part(claims)}.",
    "alg none, signed": lambda header, claims, home: signed(home, {**header, "alg": "none"}, claims),
    "alg HS512": lambda header, claims, home: signed(home, {**header, "alg": "HS512"}, claims),
    "no typ": lambda header, claims, home: signed(home, {"alg": "HS256", "kid": header["kid"]}, claims),
    "wrong kid": lambda header, claims, home: signed(home, {**header, "kid": "0123456789abcdef"}, claims),
    "no kid": lambda header, claims, home: signed(home, {"alg": "HS256", "typ": "JWT"}, claims),
    "kid a path": lambda header, claims, home: signed(home, {**header, "kid": "../../dev/null"}, claims),
    "wrong audience": lambda header, claims, home: signed(home, header, {**claims, "aud": "other"}),
    "wrong issuer": lambda header, claims, home: signed(home, header, {**claims, "iss": "other"}),
    "no audience": lambda header, claims, home: signed(home, header, _without(claims, "aud")),
    "no jti": lambda header, claims, home: signed(home, header, _without(claims, "jti")),
    "no sub": lambda header, claims, home: signed(home, header, _without(claims, "sub")),
    "no iat": lambda header, claims, home: signed(home, header, _without(claims, "iat")),
    "no nbf": lambda header, claims, home: signed(home, header, _without(claims, "nbf")),
    "no scope": lambda header, claims, home: signed(home, header, _without(claims, "scope")),
    "unknown jti": lambda header, claims, home: signed(home, header, {**claims, "jti": "tok_other"}),
    "jti no text": lambda header, claims, home: signed(home, header, {**claims, "jti": 7}),
    "sub no text": lambda header, claims, home: signed(home, header, {**claims, "sub": {}}),
    "expired": lambda header, claims, home: signed(home, header, {**claims, "exp": claims["iat"] - 6}),
    "exp no number": lambda header, claims, home: signed(home, header, {**claims, "exp": "never"}),
    "not yet valid": lambda header, claims, home: signed(
        home, header, {**claims, "nbf": claims["iat"] + 3_600}
    ),
    "claims no object": lambda header, claims, home: signed(home, header, [claims]),  # type: ignore[arg-type]
    "two parts": lambda header, claims, home: f"{part(header)}.{part(claims)}",
    "four parts": lambda header, claims, home: f"{signed(home, header, claims)}.x",
    "dots": lambda header, claims, home: "..",
    "no base64": lambda header, claims, home: "%%%.%%%.%%%",
    "oversized": lambda header, claims, home: signed(home, header, {**claims, "pad": "x" * 8_192}),
}


def _without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


@pytest.mark.spec("TOK-6", "TOK-7", "AUTH-4")
@pytest.mark.parametrize("kind", FORGED)
async def test_a_forged_token_is_none_and_that_is_on_record(
    api: httpx2.AsyncClient, server: Any, kind: str
) -> None:
    made = await make(api, scope=["agent:read"])
    forged = FORGED[kind](*parts(made["token"]), server.home)
    answer = await as_(api, forged, "GET", "/api/agents")
    assert answer.status_code == 401, answer.text
    (refusal,) = await refusals(api)
    assert refusal["metadata"]["status"] == 401
    assert forged not in json.dumps(refusal)
    assert (await as_(api, made["token"], "GET", "/api/agents")).status_code == 200


async def test_every_shortened_token_is_none(api: httpx2.AsyncClient) -> None:
    token = (await make(api, scope=["agent:read"]))["token"]
    for length in (*range(1, len(token), 37), len(token) - 1):
        assert (await as_(api, token[:length], "GET", "/api/agents")).status_code == 401, length
    changed = token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:]
    assert (await as_(api, changed, "GET", "/api/agents")).status_code == 401


@pytest.mark.spec("AUTH-4")
async def test_refusals_that_are_alike_are_one_record(api: httpx2.AsyncClient) -> None:
    token = (await make(api, scope=["agent:read"], sub="curious"))["token"]
    for _ in range(5):
        assert (await as_(api, token, "POST", "/api/system/reap")).status_code == 403
    (refusal,) = await refusals(api)
    assert refusal["metadata"]["route"] == "POST /api/system/reap"
    assert (refusal["metadata"]["authSub"], refusal["metadata"]["authRole"]) == ("curious", "tester")


NARROW = {
    "scope": ["agent:read", "token:write", "token:read"],
    "constraints": {"agents": ["a1", "a2"], "paths": ["/srv/work"]},
    "ttlSeconds": 3_600,
}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"scope": ["agent:write"]}, "agent:write"),
        ({"scope": ["*"]}, "scope"),
        ({"role": "admin"}, "scope"),
        ({"scope": ["agent:read"], "constraints": {"agents": ["a1", "a3"]}}, "constraints.agents"),
        ({"scope": ["agent:read"], "constraints": {"paths": ["/srv"]}}, "constraints.paths"),
        ({"scope": ["agent:read"], "constraints": {"paths": ["/srv/work/../x"]}}, "constraints.paths"),
        ({"scope": ["agent:read"], "constraints": {"paths": ["/srv/work-2"]}}, "constraints.paths"),
        ({"scope": ["agent:read"], "ttlSeconds": 4_000}, "ttlSeconds"),
    ],
)
async def test_nobody_gives_away_more_than_they_have(
    api: httpx2.AsyncClient, asked: dict[str, Any], why: str
) -> None:
    limited = (await make(api, **NARROW))["token"]
    answer = await as_(api, limited, "POST", "/api/tokens", {"role": "r", **asked})
    assert (answer.status_code, why in answer.json()["error"]) == (403, True), answer.text
    assert len((await api.get("/api/tokens")).json()) == 1
    (refusal,) = await refusals(api)
    assert refusal["metadata"]["route"] == "POST /api/tokens"


async def test_an_integration_gives_nothing_away(api: httpx2.AsyncClient) -> None:
    """It may be configured for some targets only, which no token of its would know."""
    scope = ["token:write", "message:send", "integration:write"]
    made = await make(api, role="integration", sub="ci", scope=scope)
    answer = await as_(api, made["token"], "POST", "/api/tokens", {"role": "r", "scope": ["message:send"]})
    assert (answer.status_code, "integration" in answer.json()["error"]) == (403, True)
    assert len((await api.get("/api/tokens")).json()) == 1


async def test_what_is_not_named_is_what_the_maker_has(api: httpx2.AsyncClient) -> None:
    limited = await make(api, **NARROW)
    asked = {"role": "r", "scope": ["agent:read"], "constraints": {"paths": ["/srv/work/deep"]}}
    made = (await as_(api, limited["token"], "POST", "/api/tokens", asked)).json()["record"]
    assert made["constraints"] == {"agents": ["a1", "a2"], "paths": ["/srv/work/deep"]}
    assert made["expiresAt"] == limited["record"]["expiresAt"]


async def test_a_limited_caller_sees_and_ends_only_what_reaches_no_further(api: httpx2.AsyncClient) -> None:
    other = (await make(api, role="other", scope=["agent:read"]))["record"]
    limited = await make(api, **NARROW)
    own = (
        await as_(api, limited["token"], "POST", "/api/tokens", {"role": "r", "scope": ["agent:read"]})
    ).json()["record"]
    seen = (await as_(api, limited["token"], "GET", "/api/tokens")).json()
    assert {each["jti"] for each in seen} == {own["jti"], limited["record"]["jti"]}
    for method, path in (
        ("GET", f"/api/tokens/{other['jti']}"),
        ("POST", f"/api/tokens/{other['jti']}/revoke"),
    ):
        assert (await as_(api, limited["token"], method, path)).status_code == 403
    assert (await as_(api, limited["token"], "POST", f"/api/tokens/{own['jti']}/revoke")).status_code == 200


async def test_another_key_signs_and_the_old_one_still_verifies(api: httpx2.AsyncClient, server: Any) -> None:
    before = await make(api, scope=["agent:read"])
    rotated = await api.post("/api/tokens/rotate-key")
    assert rotated.status_code == 201
    old, new = parts(before["token"])[0]["kid"], rotated.json()["kid"]
    assert list(rotated.json()["retires"]) == [old]
    after = await make(api, scope=["agent:read"])
    assert parts(after["token"])[0]["kid"] == new != old
    for token in (before["token"], after["token"]):
        assert (await as_(api, token, "GET", "/api/agents")).status_code == 200
    path = server.home / "keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [key["kid"] for key in json.loads(path.read_text())] == [new, old]
    header, claims = parts(after["token"])
    confused = signed(server.home, {**header, "kid": old}, claims)
    assert (await as_(api, confused, "GET", "/api/agents")).status_code == 401, (
        "of one key, in another's name"
    )
    admin = (await make(api, role="admin"))["token"]
    assert (await as_(api, admin, "POST", "/api/tokens/rotate-key")).status_code == 403


def test_a_key_verifies_until_it_retires_and_no_longer() -> None:
    ring, at = keys.Keyring.passing(), 1_000.0
    token = wire.Token(jti="j", family="j", sub="s", role="r", created_at=wire.Instant(at))
    text, old = ring.text(token), ring.current.kid
    ring.rotate(at)
    assert ring.retiring() == {old: int(at) + keys.OVERLAP}
    claims, until = ring.claims(text, at + keys.OVERLAP - 1)
    assert (claims["jti"], until) == ("j", at + keys.OVERLAP)
    with pytest.raises(BadToken, match="a key that is not known here"):
        ring.claims(text, at + keys.OVERLAP)
    ring.rotate(at + keys.OVERLAP)
    assert old not in ring.retiring()


@pytest.mark.spec("M-I34")
async def test_a_stream_ends_with_its_token(api: httpx2.AsyncClient) -> None:
    made = await make(api, scope=["event:read"])
    async with api.stream("GET", "/api/events", headers=using(made["token"])) as stream:
        chunks = stream.aiter_bytes()
        assert await anext(chunks)
        await api.post(f"/api/tokens/{made['record']['jti']}/revoke")
        async for _ in chunks:
            pass
    async with api.stream("GET", "/api/events", headers=using(made["token"])) as again:
        assert again.status_code == 401


async def test_a_stream_ends_when_its_token_expires(
    api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (keys, verifying):
        monkeypatch.setattr(module, "LEEWAY", 0)
    made = await make(api, scope=["event:read"], ttlSeconds=2)
    async with api.stream("GET", "/api/events", headers=using(made["token"])) as stream:
        assert stream.status_code == 200
        async for _ in stream.aiter_bytes():
            pass
    refused = await as_(api, made["token"], "GET", "/api/agents")
    assert (refused.status_code, "expired" in refused.json()["error"]) == (401, True)
