#!/usr/bin/env python3
"""How fast pyfiledrop is, beside other servers on the same machine, with the same client and the same work.

    python tests/benchmark.py               five rounds, or as many as five minutes allow
    python tests/benchmark.py --browser     also through the pages, in Chromium
    python tests/benchmark.py --large       also 10 and 20 GiB, 100,000 chunks, 10,000 uploads, 100,000 files
    python tests/benchmark.py --disk DIR    instead: what it costs to wait for the disk that this folder is on

A peer that is not installed is left out, and a line says how to get it. All servers run at the same time on 127.0.0.1,
keep their files in memory, and take turns: each round gives each piece of work to one after the other, so that whatever
else the machine does meets them all. The table shows medians with the least and the most. Being slow is no failure; an
upload that is not answered well, and a stored file that differs from what was sent, is: exit status 1. A peer that does
so is left out from there on.

The client is light, but it shares the machine's cores with the server it measures. The CPU seconds for each GiB are
the server's alone and therefore the steadier figures.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import hashlib
import http.server
import importlib.metadata
import json
import math
import os
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid as uuids
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CHUNK_BYTES = 8 * MIB  # what clients cut files into
SAMPLE_BYTES = 512 * MIB
RANGE_FROM = 100_000_000
SMALL_FILES = 3000
PAGE_BYTES = GIB  # through the page, beside what the browser could send at all
PAGE_FILES, PAGE_FILE_BYTES = 2000, 4 * KIB

HOST = "127.0.0.1"
PROGRAM = Path(__file__).resolve().parent.parent / "pyfiledrop.py"
ROUNDS, LARGE_ROUNDS, BUDGET_SECONDS = 5, 3, 300
START_SECONDS, STOP_SECONDS = 120, 15
STILL_SECONDS = 300  # not one answer in this time: not slow, but stuck
BOUNDARY = "----pyfiledropbenchmark7MA4YWxkTrZu0gW"

Figures = dict[str, float]
#: what is measured -> (decimals, whether more is better)
FIGURES = {
    "MB/s": (0, True),
    "files/s": (0, True),
    "CPU s/GiB": (2, False),
    "MiB": (0, False),
    "s": (2, False),
    "ms": (2, False),
    "%": (0, True),
}


class Problem(Exception):
    """What makes the benchmark fail, as a sentence."""


def say(text: str) -> None:
    """Tells how far it is; stdout is for the result."""
    print(text, file=sys.stderr, flush=True)


# What is sent: files whose content is cut from one endless stream


@functools.cache
def block() -> memoryview:
    """The stream's period. Its length is prime, so that no two chunks are alike and one in the wrong place shows.

    The same in every run: Bottle's own parser, which the tutorial's server uses, refuses one random chunk of 8 MiB in
    about 1,500 (bottlepy/bottle#1470), and which ones must not be left to chance.
    """
    return memoryview(random.Random(1).randbytes(16_777_213))


def content(offset: int, size: int) -> Iterator[memoryview]:
    """That part of the stream, without copying it."""
    end = offset + size
    while offset < end:
        start = offset % len(block())
        piece = block()[start : start + end - offset]
        yield piece
        offset += len(piece)


@functools.cache
def content_hash(offset: int, size: int) -> str:
    """The SHA-256 of that part of the stream."""
    digest = hashlib.sha256()
    for piece in content(offset, size):
        digest.update(piece)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """The SHA-256 of a stored file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(MIB):
            digest.update(data)
    return digest.hexdigest()


class File(NamedTuple):
    """A file to send, or one that lies on a server: `size` bytes of the stream from `offset`."""

    uuid: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.uuid}.bin"


SAMPLE = File("5a3b1e00-0000-4000-8000-000000000000", 0, SAMPLE_BYTES)


def cut(total: int, size: int) -> list[File]:
    """New files of at most `size` bytes that together are the stream's first `total` bytes."""
    return [File(str(uuids.uuid4()), offset, min(size, total - offset)) for offset in range(0, total, size)]


class Request(NamedTuple):
    """A request, and what its answer must be."""

    head: bytes  # with what stands before the content, if that is in a form
    offset: int
    size: int
    tail: bytes
    keep: bool  # the connection for the next request
    statuses: tuple[int, ...] = (200, 201, 204)
    answer_bytes: int | None = None  # how long its body must be; None: any


def head(method: str, path: str, keep: bool, *headers: str) -> bytes:
    """The head of a request, as browsers send it but for what no server here looks at."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", "Accept: application/json", *headers]
    return "\r\n".join([*lines, *([] if keep else ["Connection: close"]), "", ""]).encode()


# How a server takes a file: a way turns it into requests. The second argument is the size of chunks.
Way = Callable[[File, int, bool], Iterable[Request]]


def by_put(path: str) -> Way:
    """The file as the body."""

    def requests(file: File, chunk_size: int, keep: bool) -> Iterable[Request]:
        length = f"Content-Length: {file.size}"
        yield Request(head("PUT", path + file.name, keep, length), file.offset, file.size, b"", keep)

    return requests


def form(path: str, fields: dict[str, object], field: str, file: File, keep: bool) -> Request:
    """A form with these fields and then the file."""
    opening = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'
    text = "".join(f'{opening}{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    text += f'{opening}{field}"; filename="{file.name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    length = f"Content-Length: {len(text) + file.size + len(tail)}"
    return Request(head("POST", path, keep, kind, length) + text.encode(), file.offset, file.size, tail, keep)


def by_form(path: str, field: str) -> Way:
    """The file in a form."""
    return lambda file, chunk_size, keep: [form(path, {}, field, file, keep)]


def by_dropzone(path: str) -> Way:
    """The file in Dropzone's chunks."""

    def requests(file: File, chunk_size: int, keep: bool) -> Iterable[Request]:
        for index in range(math.ceil(file.size / chunk_size)):
            start = index * chunk_size
            fields = {
                "dzuuid": file.uuid,
                "dzchunkindex": index,
                "dztotalfilesize": file.size,
                "dzchunksize": chunk_size,
                "dztotalchunkcount": math.ceil(file.size / chunk_size),
                "dzchunkbyteoffset": start,
            }
            chunk = File(file.uuid, file.offset + start, min(chunk_size, file.size - start))
            yield form(path, fields, "file", chunk, keep)

    return requests


# The client


class Answer(NamedTuple):
    """When a request was begun, sent and answered, in seconds of the same clock."""

    began: float
    sent: float
    done: float


