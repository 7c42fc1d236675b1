"""The main job over real sockets: files come in whole, belong to whoever sent them, and are given back; and the names
under which the server is reached."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import queue
import random
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import cache, partial
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from conftest import (
    FORM,
    PASSWORD,
    Connection,
    Response,
    Server,
    StartServer,
    announce,
    announce_request,
    basic,
    chunk_request,
    exchange,
    multipart_body,
    request,
    run_request,
    running,
    serving,
    stored,
    upload,
    wait_until,
)
from storing import new_uuid

import pyfiledrop

CHUNK = 1000
SOME = "0b5e55ed-0000-4000-8000-0123456789ab"  # a UUID


def assert_tidy(server: Server) -> None:
    """Nothing of an unfinished upload is left, in either folder."""
    assert list(server.chunks.iterdir()) == []
    assert [path.name for path in server.storage.iterdir() if path.name.endswith(".part")] == []


def one_file(answer: Response, status: int) -> dict[str, Any]:
    """What the answer says of its only file."""
    assert answer.status == status, answer.text
    (file,) = answer.json()["files"]
    assert isinstance(file, dict)
    return file


def form_request(*files: tuple[str, bytes], cookie: str = "", accept: str = "application/json") -> bytes:
    """What a browser sends for a plain form with these files (name, content)."""
    body = multipart_body({}, [("file", name, content) for name, content in files])
    return request("POST", "/upload", {**FORM, "Accept": accept}, body, cookie=cookie)


def listed(server: Server, drop: str) -> list[dict[str, Any]]:
    """What the drop holds, newest first."""
    uploads: list[dict[str, Any]] = exchange(server, request("GET", "/uploads", cookie=drop)).json()["uploads"]
    return uploads


def fetch(server: Server, uuid: str, headers: dict[str, str] | None = None, method: str = "GET") -> Response:
    """One download."""
    return exchange(server, request(method, f"/download/{uuid}", headers))


# Chunks


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 20 * CHUNK + 7])
def test_sizes_around_a_chunk(shared_server: Server, size: int) -> None:
    """A file of any size is whole once its last chunk is in, whichever that is, and equal to what was sent."""
    uuid, content, count = new_uuid(), random.randbytes(size), max(1, ceil(size / CHUNK))
    order = random.sample(range(count), count)
    for sent, index in enumerate(order, 1):
        file = one_file(exchange(shared_server, chunk_request(content, index, uuid=uuid, chunk_size=CHUNK)), 200)
        received = sum(len(content[i * CHUNK : (i + 1) * CHUNK]) for i in order[:sent])
        assert (file["uuid"], file["name"], file["size"], file["received"]) == (uuid, "file.bin", size, received)
        assert file["done"] is (sent == count)
        assert file["link"] == (f"download/{uuid}" if sent == count else None)
    assert stored(shared_server, uuid) == content == fetch(shared_server, uuid).body
    assert_tidy(shared_server)


class Crowd:
    """Many connections that are kept open, and a thread for each."""

    def __init__(self, server: Server, count: int) -> None:
        self._idle: queue.Queue[Connection] = queue.Queue()
        self._pool = ThreadPoolExecutor(count)
        self._connections = [Connection(server) for _ in range(count)]
        for connection in self._connections:
            self._idle.put(connection)

    def send(self, requests: list[bytes]) -> list[Response]:
        """Send all of these, as many at a time as there are connections."""
        return list(self._pool.map(self._exchange, requests))

    def _exchange(self, data: bytes) -> Response:
        connection = self._idle.get()
        connection.send(data)
        answer = connection.receive()
        self._idle.put(connection)
        return answer

    def close(self) -> None:
        self._pool.shutdown()
        for connection in self._connections:
            connection.close()


@pytest.fixture
def crowd(shared_server: Server) -> Iterator[Crowd]:
    with contextlib.closing(Crowd(shared_server, 32)) as crowd:
        yield crowd


@pytest.mark.slow
def test_row_30_chunks_in_random_order_over_32_connections(shared_server: Server, crowd: Crowd) -> None:
    """All chunks in random order over 32 connections, 1,000 times: whole, equal to what was sent, nothing left over."""
    dice = random.Random(30)
    for round_number in range(1000):
        chunk_size, count = dice.choice([1, 7, 512, 4096]), dice.randint(2, 40)
        uuid, content = new_uuid(), dice.randbytes((count - 1) * chunk_size + dice.randint(1, chunk_size))
        chunks = [chunk_request(content, index, uuid=uuid, chunk_size=chunk_size) for index in range(count)]
        dice.shuffle(chunks)
        answers = crowd.send(chunks)
        assert {answer.status for answer in answers} == {200}, round_number
        assert any(answer.json()["files"][0]["done"] for answer in answers), round_number
        assert stored(shared_server, uuid) == content, round_number
    assert_tidy(shared_server)


def test_row_30_many_files_at_once(shared_server: Server, crowd: Crowd) -> None:
    """The chunks of twenty files, all mixed, two drops: each file is whole and belongs to whoever sent it."""
    drops = [new_uuid(), new_uuid()]
    contents = {new_uuid(): random.randbytes(random.randint(0, 9000)) for _ in range(20)}
    owner = {uuid: drops[i % 2] for i, uuid in enumerate(contents)}
    chunks = [
        chunk_request(content, index, uuid=uuid, chunk_size=CHUNK, cookie=owner[uuid])
        for uuid, content in contents.items()
        for index in range(max(1, ceil(len(content) / CHUNK)))
    ]
    random.shuffle(chunks)
    assert {answer.status for answer in crowd.send(chunks)} == {200}
    for uuid, content in contents.items():
        assert stored(shared_server, uuid) == content
    for drop in drops:
        uploads = listed(shared_server, drop)
        assert {file["uuid"] for file in uploads} == {uuid for uuid in contents if owner[uuid] == drop}
        assert all(file["done"] for file in uploads)
    assert_tidy(shared_server)


class Form:
    """A chunk comes in a form, as Dropzone sends it."""

    request = staticmethod(chunk_request)

    @staticmethod
    def begin(server: Server, content: bytes, chunk_size: int, cookie: str = "") -> str:
        """The UUID under which a file of this content is sent."""
        return new_uuid()

    @staticmethod
    def said(answer: Response) -> dict[str, Any]:
        """What a good answer says of the upload."""
        return one_file(answer, 200)


class Run:
    """A chunk comes as it is, of an upload that POST /uploads began."""

    request = staticmethod(run_request)

    @staticmethod
    def begin(server: Server, content: bytes, chunk_size: int, cookie: str = "") -> str:
        begun = announce(server, len(content), name=f"{new_uuid()}.bin", cookie=cookie)
        assert begun["chunk_size"] == chunk_size
        return str(begun["uuid"])

    @staticmethod
    def said(answer: Response) -> dict[str, Any]:
        assert answer.status == 200, answer
        return dict(answer.json()["upload"])


Kind = type[Form] | type[Run]
KINDS = pytest.mark.parametrize("kind", [Form, Run])
SMALL, LARGE = 2000, 200_000  # chunks; the system moves the bytes of a large one past Python


@pytest.fixture(scope="module")
def with_chunks_of(program: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Server]]:
    """A function that gives a server whose chunks are of this size; always the same one."""
    with contextlib.ExitStack() as stack:

        @cache
        def start(size: int) -> Server:
            options = ("-a", "--chunk-size", str(size))
            return stack.enter_context(running(program, tmp_path_factory.mktemp("chunks"), *options))

        yield start


Servers = Callable[[int], Server]


@KINDS
def test_progress_can_be_asked_for(with_chunks_of: Servers, kind: Kind) -> None:
    """Which chunks are in is told as ranges, so that an upload can go on where it was, also in another browser tab."""
    server, drop, content = with_chunks_of(SMALL), new_uuid(), bytes(range(250)) * 80
    uuid = kind.begin(server, content, SMALL, drop)
    for index in (7, 0, 1, 3, 9, 8):
        exchange(server, kind.request(content, index, uuid=uuid, chunk_size=SMALL, cookie=drop))
    answer = exchange(server, request("GET", f"/uploads/{uuid.upper()}", cookie=drop)).json()["upload"]
    assert answer["chunks"] == [[0, 1], [3, 3], [7, 9]]
    assert (answer["chunk_size"], answer["chunk_count"]) == (SMALL, 10)
    assert (answer["received"], answer["size"], answer["done"], answer["link"]) == (12_000, 20_000, False, None)
    for index in (2, 4, 5, 6):
        exchange(server, kind.request(content, index, uuid=uuid, chunk_size=SMALL, cookie=drop))
    answer = exchange(server, request("GET", f"/uploads/{uuid}", cookie=drop)).json()["upload"]
    assert (answer["chunks"], answer["done"]) == ([[0, 9]], True)
    assert stored(server, uuid) == content


@pytest.mark.parametrize("modified", [None, 1700000000123, 0, -86_400_000])
def test_the_files_own_time(shared_server: Server, modified: int | None) -> None:
    """What the browser says of the file's time is kept, also of a file from before 1970."""
    data = chunk_request(b"x", uuid=new_uuid(), changes={"modified": None if modified is None else str(modified)})
    assert one_file(exchange(shared_server, data), 200)["modified"] == modified


