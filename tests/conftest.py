"""The server as its users meet it: a program in a process of its own, spoken to over a socket.

`server`, `shared_server` and `start_server` start it; `exchange` sends raw bytes and reads one answer;
`request`, `multipart_body` and `chunk_request` make such bytes; `upload` sends a whole file in chunks.
Which program is tested is one setting (`--program` or PYFILEDROP_COMMAND), so that a zipapp or an exe
goes through the same tests.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import math
import os
import queue
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid as uuids
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browsing import CHROMIUM_ARGUMENTS, Visits
from playwright.sync_api import Browser, sync_playwright
from storing import Folders, play_two_disks

import build
import pyfiledrop

START_SECONDS = 20.0
STOP_SECONDS = 20.0
ANSWER_SECONDS = 15.0
BOUNDARY = "----pyfiledrop-test-boundary"
#: Stands in a request for the name of the drop's cookie, which only the server knows that it will be sent to.
DROP_COOKIE = "<drop>"
PASSWORD = "Grüße & 100% =+secret:"  # with all that a form or a header could take for something else
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

Fields = Mapping[str, "str | bytes"] | Iterable[tuple[str, "str | bytes"]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--program",
        default=os.environ.get("PYFILEDROP_COMMAND", ""),
        help="the command that starts the server (default: this Python with pyfiledrop.py)",
    )
    parser.addoption("--kills", type=int, default=200, help="how often test_crash kills the server")
    parser.addoption("--cuts", type=int, default=60, help="how often test_power cuts the power, about")
    parser.addoption("--fuzz", type=int, default=100_000, help="how many requests test_fuzz sends")
    parser.addoption("--full", action="store_true", help="let the crowd of test_load send files of 50 MB, not of 2")
    parser.addoption("--soak", type=float, default=0, metavar="SECONDS", help="run test_soak for so long")
    parser.addoption("--fast", action="store_true", help="leave out what takes long or needs a browser")


def suite(item: pytest.Item) -> str:
    """What the test's file is about, as in `build.READING_ORDER`."""
    return item.path.stem.removeprefix("test_")