class Line:
    """A connection. Blocking, without a time limit, which would cost a system call more for each of ours."""

    def __init__(self, port: int, buffer: bytearray) -> None:
        self._buffer, self._view = buffer, memoryview(buffer)
        self._socket = socket.create_connection((HOST, port))
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def send(self, request: Request) -> None:
        """Sends all of it; what is short in one piece."""
        if request.size <= 16 * KIB:
            self._socket.sendall(b"".join((request.head, *content(request.offset, request.size), request.tail)))
            return
        self._socket.sendall(request.head)
        for piece in content(request.offset, request.size):
            self._socket.sendall(piece)
        if request.tail:
            self._socket.sendall(request.tail)

    def receive(self, request: Request, sink: Callable[[memoryview], object] | None = None) -> bool:
        """Reads the answer to its end and gives its body to `sink`. Returns whether the connection can be used again.

        Raises Problem when it is not the answer the request must get.
        """
        what = request.head.partition(b" HTTP/")[0].decode()
        got, end = 0, -1
        while end < 0:
            count = self._socket.recv_into(self._view[got:])
            if not count:
                raise Problem(f"{what} was not answered.")
            got += count
            end = self._buffer.find(b"\r\n\r\n", 0, got)
        lines = self._buffer[:end].decode("latin-1").lower()
        match = re.match(r"http/1\.([01]) (\d{3})", lines)
        if not match or int(match[2]) not in request.statuses:
            text = re.sub(r"(?s)<style.*?</style>|<[^>]*>", " ", self._buffer[end + 4 : got].decode("utf-8", "replace"))
            raise Problem(f"{what} was answered with {lines.partition(chr(13))[0]!r}: {' '.join(text.split())[:300]}")
        length = re.search(r"\r\ncontent-length: *(\d+)", lines)
        if not length and "\r\ntransfer-encoding:" in lines:
            raise Problem(f"{what} was answered in chunks, which this client does not read.")
        body, received = self._view[end + 4 : got], 0
        left: float = int(length[1]) if length else 0 if match[2] == "204" else math.inf
        while True:
            received += len(body)
            if sink:
                sink(body)
            if received >= left:
                break
            count = self._socket.recv_into(self._buffer)
            if not count:
                break
            body = self._view[:count]
        if received != left < math.inf or request.answer_bytes not in (None, received):
            raise Problem(f"{what} gave {received} bytes.")
        return request.keep and match[1] == "1" and left < math.inf and "\r\nconnection: close" not in lines


def ask(port: int, request: Request, sink: Callable[[memoryview], object] | None = None) -> None:
    """One request on a connection of its own."""
    with contextlib.closing(Line(port, bytearray(256 * KIB))) as line:
        line.send(request)
        line.receive(request, sink)


def drive(port: int, requests: Iterable[Request], connections: int) -> list[Answer]:
    """Sends the requests, so many at a time, and returns the answers in the order they came. Raises Problem."""
    queue, answers, failures = deque(requests), list[Answer](), list[Exception]()

    def work() -> None:
        buffer, line = bytearray(256 * KIB), None
        try:
            while queue and not failures:
                with contextlib.suppress(IndexError):  # another thread took the last one
                    request = queue.popleft()
                    began = time.perf_counter()
                    if line is None:
                        line = Line(port, buffer)
                    line.send(request)
                    sent = time.perf_counter()
                    usable = line.receive(request)
                    answers.append(Answer(began, sent, time.perf_counter()))
                    if not usable:
                        line.close()
                        line = None
        except (OSError, Problem) as error:
            failures.append(error)
        finally:
            if line:
                line.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(connections)]
    gc.collect()
    gc.disable()  # a collection in the middle would be counted as the server's time
    try:
        for thread in threads:
            thread.start()
        seen, since = 0, time.monotonic()
        for thread in threads:
            while thread.is_alive() and not failures:
                thread.join(1)
                if len(answers) > seen:
                    seen, since = len(answers), time.monotonic()
                elif time.monotonic() - since > STILL_SECONDS:
                    raise Problem(f"Nothing was answered for {STILL_SECONDS} seconds.")
    finally:
        gc.enable()
    if failures:
        raise failures[0] if isinstance(failures[0], Problem) else Problem(f"The connection broke: {failures[0]}.")
    return sorted(answers, key=lambda answer: answer.done)


def span(answers: Sequence[Answer]) -> float:
    """Seconds from the first byte to the last answer."""
    return answers[-1].done - min(answer.began for answer in answers)


# The peers


@dataclass(frozen=True)
class Page:
    """What a browser does on a server's page."""

    input: str  # selector of the input that files are chosen with
    done: str  # JavaScript: how many files it says are in
    before: str = ""  # JavaScript that runs first in the page


@dataclass(frozen=True)
class Peer:
    """A server to measure: this project, or another beside it. Its files are in `files` in its folder."""

    name: str
    version: Callable[[], str | None]  # None: it is not installed
    install: str
    command: Callable[[Path, int], list[str]]  # from its folder and port
    ways: dict[str, Way]  # "piece": how it takes a large file's 8 MiB, "put" and "chunk": small files
    pieces: str  # what "piece" is, for people
    joins: bool = False  # whether the pieces become one file; else each is a file
    share: float = 1  # of the work for "piece": a slow one gets a quarter, for the result is a rate
    stored: str = "{0}.bin"  # what it calls the file with this UUID, and where it gives it back
    fetched: str = ""
    page: Page | None = None


def package_version(*names: str) -> Callable[[], str | None]:
    """The version of a Python package; of several with their names."""

    def read() -> str | None:
        try:
            versions = {name: importlib.metadata.version(name) for name in names}
        except importlib.metadata.PackageNotFoundError:
            return None
        return " ".join(versions.values()) if len(names) == 1 else ", ".join(map(" ".join, versions.items()))

    return read


def output(*command: str) -> str:
    """What a command prints, on either stream."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.stdout


@functools.cache
def find_nginx() -> str | None:
    """nginx, which lies where only root's PATH leads."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def nginx_version() -> str | None:
    """nginx's, if it can take files."""
    nginx = find_nginx()
    built = output(nginx, "-V") if nginx else ""
    return re.sub(r"(?s).*?nginx/(\S+).*", r"\1", built) if "http_dav_module" in built else None


