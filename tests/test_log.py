"""The log: one line for each request, which keeps secrets and for which nobody waits."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import re
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import MIB
from conftest import (
    Connection,
    Server,
    StartServer,
    chunk_request,
    exchange,
    fails_to_start,
    request,
    serving,
    wait_until,
)
from storing import new_uuid

import build
import pyfiledrop

LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} 127\.0\.0\.1 (\S+) (\S+) (\d{3}) in=(\d+) out=(\d+) \d+\.\d{3}s"


def test_one_line_for_each_request(server: Server) -> None:
    """Each request has one line of printable ASCII, whatever it was and however it was answered."""
    target = "/%0A%1b[31m%E2%80%AE?a=%0d%0aGET"
    content = random.randbytes(1000)
    form = chunk_request(content, uuid=new_uuid(), name="zwei\r\n127.0.0.1 Zeilen\x1b[2J.bin")
    sent = [
        (request("GET", target), ("GET", target, "404")),
        (request("GET", "/uploads"), ("GET", "/uploads", "200")),
        (form, ("POST", "/upload", "200")),
        (request("PUT", "/upload/x%0Ay", {}, b"abc"), ("PUT", "/upload/x%0Ay", "201")),
        (request("PATCH", "/upload", {"Content-Length": "0"}), ("PATCH", "/upload", "405")),
        (request("GET", f"/download/{new_uuid()}"), ("GET", None, "403")),
        (b"GET / HTTP/1.1\r\n\r\n", ("-", "-", "400")),
        (b"\x1b[2J\r\n\r\n", ("-", "-", "400")),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", ("-", "-", "414")),
        (b"GET /\x1b[2J\n HTTP/1.1\r\nHost: localhost\r\n\r\n", ("-", "-", "400")),
    ]
    received = {}
    for number, (data, _) in enumerate(sent):
        received[number] = exchange(server, data)
        wait_until(lambda: server.log().count("\n") > number)  # noqa: B023 - called before the next round
    lines = server.log().splitlines()
    assert len(lines) == len(sent), lines
    for line, (data, (method, path, status)) in zip(lines, sent, strict=True):
        match = re.fullmatch(LINE, line)
        assert match and line.isascii() and line.isprintable(), line
        assert (match[1], match[3]) == (method, status) and path in (match[2], None), line
        if status in ("200", "201"):
            assert int(match[4]) == len(data.partition(b"\r\n\r\n")[2])


def test_the_log_has_a_line_for_each_request(server: Server) -> None:
    """Method, address, status and bytes; the sizes of what came in and went out are true."""
    exchange(server, request("PUT", "/upload/x", body=b"12345"))
    wait_until(lambda: len(server.log().splitlines()) == 1)
    exchange(server, request("GET", "/nothing"))
    wait_until(lambda: len(server.log().splitlines()) == 2)
    first, second = server.log().splitlines()
    assert re.search(r"127\.0\.0\.1 PUT /upload/x 201 in=5 out=\d+ ", first)
    assert re.search(r"127\.0\.0\.1 GET /nothing 404 in=0 out=\d+ ", second)


def test_quiet(start_server: StartServer) -> None:
    """With --quiet only what went wrong is logged."""
    server = start_server("--quiet")
    content, uuid = random.randbytes(3000), new_uuid()
    assert exchange(server, request("GET", "/nowhere")).status == 404
    assert exchange(server, chunk_request(content, 0, uuid=uuid, chunk_size=1000)).status == 200
    assert server.log() == ""
    (server.chunks / uuid / "data").unlink()  # the housekeeper may hold it open, so it goes by name only
    (server.chunks / uuid).rmdir()
    wait_until(lambda: exchange(server, chunk_request(content, 0, uuid=uuid, chunk_size=1000)).status == 200)
    server.restart()
    assert " 200 in=" not in server.log()


def test_quiet_still_tells_what_went_wrong(capfd: pytest.CaptureFixture[str], logging_as_before: None) -> None:
    """What went wrong is told in spite of --quiet."""
    pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--quiet"]))
    pyfiledrop.log.info("a request")
    pyfiledrop.log.warning("a fault")
    pyfiledrop.log.handlers[-1].close()  # as at the end of the program
    assert re.fullmatch(r"\S+ \S+ a fault\n", capfd.readouterr().err)


@pytest.fixture
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back what set_up_log changes for the whole process."""
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    before, level = list(pyfiledrop.log.handlers), pyfiledrop.log.level
    yield
    for handler in set(pyfiledrop.log.handlers) - set(before):
        pyfiledrop.log.removeHandler(handler)
        handler.close()
    pyfiledrop.log.setLevel(level)


