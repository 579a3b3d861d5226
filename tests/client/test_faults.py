"""The client when the way to relay, or what answers there, is not in order."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import faulty as f
import pytest
import trio
from faulty import Faulty, answer, faulty

from relay import wire
from relay.client import (
    Client,
    Garbled,
    Overloaded,
    Refused,
    RelayError,
    ServerFailed,
    Unauthorized,
    Unreachable,
    _transport,
    open_client,
)

CURSOR = answer(200, {"latestId": 7})
MESSAGE = answer(201, {"id": 1, "from": "a", "to": "b", "body": "x"})
HTML = b"<html>Sign in to Airport WiFi</html>"
Call = Callable[[Client], Awaitable[Any]]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gives up within a moment."""
    monkeypatch.setattr(_transport, "TRY", 0.3)


async def ask(server: Faulty, call: Call = lambda client: client.cursor()) -> Any:
    async with open_client(server.url, "secret") as client:
        return await call(client)


def keyed(client: Client) -> Awaitable[wire.Message]:
    return client.send(wire.SendMessage(from_="a", to="b", body="x", idempotency_key="k1"))


def unkeyed(client: Client) -> Awaitable[wire.Message]:
    return client.send(wire.SendMessage(from_="a", to="b", body="x"))


async def test_every_request_carries_the_token() -> None:
    async with faulty(CURSOR) as server:
        assert await ask(server) == 7
        assert server.requests[0].headers["x-agent-relay-token"] == "secret"


@pytest.mark.parametrize(
    "fault",
    [
        f.cut(b""),
        f.cut(b"HTTP/1.1 2"),
        f.half({"latestId": 7}),
        f.cut(b"220 mail ESMTP\r\n"),
        answer(408, {"error": "late"}),
        answer(429, {"error": "slow down"}, retry_after="0"),
        answer(500, {"error": "internal error"}, retry_after="0"),
        answer(502, b"", retry_after="0"),
        answer(503, {"error": "busy"}, retry_after="0"),
        answer(504, {"error": "late"}, retry_after="0"),
    ],
)
async def test_what_may_be_repeated_is_repeated_after_trouble(fault: f.Behaviour) -> None:
    async with faulty(fault, fault, CURSOR) as server:
        assert await ask(server) == 7
        assert len(server.requests) == 3


async def test_a_message_with_a_key_is_repeated_as_it_was() -> None:
    async with faulty(f.cut(b""), answer(503, {"error": "busy"}, retry_after="0"), MESSAGE) as server:
        assert (await ask(server, keyed)).id == 1
        assert len(server.requests) == 3
        assert len({request.body for request in server.requests}) == 1
        assert server.requests[0].json["idempotencyKey"] == "k1"


async def test_a_claim_with_a_name_is_repeated() -> None:
    async with faulty(f.cut(b""), answer(200, {"claimed": True, "token": 2})) as server:
        assert await ask(server, lambda client: client.claim_command("c", "me")) == 2
        assert [request.json for request in server.requests] == [{"claimant": "me"}] * 2


