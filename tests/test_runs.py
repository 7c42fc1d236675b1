"""Runs: uploads that POST /uploads began, and requests that carry several chunks, in the store by itself."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import sqlite3
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from storing import (
    ALICE,
    BOB,
    File,
    Folders,
    System,
    Watcher,
    check_promise,
    chunks_in,
    finish,
    new_uuid,
    patch_sync,
)

import pyfiledrop
from pyfiledrop import (
    BadRequest,
    Conflict,
    DropError,
    Gone,
    NoSpace,
    NotFound,
    Store,
    TooLarge,
    Unavailable,
    Upload,
    Writer,
)

Usage = namedtuple("Usage", "total used free")
CONTENT = b"aaaabbbbccccddddee"  # five chunks of four bytes, the last one short
KILLED = pytest.mark.skipif(os.name == "nt", reason="there an open record cannot be copied")


def set_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, free))


def begun(store: Store, *numbers: int, content: bytes = CONTENT) -> File:
    """A file begun by POST /uploads, of which these chunks are in."""
    file = File(content).announced(store)
    for number in numbers:
        file.run(store, range(number, number + 1))
    return file


def check_data(folders: Folders, store: Store, file: File, numbers: set[int]) -> None:
    """Just these chunks are in, with their bytes."""
    assert chunks_in(store, file) == numbers
    check_promise(folders, store, {file: numbers}, [])


def known(store: Store) -> int:
    """How many uploads are on record."""
    store.record.recount()
    return store.record.count


# A file comes in runs


def splits(count: int) -> Iterator[list[range]]:
    """Every way to cut so many chunks into runs."""
    for cuts in itertools.product([False, True], repeat=count - 1):
        ends = [0, *(index + 1 for index, cut in enumerate(cuts) if cut), count]
        yield [range(first, end) for first, end in itertools.pairwise(ends)]


@pytest.mark.parametrize("size", [0, 1, 4, 5, 8, 11, 16, 18])
def test_every_split_in_every_order(folders: Folders, size: int) -> None:
    """However a file is cut into runs, and in whatever order they come: it is done with the last one, and whole."""
    store = folders.open(fsync=False)
    content = random.randbytes(size)
    for split in splits(File(content).count):
        for runs in itertools.permutations(split):
            file = File(content).announced(store)
            uploads = [file.run(store, run) for run in runs]
            assert [upload.stored is not None for upload in uploads] == [run is runs[-1] for run in runs]
            assert [upload.merged for upload in uploads] == list(itertools.accumulate(map(len, runs)))
            assert (folders.storage / file.stored).read_bytes() == content
            store.remove(ALICE, file.uuid)
    assert folders.unfinished() == set()


ALL_RUNS = [range(first, end) for first in range(5) for end in range(first + 1, 6)]


@pytest.mark.parametrize("first", ALL_RUNS, ids=str)
def test_runs_that_overlap(folders: Folders, first: range) -> None:
    """Chunks that are in stay as they are, wherever in a later run they stand; its other chunks come in."""
    store = folders.open(fsync=False)
    for second in ALL_RUNS:
        file = begun(store)
        file.run(store, first)
        with file.begin_run(store, second) as writer:
            for number in second:
                piece = file.piece(number)
                writer.write(bytes(len(piece)) if number in first else piece)
            upload = store.merge(writer)
        assert upload.merged == len({*first, *second})
        if upload.stored is None:
            check_data(folders, store, file, {*first, *second})
        assert file.run(store, first) == upload, "a retry changes nothing"
        file.run(store, range(5))
        finish(folders, store, [file])
        store.remove(ALICE, file.uuid)


def test_chunks_in_the_middle_of_a_run(folders: Folders, store: Store) -> None:
    """A run over chunks that are in already, in single writes of any length."""
    for step in range(1, 19):
        file = begun(store, 1, 3)
        sent = bytearray(CONTENT)
        sent[4:8] = sent[12:16] = b"XXXX"
        with file.begin_run(store, range(5)) as writer:
            for at in range(0, 18, step):
                writer.write(bytes(sent[at : at + step]))
            assert store.merge(writer).stored
        finish(folders, store, [file])


def test_run_after_done(folders: Folders, store: Store) -> None:
    """A run of a finished file is taken, answered as done, and goes nowhere."""
    file = begun(store)
    done = file.run(store, range(5))
    with file.begin_run(store, range(1, 3)) as writer:
        writer.write(b"XXXXXXXX")
        assert store.merge(writer) == done
    finish(folders, store, [file])


@pytest.mark.parametrize(
    ("size", "first", "length"),
    [
        (18, 5, 0), (18, 5, 4), (18, 0, 0), (18, 0, 3), (18, 0, 5), (18, 3, 7), (18, 4, 3), (18, 4, 1), (18, 0, 19),
        (16, 4, 0), (16, 3, 5), (0, 0, 1), (0, 1, 0), (0, 0, 4), (18, 10**15, 4), (18, 0, 10**15),
    ],
)  # fmt: skip
def test_no_such_run(folders: Folders, store: Store, size: int, first: int, length: int) -> None:
    """A run that begins behind the file's end, or does not end where a chunk ends, is refused, and makes nothing."""
    file = begun(store, content=bytes(size))
    with pytest.raises(BadRequest):
        store.begin_run(ALICE, file.uuid, first, length)
    assert (folders.unfinished(), folders.files(), known(store)) == (set(), set(), 0)


