"""What is shipped: a fast command line, every file the program needs, and extras that hold all that is needed for their
purpose. Environments are real ones, made of a built wheel and of what it requires, which is linked from where the tests
run, so that no index is asked."""

import json
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
HEAVY = {"trio", "quart", "hypercorn", "rich", "httpx2", "apsw", "attrs", "cattrs", "orjson"}
NEEDS_SERVER = (
    "relay needs its server extra: install it as relay[server], in a checkout with pip install '.[server]'\n"
)
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("arguments", [["--help"], ["send", "--help"], ["demo", "--help"], ["--version"]])
def test_help_loads_click_and_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from relay.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(json.loads(done.stderr))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True
    )
    [built] = folder.glob("*.whl")
    return built


class Environment:
    """One in which somebody has installed the wheel with some extras, and perhaps more."""

    def __init__(self, folder: Path, wheel: Path, *extras: str, beside: tuple[str, ...] = ()) -> None:
        venv.create(folder, symlinks=True)
        self._folder = folder
        self._packages = next(folder.glob("lib/python*/site-packages"))
        zipfile.ZipFile(wheel).extractall(self._packages)
        [metadata] = self._packages.glob("relay-*.dist-info")
        self.requires: set[str] = set()
        self._gather(PathDistribution(metadata), {"", *extras})
        for name in beside:
            self._require(name, set())
        for name in self.requires:
            self._link(distribution(name))

    def _gather(self, of: Distribution, extras: set[str]) -> None:
        for line in of.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                if needed.name == of.name:
                    self._gather(of, needed.extras)
                else:
                    self._require(needed.name, needed.extras)

    def _require(self, name: str, extras: set[str]) -> None:
        if name not in self.requires or extras:
            self.requires.add(name)
            self._gather(distribution(name), {"", *extras})

    def _link(self, installed: Distribution) -> None:
        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            link = self._packages / top
            if not link.exists():
                link.symlink_to(Path(str(installed.locate_file(top))))

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        python = self._folder / "bin" / "python"
        return subprocess.run(
            [python, "-I", *arguments], cwd=cwd or self._folder, capture_output=True, text=True, timeout=60
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`relay …`, as the script would start it that pip makes."""
        script = (
            "import sys\n"
            "from importlib.metadata import entry_points\n"
            "[command] = entry_points(group='console_scripts', name='relay')\n"
            f"sys.argv = ['relay', *{arguments!r}]\n"
            "command.load()()\n"
        )
        return self.run("-c", script)


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Of somebody who uses the runtime, and pytest and click for other things."""
    return Environment(tmp_path_factory.mktemp("plain"), wheel, beside=("pytest", "click"))


def test_the_wheel_has_migrations_types_and_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "relay/py.typed" in names
    for migration in ("0001_initial", "0002_messaging"):
        assert f"relay/store/migrations/{migration}.sql" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_relay_alone_is_the_runtime_and_the_test_kit_on_trio_and_attrs(wheel: Path, tmp_path: Path) -> None:
    alone = Environment(tmp_path, wheel)
    of_trio = {re.split(r"[^\w.-]", line)[0] for line in distribution("trio").requires or ()}
    assert {"trio", "attrs"} <= alone.requires <= {"trio", "attrs"} | of_trio
    [program] = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "trio.run" in block]
    done = alone.run("-c", f"import relay.testing\n{program}")
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_the_command_without_the_server_extra_says_what_to_install(
    wheel: Path, tmp_path: Path, plain: Environment
) -> None:
    alone = Environment(tmp_path, wheel)
    for done in (
        alone.command(),
        alone.command("--help"),
        alone.run("-m", "relay", "serve"),
        plain.command("routes"),  # click is there, for whatever reason
    ):
        assert (done.returncode, done.stdout, done.stderr) == (1, "", NEEDS_SERVER)


def test_the_store_without_its_extra_says_what_to_install(plain: Environment) -> None:
    done = plain.run("-c", "import relay.store")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "\nModuleNotFoundError: relay.store needs apsw: install relay with its extra, relay[store]\n"
    )


def test_the_store_extra_is_all_that_a_store_needs(wheel: Path, tmp_path: Path) -> None:
    script = (
        "import pkgutil, trio\n"
        "import relay.store, relay.testing.crashes\n"
        "from relay.actors import open_system\n"
        "async def main():\n"
        "    async with open_system() as system, relay.store.open_store(None, system) as store:\n"
        "        print(store.row('select count(*) from events'))\n"
        "trio.run(main)\n"
    )
    done = Environment(tmp_path, wheel, "store").run("-c", script)
    assert (done.stdout, done.stderr) == ("(0,)\n", "")


def test_the_server_extra_is_all_that_every_module_needs(wheel: Path, tmp_path: Path) -> None:
    script = (
        "import importlib, pkgutil, relay\n"
        "for module in pkgutil.walk_packages(relay.__path__, 'relay.'):\n"
        "    if module.name != 'relay.testing.plugin':\n"
        "        importlib.import_module(module.name)\n"
    )
    server = Environment(tmp_path, wheel, "server")
    assert server.run("-W", "error", "-c", script).stderr == ""
    assert server.command("--version").stdout.startswith("relay, version ")
    assert server.command("routes").returncode == 0


SUITE = """
def test_of_somebody_who_has_pytest_for_other_things():
    pass
"""
ASYNC_SUITE = """
async def test_of_actors({fixture}):
    assert await {fixture}_works({fixture})

async def system_works(system):
    await system.idle()
    return True

async def probe_works(probe):
    return await probe(object)
"""


def test_the_plugin_asks_for_pytest_trio_only_where_a_fixture_of_it_is_used(
    plain: Environment, tmp_path: Path
) -> None:
    suite = tmp_path / "test_suite.py"
    suite.write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    assert plain.run("-m", "pytest", suite.name, cwd=tmp_path).returncode == 0
    for fixture in ("system", "probe"):
        suite.write_text(SUITE + ASYNC_SUITE.format(fixture=fixture))
        done = plain.run("-m", "pytest", suite.name, cwd=tmp_path)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert (
            f"the fixture `{fixture}` needs pytest-trio: install relay with its extra, relay[testing]"
            in done.stderr
        )
        assert "Traceback" not in done.stdout + done.stderr


def test_the_testing_extra_is_all_that_the_plugin_needs(wheel: Path, tmp_path: Path) -> None:
    testing = Environment(tmp_path / "environment", wheel, "testing")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    suite = tmp_path / "test_suite.py"
    for fixture in ("system", "probe"):
        suite.write_text(
            "import pytest\npytestmark = pytest.mark.trio\n" + ASYNC_SUITE.format(fixture=fixture)
        )
        done = testing.run("-m", "pytest", suite.name, cwd=tmp_path)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("extra", ["testing", "store", "server"])
def test_the_readme_names_each_extra(extra: str) -> None:
    assert f"pip install '.[{extra}]'" in README
