"""Calls to places that somebody configured: what they carry, and where they are never made to."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
import trio
from receiving import (
    Behaviour,
    answering,
    babbling,
    closing,
    endless,
    long_headed,
    receiving,
    redirecting,
    silent,
    trickling,
    trusting,
)

from relay.fleet.callbacks import Callout, Undelivered
from relay.http.outgoing import PinnedOutgoing, Resolve, is_allowed, is_public

SECRET = "secret-of-sixteen-characters"


def callout(url: str, *allow: str) -> Callout:
    body = '{"event":"task.created","task":{"title":"größer"}}'.encode()
    return Callout(url, SECRET, "cb_1", "task.created", body, allow)


def resolving(*addresses: str) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


@pytest.mark.spec("INT-22", "O-36")
async def test_a_call_carries_its_body_its_names_and_a_signature() -> None:
    async with receiving() as place:
        await PinnedOutgoing().deliver(callout(place.url + "?a=b%20c", "127.0.0.1"))
        [called] = place.calls
    assert called.path == "/hook?a=b%20c"
    assert called.body == callout("").body
    assert called.headers["host"] == f"127.0.0.1:{place.port}"
    assert called.headers["content-type"] == "application/json"
    assert called.headers["x-agent-relay-event"] == "task.created"
    assert called.headers["x-agent-relay-delivery"] == "cb_1"
    assert called.is_signed_with(SECRET)
    assert not called.is_signed_with(SECRET + "x")


async def test_a_name_is_resolved_once_and_called_at_the_address_that_was_judged() -> None:
    """The second answer of such a name would be another one."""
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async with receiving() as place:
        url = f"http://hooks.example:{place.port}/x"
        await PinnedOutgoing(resolve).deliver(callout(url, "hooks.example"))
        assert asked == [("hooks.example", place.port)]
        assert place.calls[0].headers["host"] == f"hooks.example:{place.port}"


async def test_over_tls_the_certificate_must_be_that_of_the_name() -> None:
    async with receiving(tls=True) as place:
        out = PinnedOutgoing(resolving("127.0.0.1"), trusting())
        await out.deliver(callout(f"https://hooks.example:{place.port}/x", "127.0.0.1"))
        assert [called.headers["host"] for called in place.calls] == [f"hooks.example:{place.port}"]
        for other in ("other.example", "127.0.0.1"):
            with pytest.raises(Undelivered, match=r"cannot be reached: .*certificate"):
                await out.deliver(callout(f"https://{other}:{place.port}/x", "127.0.0.1"))
        with pytest.raises(Undelivered, match=r"cannot be reached: .*certificate"):
            unknown = PinnedOutgoing(resolving("127.0.0.1"))  # trusts whom this machine trusts
            await unknown.deliver(callout(f"https://hooks.example:{place.port}/x", "127.0.0.1"))
        assert len(place.calls) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("127.9.9.9",),
        ("0.0.0.0",),
        ("10.1.2.3",),
        ("172.31.0.1",),
        ("192.168.1.1",),
        ("100.64.0.1",),
        ("169.254.169.254",),
        ("168.63.129.16",),
        ("192.0.0.192",),
        ("198.18.0.1",),
        ("224.0.0.1",),
        ("240.0.0.1",),
        ("255.255.255.255",),
        ("::",),
        ("::1",),
        ("::127.0.0.1",),
        ("::ffff:127.0.0.1",),
        ("::ffff:169.254.169.254",),
        ("fd00:ec2::254",),
        ("fe80::1",),
        ("fe80::1%lo",),
        ("fec0::1",),
        ("ff02::1",),
        ("2002:7f00:1::1",),
        ("2002:a9fe:a9fe::1",),
        ("64:ff9b::7f00:1",),
        ("64:ff9b:1::1",),
        ("2001:0:7f00:1::",),
        ("2001:db8::1",),
        ("no address",),
        (),
        ("10.0.0.1", "::1", "fd00::1"),
    ],
)
async def test_what_is_not_of_the_public_internet_is_not_called(addresses: tuple[str, ...]) -> None:
    async with receiving() as place:
        with pytest.raises(Undelivered, match="is not of the public internet"):
            await PinnedOutgoing(resolving(*addresses)).deliver(
                callout(f"http://hooks.example:{place.port}/x")
            )
        assert place.connections == 0


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "127.1", "0x7f.0.0.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0"],
)
async def test_no_spelling_of_this_machine_is_called(host: str) -> None:
    async with receiving() as place:
        with pytest.raises(Undelivered, match=r"is not of the public internet|has no address"):
            await PinnedOutgoing().deliver(callout(f"http://{host}:{place.port}/x"))
        assert place.connections == 0


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_the_public_internet_is_called(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        ("hooks.example", True),
        ("HOOKS.example", True),
        ("10.0.0.7", True),
        ("10.0.0.0/24", True),
        ("::/0", False),
        ("10.0.0.8", False),
        ("10.0.1.0/24", False),
        ("example", False),
        ("evil.hooks.example", False),
        ("hooks.example.evil.example", False),
    ],
)
def test_the_allow_list_names_hosts_addresses_and_networks(entry: str, allowed: bool) -> None:
    assert is_allowed("hooks.example", "10.0.0.7", [entry]) is allowed
    assert is_allowed("hooks.example", "::ffff:10.0.0.7", [entry]) is (allowed or entry == "::/0")


async def test_of_several_addresses_only_those_that_may_be_called_are() -> None:
    async with receiving() as place:
        out = PinnedOutgoing(resolving("10.0.0.1", "127.0.0.2", "127.0.0.1"))  # nobody listens at the second
        await out.deliver(callout(f"http://hooks.example:{place.port}/x", "127.0.0.0/8"))
        assert len(place.calls) == 1


async def test_a_redirect_is_a_failure_and_nobody_follows_it() -> None:
    async with receiving() as secret_place:
        async with receiving(redirecting(secret_place.url)) as place:
            with pytest.raises(Undelivered, match="answered 307; redirects are not followed"):
                await PinnedOutgoing().deliver(callout(place.url, "127.0.0.1"))
            assert len(place.calls) == 1
        assert secret_place.connections == 0


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (answering(500), "answered 500"),
        (answering(404), "answered 404"),
        (closing, "cannot be reached"),
        (babbling, "cannot be reached"),
        (long_headed, "cannot be reached"),
    ],
)
async def test_what_is_no_success_says_why(behaviour: Behaviour, why: str) -> None:
    async with receiving(behaviour) as place:
        with trio.fail_after(10), pytest.raises(Undelivered, match=why):
            await PinnedOutgoing().deliver(callout(place.url, "127.0.0.1"))


async def test_nobody_there_says_so() -> None:
    async with receiving() as place:
        url = place.url
    with pytest.raises(Undelivered, match=r"127.0.0.1 cannot be reached"):
        await PinnedOutgoing().deliver(callout(url, "127.0.0.1"))


async def test_a_name_without_an_address_says_so() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(Undelivered, match=r"hooks.example has no address: .*Name or service not known"):
        await PinnedOutgoing(resolve).deliver(callout("http://hooks.example/x"))


@pytest.mark.parametrize("behaviour", [endless, trickling])
async def test_an_answer_that_does_not_end_is_a_success_that_is_not_read(behaviour: Behaviour) -> None:
    async with receiving(behaviour) as place:
        with trio.fail_after(10):
            await PinnedOutgoing().deliver(callout(place.url, "127.0.0.1"))


async def test_who_never_answers_takes_as_long_as_the_caller_allows() -> None:
    async with receiving(silent) as place:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(PinnedOutgoing().deliver, callout(place.url, "127.0.0.1"))
            with trio.fail_after(10):
                while not place.calls:
                    await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        with trio.fail_after(10):
            while place.open:
                await trio.sleep(0.005)


@pytest.mark.parametrize("url", ["ftp://hooks.example/", "http://user:word@hooks.example/", "http:///x"])
async def test_only_plain_addresses_of_the_web_are_called(url: str) -> None:
    with pytest.raises(Undelivered, match="only http:// and https://"):
        await PinnedOutgoing(resolving("8.8.8.8")).deliver(callout(url))


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as place:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await PinnedOutgoing().deliver(callout(place.url, "127.0.0.1"))
        assert (len(place.calls), proxy.connections) == (1, 0)
