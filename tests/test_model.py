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


@dataclass
class Expected:
    """What is known of one upload."""

    file: File
    owner: str | None
    chunks: set[int] = field(default_factory=set)
    fresh: set[int] = field(default_factory=set)  # merged since the last flush, in this run
    synced: set[int] = field(default_factory=set)
    idle: float = 0.0
    writers: dict[int, Writer] = field(default_factory=dict)

    def merge(self, index: int) -> None:
        self.chunks.add(index)
        self.fresh.add(index)
        self.idle = 0.0

    def sync(self) -> None:
        self.synced |= self.fresh
        self.fresh.clear()

    @property
    def done(self) -> bool:
        return len(self.chunks) == self.file.count


class StoreMachine(RuleBasedStateMachine):
    """A few files, of which chunks come and go; `known` is the dictionary."""

    @initialize(
        sizes=st.lists(st.integers(0, 13), min_size=2, max_size=4),
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

    def note_begin(self, file: File) -> Expected:
        return self.known.setdefault(file.uuid, Expected(file, file.owner))

    def note_end(self, file: File) -> None:
        """An upload of which nothing is in, and nothing on its way, is forgotten."""
        expected = self.known.get(file.uuid)
        if expected and not expected.chunks and not expected.writers:
            del self.known[file.uuid]

    def may_begin(self, file: File) -> bool:
        expected = self.expected(file)
        return file.uuid not in self.removed if expected is None else expected.owner in (None, file.owner)

    number = st.integers(0, 3)
    index = st.integers(0, 12)

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
        expected = self.note_begin(file)
        expected.writers.pop(index, None)  # taken over
        if index not in expected.chunks:
            expected.merge(index)
        assert (upload.stored is not None) == expected.done
        assert upload.merged == len(expected.chunks)

    @rule(number=number, index=index)
    def begin(self, number: int, index: int) -> None:
        """A chunk that is on its way; an earlier request for it is taken over."""
        file = self.pick(number)
        index %= file.count
        if not self.may_begin(file):
            return
        writer = file.begin(self.store, index)
        expected = self.note_begin(file)
        if index not in expected.chunks:
            expected.writers[index] = writer
        else:
            self.store.abandon(writer)

    @rule(number=number, index=index, merge=st.booleans(), short=st.booleans())
    def end(self, number: int, index: int, merge: bool, short: bool) -> None:
        """A chunk on its way gets there, or breaks off after some of its bytes."""
        file = self.pick(number)
        expected = self.expected(file)
        index %= file.count
        writer = expected.writers.pop(index, None) if expected else None
        if expected is None or writer is None:
            return
        piece = file.piece(index)
        with writer:
            if short and piece:
                writer.write(b"X" * (len(piece) - 1))
                if merge:
                    with pytest.raises(BadRequest):
                        self.store.merge(writer)
            else:
                writer.write(piece)
                if merge:
                    self.store.merge(writer)
                    expected.merge(index)
        self.note_end(file)

    @rule(number=number, index=index, what=st.sampled_from(["size", "chunk size", "name"]))
    def disagree(self, number: int, index: int, what: str) -> None:
        """A chunk whose totals or name are not the first one's."""
        file = self.pick(number)
        expected = self.expected(file)
        if expected is None or expected.owner not in (None, file.owner):
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
        if not self.may_begin(file) or index in (self.known.get(file.uuid) or Expected(file, None)).writers:
            return
        with file.begin(self.store, index) as writer, pytest.raises(BadRequest):
            writer.write(file.piece(index) + b"X")

    @rule(number=number, owner=st.sampled_from(OWNERS))
    def remove(self, number: int, owner: str | None) -> None:
        """By whoever: only an owner may, and of what is nobody's only the unfinished."""
        file = self.pick(number)
        expected = self.expected(file)
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
        for index, writer in removed.writers.items():
            writer.write(file.piece(index))
            with pytest.raises(Gone), writer:
                self.store.merge(writer)

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

    @rule()
    def flush(self) -> None:
        """The housekeeper's round; nothing is to be seen of it."""
        self.store.flush()
        self.store.clear()
        for expected in self.known.values():
            expected.sync()

    def settle_writers(self) -> None:
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
            for writer in expected.writers.values():
                self.store.abandon(writer)
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
            owner = expected.owner if expected else file.owner
            if expected is None:
                with pytest.raises(NotFound):
                    self.store.upload(owner, file.uuid)
                continue
            upload = self.store.upload(owner, file.uuid)
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
    max_examples=200,
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
