"""What the tests of the store share: files to send, folders to keep them in, and what must hold at any time."""

from __future__ import annotations

import math
import os
import shutil
import stat
import uuid as uuids
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyfiledrop
from pyfiledrop import Chunk, Store, Upload, Writer

RECORD = ".pyfiledrop.sqlite3"
ALICE, BOB = "alice's drop", "bob's drop"


def new_uuid() -> str:
    return str(uuids.uuid4())


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
        return f"{self.uuid}_{self.name}"

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
        self.store = Store(self.storage, self.chunks, **options)
        return self.store

    def close(self) -> None:
        if self.store is not None:
            store, self.store = self.store, None
            store.close()

    def after_crash(self) -> Folders:
        """Other folders that hold what would be left if the process were killed now."""
        root = self.root.with_name(f"{self.root.name}-{new_uuid()}")
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
        assert name in contents, f"{name} has no business in storage"
        assert (folders.storage / name).read_bytes() == contents[name], f"{name} in storage is not what was sent"


def check_promise(folders: Folders, store: Store, acknowledged: Mapping[File, set[int]], done: Iterable[File]) -> None:
    """Every acknowledged chunk counts and has its bytes, every file reported done is whole, and nothing lies about."""
    check_whole(folders, acknowledged)
    for file in done:
        assert is_done(store, file), f"{file.stored} was reported done and is not"
        assert file.stored in folders.files(), f"{file.stored} was reported done and is not in storage"
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
    known = {file.uuid for file in acknowledged if not is_done(store, file)}
    assert folders.unfinished() <= known, "something was left in chunks"


def finish(folders: Folders, store: Store, files: Iterable[File]) -> None:
    """Send what is missing of these files; then they must be whole in storage and nowhere else."""
    for file in files:
        missing = set(range(file.count)) - chunks_in(store, file)
        if missing:
            assert file.send(store, *sorted(missing)).stored == file.stored
        assert (folders.storage / file.stored).read_bytes() == file.content
        assert file.uuid not in folders.unfinished(), f"data of {file.stored} was left in chunks"
