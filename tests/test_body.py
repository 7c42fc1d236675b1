"""Reading a request's body: how the network cuts it does not matter, and patience has its limits."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import sys
import threading

import pytest
from conftest import BOUNDARY, Connection, Server, chunk_request, stored, upload, wait_until
from storing import new_uuid

import pyfiledrop


@pytest.mark.parametrize("chunk_size", [65_535, 65_536, 65_537, 1 << 20, 3_000_000])
def test_large_chunks(shared_server: Server, chunk_size: int) -> None:
    """Chunks that the system moves by itself arrive as small ones do."""
    content = random.randbytes(2_500_001)
    assert upload(shared_server, content, uuid=(uuid := new_uuid()), chunk_size=chunk_size)["received"] == len(content)
    assert stored(shared_server, uuid) == content


def test_chunk_that_arrives_byte_by_byte(shared_server: Server) -> None:
    """How the network cuts a request does not matter."""
    uuid = new_uuid()
    with Connection(shared_server) as connection:
        for byte in chunk_request(b"slow\r\n--but--\r\nsure", uuid=uuid):
            connection.send(bytes([byte]))
        assert connection.receive().json()["files"][0]["done"]
    assert stored(shared_server, uuid) == b"slow\r\n--but--\r\nsure"


@pytest.mark.parametrize("size", [100, 200_000])
def test_content_that_looks_like_a_form(shared_server: Server, size: int) -> None:
    """Line breaks, dashes and almost the boundary are bytes of the file like all others."""
    near = f"\r\n--{BOUNDARY[:-1]}".encode()
    content = (near + b"\r\n\r\n--" + near + b"--\r\n")[: size // 2] * 3
    assert upload(shared_server, content, uuid=(uuid := new_uuid()), chunk_size=size)["done"]
    assert stored(shared_server, uuid) == content


def test_row_22_client_that_left_before_it_was_told_to_go_on() -> None:
    """Who waits for 100 Continue and is gone when it comes is no bug of ours."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(pyfiledrop.CutOff):
        pyfiledrop.Body(pyfiledrop.Wire(ours), 5, b"", is_awaiting=True).read()


def test_row_27_a_trickle_after_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each while is judged by itself: what came before buys no time, and none that was fast enough is punished."""
    clock = 1000.0
    monkeypatch.setattr(pyfiledrop.time, "monotonic", lambda: clock)
    pace, least = pyfiledrop.watch_pace(), pyfiledrop.MIN_BYTES_PER_SECOND
    pace(1 << 30)
    clock += pyfiledrop.IDLE_SECONDS
    pace(0)  # the first while is not over yet
    for _ in range(3):
        clock += 1
        pace(0)  # and then begins the next one
        clock += pyfiledrop.IDLE_SECONDS
        pace(least * (pyfiledrop.IDLE_SECONDS + 1))
    clock += 1
    pace(0)
    clock += pyfiledrop.IDLE_SECONDS
    pace(least * (pyfiledrop.IDLE_SECONDS + 1) - 1)
    clock += 1
    with pytest.raises(pyfiledrop.TooSlow):
        pace(0)


@pytest.mark.parametrize("error", [BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError])
def test_row_27_patience_ends(error: type[Exception]) -> None:
    """A socket that moves nothing is asked once a tick until the time is over, and at least once."""
    asked = []

    class Waiting:
        def recv(self, limit: int) -> bytes:
            asked.append(limit)
            if len(asked) < most:
                raise error
            return b"moved"

    wire, most = pyfiledrop.Wire(Waiting()), 4  # type: ignore[arg-type]
    with pytest.raises(pyfiledrop.TooSlow):
        wire.receive(7, seconds=3 * pyfiledrop.TICK_SECONDS)
    assert asked == [7] * 3
    asked.clear()
    assert wire.receive(7, seconds=4 * pyfiledrop.TICK_SECONDS) == b"moved"
    asked.clear()
    with pytest.raises(pyfiledrop.TooSlow):
        wire.receive(7, seconds=0)
    assert asked == [7]
    asked.clear()
    most = sys.maxsize
    with pytest.raises(pyfiledrop.TooSlow):
        wire.receive(7)
    assert len(asked) == pyfiledrop.IDLE_SECONDS // pyfiledrop.TICK_SECONDS


def test_pipe_is_not_reused_after_an_error() -> None:
    """What is left in one after a disk error would become part of the next file."""
    with pytest.raises(pyfiledrop.DiskFault), pyfiledrop.borrow_pipe() as (_, write_end):
        os.write(write_end, b"somebody else's")
        raise pyfiledrop.DiskFault
    with pyfiledrop.borrow_pipe() as (read_end, _):
        os.set_blocking(read_end, False)
        with pytest.raises(BlockingIOError):
            os.read(read_end, 1)


@pytest.mark.skipif(not hasattr(os, "splice"), reason="only Linux splices")
@pytest.mark.parametrize("cut", [False, True])
def test_long_pieces_are_slept_for(store: pyfiledrop.Store, cut: bool) -> None:
    """Whoever receives a long piece is not woken for each packet, but for its last bytes, and for what follows it."""
    content = random.randbytes(5_000_000)
    until: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        ours, _ = listener.accept()
        wire = pyfiledrop.Wire(ours)
        wire.open()

        def level() -> int:
            return ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

        class Part(pyfiledrop.DiskPart):
            def splice(self, pipe: int, count: int, offset: int) -> int:
                until.append(level())
                return super().splice(pipe, count, offset)

        def send() -> None:
            if cut:
                client.sendall(content[:-1_000_000])
            else:  # the last bytes come when they are waited for
                client.sendall(content[:-100_000])
                wait_until(lambda: until and level() == 1)
                client.sendall(content[-100_000:])
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        with ours, store.begin_whole(None, "x", len(content)) as writer:
            assert isinstance(writer._part, pyfiledrop.DiskPart)
            writer._part.__class__ = Part
            sender.start()
            body = pyfiledrop.Body(wire, len(content))
            with pytest.raises(pyfiledrop.CutOff) if cut else contextlib.nullcontext():
                body.pour(writer, len(content))
            sender.join()
            assert level() == 1
    assert until[0] == 256 * 1024 and until[-1] == (256 * 1024 if cut else 1)


@pytest.mark.parametrize(("ticks", "tries"), [(0.1, 1), (1.0, 1), (1.6, 2), (3.0, 3)])
def test_as_many_ticks_as_fit(ticks: float, tries: int) -> None:
    """Who waits looks at the clock once a tick, at least once, and gives up at the tick that is nearest to the time."""
    calls: list[int] = []

    def stand_still() -> None:
        calls.append(0)
        raise BlockingIOError

    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(pyfiledrop.TooSlow):
        pyfiledrop.Wire(ours)._wait(stand_still, seconds=ticks * pyfiledrop.TICK_SECONDS)
    assert len(calls) == tries