# The same chunk again


@KINDS
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_row_29_the_same_chunk_after_it_was_merged(with_chunks_of: Servers, kind: Kind, size: int) -> None:
    """A chunk that is in is not written again, whatever comes under its number, and answered 200."""
    server, content = with_chunks_of(size), random.randbytes(2 * size)
    uuid = kind.begin(server, content, size)
    for data in (None, None, bytes(size)):
        answer = exchange(server, kind.request(content, 1, uuid=uuid, chunk_size=size, data=data))
        assert (file := kind.said(answer))["received"] == size and not file["done"]
    assert kind.said(exchange(server, kind.request(content, 0, uuid=uuid, chunk_size=size)))["done"]
    assert stored(server, uuid) == content


@KINDS
@pytest.mark.parametrize(("chunk_size", "size"), [(SMALL, 0), (SMALL, 500), (SMALL, 2500), (LARGE, 2 * LARGE)])
def test_row_29_the_same_chunk_after_the_file_is_done(
    with_chunks_of: Servers, kind: Kind, chunk_size: int, size: int
) -> None:
    """A chunk of a finished file is answered 200, and the file stays as it is."""
    server, content = with_chunks_of(chunk_size), random.randbytes(size)
    uuid = kind.begin(server, content, chunk_size)
    for index in range(max(1, ceil(size / chunk_size))):
        first = kind.said(exchange(server, kind.request(content, index, uuid=uuid, chunk_size=chunk_size)))
    assert first["done"]
    chunk = bytes(min(size, chunk_size))
    answer = exchange(server, kind.request(content, 0, uuid=uuid, chunk_size=chunk_size, data=chunk))
    assert kind.said(answer) == first
    assert stored(server, uuid) == content
    assert_tidy(server)


def test_row_29_the_same_chunks_all_at_once(shared_server: Server, crowd: Crowd) -> None:
    """Every chunk eight times at the same moment: 200 each, one file, unchanged."""
    for count in (1, 1, 1, 4, 4, 4):
        uuid, content = new_uuid(), random.randbytes(count * CHUNK)
        chunks = [chunk_request(content, index, uuid=uuid, chunk_size=CHUNK) for index in range(count)] * 8
        random.shuffle(chunks)
        assert {answer.status for answer in crowd.send(chunks)} == {200}
        assert stored(shared_server, uuid) == content
    assert_tidy(shared_server)


def bytes_on_disk(server: Server, uuid: str) -> int:
    """The length of an unfinished upload's data."""
    for path in (server.chunks / uuid / "data", server.storage / f".{uuid}.part"):
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_size
    return 0


def begin_and_stall(server: Server, connection: Connection, data: bytes, uuid: str, size: int) -> bytes:
    """Send half of a request whose chunk has `size` bytes; return the rest once the half is on the disk."""
    before, half = bytes_on_disk(server, uuid), len(data) - size // 2
    connection.send(data[:half])
    wait_until(lambda: bytes_on_disk(server, uuid) > before)
    return data[half:]


# The earlier request with a chunk, and the later one: each may be of either kind.
EITHER = pytest.mark.parametrize(
    ("kind", "other"), [(Form, Form), (Run, Run), (Run, Form), (Form, Run)],
    ids=lambda kind: kind.__name__.lower(),
)  # fmt: skip


def begin_for(server: Server, content: bytes, *kinds: Kind) -> tuple[str, str]:
    """UUID and name of an upload that may come by these kinds of requests."""
    if Run not in kinds:
        return new_uuid(), "file.bin"
    begun = announce(server, len(content), name=f"{new_uuid()}.bin")
    return begun["uuid"], begun["name"]


@EITHER
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_row_29_the_same_chunk_while_it_is_on_its_way(
    with_chunks_of: Servers, kind: Kind, other: Kind, size: int, count: int
) -> None:
    """The later request takes over; the earlier, held open across publishing, cannot change a byte; 200 both."""
    server, content = with_chunks_of(size), random.randbytes(size * count)
    uuid, name = begin_for(server, content, kind, other)

    def chunk(kind: Kind, index: int, data: bytes | None = None) -> bytes:
        named = {"name": name} if kind is Form else {}
        return kind.request(content, index, uuid=uuid, chunk_size=size, data=data, **named)  # type: ignore[arg-type]

    with Connection(server) as earlier:
        rest = begin_and_stall(server, earlier, chunk(kind, count - 1, b"\xff" * size), uuid, size)
        assert other.said(exchange(server, chunk(other, count - 1)))["done"] is (count == 1)
        for index in range(count - 1):
            exchange(server, chunk(other, index))
        assert stored(server, uuid) == content
        earlier.send(rest)
        assert kind.said(earlier.receive())["done"]
    assert stored(server, uuid) == content
    assert_tidy(server)


@KINDS
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_row_29_the_later_request_is_still_on_its_way(
    with_chunks_of: Servers, kind: Kind, size: int, count: int
) -> None:
    """The earlier one waits for what becomes of the later one, to which the chunk belongs now; 200 both."""
    server, content = with_chunks_of(size), random.randbytes(size * count)
    uuid = kind.begin(server, content, size)
    junk = kind.request(content, 0, uuid=uuid, chunk_size=size, data=b"\xff" * size)
    good = kind.request(content, 0, uuid=uuid, chunk_size=size)
    with Connection(server) as earlier, Connection(server) as later:
        earlier_rest = begin_and_stall(server, earlier, junk, uuid, size)
        half = len(good) - size // 2
        later.send(good[:half])
        # A probe with a third request would take over itself, so the bytes on the disk must tell that it has begun.
        wait_until(lambda: content[:100] in data_of(server, uuid))
        earlier.send(earlier_rest)
        later.send(good[half:])
        assert kind.said(later.receive())["received"] == size
        assert kind.said(earlier.receive())["received"] == size
    if count == 2:
        exchange(server, kind.request(content, 1, uuid=uuid, chunk_size=size))
    assert stored(server, uuid) == content
    assert_tidy(server)


def data_of(server: Server, uuid: str) -> bytes:
    """What is on the disk of an unfinished upload."""
    for path in (server.chunks / uuid / "data", server.storage / f".{uuid}.part"):
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
    return b""


@KINDS
@pytest.mark.parametrize("count", [1, 2])
def test_row_29_the_later_request_breaks_off(with_chunks_of: Servers, kind: Kind, count: int) -> None:
    """When neither of two requests got through, the earlier is told to send again, and that works."""
    server, content = with_chunks_of(SMALL), random.randbytes(SMALL * count)
    uuid = kind.begin(server, content, SMALL)
    data = kind.request(content, 0, uuid=uuid, chunk_size=SMALL)
    junk = kind.request(content, 0, uuid=uuid, chunk_size=SMALL, data=b"\xff" * SMALL)
    with Connection(server) as earlier:
        rest = begin_and_stall(server, earlier, junk, uuid, SMALL)
        with Connection(server) as later:
            later.send(data[:-10])
            wait_until(lambda: content[:100] in data_of(server, uuid))
        earlier.send(rest)
        answer = earlier.receive()
        assert answer.status == 503 and answer.headers["Retry-After"]
    for index in range(count):
        kind.said(exchange(server, kind.request(content, index, uuid=uuid, chunk_size=SMALL)))
    assert stored(server, uuid) == content
    assert_tidy(server)


@KINDS
def test_remove_while_a_chunk_is_on_its_way(with_chunks_of: Servers, kind: Kind) -> None:
    """An upload that is removed stays so: its straggler is told 410 and leaves nothing."""
    server, drop, content = with_chunks_of(SMALL), new_uuid(), random.randbytes(2 * SMALL)
    uuid = kind.begin(server, content, SMALL, drop)
    with Connection(server) as connection:
        data = kind.request(content, 0, uuid=uuid, chunk_size=SMALL, cookie=drop)
        rest = begin_and_stall(server, connection, data, uuid, SMALL)
        assert exchange(server, request("DELETE", f"/uploads/{uuid}", cookie=drop)).json() == {"removed": 1}
        connection.send(rest)
        assert connection.receive().status == 410
    late = exchange(server, kind.request(content, 1, uuid=uuid, chunk_size=SMALL, cookie=drop))
    told = {"error": "This upload was removed. Start it anew.", "code": "removed", "values": {}}
    assert (late.status, late.json()) == (410, told)
    assert listed(server, drop) == []
    assert_tidy(server)


