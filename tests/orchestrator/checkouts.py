"""Real repositories, and what people do in them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
}


class Repo:
    """A checkout, and what a person does in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments],
            env=os.environ | IDENTITY | {"GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self, name: str, text: str) -> str:
        """A commit that gives one file that text; its id."""
        self.write(name, text)
        self.git("add", "--", name)
        self.git("commit", "-qm", f"Write {name}")
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def tip(self, branch: str) -> str:
        return self.git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", check=False)

    def fingerprint(self) -> tuple[str, ...]:
        """Everything that a read-only question must leave alone."""
        files = sorted(
            f"{path.relative_to(self.path)}:{path.stat().st_mtime_ns}"
            for path in self.path.rglob("*")
            if path.is_file() and ".git" not in path.parts
        )
        return (
            self.git("for-each-ref"),
            self.git("status", "--porcelain"),
            self.git("stash", "list"),
            *files,
        )

    def clone(self, path: Path) -> Repo:
        subprocess.run(["git", "clone", "-q", str(self.path), str(path)], check=True)
        return Repo(path)


def new_repository(path: Path) -> Repo:
    path.mkdir(parents=True)
    repo = Repo(path)
    repo.git("init", "-q", "-b", "main")
    return repo
