"""The store by itself: what it promises to those who bring chunks, in whatever order and however many at once."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from storing import (
    ALICE,
    BOB,
    RECORD,
    File,
    Folders,
    check_promise,
    chunks_in,
    finish,
    is_done,
    new_uuid,
    open_descriptors,
    set_free,
)

import pyfiledrop
from pyfiledrop import (
    Conflict,
    Disk,
    DiskFault,
    Gone,
    NoSpace,
    NotFound,
    Record,
    StartError,
    Store,
    Unavailable,
    Upload,
    Writer,
)

MIB = 1 << 20
DAY = 24 * 3600.0

# Taking a file in


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 11])
def test_every_size(folders: Folders, store: Store, size: int) -> None:
    """A file of any size, the empty one too, is whole in storage after its last chunk and nowhere else."""
    file = File(bytes(range(size)))
    upload = file.send(store)
    assert (upload.stored, upload.merged, upload.received) == (file.stored, file.count, size)
    assert folders.files() == {file.stored}
    assert (folders.storage / file.stored).read_bytes() == file.content
    assert folders.unfinished() == set()


def test_unfinished_is_not_in_storage(folders: Folders, store: Store) -> None:
    """Until its last chunk is merged a file has no name in storage."""
    file = File(b"aaaabbbbcc")
    for index in (2, 0):
        assert file.send(store, index).stored is None
        assert folders.files() == set()
    assert file.send(store, 1).stored == file.stored


def test_written_is_not_in(store: Store) -> None:
    """Bytes that were written count for nothing before their merge."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    with file.begin_filled(store, 1):
        assert chunks_in(store, file) == {0}
    assert chunks_in(store, file) == {0}


def test_received_counts_merged_bytes(store: Store) -> None:
    """Received is the sum of the merged chunks' bytes, whether or not the short last one is among them."""
    file = File(b"aaaabbbbc")
    assert file.send(store, 2).received == 1
    assert file.send(store, 0).received == 5
    assert file.send(store, 1).received == 9


@pytest.mark.parametrize(("written", "fits"), [(b"aaa", True), (b"aaaa", True), (b"aaaaa", False)])
def test_too_long(store: Store, written: bytes, fits: bool) -> None:
    """A writer takes as many bytes as its chunk has and not one more."""
    with File(b"aaaabbbb").begin(store, 0) as writer:
        if fits:
            writer.write(written)
        else:
            with pytest.raises(pyfiledrop.BadRequest):
                writer.write(written)


@pytest.mark.parametrize("written", [b"", b"b", b"bbb"])
def test_too_short(store: Store, written: bytes) -> None:
    """A chunk of which bytes are missing is refused, and counts as never sent."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    with file.begin(store, 1) as writer:
        writer.write(written)
        with pytest.raises(pyfiledrop.BadRequest):
            store.merge(writer)
    assert chunks_in(store, file) == {0}
    assert file.send(store, 1).stored


def test_junk_of_a_broken_chunk_is_overwritten(folders: Folders, store: Store) -> None:
    """What a chunk that broke off had written is not in the file."""
    file = File(b"aaaabbbbcc")
    file.send(store, 0)
    with file.begin(store, 1) as writer:
        writer.write(b"XXX")
    finish(folders, store, [file])


def test_abandoned_first_chunk(folders: Folders, store: Store) -> None:
    """An upload of which nothing ever got in leaves no trace: no record, no folder, no space held."""
    file = File(b"aaaabbbb")
    with file.begin(store, 0) as writer:
        writer.write(b"aa")
    assert folders.unfinished() == set()
    with pytest.raises(NotFound):
        store.upload(ALICE, file.uuid)


def test_abandoned_beside_another(folders: Folders, store: Store) -> None:
    """An upload is not forgotten when its first chunk breaks off while another one is on its way."""
    file = File(b"aaaabbbb")
    other = file.begin_filled(store, 1)
    with file.begin(store, 0):
        pass
    with other:
        store.merge(other)
    assert chunks_in(store, file) == {1}
    finish(folders, store, [file])


@pytest.mark.parametrize(
    "changed",
    [
        {"content": b"aaaabbbbc"},
        {"content": b"aaaabbbbcccc"},
        {"chunk_size": 5},
        {"name": "other.bin"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_disagreement(store: Store, changed: dict[str, Any]) -> None:
    """A chunk that tells another size, chunk size or name than the upload's first is refused; the upload goes on."""
    file = File(b"aaaabbbbcc")
    file.send(store, 0)
    other = File(**{"content": file.content, "uuid": file.uuid, **changed})
    with pytest.raises(Conflict):
        other.begin(store, 1)
    assert chunks_in(store, file) == {0}
    assert file.send(store, 1, 2).stored


def test_two_files_of_one_name(folders: Folders, store: Store) -> None:
    """Two uploads of one name at once become two files."""
    one, two = File(b"aaaabbbb"), File(b"ccccdddd")
    for index in (0, 1):
        one.send(store, index)
        two.send(store, index)
    assert folders.files() == {one.stored, two.stored}
    check_promise(folders, store, {one: {0, 1}, two: {0, 1}}, [one, two])


def test_name_is_made_harmless(folders: Folders, store: Store) -> None:
    """The file in storage has the safe name; the record keeps the one to be shown."""
    file = File(b"x", name="../../etc/отчёт?.pdf")
    upload = file.send(store)
    assert folders.files() == {f"{file.uuid}_отчёт_.pdf"}
    assert upload.name == file.name


# Whole files


def test_whole_file(folders: Folders, store: Store) -> None:
    """A whole file may turn out shorter than the room that was asked for."""
    with store.begin_whole(ALICE, "a.txt", 1000) as writer:
        writer.write(b"hello")
        store.end_file(writer)
        upload = store.merge(writer)
    assert (upload.size, upload.received) == (5, 5)
    assert (folders.storage / f"{upload.uuid}_a.txt").read_bytes() == b"hello"
    assert [listed.uuid for listed in store.uploads(ALICE)] == [upload.uuid]


def test_whole_file_cut_off(folders: Folders, store: Store) -> None:
    """A whole file that broke off leaves nothing."""
    with store.begin_whole(ALICE, "a.txt", 1000) as writer:
        writer.write(b"hel")
    assert (folders.files(), folders.unfinished(), store.uploads(ALICE)) == (set(), set(), [])