# Runs


def progress(server: Server, uuid: str, cookie: str = "") -> dict[str, Any]:
    return dict(exchange(server, request("GET", f"/uploads/{uuid}", cookie=cookie)).json()["upload"])


def test_an_upload_begins_once(with_chunks_of: Servers) -> None:
    """POST /uploads begins it: 201; again: 200 and the same one, with what is in by then; a run may finish it."""
    server, drop, content = with_chunks_of(SMALL), new_uuid(), random.randbytes(5 * SMALL - 1)
    data = announce_request(len(content), name="отчёт/x.pdf", modified=1700000000123, cookie=drop)
    answer = exchange(server, data)
    begun = answer.json()["upload"]
    assert answer.status == 201
    assert {**begun, "uuid": "", "created": 0} == {
        "uuid": "", "name": "отчёт/x.pdf", "size": len(content), "received": 0, "done": False, "link": None,
        "modified": 1700000000123, "created": 0, "path": "", "drop": None,
        "chunk_size": SMALL, "chunk_count": 5, "chunks": [],
    }  # fmt: skip
    assert progress(server, begun["uuid"], drop) == begun
    assert listed(server, drop) == [], "nothing of it is in"
    run = run_request(content, 1, 2, uuid=begun["uuid"], chunk_size=SMALL, cookie=drop)
    after = Run.said(exchange(server, run))
    assert after == {**begun, "received": 2 * SMALL, "chunks": [[1, 2]]}
    answer = exchange(server, data)
    assert (answer.status, answer.json()["upload"]) == (200, after)
    whole = run_request(content, 0, 5, uuid=begun["uuid"], chunk_size=SMALL, cookie=drop)
    done = Run.said(exchange(server, whole))
    link = f"download/{begun['uuid']}"
    assert done == {**begun, "received": len(content), "done": True, "link": link, "chunks": [[0, 4]]}
    assert exchange(server, request("GET", f"/{link}")).body == content
    answer = exchange(server, data)
    assert answer.status == 201 and answer.json()["upload"]["uuid"] != begun["uuid"]
    exchange(server, request("DELETE", f"/uploads/{answer.json()['upload']['uuid']}", cookie=drop))


def test_an_empty_file_by_a_run(with_chunks_of: Servers) -> None:
    """Its one chunk is empty, and a run of nothing finishes it."""
    server = with_chunks_of(SMALL)
    uuid = Run.begin(server, b"", SMALL)
    assert Run.said(exchange(server, run_request(b"", uuid=uuid)))["done"]
    assert stored(server, uuid) == b""


@pytest.mark.parametrize("chunk_size", [SMALL, LARGE])
def test_run_that_goes_on_in_another_tab(with_chunks_of: Servers, chunk_size: int) -> None:
    """A look while a run is on its way tells its whole chunks, and a run from there on takes over."""
    server, content = with_chunks_of(chunk_size), random.randbytes(5 * chunk_size - 7)
    uuid = Run.begin(server, content, chunk_size)
    data = run_request(content, 0, 5, uuid=uuid, chunk_size=chunk_size)
    with Connection(server) as earlier:
        half = len(data) - 2 * chunk_size
        earlier.send(data[:half])
        wait_until(lambda: bytes_on_disk(server, uuid) > 2 * chunk_size)
        wait_until(lambda: progress(server, uuid)["chunks"] == [[0, 1]])
        rest = run_request(content, 2, 3, uuid=uuid, chunk_size=chunk_size)
        assert Run.said(exchange(server, rest))["done"]
        earlier.send(b"\xff" * (len(data) - half))
        assert Run.said(earlier.receive())["done"]
    assert stored(server, uuid) == content
    assert_tidy(server)


@pytest.mark.parametrize("chunk_size", [SMALL, LARGE])
def test_run_over_chunks_that_are_in(with_chunks_of: Servers, chunk_size: int) -> None:
    """Their bytes go nowhere, in both lanes; those between them to their places; a request behind the run is heard."""
    server, content = with_chunks_of(chunk_size), random.randbytes(5 * chunk_size)
    uuid = Run.begin(server, content, chunk_size)
    for index in (1, 3):
        exchange(server, run_request(content, index, uuid=uuid, chunk_size=chunk_size))
    pieces = [content[at : at + chunk_size] for at in range(0, len(content), chunk_size)]
    sent = b"".join(bytes(chunk_size) if index in (1, 3) else piece for index, piece in enumerate(pieces))
    with Connection(server) as connection:
        run = run_request(content, 0, 5, uuid=uuid, chunk_size=chunk_size, data=sent)
        connection.send(run + request("GET", f"/uploads/{uuid}"))
        assert Run.said(connection.receive())["done"]
        assert connection.receive().json()["upload"]["chunks"] == [[0, 4]]
    assert stored(server, uuid) == content


def test_run_that_arrives_byte_by_byte(with_chunks_of: Servers) -> None:
    """Slowness of a client changes nothing."""
    server, content = with_chunks_of(SMALL), random.randbytes(SMALL + 20)
    uuid = Run.begin(server, content, SMALL)
    data = run_request(content, 0, 2, uuid=uuid, chunk_size=SMALL)
    with Connection(server) as connection:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            connection.send(data[at : at + 1])
        assert Run.said(connection.receive())["done"]
    assert stored(server, uuid) == content


# Whole files


@pytest.mark.parametrize("content", [b"", b"x", b"two\r\nlines", bytes(70_000), random.randbytes(300_000)], ids=len)
def test_plain_form_with_one_file(shared_server: Server, content: bytes) -> None:
    """A form without a script stores its file under a UUID that the server chose."""
    file = one_file(exchange(shared_server, form_request(("a b.txt", content))), 201)
    assert (file["name"], file["size"], file["received"], file["done"]) == ("a b.txt", len(content), len(content), True)
    assert (file["link"], file["modified"]) == (f"download/{file['uuid']}", None)
    assert stored(shared_server, file["uuid"]) == content
    assert_tidy(shared_server)


def test_row_31_plain_form_with_several_files(shared_server: Server) -> None:
    """Each file of a form is one file, in the form's order, also those of the same name."""
    drop, files = new_uuid(), [("a.txt", b"1"), ("b.txt", b""), ("a.txt", b"3" * 100_000)]
    answer = exchange(shared_server, form_request(*files, cookie=drop))
    assert answer.status == 201
    told = answer.json()["files"]
    assert [(file["name"], stored(shared_server, file["uuid"])) for file in told] == files
    assert [file["uuid"] for file in listed(shared_server, drop)] == [file["uuid"] for file in reversed(told)]
    assert_tidy(shared_server)


@pytest.mark.parametrize("files", [[("", b"")], [], [("", b""), ("", b"")]])
def test_plain_form_without_a_selection(shared_server: Server, files: list[tuple[str, bytes]]) -> None:
    """A form sent with nothing chosen is told so, and leaves nothing."""
    drop = new_uuid()
    answer = exchange(shared_server, form_request(*files, cookie=drop))
    assert answer.status == 400 and answer.json()["code"] == ("no-file" if files else "malformed")
    assert listed(shared_server, drop) == []
    assert_tidy(shared_server)


def test_plain_form_with_an_empty_second_input(shared_server: Server) -> None:
    """An input that was left empty does not spoil the others."""
    file = one_file(exchange(shared_server, form_request(("a.txt", b"1"), ("", b""))), 201)
    assert stored(shared_server, file["uuid"]) == b"1"


def test_answer_for_people(shared_server: Server) -> None:
    """In a terminal one reads a sentence for each file, with an address that works."""
    answer = exchange(shared_server, form_request(("a.txt", b"12345"), ("<b>.txt", b"6"), accept="*/*"))
    assert answer.status == 201 and answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    first, second = answer.text.splitlines()
    assert first.startswith("Received a.txt (5 bytes).") and "<b>.txt" in second
    match = re.search(r"http://127\.0\.0\.1(/download/\S+)$", first)
    assert match and exchange(shared_server, request("GET", match[1])).body == b"12345"


def test_answer_for_people_without_downloads(server: Server) -> None:
    """Where files are not given back no address is promised, in either form."""
    answer = exchange(server, form_request(("a.txt", b"12345"), accept="*/*"))
    assert "http" not in answer.text and "a.txt" in answer.text
    file = one_file(exchange(server, form_request(("a.txt", b"12345"))), 201)
    assert file["link"] is None
    answer = fetch(server, file["uuid"])
    assert answer.status == 403 and answer.json()["error"]


