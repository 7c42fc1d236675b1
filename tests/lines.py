#!/usr/bin/env python3
"""What a page needs to send a file over a bad line, beside the pages of other servers. Linux only, and only for root.

    python tests/lines.py                 one file over each line, through each page
    python tests/lines.py --many          instead: 10,000 small files at once, without a line
    python tests/lines.py WORD...         only the lines and pages that have one of these words in their names

The line is a program between two network namespaces, which takes IP packets from one and gives them to the other: at a
rate, with a queue of bounded size before it, late, and not all of them. Chromium is in one namespace and the server in
the other. A break is what the restart of a router is: for two seconds nothing gets through, and then every connection
that was open before is reset. All that the browser sends is counted, with the headers of IP and TCP and what the line
then loses, so a page cannot come to 1.00: "at least" says what TCP needs if it sends nothing twice in vain.

Each case has a new server, browser and line, and files in memory. A stored file that differs from the one that was
sent is a failure: exit status 1. A page that is not installed is left out, and a line says how to get it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import multiprocessing
import os
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Error, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmark import KIB, PROGRAM, Problem, content_hash, file_hash, output, package_version, say, write_content
from browsing import CHROMIUM_ARGUMENTS, LAN_HOST

import build

KB, MB = 1000, 1_000_000
NEAR, FAR = "pyfiledrop-near", "pyfiledrop-far"  # the namespaces of the browser and of the server
ADDRESS = "10.83.0.2"  # the server's
TCP_HEADERS = 20 + 32  # IPv4, and TCP with timestamps
QUEUE_SECONDS, LEAST_QUEUE = 0.5, 64 * KIB
BREAK_SECONDS = 2
CASE_SECONDS = 300  # not done in this time: given up
SKIP_SECONDS = 10  # until a page must know how much time is left
ROUNDING_SECONDS = 5  # before the end a figure of whole seconds is wrong by its rounding alone
MANY, MANY_BYTES, AT_ONCE = 10_000, KIB, 5
UPPY = build.ROOT / "build" / "uppy"
UPPY_PACKAGES = ("@uppy/core", "@uppy/dashboard", "@uppy/tus", "@tus/server", "@tus/file-store", "esbuild")


class Line(NamedTuple):
    """A line, and how large a file is to keep it busy for half a minute."""

    name: str
    rate: float  # bytes of IP packets in a second, each way
    size: int
    round_trip: float = 0.02  # seconds, without what is spent in the queue
    loss: float = 0.0  # of packets, each way
    every: float = 0.0  # seconds from one break to the next
    mtu: int = 1500

    def at_least(self) -> float:
        """What TCP sends for each byte of the file, if only what the line has lost is sent twice."""
        return self.mtu / (self.mtu - TCP_HEADERS) / (1 - self.loss)

    def best(self) -> float:
        """In how many seconds the file could be in."""
        busy = self.size * self.at_least() / self.rate
        breaks = int(busy / self.every) if self.every else 0
        return busy + breaks * BREAK_SECONDS + self.round_trip


LINES = [
    Line("100 KB/s", 100 * KB, 4 * MB),
    Line("1 MB/s", MB, 30 * MB),
    # Packets as large as can be, for the line's program could not carry so many small ones.
    Line("100 MB/s", 100 * MB, 2000 * MB, round_trip=0.001, mtu=65_520),
    Line("200 ms at 10 MB/s", 10 * MB, 300 * MB, round_trip=0.2),
    Line("2 % loss at 1 MB/s", MB, 30 * MB, loss=0.02),
    Line("a break every 20 s at 1 MB/s", MB, 48 * MB, every=20),
    Line("a break every 20 s at 100 KB/s", 100 * KB, 4 * MB, every=20),
]


# The line


class Counts:
    """What the line's program and this one tell each other: bytes sent each way, and whether the line is broken."""

    def __init__(self) -> None:
        self._shared: Any = multiprocessing.RawArray("q", 3)

    def add(self, way: int, count: int) -> None:
        self._shared[way] += count

    def both(self) -> tuple[int, int]:
        return self._shared[0], self._shared[1]

    @property
    def broken(self) -> bool:
        return bool(self._shared[2])

    @broken.setter
    def broken(self, value: bool) -> None:
        self._shared[2] = value