def nginx_command(folder: Path, port: int) -> list[str]:
    """nginx with WebDAV's PUT and nothing that would slow it down."""
    nginx = find_nginx()
    assert nginx
    built = output(nginx, "-V")
    modules = ("proxy", "fastcgi", "uwsgi", "scgi")  # their folders are made at the start, where only root may
    scratch = [f"{name}_temp_path temp;" for name in modules if f"--without-http_{name}_module" not in built]
    user = ""
    if sys.platform != "win32" and os.geteuid() == 0:  # else its workers would be somebody who may not write here
        import grp
        import pwd

        user = f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(os.getegid()).gr_name};"
    (folder / "nginx.conf").write_text(
        f"""daemon off; {user} worker_processes auto; pid nginx.pid; error_log error.log;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; sendfile on; client_max_body_size 0;
            client_body_temp_path temp; {" ".join(scratch)}
            server {{ listen {HOST}:{port}; root "{folder / "files"}"; location / {{ dav_methods PUT; }} }}
        }}""",
        "utf-8",
    )
    return [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]


def project_command(folder: Path, port: int) -> list[str]:
    """This project, as quiet as the others."""
    options = ["-s", str(folder / "files"), "-c", str(folder / "chunks"), "--allow-downloads", "--quiet"]
    return [sys.executable, str(PROGRAM), "--host", HOST, "-p", str(port), *options]


def serve_tutorial(folder: Path, port: int) -> None:
    """A server as tutorials about Dropzone write it: each chunk becomes a file, and the last one joins them."""
    import bottle

    lock, saved = threading.Lock(), defaultdict[str, int](int)

    def upload() -> str:
        fields = bottle.request.forms
        uuid, total = fields["dzuuid"], int(fields["dztotalchunkcount"])
        part, chunks = bottle.request.files["file"], folder / "chunks" / uuid
        chunks.mkdir(parents=True, exist_ok=True)
        part.save(str(chunks / fields["dzchunkindex"]))
        with lock:
            saved[uuid] += 1
            if saved[uuid] == total:
                with (folder / "files" / f"{uuid}_{part.raw_filename}").open("wb") as whole:
                    for index in range(total):
                        whole.write((chunks / str(index)).read_bytes())
                shutil.rmtree(chunks)
        return "Received."

    app = bottle.Bottle()
    app.route("/upload", "POST", upload)
    bottle.run(app, server="paste", host=HOST, port=port, quiet=True)


def tutorial_command(folder: Path, port: int) -> list[str]:
    """The server above."""
    return [sys.executable, str(Path(__file__).resolve()), "--tutorial", str(folder), str(port)]


# A file as the browser sends it fastest: as it is, 32 MiB at a time, over four connections.
SINK_PAGE = b"""<!doctype html><title>sink</title><input type="file" id="file"><script>
const input = document.getElementById('file');
input.onchange = async () => {
  const [file] = input.files;
  const step = 32 * 1024 * 1024;
  let next = 0;
  const lane = async () => {
    while (next < file.size) {
      const part = file.slice(next, next += step);
      await new Promise((resolve, reject) => {
        const xhr = new XMLHttpRequest();
        xhr.open('PUT', 'sink');
        xhr.onload = resolve;
        xhr.onerror = reject;
        xhr.send(part);
      });
    }
  };
  await Promise.all([lane(), lane(), lane(), lane()]);
  window.files = 1;
};
</script>"""


