"""The client says of each of its names what it means: ruff's D102 passes over private modules, where they are."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from relay import client


def public() -> Iterator[tuple[str, Any]]:
    """What the package shows, and what its classes show."""
    for name, thing in vars(client).items():
        if name.startswith("_") or inspect.ismodule(thing) or name.isupper():
            continue
        yield name, thing
        if inspect.isclass(thing):
            for attribute, member in inspect.getmembers_static(thing):  # also what it inherits
                if not attribute.startswith("_") and (callable(member) or isinstance(member, property)):
                    yield f"{name}.{attribute}", member


@pytest.mark.parametrize(("name", "thing"), list(public()))
def test_it_says_what_it_is(name: str, thing: Any) -> None:
    assert (thing.__doc__ or "").strip(), f"{name} has no docstring"


CALLS = [
    (name, thing.__doc__ or "")
    for name, thing in public()
    if name.startswith("Client.") and inspect.iscoroutinefunction(thing)
]


@pytest.mark.parametrize(("name", "said"), CALLS)
def test_a_call_that_may_be_left_open_says_so(name: str, said: str) -> None:
    """Those that are not repeated (`UNREPEATED` in test_faults) end in trouble without anybody knowing how."""
    unrepeated = {
        "delete_agent",
        "create_command",
        "cancel_command",
        "spawn",
        "orchestrator_action",
        "upgrade_orchestrator",
        "reclaim_orphan",
        "decide_permission",
        "spawn_anywhere",
        "agent_action",
        "prompt",
        "open_terminal",
        "close_terminal",
        "delete_message",
        "make_directory",
        "set_profile",
        "delete_profile",
        "set_steward_config",
        "delete_orchestrator",
        "act",
        "delete_workspace",
        "unbind_channel",
        "redeliver",
        "broadcast",
        "propose_pair",
        "accept_pair",
        "reject_pair",
        "end_pair",
        "create_automation",
        "delete_automation",
        "run_automation",
        "start_recipe",
        "stop_recipe",
        "decide_step",
        "set_config",
        "delete_config",
        "set_policy",
        "delete_policy",
        "start_policy",
        "stop_policy",
        "restart_policy",
        "connector_action",
        "create_token",
        "revoke_token",
        "rotate_key",
        "renew_token",
        "remint_token",
    }
    assert ("Not repeated" in said) == (name.removeprefix("Client.") in unrepeated)