def carry(line: Line, near: int, far: int, counts: Counts) -> None:
    """Carries packets between two TUN devices, for ever."""
    chance = random.Random(1)
    ends = (near, far)
    under_way: tuple[deque[tuple[float, bytes]], ...] = (deque(), deque())  # (when it is there, packet), each way
    free_at = [0.0, 0.0]  # when the queue is empty
    most_seconds = max(QUEUE_SECONDS, LEAST_QUEUE / line.rate)
    while True:
        waits = [packets[0][0] for packets in under_way if packets]
        wait = max(0.0, min(waits) - time.monotonic()) if waits else None
        readable, _, _ = select.select(ends, [], [], wait)
        now = time.monotonic()
        for way, packets in enumerate(under_way):
            if ends[way] in readable:
                packet = os.read(ends[way], 1 << 16)
                counts.add(way, len(packet))
                begins = max(now, free_at[way])
                if not counts.broken and begins - now < most_seconds:
                    free_at[way] = begins + len(packet) / line.rate
                    if chance.random() >= line.loss:
                        packets.append((free_at[way] + line.round_trip / 2, packet))
            while packets and packets[0][0] <= now:
                _, packet = packets.popleft()
                if not counts.broken:
                    os.write(ends[1 - way], packet)


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, stderr=None if check else subprocess.DEVNULL)


def open_tun(name: str, namespace: str, address: str, mtu: int) -> int:
    """A new TUN device in this namespace. Returns its descriptor; it vanishes when that is closed."""
    tun = os.open("/dev/net/tun", os.O_RDWR)
    iff_tun, iff_no_pi, tunsetiff = 0x0001, 0x1000, 0x400454CA
    fcntl.ioctl(tun, tunsetiff, struct.pack("16sH22x", name.encode(), iff_tun | iff_no_pi))
    ip("link", "set", name, "netns", namespace, "mtu", str(mtu))
    ip("-n", namespace, "address", "add", f"{address}/24", "dev", name)
    for device in ("lo", name):
        ip("-n", namespace, "link", "set", device, "up")
    # Most machines have cubic, but one that was tuned as a server may have another.
    ip("-n", namespace, "route", "replace", "10.83.0.0/24", "dev", name, "src", address, "congctl", "cubic")
    return tun


@contextlib.contextmanager
def open_line(line: Line) -> Iterator[Counts]:
    """Lays the line between two new namespaces, and takes all away at the end."""
    counts = Counts()
    with contextlib.ExitStack() as stack:
        for namespace in (NEAR, FAR):
            ip("netns", "delete", namespace, check=False)  # left by a run that was killed
            ip("netns", "add", namespace)
            stack.callback(ip, "netns", "delete", namespace)
        ends = [
            open_tun("pfd-near", NEAR, "10.83.0.1", line.mtu),
            open_tun("pfd-far", FAR, ADDRESS, line.mtu),
        ]
        program = multiprocessing.get_context("fork").Process(target=carry, args=(line, *ends, counts), daemon=True)
        program.start()
        for end in ends:
            os.close(end)
        stack.callback(program.join)
        stack.callback(program.terminate)
        yield counts


def break_now_and_then(line: Line, counts: Counts, over: threading.Event) -> None:
    """Breaks the line until it is over."""
    while not over.wait(line.every):
        counts.broken = True
        over.wait(BREAK_SECONDS)
        for namespace in (NEAR, FAR):
            command = ["ip", "netns", "exec", namespace, "ss", "--kill", "--tcp", "state", "established"]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        counts.broken = False


# The pages


@dataclass(frozen=True)
class Site:
    """A server with its page. The expressions are JavaScript."""

    name: str
    version: Callable[[], str | None]  # None: it is not installed
    install: str
    command: Callable[[Path, str, int], list[str]]  # from its folder, host and port; files come into `files`
    input: str  # selector of what files are chosen with
    done: str  # how many files the page says are in
    count: str  # how many files the page says were chosen
    left: str = "''"  # the text that says how much time is left
    before: str = ""  # runs first in the page


def project_command(folder: Path, host: str, port: int) -> list[str]:
    options = ["-s", str(folder / "files"), "-c", str(folder / "chunks"), "--allow-downloads", "--quiet"]
    options += ["--allow-host", LAN_HOST]
    return [sys.executable, str(PROGRAM), "--host", host, "-p", str(port), *options]


def copyparty_command(folder: Path, host: str, port: int) -> list[str]:
    options = ["--no-thumb", "-q", "--wram", "-v", f"{folder / 'files'}:/:rwmd", "-i", host, "-p", str(port)]
    return [sys.executable, "-m", "copyparty", *options]


