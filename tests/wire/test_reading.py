"""How bodies are read: what JSON may be, what absence means, and how every problem is told."""

from __future__ import annotations

from typing import Any

import pytest

from relay import wire

SENT = {"from": "a", "body": "b"}


def problems(kind: type[Any], body: object) -> list[str]:
    with pytest.raises(wire.Invalid) as caught:
        wire.decode(kind, body)
    return caught.value.problems


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


@pytest.mark.spec("BODY-2")
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"{'from':'a'}",
        b'{"from":"a",}',
        b'{"from":NaN}',
        b'{"from":Infinity}',
        b'{"from":1e999}',
        b'{"from":01}',
        b'{"from":%d}' % 10**400,
        b'{"from":"\xff"}',
        b'{"from":"\xed\xa0\x80"}',
        rb'{"from":"\ud800"}',
        rb'{"from":"\udc00\ud800"}',
        b'\xef\xbb\xbf{"from":"a"}',
        b"[" * 2_000,
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
        '{"from":"\ud800"}',
        "",
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_is_not_json_is_one_problem(text: bytes | str) -> None:
    (problem,) = problems(wire.SendMessage, text)
    assert problem.startswith("the body is not JSON: ")


@pytest.mark.spec("BODY-5")
@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"1", b"true", None, [], [SENT], "1", 4])
def test_what_is_no_object_is_one_problem(body: object) -> None:
    assert problems(wire.SendMessage, body) == ["body must be an object"]


def test_the_last_of_members_with_one_name_counts() -> None:
    assert wire.decode(wire.ClaimMessage, b'{"agentId":1,"agentId":"a"}') == wire.ClaimMessage(agent_id="a")


def test_escapes_and_utf8_are_the_same_text() -> None:
    plain, escaped = '{"agentId":"é😀"}'.encode(), rb'{"agentId":"\u00e9\ud83d\ude00"}'
    assert wire.decode(wire.ClaimMessage, plain) == wire.decode(wire.ClaimMessage, escaped)


def test_every_problem_is_told_with_its_path() -> None:
    assert problems(
        wire.SendMessage, {"to": 1, "kind": "shout", "replyTo": "1", "claimable": 1, "meta": []}
    ) == [
        "from: is required",
        "to: expected a text",
        "kind: expected one of chat, channel.event, task, pair, control, system, session",
        "body: is required",
        "meta: expected an object",
        "replyTo: expected an integer from 1 to 9007199254740991",
        "claimable: expected true or false",
    ]


def test_problems_within_objects_and_lists_are_told_with_their_path() -> None:
    roster = {
        "agents": [
            {"agentId": "a"},
            {"agentId": 1, "pid": "x"},
            7,
            {"agentId": "b", "workspace": {"id": " ", "mode": "none"}},
        ],
        "exitedAgents": [{}],
    }
    assert problems(wire.Roster, roster) == [
        "agents[1].agentId: expected a text",
        "agents[1].pid: expected an integer from 0 to 9007199254740991",
        "agents[2]: expected an object",
        "agents[3].workspace.id: is required",
        "agents[3].workspace.mode: expected one of isolated, shared, inherit",
        "exitedAgents[0].agentId: is required",
    ]


def test_every_variable_of_an_environment_that_is_no_text_is_named() -> None:
    asked = {"provider": "command", "env": {"A": "1", "B": 2, "C": None}}
    assert problems(wire.SpawnAgent, asked) == ["env: the values of B, C are no texts"]
    assert problems(wire.SpawnAgent, asked | {"env": None}) == ["env: expected an object of texts"]


@pytest.mark.parametrize("value", [None, "", "  \t\n"])
def test_an_empty_text_counts_as_absent(value: str | None) -> None:
    sent = wire.decode(wire.SendMessage, SENT | {"to": value, "subject": value})
    assert (sent.to, sent.subject) == (None, None)
    assert problems(wire.SendMessage, SENT | {"body": value}) == ["body: is required"]


def test_a_default_stands_for_what_is_absent() -> None:
    action = wire.decode(wire.OrchestratorAction, {"action": "restart", "reason": " "})
    assert action.reason == "manual"
    spawn = wire.decode(wire.SpawnAgent, {"provider": "claude", "approvalMode": None})
    assert (spawn.approval_mode, spawn.tags) == (None, [])
    step = wire.decode(wire.RecipeStep, {"id": "s", "to": "r", "body": "b", "kind": None})
    assert step.kind is wire.StepKind.TASK
    host = wire.decode(wire.RegisterOrchestrator, {"id": "h", "hostname": "h", "baseDir": "/"})
    assert host.providers == [wire.Provider.CLAUDE, wire.Provider.CODEX]


def test_defaults_are_not_shared() -> None:
    one, two = (wire.decode(wire.Agent, {"id": name, "meta": None}) for name in "ab")
    one.tags.append("t")
    one.meta["k"] = 1
    assert (two.tags, two.meta) == ([], {})


@pytest.mark.spec("AGT-22")
def test_a_label_is_cleared_by_null_and_must_be_given() -> None:
    assert wire.decode(wire.SetLabel, b'{"label":null}').label is None
    assert wire.decode(wire.SetLabel, b'{"label":" x "}').label == "x"
    assert problems(wire.SetLabel, b"{}") == ["label: is required"]
    assert wire.encode(wire.SetLabel(label=None)) == b'{"label":null}'


