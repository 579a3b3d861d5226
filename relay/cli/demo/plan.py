"""Who works on what in the demo, and what must therefore be true at the end. Plain data; agents get it as JSON."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Plan", "Step", "key_in", "make"]

FOLDER = "relay-demo"
SHARED = f"{FOLDER}/TEAM.md"  # two agents add it, so the second one to merge meets a conflict


@dataclass(frozen=True)
class Step:
    """One commit: `id` stands in its message, so that git can be asked for it."""

    id: str
    file: str
    subject: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """`pace` is seconds per line. The first of the team leads; `rivals` write the same file; `victim` is killed."""

    steps: dict[str, tuple[Step, ...]]
    pace: float

    @property
    def team(self) -> tuple[str, ...]:
        return tuple(self.steps)

    @property
    def lead(self) -> str:
        return self.team[0]

    @property
    def rivals(self) -> tuple[str, str]:
        return self.team[0], self.team[1]

    @property
    def victim(self) -> str:
        return self.team[-1]

    @property
    def work_to_interrupt(self) -> str:
        return self.steps[self.victim][-1].id

    def messages(self, notes: Iterable[str] = ()) -> dict[str, set[str]]:
        """Key of every message the team sends -> who must receive it. Notes from outside go to the lead."""
        sent = {key: set(self.team[1:]) for key in (f"{self.lead}-go", f"{self.lead}-done")}
        sent |= {key: {self.lead} for key in notes}
        for number, name in enumerate(self.team):
            following = self.team[(number + 1) % len(self.team)]
            sent[f"{name}-hello"] = {following}
            sent[f"{following}-welcomes-{name}"] = {name}
            if name != self.lead:
                sent[f"{name}-ready"] = sent[f"{name}-landed"] = {self.lead}
        return sent

    def write(self, name: str, folder: Path) -> Path:
        """Writes what one agent needs to know into `folder`, and returns the file."""
        number = self.team.index(name)
        told: dict[str, Any] = {
            "name": name,
            "lead": self.lead,
            "next": self.team[(number + 1) % len(self.team)],
            "team": self.team,
            "pace": self.pace,
            "journal": str(folder / f"{name}.jsonl"),
            "steps": [vars(step) for step in self.steps[name]],
        }
        path = folder / f"{name}.json"
        path.write_text(json.dumps(told))
        return path


def key_in(body: str) -> str:
    """The key of a message stands at its end, so that what was sent can be compared with what arrived."""
    return body.rpartition("[")[2].removesuffix("]")


def make(*, quick: bool) -> Plan:
    """Four agents; three that work faster when it has to be quick."""
    names = ("ada", "ben", "cora") if quick else ("ada", "ben", "cora", "dan")
    return Plan({name: _steps(name, rival=name in names[:2]) for name in names}, 0.1 if quick else 0.2)


def _steps(name: str, *, rival: bool) -> tuple[Step, ...]:
    notes = [f"# Notes of {name}", ""] + [f"- {name} looked at part {part}" for part in range(1, 7)]
    first = Step(f"{name}/1", f"{FOLDER}/{name}.md", f"Write down what {name} saw", tuple(notes))
    if rival:
        shared = ("# The team", "", f"- {name} leads")
        return first, Step(f"{name}/2", SHARED, f"Name {name} as the lead", shared)
    more = (*notes, "", *(f"- {name} finished part {part}" for part in range(1, 7)))
    return first, Step(f"{name}/2", f"{FOLDER}/{name}.md", f"Finish the notes of {name}", more)