class Sink(http.server.BaseHTTPRequestHandler):
    """Gives a page that sends a file, and throws away what it sends: then only the browser takes time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(SINK_PAGE)

    def do_PUT(self) -> None:
        left, buffer = int(self.headers["Content-Length"]), memoryview(bytearray(MIB))
        while left:
            if not (count := self.rfile.readinto(buffer[:left])):
                return
            left -= count
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def sink_command(folder: Path, port: int) -> list[str]:
    """The server above."""
    return [sys.executable, str(Path(__file__).resolve()), "--sink", str(port)]


def copyparty_command(folder: Path, port: int) -> list[str]:
    """copyparty without thumbnails, and allowed to keep files in memory."""
    options = ["--no-thumb", "-q", "--wram", "-v", f"{folder / 'files'}:/:rwmd", "-i", HOST, "-p", str(port)]
    return [sys.executable, "-m", "copyparty", *options]


def uploadserver_command(folder: Path, port: int) -> list[str]:
    """uploadserver as it is."""
    return [sys.executable, "-m", "uploadserver", "--bind", HOST, "--directory", str(folder / "files"), str(port)]


PROJECT = Peer(
    "pyfiledrop",
    version=lambda: output(sys.executable, str(PROGRAM), "--version").partition("pyfiledrop ")[2].strip(),
    install="pip install -r requirements.txt",
    command=project_command,
    ways={"piece": by_dropzone("/upload"), "chunk": by_dropzone("/upload"), "put": by_put("/upload/")},
    pieces="Dropzone chunks of one file",
    joins=True,
    stored="{0}_{0}.bin",
    fetched="/download/{0}",
    page=Page("#file", "document.querySelectorAll('#files [data-state=done]').length"),
)
SINK = Peer(
    "sink",
    version=lambda: "",
    install="",
    command=sink_command,
    ways={},
    pieces="",
    page=Page("#file", "window.files || 0"),
)
PEERS = [
    PROJECT,
    Peer(
        "nginx",
        version=nginx_version,
        install="apt install nginx-light",
        command=nginx_command,
        ways={"piece": by_put("/"), "put": by_put("/")},
        pieces="PUT, each a file",
        fetched="/{0}.bin",
    ),
    Peer(
        "copyparty",
        version=package_version("copyparty"),
        install="pip install copyparty",
        command=copyparty_command,
        ways={"piece": by_put("/"), "put": by_put("/")},
        pieces="PUT, each a file",
        fetched="/{0}.bin",
        # It asks whether to begin, unless told not to.
        page=Page(
            "#file1",
            "Number(document.querySelector('#u2cards [act=ok] span').textContent)",
            before="try { localStorage.setItem('ask_up', '0'); } catch { }",
        ),
    ),
    Peer(
        "uploadserver",
        version=package_version("uploadserver"),
        install="pip install uploadserver",
        command=uploadserver_command,
        ways={"piece": by_form("/upload", "files")},
        pieces="forms, each a file",
        share=1 / 4,
    ),
    Peer(
        "tutorial",
        version=package_version("Bottle", "Paste"),
        install="pip install -r requirements.txt",
        command=tutorial_command,
        ways={"piece": by_dropzone("/upload")},
        pieces="Dropzone chunks of one file",
        joins=True,
        share=1 / 4,
        stored="{0}_{0}.bin",
    ),
]


# A server under test


class Server:
    """A peer's processes and its folder. `close` ends and removes both."""

    def __init__(self, peer: Peer, folder: Path, sample: Path | None = None) -> None:
        self.peer, self.folder, self.port = peer, folder, 0
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._proven: set[str] = set()
        if sample:
            place(sample, self.files / peer.stored.format(SAMPLE.uuid))

    def start(self) -> float:
        """Starts it. Returns how many seconds it took to answer its first request."""
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        command = self.peer.command(self.folder, self.port)
        # What would change its work, and what would make it leave something in the user's home.
        environment = {k: v for k, v in os.environ.items() if k != "PYFILEDROP_PASSWORD"}
        environment |= {"XDG_CONFIG_HOME": str(self.folder / "config"), "PYTHONWARNINGS": "ignore"}
        began = time.perf_counter()
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=sys.platform != "win32",  # Ctrl-C is for us; we end the servers
            )
        while True:
            with contextlib.suppress(OSError):
                ask(self.port, Request(head("GET", "/", False), 0, 0, b"", False, tuple(range(200, 500))))
                return time.perf_counter() - began
            if self._process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                raise Problem("It does not start.")
            time.sleep(0.002)

    def stop(self) -> None:
        """Ends it, by force where it must be."""
        process, self._process = self._process, None
        if process is None:
            return
        ended = process.poll() is not None
        if not ended:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                return
        with contextlib.suppress(ProcessLookupError):
            if sys.platform != "win32":
                os.killpg(process.pid, signal.SIGKILL)  # one that died may have left its workers
            else:
                process.kill()
        process.wait()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Server]:
        """Another server of this peer, with nothing in it and not yet started."""
        with contextlib.closing(Server(self.peer, self.folder / "fresh")) as server:
            yield server

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Says in every problem whose it is, and what the server said last."""
        try:
            yield
        except Problem as problem:
            with contextlib.suppress(OSError):
                lines = (self.folder / "log.txt").read_text("utf-8", "replace").splitlines()[-5:]
                raise Problem("\n    ".join([f"{self.peer.name}: {problem}", *lines])) from None
            raise

    def stat(self) -> Iterator[tuple[str, list[str]]]:
        """For each of its processes the PID and the fields of /proc/PID/stat from the third on (`man proc`)."""
        assert self._process
        found: dict[str, list[str]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ended while we looked
                found[path.parent.name] = path.read_text("latin-1").rpartition(")")[2].split()
        family = [str(self._process.pid)]
        for pid in family:
            family += [other for other, fields in found.items() if fields[1] == pid]
            if pid in found:
                yield pid, found[pid]

    def cpu(self) -> float | None:
        """CPU seconds it has used, user and system; None where the system does not tell."""
        if sys.platform != "linux":
            return None
        ticks = [sum(map(int, fields[11:15])) for _, fields in self.stat()]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None

    def peak(self) -> Figures:
        """The most memory each of its processes has had, together."""
        kilobytes = 0
        for pid, _ in self.stat():
            with contextlib.suppress(OSError):
                match = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text("latin-1"))
                kilobytes += int(match[1]) if match else 0
        return {"MiB": kilobytes / KIB} if kilobytes else {}

    def take(
        self, way: str, files: list[File], connections: int, keep: bool = True, chunk_size: int = CHUNK_BYTES
    ) -> tuple[list[Answer], float | None]:
        """Lets it receive the files, checks that it has them, and removes them. Returns the answers and CPU seconds."""
        requests = [request for file in files for request in self.peer.ways[way](file, chunk_size, keep)]
        before = self.cpu()
        answers = drive(self.port, requests, connections)
        after = self.cpu()
        self._check(way, files)
        return answers, None if before is None or after is None else after - before

    def _check(self, way: str, files: list[File]) -> None:
        """Whether each file is there once, by the end of its name: what stands before it is the server's own."""
        stored: dict[str, list[Path]] = defaultdict(list)
        for entry in self.files.iterdir():
            stored[entry.name[-len(SAMPLE.name) :]].append(entry)
        for file in files:
            paths = stored[file.name]
            sizes = [path.stat().st_size for path in paths]
            if sizes != [file.size]:
                raise Problem(f"A file of {file.size} bytes was stored with {sizes or 'none'}.")
            if way not in self._proven:  # one of each kind, for a look at all would take longer than sending
                self._proven.add(way)
                if file_hash(paths[0]) != content_hash(file.offset, file.size):
                    raise Problem(f"A file of {file.size} bytes was stored with other bytes than were sent.")
            paths[0].unlink()

    def give(self, connections: int, start: int, times: int) -> list[Answer]:
        """Lets it send the sample from byte `start`, so many times."""
        size, path = SAMPLE.size - start, self.peer.fetched.format(SAMPLE.uuid)
        headers, status = ([f"Range: bytes={start}-"], 206) if start else ([], 200)
        request = Request(head("GET", path, True, *headers), 0, 0, b"", True, (status,), size)
        if (kind := f"from {start}") not in self._proven:
            self._proven.add(kind)
            digest = hashlib.sha256()
            ask(self.port, request, digest.update)
            if digest.hexdigest() != content_hash(start, size):
                raise Problem(f"{size} bytes were given that are not those of the file.")
        return drive(self.port, [request] * times, connections)


