"""What the tests of the store share: files to send, folders to keep them in, and what must hold at any time.

`System` stands between the store and the system, for tests that look at each call the store makes, or let it fail.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import sqlite3
import stat
import threading
import uuid as uuids
from collections import namedtuple
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pyfiledrop
from pyfiledrop import Chunk, Store, Upload, Writer, open_store

RECORD = ".pyfiledrop.sqlite3"
ALICE, BOB = "alice's drop", "bob's drop"


def new_uuid() -> str:
    return str(uuids.uuid4())


def open_descriptors() -> int:
    """How many descriptors this process has open. On every system: each number is tried."""

    def is_open(number: int) -> bool:
        with contextlib.suppress(OSError):
            os.fstat(number)
            return True
        return False

    count = sum(map(is_open, range(1024)))
    assert count > 2, "there must be at least those of the program itself"
    return count


@dataclass(frozen=True)
class File:
    """A file as a client has it, and how it cuts it."""

    content: bytes
    chunk_size: int = 4
    name: str = "file.bin"
    owner: str | None = ALICE
    uuid: str = field(default_factory=new_uuid)

    @property
    def count(self) -> int:
        return max(1, math.ceil(len(self.content) / self.chunk_size))

    @property
    def stored(self) -> str:
        """Its name in storage."""
        return f"{self.uuid}_{pyfiledrop.safe_name(self.name)}"

    def chunk(self, index: int) -> Chunk:
        return Chunk(self.uuid, index, self.count, self.chunk_size, len(self.content))

    def piece(self, index: int) -> bytes:
        return self.content[index * self.chunk_size : (index + 1) * self.chunk_size]

    def begin(self, store: Store, index: int) -> Writer:
        return store.begin(self.owner, self.chunk(index), self.name)

    def send(self, store: Store, *indexes: int) -> Upload:
        """Send these chunks, or all, as the body's reader does; returns what the store says of the last."""
        for index in indexes or range(self.count):
            with self.begin(store, index) as writer:
                writer.write(self.piece(index))
                upload = store.merge(writer)
        return upload

    def announced(self, store: Store, modified: int | None = None) -> File:
        """This file under the UUID with which POST /uploads began it."""
        upload, _ = store.announce(self.owner, self.name, len(self.content), modified, self.chunk_size)
        return replace(self, uuid=upload.uuid)

    def pieces(self, numbers: range) -> bytes:
        """The bytes of a run of chunks."""
        return self.content[numbers.start * self.chunk_size : numbers.stop * self.chunk_size]

    def begin_run(self, store: Store, numbers: range) -> Writer:
        return store.begin_run(self.owner, self.uuid, numbers.start, len(self.pieces(numbers)))

    def run(self, store: Store, numbers: range) -> Upload:
        """Send these chunks in one request; returns what the store says."""
        with self.begin_run(store, numbers) as writer:
            writer.write(self.pieces(numbers))
            return store.merge(writer)

    def begin_filled(self, store: Store, index: int) -> Writer:
        """A writer that has all its bytes and waits for its merge."""
        writer = self.begin(store, index)
        writer.write(self.piece(index))
        return writer


