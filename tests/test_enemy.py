"""Faults that were found by reading the store as an enemy: each test failed once."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from storing import ALICE, File, Folders, chunks_in, finish

import pyfiledrop
from pyfiledrop import Disk, DiskData, DiskFault, DiskPart, NoSpace, Record, Store, Unavailable, Upload, Writer

MIB = 1 << 20


def announce(store: Store, file: File) -> File:
    """The same file, as POST /uploads began it."""
    upload, _ = store.announce(file.owner, file.name, len(file.content), None, file.chunk_size)
    return File(file.content, file.chunk_size, file.name, file.owner, upload.uuid)


def begin_run(store: Store, file: File, first: int, last: int) -> Writer:
    count = len(file.content[first * file.chunk_size : (last + 1) * file.chunk_size])
    return store.begin_run(file.owner, file.uuid, first, count)


def fill(writer: Writer, file: File, chunks: int | None = None) -> Writer:
    """Give a run the bytes of its next chunks, or all."""
    begin, end = writer.numbers.start, writer.numbers.stop if chunks is None else writer.numbers.start + chunks
    writer.write(file.content[begin * file.chunk_size : end * file.chunk_size][writer.written :])
    return writer


def fail(*args: Any, **names: Any) -> Any:
    raise OSError(errno.EIO, "the disk failed")


def fail_publishing(patch: pytest.MonkeyPatch, meanwhile: Callable[[], object] = lambda: None) -> None:
    def publish(self: Disk, upload: Upload, status: os.stat_result) -> str:
        meanwhile()
        raise OSError(errno.EIO, "the disk failed")

    patch.setattr(Disk, "publish", publish)


def test_nobody_waits_for_a_file_that_is_published(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing may copy for minutes. Meanwhile others can ask what is in, and their chunks are synced."""
    store = folders.open()
    file, other = announce(store, File(b"aaaabbbb")), File(b"ccccdddd", name="other.bin")
    asked: list[Any] = []

    def ask() -> None:
        asked.append(store.upload(ALICE, file.uuid).received)
        asked.append(store.announce(ALICE, file.name, len(file.content), None, 4)[0].uuid)
        store.flush()
        asked.append(store.record.unsynced_chunks(store.upload(ALICE, other.uuid)))

    def publish(self: Disk, upload: Upload, status: os.stat_result) -> str:
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(10)
        return real(self, upload, status)

    real = Disk.publish
    with fill(begin_run(store, file, 0, 1), file) as writer:
        other.send(store, 0)
        monkeypatch.setattr(Disk, "publish", publish)
        store.merge(writer)
    assert asked == [4, file.uuid, []]


@pytest.mark.parametrize("who", ["asks", "flushes", "comes again"])
def test_chunks_that_were_lost_are_not_taken_again(folders: Folders, store: Store, who: str) -> None:
    """Publishing finds that somebody replaced the data. The run that wanted to publish it brings nothing more."""
    file = announce(store, File(b"aaaabbbbccccdddd"))
    with fill(begin_run(store, file, 0, 0), file) as first:
        store.merge(first)
    writer = fill(begin_run(store, file, 1, 3), file)
    folders.data(file).rename(folders.root / "moved")
    folders.data(file).write_bytes(b"X" * 16)
    with pytest.raises(DiskFault):
        store.merge(writer)
    match who:  # before its request comes to its end
        case "asks":
            store.upload(ALICE, file.uuid)
        case "flushes":
            store.flush()
        case "comes again":
            store.abandon(begin_run(store, file, 1, 2))
    store.abandon(writer)
    assert chunks_in(store, file) == set()
    file = announce(store, file)
    send_all(store, file)
    assert (folders.storage / file.stored).read_bytes() == file.content


def send_all(store: Store, file: File) -> None:
    for index in range(file.count):
        with fill(begin_run(store, file, index, index), file) as writer:
            store.merge(writer)