@pytest.mark.parametrize("content", [b"", b"x", random.randbytes(300_000)], ids=len)
def test_put(shared_server: Server, content: bytes) -> None:
    """`curl -T` stores its body under the name in the address."""
    drop = new_uuid()
    target = f"/upload/{quote('отчёт 1.pdf')}"
    file = one_file(exchange(shared_server, request("PUT", target, body=content, cookie=drop)), 201)
    assert (file["name"], file["size"], file["done"]) == ("отчёт 1.pdf", len(content), True)
    assert stored(shared_server, file["uuid"]) == content
    assert listed(shared_server, drop) == [file]
    assert_tidy(shared_server)


@pytest.mark.parametrize("size", [5, 3 * pyfiledrop.PIPE_BYTES])
def test_put_with_expect(shared_server: Server, size: int) -> None:
    """A client that asks before it sends (curl, from a megabyte on) is told to go on, once."""
    data = request("PUT", "/upload/x", {"Expect": "100-continue"}, body=bytes(size))
    with Connection(shared_server) as connection:
        connection.send(data[:-size])
        assert connection.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(data[-size:])
        assert connection.sock.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 201"
        assert one_file(connection.receive(), 201)["size"] == size


# Names

NAMES = [
    ("отчёт.pdf", "отчёт.pdf", "отчёт.pdf", "отчёт.pdf"),
    ("測試 (1).txt", "測試 (1).txt", "測試 (1).txt", "測試 (1).txt"),
    ("a/b\\c", "a/b\\c", "c", "c"),
    ("CON", "CON", "_CON", "CON"),
    ("nul.txt", "nul.txt", "_nul.txt", "nul.txt"),
    ("x" * 300, "x" * 255, None, "x" * 255),
    ("測" * 300 + ".txt", "測" * 83 + ".txt", None, "測" * 83 + ".txt"),
    ("😀👩\u200d🚀.png", "😀👩\u200d🚀.png", "😀👩\u200d🚀.png", "😀👩\u200d🚀.png"),
    ("", "", "file", "file"),
    (".hidden", ".hidden", "_.hidden", ".hidden"),
    ("a;b='c'%41.txt", "a;b='c'%41.txt", "a;b='c'%41.txt", "a;b='c'%41.txt"),
    ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>", "_img src=x onerror=alert(1)_", None),
]
NAME_IDS = [
    "Cyrillic",
    "Chinese",
    "path",
    "device",
    "device.txt",
    "300",
    "300 wide",
    "emoji",
    "empty",
    "dot",
    "odd",
    "tag",
]


def name_in(header: str) -> str:
    """The file name that a browser reads from Content-Disposition: the extended one, if there is one."""
    match = re.fullmatch(r"attachment; filename=\"([^\"\\]*)\"(?:; filename\*=UTF-8''(\S+))?", header)
    assert match, header
    return match[1] if match[2] is None else unquote(match[2], errors="strict")


def send_as_chunks(server: Server, name: str, drop: str) -> Response:
    exchange(server, chunk_request(b"content", 1, uuid=(uuid := new_uuid()), name=name, chunk_size=4, cookie=drop))
    return exchange(server, chunk_request(b"content", 0, uuid=uuid, name=name, chunk_size=4, cookie=drop))


def send_as_form(server: Server, name: str, drop: str) -> Response:
    return exchange(server, form_request((name, b"content"), cookie=drop))


def send_as_body(server: Server, name: str, drop: str) -> Response:
    return exchange(server, request("PUT", f"/upload/{quote(name, safe='')}", body=b"content", cookie=drop))


def send_as_run(server: Server, name: str, drop: str) -> Response:
    uuid = announce(server, 7, name=name, cookie=drop)["uuid"]
    return exchange(server, run_request(b"content", uuid=uuid, cookie=drop))


@pytest.mark.parametrize(
    ("send", "sent", "shown", "on_disk", "given_back"),
    [
        pytest.param(send, *names, id=f"{send.__name__}-{name_id}")
        for send in (send_as_chunks, send_as_form, send_as_body, send_as_run)
        for names, name_id in zip(NAMES, NAME_IDS, strict=True)
        if names[0] or send is not send_as_body  # an address without a name is another address
    ],
)
def test_names(
    shared_server: Server,
    send: Callable[[Server, str, str], Response],
    sent: str,
    shown: str,
    on_disk: str | None,
    given_back: str | None,
) -> None:
    """A name of up to 255 bytes is listed as it was sent, made harmless on the disk, and comes back with the file."""
    drop = new_uuid()
    assert (answer := send(shared_server, sent, drop)).status in (200, 201), answer.text
    (file,) = listed(shared_server, drop)
    told = answer.json().get("files") or [answer.json()["upload"]]
    assert file["name"] == shown and file.items() <= told[0].items()
    (path,) = shared_server.storage.glob(f"{file['uuid']}_*")
    assert path.read_bytes() == b"content" and len(path.name.encode()) <= 255
    assert path.name.endswith(os.path.splitext(sent)[1])
    if on_disk is not None:
        assert path.name == f"{file['uuid']}_{on_disk}"
    header = fetch(shared_server, file["uuid"]).headers.get_all("Content-Disposition")
    assert header is not None and len(header) == 1
    assert name_in(header[0]) == (sent if given_back is None else given_back)


# Who owns what