UPPY_PAGE = """
import Uppy from '@uppy/core';
import Dashboard from '@uppy/dashboard';
import Tus from '@uppy/tus';
import '@uppy/core/css/style.min.css';
import '@uppy/dashboard/css/style.min.css';
window.arrived = 0;
const uppy = new Uppy({autoProceed: true});
uppy.use(Dashboard, {inline: true, target: 'body', width: '100%'}).use(Tus, {endpoint: '/tus/'});
uppy.on('upload-success', () => { window.arrived++; });
"""
UPPY_SERVER = """
import {readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {FileStore} from '@tus/file-store';
import {Server} from '@tus/server';
const [folder, host, port] = process.argv.slice(2);
const tus = new Server({path: '/tus', relativeLocation: true, datastore: new FileStore({directory: folder})});
const html = '<!doctype html><link rel=stylesheet href=page.css><body><script src=page.js charset=utf-8></script>';
const files = {
  '/': ['text/html', html],
  '/page.js': ['text/javascript', readFileSync('page.js')],
  '/page.css': ['text/css', readFileSync('page.css')],
};
createServer((request, answer) => {
  if (request.url.startsWith('/tus')) return tus.handle(request, answer);
  const [type, body] = files[request.url] ?? ['text/plain', ''];
  answer.writeHead(200, {'Content-Type': type}).end(body);
}).listen(Number(port), host);
"""


def uppy_version() -> str | None:
    """The Dashboard's version, after its page was made."""
    packages = [UPPY / "node_modules" / name / "package.json" for name in UPPY_PACKAGES]
    if not all(package.exists() for package in packages):
        return None
    (UPPY / "source.js").write_text(UPPY_PAGE)
    (UPPY / "serve.mjs").write_text(UPPY_SERVER)
    bundle = "node_modules/.bin/esbuild source.js --bundle --minify --outfile=page.js --log-level=error"
    subprocess.run(bundle.split(), cwd=UPPY, check=True)
    known = [json.loads(package.read_text()) for package in packages]
    return ", ".join(f"{package['name']} {package['version']}" for package in known[:-1])


def uppy_command(folder: Path, host: str, port: int) -> list[str]:
    return ["env", "-C", str(UPPY), "node", "serve.mjs", str(folder / "files"), host, str(port)]


PROJECT = Site(
    "pyfiledrop",
    version=lambda: output(sys.executable, str(PROGRAM), "--version").partition("pyfiledrop ")[2].strip(),
    install="pip install -r requirements.txt",
    command=project_command,
    input="#file",
    # Of many files not every one has a row; then there is a sentence.
    done="said(/^All ([\\d,]+) files have arrived/, '#news') || document.querySelectorAll('[data-state=done]').length",
    count="said(/of ([\\d,]+)/, '#news') || document.querySelectorAll('#files li').length",
    left="(document.querySelector('#news') ?? document.querySelector('#files .status'))?.textContent",
)
COPYPARTY = Site(
    "copyparty",
    version=package_version("copyparty"),
    install="pip install copyparty",
    command=copyparty_command,
    input="#file1",
    done="said(/(\\d+)/, '#u2cards [act=ok] span')",
    count="['ok', 'bz', 'q'].reduce((sum, act) => sum + said(/(\\d+)/, `#u2cards [act=${act}] span`), 0)",
    left="document.querySelector('#u2etat')?.textContent",
    before="try { localStorage.setItem('ask_up', '0'); } catch { }",  # else it asks whether to begin
)
UPPY_SITE = Site(
    "Uppy",
    version=uppy_version,
    install=f"npm install --prefix {UPPY.relative_to(build.ROOT)} {' '.join(UPPY_PACKAGES)}",
    command=uppy_command,
    input="input.uppy-Dashboard-input:not([webkitdirectory])",
    done="window.arrived",
    count="said(/(\\d+) files/, '.uppy-DashboardContent-title') || said(/of (\\d+)/, '.uppy-StatusBar')",
    left="document.querySelector('.uppy-StatusBar')?.textContent",
)
# The same server as this project's, and a page that does nothing but send: so many requests at a time, a file each.
BARE = Site(
    "bare requests",
    version=lambda: "",
    install="",
    command=project_command,
    input="#bare",
    done="window.arrived",
    count="window.chosen",
    before="""
        addEventListener('DOMContentLoaded', () => {
          document.body.innerHTML = '<input id="bare" type="file" multiple>';
          document.getElementById('bare').onchange = ({target: {files}}) => {
            [window.chosen, window.arrived] = [files.length, 0];
            let next = 0;
            const lane = async () => {
              while (next < files.length) {
                const file = files[next++];
                window.sentAt ??= performance.now();
                if (!(await fetch(`upload/${file.name}`, {method: 'PUT', body: file})).ok) break;
                window.arrived++;
              }
            };
            for (let lanes = 0; lanes < AT_ONCE; lanes++) lane();
          };
        });
    """.replace("AT_ONCE", str(AT_ONCE)),
)
SITES = [PROJECT, COPYPARTY, UPPY_SITE]

