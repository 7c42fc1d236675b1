"""Many clients, slow clients, too few descriptors and threads: who behaves is served, and all is given back."""

from __future__ import annotations

import contextlib
import math
import os
import random
import select
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import (
    Connection,
    Server,
    StartServer,
    chunk_request,
    exchange,
    request,
    running,
    serving,
    upload,
    wait_until,
)
from loading import (
    KIB,
    MIB,
    QUIET_SECONDS,
    SOURCES,
    Dawdlers,
    Dropped,
    Sender,
    Usage,
    many_files,
    needs_proc,
    seconds_for,
    send_all,
    usage,
)
from storing import new_uuid

import pyfiledrop

Report = Callable[[str, object], None]


@pytest.fixture(autouse=True, scope="module")
def room_for_sockets() -> Iterator[None]:
    with many_files():
        yield


@pytest.fixture
def report(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Report:
    """A function that notes a figure in the results and on the terminal. No test depends on it."""

    def tell(name: str, value: object) -> None:
        record_property(name, value)
        plugins = request.config.pluginmanager
        terminal, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
        if terminal and capture:
            with capture.global_and_fixture_disabled():
                terminal.write_line(f"\n{request.node.name}: {name} {value}")

    return tell


def assert_gives_back(server: Server, before: Usage) -> None:
    """Threads and descriptors are where they were, but for the few that are kept for whoever comes next."""
    most_threads = before.threads + pyfiledrop.SPARE_WORKERS
    most_descriptors = before.descriptors + 2 * pyfiledrop.MAX_IDLE_PIPES
    wait_until(lambda: usage(server).threads <= most_threads, QUIET_SECONDS)
    wait_until(lambda: usage(server).descriptors <= most_descriptors, QUIET_SECONDS)


def assert_fine(server: Server) -> None:
    """It serves, nothing is left over, and the log knows of no fault."""
    content, uuid = random.randbytes(100_000), new_uuid()
    with contextlib.closing(admitted(server)) as connection:
        for index in range(4):
            connection.send(chunk_request(content, index, uuid=uuid, chunk_size=25_000))
            assert connection.receive().status == 200
    assert [path.read_bytes() for path in server.storage.glob(f"{uuid}_*")] == [content]
    wait_until(lambda: not list(server.chunks.iterdir()) and not list(server.storage.glob(".*.part")))
    assert "Traceback" not in server.log() and "bug" not in server.log()


def admitted(server: Server, source: str = "") -> Connection:
    """A connection that is served; those that have just gone may still count for a moment."""
    found: list[Connection] = []

    def come_in() -> bool:
        connection = Connection(server, source=source)
        with contextlib.suppress(ConnectionError):
            connection.send(request("GET", "/uploads"))
        if connection.receive().status == 200:
            found.append(connection)
        else:
            connection.close()
        return bool(found)

    wait_until(come_in)
    return found[0]


# Those who dawdle


def test_deadlines() -> None:
    """A head has 10 seconds, a kept connection 15, a transfer 60 without half a kilobyte a second."""
    seconds = (pyfiledrop.HEAD_SECONDS, pyfiledrop.KEEP_ALIVE_SECONDS, pyfiledrop.IDLE_SECONDS)
    assert seconds == (10, 15, 60)
    assert pyfiledrop.MIN_BYTES_PER_SECOND == 512
    assert (pyfiledrop.TICK_SECONDS, pyfiledrop.LINGER_SECONDS) == (5, 5)
    assert all(limit % pyfiledrop.TICK_SECONDS == 0 for limit in seconds), "a deadline is met to within a tick"
    assert (pyfiledrop.MAX_CONNECTIONS, pyfiledrop.MAX_CONNECTIONS_PER_ADDRESS) == (1024, 512)


COUNT = 500
SHORT = "HEAD_SECONDS=4,KEEP_ALIVE_SECONDS=4,IDLE_SECONDS=4,LINGER_SECONDS=1,TICK_SECONDS=1"


def work_seconds(server: Server) -> tuple[float, float]:
    """How long it takes to send 16 MB in chunks, and to get the page (the median of several)."""
    content = random.randbytes(MIB) * 16
    sending = seconds_for(lambda: upload(server, content))

    def get_page() -> None:
        assert exchange(server, request("GET", "/", {"Accept": "text/html"}), QUIET_SECONDS).status == 200

    return sending, statistics.median(seconds_for(get_page) for _ in range(20))


def dawdlers(server: Server, kind: str) -> Dawdlers:
    if kind == "nothing":
        return Dawdlers(server, COUNT, b"")
    if kind == "head":
        return Dawdlers(server, COUNT, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", drip=b"x")
    if kind == "body":
        begun = chunk_request(bytes(100_000), uuid=new_uuid(), chunk_size=50_000)[:1000]
        return Dawdlers(server, COUNT, begun, drip=b"x")
    link = upload(server, random.randbytes(4 * MIB))["link"]
    return Dawdlers(server, COUNT, request("GET", f"/{link}"), read=KIB, window=4 * KIB)


@needs_proc
@pytest.mark.parametrize("kind", ["nothing", "head", "body", "download"])
def test_row_27_connections_that_dawdle(launch: StartServer, report: Report, kind: str) -> None:
    """500 that say nothing, or a byte a second in head or body, or read 1 KB/s, stop nobody and are closed in time."""
    server = launch(SHORT, "-a")
    quiet = work_seconds(server)
    before = usage(server)
    with contextlib.closing(dawdlers(server, kind)) as crowd:
        wait_until(lambda: usage(server).threads > COUNT, QUIET_SECONDS)
        among = work_seconds(server)
        for name, one, other in zip(("upload", "page"), quiet, among, strict=True):
            report(name, f"{one * 1000:.1f} ms alone, {other * 1000:.1f} ms among {COUNT}, ratio {other / one:.2f}")
        report("memory", f"{usage(server).memory / MIB:.0f} MB")
        if kind == "download":
            crowd.stop()  # 1 KB/s would be enough for it to go on
        assert_gives_back(server, before)
        if kind == "body":
            words = crowd.last_words()
            assert all(word.startswith(b"HTTP/1.1 408 ") for word in words), set(words)
        elif kind != "download":
            assert set(crowd.last_words()) == {b""}
    assert_fine(server)


def test_row_27_kept_connections(launch: StartServer) -> None:
    """A connection that was answered and asks nothing more is closed too, without a word."""
    server = launch(SHORT)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(server, QUIET_SECONDS)) for _ in range(20)]
        for connection in connections:
            connection.send(request("GET", "/uploads"))
            assert connection.receive().status == 200
        assert all(connection.closed() for connection in connections)
    assert server.log().count(" in=") == len(connections)