def wait_for_line(file: Path, text: str) -> None:
    """While a log file turns over, there is none of its name for a moment."""

    def is_there() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return text in file.read_text()
        return False

    wait_until(is_there)


def test_log_file_turns_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_as_before: None) -> None:
    """A full log file makes room: four generations, none over its size, every line whole, the newest kept."""
    monkeypatch.setattr(pyfiledrop, "MAX_LOG_BYTES", 2000)
    file = tmp_path / "log.txt"
    pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--log-file", str(file)]))
    for number in range(1000):
        pyfiledrop.log.info("line %d", number)
        if number % 10 == 9:  # lines that wait are written together, and all of these fit into a file
            wait_for_line(file, f"line {number}\n")
    names = ["log.txt.3", "log.txt.2", "log.txt.1", "log.txt"]  # from the oldest to the newest
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert all((tmp_path / name).stat().st_size <= 2000 for name in names)
    text = "".join((tmp_path / name).read_text() for name in names)
    numbers = [int(number) for number in re.findall(r"^\S+ \S+ line (\d+)$", text, re.MULTILINE)]
    assert numbers == list(range(1000 - len(numbers), 1000)) and len(numbers) == text.count("\n") > 100


def test_log_file_limits() -> None:
    """The four generations take 40 MB at most, as the help says."""
    assert pyfiledrop.MAX_LOG_BYTES * (1 + pyfiledrop.LOG_GENERATIONS) == 40 * MIB


def test_log_file(start_server: StartServer, tmp_path: Path) -> None:
    """With --log-file the lines go there, after those of an earlier start, and none to stderr."""
    file = tmp_path / "log.txt"
    server = start_server("--log-file", str(file))
    for count in (1, 2):
        assert exchange(server, request("GET", "/uploads")).status == 200
        wait_until(lambda: file.read_text().count("\n") == count)  # noqa: B023 - called before the next round
        server.restart()
    assert all(re.fullmatch(LINE, line) for line in file.read_text().splitlines())
    assert server.log() == ""


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_row_50_log_file_is_for_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_as_before: None
) -> None:
    """A log file that we make is for the server's user alone, after it rolled over too; of one that is there no other
    user can read more, but those of its group may."""
    monkeypatch.setattr(pyfiledrop, "MAX_LOG_BYTES", 100)
    theirs = tmp_path / "log.txt"
    theirs.touch()
    theirs.chmod(0o644)  # whoever made it wants a group to read it
    umask = os.umask(0)
    try:
        pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--log-file", str(theirs)]))
        for number in range(1, 4):
            pyfiledrop.log.info("line %d %s", number, "x" * 60)
            wait_for_line(theirs, f"line {number} ")
        assert [mode(tmp_path / name) for name in ("log.txt", "log.txt.1", "log.txt.2")] == [0o600, 0o600, 0o640]
    finally:
        os.umask(umask)


def test_row_50_uuids_in_the_log(start_server: StartServer, tmp_path: Path) -> None:
    """A line shows the first eight characters of a UUID, wherever it stands in the line and however it was spelled."""
    file = tmp_path / "log.txt"
    server = start_server("-a", "--log-file", str(file))
    uuid = new_uuid()
    targets = [
        f"/download/{uuid}", f"/download/{uuid.upper()}", f"/download/{uuid.replace('-', '%2D')}",
        f"/download/%{ord(uuid[0]):x}{uuid[1:]}", f"/uploads/{uuid}",
        f"/x?{'y' * 170}{uuid}{'z' * 1000}", f"/{uuid}{uuid}",
    ]  # fmt: skip
    for target in targets:
        exchange(server, request("GET", target))
    exchange(server, request("PUT", f"/upload/{uuid}.txt", {}, b"x"))
    server.stop()
    lines = file.read_text().splitlines()
    assert len(lines) == len(targets) + 1
    for line in lines:
        assert uuid[8:14] not in line.lower() and f"{uuid[:8]}..." in line.lower(), line


