"""Where a host's API may be: what whoever registers a host cannot make relay call."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import pytest
import trio
from hostkit import host_api, saying
from rawhttp import serving
from receiving import PEM, trusting

from relay import wire
from relay.actors import open_system
from relay.fleet import open_fleet
from relay.http.api import table
from relay.http.auth import ROOT, Authenticator
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.host_addresses import HostNetworks, Unfit, origin_of, parse_networks
from relay.http.outgoing import Resolve
from relay.http.upstream import Unanswered, Upstream
from relay.store import open_store

CARD = {"id": "h1", "hostname": "h", "baseDir": "/base"}


def resolving(*addresses: str) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


async def fit(peer: str | None, *addresses: str, networks: str = "", url: str = "http://h:4860") -> list[str]:
    judge = HostNetworks(parse_networks(networks), resolving(*addresses))
    return await judge.addresses(url, peer)


@pytest.mark.parametrize(
    ("peer", "address", "networks"),
    [
        ("10.1.2.3", "10.1.2.3", ""),
        ("::ffff:10.1.2.3", "10.1.2.3", ""),
        ("10.1.2.3", "::ffff:10.1.2.3", ""),
        ("2001:db8::1", "2001:0db8:0::1", ""),
        ("127.0.0.1", "127.0.1.1", ""),
        ("127.0.0.1", "::1", ""),
        ("10.9.9.9", "10.1.2.3", "10.1.0.0/16"),
        (None, "10.1.2.3", "192.168.0.0/16, 10.1.0.0/16"),
        ("198.51.100.7", "203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", "fd00::5", "fd00::/8"),
    ],
)
async def test_places_that_are_called(peer: str | None, address: str, networks: str) -> None:
    assert await fit(peer, address, networks=networks) == [address]


EVERYWHERE = "0.0.0.0/0,::/0"
NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "not an address",
]


@pytest.mark.parametrize("address", NEVER)
async def test_places_that_are_never_called_whoever_registers_and_whatever_is_listed(address: str) -> None:
    for peer in (address, "127.0.0.1", "10.1.2.3", None):
        with pytest.raises(Unfit, match="AGENT_RELAY_HOST_NETWORKS"):
            await fit(peer, address, networks=EVERYWHERE)


@pytest.mark.parametrize(
    ("peer", "address", "networks"),
    [
        ("10.1.2.3", "127.0.0.1", ""),
        ("10.1.2.3", "127.0.0.1", EVERYWHERE),
        (None, "127.0.0.1", EVERYWHERE),
        ("10.1.2.3", "::1", EVERYWHERE),
        ("10.1.2.3", "::ffff:127.0.0.1", EVERYWHERE),
        ("10.1.2.3", "10.1.2.4", ""),
        ("10.1.2.3", "192.168.0.1", "10.0.0.0/8"),
        ("10.1.2.3", "93.184.216.34", ""),
        ("127.0.0.1", "10.1.2.3", ""),
        ("127.0.0.1", "192.168.1.1", ""),
        (None, "10.1.2.3", ""),
    ],
)
async def test_places_that_who_registers_cannot_name(peer: str | None, address: str, networks: str) -> None:
    with pytest.raises(Unfit) as refused:
        await fit(peer, address, networks=networks)
    assert address in str(refused.value)


async def test_of_several_addresses_only_those_that_pass_are_kept() -> None:
    assert await fit("10.1.2.3", "169.254.169.254", "10.1.2.3", "127.0.0.1", "10.1.2.3") == ["10.1.2.3"]
    many = [f"10.0.0.{number}" for number in range(1, 100)]
    assert len(await fit(None, *many, networks="10.0.0.0/8")) == 4


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h:1",
        "http://user@h:1",
        "http://user:word@h:1",
        "http://h:0",
        "http://h:65536",
        "http://h:x",
        "http://[::1",
        "http://h:1/?x=",
        "http://h:1/#x",
        "http://h?",
        "http:///x",
        "file:///etc/passwd",
    ],
)
async def test_what_is_no_address_of_an_api(url: str) -> None:
    with pytest.raises(Unfit, match="apiUrl: "):
        await fit("10.1.2.3", "10.1.2.3", url=url)


@pytest.mark.parametrize(
    "url", ["http://2130706433:1", "http://0x7f.1:1", "http://0177.0.0.1:1", "http://127.1:1"]
)
async def test_odd_spellings_of_loopback_are_judged_by_what_they_mean(url: str) -> None:
    with pytest.raises(Unfit):
        await HostNetworks().addresses(url, "10.1.2.3")
    assert await HostNetworks().addresses(url, "127.0.0.1") == ["127.0.0.1"]


async def test_a_name_without_an_address_is_no_place_to_call_yet() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    assert await HostNetworks((), resolve).addresses("http://h:1", "10.1.2.3") == []


async def test_who_is_behind_a_proxy_is_not_where_the_request_came_from() -> None:
    assert origin_of("127.0.0.1", {}) == "127.0.0.1"
    for name in (
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"forwarded",
        b"x-real-ip",
        b"x-client-ip",
        b"via",
    ):
        assert origin_of("127.0.0.1", {name: b"10.1.2.3"}) is None


def test_networks_that_are_none_are_left_out() -> None:
    assert [str(each) for each in parse_networks("10.0.0.0/8 nonsense, 10.0.0.1/8;, fd00::/8")] == [
        "10.0.0.0/8",
        "fd00::/8",
    ]
    assert parse_networks("") == []


# -- on a whole server


async def activity(api: httpx2.AsyncClient) -> list[Any]:
    listed: list[Any] = (await api.get("/api/activity", params={"view": "security"})).json()
    return listed


@pytest.mark.parametrize(
    "members",
    [
        {"apiUrl": "http://169.254.169.254/latest/meta-data"},
        {"apiUrl": "http://[::ffff:169.254.169.254]"},
        {"apiUrl": "http://10.255.255.1:80"},
        {"apiUrl": "http://0.0.0.0:4850"},
        {"apiUrl": "http://127.0.0.1:1/?x="},
        {"meta": {"apiUrl": "http://169.254.169.254/"}},
    ],
)
async def test_a_registration_that_names_such_a_place_is_refused_and_on_record(
    api: httpx2.AsyncClient, members: Any
) -> None:
    answer = await api.post("/api/orchestrators", json={**CARD, **members})
    assert (answer.status_code, "apiUrl" in answer.json()["error"]) == (400, True)
    assert (await api.get("/api/orchestrators")).json() == []
    assert (await api.get("/api/agents")).json() == []
    with trio.fail_after(10):
        while not (found := await activity(api)):
            await trio.sleep(0.01)
    [record] = found
    assert record["metadata"]["status"] == 400
    assert record["metadata"]["authSub"] == "root"
    assert "apiUrl" in record["body"]


async def test_a_host_that_was_fine_stays_as_it_was_when_it_names_another_place(
    api: httpx2.AsyncClient,
) -> None:
    async with host_api() as host:
        await api.post("/api/orchestrators", json={**CARD, "apiUrl": host.url})
        bad = {**CARD, "apiUrl": "http://169.254.169.254", "version": "9.9.9"}
        assert (await api.post("/api/orchestrators", json=bad)).status_code == 400
        known = (await api.get("/api/orchestrators/h1")).json()
        assert (known["apiUrl"], known["apiAddresses"], "version" in known) == (
            host.url,
            ["127.0.0.1"],
            False,
        )


async def test_behind_a_proxy_loopback_is_nobodys_place(api: httpx2.AsyncClient) -> None:
    async with host_api() as host:
        card = {**CARD, "apiUrl": host.url}
        answer = await api.post("/api/orchestrators", json=card, headers={"X-Forwarded-For": "127.0.0.1"})
        assert answer.status_code == 400
        assert host.connections == 0


async def test_a_redirect_leads_nowhere_and_takes_no_token_along(api: httpx2.AsyncClient) -> None:
    async with host_api() as host, host_api() as secret:
        await api.post("/api/orchestrators", json={**CARD, "apiUrl": host.url})
        for status in (301, 302, 303, 307, 308):
            host.behaviour = saying(status, "", more=f"location: {secret.url}/api/version\r\n")
            answer = await api.get("/api/orchestrators/h1/version")
            assert (answer.status_code, "location" in answer.headers) == (status, False)
        assert secret.connections == 0


async def test_members_of_the_card_cannot_say_where_it_is_called(api: httpx2.AsyncClient) -> None:
    async with host_api() as host, host_api() as secret:
        card = {**CARD, "apiUrl": host.url, "apiAddresses": ["169.254.169.254", "127.0.0.2"]}
        assert (await api.post("/api/orchestrators", json=card)).json()["apiAddresses"] == ["127.0.0.1"]
        beat = {"apiUrl": secret.url, "apiAddresses": ["127.0.0.2"]}
        await api.post("/api/orchestrators/h1/heartbeat", json=beat)
        assert (await api.get("/api/orchestrators/h1/version")).status_code == 200
        assert (host.connections, secret.connections) == (1, 0)


async def served(
    resolve: Resolve, use: Callable[[httpx2.AsyncClient], Any], tls: ssl.SSLContext | None = None
) -> None:
    async with (
        open_system() as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
    ):
        upstream = Upstream("key", HostNetworks((), resolve), tls)
        edge = Edge(fleet, table(), Authenticator({"root": ROOT}), upstream, answer_within=10.0)
        async with (
            serving(Guard(edge)) as port,
            httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", headers={"X-Agent-Relay-Token": "root"}, trust_env=False
            ) as api,
        ):
            await use(api)


async def test_a_name_that_changes_its_mind_is_still_called_where_it_was() -> None:
    """The second answer of such a name would be a service that only the server can reach."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async def use(api: httpx2.AsyncClient) -> None:
        async with host_api() as host, host_api("127.0.0.2") as secret:
            card = {**CARD, "apiUrl": f"http://h.example:{host.port}"}
            assert (await api.post("/api/orchestrators", json=card)).status_code == 201
            for _ in range(2):
                assert (await api.get("/api/orchestrators/h1/version")).status_code == 200
            assert [each.headers["host"] for each in host.asked] == [f"h.example:{host.port}"] * 2
            assert (asked, secret.connections) == (["h.example"], 0)

    await served(resolve, use)


