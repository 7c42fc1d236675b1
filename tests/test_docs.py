"""What is written about the program is what the program does."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import build
import pyfiledrop

README = build.read_text(build.ROOT / "README.md")


def table(heading: str) -> list[list[str]]:
    """The rows of the README table whose first column has this heading."""
    match = re.search(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", README, re.MULTILINE)
    assert match, f"README.md has no table with the heading {heading!r}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in match[1].splitlines()]


def code(text: str) -> list[str]:
    """All that stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def written_default(default: object) -> str | None:
    """How the table writes a default; None where it has a word for "nothing was asked for"."""
    if isinstance(default, Path):
        return default.name
    return None if default is None or isinstance(default, bool) else str(default)


def test_options_table_is_the_command_line() -> None:
    """Every option with all its names and its default, and none that does not exist."""
    documented = {tuple(code(flags)): default for flags, default, _ in table("option")}
    actions = {tuple(action.option_strings): action for action in pyfiledrop.make_parser()._actions}
    assert set(documented) == set(actions)
    for flags, action in actions.items():
        if {"--help", "--version"} & set(flags):
            continue
        expected = written_default(action.default)
        assert code(documented[flags]) == ([] if expected is None else [expected]), flags


def test_help_names_every_option_and_default(program: list[str]) -> None:
    """`--help` is read by people who have no README at hand."""
    done = subprocess.run([*program, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for flags, default, _ in table("option"):
        for text in code(flags) + code(default):
            assert re.search(rf"(?<![\w-]){re.escape(text)}(?![\w-])", done.stdout), f"--help does not name {text}"


def test_version_is_the_same_everywhere(program: list[str]) -> None:
    """`--version`, the module, and the newest entry of the changelog."""
    done = subprocess.run([*program, "--version"], capture_output=True, text=True, timeout=60)
    assert pyfiledrop.__version__ in done.stdout.split()
    newest = re.search(r"^## \[(.+?)\]", build.read_text(build.ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert newest and newest[1] == pyfiledrop.__version__


def test_requirements_are_those_in_the_script() -> None:
    """`pip install -r requirements.txt` and `uv run pyfiledrop.py` get the same packages."""
    source = build.read_text(build.ROOT / "pyfiledrop.py")
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", source, re.MULTILINE)
    assert block, "pyfiledrop.py has no script metadata (PEP 723)"
    metadata = re.sub(r"^# ?", "", block[1], flags=re.MULTILINE)
    dependencies = re.search(r"^dependencies = (\[.*?\])", metadata, re.MULTILINE | re.DOTALL)
    assert dependencies
    requirements = build.read_text(build.ROOT / "requirements.txt").split()
    assert sorted(ast.literal_eval(dependencies[1])) == sorted(requirements)
    python = re.search(r'^requires-python = "(.+)"$', metadata, re.MULTILINE)
    assert python and f'requires-python = "{python[1]}"' in build.read_text(build.ROOT / "pyproject.toml")


def test_documented_calls_exist(tmp_path: Path) -> None:
    """Every call of the README's HTTP table has its handler."""
    nothing: Any = None  # nothing is called, only looked up
    settings = pyfiledrop.Settings.parse(["-s", str(tmp_path / "storage"), "-c", str(tmp_path / "chunks")])
    door = pyfiledrop.Door(None, SimpleNamespace(secret=lambda: b""))  # type: ignore[arg-type]
    app = pyfiledrop.make_app(settings, nothing, door)
    pyfiledrop.add_pages(app, settings, door)
    for call, _ in table("call"):
        method, path = code(call)[0].split(" ")
        path = path.replace("<uuid>", "8c5a3f0e-6f0b-4a57-9b0f-3b1f6f3f2d11").replace("<name>", "a.txt")
        app.router.match({"REQUEST_METHOD": method, "PATH_INFO": path})  # raises when there is none


def test_every_package_has_its_reason_in_the_readme() -> None:
    """A package without a reason is one too many."""
    explained = {match[1].lower() for row in table("package") if (match := re.match(r"\[(.+?)\]", row[0]))}
    required = {re.split("[<>=]", line)[0] for line in build.read_text(build.ROOT / "requirements.txt").split()}
    assert explained == required | {"dropzone"}


def test_readme_links_lead_somewhere() -> None:
    """Files that the README shows or links are there."""
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (build.ROOT / target).is_file(), target
