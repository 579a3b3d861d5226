"""What a host daemon is told (2.1). File, then environment, then default."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from relay import wire
from relay.client import DEFAULT_URL, home

from ._problems import Refused

__all__ = ["Config", "load_config"]

ALL_PROVIDERS = tuple(wire.Provider)


def _default_id() -> str:
    return socket.gethostname().replace(".", "-")


@attrs.frozen(kw_only=True)
class Config:
    """Durations are seconds. `home` holds session records, logs and the outbox."""

    id: str = attrs.field(factory=_default_id)
    hostname: str = attrs.field(factory=socket.gethostname)
    relay_url: str = DEFAULT_URL
    token: str | None = None
    base_dir: Path = attrs.field(factory=lambda: Path.home() / "projects")
    home: Path = attrs.field(factory=home)
    providers: tuple[wire.Provider, ...] = ALL_PROVIDERS
    env: Mapping[str, str] = attrs.field(factory=dict)
    prefix: str = "ar"
    api_host: str = "127.0.0.1"
    api_port: int = 4860
    poll: float = 3.0
    heartbeat: float = 30.0
    watch: float = 0.5
    """How often the daemon looks whether its runners live."""
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
    free_memory: int = 512 * 2**20
    load_per_cpu: float = 4.0
    admission_limit: float = 60.0
    restart: bool = True
    """Whether a runner that was killed is started again."""

    @property
    def agent_id(self) -> str:
        return f"orchestrator-{self.id}"

    @property
    def state(self) -> Path:
        """Where this daemon keeps what must survive it."""
        return self.home / "orchestrators" / self.id


MILLISECONDS = {
    "heartbeatIntervalMs": "heartbeat",
    "pollIntervalMs": "poll",
    "healthIntervalMs": "watch",
    "spawnRegistrationTimeoutMs": "registration",
}
NAMES = {
    "id": "id",
    "hostname": "hostname",
    "relayUrl": "relay_url",
    "token": "token",
    "baseDir": "base_dir",
    "providers": "providers",
    "env": "env",
    "tmuxPrefix": "prefix",
    "apiHost": "api_host",
    "apiPort": "api_port",
    "restart": "restart",
    "maxConcurrentSpawns": "spawns",
    "spawnAdmission": "admission",
    "spawnMaxLoadPerCpu": "load_per_cpu",
}
ENVIRONMENT = {
    "AGENT_RELAY_ORCHESTRATOR_ID": "id",
    "AGENT_RELAY_ORCHESTRATOR_HOSTNAME": "hostname",
    "AGENT_RELAY_URL": "relayUrl",
    "AGENT_RELAY_TOKEN": "token",
    "AGENT_RELAY_ORCHESTRATOR_PROVIDERS": "providers",
    "AGENT_RELAY_ORCHESTRATOR_BASE_DIR": "baseDir",
    "AGENT_RELAY_ORCHESTRATOR_API_PORT": "apiPort",
    "AGENT_RELAY_MAX_CONCURRENT_SPAWNS": "maxConcurrentSpawns",
    "AGENT_RELAY_SPAWN_MAX_LOAD_PER_CPU": "spawnMaxLoadPerCpu",
    "AGENT_RELAY_SPAWN_REGISTRATION_TIMEOUT_MS": "spawnRegistrationTimeoutMs",
}


def load_config(path: Path | None = None, **overrides: Any) -> Config:
    """The configuration from `path` (default: `$AGENT_RELAY_ORCHESTRATOR_CONFIG`, else `orchestrator.json` in the
    home, if there is one). `overrides` are fields of `Config` and win. Raises `Refused`."""
    given = path or Path(os.environ.get("AGENT_RELAY_ORCHESTRATOR_CONFIG") or home() / "orchestrator.json")
    values: dict[str, Any] = {
        name: os.environ[variable] for variable, name in ENVIRONMENT.items() if os.environ.get(variable)
    }
    values |= _file(given, required=path is not None)
    fields = {NAMES[name]: value for name, value in values.items() if name in NAMES}
    fields |= {
        MILLISECONDS[name]: _number(name, value) / 1000
        for name, value in values.items()
        if name in MILLISECONDS
    }
    if os.environ.get("AGENT_RELAY_SPAWN_ADMISSION_DISABLED") == "1":
        fields["admission"] = False
    fields |= {name: value for name, value in overrides.items() if value is not None}
    config = Config(**{name: _typed(name, value) for name, value in fields.items()})
    if not config.base_dir.is_dir():
        raise Refused(
            f"the base directory {config.base_dir} is not there: create it, or name the folder that holds your"
            " repositories with --base-dir"
        )
    return config


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Refused(f"{name} must be a number, not {value!r}") from None


def _file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        if required:
            raise Refused(f"there is no configuration file {path}") from None
        return {}
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise Refused(f"{path} must hold a JSON object")
    return values


def _typed(name: str, value: Any) -> Any:
    if name in {"base_dir", "home"}:
        return Path(value).expanduser().absolute()
    if name in {"api_port", "spawns"}:
        return int(_number(name, value))
    if name == "load_per_cpu":
        return _number(name, value)
    if name == "providers":
        asked = value.split(",") if isinstance(value, str) else value
        known = tuple(
            provider for provider in ALL_PROVIDERS if provider in [str(each).strip() for each in asked]
        )
        return known or ALL_PROVIDERS
    return value
