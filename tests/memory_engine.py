"""An engine that keeps bytes in memory: what `Engine` asks for, and nothing that only a disk has."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator

from pyfiledrop import Conflict, Content, DataLost, NotFound, Upload


class MemoryPart:
    def __init__(self, content: bytearray) -> None:
        self._content = content

    def write(self, data: bytes | memoryview, offset: int) -> None:
        self._content.extend(bytes(max(0, offset + len(data) - len(self._content))))
        self._content[offset : offset + len(data)] = data

    def splice(self, pipe: int, count: int, offset: int) -> int:
        self.write(data := os.read(pipe, count), offset)
        return len(data)

    def read(self, size: int) -> Iterator[bytes]:
        for offset in range(0, len(self._content), size):
            yield bytes(self._content[offset : offset + size])

    def close(self) -> None:
        self._content = bytearray()


class MemoryData:
    failed = False

    def __init__(self, engine: MemoryEngine, content: bytearray) -> None:
        self._engine, self._content = engine, content

    def part(self) -> MemoryPart:
        return MemoryPart(self._content)

    def sync(self) -> None: ...

    def sync_later(self) -> Callable[[], None]:
        return self.sync

    def publish(self, upload: Upload) -> str:
        return self._engine.publish(upload, self._content)

    def close(self) -> None: ...


class MemoryEngine:
    def __init__(self, moves: bool) -> None:
        self.moves = moves
        self.unfinished: dict[str, bytearray] = {}
        self.finished: dict[str, bytearray] = {}
        self._changes = 0

    def check(self, upload: Upload | None = None) -> None: ...

    def is_free(self, upload: Upload) -> bool:
        return not self.has_data(upload)

    def create(self, upload: Upload) -> MemoryData:
        return MemoryData(self, self.unfinished.setdefault(upload.uuid, bytearray()))

    def reopen(self, upload: Upload) -> MemoryData:
        if not self.has_data(upload):
            raise DataLost
        return self.create(upload)

    def has_data(self, upload: Upload) -> bool:
        return upload.uuid in self.unfinished

    def publish(self, upload: Upload, content: bytearray) -> str:
        key = self.key_of(upload)
        if len(content) != upload.size:
            raise DataLost
        if self.finished.setdefault(key, content) != content:  # one step, which no other thread can come between
            raise Conflict
        self._changes += 1
        if self.moves:
            self.discard(upload.uuid)
        return key

    def is_published(self, upload: Upload) -> bool:
        ours, named = self.unfinished.get(upload.uuid), self.finished.get(self.key_of(upload))
        return named is not None and ours in (None, named) and len(named) == upload.size

    def retract(self, upload: Upload, key: str) -> None:
        self.unfinished[upload.uuid] = self.finished.pop(key)

    def republish(self, upload: Upload) -> bool:
        return self.has_data(upload) and bool(self.publish(upload, self.unfinished[upload.uuid]))

    def discard(self, uuid: str, chunk_count: int | None = None) -> None:
        self.unfinished.pop(uuid, None)

    def remove(self, key: str) -> None:
        self._changes += 1
        self.finished.pop(key, None)

    def settle(self) -> None: ...

    def open(self, key: str) -> Content:
        if key not in self.finished:
            raise NotFound
        content = bytes(self.finished[key])
        return Content(io.BytesIO(content), len(content), 0.0, str(hash(content)))

    def has(self, key: str) -> bool:
        return key in self.finished

    def look(self, key: str) -> tuple[int, float] | None:
        return (len(self.finished[key]), 0.0) if key in self.finished else None

    def keys(self) -> Iterator[str]:
        yield from list(self.finished)

    def generation(self) -> int:
        return self._changes

    def key_of(self, upload: Upload) -> str:
        return upload.stored or f"{upload.uuid}_{upload.name}"

    def free(self) -> int:
        return 1 << 40

    def free_to_publish(self) -> int | None:
        return None

    def mark(self) -> str:
        return "this process"

    def tidy_storage(self, find: Callable[[str], Upload | None], record_is_new: bool) -> list[str]:
        return []

    def tidy_chunks(self, find: Callable[[str], Upload | None]) -> list[str]:
        return []

    def close(self) -> None: ...
