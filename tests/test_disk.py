"""The disk as an engine: what differs between systems, and what local users may put in the way."""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from storing import (
    File,
    Folders,
    check_promise,
    chunks_in,
    finish,
    play_two_disks,
    set_free,
)

import pyfiledrop
from pyfiledrop import (
    Conflict,
    Disk,
    DiskFault,
    NoSpace,
    StartError,
    Store,
)

MIB = 1 << 20
DAY = 24 * 3600.0


@pytest.fixture(params=["plain", "no link", "link refused", "links in storage", "no pwrite", "EXDEV", "another disk"])
def system(request: pytest.FixtureRequest, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Folders on each kind of system."""

    def refuse(number: int) -> Callable[..., None]:
        def refused(*args: Any, **names: Any) -> None:
            raise OSError(number, os.strerror(number))

        return refused

    match request.param:
        case "no link":
            monkeypatch.delattr(os, "link")
        case "link refused":
            monkeypatch.setattr(os, "link", refuse(errno.EPERM))
        case "links in storage":  # a file system that has them only within a folder
            link = os.link

            def within(source: Any, target: Any, **names: Any) -> None:
                is_within = Path(source).parent == Path(target).parent
                (link if is_within else refuse(errno.EXDEV))(source, target, **names)

            monkeypatch.setattr(os, "link", within)
        case "no pwrite":
            monkeypatch.setattr(pyfiledrop, "pwrite", pyfiledrop._pwrite_by_seek)
        case "EXDEV":
            folders.chunks = folders.root / "other disk" / "chunks"
            play_two_disks(monkeypatch, folders.chunks.parent)
        case "another disk":
            folders.chunks = request.getfixturevalue("other_disk") / "chunks"
    return folders


def test_every_system(system: Folders) -> None:
    """On each kind of system files come in whole, in any order, from many threads, and no copy stays behind."""
    store = system.open()
    files = [File(random.Random(n).randbytes(n * 111), chunk_size=100) for n in range(6)]
    jobs = [(file, index) for file in files for index in range(file.count)] * 2
    random.Random(1).shuffle(jobs)
    with ThreadPoolExecutor(8) as pool:
        for answer in [pool.submit(file.send, store, index) for file, index in jobs]:
            answer.result(30)
    assert system.files() == {file.stored for file in files}
    assert (store.record.count, store.record.held) == (len(files), sum(len(file.content) for file in files))
    check_promise(system, store, {file: set(range(file.count)) for file in files}, files)


def test_takeover_on_every_system(system: Folders) -> None:
    """On each kind of system the earlier of two writers cannot touch the file again."""
    store = system.open()
    file = File(b"aaaabbbb")
    file.send(store, 0)
    earlier = file.begin(store, 1)
    earlier.write(b"X")
    file.send(store, 1)
    earlier.write(b"XXX")
    assert store.merge(earlier).stored
    finish(system, store, [file])


def test_taken_name_on_every_system(system: Folders) -> None:
    """On no kind of system is a foreign file in storage overwritten."""
    store = system.open()
    file = File(b"aaaabbbb")
    file.send(store, 0)
    (system.storage / file.stored).write_bytes(b"somebody's")
    with pytest.raises(Conflict):
        file.send(store, 1)
    assert (system.storage / file.stored).read_bytes() == b"somebody's"
    assert system.files() == {file.stored}, "no half-made copy stays"
    (system.storage / file.stored).unlink()
    finish(system, store, [file])


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_taken_by_a_dead_link(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a finished file is renamed, a link that leads nowhere keeps its name, too."""
    monkeypatch.delattr(os, "link")
    store = folders.open()
    file = File(b"aaaabbbb")
    file.send(store, 0)
    (folders.storage / file.stored).symlink_to(folders.root / "nothing")
    with pytest.raises(Conflict):
        file.send(store, 1)
    assert (folders.storage / file.stored).is_symlink()


@pytest.mark.skipif(os.name == "nt", reason="there an open file cannot be replaced")
@pytest.mark.parametrize("kind", ["plain", "no link", "EXDEV"])
@pytest.mark.parametrize("chunk_size", [4, 100], ids=["in chunks", "in storage"])
def test_swapped_before_publishing(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, kind: str, chunk_size: int
) -> None:
    """Another file that somebody put in the place of the one that was written is never published."""
    if kind == "no link":
        monkeypatch.delattr(os, "link")
    if kind == "EXDEV":
        folders.chunks = folders.root / "other disk" / "chunks"
        play_two_disks(monkeypatch, folders.chunks.parent)
    store = folders.open()
    file = File(b"aaaabbbb", chunk_size)
    for index in range(file.count - 1):
        file.send(store, index)
    with file.begin_filled(store, file.count - 1) as writer:
        data = folders.data(file) if file.count > 1 else folders.storage / f".{file.uuid}.part"
        data.unlink()
        data.write_bytes(b"XXXXXXXX")
        with pytest.raises(DiskFault):
            store.merge(writer)
    assert folders.files() == set()
    finish(folders, store, [file])


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_swapped_for_a_link_where_writers_open_the_file(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each writer opens the file for itself it does not follow a link that somebody put in its place."""
    monkeypatch.setattr(pyfiledrop, "pwrite", pyfiledrop._pwrite_by_seek)
    store = folders.open()
    file, outside = File(b"aaaabbbbcccc"), folders.root / "outside"
    outside.write_bytes(b"somebody's")
    with file.begin(store, 0) as writer:
        writer.write(b"aa")
        folders.data(file).unlink()
        folders.data(file).symlink_to(outside)
        with pytest.raises(DiskFault):
            file.begin(store, 1)
    assert outside.read_bytes() == b"somebody's"


@pytest.mark.parametrize("moved", [[0], [1, 5, 94], [100]], ids=["refused", "short", "all at once"])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux splices")
def test_splice(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch, moved: list[int]) -> None:
    """Bytes that wait in a pipe get to their place, in however many steps the system moves them, or by hand."""
    steps = iter(moved)
    real = os.splice

    def stepwise(source: int, target: int, count: int, **names: Any) -> int:
        step = next(steps, count)
        if not step:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(source, target, min(step, count), **names)

    monkeypatch.setattr(os, "splice", stepwise)
    file = File(random.Random(0).randbytes(200), chunk_size=100)
    file.send(store, 0)
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, file.piece(1))
        with file.begin(store, 1) as writer:
            writer.splice(read_end, 100, lambda: 0)
            store.merge(writer)
        with file.begin(store, 1) as again:  # done: taken out of the pipe, and let fall
            os.write(write_end, b"X" * 100)
            again.splice(read_end, 100, lambda: 0)
            assert store.merge(again).stored
    finally:
        os.close(read_end)
        os.close(write_end)
    finish(folders, store, [file])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux splices")
def test_splice_goes_on_for_a_while(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer empties the pipe again as long as it is refilled, up to a limit; meanwhile no other one splices."""
    monkeypatch.setattr(pyfiledrop, "PIPES_AT_A_TIME", 4)
    file = File(random.Random(0).randbytes(200), chunk_size=100)
    read_end, write_end = os.pipe()
    pieces = [file.piece(1)[place : place + 20] for place in range(0, 100, 20)]

    def refill() -> int:
        assert not other._splicing.acquire(blocking=False)
        return os.write(write_end, pieces.pop(0))

    try:
        with file.begin(store, 0) as other, file.begin(store, 1) as writer:
            writer.splice(read_end, refill_first := os.write(write_end, pieces.pop(0)), refill)
            assert refill_first == 20 and writer.written == 80 and len(pieces) == 1
            asked = []
            writer.splice(read_end, os.write(write_end, pieces.pop(0)), lambda: asked.append(1) or 0)
            assert len(asked) == 1, "who has nothing now is not asked again"
            store.merge(writer)
            other.write(file.piece(0))
            store.merge(other)
    finally:
        os.close(read_end)
        os.close(write_end)
    finish(folders, store, [file])


def test_boot_mark_without_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """On systems without a boot id the mark is the time of the start: the same while the machine runs."""

    def missing(*args: Any, **names: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    clock = [1_000_000.0, 500.0]
    monkeypatch.setattr(pyfiledrop.time, "time", lambda: clock[0])
    monkeypatch.setattr(pyfiledrop.time, "monotonic", lambda: clock[1])
    first = pyfiledrop.boot_mark()
    clock[:] = [1_009_000.0, 9_500.0]
    assert pyfiledrop.boot_mark() == first
    clock[:] = [1_010_000.0, 10.0]
    assert pyfiledrop.boot_mark() != first


@pytest.mark.skipif(sys.platform != "linux", reason="the others tell nothing of their mounts")
def test_mount_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Linux shows of a mounted disk in /sys, else the mount's unique number, and nothing where it has none."""
    known = {"/sys/fs/xfs/vda1": 5}
    real = os.stat

    class Status:
        def __init__(self, inode: int) -> None:
            self.st_ino = inode

    def status(path: Any, *args: Any, **names: Any) -> Any:
        if str(path).startswith("/sys/fs/"):
            if path in known:
                return Status(known[path])
            raise FileNotFoundError
        return real(path, *args, **names)

    granted = 0x4FFF

    class Library:
        def statx(self, folder: int, path: bytes, flags: int, mask: int, answer: Any) -> int:
            assert (folder, path, flags, mask) == (-100, b"/", 0, 0x4000)
            struct.pack_into("I", answer, 0, granted)
            struct.pack_into("Q", answer, 144, 77)
            return 0

    monkeypatch.setattr(os, "stat", status)
    monkeypatch.setattr(os, "listdir", lambda path: {"/sys/fs": ["cgroup", "ext4", "xfs"]}[path])
    monkeypatch.setattr(os.path, "realpath", lambda path: "/sys/devices/pci0/vda/vda1")
    monkeypatch.setattr("ctypes.CDLL", lambda name: Library())
    assert pyfiledrop.mount_mark("/") == "xfs 5"
    known.clear()
    assert pyfiledrop.mount_mark("/") == "mount 77"
    granted = 0x0FFF  # before Linux 6.8
    assert pyfiledrop.mount_mark("/") == ""
    monkeypatch.setattr("ctypes.CDLL", lambda name: None)
    assert pyfiledrop.mount_mark("/") == ""


def test_name_that_the_system_cannot_find_a_way_to(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publishing that fails for a reason of the target's costs no chunk."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    with monkeypatch.context() as patch:

        def fail(source: Any, target: Any, **names: Any) -> None:
            raise FileNotFoundError(errno.ENOENT, "too long", target)

        patch.setattr(os, "link", fail)
        with pytest.raises(DiskFault):
            file.send(store, 1)
    assert chunks_in(store, file) == {0}
    assert file.send(store, 1).stored


def test_new_folder_is_on_the_disk_with_its_first_chunk(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own name too, before a chunk counts as synced, and once; the same when somebody tidied it away meanwhile."""
    file = File(b"aaaabbbbccccdddd")
    synced: list[Path] = []
    monkeypatch.setattr(Disk, "_sync_folder", lambda self, folder: synced.append(Path(folder)))

    def synced_with(index: int) -> list[Path]:
        synced.clear()
        file.send(store, index)
        store.flush()
        return synced

    names = [folders.chunks / file.uuid, folders.chunks]
    with file.begin(store, 3):  # so that the store has this upload in mind all the time
        assert synced_with(0) == names
        assert synced_with(1) == []
    shutil.rmtree(folders.chunks / file.uuid)
    assert synced_with(2) == names


def test_both_folders_in_one(folders: Folders) -> None:
    """Storage and chunks must not be the same folder."""
    folders.chunks = folders.storage
    with pytest.raises(StartError, match="two folders"):
        folders.open()


@pytest.mark.parametrize("which", ["storage", "chunks"])
@pytest.mark.parametrize("state", ["is a file", "is below a file", "cannot be written"])
def test_unusable_folder(folders: Folders, which: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be used is named in one sentence at start."""
    folders.root.mkdir()
    path: Path = getattr(folders, which)
    match state:
        case "is a file":
            path.write_bytes(b"")
        case "is below a file":
            (folders.root / "file").write_bytes(b"")
            path = folders.root / "file" / "below"
            setattr(folders, which, path)
        case "cannot be written":  # root may write anywhere, so the system's refusal is played
            path.mkdir()
            real = Path.touch

            def touch(self: Path, *args: Any, **names: Any) -> None:
                if self.parent == path:
                    raise PermissionError(errno.EACCES, "Permission denied", str(self))
                real(self, *args, **names)

            monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(StartError) as caught:
        folders.open()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes there")
def test_folder_became_a_pipe(folders: Folders, store: Store) -> None:
    """Nobody waits for it: the housekeeper goes on, and the store ends."""
    file, other = File(b"aaaabbbb"), File(b"ccccdddd")
    for each in (file, other):
        each.send(store, 0)
    shutil.rmtree(folders.chunks / file.uuid)
    os.mkfifo(folders.chunks / file.uuid)
    store.flush()
    assert store.record._db.execute("SELECT count(*) FROM chunks WHERE synced").fetchone() == (1,)


@pytest.mark.parametrize("elsewhere", ["storage", "chunks"])
def test_space_on_two_disks(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, other_disk: Path, elsewhere: str
) -> None:
    """Each of two disks must have room: a file that fits only one of them is refused."""
    setattr(folders, elsewhere, other_disk / elsewhere)
    store = folders.open()
    for tight in (folders.storage, folders.chunks):
        set_free(monkeypatch, lambda path: 5 if path == tight else 1000)  # noqa: B023 - called before the next round
        with pytest.raises(NoSpace):
            File(b"aaaabbbb").begin(store, 0)
