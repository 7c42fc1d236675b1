"""The disk fails, fills up, or loses power: every call fails once, and the promise holds."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Connection, Server, StartServer, chunk_request, exchange, request
from storing import (
    ALICE,
    Cache,
    Day,
    File,
    Folders,
    System,
    Watcher,
    check_promise,
    chunks_in,
    fill_with_zeros,
    finish,
    indexes,
    new_uuid,
    open_descriptors,
    patch_sync,
    play_disks,
    send_missing,
)

import pyfiledrop
from pyfiledrop import DiskFault, DropError, NoSpace, StartError, Store

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there an open record cannot be copied")

# Every call fails

STATUS = {errno.ENOSPC: 507, errno.EIO: 500, errno.EACCES: 500, errno.EMFILE: 503}


class Faults(Cache):
    """Lets the call with this number fail: only it, or all of its kind from then on, or all whatsoever.

    When a sync fails, the bytes it was about are gone, as they may be on Linux.
    """

    def __init__(self, system: System, folders: Folders, number: int, error: int, how_long: str) -> None:
        super().__init__(folders)
        self.failed: list[str] = []
        self.statuses: set[int] = set()
        self.closed_twice = False
        self._system, self._error, self._number, self._how_long = system, error, number, how_long
        self._count = 0

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        super().before(name, args)
        self._count += 1
        if name == "close":
            try:
                os.fstat(args[0])
            except OSError:
                self.closed_twice = True
        again = self._how_long == "all" or (self._how_long == "kind" and name in self.failed)
        if self._count == self._number or (self._count > self._number and again):
            self.failed.append(name)
            self._fail(name, args)

    def _fail(self, name: str, args: tuple[Any, ...]) -> None:
        number = self._error
        if name == "close":  # which closes even when it reports an error, and of these knows only two
            self._system.real["close"](*args)
            number = number if number == errno.ENOSPC else errno.EIO
        if name == "fsync":
            self._lose(args[0])
        if name.startswith("sqlite"):
            self.statuses.add(507 if number == errno.ENOSPC else 500)
            text = "database or disk is full" if number == errno.ENOSPC else "disk I/O error"
            raise sqlite3.OperationalError(text)
        self.statuses.add(STATUS[number])
        raise OSError(number, os.strerror(number))

    def _lose(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        for path, ranges in self.not_on_disk(self.folders.root).items():
            if path.stat().st_ino == inode:
                fill_with_zeros(path, ranges)
                break


def run_steps(day: Day, store: Store, system: System, faults: Faults) -> None:
    """All steps; each ends well or in the error that fits the fault."""
    for step in day.steps(store):
        already = len(faults.failed)
        faults.statuses.clear()
        try:
            with system.watched(faults):
                step()
        except DropError as error:
            assert "/" not in str(error), "a path is nobody's business"
            # 404 and 503 also follow from an earlier failure: what was not begun cannot be removed.
            also = {404, 503} if already or len(faults.failed) > 1 else set()
            assert error.status in also | faults.statuses, f"{error.status} after {faults.failed[already:]}"


@pytest.mark.parametrize(
    ("how_long", "error"),
    [
        *(("once", error) for error in STATUS),
        ("kind", errno.EMFILE),
        ("kind", errno.EIO),
        ("all", errno.ENOSPC),
        ("all", errno.EIO),
    ],
    ids=lambda value: errno.errorcode.get(value, value),
)
def test_every_call_fails(
    tmp_path: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch, error: int, how_long: str
) -> None:
    """Whichever call fails: the error's status fits, nothing acknowledged is lost, every upload can be finished."""
    system = System(monkeypatch)
    number, kinds, problems = 0, set(), []
    while True:
        number += 1
        place = Folders(tmp_path / str(number))
        day, before = Day(), open_descriptors()
        faults = Faults(system, place, number, error, how_long)
        store = place.open()
        try:
            run_steps(day, store, system, faults)
            # An error at close may be about what was written before, of which a part was kept already.
            asked_again = day.files if "fsync" in faults.failed else day.files[9:] if "close" in faults.failed else []
            # If all fails from a sync on, nothing is left that could tell the next process.
            if "fsync" not in faults.failed or how_long != "all":
                left = place.after_crash()
                store_again = left.open()
                day.copy().check(left, store_again, asked_again)
                day.copy().finish(left, store_again)
                left.close()
            finish_here(day, place, store)
            place.close()
            assert not faults.closed_twice, "a descriptor was closed twice: the second time it is somebody else's"
            assert open_descriptors() == before, "a descriptor was left open"
        except Exception as problem:
            last = traceback.extract_tb(problem.__traceback__)[-1]
            problems.append(
                f"call {number}, failed {faults.failed[:3]}: {problem!r} in {last.name}, line {last.lineno}"
            )
        kinds.update(faults.failed[:1])
        shutil.rmtree(place.root)
        if not faults.failed:
            break
    assert not problems, "\n".join(problems)
    expected = {"open", "close", "fsync", "unlink", "mkdir", "rmdir", "pwrite", "sqlite COMMIT"}
    assert expected | {"rename" if store._engine.moves else "link"} <= kinds


