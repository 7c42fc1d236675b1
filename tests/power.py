"""Disks that lose power, a server whose folders lie on them, and a client that holds it to what it was told.

A disk is a file system in an image file. FS_IOC_SHUTDOWN ends it at once: what its journal has not written by then is
lost, as when the power goes, and the next mount replays the journal. btrfs has no such call, and a disk that keeps in a
cache of its own what it was given has none either: their image lies on a disk of the other kind, and that one is cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import re
import struct
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import (
    Connection,
    Response,
    Server,
    announce_request,
    chunk_request,
    exchange,
    request,
    run_request,
    wait_until,
)
from storing import indexes, new_uuid

try:
    import fcntl
except ImportError:  # on Windows, where the tests are skipped
    fcntl = None  # type: ignore[assignment]

KIB, MIB = 1 << 10, 1 << 20

FS_IOC_SHUTDOWN = 0x8004587D  # xfs has the same number under another name
NO_LOG_FLUSH = 2
RUN_CHUNK = 64 * KIB  # what the server chooses for an upload that comes by runs
ROOM_BYTES = 24 * MIB  # for finished files, and as much for others; then the client removes some
PROMISE_SECONDS = 3.0  # so long after its answer a chunk need not be sent again, whatever happens
MOMENT_SECONDS = 0.1  # after a cut, in which answers count for nothing
BOOT_ID = "/proc/sys/kernel/random/boot_id"

IMAGE_BYTES = 384 * MIB  # sparse; mkfs.xfs wants 300 MiB
MKFS = {"ext4": ("-q", "-F", "-b", "4096"), "xfs": ("-q", "-f"), "btrfs": ("-q", "-f")}


def run(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr or done.stdout}"


def unmounts(folder: Path) -> bool:
    """Whether it could be unmounted; a moment after its last user ended it can."""
    return subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0


def remove_mounts(folder: Path) -> None:
    """Whatever is mounted there, one over the other, and whoever still uses it."""
    while os.path.ismount(folder):
        if not unmounts(folder):
            run("umount", "--lazy", folder)


# Disks


class Disk:
    """A file system in an image, mounted at `path`. `below` is the disk the image lies on, if that is one to be cut."""

    def __init__(
        self, folder: Path, kind: str, options: str = "", below: Disk | None = None, size: int = IMAGE_BYTES
    ) -> None:
        self.path, self.kind, self.options, self.below = folder / "disk", kind, options, below
        self.image = (below.path if below else folder) / "image"
        self.path.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(size)
        run(f"mkfs.{kind}", *MKFS[kind], self.image)
        self._mount()

    def _mount(self, *more: str) -> None:
        run("mount", "-o", ",".join(filter(None, ("loop", self.options, *more))), self.image, self.path)

    def mount(self) -> None:
        if self.below:
            self.below.mount()
        self._mount()

    def cut(self) -> None:
        """The power goes."""
        if self.below:
            self.below.cut()
            return
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, FS_IOC_SHUTDOWN, struct.pack("i", NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def unmount(self) -> None:
        """Returns when nothing of the file system is left in memory."""
        wait_until(lambda: unmounts(self.path))
        wait_until(lambda: not self._is_attached())
        if self.below:
            self.below.unmount()

    def _is_attached(self) -> bool:
        """Also what was replaced: no two of one origin may be mounted at the same time."""
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):  # detached meanwhile
                if Path(backing.read_text()).parent == self.image.parent:
                    return True
        return False

    def replace(self) -> None:
        """Mount what the disk has in place of what programs still have open."""
        old, self.image = self.image, self.image.with_name(new_uuid())
        run("cp", "--sparse=always", old, self.image)
        run("umount", "--lazy", self.path)
        old.unlink()
        self._mount(*(["nouuid"] if self.kind == "xfs" else []))

    def remove(self) -> None:
        """Also when half of it is gone."""
        remove_mounts(self.path)
        wait_until(lambda: not self._is_attached())
        with contextlib.suppress(OSError):  # it lies on a disk that was cut
            self.image.unlink()


def disk(stack: contextlib.ExitStack, folder: Path, kind: str, **more: Any) -> Disk:
    """One that is removed with the stack."""
    made = Disk(folder, kind, **more)
    stack.callback(made.remove)
    return made


def cached(stack: contextlib.ExitStack, folder: Path, kind: str) -> Disk:
    """A disk that has a cache of its own and loses it with the power."""
    return disk(stack, folder, kind, below=disk(stack, folder / "below", "ext4", size=2 * IMAGE_BYTES))


#: Where storage and chunks are put to the proof: on one disk, or each on one of its own.
MAKES: dict[str, Callable[[Path, contextlib.ExitStack], list[Disk]]] = {
    "ext4": lambda folder, stack: [disk(stack, folder, "ext4")],
    "ext4, data=writeback": lambda folder, stack: [disk(stack, folder, "ext4", options="data=writeback")],
    "xfs": lambda folder, stack: [disk(stack, folder, "xfs")],
    "btrfs, cached": lambda folder, stack: [cached(stack, folder, "btrfs")],
    "ext4, cached": lambda folder, stack: [cached(stack, folder, "ext4")],
    "ext4 and xfs": lambda folder, stack: [disk(stack, folder / "one", "ext4"), disk(stack, folder / "other", "xfs")],
}


class DiskServer(Server):
    """A server whose folders do not lie beside its log."""

    def __init__(self, command: list[str], folder: Path, storage: Path, chunks: Path, options: tuple[str, ...]) -> None:
        super().__init__(command, folder, ("-s", str(storage), "-c", str(chunks), *options), {})
        self.storage, self.chunks = storage, chunks


class Machine:
    """A server on disks that lose power; with `same_boot` the disks alone do, while the machine stays up."""

    def __init__(
        self, program: list[str], folder: Path, make: str, seed: int, *options: str, same_boot: bool = False
    ) -> None:
        self.make, self.same_boot, self.seed, self.random = make, same_boot, seed, random.Random(seed)
        self.cuts = 0
        self.dark = False  # since the first of the cuts without a start between them
        self.cut_at = 0.0  # when that was, by time.monotonic
        folder.mkdir()
        self._boot_id = folder / "boot_id"
        self._boot_id.write_text(f"{new_uuid()}\n")
        if not same_boot:
            # In a mount namespace of its own, so that nobody else on this computer sees another boot. What is unmounted
            # outside goes in there too (slave): else it would hold the disks of other machines.
            bind = f'mount --bind "$0" {BOOT_ID} && exec "$@"'
            program = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", bind, str(self._boot_id), *program]
        with contextlib.ExitStack() as stack:
            self.disks = MAKES[make](folder, stack)
            storage, chunks = self.disks[0].path / "storage", self.disks[-1].path / "chunks"
            options = ("-a", "--chunk-size", str(RUN_CHUNK), *options)
            self.server = DiskServer(program, folder, storage, chunks, options)
            stack.callback(self.server.kill)
            self._cleanup = stack.pop_all()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def cut(self) -> None:
        self.cuts += 1
        if not self.dark:
            self.dark, self.cut_at = True, time.monotonic()
        for disk in self.random.sample(self.disks, len(self.disks)):
            disk.cut()

    def repower(self) -> None:
        """The power is back; the server is not started yet."""
        self.server.kill()
        for disk in self.disks:
            disk.unmount()
        for disk in self.disks:
            disk.mount()
        self._boot_id.write_text(f"{new_uuid()}\n")

    def start(self) -> None:
        """Start the server again. Mostly the power goes once more while it starts, or just after."""
        self.repower()
        way = self.random.choice(["no second cut", "during it", "after it", "after it"])
        if way == "during it":
            timer = threading.Timer(self.random.uniform(0, 0.4), self.cut)
            timer.start()
            with contextlib.suppress(pytest.fail.Exception):  # it may well end: its disk is gone
                self.server.start()
            timer.join()
        elif way == "after it":
            self.server.start()
            self.cut()
        if way != "no second cut":
            self.repower()
        self.server.start()
        self.dark = False


# The client and its log

BEGUN, DONE, REMOVING, REMOVED, ASIDE = "begun", "done", "removing", "removed", "aside"


@dataclass(eq=False)
class Sent:
    """An upload and what was answered. Of one set aside a breach is known, and no more is asked of it."""

    name: str  # no two have the same
    content: bytes  # empty once it was answered as done
    chunk_size: int
    uuid: str  # empty for one that comes in one piece, or by runs, until it is answered
    by_runs: bool = False  # else by forms
    state: str = BEGUN
    said: str = ""  # the last answer
    ended: float = 0.0  # when it was answered as done or removed, by time.monotonic
    acknowledged: dict[int, float] = field(default_factory=dict)  # chunk -> when its answer came, by time.monotonic

    def __post_init__(self) -> None:
        self.count = max(1, math.ceil(len(self.content) / self.chunk_size))
        self.size, self.digest = len(self.content), digest(self.content)

    @property
    def stored(self) -> str:
        return f"{self.uuid}_{self.name}"

    def end(self, state: str) -> None:
        self.state, self.content, self.ended = state, b"", time.monotonic()
        self.acknowledged.clear()


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@dataclass
class Look:
    """What is to be seen once the server has started again."""

    listed: dict[str, dict[str, Any]]  # by UUID
    uploads: dict[str, dict[str, Any]]  # what is said of each that was begun; nothing of those not known
    storage: dict[str, bytes]  # name -> digest
    chunks: set[str]
    strangers: list[str]  # what the server says it does not know
    fetched: dict[str, bytes | None]  # some of those done or removed: UUID -> digest, None for what is not there


Job = Callable[..., None]  # called with connection=
Claim = Callable[["Client", Look], Iterator[tuple[str, str]]]  # yields each breach: UUID or name, what is wrong

GOES_ON = "Every upload can go on, and every removal is heard."
ANSWERED = "Every request is answered."


class Client:
    """A browser with several connections, and its log of what it was told."""

    def __init__(self, machine: Machine, *, large: bool = False) -> None:
        """With `large` chunks are of some MiB, files of one chunk are tiny, and little is removed."""
        self.machine, self.server, self.large = machine, machine.server, large
        self.random = random.Random(machine.seed)
        self.drop = new_uuid()
        self.sent: list[Sent] = []
        self.removed: dict[str, Sent] = {}
        self.digests: dict[str, bytes] = {}  # of all that was ever sent, by name
        self.broken: dict[str, list[str]] = {}  # what was claimed -> each breach
        self.counts: Counter[str] = Counter()
        self.round = 0
        self._jobs: deque[Job] = deque()
        self._lock = threading.RLock()
        self._told: set[tuple[str, str]] = set()
        self._fresh: list[str] = []  # UUIDs of what was done or removed since the last look

    def those(self, *states: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.state in states]

    def breach(self, claim: str, whose: str, what: str) -> None:
        """Note it, once for each claim and upload."""
        with self._lock:
            if (claim, whose) not in self._told:
                self._told.add((claim, whose))
                self.broken.setdefault(claim, []).append(f"round {self.round}: {whose}: {what}")

    # What it does

    def new(self, count: int, *, whole: bool = False, by_runs: bool = False) -> Sent:
        """Another upload, of so many chunks; by runs of some more, for those are small."""
        with self._lock:
            if by_runs:
                chunk_size, count = RUN_CHUNK, count if count == 1 else count * (16 if self.large else 2)
            elif self.large:
                chunk_size = self.random.choice([1, 2, 4]) * MIB if count > 1 else 4 * KIB
            else:
                chunk_size = int(2 ** self.random.uniform(10, 18.2))  # 1 to 300 KiB
            content = self.random.randbytes(chunk_size * (count - 1) + self.random.randint(1, chunk_size))
            uuid = "" if whole or by_runs else new_uuid()
            sent = Sent(f"{len(self.digests)}.bin", content, chunk_size, uuid, by_runs)
            self.digests[sent.name] = sent.digest
            self.sent.append(sent)
            return sent

    def _next_job(self) -> Job:
        with self._lock:
            while not self._jobs:
                self._jobs.extend(self._new_jobs())
            return self._jobs.popleft()

    def _new_jobs(self) -> Iterator[Job]:
        ways = ("one", "several", "whole", "left", "broken off", "removed", "remove")
        (way,) = self.random.choices(ways, (30, 25, 15, 10, 8, 7, 5))
        if sum(sent.size for sent in self.those(BEGUN)) > ROOM_BYTES and way in ("several", "left", "broken off"):
            way = "one"
        if way == "whole":
            yield partial(self.put, self.new(1, whole=True))
        elif way != "remove":
            count = 1 if way == "one" else self.random.randint(2, 3 if self.large else 5)
            sent = self.new(count, by_runs=self.random.random() < 0.5)
            parts = self._cut(sent, set(range(sent.count)))
            some = [index for part in parts[: self.random.randint(1, max(1, len(parts) - 1))] for index in part]
            if way in ("one", "several"):  # over all connections
                yield from (partial(self.send, sent, *part) for part in parts)
            elif way == "left":
                yield partial(self.send, sent, *some)
            elif way == "broken off":
                yield partial(self.break_off, sent, parts[-1])
                yield partial(self.break_off, sent, parts[-1], *some)
            elif way == "removed":
                yield partial(self.remove, sent, *some)
        done = self.those(DONE)
        self.random.shuffle(done)
        while done and (way == "remove" or sum(sent.size for sent in done) > ROOM_BYTES):
            way = ""
            yield partial(self.remove, done.pop())

    def _cut(self, sent: Sent, numbers: set[int]) -> list[range]:
        """These chunks as requests carry them, in any order: one in a form, some that follow each other in a run."""
        parts: list[range] = []
        for number in sorted(numbers):
            most = sent.count // 2 if sent.by_runs else 1
            if parts and parts[-1].stop == number and len(parts[-1]) < most:
                parts[-1] = range(parts[-1].start, number + 1)
            else:
                parts.append(range(number, number + 1))
        return self.random.sample(parts, len(parts))

    def _go_on(self) -> None:
        """With what the last cut left: some of it is sent, some removed, some waits."""
        self._jobs.clear()
        self._jobs.extend(partial(self.remove, sent) for sent in self.those(REMOVING))
        for sent in self.those(BEGUN):
            way = self.random.choice(["send", "send", "remove", "wait"])
            if way == "remove" and sent.acknowledged:
                self._jobs.append(partial(self.remove, sent))
            elif way == "send":
                missing = set(range(sent.count)) - set(sent.acknowledged)
                self._jobs.extend(partial(self.send, sent, *part) for part in self._cut(sent, missing))
        self.random.shuffle(self._jobs)

    # How it does it

    def _ask(self, connection: Connection, data: bytes, sent: Sent, *good: int) -> Response | None:
        """The answer, if it is one of the good ones. Without a disk it may be a 5xx, and nothing else."""
        connection.send(data)
        answer = connection.receive()
        with self._lock:
            self.counts[f"{answer.status // 100}xx"] += 1
            sent.said = f"{data.split(b' ', 1)[0].decode()}: {answer.status} {answer.text}"
        if answer.status in good:
            # In the moment of the cut nothing counts. A machine without power answers nothing, and of a disk Linux may
            # report just then that a sync succeeded which did not (seen with xfs, up to 8 ms after the cut).
            known = not self.machine.dark or time.monotonic() > self.machine.cut_at + MOMENT_SECONDS
            return answer if known else None
        if answer.status >= 500 and (self.machine.dark or self.machine.same_boot):
            time.sleep(0.02)  # a client does not ask all the time
        else:
            self.breach(GOES_ON, sent.uuid or sent.name, sent.said)
            sent.end(ASIDE)
        return None

    def _request(self, sent: Sent, part: range) -> bytes:
        if sent.by_runs:
            numbers = {"uuid": sent.uuid, "chunk_size": sent.chunk_size, "cookie": self.drop}
            return run_request(sent.content, part.start, len(part), **numbers)  # type: ignore[arg-type]
        return chunk_request(
            sent.content, part.start, uuid=sent.uuid, name=sent.name, chunk_size=sent.chunk_size, cookie=self.drop
        )

    def _begin(self, sent: Sent, connection: Connection) -> bool:
        """Begins an upload that comes by runs, or finds it again. Returns whether it has a UUID now."""
        if sent.by_runs:
            data = announce_request(sent.size, name=sent.name, cookie=self.drop)
            if not (answer := self._ask(connection, data, sent, 200, 201)):
                return False
            sent.uuid = answer.json()["upload"]["uuid"]
        return True

    def send(self, sent: Sent, *numbers: int, connection: Connection) -> None:
        for part in self._cut(sent, set(numbers)):
            if sent.state != BEGUN or not self._begin(sent, connection):
                return
            with self._lock:
                if sent.state != BEGUN:
                    return
                data = self._request(sent, part)
            if not (answer := self._ask(connection, data, sent, 200)):
                return
            said = answer.json()
            with self._lock:
                if (said["upload"] if sent.by_runs else said["files"][0])["done"]:
                    self._end(sent, DONE)
                elif sent.state == BEGUN:
                    sent.acknowledged.update(dict.fromkeys(part, time.monotonic()))

    def break_off(self, sent: Sent, last: range, *first: int, connection: Connection) -> None:
        self.send(sent, *first, connection=connection)
        if sent.state == BEGUN and self._begin(sent, connection):
            data = self._request(sent, last)
            with Connection(self.server) as another:
                another.send(data[: self.random.randint(len(data) // 2, len(data) - 100)])

    def put(self, sent: Sent, connection: Connection) -> None:
        data = request("PUT", f"/upload/{sent.name}", body=sent.content, cookie=self.drop)
        if answer := self._ask(connection, data, sent, 201):
            sent.uuid = answer.json()["files"][0]["uuid"]
            self._end(sent, DONE)

    def remove(self, sent: Sent, *first: int, connection: Connection) -> None:
        self.send(sent, *first, connection=connection)
        good = (200, 404, 410) if sent.state == REMOVING else (200,)  # it may have been heard before the cut
        with self._lock:
            if sent.state not in (DONE, REMOVING) and not sent.acknowledged:
                return
            sent.state = REMOVING
        if self._ask(connection, request("DELETE", f"/uploads/{sent.uuid}", cookie=self.drop), sent, *good):
            self._end(sent, REMOVED)

    def _end(self, sent: Sent, state: str) -> None:
        with self._lock:
            sent.end(state)
            self.counts[state] += 1
            self._fresh.append(sent.uuid)

    def _work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                with Connection(self.server) as connection:
                    while not stop.is_set():
                        self._next_job()(connection=connection)
            except TimeoutError:
                self.breach(ANSWERED, self.drop, "nothing came")
            except OSError:  # the power is gone
                continue

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Meanwhile it uploads and removes over four connections."""
        stop = threading.Event()
        self._go_on()
        with ThreadPoolExecutor(4) as pool:
            threads = [pool.submit(self._work, stop) for _ in range(4)]
            try:
                yield
            finally:
                stop.set()
        for thread in threads:
            thread.result()

    def work_and_cut(self) -> None:
        self.round += 1
        with self.at_work():
            # The moment is random, and some come late enough for chunks of that round that must be kept.
            late = self.round % 10 == 1 and not self.large
            time.sleep(self.random.uniform(0.05, 0.8) + (PROMISE_SECONDS if late else 0))
            self.machine.cut()
            self.server.kill()

    # What it sees

    def _get(self, target: str) -> Response:
        return exchange(self.server, request("GET", target, cookie=self.drop))

    def _list(self) -> dict[str, dict[str, Any]]:
        """All its uploads, page by page if there are pages."""
        listed, target = {}, "/uploads"
        while target:
            page = self._get(target).json()
            listed.update({upload["uuid"]: upload for upload in page["uploads"]})
            target = f"/uploads?before={quote(str(page['next']))}" if page.get("next") else ""
        return listed

    def _fetch(self, uuid: str) -> bytes | None:
        answer = self._get(f"/download/{uuid}")
        return digest(answer.body) if answer.status == 200 else None

    def look(self) -> Look:
        uploads = {}
        for sent in self.those(BEGUN):
            if sent.uuid and (answer := self._get(f"/uploads/{sent.uuid}")).status == 200:
                uploads[sent.uuid] = answer.json()["upload"]
        storage = self.server.storage
        old = [sent.uuid for sent in self.those(DONE)], list(self.removed)
        some = [uuid for uuids in old for uuid in self.random.sample(uuids, min(20, len(uuids)))]
        return Look(
            listed=self._list(),
            uploads=uploads,
            storage={
                name: digest((storage / name).read_bytes())
                for name in os.listdir(storage)
                if not name.startswith(".pyfiledrop")
            },
            chunks=set(os.listdir(self.server.chunks)),
            strangers=re.findall(r"unknown origin: (.*)\.", self.server.output()),
            fetched={uuid: self._fetch(uuid) for uuid in {*self._fresh, *some}},
        )

    def check(self, claims: Sequence[Claim]) -> None:
        """Hold what is to be seen to the log, then go by what is to be seen."""
        look = self.look()
        self._fresh.clear()
        for sent in self.those(REMOVED):
            self.removed[sent.uuid] = sent
        for claim in claims:
            for whose, what in claim(self, look):
                self.breach(str(claim.__doc__), whose, what)
        now = time.monotonic()
        by_name = {upload["name"]: uuid for uuid, upload in look.listed.items() if upload["done"]}
        for sent in self.those(BEGUN, DONE):
            upload = look.uploads.get(sent.uuid)
            if sent.state == DONE:
                if look.storage.get(sent.stored) != sent.digest:
                    sent.end(ASIDE)
            elif not sent.uuid and sent.name not in by_name:  # was not answered, and did not come in
                sent.end(ASIDE)
            elif not sent.uuid or (upload and upload["done"]):  # came in, though it was not answered
                sent.uuid = by_name.get(sent.name, sent.uuid)
                self._end(sent, DONE)
            else:
                there = indexes(upload["chunks"]) if upload else set()
                self.counts["chunks kept"] += len(there & set(sent.acknowledged))
                self.counts["chunks not kept"] += len(set(sent.acknowledged) - there)
                sent.acknowledged = {index: sent.acknowledged.get(index, now) for index in there}
        self.sent = self.those(BEGUN, DONE, REMOVING)

    def finish(self, claims: Sequence[Claim]) -> None:
        """Send what is missing, until nothing is: after a cut the server may ask for more than it says at first."""
        for _ in range(5):
            for sent in self.those(BEGUN, REMOVING):
                with Connection(self.server) as connection:  # one of its own, for it may be closed after a refusal
                    if sent.state == REMOVING:
                        self.remove(sent, connection=connection)
                    else:
                        missing = set(range(sent.count)) - set(sent.acknowledged)
                        # Where all are said to be in, and it is not done, one that comes again may bring it about.
                        self.send(sent, *(missing or {0}), connection=connection)
            self.check(claims)
            if not self.those(BEGUN, REMOVING):
                return
        for sent in self.those(BEGUN, REMOVING):
            self.breach(GOES_ON, sent.uuid, f"{sent.state}, and stays so after {sent.said}")

    def verdict(self) -> str:
        """What was broken, and where."""
        lines = [f"On {self.machine.make}, seed {self.machine.seed}, {self.machine.cuts} cuts, {dict(self.counts)}"]
        for claim, breaches in self.broken.items():
            lines += [f"{len(breaches)} times not so: {claim}", *(f"    {breach}" for breach in breaches[:5])]
        return "\n".join(lines)
