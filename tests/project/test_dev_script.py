"""`dev.py`: what it says, and the environment it prepares. What it installs is shown by running it in a fresh clone."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
DEV = ROOT / "dev.py"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(DEV), *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def dev() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev", DEV)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_explains_itself_from_any_folder(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.returncode == 0
    for verb in ("demo", "test", "check", "serve", "bench"):
        assert f"python3 dev.py {verb}" in done.stdout


def test_an_unknown_verb_is_a_usage_error(tmp_path: Path) -> None:
    done = run("tset", cwd=tmp_path)
    assert done.returncode == 2
    assert "does not know `tset`" in done.stderr
    assert "python3 dev.py test" in done.stderr


def test_it_takes_this_python_and_the_index_that_pip_would_use(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere/else")
    environment = dev.environment()
    assert environment["UV_PYTHON"] == sys.executable
    assert environment["UV_PYTHON_DOWNLOADS"] == "never"
    assert environment["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert "VIRTUAL_ENV" not in environment


def test_only_a_uv_of_the_pinned_minor_version_will_do(dev: ModuleType, tmp_path: Path) -> None:
    minor = ".".join(dev.UV.split(".")[:2])
    for version, fits in ((dev.UV, True), (f"{minor}.99", True), ("0.1.0", False), ("", False)):
        fake = tmp_path / f"uv-{version}"
        fake.write_text(f"#!/bin/sh\necho uv {version}\n")
        fake.chmod(0o755)
        assert dev.is_pinned(str(fake)) is fits
    assert not dev.is_pinned(str(tmp_path / "absent"))


def test_the_readme_starts_with_the_two_commands() -> None:
    first, second = [line for line in (ROOT / "README.md").read_text().splitlines() if "dev.py" in line][:2]
    assert first.startswith("python3 dev.py demo")
    assert second.startswith("python3 dev.py test")
