"""The process dies, at any moment: what was acknowledged is there, what was done is whole, the rest goes on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import kill_at
import pytest
from conftest import Connection, Response, Server, StartServer, announce, chunk_request, exchange, request, run_request
from storing import Day, File, Folders, System, Watcher, indexes, new_uuid, play_disks

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there a process cannot kill itself as SIGKILL does")

RUN_CHUNK = 1024  # what the server chooses, if it is told to
ANSWERS_BEFORE_A_KILL = 40  # at most; about as many as a start takes time, so that neither outweighs the other


class Client:
    """A browser with several connections, and its log of what it was told."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.drop = new_uuid()
        self.acknowledged: dict[File, set[int]] = {}
        self.done: set[File] = set()
        self.unexpected: list[str] = []
        self.checked: set[str] = set()
        self._by_runs: set[str] = set()  # names of files that come by runs; the others come by forms
        self._jobs: deque[tuple[File, range]] = deque()
        self._lock = threading.Lock()

    def request(self, file: File, numbers: range) -> bytes:
        """These chunks; a form has only one."""
        how = {"uuid": file.uuid, "chunk_size": file.chunk_size, "cookie": self.drop}
        if file.name in self._by_runs:
            return run_request(file.content, numbers.start, len(numbers), **how)  # type: ignore[arg-type]
        return chunk_request(file.content, numbers.start, name=file.name, **how)  # type: ignore[arg-type]

    def announced(self, file: File) -> File:
        """The file under the UUID that the server chooses; from now on it comes by runs."""
        said = announce(self.server, len(file.content), name=file.name, cookie=self.drop)
        assert said["chunk_size"] == file.chunk_size
        self._by_runs.add(file.name)
        return replace(file, uuid=said["uuid"])

    def cut(self, file: File, numbers: set[int]) -> list[tuple[File, range]]:
        """These chunks in requests: runs of any length, or one a form."""
        jobs, rest = [], sorted(numbers)
        while rest:
            most = self.random.choice([1, 3, 100]) if file.name in self._by_runs else 1
            count = next((n for n in range(1, min(most, len(rest))) if rest[n] != rest[0] + n), min(most, len(rest)))
            jobs.append((file, range(rest[0], rest[0] + count)))
            del rest[:count]
        return jobs

    def status(self, file: File) -> dict[str, Any] | None:
        """What the server says of an upload; None when it does not know it."""
        answer = exchange(self.server, request("GET", f"/uploads/{file.uuid}", cookie=self.drop))
        assert answer.status in (200, 404), answer
        upload: dict[str, Any] | None = answer.json().get("upload")
        return upload

    def new_file(self) -> File:
        name = f"{len(self.acknowledged)}.bin"
        chunk_size, most = self.random.choice([(64, 4), (1000, 4), (70_000, 4), (RUN_CHUNK, 4), (RUN_CHUNK, 200)])
        content = self.random.randbytes(self.random.randint(0, most * chunk_size))  # some go through splice
        file = File(content, chunk_size, name, self.drop)
        return self.announced(file) if chunk_size == RUN_CHUNK else file

    def next_job(self) -> tuple[File, range]:
        with self._lock:
            if not self._jobs:
                file = self.new_file()
                self.acknowledged[file] = set()
                jobs = self.cut(file, set(range(file.count)))
                self.random.shuffle(jobs)
                self._jobs.extend(jobs)
            return self._jobs.popleft()

    def note(self, file: File, numbers: range, answer: Response) -> None:
        said = answer.json()
        with self._lock:
            self.acknowledged[file].update(numbers)
            if (said["upload"] if "upload" in said else said["files"][0])["done"]:
                self.done.add(file)

    def upload_until_dead(self, answers: threading.Semaphore) -> None:
        """Send one chunk after the other over one connection, until it breaks."""
        try:
            with Connection(self.server) as connection:
                while True:
                    file, numbers = self.next_job()
                    connection.send(self.request(file, numbers))
                    answer = connection.receive()
                    if answer.status != 200:
                        self.unexpected.append(f"chunks {numbers} of {file.count}: {answer.status} {answer.text}")
                        return
                    self.note(file, numbers, answer)
                    answers.release()
        except OSError:
            return
        finally:
            answers.release(ANSWERS_BEFORE_A_KILL)  # whoever waits for answers need not wait for this connection

    def upload_and_kill(self) -> None:
        """Upload over four connections; kill the server somewhere in the middle."""
        answers = threading.Semaphore(0)
        with ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(self.upload_until_dead, answers)
            for _ in range(self.random.randint(1, ANSWERS_BEFORE_A_KILL)):
                answers.acquire()
            time.sleep(self.random.random() * 0.003)  # the moment is random; it is no wait for something
            self.server.kill()

    def check(self) -> None:
        """Compare server and disk with the log; what is missing then is what is sent next."""
        assert not self.unexpected, f"{self.unexpected}; {self.server.output()}"
        storage = self.server.storage
        names = {file.stored: file for file in self.acknowledged}
        for stored in set(os.listdir(storage)) - self.checked:
            if not stored.startswith(".pyfiledrop.sqlite3"):
                assert stored in names, f"{stored} has no business in storage"
                assert (storage / stored).read_bytes() == names[stored].content, f"{stored} in storage is not whole"
                self.checked.add(stored)
        self._jobs.clear()
        for file, numbers in list(self.acknowledged.items()):
            if file in self.done and file.stored in self.checked:
                continue
            upload = self.status(file)
            if upload is None and not numbers and file.name in self._by_runs:  # what was only announced is forgotten
                del self.acknowledged[file]
                file = self.announced(file)
                self.acknowledged[file] = numbers
            there = indexes(upload["chunks"]) if upload else set()
            assert numbers <= there, f"acknowledged and lost: chunks {numbers - there} of {file.uuid}"
            if upload and upload["done"]:
                assert file.stored in self.checked, f"{file.stored} is done and not in storage"
                self.done.add(file)
                continue
            assert file not in self.done, f"{file.stored} was done and is not"
            data = (self.server.chunks / file.uuid / "data").read_bytes() if there else b""
            for index in there:
                at = index * file.chunk_size
                assert data[at : at + len(file.piece(index))] == file.piece(index), f"chunk {index} of {file.uuid}"
            self._jobs.extend(self.cut(file, set(range(file.count)) - there))

    def finish(self) -> None:
        """Send what is missing, and nothing else; then all is in storage, on record and whole."""
        while self._jobs:
            file, numbers = self._jobs.popleft()
            answer = exchange(self.server, self.request(file, numbers))
            assert answer.status == 200, f"{answer.status} {answer.text}; {self.server.output()}"
            self.note(file, numbers, answer)
        assert self.done == set(self.acknowledged)
        self.checked.clear()
        self.check()
        listed, page = [], {"next": ""}
        while page["next"] is not None:
            query = f"?before={page['next']}" if page["next"] else ""
            page = exchange(self.server, request("GET", f"/uploads{query}", cookie=self.drop)).json()
            listed += page["uploads"]
        assert {file["uuid"] for file in listed if file["done"]} == {file.uuid for file in self.done}
        assert len(listed) == len(self.done)
        assert os.listdir(self.server.chunks) == []