def test_the_page_sets_the_drop(shared_server: Server) -> None:
    """A browser gets a random key that scripts cannot read and other sites cannot send, and keeps it."""
    cookies = [exchange(shared_server, request("GET", "/")).headers["Set-Cookie"] for _ in range(2)]
    values = [re.match(r"owner-[0-9a-f]{6}=([0-9a-f-]{36});", cookie) for cookie in cookies]
    assert values[0] and values[1] and values[0][1] != values[1][1]
    attributes = {part.strip().lower() for part in cookies[0].split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/", "max-age=31536000"} <= attributes
    again = exchange(shared_server, request("GET", "/", cookie=values[0][1])).headers["Set-Cookie"]
    assert again.startswith(values[0][0])


@pytest.mark.parametrize("cookie", ["x", "../..", "1234", "a" * 36, SOME + "0"])
def test_a_cookie_that_is_none_of_ours(shared_server: Server, cookie: str) -> None:
    """A drop that the server cannot have set is replaced, and owns nothing."""
    assert f"={cookie};" not in exchange(shared_server, request("GET", "/", cookie=cookie)).headers["Set-Cookie"]
    upload(shared_server, b"x", cookie=cookie)
    assert listed(shared_server, cookie) == []


def test_list_holds_what_the_drop_has_sent(shared_server: Server) -> None:
    """Newest first, finished and unfinished, and nothing of anybody else."""
    drop, other, begun = new_uuid(), new_uuid(), new_uuid()
    first = upload(shared_server, b"1", name="1", cookie=drop)
    exchange(shared_server, chunk_request(b"abcdef", 1, uuid=begun, chunk_size=4, name="2", cookie=drop))
    third = one_file(exchange(shared_server, form_request(("3", b"3"), cookie=drop)), 201)
    upload(shared_server, b"not mine", cookie=other)
    upload(shared_server, b"nobody's")
    uploads = listed(shared_server, drop)
    assert [file["name"] for file in uploads] == ["3", "2", "1"]
    assert [uploads[0], uploads[2]] == [third, first]
    assert (uploads[1]["received"], uploads[1]["done"], uploads[1]["link"]) == (2, False, None)
    assert first["created"] <= uploads[1]["created"] <= third["created"]
    assert listed(shared_server, "") == listed(shared_server, new_uuid()) == []
    sentences = exchange(shared_server, request("GET", "/uploads", {"Accept": ""}, cookie=drop)).text
    assert len(sentences.splitlines()) == 3 and "unfinished" in sentences
    exchange(shared_server, request("DELETE", f"/uploads/{begun}", cookie=drop))


def test_list_in_pages(start_server: StartServer) -> None:
    """A hundred at a time, newest first; what is gone by hand or new meanwhile moves nothing."""
    server, drop = start_server("--no-fsync"), new_uuid()
    for start in range(0, 250, 50):
        exchange(server, form_request(*[(str(start + number), b"") for number in range(50)], cookie=drop))
    names = [str(number) for number in range(249, -1, -1)]
    for name in (*names[90:210], names[-1]):
        next(server.storage.glob(f"*_{name}")).unlink()
    left = [*names[:90], *names[210:-1]]
    first = exchange(server, request("GET", "/uploads", cookie=drop)).json()
    assert [file["name"] for file in first["uploads"]] == left[:100]
    exchange(server, form_request(("new", b""), cookie=drop))
    target = f"/uploads?before={first['next']}"
    second = exchange(server, request("GET", target, cookie=drop)).json()
    assert ([file["name"] for file in second["uploads"]], second["next"]) == (left[100:], None)
    nobodys = exchange(server, request("GET", target, cookie=new_uuid())).json()
    assert (nobodys["uploads"], nobodys["next"]) == ([], None)
    lines = exchange(server, request("GET", "/uploads", {"Accept": ""}, cookie=drop)).text.splitlines()
    assert len(lines) == 101 and lines[0] == "new (0 bytes)"
    (more,) = re.findall(r"There is more: ask for (/uploads\?before=\d+)$", lines[-1])
    rest = exchange(server, request("GET", more, {"Accept": ""}, cookie=drop)).text.splitlines()
    assert rest == [f"{name} (0 bytes)" for name in left[99:]]
    text = exchange(server, request("GET", "/uploads?before=1", {"Accept": ""}, cookie=drop)).text
    assert text == "Nothing older.\n"


def test_a_page_that_is_just_full(start_server: StartServer) -> None:
    """There is no mark when nothing is left to ask for."""
    server, drop = start_server("--no-fsync"), new_uuid()
    for count, more in ((50, False), (50, False), (1, True)):
        exchange(server, form_request(*[("x", b"")] * count, cookie=drop))
        assert (exchange(server, request("GET", "/uploads", cookie=drop)).json()["next"] is not None) is more


@KINDS
@pytest.mark.parametrize("is_in", [False, True], ids=["announced", "begun"])
def test_row_14_another_drops_upload(with_chunks_of: Servers, kind: Kind, is_in: bool) -> None:
    """Chunks for another drop's upload, reading and removing it: 404, and the upload goes on untouched."""
    server, drop, content = with_chunks_of(SMALL), new_uuid(), random.randbytes(2 * SMALL)
    uuid = kind.begin(server, content, SMALL, drop)
    chunk = [kind.request(content, i, uuid=uuid, chunk_size=SMALL, cookie=drop) for i in (0, 1)]
    if is_in or kind is Form:
        exchange(server, chunk[0])
    for cookie in (new_uuid(), "", "x"):
        for data in (
            chunk_request(content, 0, uuid=uuid, chunk_size=SMALL, cookie=cookie),
            chunk_request(content, 1, uuid=uuid, chunk_size=SMALL, cookie=cookie, data=bytes(SMALL)),
            run_request(content, 0, 2, uuid=uuid, chunk_size=SMALL, cookie=cookie),
            run_request(content, 1, uuid=uuid, chunk_size=SMALL, cookie=cookie, data=bytes(SMALL)),
            request("GET", f"/uploads/{uuid}", cookie=cookie),
            request("DELETE", f"/uploads/{uuid}", cookie=cookie),
        ):
            assert exchange(server, data).status == 404
    exchange(server, chunk[0])
    assert kind.said(exchange(server, chunk[1]))["done"]
    assert exchange(server, request("DELETE", f"/uploads/{uuid}", cookie=new_uuid())).status == 404
    assert stored(server, uuid) == content


@KINDS
def test_an_upload_without_a_cookie(with_chunks_of: Servers, kind: Kind) -> None:
    """It belongs to whoever knows its UUID while it is unfinished; later the UUID is only a link to read."""
    server, content = with_chunks_of(SMALL), random.randbytes(2 * SMALL)
    uuid = kind.begin(server, content, SMALL)
    exchange(server, kind.request(content, 0, uuid=uuid, chunk_size=SMALL))
    assert exchange(server, request("GET", f"/uploads/{uuid}", cookie=new_uuid())).status == 200
    assert exchange(server, request("DELETE", f"/uploads/{uuid}")).status == 200
    assert exchange(server, request("GET", f"/uploads/{uuid}")).status == 404
    uuid = kind.begin(server, content, SMALL)
    for index, cookie in enumerate(("", new_uuid())):
        exchange(server, kind.request(content, index, uuid=uuid, chunk_size=SMALL, cookie=cookie))
    for cookie in ("", new_uuid()):
        assert exchange(server, request("DELETE", f"/uploads/{uuid}", cookie=cookie)).status == 404
    assert stored(server, uuid) == content


def test_remove(shared_server: Server) -> None:
    """One's own file goes from list, link and disk, and so does one's own unfinished upload; others stay."""
    drop, begun = new_uuid(), new_uuid()
    gone, stays = (upload(shared_server, b"x", cookie=drop) for _ in range(2))
    exchange(shared_server, chunk_request(b"abcdef", 1, uuid=begun, chunk_size=4, cookie=drop))
    for uuid in (gone["uuid"], begun.upper()):
        answer = exchange(shared_server, request("DELETE", f"/uploads/{uuid}", cookie=drop))
        assert (answer.status, answer.json()) == (200, {"removed": 1})
        assert exchange(shared_server, request("DELETE", f"/uploads/{uuid}", cookie=drop)).status == 404
    assert listed(shared_server, drop) == [stays]
    assert fetch(shared_server, gone["uuid"]).status == 410
    assert not list(shared_server.storage.glob(f"{gone['uuid']}_*"))
    assert_tidy(shared_server)


def test_forget(shared_server: Server) -> None:
    """The list is emptied of finished files; they stay, their links work, but nobody can remove them any more."""
    drop, begun = new_uuid(), new_uuid()
    done = upload(shared_server, b"done", cookie=drop)
    exchange(shared_server, chunk_request(b"abcdef", 1, uuid=begun, chunk_size=4, cookie=drop))
    mine = upload(shared_server, b"other", cookie=new_uuid())
    for count in (1, 0):
        answer = exchange(shared_server, request("DELETE", "/uploads", cookie=drop))
        assert (answer.status, answer.json()) == (200, {"forgotten": count})
    assert [file["uuid"] for file in listed(shared_server, drop)] == [begun]
    assert exchange(shared_server, request("DELETE", f"/uploads/{done['uuid']}", cookie=drop)).status == 404
    assert exchange(shared_server, request("DELETE", "/uploads")).json() == {"forgotten": 0}
    assert fetch(shared_server, done["uuid"]).body == b"done"
    assert fetch(shared_server, mine["uuid"]).body == b"other"
    assert exchange(shared_server, chunk_request(b"abcdef", 0, uuid=begun, chunk_size=4, cookie=drop)).status == 200


def test_everything_outlives_a_restart(server: Server) -> None:
    """Files, lists and unfinished uploads are there again after the server was started anew."""
    drop, begun = new_uuid(), new_uuid()
    upload(server, b"done", cookie=drop)
    exchange(server, chunk_request(b"abcdef", 1, uuid=begun, chunk_size=4, cookie=drop))
    before = listed(server, drop)
    server.restart()
    assert listed(server, drop) == before
    answer = exchange(server, chunk_request(b"abcdef", 0, uuid=begun, chunk_size=4, cookie=drop))
    assert one_file(answer, 200)["done"] and stored(server, begun) == b"abcdef"


# Downloads

CONTENT = bytes(range(100))


@pytest.fixture(scope="module")
def link(shared_server: Server) -> str:
    """The UUID of a file with CONTENT."""
    return str(upload(shared_server, CONTENT, name="a.bin")["uuid"])


def test_download(shared_server: Server, link: str) -> None:
    """The whole file, as an attachment that a browser neither shows nor runs, with its length and its mark."""
    answer = fetch(shared_server, link.upper())
    assert (answer.status, answer.body) == (200, CONTENT)
    headers = answer.headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == 'attachment; filename="a.bin"'
    assert (headers["Accept-Ranges"], headers["X-Content-Type-Options"]) == ("bytes", "nosniff")
    assert re.fullmatch(r'"[^"]+"', headers["ETag"]) and headers["Last-Modified"].endswith(" GMT")
    assert "Content-Range" not in headers and "Set-Cookie" not in headers


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-", 0, 99),
        ("0-0", 0, 0),
        ("10-19", 10, 19),
        ("99-", 99, 99),
        ("50-500", 50, 99),
        ("-1", 99, 99),
        ("-500", 0, 99),
    ],
)
def test_row_32_one_range(shared_server: Server, link: str, asked: str, first: int, last: int) -> None:
    """One range that lies in the file is given, and named."""
    answer = fetch(shared_server, link, {"Range": f"bytes={asked}"})
    assert (answer.status, answer.body) == (206, CONTENT[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/100"
    assert answer.headers["ETag"] == fetch(shared_server, link).headers["ETag"]


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "bytes=9-5", "bytes=x", "bytes=" + "0-," * 500 + "1-", "lines=1-2", "bytes="]
)
def test_row_32_ranges_that_get_the_whole(shared_server: Server, link: str, asked: str) -> None:
    """Many ranges, reversed ones and nonsense get the whole file, as RFC 9110 allows."""
    answer = fetch(shared_server, link, {"Range": asked})
    assert (answer.status, answer.body) == (200, CONTENT)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200"])