def test_row_27_slow_transfers_that_move(launch: StartServer) -> None:
    """Who sends and reads 2 KB/s is served for as long as it takes, many times the deadline."""
    server = launch("HEAD_SECONDS=1,IDLE_SECONDS=1,TICK_SECONDS=1", "-a")
    content = random.randbytes(300_000)
    link = upload(server, content)["link"]
    uuid, sent = new_uuid(), random.randbytes(12_000)
    chunk = chunk_request(sent, uuid=uuid, chunk_size=len(sent))
    with socket.socket() as reader, Connection(server) as writer:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        reader.settimeout(QUIET_SECONDS)
        reader.connect((server.host, server.port))
        reader.sendall(request("GET", f"/{link}", {"Connection": "close"}))
        received = b""
        for start in range(0, len(chunk), 256):
            writer.send(chunk[start : start + 256])
            received += reader.recv(256)
            time.sleep(1 / 8)  # the pace is what is tested
        assert writer.receive().json()["files"][0]["done"]
        while data := reader.recv(64 * KIB):
            received += data
    assert received.endswith(b"\r\n\r\n" + content)
    assert [path.read_bytes() for path in server.storage.glob(f"{uuid}_*")] == [sent]


def test_pace_after_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came quickly at first does not make up for a trickle later: each minute counts for itself."""
    now = 0.0
    monkeypatch.setattr(pyfiledrop, "time", SimpleNamespace(monotonic=lambda: now))
    pace = pyfiledrop.watch_pace()
    pace(100_000_000)
    now = 61.0
    pace(1)
    for _ in range(59):
        now += 1
        pace(1)
    now += 2
    with pytest.raises(pyfiledrop.TooSlow):
        pace(1)


def test_pace_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a kilobyte a second is enough, for hours, also when a minute's bytes come at its end."""
    now = 0.0
    monkeypatch.setattr(pyfiledrop, "time", SimpleNamespace(monotonic=lambda: now))
    pace = pyfiledrop.watch_pace()
    for _ in range(200):
        now += 61
        pace(61 * 512)
    now += 61
    with pytest.raises(pyfiledrop.TooSlow):
        pace(61 * 512 - 1)


