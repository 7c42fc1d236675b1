"""Threads that work one after the other, and the turn while the disk is waited for."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from storing import (
    File,
    Folders,
    finish,
)

import pyfiledrop
from pyfiledrop import (
    Store,
)

MIB = 1 << 20
DAY = 24 * 3600.0


def test_turn() -> None:
    """One thread has it; who waits too long goes on without, and never gives up what is another's."""
    turn = pyfiledrop.Turn()
    turn.take()
    turn.take()  # has it already: does not wait for itself
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(turn.give_up).result()
        pool.submit(turn.take).result(5)  # waits in vain, and works without it
        assert not pool.submit(turn.give_up).result()
        with turn.paused():
            pool.submit(turn.take).result(5)
            assert not turn.give_up()
            assert pool.submit(turn.give_up).result()
        assert turn.give_up()
        with turn.paused():  # who had none has none afterwards
            pass
        assert not turn.give_up()
        pool.submit(turn.take).result(5)
        assert pool.submit(turn.give_up).result()


def test_turn_is_first_come_first_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lets others work comes behind all who waited by then."""
    monkeypatch.setattr(pyfiledrop, "TURN_SECONDS", 20)
    turn, order = pyfiledrop.Turn(), list[int]()
    came: queue.SimpleQueue[int] = queue.SimpleQueue()

    class Line(dict[int, Any]):
        def __setitem__(self, thread: int, gate: Any) -> None:
            super().__setitem__(thread, gate)
            came.put(thread)

    turn._waiting = Line()

    def work(number: int) -> None:
        turn.take()
        order.append(number)
        assert turn.give_up()

    turn.take()
    assert not turn.let_others()  # nobody is there
    with ThreadPoolExecutor(3) as pool:
        working = []
        for number in range(3):
            working.append(pool.submit(work, number))
            came.get(timeout=20)
        assert turn.let_others()
        order.append(3)
        for each in working:
            each.result(20)
    assert order == [0, 1, 2, 3]
    assert turn.give_up() and not turn.let_others()


def test_turn_that_comes_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never lost on who has just stopped waiting for it."""
    monkeypatch.setattr(pyfiledrop, "TURN_SECONDS", 0.00002)
    turn = pyfiledrop.Turn()

    def work() -> None:
        for _ in range(200):
            turn.take()
            os.urandom(50_000)  # longer than anybody waits
            turn.let_others()
            turn.give_up()

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(work) for _ in range(8)]:
            each.result(60)
    assert not turn._waiting
    turn.take()
    assert turn.give_up()


@pytest.mark.parametrize("waits_for", ["the later request", "the upload"])
def test_who_waits_for_another_gives_up_the_turn(
    folders: Folders, store: Store, monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    """Neither a chunk that was sent twice nor an upload that is being published keeps all others waiting."""
    monkeypatch.setattr(pyfiledrop, "TURN_SECONDS", 20)
    file = File(b"aaaabbbb")
    first, later = file.begin_filled(store, 0), file.begin_filled(store, 0)
    working = threading.Event()

    def merge() -> None:
        pyfiledrop.TURN.take()
        working.set()
        with first:
            store.merge(first)
        pyfiledrop.TURN.give_up()

    with ThreadPoolExecutor(1) as pool:
        with store._locked(file.uuid) if waits_for == "the upload" else contextlib.nullcontext():
            merging = pool.submit(merge)
            assert working.wait(20)
            pyfiledrop.TURN.take()
            assert pyfiledrop.TURN.give_up() and not merging.done()
        with later:
            store.merge(later)
        merging.result(20)
    file.send(store, 1)
    finish(folders, store, [file])


def test_slow_disk_gives_up_the_turn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk keeps everybody waiting, files are finished out of turn for a while, and others work meanwhile."""
    had: list[bool] = []
    monkeypatch.setattr(pyfiledrop, "OUT_OF_TURN_SECONDS", 20)
    monkeypatch.setattr(pyfiledrop, "force_to_disk", lambda fd, is_folder=False: had.append(pyfiledrop.TURN.is_mine()))

    def in_turn(*slow: bool) -> list[bool]:
        """Sends a file for each, the disk being that slow. Returns which of them were finished in turn."""
        had.clear()
        for each in slow:
            monkeypatch.setattr(pyfiledrop, "SLOW_SYNC_SECONDS", -1 if each else 1000)
            File(b"abc").send(store, 0)
        assert had[::3] == had[1::3]  # the file, and the folder that names it; then the record
        return had[::3]

    pyfiledrop.TURN.take()
    try:
        for _ in range(2):
            assert in_turn(*[True] * 3, False, *[True] * 3, False) == [True] * 8  # not each time
            assert in_turn(*[True] * 4, True, False) == [True] * 4 + [False] * 2
            monkeypatch.setattr(store, "_slow_until", 0.0)  # the while is over
    finally:
        assert pyfiledrop.TURN.give_up()


def test_time_out_of_turn_says_nothing_about_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is also the time that others worked in: who went out of turn once would never come back."""
    monkeypatch.setattr(pyfiledrop, "SLOW_SYNC_SECONDS", -1)
    for _ in range(2 * pyfiledrop.SLOW_SYNCS):
        File(b"abc").send(store, 0)
    assert store._slow_until == 0