def test_row_32_ranges_beyond_the_end(shared_server: Server, link: str, asked: str) -> None:
    """A range without a byte of the file is 416 and says how long the file is."""
    answer = fetch(shared_server, link, {"Range": asked})
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */100")
    assert (answer.json()["code"], answer.json()["values"]) == ("no-such-range", {"size": 100})


@pytest.mark.parametrize("asked", [None, "bytes=0-", "bytes=-5"])
def test_row_32_empty_file(shared_server: Server, asked: str | None) -> None:
    """A file without a byte is given; it has no range."""
    uuid = upload(shared_server, b"")["uuid"]
    answer = fetch(shared_server, uuid, {"Range": asked} if asked else {})
    assert (answer.status, answer.headers.get("Content-Range")) == ((416, "bytes */0") if asked else (200, None))
    if not asked:
        assert (answer.body, answer.headers["Content-Length"]) == (b"", "0")


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=10-19"}, {"Range": "bytes=999-"}])
def test_row_32_head(shared_server: Server, link: str, headers: dict[str, str]) -> None:
    """HEAD says what GET would say, without the bytes, and the connection goes on."""
    expected = fetch(shared_server, link, headers)
    with Connection(shared_server) as connection:
        connection.send(request("HEAD", f"/download/{link}", headers))
        answer = connection.receive(head=True)
        connection.send(request("GET", "/uploads"))
        assert connection.receive().status == 200
    assert answer.status == expected.status
    for name in ("Content-Length", "Content-Range", "ETag", "Content-Disposition", "Content-Type"):
        assert answer.headers[name] == expected.headers[name]


@pytest.mark.parametrize(
    ("make_headers", "status"),
    [
        (lambda etag, date: {"If-None-Match": etag}, 304),
        (lambda etag, date: {"If-None-Match": f'"x", {etag}'}, 304),
        (lambda etag, date: {"If-None-Match": f"W/{etag}"}, 304),
        (lambda etag, date: {"If-None-Match": "*"}, 304),
        (lambda etag, date: {"If-None-Match": '"x"'}, 200),
        (lambda etag, date: {"If-Modified-Since": date}, 304),
        (lambda etag, date: {"If-Modified-Since": formatdate(0, usegmt=True)}, 200),
        (lambda etag, date: {"If-Modified-Since": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, 200),
        (lambda etag, date: {"If-Modified-Since": date, "If-None-Match": '"x"'}, 200),
        (lambda etag, date: {"If-Match": etag}, 200),
        (lambda etag, date: {"If-Match": "*"}, 200),
        (lambda etag, date: {"If-Match": '"x"'}, 412),
        (lambda etag, date: {"If-Match": f"W/{etag}"}, 412),
        (lambda etag, date: {"Range": "bytes=1-2", "If-Range": etag}, 206),
        (lambda etag, date: {"Range": "bytes=1-2", "If-Range": date}, 206),
        (lambda etag, date: {"Range": "bytes=1-2", "If-Range": '"x"'}, 200),
        (lambda etag, date: {"Range": "bytes=1-2", "If-Range": f"W/{etag}"}, 200),
        (lambda etag, date: {"Range": "bytes=1-2", "If-Range": formatdate(0, usegmt=True)}, 200),
        (lambda etag, date: {"Range": "bytes=999-", "If-Range": '"x"'}, 200),
        (lambda etag, date: {"Range": "bytes=1-2", "If-None-Match": etag}, 304),
    ],
)
def test_row_32_conditions(
    shared_server: Server, link: str, make_headers: Callable[[str, str], dict[str, str]], status: int
) -> None:
    """Conditional requests as in RFC 9110, 13: a stale range gets the whole, a fresh copy gets nothing."""
    known = fetch(shared_server, link).headers
    answer = fetch(shared_server, link, make_headers(known["ETag"], known["Last-Modified"]))
    assert answer.status == status
    expected = {200: CONTENT, 206: CONTENT[1:3], 304: b""}
    assert status == 412 or answer.body == expected[status]
    if status == 304:
        assert answer.headers["ETag"] == known["ETag"]


def test_download_goes_on_where_it_broke_off(shared_server: Server) -> None:
    """A client that vanished in the middle gets the rest with a range, under the same mark."""
    content = random.randbytes(5_000_000)
    uuid = upload(shared_server, content, chunk_size=1 << 20)["uuid"]
    with Connection(shared_server) as connection:
        connection.send(request("GET", f"/download/{uuid}"))
        begun = b""
        while len(begun) < 100_000:
            begun += connection.sock.recv(100_000)
    head, _, body = begun.partition(b"\r\n\r\n")
    etag = re.search(rb'(?i)ETag: ("[^"]+")', head)
    assert etag
    answer = fetch(shared_server, uuid, {"Range": f"bytes={len(body)}-", "If-Range": etag[1].decode()})
    assert answer.status == 206 and body + answer.body == content


def test_download_by_many_at_once(shared_server: Server, crowd: Crowd) -> None:
    """Thirty-two downloads of one file do not disturb each other."""
    content = random.randbytes(300_000)
    uuid = upload(shared_server, content)["uuid"]
    asked = [(n * 1000, n * 7001) for n in range(64)]
    answers = crowd.send([request("GET", f"/download/{uuid}", {"Range": f"bytes={a}-{a + b}"}) for a, b in asked])
    assert [answer.body for answer in answers] == [content[a : a + b + 1] for a, b in asked]


def assert_breaks_off(server: Server, uuid: str, size: int) -> None:
    """A file that becomes shorter while it is sent: what is left of it comes, and then the connection ends."""
    with Connection(server) as connection:
        connection.send(request("GET", f"/download/{uuid}"))
        assert connection.sock.recv(12) == b"HTTP/1.1 200"  # and no more is read before the file is cut
        (path,) = server.storage.glob(f"{uuid}_*")
        os.truncate(path, size // 2)
        received = 12
        with contextlib.suppress(ConnectionResetError):
            while data := connection.sock.recv(1 << 20):
                received += len(data)
        assert size // 2 <= received < size


def test_file_that_shrinks_while_it_is_sent(shared_server: Server) -> None:
    """Whoever fetches a file that becomes shorter meanwhile must not take it for whole, nor wait for the rest."""
    size = 64 << 20  # far more than the system takes into its own hands
    uuid = upload(shared_server, bytes(size), chunk_size=16 << 20)["uuid"]
    assert_breaks_off(shared_server, uuid, size)
    assert exchange(shared_server, request("GET", "/uploads")).status == 200


# What lies in storage without us


def test_an_older_storage(start_server: StartServer, tmp_path: Path) -> None:
    """Files that were there before the record are given back under their names; they are nobody's."""
    files = {f"{new_uuid()}_отчёт 1.pdf": b"1", f"{new_uuid().upper()}_a_b.txt": b"", f"{new_uuid()}__.x": b"3"}
    (tmp_path / "storage").mkdir()
    for name, content in {**files, "notes.txt": b"mine", f"{new_uuid()}": b"no name", ".hidden": b"x"}.items():
        (tmp_path / "storage" / name).write_bytes(content)
    server = start_server("-a", folder=tmp_path)
    for name, content in files.items():
        answer = fetch(server, name[:36])
        assert (answer.status, answer.body) == (200, content)
        assert name_in(answer.headers["Content-Disposition"]) == name[37:]
        assert exchange(server, request("DELETE", f"/uploads/{name[:36]}")).status == 404
    assert listed(server, new_uuid()) == []
    server.restart()
    assert (tmp_path / "storage" / "notes.txt").read_bytes() == b"mine"
    assert all(fetch(server, name[:36]).body == content for name, content in files.items())


@pytest.mark.slow
def test_a_file_that_was_put_there_by_hand(start_server: StartServer) -> None:
    """It is found while the server runs, a moment after somebody asks for it, whatever else lies there."""
    server = start_server("-a")
    uuid = new_uuid()
    assert fetch(server, uuid).status == 404
    if sys.platform == "linux":  # elsewhere file names are text
        write_odd_name(server.storage)
    (server.storage / f"{uuid}_by hand.txt").write_bytes(b"hello")
    wait_until(lambda: fetch(server, uuid).status == 200)
    assert fetch(server, uuid).body == b"hello"
    assert "Traceback" not in server.log()


def write_odd_name(folder: Path) -> Path:
    """Make a file whose name is a UUID and what is not UTF-8."""
    path = Path(os.fsdecode(os.path.join(os.fsencode(folder), new_uuid().encode() + b"_\xff.txt")))
    path.write_bytes(b"odd")
    return path


def test_a_file_that_was_removed_by_hand(start_server: StartServer) -> None:
    """It is no longer listed or given back, its drop can still remove or forget it, and nothing else suffers."""
    server = start_server("-a")
    drop = new_uuid()
    gone, stays = (upload(server, b"x", cookie=drop) for _ in range(2))
    next(server.storage.glob(f"{gone['uuid']}_*")).unlink()
    assert listed(server, drop) == [stays]
    assert fetch(server, gone["uuid"]).status == 404
    assert exchange(server, chunk_request(b"y", uuid=gone["uuid"], cookie=drop)).status == 410
    assert exchange(server, request("DELETE", f"/uploads/{gone['uuid']}", cookie=drop)).status in (200, 404)
    server.restart()
    assert listed(server, drop) == [stays]
    assert fetch(server, gone["uuid"]).status == 410


def chunks_in(server: Server, uuid: str) -> list[list[int]]:
    """Which chunks of an upload the server has, as inclusive ranges."""
    ranges: list[list[int]] = exchange(server, request("GET", f"/uploads/{uuid}")).json()["upload"]["chunks"]
    return ranges


def accepts(server: Server, data: bytes) -> bool:
    """Whether the request is answered 200."""
    return exchange(server, data).status == 200


def test_chunks_that_were_removed_by_hand(shared_server: Server) -> None:
    """An unfinished upload whose data is gone begins anew, and ends whole."""
    uuid, content = new_uuid(), random.randbytes(3 * CHUNK)
    exchange(shared_server, chunk_request(content, 0, uuid=uuid, chunk_size=CHUNK))
    with contextlib.suppress(FileNotFoundError):
        (shared_server.chunks / uuid / "data").unlink()
        (shared_server.chunks / uuid).rmdir()
    for index in (1, 2, 0):  # the server may notice a moment later, and asks for the chunk again until then
        data = chunk_request(content, index, uuid=uuid, chunk_size=CHUNK)
        wait_until(partial(accepts, shared_server, data))
    missing = [i for i in range(3) if not any(a <= i <= b for a, b in chunks_in(shared_server, uuid))]
    for index in missing:
        exchange(shared_server, chunk_request(content, index, uuid=uuid, chunk_size=CHUNK))
    assert stored(shared_server, uuid) == content
    assert_tidy(shared_server)


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows making a link needs a privilege")
def test_row_33_a_symlink_or_folder_under_a_uuids_name(start_server: StartServer, tmp_path: Path) -> None:
    """A symbolic link, a folder or a pipe is 404, never followed and never waited for, whenever it got there."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    storage = tmp_path / "storage"
    storage.mkdir()
    before = [new_uuid() for _ in range(4)]
    (storage / f"{before[0]}_link").symlink_to(secret)
    (storage / f"{before[1]}_folder").mkdir()
    (storage / f"{before[2]}_dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(storage / f"{before[3]}_pipe")
    server = start_server("-a", folder=tmp_path)
    drop = new_uuid()
    after = [upload(server, b"mine", cookie=drop) for _ in range(3)]
    paths = [next(storage.glob(f"{file['uuid']}_*")) for file in after]
    for path in paths:
        path.unlink()
    paths[0].symlink_to(secret)
    paths[1].mkdir()
    os.mkfifo(paths[2])
    for uuid in [*before, *(file["uuid"] for file in after)]:
        assert fetch(server, uuid).status == 404
    assert exchange(server, request("GET", "/uploads", cookie=drop)).status == 200
    assert exchange(server, request("DELETE", f"/uploads/{after[0]['uuid']}", cookie=drop)).status in (200, 404)
    server.restart()
    for uuid in [*before, *(file["uuid"] for file in after)]:
        assert fetch(server, uuid).status in (404, 410)
    assert secret.read_text() == "secret" and (storage / f"{before[1]}_folder").is_dir()
    assert "Traceback" not in server.log()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
@pytest.mark.parametrize("folder", ["storage", "chunks"])
def test_names_that_are_no_text(start_server: StartServer, tmp_path: Path, folder: str) -> None:
    """A file whose name is not UTF-8 keeps the server neither from starting nor from finding the others."""
    for name in ("storage", "chunks"):
        (tmp_path / name).mkdir()
    odd = write_odd_name(tmp_path / folder)
    found = new_uuid()
    (tmp_path / "storage" / f"{found}_good.txt").write_bytes(b"good")
    server = start_server("-a", folder=tmp_path)
    assert fetch(server, found).body == b"good"
    assert odd.read_bytes() == b"odd"
    assert "Traceback" not in server.log()


# The names the server answers under


@pytest.fixture(scope="module")
def named(program: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = [word for name in ("Drop.Example", "192.0.2.7", "::1") for word in ("--allow-host", name)]
    with running(program, tmp_path_factory.mktemp("named"), "-a", *options) as server:
        yield server


@pytest.mark.parametrize(
    "host",
    [
        "drop.example", "DROP.example", "drop.example:80", "drop.example:", "192.0.2.7", "192.0.2.7:16273", "[::1]",
        "[::1]:8443",
    ],
)  # fmt: skip
def test_allowed_host(named: Server, host: str) -> None:
    """The names that were given work, in either case, with a port and without, IPv6 in its brackets."""
    assert exchange(named, request("GET", "/uploads", {"Host": host})).status == 200
    assert exchange(named, request("PUT", "/upload/x", {"Host": host}, b"x")).status == 201


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.70:1", "[::2]", "localhost:1", "a.localhost"])
def test_allowed_host_is_one_more(named: Server, host: str) -> None:
    """A name that was given takes nothing away: under its addresses the server is reached as before."""
    assert exchange(named, request("GET", "/uploads", {"Host": host})).status == 200


MISDIRECTED = {
    "error": "This server does not answer under this name. Open it by its address,"
    " or ask its owner to start it with --allow-host and this name.",
    "code": "unknown-name",
    "values": {},
}
EVERYWHERE = [
    ("GET", "/"), ("HEAD", "/"), ("POST", "/"), ("GET", "/favicon.ico"), ("GET", "/dropzone.js"), ("GET", "/uploads"),
    ("PUT", "/upload/x"), ("POST", "/upload"), ("DELETE", "/uploads"), ("GET", f"/download/{new_uuid()}"),
    ("GET", "/nothing"), ("PATCH", "/upload"), ("OPTIONS", "/uploads"), ("GET", "/upload"),
]  # fmt: skip


def assert_misdirected(server: Server, host: str, **headers: str) -> None:
    """Nothing is answered under this name but that it is none of the server's, whatever is asked for."""
    before = sorted(os.listdir(server.storage))
    for method, target in EVERYWHERE:
        body = b"x" if method in ("PUT", "POST") else None
        answer = exchange(server, request(method, target, {"Host": host, **headers}, body))
        assert answer.status == 421
        assert method == "HEAD" or answer.json() == MISDIRECTED
    assert sorted(os.listdir(server.storage)) == before


@pytest.mark.parametrize(
    "host",
    ["evil.example", "drop.example.evil.example", "evil.drop.example", "drop.example.", "-", "192.0.2.7.evil.example"],
)
def test_host_that_is_not_allowed(named: Server, host: str) -> None:
    """Any other is 421, whatever is asked for, so that no page can reach in under a name of its own."""
    assert_misdirected(named, host)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "a", f"{socket.gethostname()}.evil.example", ""])