@pytest.mark.parametrize("kind", ["chunk", "download"])
def test_row_27_trickle_after_a_burst(launch: StartServer, kind: str) -> None:
    """Who sends or reads a megabyte at once and then a few bytes a second is cut off all the same."""
    server = launch("IDLE_SECONDS=2,TICK_SECONDS=1", "-a")
    if kind == "chunk":
        begun = chunk_request(bytes(4 * MIB), uuid=new_uuid(), chunk_size=4 * MIB)[:MIB]
        with contextlib.closing(Dawdlers(server, 3, begun, drip=b"x")) as crowd:
            assert all(word.startswith(b"HTTP/1.1 408 ") for word in crowd.last_words())
    else:
        link = upload(server, random.randbytes(16 * MIB))["link"]
        with contextlib.closing(Dawdlers(server, 3, request("GET", f"/{link}"), read=100, window=4 * KIB)):
            line = f"GET /{link[: len('download/') + 8]}... 200 "
            wait_until(lambda: server.log().count(line) == 3, QUIET_SECONDS)
    assert_fine(server)


# Too many


def test_too_many_connections_from_one_address(launch: StartServer) -> None:
    """One more than an address may have is told 503 and when to come back, and can once another has gone."""
    server = launch("MAX_CONNECTIONS_PER_ADDRESS=8")
    assert_limit(server, 8, [""])
    assert_fine(server)


@pytest.mark.skipif(len(SOURCES) == 1, reason="this system has one address to come from")
def test_too_many_connections_in_all(launch: StartServer) -> None:
    """So is one more than there may be in all, wherever it comes from; a full address is in no other's way."""
    server = launch("MAX_CONNECTIONS=12,MAX_CONNECTIONS_PER_ADDRESS=8")
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            begin(stack.enter_context(Connection(server, source=SOURCES[0])))
        assert_limit(server, 4, SOURCES[1:])
        assert_refused(server, SOURCES[0])
    assert_fine(server)


def greet(connection: Connection) -> None:
    connection.send(request("GET", "/uploads"))
    assert connection.receive().status == 200


def begin(connection: Connection) -> None:
    """Be in the middle of a request."""
    connection.send(request("PUT", "/upload/x", {"Expect": "100-continue", "Content-Length": "1"}))
    assert connection.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"


def end(connection: Connection) -> None:
    """Bring the request to its end."""
    connection.send(b"x")
    assert connection.receive().status == 201


def assert_refused(server: Server, source: str) -> None:
    with Connection(server, source=source) as connection:  # it need not ask to be refused
        answer = connection.receive()
        assert (answer.status, answer.headers["Retry-After"], answer.headers["Connection"]) == (503, "2", "close")
        assert answer.text == "The server is busy. Try again in a moment.\n"
        assert answer.headers["X-Content-Type-Options"] == "nosniff", "it is made where all other answers are made"
        assert connection.closed()