# Runs in the page before anything else of it, and notes when what is seen. Watching from outside would slow it down.
WATCH = """
window.samples = [];
window.longest = 0;
const said = (pattern, selector) =>
  Number((pattern.exec(document.querySelector(selector)?.textContent ?? '')?.[1] ?? '0').replace(/\\D/g, ''));
addEventListener('change', () => { window.chosenAt ??= performance.now(); }, true);
const {send} = XMLHttpRequest.prototype;
XMLHttpRequest.prototype.send = function (body) {
  if (body instanceof Blob || body instanceof FormData) window.sentAt ??= performance.now();
  return send.call(this, body);
};
new PerformanceObserver((list) => {
  for (const {startTime, duration} of list.getEntries())
    window.longest = Math.max(window.longest, Math.min(duration, startTime + duration - window.chosenAt) || 0);
}).observe({type: 'longtask', buffered: true});
const look = () => {
  if (!window.chosenAt) return;
  const now = performance.now();
  if (!window.countedAt && (COUNT) === FILES) requestAnimationFrame(() => { window.countedAt ??= performance.now(); });
  if ((DONE) === FILES) window.doneAt ??= now;
  if (FILES === 1 && !(now - window.samples.at(-1)?.[0] < 500)) window.samples.push([now, (LEFT) ?? '']);
};
setInterval(look, 100);
"""


def watch(site: Site, files: int) -> str:
    """The script above for this page."""
    words = {"COUNT": site.count, "DONE": site.done, "LEFT": site.left, "FILES": str(files)}
    return f"(() => {{ {re.sub('|'.join(words), lambda match: words[match[0]], WATCH)} {site.before} }})()"


@contextlib.contextmanager
def serve(site: Site, folder: Path, host: str, namespace: str = "") -> Iterator[str]:
    """Starts a site's server with an empty folder. Gives its address."""
    (folder / "files").mkdir(parents=True)
    within = ["ip", "netns", "exec", namespace] if namespace else []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*within, *site.command(folder, host, port)], stdout=log, stderr=log, cwd=folder)
    try:
        until = time.monotonic() + 60
        listening = [*within, "ss", "--tcp", "--listening", "--numeric", "--no-header", f"sport = :{port}"]
        while not output(*listening):
            if server.poll() is not None or time.monotonic() > until:
                raise Problem(f"{site.name} does not start: {(folder / 'log').read_text('utf-8', 'replace')[-500:]}")
            time.sleep(0.1)
        yield f"http://{host if namespace else LAN_HOST}:{port}/"
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


class Tab(NamedTuple):
    """A page in a browser of its own."""

    page: Page
    session: int  # the number that all processes of the browser have in common

    def memory(self) -> float:
        """MB of memory that the browser's renderers have, what several share counted in parts."""
        total = 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):  # it has just ended
                session = int((process / "stat").read_text().rpartition(")")[2].split()[3])
                if session == self.session and b"--type=renderer" in (process / "cmdline").read_bytes():
                    total += int(re.findall(r"\nPss: +(\d+)", (process / "smaps_rollup").read_text())[0])
        return total * KIB / MB


@contextlib.contextmanager
def open_tab(site: Site, folder: Path, url: str, files: int, namespace: str = "") -> Iterator[Tab]:
    """Opens a site's page in a new Chromium, which is in this namespace."""
    program = folder / "chromium"
    within = f"ip netns exec {namespace} " if namespace else ""
    program.write_text(f'#!/bin/sh\necho $$ > {folder}/session\nexec {within}{build.find_chromium()} "$@"\n')
    program.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(CHROMIUM_ARGUMENTS))
        with contextlib.closing(browser):
            context = browser.new_context(bypass_csp=True, locale="en-GB", viewport={"width": 1280, "height": 800})
            context.add_init_script(watch(site, files))
            page = context.new_page()
            page.on("dialog", lambda dialog: dialog.accept())
            page.goto(url, wait_until="load", timeout=120_000)
            page.wait_for_selector(site.input, state="attached", timeout=60_000)
            page.wait_for_timeout(3000)  # what a page does at its start is not measured
            yield Tab(page, int((folder / "session").read_text()))


