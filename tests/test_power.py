"""The power goes, of the machine or of a disk alone, on real file systems: what was promised before holds after it.

Linux lets root try this: see power.py. Rows 65 and 66 of the table of threats.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Connection
from power import BEGUN, DONE, MAKES, PROMISE_SECONDS, Claim, Client, Look, Machine, remove_mounts, run
from storing import indexes


def may_mount() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0 or not os.access("/dev/loop-control", os.W_OK):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.skipif(not may_mount(), reason="only root of a Linux machine can mount file systems and cut them off"),
    pytest.mark.timeout(0),  # it takes as long as was asked for; nothing in it waits without a limit of its own
]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for images, in memory: they take what is written to them, and are not waited for."""
    folder = tmp_path_factory.mktemp("memory")
    run("mount", "-t", "tmpfs", "-o", "size=2g", "images", folder)
    try:
        run("mount", "--make-shared", folder)
        yield folder
    finally:
        remove_mounts(folder)


@pytest.fixture
def cuts(pytestconfig: pytest.Config) -> int:
    """How many there are in all tests together."""
    cuts: int = pytestconfig.getoption("--cuts")
    return cuts


# The promises, one each


def done_is_whole(client: Client, look: Look) -> Iterator[tuple[str, str]]:
    """A file reported done is in storage, with all its bytes."""
    for sent in client.those(DONE):
        if look.storage.get(sent.stored) != sent.digest:
            when = f"reported {client.machine.cut_at - sent.ended:.3f} s before the cut, by {sent.said[:10]}"
            yield sent.uuid, f"{'other bytes' if sent.stored in look.storage else 'not there'}; {when}"


def done_is_listed(client: Client, look: Look) -> Iterator[tuple[str, str]]:
    """A file reported done is in its owner's list as done."""
    for sent in client.those(DONE):
        if not look.listed.get(sent.uuid, {}).get("done"):
            yield sent.uuid, f"listed as {look.listed.get(sent.uuid)}"


def done_is_fetched(client: Client, look: Look) -> Iterator[tuple[str, str]]:
    """A file reported done can be fetched."""
    for sent in client.those(DONE):
        if sent.uuid in look.fetched and look.fetched[sent.uuid] != sent.digest:
            yield sent.uuid, "other bytes" if look.fetched[sent.uuid] else "not there"


def removed_is_gone(client: Client, look: Look) -> Iterator[tuple[str, str]]:
    """What was reported removed does not come back."""
    stored = {name[:36] for name in look.storage}
    fetched = {uuid for uuid, digest in look.fetched.items() if digest}
    places = {"storage": stored, "chunks": look.chunks, "the list": set(look.listed), "what can be fetched": fetched}
    for uuid in set().union(*places.values()) & set(client.removed):
        yield uuid, "in " + ", ".join(place for place, uuids in places.items() if uuid in uuids)


def storage_is_right(client: Client, look: Look) -> Iterator[tuple[str, str]]:
    """Nothing stands in storage but what was sent, whole."""
    for name, digest in look.storage.items():
        if digest != client.digests.get(name[37:]):
            yield name, "other bytes" if name[37:] in client.digests else "of unknown origin"


def folders_have_records(client: Client, look: Look) -> Iterator[tuple[str, str]]:
    """Each folder in chunks is that of an unfinished upload on record."""
    for uuid in look.chunks - {uuid for uuid, upload in look.listed.items() if not upload["done"]}:
        yield uuid, "has a record that says it is done" if uuid in look.listed else "without a record"
    for name in look.strangers:
        yield name.strip("'"), "the server calls it unknown"


def chunks_are_kept(client: Client, look: Look) -> Iterator[tuple[str, str]]:
    """A chunk acknowledged more than 3 s before the cut need not be sent again."""
    for sent in client.those(BEGUN):
        upload = look.uploads.get(sent.uuid)
        if upload and upload["done"]:
            continue
        promised = {i for i, when in sent.acknowledged.items() if when < client.machine.cut_at - PROMISE_SECONDS}
        lost = promised - (indexes(upload["chunks"]) if upload else set())
        if lost:
            yield sent.uuid, f"{len(promised - lost)} of {len(promised)} were kept"


def chunks_are_right(client: Client, look: Look) -> Iterator[tuple[str, str]]:
    """A chunk that is said to be in has the bytes that were sent."""
    for sent in client.those(BEGUN):
        upload = look.uploads.get(sent.uuid)
        if not upload or upload["done"] or not upload["chunks"]:
            continue
        data = (client.server.chunks / sent.uuid / "data").read_bytes()
        for index in indexes(upload["chunks"]):
            span = slice(index * sent.chunk_size, min(sent.size, (index + 1) * sent.chunk_size))
            if data[span] != sent.content[span]:
                yield sent.uuid, f"chunk {index} of {sent.count} has other bytes"