@pytest.mark.timeout(0)  # it takes as long as was asked for; nothing in it waits without a limit of its own
def test_row_38_killed_at_random(start_server: StartServer, pytestconfig: pytest.Config) -> None:
    """However often the server is killed while files come in: no acknowledged chunk and no file is ever lost."""
    kills = pytestconfig.getoption("--kills")

    def run(server: Server, seed: int) -> int:
        client = Client(server, seed)
        for _ in range(kills // 2):
            client.upload_and_kill()
            server.start()
            client.check()
        client.finish()
        return len(client.done)

    options = ("--chunk-size", str(RUN_CHUNK))
    servers = [start_server(*options), start_server(*options)]  # two, for the start of one leaves time for the other
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run, server, seed) for seed, server in enumerate(servers)]
        for finished in runs:
            assert finished.result() > kills // 4, "hardly anything was uploaded: the test tests nothing"


# One moment after the other

PROGRAM = str(Path(kill_at.__file__))


def dying_server(moment: str, folder: Path) -> Server:
    return Server([sys.executable, PROGRAM, moment], folder, ("--chunk-size", str(RUN_CHUNK)), {})


def upload_until_killed(client: Client, files: list[File]) -> None:
    """Send these files, chunk after chunk, then remove the first, until the server is gone."""
    client.acknowledged.update({file: set() for file in files})
    try:
        for file in files:
            for index in range(file.count):
                numbers = range(index, index + 1)
                answer = exchange(client.server, client.request(file, numbers))
                assert answer.status == 200, f"{answer.text}; {client.server.output()}"
                client.note(file, numbers, answer)
    except ConnectionError:
        client.server.proc.wait(20)


@pytest.mark.parametrize(
    ("count", "by_runs"), [(1, True), (3, False), (3, True)],
    ids=["one chunk by a run", "three chunks by forms", "three chunks by runs"],
)  # fmt: skip
@pytest.mark.parametrize("moment", [name for name in kill_at.MOMENTS if not name.startswith("removing")])
def test_killed_at(start_server: StartServer, tmp_path: Path, moment: str, count: int, by_runs: bool) -> None:
    """Killed at this very moment: nothing acknowledged is lost, the rest is sent, and nothing else is left."""
    client = Client(dying_server(moment, tmp_path), 0)
    file = File(random.randbytes(RUN_CHUNK * count - 2), RUN_CHUNK, "отчёт?.bin", client.drop)
    second = File(random.randbytes(2 * RUN_CHUNK), RUN_CHUNK, "second.bin", client.drop)
    files = [client.announced(file), client.announced(second)] if by_runs else [file, second]
    try:
        upload_until_killed(client, files)
        died = client.server.proc.poll() is not None
    finally:
        client.server.kill()
    assert died, "the moment never came"
    client.server = start_server("--chunk-size", str(RUN_CHUNK), folder=tmp_path)
    client.check()
    client.finish()
    assert "unknown origin" not in client.server.output()