def assert_limit(server: Server, count: int, sources: list[str]) -> None:
    """So many requests are served at the same time, no more; those that have gone make room."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(Connection(server, source=sources[i % len(sources)])) for i in range(count)]
        for connection in held:
            begin(connection)
        for source in sources:
            assert_refused(server, source)
        for connection in held:
            end(connection)
            begin(connection)
        held[0].close()
        admitted(server, sources[0]).close()


SILENCES = {
    "nothing": b"",
    "half a head": request("GET", "/uploads")[:-2],
    "between requests": request("GET", "/uploads"),
}


@pytest.mark.skipif(len(SOURCES) == 1, reason="this system has one address to come from")
@pytest.mark.parametrize("kind", SILENCES)
def test_row_54_idle_connections_make_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    """When all places are taken, the connection that has been idle longest ends for the new one, which is served."""
    monkeypatch.setattr(pyfiledrop, "MAX_CONNECTIONS", 12)
    monkeypatch.setattr(pyfiledrop, "MAX_CONNECTIONS_PER_ADDRESS", 8)
    with serving(tmp_path) as server, contextlib.ExitStack() as stack:
        there: Any = SimpleNamespace(host="127.0.0.1", port=server.server_port, tls=None)

        def come_in(number: int) -> Connection:
            return stack.enter_context(Connection(there, source=SOURCES[number % len(SOURCES)]))

        busy = come_in(0)
        begin(busy)  # has been there for longest, but is not idle
        silent = []
        for number in range(1, 12):
            silent.append(come_in(number))
            silent[-1].send(SILENCES[kind])
            if kind == "between requests":
                assert silent[-1].receive().status == 200
            wait_until(lambda: len(server.idle) == len(silent))
        busier = []
        for number, oldest in enumerate(silent):
            busier.append(come_in(number))
            begin(busier[-1])
            assert oldest.closed()
            assert len(server.idle) == len(silent) - 1 - number, "one makes room for one"
        for source in SOURCES:
            assert_refused(there, source)
        for connection in [busy, *busier]:
            end(connection)


def test_row_54_idle_connections_of_a_full_address(launch: StartServer) -> None:
    """An address that has all it may have makes room among its own."""
    server = launch("MAX_CONNECTIONS_PER_ADDRESS=8")
    other = SOURCES[0] if len(SOURCES) > 1 else ""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Connection(server, source=other))
        greet(first)
        held = [stack.enter_context(Connection(server, source=SOURCES[-1])) for _ in range(8)]
        for connection in held:
            greet(connection)
        newcomer = stack.enter_context(Connection(server, source=SOURCES[-1]))
        greet(newcomer)
        if other:
            assert held[0].closed()
            greet(first)
        for connection in [*held[2:], newcomer]:
            greet(connection)
    assert_fine(server)


def test_row_54_crowd_that_is_silent(launch: StartServer) -> None:
    """However many come and say nothing, whoever says something is served at once, again and again."""
    server = launch("MAX_CONNECTIONS=40,MAX_CONNECTIONS_PER_ADDRESS=30")
    with contextlib.ExitStack() as stack:
        for number in range(200):
            stack.enter_context(Connection(server, source=SOURCES[number % len(SOURCES)]))
            if number % 10 == 9:
                with Connection(server, source=SOURCES[0]) as connection:
                    greet(connection)
    assert_fine(server)


@needs_proc
@pytest.mark.skipif(os.name == "nt", reason="there is no such limit there")
@pytest.mark.parametrize(
    ("soft", "hard", "asked", "left"),
    [
        (1024, 10_000, (5696, 10_000), 5696),  # a socket, a pipe's two ends and a file for 1,024 connections, ...
        (1024, 2000, (2000, 2000), 2000),
        (1024, -1, (5696, -1), 5696),
        (5696, 10_000, None, 5696),
        (-1, -1, None, math.inf),
    ],
    ids=["enough", "less", "endless for some", "asked before", "endless"],
)
def test_row_55_as_many_descriptors_as_are_needed(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, asked: tuple[int, int] | None, left: float
) -> None:
    """As many are asked for as all connections and uploads can need, and never fewer than there were."""
    import resource

    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "RLIM_INFINITY", -1)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append(pair))
    assert pyfiledrop.descriptors() == left
    assert limits[1:] == ([asked] if asked else [])


@pytest.mark.parametrize(
    ("count", "connections", "uploads"),
    [(math.inf, 1024, 1536), (5696, 1024, 1536), (64 + 2816, 512, 768), (64 + 1408, 256, 384), (0, 1, 1)],
)
def test_row_55_fewer_are_let_in(count: float, connections: int, uploads: int) -> None:
    """Where there are fewer descriptors, connections and uploads are fewer in the same proportion, but never none."""
    server: Any = SimpleNamespace(max_connections=1024)
    store: Any = SimpleNamespace(max_open_uploads=1536)
    pyfiledrop.fit_descriptors(server, store, count)
    assert (server.max_connections, store.max_open_uploads) == (connections, uploads)


@pytest.mark.parametrize("most", [200, 400])
def test_row_55_descriptors_for_all(program: list[str], tmp_path: Path, most: int) -> None:
    """Where the system gives few descriptors, there are only as many connections as it gives enough for."""
    limited = ["sh", "-c", f'ulimit -n {most} && exec "$@"', "sh", *program]
    content = random.randbytes(2 * 90_000)
    with running(limited, tmp_path) as server, contextlib.ExitStack() as stack:
        busy = []
        while True:  # each in the middle of a first chunk
            data = chunk_request(content, uuid=new_uuid(), chunk_size=90_000, headers={"Expect": "100-continue"})
            connection = stack.enter_context(Connection(server))
            with contextlib.suppress(ConnectionError):
                connection.send(data[:-1])
            if connection.sock.recv(12, socket.MSG_PEEK) != b"HTTP/1.1 100":
                assert connection.receive().status == 503
                break
            busy.append(connection)
        assert most / 10 < len(busy) < most / 4
        for connection in busy:
            connection.send(data[-1:])
            assert connection.receive().status == 200
    assert "Too many open files" not in server.log()


@needs_proc
def test_row_36_too_many_open_files_by_connections(launch: StartServer) -> None:
    """Connections that use up the descriptors: those inside hear 200 or 503, the others wait, none is forgotten."""
    import resource

    server = launch("TICK_SECONDS=1")
    before = usage(server)
    _, hard = resource.prlimit(server.proc.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.proc.pid, resource.RLIMIT_NOFILE, (40, hard))
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(server)) for _ in range(150)]
        chunk = chunk_request(bytes(200_000), uuid=new_uuid(), chunk_size=100_000)
        statuses = set()
        for connection in connections:
            connection.send(chunk)
        waiting = {connection.sock.fileno(): connection for connection in connections}
        wait_until(lambda: usage(server).descriptors >= 40)
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], QUIET_SECONDS)
            assert ready, f"{len(waiting)} connections have been forgotten; {usage(server)}"
            for number in ready:
                connection = waiting.pop(number)
                statuses.add(connection.receive().status)
                connection.close()
    assert statuses <= {200, 503}
    exchange(server, request("DELETE", "/uploads"))
    assert_gives_back(server, before)
    assert "Traceback" not in server.log() and "bug" not in server.log()
    content = random.randbytes(200_000)
    assert upload(server, content, chunk_size=90_000)["done"]


def test_no_more_threads(launch: StartServer) -> None:
    """When the system lets no thread begin, those who come wait for those who are there, and are served then."""
    server = launch("THREADS=7")
    for _ in range(4):
        with contextlib.ExitStack() as stack:
            waiting = {}
            for _ in range(20):
                connection = stack.enter_context(Connection(server))
                connection.send(request("GET", "/uploads"))
                waiting[connection.sock.fileno()] = connection
            while waiting:
                ready, _, _ = select.select(list(waiting), [], [], 10)
                assert ready, f"{len(waiting)} connections have been forgotten; {server.output()}"
                for number in ready:
                    connection = waiting.pop(number)
                    assert connection.receive().status == 200
                    connection.close()
    # Two at the same time are still possible, which needs one that waits while another is served.
    with Connection(server) as one, Connection(server) as other:
        for connection in (one, other, one):
            greet(connection)
    assert_fine(server)


def test_connection_that_waits_when_the_server_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A connection that is there before the first worker, and stays, does not leave the server without another one."""
    options = ["--host", "127.0.0.1", "-p", "0", "-s", str(tmp_path / "storage"), "-c", str(tmp_path / "chunks")]
    settings = pyfiledrop.Settings.parse(options)
    real = threading.Thread.start
    with contextlib.closing(pyfiledrop.open_store(settings.storage, settings.chunks)) as store:
        server = pyfiledrop.make_server(settings, store)

        def start(thread: threading.Thread) -> None:
            real(thread)
            for _ in range(20):  # the new thread is ahead of the one that started it, as far as it can get
                if not server.idle:
                    time.sleep(0.01)

        address = ("127.0.0.1", server.server_port)
        with socket.create_connection(address), socket.create_connection(address, 10) as other:
            monkeypatch.setattr(threading.Thread, "start", start)
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            real(thread)
            try:
                other.sendall(request("GET", "/uploads"))
                assert other.recv(100).startswith(b"HTTP/1.1 200 ")
            finally:
                server.stop(10)
                thread.join()


