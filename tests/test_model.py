"""The store against a dictionary: whatever is done to it, in whatever order, it holds what the dictionary holds."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from storing import ALICE, BOB, File, Folders, fill_with_zeros

import pyfiledrop
from pyfiledrop import BadRequest, Conflict, Gone, NotFound, Writer

DAY = 24 * 3600.0
OWNERS = (ALICE, BOB, None)
OTHER = "ffffffff-0000-4000-8000-000000000000"  # a UUID that no file of these has


@dataclass
class OnItsWay:
    """A request that has begun: a form with one chunk, or a run, of which whole chunks count in any case."""

    file: File
    numbers: range
    writer: Writer
    is_run: bool
    present: set[int]  # chunks that were in when it began: what it brings for them goes nowhere
    written: int = 0

    def write(self, count: int) -> None:
        """So many of its bytes more, or all that are left."""
        pieces = [self.file.piece(n) if n not in self.present else b"X" * len(self.file.piece(n)) for n in self.numbers]
        content = b"".join(pieces)[self.written :][:count]
        self.writer.write(content)
        self.written += len(content)

    @property
    def whole(self) -> set[int]:
        """The chunks that it has brought, if they count."""
        is_all = self.written == len(self.file.pieces(self.numbers))
        count = len(self.numbers) if is_all else self.written // self.file.chunk_size
        return set(self.numbers[:count]) if self.is_run else set()


@dataclass
class Expected:
    """What is known of one upload."""

    file: File
    owner: str | None
    chunks: set[int] = field(default_factory=set)
    fresh: set[int] = field(default_factory=set)  # merged since the last flush, in this run
    synced: set[int] = field(default_factory=set)
    idle: float = 0.0
    writers: list[OnItsWay] = field(default_factory=list)

    def merge(self, numbers: set[int]) -> None:
        if new := numbers - self.chunks:
            self.chunks |= new
            self.fresh |= new
            self.idle = 0.0

    def keep(self) -> None:
        """What runs have brought whole counts from now on, if it does not make the file whole."""
        for one in self.writers:
            if len(self.chunks | one.whole) < self.file.count:
                self.merge(one.whole)

    def take_over(self, numbers: range) -> None:
        """Another request for these chunks ends those that still have to bring one of them."""
        for one in list(self.writers):
            if len(self.chunks | one.whole) < self.file.count and set(one.numbers) & set(numbers):
                self.merge(one.whole)
            if (set(one.numbers) - self.chunks) & set(numbers):
                self.writers.remove(one)
                self.merge(one.whole)

    def sync(self) -> None:
        self.synced |= self.fresh
        self.fresh.clear()

    @property
    def done(self) -> bool:
        return len(self.chunks) == self.file.count


class StoreMachine(RuleBasedStateMachine):
    """A few files, of which chunks come and go; `known` is the dictionary."""

    @initialize(
        sizes=st.lists(st.integers(0, 13), min_size=2, max_size=3),
        chunk_size=st.integers(1, 5),
        seed=st.integers(0, 99),
    )
    def start(self, sizes: list[int], chunk_size: int, seed: int) -> None:
        self.boot = 0
        self._patch = mock.patch.multiple(pyfiledrop, HOUSEKEEPING_SECONDS=1e6, boot_mark=lambda: f"boot {self.boot}")
        self._patch.start()
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # waits for no disk
        self.folders = Folders(Path(tempfile.mkdtemp(prefix="pyfiledrop-test-", dir=memory)) / "root")
        self.files = [
            File(
                bytes((seed + number * 50 + at) % 256 for at in range(size)),
                chunk_size,
                f"{number}.bin",
                OWNERS[number % 3],
                f"{number:08x}-0000-4000-8000-000000000000",
            )
            for number, size in enumerate(sizes)
        ]
        self.known: dict[str, Expected] = {}
        self.removed: set[str] = set()  # by whatever: chunks of them are refused for ever
        self.announced: set[str] = set()  # those of which nothing is in are forgotten by a restart
        self.store = self.folders.open()

    def teardown(self) -> None:
        if hasattr(self, "folders"):
            self.folders.close()
            shutil.rmtree(self.folders.root.parent)
            self._patch.stop()

    def pick(self, number: int) -> File:
        return self.files[number % len(self.files)]

    def expected(self, file: File) -> Expected | None:
        return self.known.get(file.uuid)

    def note_begin(self, file: File, numbers: range) -> Expected:
        expected = self.known.setdefault(file.uuid, Expected(file, file.owner))
        expected.take_over(numbers)
        return expected

    def note_end(self, file: File) -> None:
        """An upload of which nothing is in, and nothing on its way, is forgotten."""
        expected = self.known.get(file.uuid)
        if expected and not expected.chunks and not expected.writers:
            del self.known[file.uuid]

    def may_begin(self, file: File) -> bool:
        expected = self.expected(file)
        return file.uuid not in self.removed if expected is None else expected.owner in (None, file.owner)

    def is_announced(self, file: File) -> bool:
        """Whether POST /uploads has begun it, and nothing of it is in."""
        expected = self.expected(file)
        return file.uuid in self.announced and not (expected and expected.chunks)

    def may_run(self, file: File) -> bool:
        """A run needs an upload that has begun."""
        return self.may_begin(file) and (self.expected(file) is not None or self.is_announced(file))

    number = st.integers(0, 3)
    index = st.integers(0, 12)
    count = st.sampled_from([1, 2, 3, 13])
    written = st.sampled_from([0, 1, 4, 6, 99])

    @rule(number=number)
    def announce(self, number: int) -> None:
        """POST /uploads, of what is not there yet or is found again."""
        self.announce_file(self.pick(number))

    def announce_file(self, file: File) -> None:
        expected = self.expected(file)
        is_found = self.is_announced(file) or (expected is not None and not expected.done and file.count > 1)
        if file.uuid in self.removed or (expected and not is_found) or (is_found and file.owner is None):
            return  # for it would get a UUID of its own
        with mock.patch("pyfiledrop.uuidlib.uuid4", lambda: OTHER if is_found else file.uuid):
            upload, is_new = self.store.announce(file.owner, file.name, len(file.content), None, file.chunk_size)
        assert (upload.uuid, is_new) == (file.uuid, not is_found)
        if expected:
            expected.keep()
        else:
            self.announced.add(file.uuid)
        assert upload.merged == (len(expected.chunks) if expected else 0)

    @rule(number=number, index=index)
    def send(self, number: int, index: int) -> None:
        """Any chunk, in any order, for the first time or again."""
        file = self.pick(number)
        index %= file.count
        if not self.may_begin(file):
            with pytest.raises(Gone if self.expected(file) is None else NotFound):
                file.begin(self.store, index)
            return
        upload = file.send(self.store, index)
        expected = self.note_begin(file, range(index, index + 1))
        expected.merge({index})
        assert (upload.stored is not None) == expected.done
        assert upload.merged == len(expected.chunks)

    @rule(number=number, index=index, count=count, announced=st.booleans())
    def send_run(self, number: int, index: int, count: int, announced: bool) -> None:
        """Several chunks in one request, for the first time or again."""
        file = self.pick(number)
        index %= file.count
        numbers = range(index, min(index + count, file.count))
        if announced and not self.may_run(file):
            self.announce_file(file)
        if not self.may_run(file):
            is_gone = self.expected(file) is None and file.uuid in self.removed
            with pytest.raises(Gone if is_gone else NotFound):
                file.begin_run(self.store, numbers)
            return
        upload = file.run(self.store, numbers)
        expected = self.note_begin(file, numbers)
        expected.merge(set(numbers))
        assert (upload.stored is not None) == expected.done
        assert upload.merged == len(expected.chunks)

    @rule(number=number, index=index, count=count, is_run=st.booleans(), written=written)
    def begin(self, number: int, index: int, count: int, is_run: bool, written: int) -> None:
        """A request that is on its way; earlier ones with its chunks are taken over."""
        file = self.pick(number)
        index %= file.count
        numbers = range(index, min(index + count, file.count) if is_run else index + 1)
        if is_run and not self.may_run(file):
            self.announce_file(file)
        if not (self.may_run(file) if is_run else self.may_begin(file)):
            return
        writer = file.begin_run(self.store, numbers) if is_run else file.begin(self.store, index)
        expected = self.note_begin(file, numbers)
        if set(numbers) <= expected.chunks:
            self.store.abandon(writer)
            return
        one = OnItsWay(file, numbers, writer, is_run, set(expected.chunks))
        one.write(written)
        expected.writers.append(one)

    @rule(number=number, which=st.integers(0, 3), count=written, end=st.sampled_from(["", "merge", "break"]))
    def go_on(self, number: int, which: int, count: int, end: str) -> None:
        """A request on its way brings more, gets there, or breaks off."""
        file = self.pick(number)
        expected = self.expected(file)
        if expected is None or not expected.writers:
            return
        one = expected.writers[which % len(expected.writers)]
        one.write(99 if end == "merge" else count)
        if not end:
            return
        expected.writers.remove(one)
        with one.writer:
            if end == "merge":
                upload = self.store.merge(one.writer)
                expected.merge(set(one.numbers))
                assert (upload.stored is not None, upload.merged) == (expected.done, len(expected.chunks))
        if end == "break":
            expected.merge(one.whole)
        self.note_end(file)

    @rule(number=number)
    def too_short(self, number: int) -> None:
        """A request that claims to be through before it is."""
        expected = self.expected(self.pick(number))
        if expected is None or not expected.writers:
            return
        one = expected.writers[0]
        if one.written == len(one.file.pieces(one.numbers)):
            return
        del expected.writers[0]
        with pytest.raises(BadRequest), one.writer:
            self.store.merge(one.writer)
        expected.merge(one.whole)
        self.note_end(one.file)

    @rule(number=number)
    def look(self, number: int) -> None:
        """Who asks how far an upload is is told of what has come whole until now."""
        file = self.pick(number)
        expected = self.expected(file)
        is_known = expected is not None and (expected.done or file.count > 1)
        owner = expected.owner if expected else file.owner
        if not (is_known or self.is_announced(file)):
            with pytest.raises(NotFound):
                self.store.upload(owner, file.uuid)
            return
        if expected and not expected.done:
            expected.keep()
        upload = self.store.upload(owner, file.uuid)
        assert upload.merged == (len(expected.chunks) if expected else 0)

    @rule(number=number, index=index, what=st.sampled_from(["size", "chunk size", "name"]))
    def disagree(self, number: int, index: int, what: str) -> None:
        """A chunk whose totals or name are not the first one's."""
        file = self.pick(number)
        expected = self.expected(file)
        is_known = self.is_announced(file) if expected is None else expected.owner in (None, file.owner)
        if not is_known:
            return
        content, chunk_size, name = file.content, file.chunk_size, file.name
        match what:
            case "size":
                content += b"x"
            case "chunk size":
                chunk_size += 1
            case "name":
                name = "other.bin"
        other = File(content, chunk_size, name, file.owner, file.uuid)
        with pytest.raises(Conflict):
            other.begin(self.store, index % other.count)

    @rule(number=number, index=index)
    def too_long(self, number: int, index: int) -> None:
        """A chunk with a byte too many."""
        file = self.pick(number)
        index %= file.count
        expected = self.expected(file)
        if not self.may_begin(file) or (expected and any(index in one.numbers for one in expected.writers)):
            return
        with file.begin(self.store, index) as writer, pytest.raises(BadRequest):
            writer.write(file.piece(index) + b"X")

    @rule(number=number, owner=st.sampled_from(OWNERS))
    def remove(self, number: int, owner: str | None) -> None:
        """By whoever: only an owner may, and of what is nobody's only the unfinished."""
        file = self.pick(number)
        expected = self.expected(file)
        if expected is None and self.is_announced(file) and file.owner in (None, owner):
            self.store.remove(owner, file.uuid)
            self.announced.remove(file.uuid)
            return
        may = expected is not None and expected.owner in (None, owner)
        if may and expected and expected.done and expected.owner is None:
            may = False
        if not may:
            with pytest.raises(NotFound):
                self.store.remove(owner, file.uuid)
            return
        self.store.remove(owner, file.uuid)
        removed = self.known.pop(file.uuid)
        self.removed.add(file.uuid)
        self.announced.discard(file.uuid)
        for one in removed.writers:
            one.write(99)
            with pytest.raises(Gone), one.writer:
                self.store.merge(one.writer)

    @rule(owner=st.sampled_from((ALICE, BOB)))
    def forget(self, owner: str) -> None:
        """A drop's finished files become nobody's."""
        mine = [expected for expected in self.known.values() if expected.owner == owner and expected.done]
        assert self.store.forget(owner) == len(mine)
        for expected in mine:
            expected.owner = None

    @rule(hours=st.sampled_from([1, 11, 25]))
    def clean(self, hours: int) -> None:
        """Time goes by."""
        stale = []
        for uuid, expected in self.known.items():
            if not expected.done and (expected.chunks or expected.file.count > 1):
                expected.idle += hours * 3600
                if expected.idle > DAY and not expected.writers:
                    stale.append(uuid)
        assert self.store.clean(hours * 3600.0) == len(stale)
        for uuid in stale:
            del self.known[uuid]
            self.removed.add(uuid)
            self.announced.discard(uuid)

    @rule()
    def flush(self) -> None:
        """The housekeeper's round; nothing is to be seen of it."""
        self.store.flush()
        self.store.clear()
        for expected in self.known.values():
            expected.keep()
            expected.sync()

    def settle_writers(self) -> None:
        self.announced.clear()
        for expected in list(self.known.values()):
            expected.writers.clear()
            self.note_end(expected.file)

    @precondition(lambda self: os.name != "nt")  # where an open record cannot be copied
    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        """The process dies, with or without the power; who was sending has to send again."""
        left = self.folders.after_crash()
        self.folders.close()
        shutil.rmtree(self.folders.root)
        self.folders = left
        for expected in self.known.values():
            if not power:
                expected.sync()  # by the next start
            expected.fresh.clear()
            if power and not expected.done:
                for index in expected.chunks - expected.synced:
                    piece = expected.file.piece(index)
                    fill_with_zeros(left.data(expected.file), [(index * expected.file.chunk_size, len(piece))])
                expected.chunks &= expected.synced
        self.settle_writers()
        self.boot += power
        self.store = self.folders.open()

    @rule()
    def restart(self) -> None:
        """An orderly end, and a new start."""
        for expected in self.known.values():
            for one in expected.writers:
                self.store.abandon(one.writer)
                expected.merge(one.whole)
            expected.sync()
        self.settle_writers()
        self.store = self.folders.open()

    @precondition(lambda self: self.known)
    @rule(number=number)
    def take_away(self, number: int) -> None:
        """Somebody removes a finished file by hand while the server is off."""
        file = self.pick(number)
        expected = self.expected(file)
        if expected is None or not expected.done:
            return
        self.restart()
        self.folders.close()
        (self.folders.storage / file.stored).unlink()
        del self.known[file.uuid]
        self.removed.add(file.uuid)
        self.store = self.folders.open()

    @invariant()
    def is_as_expected(self) -> None:
        """Record, storage and chunks hold what the dictionary holds, and nothing else."""
        if not hasattr(self, "known"):
            return
        visible = {
            uuid: expected
            for uuid, expected in self.known.items()
            if expected.done or expected.file.count > 1  # a file of one chunk is not on record before it is whole
        }
        for file in self.files:
            expected = visible.get(file.uuid)
            upload = self.store.record.find(file.uuid)  # for Store.upload would change what counts
            assert (upload is not None) == (expected is not None)
            if upload is None or expected is None:
                continue
            assert upload.merged == len(expected.chunks)
            assert upload.received == sum(len(file.piece(index)) for index in expected.chunks)
            assert (upload.stored is not None) == expected.done
            everywhere = [index for low, high in self.store.chunks_in(upload) for index in range(low, high + 1)]
            assert everywhere == sorted(expected.chunks)
            if not expected.done:
                data = self.folders.data(file).read_bytes()
                for index in expected.chunks:
                    at = index * file.chunk_size
                    assert data[at : at + len(file.piece(index))] == file.piece(index)
        done = {expected.file.stored: expected.file for expected in visible.values() if expected.done}
        assert {name for name in self.folders.files() if not name.endswith(".part")} == set(done)
        for name, file in done.items():
            assert (self.folders.storage / name).read_bytes() == file.content
        assert self.folders.unfinished() == {uuid for uuid, expected in visible.items() if not expected.done}
        held = sum(len(expected.file.piece(index)) for expected in visible.values() for index in expected.chunks)
        assert (self.store.record.count, self.store.record.held) == (len(visible), held), "what --max-total goes by"
        assert self.store._lives.keys() <= self.known.keys(), "something is kept in memory of what is gone"
        going_on = {uuid for uuid, expected in self.known.items() if expected.chunks and not expected.done}
        assert self.store._space.promises._of.keys() <= going_on, "space is kept free for what is gone"
        for owner in (ALICE, BOB):
            listed = {upload.uuid for upload in self.store.uploads(owner)}
            assert listed == {uuid for uuid, expected in visible.items() if expected.owner == owner}


StoreMachine.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=40,
    derandomize=True,  # what fails in CI fails here
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestStore = StoreMachine.TestCase
TestStore.__doc__ = (
    "Whatever is sent, broken off, removed, forgotten, cleaned or restarted: the store and a dictionary agree."
)