@pytest.mark.parametrize("moment", [name for name in kill_at.MOMENTS if name.startswith("removing")])
def test_killed_while_removing(start_server: StartServer, tmp_path: Path, moment: str) -> None:
    """Killed while an upload is removed: the removal is as good as done or can be asked for again."""
    client = Client(dying_server(moment, tmp_path), 0)
    file = File(b"abcdefgh", chunk_size=4, owner=client.drop)
    with pytest.raises(ConnectionError):
        try:
            assert exchange(client.server, client.request(file, range(1))).status == 200
            exchange(client.server, request("DELETE", f"/uploads/{file.uuid}", cookie=client.drop))
        finally:
            client.server.kill()
    server = client.server = start_server(folder=tmp_path)
    if client.status(file):
        exchange(server, request("DELETE", f"/uploads/{file.uuid}", cookie=client.drop))
    assert client.status(file) is None
    assert os.listdir(server.chunks) == []


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Client]:
    """Folders in which several runs ended badly, each in another way, and the log of what they had acknowledged."""
    folder = tmp_path_factory.mktemp("interrupted")
    client = Client(dying_server("after sync, before link", folder), 1)
    for moment in (
        "after link, before record",
        "after data, before record",
        "after record, before the data's removal",
        "after the copy's link",
        "after link, before record",
    ):
        client.server.kill()
        client.server = dying_server(moment, folder)
        try:
            upload_until_killed(client, [File(moment.encode(), 10, f"{len(client.acknowledged)}.bin", client.drop)])
        finally:
            client.server.kill()
    return folder, client


@pytest.mark.parametrize("moment", kill_at.START_MOMENTS)
def test_killed_at_start(
    start_server: StartServer, tmp_path: Path, interrupted: tuple[Path, Client], moment: str
) -> None:
    """Killed while it mends what the last runs left: the next start mends it as well."""
    folder, before = interrupted
    copy = Folders(folder).copy_to(tmp_path / "copy")
    ended = subprocess.run(
        [sys.executable, PROGRAM, moment, "--port", "0", "-s", str(copy.storage), "-c", str(copy.chunks)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode < 0, f"it was not killed: {ended}"
    client = Client(start_server(folder=copy.root), 2)
    client.drop, client.done = before.drop, set(before.done)
    client.acknowledged = {file: set(numbers) for file, numbers in before.acknowledged.items()}
    client.check()
    client.finish()


# Every moment there is


class Snapshots(Watcher):
    """Before and after each call: what would be left on disk, and what had been answered by then."""

    def __init__(self, folders: Folders, day: Day) -> None:
        self.taken: list[tuple[str, Folders, Day]] = []
        self._folders, self._day = folders, day

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        self._take(f"{len(self.taken)}: before {name} {args}")

    def after(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        # After any other call it is the same as before the next.
        if name in ("link", "rename", "write", "pwrite") or "COMMIT" in name:
            self._take(f"{len(self.taken)}: after {name} {args}")

    def _take(self, moment: str) -> None:
        self.taken.append((moment, self._folders.after_crash(), self._day.copy()))


@pytest.mark.parametrize("kind", ["one disk", "two disks", "no links"])
def test_killed_at_every_call(folders: Folders, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Killed before or after any call to the system or the record: the promise holds, and every upload goes on."""
    play_disks(monkeypatch, kind)
    system, day = System(monkeypatch), Day()
    store = folders.open()
    watcher = Snapshots(folders, day)
    for step in day.steps(store):
        with system.watched(watcher):
            step()
    folders.close()
    assert len(watcher.taken) > 100
    for moment, left, then in watcher.taken:
        try:
            store = left.open()
            then.check(left, store)
            then.finish(left, store)
            left.close()
        except Exception as error:
            raise AssertionError(f"killed at {moment}") from error


def test_killed_at_every_call_of_a_start(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any call of a start that mends what a crash had left: the next start mends it."""
    system, day = System(monkeypatch), Day()
    store = folders.open()
    watcher = Snapshots(folders, day)
    for step in day.steps(store):
        with system.watched(watcher):
            step()
    folders.close()
    kinds = ("after link", "before unlink", "before rmdir")
    worth = [one for one in watcher.taken if any(kind in one[0] for kind in kinds)]
    assert all(any(kind in moment for moment, _, _ in worth) for kind in kinds)
    for moment, left, then in worth:
        starting = Snapshots(left, then)
        with system.watched(starting):
            left.open()
        left.close()
        for start_moment, left_again, _ in starting.taken:
            try:
                store = left_again.open()
                then.check(left_again, store)
                left_again.close()
            except Exception as error:
                raise AssertionError(f"killed at {moment}, then in the start at {start_moment}") from error