def place(source: Path, target: Path) -> None:
    """Puts a file there without using more memory for it, where that can be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


# The work


@dataclass(frozen=True)
class Task:
    """A piece of work that each server gets in turn."""

    title: str
    needs: str  # a way of the peer; "fetched" or "page": it must have one
    run: Callable[[Server], Figures]  # its figures have names as in FIGURES, after a comma if one task has several
    beside: str = ""  # title of the task whose figures stand here for peers that lack what is needed
    plot: str = ""  # heading in the drawing

    def suits(self, peer: Peer) -> bool:
        return self.needs in peer.ways or bool(getattr(peer, self.needs, None))


def touch_memory(folder: Path, size: int) -> None:
    """Lets the system find room for so many bytes and free it again, so that everybody finds memory that is at hand.

    A virtual machine may have given free memory back to its host: whoever touches it first waits for both.
    """
    if hasattr(os, "posix_fallocate"):
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)


def receive(size: int, connections: int, last: bool = False) -> Callable[[Server], Figures]:
    """A large file in pieces of 8 MiB over kept connections, as browsers have them."""

    def run(server: Server) -> Figures:
        total = int(size * server.peer.share)
        touch_memory(server.folder, total)
        files = cut(total, total if server.peer.joins else CHUNK_BYTES)
        answers, cpu = server.take("piece", files, connections)
        figures = {"MB/s": total / span(answers) / 1e6}
        if cpu is not None:
            figures["CPU s/GiB"] = cpu / (total / GIB)
        if last:
            figures["last answer, s"] = answers[-1].done - answers[-1].sent
        return figures

    return run


def send(connections: int, start: int = 0) -> Callable[[Server], Figures]:
    """The sample four times, from its byte `start`."""

    def run(server: Server) -> Figures:
        return {"MB/s": 4 * (SAMPLE.size - start) / span(server.give(connections, start, 4)) / 1e6}

    return run


def receive_small(way: str, keep: bool) -> Callable[[Server], Figures]:
    """Many files of 1 KiB over 4 connections."""

    def run(server: Server) -> Figures:
        answers, _ = server.take(way, cut(SMALL_FILES * KIB, KIB), 4, keep)
        return {"files/s": SMALL_FILES / span(answers)}

    return run


def receive_much(server: Server) -> Figures:
    """20 GiB over 16 connections to a server that did nothing before, 2 GiB at a time to spare the machine's memory."""
    with server.fresh() as fresh:
        fresh.start()
        for _ in range(10):
            receive(2 * GIB, 16)(fresh)
        return fresh.peak()


def receive_many_chunks(server: Server) -> Figures:
    """One upload of 100,000 chunks: whether the last cost more than the first."""
    answers, _ = server.take("chunk", cut(100_000 * KIB, 100_000 * KIB), 4, chunk_size=KIB)
    return {
        "first 5,000, ms": span(answers[:5000]) / 5,
        "last 5,000, ms": (answers[-1].done - answers[-5001].done) / 5,
    }


def receive_many_files(server: Server) -> Figures:
    """10,000 uploads to a server that did nothing before: whether memory grows with their number."""
    figures: Figures = {}
    with server.fresh() as fresh:
        fresh.start()
        for count in range(1000, 11_000, 1000):
            fresh.take("chunk", cut(1000 * KIB, KIB), 4)
            if count in (1000, 5000, 10_000):
                figures |= {f"after {count:,}, {unit}": value for unit, value in fresh.peak().items()}
    return figures


def hold_many_files(server: Server) -> Figures:
    """Start, page and memory with nothing in storage and with 100,000 files."""
    figures: Figures = {}
    page = Request(head("GET", "/", False), 0, 0, b"", False)

    def look(when: str) -> None:
        figures[f"start {when}, s"] = fresh.start()
        answers = drive(fresh.port, [page] * 200, 1)
        figures[f"GET / {when}, ms"] = 1000 * median(answer.done - answer.began for answer in answers)
        figures.update({f"memory {when}, {unit}": value for unit, value in fresh.peak().items()})
        fresh.stop()

    with server.fresh() as fresh:
        look("empty")
        for file in cut(100_000, 1):
            (fresh.files / fresh.peer.stored.format(file.uuid)).write_bytes(b"x")
        look("taking up 100,000 files")
        look("with 100,000 files")
    return figures


TASKS = [
    Task("receiving 1 GiB in 8 MiB pieces, 1 connection", "piece", receive(GIB, 1), plot="Receiving 1 GiB"),
    Task("receiving 1 GiB in 8 MiB pieces, 4 connections", "piece", receive(GIB, 4), plot="Receiving 1 GiB"),
    Task("sending 512 MiB, 1 connection", "fetched", send(1), plot="Sending 512 MiB"),
    Task("sending 512 MiB, 4 connections", "fetched", send(4), plot="Sending 512 MiB"),
    Task("sending it from byte 100,000,000, 1 connection", "fetched", send(1, RANGE_FROM), plot="Sending a range"),
    Task("sending it from byte 100,000,000, 4 connections", "fetched", send(4, RANGE_FROM), plot="Sending a range"),
    Task("3,000 files of 1 KiB by PUT, a connection each", "put", receive_small("put", False)),
    Task("3,000 files of 1 KiB by PUT, kept alive", "put", receive_small("put", True)),
    Task(
        "3,000 files of 1 KiB as Dropzone chunks (peers: PUT), a connection each",
        "chunk",
        receive_small("chunk", False),
        beside="3,000 files of 1 KiB by PUT, a connection each",
    ),
    Task(
        "3,000 files of 1 KiB as Dropzone chunks (peers: PUT), kept alive",
        "chunk",
        receive_small("chunk", True),
        beside="3,000 files of 1 KiB by PUT, kept alive",
    ),
]
AFTER_ALL = [Task("memory at most, after all that", "piece", Server.peak)]
LARGE_TASKS = [
    Task("receiving 10 GiB in 8 MiB pieces, 4 connections", "piece", receive(10 * GIB, 4, last=True)),
]
LARGE_ONCE_TASKS = [
    Task("memory at most, receiving 20 GiB over 16 connections", "put", receive_much),
    Task("an upload of 100,000 chunks of 1 KiB, time for each", "chunk", receive_many_chunks),
    Task("10,000 uploads, memory at most", "chunk", receive_many_files),
    Task("storage", "chunk", hold_many_files),
]


class Results:
    """All figures: task, figure and peer, each with one value for each round."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str, str], list[float]] = {}
        self.problems: list[str] = []

    def run(self, tasks: Sequence[Task], servers: list[Server], keep: bool = True) -> None:
        """One round. A peer that does wrong is left out from there on; raises Problem when it is the project."""
        for task in tasks:
            say(f"  {task.title}")
            for server in [server for server in servers if task.suits(server.peer)]:
                try:
                    with server.named():
                        figures = task.run(server)
                except Problem as problem:
                    if server.peer is PROJECT:
                        raise
                    say(f"{problem}\nIt is left out from here on.")
                    self.problems.append(str(problem))
                    server.close()
                    servers.remove(server)
                    continue
                for figure, value in figures.items() if keep else ():
                    self.values.setdefault((task.title, figure, server.peer.name), []).append(value)

    def rows(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, str, dict[str, list[float]]]]:
        """For each task and figure the values by peer."""
        for task in tasks:
            for figure in dict.fromkeys(f for title, f, _ in self.values if title == task.title):
                yield task, figure, {
                    peer.name: values
                    for peer in PEERS
                    if (values := self.values.get((task.title, figure, peer.name), []))
                    or (values := self.values.get((task.beside, figure, peer.name), []))
                }  # fmt: skip


def unit_of(figure: str) -> tuple[int, bool]:
    """A figure's decimals, and whether more is better."""
    return FIGURES[figure.rpartition(", ")[2]]