class Folders:
    """A storage and a chunks folder, and the store that was opened on them last."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage, self.chunks = root / "storage", root / "chunks"
        self.store: Store | None = None

    def open(self, **options: Any) -> Store:
        """The store, closed first if it was open."""
        self.close()
        self.store = open_store(self.storage, self.chunks, **options)
        return self.store

    def close(self) -> None:
        if self.store is not None:
            store, self.store = self.store, None
            store.close()

    def after_crash(self) -> Folders:
        """Other folders that hold what would be left if the process were killed now."""
        return self.copy_to(self.root.with_name(new_uuid()))

    def copy_to(self, root: Path) -> Folders:
        """The same, elsewhere."""
        copy_tree(self.root, root)
        return Folders(root)

    def files(self) -> set[str]:
        """What stands in storage beside the record."""
        return {name for name in os.listdir(self.storage) if not name.startswith(RECORD)}

    def unfinished(self) -> set[str]:
        return set(os.listdir(self.chunks))

    def data(self, file: File) -> Path:
        return self.chunks / file.uuid / "data"


def copy_tree(source: Path, target: Path) -> None:
    """As `cp -a`: several names of one file stay names of one file."""
    copies: dict[int, Path] = {}
    for folder, _, names in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True)
        for name in names:
            path, copy = Path(folder, name), there / name
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                os.symlink(os.readlink(path), copy)
            elif status.st_ino in copies:
                os.link(copies[status.st_ino], copy)
            else:
                shutil.copyfile(path, copy)
                copies[status.st_ino] = copy


def indexes(ranges: Iterable[list[int]]) -> set[int]:
    """[[0, 2], [5, 5]] -> 0 1 2 5"""
    return {index for low, high in ranges for index in range(low, high + 1)}


def chunks_in(store: Store, file: File) -> set[int]:
    """The chunks that are in; none when the store does not know the file."""
    try:
        upload = store.upload(file.owner, file.uuid)
    except pyfiledrop.NotFound:
        return set()
    return indexes(store.chunks_in(upload))


def is_done(store: Store, file: File) -> bool:
    try:
        return store.upload(file.owner, file.uuid).stored is not None
    except pyfiledrop.NotFound:
        return False


def check_whole(folders: Folders, files: Iterable[File]) -> None:
    """In storage stands nothing but the record and whole files."""
    contents = {file.stored: file.content for file in files}
    for name in folders.files():
        # A whole file gets its UUID from the store, and the sample has none.
        expected = contents.get(name, contents.get(name[36:]))
        assert expected is not None, f"{name} has no business in storage"
        assert (folders.storage / name).read_bytes() == expected, f"{name} in storage is not what was sent"


def check_promise(folders: Folders, store: Store, acknowledged: Mapping[File, set[int]], done: Iterable[File]) -> None:
    """Every acknowledged chunk counts and has its bytes, every file reported done is whole, and nothing lies about."""
    check_whole(folders, acknowledged)
    for file in done:
        assert is_done(store, file), f"{file.stored} was reported done and is not"
        assert file.stored in folders.files(), f"{file.stored} was reported done and is not in storage"
        assert store.upload(file.owner, file.uuid).owner == file.owner, f"{file.stored} is no longer its owner's"
    for file, numbers in acknowledged.items():
        there = chunks_in(store, file)
        assert numbers <= there, f"acknowledged and lost: chunks {sorted(numbers - there)} of {file.stored}"
        if is_done(store, file):
            assert file.stored in folders.files(), f"{file.stored} is on record as done and not in storage"
            continue
        data = folders.data(file).read_bytes() if there else b""
        for index in there:
            at = index * file.chunk_size
            assert data[at : at + len(file.piece(index))] == file.piece(index), f"chunk {index} of {file.stored}"
    unfinished = {upload.uuid for owner in (ALICE, BOB) for upload in store.uploads(owner) if not upload.stored}
    assert folders.unfinished() <= unfinished, "something was left in chunks"


def send_missing(store: Store, file: File) -> None:
    """As the page does: ask what is in, send the rest, and once more if a disk that failed took some of it."""
    for _ in range(3):
        missing = set(range(file.count)) - chunks_in(store, file)
        if missing:
            file.send(store, *sorted(missing))
    assert not missing
    assert is_done(store, file), f"all of {file.stored} was sent, and it is not done"


def finish(folders: Folders, store: Store, files: Iterable[File]) -> None:
    """Send what is missing of these files; then they must be whole in storage and nowhere else."""
    for file in files:
        send_missing(store, file)
        assert (folders.storage / file.stored).read_bytes() == file.content
        assert file.uuid not in folders.unfinished(), f"data of {file.stored} was left in chunks"


# Between the store and the system


Usage = namedtuple("Usage", "total used free")


def set_free(monkeypatch: pytest.MonkeyPatch, free: Callable[[Path], int]) -> None:
    """Let each folder's disk have so many bytes free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, free(Path(path))))


def patch_sync(monkeypatch: pytest.MonkeyPatch, sync: Callable[[int], None]) -> None:
    """Let all that is brought to the disk go through this function."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, sync, raising=False)


def play_disks(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Let the system refuse what it does between "two disks", or where there are "no links"; or nothing."""
    link = os.link

    def refuse(source: Any, target: Any, **names: Any) -> None:
        number = errno.EPERM if kind == "no links" else errno.EXDEV
        raise OSError(number, os.strerror(number))

    if kind == "no links":
        monkeypatch.setattr(os, "link", refuse)
    if kind == "two disks":

        def link_within(source: Any, *args: Any, **names: Any) -> None:
            (refuse if os.path.basename(source) == "data" else link)(source, *args, **names)

        monkeypatch.setattr(os, "link", link_within)
        monkeypatch.setattr(os, "replace", refuse)  # by which the start finds it out


