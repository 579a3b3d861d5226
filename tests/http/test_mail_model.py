"""Random histories over HTTP, on real sockets and a real database, against a plain model of what a mailbox is.

Agents register, fall silent and go; policies are given agents; messages are sent, repeated, queued, claimed, renewed,
read and deleted; time passes and the server starts again. After every step somebody's mailbox is what the model says,
and in the end every message is.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest
import trio
from hypothesis import HealthCheck, Phase, example, given, settings, strategies as st
from played import Played, Step
from trio.testing import MockClock

CLAIM_TERM = 900.0
SURELY_THERE, SURELY_OFFLINE = 175.0, 225.0  # seconds of silence; in between the server may see it either way

AGENTS = ("a1", "a2", "a3")
POLICIES = ("p1", "p2")
LIFETIME = 86_400.0
CLOSE = 5.0  # seconds around an instant in which the server may be on either side of it
ADDRESSES = (
    *AGENTS,
    *2 * ("policy:p1", "policy:p2"),
    "tag:t",
    "tag:u",
    "cap:c",
    "label:l",
    "broadcast",
    "nobody",
    "user",
)

agents = st.sampled_from(AGENTS)
picks = st.integers(0, 5)
sends = st.tuples(
    st.just("send"),
    st.sampled_from(["user", *AGENTS]),
    st.sampled_from(ADDRESSES),
    st.sampled_from([None, None, "k1", "k2"]),
    st.booleans(),
    st.sampled_from(["chat", "task", "control"]),
    st.sampled_from([None, 100, 1_000]),
)
OFTEN = {
    6: [sends],
    3: [st.tuples(st.just(verb), agents, picks) for verb in ("claim", "read")],
    2: [
        st.tuples(st.just("serve"), agents, st.sampled_from(POLICIES), st.booleans()),
        st.tuples(st.just("register"), agents, st.sets(st.sampled_from(["t", "u"])), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([7.3, 61.7, 251.9, 911.3])),
    ],
    1: [
        st.tuples(st.just("reply"), agents, picks),
        st.tuples(st.just("renew"), agents, picks),
        st.tuples(st.just("begin"), st.sampled_from(POLICIES)),
        st.tuples(st.just("leave"), agents),
        st.tuples(st.just("come back"), agents),
        st.tuples(st.just("remove"), agents),
        st.tuples(st.just("fall silent"), agents),
        st.tuples(st.just("delete"), picks),
        st.tuples(st.just("restart")),
    ],
}
steps = st.sampled_from(
    [step for times, kinds in OFTEN.items() for step in kinds for _ in range(times)]
).flatmap(lambda step: step)


PRELUDE = (
    ("register", "a1", {"t"}, True),
    ("register", "a2", {"t", "u"}, False),
    ("begin", "p1"),
    ("begin", "p2"),
)


@attrs.define
class Sent:
    """A message as the model knows it."""

    id: int
    sender: str
    to: str
    claimable: bool
    thread: int
    status: str = "available"
    resolved: str | None = None
    due: float = 0.0
    read_by: set[str] = attrs.field(factory=set)
    holder: str | None = None
    until: float = 0.0


@attrs.define
class Card:
    tags: set[str]
    capable: bool
    heard: float
    offline: bool = False
    beats: bool = True
    serves: tuple[str, str] | None = None

    def addresses(self, name: str) -> set[str]:
        known = {name, "broadcast", *(f"tag:{tag}" for tag in self.tags)}
        return known | {"cap:c", "label:l"} if self.capable else known


class Model:
    def __init__(self) -> None:
        self.cards: dict[str, Card] = {}
        self.sent: dict[int, Sent] = {}
        self.keys: dict[tuple[str, str], int] = {}
        self.latest = 0
        self.requests: dict[str, str] = {}
        self.linked: dict[str, str] = {}
        """Who each policy was given, until that one goes: then its agent has failed, and whoever has the same name later
        is somebody else."""

    def link(self, name: str) -> None:
        """What a registration does: the agent is linked if it came for the request of its policy, and gets its mail."""
        serves = self.cards[name].serves
        if serves is not None and self.requests.get(serves[0]) == serves[1]:
            self.linked[serves[0]] = name
            self.release(serves[0])

    def gone(self, name: str) -> None:
        self.linked = {policy: given for policy, given in self.linked.items() if given != name}

    def back(self, name: str) -> None:
        """A sign of life of one who was offline: it is its policy's agent again, unless that has another."""
        serves = self.cards[name].serves
        if serves is not None and serves[0] not in self.linked:
            self.link(name)

    def release(self, policy: str) -> None:
        for each in self.queued():
            if each.to == f"policy:{policy}":
                each.status, each.resolved = "available", self.linked[policy]

    def queued(self) -> list[Sent]:
        return [each for each in self.sent.values() if each.status == "queued"]

    def reaches(self, sent: Sent, name: str) -> bool:
        card = self.cards.get(name)
        return card is not None and (sent.to in card.addresses(name) or sent.resolved == name)

    def mailbox(self, name: str, *, unread: bool) -> list[int]:
        mine = [m for m in self.sent.values() if self.reaches(m, name) and m.sender != name]
        return sorted(m.id for m in mine if not (unread and name in m.read_by))

    def refuses(self, to: str, kind: str) -> bool:
        """The offline rule: a direct target that is known to be offline."""
        return to in self.cards and self.cards[to].offline and kind != "control"

    def pick(self, number: int) -> Sent | None:
        alive = list(self.sent.values())
        return alive[-1 - number % len(alive)] if alive else None


