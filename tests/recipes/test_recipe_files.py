"""Recipe files: every kind of mistake is told, with file, path and, in YAML, line; and what was right is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given as given_, settings, strategies as st

from relay import wire
from relay.recipes import LARGEST, Cookbook, NoRecipe, check_file, fill

GOOD: dict[str, Any] = {
    "name": "pair",
    "description": "One writes, the other reads.",
    "roles": [{"role": "writer", "provider": "claude"}, {"role": "reader", "provider": "codex"}],
    "steps": [
        {"id": "write", "to": "writer", "body": "write"},
        {"id": "read", "to": "reader", "body": "read", "after": ["write"]},
    ],
}
MINIMAL = 'name = "m"\ndescription = "d"\n[[roles]]\nrole = "r"\nprovider = "claude"\n'


def good(**members: Any) -> dict[str, Any]:
    return {**GOOD, **members}


def role(**members: Any) -> dict[str, Any]:
    return good(roles=[{"role": "writer", "provider": "claude", **members}], steps=[])


def step(**members: Any) -> dict[str, Any]:
    return good(steps=[{"id": "write", "to": "writer", "body": "write", **members}])


def given(**members: Any) -> dict[str, Any]:
    return {**step(body="{{input}}"), "input": members}


def problems(folder: Path, content: str | bytes | dict[str, Any], name: str = "r.yaml") -> list[str]:
    """What is wrong with a file, without its name."""
    path = folder / name
    if isinstance(content, dict):
        content = yaml.safe_dump(content, sort_keys=False)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    recipe, found = check_file(path)
    assert (recipe is None) == bool(found)
    assert all(problem.startswith(f"{path}: ") for problem in found)
    return [problem.removeprefix(f"{path}: ") for problem in found]


def without(content: dict[str, Any], member: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != member}


@pytest.mark.spec("O-38")
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (without(GOOD, "name"), "name: is required"),
        (without(GOOD, "description"), "description: is required"),
        (without(without(GOOD, "roles"), "steps"), "roles: is required"),
        (good(name="a b"), "name: expected a name that begins with a letter"),
        (good(name="../debug"), "name: expected a name that begins with a letter"),
        (good(name="x" * 121), "name: longer than 120 characters"),
        (good(name=7), "name: expected a text"),
        (good(name="instances"), "name: instances is no name for a recipe"),
        (good(name="start"), "name: start is no name for a recipe"),
        (good(description=["x"]), "description: expected a text"),
        (good(description="x" * 2_001), "description: longer than 2000 characters"),
        (good(roles=[], steps=[]), "roles: a recipe needs at least one role"),
        (good(roles={}, steps=[]), "roles: expected a list of at most 20 objects"),
        (good(roles=["writer"], steps=[]), "roles[0]: expected an object"),
        (
            good(roles=[{"role": f"r{n}", "provider": "claude"} for n in range(21)], steps=[]),
            "roles: expected a list of at most 20 objects",
        ),
        (good(roles=[{"provider": "claude"}], steps=[]), "roles[0].role: is required"),
        (good(roles=[{"role": "r"}], steps=[]), "roles[0].provider: is required"),
        (role(role="Writer"), "roles[0].role: expected a word that begins with a small letter"),
        (role(provider="gpt"), "roles[0].provider: expected one of claude, codex, command"),
        (role(approvalMode="yolo"), "roles[0].approvalMode: expected one of open, guarded, read-only"),
        (role(prompt="x" * 4_001), "roles[0].prompt: longer than 4000 characters"),
        (
            role(prompt="hi {{nobody}}"),
            "roles[0].prompt: {{nobody}} stands for nothing; expected one of input,",
        ),
        (role(prompt="{{role.reader}}"), "roles[0].prompt: {{role.reader}} stands for nothing"),
        (role(prompt="{{input}}"), "roles[0].prompt: {{input}} needs a member `input`"),
        (role(tags="a"), "roles[0].tags: expected a list of texts"),
        (role(tags=[1]), "roles[0].tags: expected a list of texts"),
        (role(tags=[f"t{n}" for n in range(51)]), "roles[0].tags: more than 50 elements"),
        (role(label="x" * 121), "roles[0].label: longer than 120 characters"),
        (role(cwd="x" * 501), "roles[0].cwd: longer than 500 characters"),
        (role(effort="much"), "roles[0].effort: expected one of low, medium, high, xhigh, max"),
        (role(workspaceMode="alone"), "roles[0].workspaceMode: expected one of isolated, shared, inherit"),
        (role(providerConfig=[]), "roles[0].providerConfig: expected an object"),
        (role(promt="x"), "roles[0].promt: there is no such member; did you mean prompt?"),
        (role(xyz="x"), "roles[0].xyz: there is no such member; expected one of role, provider, label"),
        (
            good(roles=[{"role": "r", "provider": "claude"}, {"role": "r", "provider": "codex"}], steps=[]),
            "roles[1].role: 'r' is there twice",
        ),
        (good(step=[]), "step: there is no such member; did you mean steps?"),
        (good(input="x"), "input: expected an object"),
        (given(), "input.about: is required"),
        (given(about="x", defaults="y"), "input.defaults: there is no such member; did you mean default?"),
        (given(about="x", default="y" * 2_001), "input.default: longer than 2000 characters"),
        (given(about="x", default=7), "input.default: expected a text"),
        (good(input={"about": "x"}), "input: it would go nowhere; write {{input}} in a prompt"),
        (good(steps={"id": "a"}), "steps: expected a list of at most 100 objects"),
        (good(steps=[7]), "steps[0]: expected an object"),
        (step(id=None), "steps[0].id: is required"),
        (step(id="spawn:writer"), "steps[0].id: expected a word that begins with a small letter"),
        (step(to="nobody"), "steps[0].to: there is no role 'nobody'; the roles are reader, writer"),
        (step(to=None), "steps[0].to: is required"),
        (step(body=" "), "steps[0].body: is required"),
        (step(body="x" * 20_001), "steps[0].body: longer than 20000 characters"),
        (step(body="{{step.write}}"), "steps[0].body: {{step.write}} stands for nothing"),
        (step(subject="{{x}}"), "steps[0].subject: {{x}} stands for nothing"),
        (step(subject="x" * 241), "steps[0].subject: longer than 240 characters"),
        (step(kind="chat"), "steps[0].kind: expected one of spawn, message, task"),
        (step(kind="spawn"), "steps[0].kind: every role is started by itself; expected message, task"),
        (step(after="write"), "steps[0].after: expected a list of texts"),
        (step(after=["wirte"]), "steps[0].after[0]: there is no step 'wirte'"),
        (step(after=["write"]), "steps: write waits for write, so none of them could ever begin"),
        (good(name=" start "), "name: start is no name for a recipe"),
        (
            good(roles=[{"role": "r", "provider": "claude"}, {"role": " r", "provider": "codex"}], steps=[]),
            "roles[1].role: 'r' is there twice",
        ),
        (
            good(steps=[{"id": "a", "to": "writer", "body": "x"}, {"id": "a ", "to": "reader", "body": "x"}]),
            "steps[1].id: 'a' is there twice",
        ),
        (role(prompt="a\0b"), "roles[0].prompt: holds the character NUL, which can be given to no program"),
        (role(providerArgs=["a", "\0"]), "roles[0].providerArgs[1]: holds the character NUL"),
        (step(afer=[]), "steps[0].afer: there is no such member; did you mean after?"),
        (
            good(steps=[{"id": "a", "to": "writer", "body": "x"}, {"id": "a", "to": "reader", "body": "x"}]),
            "steps[1].id: 'a' is there twice",
        ),
        (
            good(
                steps=[
                    {"id": "a", "to": "writer", "body": "x", "after": ["c"]},
                    {"id": "b", "to": "writer", "body": "x", "after": ["a"]},
                    {"id": "c", "to": "writer", "body": "x", "after": ["b"]},
                ]
            ),
            "so none of them could ever begin",
        ),
    ],
)
def test_one_mistake_is_told_with_its_place(tmp_path: Path, content: dict[str, Any], told: str) -> None:
    (found,) = problems(tmp_path, content)
    assert told in found
    assert found.partition(":")[0] in told or "waits for" in found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a recipe is an object with the members name, description and roles"),
        ("- a\n- b\n", "a recipe is an object"),
        ("just a text", "a recipe is an object"),
        ("name: [a\n", "is not YAML: "),
        ("name: a\n  b: c\n", "is not YAML: mapping values are not allowed"),
        ("name: \tx\n\t- y", "is not YAML: "),
        ("name: 'a\n", "is not YAML: "),
        ("name: \x00", "is not YAML: "),
        ("name: a\n---\nname: b\n", "holds more than one document (line 2)"),
        ("? [a, b]\n: c\n", "has a member whose name is no text (line 1)"),
        ("? {a: b}\n: c\n", "has a member whose name is no text (line 1)"),
        ("? *a\n: c\n", "has a member whose name is no text (line 1)"),
        ("[" * 1_000, "is nested more than 16 levels deep"),
        ("{a: " * 1_000, "is nested more than 16 levels deep"),
        ("- " * 20_000, "is nested more than 16 levels deep"),
    ],
)
def test_what_is_no_document_of_yaml(tmp_path: Path, text: str, told: str) -> None:
    (found,) = problems(tmp_path, text)
    assert told in found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = ", "is not TOML: "),
        ("name = 'a'\nname = 'b'\n", "is not TOML: Cannot overwrite a value (at line 2"),
        ("x = " + "[" * 500 + "]" * 500, "is nested more than 16 levels deep"),
        ("x = " + "[" * 20_000, "is nested more than 16 levels deep"),
        ("[" + ".".join("a" * 40) + "]\nx = 1\n", "is nested more than 16 levels deep"),
        ("x = " + "9" * 5_000, "is not TOML: "),
    ],
)
def test_what_is_no_document_of_toml(tmp_path: Path, text: str, told: str) -> None:
    (found,) = problems(tmp_path, text, "r.toml")
    assert told in found


@pytest.mark.parametrize(
    ("member", "told"),
    [
        ("description = 2020-01-01", "description: a date or time is not taken: make it a text"),
        ("description = 07:32:00", "description: a date or time is not taken: make it a text"),
        ("description = inf", "description: inf is no number that is taken"),
        (
            "description = 'd'\ninput = {about = 'x', y = [1, {z = 2020-01-01T00:00:00Z}]}",
            "input.y[1].z: a date or time is not taken",
        ),
    ],
)
def test_what_json_could_not_say_is_no_value_of_toml(tmp_path: Path, member: str, told: str) -> None:
    found = problems(tmp_path, MINIMAL.replace('description = "d"', member), "r.toml")
    assert any(each.startswith(told) for each in found)
    told_of = [each for each in found if each.partition(":")[0] == told.partition(":")[0]]
    assert len(told_of) == 1, "once"


def test_numbers_without_end_are_not_taken(tmp_path: Path) -> None:
    found = problems(tmp_path, role(providerConfig={"most": 7}) | {})
    assert found == []
    text = "name: m\ndescription: d\nroles: [{role: r, provider: claude, providerConfig: {most: 1e999}}]\n"
    assert problems(tmp_path, text) == [
        "roles[0].providerConfig.most: inf is no number that is taken (line 3)"
    ]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_a_small_file_cannot_become_a_huge_document(tmp_path: Path) -> None:
    found = problems(tmp_path, BOMB)
    assert "a: an anchor is not taken: write out what it stands for (line 1)" in found
    assert "b[0]: an alias is not taken: write it out (line 2)" in found
    assert len(found) <= 101


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!binary", "!mine", "!!set"]
)
def test_types_are_not_taken(tmp_path: Path, tag: str) -> None:
    value = "{a: b}" if tag == "!!set" else "eA=="
    found = problems(
        tmp_path, f"name: m\ndescription: {tag} {value}\nroles: [{{role: r, provider: claude}}]\n"
    )
    assert any(each.startswith("description: the tag ") and each.endswith("(line 2)") for each in found)


def test_merging_is_no_member(tmp_path: Path) -> None:
    found = problems(tmp_path, "name: m\ndescription: d\nroles:\n- <<: {role: r}\n  provider: claude\n")
    assert any(each.startswith("roles[0].<<: there is no such member") for each in found)


def test_members_that_are_there_twice(tmp_path: Path) -> None:
    text = "name: m\ndescription: d\nname: n\nroles:\n- role: r\n  provider: claude\n  provider: codex\n"
    assert problems(tmp_path, text) == [
        "name: is there twice (line 3)",
        "roles[0].provider: is there twice (line 7)",
    ]


def test_plain_words_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: no\ndescription: 2020-01-01\nroles:\n- {role: off, provider: claude, label: 1:30, tags: [yes, '1', on]}\n"
    )
    recipe, found = check_file(path)
    assert found == []
    assert recipe is not None
    assert (recipe.name, recipe.description, recipe.roles[0].role) == ("no", "2020-01-01", "off")
    assert (recipe.roles[0].label, recipe.roles[0].tags) == ("1:30", ["yes", "1", "on"])


def test_what_is_quoted_is_a_text_and_what_is_not_may_be_none(tmp_path: Path) -> None:
    for value in ("~", "null", "", "true", "12", "1.5"):
        found = problems(tmp_path, f"name: m\ndescription: {value}\nroles: [{{role: r, provider: claude}}]\n")
        assert found in (
            ["description: is required (line 2)"],
            ["description: expected a text (line 2)"],
        ), value
    for value in ("'12'", '"true"', "'null'", "!!str 12"):
        found = problems(tmp_path, f"name: m\ndescription: {value}\nroles: [{{role: r, provider: claude}}]\n")
        assert bool(found) == value.startswith("!!"), value


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    text = """\
name: start
descripton: x
roles:
  - role: A b
    provider: gpt
    prompt: "hi {{nobody}}"
    tags: &t [a]
  - role: x
    provider: claude
    label: *t
  - role: x
    provider: codex
    workspaceMode: alone
