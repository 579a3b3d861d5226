"""Settings, checked: whatever is wrong with one is a `BadOptions` that names it, and says what is expected instead.

Nothing is taken for something else: what is not null has to be of its kind.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relay.wire import ApprovalMode

__all__ = [
    "PROVIDER",
    "BadOptions",
    "address",
    "approval",
    "document",
    "log_file",
    "program",
    "provider",
    "text",
    "texts",
    "token",
]

PROVIDER = "AGENT_RELAY_PROVIDER_CONFIG_JSON"
EXAMPLE = '{"command": "my-agent", "defaultArgs": []}'


class BadOptions(Exception):
    """The runner cannot start with what it was told; the text says what to change."""


def text(environ: Mapping[str, str], name: str) -> str | None:
    """The value of a variable, or what the file holds that `<NAME>_FILE` names."""
    file = environ.get(f"{name}_FILE")
    try:
        return (Path(file).read_text() if file else environ.get(name)) or None
    except (OSError, ValueError) as error:
        raise BadOptions(f"{name}_FILE cannot be read: {error}") from None


def document(environ: Mapping[str, str], name: str) -> dict[str, Any] | None:
    given: dict[str, Any] | None = _checked(
        name, _json(environ, name), _is_object, 'an object, such as {"key": "value"}'
    )
    return given


def texts(environ: Mapping[str, str], name: str) -> list[str]:
    return _checked(name, _json(environ, name), _are_texts, 'a list of texts, such as ["-v"]') or []


def provider(environ: Mapping[str, str]) -> dict[str, Any]:
    """The configuration of the provider (1.2.1), without what is null."""
    given = _checked(PROVIDER, _json(environ, PROVIDER), _is_object, f"an object, such as {EXAMPLE}")
    config = {name: value for name, value in (given or {}).items() if value is not None}
    if "command" not in config:
        raise BadOptions(f"{PROVIDER} is needed, with the field `command`, such as {EXAMPLE}")
    for name, (is_right, expected) in FIELDS.items():
        _checked(f"{PROVIDER}, field `{name}`", config.get(name), is_right, expected)
    _checked(
        f"{PROVIDER}, field `headless.shutdownTimeoutMs`",
        config.get("headless", {}).get("shutdownTimeoutMs"),
        lambda value: type(value) is int and value > 0,
        "a positive number of milliseconds",
    )
    return config


def program(config: Mapping[str, Any], cwd: Path) -> None:
    """That there is a program to start, looked for as the system will from `cwd`."""
    command = config["command"]
    if os.sep in command:
        found = shutil.which(cwd / command)
    else:
        path = config.get("env", {}).get("PATH", os.environ.get("PATH", os.defpath))
        found = shutil.which(command, path=path)
    if found is None:
        raise BadOptions(
            f"{PROVIDER}, field `command`: there is no program {command!r}; install it, or give the path of one"
        )


def approval(where: str, given: str | None) -> str:
    """How much the agent may do unasked (1.27)."""
    if not given:
        return ApprovalMode.GUARDED.value
    _checked(where, given, lambda value: value in set(ApprovalMode), f"one of {', '.join(ApprovalMode)}")
    return given


def address(where: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    _checked(where, url, lambda _: usable, "an address, such as http://127.0.0.1:4850")
    return url


def token(given: str | None) -> str | None:
    """The token, fit for a header; what it is does not show in an error."""
    if given and not (given.isascii() and given.isprintable()):
        raise BadOptions(
            "AGENT_RELAY_TOKEN, or else the token file, has characters that no token of relay has: set it to a token"
        )
    return given


def log_file(environ: Mapping[str, str], name: str) -> Path | None:
    """A file that can be written to."""
    if not environ.get(name):
        return None
    path = Path(environ[name])
    try:
        path.open("ab").close()
    except OSError as error:
        raise BadOptions(
            f"{name}: nothing can be written to {path} ({error.strerror}): name another file"
        ) from None
    return path


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _names_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "command": (_is_text, "a text that is not empty"),
    "defaultArgs": (_are_texts, "a list of texts"),
    "defaultTags": (_are_texts, "a list of texts"),
    "defaultCapabilities": (_are_texts, "a list of texts"),
    "env": (_names_texts, "an object of texts"),
    "restart": (lambda value: isinstance(value, bool), "true or false"),
    "headless": (_is_object, "an object"),
    "protocol": (lambda value: value == "jsonl", 'no other than "jsonl"'),
}


def _checked(where: str, value: Any, is_right: Callable[[Any], bool], expected: str) -> Any:
    if value is not None and not is_right(value):
        raise BadOptions(f"{where}: expected {expected}; it is {json.dumps(value)[:80]}")
    return value


def _json(environ: Mapping[str, str], name: str) -> Any:
    given = text(environ, name)
    try:
        return json.loads(given) if given else None
    except (ValueError, RecursionError) as error:
        raise BadOptions(f"{name}: expected JSON: {error}") from None
