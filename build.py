#!/usr/bin/env python3
"""What pyfiledrop needs besides running: one command for each job.

    python build.py page        put index.html into pyfiledrop.py (--check: only compare)
    python build.py dropzone    get Dropzone and put it beside pyfiledrop.py
    python build.py test        set up .venv with everything in it, then run all checks and tests

Needs Python 3.10 and its standard library. It never imports pyfiledrop.py, because the packages that file
imports may not be installed yet: constants are read out of its source.
"""

from __future__ import annotations

import argparse
import ast
import base64
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent

PAGE_BEGIN = '# page: begin (made from index.html by "python build.py page")\n'
PAGE_END = "# page: end\n"

# The npm registry's own figure for dropzone-6.3.5.tgz. It changes together with DROPZONE_VERSION and DROPZONE_FILES.
DROPZONE_TARBALL = "sha512-voAoyVj3ZyFwoUVkKMmtfCrp7gbjqKJv3gNCsz0lW1lApcmKILBCbCgBU64hJF4LC4+cs6+peXhsn122fPQqsw=="

# Asked in this order when npm is missing or fails. Any will do: every file is checked against its hash.
CDNS = (
    "https://cdnjs.cloudflare.com/ajax/libs/dropzone/{version}/{file}",
    "https://cdn.jsdelivr.net/npm/dropzone@{version}/dist/{file}",
)

DOWNLOAD_SECONDS = 30  # without a byte, before a CDN is given up
DOWNLOAD_BYTES = 4 * 1024 * 1024  # far more than any file of Dropzone has

CHROMIUM_COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM_PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    r"%ProgramFiles%\Google\Chrome\Application\chrome.exe",
    r"%ProgramFiles(x86)%\Google\Chrome\Application\chrome.exe",
    r"%LocalAppData%\Google\Chrome\Application\chrome.exe",
    r"%ProgramFiles(x86)%\Microsoft\Edge\Application\msedge.exe",
)


class BuildError(Exception):
    """A job cannot be done; the text is one sentence that says why, and what to do where there is something."""


# Helpers


def say(text: str) -> None:
    """Print one line at once, so that it stands before what a child process prints."""
    print(text, flush=True)


def read_text(path: Path) -> str:
    """The text of a project file, with every line ending as a plain newline."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{path.name} cannot be read: {error}.") from error


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step: nobody ever sees half of it. An existing file keeps its permissions."""
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_bytes(content)
        if path.exists():
            shutil.copymode(path, fresh)
        fresh.replace(path)
    except OSError as error:
        raise BuildError(f"{path.name} cannot be written: {error}.") from error
    finally:
        fresh.unlink(missing_ok=True)


def constant(source: str, name: str) -> Any:
    """The literal value that the module with this source text gives to a top-level name."""
    try:
        for node in ast.parse(source).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return ast.literal_eval(node.value)  # type: ignore[attr-defined]
    except (SyntaxError, ValueError) as error:
        raise BuildError(f"{name} cannot be read out of pyfiledrop.py: {error}.") from error
    raise BuildError(f"pyfiledrop.py has no {name}.")


def sri(algorithm: str, content: bytes) -> str:
    """A hash as npm and a page's integrity attribute write it, such as sha384-…"""
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}"


# python build.py page


def with_page(source: str, page: str) -> str:
    """pyfiledrop.py's source with this page in it."""
    head, begin, rest = source.partition(PAGE_BEGIN)
    _, end, tail = rest.rpartition(PAGE_END)
    if not (begin and end):
        raise BuildError(f"pyfiledrop.py has lost the lines {PAGE_BEGIN.strip()!r} and {PAGE_END.strip()!r}.")
    # A raw string takes any text but these two, and a line break at the end settles the second.
    if "'''" in page:
        raise BuildError("index.html must not contain three single quotes in a row; write them another way.")
    if not page.endswith("\n"):
        raise BuildError("index.html must end with a line break; add one.")
    # The page's lines are as long as its author likes, and its quotes are the ones it does not contain.
    return f"{head}{begin}PAGE = r'''{page}'''  # noqa: E501  # fmt: skip\n{end}{tail}"


def make_page(check: bool) -> None:
    """Put index.html into pyfiledrop.py, or only see whether that has been done."""
    path = ROOT / "pyfiledrop.py"
    source = read_text(path)
    fresh = with_page(source, read_text(ROOT / "index.html"))
    if fresh == source:
        say("pyfiledrop.py holds index.html as it is.")
    elif check:
        raise BuildError("pyfiledrop.py does not hold index.html as it is; run: python build.py page")
    else:
        write(path, fresh.encode())
        say("pyfiledrop.py now holds index.html.")


# python build.py dropzone


