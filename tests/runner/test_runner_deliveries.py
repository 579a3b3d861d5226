"""Runners on relay's ladder of deliveries: tokens, lives that end between hand-over and acknowledgement, bursts."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest
import trio
from runnerkit import TOKEN, Host, Relay, ServerProcess, until

from relay.runner import Patience

BODIES = 'bodies = [m["body"] for m in frame["messages"]]'  # a line of the agent
Killable = tuple[ServerProcess, Host, Relay]


async def progress(relay: Relay, number: int) -> dict[str, Any]:
    (found,) = await relay.get(f"/api/messages/{number}/deliveries")
    return dict(found)


async def is_at(relay: Relay, number: int, rung: str) -> bool:
    return (await progress(relay, number))["rung"] == rung


async def test_what_a_runner_takes_is_handed_over_and_then_confirmed(host: Host, relay: Relay) -> None:
    host.flag("swallow").touch()
    async with host.running(patience=Patience(ack=60.0)):
        number = await relay.send("swallow")
        await until(lambda: host.offered(number) == 1)
        assert (await progress(relay, number))["rung"] == "handed"
    host.flag("swallow").unlink()
    async with host.running():

        async def acknowledged() -> bool:  # the read mark, which is a confirmation too, is stored before
            return (await progress(relay, number)).get("evidence") == "acknowledged by the agent"

        await until(acknowledged)
        found = await progress(relay, number)
    assert (found["rung"], found["attempt"]) == ("confirmed", 1)
    assert await relay.is_read(number)
    assert host.offered(number) == 2


async def test_a_message_that_is_given_up_is_a_dead_letter_until_the_agent_is_restarted(
    host: Host, relay: Relay
) -> None:
    async with host.running():
        number = await relay.send("refuse")
        await until(lambda: is_at(relay, number, "dead"))
        (letter,) = await relay.get("/api/dead-letters")
        assert (letter["messageId"], letter["error"]) == (number, "refused: I will not")
        assert host.offered(number) == 8
        assert (await relay.done("agent.restart"))["status"] == "succeeded"
        await until(lambda: host.offered(number) > 8)


async def test_a_redelivered_message_reaches_the_agent(host: Host, relay: Relay) -> None:
    async with host.running():
        number = await relay.send("refuse")
        await until(lambda: is_at(relay, number, "dead"))
        answer = await relay.http.post(f"/api/messages/{number}/redeliver")
        assert answer.json() == {"redelivered": ["a1"]}
        await until(lambda: host.offered(number) > 8)


@pytest.mark.spec("R-I1", "R-I11")
async def test_a_runner_that_is_killed_between_hand_over_and_acknowledgement_loses_nothing(
    host: Host, relay: Relay
) -> None:
    host.flag("swallow").touch()
    first = host.start()
    await until(relay.is_ready)
    number = await relay.send("swallow")
    await until(lambda: host.offered(number) == 1)
    before = await progress(relay, number)
    first.kill()
    first.wait()
    host.flag("swallow").unlink()
    host.start()
    await until(lambda: is_at(relay, number, "confirmed"))
    after = await progress(relay, number)
    assert host.taken() == [number]
    assert (before["attempt"], after["attempt"]) == (1, 1)


async def test_a_runner_that_slept_through_its_replacement_cannot_settle_what_it_had(
    host: Host, relay: Relay
) -> None:
    """Its agent acknowledges while it is paused; when it goes on, its token is stale, and nothing changes by it."""
    gate, script = host.folder / "gate", host.folder / "agent.py"
    wait = f"import time\n        while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    script.write_text(script.read_text().replace(BODIES, f"{BODIES}\n        {wait}"))
    paused = host.start()
    await until(relay.is_ready)
    number = await relay.send("slowly")
    await until(lambda: host.offered(number) == 1)
    paused.send_signal(signal.SIGSTOP)
    gate.touch()
    await until(lambda: host.taken() == [number])
    await relay.http.post("/api/agents", json={"id": "a1", "instanceId": "second", "status": "idle"})
    body = {"instanceId": "second", "holding": []}
    (again,) = (await relay.http.post("/api/agents/a1/deliveries", json=body)).json()["deliveries"]
    assert (again["messageId"], again["token"]) == (number, 2)
    paused.send_signal(signal.SIGCONT)
    await until(lambda: "handed over anew" in host.log.read_text())
    assert await is_at(relay, number, "handed")
    assert await relay.readers(number) == []
    good = {"messageId": number, "token": 2, "outcome": "confirmed", "evidence": "mine"}
    answer = await relay.http.post("/api/agents/a1/deliveries/ack", json={"acks": [good]})
    assert answer.json()["results"][0]["rung"] == "confirmed"
    assert (await progress(relay, number))["evidence"] == "mine"


# -- a thousand at once

SENDERS = 5
EACH = 200

THRIFTY = ('note(event="taken", ids=[m["id"] for m in frame["messages"]])', "take(frame)")
TAKE = """
done = set(number for line in open(sys.argv[1]) for entry in [json.loads(line)] if entry["event"] == "taken"
           for number in entry["ids"])
def take(frame):
    ids = [m["id"] for m in frame["messages"] if m["id"] not in done]
    done.update(ids)
    if ids: note(event="taken", ids=ids)