UNREPEATED: list[Call] = [
    unkeyed,
    lambda client: client.delete_agent("a"),
    lambda client: client.create_command(wire.NewCommand(type="t", source="s", target="t")),
    lambda client: client.claim_command("c"),
    lambda client: client.cancel_command("c"),
    lambda client: client.channel_event("c", wire.ChannelEvent(body="x")),
    lambda client: client.unbind_channel("b"),
    lambda client: client.redeliver(1),
    lambda client: client.broadcast(wire.Broadcast(body="x")),
    lambda client: client.propose_pair(wire.ProposePair(from_="a", to="b")),
    lambda client: client.accept_pair("p", "b"),
    lambda client: client.reject_pair("p", "b"),
    lambda client: client.end_pair("p", "b"),
    lambda client: client.send_in_pair("p", wire.PairMessage(from_="a", body="x")),
    lambda client: client.create_automation(
        wire.NewAutomation(
            name="n", schedule=wire.ManualSchedule(), action=wire.MessageAction(to="a", body="x")
        )
    ),
    lambda client: client.delete_automation("a"),
    lambda client: client.run_automation("a"),
    lambda client: client.start_recipe(wire.StartRecipe(name="r")),
    lambda client: client.stop_recipe("r"),
    lambda client: client.decide_step("r", "s", wire.DecideStep(decision=wire.StepDecision.RETRY)),
    lambda client: client.set_config("n", "k", 1),
    lambda client: client.delete_config("n", "k"),
    lambda client: client.set_policy(
        "p", wire.SpawnPolicy(orchestrator_id="h", provider=wire.Provider.CLAUDE)
    ),
    lambda client: client.delete_policy("p"),
    lambda client: client.start_policy("p"),
    lambda client: client.stop_policy("p"),
    lambda client: client.restart_policy("p"),
    lambda client: client.connector_action("c", wire.ConnectorVerb.START),
    lambda client: client.create_token(wire.NewToken(role="r")),
    lambda client: client.revoke_token("t"),
    lambda client: client.rotate_key(),
    lambda client: client.renew_token(),
    lambda client: client.remint_token("h", "x"),
    lambda client: client.delete_orchestrator("h"),
    lambda client: client.delete_workspace("w"),
    lambda client: client.spawn("h", wire.SpawnAgent(provider=wire.Provider.CLAUDE)),
    lambda client: client.orchestrator_action("h", wire.OrchestratorAction(action="restart")),
    lambda client: client.upgrade_orchestrator("h", wire.UpgradeOrchestrator(action="upgrade")),
    lambda client: client.reclaim_orphan(wire.Reclaim(worktree_path="/w", repo_root="/r")),
    lambda client: client.decide_permission(
        "a", wire.DecidePermission(approval_id="q", decision=wire.PermissionAnswer.DENY)
    ),
    lambda client: client.spawn_anywhere(wire.SpawnAgent(provider=wire.Provider.CLAUDE)),
    lambda client: client.agent_action("a", wire.AgentVerb.RESTART),
    lambda client: client.prompt("a", "x"),
    lambda client: client.open_terminal("a"),
    lambda client: client.close_terminal("a", "s"),
    lambda client: client.delete_message(1),
    lambda client: client.report_event(wire.IntegrationEvent(title="x", target="a")),
    lambda client: client.make_directory("h", "x"),
    lambda client: client.set_profile("p", wire.AgentProfile()),
    lambda client: client.delete_profile("p"),
    lambda client: client.set_steward_config(wire.StewardConfig()),
    lambda client: client.act("w", wire.WorkspaceAction(action=wire.WorkspaceVerb.MERGE)),
]


@pytest.mark.parametrize("call", UNREPEATED)
async def test_what_would_happen_twice_is_not_repeated(call: Call) -> None:
    async with faulty(f.cut(b"")) as server:
        with pytest.raises(Unreachable):
            await ask(server, call)
        assert len(server.requests) == 1
    async with faulty(answer(503, {"error": "busy"})) as server:
        with pytest.raises(Overloaded):
            await ask(server, call)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (408, {"error": "x"}, Overloaded),
        (429, {"error": "x"}, Overloaded),
        (503, HTML, Overloaded),
        (504, HTML, Overloaded),
        (500, {"error": "x"}, ServerFailed),
        (500, b"", ServerFailed),
        (500, HTML, Garbled),
        (501, {"error": "x"}, ServerFailed),
        (501, HTML, Garbled),
        (502, HTML, ServerFailed),
        (505, {"error": "x"}, ServerFailed),
        (404, HTML, Garbled),
        (401, HTML, Unauthorized),
        (403, HTML, Unauthorized),
    ],
)
async def test_too_much_to_do_a_failure_inside_and_somebody_else_are_told_apart(
    status: int, content: object, kind: type[RelayError]
) -> None:
    async with faulty(answer(status, content)) as server:
        with pytest.raises(RelayError) as caught:
            await ask(server, unkeyed)
        assert type(caught.value) is kind
        assert len(server.requests) == 1


async def test_a_failure_inside_leaves_open_what_happened() -> None:
    async with faulty(answer(500, {"error": "internal error"})) as server:
        with pytest.raises(ServerFailed, match=r"internal error \(500\)") as caught:
            await ask(server, unkeyed)
        assert (caught.value.status, caught.value.error) == (500, "internal error")
        assert not isinstance(caught.value, Refused)