def ratio(figure: str, ours: list[float], theirs: list[float]) -> float:
    """How many times better the project is."""
    better, worse = (ours, theirs) if unit_of(figure)[1] else (theirs, ours)
    return median(better) / median(worse) if median(worse) else math.nan


def cell(figure: str, values: list[float], ours: list[float] | None) -> str:
    """Median, least and most, and the project's ratio to it."""
    digits = unit_of(figure)[0]
    text = f"{median(values):,.{digits}f}"
    if len(values) > 1:
        text += f" ({min(values):,.{digits}f}–{max(values):,.{digits}f})"
    return f"{text}, **{ratio(figure, ours, values):.2f}×**" if ours else text


def table(results: Results, tasks: Sequence[Task], peers: Sequence[Peer]) -> Iterator[str]:
    """The figures as Markdown."""
    yield "| work | unit | " + " | ".join(peer.name for peer in peers) + " |"
    yield "|---|---|" + "---:|" * len(peers)
    for task, figure, values in results.rows(tasks):
        ours = values.get(PROJECT.name)
        cells = [
            cell(figure, values[peer.name], None if peer is PROJECT else ours) if peer.name in values else "–"
            for peer in peers
        ]
        what, _, unit = figure.rpartition(", ")
        yield f"| {task.title}{f': {what}' if what else ''} | {unit} | {' | '.join(cells)} |"


# The browser

# Runs in the page before anything else of it: notes when the file is chosen and when the first of its bytes is handed
# to the network. Listening for requests from outside would slow down what it measures.
WATCH = """
addEventListener('change', () => { window.chosenAt ??= performance.now(); }, true);
const send = XMLHttpRequest.prototype.send;
XMLHttpRequest.prototype.send = function (body) {
  if (body instanceof Blob || body instanceof FormData) window.sentAt ??= performance.now();
  return send.call(this, body);
};
"""


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium without a window."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Problem("--browser needs Playwright: pip install playwright") from None
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not chromium:
        raise Problem("--browser needs Chromium: put it on the PATH as chromium, or its path into $CHROMIUM.")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def send_by_page(browser: Browser, server: Server, files: Sequence[Path]) -> tuple[float, float]:
    """Choose these files on a server's page. Returns the seconds until all are in, and until the first byte is sent."""
    from playwright.sync_api import Error

    page = server.peer.page
    assert page
    with contextlib.closing(browser.new_context()) as context:
        try:
            context.add_init_script(WATCH + page.before)
            tab = context.new_page()
            tab.goto(f"http://{HOST}:{server.port}/", wait_until="load")
            tab.set_input_files(page.input, files)
            condition = f"() => ({page.done}) === {len(files)} && performance.now()"
            every_ms = 20 if len(files) == 1 else 100  # to look takes longer the more there is to see
            done = tab.wait_for_function(condition, timeout=STILL_SECONDS * 1000, polling=every_ms)
            end, chosen, sent = done.json_value(), tab.evaluate("chosenAt"), tab.evaluate("sentAt")
        except Error as error:
            raise Problem(f"Its page does not do what it should: {error.message.splitlines()[0]}") from None
    return (end - chosen) / 1e3, (sent - chosen) / 1e3


def check_dropped(server: Server, file: Path, size: int) -> None:
    """Whether a file that was dropped onto its page is in a server's folder, byte for byte."""
    stored = [path for path in server.files.iterdir() if path.name.endswith(file.name)]
    if [path.stat().st_size for path in stored] != [size]:
        raise Problem("What was dropped onto its page is not in its folder.")
    if file_hash(stored[0]) != content_hash(0, size):
        raise Problem("What was dropped onto its page was stored with other bytes.")


def drop(browser: Browser, sample: Path) -> Callable[[Server], Figures]:
    """The sample through a server's page, from choosing it to done."""

    def run(server: Server) -> Figures:
        with server.fresh() as fresh:
            fresh.start()
            seconds, to_the_first_byte = send_by_page(browser, fresh, [sample])
            check_dropped(fresh, sample, SAMPLE.size)
            return {"MB/s": SAMPLE.size / seconds / 1e6, "to the first byte, s": to_the_first_byte}

    return run


def drop_beside_sink(browser: Browser, file: Path) -> Callable[[Server], Figures]:
    """A larger file through the page, and right before it as fast as the browser can send it at all."""

    def run(server: Server) -> Figures:
        with contextlib.closing(Server(SINK, server.folder / "sink")) as sink:
            sink.start()
            limit, _ = send_by_page(browser, sink, [file])
        with server.fresh() as fresh:
            fresh.start()
            touch_memory(fresh.folder, 3 * PAGE_BYTES)  # the browser and the network take some too
            seconds, _ = send_by_page(browser, fresh, [file])
            check_dropped(fresh, file, PAGE_BYTES)
        rates = {"MB/s": PAGE_BYTES / seconds / 1e6, "by the browser at most, MB/s": PAGE_BYTES / limit / 1e6}
        return rates | {"of that, %": 100 * limit / seconds}

    return run


def drop_many(browser: Browser, files: Sequence[Path]) -> Callable[[Server], Figures]:
    """Many small files through the page."""

    def run(server: Server) -> Figures:
        with server.fresh() as fresh:
            fresh.start()
            seconds, _ = send_by_page(browser, fresh, files)
            sizes = [path.stat().st_size for path in fresh.files.iterdir() if path.name.endswith(".bin")]
            if sizes != [PAGE_FILE_BYTES] * len(files):
                raise Problem("What was dropped onto its page is not in its folder.")
            return {"files/s": len(files) / seconds}

    return run


def write_content(path: Path, size: int, offset: int = 0) -> Path:
    """A file with that part of the stream."""
    with path.open("wb") as file:
        for piece in content(offset, size):
            file.write(piece)
    return path


# The drawing