def test_whole_file_asks_for_space_in_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its promise grows with what has come, each time that another step is in, and not with every write."""
    monkeypatch.setattr(pyfiledrop, "PROMISE_STEP_BYTES", 100)
    promised = []
    monkeypatch.setattr(store, "promise", lambda writer: promised.append(writer.written))
    with store.begin_whole(ALICE, "a.bin", 1000) as writer:
        for _ in range(10):
            writer.write(bytes(40))
    assert promised == [120, 240, 360]
    with File(bytes(800), chunk_size=400).begin(store, 0) as writer:
        writer.write(bytes(400))  # an upload of several chunks has one with each that is in
    assert promised == [120, 240, 360]


def test_files_of_a_form_are_counted_once(folders: Folders) -> None:
    """Several files of one form need the space of the form, not of the form for each of them."""
    store = folders.open(max_total_bytes=MIB)
    half = b"x" * (400 << 10)
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n' + half + b"\r\n"
    form = part + part + b"--b--\r\n"
    body = pyfiledrop.Body(None, len(form), form)  # type: ignore[arg-type]  # all of it is there, no socket is read
    uploads, _ = pyfiledrop.receive_form(body, "multipart/form-data; boundary=b", store, ALICE, MIB)
    assert [upload.size for upload in uploads] == [len(half), len(half)]


# The same chunk again, and two at once


def test_again_after_merge(folders: Folders, store: Store) -> None:
    """A chunk sent again after its merge is taken and falls: even other bytes change nothing."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    with file.begin(store, 0) as writer:
        writer.write(b"XXXX")
        assert store.merge(writer).merged == 1
    finish(folders, store, [file])


def test_again_after_done(folders: Folders, store: Store) -> None:
    """A chunk sent again after the file is done is answered as done, and the file stays what it is."""
    file = File(b"aaaabbbb")
    done = file.send(store)
    with file.begin(store, 1) as writer:
        writer.write(b"XXXX")
        assert store.merge(writer) == done
    finish(folders, store, [file])


def test_takeover(folders: Folders, store: Store) -> None:
    """Of two requests with the same chunk the later one writes; the earlier may not touch the file again."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    earlier = file.begin(store, 1)
    earlier.write(b"X")
    with file.begin_filled(store, 1) as later:
        earlier.write(b"XXX")  # let fall
        assert store.merge(later).stored
    assert store.merge(earlier).stored, "the earlier is told what became of the chunk"
    finish(folders, store, [file])


@pytest.mark.parametrize("content", [b"aaaa", b"aaaabbbb"], ids=["one chunk", "two chunks"])
def test_takeover_of_a_first_chunk(folders: Folders, store: Store, content: bytes) -> None:
    """So it is when nothing of the upload is in yet."""
    file = File(content)
    earlier = file.begin(store, 0)
    later = file.begin_filled(store, 0)
    earlier.write(b"XXXX")
    with later:
        store.merge(later)
    store.merge(earlier)
    finish(folders, store, [file])


def test_takeover_waits_for_a_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A takeover comes between two writes of the earlier request, never into one."""
    writing, go_on = threading.Event(), threading.Event()
    events: list[str] = []
    real = pyfiledrop.pwrite

    def slow(fd: int, data: bytes | memoryview, offset: int) -> int:
        if bytes(data) == b"X":
            writing.set()
            assert go_on.wait(10)
            events.append("written")
        return real(fd, data, offset)

    monkeypatch.setattr(pyfiledrop, "pwrite", slow)
    file = File(b"aaaa")
    earlier = file.begin(store, 0)
    with ThreadPoolExecutor() as pool:
        pool.submit(earlier.write, b"X")
        assert writing.wait(10)
        later = pool.submit(lambda: (file.begin(store, 0), events.append("taken over")))
        go_on.set()
        later.result(10)
    assert events == ["written", "taken over"]


def test_earlier_waits_for_the_later(store: Store) -> None:
    """Whoever lost a chunk to a later request answers when that one is through, and as it went."""
    file = File(b"aaaabbbb")
    earlier = file.begin_filled(store, 0)
    later = file.begin_filled(store, 0)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(store.merge, earlier)
        assert not answer.done()
        store.merge(later)
        assert answer.result(10).merged == 1


@pytest.mark.parametrize("depth", [2, 5])
def test_nobody_got_through(folders: Folders, store: Store, depth: int) -> None:
    """When every later request breaks off, the earliest says 503 and the chunk is not in."""
    file = File(b"aaaabbbb")
    file.send(store, 1)
    earliest, *others = [file.begin_filled(store, 0) for _ in range(depth)]
    for writer in others:
        store.abandon(writer)
    with pytest.raises(Unavailable):
        store.merge(earliest)
    assert chunks_in(store, file) == {1}
    finish(folders, store, [file])


def test_the_last_of_many_gets_through(folders: Folders, store: Store) -> None:
    """However many requests carry a chunk, all are told yes once the last of them is through."""
    file = File(b"aaaa")
    writers = [file.begin_filled(store, 0) for _ in range(5)]

    def merge(writer: Writer) -> Upload:
        with writer:
            return store.merge(writer)

    with ThreadPoolExecutor(len(writers)) as pool:
        answers = list(pool.map(merge, writers))
    assert {answer.stored for answer in answers} == {file.stored}
    finish(folders, store, [file])


def test_abandoned_after_takeover(store: Store) -> None:
    """The end of a connection that was taken over does not end the later one."""
    file = File(b"aaaa")
    earlier = file.begin(store, 0)
    later = file.begin_filled(store, 0)
    store.abandon(earlier)
    assert store.merge(later).stored


def test_straggler_after_done(folders: Folders, store: Store) -> None:
    """After publishing no writer of the upload can reach the file."""
    file = File(b"aaaa")
    stragglers = [file.begin(store, 0) for _ in range(3)]
    file.send(store, 0)
    for writer in stragglers:
        writer.write(b"XXXX")
    finish(folders, store, [file])


@pytest.mark.parametrize("seed", range(20))
def test_random_order_from_many_threads(folders: Folders, store: Store, seed: int) -> None:
    """All chunks in random order, each twice, from 32 threads: one file, equal to what was sent."""
    random_ = random.Random(seed)
    files = [File(random_.randbytes(random_.randint(1, 3000)), chunk_size=random_.randint(50, 200)) for _ in range(3)]
    jobs = [(file, index) for file in files for index in range(file.count)] * 2
    random_.shuffle(jobs)
    with ThreadPoolExecutor(32) as pool:
        for answer in [pool.submit(file.send, store, index) for file, index in jobs]:
            answer.result(30)
    assert folders.files() == {file.stored for file in files}
    check_promise(folders, store, {file: set(range(file.count)) for file in files}, files)


def test_exactly_one_request_is_told_done_first(store: Store) -> None:
    """However the last chunks race, exactly one merge publishes."""
    for _ in range(50):
        file = File(b"abcdefgh", chunk_size=1)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda index, file=file: file.send(store, index), range(8)))
        assert sum(answer.stored is not None for answer in answers) == 1
        assert is_done(store, file)


# Removing, forgetting, owners