def wait_until_done(tab: Tab, meanwhile: Callable[[], None] = lambda: None) -> bool:
    """Waits until the page says that all is in, which is False when that takes too long."""
    until = time.monotonic() + CASE_SECONDS
    while not tab.page.evaluate("window.doneAt"):
        if time.monotonic() > until:
            return False
        meanwhile()
        tab.page.wait_for_timeout(250)
    return True


def all_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# One file over a line


def seconds_left(text: str) -> tuple[float, float] | None:
    """The least and the most that a page means by "2 mins left", "1m 5s left" or "00:00:42"; None: it does not say."""
    if clock := re.search(r"\b(\d+):(\d\d):(\d\d)\b", text):
        numbers, unit = [float(number) for number in clock.groups()], 1
    elif words := re.search(r"(?:([\d.]+) ?hr?s? ?)?(?:(\d+) ?m(?:ins?)? ?)?(?:(\d+) ?s(?:ecs?)? ?)?\b ?left", text):
        if not any(words.groups()):
            return None
        numbers = [float(number or 0) for number in words.groups()]
        unit = 1 if words[3] else 60
    else:
        return None
    said = numbers[0] * 3600 + numbers[1] * 60 + numbers[2]
    return max(0, said - unit), said + unit


class Result(NamedTuple):
    """What a page needed."""

    wire: float  # bytes on the wire for each of the file
    back: float  # and in the other direction
    seconds: float  # for each of the best possible
    off: float | None  # by which factor "time left" was off at most; None: it never said
    silent: float  # in which part of the time it did not say

    def cells(self) -> list[str]:
        off = "none" if self.off is None else f"{self.off:.1f}"
        if self.off is not None and self.silent > 0.1:
            off += f" (silent {self.silent:.0%})"
        return [f"{self.wire:.3f} + {self.back:.3f}", f"{self.seconds:.2f}", off]


def judge_left(samples: Sequence[tuple[float, str]], end: float) -> tuple[float | None, float]:
    """By which factor the times left were off at most, and in which part of the time there was none."""
    factors, silent = list[float](), 0
    for at, text in samples:
        left = end - at
        if at < SKIP_SECONDS or left < ROUNDING_SECONDS:
            continue
        if said := seconds_left(text):
            least, most = said
            factors.append(max(1.0, least / left, left / most))
        else:
            silent += 1
    count = len(factors) + silent
    return max(factors, default=None), silent / count if count else 0.0


def send_over(line: Line, site: Site, folder: Path, file: Path, log: list[Any]) -> Result:
    """Sends the file over the line, through the page."""
    with open_line(line) as counts, serve(site, folder / "server", ADDRESS, FAR) as url:
        with open_tab(site, folder, url, 1, NEAR) as tab:
            over = threading.Event()
            breaking = threading.Thread(target=break_now_and_then, args=(line, counts, over))
            before = counts.both()
            tab.page.set_input_files(site.input, file)
            if line.every:
                breaking.start()
            try:
                if not wait_until_done(tab):
                    text = " ".join(tab.page.inner_text("body").split())
                    raise Problem(f"{site.name} was not done after {CASE_SECONDS} s. Its page says: {text[:500]}")
                after = counts.both()
                begun, end = tab.page.evaluate("[window.chosenAt, window.doneAt]")
                samples = [((at - begun) / 1e3, text) for at, text in tab.page.evaluate("window.samples")]
            finally:
                over.set()
                if line.every:
                    breaking.join()
        seconds = (end - begun) / 1e3
        log.append({"line": line.name, "site": site.name, "seconds": seconds, "samples": samples})
        stored = [path for path in all_files(folder / "server" / "files") if path.stat().st_size == line.size]
        if not any(file_hash(path) == content_hash(0, line.size) for path in stored):
            raise Problem(f"{site.name} did not store what was sent.")
        off, silent = judge_left(samples, seconds)
        wire, back = (after[way] - before[way] for way in (0, 1))
        return Result(wire / line.size, back / line.size, seconds / line.best(), off, silent)


