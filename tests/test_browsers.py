"""The page in Firefox and in WebKit does what it does in Chromium.

The same cases run in both; what only Playwright can do to a page is tested in Chromium alone. Each test fails, too,
when the browser complains of a script or of the content security policy.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsers import (
    CANCEL,
    COPY,
    FILES,
    LINK,
    NEWS,
    NOTICE,
    OVERLAY,
    PAUSE,
    REMOVE,
    RETRY,
    SEND,
    Firefox,
    WebKit,
    Window,
    screen,
)
from browsing import MIB, Line, assert_stored, make_file, sha256, stored
from conftest import Server, StartServer, exchange, request, wait_until

import build

CHUNK = 100_000
COUNT = 20
SMALL_CHUNKS = ("--chunk-size", str(CHUNK))
LINE = 2_000_000  # bytes a second: slow enough to be cut in the middle of a file
LOST = "No connection. Nothing is lost."
CONTROL = "\ue009"  # as WebDriver names the key
BROWSERS = ["Firefox", "WebKit"] if sys.platform == "linux" else ["Firefox"]

OpenWindow = Callable[..., Window]


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """The screen that WebKit needs."""
    with screen() as name:
        yield name


@pytest.fixture(params=BROWSERS)
def open_window(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWindow]:
    """A function that opens a page in a browser of its own; the test fails when the browser complains of anything."""
    kind = str(request.param)
    if missing := build.missing_browsers().get(kind):
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse(f"{kind} is not on this machine; on Debian: sudo apt install {missing}")
    windows: list[Window] = []

    def open_one(url: str, *, dark: bool = False, scripts: bool = True) -> Window:
        folder = tmp_path_factory.mktemp(kind)
        window: Window
        if kind == "Firefox":
            window = Firefox(folder, dark=dark, scripts=scripts)
        else:
            window = WebKit(folder, request.getfixturevalue("display"), dark=dark, scripts=scripts)
        windows.append(window)
        if scripts:
            window.open(url)
        else:
            window.go(url)
        return window

    try:
        yield open_one
        complaints = [one for window in windows for one in window.complaints()]
    finally:
        for window in windows:
            window.close()
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """One that takes small chunks and gives files back."""
    return start_server("-a", *SMALL_CHUNKS)


@pytest.fixture
def window(open_window: OpenWindow, server: Server) -> Window:
    """The page of that server."""
    return open_window(server.url)


# Dropping and choosing


def test_chosen_files_arrive(window: Window, server: Server, tmp_path: Path) -> None:
    """Files of no byte, of one chunk and of several are in storage, byte for byte, when the page says so."""
    sizes = {"empty.txt": 0, "one.bin": 1000, "several.bin": 5 * CHUNK + 1}
    files = [make_file(tmp_path / name, size) for name, size in sizes.items()]
    window.choose(*files)
    window.expect_done(*files)
    assert_stored(server, *files)
    assert window.sent() == sum(sizes.values())


DROP = """(() => {
  const data = new DataTransfer();
  data.items.add(new File(['content'], 'dropped.txt'));
  window.drag = (type) => document.querySelector('main').dispatchEvent(
    new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: data}));
})()"""


def test_dropped_files_arrive(window: Window, server: Server) -> None:
    """They may be dropped anywhere on the page, which says so while they hang over it."""
    window.evaluate(DROP)
    is_hidden = f"document.querySelector('{OVERLAY}').hidden"
    window.evaluate("drag('dragenter'), drag('dragover'), 0")
    assert not window.evaluate(is_hidden)
    window.evaluate("drag('drop'), 0")
    assert window.evaluate(is_hidden)
    window.expect_state("dropped.txt", "done")
    (path,) = stored(server, "dropped.txt")
    assert path.read_bytes() == b"content"


def test_large_file_arrives(open_window: OpenWindow, start_server: StartServer, tmp_path: Path) -> None:
    """A file of 300 MB has the same SHA-256 in storage."""
    server = start_server()
    file = make_file(tmp_path / "large.bin", 300 * MIB + 7)
    window = open_window(server.url)
    window.choose(file)
    window.expect_done(file)
    assert_stored(server, file)


def test_many_small_files_arrive(window: Window, server: Server, tmp_path: Path) -> None:
    """A hundred files, chosen at once, and one sentence says that they have arrived."""
    files = [make_file(tmp_path / f"{number}.txt", number) for number in range(100)]
    window.choose(*files)
    window.expect_text(NEWS, "All 100 files have arrived")
    wait_until(lambda: len([path for path in server.storage.iterdir() if path.suffix == ".txt"]) == 100)
    assert_stored(server, *files)


def test_equal_names_from_two_folders(window: Window, server: Server, tmp_path: Path) -> None:
    """Files that differ in their bytes only are not mixed."""
    files = [make_file(tmp_path / folder / "same.bin", 3 * CHUNK) for folder in ("first", "second", "third")]
    for file in files:
        os.utime(file, (1_700_000_000, 1_700_000_000))
    window.choose(*files)
    wait_until(lambda: len(stored(server, "same.bin")) == 3)
    assert sorted(map(sha256, stored(server, "same.bin"))) == sorted(map(sha256, files))


def test_pasted_text_arrives(window: Window, server: Server) -> None:
    """Text that is pasted on the page is a file."""
    window.evaluate("document.body.append(document.createElement('textarea'))")
    window.click_on("body > textarea")
    window.evaluate("document.activeElement.value = 'content'")
    window.evaluate("document.activeElement.select()")
    window.press(CONTROL, "c")
    window.evaluate("document.activeElement.remove()")
    window.press(CONTROL, "v")
    window.until(f"document.querySelector('{FILES}')?.dataset.state === 'done'")
    (path,) = server.storage.glob("*.txt")
    assert path.read_bytes() == b"content"


# The list


def test_link_gives_the_file_back(window: Window, tmp_path: Path) -> None:
    """Under the name that it had, in any language, also after the page was loaded anew."""
    file = make_file(tmp_path / "Übergrößen – отчёт 報告 🎉.bin", 3 * CHUNK)
    window.choose(file)
    window.expect_listed(file.name)
    window.open_again()
    window.expect_listed(file.name)
    window.click_in(file.name, LINK)
    back = window.downloads / file.name
    wait_until(lambda: back.exists() and sha256(back) == sha256(file))


def test_copy_link(window: Window, server: Server, tmp_path: Path) -> None:
    """The button copies a complete address and says so."""
    file = make_file(tmp_path / "file.txt", 10)
    window.choose(file)
    window.expect_listed(file.name)
    window.click_in(file.name, COPY)
    window.expect_text(NOTICE, "Link copied.")
    window.evaluate("document.body.append(document.createElement('textarea'))")
    window.click_on("body > textarea")
    window.press(CONTROL, "v")
    window.until("document.querySelector('body > textarea').value")
    copied = window.evaluate("document.querySelector('body > textarea').value")
    assert copied.startswith(f"{server.url}download/")
    assert exchange(server, request("GET", copied.removeprefix(server.url[:-1]))).body == file.read_bytes()


def test_remove_asks_first(window: Window, server: Server, tmp_path: Path) -> None:
    """A file is removed from the disk after the last click, not before it."""
    files = [make_file(tmp_path / name, 10) for name in ("keep.txt", "remove.txt")]
    for file in files:
        window.choose(file)
        window.expect_done(file)
    window.expect_listed("remove.txt", "keep.txt")
    window.click_in("remove.txt", *REMOVE[:-1])
    assert_stored(server, *files)
    window.click_in("remove.txt", REMOVE[-1])
    window.expect_listed("keep.txt")
    assert stored(server, "remove.txt") == []
    assert_stored(server, files[0])


# What goes wrong


@pytest.fixture
def far(launch: StartServer) -> Server:
    """A server at the end of the line, which takes one chunk in each request."""
    return launch(f"MAX_RUN_BYTES={CHUNK}", "-a", *SMALL_CHUNKS)


@pytest.fixture
def line(far: Server) -> Iterator[Line]:
    """A line that is slow enough to look at an upload in its middle."""
    with contextlib.closing(Line(far, LINE)) as line:
        yield line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of COUNT chunks."""
    return make_file(tmp_path / "file.bin", COUNT * CHUNK - 1)


