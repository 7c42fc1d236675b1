"""Every form in which pyfiledrop is handed out does the main job, and so does it on a system that lacks a call.

A form is made by build.py unless it is there already and newer than its sources, then put into an empty folder.
With --program, that program is the only form, and what depends on where its home is stays out.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import uuid as uuids
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import (
    ANSWER_SECONDS,
    BOUNDARY,
    STOP_SECONDS,
    Server,
    StartServer,
    chunk_request,
    exchange,
    multipart_body,
    request,
    upload,
)
from test_docs import README, code, table

import build
import pyfiledrop

FORMS = ("script", "file", "archive", "exe", "wheel")
#: form -> words by which the README's block for it is found; "uv run" is tried in the workflow.
README_STARTS = {"script": "build.py dropzone", "archive": ".pyz", "exe": "chmod +x", "wheel": "pip install ."}
RELEASED_EXE = "pyfiledrop-linux-x86_64"  # what the release calls it; a browser saves it without the right to run
WINDOWS = sys.platform == "win32"
EXE = "pyfiledrop.exe" if WINDOWS else "pyfiledrop"
CHUNK_SIZE = 200_000  # more than a pipe holds at first, so that on Linux it is spliced
CONTENT = bytes(range(256)) * 2000
# SIOCSIFFLAGS with IFF_UP for the interface lo (netdevice(7)); not every system has the command ip.
LOOPBACK_UP = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH22x', b'lo', 1))"


@dataclass(frozen=True)
class Form:
    """A program that can be started: its command, and the folder in which it looks for things and puts them."""

    name: str
    command: list[str]
    home: Path | None

    def run(self, *options: str, inside: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run it in its home, with these options, inside another command if need be; it must end by itself."""
        return subprocess.run(
            [*inside, *self.command, *options],
            capture_output=True,
            encoding="utf-8",
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )


def made(job: str, pattern: str) -> Path:
    """The file in dist that matches, after build.py has done the job, which it is spared when the file is fresh."""
    sources = ("pyfiledrop.py", "index.html", "requirements.txt", "pyproject.toml", "build.py")
    newest = max((build.ROOT / name).stat().st_mtime for name in sources)
    found = list(build.DIST.glob(pattern))
    if len(found) != 1 or found[0].stat().st_mtime < newest:
        done = subprocess.run([sys.executable, str(build.ROOT / "build.py"), job], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        found = list(build.DIST.glob(pattern))
    (path,) = found
    return path


def make_form(name: str, home: Path) -> list[str]:
    """Put this form into an empty folder and return the command that starts it."""
    match name:
        case "script":
            for file in ("pyfiledrop.py", "dropzone-min.js", "dropzone.css"):
                shutil.copy(build.ROOT / file, home)
            return [sys.executable, str(home / "pyfiledrop.py")]
        case "file":
            shutil.copy(made("script", "pyfiledrop.py"), home)
            return [sys.executable, str(home / "pyfiledrop.py")]
        case "archive":
            shutil.copy(made("script", "pyfiledrop.pyz"), home)
            # -S leaves out whatever is installed: it must have all it needs inside.
            return [sys.executable, "-I", "-S", str(home / "pyfiledrop.pyz")]
        case "exe":
            shutil.copy(made("exe", EXE), home)
            return [str(home / EXE)]
        case _:
            venv = home.parent / f"{home.name}-venv"
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
            folder = venv / ("Scripts" if WINDOWS else "bin")
            done = subprocess.run(
                [folder / "python", "-m", "pip", "install", "--quiet", made("wheel", "*.whl")],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            return [str(folder / EXE)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "form" in metafunc.fixturenames and metafunc.function is not test_readme_starts_it:
        forms = ["program"] if metafunc.config.getoption("--program") else FORMS
        metafunc.parametrize("form", forms, indirect=True, scope="session")


@pytest.fixture(scope="session")
def form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Form:
    """Each form in turn; with --program, that one alone."""
    if request.param == "program":
        return Form("program", shlex.split(request.config.getoption("--program"), posix=not WINDOWS), None)
    home = tmp_path_factory.mktemp(request.param)
    return Form(request.param, make_form(request.param, home), home)


@pytest.fixture
def program(form: Form) -> list[str]:
    """What `start_server` starts in this module."""
    return form.command


@pytest.fixture
def home(form: Form) -> Iterator[Path]:
    """The form's home, from which afterwards everything is removed that was not there before."""
    if form.home is None:
        pytest.skip("it is not known where its home is")
    before = set(form.home.iterdir())
    yield form.home
    for path in set(form.home.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def allowed(*options: str) -> bool:
    """Whether a program may have something of the system for itself: a network, or mounts."""
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(["unshare", *options, "true"], stderr=subprocess.DEVNULL).returncode
    )


def whole_form(name: str, content: bytes) -> bytes:
    """What a plain form sends."""
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return request("POST", "/upload", kind, multipart_body({}, [("file", name, content)]))


def download(server: Server, link: str) -> bytes:
    answer = exchange(server, request("GET", f"/{link}"))
    assert answer.status == 200, answer.text
    return answer.body


def check_main_job(server: Server) -> None:
    """Chunks, a plain form, both back by their links, a crash in the middle, and an orderly end."""
    chunked = upload(server, CONTENT, name="отчёт.bin", chunk_size=CHUNK_SIZE)
    assert download(server, chunked["link"]) == CONTENT
    (plain,) = exchange(server, whole_form("plain.txt", CONTENT[:1000])).json()["files"]
    assert download(server, plain["link"]) == CONTENT[:1000]
    (put,) = exchange(server, request("PUT", "/upload/put.bin", body=CONTENT)).json()["files"]
    assert download(server, put["link"]) == CONTENT
    piece = exchange(server, request("GET", f"/{put['link']}", {"Range": "bytes=1000-300999"}))
    assert (piece.status, piece.body) == (206, CONTENT[1000:301_000])

    uuid = str(uuids.uuid4())
    requests = [chunk_request(CONTENT, index, uuid=uuid, chunk_size=CHUNK_SIZE) for index in range(3)]
    assert exchange(server, requests[2]).status == 200
    assert exchange(server, requests[0]).status == 200
    server.kill()
    server.start()
    (file,) = exchange(server, requests[1]).json()["files"]
    assert file["done"], file
    assert download(server, file["link"]) == CONTENT
    assert download(server, chunked["link"]) == CONTENT
    server.stop()
    assert "Traceback" not in server.log()
    names = sorted(path.name[37:] for path in server.storage.iterdir() if not path.name.startswith("."))
    assert names == ["file.bin", "plain.txt", "put.bin", "отчёт.bin"]
    assert not list(server.chunks.iterdir())


# The forms


def test_main_job(form: Form, start_server: StartServer) -> None:
    """Files come in whole, go out whole, and survive a crash; SIGTERM (Ctrl-Break on Windows) ends it with status 0."""
    check_main_job(start_server("-a"))


def test_page_needs_nothing_from_elsewhere(form: Form, start_server: StartServer) -> None:
    """Dropzone comes from the server itself, the very bytes that were looked at."""
    server = start_server()
    page = exchange(server, request("GET", "/", {"Accept": "text/html"}))
    assert 'src="dropzone.js"' in page.text
    assert "http" not in page.headers["Content-Security-Policy"]
    for route, (_, integrity) in pyfiledrop.DROPZONE_FILES.items():
        content = exchange(server, request("GET", f"/{route}")).body
        assert "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode() == integrity


def test_own_page_is_looked_for_at_home(form: Form, home: Path) -> None:
    """An index.html beside it replaces the page inside it, and the two folders are made beside it too."""
    (home / "index.html").write_text("<!doctype html><title>My own</title>", encoding="utf-8")
    before = set(home.iterdir())
    command = [*form.command, "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    ) as proc:
        assert proc.stdout is not None
        try:
            port = next(match[1] for line in proc.stdout if (match := re.search(r"http://127.0.0.1:(\d+)/", line)))
            with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", int(port), timeout=ANSWER_SECONDS)
            ) as client:
                client.request("GET", "/")
                assert b"My own" in client.getresponse().read()
            assert {path.name for path in set(home.iterdir()) - before} == {"storage", "chunks"}
            assert (home / "storage" / ".pyfiledrop.sqlite3").is_file()
        finally:
            if sys.platform == "win32":
                proc.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                proc.terminate()
            assert proc.wait(STOP_SECONDS) == 0


@pytest.mark.parametrize("reason", ["a file is there", "not allowed"])
def test_home_that_cannot_be_used(form: Form, home: Path, reason: str) -> None:
    """One sentence names the folder and the option that chooses another, and the exit status is 2."""
    inside: list[str] = []
    if reason == "a file is there":
        (home / "storage").write_bytes(b"")
    elif sys.platform == "win32":
        pytest.skip("it is not so simple there")
    elif os.geteuid() == 0:  # who may write everywhere, but not onto what is mounted for reading alone
        mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"'
        inside = ["unshare", "--mount", "sh", "-c", mount, str(home)]
        if not allowed("--mount"):
            pytest.skip("this system lets nobody mount for himself")
    else:
        home.chmod(0o555)
    try:
        done = form.run("--port", "0", "--host", "127.0.0.1", inside=inside)
    finally:
        home.chmod(0o755)
    assert done.returncode == 2
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert str(home.resolve() / "storage") in sentence and "-s" in sentence


def test_version_and_help(form: Form) -> None:
    """--version tells it, and --help names every option."""
    assert form.run("--version").stdout == f"pyfiledrop {pyfiledrop.__version__}\n"
    text = form.run("--help").stdout
    for action in pyfiledrop.make_parser()._actions:
        for flag in action.option_strings:
            assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text), f"--help does not name {flag}"


@pytest.mark.skipif(WINDOWS, reason="Windows has no signals to a group but Ctrl-Break, which every other test sends")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_to_the_whole_group(form: Form, start_server: StartServer, tmp_path: Path, name: str) -> None:
    """Ctrl-C in a terminal, a closed window and a service manager reach both processes of the exe: an orderly end."""
    inherited = signal.signal(getattr(signal, name), signal.SIG_DFL)  # nohup would hand its own down
    try:
        server = start_server(env={"TMPDIR": str(tmp_path)})
    finally:
        signal.signal(getattr(signal, name), inherited)
    os.killpg(server.proc.pid, getattr(signal, name))
    assert server.proc.wait(STOP_SECONDS) == 0, server.output()
    assert "Traceback" not in server.log()
    assert not list(tmp_path.iterdir())  # what an exe unpacks there


def test_no_network_but_loopback(form: Form) -> None:
    """In a network of its own, in which nothing but this computer answers, it does the same."""
    if form.home is None:
        pytest.skip("this is the inner run")
    alone = ["unshare", "--net", "--map-root-user"]
    if not allowed(*alone[1:]):
        pytest.skip("this system gives nobody a network of his own")
    tests = [f"{__file__}::{test.__name__}" for test in (test_main_job, test_page_needs_nothing_from_elsewhere)]
    inner = f"{LOOPBACK_UP}; import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    done = subprocess.run(
        [*alone, sys.executable, "-c", inner, "-p", "no:cacheprovider", "--program", shlex.join(form.command), *tests],
        cwd=build.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.skipif(WINDOWS, reason="these are commands for other systems")
@pytest.mark.parametrize(("form", "words"), README_STARTS.items(), indirect=["form"], scope="session")
def test_readme_starts_it(form: Form, words: str, tmp_path: Path) -> None:
    """What the README says to type is typed, in a folder such as it speaks of."""
    (block,) = (block for block in re.findall(r"^```sh\n(.+?)\n```$", README, re.M | re.S) if words in block)
    folder = form.home
    if form.name == "exe":
        folder = tmp_path
        shutil.copyfile(form.command[0], folder / RELEASED_EXE)
    elif form.name in ("script", "wheel"):
        folder = tmp_path / "project"
        folder.mkdir()
        for name in (*build.SOURCES[:6], "LICENSE", "dropzone-min.js", "dropzone.css"):
            shutil.copy(build.ROOT / name, folder)
    path = os.pathsep.join([str(Path(form.command[0]).parent), os.environ["PATH"]])
    block = re.sub(r"\)?$", r" --version\g<0>", block, count=1)  # the last command may stand in parentheses
    done = subprocess.run(
        ["sh", "-ec", block],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith(f"pyfiledrop {pyfiledrop.__version__}\n"), done.stdout + done.stderr


@pytest.mark.skipif(WINDOWS, reason="an archive is no program there")
def test_archive_starts_by_its_name() -> None:
    """Its first line finds a Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [made("script", "pyfiledrop.pyz"), "--version"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"pyfiledrop {pyfiledrop.__version__}\n", done.stderr


def test_archive_is_the_same_whenever_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that anybody can make it again and compare."""
    monkeypatch.setattr(build, "WORK", tmp_path)
    archives = []
    for when in (1_000_000_000.0, 1_700_000_000.0):
        monkeypatch.setattr("time.time", lambda when=when: when)
        build.make_archive(tmp_path / "made.pyz", {"b.py": b"1", "a.py": b"2"})
        archives.append((tmp_path / "made.pyz").read_bytes())
    assert archives[0] == archives[1]


# Systems that lack a call

FOLDERS_CANNOT_BE_FORCED = """
import errno, stat
real_fsync = os.fsync
def fsync(fd):
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "Invalid argument")
    real_fsync(fd)
os.fsync = fsync
"""
NO_BOOT_ID = """
import pathlib
real_read = pathlib.Path.read_text
def read_text(path, *args, **how):
    if path.name == "boot_id":
        raise FileNotFoundError(path)
    return real_read(path, *args, **how)
pathlib.Path.read_text = read_text
"""
NO_SYS_FS = """
real_listdir = os.listdir
def listdir(path="."):
    if path == "/sys/fs":
        raise FileNotFoundError(path)
    return real_listdir(path)
os.listdir = listdir
"""
#: What the README's table names -> what takes it away before the server starts.
LACKING = {
    "os.splice": "vars(os).pop('splice', None)",
    "os.sendfile": "vars(os).pop('sendfile', None)",
    "os.link": "vars(os).pop('link', None)",
    "os.pwrite": "vars(os).pop('pwrite', None)",
    "os.fsync": FOLDERS_CANNOT_BE_FORCED,
    "fcntl": "sys.modules['fcntl'] = None",
    "MSG_DONTWAIT": "import socket; vars(socket).pop('MSG_DONTWAIT', None)",
    "F_SETPIPE_SZ": "import fcntl; vars(fcntl).pop('F_SETPIPE_SZ', None)",
    "os.fdatasync": "vars(os).pop('fdatasync', None)",
    "boot_id": NO_BOOT_ID,
    "/sys/fs": NO_SYS_FS,
    "statx": "import ctypes; ctypes.CDLL = lambda *_: object()",
    "O_NOFOLLOW": "vars(os).pop('O_NOFOLLOW', None)",
    "dir_fd": "os.supports_dir_fd.clear()",
    "pathconf": "vars(os).pop('pathconf', None)",
    "SIGHUP": "import signal; vars(signal).pop('SIGHUP', None)",
    "SIGBREAK": "import signal; vars(signal).pop('SIGBREAK', None)",
}
if WINDOWS:  # where the first is not there in any case, and the second is how a test ends it
    del LACKING["F_SETPIPE_SZ"], LACKING["SIGBREAK"]


@pytest.mark.parametrize("lost", [*LACKING, "all"])
def test_main_job_without(lost: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where a system lacks one of these, or all of them, there is another way to the same result."""
    takes_away = LACKING.get(lost) or "\n".join(LACKING[name] for name in LACKING if name != "fcntl")
    start = f"""import os, sys
{takes_away}
sys.path.insert(0, {str(build.ROOT)!r})
import pyfiledrop
sys.exit(pyfiledrop.main())"""
    server = Server([sys.executable, "-c", start], tmp_path_factory.mktemp("server"), ("-a",), {})
    try:
        check_main_job(server)
    finally:
        server.kill()


@pytest.mark.skipif(WINDOWS, reason="it lacks some itself")
def test_readme_names_what_may_be_missing() -> None:
    """Its table has each call that the tests take away, and no other."""
    assert {name for row in table("call that may be missing") for name in code(row[0])} == set(LACKING)