def play_two_disks(monkeypatch: pytest.MonkeyPatch, chunks: Path) -> None:
    """Names below chunks cannot be linked or renamed to elsewhere, and it says it is another device."""
    link, rename, stat = os.link, os.rename, os.stat

    def below(path: Any) -> bool:
        return Path(path).is_relative_to(chunks)

    def refuse(real: Callable[..., Any]) -> Callable[..., Any]:
        def moved(source: Any, target: Any, **names: Any) -> Any:
            if below(source) != below(target):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            return real(source, target, **names)

        return moved

    def other(path: Any, *args: Any, **names: Any) -> os.stat_result:
        status = stat(path, *args, **names)
        if isinstance(path, (str, os.PathLike)) and below(path):
            return os.stat_result((*status[:2], status.st_dev + 1, *status[3:]))
        return status

    monkeypatch.setattr(os, "link", refuse(link))
    monkeypatch.setattr(os, "rename", refuse(rename))
    monkeypatch.setattr(os, "replace", refuse(os.replace))
    monkeypatch.setattr(os, "stat", other)


class Watcher:
    """Is told of each call: before it, when it may raise in its place, and after it."""

    def before(self, name: str, args: tuple[Any, ...]) -> None: ...

    def after(self, name: str, args: tuple[Any, ...], result: Any) -> None: ...