def test_remove_while_receiving(folders: Folders, store: Store) -> None:
    """Removing an upload while its chunks arrive removes all of it; those who were sending are told 404."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    writer = file.begin(store, 1)
    writer.write(b"bb")
    store.remove(ALICE, file.uuid)
    writer.write(b"bb")
    with pytest.raises(Gone), writer:
        store.merge(writer)
    assert (folders.unfinished(), folders.files(), store.uploads(ALICE)) == (set(), set(), [])


def test_removed_upload_stays_removed(folders: Folders, store: Store) -> None:
    """Its chunks that were still on their way, here or at the client, do not begin it anew, after a restart neither."""
    file = File(b"aaaabbbb")
    old = file.begin(store, 0)
    store.remove(ALICE, file.uuid)
    with pytest.raises(Gone):
        file.begin(store, 1)
    old.write(b"XXXX")
    with pytest.raises(Gone), old:
        store.merge(old)
    assert (folders.unfinished(), store.uploads(ALICE)) == (set(), [])
    for _ in range(2):
        store.clear()
        with pytest.raises(Gone):
            file.begin(store, 1)
        store = folders.open()


def test_remove_a_file_of_one_chunk_on_its_way(folders: Folders, store: Store) -> None:
    """It can be removed like any other, though it is not on record yet, and only by its drop."""
    file = File(b"aaaa")
    writer = file.begin_filled(store, 0)
    with pytest.raises(NotFound):
        store.remove(BOB, file.uuid)
    store.remove(ALICE, file.uuid)
    with pytest.raises(Gone), writer:
        store.merge(writer)
    with pytest.raises(Gone):
        file.begin(store, 0)
    assert (folders.files(), store.uploads(ALICE), store._space.promises.whole, store._lives) == (set(), [], 0, {})


def test_remove_finished(folders: Folders, store: Store) -> None:
    """A drop may remove its finished file: from the disk and from its list."""
    file = File(b"aaaa")
    file.send(store)
    store.remove(ALICE, file.uuid)
    assert (folders.files(), store.uploads(ALICE)) == (set(), [])
    with pytest.raises(Gone):
        store.open(file.uuid)
    with pytest.raises(Gone):
        file.begin(store, 0)
    with pytest.raises(NotFound):
        store.remove(ALICE, file.uuid)


def test_forget(folders: Folders, store: Store) -> None:
    """Forgetting takes the finished files off the list, for good; they stay in storage, links go on working."""
    done, unfinished, of_bob = File(b"aaaa"), File(b"aaaabbbb"), File(b"cccc", owner=BOB)
    done.send(store)
    of_bob.send(store)
    unfinished.send(store, 0)
    assert store.forget(ALICE) == 1
    assert store.forget(ALICE) == 0
    assert [upload.uuid for upload in store.uploads(ALICE)] == [unfinished.uuid]
    assert [upload.uuid for upload in store.uploads(BOB)] == [of_bob.uuid]
    with pytest.raises(NotFound):
        store.remove(ALICE, done.uuid)
    _, (opened, *_) = store.open(done.uuid)
    with opened:
        assert opened.read() == done.content


@pytest.mark.parametrize("stranger", [BOB, None])
def test_of_another_drop(store: Store, stranger: str | None) -> None:
    """Another drop may neither look at an upload, nor add to it, nor remove it; it is as if it were not there."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    with pytest.raises(NotFound):
        store.begin(stranger, file.chunk(1), file.name)
    with pytest.raises(NotFound):
        store.upload(stranger, file.uuid)
    with pytest.raises(NotFound):
        store.remove(stranger, file.uuid)
    file.send(store, 1)
    with pytest.raises(NotFound):
        store.remove(stranger, file.uuid)
    assert is_done(store, file)


def test_without_owner(store: Store) -> None:
    """An upload begun without a drop belongs to whoever knows its UUID, to remove only until it is finished."""
    file, other = File(b"aaaabbbb", owner=None), File(b"aaaabbbb", owner=None)
    file.send(store, 0)
    with store.begin(BOB, file.chunk(1), file.name) as writer:
        writer.write(file.piece(1))
        store.merge(writer)
    with pytest.raises(NotFound):
        store.remove(None, file.uuid)
    with pytest.raises(NotFound):
        store.remove(BOB, file.uuid)
    other.send(store, 0)
    store.remove(BOB, other.uuid)
    assert not chunks_in(store, other)


def test_newest_first(store: Store) -> None:
    """A drop's list has its uploads, finished and not, newest first."""
    files = [File(b"aaaabbbb") for _ in range(5)]
    for number, file in enumerate(files):
        file.send(store, *range(1 + number % 2))
    assert [upload.uuid for upload in store.uploads(ALICE)] == [file.uuid for file in reversed(files)]


def test_newest_first_in_pages(folders: Folders, store: Store) -> None:
    """So many as are asked for, older than a given one; what is gone from storage takes nobody's place."""
    files = [File(b"aaaa") for _ in range(10)]
    for file in files:
        file.send(store)
    newest = store.uploads(ALICE)
    for file in files[3:8]:
        (folders.storage / file.stored).unlink()
    left = [*newest[:2], *newest[7:]]
    assert store.uploads(ALICE, None, 3) == left[:3]
    assert store.uploads(ALICE, left[2].id, 3) == left[3:]
    assert store.uploads(ALICE, left[-1].id, 3) == store.uploads(ALICE, 0) == store.uploads(BOB, None, 3) == []


# What happens beside each other


