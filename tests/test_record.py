"""The record: what is known of uploads, one server's alone, and what a power cut leaves of it."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys

import pytest
from storing import (
    ALICE,
    RECORD,
    File,
    Folders,
    finish,
)

import build
import pyfiledrop
from pyfiledrop import (
    Gone,
    StartError,
    Store,
)

MIB = 1 << 20
DAY = 24 * 3600.0


def test_revoke(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that was ended stays so, also for a store that is opened anew, until it would have ended by itself."""
    store.record.revoke("early", 2000_000_000)
    store.record.revoke("late", 3000_000_000)
    for _ in range(2):
        assert (
            store.record.is_revoked("early")
            and store.record.is_revoked("late")
            and not store.record.is_revoked("other")
        )
        store = folders.open()
    monkeypatch.setattr("time.time", lambda: 2000_000_000.0)
    store.record.revoke("another", 3000_000_000)
    for _ in range(2):
        assert [store.record.is_revoked(session) for session in ("early", "late", "another")] == [False, True, True]
        store = folders.open()


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
@pytest.mark.parametrize("name", [RECORD, f"{RECORD}-wal", f"{RECORD}-journal"])
@pytest.mark.parametrize("kind", ["symbolic link", "hard link"])
def test_record_is_a_link(folders: Folders, name: str, kind: str) -> None:
    """What somebody put in the record's place is not written to, and its rights stay."""
    folders.storage.mkdir(parents=True)
    victim = folders.root / "victim"
    victim.write_bytes(b"the victim's")
    victim.chmod(0o644)
    if kind == "hard link":
        os.link(victim, folders.storage / name)
    else:
        (folders.storage / name).symlink_to(victim)
    with pytest.raises(StartError, match="record"):
        folders.open()
    assert victim.read_bytes() == b"the victim's"
    assert kind == "hard link" or victim.stat().st_mode & 0o777 == 0o644


def test_second_store_is_refused(folders: Folders, store: Store) -> None:
    """Two stores on one storage: the second says so, and the first goes on undisturbed."""
    with pytest.raises(StartError, match="Another pyfiledrop is running"):
        pyfiledrop.open_store(folders.storage, folders.chunks)
    finish(folders, store, [File(b"aaaabbbb")])


def test_second_process_is_refused(folders: Folders, store: Store) -> None:
    """A second server on the same storage exits with status 2 and one sentence."""
    command = [sys.executable, str(build.ROOT / "pyfiledrop.py"), "--port", "0", "--host", "127.0.0.1"]
    command += ["-s", str(folders.storage), "-c", str(folders.chunks)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert "Another pyfiledrop is running" in ended.stderr


def test_crashed_process_stops_nobody(folders: Folders) -> None:
    """A process that died with the storage open leaves no lock that keeps the next one out."""
    code = (
        "import os, signal, sys; from pathlib import Path; import pyfiledrop;"
        "store = pyfiledrop.open_store(Path(sys.argv[1]), Path(sys.argv[2]));"
        "os.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))"
    )
    arguments = [str(folders.storage), str(folders.chunks)]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], cwd=build.ROOT, timeout=60, check=False)
    assert ended.returncode != 0
    finish(folders, folders.open(), [File(b"aaaabbbb")])


@pytest.mark.parametrize("state", ["text", "folder", "newer"])
def test_unusable_record(folders: Folders, state: str) -> None:
    """A record that is damaged, or of another version, or no file, is an error at start and is not touched."""
    folders.storage.mkdir(parents=True)
    path = folders.storage / RECORD
    match state:
        case "text":
            path.write_bytes(b"this is no database, it only looks like a long enough file" * 100)
        case "folder":
            path.mkdir()
        case "newer":
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA user_version = 99")
            db.close()
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StartError) as caught:
        folders.open()
    assert "record" in str(caught.value)
    if state != "newer":  # whose journal mode may have been changed
        assert (path.read_bytes() if path.is_file() else None) == before


def test_damaged_record_can_be_moved_away(folders: Folders) -> None:
    """After moving a damaged record away, as the sentence says, every finished file can be fetched."""
    file = File(b"aaaa")
    file.send(folders.open())
    folders.close()
    (folders.storage / RECORD).write_bytes(b"garbage" * 1000)
    with pytest.raises(StartError):
        folders.open()
    (folders.storage / RECORD).rename(folders.root / "moved")
    _, (opened, *_) = folders.open().open(file.uuid)
    with opened:
        assert opened.read() == file.content


def test_doubted_record_is_written_anew(folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a sync of the record that failed nobody knows what of its log is on the disk: the next one trusts none of
    it. Then all is well again, and the log is written once."""
    log = folders.storage / f"{RECORD}-wal"
    lengths = []

    def force(fd: int) -> None:
        if os.path.sameopenfile(fd, store.record._log):
            lengths.append(log.stat().st_size)
            if len(lengths) == 1:
                raise OSError(errno.EIO, "the disk failed")

    store.record.secret()  # which writes something
    monkeypatch.setattr(pyfiledrop, "force_to_disk", force)
    with pytest.raises(OSError):
        store.record.make_durable()
    store.record.make_durable()
    with store.record.transaction() as db:
        db.execute("INSERT INTO facts VALUES ('something', 'new')")
    store.record.make_durable()
    failed, anew, after = lengths
    assert failed > 0 and anew == 0 and after > 0


def test_removed_ones_are_not_remembered_without_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many, the latest."""
    monkeypatch.setattr(pyfiledrop, "MAX_REMOVED", 2)
    files = [File(b"aaaa") for _ in range(5)]
    for file in files:
        file.send(store)
        store.remove(ALICE, file.uuid)
        store.clear()
    assert store.record._db.execute("SELECT count(*) FROM removed").fetchone() == (2,)
    with pytest.raises(Gone):
        files[-1].send(store)