def begin(window: Window, file: Path) -> int:
    """Begin to send it. Returns how many bytes the server has when it has some of it."""
    window.choose(file)
    window.until("spy.runs.filter((run) => run.status === 200).length >= 3")
    return window.acknowledged()


def test_resume_after_a_reload(open_window: OpenWindow, line: Line, far: Server, file: Path) -> None:
    """The same file, chosen again after the page was reloaded, goes on: no chunk that is in is sent again."""
    window = open_window(line.url)
    present = begin(window, file)
    window.open_again()
    window.expect_listed(file.name)
    window.choose(file)
    window.expect_done(file)
    assert 0 < window.sent() <= file.stat().st_size - present
    assert_stored(far, file)


def test_server_is_killed_and_started(open_window: OpenWindow, line: Line, far: Server, file: Path) -> None:
    """The page says that it waits for the server, and goes on by itself when the server is there again."""
    window = open_window(line.url)
    window.hurry()
    present = begin(window, file)
    far.kill()
    window.expect_state(file.name, "paused")
    window.expect_text(NEWS, LOST)
    window.evaluate("spy.runs.length = 0, 0")
    far.start()
    window.expect_done(file)
    assert 0 < window.acknowledged() <= file.stat().st_size - present
    assert_stored(far, file)


def test_line_that_breaks(open_window: OpenWindow, line: Line, far: Server, file: Path) -> None:
    """Requests that break off are sent again, and nobody need do anything."""
    window = open_window(line.url)
    window.hurry()
    begin(window, file)
    line.cut()
    window.expect_done(file)
    assert_stored(far, file)


