"""build.py does its three jobs, says in one sentence why it cannot, and never leaves half a job behind."""

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
from collections.abc import Iterator
from pathlib import Path

import pytest

import build

SCRIPT = b"window.Dropzone = 1;\n"
STYLE = b".dropzone {}\n"
LICENCE = b"MIT\n"

SOURCE = f'''"""A server without its packages."""
import surely_not_installed

DROPZONE_VERSION = "6.3.5"
DROPZONE_FILES: dict[str, tuple[str, str]] = {{
    "dropzone.js": ("dropzone-min.js", "{build.sri("sha384", SCRIPT)}"),
    "dropzone.css": ("dropzone.css", "{build.sri("sha384", STYLE)}"),
}}
{build.PAGE_BEGIN}PAGE = r\'\'\'old
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
    monkeypatch.setattr(build, "CDNS", ())
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return folder


def tarball(**members: bytes) -> bytes:
    """An npm package with these files in its dist folder, a licence and a member that points out of it."""
    files = {"package/LICENSE": LICENCE, "../outside": b"never", **{f"package/dist/{k}": v for k, v in members.items()}}
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
    assert (project / "dropzone-LICENSE").read_bytes() == LICENCE
    assert not (tmp_path / "outside").exists()


def test_dropzone_without_npm_comes_from_a_cdn(project: Path, cdn: Path) -> None:
    """A machine needs no Node for it."""
    (cdn / "dropzone-min.js").write_bytes(SCRIPT)
    (cdn / "dropzone.css").write_bytes(STYLE)
    assert build.main(["dropzone"]) == 0
    assert names(project) == {"pyfiledrop.py", "dropzone-min.js", "dropzone.css"}
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
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "sudo apt install python3-venv" in refused(capsys, "test")
    assert names(project) == {"pyfiledrop.py"}


def test_wheel_holds_the_module_and_the_command(tmp_path: Path) -> None:
    """`pip install .` gives `pyfiledrop`, with the version and packages that the project's files say."""
    for name in ("pyfiledrop.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(build.ROOT / name, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "out", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "out").glob("*.whl")
    version = build.constant(build.read_text(build.ROOT / "pyfiledrop.py"), "__version__")
    assert wheel.name == f"pyfiledrop-{version}-py3-none-any.whl"
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(wheel, unpacked, "zip")
    info = unpacked / f"pyfiledrop-{version}.dist-info"
    assert names(unpacked) == {"pyfiledrop.py", info.name}
    assert "pyfiledrop = pyfiledrop:main" in (info / "entry_points.txt").read_text(encoding="utf-8")
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    for requirement in (build.ROOT / "requirements.txt").read_text(encoding="utf-8").split():
        assert f"Requires-Dist: {requirement}\n" in metadata