def compare_lines(folder: Path, lines: Sequence[Line], sites: Sequence[Site]) -> bool:
    """Prints the table of the lines. Returns whether all went well."""
    print(f"| line | | at least | {' | '.join(site.name for site in sites)} |")
    print(f"|---|---|---:|{'---:|' * len(sites)}")
    well, log = True, list[Any]()
    for line in lines:
        file = write_content(folder / "file.bin", line.size)
        cells = list[list[str]]()
        for site in sites:
            say(f"{line.name}, {site.name}")
            try:
                result = send_over(line, site, folder, file, log)
                say(f"  {result}")
                cells.append(result.cells())
            except (Problem, Error) as problem:
                say(f"  {problem}")
                well = False
                cells.append(["failed", "failed", "failed"])
        name = f"{line.name}, {line.size // MB:,} MB"
        for figure, least, row in zip(
            ("bytes on the wire + back, per byte", "seconds, per best possible", "time left off by a factor of"),
            (f"{line.at_least():.3f}", "1.00", "1.0"),
            zip(*cells, strict=True),
            strict=True,
        ):
            print(f"| {name} | {figure} | {least} | {' | '.join(row)} |", flush=True)
            name = ""
    if path := os.environ.get("LINES_LOG"):
        Path(path).write_text(json.dumps(log))
    return well


# Many files


def send_many(site: Site, folder: Path, files: Sequence[Path]) -> list[str]:
    """Chooses all these files at once. Returns the figures."""
    with serve(site, folder / "server", "127.0.0.1") as url, open_tab(site, folder, url, len(files)) as tab:
        most = 0.0

        def look() -> None:
            nonlocal most
            most = max(most, tab.memory())

        empty = tab.memory()
        tab.page.set_input_files(site.input, files, timeout=CASE_SECONDS * 1000)
        is_done = wait_until_done(tab, look)
        look()
        names = ("chosenAt", "countedAt", "sentAt", "doneAt")
        chosen, counted, sent, done = tab.page.evaluate(f"[{', '.join(f'window.{name} ?? NaN' for name in names)}]")
        stored = sum(path.stat().st_size == MANY_BYTES for path in all_files(folder / "server" / "files"))
        if is_done and stored < len(files):
            raise Problem(f"{site.name} stored {stored} of the files.")
        return [
            f"{(counted - chosen) / 1e3:.2f}",
            f"{(sent - chosen) / 1e3:.2f}",
            f"{(done - chosen) / 1e3:.1f}" if is_done else f"{stored:,} after {CASE_SECONDS}",
            f"{tab.page.evaluate('window.longest'):.0f}",
            f"{most:.0f} ({empty:.0f})",
        ]


def compare_many(folder: Path, sites: Sequence[Site]) -> bool:
    """Prints the table of many files. Returns whether all went well."""
    (folder / "files").mkdir()
    files = [
        write_content(folder / "files" / f"{number:05}.bin", MANY_BYTES, number * MANY_BYTES) for number in range(MANY)
    ]
    figures = ("count shown, s", "first byte, s", "all in, s", "longest block, ms", "renderers at most (before), MB")
    cells, well = list[list[str]](), True
    for site in sites:
        say(f"{MANY:,} files, {site.name}")
        try:
            cells.append(send_many(site, folder, files))
            say(f"  {cells[-1]}")
        except (Problem, Error) as problem:
            say(f"  {problem}")
            well = False
            cells.append(["failed"] * len(figures))
    print(f"| {MANY:,} files of {MANY_BYTES // KIB} KiB | {' | '.join(site.name for site in sites)} |")
    print(f"|---|{'---:|' * len(sites)}")
    for figure, row in zip(figures, zip(*cells, strict=True), strict=True):
        print(f"| {figure} | {' | '.join(row)} |", flush=True)
    return well


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--many", action="store_true", help=f"instead: {MANY:,} small files at once, without a line")
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="only lines and pages with one of these in their names"
    )
    wishes = parser.parse_args()

    def wanted(names: Sequence[Any]) -> list[Any]:
        chosen = [thing for thing in names if any(word.lower() in thing.name.lower() for word in wishes.words)]
        return chosen or list(names)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all is taken away
    sites = list[Site]()
    for site in wanted([*SITES, BARE] if wishes.many else SITES):
        version = site.version()
        say(f"{site.name} {version}" if version is not None else f"{site.name} is left out. To get it: {site.install}")
        if version is not None:
            sites.append(site)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="pyfiledrop-lines-", dir=memory) as folder:
        if wishes.many:
            well = compare_many(Path(folder), sites)
        else:
            well = compare_lines(Path(folder), wanted(LINES), sites)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