steps:
  - {id: a, to: y, body: x, after: [b, z]}
  - {id: b, to: x, kind: spawn, body: !!null x, after: [a]}
  - id: b
    id: c
    to: x
"""
    found = problems(tmp_path, text)
    places = [(each.partition(":")[0], each.rpartition("(line ")[2].rstrip(")")) for each in found]
    assert sorted(places) == sorted(
        [
            ("roles[0].tags", "7"),
            ("roles[1].label", "10"),
            ("steps[1].body", "16"),
            ("steps[2].id", "18"),
            ("description", "description: is required"),
            ("roles[0].role", "4"),
            ("roles[0].provider", "5"),
            ("roles[2].workspaceMode", "13"),
            ("steps[2].body", "17"),
            ("descripton", "2"),
            ("name", "1"),
            ("roles[2].role", "11"),
            ("steps[0].to", "15"),
            ("steps[0].after[1]", "15"),
            ("steps[1].kind", "16"),
            ("steps", "15"),
            ("roles[0].prompt", "6"),
        ]
    )


def test_thousands_of_mistakes_are_not_all_told(tmp_path: Path) -> None:
    text = "name: m\ndescription: d\nroles: [{role: r, provider: claude}]\n"
    found = problems(tmp_path, text + "".join(f"x{n}: 1\n" for n in range(2_000)))
    assert len(found) == 101
    assert found[-1] == "and 1900 more"
    long = problems(tmp_path, f"{text}{'y' * 900}: 1\n")
    assert len(long[0]) < 500


@pytest.mark.parametrize("name", ["r.yaml", "r.toml"])
def test_a_mistake_is_one_line_whatever_is_in_it(tmp_path: Path, name: str) -> None:
    """Else a file could say that all is well with it, or write to a terminal."""
    strange = r'"\u001b[31mx\nr.yaml: all is well"'
    content = f"{strange} = 1\n{MINIMAL}" if name == "r.toml" else f"{strange}: 1\n"
    found = [each for each in problems(tmp_path, content, name) if "no such member" in each]
    assert len(found) == 1
    assert found[0].startswith(r"\x1b[31mx\nr.yaml: all is well: there is no such member")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    assert problems(tmp_path, "#" * (LARGEST + 1)) == [f"is larger than {LARGEST} bytes"]
    assert problems(tmp_path, b"name: m\ndescription: \xff\xfe\n") == ["is not UTF-8 (line 2)"]
    assert problems(tmp_path, MINIMAL, "r.json") == ["a recipe is a file .toml, .yaml or .yml"]
    assert problems(tmp_path, "name: m\n".encode("utf-16")) == ["is not UTF-8 (line 1)"]
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "nowhere.yml").symlink_to(tmp_path / "gone")
    for name, told in (
        ("pipe.yaml", "is no regular file"),
        ("folder.toml", "cannot be read: Is a directory"),
        ("nowhere.yml", "cannot be read: No such file or directory"),
        ("none.toml", "cannot be read: No such file or directory"),
    ):
        _, (found,) = check_file(tmp_path / name)
        assert found in (f"{tmp_path / name}: {told}", f"{tmp_path / name}: is no regular file")


@pytest.mark.parametrize("name", ["r.toml", "r.yaml"])
def test_what_editors_put_before_and_between_lines_is_no_mistake(tmp_path: Path, name: str) -> None:
    text = MINIMAL if name == "r.toml" else yaml.safe_dump(GOOD)
    assert problems(tmp_path, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(), name) == []


@given_(
    st.binary(max_size=200)
    | st.text(alphabet="[]{}:-'\"\n &*!|>?%@`#=.,x0~\t\0é", max_size=80).map(str.encode)
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_a_file_it_is_told_what_is_wrong(tmp_path: Path, content: bytes) -> None:
    for name in ("r.yaml", "r.toml"):
        assert problems(tmp_path, content, name)


def test_the_same_recipe_in_three_forms(tmp_path: Path) -> None:
    toml = MINIMAL + 'prompt = "hi"\n[[steps]]\nid = "s"\nto = "r"\nbody = "do"\nkind = "message"\n'
    text = """\
