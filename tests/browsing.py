"""What the tests of the page share: the page in a tab, what it sends, and a hold on that.

A `Tab` is one page of a server. Its spy notes each request the page makes, from within, so that what is under way at a
time is known exactly. A `Gate` holds chunks back, so that a test may look at an upload in its middle for as long as it
wants. `Visits` opens tabs, and sees to it that nothing a browser complains about goes unnoticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

import build

if TYPE_CHECKING:
    from conftest import Server

WAIT_SECONDS = 20.0
# A container's root has no sandbox, and nothing but the server under test is to be spoken to.
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--host-resolver-rules=MAP lan.test 127.0.0.1",
)
LAN_HOST = "lan.test"  # for a browser this machine is trusted under its own names; under this one it is any other
JSON = {"Accept": "application/json"}
RUNS = re.compile(r"/(upload|uploads/[^/]+/\d+)$")  # the addresses that chunks go to
MIB = 1 << 20

expect.set_options(timeout=WAIT_SECONDS * 1000)

# `runs` are the requests that carry files, with the status each was answered with (0 before, or without an answer);
# `chunkSizes` is what the server has said of each upload; `most` is how many runs were under way at the same time,
# `mostOfAll` counts questions to the server too; `reads` are attempts of the page to read a file; `pauses` are the
# longer pauses it has made, in ms.
# A request ends when its state changes for the last time: before the page hears of it, and may send the next.
# `until` looks whenever something changes, where Playwright's own waiting looks up to a second later.
SPY = r"""
(() => {
  const counts = {underWay: 0, most: 0, questions: 0, mostOfAll: 0};
  const spy = window.spy = {runs: [], chunkSizes: {}, ...counts, reads: [], pauses: []};
  const changed = () => {
    spy.most = Math.max(spy.most, spy.underWay);
    spy.mostOfAll = Math.max(spy.mostOfAll, spy.underWay + spy.questions);
    spy.onchange?.();
  };
  const {open, send} = XMLHttpRequest.prototype;
  XMLHttpRequest.prototype.open = function (method, path) {
    const [, uuid, first] = /^uploads\/([^/]+)\/(\d+)$/.exec(path) ?? [];
    this.run = {method, path, uuid, first: Number(first ?? 0), fields: [], status: 0, over: false};
    return open.call(this, method, path);
  };
  XMLHttpRequest.prototype.send = function (body) {
    const {run} = this;
    run.size = body.size ?? body.get('file').size;
    if (body instanceof FormData) {
      run.fields = [...body.keys()];
      run.uuid = body.get('dzuuid') ?? undefined;
    }
    this.addEventListener('readystatechange', () => {
      if (this.readyState !== 4 || run.over) return;
      Object.assign(run, {over: true, status: this.status});
      spy.underWay--;
      changed();
    });
    spy.runs.push(run);
    spy.underWay++;
    changed();
    return send.call(this, body);
  };
  const {fetch, setTimeout} = window;
  window.fetch = (...what) => {
    spy.questions++;
    changed();
    return fetch(...what).then((answer) => {
      const note = ({upload}) => { if (upload) spy.chunkSizes[upload.uuid] = upload.chunk_size; };
      answer.clone().json().then(note, () => {});
      return answer;
    }).finally(() => { spy.questions--; changed(); });
  };
  for (const [kind, names] of [[Blob, ['arrayBuffer', 'bytes', 'stream', 'text']],
      [FileReader, ['readAsArrayBuffer', 'readAsBinaryString', 'readAsDataURL', 'readAsText']]])
    for (const name of names.filter((name) => kind.prototype[name])) {
      const real = kind.prototype[name];
      kind.prototype[name] = function (...what) {
        spy.reads.push(`${kind.name}.${name}`);
        return real.apply(this, what);
      };
    }
  window.setTimeout = (then, pause, ...what) => {
    if (pause >= 1000) spy.pauses.push(pause);
    return setTimeout(then, pause >= 1000 && spy.hurry ? pause / spy.hurry : pause, ...what);
  };
  const rows = spy.rows = () => [...document.querySelectorAll('#list > [data-state]')];
  const text = (row, part) => row?.querySelector(part).textContent ?? '';
  const row = (name) => rows().find((row) => text(row, '.name') === name);
  spy.state = (name) => row(name)?.dataset.state;
  spy.status = (name) => text(row(name), '.status');
  spy.listed = () => rows().filter((row) => /done|unfinished/.test(row.dataset.state)).map((row) => text(row, '.name'));
  spy.news = () => text(document, '#news');
  const everything = {subtree: true, childList: true, attributes: true, characterData: true};
  new MutationObserver(changed).observe(document, everything);
  spy.until = (condition) => new Promise((resolve, reject) => {
    const look = () => { if (condition()) resolve(); };
    spy.onchange = look;
    setTimeout(() => {
      look();
      const runs = spy.runs.map(({first, size, status}) => `${first}+${size}: ${status}`);
      const seen = JSON.stringify({...spy, runs});
      reject(new Error(`${condition} never came true.\n${document.body.innerText}\n${seen}`));
    }, WAIT_MS);
    look();
  });
})()
""".replace("WAIT_MS", f"{WAIT_SECONDS * 1000:.0f}")
# The page waits up to half a minute before it tries again; the tests need not.
HURRY = "spy.hurry = {}"
# On a fast line runs grow at once. Where each is one chunk, a gate counts chunks.
SHORT_RUNS = """
(() => {
  const {parse} = JSON;
  JSON.parse = (...what) => {
    const value = parse(...what);
    if (value?.runBytes) value.runBytes = 1;
    return value;
  };
})()
"""


def make_file(path: Path, size: int) -> Path:
    """A file of this many random bytes, no two parts of which are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - start)))
    return path


