"""build.py does its jobs, says in one sentence why it cannot, and never leaves half a job behind."""

from __future__ import annotations

import http.server
import io
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
    """A project folder in which build.py works, with neither npm nor a network within its reach."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyfiledrop.py").write_text(SOURCE, encoding="utf-8", newline="\n")
    monkeypatch.setattr(build, "ROOT", folder)
    monkeypatch.setattr(build, "WORK", folder / "build")
    monkeypatch.setattr(build, "DIST", folder / "dist")
    monkeypatch.setattr(build, "CDNS", ())
    (tmp_path / "bin").mkdir()
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


def install_npm(tmp_path: Path, code: str) -> None:
    """Put a program called npm on the PATH of `project` that runs this Python code."""
    script = tmp_path / "npm.py"
    script.write_text(code, encoding="utf-8")
    command = tmp_path / "bin" / ("npm.cmd" if os.name == "nt" else "npm")
    if os.name == "nt":
        command.write_text(f'@"{sys.executable}" "{script}" %*\n', encoding="utf-8")
    else:
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', encoding="utf-8")
        command.chmod(0o755)


def npm_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bytes) -> None:
    """Let `npm pack` deliver this package, whose hash build.py then expects."""
    (tmp_path / "package.bin").write_bytes(package)
    install_npm(
        tmp_path,
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
    install_npm(tmp_path, "import sys; sys.exit('npm error code ENOTFOUND')")
    (cdn / "dropzone-min.js").write_bytes(SCRIPT)
    (cdn / "dropzone.css").write_bytes(STYLE)
    assert build.main(["dropzone"]) == 0


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
    """The sentence tells what each source said."""
    install_npm(tmp_path, "import sys; sys.exit('npm error code ENOTFOUND')")
    sentence = refused(capsys, "dropzone")
    assert "npm error code ENOTFOUND" in sentence
    assert "404" in sentence
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
        env={**os.environ, "PATH": "", "https_proxy": "http://127.0.0.1:9"},
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


def test_venv_that_cannot_be_made_is_explained(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Debian's Python lacks ensurepip until python3-venv is installed."""
    monkeypatch.setattr(shutil, "which", lambda name, *args, **how: name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "sudo apt install python3-venv" in refused(capsys, "test")
    assert names(project) == {"pyfiledrop.py"}


@pytest.mark.parametrize(("program", "package"), build.DEBIAN_PACKAGES.items())
def test_a_program_that_is_missing_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, package: str
) -> None:
    """Before anything is set up, and not by a test that fails ten minutes later."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name, *args, **how: None if name == program else name)
    assert f"sudo apt install {package}" in refused(capsys, "test")
    assert names(project) == {"pyfiledrop.py"}


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
    """The same command as .ci/run, on every Python and system that the project names."""
    workflow = build.read_text(build.ROOT / ".github" / "workflows" / "test.yml")
    assert "exec python3 build.py test" in build.read_text(build.ROOT / ".ci" / "run")
    assert "run: python build.py test\n" in workflow
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', build.read_text(build.ROOT / "pyproject.toml"))
    matrix = re.search(r"python: \[(.+)\]", workflow)
    assert matrix and re.findall(r'"(.+?)"', matrix[1]) == named