"""


def keep_book(host: Host) -> None:
    """An agent that does nothing twice: it has the ids on disk before it acknowledges them."""
    script = host.folder / "agent.py"
    program = script.read_text().replace(*THRIFTY)
    script.write_text(program.replace("\nwaiting = []\n", f"\n{TAKE}\nwaiting = []\n"))


class Line:
    """A connection that is kept: an HTTP client for a thousand requests that costs next to nothing."""

    def __init__(self, relay: Relay) -> None:
        self.port = relay.http.base_url.port
        self.stream: trio.SocketStream | None = None

    async def post(self, path: str, body: dict[str, str]) -> Any:
        """The answer. Raises `OSError` when the connection, or the server, is gone."""
        if self.stream is None:
            self.stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nX-Agent-Relay-Token: {TOKEN}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        answer = bytearray()
        try:
            await self.stream.send_all(head.encode() + content)
            while (length := _missing(answer)) > 0:
                part = await self.stream.receive_some(max(length, 4096))
                if not part:
                    raise ConnectionError("the server is gone")
                answer += part
        except (OSError, trio.BrokenResourceError) as error:
            await self.close()
            raise ConnectionError("the connection is gone") from error
        assert answer[9:11] == b"20", answer
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    async def close(self) -> None:
        if self.stream is not None:
            await self.stream.aclose()
            self.stream = None


def _missing(answer: bytearray) -> int:
    """How many bytes of the answer have not come; 1 while that is unknown."""
    head, end, body = answer.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return int(found[1]) - len(body) if end and found else 1


class Burst:
    """Several senders at once; whoever is not answered sends again with the same key."""

    def __init__(self, relay: Relay, host: Host) -> None:
        self.relay = relay
        self.host = host
        self._taken: list[int] = []
        self._read = 0
        self.sent: dict[str, list[int]] = {f"s{number}": [] for number in range(SENDERS)}

    async def send(self) -> None:
        async with trio.open_nursery() as nursery:
            for sender in self.sent:
                nursery.start_soon(self._send_all, sender)

    async def _send_all(self, sender: str) -> None:
        mine, line = self.sent[sender], Line(self.relay)
        while len(mine) < EACH:
            body = {"from": sender, "to": "a1", "body": f"{len(mine)}", "idempotencyKey": f"{len(mine)}"}
            try:
                mine.append((await line.post("/api/messages", body))["id"])
            except OSError:
                await trio.sleep(0.05)
        await line.close()

    @property
    def count(self) -> int:
        return sum(map(len, self.sent.values()))

    def taken(self) -> list[int]:
        """What the agent has noted; read on from where the last look ended."""
        if self.host.journal.exists():
            with self.host.journal.open("rb") as journal:
                journal.seek(self._read)
                for line in journal:
                    if not line.endswith(b"\n"):
                        break
                    self._read += len(line)
                    if line.startswith(b'{"event": "taken"'):
                        self._taken += json.loads(line)["ids"]
        return self._taken

    async def check(self) -> None:
        """None is lost, none is worked on twice, and each sender's come in its order."""
        every = sorted(number for numbers in self.sent.values() for number in numbers)
        await until(lambda: len(self.taken()) >= len(every))
        taken = self.host.taken()
        assert sorted(taken) == every
        for numbers in self.sent.values():
            mine = set(numbers)
            assert [number for number in taken if number in mine] == numbers

        async def all_confirmed() -> bool:
            found = await self.relay.get("/api/agents/a1/deliveries?limit=500")
            rest = await self.relay.get(f"/api/agents/a1/deliveries?limit=500&since={found[-1]['messageId']}")
            return len(found) + len(rest) == len(every) and {e["rung"] for e in found + rest} == {"confirmed"}

        await until(all_confirmed)
        assert await self.relay.get("/api/dead-letters") == []


@pytest.mark.spec("R-I2", "R-I11", "M-I2")
async def test_a_thousand_messages_in_a_burst_arrive_once_and_in_order(killable: Killable) -> None:
    _, host, relay = killable
    host.start()
    await until(relay.is_ready)
    burst = Burst(relay, host)
    await burst.send()
    await burst.check()


@pytest.mark.spec("R-I2", "R-I11", "M-I1")
async def test_a_burst_survives_a_server_that_is_killed_in_the_middle(killable: Killable) -> None:
    server, host, relay = killable
    runner = host.start()
    await until(relay.is_ready)
    burst = Burst(relay, host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(burst.send)
        await until(lambda: burst.count > SENDERS * EACH // 3 and len(burst.taken()) > 100)
        server.kill()
        await server.start()
    await burst.check()
    assert runner.poll() is None


@pytest.mark.spec("R-I2", "R-I11", "R-38")
async def test_a_burst_survives_runners_that_are_killed_in_the_middle(killable: Killable) -> None:
    _, host, relay = killable
    keep_book(host)
    burst = Burst(relay, host)
    runner = host.start()
    await until(relay.is_ready)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(burst.send)
        for share in (100, 400):
            await until(lambda share=share: len(burst.taken()) > share)
            runner.kill()
            runner.wait()
            runner = host.start()
    await burst.check()
