"""Callers with tokens that the server has made, and tokens that it has not."""

from __future__ import annotations

import base64
import hmac
import json
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import httpx2


async def make(api: httpx2.AsyncClient, **asked: Any) -> dict[str, Any]:
    """The answer to the request for a token: its text, and its record."""
    answer = await api.post("/api/tokens", json={"role": "tester", **asked})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def using(token: str) -> dict[str, str]:
    return {"X-Agent-Relay-Token": token}


async def as_(
    api: httpx2.AsyncClient, token: str, method: str, path: str, body: Any = None
) -> httpx2.Response:
    """What the server says to whoever has this token."""
    return await api.request(method, path, json=body, headers=using(token))


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims."""
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(each + "==")) for each in (header, claims))  # type: ignore[return-value]


def signed(home: Path, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A token as the server would sign it, whatever it says."""
    key = base64.urlsafe_b64decode(json.loads((home / "keys.json").read_text())[0]["key"])
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(hmac.new(key, text.encode(), sha256).digest())}"


async def refusals(api: httpx2.AsyncClient) -> list[dict[str, Any]]:
    """What is on record of refused access, newest first. What is written after them is there when they are."""
    await api.post(
        "/api/activity", json={"clientId": f"look-{next(LOOKS)}", "kind": "state", "title": "look"}
    )
    records = (await api.get("/api/activity", params={"view": "security"})).json()
    return [each for each in records if "status" in each["metadata"]]


LOOKS = count()