class Play(Played):
    """A history of mail."""

    prelude = PRELUDE

    def __init__(self, database: Path) -> None:
        super().__init__(database)
        self.model = Model()

    def started(self) -> None:
        for card in self.model.cards.values():
            card.heard = trio.current_time()

    async def compare(self) -> None:
        await self.see_what_is_over()
        await self.compare_mailbox(AGENTS[self.steps % 3])

    async def register(self, name: str, tags: set[str], capable: bool) -> None:
        document = {
            "id": name,
            "tags": sorted(tags),
            "capabilities": ["c"] if capable else [],
            "label": "l" if capable else name,
        }
        answer = await self.api.post("/api/agents", json=document)
        assert answer.status_code == (200 if name in self.model.cards else 201)
        before = self.model.cards.get(name)
        self.model.cards[name] = Card(tags, capable, trio.current_time(), serves=before and before.serves)
        self.model.link(name)

    async def begin(self, policy: str) -> None:
        """The server starts an agent for the policy: whoever it was linked to before serves it no more."""
        await self.api.post("/api/orchestrators", json={"id": "h1", "hostname": "h", "baseDir": "/base"})
        value = {"orchestratorId": "h1", "provider": "claude", "restart": {"mode": "never"}}
        await self.api.put(f"/api/spawn-policy/{policy}", json=value)
        await self.api.post(f"/api/spawn-policy/{policy}/stop")
        answer = await self.api.post(f"/api/spawn-policy/{policy}/start")
        assert answer.status_code == 202, answer.text
        self.model.requests[policy] = answer.json()["command"]["correlationId"]
        self.model.linked.pop(policy, None)

    async def serve(self, name: str, policy: str, rightly: bool) -> None:
        """The agent registers as the one that was started for the policy, or for an earlier request."""
        request = self.model.requests.get(policy, "sp_none") if rightly else "sp_earlier"
        meta = {"policyName": policy, "spawnRequestId": request}
        answer = await self.api.post("/api/agents", json={"id": name, "meta": meta})
        assert answer.status_code == (200 if name in self.model.cards else 201)
        card = self.model.cards.setdefault(name, Card(set(), False, 0.0))
        card.heard, card.offline, card.beats, card.serves = (
            trio.current_time(),
            False,
            True,
            (policy, request),
        )
        self.model.link(name)

    async def leave(self, name: str) -> None:
        answer = await self.api.patch(f"/api/agents/{name}/status", json={"status": "offline"})
        assert answer.status_code == (200 if name in self.model.cards else 404)
        if name in self.model.cards:
            self.model.cards[name].offline = True
            self.model.gone(name)

    async def come_back(self, name: str) -> None:
        """A sign of life, after which the mail of its policy is given out, if it was offline."""
        answer = await self.api.post(f"/api/agents/{name}/heartbeat", json={})
        assert answer.status_code == (200 if name in self.model.cards else 404)
        card = self.model.cards.get(name)
        if card is not None:
            card.heard, was_offline, card.offline = trio.current_time(), card.offline, False
            if was_offline:
                self.model.back(name)

    async def remove(self, name: str) -> None:
        answer = await self.api.delete(f"/api/agents/{name}")
        assert answer.status_code == (200 if self.model.cards.pop(name, None) else 404)
        self.model.gone(name)

    async def fall_silent(self, name: str) -> None:
        if name in self.model.cards:
            self.model.cards[name].beats = False

    async def send(
        self,
        sender: str,
        to: str,
        key: str | None,
        claimable: bool,
        kind: str,
        age: int | None = None,
        parent: Sent | None = None,
    ) -> None:
        document = {"from": sender, "body": "x", "kind": kind, "claimable": claimable}
        document |= {"idempotencyKey": key} if key else {}
        document |= {"maxAgeSeconds": age} if age else {}
        document |= {"to": to} if parent is None else {"replyTo": parent.id}
        answer = await self.api.post("/api/messages", json=document)
        earlier = self.model.keys.get((sender, key)) if key else None
        if earlier is not None:
            assert (answer.status_code, answer.json()["id"]) == (200, earlier)
            return
        if self.model.refuses(to, kind):
            assert answer.status_code == 422, answer.text
            return
        assert answer.status_code == 201, answer.text
        number = answer.json()["id"]
        assert number > self.model.latest
        self.model.latest = number
        thread = parent.thread if parent else number
        self.model.sent[number] = sent = Sent(number, sender, to, claimable, thread)
        if to.startswith("policy:"):
            self.queue(sent, age)
        if key:
            self.model.keys[sender, key] = number

    def queue(self, sent: Sent, age: int | None) -> None:
        sent.status, sent.due = "queued", trio.current_time() + (age or LIFETIME)
        policy = sent.to.removeprefix("policy:")
        if policy in self.model.linked:
            self.model.release(policy)

    async def reply(self, name: str, number: int) -> None:
        parent = self.model.pick(number)
        if parent is not None:
            await self.send(name, parent.sender, None, False, "chat", parent=parent)

    async def claim(self, name: str, number: int) -> None:
        found = self.model.pick(number)
        if found is None:
            return
        answer = await self.api.post(f"/api/messages/{found.id}/claim", json={"agentId": name})
        now = trio.current_time()
        sees = self.model.reaches(found, name) or (found.sender == name and name in self.model.cards)
        if not found.claimable:
            assert answer.status_code == 409
        elif not sees:
            assert answer.status_code == 403
        elif found.holder not in (None, name) and found.until > now:
            assert answer.status_code == 409
        else:
            assert answer.status_code == 200, answer.text
            found.holder, found.until = name, now + CLAIM_TERM

    async def renew(self, name: str, number: int) -> None:
        found = self.model.pick(number)
        if found is None:
            return
        answer = await self.api.post(f"/api/messages/{found.id}/claim/renew", json={"agentId": name})
        now = trio.current_time()
        if found.holder == name and found.until > now:
            assert answer.status_code == 200, answer.text
            found.until = now + CLAIM_TERM
        else:
            assert answer.status_code == 409, answer.text

    async def read(self, name: str, number: int) -> None:
        found = self.model.pick(number)
        if found is not None:
            answer = await self.api.post(f"/api/messages/{found.id}/read", json={"agentId": name})
            assert answer.status_code == 200
            found.read_by.add(name)

    async def delete(self, number: int) -> None:
        found = self.model.pick(number)
        if found is not None:
            assert (await self.api.delete(f"/api/messages/{found.id}")).status_code == 200
            assert (await self.api.delete(f"/api/messages/{found.id}")).status_code == 404
            del self.model.sent[found.id]
            self.model.keys = {key: known for key, known in self.model.keys.items() if known != found.id}

    async def wait(self, seconds: float) -> None:
        await self.pass_time(seconds)
        assert (await self.api.post("/api/system/reap")).status_code == 200
        for each in self.model.queued():
            if each.due < trio.current_time() - CLOSE:
                each.status = "expired"
        await self.see_who_is_offline()

    async def see_what_is_over(self) -> None:
        """A maintenance run ends life times."""
        for each in self.model.queued():
            if each.due < trio.current_time() + CLOSE:
                seen = (await self.api.get(f"/api/messages/{each.id}")).json()
                each.status = seen["deliveryStatus"]
                assert (each.status, seen.get("resolvedToAgent")) in (("queued", None), ("expired", None))

    async def beats(self) -> None:
        for name, card in self.model.cards.items():
            if card.beats and not card.offline:
                answer = await self.api.post(f"/api/agents/{name}/heartbeat", json={})
                assert answer.status_code == 200
                card.heard = trio.current_time()

    async def see_who_is_offline(self) -> None:
        for name, card in self.model.cards.items():
            seen = (await self.api.get(f"/api/agents/{name}")).json()["status"] == "offline"
            silence = trio.current_time() - card.heard
            if card.offline or silence > SURELY_OFFLINE:
                assert seen
            elif silence < SURELY_THERE:
                assert not seen
            card.offline = seen
            if seen:
                self.model.gone(name)

    async def compare_mailbox(self, name: str) -> None:
        for unread in (False, True):
            answer = await self.api.get("/api/messages", params={"for": name, "unread": unread, "limit": 500})
            assert answer.status_code == 200, answer.text
            assert [m["id"] for m in answer.json()] == self.model.mailbox(name, unread=unread)

    async def compare_everything(self) -> None:
        await self.see_what_is_over()
        now = trio.current_time()
        answer = await self.api.get("/api/messages", params={"limit": 500})
        found = {m["id"]: m for m in answer.json()}
        assert set(found) == set(self.model.sent)
        for number, sent in self.model.sent.items():
            seen = found[number]
            assert (seen["from"], seen["to"], seen["threadId"]) == (sent.sender, sent.to, sent.thread)
            assert (seen["deliveryStatus"], seen.get("resolvedToAgent")) == (sent.status, sent.resolved)
            assert set(seen.get("readBy", [])) == sent.read_by
            if sent.holder is not None and sent.until > now:
                assert seen["claimedBy"] == sent.holder
        assert (await self.api.get("/api/messages/cursor")).json()["latestId"] == max(
            self.model.sent, default=0
        )


MAIL = ("send", "a1", "policy:p1", None, False, "chat", None)
UNTIL_IT_GOES = [
    ("serve", "a3", "p1", True),
    ("serve", "a3", "p2", False),
    MAIL,
    ("leave", "a3"),
    MAIL,
    ("come back", "a3"),
    ("serve", "a3", "p1", True),
    ("serve", "a3", "p2", False),
    ("remove", "a3"),
    ("serve", "a3", "p2", False),
    MAIL,
]


@pytest.mark.spec("M-I1", "M-I2", "M-I3", "M-I5", "M-I7", "M-I9", "M-I11", "M-I12", "M-I13")
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a history takes a second: shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(steps, min_size=30, max_size=60))
@example(UNTIL_IT_GOES)
def test_a_mailbox_is_what_the_model_says(history: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        trio.run(Play(Path(folder) / "relay.db").run, history, clock=MockClock())