@pytest.mark.parametrize("who", ["asks", "comes again"])
def test_publishing_fails_after_chunks_came_in(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """All but the last chunk of a run are in when it could not be published, and are not taken twice."""
    file = announce(store, File(b"aaaabbbbcccc"))
    writer = fill(begin_run(store, file, 0, 2), file)
    with monkeypatch.context() as patch:
        fail_publishing(patch)
        with pytest.raises(DiskFault):
            store.merge(writer)
    if who == "asks":
        assert store.upload(ALICE, file.uuid).merged == 2
    else:
        with fill(begin_run(store, file, 0, 2), file) as again:
            store.merge(again)
    store.abandon(writer)
    finish(folders, store, [file])


def fail_recording(patch: pytest.MonkeyPatch) -> None:
    """Let no chunk be put on record, as on a disk that is full."""

    def add_chunks(self: Record, upload: Upload, numbers: list[int]) -> Upload:
        raise OSError(errno.ENOSPC, "full")

    patch.setattr(Record, "add_chunks", add_chunks)


def test_a_run_that_broke_off_on_a_full_disk_leaves_nothing(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its whole chunks cannot be put on record: so nothing of the upload is in, and its bytes make room again."""
    file = announce(store, File(b"aaaabbbb"))
    writer = fill(begin_run(store, file, 0, 1), file, 1)
    with monkeypatch.context() as patch:
        fail_recording(patch)
        with pytest.raises(NoSpace):
            store.abandon(writer)
    assert (folders.unfinished(), store.record.count, store._space.promises.missing) == (set(), 0, 0)
    assert store._lives == {}
    send_all(store, file)


def test_asking_is_answered_when_nothing_more_fits(folders: Folders) -> None:
    """A run brings more than all files may take. It is told so; who asks what is in gets an answer."""
    store = folders.open(max_total_bytes=MIB)
    file = announce(store, File(b"aaaabbbbcccc"))
    with fill(begin_run(store, file, 0, 0), file) as writer:
        store.merge(writer)
    with fill(begin_run(store, file, 1, 1), file) as writer:
        store._space._max_total_bytes = pyfiledrop.ENTRY_BYTES + 7
        assert store.upload(ALICE, file.uuid).received == 4
        assert store.announce(ALICE, file.name, 12, None, 4)[0].received == 4
        with pytest.raises(NoSpace):
            store.merge(writer)


@pytest.mark.parametrize("ends", ["merge", "abandon", "come again"])
def test_a_run_whose_descriptor_reports_an_error_at_its_end(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Some file systems report only then that bytes are lost: what was in of it already may be lost, too."""
    file = announce(store, File(b"aaaabbbbccccdddd"))
    writer = fill(begin_run(store, file, 0, 2), file, 2)
    assert store.upload(ALICE, file.uuid).merged == 2
    if ends == "merge":
        fill(writer, file)
    with monkeypatch.context() as patch:
        patch.setattr(DiskPart, "close", fail)
        with pytest.raises(DiskFault):
            match ends:
                case "merge":
                    store.merge(writer)
                case "abandon":
                    store.abandon(writer)
                case "come again":
                    begin_run(store, file, 2, 2)
    store.flush()
    assert chunks_in(store, file) == set()
    store.abandon(writer)
    finish(folders, store, [file])


def test_done_is_said_by_nobody_before_it_is_on_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is published and on record, but the record's disk fails. A second run is not told "done"."""
    file = announce(store, File(b"aaaabbbb"))
    with fill(begin_run(store, file, 1, 1), file) as second:
        store.upload(ALICE, file.uuid)  # so that it is in
        with fill(begin_run(store, file, 0, 0), file) as first, monkeypatch.context() as patch:
            patch.setattr(store.record, "make_durable", fail)
            with pytest.raises(DiskFault):
                store.merge(first)
            with pytest.raises(DiskFault):
                store.merge(second)
    assert store.upload(ALICE, file.uuid).stored == file.stored


def test_chunks_of_an_upload_that_is_finished_meanwhile(store: Store) -> None:
    """Between a run's merge and its answer another run makes the file whole. No chunk is asked for again."""
    file = announce(store, File(b"aaaabbbb"))
    with fill(begin_run(store, file, 0, 0), file) as writer:
        upload = store.merge(writer)
    with fill(begin_run(store, file, 1, 1), file) as writer:
        store.merge(writer)
    assert store.chunks_in(upload) == [[0, 1]]


def test_asked_for_while_its_first_chunk_makes_it_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload goes from the announced ones to the record. Whoever asks at that moment finds it."""
    file = announce(store, File(b"aaaa", chunk_size=4))
    real = Record.find

    def find(self: Record, uuid: str) -> Upload | None:
        found = real(self, uuid)
        with monkeypatch.context() as patch:
            patch.setattr(Record, "find", real)
            if found is None:
                send_all(store, file)
        return found

    monkeypatch.setattr(Record, "find", find)
    assert store.upload(ALICE, file.uuid).name == file.name


@pytest.mark.parametrize("anew", [False, True], ids=["moved away", "made anew"])
def test_a_finished_file_sent_again_while_storage_is_away(folders: Folders, store: Store, anew: bool) -> None:
    """It was not removed: its client is told to come again, and it is nowhere else put in place."""
    file = File(b"aaaabbbb")
    file.send(store)
    folders.storage.rename(folders.root / "moved")
    if anew:
        folders.storage.mkdir()
    with pytest.raises(Unavailable):
        file.begin(store, 0)
    if anew:
        assert os.listdir(folders.storage) == []
        folders.storage.rmdir()
    (folders.root / "moved").rename(folders.storage)
    assert file.send(store).stored


def test_data_with_a_second_name_does_not_keep_the_server_from_starting(folders: Folders) -> None:
    """As a backup by hard links leaves it: nobody knows who writes to it, so the upload begins anew."""
    file = File(b"aaaabbbbcccc")
    file.send(folders.open(), 0, 1)
    left = folders.after_crash()
    os.link(left.data(file), left.root / "backup")
    store = left.open()
    assert chunks_in(store, file) == set()
    finish(left, store, [file])
    left.close()


def test_what_an_attempt_could_not_remove_is_in_nobodys_way(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first run broke off, and the system did not let go of its data for a moment. The next one begins anew."""
    file = announce(store, File(b"aaaabbbb"))
    with monkeypatch.context() as patch:
        patch.setattr(pyfiledrop, "_unlink", fail)
        store.abandon(begin_run(store, file, 0, 0))
    assert folders.unfinished() == {file.uuid}
    send_all(store, file)
    assert folders.files() == {file.stored}


def test_what_synced_is_closed_before_others_may_publish(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows renames no file that is open, so a sync in the background lets go of it before publishing goes on."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    data = store._lives[file.uuid].data
    assert isinstance(data, DiskData)
    synced: set[int] = set()
    locked: list[bool] = []
    close = os.close

    def note(fd: int) -> None:
        if fd in synced:
            synced.remove(fd)
            locked.append(data._syncing.locked())
        close(fd)

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "sync_file", lambda self, fd: synced.add(fd))
        patch.setattr(os, "close", note)
        data.sync_later()()
    assert locked == [True]


def test_a_descriptor_that_reports_an_error_after_its_sync_stops_nobody(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's next sync does not wait for it."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    data = store._lives[file.uuid].data
    assert isinstance(data, DiskData)
    sync = data.sync_later()
    close = os.close

    def close_and_fail(fd: int) -> None:
        close(fd)
        raise OSError(errno.EIO, "the disk failed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close_and_fail)
        with pytest.raises(OSError):
            sync()
    assert not data._syncing.locked()
    finish(folders, store, [file])