class Cache(Watcher):
    """Knows what is in files but not on the disk: which bytes, and which names in storage."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.unsynced: dict[int, list[tuple[int, int]]] = {}  # inode -> offset and length of what was written
        self.names: set[str] = set()  # in storage, on the disk
        self.unlinked: dict[str, bytes] = {}  # from storage, but not on the disk
        self.opened = -1

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        path = Path(str(args[0])) if args else Path()
        if name == "unlink" and path.parent == self.folders.storage and path.exists():
            self.unlinked[path.name] = path.read_bytes()

    def after(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        if name == "pwrite":
            fd, _, offset = args
            self.unsynced.setdefault(os.fstat(fd).st_ino, []).append((offset, result))
        elif name == "write":  # of a copy
            status = os.fstat(self.opened)
            self.unsynced[status.st_ino] = [(0, status.st_size)]
        elif name == "open":
            self.opened = result if isinstance(result, int) else result.fileno()
            if isinstance(args[1], int) and args[1] & os.O_CREAT:  # an inode may be a new file's
                self.unsynced.pop(os.fstat(self.opened).st_ino, None)
        elif name == "fsync":
            status = os.fstat(args[0])
            self.unsynced.pop(status.st_ino, None)
            if os.path.samestat(status, os.stat(self.folders.storage)):
                self.names = self.folders.files()
                self.unlinked.clear()
            if os.path.samestat(status, os.stat(self.folders.storage / f"{RECORD}-wal")):
                self.record_synced()

    def record_synced(self) -> None:
        """All that was recorded until now is on the disk."""

    def not_on_disk(self, folder: Path) -> dict[Path, list[tuple[int, int]]]:
        """Where below this folder bytes are that the disk does not have."""
        paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return {path: self.unsynced[path.stat().st_ino] for path in paths if path.stat().st_ino in self.unsynced}


def fill_with_zeros(path: Path, ranges: Iterable[tuple[int, int]]) -> None:
    """What a file has where the disk never got the bytes."""
    with path.open("r+b") as file:
        for offset, length in ranges:
            file.seek(offset)
            file.write(bytes(length))


class System:
    """Every call by which the store changes the disk or learns of it, and every statement it gives to SQLite.

    The disk is never really waited for: who wants to know what is on it asks the watcher.
    """

    CALLS = (
        "open", "close", "dup", "fsync", "link", "rename", "replace", "unlink", "mkdir", "rmdir", "fstat", "lstat",
        "listdir", "scandir", "splice",
    )  # fmt: skip

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in self.CALLS if hasattr(os, name)}
        self.real |= {"pwrite": pyfiledrop.pwrite, "statvfs": shutil.disk_usage}
        self._watcher: Watcher | None = None
        self._thread = 0
        for name in self.CALLS:
            if name in self.real:
                real = self.real[name] if name != "fsync" else lambda fd: None
                monkeypatch.setattr(os, name, self._wrapped(name, real))
        if hasattr(os, "fdatasync"):
            monkeypatch.setattr(os, "fdatasync", os.fsync)
        monkeypatch.setattr(pyfiledrop, "pwrite", self._wrapped("pwrite", pyfiledrop.pwrite))
        monkeypatch.setattr(shutil, "disk_usage", self._wrapped("statvfs", shutil.disk_usage))
        monkeypatch.setattr(pyfiledrop, "open", self._open_file, raising=False)
        connect, system = sqlite3.connect, self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                word = sql.split()[0] if sql.split() else ""
                if sql.startswith("PRAGMA synchronous"):
                    return super().execute("PRAGMA synchronous = OFF")
                if word in ("PRAGMA", "ROLLBACK", ""):  # which ask nothing of the disk
                    return super().execute(sql, *args)
                cursor: sqlite3.Cursor = system.call(f"sqlite {word}", super().execute, (sql, *args))
                return cursor

            def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
                cursor: sqlite3.Cursor = system.call(f"sqlite {sql.split()[0]}", super().executemany, (sql, *args))
                return cursor

        monkeypatch.setattr(sqlite3, "connect", lambda *args, **names: connect(*args, **names, factory=Connection))

    @contextlib.contextmanager
    def watched(self, watcher: Watcher | None) -> Iterator[None]:
        """Tell the watcher of the calls that this thread makes."""
        before = self._watcher, self._thread
        self._watcher, self._thread = watcher, threading.get_ident()
        try:
            yield
        finally:
            self._watcher, self._thread = before

    def call(self, name: str, real: Callable[..., Any], args: tuple[Any, ...], names: Mapping[str, Any] = {}) -> Any:
        watcher = self._watcher
        if watcher is None or threading.get_ident() != self._thread:
            return real(*args, **names)
        with self.watched(None):
            watcher.before(name, args)
        result = real(*args, **names)
        with self.watched(None):
            watcher.after(name, args, result)
        return result

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **names: self.call(name, real, args, names)

    def _open_file(self, path: Any, mode: str = "r", **how: Any) -> Any:
        file = self.call("open", open, (path, mode), how)
        return _File(self, file) if "w" in mode else file


class _File:
    """An open file whose writes are calls too."""

    def __init__(self, system: System, file: Any) -> None:
        self._system, self._file = system, file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        """Not left in a buffer, so that the disk has what was written when somebody looks."""
        count: int = self._system.call("write", self._file.write, (data,))
        self._file.flush()
        return count


# What a day brings


class Day:
    """Something of everything a store does. What was answered stands in `acknowledged`, `done` and `removing`."""

    def __init__(self) -> None:
        self.acknowledged: dict[File, set[int]] = {}
        self.done: set[File] = set()
        self.removing: set[File] = set()
        self.removed: set[File] = set()
        self.whole = File(b"whole", name="whole.bin", uuid="")
        self.files = [self.whole] + [File(bytes([65 + n]) * (9 - n % 2), name=f"{n}.bin") for n in range(9)]

    def send(self, store: Store, file: File, *numbers: int) -> None:
        for index in numbers:
            self.note(file, index, file.send(store, index))

    def note(self, file: File, index: int, upload: Upload) -> None:
        self.acknowledged.setdefault(file, set()).add(index)
        if upload.stored:
            self.done.add(file)

    def announce(self, store: Store, number: int) -> None:
        """From now on the file has the UUID that the store gives it."""
        self.files[number] = self.files[number].announced(store)

    def run(self, store: Store, file: File, length: int) -> None:
        """All chunks in one request, of which so many bytes come."""
        with file.begin_run(store, range(file.count)) as writer:
            writer.write(file.content[:length])
            if length == len(file.content):
                self.note_run(file, writer, store.merge(writer))
        for index in range(length // file.chunk_size):  # they are kept, whatever became of the rest
            self.acknowledged.setdefault(file, set()).add(index)

    def note_run(self, file: File, writer: Writer, upload: Upload) -> None:
        for index in writer.numbers:
            self.note(file, index, upload)

    def steps(self, store: Store) -> Iterator[Callable[[], object]]:
        """Each is what one request, or one round of the housekeeper, does."""
        _, one, two, _, four, _, six, seven, _, _ = self.files
        # First, for the cleaner takes whatever a fault left unfinished.
        yield lambda: self.send(store, six, 1)

        def clean() -> None:
            self.removing |= {six}
            store.clean(1e9)

        yield clean

        for index in (2, 0):
            yield partial(self.send, store, one, index)
        yield store.flush
        yield lambda: self.send(store, one, 0)  # again

        def take_over() -> None:
            with one.begin(store, 1) as earlier:
                earlier.write(b"X")
                self.send(store, one, 1)
                earlier.write(b"XXX")
                self.note(one, 1, store.merge(earlier))

        yield take_over
        yield lambda: self.send(store, one, 1)  # after it was done
        single = self.files[8] = File(b"single", chunk_size=100, name="single.bin")
        yield lambda: self.send(store, single, 0)

        def send_whole() -> None:
            with store.begin_whole(ALICE, self.whole.name, 100) as writer:
                writer.write(self.whole.content)
                store.end_file(writer)
                upload = store.merge(writer)
            whole = File(self.whole.content, max(1, upload.size), self.whole.name, uuid=upload.uuid)
            self.note(whole, 0, upload)

        yield send_whole
        yield partial(self.send, store, two, 0, 1, 2)
        yield partial(self.remove, store, two)
        yield partial(self.send, store, four, 1)
        yield partial(self.remove, store, four)
        # The same by runs: one that comes whole, and one that breaks off.
        for number, length in ((3, 9), (5, 6)):
            yield partial(self.announce, store, number)
            yield partial(self.run, store, self.files[number], length)
            yield partial(self.remove, store, self.files[number])
        yield partial(self.announce, store, 9)

        def take_over_from_a_run() -> None:
            file = self.files[9]
            with file.begin_run(store, range(3)) as earlier:
                earlier.write(file.content[:3])
                store.flush()
                earlier.write(file.content[3:5])
                upload = store.upload(ALICE, file.uuid)
                for index in indexes(store.chunks_in(upload)):
                    self.note(file, index, upload)
                earlier.write(file.content[5:8])
                with file.begin_run(store, range(1, 3)) as later:
                    earlier.write(b"X")
                    later.write(b"XXXX" + file.content[8:])
                    self.note_run(file, later, store.merge(later))
                self.note_run(file, earlier, store.merge(earlier))

        yield take_over_from_a_run

        def break_off() -> None:
            with seven.begin_filled(store, 0):
                pass

        yield break_off
        yield lambda: self.send(store, seven, 0)
        yield store.flush
        yield lambda: self.send(store, seven, 1)
        yield lambda: store.uploads(ALICE)
        yield lambda: store.upload(ALICE, seven.uuid).received
        yield lambda: store.open(one.uuid)[1].file.close()
        yield lambda: store.forget(BOB)
        yield store.flush

    def remove(self, store: Store, file: File) -> None:
        self.removing.add(file)
        store.remove(ALICE, file.uuid)
        self.removed.add(file)

    def copy(self) -> Day:
        """What was answered so far."""
        day = Day()
        day.files = list(self.files)
        day.acknowledged = {file: set(numbers) for file, numbers in self.acknowledged.items()}
        day.done, day.removing, day.removed = set(self.done), set(self.removing), set(self.removed)
        return day

    def check(self, folders: Folders, store: Store, asked_again: Collection[File] = ()) -> None:
        """The promise, to all but those who asked for the removal. Chunks of some files may be asked for again."""
        for file in self.files:
            self.acknowledged.setdefault(file, set())
        kept = {
            file: set() if file in self.removing or (file in asked_again and file not in self.done) else numbers
            for file, numbers in self.acknowledged.items()
        }
        check_promise(folders, store, kept, self.done - self.removing)
        for file in self.removed:
            assert file.stored not in folders.files(), f"{file.stored} was removed and is back"
            assert not is_done(store, file) and not chunks_in(store, file), f"{file.uuid} was removed and is on record"

    def finish(self, folders: Folders, store: Store) -> None:
        """Every upload can still be finished."""
        finish(folders, store, [file for file in self.files[1:] if file not in self.removing])