@pytest.mark.parametrize(("written", "fits"), [(7, False), (8, True), (9, False)])
def test_length_of_a_run(store: Store, written: int, fits: bool) -> None:
    """A run with a byte too few or too many is refused; with one too few its whole chunks are kept."""
    file = begun(store)
    if fits:
        with file.begin_run(store, range(1, 3)) as writer:
            writer.write(bytes(written))
            assert store.merge(writer).merged == 2
        return
    with pytest.raises(BadRequest), file.begin_run(store, range(1, 3)) as writer:
        writer.write(bytes(min(written, 8)))
        writer.write(bytes(written - min(written, 8)))
        store.merge(writer)
    assert chunks_in(store, file) == ({1} if written == 7 else {1, 2}), "what came whole before that was right"


def commits(monkeypatch: pytest.MonkeyPatch, folders: Folders, count: int) -> list[int]:
    """How many transactions a run of so many chunks costs, each time: the first, a later and the last one."""
    system = System(monkeypatch)
    store = folders.open()
    file = File(bytes(4 * 3 * count)).announced(store)

    class Count(Watcher):
        seen = 0

        def after(self, name: str, args: tuple[Any, ...], result: Any) -> None:
            self.seen += name == "sqlite COMMIT"

    counts = []
    for first in (0, count, 2 * count):
        numbers = range(first, first + count)
        with file.begin_run(store, numbers) as writer:
            writer.write(file.pieces(numbers))
            with system.watched(watcher := Count()):
                store.merge(writer)
        counts.append(watcher.seen)
    return counts