COLOURS = {"nginx": "#2f9e6e", "copyparty": "#d08a1d", "uploadserver": "#8d78d6", "tutorial": "#8b94a0"}


def draw(results: Results, peers: Sequence[Peer]) -> str:
    """How many times faster the project receives and sends, as SVG that is readable on any ground."""
    left, width, bar, gap, top = 170, 430, 14, 16, 62
    rows = [
        (task, [(name, ratio(figure, values[PROJECT.name], values[name])) for name in values if name != PROJECT.name])
        for task, figure, values in results.rows([task for task in TASKS if task.plot])
        if figure == "MB/s"
    ]
    most = max((times for _, ratios in rows for _, times in ratios), default=1)
    scale = width / max(most, 1.25)
    shapes, y = list[str](), top
    for task, ratios in rows:
        middle = y + bar * len(ratios) / 2
        shapes.append(f'<text x="{left - 12}" y="{middle - 2:.0f}" class="end">{escape(task.plot)}</text>')
        connections = escape(task.title.rpartition(", ")[2])
        shapes.append(f'<text x="{left - 12}" y="{middle + 13:.0f}" class="end small">{connections}</text>')
        for name, times in ratios:
            length = times * scale
            shapes.append(
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 2}" rx="2" fill="{COLOURS[name]}"/>'
                f'<text x="{left + max(length, scale) + 6:.1f}" y="{y + bar - 4}" class="small">{times:.2f}×</text>'
            )
            y += bar
        y += gap
    x = left
    for peer in peers:
        if peer is not PROJECT:
            shapes.append(f'<rect x="{x}" y="36" width="10" height="10" rx="2" fill="{COLOURS[peer.name]}"/>')
            shapes.append(f'<text x="{x + 15}" y="45" class="small">{escape(peer.name)}</text>')
            x += 34 + 7 * len(peer.name)
    one = left + scale
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {y}" role="img">
<title>How many times faster pyfiledrop is than its peers</title>
<style>
text {{ font: 600 13px system-ui, sans-serif; fill: #737d88; }} /* as far from white as from a dark page */
.small {{ font: 12px system-ui, sans-serif; }}
.end {{ text-anchor: end; }}
line {{ stroke: #737d88; stroke-dasharray: 3 3; }}
</style>
<text x="{left}" y="20">How many times faster pyfiledrop is; the dashed line is as fast</text>
{chr(10).join(shapes)}
<line x1="{one:.1f}" x2="{one:.1f}" y1="{top - 6}" y2="{y - gap + 4}"/>
</svg>
"""


# The run


def free_memory() -> int:
    """Bytes that can be used without harm, as far as the system tells."""
    with contextlib.suppress(OSError):
        if match := re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text()):
            return int(match[1]) * KIB
    return sys.maxsize


def choose_folder(need: int) -> Path:
    """A folder with room for so many bytes: in memory if there is one, else the one for temporary files."""
    memory, disk = Path("/dev/shm"), Path(tempfile.gettempdir())
    if memory.is_dir() and os.access(memory, os.W_OK) and min(shutil.disk_usage(memory).free, free_memory()) >= need:
        return memory
    if shutil.disk_usage(disk).free >= need:
        return disk
    raise Problem(f"{need / GIB:.0f} GiB of free memory or disk are needed.")


def describe_machine() -> dict[str, str]:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        if match := re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()):
            model = match[1]
    cores = os.cpu_count()
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    return {
        "CPU": model,
        "cores": str(cores),
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def run_rounds(results: Results, servers: list[Server], wanted: int | None, began: float) -> int:
    """The tasks in so many rounds, or without a wish in as many as there is time for. Returns how many."""
    say("Warming up")  # whoever touches the machine's memory first pays for it
    results.run(TASKS[:1], servers, keep=False)
    longest = 0.0
    for number in range(1, (wanted or ROUNDS) + 1):
        if not wanted and time.monotonic() - began + longest > BUDGET_SECONDS - STOP_SECONDS:
            say("The time is up.")
            return number - 1
        say(f"Round {number}")
        start = time.monotonic()
        results.run(TASKS, servers)
        servers.append(servers.pop(0))  # another one comes first in the next round, and finds things as they are then
        longest = max(longest, time.monotonic() - start)
    return wanted or ROUNDS


def start_all(stack: contextlib.ExitStack, peers: Iterable[Peer], folder: Path, sample: Path) -> list[Server]:
    """A server of each peer, that end when the stack does."""
    servers = []
    for peer in peers:
        server = stack.enter_context(contextlib.closing(Server(peer, folder / peer.name, sample)))
        with server.named():
            server.start()
        servers.append(server)
    return servers


def measure(wishes: argparse.Namespace, stack: contextlib.ExitStack) -> list[str]:
    """All of it: starts the servers, lets them work, prints and keeps the result. Returns what peers did wrong."""
    began = time.monotonic()
    base = choose_folder((12 if wishes.large else 5 if wishes.browser else 3) * GIB)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyfiledrop-benchmark-", dir=base)))
    versions = {peer.name: peer.version() for peer in PEERS}
    peers = [peer for peer in PEERS if versions[peer.name]]
    if PROJECT not in peers:
        raise Problem(f"pyfiledrop does not run here. Try: {PROJECT.install}")
    machine = describe_machine() | {"files": f"{'in memory, ' if base == Path('/dev/shm') else 'on disk, '}{base}"}
    missing = [peer for peer in PEERS if peer not in peers]
    for peer in missing:
        say(f"{peer.name} is not here. To measure it too: {peer.install}")

    browser = stack.enter_context(open_browser()) if wishes.browser else None
    sample = write_content(folder / SAMPLE.name, SAMPLE.size)
    results, shown = Results(), [*TASKS, *AFTER_ALL]
    with contextlib.ExitStack() as running:
        servers = start_all(running, peers, folder, sample)
        rounds = run_rounds(results, servers, wishes.rounds, began)
        results.run(AFTER_ALL, servers)
    with contextlib.ExitStack() as running:
        servers = start_all(running, peers, folder, sample) if browser or wishes.large else []
        if browser:
            tasks = [Task("512 MiB through the page in Chromium", "page", drop(browser, sample))]
            shown += tasks
            large = write_content(folder / "large.bin", PAGE_BYTES)
            small = [folder / f"{number}.bin" for number in range(PAGE_FILES)]
            for number, path in enumerate(small):
                write_content(path, PAGE_FILE_BYTES, number * PAGE_FILE_BYTES)
            own_tasks = [
                Task("1 GiB through the page in Chromium", "page", drop_beside_sink(browser, large)),
                Task("2,000 files of 4 KiB through the page in Chromium", "page", drop_many(browser, small)),
            ]
            shown += own_tasks
            own = [server for server in servers if server.peer is PROJECT]
            for number in range(1, rounds + 1):
                say(f"Browser, round {number}")
                results.run(tasks, servers)
                results.run(own_tasks, own)
        if wishes.large:
            shown += [*LARGE_TASKS, *LARGE_ONCE_TASKS]
            for number in range(1, min(rounds, LARGE_ROUNDS) + 1):
                say(f"Large, round {number}")
                results.run(LARGE_TASKS, servers)
                servers.append(servers.pop(0))
            results.run(LARGE_ONCE_TASKS, servers)

    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    named = [f"{name} ({text})" if " " in text else f"{name} {text}" for name, text in versions.items() if text]
    print(f"{', '.join(named)}; {rounds} round{'s' * (rounds > 1)}")
    for peer in missing:
        print(f"Not measured: {peer.name} ({peer.install})")
    print()
    print("\n".join(table(results, shown, peers)))
    print()
    print(
        "Median (least–most). × says how many times better pyfiledrop is than that peer: above 1 it is ahead, below 1 "
        "behind. MB are 1,000,000 bytes.\nThe 8 MiB pieces go as they are best taken:",
        "; ".join(f"{peer.name}, {peer.pieces}{', a quarter of them' * (peer.share < 1)}" for peer in peers) + ".",
        "\ntutorial is a server here that keeps each chunk in a file and joins them at the end, as tutorials do.",
    )
    if wishes.plot:
        wishes.plot.write_text(draw(results, peers), "utf-8")
    if wishes.json:
        raw = [
            {"task": task, "figure": figure, "server": server, "values": values}
            for (task, figure, server), values in results.values.items()
        ]
        kept = {
            "machine": machine,
            "versions": versions,
            "rounds": rounds,
            "figures": raw,
            "problems": results.problems,
        }
        wishes.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return results.problems


# On a disk

DISK_BYTES = 2 * GIB
DISK_FILES = 2000


def write_plainly(folder: Path) -> float:
    """So many bytes as one writer brings to the disk that has nothing else to do. Returns MB/s."""
    target = folder / "plain.bin"
    command = ["dd", "if=/dev/zero", f"of={target}", "bs=1M", f"count={DISK_BYTES // MIB}", "conv=fsync"]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    took = time.perf_counter() - began
    target.unlink()
    return DISK_BYTES / took / 1e6


def measure_disk(folder: Path, rounds: int) -> None:
    """Prints what the disk takes and what comes through the server, with and without waiting for it."""
    figures: dict[str, list[float]] = defaultdict(list)
    loose = replace(PROJECT, command=lambda where, port: [*project_command(where, port), "--no-fsync"])
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyfiledrop-benchmark-", dir=folder)))
        servers = {
            name: stack.enter_context(contextlib.closing(Server(peer, place / name)))
            for name, peer in (("durable", PROJECT), ("no-fsync", loose))
        }
        for server in servers.values():
            server.start()
        for number in range(rounds + 1):
            say(f"Disk, round {number}" if number else "Warming up")
            round_: dict[str, float] = {"plain": write_plainly(place)}
            os.sync()
            answers, _ = servers["durable"].take("piece", cut(DISK_BYTES, DISK_BYTES), 4)
            round_["large"] = DISK_BYTES / span(answers) / 1e6
            for name, server in servers.items():
                os.sync()
                answers, _ = server.take("put", cut(DISK_FILES * KIB, KIB), 4)
                round_[name] = DISK_FILES / span(answers)
            for name, value in round_.items() if number else ():
                figures[name].append(value)
    print(", ".join(f"{name} {value}" for name, value in describe_machine().items()), f"; {rounds} rounds on {folder}")
    print("\n| work | unit | durable | compared with | ratio, by rounds |\n|---|---|---:|---:|---:|")
    for title, unit, ours, other, what in (
        ("receiving 2 GiB in 8 MiB pieces, 4 connections", "MB/s", "large", "plain", "dd conv=fsync"),
        ("2,000 files of 1 KiB by PUT, 4 connections", "files/s", "durable", "no-fsync", "--no-fsync"),
    ):
        ratios = [a / b for a, b in zip(figures[ours], figures[other], strict=True)]
        cells = [f"{cell(unit, figures[ours], None)}", f"{what} {cell(unit, figures[other], None)}"]
        cells.append(f"**{median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f})")
        print(f"| {title} | {unit} | {' | '.join(cells)} |")


def at_least_one(text: str) -> int:
    """A reader of --rounds."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 when a server did wrong or something is missing, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Measure pyfiledrop beside other servers.")
    add: Callable[..., Any] = parser.add_argument
    add("--rounds", type=at_least_one, metavar="N", help=f"(default: {ROUNDS}, or fewer if five minutes are up before)")
    add("--browser", action="store_true", help="also through the pages, in Chromium; needs Playwright")
    add("--large", action="store_true", help="also very large and very many files; needs 12 GiB of free memory")
    add("--disk", type=Path, metavar="DIR", help="instead: what it costs to wait for the disk this folder is on")
    add("--plot", type=Path, metavar="FILE", help="draw the ratios in receiving and sending, as SVG")
    add("--json", type=Path, metavar="FILE", help="keep all figures")
    add("--tutorial", nargs=2, help=argparse.SUPPRESS)  # how this file starts the tutorial's server
    add("--sink", type=int, help=argparse.SUPPRESS)  # and the sink
    wishes = parser.parse_args(argv)
    if wishes.tutorial:
        serve_tutorial(Path(wishes.tutorial[0]), int(wishes.tutorial[1]))
        return 0
    if wishes.sink:
        http.server.ThreadingHTTPServer((HOST, wishes.sink), Sink).serve_forever()
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: sys.exit(128 + number))
    try:
        if wishes.disk:
            measure_disk(wishes.disk, wishes.rounds or ROUNDS)
            return 0
        with contextlib.ExitStack() as stack:
            problems = measure(wishes, stack)
    except Problem as problem:
        print(f"benchmark: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    for sentence in problems:
        print(f"benchmark: {sentence}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
