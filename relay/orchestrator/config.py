"""What a host daemon is started with: a file, then the environment, then defaults (spec 2.1-3).

Durations are seconds; the file speaks milliseconds where the contract does.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from relay import client

__all__ = ["Config", "Misconfigured", "load_config"]

PROVIDERS = ("claude", "codex", "command")
HIGHEST_PORT = 65_535


class Misconfigured(ValueError):
    """The daemon cannot be started like this; the text says what to change."""


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - links stay: relay compares texts


@attrs.frozen(kw_only=True)
class Config:
    """`base_dir` bounds everything the daemon touches; `state` holds its records, locks and logs."""

    id: str
    hostname: str
    relay_url: str
    token: str | None = attrs.field(default=None, repr=False)
    providers: tuple[str, ...] = PROVIDERS
    base_dir: Path = attrs.field(converter=_absolute)
    state: Path = attrs.field(converter=_absolute)
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    session_prefix: str = "ar"
    api_host: str = "127.0.0.1"
    api_port: int = 4860
    restart: bool = True
    """Whether a runner that was killed is started again."""
    poll: float = 3.0
    heartbeat: float = 30.0
    watch: float = 0.5
    """How often the daemon looks whether its runners live."""
    health: float = 60.0
    """How often the roster is sent again although nothing is known to have changed."""
    register_first: float = 5.0
    register_most: float = 120.0
    reconnect_first: float = 0.25
    reconnect_most: float = 30.0
    spawns: int = 2
    """How many spawns may be waiting for their runner to register."""
    registration: float = 30.0
    """How long a spawned runner may take to register."""
    settle: float = 0.3
    """How long a successor must have lived before its predecessor is stopped."""
    admission: bool = True
    free_memory: int = 512 * 1024 * 1024
    load_per_cpu: float = 4.0
    admission_limit: float = 60.0

    @property
    def agent_id(self) -> str:
        """The daemon's identity at relay."""
        return f"orchestrator-{self.id}"


def load_config(environ: Mapping[str, str] = os.environ, **given: Any) -> Config:
    """The configuration: `given` (None counts as not given), then file, environment, defaults.

    Raises `Misconfigured`.
    """
    file = _read(Path(environ.get("AGENT_RELAY_ORCHESTRATOR_CONFIG") or client.home() / "orchestrator.json"))
    name = file.get("hostname") or environ.get("AGENT_RELAY_ORCHESTRATOR_HOSTNAME") or socket.gethostname()
    found: dict[str, Any] = {
        "id": file.get("id") or environ.get("AGENT_RELAY_ORCHESTRATOR_ID") or name.replace(".", "-"),
        "hostname": name,
        "relay_url": file.get("relayUrl") or environ.get("AGENT_RELAY_URL") or client.DEFAULT_URL,
        "token": file.get("token") or _token(environ),
        "providers": file.get("providers")
        or environ.get("AGENT_RELAY_ORCHESTRATOR_PROVIDERS", "").split(","),
        "base_dir": file.get("baseDir") or environ.get("AGENT_RELAY_ORCHESTRATOR_BASE_DIR") or "~/projects",
        "state": client.home() / "orchestrator",
        "env": file.get("env", {}),
        "session_prefix": file.get("tmuxPrefix") or "ar",
        "heartbeat": file.get("heartbeatIntervalMs", 30_000) / 1000,
        "api_port": file.get("apiPort") or environ.get("AGENT_RELAY_ORCHESTRATOR_API_PORT") or 4860,
        **_host_limits(environ),
    }
    found |= {name: value for name, value in given.items() if value is not None}
    known = [each for each in found["providers"] if each in PROVIDERS]
    config = Config(**found | {"providers": tuple(known) or PROVIDERS, "api_port": _port(found["api_port"])})
    if not config.base_dir.is_dir():
        raise Misconfigured(
            f"the base directory {config.base_dir} is not a directory; create it, or name the folder that holds"
            " your repositories with --base-dir"
        )
    return config


def _host_limits(environ: Mapping[str, str]) -> dict[str, Any]:
    spawns = environ.get("AGENT_RELAY_MAX_CONCURRENT_SPAWNS", "")
    registration = environ.get("AGENT_RELAY_SPAWN_REGISTRATION_TIMEOUT_MS", "")
    memory = environ.get("AGENT_RELAY_SPAWN_MIN_FREE_MEM_MB", "")
    return {
        "spawns": int(spawns) if spawns.isdecimal() and int(spawns) else 2,
        "registration": int(registration) / 1000 if registration.isdecimal() and int(registration) else 30.0,
        "admission": environ.get("AGENT_RELAY_SPAWN_ADMISSION_DISABLED") != "1",
        "free_memory": (int(memory) if memory.isdecimal() else 512) * 1024 * 1024,
        "load_per_cpu": float(environ.get("AGENT_RELAY_SPAWN_MAX_LOAD_PER_CPU") or 4.0),
    }


def _token(environ: Mapping[str, str]) -> str | None:
    if given := environ.get("AGENT_RELAY_TOKEN"):
        return given
    try:
        return client.token_file().read_text().strip() or None
    except OSError:
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} cannot be read as JSON: {error}; mend it or remove it") from error
    if not isinstance(found, dict):
        raise Misconfigured(f"{path} must hold a JSON object; mend it or remove it")
    return found


def _port(value: Any) -> int:
    if not str(value).isdecimal() or int(value) > HIGHEST_PORT:
        raise Misconfigured(f"{value!r} is no port; give a number from 0 (any free one) to {HIGHEST_PORT}")
    return int(value)