# A crowd that behaves


@needs_proc
@pytest.mark.timeout(1800)
def test_crowd(start_server: StartServer, report: Report, pytestconfig: pytest.Config) -> None:
    """200 clients with four connections each, all at the same time: every file whole, memory small, all given back."""
    clients, lanes = (200, 4) if len(SOURCES) > 1 else (100, 4)
    full = pytestconfig.getoption("--full")
    size, chunk_size = (50 * MIB, MIB) if full else (2 * MIB, 256 * KIB)
    server = start_server()
    before = usage(server)
    shared = random.Random(0).randbytes(size + clients * 4099)
    files = [
        Dropped(new_uuid(), memoryview(shared)[n * 4099 : n * 4099 + size + n], chunk_size) for n in range(clients)
    ]
    with contextlib.ExitStack() as stack:
        senders = []
        for number, file in enumerate(files):
            for _ in range(lanes):
                sender = Sender(server, SOURCES[number % len(SOURCES)], file)
                stack.callback(sender.sock.close)
                senders.append(sender)
        wait_until(lambda: usage(server).threads > len(senders), QUIET_SECONDS)
        seconds = seconds_for(lambda: send_all(senders))
    most = usage(server).most_memory
    total = sum(len(file.content) for file in files)
    report("throughput", f"{total / MIB / seconds:.0f} MB/s, {len(senders)} connections, {total / MIB:.0f} MB")
    report("most memory", f"{most / MIB:.0f} MB")
    assert all(file.done for file in files)
    for file in files:
        (path,) = server.storage.glob(f"{file.uuid}_crowd.bin")
        with path.open("rb") as stored:
            for start in range(0, len(file.content), MIB):
                assert stored.read(MIB) == file.content[start : start + MIB]
            assert stored.read(1) == b""
        path.unlink()  # it may be a great many
    assert most < 200 * MIB
    assert_gives_back(server, before)
    assert server.log().count(" 200 in=") == sum(math.ceil(len(file.content) / chunk_size) for file in files)
    assert_fine(server)


