"""What is written about the program is what the program does."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import build
import pyfiledrop

PAPERS = {
    name: build.read_text(build.ROOT / name)
    for name in (
        *("README.md", "CHANGELOG.md"),
        *(".github/CONTRIBUTING.md", ".github/ARCHITECTURE.md", ".github/RELEASING.md"),
    )
}
README = PAPERS["README.md"]
ARCHITECTURE, CONTRIBUTING = PAPERS[".github/ARCHITECTURE.md"], PAPERS[".github/CONTRIBUTING.md"]
TESTS = {path.stem: build.read_text(path) for path in (build.ROOT / "tests").glob("test_*.py")}


def table(heading: str, paper: str = README) -> list[list[str]]:
    """The rows of the paper's table whose first column has this heading."""
    match = re.search(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", paper, re.MULTILINE)
    assert match, f"there is no table with the heading {heading!r}"
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
    pyfiledrop.add_pages(app, settings, nothing, door)
    for call, _ in table("call"):
        method, path = code(call)[0].split(" ")
        path = (
            path.replace("<uuid>", "8c5a3f0e-6f0b-4a57-9b0f-3b1f6f3f2d11")
            .replace("<name>", "a.txt")
            .replace("<first>", "0")
        )
        app.router.match({"REQUEST_METHOD": method, "PATH_INFO": path})  # raises when there is none


def raised_codes() -> set[tuple[int, str]]:
    """Status and code of every error that is raised anywhere in the module: its class's, or one of its own."""
    source = ast.parse(build.read_text(build.ROOT / "pyfiledrop.py"))
    kinds = {name: kind for name, kind in vars(pyfiledrop).items() if isinstance(kind, type)}
    errors = {name: kind for name, kind in kinds.items() if issubclass(kind, pyfiledrop.DropError)}
    found = {(int(kind.status), kind.code) for kind in errors.values()}
    for node in ast.walk(source):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors):
            continue
        if len(node.args) > 1:
            text = node.args[1]
            assert isinstance(text, ast.Constant) and isinstance(text.value, str), f"line {node.lineno}: no plain code"
            found.add((int(errors[node.func.id].status), text.value))
    return found


def test_every_code_of_an_error_is_in_the_readme() -> None:
    """And stands for one thing only: no code has two statuses, none is described twice."""
    documented = [(int(status), code(name)[0]) for name, status, _ in table("code")]
    assert sorted(documented) == sorted(raised_codes())
    names = [name for _, name in documented]
    assert len(names) == len(set(names)) and all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)
    kinds = [kind for kind in vars(pyfiledrop).values() if isinstance(kind, type)]
    kinds = [kind for kind in kinds if issubclass(kind, pyfiledrop.DropError)]
    assert all("code" in vars(kind) for kind in kinds), "an error that has its class's code says nothing of its own"


def test_every_package_has_its_reason_in_the_readme() -> None:
    """A package without a reason is one too many."""
    explained = {match[1].lower() for row in table("package") if (match := re.match(r"\[(.+?)\]", row[0]))}
    required = {re.split("[<>=]", line)[0] for line in build.read_text(build.ROOT / "requirements.txt").split()}
    assert explained == required | {"dropzone"}


def test_calls_are_those_at_the_top_of_the_module() -> None:
    """The README and the module's docstring name the same calls."""
    listed = (pyfiledrop.__doc__ or "").partition("\nHTTP\n\n")[2].partition("\n\n")[0]
    calls = set()
    for method, paths, words in re.findall(r"^    ([A-Z]+) +(/[^\s,]*(?:, /[^\s,]*)*)(.*)$", listed, re.MULTILINE):
        methods = [method, "HEAD"] if "HEAD too" in words else [method]
        calls |= {f"{method} {path}" for method in methods for path in paths.split(", ")}
    assert calls == {code(call)[0] for call, _ in table("call")}


def test_links_in_papers_lead_somewhere() -> None:
    """Files that a paper shows or links are there."""
    for name, paper in PAPERS.items():
        for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", paper):
            assert ((build.ROOT / name).parent / target).is_file(), f"{name} links {target}"


def test_every_row_of_the_threat_table_has_a_test() -> None:
    """And every number in the name of a test is a row of the table."""
    rows = [int(row[0]) for row in table("#", ARCHITECTURE)]
    assert rows == list(range(1, len(rows) + 1))
    names = re.findall(r"^def test_row((?:_[0-9]+)+)_", "".join(TESTS.values()), re.MULTILINE)
    tested = {int(number) for name in names for number in name.split("_")[1:]}
    assert set(rows) == tested


def test_reading_order_is_that_of_contributing() -> None:
    """Every file of tests has its place in the order and its line in the table."""
    files = [code(row[0])[0] for row in table("file", CONTRIBUTING)]
    assert files == [f"test_{name}.py" for name in build.READING_ORDER]
    assert {name.removeprefix("test_") for name in TESTS} == set(build.READING_ORDER) >= set(build.SLOW)


def test_jobs_of_build_are_in_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them in those for contributors; none is named anywhere that does not exist."""
    with pytest.raises(SystemExit):
        build.main(["--help"])
    jobs = set(re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE))
    named = {name: set(re.findall(r"build\.py (\w+)", paper)) for name, paper in PAPERS.items()}
    assert named[".github/CONTRIBUTING.md"] | named[".github/RELEASING.md"] == set().union(*named.values()) == jobs
    assert set(re.findall(r"build\.py (\w+) ", build.__doc__ or "")) == jobs
    assert {"--fast", "--claims"} <= set(re.findall(r"build\.py test (--\w+)", README))


def test_house_is_the_modules_sections() -> None:
    """The sections that ARCHITECTURE describes are those of the module, in the same order."""
    described = [re.split(r"\W+", row[0])[0] for row in table("section", ARCHITECTURE)]
    assert described == list(build.sections(build.read_text(build.ROOT / "pyfiledrop.py")))


def test_names_in_papers_are_in_the_code() -> None:
    """What stands in the papers as code, and looks like a name, is the name of something."""
    files = [path for pattern in ("*.*", "tests/*", ".github/workflows/*") for path in build.ROOT.glob(pattern)]
    sources = "\n".join(build.read_text(path) for path in files if path.suffix in (".py", ".toml", ".html", ".yml"))
    known = {*re.findall(r"[\w-]+", sources), *(path.name for path in files), *(path.stem for path in files)}
    for paper in (ARCHITECTURE, CONTRIBUTING, PAPERS[".github/RELEASING.md"]):
        for name in code(re.sub(r"```.*?```", "", paper, flags=re.DOTALL)):
            if re.fullmatch(r"(--)?[A-Za-z_][\w.-]*", name):
                assert name in known or all(part in known for part in name.split(".")), name
