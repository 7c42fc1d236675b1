"""The server with some of its constants changed: python tests/launch.py NAME=NUMBER,NAME=NUMBER OPTIONS...

A test cannot wait for deadlines of a minute, nor open a thousand connections to find the last one refused. THREADS is
not a constant of the program: the system lets no more threads than that begin.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyfiledrop  # noqa: E402 - the module lies beside this folder


def limit_threads(most: int) -> None:
    start = threading.Thread.start

    def limited(thread: threading.Thread, *args: Any) -> None:
        if threading.active_count() >= most:
            raise RuntimeError("can't start new thread")  # in Python's own words
        start(thread, *args)

    threading.Thread.start = limited  # type: ignore[method-assign, assignment]


def change(name: str, value: int) -> None:
    if name == "THREADS":
        limit_threads(value)
        return
    assert hasattr(pyfiledrop, name)
    setattr(pyfiledrop, name, value)


if __name__ == "__main__":
    for assignment in sys.argv[1].split(","):
        name, _, number = assignment.partition("=")
        change(name, int(number))
    sys.exit(pyfiledrop.main(sys.argv[2:]))