def from_npm(version: str, names: Sequence[str]) -> dict[str, bytes]:
    """Dropzone's files and its licence out of the npm package, which must have the hash kept here."""
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError("npm is not installed")
    with tempfile.TemporaryDirectory(prefix="dropzone-") as folder:
        # In a folder of its own, so that no package.json or .npmrc on the way up has a say.
        done = subprocess.run(
            [npm, "pack", "--silent", f"dropzone@{version}"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        tarballs = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(tarballs) != 1:
            reasons = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            raise BuildError(f"npm failed with {reasons[0] if reasons else f'status {done.returncode}'}")
        found = sri("sha512", tarballs[0].read_bytes())
        if found != DROPZONE_TARBALL:
            raise BuildError(f"npm's package has the hash {found} and not the {DROPZONE_TARBALL} kept in build.py")
        # Members are read by their exact names and nothing is unpacked: a package's paths and links reach no disk.
        members = {**{name: f"package/dist/{name}" for name in names}, "dropzone-LICENSE": "package/LICENSE"}
        try:
            with tarfile.open(tarballs[0]) as tarball:
                opened = {name: tarball.extractfile(member) for name, member in members.items()}
                return {name: file.read() for name, file in opened.items() if file is not None}
        except (KeyError, tarfile.TarError) as error:
            raise BuildError(f"npm's package is not as expected: {error}") from error


def from_cdn(version: str, names: Sequence[str], cdn: str) -> dict[str, bytes]:
    """Dropzone's files from a CDN."""
    files = {}
    for name in names:
        url = cdn.format(version=version, file=name)
        try:
            with urllib.request.urlopen(url, timeout=DOWNLOAD_SECONDS) as answer:
                files[name] = answer.read(DOWNLOAD_BYTES)
        except (OSError, ValueError) as error:  # URLError and HTTPError are kinds of OSError
            raise BuildError(f"{url} gave {error}") from error
    return files


def get_dropzone() -> None:
    """Put Dropzone's files beside pyfiledrop.py, exactly those whose hashes stand in it."""
    source = read_text(ROOT / "pyfiledrop.py")
    version: str = constant(source, "DROPZONE_VERSION")
    hashes: dict[str, str] = dict(constant(source, "DROPZONE_FILES").values())

    def wrong(files: dict[str, bytes]) -> list[str]:
        return [name for name, hash_ in hashes.items() if sri("sha384", files.get(name, b"")) != hash_]

    if not wrong({name: (ROOT / name).read_bytes() for name in hashes if (ROOT / name).is_file()}):
        say(f"Dropzone {version} is already there.")
        return
    failures = []
    for cdn in (None, *CDNS):
        try:
            files = from_cdn(version, list(hashes), cdn) if cdn else from_npm(version, list(hashes))
            if bad := wrong(files):
                place = cdn.format(version=version, file=bad[0]) if cdn else f"npm's {bad[0]}"
                raise BuildError(f"{place} has not the hash that stands in pyfiledrop.py")
        except BuildError as error:
            failures.append(str(error))
            continue
        for name, content in files.items():
            write(ROOT / name, content)
        say(f"Dropzone {version} is beside pyfiledrop.py now: {', '.join(files)}.")
        return
    raise BuildError(f"Dropzone {version} could not be had: {'; '.join(failures)}.")


# python build.py test


def find_chromium() -> str | None:
    """The path of a Chromium on this machine, if there is one; the variable CHROMIUM comes first."""
    if chosen := os.environ.get("CHROMIUM"):
        if not (path := shutil.which(chosen)):
            raise BuildError(f"The variable CHROMIUM names {chosen!r}, which is not a program.")
        return path
    candidates = (*CHROMIUM_COMMANDS, *(os.path.expandvars(place) for place in CHROMIUM_PLACES))
    return next((path for candidate in candidates if (path := shutil.which(candidate))), None)


def run(step: str, *command: str) -> int:
    """Say the step, run the command in the project's folder and return its exit status."""
    say(f"== {step}")
    return subprocess.run(command, cwd=ROOT).returncode


def must(step: str, *command: str) -> None:
    """A step without which the next ones make no sense."""
    if status := run(step, *command):
        raise BuildError(f"This step failed with exit status {status}: {step}.")


def make_venv() -> str:
    """The path of the Python in .venv, which is made when it is missing or was left half made."""
    python = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if python.exists():
        tried = subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True)
        if tried.returncode == 0:
            return str(python)
    if importlib.util.find_spec("ensurepip") is None:  # Debian and Ubuntu keep it in a package of its own
        raise BuildError("This Python cannot make virtual environments; on Debian: sudo apt install python3-venv")
    must("making .venv", sys.executable, "-m", "venv", "--clear", str(ROOT / ".venv"))
    return str(python)


def run_tests(pytest_arguments: Sequence[str]) -> int:
    """Set up everything on a machine that may have nothing but Python, then run every check and test."""
    python = make_venv()
    must(
        "installing the packages",
        *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("-r", "requirements.txt", "-e", ".[test]"),
    )
    say("== getting Dropzone")
    get_dropzone()
    if chromium := find_chromium():
        say(f"== using the browser {chromium}")
        os.environ["CHROMIUM"] = chromium
    else:
        must("installing Chromium for the tests", python, "-m", "playwright", "install", "chromium")
    # All four run, so that one look shows everything there is to mend.
    statuses = [
        run("ruff check", python, "-m", "ruff", "check"),
        run("ruff format --check", python, "-m", "ruff", "format", "--check"),
        run("mypy", python, "-m", "mypy"),
        run("pytest", python, "-m", "pytest", *pytest_arguments),
    ]
    return next((status for status in statuses if status), 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Do one job and return the exit status."""
    parser = argparse.ArgumentParser(description="Builds and tests pyfiledrop.")
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    page = jobs.add_parser("page", help="put index.html into pyfiledrop.py")
    page.add_argument("--check", action="store_true", help="only compare; exit status 1 when they differ")
    jobs.add_parser("dropzone", help="get Dropzone and put it beside pyfiledrop.py")
    jobs.add_parser("test", help="set up .venv and run all checks and tests; further arguments go to pytest")
    options, rest = parser.parse_known_args(argv)
    if rest and options.job != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if options.job == "page":
            make_page(options.check)
        elif options.job == "dropzone":
            get_dropzone()
        else:
            return run_tests(rest)
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