def make_sparse(path: Path, size: int) -> Path:
    """A file of this many zeros, which takes no space."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


class Gate:
    """Lets this many of a tab's runs through and holds all others, until it is opened."""

    def __init__(self, page: Page, passes: int) -> None:
        self._passes = passes
        self._is_open = False
        self._held: list[Route] = []
        self._page = page
        page.route(RUNS, self._handle)

    def _handle(self, route: Route) -> None:
        if self._passes or self._is_open:
            self._passes -= not self._is_open
            route.continue_()
        else:
            self._held.append(route)

    def let(self, count: int) -> None:
        """Let so many more through."""
        self._passes += count
        while self._passes and self._held:
            self._passes -= 1
            self._held.pop(0).continue_()

    def open(self) -> None:
        """Let through what is held and all that comes."""
        self._is_open = True
        held, self._held = self._held, []
        for route in held:
            route.continue_()

    def close(self) -> None:
        """Hold all that comes from now on."""
        self._is_open = False
        self._passes = 0

    def reload(self) -> None:
        """Load the page anew, which ends what is held, and let all through from then on."""
        self._page.reload()
        self._is_open = True
        held, self._held = self._held, []
        for route in held:
            route.abort()


class Line:
    """A slow line to a server, which can be cut. It begins at `url`."""

    def __init__(self, server: Server, bytes_per_second: int) -> None:
        self._server = server
        self._seconds_per_byte = 1 / bytes_per_second
        self._turn = threading.Lock()  # whoever has it may send: all connections share the line
        self._ends: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)  # the browser is not far ahead of it
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._server.port))
                except OSError:  # the server is away
                    near.close()
                    continue
                self._ends |= {near, far}
                threading.Thread(target=self._carry, args=(near, far, self._seconds_per_byte), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, 0), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, seconds_per_byte: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 13):
                with self._turn if seconds_per_byte else contextlib.nullcontext():
                    time.sleep(len(data) * seconds_per_byte)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End all connections that there are; new ones may come."""
        ends, self._ends = self._ends, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.close()
        self.cut()


class Tab:
    """The page of a server in one tab. `files` are the files in its list, those that drops and folders show."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.server = server
        self.files = page.locator("#list > [data-state]")
        self.notice = page.locator("#notice")
        self.news = page.locator("#news")

    def choose(self, *paths: Path) -> None:
        self.page.set_input_files("#file", paths)

    def choose_content(self, name: str, content: bytes) -> None:
        """Choose a file that need not be on the disk."""
        self.page.set_input_files("#file", {"name": name, "mimeType": "text/plain", "buffer": content})

    def row(self, name: str) -> Locator:
        """The line of a file of this name."""
        return self.files.filter(has=self.page.get_by_text(name, exact=True))

    def remove(self, name: str) -> Locator:
        """Choose Delete in the menu of the file of this name. Returns its line, which then asks."""
        row = self.row(name)
        row.locator(".more summary").click()
        row.locator(".remove").click()
        return row

    def unfold(self) -> None:
        """Open all drops and folders, of which there is one at least."""
        fold = self.page.locator(".fold[aria-expanded=false]:visible")
        fold.first.wait_for()
        while fold.count():
            fold.first.click()

    def expect_state(self, name: str, state: str) -> None:
        """Wait until the upload of this name is in this state."""
        self.until(f"spy.state({json.dumps(name)}) === '{state}'")

    def expect_done(self, *names: str) -> None:
        for name in names:
            self.expect_state(name, "done")

    def expect_percent(self, name: str, percent: int) -> None:
        """Wait until so much of a file has been sent; behind a gate that is what has arrived."""
        self.until(f"spy.status({json.dumps(name)}).startsWith('{percent}%')")

    def expect_listed(self, *names: str) -> None:
        """Wait until the list has these names, the newest first, and no others."""
        listed = json.dumps(names, ensure_ascii=False, separators=(",", ":"))
        self.until(f"JSON.stringify(spy.listed()) === {json.dumps(listed)}")

    def expect_notice(self, text: str) -> None:
        """Wait until the page says this to those who do not see it, or shows it for a while."""
        said = json.dumps(text)
        self.until(f"['notice', 'heard'].some((id) => document.getElementById(id).textContent === {said})")

    def expect_news(self, text: str) -> None:
        """Wait until the news of the whole begin with this."""
        self.until(f"spy.news().startsWith({json.dumps(text)})")

    # What the spy has seen since the page was loaded

    def spy(self, what: str) -> Any:
        return self.page.evaluate(f"spy.{what}")

    def until(self, condition: str) -> None:
        """Wait until this is true of the spy, or of the page."""
        self.page.evaluate(f"spy.until(() => {condition})")

    def hurry(self, times: int = 100) -> None:
        """Make the page's long pauses so many times shorter, from now on and after a reload."""
        self.page.add_init_script(HURRY.format(times))
        self.page.evaluate(HURRY.format(times))

    def indexes(self) -> list[int]:
        """The chunks that were sent, in their order, a chunk sent twice twice."""
        return [index for run in self.spy("runs") for index in self.chunks_of(run)]

    def chunks_of(self, run: dict[str, Any]) -> range:
        """The chunks that a run consists of."""
        size = max(1, run["size"])
        chunk_size = size if run["path"] == "upload" else self.spy("chunkSizes")[run["uuid"]]
        return range(run["first"], run["first"] - (-size // chunk_size))

    def acknowledged(self) -> list[int]:
        """The chunks whose run was answered with success, in order of their place."""
        return sorted(index for run in self.spy("runs") if run["status"] == 200 for index in self.chunks_of(run))

    # What the server has

    def uploads(self) -> list[dict[str, Any]]:
        """What the server lists for this browser, newest first."""
        uploads: list[dict[str, Any]] = self._ask("uploads")["uploads"]
        return uploads

    def present(self, uuid: str) -> set[int]:
        """The chunks of an upload that the server has."""
        ranges = self._ask(f"uploads/{uuid}")["upload"]["chunks"]
        return {index for first, last in ranges for index in range(first, last + 1)}

    def _ask(self, path: str) -> Any:
        return self.page.context.request.get(self.server.url + path, headers=JSON).json()


class Visits:
    """Opens tabs, each in a browser profile of its own unless given one, and ends with a look at what went wrong."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._complaints: list[str] = []
        self._expected: list[str] = []

    def context(self, profile: Path | None = None, long_runs: bool = False, **options: Any) -> BrowserContext:
        """A browser profile; one that is kept in a folder outlives its being closed. Its runs are of one chunk each."""
        options = {"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", **options}
        if profile:
            context = self._browser.browser_type.launch_persistent_context(
                profile, executable_path=build.find_chromium(), args=list(CHROMIUM_ARGUMENTS), **options
            )
        else:
            context = self._browser.new_context(**options)
        self._contexts.append(context)
        context.set_default_timeout(WAIT_SECONDS * 1000)
        context.add_init_script(SPY)
        if not long_runs:
            context.add_init_script(SHORT_RUNS)
        context.on("console", lambda message: self._note(message.type, message.text))
        context.on("weberror", lambda error: self._note("error", str(error.error)))
        context.on("dialog", lambda dialog: dialog.accept())
        return context

    def __call__(self, server: Server, context: BrowserContext | None = None, url: str = "", **options: Any) -> Tab:
        """Open the page in a new tab, if need be under another address; `options` are for its new profile."""
        tab = Tab((context or self.context(**options)).new_page(), server)
        tab.page.goto(url or server.url)
        if options.get("java_script_enabled", True):
            tab.until("spy.questions === 0")  # it has its list
        return tab

    def expect_complaints(self, *patterns: str) -> None:
        """Complaints that match one of these are what the test is about: the network failed, or the server refused."""
        self._expected += patterns

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self._complaints.append(f"{kind}: {text}")

    def end(self) -> None:
        """Close all; AssertionError if a script failed, the policy forbade something, or a request went wrong."""
        unexpected = [text for text in self._complaints if not any(re.search(one, text) for one in self._expected)]
        for context in self._contexts:
            with contextlib.suppress(Exception):  # the test may have closed it
                context.close()
        assert not unexpected, "\n".join(unexpected)


def stored(server: Server, name: str) -> list[Path]:
    """The files in storage that were dropped under this name."""
    return [path for path in server.storage.iterdir() if path.name[36:] == f"_{name}"]


def assert_stored(server: Server, *files: Path) -> None:
    """Each of these is in storage once, byte for byte."""
    for file in files:
        (path,) = stored(server, file.name)
        assert sha256(path) == sha256(file), file.name


def names(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows]
