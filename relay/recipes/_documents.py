"""From the text of a file to what it says: lists, texts, numbers, and objects whose members have places.

Only what JSON could say as well is taken. Of YAML no anchors and aliases, which let a small file become a huge document, no tags,
which name types, no second document; its plain words are read as YAML 1.2 has them, so `no` is a text. Of TOML, which is
`tomllib`'s, no dates and times. Nothing here recurses, so that depth costs nothing before it is refused.
"""

from __future__ import annotations

import math
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import yaml

__all__ = ["LARGEST", "SUFFIXES", "Document", "Unreadable", "read_document"]

LARGEST = 65_536  # bytes
DEEPEST = 16  # levels
SUFFIXES = (".toml", ".yaml", ".yml")

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?\Z")


class Unreadable(Exception):
    """The file cannot be read, or makes no document; the text says why."""


@attrs.define
class Document:
    """What a file says. `lines` are the places of members by their paths, where that is known; `problems` what is wrong
    although there is a document."""

    content: Any
    lines: dict[str, int] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)

    def placed(self, problem: str) -> str:
        """A problem that begins with the path of a member, with the line that this is on."""
        path = problem.partition(":")[0]
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        line = self.lines.get(path) if path else None
        return problem if line is None else f"{problem} (line {line})"


def read_document(path: Path) -> Document:
    """What the file says; raises `Unreadable`."""
    text = _read(path)
    try:
        document = _toml(text) if path.suffix == ".toml" else _yaml(text)
    except RecursionError:
        raise Unreadable(f"is nested more than {DEEPEST} levels deep") from None
    document.problems += map(document.placed, _strange(document.content))
    return document


def _read(path: Path) -> str:
    try:
        descriptor = os.open(
            path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )  # of a pipe nobody may ever write to
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unreadable("is no regular file")
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    if len(data) > LARGEST:
        raise Unreadable(f"is larger than {LARGEST} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"is not UTF-8 (line {line})") from None


def _toml(text: str) -> Document:
    try:
        return Document(tomllib.loads(text))
    except ValueError as error:  # with the place; a number of thousands of digits is one, too
        raise Unreadable(f"is not TOML: {error}") from None


def _strange(content: Any) -> Iterator[str]:
    """What JSON could not say, each with the path of its member; raises `Unreadable` where it is too deep."""
    level, depth = [("", content)], 0
    while level:
        depth += 1
        below: list[tuple[str, Any]] = []
        for path, value in level:
            if isinstance(value, dict | list) and depth > DEEPEST:
                raise Unreadable(f"is nested more than {DEEPEST} levels deep")
            if isinstance(value, dict):
                below += ((f"{path}.{name}" if path else name, member) for name, member in value.items())
            elif isinstance(value, list):
                below += ((f"{path}[{number}]", member) for number, member in enumerate(value))
            elif isinstance(value, str):
                if "\0" in value:
                    yield f"{path}: holds the character NUL, which can be given to no program"
            elif isinstance(value, float) and not math.isfinite(value):
                yield f"{path}: {value} is no number that is taken"
            elif value is not None and not isinstance(value, int | float):
                yield f"{path}: a date or time is not taken: make it a text"
        level = below


def _yaml(text: str) -> Document:
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as error:
        raise Unreadable(f"is not YAML: {_said(error)}") from None
    return builder.document


def _said(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"
    return " ".join(str(error).split())


@attrs.define
class _Open:
    """A container that is being read. `key` is that of the member which comes next, once it has been read."""

    content: dict[str, Any] | list[Any]
    path: str
    key: str | None = None

    def place(self) -> str:
        if isinstance(self.content, list):
            return f"{self.path}[{len(self.content)}]"
        return f"{self.path}.{self.key}" if self.path else f"{self.key}"


class _Builder:
    """Puts a document together from the parser's events."""

    def __init__(self) -> None:
        self.document = Document(None)
        self._open: list[_Open] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise Unreadable(f"holds more than one document (line {line})")
            case yaml.AliasEvent():
                self._wrong("an alias is not taken: write it out", line)
                self._put(None, line)
            case yaml.ScalarEvent():
                self._check(event, line)
                self._scalar(event, line)
            case yaml.MappingStartEvent():
                self._check(event, line)
                self._begin({}, line)
            case yaml.SequenceStartEvent():
                self._check(event, line)
                self._begin([], line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()

    def _check(self, event: Any, line: int) -> None:
        if event.anchor is not None:
            self._wrong("an anchor is not taken: write out what it stands for", line)
        if event.tag is not None and event.tag != "!":
            self._wrong(f"the tag {event.tag} is not taken", line)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        above = self._open[-1] if self._open else None
        if above is not None and isinstance(above.content, dict) and above.key is None:
            above.key = event.value
            if above.key in above.content:
                self._wrong("is there twice", line)
            return
        plain = event.implicit[0] and event.tag is None
        self._put(_plain(event.value) if plain else event.value, line)

    def _begin(self, content: dict[str, Any] | list[Any], line: int) -> None:
        above = self._open[-1] if self._open else None
        if above is not None and isinstance(above.content, dict) and above.key is None:
            raise Unreadable(f"has a member whose name is no text (line {line})")
        path = above.place() if above is not None else ""
        self._put(content, line)
        self._open.append(_Open(content, path))
        if len(self._open) > DEEPEST:
            raise Unreadable(f"is nested more than {DEEPEST} levels deep (line {line})")

    def _put(self, value: Any, line: int) -> None:
        if not self._open:
            self.document.content = value
            return
        above = self._open[-1]
        self.document.lines.setdefault(above.place(), line)
        if isinstance(above.content, list):
            above.content.append(value)
        elif above.key is not None:
            above.content[above.key], above.key = value, None
        else:
            raise Unreadable(f"has a member whose name is no text (line {line})")

    def _wrong(self, text: str, line: int) -> None:
        where = self._open[-1].place() if self._open else "the document"
        self.document.problems.append(f"{where}: {text} (line {line})")


def _plain(text: str) -> Any:
    """What an unquoted word means."""
    if text.lower() in _WORDS and text in (text.lower(), text.title(), text.upper()):
        return _WORDS[text.lower()]
    if _INTEGER.match(text):
        return int(text)
    return float(text) if _NUMBER.match(text) else text