async def test_a_page_is_not_shown_as_the_words_of_relay() -> None:
    async with faulty(answer(404, HTML)) as server:
        with pytest.raises(Garbled, match=rf"{server.url} .*404"):
            await ask(server)
    async with faulty(answer(502, HTML, retry_after="0")) as server:
        with pytest.raises(ServerFailed, match=r"^Bad Gateway \(502\)$"):
            await ask(server)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "kind"), [(400, Refused), (404, Refused), (409, Refused), (401, Unauthorized)]
)
async def test_a_refusal_is_not_repeated(status: int, kind: type[Refused]) -> None:
    async with faulty(answer(status, {"error": "no"})) as server:
        with pytest.raises(kind) as caught:
            await ask(server)
        assert (caught.value.status, caught.value.error, str(caught.value)) == (
            status,
            "no",
            f"no ({status})",
        )
        assert len(server.requests) == 1


async def test_trouble_that_stays_is_told_after_three_tries() -> None:
    async with faulty(answer(503, {"error": "busy"}, retry_after="0")) as server:
        with pytest.raises(Overloaded, match=r"busy \(503\)"):
            await ask(server)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("given", "taken"),
    [("7", 7.0), ("0", 0.0), (None, 0.5), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.5), ("-3", 0.5), ("x", 0.5)],
)
async def test_an_overloaded_relay_says_how_long_to_stay_away(given: str | None, taken: float) -> None:
    headers = {} if given is None else {"retry_after": given}
    async with faulty(answer(503, {"error": "busy"}, **headers)) as server:
        with pytest.raises(Overloaded) as caught:
            await ask(server, unkeyed)
        assert caught.value.retry_after == taken


async def test_a_client_stays_away_for_as_long_as_it_is_told(autojump_clock: trio.testing.MockClock) -> None:
    """Up to five seconds."""
    autojump_clock.autojump_threshold = 0.2
    for given, least, most in (("2", 4, 6), ("3600", 10, 12)):
        async with faulty(answer(503, {"error": "busy"}, retry_after=given)) as server:
            began = trio.current_time()
            with pytest.raises(Overloaded):
                await ask(server)
            assert least <= trio.current_time() - began <= most


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"error": "words"}, "words (409)"),
        ({"error": {"code": 7}}, '{"error": {"code": 7}} (409)'),
        ({"message": "x"}, '{"message": "x"} (409)'),
        (["x"], '["x"] (409)'),
        (b"", "Conflict (409)"),
        ("x" * 100_000, '"' + "x" * 199 + " (409)"),
    ],
)
async def test_a_refusal_is_told_in_the_words_of_whoever_refused(content: object, said: str) -> None:
    async with faulty(answer(409, content)) as server:
        with pytest.raises(Refused) as caught:
            await ask(server)
        assert str(caught.value) == said
        assert isinstance(caught.value.error, str)


async def test_a_status_that_nobody_knows_is_told_as_well() -> None:
    async with faulty(answer(599, b"", retry_after="0")) as server:
        with pytest.raises(ServerFailed, match="599"):
            await ask(server, unkeyed)
    async with faulty(answer(499, b"")) as server:
        with pytest.raises(Refused, match="499"):
            await ask(server)


async def test_a_redirection_is_not_followed() -> None:
    async with faulty(answer(302, b"", location="http://127.0.0.1:9/")) as server:
        with pytest.raises(Refused, match=r"Found \(302\)"):
            await ask(server)
        assert len(server.requests) == 1


LISTS: list[Call] = [
    lambda client: client.agents(),
    lambda client: client.messages(),
    lambda client: client.thread(1),
    lambda client: client.commands(),
    lambda client: client.orchestrators(),
    lambda client: client.workspaces(),
    lambda client: client.merge_leases(),
    lambda client: client.activity(),
]
OBJECTS: list[Call] = [
    lambda client: client.health(),
    lambda client: client.cursor(),
    lambda client: client.agent("a"),
    lambda client: client.register_agent(wire.RegisterAgent(id="a")),
    lambda client: client.set_tags("a", []),
    keyed,
    lambda client: client.claim_command("c"),
    lambda client: client.patch_command("c", wire.PatchCommand()),
    lambda client: client.spawn("h", wire.SpawnAgent(provider=wire.Provider.CLAUDE)),
    lambda client: client.orchestrator_action("h", wire.OrchestratorAction(action="restart")),
    lambda client: client.act("w", wire.WorkspaceAction(action=wire.WorkspaceVerb.MERGE)),
    lambda client: client.git_state("w"),
    lambda client: client.merge_preview("w"),
    lambda client: client.diff("w"),
]


