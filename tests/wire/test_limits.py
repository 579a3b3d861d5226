"""The limits of the specification (messaging-control 1.4, 1.5), at each limit and just beside it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay import wire
from relay.wire.bus import Hello

SAFE = 2**53 - 1
REQUIRED: dict[type[Any], dict[str, Any]] = {
    wire.SendMessage: {"from": "a", "body": "b"},
    wire.ClaimMessage: {"agentId": "a"},
    wire.MarkRead: {"agentId": "a"},
    wire.RegisterAgent: {"id": "a"},
    wire.SetStatus: {"status": "idle"},
    wire.SetReady: {"ready": True},
    wire.SetLabel: {"label": None},
    wire.SetTags: {"tags": []},
    wire.Heartbeat: {},
    wire.SpawnAgent: {"provider": "claude"},
    wire.RegisterOrchestrator: {"id": "h", "hostname": "h", "baseDir": "/"},
    wire.OrchestratorHeartbeat: {},
    wire.OrchestratorAction: {"action": "restart"},
    wire.NewCommand: {"type": "t", "source": "s", "target": "t"},
    wire.PatchCommand: {},
    wire.WorkspaceAction: {"action": "merge"},
    wire.NewActivity: {"clientId": "c", "kind": "state", "title": "t"},
    wire.NewBinding: {"channelId": "c"},
    wire.ChannelEvent: {"body": "b"},
    wire.PromptAgent: {"body": "b"},
    wire.Broadcast: {"body": "b"},
    wire.React: {"agentId": "a", "emoji": "e"},
    wire.ProposePair: {"from": "a", "to": "b"},
    wire.PairMessage: {"from": "a", "body": "b"},
    wire.ClaimTask: {"agentId": "a"},
    wire.SetTaskStatus: {"status": "open"},
    wire.IntegrationEvent: {"title": "t", "target": "a"},
    wire.TakeDeliveries: {},
    wire.Ack: {"messageId": 1, "token": 1, "outcome": "busy"},
    wire.Redeliver: {},
    Hello: {"role": "dashboard", "componentId": "c"},
}
TEXTS = [
    (wire.SendMessage, "from", 240),
    (wire.SendMessage, "to", 240),
    (wire.SendMessage, "subject", 240),
    (wire.SendMessage, "body", 100_000),
    (wire.SendMessage, "channel", 120),
    (wire.SendMessage, "idempotencyKey", 240),
    (wire.ClaimMessage, "agentId", 240),
    (wire.MarkRead, "agentId", 240),
    (wire.RegisterAgent, "id", 240),
    (wire.RegisterAgent, "label", 120),
    (wire.RegisterAgent, "machine", 240),
    (wire.RegisterAgent, "instanceId", 160),
    (wire.SetStatus, "instanceId", 160),
    (wire.SetReady, "instanceId", 160),
    (wire.Heartbeat, "instanceId", 160),
    (wire.SetLabel, "label", 120),
    (wire.SpawnAgent, "cwd", 500),
    (wire.SpawnAgent, "label", 120),
    (wire.SpawnAgent, "prompt", 4_000),
    (wire.SpawnAgent, "policyName", 120),
    (wire.SpawnAgent, "spawnRequestId", 160),
    (wire.RegisterOrchestrator, "version", 80),
    (wire.RegisterOrchestrator, "gitSha", 80),
    (wire.RegisterOrchestrator, "id", 120),
    (wire.OrchestratorHeartbeat, "version", 80),
    (wire.OrchestratorHeartbeat, "gitSha", 80),
    (wire.OrchestratorAction, "agentId", 240),
    (wire.OrchestratorAction, "policyName", 120),
    (wire.OrchestratorAction, "spawnRequestId", 160),
    (wire.OrchestratorAction, "tmuxSession", 200),
    (wire.OrchestratorAction, "reason", 200),
    (wire.NewCommand, "type", 120),
    (wire.NewCommand, "source", 240),
    (wire.NewCommand, "target", 240),
    (wire.NewCommand, "correlationId", 240),
    (wire.PatchCommand, "error", 4_000),
    (wire.WorkspaceAction, "agentId", 240),
    (wire.WorkspaceAction, "detail", 4_000),
    (wire.WorkspaceAction, "prTitle", 240),
    (wire.WorkspaceAction, "prBody", 8_000),
    (wire.NewActivity, "title", 240),
    (wire.NewActivity, "body", 100_000),
    (wire.NewBinding, "channelId", 120),
    (wire.NewBinding, "targetId", 240),
    (wire.ChannelEvent, "subject", 240),
    (wire.ChannelEvent, "body", 100_000),
    (wire.ChannelEvent, "idempotencyKey", 240),
    (wire.PromptAgent, "body", 100_000),
    (wire.Broadcast, "body", 100_000),
    (wire.Broadcast, "subject", 240),
    (wire.Broadcast, "from", 240),
    (wire.React, "agentId", 240),
    (wire.React, "emoji", 40),
    (wire.ProposePair, "from", 240),
    (wire.ProposePair, "to", 240),
    (wire.ProposePair, "topic", 240),
    (wire.PairMessage, "from", 240),
    (wire.PairMessage, "body", 100_000),
    (wire.PairMessage, "subject", 240),
    (wire.PairMessage, "idempotencyKey", 240),
    (wire.ClaimTask, "agentId", 240),
    (wire.SetTaskStatus, "agentId", 240),
    (wire.SetTaskStatus, "body", 100_000),
    (wire.IntegrationEvent, "title", 240),
    (wire.IntegrationEvent, "body", 100_000),
    (wire.IntegrationEvent, "target", 240),
    (wire.IntegrationEvent, "channel", 120),
    (wire.IntegrationEvent, "key", 240),
    (wire.IntegrationEvent, "externalId", 240),
    (wire.TakeDeliveries, "instanceId", 160),
    (wire.Ack, "evidence", 240),
    (wire.Ack, "error", 4_000),
    (wire.Redeliver, "agentId", 240),
    (Hello, "componentId", 240),
    (Hello, "agentId", 240),
    (Hello, "instanceId", 160),
    (Hello, "machine", 240),
    (Hello, "label", 120),
]
LISTS = [
    (wire.SetTags, "tags"),
    (wire.RegisterAgent, "tags"),
    (wire.RegisterAgent, "capabilities"),
    (wire.SpawnAgent, "tags"),
    (wire.SpawnAgent, "capabilities"),
    (wire.SpawnAgent, "providerArgs"),
    (wire.RegisterOrchestrator, "envKeys"),
    (Hello, "tags"),
    (Hello, "capabilities"),
]
MAPPINGS = [
    (wire.SendMessage, "payload"),
    (wire.SendMessage, "meta"),
    (wire.RegisterAgent, "meta"),
    (wire.Heartbeat, "meta"),
    (wire.RegisterOrchestrator, "meta"),
    (wire.NewCommand, "params"),
    (wire.PatchCommand, "result"),
    (wire.WorkspaceAction, "metadata"),
    (wire.PairMessage, "payload"),
    (wire.SetTaskStatus, "metadata"),
    (wire.IntegrationEvent, "metadata"),
    (Hello, "meta"),
]
INTEGERS = [
    (wire.SendMessage, "maxAgeSeconds", 0, 2_592_000),
    (wire.SendMessage, "replyTo", 1, SAFE),
    (wire.NewCommand, "ttlMs", 1, SAFE),
    (wire.RegisterOrchestrator, "protocolVersion", 1, SAFE),
    (wire.OrchestratorHeartbeat, "protocolVersion", 1, SAFE),
    (wire.ProposePair, "ttlSeconds", 1, 86_400),
    (wire.TakeDeliveries, "limit", 1, 100),
    (wire.TakeDeliveries, "bytes", 1, 262_144),
    (wire.TakeDeliveries, "waitMs", 0, 25_000),
    (wire.Ack, "messageId", 1, SAFE),
    (wire.Ack, "token", 1, SAFE),
    (wire.Ack, "retryMs", 0, 300_000),
]


def read(kind: type[Any], /, **members: Any) -> dict[str, Any]:
    """What a body of `kind` with `members` is read as, under its JSON names."""
    answer: dict[str, Any] = wire.to_json(wire.decode(kind, orjson.dumps(REQUIRED[kind] | members)))
    return answer


def problem(kind: type[Any], /, **members: Any) -> str:
    with pytest.raises(wire.Invalid) as caught:
        read(kind, **members)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.spec("VAL-1")
@pytest.mark.parametrize(("kind", "member", "most"), TEXTS)
@pytest.mark.parametrize("character", ["x", "é", "\u200b", "😀"])
def test_a_text_has_at_most_so_many_utf16_units(
    kind: type[Any], member: str, most: int, character: str
) -> None:
    units = len(character.encode("utf-16-le")) // 2
    for text in (character * (most // units - 1), character * (most // units)):
        assert read(kind, **{member: text})[member] == text
    assert member in problem(kind, **{member: character * (most // units) + "x"})
    assert str(most) in problem(kind, **{member: character * (most // units + 1)})


@pytest.mark.parametrize(("kind", "member", "most"), TEXTS)
def test_space_around_a_text_does_not_count(kind: type[Any], member: str, most: int) -> None:
    text = "x" * most
    assert read(kind, **{member: f" \t{text}\r\n"})[member] == text


@pytest.mark.spec("VAL-1")
def test_a_text_of_a_form_has_its_limit_too() -> None:
    path = "/" + "x" * 499
    assert read(wire.RegisterOrchestrator, baseDir=path)["baseDir"] == path
    assert problem(wire.RegisterOrchestrator, baseDir=path + "x") == "baseDir: longer than 500 characters"
    address = "http://h:1/" + "x" * 489
    assert read(wire.RegisterOrchestrator, apiUrl=address)["apiUrl"] == address
    assert problem(wire.RegisterOrchestrator, apiUrl=address + "x") == "apiUrl: longer than 500 characters"


@pytest.mark.parametrize(("kind", "member"), LISTS)
def test_a_list_has_at_most_a_hundred_texts_of_at_most_240_characters(kind: type[Any], member: str) -> None:
    hundred = [str(number) for number in range(100)]
    for texts in (hundred[:99], hundred, [*hundred, "0", " 1 ", ""], ["x" * 240], ["😀" * 120]):
        expected = list(dict.fromkeys(text.strip() for text in texts if text))
        assert read(kind, **{member: texts})[member] == expected
    assert problem(kind, **{member: [*hundred, "100"]}) == f"{member}: more than 100 elements"
    for text in ("x" * 241, "😀" * 120 + "x"):
        assert problem(kind, **{member: ["a", text]}) == f"{member}: an element is longer than 240 characters"


@pytest.mark.spec("VAL-1")
@pytest.mark.parametrize(("kind", "member"), MAPPINGS)
@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_an_object_has_at_most_65536_characters_of_json(kind: type[Any], member: str, character: str) -> None:
    units = len(character.encode("utf-16-le")) // 2
    room = 65_536 - len('{"k":""}')
    for text in (character * (room // units - 1), character * (room // units)):
        assert read(kind, **{member: {"k": text}})[member] == {"k": text}
    expected = f"{member}: its JSON text is longer than 65536 characters"
    assert problem(kind, **{member: {"k": character * (room // units + 1)}}) == expected
    assert problem(kind, **{member: {"k": '"' * (room // 2 + 1)}}) == expected
    for other in ([], "{}", 1, True):
        assert problem(kind, **{member: other}) == f"{member}: expected an object"


@pytest.mark.spec("VAL-3")
@pytest.mark.parametrize(("kind", "member", "least", "most"), INTEGERS)
def test_an_integer_is_within_its_bounds(kind: type[Any], member: str, least: int, most: int) -> None:
    for value in (least, least + 1, most - 1, most):
        assert read(kind, **{member: value})[member] == value
    for value in (least - 1, most + 1, -most, 2**63, 1e300, least + 0.5):
        assert problem(kind, **{member: value}) == f"{member}: expected an integer from {least} to {most}"


def test_a_roster_has_at_most_a_thousand_agents() -> None:
    agents = [{"agentId": str(number)} for number in range(1_001)]
    assert len(wire.decode(wire.Roster, {"agents": agents[:1_000]}).agents) == 1_000
    with pytest.raises(wire.Invalid, match="agents: expected a list of at most 1000 objects"):
        wire.decode(wire.Roster, {"agents": agents})


def test_an_environment_has_no_limit_and_is_not_trimmed() -> None:
    env = {" A ": " x ", "C": "", "B": "x" * 200_000}
    assert read(wire.SpawnAgent, env=env)["env"] == env


@pytest.mark.parametrize(
    ("kind", "member", "words"),
    [
        (wire.SetStatus, "status", "online idle busy stale offline"),
        (wire.RegisterAgent, "kind", "provider channel orchestrator system user"),
        (wire.SendMessage, "kind", "chat channel.event task pair control system session"),
        (wire.SpawnAgent, "approvalMode", "open guarded read-only"),
        (wire.SpawnAgent, "effort", "low medium high xhigh max"),
        (wire.SpawnAgent, "workspaceMode", "isolated shared inherit"),
        (wire.OrchestratorAction, "action", "restart shutdown"),
        (wire.NewActivity, "kind", "message reply question operator pair task state"),
        (
            wire.PatchCommand,
            "status",
            "pending accepted running succeeded failed timed_out rejected canceled",
        ),
    ],
)
def test_a_choice_is_one_of_the_specified_words(kind: type[Any], member: str, words: str) -> None:
    for word in words.split():
        assert read(kind, **{member: word})[member] == word
    for other in (words.split()[0].upper(), f"{words.split()[0]} ", "other", 1, True, ["idle"], {}):
        assert problem(kind, **{member: other}) == f"{member}: expected one of {', '.join(words.split())}"


def test_records_hold_what_came_of_inputs_that_were_within_their_limits() -> None:
    """What relay gathers over time, and answers, is not measured again by whoever reads it."""
    many = [str(number) for number in range(500)]
    gathered = {"k": "x" * 2_000_000}
    message = {"id": 1, "from": "a", "to": "broadcast", "body": "b"}
    assert wire.decode(wire.Message, message | {"readBy": many}).read_by == many
    delivery = {"id": 1, "to": "broadcast", "deliveryStatus": "available", "readBy": many}
    assert wire.decode(wire.Delivery, delivery).read_by == many
    assert wire.decode(wire.Workspace, {"id": "w", "metadata": gathered}).metadata == gathered
    activity = {"id": 1, "clientId": "c", "kind": "state", "title": "t", "metadata": gathered}
    assert wire.decode(wire.Activity, activity).metadata == gathered
    command = {"id": "c", "type": "t", "source": "s", "target": "t", "params": gathered, "result": gathered}
    assert wire.decode(wire.Command, command).result == gathered