@pytest.mark.parametrize("count", [2, 100])
def test_a_run_is_one_transaction(folders: Folders, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """However many chunks a run has, they are merged in one; the file's last run in a second one becomes the file."""
    assert commits(monkeypatch, folders, count) == [1, 1, 2]


# A run breaks off


@pytest.mark.parametrize("numbers", [range(5), range(1, 4), range(3, 5), range(4, 5)], ids=str)
def test_run_that_breaks_off(folders: Folders, store: Store, numbers: range) -> None:
    """After any of its bytes: the chunks that have come whole are in, and only they."""
    length = len(File(CONTENT).pieces(numbers))
    for written in range(length):
        file = begun(store)
        with file.begin_run(store, numbers) as writer:
            writer.write(file.pieces(numbers)[:written])
        kept = set(numbers[: written // 4])
        check_data(folders, store, file, kept)
        assert known(store) == bool(kept), "an upload of which nothing is in is not on record"
        file.run(store, range(5))  # also an announcement of which nothing has come goes on
        finish(folders, store, [file])
        store.remove(ALICE, file.uuid)


def test_run_over_chunks_that_are_in_breaks_off(folders: Folders, store: Store) -> None:
    """Of its bytes those of chunks that were in count as come, and go nowhere."""
    for written in range(18):
        file = begun(store, 1, 2)
        with file.begin_run(store, range(5)) as writer:
            writer.write(b"aaaaXXXXXXXXddddee"[:written])
        assert chunks_in(store, file) == {1, 2, *range(written // 4)}
        finish(folders, store, [file])


def test_form_chunk_that_breaks_off(store: Store) -> None:
    """Of a form's chunk nothing is kept before its form is sound to the end."""
    file = File(b"aaaabbbb")
    with file.begin_filled(store, 0):
        pass
    assert chunks_in(store, file) == set()


@pytest.mark.parametrize("content", [b"", b"aaa", b"aaaa"])
def test_run_of_a_one_chunk_file_that_breaks_off(folders: Folders, store: Store, content: bytes) -> None:
    """It leaves nothing, and the announcement stands."""
    file = begun(store, content=content)
    for written in range(len(content)):
        with file.begin_run(store, range(1)) as writer:
            writer.write(content[:written])
        assert (folders.files(), folders.unfinished(), known(store)) == (set(), set(), 0)
    assert store.upload(ALICE, file.uuid).stored is None
    assert file.run(store, range(1)).stored
    finish(folders, store, [file])


def test_whole_chunks_that_do_not_fit(folders: Folders) -> None:
    """A run that breaks off where its whole chunks are more than all files may take leaves nothing either."""
    store = folders.open(max_total_bytes=20 + 2 * pyfiledrop.ENTRY_BYTES)
    file, other = begun(store), File(b"x" * 17, 17)
    writer = file.begin_run(store, range(5))
    writer.write(b"aaaa")
    other.send(store)
    with pytest.raises(NoSpace):
        store.abandon(writer)
    assert (folders.files(), folders.unfinished(), known(store)) == ({other.stored}, set(), 1)


# What is on its way counts as soon as it is asked for


def look(store: Store, file: File) -> None:
    store.upload(file.owner, file.uuid)


def announce_again(store: Store, file: File) -> None:
    assert file.announced(store) == file


def flush(store: Store, file: File) -> None:
    store.flush()


@KILLED
@pytest.mark.parametrize("ask", [look, announce_again, flush])
def test_progress_survives(folders: Folders, store: Store, ask: Callable[[Store, File], None]) -> None:
    """Whoever looks, begins again, or brings all to the disk: the whole chunks that came until then survive a kill."""
    for written in range(18):
        file = begun(store)
        with file.begin_run(store, range(5)) as writer:
            writer.write(CONTENT[:written])
            ask(store, file)
            left = folders.after_crash()
            there = left.open()
            assert chunks_in(there, file) == set(range(written // 4))
            finish(left, there, [file] if written > 3 else [])
            left.close()
            assert chunks_in(store, file) == set(range(written // 4))
            writer.write(CONTENT[written:])
            assert store.merge(writer).stored
        finish(folders, store, [file])


def test_progress_in_steps(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look adds what has come since the last; what came before that was not merged twice."""
    file = begun(store, 2)
    with file.begin_run(store, range(5)) as writer:
        for written in range(18):
            writer.write(CONTENT[written : written + 1])
            upload = store.upload(ALICE, file.uuid)
            there = {2, *range(min(4, (written + 1) // 4))}
            assert (upload.merged, upload.received) == (len(there), 4 * len(there))
        assert store.merge(writer).received == 18
    finish(folders, store, [file])


def test_a_look_publishes_nothing(folders: Folders, store: Store) -> None:
    """A file whose last byte has come is done when its request is through, not before."""
    file = begun(store, 0, 1)
    with file.begin_run(store, range(2, 5)) as writer:
        writer.write(file.pieces(range(2, 5)))
        assert store.upload(ALICE, file.uuid).stored is None
        store.flush()
        assert folders.files() == set()
        assert store.merge(writer).stored
    finish(folders, store, [file])


def test_a_look_where_nothing_more_fits(folders: Folders) -> None:
    """Whoever looks is told what is in, also when what is on its way is more than all files may take."""
    store = folders.open(max_total_bytes=20 + 2 * pyfiledrop.ENTRY_BYTES)
    file, other = begun(store), File(b"x" * 13, 13)
    with other.begin_filled(store, 0) as filled, file.begin_run(store, range(5)) as writer:
        writer.write(b"aaaa")
        look(store, file)
        writer.write(b"bbbb")
        store.merge(filled)
        assert store.upload(ALICE, file.uuid).merged == 1
        store.flush()
        store.remove(ALICE, other.uuid)
        assert store.upload(ALICE, file.uuid).merged == 2


def test_chunks_of_what_was_finished_meanwhile(folders: Folders, store: Store) -> None:
    """Who had looked before another's run completed the file is not told that nothing is in."""
    file = begun(store, 0, 2)
    seen = store.upload(ALICE, file.uuid)
    file.run(store, range(5))
    assert store.chunks_in(seen) == [[0, 4]]
    store.remove(ALICE, file.uuid)
    assert store.chunks_in(seen) == []


def test_flush_marks_what_it_kept(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a flush kept of a run on its way is on the disk: a power cut does not take it."""
    file = begun(store)
    writer = file.begin_run(store, range(5))
    writer.write(CONTENT[:9])
    store.flush()
    writer.write(CONTENT[9:13])
    folders.close()
    monkeypatch.setattr(pyfiledrop, "boot_mark", lambda: "another boot")
    assert chunks_in(folders.open(), file) >= {0, 1}


def test_sync_that_fails_while_a_run_is_on_its_way(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before a failed sync is not trusted, whatever the run goes on to bring; the client sends it again."""
    file = begun(store, 0)
    store.flush()
    with file.begin_run(store, range(1, 5)) as writer:
        writer.write(b"bbbbcc")
        with monkeypatch.context() as patch:

            def fail(fd: int) -> None:
                raise OSError(errno.EIO, "Input/output error")

            patch_sync(patch, fail)
            store.flush()
        writer.write(b"ccddddee")
        assert chunks_in(store, file) == {0}
        with pytest.raises(DropError) as caught:
            store.merge(writer)
    assert caught.value.status >= 500
    check_data(folders, store, file, {0})
    finish(folders, store, [file])


# Takeover

FILE = b"aaaabbbbcccc"


def begin_form(file: File, store: Store, numbers: range) -> Writer:
    """The chunk before the last of these, by a form."""
    return file.begin(store, numbers[-1])


def begin_run(file: File, store: Store, numbers: range) -> Writer:
    return file.begin_run(store, numbers)


Begin = Callable[[File, Store, range], Writer]
BEGINS = pytest.mark.parametrize(
    ("first", "second"),
    [(begin_run, begin_run), (begin_form, begin_run), (begin_run, begin_form), (begin_form, begin_form)],
    ids=["run and run", "form and run", "run and form", "form and form"],
)


def bytes_for(file: File, writer: Writer) -> bytes:
    return file.pieces(writer.numbers)


@BEGINS
def test_later_takes_over(folders: Folders, store: Store, first: Begin, second: Begin) -> None:
    """Whichever kind the two requests are of: the later one writes, and the earlier may not touch the file again."""
    file = begun(store, 0, content=FILE)
    earlier = first(file, store, range(1, 3))
    earlier.write(b"XX")
    later = second(file, store, range(1, 3))
    earlier.write(b"X" * (earlier.length - 2))
    later.write(bytes_for(file, later))
    upload = store.merge(later)
    if upload.stored is None:  # a form has brought one of the two chunks
        assert chunks_in(store, file) == {0, 2}
        file.send(store, 1)
    assert store.merge(earlier).stored
    finish(folders, store, [file])


@BEGINS
def test_later_breaks_off(folders: Folders, store: Store, first: Begin, second: Begin) -> None:
    """When the later one breaks off as well, the earlier is told to send again, and nothing of either is in."""
    file = begun(store, 0, content=FILE)
    earlier = first(file, store, range(1, 3))
    earlier.write(b"XX")
    later = second(file, store, range(1, 3))
    later.write(b"XX")
    earlier.write(b"X" * (earlier.length - 2))
    store.abandon(later)
    with pytest.raises(Unavailable), earlier:
        store.merge(earlier)
    check_data(folders, store, file, {0})
    finish(folders, store, [file])


@BEGINS
def test_earlier_waits_for_the_later(folders: Folders, store: Store, first: Begin, second: Begin) -> None:
    """The earlier answers when the later is through, and as it went."""
    file = begun(store, 0, 1, content=FILE)
    earlier, later = first(file, store, range(2, 3)), None
    later = second(file, store, range(2, 3))
    for writer in (earlier, later):
        writer.write(b"cccc")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(store.merge, earlier)
        assert store.merge(later).stored
        assert answer.result(10).stored
    finish(folders, store, [file])


@pytest.mark.parametrize("where", range(5))
def test_takeover_goes_on_where_the_earlier_got(folders: Folders, store: Store, where: int) -> None:
    """What the earlier run has brought whole is kept, and the later one's bytes for it go nowhere."""
    for written in range(4 * where, 18):
        file = begun(store)
        earlier = file.begin_run(store, range(5))
        earlier.write(CONTENT[:written])
        with file.begin_run(store, range(where, 5)) as later:
            earlier.write(b"X" * (18 - written))
            kept = written // 4
            junk = b"X" * (4 * (kept - where))
            assert chunks_in(store, file) == set(range(kept))
            later.write(junk + CONTENT[4 * kept :])
            assert store.merge(later).stored
        assert store.merge(earlier).stored
        finish(folders, store, [file])


def test_takeover_by_what_brings_less(folders: Folders, store: Store) -> None:
    """A later run that takes over and does not bring all the earlier would have: 503, and what came is kept."""
    file = begun(store)
    with file.begin_run(store, range(5)) as earlier:
        earlier.write(CONTENT[:6])
        file.run(store, range(1, 3))
        earlier.write(CONTENT[6:])
        with pytest.raises(Unavailable):
            store.merge(earlier)
    check_data(folders, store, file, {0, 1, 2})
    finish(folders, store, [file])


@pytest.mark.parametrize("again", [begin_run, begin_form], ids=["run", "form"])
def test_retry_of_what_is_in_stops_nobody(folders: Folders, store: Store, again: Begin) -> None:
    """A later request that brings only chunks which have come already is answered, and the earlier goes on."""
    file = begun(store, 0)
    with file.begin_run(store, range(5)) as earlier:
        earlier.write(CONTENT[:13])
        for numbers in (range(1), range(3)):
            with again(file, store, numbers) as retry:
                retry.write(b"X" * retry.length)
                assert store.merge(retry).merged == 3
        earlier.write(CONTENT[13:])
        assert store.merge(earlier).stored
    finish(folders, store, [file])


def test_earlier_that_has_all_its_bytes(folders: Folders, store: Store) -> None:
    """A run that has come whole when it is taken over is in, and so is the file that it completes."""
    file = begun(store, 0)
    earlier = file.begin_run(store, range(1, 5))
    earlier.write(file.pieces(range(1, 5)))
    with file.begin_run(store, range(2, 4)) as later:
        later.write(b"XXXXXXXX")
        assert store.merge(later).stored
    assert store.merge(earlier).stored
    finish(folders, store, [file])


def test_the_last_of_many_runs_gets_through(folders: Folders, store: Store) -> None:
    """However many runs carry the same chunks, all are told yes once the last of them is through."""
    file = begun(store)
    runs = [range(5), range(1, 5), range(5), range(2, 4), range(5)]
    writers = []
    for run in runs:
        writers.append(writer := file.begin_run(store, run))
        writer.write(file.pieces(run)[:3])
    for writer in writers:
        writer.write(bytes_for(file, writer)[3:])

    def merge(writer: Writer) -> Upload:
        with writer:
            return store.merge(writer)

    with ThreadPoolExecutor(len(writers)) as pool:
        answers = list(pool.map(merge, writers))
    assert {answer.stored for answer in answers} == {file.stored}
    finish(folders, store, [file])


def test_takeover_waits_for_a_write(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A takeover comes between two writes of the earlier run, never into one, and counts what that one brought."""
    file = begun(store)
    earlier = file.begin_run(store, range(5))
    writing, go_on = threading.Event(), threading.Event()
    real = pyfiledrop.pwrite

    def slow(fd: int, data: bytes | memoryview, offset: int) -> int:
        writing.set()
        assert go_on.wait(10)
        return real(fd, data, offset)

    with ThreadPoolExecutor() as pool, monkeypatch.context() as patch:
        patch.setattr(pyfiledrop, "pwrite", slow)
        writes = pool.submit(earlier.write, CONTENT[:10])
        assert writing.wait(10)
        later = pool.submit(file.begin_run, store, range(5))
        go_on.set()
        writes.result(10)
        with later.result(10):
            assert chunks_in(store, file) == {0, 1}
    finish(folders, store, [file])


@pytest.mark.parametrize("seed", range(20))
def test_runs_from_many_threads(folders: Folders, seed: int) -> None:
    """Runs that overlap, break off and repeat, from many threads: whoever was told yes has its chunks in the file."""
    store, chance = folders.open(fsync=False), random.Random(seed)
    file = begun(store, content=chance.randbytes(97))

    def send(job: tuple[range, int, bool]) -> None:
        numbers, step, whole = job
        pieces = file.pieces(numbers)
        try:
            with file.begin_run(store, numbers) as writer:
                for at in range(0, len(pieces) - (0 if whole else 3), step):
                    writer.write(pieces[at : at + step])
                if whole:
                    upload = store.merge(writer)
                    assert upload.stored or set(numbers) <= chunks_in(store, file)
        except Unavailable:  # taken over by one that broke off
            pass

    jobs = []
    for _ in range(40):
        first = chance.randrange(25)
        numbers = range(first, chance.randint(first + 1, 25))
        jobs.append((numbers, chance.randint(1, 9), chance.random() < 0.6))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, jobs))
    finish(folders, store, [file])
    assert store._lives == {} or all(not live.writers for live in store._lives.values())


@pytest.mark.parametrize("begin", [begin_run, begin_form], ids=["run", "form"])
def test_straggler_after_done(folders: Folders, store: Store, begin: Begin) -> None:
    """After publishing, no writer of the upload can reach the file, also one whose chunks a look had kept."""
    file = begun(store, content=FILE)
    straggler = begin(file, store, range(1))
    if begin is begin_run:
        straggler.write(b"aaaa")
        look(store, file)
    else:
        file.run(store, range(1))
    assert file.run(store, range(1, 3)).stored
    with pytest.raises(BadRequest):
        straggler.write(b"XXXXX")
    assert straggler._part is None
    if begin is begin_run:
        assert store.merge(straggler).stored
    finish(folders, store, [file])


# Announced


def test_announced_is_nowhere(folders: Folders, store: Store) -> None:
    """Before its first chunk is in, nothing of an upload is on the disk or on record; a restart forgets it."""
    file = begun(store)
    upload = store.upload(ALICE, file.uuid)
    assert (upload.uuid, upload.name, upload.size, upload.chunk_count) == (file.uuid, "file.bin", 18, 5)
    assert (upload.merged, upload.received, upload.stored, store.chunks_in(upload)) == (0, 0, None, [])
    assert (folders.files(), folders.unfinished(), known(store), store.uploads(ALICE)) == (set(), set(), 0, [])
    store = folders.open()
    for call in (lambda: store.upload(ALICE, file.uuid), lambda: file.begin_run(store, range(5))):
        with pytest.raises(NotFound):
            call()


@pytest.mark.parametrize("chunks", [[], [2]], ids=["announced", "recorded"])
def test_found_again(folders: Folders, store: Store, chunks: list[int]) -> None:
    """The owner's unfinished upload of the same name, size and time is found again, and no other."""
    upload, is_new = store.announce(ALICE, "file.bin", 18, 1234, 4)
    assert is_new
    file = File(CONTENT, uuid=upload.uuid)
    for number in chunks:
        file.run(store, range(number, number + 1))
    again, is_new = store.announce(ALICE, "file.bin", 18, 1234, 4)
    assert (again.uuid, again.merged, is_new) == (upload.uuid, len(chunks), False)
    assert store.announce(ALICE, "file.bin", 18, 1234, 8)[0].chunk_size == 4, "it goes on as it was begun"
    others = [
        (BOB, "file.bin", 18, 1234), (None, "file.bin", 18, 1234), (ALICE, "File.bin", 18, 1234),
        (ALICE, "file.bin", 17, 1234), (ALICE, "file.bin", 18, 1235), (ALICE, "file.bin", 18, None),
        (ALICE, "file.bin", 18, 0),
    ]  # fmt: skip
    found = [store.announce(*other, 4) for other in others]
    assert all(is_new for _, is_new in found)
    assert len({other.uuid for other, _ in found} | {upload.uuid}) == len(others) + 1
    finish(folders, store, [file])
    anew, is_new = store.announce(ALICE, "file.bin", 18, 1234, 4)
    assert is_new and anew.uuid != upload.uuid, "a finished one is not found again"


def test_announced_at_the_same_moment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two requests at once that begin the same upload one finds it again."""
    both = threading.Barrier(2)
    real = store._announced.add

    def add(upload: Upload) -> Upload:
        both.wait(10)
        return real(upload)

    monkeypatch.setattr(store._announced, "add", add)
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(store.announce, ALICE, "file.bin", 18, None, 4) for _ in range(2)]
        answers = [call.result(10) for call in calls]
    assert answers[0][0].uuid == answers[1][0].uuid
    assert {is_new for _, is_new in answers} == {True, False}


def test_nobodys_upload_is_not_found_again(store: Store) -> None:
    """Without a cookie whoever knows the UUID owns the upload, so it is told to nobody else."""
    assert store.announce(None, "a", 18, None, 4)[0].uuid != store.announce(None, "a", 18, None, 4)[0].uuid


def test_recorded_is_found_after_a_restart(folders: Folders, store: Store) -> None:
    """By everything it was begun with, in the state it is in."""
    upload, _ = store.announce(ALICE, "file.bin", 18, -5, 4)
    file = File(CONTENT, uuid=upload.uuid)
    file.run(store, range(1, 3))
    store = folders.open()
    again, is_new = store.announce(ALICE, "file.bin", 18, -5, 4)
    assert (again.uuid, again.merged, again.modified, is_new) == (file.uuid, 2, -5, False)
    finish(folders, store, [file])


def test_announced_and_recorded(folders: Folders, store: Store) -> None:
    """Of two uploads of one file the one that has brought something is gone on with."""
    recorded = File(CONTENT)
    recorded.send(store, 0)
    assert begun(store) == recorded
    other = File(CONTENT)
    announced = begun(store, content=CONTENT[:17])
    assert other.uuid != announced.uuid
    store.remove(ALICE, recorded.uuid)
    assert begun(store).uuid != recorded.uuid


def test_the_oldest_announcement_is_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are never more than MAX_ANNOUNCED; who announced the oldest begins it again."""
    monkeypatch.setattr(pyfiledrop, "MAX_ANNOUNCED", 3)
    files = [File(CONTENT, name=f"{number}").announced(store) for number in range(5)]
    for file in files[:2]:
        with pytest.raises(NotFound):
            file.begin_run(store, range(5))
    for file in files[2:]:
        assert file.run(store, range(5)).stored
    assert store._announced._uploads == {}, "what is in is no announcement any more"


@pytest.mark.parametrize("content", [b"aaa", FILE], ids=["one chunk", "three chunks"])
def test_forgotten_while_its_first_run_is_on_its_way(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """A run that has begun goes on, though so many others were announced meanwhile."""
    monkeypatch.setattr(pyfiledrop, "MAX_ANNOUNCED", 1)
    file = begun(store, content=content)
    with file.begin_run(store, range(file.count)) as writer:
        File(b"other", name="other").announced(store)
        writer.write(content)
        assert store.merge(writer).stored
    finish(folders, store, [file])


def test_remove_what_was_announced(folders: Folders, store: Store) -> None:
    """Its owner may remove an upload of which nothing has come; then it is as if it had never been."""
    file = begun(store)
    with pytest.raises(NotFound):
        store.remove(BOB, file.uuid)
    store.remove(ALICE, file.uuid)
    for call in (lambda: store.remove(ALICE, file.uuid), lambda: file.begin_run(store, range(5))):
        with pytest.raises(NotFound):
            call()
    assert begun(store).uuid != file.uuid


@pytest.mark.parametrize("content", [b"", b"aaa", FILE], ids=["empty", "one chunk", "three chunks"])
def test_remove_while_its_first_run_is_on_its_way(folders: Folders, store: Store, content: bytes) -> None:
    """The run is told that the upload is gone, and its UUID is used up."""
    file = begun(store, content=content)
    with file.begin_run(store, range(file.count)) as writer:
        writer.write(content[:2])
        store.remove(ALICE, file.uuid)
        writer.write(content[2:])
        with pytest.raises(Gone):
            store.merge(writer)
    calls: list[Callable[[], object]] = [lambda: file.begin_run(store, range(1)), lambda: file.begin(store, 0)]
    for call in calls:
        with pytest.raises(Gone):
            call()
    assert (folders.files(), folders.unfinished(), known(store)) == (set(), set(), 0)


def test_form_with_an_announced_uuid(folders: Folders, store: Store) -> None:
    """A form may go on with an upload that POST /uploads began, if it says the same of it."""
    file = begun(store)
    for changed in (
        File(CONTENT + b"x", uuid=file.uuid), File(CONTENT, 5, uuid=file.uuid), File(CONTENT, name="x", uuid=file.uuid),
    ):  # fmt: skip
        with pytest.raises(Conflict):
            changed.begin(store, 0)
    with pytest.raises(NotFound):
        File(CONTENT, owner=BOB, uuid=file.uuid).begin(store, 0)
    assert folders.unfinished() == set()
    file.send(store, 3)
    file.run(store, range(2))
    finish(folders, store, [file])


def test_run_of_what_a_form_began(folders: Folders, store: Store) -> None:
    """And a run may go on with what a form began."""
    file = File(CONTENT)
    file.send(store, 1)
    assert file.run(store, range(5)).stored
    finish(folders, store, [file])


@pytest.mark.parametrize("again", [begin_run, begin_form], ids=["run", "form"])
def test_first_run_breaks_off_and_cannot_be_removed(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch, again: Begin
) -> None:
    """What a broken first run could not remove at once stands in nobody's way: the upload begins again."""
    file = begun(store)

    def refuse(path: Any, **names: Any) -> None:
        raise OSError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patch, file.begin_run(store, range(5)):
        patch.setattr(os, "unlink", refuse)
    assert folders.data(file).exists() and known(store) == 0
    with again(file, store, range(5)) as writer:
        writer.write(bytes_for(file, writer))
        store.merge(writer)
    finish(folders, store, [file])


@KILLED
def test_killed_before_the_first_chunk_is_in(folders: Folders, store: Store) -> None:
    """A kill while the first run is on its way leaves nothing of the upload."""
    for content in (b"aaa", FILE):
        file = begun(store, content=content)
        with file.begin_run(store, range(file.count)) as writer:
            writer.write(b"aaa")
            left = folders.after_crash()
            there = left.open()
            assert (left.files(), left.unfinished(), known(there)) == (set(), set(), 0)
            with pytest.raises(NotFound):
                file.begin_run(there, range(1))
            left.close()
            writer.write(content[3:])
            store.merge(writer)
        store.remove(ALICE, file.uuid)


# Space, and whose it is


def test_no_space_to_announce(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot fit is refused when it is announced, and again at its first run if there is less space by then."""
    file = begun(store)
    set_free(monkeypatch, 17)
    with pytest.raises(NoSpace):
        store.announce(ALICE, "other", 18, None, 4)
    with pytest.raises(NoSpace):
        file.begin_run(store, range(5))
    assert known(store) == 0
    set_free(monkeypatch, 18)
    assert file.run(store, range(5)).stored


def test_announcing_reserves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Announcing costs others no space, however much is announced; what has come keeps space for the rest."""
    set_free(monkeypatch, 100)
    files = [File(bytes(100), 25, name=f"{number}").announced(store) for number in range(3)]
    files[0].run(store, range(1))
    for call in (lambda: files[1].begin_run(store, range(1)), lambda: File(bytes(26), name="x").announced(store)):
        with pytest.raises(NoSpace):
            call()
    File(bytes(25), name="x").announced(store)


def test_max_total(folders: Folders) -> None:
    """All files together stay within it, whatever is announced and whatever runs are on their way."""
    store = folders.open(max_total_bytes=100 + 2 * pyfiledrop.ENTRY_BYTES)
    with pytest.raises(TooLarge):
        File(bytes(101 + pyfiledrop.ENTRY_BYTES), 10).announced(store)
    one, two = (File(bytes(60), 10, name=name).announced(store) for name in "ab")
    with one.begin_run(store, range(6)) as first, two.begin_run(store, range(6)) as second:
        first.write(bytes(60))
        second.write(bytes(60))
        assert store.merge(first).stored
        with pytest.raises(NoSpace):
            store.merge(second)
    assert chunks_in(store, two) <= {0, 1, 2, 3}
    with pytest.raises(NoSpace):
        File(bytes(41), 10, name="c").announced(store)
    store.remove(ALICE, one.uuid)
    finish(folders, store, [two.announced(store)])


@pytest.mark.parametrize("chunks", [[], [0]], ids=["announced", "recorded"])
@pytest.mark.parametrize("stranger", [BOB, None])
def test_run_of_another_owner(store: Store, stranger: str | None, chunks: list[int]) -> None:
    """It is as if the upload did not exist."""
    file = begun(store, *chunks)
    for call in (
        lambda: store.begin_run(stranger, file.uuid, 0, 18),
        lambda: store.begin_run(stranger, file.uuid, 9, 1),
        lambda: store.upload(stranger, file.uuid),
        lambda: store.remove(stranger, file.uuid),
    ):
        with pytest.raises(NotFound):
            call()
    assert file.run(store, range(5)).stored


@pytest.mark.parametrize("owner", [ALICE, BOB, None])
def test_run_of_nobodys_upload(folders: Folders, store: Store, owner: str | None) -> None:
    """What was announced without a cookie goes on for whoever knows its UUID."""
    file = File(CONTENT, owner=None).announced(store)
    with store.begin_run(owner, file.uuid, 0, 18) as writer:
        writer.write(CONTENT)
        assert store.merge(writer).owner is None
    assert store.uploads(ALICE) == []


@pytest.mark.parametrize("state", ["finished", "unfinished", "by hand"])
def test_run_of_what_was_removed(folders: Folders, store: Store, state: str) -> None:
    """410, for good."""
    file = begun(store, 0)
    if state != "unfinished":
        file.run(store, range(5))
    if state == "by hand":
        (folders.storage / file.stored).unlink()
    else:
        store.remove(ALICE, file.uuid)
    for numbers in (range(5), range(1)):
        with pytest.raises(Gone):
            file.begin_run(store, numbers)


def test_stale_one_stays_removed(folders: Folders, store: Store) -> None:
    """An upload that was removed for its age is 410, and its run on its way keeps it."""
    file = begun(store, 0)
    with file.begin_run(store, range(1, 5)) as writer:
        assert store.clean(1e9) == 0
        writer.write(b"bbbb")
    assert store.clean(1e9) == 1
    with pytest.raises(Gone):
        file.begin_run(store, range(5))


def test_unknown(store: Store) -> None:
    """A run for a UUID that was never told to anybody begins nothing."""
    with pytest.raises(NotFound):
        store.begin_run(ALICE, new_uuid(), 0, 4)
    assert store._lives == {}


@pytest.mark.parametrize("what", ["data", "folder"])
def test_data_tidied_away(folders: Folders, store: Store, what: str) -> None:
    """What was in of an upload whose data is gone counts no more, and the run that finds it out comes in."""
    file = begun(store, 0, 2)
    store.flush()
    folders.data(file).unlink()
    if what == "folder":
        folders.data(file).parent.rmdir()
    assert file.run(store, range(1, 4)).merged == 3
    check_data(folders, store, file, {1, 2, 3})
    finish(folders, store, [file])


def test_publishing_fails_after_a_run(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last run's chunks but one are kept when the file cannot be finished, and it is finished by that one."""
    file = begun(store, 0)

    def refuse(*args: Any, **names: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        for name in ("link", "rename", "replace"):
            patch.setattr(os, name, refuse)
        with pytest.raises(NoSpace):
            file.run(store, range(1, 5))
    check_data(folders, store, file, {0, 1, 2, 3})
    assert file.run(store, range(5)).stored
    finish(folders, store, [file])


def test_told_done_when_it_is_durable(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose chunks a look had kept is not told that the file is done before its record is on the disk."""
    file = begun(store)
    with file.begin_run(store, range(2)) as kept:
        kept.write(file.pieces(range(2)))
        look(store, file)
        with monkeypatch.context() as patch:

            def refuse() -> None:
                raise OSError(errno.EIO, "Input/output error")

            patch.setattr(store.record, "make_durable", refuse)
            with pytest.raises(DropError):
                file.run(store, range(2, 5))
            with pytest.raises(DropError):
                store.merge(kept)
    assert store.upload(ALICE, file.uuid).stored


def test_kept_though_the_record_failed(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk whose transaction reported an error, and is in the record all the same, is not counted twice."""
    system = System(monkeypatch)
    store = folders.open()
    file = begun(store, 4)

    class Doubt(Watcher):
        def after(self, name: str, args: tuple[Any, ...], result: Any) -> None:
            if name == "sqlite COMMIT":
                raise sqlite3.OperationalError("disk I/O error")

    with file.begin_run(store, range(4)) as writer:
        for at in range(0, 8, 4):
            writer.write(CONTENT[at : at + 4])
            with system.watched(Doubt()), pytest.raises(DropError):
                look(store, file)
        assert store.upload(ALICE, file.uuid).merged == 3
    check_data(folders, store, file, {0, 1, 4})
    finish(folders, store, [file])


def test_record_fails_as_a_run_ends(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends while the record cannot be read is at its end all the same: the upload goes on."""
    system = System(monkeypatch)
    store = folders.open()
    file = begun(store, 0)

    class Dead(Watcher):
        def before(self, name: str, args: tuple[Any, ...]) -> None:
            if name.startswith("sqlite"):
                raise sqlite3.OperationalError("disk I/O error")

    for written in (6, 14):
        writer = file.begin_run(store, range(1, 5))
        writer.write(file.pieces(range(1, 5))[:written])
        with system.watched(Dead()), pytest.raises(DropError), writer:
            if written == 14:
                store.merge(writer)
        assert not any(live.writers for live in store._lives.values())
    finish(folders, store, [file])


# The fast lane


@pytest.mark.skipif(not hasattr(os, "splice"), reason="the fast lane is Linux's")
@pytest.mark.parametrize("present", [[], [0], [1, 3], [4], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("portion", [1, 3, 4, 7, 18])
def test_splice(folders: Folders, store: Store, present: list[int], portion: int) -> None:
    """From a pipe, in portions of any length: chunks already in are dropped, and the others get to their places."""
    file = begun(store, *present)
    sent = b"".join(b"X" * len(file.piece(n)) if n in present else file.piece(n) for n in range(5))
    rest = [sent[at : at + portion] for at in range(0, 18, portion)]
    read_end, write_end = os.pipe()

    def refill() -> int:
        return os.write(write_end, rest.pop(0)) if rest else 0

    with file.begin_run(store, range(5)) as writer:
        while rest:
            writer.splice(read_end, refill(), refill)
        assert store.merge(writer).stored
    os.close(read_end)
    os.close(write_end)
    finish(folders, store, [file])


@pytest.mark.skipif(not hasattr(os, "splice"), reason="the fast lane is Linux's")
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "by the refill"])
def test_splice_of_too_much(store: Store, at_once: bool) -> None:
    """More than the run's length is refused before a byte of it gets anywhere, as it is by write."""
    file = begun(store)
    read_end, write_end = os.pipe()
    os.write(write_end, CONTENT)
    with file.begin_run(store, range(2)) as writer:
        with pytest.raises(BadRequest):
            writer.splice(read_end, 9 if at_once else 4, lambda: 5)
        assert writer.written == (0 if at_once else 4)
    assert chunks_in(store, file) == (set() if at_once else {0})
    os.close(read_end)
    os.close(write_end)
