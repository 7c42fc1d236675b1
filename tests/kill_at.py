"""The server, made to kill itself at one moment: python tests/kill_at.py MOMENT OPTIONS..."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyfiledrop  # noqa: E402 - the module lies beside this folder


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(where: Any, name: str, condition: Callable[..., object] = lambda *_: True) -> None:
    """Die instead of calling where.name, once the condition holds for its arguments."""
    real = getattr(where, name)

    def dying(*args: Any, **names: Any) -> Any:
        if condition(*args):
            die()
        return real(*args, **names)

    setattr(where, name, dying)


def after(where: Any, name: str, condition: Callable[..., object] = lambda *_: True) -> None:
    """Die when where.name has returned, once the condition holds for its arguments."""
    real = getattr(where, name)

    def dying(*args: Any, **names: Any) -> Any:
        result = real(*args, **names)
        if condition(*args):
            die()
        return result

    setattr(where, name, dying)


def refuse(name: str, number: int, condition: Callable[..., object] = lambda *_: True) -> None:
    """Let a call of os fail as on another file system."""
    real = getattr(os, name)

    def refused(*args: Any, **names: Any) -> Any:
        if condition(*args):
            raise OSError(number, os.strerror(number))
        return real(*args, **names)

    setattr(os, name, refused)


def nth(number: int) -> Callable[..., bool]:
    """True at the so-many-th call."""
    calls = iter(range(1, 1_000_000))
    return lambda *_: next(calls) == number


def is_data(path: object, *_: object) -> bool:
    return os.path.basename(os.fspath(path)) in ("data",)  # type: ignore[call-overload]


def is_hidden(path: object, *_: object) -> bool:
    return str(path).endswith(".part")


def is_bytes_of_a_file(path: object, *_: object) -> bool:
    return is_data(path) or is_hidden(path)


def copy_half(source: Any, target: Any, length: int = 0) -> None:
    target.write(source.read(5))
    target.flush()
    die()


def at_statement(number: int) -> None:
    """Before the so-many-th SQL statement from the start on."""
    connect, reached = sqlite3.connect, nth(number)

    class Connection(sqlite3.Connection):
        def execute(self, *args: Any) -> sqlite3.Cursor:
            if reached():
                die()
            return super().execute(*args)

    sqlite3.connect = lambda *args, **names: connect(*args, **names, factory=Connection)  # type: ignore[assignment]


def two_disks() -> None:
    refuse("link", errno.EXDEV, is_data)
    refuse("replace", errno.EXDEV)  # by which the start finds it out


def no_links() -> None:
    refuse("link", errno.EPERM)


#: moment -> how to get there. A merge is one chunk's, publishing is the last one's.
MOMENTS: dict[str, Callable[[], object]] = {
    "after data, before record": lambda: before(pyfiledrop.Store, "merge", nth(2)),
    "after record, before answer": lambda: after(pyfiledrop.Store, "merge", nth(2)),
    "publishing, before sync": lambda: before(pyfiledrop.Store, "_publish"),
    "after sync, before link": lambda: before(os, "link", is_data),
    "after link, before record": lambda: after(os, "link", is_data),
    "after link, before commit": lambda: before(pyfiledrop.Record, "finish"),
    "after record, before the data's removal": lambda: before(os, "unlink", is_bytes_of_a_file),
    "after the data's removal, before its folder's": lambda: before(os, "rmdir"),
    "done, before answer": lambda: after(pyfiledrop.Store, "_publish"),
    "without links, before rename": lambda: (no_links(), before(os, "rename")),
    "without links, after rename": lambda: (no_links(), after(os, "rename")),
    "in the middle of the copy to another disk": lambda: (two_disks(), setattr(shutil, "copyfileobj", copy_half)),
    "after the copy, before its link": lambda: (two_disks(), before(os, "link", is_hidden)),
    "after the copy's link": lambda: (two_disks(), before(os, "unlink", is_hidden)),
    "after the copy, before record": lambda: (two_disks(), before(pyfiledrop.Record, "finish")),
    "after the copy and record": lambda: (two_disks(), before(os, "unlink", is_data)),
    "removing, before the data": lambda: before(os, "unlink", is_data),
    "removing, before the record": lambda: before(pyfiledrop.Store, "_discard"),
    "removing, before it is durable": lambda: before(pyfiledrop.Record, "make_durable", nth(4)),
    "removing, after its names": lambda: after(pyfiledrop.Store, "_remove_names"),
}
#: These come at the start, after a run that ended at another moment.
START_MOMENTS: dict[str, Callable[[], object]] = {
    "start, before reconcile": lambda: before(pyfiledrop.Store, "_begin"),
    "start, before the record of what was whole": lambda: before(pyfiledrop.Record, "finish"),
    "start, after the record of what was whole": lambda: after(pyfiledrop.Record, "finish"),
    "start, after reconcile": lambda: after(pyfiledrop.Store, "_begin"),
    **{f"start, statement {number}": functools.partial(at_statement, number) for number in range(1, 30, 4)},
}

if __name__ == "__main__":
    pyfiledrop.HOUSEKEEPING_SECONDS = 1e6  # so that nothing but the request comes to the moment
    (MOMENTS | START_MOMENTS)[sys.argv[1]]()
    sys.exit(pyfiledrop.main(sys.argv[2:]))