@pytest.mark.parametrize("content", [b"plain words", b"\xff\xfe", b"x" * 100_000, HTML])
async def test_a_refusal_that_is_not_json_is_not_relays(content: bytes) -> None:
    async with faulty(answer(409, content)) as server:
        with pytest.raises(Garbled) as caught:
            await ask(server)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("call", LISTS + OBJECTS)
async def test_what_is_no_answer_of_relay_is_garbled(call: Call) -> None:
    strange = [HTML, b"", b"\xff", b"{", b"null", b"7", b'"x"', b'"{}"', b"[" * 5_000]
    async with faulty(*[answer(200, content) for content in strange]) as server:
        for number in range(1, len(strange) + 1):
            with pytest.raises(Garbled, match=server.url) as caught:
                await ask(server, call)
            assert isinstance(caught.value, RelayError)
            assert len(server.requests) == number


@pytest.mark.parametrize("call", LISTS)
async def test_a_list_of_something_else_is_garbled(call: Call) -> None:
    strange: list[object] = [{}, [1], [None], [{"id": []}]]
    async with faulty(*[answer(200, content) for content in strange]) as server:
        for _ in strange:
            with pytest.raises(Garbled):
                await ask(server, call)


@pytest.mark.parametrize("content", [{}, {"command": None}, {"command": {"id": 1}}, []])
async def test_an_answer_without_its_command_is_garbled(content: object) -> None:
    async with faulty(answer(202, content)) as server:
        with pytest.raises(Garbled):
            await ask(server, lambda c: c.spawn("h", wire.SpawnAgent(provider=wire.Provider.CLAUDE)))


async def test_a_garbled_answer_says_what_is_wrong_with_it() -> None:
    async with faulty(answer(200, {"latestId": "7"})) as server:
        with pytest.raises(Garbled, match="latestId: expected an integer"):
            await ask(server)


async def test_content_that_does_not_unpack_is_garbled() -> None:
    packed = gzip.compress(b'{"latestId":7}')
    async with faulty(answer(200, packed, content_encoding="gzip")) as server:
        assert await ask(server) == 7
    async with faulty(answer(200, b"not packed", content_encoding="gzip")) as server:
        with pytest.raises(Garbled):
            await ask(server)


@pytest.mark.parametrize(
    "fault",
    [
        f.stall(),
        f.stall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"),
        f.endless(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b" ", pause=0.02),
        f.endless(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", pause=0.02),
    ],
    ids=["nothing", "half", "dripping body", "dripping head"],
)
async def test_a_try_has_an_end_although_the_answer_has_none(fault: f.Behaviour, quick: None) -> None:
    async with faulty(fault) as server:
        async with open_client(server.url, "secret") as client:
            with pytest.raises(Unreachable, match=r"did not answer within 0\.3 s"):
                await unkeyed(client)
            await server.closed()


async def test_after_a_stalled_try_comes_another(quick: None) -> None:
    async with faulty(f.stall(), CURSOR) as server:
        assert await ask(server) == 7


async def test_the_callers_limit_is_kept_and_stays_the_callers() -> None:
    async with faulty(f.stall()) as server:
        async with open_client(server.url, "secret") as client:
            with pytest.raises(trio.TooSlowError):
                with trio.fail_after(0.1):
                    await client.cursor()
            await server.closed()
        assert len(server.requests) == 1


async def test_cancellation_ends_the_pause_between_tries() -> None:
    async with faulty(answer(503, {"error": "busy"}, retry_after="5")) as server:
        with trio.move_on_after(0.2) as scope:
            await ask(server)
        assert scope.cancelled_caught
        await server.closed()


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "LARGEST", 1_000_000)
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    async with faulty(f.endless(head, b"x" * 65536)) as server:
        async with open_client(server.url, "secret") as client:
            with pytest.raises(Garbled, match="more than 1000000 bytes"):
                await client.cursor()
            await server.closed()