def test_row_57_dns_rebinding(shared_server: Server, host: str) -> None:
    """A foreign name that was made to point here is 421, though to the browser all comes from one site."""
    headers = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    if not host:  # the helper would leave such a header out
        assert exchange(shared_server, b"GET / HTTP/1.1\r\nHost:\r\n\r\n").status == 421
    else:
        assert_misdirected(shared_server, f"{host}", **headers)


def test_row_57_password_comes_second(guarded: Server) -> None:
    """Under a foreign name nobody is asked for the password, and none is heard."""
    assert_misdirected(guarded, "evil.example")
    assert_misdirected(guarded, "evil.example", **basic(PASSWORD))


@pytest.mark.parametrize(
    "host", ["127.0.0.1:1", "192.0.2.1", "[::1]", "localhost", "x.LocalHost:1", socket.gethostname(),
             socket.gethostname().upper() + ":1", socket.gethostname().partition(".")[0] + ".local"],
)  # fmt: skip
def test_row_57_what_is_answered(shared_server: Server, host: str) -> None:
    """Addresses, localhost and the machine's own names need no option; neither does a client that names no host."""
    assert exchange(shared_server, request("GET", "/uploads", {"Host": host})).status == 200
    assert exchange(shared_server, b"GET /uploads HTTP/1.0\r\n\r\n").status == 200


