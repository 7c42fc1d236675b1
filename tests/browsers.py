"""Firefox and WebKit, as Debian has them, each driven in its own language; `browsing.py` drives Chromium.

A `Window` is a browser with one window and a profile of its own. What the tests do with the page stands in it once;
`Firefox` and `WebKit` add how their browser is started and told to do so. No driver program is needed for Firefox: it
speaks WebDriver BiDi itself. WebKit is driven by WebKitWebDriver, and draws on a screen that only exists in memory.

Where the parts of the page are found stands in the constants below, and in the spy of `browsing.py`.
"""

from __future__ import annotations

import abc
import base64
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from axe_playwright_python.base import AXE_SCRIPT
from browsing import HURRY, SPY
from websockets.sync.client import connect

import build

Answer = TypeVar("Answer")

START_SECONDS = 60.0
ANSWER_SECONDS = 60.0  # more than the page's own waiting may take
SCREEN = "1600x1200x24"

FILES = "#list > [data-state]"  # the lines of files
LISTED = "#list > :is([data-state=done], [data-state=unfinished])"  # of those that the server has, or has something of
FILE = "#file"
SEND = "#send"  # the button of the plain form
NEWS = "#news"
PAUSE = "#pause"
NOTICE = "#notice"
OVERLAY = "#overlay"
REMOVE = (".more summary", ".remove", ".delete")  # what is clicked in a line, in turn, to delete a file from the server
CANCEL, RETRY, COPY, LINK = ".cancel", ".retry", ".copy", ".link"


def wait_for(look: Callable[[], Answer | None], what: str, seconds: float) -> Answer:
    """What `look` finds, as soon as it finds something; AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"{what} is not there after {seconds:.0f} s"
        time.sleep(0.02)
    return found


class Window(abc.ABC):
    """A browser with one window. It keeps downloads in the folder `downloads`.

    Expressions are JavaScript; where an element is asked for, they must give one.
    """

    name: str
    downloads: Path

    # What each browser does in its own way

    @abc.abstractmethod
    def go(self, url: str) -> None:
        """Load the page at this address."""

    @abc.abstractmethod
    def reload(self) -> None:
        """Load the page anew, also when it would rather stay."""

    @abc.abstractmethod
    def evaluate(self, expression: str) -> Any:
        """The value of an expression, which may be a promise. AssertionError when it fails."""

    @abc.abstractmethod
    def set_files(self, element: str, *paths: Path) -> None:
        """Choose these files in a file input."""

    @abc.abstractmethod
    def click(self, element: str) -> None:
        """Click on an element as a hand does."""

    @abc.abstractmethod
    def press(self, *keys: str) -> None:
        """Press these keys, hold them, and release them, where the focus is. They are named as WebDriver does."""

    @abc.abstractmethod
    def resize(self, width: int, height: int) -> None:
        """Make the page so wide and high, in pixels."""

    @abc.abstractmethod
    def screenshot(self) -> bytes:
        """What is seen of the page, as a PNG."""

    @abc.abstractmethod
    def complaints(self) -> list[str]:
        """What the browser has said of scripts that failed, and of what the policy forbids."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the browser."""

    # What the tests do with the page

    def open(self, url: str) -> None:
        """Load a page of the server, with a spy in it."""
        self.go(url)
        self.evaluate(f"{SPY.strip()}, 0")

    def open_again(self) -> None:
        """Reload it, with a new spy."""
        self.reload()
        self.evaluate(f"{SPY.strip()}, 0")

    def until(self, condition: str) -> None:
        """Wait until this is true of the page or of what its spy has seen."""
        self.evaluate(f"spy.until(() => {condition})")

    def spy(self, what: str) -> Any:
        return self.evaluate(f"spy.{what}")

    def hurry(self, times: int = 100) -> None:
        """Make the page's long pauses so many times shorter."""
        self.evaluate(HURRY.format(times))

    def choose(self, *paths: Path) -> None:
        self.set_files(f"document.querySelector('{FILE}')", *paths)

    def click_on(self, selector: str) -> None:
        self.click(f"document.querySelector('{selector}')")

    def click_in(self, name: str, *parts: str) -> None:
        """Click on these parts of a file's line, one after the other."""
        for part in parts:
            self.click(f"{line_of(name)}.querySelector('{part}')")

    def expect_state(self, name: str, state: str) -> None:
        """Wait until the file of this name is in this state."""
        self.until(f"{line_of(name)}?.dataset.state === '{state}'")

    def expect_done(self, *paths: Path) -> None:
        for path in paths:
            self.expect_state(path.name, "done")

    def expect_status(self, name: str, part: str) -> None:
        """Wait until what is said of this file contains this."""
        self.until(f"{line_of(name)}?.querySelector('.status').textContent.includes({json.dumps(part)})")

    def expect_listed(self, *names: str) -> None:
        """Wait until the list has these files, the newest first, and no others."""
        listed = json.dumps(names, ensure_ascii=False, separators=(",", ":"))
        self.until(f"JSON.stringify({all_of(LISTED)}.map({NAME})) === {json.dumps(listed)}")

    def expect_text(self, selector: str, part: str) -> None:
        """Wait until this part of the page contains this."""
        self.until(f"document.querySelector('{selector}').textContent.includes({json.dumps(part)})")

    def sent(self) -> int:
        """The bytes of all runs that were begun since the page was loaded."""
        return sum(run["size"] for run in self.spy("runs"))

    def acknowledged(self) -> int:
        """The bytes of those that the server has answered with success."""
        return sum(run["size"] for run in self.spy("runs") if run["status"] == 200)

    def until_there(self, condition: str) -> None:
        """Wait until this is true of a page that is still on its way, or has no script."""

        def is_true() -> bool | None:
            with contextlib.suppress(AssertionError):  # the page before it is just going
                return self.evaluate(f"document.readyState === 'complete' && !!({condition})") or None
            return None

        wait_for(is_true, condition, START_SECONDS)

    def assert_accessible(self, state: str) -> None:
        """axe finds nothing, and nothing is wider than the window."""
        self.evaluate(f"(() => {{ {AXE_SCRIPT} }})() ?? 0")
        violations = self.evaluate("axe.run().then((results) => results.violations)")
        assert not violations, f"{state}: {json.dumps(violations, indent=1)}"
        assert self.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{state}: wider than the window"


