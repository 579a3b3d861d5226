"""What a recipe must be beyond the types of its members. It is judged whatever else is wrong with it, so that every mistake can be
told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import Any

import attrs

from relay import wire

from ._placeholders import GENERAL, placeholders, unknown

__all__ = ["TAKEN", "mistakes"]

TAKEN = ("instances", "start")
"""Names that `GET /api/recipes/…` has for something else (RTE-2)."""


def _members(kind: type[Any]) -> tuple[str, ...]:
    """As a file has them."""
    words = (field.name.split("_") for field in attrs.fields(kind))
    return tuple(first + "".join(map(str.title, rest)) for first, *rest in words)


MEMBERS: Mapping[type[Any], tuple[str, ...]] = {
    kind: _members(kind) for kind in (wire.Recipe, wire.RecipeInput, wire.RecipeRole, wire.RecipeStep)
}

Places = list[tuple[str, dict[str, Any]]]


def mistakes(content: dict[str, Any]) -> Iterator[str]:
    """What is wrong, each with the path of its member."""
    content = _trimmed(content)
    roles, steps = _each(content, "roles"), _each(content, "steps")
    yield from _strange(content, wire.Recipe, "")
    if isinstance(given := content.get("input"), dict):
        yield from _strange(given, wire.RecipeInput, "input")
    for path, role in roles:
        yield from _strange(role, wire.RecipeRole, path)
    for path, step in steps:
        yield from _strange(step, wire.RecipeStep, path)
    if content.get("name") in TAKEN:
        yield f"name: {content['name']} is no name for a recipe, as /api/recipes/{content['name']} is something else"
    if content.get("roles") == []:
        yield "roles: a recipe needs at least one role"
    yield from _repeated(roles, "role")
    yield from _repeated(steps, "id")
    names = {role["role"] for _, role in roles if isinstance(role.get("role"), str)}
    yield from _of_steps(steps, names)
    yield from _of_placeholders(content, roles, steps, names)


def _trimmed(content: Any) -> Any:
    """With its texts as they are taken: without what is blank around them."""
    if isinstance(content, dict):
        return {name: _trimmed(member) for name, member in content.items()}
    if isinstance(content, list):
        return [_trimmed(each) for each in content]
    return content.strip() if isinstance(content, str) else content


def _each(content: dict[str, Any], member: str) -> Places:
    """The objects in a list, with their paths; what else is in it is somebody else's complaint."""
    given = content.get(member)
    found = enumerate(given) if isinstance(given, list) else ()
    return [(f"{member}[{number}]", each) for number, each in found if isinstance(each, dict)]


def _strange(given: dict[str, Any], kind: type[Any], path: str) -> Iterator[str]:
    for name in given:
        if name not in MEMBERS[kind]:
            meant = get_close_matches(str(name), MEMBERS[kind], 1)
            hint = f"did you mean {meant[0]}?" if meant else f"expected one of {', '.join(MEMBERS[kind])}"
            yield (
                f"{path}.{name}: there is no such member; {hint}"
                if path
                else f"{name}: there is no such member; {hint}"
            )


def _repeated(places: Places, member: str) -> Iterator[str]:
    known: set[str] = set()
    for path, each in places:
        name = each.get(member)
        if not isinstance(name, str) or not name:
            continue
        if name in known:
            yield f"{path}.{member}: {name!r} is there twice"
        known.add(name)


def _of_steps(steps: Places, roles: set[str]) -> Iterator[str]:
    ids = {step["id"] for _, step in steps if isinstance(step.get("id"), str)}
    graph: dict[str, set[str]] = {}
    for path, step in steps:
        to = step.get("to")
        if isinstance(to, str) and to and to not in roles:
            yield f"{path}.to: there is no role {to!r}; the roles are {', '.join(sorted(roles)) or 'none'}"
        if step.get("kind") == wire.StepKind.SPAWN:
            yield f"{path}.kind: every role is started by itself; expected message, task"
        after = step.get("after")
        for number, name in enumerate(after if isinstance(after, list) else ()):
            if isinstance(name, str) and name not in ids:
                yield f"{path}.after[{number}]: there is no step {name!r}"
        if isinstance(step.get("id"), str):
            wanted = {name for name in after if isinstance(name, str)} if isinstance(after, list) else set()
            graph.setdefault(step["id"], set()).update(wanted & ids)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        yield f"steps: {' waits for '.join(circle)}, so none of them could ever begin"


def _of_placeholders(content: dict[str, Any], roles: Places, steps: Places, names: set[str]) -> Iterator[str]:
    texts = [(f"{path}.prompt", role.get("prompt")) for path, role in roles]
    texts += [
        (f"{path}.{member}", step.get(member)) for path, step in steps for member in ("subject", "body")
    ]
    said: set[str] = set()
    for path, text in texts:
        if not isinstance(text, str):
            continue
        said.update(placeholders(text))
        for name in unknown(text, names):
            known = ", ".join([*GENERAL, *(f"role.{role}" for role in sorted(names))])
            yield f"{path}: {{{{{name}}}}} stands for nothing; expected one of {known}"
        if "input" not in content and "input" in placeholders(text):
            yield f"{path}: {{{{input}}}} needs a member `input` which says what that is"
    if isinstance(content.get("input"), dict) and "input" not in said:
        yield "input: it would go nowhere; write {{input}} in a prompt, a subject or a body"