def test_row_57_no_name_server_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the network says of names counts nowhere: neither at start nor for a request is it asked."""

    def ask(*_: object, **__: object) -> Any:
        raise AssertionError("a name was looked up")

    for name in ("getfqdn", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getaddrinfo", "getnameinfo"):
        monkeypatch.setattr(socket, name, ask)
    with serving(tmp_path) as server:
        for host, status in ((b"127.0.0.1", b"200"), (b"evil.example", b"421")):
            with socket.socket() as client:
                client.connect(("127.0.0.1", server.server_port))
                client.sendall(b"GET /uploads HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.1 " + status


def test_start_says_which_names(start_server: StartServer) -> None:
    """The start names what is answered, and the option that adds to it."""
    server = start_server("--allow-host", "drop.example")
    wait_until(lambda: "Ctrl-C ends it." in server.output())
    (line,) = re.findall(r"^  answers to (.*)$", server.output(), re.MULTILINE)
    assert line.startswith("addresses, localhost, ") and line.endswith("; --allow-host adds others")
    assert {"drop.example", socket.gethostname().lower()} <= set(re.split(r"[,;] ", line))


# The rest of HTTP


@pytest.mark.parametrize(
    ("data", "status", "kind"),
    [
        (request("GET", "/"), 200, "text/html; charset=utf-8"),
        (request("HEAD", "/"), 200, "text/html; charset=utf-8"),
        (request("GET", "/?x=y"), 200, "text/html; charset=utf-8"),
        (request("GET", "/favicon.ico"), 200, "image/svg+xml"),
        (request("GET", "/uploads"), 200, "application/json"),
        (request("GET", "/uploads", {"Accept": "text/html"}), 200, "text/plain; charset=utf-8"),
        (request("GET", "http://127.0.0.1/uploads"), 200, "application/json"),
        (request("GET", "/nothing"), 404, "application/json"),
        (request("GET", "/nothing", {"Accept": "*/*"}), 404, "text/plain; charset=utf-8"),
        (request("GET", "/pyfiledrop.py"), 404, "application/json"),
        (request("GET", "/storage/"), 404, "application/json"),
        (request("GET", f"/uploads/{SOME}"), 404, "application/json"),
        (request("GET", "/upload"), 405, "application/json"),
        (request("PATCH", "/upload"), 405, "application/json"),
        (request("PUT", "/upload/", body=b"x"), 404, "application/json"),
        (request("OPTIONS", "/uploads"), 405, "application/json"),
        (request("DELETE", "/"), 405, "application/json"),
    ],
    ids=lambda value: value.split(b"\r\n")[0].decode() if isinstance(value, bytes) else str(value),
)
def test_addresses(shared_server: Server, data: bytes, status: int, kind: str) -> None:
    """Every address has its answer; an error is one sentence, in JSON for those who accept it."""
    answer = exchange(shared_server, data)
    assert (answer.status, answer.headers["Content-Type"]) == (status, kind)
    if status >= 400:
        sentence = answer.json()["error"] if kind == "application/json" else answer.text.rstrip("\n")
        assert re.fullmatch(r"[A-Z][^<>/\n]+\.", sentence)
    if status == 405:
        assert answer.headers["Allow"]


def test_every_answer_is_guarded(shared_server: Server, link: str) -> None:
    """No answer of any kind can be framed, sniffed, or tell another site where it was linked from."""
    asked = [request("GET", target) for target in ("/", "/favicon.ico", "/uploads", f"/download/{link}", "/nothing")]
    for data in (*asked, b"GET /uploads HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n"):
        headers = exchange(shared_server, data).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"].endswith(("no-store", "no-cache"))
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert len(headers.get_all("Content-Security-Policy") or []) == 1


@pytest.mark.parametrize("wants_json", [True, False])
@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (pyfiledrop.NotFound("Nothing."), {}),
        (pyfiledrop.Unavailable("Nothing."), {"Retry-After": "2"}),
        (pyfiledrop.Unauthorized("Nothing."), pyfiledrop.Unauthorized.headers),
    ],
)
def test_error_has_one_shape(error: pyfiledrop.DropError, headers: dict[str, str], wants_json: bool) -> None:
    """Status, headers and sentence are the error's; only people are asked for a password by their browser."""
    environ = {"HTTP_ACCEPT": "application/json" if wants_json else "*/*"}
    status, given, body = pyfiledrop.render_error(error, environ)
    assert status == f"{error.status.value} {error.status.phrase}"
    data = {"error": "Nothing.", "code": error.code, "values": {}}
    assert body == (json.dumps(data).encode() if wants_json else b"Nothing.\n")
    asked = {} if wants_json and "WWW-Authenticate" in headers else dict(headers)
    assert given == asked | {
        "Content-Type": "application/json" if wants_json else "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
    }


def test_dropzone_is_served_from_here(shared_server: Server) -> None:
    """The page finds script and style where it came from: Dropzone's own, to the byte, and of the right type."""
    for route, kind in (("dropzone.js", "text/javascript"), ("dropzone.css", "text/css")):
        answer = exchange(shared_server, request("GET", f"/{route}"))
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
        digest = base64.b64encode(hashlib.sha384(answer.body).digest()).decode()
        assert pyfiledrop.DROPZONE_FILES[route][1] == f"sha384-{digest}"


def test_a_connection_carries_many_requests(shared_server: Server) -> None:
    """Requests that are sent without waiting for answers are answered in order, uploads too."""
    uuid, content = new_uuid(), random.randbytes(3 * CHUNK)
    chunks = [chunk_request(content, index, uuid=uuid, chunk_size=CHUNK) for index in range(3)]
    with Connection(shared_server) as connection:
        connection.send(b"".join([*chunks, request("HEAD", "/"), request("GET", f"/download/{uuid}")]))
        assert [connection.receive().json()["files"][0]["received"] for _ in chunks] == [CHUNK, 2 * CHUNK, 3 * CHUNK]
        assert connection.receive(head=True).status == 200
        assert connection.receive().body == content
        connection.send(request("GET", "/uploads", {"Connection": "close"}))
        assert connection.receive().headers["Connection"] == "close"
        assert connection.closed()


def test_http_1_0(shared_server: Server) -> None:
    """An old client needs no Host, and its connection ends with the answer."""
    with Connection(shared_server) as connection:
        connection.send(b"GET /uploads HTTP/1.0\r\n\r\n")
        assert connection.receive().status == 200
        assert connection.closed()


def test_uploads_of_one_name_at_once(shared_server: Server) -> None:
    """Row 31: two uploads of one name at the same moment are two files."""
    uuid = [new_uuid() for _ in range(8)]
    threads = [
        threading.Thread(target=upload, args=(shared_server, name.encode()), kwargs={"uuid": name, "name": "same.txt"})
        for name in uuid
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [stored(shared_server, name) for name in uuid] == [name.encode() for name in uuid]


def test_the_programs_version_is_in_the_page(shared_server: Server) -> None:
    """The page that is served carries the settings of the server it came from."""
    page = exchange(shared_server, request("GET", "/")).text
    assert f'"version": "{pyfiledrop.__version__}"' in page and '"downloads": true' in page


def test_request_that_waits_for_its_turn_as_the_server_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was heard before the server stops is answered, even if others were working at that moment."""
    monkeypatch.setattr(pyfiledrop, "TURN_SECONDS", 20)
    settings = pyfiledrop.Settings.parse(
        ["--host", "127.0.0.1", "-p", "0", "-s", str(tmp_path / "s"), "-c", str(tmp_path / "c")]
    )
    with contextlib.closing(pyfiledrop.open_store(settings.storage, settings.chunks)) as store:
        server = pyfiledrop.make_server(settings, store)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as client:
            client.sendall(b"GET /uploads HTTP/1.1\r\n")
            wait_until(lambda: server.idle)
            pyfiledrop.TURN.take()
            client.sendall(b"Host: localhost\r\n\r\n")
            wait_until(lambda: pyfiledrop.TURN._waiting)
            assert not server.stop(0)
            pyfiledrop.TURN.give_up()
            assert client.recv(12) == b"HTTP/1.1 200"
        assert server.stop(20)


def test_progress_as_a_sentence(with_chunks_of: Servers) -> None:
    """Whoever asks for no JSON reads how far an upload is, and at its end where the file can be fetched."""
    server, content = with_chunks_of(SMALL), random.randbytes(3 * SMALL)
    uuid = Run.begin(server, content, SMALL)
    plain = {"Accept": "*/*"}
    texts = [
        exchange(server, run_request(content, 0, 1, uuid=uuid, chunk_size=SMALL, headers=plain)).text,
        exchange(server, run_request(content, 1, 2, uuid=uuid, chunk_size=SMALL, headers=plain)).text,
        exchange(server, request("GET", f"/uploads/{uuid}", plain)).text,
    ]
    assert re.fullmatch(r".+: 2\.0 KB of 5\.9 KB are in\.\n", texts[0])
    assert texts[1] == texts[2] and re.fullmatch(rf"Received .+\. Fetch it back: http://.+/download/{uuid}\n", texts[1])
