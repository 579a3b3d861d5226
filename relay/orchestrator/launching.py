"""Starting a runner: a plain child in a session of its own, so that it goes on when the daemon ends (2.5-10, 2.5-12).

What is long is put in files beside the runner's own, which go when the session does (2.5-9).
"""

from __future__ import annotations

import os
import subprocess
import sys

from relay._files import write_text

from ._git import surroundings
from .config import Config
from .records import TAG, Records
from .session import Launch

__all__ = ["start_runner"]

LONG = 32 * 1024  # bytes; the system takes 128 KiB for one variable, and not many of those
IN_FILES = (
    "AGENT_RELAY_AGENT_PROFILE_JSON",
    "AGENT_RELAY_PROVIDER_CONFIG_JSON",
    "AGENT_RELAY_PROVIDER_ARGS_JSON",
    "AGENT_RELAY_PROMPT",
)
"""What a runner reads from a file as well."""

OWN = "AGENT_RELAY_TOKEN_JTI"
"""The variable that a runner has whose token is its own."""


def start_runner(launch: Launch, config: Config, records: Records, *, fresh: bool) -> int:
    """The process id of a new runner; `fresh` empties its log. Raises `OSError`."""
    command = [sys.executable, "-P", "-m", "relay.runner", launch.provider, "--headless", "--cwd", launch.cwd]
    with records.log_file(launch.name).open("wb" if fresh else "ab") as output:
        child = subprocess.Popen(
            command,
            cwd=launch.cwd,
            env=_environment(launch, config, records),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    child.returncode = 0  # its end is seen by process id, also by daemons that are not its parent
    return child.pid


def _told(launch: Launch, records: Records) -> dict[str, str]:
    """The launch's variables, the long ones as files that hold them."""
    told = dict(launch.environment)
    for name in IN_FILES:
        if len(os.fsencode(told.get(name, ""))) > LONG:
            path = records.payload_file(launch.name, name)
            write_text(path, told.pop(name))
            told[f"{name}_FILE"] = str(path)
    return told


def _environment(launch: Launch, config: Config, records: Records) -> dict[str, str]:
    """Ours, then the launch's, then what nothing can override."""
    inherited = {name: value for name, value in surroundings().items() if name != "PUBLIC_DIR"}
    token = {"AGENT_RELAY_TOKEN": config.token} if config.token else {}
    return {
        **inherited,
        **config.env,
        **_told(launch, records),
        **({} if OWN in launch.environment else token),
        "AGENT_RELAY_ORCHESTRATOR_URL_FILE": str(config.api_url_file),
        "AGENT_RELAY_URL": config.relay_url,
        "AGENT_RELAY_ID": launch.agent_id,
        "AGENT_RELAY_AGENT_ID": launch.agent_id,
        "AGENT_RELAY_PROVIDER": launch.provider,
        "AGENT_RELAY_APPROVAL": launch.approval_mode,
        "AGENT_RELAY_LOG_FILE": str(records.log_file(launch.name)),
        "AGENT_RELAY_STATE_DIR": str(config.state / "state" / launch.name),
        "PYTHONUNBUFFERED": "1",
        TAG: str(records.info_file(launch.name)),
    }