NAME = "(one) => one.querySelector('.name').textContent"


def all_of(selector: str) -> str:
    """An expression for all of these elements."""
    return f"[...document.querySelectorAll('{selector}')]"


def line_of(name: str) -> str:
    """An expression for the line of the file of this name, or undefined."""
    return f"{all_of(FILES)}.find((one) => ({NAME})(one) === {json.dumps(name)})"


def as_json(expression: str) -> str:
    """An expression's value, or what it promises, as text, for what drivers make of values differs.

    Where scripts are switched off, no promise is ever kept.
    """
    text = "((one) => JSON.stringify(one) ?? 'null')"
    return f"((one) => one?.then?.({text}) ?? {text}(one))({expression})"


@contextlib.contextmanager
def program(*command: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program as long as the context lasts, with all that it starts. What it says goes into the folder's log."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": str(folder), "LANG": "C.UTF-8", "LANGUAGE": "en", **environment},
            start_new_session=os.name != "nt",
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        if os.name != "nt":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()


# Firefox

PREFERENCES = {
    "browser.download.folderList": 2,  # the folder that is named next
    "browser.download.always_ask_before_handling_new_types": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,  # nothing but the server under test is to be spoken to
    "network.connectivity-service.enabled": False,
    "ui.primaryPointerCapabilities": 6,  # a mouse, which a machine without a screen need not have
    "ui.prefersReducedMotion": 1,  # axe would see colours on their way from one to the other
}
# What the browser's own console has about pages: its scripts' errors, and what the policy forbids.
# An answer that broke off before its first byte is no XML, which the page knows.
CONSOLE = (
    "Services.console.getMessageArray().map(String)"
    ".filter((one) => one.includes('http://') && !one.includes('XML Parsing Error: no root element'))"
)


class Firefox(Window):
    """Speaks WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi/) through a WebSocket that Firefox opens."""

    name = "firefox"

    def __init__(self, folder: Path, *, dark: bool = False, scripts: bool = True) -> None:
        self.downloads = folder / "downloads"
        profile = folder / "profile"
        profile.mkdir()
        preferences = {
            **PREFERENCES,
            "browser.download.dir": str(self.downloads),
            "layout.css.prefers-color-scheme.content-override": 0 if dark else 1,
            "javascript.enabled": scripts,
        }
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()]
        (profile / "user.js").write_text("".join(lines), encoding="utf-8")
        self._ids = itertools.count()
        with contextlib.ExitStack() as stack:
            command = [str(build.find_firefox()), "--headless", "--no-remote", "--profile", str(profile)]
            command += ["--remote-debugging-port", "0", "--remote-allow-system-access"]  # the latter for its console
            stack.enter_context(program(*command, folder=folder))
            url = wait_for(lambda: self._address(profile), "Firefox", START_SECONDS)
            self._socket = stack.enter_context(connect(f"{url}/session", max_size=None, proxy=None))
            self._call("session.new", capabilities={"alwaysMatch": {"unhandledPromptBehavior": {"default": "accept"}}})
            self._context = self._call("browsingContext.create", type="tab")["context"]
            self.resize(1280, 800)
            self._stack = stack.pop_all()

    @staticmethod
    def _address(profile: Path) -> str | None:
        """Where it listens, as soon as it says so."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((profile / "WebDriverBiDiServer.json").read_text(encoding="utf-8"))
            return f"ws://{found['ws_host']}:{found['ws_port']}"
        return None

    def _call(self, method: str, **parameters: Any) -> Any:
        """The result of a command. AssertionError when the browser could not do it."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(ANSWER_SECONDS))).get("id") != number:
            pass  # an event, of which we need none
        assert answer["type"] == "success", f"{method}: {answer['error']}: {answer['message']}"
        return answer["result"]

    def _evaluate(self, expression: str, context: str) -> Any:
        target = {"context": context}
        answer = self._call("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return answer["result"]

    def _element(self, element: str) -> dict[str, str]:
        """A reference to an element, which is made visible."""
        found = self._evaluate(
            f"(() => {{ const one = {element}; one.scrollIntoView({{block: 'center'}}); return one; }})()",
            self._context,
        )
        return {"sharedId": found["sharedId"]}

    def _act(self, kind: str, actions: list[dict[str, Any]]) -> None:
        self._call(
            "input.performActions", context=self._context, actions=[{"type": kind, "id": kind, "actions": actions}]
        )

    def go(self, url: str) -> None:
        self._call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def reload(self) -> None:
        self._call("browsingContext.reload", context=self._context, wait="complete")

    def evaluate(self, expression: str) -> Any:
        return json.loads(self._evaluate(as_json(expression), self._context)["value"])

    def set_files(self, element: str, *paths: Path) -> None:
        files = [str(path) for path in paths]
        self._call("input.setFiles", context=self._context, element=self._element(element), files=files)

    def click(self, element: str) -> None:
        origin = {"type": "element", "element": self._element(element)}
        move = {"type": "pointerMove", "x": 0, "y": 0, "origin": origin}
        self._act("pointer", [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}])

    def press(self, *keys: str) -> None:
        down = [{"type": "keyDown", "value": key} for key in keys]
        self._act("key", down + [{"type": "keyUp", "value": key} for key in reversed(keys)])

    def resize(self, width: int, height: int) -> None:
        self._call("browsingContext.setViewport", context=self._context, viewport={"width": width, "height": height})

    def screenshot(self) -> bytes:
        image = self._call("browsingContext.captureScreenshot", context=self._context, origin="document")["data"]
        return base64.b64decode(image)

    def complaints(self) -> list[str]:
        (browser,) = self._call("browsingContext.getTree", **{"moz:scope": "chrome"})["contexts"]
        found: list[str] = json.loads(self._evaluate(as_json(CONSOLE), browser["context"])["value"])
        return found

    def close(self) -> None:
        self._stack.close()