def test_texts_are_trimmed_without_empties_and_repeats() -> None:
    assert wire.decode(wire.SetTags, {"tags": [" b", "a", "", "b ", "  "]}).tags == ["b", "a"]


@pytest.mark.parametrize("tags", [None, "a", {"0": "a"}, ["a", 1], ["a", None]])
def test_a_list_of_texts_is_nothing_else(tags: object) -> None:
    assert problems(wire.SetTags, {"tags": tags}) == ["tags: expected a list of texts"]


@pytest.mark.parametrize("value", [None, "1", True, 1.5, [], {}, 2**63, 2**64 - 1])
def test_an_integer_is_nothing_else(value: object) -> None:
    assert problems(wire.SendMessage, SENT | {"replyTo": value}) == [
        "replyTo: expected an integer from 1 to 9007199254740991"
    ]


def test_an_integer_may_be_written_with_a_point() -> None:
    assert wire.decode(wire.SendMessage, b'{"from":"a","body":"b","replyTo":7.0}').reply_to == 7


@pytest.mark.parametrize("value", [0, 1, "true", "", [], {}])
def test_a_boolean_is_nothing_that_resembles_one(value: object) -> None:
    assert problems(wire.SetReady, {"ready": value}) == ["ready: expected true or false"]


@pytest.mark.parametrize(("value", "kept"), [(False, False), (None, True), (0, True), ("false", True)])
def test_a_branch_is_deleted_unless_it_is_exactly_false(value: object, kept: bool) -> None:
    action = wire.decode(wire.WorkspaceAction, {"action": "merge", "deleteBranch": value})
    assert action.delete_branch is kept


@pytest.mark.spec("TIM-1")
def test_instants_are_milliseconds_on_the_wire_and_seconds_here() -> None:
    agent = wire.decode(wire.Agent, b'{"id":"a","lastSeen":1700000000123}')
    assert agent.last_seen == 1_700_000_000.123
    assert wire.encode(agent).endswith(b'"lastSeen":1700000000123}')
    assert wire.to_json(wire.Agent(id="a", created_at=0.0004))["createdAt"] == 0


@pytest.mark.parametrize(
    "value", ["1", True, [], {}, 1e300, -1e300, 2**53, 10**400, float("nan"), float("inf")]
)
def test_an_instant_can_always_be_written_again(value: object) -> None:
    assert problems(wire.ManagedAgent, {"agentId": "a", "startedAt": value}) == [
        "startedAt: expected milliseconds since 1970"
    ]


def test_what_is_absent_is_left_out() -> None:
    assert wire.to_json(wire.SendMessage(from_="a", body="b")) == {"from": "a", "kind": "chat", "body": "b"}
    assert wire.encode(wire.PatchCommand()) == b"{}"


def test_null_within_an_object_of_the_sender_is_kept() -> None:
    patch = wire.decode(wire.PatchCommand, b'{"result":{"sha":null}}')
    assert wire.encode(patch) == b'{"result":{"sha":null}}'


def test_numbers_within_an_object_of_the_sender_keep_their_value() -> None:
    body = b'{"result":{"a":18446744073709551615,"b":-9223372036854775808,"c":0.1,"d":-0.0,"e":1e+300}}'
    patch = wire.decode(wire.PatchCommand, body)
    assert wire.decode(wire.PatchCommand, wire.encode(patch)) == patch


@pytest.mark.parametrize("depth", [1, 100, 200])
def test_an_object_of_the_sender_may_be_nested(depth: int) -> None:
    sent = wire.decode(wire.PatchCommand, b'{"result":%s}' % nested(depth))
    assert nested(depth) in wire.encode(sent)


def test_what_was_read_can_be_written_within_other_things() -> None:
    """A command is written within its event, and the like: an object that only just fits would not fit there."""
    deepest = max(depth for depth in range(150, 400) if _reads(nested(depth)))
    value: Any = wire.decode(wire.PatchCommand, b'{"result":%s}' % nested(deepest))
    for _ in range(12):
        value = {"within": [value]}
    assert wire.encode(value)
    assert problems(wire.PatchCommand, b'{"result":%s}' % nested(deepest + 1)) == [
        "result: is nested too deeply"
    ]


def _reads(text: bytes) -> bool:
    try:
        wire.decode(wire.PatchCommand, b'{"result":%s}' % text)
    except wire.Invalid:
        return False
    return True


def test_an_object_that_is_no_json_is_refused() -> None:
    for value in ("\ud800", {1}, 10**30, object()):
        (problem,) = problems(wire.PatchCommand, {"result": {"a": value}})
        assert problem.startswith("result: ")


@pytest.mark.parametrize("member", ["action", "agentId"])
def test_words_and_choices_may_be_asked_for_in_any_type(member: str) -> None:
    for value in (["restart"], {}, 1, None, "explode"):
        body = {"action": "restart", member: value}
        if member == "action":
            assert problems(wire.OrchestratorAction, body) == ["action: expected one of restart, shutdown"]
        elif not isinstance(value, str) and value is not None:
            assert problems(wire.OrchestratorAction, body) == ["agentId: expected a text"]