#: What holds after any cut, and what after one that the machine was part of: the next start knows of that one.
ALWAYS: list[Claim] = [
    done_is_whole,
    done_is_listed,
    done_is_fetched,
    removed_is_gone,
    storage_is_right,
    folders_have_records,
]
AFTER_A_BOOT: list[Claim] = [*ALWAYS, chunks_are_kept, chunks_are_right]


def expect_all_kept(*clients: Client) -> None:
    if broken := [client.verdict() for client in clients if client.broken]:
        pytest.fail("\n".join(broken), pytrace=False)


# Of the machine


@pytest.mark.parametrize("make", MAKES)
def test_row_65_power_cut(program: list[str], memory: Path, make: str, cuts: int) -> None:
    """The machine loses power while files come and go, and again while the server starts: what it promised holds."""
    with Machine(program, memory / make, make, seed=cuts) as machine:
        client = Client(machine)
        while machine.cuts < cuts // 8:
            client.work_and_cut()
            machine.start()
            client.check(AFTER_A_BOOT)
        client.finish(AFTER_A_BOOT)
        expect_all_kept(client)
        least = min(client.counts[what] for what in ("done", "removed", "chunks kept"))
        assert least >= 2 * client.round, f"hardly anything came and went: {client.counts}"


def trickle(program: list[str], folder: Path, make: str) -> Client:
    """A chunk every half second, and nothing else, until the power goes."""
    with Machine(program, folder, make, seed=0) as machine:
        client = Client(machine)
        sent = client.new(20)
        with Connection(machine.server) as connection:
            for index in range(16):
                client.send(sent, index, connection=connection)
                time.sleep(0.5)
        machine.cut()
        machine.start()
        client.check(AFTER_A_BOOT)
        client.finish(AFTER_A_BOOT)
        return client


def test_row_65_power_cut_in_a_quiet_hour(program: list[str], memory: Path) -> None:
    """A chunk is kept though nothing else ever comes that would bring it to the disk."""
    with ThreadPoolExecutor(len(MAKES)) as pool:
        clients = list(pool.map(lambda make: trickle(program, memory / f"quiet {make}", make), MAKES))
    expect_all_kept(*clients)


def test_without_syncing_something_is_lost(program: list[str], memory: Path, cuts: int) -> None:
    """What a power cut takes, these tests see: a server that does not wait for the disk does not keep its promises."""
    with Machine(program, memory / "no sync", "ext4", 0, "--no-fsync") as machine:
        client = Client(machine)
        while machine.cuts < max(3, cuts // 30):
            client.work_and_cut()
            machine.start()
            client.check(AFTER_A_BOOT)
        assert str(done_is_whole.__doc__) in client.broken, f"nothing was lost: {client.counts}"


# Of a disk alone


@pytest.mark.parametrize("make", ["ext4", "xfs", "ext4, cached"])
def test_row_66_disk_loses_power(program: list[str], memory: Path, make: str, cuts: int) -> None:
    """A disk loses power and the machine does not: no file is ever wrong, whatever the server may ask for again."""
    with Machine(program, memory / f"same boot {make}", make, seed=cuts, same_boot=True) as machine:
        client = Client(machine, large=True)
        while machine.cuts < cuts // 15:
            client.work_and_cut()
            machine.start()
            client.check(ALWAYS)
            client.finish(ALWAYS)
        expect_all_kept(client)


@pytest.mark.parametrize("make", ["ext4", "xfs"])
def test_row_66_disk_goes_under_the_server(program: list[str], memory: Path, make: str, cuts: int) -> None:
    """A disk goes and comes back while the server runs: it says 5xx and never makes a wrong file of it."""
    with Machine(program, memory / f"running {make}", make, seed=cuts, same_boot=True) as machine:
        client = Client(machine, large=True)
        while machine.cuts < cuts // 30:
            client.round += 1
            before = client.counts["5xx"]
            with client.at_work():
                time.sleep(0.5)
                machine.cut()
                time.sleep(0.3)
                machine.disks[0].replace()
                time.sleep(0.5)
            assert client.counts["5xx"] > before, "no upload ever met the disk that is gone"
            machine.start()
            client.check(ALWAYS)
            client.finish(ALWAYS)
        expect_all_kept(client)