# The end, in the middle


def test_stop_under_load(server: Server) -> None:
    """SIGTERM while chunks arrive on many connections: what was acknowledged is there at the next start; exit 0."""
    size, chunk_size = 600, 64 * KIB
    content, uuid = random.randbytes(size * chunk_size), new_uuid()
    acknowledged: set[int] = set()
    whole: dict[str, bytes] = {}
    waiting = iter(range(size))
    enough = threading.Event()

    def send_chunks() -> None:
        with contextlib.suppress(ConnectionError), Connection(server) as connection:
            for index in waiting:
                connection.send(chunk_request(content, index, uuid=uuid, chunk_size=chunk_size))
                assert connection.receive().status == 200
                acknowledged.add(index)
                if len(acknowledged) >= 60:
                    enough.set()

    def send_files() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                data = random.randbytes(random.randrange(200_000))
                with Connection(server) as connection:
                    connection.send(request("PUT", "/upload/whole.bin", {}, data))
                    answer = connection.receive()
                assert answer.status == 201
                whole[answer.json()["files"][0]["uuid"]] = data

    with ThreadPoolExecutor(12) as pool:
        results = [pool.submit(send_chunks) for _ in range(8)] + [pool.submit(send_files) for _ in range(4)]
        assert enough.wait(QUIET_SECONDS)
        server.stop()
    for result in results:
        result.result()
    assert len(acknowledged) < size, "the end must have come in the middle"
    assert "Traceback" not in server.log() and "bug" not in server.log()
    server.start()
    told = exchange(server, request("GET", f"/uploads/{uuid}")).json()["upload"]
    present = {index for first, last in told["chunks"] for index in range(first, last + 1)}
    assert acknowledged <= present
    assert whole
    for one, data in whole.items():
        assert [path.read_bytes() for path in server.storage.glob(f"{one}_*")] == [data]
    assert not list(server.storage.glob(".*.part"))
    for index in sorted(set(range(size)) - present):
        answer = exchange(server, chunk_request(content, index, uuid=uuid, chunk_size=chunk_size))
        assert answer.status == 200
    assert [path.read_bytes() for path in server.storage.glob(f"{uuid}_*")] == [content]