def is_wanted(config: pytest.Config, item: pytest.Item) -> bool:
    """The soak runs only when it is asked for, and with --fast only what is quick."""
    if item.name == "test_soak":
        return bool(config.getoption("--soak"))
    is_slow = suite(item) in build.SLOW or item.get_closest_marker("slow") or "browser" in item.fixturenames  # type: ignore[attr-defined]
    return not (is_slow and config.getoption("--fast"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is not wanted, and puts the rest into reading order, unless files were named in another."""
    left_out = [item for item in items if not is_wanted(config, item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    if config.args_source != config.ArgsSource.ARGS:
        items.sort(key=lambda item: build.READING_ORDER.index(suite(item)))


# The server


class Server:
    """One server on 127.0.0.1 with folders of its own; it keeps folders and port when it is started again."""

    tls: ssl.SSLContext | None = None  # with what its clients shake hands, if it speaks https

    def __init__(self, command: list[str], folder: Path, options: tuple[str, ...], env: Mapping[str, str]) -> None:
        self.storage = folder / "storage"
        self.chunks = folder / "chunks"
        self.host = "127.0.0.1"
        self.port = 0
        self.proc: subprocess.Popen[str]
        self._command = [*command, "--host", self.host, "-s", str(self.storage), "-c", str(self.chunks), *options]
        self._env = {**os.environ, **env}
        self._log = folder / "stderr.txt"
        self._lines: list[str] = []
        self.start()

    @property
    def url(self) -> str:
        """The page's address, with a slash at the end."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/"

    @functools.cached_property
    def drop_cookie(self) -> str:
        """The name of the cookie that holds a browser's drop; it carries a mark that this server's record made."""
        page = request("GET", "/", basic(self._env.get("PYFILEDROP_PASSWORD", "")))
        name: str = exchange(self, page).headers["Set-Cookie"].partition("=")[0]
        return name

    def start(self) -> None:
        """Start the process and return when it has printed its address."""
        with self._log.open("ab") as log:
            self.proc = subprocess.Popen(
                [*self._command, "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                errors="replace",
                env=self._env,
                # A group of its own: kill() reaches an exe's child too, and Ctrl-Break on Windows only the server.
                start_new_session=os.name != "nt",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        self._lines = []
        ports: queue.Queue[int | None] = queue.Queue()
        threading.Thread(target=self._read_stdout, args=(self.proc, ports), daemon=True).start()
        try:
            port = ports.get(timeout=START_SECONDS)
        except queue.Empty:
            self.kill()
            pytest.fail(f"no address within {START_SECONDS:.0f} s; {self.output()}", pytrace=False)
        if port is None:
            pytest.fail(f"ended with {self.proc.wait(STOP_SECONDS)} before it served; {self.output()}", pytrace=False)
        self.port = port

    def _read_stdout(self, proc: subprocess.Popen[str], ports: queue.Queue[int | None]) -> None:
        """Read all the server prints, so that it never waits for us; pass the port on, or None at the end."""
        assert proc.stdout is not None
        with proc.stdout:
            for line in proc.stdout:
                self._lines.append(line)
                if match := re.search(rf"https?://{re.escape(self.host)}:(\d+)/", line):
                    ports.put(int(match[1]))
        ports.put(None)

    def stop(self) -> None:
        """Ask it to end, as a service manager does; it must do so in order."""
        if sys.platform == "win32":  # where SIGTERM would end it at once
            self.proc.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            self.proc.terminate()
        try:
            status = self.proc.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still there {STOP_SECONDS:.0f} s after SIGTERM; {self.output()}") from None
        assert status == 0, f"exit status {status} after SIGTERM; {self.output()}"

    def kill(self) -> None:
        """End it at once, as a crash or kill -9 does."""
        if self.proc.poll() is None:
            if sys.platform == "win32":
                self.proc.kill()
            else:
                os.killpg(self.proc.pid, signal.SIGKILL)
        self.proc.wait(STOP_SECONDS)

    def restart(self, *options: str) -> None:
        """Stop it, unless it has ended already, and start it again on the same port, with these options besides."""
        if self.proc.poll() is None:
            self.stop()
        self._command += options
        self.start()

    def log(self) -> str:
        """All it has written to stderr, of every start."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def output(self) -> str:
        """What it has said, for the message of a failed test."""
        return f"its stdout:\n{''.join(self._lines)}\nits stderr:\n{self.log()}"


StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def program(pytestconfig: pytest.Config) -> list[str]:
    """The command that starts the server, without options."""
    if command := pytestconfig.getoption("--program"):
        return shlex.split(command, posix=os.name != "nt")
    return [sys.executable, str(build.ROOT / "pyfiledrop.py")]


@contextlib.contextmanager
def running(program: list[str], folder: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server as long as the context lasts. It must end in order then, and no bug may have shown up in its log."""
    server = Server(program, folder, options, env or {})
    try:
        yield server
        if server.proc.poll() is None:
            server.stop()
        if server.storage.exists():  # not on a disk that is gone again
            assert "Traceback" not in server.log(), server.log()
    finally:
        server.kill()


@pytest.fixture
def start_server(program: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """A function that starts a server with these options, variables and folder (a new one unless given)."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, env: Mapping[str, str] | None = None, folder: Path | None = None) -> Server:
            place = folder or tmp_path_factory.mktemp("server")
            return stack.enter_context(running(program, place, *options, env=env))

        yield start


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """A server with the default options, for this test alone."""
    return start_server()


@pytest.fixture(scope="module")
def shared_server(program: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with downloads allowed, for all tests of a module: they must not depend on what it holds."""
    with running(program, tmp_path_factory.mktemp("server"), "-a") as server:
        yield server


@pytest.fixture(scope="module")
def guarded(program: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a password, for tests that never give a wrong one."""
    with running(program, tmp_path_factory.mktemp("guarded"), "-a", env={"PYFILEDROP_PASSWORD": PASSWORD}) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=build.find_chromium(),
            args=list(CHROMIUM_ARGUMENTS),
        )
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visits]:
    """A function that opens a server's page in a new tab; the test fails when the browser complains of anything."""
    visits = Visits(browser)
    yield visits
    visits.end()


def changed_program(changes: str) -> list[str]:
    """The command that starts a server with some of its constants changed: `NAME=NUMBER,NAME=NUMBER`."""
    return [sys.executable, str(build.ROOT / "tests" / "launch.py"), changes]


@pytest.fixture
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """A function that starts a server with some of its constants changed, as `changed_program` takes them, options."""
    with contextlib.ExitStack() as stack:

        def start(changes: str, *options: str) -> Server:
            place = tmp_path_factory.mktemp("launched")
            return stack.enter_context(running(changed_program(changes), place, *options))

        yield start


def fails_to_start(program: list[str], folder: Path, *options: str, env: dict[bytes, bytes] | None = None) -> str:
    """Start it with what it cannot use: one sentence on stderr, exit status 2. Returns the sentence."""
    places = ["--host", "127.0.0.1", "-p", "0", "-s", str(folder / "storage"), "-c", str(folder / "chunks")]
    done = subprocess.run(
        [*program, *places, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        env={**os.environb, **env} if env else None,
        start_new_session=True,  # no terminal on which it could ask
    )
    assert done.returncode == 2, done
    line = done.stderr.decode()
    assert re.fullmatch(r"pyfiledrop: [A-Z].*\.\n", line), line
    assert not done.stdout
    return line


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[pyfiledrop.Server]:
    """A server in this process, for tests that must see inside or change what is in it."""
    options = ["--host", "127.0.0.1", "-p", "0", "-s", str(folder / "storage"), "-c", str(folder / "chunks")]
    settings = pyfiledrop.Settings.parse(options)
    with contextlib.closing(pyfiledrop.open_store(settings.storage, settings.chunks)) as store:
        server = pyfiledrop.make_server(settings, store)
        assert list(pyfiledrop.describe_start(settings, store, server))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            assert server.stop(10)
            thread.join()


# A client that sends exactly the bytes it is given


@dataclass(frozen=True)
class Response:
    """One answer. Header names are compared without case; `headers.get_all(name)` gives repeated ones."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """A TCP connection to the server, for tests that send several requests or stop in the middle of one."""

    def __init__(self, server: Server, timeout: float = ANSWER_SECONDS, source: str = "") -> None:
        """`source` is the address to come from (Linux lets us come from any that begins with 127)."""
        self._server = server
        self.sock = socket.create_connection((server.host, server.port), timeout, (source, 0) if source else None)
        if server.tls:
            self.sock = server.tls.wrap_socket(self.sock, server_hostname=server.host)
        self._input = self.sock.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._input.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(addressed(data, self._server))

    def receive(self, *, head: bool = False) -> Response:
        """Read one final answer and not a byte more. ConnectionError when there is none or it breaks off."""
        status = 100
        while 100 <= status < 200:
            line = self._input.readline(65536)
            if not (match := re.fullmatch(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r\n", line)):
                raise ConnectionError(f"the answer begins with {line!r}")
            status = int(match[1])
            lines = list(iter(lambda: self._input.readline(65536), b"\r\n"))
            if not all(line.endswith(b"\r\n") for line in lines):
                raise ConnectionError(f"the answer's head breaks off after {lines!r}")
            headers = BytesParser().parsebytes(b"".join(lines), headersonly=True)
        if head or status in (204, 304):
            return Response(status, headers, b"")
        assert "Transfer-Encoding" not in headers, "the server has no reason to send chunks"
        if (length := headers["Content-Length"]) is None:
            return Response(status, headers, self._input.read())
        body = self._input.read(int(length))
        if len(body) < int(length):
            raise ConnectionError(f"the answer's body breaks off after {len(body)} of {length} bytes")
        return Response(status, headers, body)

    def closed(self) -> bool:
        """Whether the server ends the connection without sending anything more; waits for it up to the timeout."""
        try:
            return self._input.read(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def addressed(data: bytes, server: Server) -> bytes:
    """These requests with the name that this server's cookie has."""
    return data.replace(DROP_COOKIE.encode(), server.drop_cookie.encode()) if DROP_COOKIE.encode() in data else data


def exchange(server: Server, data: bytes, timeout: float = ANSWER_SECONDS) -> Response:
    """Send these bytes over a connection of their own and read one answer, even one that comes before the last byte."""
    with Connection(server, timeout) as connection:
        with contextlib.suppress(ConnectionError):  # refused early: the answer is on its way all the same
            connection.send(data)
        return connection.receive(head=data.startswith(b"HEAD "))


def request(
    method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None, *, cookie: str = ""
) -> bytes:
    """A request's bytes. `cookie` is the drop's UUID; a header given as "" is left out.

    The cookie's name is the server's, so it is put in by `addressed`, as all that send requests do.
    """
    lines = {
        "Host": "127.0.0.1",
        "Accept": "application/json",
        "Cookie": f"{DROP_COOKIE}={cookie}" if cookie else "",
        "Content-Length": "" if body is None else str(len(body)),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


def multipart_body(fields: Fields, files: Iterable[tuple[str, str, bytes]], boundary: str = BOUNDARY) -> bytes:
    """A form as browsers send it: fields, then files, each of them (field name, file name, content)."""

    def quoted(name: str) -> str:
        return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")

    parts = []
    for name, value in fields.items() if isinstance(fields, Mapping) else fields:
        content = value.encode() if isinstance(value, str) else value
        parts.append(f'Content-Disposition: form-data; name="{quoted(name)}"\r\n\r\n'.encode() + content)
    for name, filename, content in files:
        head = f'Content-Disposition: form-data; name="{quoted(name)}"; filename="{quoted(filename)}"'
        parts.append(f"{head}\r\nContent-Type: application/octet-stream\r\n\r\n".encode() + content)
    opening = f"--{boundary}\r\n".encode()
    return b"".join(opening + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


def chunk_fields(size: int, index: int, *, uuid: str, chunk_size: int) -> dict[str, str]:
    """The six fields with which Dropzone describes a chunk of a file of `size` bytes."""
    return {
        "dzuuid": uuid,
        "dzchunkindex": str(index),
        "dztotalfilesize": str(size),
        "dzchunksize": str(chunk_size),
        "dztotalchunkcount": str(max(1, math.ceil(size / chunk_size))),
        "dzchunkbyteoffset": str(index * chunk_size),
    }


def chunk_request(
    content: bytes,
    index: int = 0,
    *,
    uuid: str,
    name: str = "file.bin",
    chunk_size: int = 1 << 20,
    changes: Mapping[str, str | None] | None = None,
    data: bytes | None = None,
    cookie: str = "",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The request with which Dropzone sends one chunk of a file of this content.

    `changes` replaces fields or, with None, leaves them out; `data` is sent in place of the chunk's own bytes.
    """
    fields = {**chunk_fields(len(content), index, uuid=uuid, chunk_size=chunk_size), **(changes or {})}
    chunk = content[index * chunk_size : (index + 1) * chunk_size] if data is None else data
    body = multipart_body({k: v for k, v in fields.items() if v is not None}, [("file", name, chunk)])
    form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return request("POST", "/upload", {**form, **(headers or {})}, body, cookie=cookie)


def announce_request(
    size: int,
    *,
    name: str = "file.bin",
    modified: int | None = None,
    cookie: str = "",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The request with which our own page begins an upload of so many bytes."""
    body = json.dumps({"name": name, "size": size, "modified": modified}).encode()
    return request("POST", "/uploads", {"Content-Type": "application/json", **(headers or {})}, body, cookie=cookie)


def announce(server: Server, size: int, *, name: str = "file.bin", cookie: str = "") -> dict[str, Any]:
    """Begin an upload, or find it again; what the server says of it."""
    answer = exchange(server, announce_request(size, name=name, cookie=cookie))
    assert answer.status in (200, 201), f"{answer.status} {answer.text}; {server.output()}"
    result: dict[str, Any] = answer.json()["upload"]
    return result


def run_request(
    content: bytes,
    first: int = 0,
    count: int = 1,
    *,
    uuid: str,
    chunk_size: int = 1 << 20,
    data: bytes | None = None,
    cookie: str = "",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The request with which our own page sends so many chunks, from this one on, of a file of this content."""
    run = content[first * chunk_size : (first + count) * chunk_size] if data is None else data
    return request("PUT", f"/uploads/{uuid}/{first}", headers, run, cookie=cookie)


def upload(
    server: Server,
    content: bytes,
    *,
    uuid: str = "",
    name: str = "file.bin",
    chunk_size: int = 1 << 20,
    cookie: str = "",
) -> dict[str, Any]:
    """Send a whole file, chunk after chunk, and return what the server says of it in the end."""
    uuid = uuid or str(uuids.uuid4())
    for index in range(max(1, math.ceil(len(content) / chunk_size))):
        data = chunk_request(content, index, uuid=uuid, name=name, chunk_size=chunk_size, cookie=cookie)
        answer = exchange(server, data)
        assert answer.status == 200, f"chunk {index}: {answer.status} {answer.text}; {server.output()}"
    (file,) = answer.json()["files"]
    assert file["done"], file
    result: dict[str, Any] = file
    return result


def stored(server: Server, uuid: str) -> bytes:
    """The bytes of the one file in storage that has this UUID before its name."""
    (path,) = server.storage.glob(f"{uuid}_*")
    return path.read_bytes()


def sign_in_request(password: str, **headers: str) -> bytes:
    """What the form sends."""
    body = f"password={quote(password, safe='')}".encode()
    kind = "application/x-www-form-urlencoded"
    return request("POST", "/", {"Content-Type": kind, "Accept": "text/html", **headers}, body)


def basic(password: str, user: str = "") -> dict[str, str]:
    """The header that `curl -u user:password` sends."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def cookie_of(answer: Response) -> str:
    """The one cookie that an answer sets, name and value, as a browser sends it back."""
    (line,) = answer.headers.get_all("Set-Cookie") or []
    cookie: str = line.partition(";")[0]
    return cookie


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["curl", "-sS", *arguments], capture_output=True, timeout=60)


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """For what happens a moment after the answer, such as a line in the log; fails when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it has not come true within {seconds:g} s"
        time.sleep(0.005)


# The store without a server


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    """Folders for a store; nothing happens in them by itself, for the housekeeper waits for good."""
    monkeypatch.setattr("pyfiledrop.HOUSEKEEPING_SECONDS", 1e6)
    folders = Folders(tmp_path / "root")
    yield folders
    folders.close()


@pytest.fixture
def store(folders: Folders) -> pyfiledrop.Store:
    return folders.open()


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another device than tmp_path: a real one where there is /dev/shm, else one that plays it."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        shm = Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix="pyfiledrop-test-", dir=shm))
    if folder.stat().st_dev != tmp_path.stat().st_dev:
        yield folder
    else:
        with pytest.MonkeyPatch.context() as patch:
            play_two_disks(patch, folder)
            yield folder
    shutil.rmtree(folder)