def test_removed_while_its_folder_is_synced(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush that finds an upload gone leaves nothing of it behind, so that others never run out of room."""
    files, removed = [File(b"aaaabbbb") for _ in range(3)], list[File]()
    real = pyfiledrop.force_to_disk

    def remove_all(fd: int, is_folder: bool = False) -> None:
        real(fd, is_folder)
        if not removed:  # else this is the sync of a removal
            removed.extend(files)
            for file in files:
                store.remove(ALICE, file.uuid)

    for file in files:
        file.send(store, 0)
    with monkeypatch.context() as patch:
        patch.setattr(pyfiledrop, "force_to_disk", remove_all)
        store.flush()
    assert store._lives == {}


def test_begun_anew_while_it_is_cleared(folders: Folders, store: Store) -> None:
    """What is left of an upload that broke off is removed, but not what has begun under its UUID since."""
    file = File(b"aaaabbbb")
    with file.begin(store, 0):
        pass
    whole = File(file.content, 100, file.name, uuid=file.uuid)
    with whole.begin_filled(store, 0) as writer:
        store.clear()
        assert store.merge(writer).stored
    store.clear()
    assert (folders.storage / whole.stored).read_bytes() == whole.content


def test_taken_up_while_it_is_published(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look through storage that meets a file a moment before it is on record does not count it twice."""
    monkeypatch.setattr(pyfiledrop, "RESCAN_SECONDS", 0.0)
    file = File(b"aaaa")
    link = os.link

    def look(*args: Any, **names: Any) -> None:
        link(*args, **names)
        with pytest.raises(NotFound):
            store.open(file.uuid)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", look)
        file.send(store)
    assert (store.record.count, store.record.held) == (1, 4)
    assert store.upload(ALICE, file.uuid).owner == ALICE


@pytest.mark.parametrize("action", ["look", "remove", "clean", "publish", "clear"])
def test_storage_is_away(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    """While another folder is in storage's place nothing is recorded as gone, removed or published."""
    monkeypatch.setattr(pyfiledrop, "RESCAN_SECONDS", 0.0)
    done, begun = File(b"aaaa"), File(b"aaaabbbb")
    done.send(store)
    begun.send(store, 0)
    writer = begun.begin_filled(store, 1)
    if action == "clear":
        store.remove(ALICE, done.uuid)
    folders.storage.rename(folders.root / "moved")
    folders.storage.mkdir()
    with pytest.raises(Unavailable):
        match action:
            case "look":
                store.open(new_uuid())
            case "remove":
                store.remove(ALICE, done.uuid)
            case "clean":
                store.clean(1000 * DAY)
            case "publish":
                store.merge(writer)
            case "clear":
                store.clear()
    assert os.listdir(folders.storage) == []
    folders.storage.rmdir()
    (folders.root / "moved").rename(folders.storage)
    store.abandon(writer)
    finish(folders, store, [begun])
    assert is_done(store, done) is (action != "clear")


def test_last_chunk_alone_is_as_large_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last chunk of one byte counts for one byte, however large the others will be."""
    set_free(monkeypatch, lambda path: 10_000)
    for _ in range(3):
        assert File(b"a" * 9001, chunk_size=9000).send(store, 1).received == 1
    assert (store.record.held, store._space.promises.missing) == (3, 3 * 8)


def test_unsynced_of_the_last_run(folders: Folders) -> None:
    """What a killed run had not brought to the disk, the next one does."""
    file = File(b"aaaabbbbcccc")
    file.send(folders.open(), 0, 1)
    left = folders.after_crash()
    store = left.open()
    assert store.record._db.execute("SELECT count(*) FROM chunks WHERE synced").fetchone() == (2,)
    finish(left, store, [file])
    left.close()


def test_uploads_that_go_on_hold_descriptors_too(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many that go on at once are put off like many that begin."""
    files = [File(b"aaaabbbbcccc") for _ in range(5)]
    for file in files:
        file.send(store, 0)
    store.flush()
    store.max_open_uploads = 2
    for file in files[:2]:
        file.send(store, 1)
    with pytest.raises(Unavailable):
        files[2].send(store, 1)
    store.flush()
    finish(folders, store, files)


# Files that come and go by hand


def test_vanished(folders: Folders, store: Store) -> None:
    """A finished file that was taken away by hand is not listed and gives 404; removing it is no error."""
    file = File(b"aaaa")
    file.send(store)
    (folders.storage / file.stored).unlink()
    assert store.uploads(ALICE) == []
    with pytest.raises(NotFound):
        store.open(file.uuid)
    store.remove(ALICE, file.uuid)


def test_vanished_before_start(folders: Folders) -> None:
    """What vanished while the server was off is said at start, in numbers, and taken off the record."""
    files = [File(b"aaaa") for _ in range(3)]
    for file in files:
        file.send(folders.store or folders.open())
    folders.close()
    for file in files[:2]:
        (folders.storage / file.stored).unlink()
    store = folders.open()
    assert store.findings == ["2 finished files are gone from storage and no longer listed."]
    with pytest.raises(NotFound):
        store.upload(ALICE, files[0].uuid)
    assert is_done(store, files[2])
    assert folders.open().findings == [], "said once"


def test_adopted_at_start(folders: Folders) -> None:
    """Files in storage named <uuid>_<name> without a record, as older versions left them, can be fetched."""
    folders.storage.mkdir(parents=True)
    lower, upper = new_uuid(), new_uuid().upper()
    (folders.storage / f"{lower}_отчёт.pdf").write_bytes(b"aaaa")
    (folders.storage / f"{upper}_a").write_bytes(b"")
    (folders.storage / "notes.txt").write_bytes(b"not ours")
    store = folders.open()
    assert store.findings == ["2 files in storage were not on record and can now be fetched."]
    for uuid, name, content in ((lower, "отчёт.pdf", b"aaaa"), (upper.lower(), "a", b"")):
        upload, (opened, *_) = store.open(uuid)
        with opened:
            assert (upload.name, upload.size, opened.read()) == (name, len(content), content)
    with pytest.raises(NotFound):
        store.remove(None, lower)
    assert "notes.txt" in folders.files()
    assert folders.open().findings == []


def test_adopted_while_running(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file put into storage by hand can be fetched without a restart."""
    monkeypatch.setattr(pyfiledrop, "RESCAN_SECONDS", 0.0)
    file = File(b"aaaa")
    with pytest.raises(NotFound):
        store.open(file.uuid)
    (folders.storage / file.stored).write_bytes(file.content)
    upload, (opened, *_) = store.open(file.uuid)
    with opened:
        assert (upload.name, opened.read()) == (file.name, file.content)


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "gone"), OSError(errno.EIO, "broken")])
def test_adopted_while_the_folder_changes(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    """A file that is taken away while storage is looked through is no error; a look that fails is made again."""
    monkeypatch.setattr(pyfiledrop, "RESCAN_SECONDS", 0.0)
    first, second = sorted((File(b"aaaa"), File(b"bbbb")), key=lambda file: file.uuid)
    for file in (first, second):
        (folders.storage / file.stored).write_bytes(file.content)
    lstat = os.lstat

    def failing(path: Any) -> os.stat_result:
        if str(path).endswith(second.stored):
            raise error
        return lstat(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", failing)
        with pytest.raises(NotFound if error.errno == errno.ENOENT else DiskFault):
            store.open(second.uuid)
    for file in (first, second):
        (folders.storage / "another").touch()  # the folder changed: reason for another look
        (folders.storage / "another").unlink()
        upload, (opened, *_) = store.open(file.uuid)
        with opened:
            assert (upload.name, opened.read()) == (file.name, file.content)


def test_one_came_and_one_went(folders: Folders) -> None:
    """As many files as on record, but not the same ones."""
    gone, there, new = (File(b"aaaa") for _ in range(3))
    for file in (gone, there):
        file.send(folders.store or folders.open())
    folders.close()
    (folders.storage / gone.stored).unlink()
    (folders.storage / new.stored).write_bytes(new.content)
    store = folders.open()
    assert len(store.findings) == 2
    for file in (there, new):
        store.open(file.uuid)[1].file.close()
    with pytest.raises(Gone):
        store.open(gone.uuid)


def test_two_names_of_one_uuid(folders: Folders) -> None:
    """Of two files that somebody gave the same UUID one can be fetched; the server starts, and both stay."""
    uuid = new_uuid()
    folders.storage.mkdir(parents=True)
    names = {f"{uuid}_a", f"{uuid.upper()}_b"}
    for name in names:
        (folders.storage / name).write_bytes(b"x")
    upload, opened = folders.open().open(uuid)
    opened.file.close()
    assert upload.stored in names and folders.files() == names


def test_storage_is_not_read_for_every_question(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look through storage for an unknown UUID is made once in a while, however often somebody asks."""
    looks: list[int] = []
    real = Store._adopt
    monkeypatch.setattr(Store, "_adopt", lambda self: looks.append(0) or real(self))
    monkeypatch.setattr(pyfiledrop, "RESCAN_SECONDS", 1e6)
    for number in range(3):
        (folders.storage / str(number)).touch()
        with pytest.raises(NotFound):
            store.open(new_uuid())
    assert looks == []
    monkeypatch.setattr(pyfiledrop, "RESCAN_SECONDS", 0.0)
    for _ in range(3):
        with pytest.raises(NotFound):
            store.open(new_uuid())
    assert len(looks) == 1, "nothing changed since"


def test_part_beside_a_strangers_file(folders: Folders) -> None:
    """What is left of an upload goes at start; another file that has only its UUID in common with it stays."""
    folders.open()
    folders.close()
    uuid = new_uuid()
    (folders.storage / f".{uuid}.part").write_bytes(b"left over")
    (folders.storage / f"{uuid}_a.bin").write_bytes(b"somebody's")
    _, (opened, *_) = folders.open().open(uuid)
    with opened:
        assert opened.read() == b"somebody's"
    assert folders.files() == {f"{uuid}_a.bin"}


def test_folder_of_somebody_else(folders: Folders, store: Store) -> None:
    """An upload whose folder is there already is refused, and what is in that folder outlives any restart."""
    file = File(b"aaaabbbb")
    (folders.chunks / file.uuid).mkdir()
    folders.data(file).write_bytes(b"somebody's")
    with pytest.raises(Conflict):
        file.begin(store, 0)
    with pytest.raises(NotFound):
        store.upload(ALICE, file.uuid)
    for _ in range(2):
        assert folders.data(file).read_bytes() == b"somebody's"
        folders.open()


def test_renamed_by_hand(folders: Folders) -> None:
    """A finished file renamed behind its UUID can be fetched under its new name."""
    file = File(b"aaaa")
    file.send(folders.open())
    folders.close()
    (folders.storage / file.stored).rename(folders.storage / f"{file.uuid}_other.txt")
    upload, opened = folders.open().open(file.uuid)
    opened.file.close()
    assert upload.name == "other.txt"


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
@pytest.mark.parametrize("kind", ["link to a file", "dead link", "folder", "pipe"])
def test_not_a_file_in_storage(folders: Folders, kind: str) -> None:
    """What has a UUID's name in storage but is no plain file is neither recorded nor given."""
    folders.storage.mkdir(parents=True)
    secret = folders.root / "secret"
    secret.write_bytes(b"secret")
    uuid = new_uuid()
    path = folders.storage / f"{uuid}_a.bin"
    match kind:
        case "link to a file":
            path.symlink_to(secret)
        case "dead link":
            path.symlink_to(folders.root / "nothing")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
    store = folders.open()
    assert store.findings == []
    with pytest.raises(NotFound):
        store.open(uuid)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_finished_file_replaced_by_a_link(folders: Folders, store: Store) -> None:
    """A finished file in whose place a symbolic link was put is not given."""
    file = File(b"aaaa")
    file.send(store)
    (folders.root / "secret").write_bytes(b"secret")
    (folders.storage / file.stored).unlink()
    (folders.storage / file.stored).symlink_to(folders.root / "secret")
    with pytest.raises(NotFound):
        store.open(file.uuid)


def test_folder_in_the_place_of_a_part(folders: Folders) -> None:
    """It stays, is named, and does not keep the server from starting."""
    folders.open()
    folders.close()
    name = f".{new_uuid()}.part"
    (folders.storage / name).mkdir()
    assert folders.open().findings == [f"Left alone in storage, of unknown origin: {name!r}."]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("where", ["storage", "chunks"])
def test_name_that_is_not_utf8(folders: Folders, where: str) -> None:
    """A name that is not UTF-8, put there by hand, does not keep the server from starting."""
    folders.open()
    folders.close()
    folder = os.fsencode(getattr(folders, where))
    name = new_uuid().encode() + b"_\xff.bin"
    with open(os.path.join(folder, name), "wb") as file:
        file.write(b"x")
    file_ = File(b"aaaabbbb")
    finish(folders, folders.open(), [file_])
    assert name in os.listdir(folder)


@pytest.mark.parametrize("which", ["storage", "chunks"])
@pytest.mark.parametrize("anew", [False, True], ids=["moved away", "made anew"])
def test_folder_is_taken_away(folders: Folders, store: Store, which: str, anew: bool) -> None:
    """Whoever uploads is told so, and nothing is put where nobody would look for it; then it goes on where it was."""
    file, folder = File(b"aaaabbbb"), getattr(folders, which)
    file.send(store, 0)
    folder.rename(folders.root / "moved")
    if anew:
        folder.mkdir()
    for other in (file, File(b"ccccdddd"), File(b"cccc"))[: 3 if which == "storage" else 2]:
        with pytest.raises(Unavailable, match="start the server again"):
            other.begin(store, 0)
    if anew:
        assert os.listdir(folder) == []
        folder.rmdir()
    (folders.root / "moved").rename(folder)
    finish(folders, store, [file])


@pytest.mark.skipif(os.name == "nt", reason="there an open record cannot be moved")
def test_second_store_on_storage_made_anew(folders: Folders, store: Store) -> None:
    """While a server runs, a second one does not start beside it on a storage of the same name."""
    folders.storage.rename(folders.root / "moved")
    with pytest.raises(StartError, match="Another pyfiledrop is running"):
        pyfiledrop.open_store(folders.storage, folders.chunks)
    shutil.rmtree(folders.storage)
    (folders.root / "moved").rename(folders.storage)


def test_listing_that_spells_names_otherwise(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """As file systems do that compose accents in their own way: the file is there, so its record stays its owner's."""
    file = File(b"aaaa", name="Müsli.txt")
    file.send(folders.open())
    folders.close()
    names = Disk.keys
    monkeypatch.setattr(Disk, "keys", lambda self: (unicodedata.normalize("NFD", name) for name in names(self)))
    store = folders.open()
    assert store.findings == []
    assert [upload.uuid for upload in store.uploads(ALICE)] == [file.uuid]


def test_unknown_in_chunks(folders: Folders) -> None:
    """What is not ours in chunks is left alone and named at start; what is ours is not."""
    folders.chunks.mkdir(parents=True)
    (folders.chunks / "notes.txt").write_bytes(b"x")
    (folders.chunks / "folder").mkdir()
    stranger = new_uuid()
    (folders.chunks / stranger).mkdir()
    (folders.chunks / stranger / "data").write_bytes(b"x")
    File(b"aaaabbbb").send(folders.open(), 0)
    store = folders.open()
    unknown = {finding for finding in store.findings if "unknown origin" in finding}
    assert len(unknown) == 3
    assert all(any(repr(name) in finding for finding in unknown) for name in ("notes.txt", "folder", stranger))
    assert (folders.chunks / stranger / "data").read_bytes() == b"x"


def test_something_put_beside_the_data(folders: Folders, store: Store) -> None:
    """What somebody put into an upload's folder stays when the upload is finished."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    (folders.chunks / file.uuid / "notes.txt").write_bytes(b"x")
    assert file.send(store, 1).stored
    assert os.listdir(folders.chunks / file.uuid) == ["notes.txt"]


@pytest.mark.parametrize("what", ["data", "folder"])
def test_data_tidied_away(folders: Folders, store: Store, what: str) -> None:
    """An unfinished upload whose data was removed by hand begins anew under the same UUID."""
    file = File(b"aaaabbbbcccc")
    file.send(store, 0, 1)
    store.flush()
    shutil.rmtree(folders.chunks / file.uuid) if what == "folder" else folders.data(file).unlink()
    file.send(store, 2)
    finish(folders, store, [file])


@pytest.mark.parametrize("left", ["nothing", "link"])
def test_data_tidied_away_before_start(folders: Folders, left: str) -> None:
    """An unfinished upload whose data is gone at start is dropped, with a word, and can begin anew."""
    file = File(b"aaaabbbb")
    file.send(folders.open(), 0)
    folders.close()
    if left == "link":  # to a file, but not to one of ours
        folders.data(file).rename(folders.root / "elsewhere")
        folders.data(file).symlink_to(folders.root / "elsewhere")
    else:
        shutil.rmtree(folders.chunks / file.uuid)
    store = folders.open()
    assert store.findings == ["1 unfinished upload was removed, as nothing of it is here."]
    finish(folders, store, [file])


@pytest.mark.parametrize("change", ["longer", "shorter"])
def test_data_of_a_wrong_length(folders: Folders, store: Store, change: str) -> None:
    """Data whose length was changed by hand is never published; all of it is asked for again."""
    file = File(b"aaaabbbbcccc")
    file.send(store, 0, 2)
    os.truncate(folders.data(file), 15 if change == "longer" else 6)  # where chunk 1 is, so the end stays missing
    with pytest.raises(DiskFault):
        file.send(store, 1)
    assert folders.files() == set()
    finish(folders, store, [file])


def test_name_is_taken(folders: Folders, store: Store) -> None:
    """A foreign file under the very name in storage is not overwritten: 409."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    for content in (b"somebody's", b"EVILEVIL"):  # the second is as long as ours
        (folders.storage / file.stored).write_bytes(content)
        with pytest.raises(Conflict):
            file.send(store, 1)
        assert (folders.storage / file.stored).read_bytes() == content
    (folders.storage / file.stored).unlink()
    finish(folders, store, [file])


# Starting


def test_restart(folders: Folders) -> None:
    """A restart keeps every finished file and every merged chunk, and says what can go on."""
    file, done = File(b"aaaabbbbcc"), File(b"dd")
    store = folders.open()
    file.send(store, 2, 0)
    done.send(store)
    store = folders.open()
    assert store.findings == ["1 unfinished upload can go on."]
    check_promise(folders, store, {file: {0, 2}, done: {0}}, [done])
    finish(folders, store, [file])


@pytest.mark.skipif(os.name == "nt", reason="there an open record cannot be copied")
def test_begun_and_killed(folders: Folders, store: Store) -> None:
    """An upload of which nothing was acknowledged before a crash is removed at the next start."""
    file = File(b"aaaabbbb")
    with file.begin_filled(store, 0):
        after = folders.after_crash()
    store = after.open()
    assert store.findings == ["1 unfinished upload was removed, as nothing of it is here."]
    assert after.unfinished() == set()
    after.close()


def test_closed_store_lets_go(folders: Folders) -> None:
    """A store that was closed can be opened again at once, with no descriptor left behind."""
    folders.open()
    folders.close()
    before = open_descriptors()
    for _ in range(3):
        file = File(b"aaaabbbb")
        file.send(folders.open(), 0)
        folders.close()
    assert open_descriptors() == before


def test_close_stops_requests_that_did_not_end(folders: Folders) -> None:
    """Their writers are stopped and hold nothing, so that nobody writes into a folder that the next server has."""
    before = open_descriptors()
    store = folders.open()
    writers = [file.begin(store, 0) for file in (File(b"aaaabbbb"), File(b"cccc"))]
    folders.close()
    assert open_descriptors() == before
    assert {writer.state for writer in writers} == {pyfiledrop.WriterState.IGNORED}


@pytest.mark.parametrize("content", [b"aaaa", b"aaaabbbb"], ids=["one chunk", "two chunks"])
def test_writer_after_close(folders: Folders, store: Store, content: bytes) -> None:
    """A writer that outlives its store cannot write, least of all into a file that was opened since."""
    writer = File(content).begin(store, 0)
    folders.close()
    with contextlib.ExitStack() as opened:
        others = [opened.enter_context((folders.root / f"other {number}").open("w+b")) for number in range(10)]
        with contextlib.suppress(pyfiledrop.DropError):
            writer.write(b"XXXX")
        assert [other.read() for other in others] == [b""] * 10
    with contextlib.suppress(pyfiledrop.DropError):
        store.abandon(writer)


# Space


def test_space_is_reserved(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unfinished uploads still need is not promised to another; refused at the first byte, with nothing made."""
    set_free(monkeypatch, lambda path: 100)
    first, second = File(b"a" * 60, chunk_size=10), File(b"b" * 51, chunk_size=10)
    first.send(store, 0)
    with pytest.raises(NoSpace):
        second.begin(store, 0)
    assert folders.unfinished() == {first.uuid}
    assert File(b"c" * 50, chunk_size=10).send(store, 0).merged == 1, "60 - 10 and 50 are 100"


def test_space_comes_back(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space held by an upload is free again when it is removed or finished, or when nothing has come for a while."""
    set_free(monkeypatch, lambda path: 100)
    for end in ("removed", "finished", "silent"):
        big = File(b"a" * 100, chunk_size=25)
        big.send(store, 0)
        with pytest.raises(NoSpace):
            File(b"b" * 26).begin(store, 0)
        if end == "removed":
            store.remove(ALICE, big.uuid)
        if end == "finished":
            big.send(store, 1, 2, 3)
        if end == "silent":
            monkeypatch.setattr(pyfiledrop, "PROMISE_SECONDS", -1)
    assert File(b"b" * 100).send(store).stored


def test_announcing_reserves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space is kept free in proportion to what has come, so nobody can take it all by announcing large files."""
    monkeypatch.setattr(pyfiledrop, "PROMISE_STEP_BYTES", 1)
    set_free(monkeypatch, lambda path: 100)
    chunked = [File(b"a" * 100, chunk_size=1) for _ in range(3)]
    with contextlib.ExitStack() as writers:
        for file in chunked:
            writers.enter_context(file.begin(store, 0))
        whole = writers.enter_context(store.begin_whole(ALICE, "whole.bin", 100))
        writers.enter_context(File(b"b" * 100, chunk_size=100).begin(store, 0))
        writers.enter_context(store.begin_whole(ALICE, "fits.bin", 100))
        whole.write(b"x" * 2)
        with pytest.raises(NoSpace):
            store.begin_whole(ALICE, "too large.bin", 100 - 8 * 2 + 1)
        writers.enter_context(store.begin_whole(ALICE, "fits.bin", 100 - 8 * 2))
    with store.begin_whole(ALICE, "all.bin", 100):
        pass


def test_reservation_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that has brought nothing for a minute has no space kept free for it, until something comes again."""
    clock = 1000.0
    monkeypatch.setattr(pyfiledrop.time, "monotonic", lambda: clock)
    promises = pyfiledrop.Promises()

    def sums() -> tuple[int, int, int]:
        promises.end_old()
        return promises.missing, promises.whole, promises.unheld

    promises.make("first", 10, 50, 10)
    clock += 30
    promises.make("second", 1, 100, 0)
    clock += 30
    assert sums() == (40 + 8, 50 + 8, 40 + 9)
    clock += 1
    assert sums() == (8, 8, 9)
    promises.make("first", 20, 50, 5)
    clock += 59
    assert sums() == (30, 50, 45)
    promises.end("first")
    promises.end("first")
    assert sums() == (0, 0, 0)


def test_reservation_survives_restart(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space that an unfinished upload needs is held for it after a restart too."""
    set_free(monkeypatch, lambda path: 100)
    first = File(b"a" * 80, chunk_size=10)
    first.send(folders.open(), 0)
    store = folders.open()
    with pytest.raises(NoSpace):
        File(b"b" * 40).begin(store, 0)
    finish(folders, store, [first])


def test_storage_on_another_disk_needs_all_of_a_file(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, other_disk: Path
) -> None:
    """Where storage is another disk, nothing of an unfinished upload lies there yet, so all of it is still needed."""
    folders.chunks = other_disk / "chunks"
    store = folders.open()
    set_free(monkeypatch, lambda path: 100 if path == folders.storage else 1000)
    first = File(b"a" * 80, chunk_size=10)
    first.send(store, *range(7))
    with pytest.raises(NoSpace):
        File(b"b" * 60).begin(store, 0)
    finish(folders, store, [first])


def test_max_total(folders: Folders) -> None:
    """All files together, finished and not, stay within max_total, with what each takes in the record; removing one
    makes room."""
    store = folders.open(max_total_bytes=100 + 3 * pyfiledrop.ENTRY_BYTES)
    done, unfinished = File(b"a" * 40, chunk_size=20), File(b"b" * 40, chunk_size=20)
    done.send(store)
    unfinished.send(store, 0)
    with pytest.raises(NoSpace):
        File(b"c" * 21).begin(store, 0)
    finish(folders, store, [File(b"c" * 20), unfinished])
    for size in (0, 1):
        with pytest.raises(NoSpace):
            File(b"d" * size).begin(store, 0)
    store.remove(ALICE, done.uuid)
    assert File(b"d" * 40).send(store).stored


def test_max_total_counts_no_chunk_that_was_lost(folders: Folders) -> None:
    """What must be sent again takes no space meanwhile, and takes it once when it is there."""
    store = folders.open(max_total_bytes=100 + 2 * pyfiledrop.ENTRY_BYTES)
    file, other = File(b"a" * 55, chunk_size=10), File(b"b" * 45, 45)
    file.send(store, 0, 1, 2, 3, 4)
    store.flush()
    folders.data(file).unlink()
    file.send(store, 0, 1)
    with pytest.raises(NoSpace):
        File(b"b" * 46, 46).begin(store, 0)
    assert other.send(store).stored
    finish(folders, store, [file])
    store.remove(ALICE, other.uuid)
    with pytest.raises(NoSpace):
        File(b"b" * 46, 46).begin(store, 0)
    assert File(b"b" * 45, 45).send(store).stored


def test_max_total_holds_for_the_last_chunk(folders: Folders) -> None:
    """The last chunk of several is held to it as the others are."""
    store = folders.open(max_total_bytes=100 + 2 * pyfiledrop.ENTRY_BYTES)
    chunked, other = File(b"a" * 60, chunk_size=30), File(b"b" * 60, 60)
    with other.begin_filled(store, 0) as writer:
        chunked.send(store, 0)
        assert store.merge(writer).stored
    with pytest.raises(NoSpace):
        chunked.send(store, 1)
    store.remove(ALICE, other.uuid)
    finish(folders, store, [chunked])


def test_max_total_counts_what_was_put_there_by_hand(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the moment on at which the running server sees it, or sees that it is gone."""
    monkeypatch.setattr(pyfiledrop, "RESCAN_SECONDS", 0.0)
    store = folders.open(max_total_bytes=100 + 2 * pyfiledrop.ENTRY_BYTES)
    by_hand, sent = File(b"a" * 60), File(b"b" * 60, 60)
    path = folders.storage / by_hand.stored
    path.write_bytes(by_hand.content)
    store.open(by_hand.uuid)[1].file.close()
    with pytest.raises(NoSpace):
        sent.begin(store, 0)
    path.unlink()
    with pytest.raises(NotFound):
        store.open(new_uuid())
    assert sent.send(store).stored


@pytest.mark.parametrize("restart", [False, True])
def test_max_total_is_never_exceeded(folders: Folders, restart: bool) -> None:
    """Files that were let in together are held to it when their bytes are in; what did not fit goes on with room."""
    limits = {"max_total_bytes": 100 + 2 * pyfiledrop.ENTRY_BYTES}
    store = folders.open(**limits)
    chunked, small, large = File(b"a" * 60, chunk_size=1), File(b"b" * 60, 60), File(b"c" * 91, 91)
    chunked.send(store, 0)
    small.send(store)
    with pytest.raises(NoSpace):
        chunked.send(store)
    assert len(chunks_in(store, chunked)) == 40
    if restart:
        store = folders.open(**limits)
    store.remove(ALICE, small.uuid)
    store.remove(ALICE, chunked.uuid)
    other = File(b"d" * 60, chunk_size=1)
    other.send(store, 0)
    with large.begin_filled(store, 0) as writer:
        finish(folders, store, [other])
        with pytest.raises(NoSpace):
            store.merge(writer)
    assert folders.files() == {other.stored}


def test_number_of_uploads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files are not endless either: what they take is the record."""
    monkeypatch.setattr(pyfiledrop, "MAX_UPLOADS", 2)
    one, two = File(b""), File(b"aaaabbbb")
    one.send(store)
    two.send(store, 0)
    with pytest.raises(NoSpace, match="as many files"):
        File(b"").begin(store, 0)
    store.remove(ALICE, two.uuid)
    assert File(b"").send(store).stored


def test_row_64_cost_of_a_first_chunk(folders: Folders, store: Store) -> None:
    """It is the same beside many unfinished uploads: no statement of the record goes through them."""
    for _ in range(50):
        File(b"aaaabbbb").send(store, 0)
    steps: list[int] = []
    store.record._db.set_progress_handler(lambda: steps.append(0), 10)  # at every tenth step of SQLite's machine
    File(b"aaaabbbb").send(store, 0)
    few = len(steps)
    for _ in range(2000):
        store.record._db.execute(
            "INSERT INTO uploads (uuid, name, size, chunk_size, chunk_count, created, merged)"
            " VALUES (?, 'a', 8, 4, 2, 0, 1)", (new_uuid(),)
        )  # fmt: skip
    steps.clear()
    File(b"aaaabbbb").send(store, 0)
    assert len(steps) <= few + 10


def test_a_known_upload_goes_on_when_space_is_short(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of an upload whose space was promised are not refused because others filled the disk meanwhile."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    set_free(monkeypatch, lambda path: 0)
    assert file.send(store, 1).stored


# The cleaner


def test_cleaner(folders: Folders, store: Store) -> None:
    """An unfinished upload in which nothing came for the stale time is removed; finished files never are."""
    file, done = File(b"aaaabbbb"), File(b"cccc")
    file.send(store, 0)
    done.send(store)
    assert store.clean(DAY - 1) == 0
    assert store.clean(2) == 1
    assert (folders.unfinished(), folders.files()) == (set(), {done.stored})
    assert store.clean(100 * DAY) == 0
    assert is_done(store, done)


def test_a_chunk_begins_the_stale_time_anew(store: Store) -> None:
    """Idle time counts from the last merged chunk."""
    file = File(b"aaaabbbbcccc")
    for index in (0, 1):
        file.send(store, index)
        assert store.clean(DAY - 1) == 0
    assert store.clean(DAY) == 1


def test_idle_time_is_running_time(folders: Folders) -> None:
    """Idle time adds up over restarts, and the time in between does not count."""
    file = File(b"aaaabbbb")
    store = folders.open(stale_seconds=100)
    file.send(store, 0)
    for _ in range(2):
        assert store.clean(40) == 0
        store = folders.open(stale_seconds=100)
    assert store.clean(40) == 1


@pytest.mark.parametrize("jump", [-400 * DAY, 400 * DAY])
def test_row_40_clock_jumps(folders: Folders, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """A clock that is put forward or back removes nothing, while running and over a restart."""
    file = File(b"aaaabbbb")
    store = folders.open()
    file.send(store, 0)
    real = pyfiledrop.time.time
    monkeypatch.setattr(pyfiledrop.time, "time", lambda: real() + jump)
    assert store.clean(60) == 0
    store = folders.open()
    assert store.clean(60) == 0
    finish(folders, store, [file])


def test_row_41_cleaner_spares_one_that_receives(folders: Folders, store: Store) -> None:
    """An upload that is receiving is never removed, however long its chunk takes."""
    file = File(b"aaaabbbb")
    file.send(store, 0)
    with file.begin(store, 1) as writer:
        writer.write(b"b")
        assert store.clean(1000 * DAY) == 0
        writer.write(b"bbb")
        assert store.merge(writer).stored
    finish(folders, store, [file])


def keep_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the removal of a part's name fail, as while a virus scanner holds the file open on Windows."""
    unlink = os.unlink

    def refuse(path: Any, **names: Any) -> None:
        if str(path).endswith(".part"):
            raise PermissionError(errno.EACCES, "held", path)
        unlink(path, **names)

    monkeypatch.setattr(os, "unlink", refuse)


def test_part_that_cannot_be_removed(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is in and acknowledged; what is left of its first name goes at the next start."""
    file = File(b"aaaa")
    with monkeypatch.context() as patch:
        keep_parts(patch)
        assert file.send(store).stored == file.stored
    assert folders.files() == {file.stored, f".{file.uuid}.part"}
    store = folders.open()
    assert folders.files() == {file.stored}
    assert is_done(store, file)


def test_part_beside_a_new_record(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who moves a damaged record away, as the server says, loses no file, even if a power cut brought parts back."""
    file = File(b"aaaa")
    with monkeypatch.context() as patch:
        keep_parts(patch)
        file.send(store)
    folders.close()
    for name in os.listdir(folders.storage):
        if name.startswith(RECORD):
            (folders.storage / name).unlink()
    store = folders.open()
    assert store.findings == ["1 file in storage was not on record and can now be fetched."]
    assert folders.files() == {file.stored}
    assert (folders.storage / file.stored).read_bytes() == file.content


def test_too_many_open_files_at_the_first_chunk(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that could not begin keeps no space, for its client may never come back."""

    def fail(fd: int) -> int:
        raise OSError(errno.EMFILE, "too many")

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", fail)
        with pytest.raises(Unavailable):
            File(b"aaaabbbb").begin(store, 0)
    assert (folders.unfinished(), store.uploads(ALICE), store._lives) == (set(), [], {})


def test_too_many_uploads_at_once(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds a descriptor until it is synced: new ones are put off before there are none left, and then go on."""
    monkeypatch.setattr(pyfiledrop, "HOUSEKEEPING_SECONDS", 1e6)
    monkeypatch.setattr(pyfiledrop, "MAX_OPEN_UPLOADS", 3)
    flushed = threading.Event()
    real = Store.flush

    def flush(self: Store) -> None:
        real(self)
        flushed.set()

    monkeypatch.setattr(Store, "flush", flush)
    store = folders.open()
    files = [File(b"aaaabbbb") for _ in range(4)]
    for file in files[:3]:
        file.send(store, 0)
    with pytest.raises(Unavailable):
        files[3].send(store, 0)
    assert flushed.wait(20), "the housekeeper was not woken"
    finish(folders, store, files)


def test_cleaner_goes_on_after_one_that_cannot_be_removed(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged and tried again the next time; the others go."""
    stuck, *others = files = [File(b"aaaabbbb") for _ in range(3)]
    for file in files:
        file.send(store, 0)
    unlink, held = os.unlink, folders.data(stuck).stat().st_ino

    def refuse(path: Any, **names: Any) -> None:
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path, **names).st_ino == held:
                raise PermissionError(errno.EACCES, "no", path)
        unlink(path, **names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        assert store.clean(1000 * DAY) == len(files)
        store.clear()
        assert folders.unfinished() == {stuck.uuid}
        with pytest.raises(Gone):
            stuck.begin(store, 1)
    store.clear()
    assert folders.unfinished() == set()


def test_cleaner_looks_again_under_the_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that goes on between the cleaner's list and its turn stays."""
    file = File(b"aaaabbbbcccc")
    file.send(store, 0)
    real = Record.stale

    def stale(self: Record, seconds: float) -> list[Upload]:
        uploads = real(self, seconds)
        file.send(store, 1)
        return uploads

    monkeypatch.setattr(Record, "stale", stale)
    assert store.clean(2 * DAY) == 0
    assert chunks_in(store, file) == {0, 1}


def test_the_housekeeper_cleans(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store ages and removes by itself."""
    monkeypatch.setattr(pyfiledrop, "HOUSEKEEPING_SECONDS", 0.001)
    monkeypatch.setattr(pyfiledrop, "AGEING_SECONDS", 0.0)
    removed = threading.Event()
    real = Store.clean

    def clean(self: Store, elapsed_seconds: float) -> int:
        count = real(self, elapsed_seconds)
        if count:
            removed.set()
        return count

    monkeypatch.setattr(Store, "clean", clean)
    file = File(b"aaaabbbb")
    file.send(folders.open(stale_seconds=0.0), 0)
    assert removed.wait(20)
    assert folders.unfinished() == set()


# Other file systems and systems
