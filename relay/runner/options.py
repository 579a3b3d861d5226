"""What a runner is told, by its command line and its environment (1.2)."""

from __future__ import annotations

import argparse
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import attrs

from relay.client import DEFAULT_URL, find_token, home

from . import _settings
from ._settings import BadOptions
from .credential import Credential
from .profile import system_prompt

__all__ = ["BadOptions", "Options", "Patience", "read_options"]


GRACE = 5.0  # seconds: hosts wait for 10 until they kill, and goodbyes are said in the rest


def _list(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


@attrs.frozen(kw_only=True)
class Patience:
    """How long the agent's program may take, in seconds."""

    ready: float = 30.0
    ack: float = 30.0
    result: float = 60.0
    ping: float = 20.0
    decision: float = 600.0  # that it waits for a permission


@attrs.frozen(kw_only=True)
class Options:
    """One runner's life. Durations are seconds; `started_at` is epoch seconds."""

    provider: str
    agent_id: str
    cwd: Path
    relay_url: str
    token: str | None
    provider_config: Mapping[str, Any]
    instance_id: str = attrs.field(factory=lambda: f"run_{uuid.uuid4().hex}")
    approval_mode: str = "guarded"
    headless: bool = False
    label: str | None = None
    model: str | None = None
    effort: str | None = None
    prompt: str | None = None
    system_prompt: str | None = None
    tags: Sequence[str] = ()
    capabilities: Sequence[str] = ()
    provider_args: Sequence[str] = ()
    profile: str | None = None
    agent_profile: Mapping[str, Any] | None = None
    policy_name: str | None = None
    spawn_request_id: str | None = None
    automation_id: str | None = None
    automation_run_id: str | None = None
    workspace: Mapping[str, Any] | None = None
    info_file: Path | None = None
    log_file: Path | None = None
    state_dir: Path
    patience: Patience = Patience()
    grace: float = GRACE  # that the agent gets to end when the runner is to end
    liveness: float = 20.0
    poll: float = 2.0
    renewal: float = 300.0
    retry: float = 1.0  # the first pause after a delivery that failed; later ones grow
    host_url: str | None = None  # of the host's own API
    host_url_file: Path | None = None  # says it anew whenever the host daemon is started
    credential: Credential = attrs.field(
        init=False,
        eq=False,
        repr=False,
        default=attrs.Factory(lambda self: Credential.of(self.token), takes_self=True),
    )
    """What the runner is known by now; `token` is what it was started with."""

    @property
    def host(self) -> str | None:
        """Where the host daemon answers."""
        try:
            said = self.host_url_file.read_text().strip() if self.host_url_file is not None else ""
        except (OSError, UnicodeDecodeError):
            said = ""
        return said or self.host_url

    @property
    def command(self) -> list[str]:
        """The agent's program and its arguments."""
        config = self.provider_config
        return [config["command"], *config.get("defaultArgs", ()), *self.provider_args]

    @property
    def restarts(self) -> bool:
        """Whether an agent that ended unasked is started again (1.19-2, 1.33.1-3)."""
        return self.headless and self.provider_config.get("restart") is not False

    @property
    def all_tags(self) -> list[str]:
        """What is registered and what is matched: one set (1.12-2)."""
        return list(dict.fromkeys([*self.tags, *self.provider_config.get("defaultTags", ()), self.provider]))

    @property
    def all_capabilities(self) -> list[str]:
        return list(dict.fromkeys([*self.capabilities, *self.provider_config.get("defaultCapabilities", ())]))


def read_options(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> Options:
    """The options in `arguments` and `environ`; raises `BadOptions`."""
    environ = os.environ if environ is None else environ
    own = list(takewhile("--".__ne__, arguments))
    given = _parser().parse_args(own)
    config = _settings.provider(environ)
    cwd = Path(given.cwd).absolute()
    if not cwd.is_dir():
        raise BadOptions(f"{cwd} is not a directory: give one with --cwd")
    _settings.program(config, cwd)
    profile = _settings.document(environ, "AGENT_RELAY_AGENT_PROFILE_JSON")
    label = given.label or environ.get("AGENT_RELAY_LABEL") or None
    agent_id = given.agent_id or environ.get("AGENT_RELAY_AGENT_ID") or _own_id(given.provider, label)
    state = environ.get("AGENT_RELAY_STATE_DIR")
    return Options(
        provider=given.provider,
        agent_id=agent_id,
        cwd=cwd,
        relay_url=_settings.address(
            "--relay-url" if given.relay_url else "AGENT_RELAY_URL",
            given.relay_url or environ.get("AGENT_RELAY_URL") or DEFAULT_URL,
        ),
        token=_settings.token(environ.get("AGENT_RELAY_TOKEN") or find_token()),
        provider_config=config,
        approval_mode=_settings.approval(
            "--approval" if given.approval else "AGENT_RELAY_APPROVAL",
            given.approval or environ.get("AGENT_RELAY_APPROVAL"),
        ),
        headless=given.headless,
        label=label,
        model=given.model or environ.get("AGENT_RELAY_MODEL") or None,
        effort=given.effort or environ.get("AGENT_RELAY_EFFORT") or None,
        prompt=given.prompt or _settings.text(environ, "AGENT_RELAY_PROMPT"),
        system_prompt=system_prompt(
            profile,
            given.system_prompt_append or _settings.text(environ, "AGENT_RELAY_SYSTEM_PROMPT_APPEND"),
        ),
        profile=given.profile or environ.get("AGENT_RELAY_AGENT_PROFILE") or None,
        agent_profile=profile,
        tags=[*_list(given.tags or ""), *_list(environ.get("AGENT_RELAY_TAGS", ""))],
        capabilities=[*_list(given.caps or ""), *_list(environ.get("AGENT_RELAY_CAPS", ""))],
        provider_args=[
            *_settings.texts(environ, "AGENT_RELAY_PROVIDER_ARGS_JSON"),
            *given.rest,
            *arguments[len(own) + 1 :],
        ],
        policy_name=environ.get("AGENT_RELAY_POLICY") or None,
        spawn_request_id=environ.get("AGENT_RELAY_SPAWN_REQUEST_ID") or None,
        automation_id=environ.get("AGENT_RELAY_AUTOMATION_ID") or None,
        automation_run_id=environ.get("AGENT_RELAY_AUTOMATION_RUN_ID") or None,
        grace=_grace(config),
        workspace=_settings.document(environ, "AGENT_RELAY_WORKSPACE_JSON"),
        info_file=_path(environ, "AGENT_RELAY_RUNNER_INFO_FILE"),
        host_url=environ.get("AGENT_RELAY_ORCHESTRATOR_URL") or None,
        host_url_file=_path(environ, "AGENT_RELAY_ORCHESTRATOR_URL_FILE"),
        log_file=_settings.log_file(environ, "AGENT_RELAY_LOG_FILE"),
        state_dir=Path(state) if state else home().absolute() / "runners" / agent_id,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="relay runner",
        usage="%(prog)s [options] provider [-- argument ...]",
        description="Run one agent and keep it connected to relay. A host daemon starts these.",
        epilog="What the provider's program is stands in AGENT_RELAY_PROVIDER_CONFIG_JSON."
        " An option that is not given is taken from the variable named with it.",
        add_help=False,
    )
    parser.add_argument("provider", choices=["command"], help="how the agent's program is spoken to")
    parser.add_argument("rest", nargs="*", default=[], metavar="argument", help="for the agent's program")
    for name, meaning in OPTIONS.items():
        parser.add_argument(f"--{name}", metavar="TEXT", help=meaning)
    parser.add_argument("--cwd", metavar="FOLDER", default=".", help="where the agent works (default: here)")
    parser.add_argument("--headless", action="store_true", help="start it again when it ends unasked")
    parser.add_argument("--json", action="store_true", help="say as JSON why the runner cannot start")
    parser.add_argument("-h", "--help", action="help", help="show this and end")
    return parser


OPTIONS = {
    "relay-url": "where the server is (AGENT_RELAY_URL)",
    "agent-id": "id of the agent (AGENT_RELAY_AGENT_ID; default: made from host, provider and label)",
    "label": "its name for people and for label: addresses (AGENT_RELAY_LABEL)",
    "tags": "tags it has, separated by commas (with those of AGENT_RELAY_TAGS)",
    "caps": "capabilities it has, separated by commas (with those of AGENT_RELAY_CAPS)",
    "approval": "what it may do unasked: open, guarded or read-only (AGENT_RELAY_APPROVAL; default: guarded)",
    "model": "the model it is to use (AGENT_RELAY_MODEL)",
    "profile": "the name of its profile (AGENT_RELAY_AGENT_PROFILE)",
    "effort": "how hard the model is to think (AGENT_RELAY_EFFORT)",
    "prompt": "what it is told first (AGENT_RELAY_PROMPT)",
    "system-prompt-append": "what is added to its system prompt (AGENT_RELAY_SYSTEM_PROMPT_APPEND)",
}


def _grace(config: Mapping[str, Any]) -> float:
    """`headless.shutdownTimeoutMs` of the provider, in seconds (1.2.1)."""
    given = config.get("headless", {}).get("shutdownTimeoutMs")
    return GRACE if given is None else float(given / 1000)


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(environ[name]) if environ.get(name) else None


def _own_id(provider: str, label: str | None) -> str:
    return f"{socket.gethostname()}-{provider}-{label or 'agent'}-{uuid.uuid4().hex[:8]}"
