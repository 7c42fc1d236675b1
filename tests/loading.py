"""What the tests of load share: a look at what a server uses, and clients by the hundred that cost little."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import BOUNDARY, chunk_request

if TYPE_CHECKING:
    from conftest import Server

KIB, MIB = 1 << 10, 1 << 20
QUIET_SECONDS = 60.0  # in which something must happen in a crowd
#: Addresses of this machine; a server takes a limited number of connections from each.
SOURCES = [f"127.0.0.{number}" for number in range(2, 8)] if sys.platform == "linux" else [""]

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells what a process uses")


@dataclass(frozen=True)
class Usage:
    """What a process uses at a moment; memory in bytes."""

    threads: int
    descriptors: int
    memory: int
    most_memory: int


def usage(server: Server) -> Usage:
    process = Path(f"/proc/{server.proc.pid}")
    status = dict(re.findall(r"^(\w+):\s+(\d+)", (process / "status").read_text(), re.MULTILINE))
    return Usage(
        threads=int(status["Threads"]),
        descriptors=len(os.listdir(process / "fd")),
        memory=int(status["VmRSS"]) * KIB,
        most_memory=int(status["VmHWM"]) * KIB,
    )


@contextlib.contextmanager
def many_files(count: int = 4096) -> Iterator[None]:
    """Lets this process, and the servers it starts, have so many open files."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(hard, count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Connections that take their time


class Dawdlers:
    """Many connections that send one byte or read so many of them a second, until the server has had enough.

    `greeting` is what each of them says at once, `drip` the byte that follows every second, if any.
    """

    def __init__(
        self, server: Server, count: int, greeting: bytes, *, drip: bytes = b"", read: int = 0, window: int = 0
    ) -> None:
        self._drip, self._read = drip, read
        self._over = threading.Event()
        self.sockets: list[socket.socket] = []
        for _ in range(count):
            sock = socket.socket()
            self.sockets.append(sock)
            if window:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            sock.settimeout(QUIET_SECONDS)
            sock.connect((server.host, server.port))
            sock.sendall(greeting)
            sock.setblocking(False)
        self._thread = threading.Thread(target=self._dawdle)
        self._thread.start()

    def _dawdle(self) -> None:
        while not self._over.wait(1.0):
            for sock in self.sockets:
                with contextlib.suppress(OSError):
                    if self._drip:
                        sock.send(self._drip)
                    if self._read:
                        sock.recv(self._read)

    def stop(self) -> None:
        """Neither send nor read any more."""
        self._over.set()
        self._thread.join()

    def last_words(self) -> list[bytes]:
        """What the server said to each before it ended the connection; waits for that."""
        words = []
        for sock in self.sockets:
            sock.settimeout(QUIET_SECONDS)
            said = b""
            with contextlib.suppress(ConnectionError):
                while data := sock.recv(64 * KIB):
                    said = said or data
            words.append(said)
        return words

    def close(self) -> None:
        self.stop()
        for sock in self.sockets:
            sock.close()


# Clients that send files as the page does


@dataclass
class Dropped:
    """A file of a client: a piece of bytes that all clients share, so that a thousand of them cost nothing."""

    uuid: str
    content: memoryview
    chunk_size: int
    done: bool = False

    def __post_init__(self) -> None:
        count = max(1, math.ceil(len(self.content) / self.chunk_size))
        self.waiting = deque(range(count))

    def request(self, index: int) -> list[memoryview]:
        """One chunk's request, its bytes not copied."""
        chunk = self.content[index * self.chunk_size : (index + 1) * self.chunk_size]
        stand_in = Sized(len(self.content))
        data = chunk_request(stand_in, index, uuid=self.uuid, name="crowd.bin", chunk_size=self.chunk_size, data=b"")
        tail = f"\r\n--{BOUNDARY}--\r\n".encode()
        head = re.sub(
            rb"Content-Length: (\d+)", lambda match: b"Content-Length: %d" % (int(match[1]) + len(chunk)), data, count=1
        )
        assert head.endswith(tail)
        return [memoryview(head[: -len(tail)]), chunk, memoryview(tail)]


class Sized(bytes):
    """Stands for bytes of which only the number matters."""

    def __new__(cls, size: int) -> Sized:
        return super().__new__(cls)

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


class Sender:
    """One connection that is kept and sends one chunk of its file after the other."""

    def __init__(self, server: Server, source: str, file: Dropped) -> None:
        self.file = file
        self.sock = socket.create_connection((server.host, server.port), 30, (source, 0) if source else None)
        self.sock.setblocking(False)
        self._out: list[memoryview] = []
        self._in = b""

    def next(self) -> bool:
        """Begin the next request, if there is one."""
        if not self.file.waiting:
            return False
        self._out = self.file.request(self.file.waiting.popleft())
        return True

    def send(self) -> bool:
        """Send what goes now; whether all is sent."""
        with contextlib.suppress(BlockingIOError):
            while self._out:
                sent = self.sock.send(self._out[0])
                self._out[0] = self._out[0][sent:]
                if not self._out[0]:
                    del self._out[0]
        return not self._out

    def receive(self) -> dict[str, Any] | None:
        """The answer, once it is there."""
        data = self.sock.recv(64 * KIB)
        assert data, f"the server ended the connection after {self._in!r}"
        self._in += data
        head, found, body = self._in.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        if not found or not length or len(body) < int(length[1]):
            return None
        assert head.startswith(b"HTTP/1.1 200 "), self._in
        self._in = b""
        answer: dict[str, Any] = json.loads(body)["files"][0]
        return answer


def send_all(senders: list[Sender]) -> None:
    """Let all of them send at the same time until all files are sent. AssertionError on any other answer than 200."""
    with selectors.DefaultSelector() as selector:
        for sender in senders:
            if sender.next():
                selector.register(sender.sock, selectors.EVENT_WRITE, sender)
        while selector.get_map():
            events = selector.select(QUIET_SECONDS)
            assert events, f"nothing moves any more; {len(selector.get_map())} wait for the server"
            for key, event in events:
                sender = key.data
                if event & selectors.EVENT_WRITE:
                    if sender.send():
                        selector.modify(sender.sock, selectors.EVENT_READ, sender)
                elif answer := sender.receive():
                    sender.file.done = sender.file.done or answer["done"]
                    if sender.next():
                        selector.modify(sender.sock, selectors.EVENT_WRITE, sender)
                    else:
                        selector.unregister(sender.sock)


def seconds_for(work: Callable[[], object]) -> float:
    """How long this takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