name: m
description: d
roles: [{role: r, provider: claude, prompt: hi}]
steps:
- {id: s, to: r, body: do, kind: message}
"""
    (tmp_path / "a.toml").write_text(toml)
    (tmp_path / "b.yaml").write_text(text)
    (tmp_path / "c.yml").write_text(
        '{"name": "m", "description": "d", "roles": [{"role": "r", "provider": "claude", "prompt": "hi"}],'
        ' "steps": [{"id": "s", "to": "r", "body": "do", "kind": "message"}]}'
    )
    first, second, third = (check_file(tmp_path / name)[0] for name in ("a.toml", "b.yaml", "c.yml"))
    assert first is not None
    assert first == second == third
    assert first.roles[0].approval is wire.ApprovalMode.GUARDED


@pytest.mark.spec("M-210", "REC-3")
def test_the_bundled_recipes_are_right_and_say_what_they_are_for() -> None:
    found = Cookbook().all()
    assert [each.name for each in found] == ["code-review", "debug", "feature", "refactor", "test"]
    assert Cookbook().broken() == []
    for loaded in found:
        recipe = loaded.recipe
        assert recipe.input is not None
        assert recipe.input.default is not None
        to = [each.to for each in recipe.steps]
        assert set(to) == {each.role for each in recipe.roles}, "every agent has something to do"
        assert "`user`" in recipe.steps[-1].body, "a person hears what came of it"


def test_a_users_recipe_takes_the_place_of_a_bundled_one(tmp_path: Path) -> None:
    book = Cookbook(tmp_path / "recipes")
    assert book.find("test").source == "bundled"
    (tmp_path / "recipes").mkdir()
    file = tmp_path / "recipes" / "mine.toml"
    file.write_text(MINIMAL.replace('"m"', '"test"'))
    assert (book.find("test").source, book.find("test").path) == ("user", str(file))
    assert len(book.all()) == 5
    file.unlink()
    assert book.find("test").source == "bundled"


def test_a_broken_recipe_of_the_users_is_not_replaced_by_a_bundled_one(tmp_path: Path) -> None:
    file = tmp_path / "test.yaml"
    file.write_text("name: test\n")
    book = Cookbook(tmp_path)
    assert "test" not in [each.name for each in book.all()]
    with pytest.raises(NoRecipe, match="roles: is required"):
        book.find("test")
    assert [each.path for each in book.broken()] == [file]
    with pytest.raises(NoRecipe, match="there is no recipe 'nope'; the recipes are code-review, debug"):
        book.find("nope")


def test_two_files_with_one_name_are_both_refused(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml", "c.toml"):
        (tmp_path / name).write_text(MINIMAL)
    book = Cookbook(tmp_path)
    assert "m" not in [each.name for each in book.all()]
    with pytest.raises(NoRecipe, match=f"the recipe 'm' is in {tmp_path}/a.toml already"):
        book.find("m")


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "m.toml"
    file.write_text("name = ")
    book = Cookbook(tmp_path)
    for _ in range(3):
        with pytest.raises(NoRecipe):
            book.find("m")
    assert len(caplog.records) == 1, "what is wrong is logged once"
    file.write_text(MINIMAL)
    assert book.find("m").recipe.description == "d"
    (tmp_path / ".hidden.toml").write_text(MINIMAL)
    (tmp_path / "notes.txt").write_text("nothing")
    assert len(book.all()) == 6


def test_placeholders_are_filled_once() -> None:
    values = {"input": "{{cwd}}", "cwd": "/srv"}
    assert fill("{{input}} {{ cwd }} {cwd} {{}", values) == "{{cwd}} /srv {cwd} {{}"
