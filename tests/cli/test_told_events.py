"""What `relay tail` says of events of each concept."""

from __future__ import annotations

from typing import Any

import pytest
from shell import Run, Served

from relay.cli.tail import summary


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"namespace": "n", "key": "k", "version": 2}, "n/k  version=2"),
        ({"automation": {"id": "auto_1", "name": "n"}}, "id=auto_1  name=n"),
        (
            {
                "automation": {"id": "auto_1", "name": "n"},
                "run": {"id": "run_1", "status": "failed", "error": "e"},
            },
            "n: id=run_1  status=failed  error=e",
        ),
        (
            {"instance": {"id": "rcp_1", "recipeName": "r", "status": "held"}},
            "id=rcp_1  recipeName=r  status=held",
        ),
        (
            {"policyName": "p", "status": "failed", "lastError": "it went"},
            "policyName=p  status=failed  lastError=it went",
        ),
        ({}, ""),
    ],
)
def test_an_event_is_told_by_what_it_is_about(data: dict[str, Any], said: str) -> None:
    assert summary(data) == said


def test_what_is_configured_is_told(run: Run, server: Served) -> None:
    run("policies", "set", "p", "--host", "h1", "--provider", "claude")
    told = run("tail", "--after", "0", "--count", "1").output
    assert "config.changed       spawn-policy/p  version=1" in told