async def test_a_host_without_an_address_is_taken_and_cannot_be_asked_until_it_registers_again() -> None:
    known: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        if not known:
            raise OSError("no such name")
        return known

    async def use(api: httpx2.AsyncClient) -> None:
        async with host_api() as host:
            card = {**CARD, "apiUrl": f"http://h.example:{host.port}"}
            assert (await api.post("/api/orchestrators", json=card)).status_code == 201
            answer = await api.get("/api/orchestrators/h1/version")
            assert (answer.status_code, "no address" in answer.json()["error"]) == (502, True)
            known.append("127.0.0.1")
            assert (await api.get("/api/orchestrators/h1/version")).status_code == 502
            await api.post("/api/orchestrators", json=card)
            assert (await api.get("/api/orchestrators/h1/version")).status_code == 200

    await served(resolve, use)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "0.0.0.0", "x"]
)
async def test_what_is_never_called_is_not_called_whatever_the_record_of_a_host_says(address: str) -> None:
    """It may have been written before the place was known for what it is."""
    told = {"id": "h1", "agentId": "orchestrator-h1", "hostname": "h", "baseDir": "/", "apiUrl": "http://h:1"}
    host = wire.decode(wire.Orchestrator, {**told, "apiAddresses": [address]})
    with pytest.raises(Unanswered, match="no address"):
        await Upstream("key", HostNetworks()).ask(host, "GET", "/api/version")


async def test_over_tls_the_host_must_be_who_its_name_says() -> None:
    """Whoever took over the address cannot show the certificate, and is told no token."""
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(PEM)

    async def use(api: httpx2.AsyncClient) -> None:
        async with host_api(tls=theirs) as host:
            for name, status in (("hooks.example", 200), ("other.example", 502)):
                card = {**CARD, "apiUrl": f"https://{name}:{host.port}"}
                assert (await api.post("/api/orchestrators", json=card)).status_code in (200, 201)
                answer = await api.get("/api/orchestrators/h1/version")
                assert answer.status_code == status, answer.text
            assert "certificate" in answer.json()["error"]
            assert len(host.asked) == 1

    await served(resolving("127.0.0.1"), use, trusting())