# WebKit

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the name that WebDriver gives to references to elements
QUIETLY = {
    "DBUS_SESSION_BUS_ADDRESS": "disabled:",
    "NO_AT_BRIDGE": "1",
    "GTK_USE_PORTAL": "0",
    "LIBGL_ALWAYS_SOFTWARE": "1",
}


@contextlib.contextmanager
def screen() -> Iterator[str]:
    """The name of a screen that exists in memory only."""
    reader, writer = os.pipe()
    with open(reader) as output:
        xvfb = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writer), "-screen", "0", SCREEN, "-nolisten", "tcp"],
            pass_fds=[writer],
            stderr=subprocess.DEVNULL,
        )
        os.close(writer)
        try:
            yield f":{output.readline().strip()}"
        finally:
            xvfb.terminate()
            xvfb.wait()


class WebKit(Window):
    """Speaks WebDriver (https://www.w3.org/TR/webdriver2/) with WebKitWebDriver, which starts MiniBrowser."""

    name = "webkit"

    def __init__(self, folder: Path, display: str, *, dark: bool = False, scripts: bool = True) -> None:
        self.downloads = folder  # which it takes for the user's home
        self._log = folder / "log"
        style = folder / ".config" / "gtk-3.0" / "gtk.css"
        style.parent.mkdir(parents=True)
        style.write_text("button, entry { min-width: 0; padding: 0; margin: 0; }")  # else the window is never narrow
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        arguments = ["--automation", "--enable-write-console-messages-to-stdout=true"]
        arguments += ["--dark-mode"] if dark else []
        arguments += [] if scripts else ["--enable-javascript-markup=false"]
        options = {"binary": str(build.find_minibrowser()), "args": arguments}
        capabilities = {"alwaysMatch": {"webkitgtk:browserOptions": options, "unhandledPromptBehavior": "accept"}}
        with contextlib.ExitStack() as stack:
            command = ["WebKitWebDriver", "--host=127.0.0.1", f"--port={port}"]
            stack.enter_context(program(*command, folder=folder, DISPLAY=display, GDK_BACKEND="x11", **QUIETLY))
            wait_for(self._is_there, "WebKitWebDriver", START_SECONDS)
            self._url += f"/session/{self._call('POST', '/session', capabilities=capabilities)['sessionId']}"
            stack.callback(self._call, "DELETE", "")
            self._call("POST", "/timeouts", script=None)  # its clock would be the page's, which the tests hurry
            self.resize(1280, 800)
            self._stack = stack.pop_all()

    def _is_there(self) -> bool | None:
        with contextlib.suppress(urllib.error.URLError):
            return bool(self._call("GET", "/status"))
        return None

    def _call(self, method: str, path: str, **parameters: Any) -> Any:
        """The value of a command's answer. AssertionError when the browser could not do it."""
        data = json.dumps(parameters).encode() if method == "POST" else None
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                value = json.load(error)["value"]
            raise AssertionError(f"{method} {path}: {value['error']}: {value['message']}") from None

    def _element(self, element: str) -> str:
        return str(self._call("POST", "/execute/sync", script=f"return {element}", args=[])[ELEMENT])

    def go(self, url: str) -> None:
        self._call("POST", "/url", url=url)

    def reload(self) -> None:
        self._call("POST", "/refresh")

    def evaluate(self, expression: str) -> Any:
        then = "(one) => arguments[0]([one]), (error) => arguments[0](String(error))"
        script = f"Promise.resolve({as_json(expression)}).then({then})"
        answer = self._call("POST", "/execute/async", script=script, args=[])
        assert isinstance(answer, list), answer
        return json.loads(answer[0])

    def set_files(self, element: str, *paths: Path) -> None:
        self._call("POST", f"/element/{self._element(element)}/value", text="\n".join(map(str, paths)))

    def click(self, element: str) -> None:
        def could() -> bool | None:
            try:
                self._call("POST", f"/element/{self._element(element)}/click")
            except AssertionError as error:
                if "element not interactable" not in str(error):
                    raise
                return None  # a row has no size before it was drawn
            return True

        wait_for(could, element, START_SECONDS)

    def press(self, *keys: str) -> None:
        actions = [{"type": "keyDown", "value": key} for key in keys]
        actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self._call("POST", "/actions", actions=[{"type": "key", "id": "key", "actions": actions}])

    def resize(self, width: int, height: int) -> None:
        def fits() -> bool | None:
            """Whether it has that size; if not, the window changes by what is wrong, in its own time."""
            is_wide, is_high = self.evaluate("[innerWidth, innerHeight]")
            if (is_wide, is_high) == (width, height):
                return True
            rect = self._call("GET", "/window/rect")
            now = {"width": rect["width"] + width - is_wide, "height": rect["height"] + height - is_high}
            self._call("POST", "/window/rect", **now)
            return None

        wait_for(fits, f"a page of {width} by {height} pixels", START_SECONDS)

    def screenshot(self) -> bytes:
        return base64.b64decode(self._call("GET", "/screenshot"))

    def complaints(self) -> list[str]:
        log = self._log.read_text(encoding="utf-8", errors="replace")
        return [line for line in log.splitlines() if line.startswith("CONSOLE") and "NETWORK" not in line]

    def close(self) -> None:
        self._stack.close()
