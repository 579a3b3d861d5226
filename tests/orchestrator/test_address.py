"""Where relay is told to find a host's API."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.orchestrator import Config
from relay.orchestrator.address import advertised


@pytest.mark.parametrize(
    ("api_host", "relay_url", "told"),
    [
        ("127.0.0.1", "http://127.0.0.1:4850", "http://127.0.0.1:4860"),
        ("127.0.0.1", "http://localhost:4850", "http://127.0.0.1:4860"),
        ("::1", "http://[::1]:4850", "http://[::1]:4860"),
        ("localhost", "http://127.0.0.1:4850", "http://localhost:4860"),
        ("127.0.0.1", "https://relay.example", None),
        ("::1", "http://10.0.0.1:4850", None),
        ("localhost", "http://127.0.0.1.example:4850", None),
        ("0.0.0.0", "https://relay.example", "http://build-1:4860"),
        ("::", "https://relay.example", "http://build-1:4860"),
        ("10.1.2.3", "https://relay.example", "http://10.1.2.3:4860"),
        ("fd00::5", "https://relay.example", "http://[fd00::5]:4860"),
    ],
)
def test_an_address_is_told_that_relay_can_reach_or_none(
    tmp_path: Path, api_host: str, relay_url: str, told: str | None
) -> None:
    config = Config(
        hostname="build-1", api_host=api_host, relay_url=relay_url, base_dir=tmp_path, home=tmp_path
    )
    assert advertised(config, 4860) == told