def finish_here(day: Day, place: Folders, store: Store) -> None:
    """Without a restart every upload goes on too; what a failed removal left is the next start's business."""
    for file in day.files[1:]:
        if file not in day.removing:
            send_missing(store, file)
            assert (place.storage / file.stored).read_bytes() == file.content


@pytest.mark.parametrize("kind", ["two disks", "no links"])
def test_every_call_fails_elsewhere(
    tmp_path: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The same where publishing copies to another disk, and where it renames."""
    play_disks(monkeypatch, kind)
    test_every_call_fails(tmp_path, folders, monkeypatch, errno.EIO, "once")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_every_call_of_a_start_fails(
    tmp_path: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """A start during which a call fails says so in one sentence or goes on; the next start loses nothing."""
    system = System(monkeypatch)
    day = Day()
    for step in day.steps(folders.open()):
        step()

    class Killed(Watcher):
        left: Folders

        def after(self, name: str, args: tuple[Any, ...], result: Any) -> None:
            if name == "link":
                self.left = folders.after_crash()

    killed = Killed()
    with system.watched(killed):
        last = File(b"aaaabbbb", name="last.bin")
        last.send(folders.store)  # type: ignore[arg-type]
    day.files.append(last)
    day.acknowledged[last] = {0}
    number, failed = 0, True
    while failed:
        number += 1
        place = killed.left.after_crash()
        faults = Faults(system, place, number, error, "once")
        before = open_descriptors()
        try:
            with system.watched(faults), contextlib.suppress(StartError):
                place.open()
            place.close()
            assert open_descriptors() == before, "a descriptor was left open"
            store = place.open()
            day.copy().check(place, store)
            day.copy().finish(place, store)
            place.close()
        except Exception as problem:
            raise AssertionError(f"call {number}: {faults.failed}") from problem
        failed = bool(faults.failed)
        shutil.rmtree(place.root)
    assert number > 20


def test_commit_in_doubt(tmp_path: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the record reports an error, yet has the change all the same, and the process dies: nothing is lost."""

    class Doubt(Watcher):
        def __init__(self, number: int) -> None:
            self.left = number

        def after(self, name: str, args: tuple[Any, ...], result: Any) -> None:
            if "COMMIT" in name:
                self.left -= 1
                if not self.left:
                    raise sqlite3.OperationalError("disk I/O error")

    system = System(monkeypatch)
    number, last = 0, 0
    while last <= 0:
        number += 1
        place = Folders(tmp_path / str(number))
        day, doubt = Day(), Doubt(number)
        for step in day.steps(place.open()):
            with contextlib.suppress(DropError), system.watched(doubt):
                step()
            if doubt.left <= 0:
                break
        left = place.after_crash()
        place.close()
        try:
            store = left.open()
            day.check(left, store)
            day.finish(left, store)
            left.close()
        except Exception as problem:
            raise AssertionError(f"commit {number}") from problem
        last = doubt.left
    assert number > 15


# Short and failing writes


@pytest.mark.parametrize("step", [1, 2, 3])
def test_short_writes(folders: Folders, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A system that writes less than it was given gets the rest."""
    real = pyfiledrop.pwrite
    monkeypatch.setattr(pyfiledrop, "pwrite", lambda fd, data, offset: real(fd, bytes(data)[:step], offset))
    finish(folders, folders.open(), [File(b"abcdefghij"), File(b"abc")])


def test_half_a_write(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a write: 507, the chunk is not in, and goes on when there is space."""
    store = folders.open()
    file = File(b"aaaabbbbcccc")
    file.send(store, 0)
    real, full = pyfiledrop.pwrite, [False]

    def half(fd: int, data: bytes | memoryview, offset: int) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        full[0] = True
        return real(fd, bytes(data)[:2], offset)

    with monkeypatch.context() as patch:
        patch.setattr(pyfiledrop, "pwrite", half)
        with pytest.raises(NoSpace):
            file.send(store, 1)
    assert chunks_in(store, file) == {0}
    finish(folders, store, [file])


# A sync that fails


def failing_sync(monkeypatch: pytest.MonkeyPatch) -> contextlib.AbstractContextManager[None]:
    """While it lasts, every sync fails."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    @contextlib.contextmanager
    def failing() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch_sync(patch, fail)
            yield

    return failing()


def test_failed_flush(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync only chunks that an earlier one had brought to the disk count."""
    store = folders.open()
    file = File(b"aaaabbbbccccdddd")
    file.send(store, 0)
    store.flush()
    file.send(store, 1, 2)
    with failing_sync(monkeypatch):
        store.flush()
    assert chunks_in(store, file) == {0}
    finish(folders, store, [file])


def test_failed_publishing(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose sync fails is not done, and trying again needs the bytes again."""
    store = folders.open()
    file = File(b"aaaabbbbcccc")
    file.send(store, 0)
    store.flush()
    file.send(store, 1)
    with failing_sync(monkeypatch), pytest.raises(DiskFault):
        file.send(store, 2)
    assert chunks_in(store, file) == {0}
    assert folders.files() == set()
    finish(folders, store, [file])


@pytest.mark.parametrize("count", [2, 3])
def test_a_chunk_on_its_way_when_a_sync_fails(folders: Folders, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Bytes that were written before a failed sync are not trusted either, though their chunk was not merged yet."""
    store = folders.open()
    file = File(b"aaaabbbbcccc"[: 4 * count])
    file.send(store, 0)
    writer = file.begin_filled(store, 1)
    with failing_sync(monkeypatch):
        store.flush()
    with pytest.raises(DropError) as caught, writer:
        store.merge(writer)
    assert caught.value.status >= 500, "the client is to send it again"
    assert chunks_in(store, file) == set()
    finish(folders, store, [file])


def is_data(fd: int) -> bool:
    """Whether this is no folder."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


class DeadSync(Watcher):
    """The sync fails, and so does every word to the record after it."""

    failed = False

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        if name == "fsync" and is_data(args[0]):
            self.failed = True
            raise OSError(errno.EIO, "Input/output error")
        if self.failed and name.startswith("sqlite"):
            raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("end", ["flush", "publish"])
def test_sync_fails_and_then_the_record(folders: Folders, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """When the record fails right after the sync, the sync's failure is not forgotten: no second one makes it good."""
    system = System(monkeypatch)
    store = folders.open()
    file = File(b"aaaabbbb")
    file.send(store, 0)
    with system.watched(DeadSync()), contextlib.suppress(DropError):
        store.flush() if end == "flush" else file.send(store, 1)
    with file.begin_filled(store, 1) as writer:
        upload = store.merge(writer)
    assert not upload.stored, "chunk 0 may be lost"
    finish(folders, store, [file])


def test_two_syncs_at_once(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two syncs at once the system may tell only one of the failure: then nothing is published either."""
    store = folders.open()
    file = File(b"aaaabbbb")
    file.send(store, 0)
    syncing, go_on = threading.Event(), threading.Event()
    first: list[int] = []

    def sync(fd: int) -> None:
        if not first and is_data(fd):
            first.append(fd)
            syncing.set()
            assert go_on.wait(20)
            raise OSError(errno.EIO, "Input/output error")

    patch_sync(monkeypatch, sync)
    flushing = threading.Thread(target=store.flush)
    flushing.start()
    assert syncing.wait(20)
    answers: list[object] = []

    def send() -> None:
        try:
            answers.append(file.send(store, 1).stored)
        except DropError as error:
            answers.append(error.status)

    sending = threading.Thread(target=send)
    sending.start()
    sending.join(0.2)  # a store that publishes beside the flush does so at once
    go_on.set()
    flushing.join(20)
    sending.join(20)
    assert answers in ([None], [500], [503])
    assert folders.files() == set()
    finish(folders, store, [file])


def test_flush_marks_what_it_synced(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload removed and begun anew while a flush waits for the disk is not taken for synced by it."""
    store = folders.open()
    file = File(b"aaaabbbb")
    file.send(store, 0)
    syncing, go_on = threading.Event(), threading.Event()

    def sync(fd: int) -> None:
        if not syncing.is_set() and is_data(fd):
            syncing.set()
            assert go_on.wait(20)

    with monkeypatch.context() as patch:
        patch_sync(patch, sync)
        flushing = threading.Thread(target=store.flush)
        flushing.start()
        assert syncing.wait(20)

        def begin_anew() -> None:
            store.remove(ALICE, file.uuid)
            store.record._db.execute("DELETE FROM removed")  # as if nobody had wished it
            file.send(store, 0)

        anew = threading.Thread(target=begin_anew)
        anew.start()
        anew.join(0.2)  # a store that lets others at the upload meanwhile is through by now
        go_on.set()
        flushing.join(20)
        anew.join(20)
    left = folders.after_crash()
    monkeypatch.setattr(pyfiledrop, "boot_mark", lambda: "another boot")
    assert chunks_in(left.open(), file) == set()
    left.close()


def test_no_fsync_never_syncs(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fsync switched off the disk is never waited for."""
    with failing_sync(monkeypatch):
        store = folders.open(fsync=False)
        file = File(b"aaaabbbb")
        file.send(store, 0)
        store.flush()
        finish(folders, store, [file])


# Power cut


class PowerCuts(Cache):
    """At every call that matters: what a power cut may leave, from everything to only what was synced."""

    def __init__(self, folders: Folders, day: Day, target: Path) -> None:
        super().__init__(folders)
        self.taken: list[tuple[str, Folders, Day]] = []
        self._day, self._target = day, target
        self._record: dict[str, bytes] = {}
        self.record_synced()

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        if name in ("fsync", "link", "rename", "unlink", "mkdir") or "COMMIT" in name:
            self._take(f"before {name} {args}")
        super().before(name, args)

    def after(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        super().after(name, args, result)
        if name in ("link", "rename") or "COMMIT" in name:
            self._take(f"after {name} {args}")

    def record_synced(self) -> None:
        paths = self.folders.storage.glob(".pyfiledrop.sqlite3*")
        self._record = {path.name: path.read_bytes() for path in paths}

    def _take(self, moment: str) -> None:
        for names in ("names kept", "names lost", "names back"):
            for record in ("record kept", "record old"):
                left = self.folders.copy_to(self._target / str(len(self.taken)))
                for path, ranges in self.not_on_disk(self.folders.root).items():
                    fill_with_zeros(left.root / path.relative_to(self.folders.root), ranges)
                if names == "names lost":
                    for name in left.files() - self.names:
                        (left.storage / name).unlink()
                    shutil.rmtree(left.chunks)
                if names == "names back":
                    for name, content in self.unlinked.items():
                        (left.storage / name).write_bytes(content)
                if record == "record old":
                    for path in left.storage.glob(".pyfiledrop.sqlite3*"):
                        path.unlink()
                    for name, content in self._record.items():
                        (left.storage / name).write_bytes(content)
                self.taken.append((f"{moment}, {names}, {record}", left, self._day.copy()))


@pytest.mark.parametrize("kind", ["one disk", "two disks", "no links"])
def test_row_39_power_cut(tmp_path: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Power lost at any moment, and with it whatever was not synced: every file reported done is on record and
    whole, every chunk that still counts has its bytes, and every upload can be finished."""
    play_disks(monkeypatch, kind)
    system, day = System(monkeypatch), Day()
    monkeypatch.setattr(pyfiledrop, "boot_mark", lambda: "one boot")
    store = folders.open()
    cuts = PowerCuts(folders, day, tmp_path / "cuts")
    for step in day.steps(store):
        with system.watched(cuts):
            step()
    assert len(cuts.taken) > 200
    monkeypatch.setattr(pyfiledrop, "boot_mark", lambda: "another boot")
    for moment, left, then in cuts.taken:
        try:
            store = left.open()
            then.check(left, store, then.files)
            then.finish(left, store)
            left.close()
        except Exception as problem:
            raise AssertionError(f"power cut {moment}") from problem
        shutil.rmtree(left.root)


def test_power_cut_keeps_what_was_flushed(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut the chunks of a flush still count, later ones are asked for again, and it is said how many."""
    store = folders.open()
    file = File(b"aaaabbbbccccdddd")
    file.send(store, 0, 2)
    store.flush()
    file.send(store, 1)
    left = folders.after_crash()
    fill_with_zeros(left.data(file), [(4, 4)])
    monkeypatch.setattr(pyfiledrop, "boot_mark", lambda: "another boot")
    store = left.open()
    assert chunks_in(store, file) == {0, 2}
    assert store.findings == [
        "1 chunk may not have reached the disk and will be asked for again.",
        "1 unfinished upload can go on.",
    ]
    finish(left, store, [file])
    left.close()


def test_no_power_cut_keeps_all(folders: Folders) -> None:
    """As long as the machine ran on, every merged chunk counts, flushed or not, after a crash and after an end."""
    store = folders.open()
    file = File(b"aaaabbbbccccdddd")
    file.send(store, 0)
    store.flush()
    file.send(store, 1, 2)
    left = folders.after_crash()
    check_promise(left, left.open(), {file: {0, 1, 2}}, [])
    left.close()
    check_promise(folders, folders.open(), {file: {0, 1, 2}}, [])


def test_an_orderly_end_flushes(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an orderly end even a power cut takes no merged chunk."""
    store = folders.open()
    file = File(b"aaaabbbbcccc")
    file.send(store, 0, 1)
    folders.close()
    monkeypatch.setattr(pyfiledrop, "boot_mark", lambda: "another boot")
    assert chunks_in(folders.open(), file) == {0, 1}


def test_the_housekeeper_flushes(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged chunks get to the disk by themselves."""
    monkeypatch.setattr(pyfiledrop, "HOUSEKEEPING_SECONDS", 0.001)
    synced = threading.Event()
    real = os.fsync

    def sync(fd: int) -> None:
        real(fd)
        if os.fstat(fd).st_size == 4:  # the data, not a folder
            synced.set()

    patch_sync(monkeypatch, sync)
    File(b"aaaabbbb").send(folders.open(), 0)
    assert synced.wait(20)


# A disk that is really full

PIECE = 256 << 10


class Tmpfs:
    """A small disk of its own, filled up by a file beside ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, server: Server) -> None:
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def make_room(self, server: Server) -> None:
        self._ballast.unlink()


class Limit:
    """Where no disk may be mounted: the system lets no file grow beyond a size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, server: Server) -> None:
        self._limit(server, 2 * PIECE)

    def make_room(self, server: Server) -> None:
        self._limit(server, None)

    @staticmethod
    def _limit(server: Server, size: int | None) -> None:
        import resource

        _, hard = resource.prlimit(server.proc.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.proc.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@pytest.fixture(params=["small disk", "limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tmpfs | Limit]:
    """A disk that can be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "pyfiledrop-test", str(folder)]
    if request.param == "limit":
        yield Limit(folder)
        return
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk may be mounted by root only")
    try:
        yield Tmpfs(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="the others cannot set another process's limits")
def test_full_disk(start_server: StartServer, disk: Tmpfs | Limit) -> None:
    """On a disk that fills up during an upload: 507 and when to come again, the upload is kept, and goes on."""
    server = start_server(folder=disk.folder)
    content = os.urandom(4 * PIECE)
    uuid, cookie = new_uuid(), new_uuid()

    def send(index: int) -> Any:
        return exchange(server, chunk_request(content, index, uuid=uuid, chunk_size=PIECE, cookie=cookie))

    def chunks() -> set[int]:
        answer = exchange(server, request("GET", f"/uploads/{uuid}", cookie=cookie))
        return indexes(answer.json()["upload"]["chunks"])

    assert send(0).status == 200
    disk.fill(server)
    for index in (3, 2):
        answer = send(index)
        assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (507, True), answer.text
        assert "full" in answer.json()["error"]
    assert chunks() == {0}
    disk.make_room(server)
    for index in (3, 2, 1):
        answer = send(index)
        assert answer.status == 200, answer.text
    (file,) = answer.json()["files"]
    assert file["done"]
    (stored,) = server.storage.glob(f"{uuid}_*")
    assert stored.read_bytes() == content


@pytest.mark.skipif(sys.platform != "linux", reason="needs a small disk")
def test_no_room_from_the_start(start_server: StartServer, disk: Tmpfs | Limit) -> None:
    """A file that cannot fit is refused at its first byte, with what it needs and what there is."""
    server = start_server("--max-size", "1000000000", folder=disk.folder)
    usage = shutil.disk_usage(disk.folder)
    fields = {"dztotalfilesize": str(usage.free + PIECE), "dztotalchunkcount": str(usage.free // PIECE + 2)}
    if isinstance(disk, Limit):  # a real disk of any size: the chunk grows with it
        fields = {"dztotalfilesize": str(usage.total), "dztotalchunkcount": "2", "dzchunksize": str(usage.total - 1)}
    answer = exchange(server, chunk_request(b"x", uuid=new_uuid(), chunk_size=PIECE, changes=fields, data=b"x" * 100))
    assert answer.status == 507 and "needs" in answer.json()["error"], answer.text
    assert os.listdir(server.chunks) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs a small disk")
def test_row_35_free_space_counts_what_is_still_to_come(start_server: StartServer, disk: Tmpfs | Limit) -> None:
    """Two unfinished uploads that do not fit beside each other are not both taken in, though the disk is empty yet."""
    if isinstance(disk, Limit):
        return  # which leaves the disk as large as it is
    server = start_server(folder=disk.folder)
    content = os.urandom(9 * PIECE)  # of 16 that the disk has, less what the record takes
    first, second = new_uuid(), new_uuid()
    answers = [
        exchange(server, chunk_request(content, index, uuid=uuid, chunk_size=PIECE))
        for uuid, index in ((first, 0), (second, 0), (first, 1))
    ]
    assert [answer.status for answer in answers] == [200, 507, 200]
    assert answers[1].headers["Retry-After"]


@pytest.mark.skipif(sys.platform != "linux", reason="the others cannot set another process's limits")
def test_too_many_open_files(start_server: StartServer) -> None:
    """A server that has run out of descriptors says 503, and recovers by itself."""
    import resource

    server = start_server()
    content, uuid = b"x" * 300, new_uuid()

    def chunk(index: int) -> bytes:
        return chunk_request(content, index, uuid=uuid, chunk_size=100)

    def limit(soft: int) -> None:
        _, hard = resource.prlimit(server.proc.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.proc.pid, resource.RLIMIT_NOFILE, (soft, hard))

    with Connection(server) as connection:
        connection.send(chunk(0))
        assert connection.receive().status == 200
        limit(3)
        connection.send(chunk(1))
        answer = connection.receive()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        with Connection(server) as waiting:
            waiting.send(chunk(1))
            limit(1024)
            assert waiting.receive().status == 200
    assert exchange(server, chunk(2)).json()["files"][0]["done"]