def test_row_50_uuids_in_what_went_wrong(tmp_path: Path, logging_as_before: None) -> None:
    """So it is in a line that tells of a fault with the path of a file."""
    file, uuid = tmp_path / "log.txt", new_uuid()
    pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--log-file", str(file)]))
    pyfiledrop.log.error("disk: %s", OSError(28, "No space left on device", f"/srv/chunks/{uuid}/data"))
    pyfiledrop.log.handlers[-1].close()
    assert file.read_text().endswith(f" No space left on device: '/srv/chunks/{uuid[:8]}.../data'\n")


def test_row_60_long_targets(server: Server) -> None:
    """Addresses of 8 KB take no more room in the log than others."""
    for number in range(20):
        exchange(server, request("GET", f"/{number}{'x' * 8000}"))
        exchange(server, request("GET", f"/{number}{'%41' * 2700}"))
    exchange(server, request("GET", "/" + "y" * 199))
    server.stop()
    lines = server.log().splitlines()
    assert len(lines) == 41
    assert all(len(line) < 300 for line in lines)
    assert all(re.fullmatch(LINE, line) for line in lines)
    assert sum("..." in line for line in lines) == 40 and "/" + "y" * 199 in lines[-1]


def test_row_52_what_is_queued_is_written_at_the_end() -> None:
    """No line is lost when the program ends right after it."""
    program = (
        "import pyfiledrop; pyfiledrop.set_up_log(pyfiledrop.Settings.parse([]))\n"
        "for number in range(3000): pyfiledrop.log.info('line %d', number)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=build.ROOT, capture_output=True, text=True, timeout=60)
    assert re.findall(r" line (\d+)\n", done.stderr) == [str(number) for number in range(3000)]
    assert done.stderr.count("\n") == 3000 and done.returncode == 0


def test_log_goes_on_after_a_line_that_cannot_be_made() -> None:
    """A mistake in a line's format costs that line, and is named; the lines after it are there."""
    program = (
        "import pyfiledrop; pyfiledrop.set_up_log(pyfiledrop.Settings.parse([]))\n"
        "pyfiledrop.log.info('%d bytes', 'many'); pyfiledrop.log.info('the next line')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=build.ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.endswith(" the next line\n") and "TypeError" in done.stderr and done.returncode == 0


def test_row_52_lines_that_wait_hold_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that a line tells of holds on to the bytes of its request; nobody keeps these until the line is read."""

    class Error(Exception): ...

    monkeypatch.setattr(pyfiledrop.LogWriter, "_work", lambda self: None)
    writer = pyfiledrop.LogWriter(tmp_path / "log")
    error = Error("the disk failed")
    held = weakref.ref(error)
    writer.emit(logging.LogRecord("pyfiledrop", logging.ERROR, "", 0, "disk: %s", (error,), None))
    del error
    gc.collect()
    assert held() is None and len(writer._records) == 1
    writer.close()
    os.close(writer._fd)


def test_row_52_as_many_lines_wait_as_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one more: the others are counted."""
    monkeypatch.setattr(pyfiledrop, "MAX_LOG_LINES", 3)
    monkeypatch.setattr(pyfiledrop.LogWriter, "_work", lambda self: None)
    writer = pyfiledrop.LogWriter(tmp_path / "log")
    for _ in range(5):
        writer.emit(logging.LogRecord("pyfiledrop", logging.INFO, "", 0, "a line", None, None))
    assert (len(writer._records), writer._left_out) == (3, 2)
    writer.close()
    os.close(writer._fd)


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A pipe that is a log file, and the descriptor of its other end; nobody reads unless the test does."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, end
    os.close(end)


def drain(end: int) -> str:
    """What is in a pipe now."""
    said = b""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(end, 1 << 16):
            said += data
    return said.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among its files")
def test_row_52_log_that_nobody_reads(launch: StartServer, unread: tuple[Path, int]) -> None:
    """No request waits for the log's reader; lines that fell out are counted in a line, all others come in order."""
    path, end = unread
    server = launch("MAX_LOG_LINES=1000,MAX_LOG_BYTES=10000", "--log-file", str(path))
    said = ""

    def asked() -> list[int]:
        return [int(number) for number in re.findall(r" /uploads\?(\d+) 200 .*\n", said)]

    def missing() -> list[int]:
        return [int(number) for number in re.findall(r" (\d+) of the log's lines are missing here.*\n", said)]

    def all_told() -> bool:
        nonlocal said
        said += drain(end)
        return len(asked()) + sum(missing()) == count

    count = 5000  # far more than a pipe and the queue can hold
    with Connection(server) as connection:
        for number in range(count):
            connection.send(request("GET", f"/uploads?{number}"))
            assert connection.receive().status == 200
        wait_until(all_told)
        connection.send(request("GET", f"/uploads?{count}"))
        count += 1
        assert connection.receive().status == 200
        wait_until(lambda: all_told() or asked()[-1:] == [count - 1])
    assert all_told()
    assert asked() == sorted(asked()) and asked()[0] == 0
    assert missing() and sum(missing()) > 1000
    assert said.count("\n") == len(asked()) + len(missing()), "every line is whole"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among its files")
def test_row_52_end_while_nobody_reads(program: list[str], unread: tuple[Path, int], tmp_path: Path) -> None:
    """A terminal that stands still, for what is logged and printed alike, does not keep the program from ending."""
    path, end = unread
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--host", "127.0.0.1", "-p", str(port), "-s", str(tmp_path / "s"), "-c", str(tmp_path / "c")]
    filler = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    with path.open("wb") as out, subprocess.Popen([*program, *options], stdout=out, stderr=out) as process:
        try:
            said: list[str] = []
            wait_until(lambda: said.append(drain(end)) or "Ctrl-C ends it." in "".join(said))
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(filler, b"x")
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                for _ in range(100):
                    client.sendall(request("GET", "/uploads"))
                    assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
            os.close(filler)


def test_row_52_bug_that_nobody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What Bottle tells of a bug goes to the log alone, never straight to stderr, where the request would wait."""
    monkeypatch.setattr(pyfiledrop.Store, "upload", lambda *_: 1 / 0)
    with serving(tmp_path) as server, socket.create_connection(("127.0.0.1", server.server_port), 10) as client:
        client.sendall(request("GET", f"/uploads/{new_uuid()}"))
        assert client.recv(12) == b"HTTP/1.1 500"
    assert "ZeroDivisionError" in caplog.text and "ZeroDivisionError" not in capfd.readouterr().err


def test_row_52_lines_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_as_before: None
) -> None:
    """Lines that a full disk does not take are counted as soon as it takes others again."""
    file = tmp_path / "log.txt"
    real = os.write
    is_full = threading.Event()

    def write(number: int, data: bytes) -> int:
        if is_full.is_set():
            refused.set()
            raise OSError(28, "No space left on device")
        return real(number, data)

    refused = threading.Event()
    pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--log-file", str(file)]))
    monkeypatch.setattr(os, "write", write)
    is_full.set()
    for line in ("first", "second"):  # one after the other, each of them in a look of its own
        refused.clear()
        pyfiledrop.log.info(line)
        assert refused.wait(10)
    is_full.clear()
    pyfiledrop.log.info("third")
    wait_until(lambda: "missing" in file.read_text())
    pyfiledrop.log.info("fourth")
    wait_until(lambda: "fourth" in file.read_text())
    lines = [line.split(" ", 2)[2] for line in file.read_text().splitlines()]
    assert lines == ["third", "2 of the log's lines are missing here, for nobody was reading it", "fourth"]


def test_log_file_that_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_as_before: None) -> None:
    """When a full log file cannot be made anew, the next lines try again, and requests notice nothing."""
    monkeypatch.setattr(pyfiledrop, "MAX_LOG_BYTES", 100)
    folder = tmp_path / "log"
    folder.mkdir()
    file = folder / "log.txt"
    pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--log-file", str(file)]))
    pyfiledrop.log.info("x" * 60)
    wait_until(lambda: "xxx" in file.read_text())
    folder.rename(tmp_path / "gone")
    pyfiledrop.log.info("y" * 60)
    writer = pyfiledrop.log.handlers[-1]
    assert isinstance(writer, pyfiledrop.LogWriter)
    wait_until(lambda: writer._fd < 0)
    folder.mkdir()

    def is_back() -> bool:
        pyfiledrop.log.info("z")
        return file.exists() and "z\n" in file.read_text()

    wait_until(is_back)


def test_log_file_that_cannot_be_written(program: list[str], tmp_path: Path) -> None:
    """A log file that is a folder, or in a folder that is none, ends the start with one sentence."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "log.txt"):
        assert "log file" in fails_to_start(program, tmp_path, "--log-file", str(path))