async def test_an_answer_that_unpacks_to_too_much_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "LARGEST", 1_000_000)
    async with faulty(answer(200, gzip.compress(b" " * 10_000_000), content_encoding="gzip")) as server:
        with pytest.raises(Garbled, match="more than 1000000 bytes"):
            await ask(server)


async def test_a_connection_that_relay_has_closed_meanwhile_does_no_harm() -> None:
    closing = f.cut(b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n" + b'{"latestId":7}')
    async with faulty(closing) as server:
        async with open_client(server.url, "secret") as client:
            for _ in range(5):
                assert await client.cursor() == 7
                await server.closed()
        assert len(server.requests) == 5


async def test_connections_are_used_again_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly(stream: trio.SocketStream, request: f.Request) -> None:
        await trio.sleep(0.002)
        await CURSOR(stream, request)

    monkeypatch.setattr(_transport, "CONNECTIONS", 8)
    async with faulty(slowly) as server:
        async with open_client(server.url, "secret") as client:
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(client.cursor)
            assert len(server.requests) == 100
            assert 1 < server.most <= 8
        await server.closed()


async def test_who_waits_in_vain_for_a_connection_is_told(
    monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.setattr(_transport, "CONNECTIONS", 1)
    async with faulty(f.stall()) as server:
        async with open_client(server.url, "secret") as client, trio.open_nursery() as nursery:
            nursery.start_soon(_drain, client)
            await f.until(lambda: server.open == 1)
            with pytest.raises(Unreachable):
                await unkeyed(client)
            nursery.cancel_scope.cancel()


async def _drain(client: Client) -> None:
    async for _ in client.events():
        pass


async def test_leaving_the_block_closes_every_connection() -> None:
    async with faulty(CURSOR) as server:
        async with open_client(server.url, "secret") as client, trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(client.cursor)
        await server.closed()


async def test_cancelling_the_block_closes_every_connection() -> None:
    async with faulty(CURSOR, f.stall()) as server:
        with trio.CancelScope() as scope:
            async with open_client(server.url, "secret") as client, trio.open_nursery() as nursery:
                await client.cursor()
                for _ in range(5):
                    nursery.start_soon(unkeyed, client)
                await f.until(lambda: server.open == 5)
                scope.cancel()
        assert scope.cancelled_caught
        await server.closed()


@pytest.mark.parametrize(
    "url", ["nowhere", "ftp://127.0.0.1", "http://[::1", "http://h:99999", "http://127.0.0.1:9"]
)
async def test_an_address_where_nobody_is_is_told(url: str) -> None:
    with pytest.raises(Unreachable) as caught:
        async with open_client(url, "secret") as client:
            await client.cursor()
    assert url in str(caught.value)


@pytest.mark.parametrize("token", ["gehe\u00efm", "a\nb: c", "a\x00"])
async def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(token: str) -> None:
    async with faulty(CURSOR) as server:
        with pytest.raises(Unauthorized) as caught:
            async with open_client(server.url, token) as client:
                await client.cursor()
        assert token not in str(caught.value)
        assert server.requests == []


async def test_what_json_cannot_hold_is_refused_before_it_is_sent() -> None:
    async with faulty(MESSAGE) as server:
        for text in ("\ud800", "x\udcff"):
            with pytest.raises(Refused, match=r"\(400\)"):
                await ask(server, lambda c, text=text: c.send(wire.SendMessage(from_="a", body=text)))
        assert server.requests == []


async def test_a_relay_on_this_machine_is_called_directly_whatever_proxy_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with faulty(CURSOR) as server, faulty(answer(200, {"latestId": 666})) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for host in ("127.0.0.1", "localhost"):
            async with open_client(server.url.replace("127.0.0.1", host), "secret") as client:
                assert await client.cursor() == 7
        assert proxy.requests == []


async def test_a_relay_elsewhere_is_called_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with faulty(CURSOR) as proxy:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with open_client("http://relay.example", "secret") as client:
            assert await client.cursor() == 7
