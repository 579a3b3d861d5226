"""What a host daemon is told (2.1). File, then environment, then default."""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Callable, Mapping
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


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


@attrs.frozen(kw_only=True)
class Config:
    """Durations are seconds. `home` holds session records, logs and the outbox."""

    id: str = attrs.field(factory=_default_id)
    hostname: str = attrs.field(factory=socket.gethostname)
    relay_url: str = DEFAULT_URL
    token: str | None = None
    base_dir: Path = attrs.field(factory=lambda: Path.home() / "projects", converter=_absolute)
    home: Path = attrs.field(factory=home, converter=_absolute)
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
    upgrade_command: str | None = None
    """What installs another version of the daemon; `{version}` stands for which. Without it there are no upgrades."""

    @property
    def agent_id(self) -> str:
        return f"orchestrator-{self.id}"

    @property
    def state(self) -> Path:
        """Where this daemon keeps what must survive it."""
        return self.home / "orchestrators" / self.id

    @property
    def api_url_file(self) -> Path:
        """Where runners read where the daemon answers: it may be another place in its next life."""
        return self.state / "api-url"


def _text(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError


def _words(value: Any) -> str:
    if shlex.split(_text(value)):
        return str(value)
    raise ValueError


def _folder(value: Any) -> Path:
    try:
        return Path(_text(value)).expanduser()
    except RuntimeError as error:  # the home of a user that is not there
        raise ValueError from error


def _number(value: Any) -> float:
    number = float("nan") if isinstance(value, bool) else float(value)
    if 0 < number < float("inf"):
        return number
    raise ValueError


def _seconds(milliseconds: Any) -> float:
    return _number(milliseconds) / 1000


def _whole(value: Any, least: int, most: int) -> int:
    number = float("nan") if isinstance(value, bool) else float(value)
    if number.is_integer() and least <= number <= most:
        return int(number)
    raise ValueError


def _port(value: Any) -> int:
    return _whole(value, 0, 65_535)


def _count(value: Any) -> int:
    return _whole(value, 1, 1_000)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _variables(value: Any) -> dict[str, str]:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return value
    raise ValueError


def _providers(value: Any) -> tuple[wire.Provider, ...]:
    """Unknown names are dropped; if none is left, all providers are meant."""
    names = value.split(",") if isinstance(value, str) else list(value)
    asked = {_text(name).strip() for name in names if name}
    return tuple(provider for provider in ALL_PROVIDERS if provider in asked) or ALL_PROVIDERS


@attrs.frozen
class Setting:
    """A key of the file: the field of `Config` it is for, and how it is read (raises TypeError or ValueError)."""

    field: str
    read: Callable[[Any], Any] = _text


EXPECTED = {
    _text: "a text",
    _words: "a command line whose quotes are closed",
    _folder: "a path",
    _number: "a positive number",
    _seconds: "a positive number of milliseconds",
    _port: "a port, 0 to 65535",
    _count: "a whole number, 1 to 1000",
    _flag: "true or false",
    _variables: "an object of texts",
    _providers: "a list of names",
}
SETTINGS = {
    "id": Setting("id"),
    "hostname": Setting("hostname"),
    "relayUrl": Setting("relay_url"),
    "token": Setting("token"),
    "baseDir": Setting("base_dir", _folder),
    "providers": Setting("providers", _providers),
    "env": Setting("env", _variables),
    "tmuxPrefix": Setting("prefix"),
    "apiHost": Setting("api_host"),
    "apiPort": Setting("api_port", _port),
    "restart": Setting("restart", _flag),
    "upgradeCommand": Setting("upgrade_command", _words),
    "maxConcurrentSpawns": Setting("spawns", _count),
    "spawnAdmission": Setting("admission", _flag),
    "spawnMaxLoadPerCpu": Setting("load_per_cpu", _number),
    "heartbeatIntervalMs": Setting("heartbeat", _seconds),
    "pollIntervalMs": Setting("poll", _seconds),
    "healthIntervalMs": Setting("watch", _seconds),
    "spawnRegistrationTimeoutMs": Setting("registration", _seconds),
}
ENVIRONMENT = {
    "AGENT_RELAY_ORCHESTRATOR_ID": "id",
    "AGENT_RELAY_ORCHESTRATOR_HOSTNAME": "hostname",
    "AGENT_RELAY_URL": "relayUrl",
    "AGENT_RELAY_TOKEN": "token",
    "AGENT_RELAY_ORCHESTRATOR_PROVIDERS": "providers",
    "AGENT_RELAY_ORCHESTRATOR_BASE_DIR": "baseDir",
    "AGENT_RELAY_ORCHESTRATOR_API_PORT": "apiPort",
    "AGENT_RELAY_UPGRADE_COMMAND": "upgradeCommand",
    "AGENT_RELAY_MAX_CONCURRENT_SPAWNS": "maxConcurrentSpawns",
    "AGENT_RELAY_SPAWN_MAX_LOAD_PER_CPU": "spawnMaxLoadPerCpu",
    "AGENT_RELAY_SPAWN_REGISTRATION_TIMEOUT_MS": "spawnRegistrationTimeoutMs",
}


def load_config(path: Path | None = None, **overrides: Any) -> Config:
    """The configuration from `path` (default: `$AGENT_RELAY_ORCHESTRATOR_CONFIG`, else `orchestrator.json` in the
    home, if there is one). `overrides` are fields of `Config` and win. Raises `Refused`."""
    given = path or Path(os.environ.get("AGENT_RELAY_ORCHESTRATOR_CONFIG") or home() / "orchestrator.json")
    fields = _environment() | _file(given, required=path is not None)
    if os.environ.get("AGENT_RELAY_SPAWN_ADMISSION_DISABLED") == "1":
        fields["admission"] = False
    fields |= {name: value for name, value in overrides.items() if value is not None}
    config = Config(**fields)
    if not config.base_dir.is_dir():
        raise Refused(
            f"the base directory {config.base_dir} is not there: create it, or name the folder that holds your"
            " repositories with --base-dir"
        )
    return config


def _environment() -> dict[str, Any]:
    return dict(
        _read(variable, SETTINGS[key], os.environ[variable])
        for variable, key in ENVIRONMENT.items()
        if os.environ.get(variable)
    )


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
    for key in values:
        if key not in SETTINGS:
            raise Refused(
                f"{path} has a key that means nothing here, {key!r}; known are {', '.join(SETTINGS)}"
            )
    return dict(
        _read(f"{path}: {key}", SETTINGS[key], value) for key, value in values.items() if value is not None
    )


def _read(name: str, setting: Setting, value: Any) -> tuple[str, Any]:
    try:
        return setting.field, setting.read(value)
    except (TypeError, ValueError):
        raise Refused(f"{name} must be {EXPECTED[setting.read]}, not {value!r}") from None
