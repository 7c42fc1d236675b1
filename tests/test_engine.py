"""What every engine must keep, whatever it keeps bytes in: the same tests for each of them."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from memory_engine import MemoryEngine
from storing import ALICE, new_uuid, play_disks

from pyfiledrop import Conflict, DataLost, Disk, Engine, NotFound, Record, Store, Upload

CONTENT = random.Random(1).randbytes(1000)


@pytest.fixture(params=["disk", "disk without links", "two disks", "memory", "memory that moves"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    if request.param.startswith("memory"):
        return MemoryEngine(moves=request.param != "memory")
    play_disks(monkeypatch, {"disk without links": "no links"}.get(request.param, request.param))
    disk = Disk(tmp_path / "storage", tmp_path / "chunks")
    request.addfinalizer(disk.close)
    return disk


@pytest.fixture(params=[100, 1000], ids=["in chunks", "in one piece"])
def upload(request: pytest.FixtureRequest) -> Upload:
    return Upload.begun(ALICE, new_uuid(), "file.bin", len(CONTENT), request.param, None)


def write(engine: Engine, upload: Upload, content: bytes = CONTENT) -> None:
    """Bring all chunks, as the store does that was just started."""
    data = engine.create(upload)
    part = data.part()
    part.write(content, 0)
    part.close()
    data.close()


def publish(engine: Engine, upload: Upload) -> str:
    data = engine.reopen(upload)
    data.sync()
    return data.publish(upload)


def read(engine: Engine, key: str) -> bytes:
    content = engine.open(key)
    with content.file:
        data: bytes = content.file.read()
    assert content.size == len(data)
    return data


def test_parts_in_any_order_and_at_once(engine: Engine) -> None:
    """Many parts at a time put each byte at its place; the file is their sum."""
    upload = Upload.begun(ALICE, new_uuid(), "file.bin", len(CONTENT), 7, None)
    data = engine.create(upload)
    numbers = list(range(upload.chunk_count))
    random.Random(2).shuffle(numbers)
    data.part().close()  # one that brings nothing

    def bring(number: int) -> None:
        part = data.part()
        part.write(CONTENT[number * 7 : number * 7 + 7], number * 7)
        part.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bring, numbers))
    data.sync()
    assert read(engine, data.publish(upload)) == CONTENT


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux splices")
def test_splice(engine: Engine, upload: Upload) -> None:
    """Bytes that wait in a pipe get to their place, in as many steps as the engine likes."""
    data, (read_end, write_end) = engine.create(upload), os.pipe()
    part, offset = data.part(), 0
    os.write(write_end, CONTENT)
    while offset < len(CONTENT):
        offset += part.splice(read_end, len(CONTENT) - offset, offset)
    part.close()
    os.close(read_end)
    os.close(write_end)
    data.sync()
    assert read(engine, data.publish(upload)) == CONTENT


def test_read_back(engine: Engine, upload: Upload) -> None:
    """What was written can be read in blocks before it is published."""
    data = engine.create(upload)
    part = data.part()
    part.write(CONTENT, 0)
    assert b"".join(part.read(300)) == CONTENT
    part.close()
    data.close()


def test_unfinished_has_no_key(engine: Engine, upload: Upload) -> None:
    """Until it is published nothing of an upload can be seen from outside; a restart finds its data."""
    assert engine.is_free(upload) and not engine.has_data(upload)
    write(engine, upload)
    assert engine.has_data(upload) and not engine.is_published(upload)
    assert list(engine.keys()) == []
    assert read(engine, publish(engine, upload)) == CONTENT


def test_a_key(engine: Engine, upload: Upload) -> None:
    """It begins with the UUID, and everything that is asked by it fits the file."""
    before = engine.generation()
    write(engine, upload)
    key = publish(engine, upload)
    assert key == engine.key_of(upload) and key.startswith(upload.uuid)
    assert list(engine.keys()) == [key] and engine.has(key) and engine.is_published(upload)
    look = engine.look(key)
    assert look and look[0] == len(CONTENT)
    assert engine.generation() != before


def test_nothing_under_a_key(engine: Engine, upload: Upload) -> None:
    """What was never published, or was removed, is nowhere; to remove it again does nothing."""
    key = engine.key_of(upload)
    for _ in range(2):
        assert not engine.has(key) and engine.look(key) is None and list(engine.keys()) == []
        with pytest.raises(NotFound):
            engine.open(key)
        write(engine, upload)
        assert publish(engine, upload) == key
        for _ in range(2):
            engine.remove(key)
            engine.discard(upload.uuid)
        engine.settle()


def test_never_over_another_file(engine: Engine, upload: Upload) -> None:
    """Another file with the same key stays as it is, and what was to be published can still be had."""
    other = upload._replace(size=5)
    write(engine, other, b"other")
    key = publish(engine, other)
    engine.discard(upload.uuid)
    write(engine, upload)
    with pytest.raises(Conflict):
        publish(engine, upload)
    assert read(engine, key) == b"other" and engine.has_data(upload) and not engine.is_published(upload)
    engine.remove(key)
    assert read(engine, publish(engine, upload)) == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x"], ids=["shorter", "longer"])
def test_changed_data_is_not_published(engine: Engine, upload: Upload, content: bytes) -> None:
    """A file that is not as long as the upload is never given a key."""
    write(engine, upload, content)
    with pytest.raises(DataLost):
        publish(engine, upload)
    assert list(engine.keys()) == []


def test_publishing_is_found_after_a_kill(engine: Engine, upload: Upload) -> None:
    """Killed after it was published: that can be seen, whether or not the unfinished data is gone."""
    write(engine, upload)
    publish(engine, upload)
    assert engine.is_published(upload)
    for _ in range(2):
        engine.discard(upload.uuid, upload.chunk_count)
        assert engine.is_published(upload) and not engine.has_data(upload)


@pytest.mark.parametrize("again", ["publish", "republish"])
def test_retract(engine: Engine, upload: Upload, again: str) -> None:
    """What was published and taken back is unfinished data again, and can be published again."""
    write(engine, upload)
    key = publish(engine, upload)
    engine.retract(upload, key)
    assert not engine.has(key) and engine.has_data(upload)
    if again == "publish":
        assert publish(engine, upload) == key
    else:
        assert engine.republish(upload)
    assert read(engine, key) == CONTENT


def test_republish_without_data(engine: Engine, upload: Upload) -> None:
    """Of what is gone nothing can be given back."""
    assert not engine.republish(upload)


def test_discard(engine: Engine, upload: Upload) -> None:
    """Data that was discarded is gone, and its place free; to discard it again does nothing."""
    write(engine, upload)
    for _ in range(2):
        engine.discard(upload.uuid)
        assert engine.is_free(upload) and not engine.has_data(upload)
    with pytest.raises(DataLost):
        engine.reopen(upload)


def test_created_anew(engine: Engine, upload: Upload) -> None:
    """After it was discarded an upload begins with nothing."""
    write(engine, upload)
    engine.discard(upload.uuid)
    write(engine, upload._replace(size=5), b"other")
    assert read(engine, publish(engine, upload._replace(size=5))) == b"other"


def test_sync_after_closing(engine: Engine, upload: Upload) -> None:
    """A sync that was prepared can be made when the data was closed or discarded meanwhile."""
    data = engine.create(upload)
    part = data.part()
    part.write(CONTENT, 0)
    part.close()
    syncs: list[Callable[[], None]] = [data.sync_later(), data.sync_later()]
    data.close()
    syncs[0]()
    engine.discard(upload.uuid)
    syncs[1]()
    assert not data.failed


def test_room(engine: Engine) -> None:
    """There is room for something, also where published files go."""
    room = engine.free_to_publish()
    assert engine.free() > 0 and (room is None or room > 0)


def test_mark(engine: Engine) -> None:
    """As long as nothing happens to the machine the mark stays the same."""
    assert engine.mark() == engine.mark() != ""


def test_store_over_any_engine(engine: Engine, tmp_path: Path, upload: Upload) -> None:
    """The same store takes a file in over each of them, also when a run breaks off, and gives it back."""
    (tmp_path / "record").mkdir()
    store = Store(Record(str(tmp_path / "record" / "r.sqlite3")), engine)
    try:
        begun, is_new = store.announce(ALICE, "file.bin", len(CONTENT), 1, upload.chunk_size)
        assert is_new
        if begun.chunk_count > 1:
            with store.begin_run(ALICE, begun.uuid, 2, 500) as broken:
                broken.write(CONTENT[200:350])
            assert store.chunks_in(store.upload(ALICE, begun.uuid)) == [[2, 2]]
        with store.begin_run(ALICE, begun.uuid, 0, len(CONTENT)) as writer:
            writer.write(CONTENT)
            done = store.merge(writer)
        _, (file, *_) = store.open(begun.uuid)
        with file:
            assert file.read() == CONTENT
        assert done.stored == engine.key_of(begun)
        store.remove(ALICE, begun.uuid)
        assert list(engine.keys()) == []
    finally:
        store.close()