def test_pause_and_go_on(open_window: OpenWindow, line: Line, far: Server, file: Path) -> None:
    """A paused upload stands still, and goes on from what has arrived."""
    window = open_window(line.url)
    begin(window, file)
    window.click_on(PAUSE)
    window.expect_state(file.name, "paused")
    window.until("spy.underWay === 0")
    present = window.acknowledged()
    assert stored(far, file.name) == []
    window.evaluate("spy.runs.length = 0, 0")
    window.click_on(PAUSE)
    window.expect_done(file)
    assert 0 < window.sent() <= file.stat().st_size - present
    assert_stored(far, file)


def test_cancel_stops_and_removes(open_window: OpenWindow, line: Line, far: Server, file: Path) -> None:
    """A cancelled upload sends no more, and nothing of it stays on the server."""
    window = open_window(line.url)
    begin(window, file)
    window.click_in(file.name, CANCEL)
    window.until(f"!document.querySelector('{FILES}')")
    wait_until(lambda: not list(far.chunks.iterdir()))
    assert stored(far, file.name) == []


def test_refused_file_is_tried_again(open_window: OpenWindow, start_server: StartServer, tmp_path: Path) -> None:
    """What the server refuses is shown with the reason and never as uploaded; Retry works once it takes such files."""
    server = start_server()
    window = open_window(server.url)
    server.restart("--max-size", "1")
    file = make_file(tmp_path / "large.bin", MIB + 1)
    window.choose(file)
    window.expect_state(file.name, "failed")
    window.expect_status(file.name, "This file is too large. The server takes up to 1 MB.")
    assert stored(server, file.name) == []
    server.restart("--max-size", "2")
    window.click_in(file.name, RETRY)
    window.expect_done(file)
    assert_stored(server, file)


def test_file_that_vanished(open_window: OpenWindow, launch: StartServer, file: Path) -> None:
    """A file that is gone from the disk in the middle fails with a sentence that says so, not as a lost connection."""
    # Both browsers begin to send what they cannot read, and then stand still.
    server = launch(f"MAX_RUN_BYTES={CHUNK}", *SMALL_CHUNKS, "--timeout", "3000")
    with contextlib.closing(Line(server, LINE)) as line:
        window = open_window(line.url)
        begin(window, file)
        file.unlink()
        window.expect_state(file.name, "failed")
        window.expect_status(file.name, "can no longer be read")
    assert stored(server, file.name) == []


def test_sign_in(open_window: OpenWindow, start_server: StartServer, tmp_path: Path) -> None:
    """A server with a password asks for it, and then gives its page."""
    server = start_server(env={"PYFILEDROP_PASSWORD": "open sesame"})
    window = open_window(server.url)
    window.click_on("form [type=password]")
    window.press(*"open sesame")
    window.click_on("button")
    window.until_there("document.querySelector('#settings')")
    file = make_file(tmp_path / "file.bin", 10)
    window.choose(file)
    wait_until(lambda: stored(server, file.name))
    assert_stored(server, file)


# Without the script


def test_without_script(open_window: OpenWindow, server: Server, tmp_path: Path) -> None:
    """The page is a plain form then, which uploads and names what has arrived."""
    window = open_window(server.url, scripts=False)
    files = [make_file(tmp_path / "one.bin", 1000), make_file(tmp_path / "two.bin", MIB + 1)]
    window.choose(*files)
    window.click_on(SEND)
    for file in files:
        window.until_there(f"document.body.innerText.includes('{file.name}')")
    assert_stored(server, *files)


# For everybody


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_looks(open_window: OpenWindow, start_server: StartServer, tmp_path: Path, dark: bool) -> None:
    """On a desk and in a hand, in light and in dark, axe finds nothing, and nothing is wider than the window."""
    server = start_server("-a", "--max-size", "1", *SMALL_CHUNKS)
    window = open_window(server.url, dark=dark)
    ground = re.findall(r"\d+", window.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (int(ground[0]) < 128) == dark
    done = make_file(tmp_path / f"A name that does not end soon {'x' * 120}.txt", 1000)
    failed = make_file(tmp_path / "too large.bin", MIB + 1)
    window.choose(done, failed)
    window.expect_done(done)
    window.expect_state(failed.name, "failed")
    window.expect_listed(done.name)
    for width in (1280, 390):
        window.resize(width, 800)
        window.assert_accessible(f"{width} pixels wide")
        if folder := os.environ.get("PYFILEDROP_PICTURES"):
            (Path(folder) / f"{window.name}-{width}-{'dark' if dark else 'light'}.png").write_bytes(window.screenshot())
