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
    health: float = 2.0
    spawns: int = 2
    registration: float = 30.0
    restart: bool = True

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
    "healthIntervalMs": "health",
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
}
ENVIRONMENT = {
    "AGENT_RELAY_ORCHESTRATOR_ID": "id",
    "AGENT_RELAY_ORCHESTRATOR_HOSTNAME": "hostname",
    "AGENT_RELAY_URL": "relayUrl",
    "AGENT_RELAY_TOKEN": "token",
    "AGENT_RELAY_ORCHESTRATOR_PROVIDERS": "providers",
    "AGENT_RELAY_ORCHESTRATOR_BASE_DIR": "baseDir",
    "AGENT_RELAY_ORCHESTRATOR_API_PORT": "apiPort",
}


def load_config(path: Path | None = None, **overrides: Any) -> Config:
    """The configuration from `path` (default: `$AGENT_RELAY_ORCHESTRATOR_CONFIG`, else `orchestrator.json` in the
    home, if there is one). `overrides` are fields of `Config` and win. Raises `Refused`."""
    given = path or Path(os.environ.get("AGENT_RELAY_ORCHESTRATOR_CONFIG") or home() / "orchestrator.json")
    values: dict[str, Any] = {
        name: os.environ[name_] for name_, name in ENVIRONMENT.items() if os.environ.get(name_)
    }
    values |= _file(given, required=path is not None)
    fields = {NAMES[name]: value for name, value in values.items() if name in NAMES}
    fields |= {field: values[name] / 1000 for name, field in MILLISECONDS.items() if name in values}
    fields |= {name: value for name, value in overrides.items() if value is not None}
    return Config(**{name: _typed(name, value) for name, value in fields.items()})


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
    if name == "api_port":
        return int(value)
    if name == "providers":
        asked = value.split(",") if isinstance(value, str) else value
        known = tuple(
            provider for provider in ALL_PROVIDERS if provider in [str(each).strip() for each in asked]
        )
        return known or ALL_PROVIDERS
    return value
