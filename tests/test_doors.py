"""Who comes in and how: the password, the names the server answers under, https; and what the log tells of it."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import threading
import uuid as uuids
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import bottle
import pytest
import trustme
from axe_playwright_python.sync_playwright import Axe
from browsing import CHROMIUM_ARGUMENTS, Visits, assert_stored, make_file
from conftest import (
    BOUNDARY,
    DROP_COOKIE,
    Connection,
    Response,
    Server,
    StartServer,
    _servers,
    chunk_request,
    exchange,
    multipart_body,
    request,
    run_request,
    serving,
    upload,
    wait_until,
)
from playwright.sync_api import Browser, Page, expect

import build
import pyfiledrop

PASSWORD = "Grüße & 100% =+secret:"  # with all that a form or a header could take for something else
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
PLAIN = {"Accept": "*/*"}
MIB = 1 << 20


def new() -> str:
    return str(uuids.uuid4())


def sign_in_request(password: str, **headers: str) -> bytes:
    """What the form sends."""
    body = f"password={quote(password, safe='')}".encode()
    kind = "application/x-www-form-urlencoded"
    return request("POST", "/", {"Content-Type": kind, "Accept": "text/html", **headers}, body)


def basic(password: str, user: str = "") -> dict[str, str]:
    """The header that `curl -u user:password` sends."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def cookie_of(answer: Response) -> str:
    """The one cookie that an answer sets, name and value, as a browser sends it back."""
    (line,) = answer.headers.get_all("Set-Cookie") or []
    cookie: str = line.partition(";")[0]
    return cookie


def sign_in(server: Server, password: str = PASSWORD) -> dict[str, str]:
    """The header that a signed-in browser sends."""
    answer = exchange(server, sign_in_request(password))
    assert answer.status == 303, answer
    return {"Cookie": cookie_of(answer)}


def is_in(server: Server, headers: dict[str, str]) -> bool:
    """Whether these headers are let in; if not, the answer must be 401."""
    status = exchange(server, request("GET", "/uploads", headers)).status
    assert status in (200, 401)
    return status == 200


def flip(text: str) -> str:
    """The same with another last character."""
    return text[:-1] + ("0" if text[-1] != "0" else "1")


@pytest.fixture(scope="module")
def guarded(program: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a password, for tests that never give a wrong one."""
    servers = _servers(program, lambda: tmp_path_factory.mktemp("guarded"))
    yield next(servers)("-a", env={"PYFILEDROP_PASSWORD": PASSWORD})
    next(servers, None)


def launched(folder: Callable[[], Path], changes: str, *options: str, env: dict[str, str]) -> Iterator[Server]:
    """A server with some of its constants changed."""
    servers = _servers([sys.executable, str(build.ROOT / "tests" / "launch.py"), changes], folder)
    yield next(servers)(*options, env=env)
    next(servers, None)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a password that lets everybody try again at once."""
    env = {"PYFILEDROP_PASSWORD": PASSWORD}
    yield from launched(lambda: tmp_path_factory.mktemp("patient"), "MAX_DELAY_SECONDS=0", env=env)


# The password: signing in


def test_sign_in_in_a_browser(start_server: StartServer, visit: Visits) -> None:
    """A browser meets a form; the wrong password brings it back with a word, the right one opens the page for good."""
    server = start_server(env={"PYFILEDROP_PASSWORD": PASSWORD})
    tab = visit(server)
    page = tab.page
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.locator("#file")).to_have_count(0)
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("That is not the password.")
    visit.expect_complaints("net::ERR_")  # the icon may not have come yet
    server.restart()  # it would let nobody try again at once
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#file")).to_have_count(1)
    assert page.url == server.url
    tab.choose_content("inside.txt", b"content")
    tab.expect_listed("inside.txt")
    page.reload()
    tab.expect_listed("inside.txt")


@pytest.fixture
def network_page(browser: Browser) -> Iterator[Page]:
    """A tab of a browser that meets the server under `http://drop.test`, as from another machine of the network.

    Browsers trust their own machine more than that: to 127.0.0.1 they send headers which no other address over http
    gets to see.
    """
    chromium = browser.browser_type.launch(
        executable_path=build.find_chromium(),
        args=[*CHROMIUM_ARGUMENTS, "--host-resolver-rules=MAP drop.test 127.0.0.1"],
    )
    yield chromium.new_context(java_script_enabled=False).new_page()
    chromium.close()


def test_sign_in_and_plain_form_from_the_network(start_server: StartServer, network_page: Page) -> None:
    """Over http and from elsewhere too, the server's own forms are no other site's."""
    server = start_server("--allow-host", "drop.test", env={"PYFILEDROP_PASSWORD": PASSWORD})
    page = network_page
    page.goto(f"http://drop.test:{server.port}/")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#file")).to_have_count(1)
    page.set_input_files("#file", {"name": "plain.txt", "mimeType": "text/plain", "buffer": b"content"})
    page.locator("#send").click()
    expect(page.get_by_text("Received plain.txt")).to_be_visible()
    assert [path.read_bytes() for path in server.storage.glob("*_plain.txt")] == [b"content"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_sign_in_page(start_server: StartServer, visit: Visits, scheme: Any) -> None:
    """In either colour scheme, before and after a wrong password, on a small screen."""
    page = visit(
        start_server(env={"PYFILEDROP_PASSWORD": PASSWORD}),
        color_scheme=scheme,
        viewport={"width": 360, "height": 640},
    ).page
    for state in ("", "That is not the password."):
        expect(page.get_by_role("status")).to_have_text(state)
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if not state:
            page.get_by_label("Password").fill("wrong")
            page.keyboard.press("Enter")


def test_sign_in_over_a_socket(guarded: Server) -> None:
    """The right password is answered with a way to the page and a cookie that no script and no other site can use."""
    answer = exchange(guarded, sign_in_request(PASSWORD))
    assert (answer.status, answer.headers["Location"], answer.body) == (303, "./", b"")
    (cookie,) = answer.headers.get_all("Set-Cookie") or []
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert attributes == {"httponly", "samesite=lax", "path=/", f"max-age={30 * 24 * 3600}"}
    headers = {"Cookie": cookie_of(answer), "Accept": "text/html"}
    page = exchange(guarded, request("GET", "/", headers))
    assert page.status == 200 and 'id="settings"' in page.text
    assert is_in(guarded, headers)


def test_page_without_a_session_is_the_form(guarded: Server) -> None:
    """Who has not signed in gets the form, no page, no drop, and nothing that is kept by a cache."""
    answer = exchange(guarded, request("GET", "/", {"Accept": "text/html"}))
    assert answer.status == 200 and 'type="password"' in answer.text and 'id="settings"' not in answer.text
    assert "Set-Cookie" not in answer.headers and answer.headers["Cache-Control"] == "no-store"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy


@pytest.mark.parametrize("user", ["", "anybody", "ü"])
def test_basic_authentication(guarded: Server, user: str) -> None:
    """The password works in an Authorization header too, whatever the user is called."""
    assert is_in(guarded, basic(PASSWORD, user))


def test_wrong_password_in_the_form(patient: Server) -> None:
    """The form comes again with a word about it, and no session with it."""
    answer = exchange(patient, sign_in_request("wrong"))
    assert 'type="password"' in answer.text and "That is not the password." in answer.text
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "body",
    [
        b"", b"password=", b"password", b"passwort=x", b"=", b"&&&", b"%", b"password=%", b"password=%ff%00",
        b"\xff\xfe\x00",
        b"password=" + PASSWORD.encode()[:-1], b"password=x&password=" + quote(PASSWORD).encode(),
        b"a=1&" * 200, multipart_body({"password": PASSWORD}, []),
    ],
)  # fmt: skip
def test_sign_in_with_nonsense(patient: Server, body: bytes) -> None:
    """A form that carries no password, or carries it in another way, opens nothing and breaks nothing."""
    answer = exchange(patient, request("POST", "/", {"Accept": "text/html"}, body))
    assert answer.status == 200 and "That is not the password." in answer.text
    assert "Set-Cookie" not in answer.headers
    assert "Traceback" not in patient.log()


def test_sign_in_that_is_no_form(guarded: Server) -> None:
    """A body larger than a password can be is refused, one that breaks off is malformed; neither is a wrong try."""
    assert exchange(guarded, request("POST", "/", {}, b"x" * 1025)).status == 413
    with Connection(guarded) as connection:
        connection.send(request("POST", "/", {"Content-Length": "30"}, b"password=x"))
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.receive().status == 400
    assert is_in(guarded, basic(PASSWORD))


def test_sign_in_from_another_site(guarded: Server) -> None:
    """A foreign page can neither sign a browser in nor try passwords through it."""
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        assert exchange(guarded, sign_in_request(PASSWORD, **headers)).status == 403


# The password: guessing


class Clock:
    """A time of our own, in place of the program's module `time`."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pyfiledrop, "time", clock)
    return clock


@pytest.fixture
def door(clock: Clock) -> pyfiledrop.Door:
    """A door with the password, and none of whose sessions was ended."""
    store: Any = SimpleNamespace(secret=lambda: b"key", is_revoked=lambda session: False)
    return pyfiledrop.Door(PASSWORD, store)


def retry_after(door: pyfiledrop.Door, password: str = PASSWORD, address: str = "10.0.0.1") -> int | None:
    """The seconds after which this address may try again; None when this try was heard, and wrong."""
    try:
        assert not door.knows(password, address)
    except pyfiledrop.TooManyTries as error:
        assert error.status == 429
        return int(error.headers["Retry-After"])
    return None


def test_delay_grows(clock: Clock, door: pyfiledrop.Door) -> None:
    """Each wrong password makes its address wait twice as long, to the most of a minute; before, the right one too."""
    for seconds in (0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60):
        assert retry_after(door, "wrong") is None
        assert retry_after(door) == max(1, seconds)
        clock.now += seconds - 0.01
        assert retry_after(door) == 1
        clock.now += 0.02
    assert door.knows(PASSWORD, "10.0.0.1")
    assert retry_after(door, "wrong") is None
    assert retry_after(door) == 1, "the right password must have put an end to the long delays"


def test_delay_stays_at_its_most(clock: Clock, door: pyfiledrop.Door) -> None:
    """However long somebody goes on guessing: never a fault, never a try for free."""
    for _ in range(3000):
        assert retry_after(door, "wrong") is None
        clock.now += 61
    assert retry_after(door, "wrong") is None
    assert retry_after(door) == 60


def test_tries_in_the_delay_do_not_count(clock: Clock, door: pyfiledrop.Door) -> None:
    """Hammering makes nobody wait longer than the delay that is running, so nobody can be kept out for good."""
    assert retry_after(door, "wrong") is None
    for _ in range(100):
        assert retry_after(door, "wrong") == 1
    clock.now += 0.51
    assert door.knows(PASSWORD, "10.0.0.1")


def test_delay_is_for_one_address(clock: Clock, door: pyfiledrop.Door) -> None:
    """A guesser is in nobody else's way."""
    assert retry_after(door, "wrong") is None
    assert door.knows(PASSWORD, "10.0.0.2")
    assert retry_after(door) == 1


def test_addresses_that_are_remembered_are_limited(clock: Clock, door: pyfiledrop.Door) -> None:
    """A guesser with many addresses cannot fill the memory; the newest are the ones that are remembered."""
    for number in range(pyfiledrop.MAX_ADDRESSES + 10):
        clock.now += 2
        assert retry_after(door, "wrong", str(ip_address(number))) is None
    assert len(door._failures) == pyfiledrop.MAX_ADDRESSES
    assert retry_after(door, address=str(ip_address(number))) == 1
    assert door.knows(PASSWORD, "0.0.0.0")


def test_all_guessers_together(clock: Clock, door: pyfiledrop.Door) -> None:
    """After sixty wrong passwords, from wherever, the next try is free when the first of them is a minute old."""
    for number in range(60):
        assert retry_after(door, "wrong", f"10.0.0.{number}") is None
        clock.now += 0.5
    assert retry_after(door, "wrong", "10.0.1.1") == retry_after(door, PASSWORD, "10.0.1.2") == 30
    clock.now += 30
    assert door.knows(PASSWORD, "10.0.1.2")
    assert retry_after(door, "wrong", "10.0.1.3") is None
    assert retry_after(door, "wrong", "10.0.1.4") == 1


@pytest.mark.parametrize("how", ["form", "header"])
def test_delay_over_a_socket(start_server: StartServer, how: str) -> None:
    """Right after a wrong password even the right one is 429 with Retry-After; a session goes on."""
    server = start_server(env={"PYFILEDROP_PASSWORD": PASSWORD})
    session = sign_in(server)

    def attempt(password: str) -> bytes:
        return sign_in_request(password) if how == "form" else request("GET", "/uploads", basic(password))

    with Connection(server) as connection:
        connection.send(attempt("wrong") + attempt(PASSWORD))  # in one piece, so that no time passes between them
        assert connection.receive().status == (200 if how == "form" else 401)
        answer = connection.receive()
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert "There were wrong passwords. Wait " in answer.text
    assert is_in(server, session)
    wait_until(lambda: is_in_now(server, basic(PASSWORD)))


def guess(password: str, address: str) -> bytes:
    """A try that a proxy on this machine says comes from that address."""
    return request("GET", "/uploads", {**basic(password), "X-Forwarded-For": address})


def statuses(server: Server, *tries: bytes) -> list[int]:
    """How these are answered, sent in one piece, so that no time passes between them."""
    with Connection(server) as connection:
        connection.send(b"".join(tries))
        return [connection.receive().status for _ in tries]


def test_row_53_from_one_network(start_server: StartServer) -> None:
    """The addresses of an IPv6 /64 wait for each other, those of others do not; nor do clients of one trusted proxy."""
    server = start_server("--trusted-proxy", "127.0.0.1", env={"PYFILEDROP_PASSWORD": PASSWORD})
    tries = [("wrong", "2001:db8::1"), (PASSWORD, "2001:db8::ffff:2"), (PASSWORD, "2001:db8:0:1::1"), (PASSWORD, "x")]
    assert statuses(server, *(guess(*one) for one in tries)) == [401, 429, 200, 200]


def test_row_53_from_many_addresses(start_server: StartServer) -> None:
    """Too many wrong passwords in all make everybody wait who is not signed in. Each one is a line in the log."""
    server = start_server("--quiet", "--trusted-proxy", "127.0.0.1", env={"PYFILEDROP_PASSWORD": PASSWORD})
    session = sign_in(server)
    wrong = [guess("wrong guess", f"203.0.113.9, 198.51.100.{number}") for number in range(60)]
    assert (
        statuses(server, *wrong, guess("wrong guess", "192.0.2.1"), guess(PASSWORD, "192.0.2.2"))
        == [401] * 60 + [429] * 2
    )
    assert exchange(server, sign_in_request(PASSWORD)).status == 429
    assert is_in(server, session)
    wait_until(lambda: len(server.log().splitlines()) == 60)
    lines = [line.split(" ", 2)[2] for line in server.log().splitlines()]
    assert lines == [f"wrong password from 198.51.100.{number}" for number in range(60)]


def test_row_53_nobody_elses_word(start_server: StartServer) -> None:
    """Without --trusted-proxy, and for other peers than it names, X-Forwarded-For says nothing: to delays and log."""
    for options in ((), ("--trusted-proxy", "192.0.2.1", "--trusted-proxy", "::1")):
        server = start_server(*options, env={"PYFILEDROP_PASSWORD": PASSWORD})
        assert statuses(server, guess("wrong", "198.51.100.1"), guess(PASSWORD, "198.51.100.2")) == [401, 429]
        wait_until(lambda: len(server.log().splitlines()) == 3)  # noqa: B023 - called before the next round
        assert all(" 127.0.0.1" in line for line in server.log().splitlines())


def test_row_53_log_names_the_client(start_server: StartServer) -> None:
    """Behind a trusted proxy the log shows whom it names, and the proxy where it names nobody."""
    server = start_server("--trusted-proxy", "0:0::1", "--trusted-proxy", "127.0.0.1")
    wait_until(lambda: "proxies    ::1, 127.0.0.1\n" in server.output())
    for address in ("198.51.100.1", "lies, 198.51.100.1", "198.51.100.1, 127.0.0.1", "lies", ""):
        exchange(server, request("GET", "/uploads", {"X-Forwarded-For": address}))
    wait_until(lambda: len(server.log().splitlines()) == 5)
    assert [line.split()[2] for line in server.log().splitlines()] == ["198.51.100.1"] * 3 + ["127.0.0.1"] * 2


@pytest.mark.parametrize(("proxies", "status"), [(("--trusted-proxy", "127.0.0.1"), 200), ((), 503)])
def test_row_53_connections_of_a_proxy(tmp_path: Path, proxies: tuple[str, ...], status: int) -> None:
    """A trusted proxy may have more connections than any other address."""
    for server in launched(lambda: tmp_path, "MAX_CONNECTIONS_PER_ADDRESS=1", *proxies, env={}):
        with Connection(server) as first:
            first.send(request("PUT", "/upload/x", {"Expect": "100-continue", "Content-Length": "1"}))
            assert first.sock.recv(12) == b"HTTP/1.1 100"  # it is not idle, and makes no room
            assert exchange(server, request("GET", "/uploads")).status == status


def is_in_now(server: Server, headers: dict[str, str]) -> bool:
    return exchange(server, request("GET", "/uploads", headers)).status == 200


# The password: sessions


def test_session_outlives_a_restart(start_server: StartServer) -> None:
    """Whoever has signed in stays so when the server is started again."""
    server = start_server(env={"PYFILEDROP_PASSWORD": PASSWORD})
    session = sign_in(server)
    server.restart()
    assert is_in(server, session)


def test_session_ends_with_its_password(start_server: StartServer, tmp_path: Path) -> None:
    """A changed password asks everybody again; the old one does not work either."""
    file = tmp_path / "password"
    file.write_text(PASSWORD, "utf-8")
    server = start_server("--password-file", str(file))
    session = sign_in(server)
    assert is_in(server, session)
    file.write_text("another", "utf-8")
    server.restart()
    assert not is_in(server, session)
    assert is_in(server, basic("another"))
    assert not is_in(server, basic(PASSWORD))


def test_session_is_of_one_server(start_server: StartServer) -> None:
    """Another server with the same password does not take it."""
    one, other = (start_server(env={"PYFILEDROP_PASSWORD": PASSWORD}) for _ in range(2))
    assert not is_in(other, sign_in(one))


def test_session_that_is_forged(guarded: Server) -> None:
    """A session with anything changed, added or left out is none."""
    name, _, value = sign_in(guarded)["Cookie"].partition("=")
    session, end, signature = value.split(".")
    forged = [
        "", ".", "..", end, session, f"{session}.{end}", f"{session}.{end}.", f".{end}.{signature}",
        f"{end}.{signature}", f"{session}..{signature}", f"{session}.{int(end) + 1}.{signature}",
        f"{session}.0{end}.{signature}", f"{session}.+{end}.{signature}", f"{flip(session)}.{end}.{signature}",
        f"{session[:-1]}.{session[-1]}{end}.{signature}", f"{session}.{end}_0.{signature}", f"0{value}",
        f"{session}. {end} .{signature}", f"{session.upper()}.{end}.{signature}", flip(value), value[:-1], f"{value}0",
        f"{value}.{signature}", f"{session}.{end}.{signature.upper()}", f"{session}.{end}.{'0' * 64}",
        "9" * 5000 + ".x", f"{session}.{end}.\xfc", f"{session}.\xb2.{signature}", '"\\377.x"',
    ]  # fmt: skip
    for text in forged:
        headers = {"Cookie": f"{name}={text}"}
        data = request("GET", "/uploads", headers).decode().encode("latin-1")
        assert exchange(guarded, data).status == 401, text
    assert is_in(guarded, {"Cookie": f"{name}={value}"})
    assert "Traceback" not in guarded.log()


def test_session_that_has_expired(clock: Clock, door: pyfiledrop.Door) -> None:
    """After thirty days the password is asked for again."""
    environ = {"wsgi.url_scheme": "http"}
    bottle.request.bind(environ)
    environ["HTTP_COOKIE"] = f"{door.cookie_name('session')}={door.new_session()}"

    def is_open() -> bool:
        return door.is_open_to(environ)

    assert is_open()
    clock.now += 30 * 24 * 3600 - 1
    assert is_open()
    clock.now += 1
    assert not is_open()


def sign_out_request(**headers: str) -> bytes:
    """What the button sends."""
    kind = "application/x-www-form-urlencoded"
    return request("POST", "/", {"Content-Type": kind, "Accept": "text/html", **headers}, b"signout=")


def test_row_51_sign_out(start_server: StartServer) -> None:
    """It ends this browser's sessions for good, whoever has a copy of the cookie; not those of others."""
    server = start_server(env={"PYFILEDROP_PASSWORD": PASSWORD})
    mine, also_mine, other = (sign_in(server)["Cookie"] for _ in range(3))
    answer = exchange(server, sign_out_request(Cookie=f"{mine}; {also_mine}"))
    assert (answer.status, answer.headers["Location"], cookie_of(answer)) == (303, "./", f'{mine.partition("=")[0]}=""')
    assert "; Max-Age=0;" in answer.headers["Set-Cookie"] and "; Path=/;" in answer.headers["Set-Cookie"]
    for _ in range(2):
        assert [is_in(server, {"Cookie": cookie}) for cookie in (mine, also_mine, other)] == [False, False, True]
        server.restart()
    assert is_in(server, sign_in(server))


def test_row_51_sign_out_from_another_site(guarded: Server) -> None:
    """A foreign page cannot sign a browser out, and nobody can who only knows the session's id."""
    session = sign_in(guarded)["Cookie"]
    assert exchange(guarded, sign_out_request(Cookie=session, Origin="http://evil.example")).status == 403
    assert exchange(guarded, sign_out_request(Cookie=f"{session[:-64]}{'0' * 64}")).status == 303
    assert is_in(guarded, {"Cookie": session})


def test_sign_out_where_nobody_signs_in(shared_server: Server) -> None:
    """Without a password there is nothing to sign out from, and the page has no button for it."""
    assert exchange(shared_server, sign_out_request()).status == 303
    assert re.search(r'<form [^>]*id="leave" hidden>', exchange(shared_server, request("GET", "/")).text)


@pytest.mark.parametrize("script", [True, False])
def test_sign_out_in_a_browser(start_server: StartServer, visit: Visits, script: bool) -> None:
    """The button leads back to the form that asks for the password, with and without JavaScript."""
    tab = visit(start_server(env={"PYFILEDROP_PASSWORD": PASSWORD}), java_script_enabled=script)
    page = tab.page
    for _ in range(2):
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#file")).to_have_count(1)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Password")).to_have_count(1)
        page.reload()
        expect(page.get_by_label("Password")).to_have_count(1)


def test_row_51_several_cookies_of_a_name(guarded: Server) -> None:
    """What another path or sub-domain has set under our names, before ours or behind them, locks nobody out."""
    session, drop = sign_in(guarded)["Cookie"], new()
    name = session.partition("=")[0]
    signed_out = sign_in(guarded)["Cookie"]
    exchange(guarded, sign_out_request(Cookie=signed_out))
    for others in (f"{name}=x; {DROP_COOKIE}=x", f"{signed_out}; {DROP_COOKIE}=", f"{name}=; {name}={'y' * 100}"):
        before, behind = f"{others}; {session}; {DROP_COOKIE}={drop}", f"{session}; {DROP_COOKIE}={drop}; {others}"
        for cookie in (before, behind, f"{behind}; {DROP_COOKIE}={new()}"):
            exchange(guarded, request("PUT", "/upload/x", {"Cookie": cookie}, b"x"))
    assert len(exchange(guarded, request("GET", "/uploads", {"Cookie": session}, cookie="")).json()["uploads"]) == 0
    listed = exchange(guarded, request("GET", "/uploads", {"Cookie": f"{session}; {DROP_COOKIE}={drop}"})).json()
    assert len(listed["uploads"]) == 9


def test_row_51_two_instances_on_one_host(start_server: StartServer) -> None:
    """Each has names of its own for its cookies, also after a restart, and takes none of the other's."""
    one, other = (start_server(env={"PYFILEDROP_PASSWORD": PASSWORD}) for _ in range(2))
    sessions = {server: sign_in(server)["Cookie"] for server in (one, other)}
    for kind, cookies in (("session", list(sessions.values())), ("owner", [one.drop_cookie, other.drop_cookie])):
        first, second = (re.match(r"(\w+)-([0-9a-f]{6})\b", cookie) for cookie in cookies)
        assert first and second and first[1] == second[1] == kind and first[2] != second[2]
    one.restart()
    assert sign_in(one)["Cookie"].partition("=")[0] == sessions[one].partition("=")[0]
    drop, both = new(), "; ".join(sessions.values())
    exchange(one, request("PUT", "/upload/x", {"Cookie": f"{both}; {other.drop_cookie}={drop}"}, b"x"))
    assert not exchange(one, request("GET", "/uploads", {"Cookie": f"{both}; {DROP_COOKIE}={drop}"})).json()["uploads"]


@pytest.mark.parametrize(
    "other", ["a@b=1", "a,b=1", "(=)", "=", "a b c", '"', "x=\xfc", "x=" + "y" * 4000, "session", "$x=1"]
)
def test_cookies_of_other_programs(guarded: Server, other: str) -> None:
    """Another program's cookie of the same host, however odd, keeps nobody from session and drop."""
    drop = new()
    session = sign_in(guarded)["Cookie"]
    headers = {"Cookie": f"{other}; {DROP_COOKIE}={drop}; {session}"}
    data = chunk_request(b"x", uuid=new(), name="mine.txt", headers=headers)
    assert exchange(guarded, data.decode().encode("latin-1")).status == 200
    listed = exchange(guarded, request("GET", "/uploads", {"Cookie": f"{DROP_COOKIE}={drop}; {session}"}))
    assert [file["name"] for file in listed.json()["uploads"]] == ["mine.txt"]
    assert "Traceback" not in guarded.log()


# The password: what it guards

CALLS = [
    ("POST", "/upload"), ("PUT", "/upload/x.txt"), ("GET", "/uploads"), ("DELETE", "/uploads"),
    ("GET", f"/uploads/{new()}"), ("DELETE", f"/uploads/{new()}"), ("POST", "/uploads"), ("PUT", f"/uploads/{new()}/0"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target"), [*CALLS, ("GET", "/download/{}"), ("HEAD", "/download/{}")])
def test_what_the_password_guards(guarded: Server, method: str, target: str) -> None:
    """Without it nothing can be sent, seen, removed or fetched, and nobody learns what is there."""
    uuid = exchange(guarded, request("PUT", "/upload/kept.txt", basic(PASSWORD), b"kept")).json()["files"][0]["uuid"]
    before = sorted(os.listdir(guarded.storage))
    body = multipart_body({}, [("file", "x.txt", b"content")]) if method in ("POST", "PUT") else None
    for place in (target.format(uuid), target.format(new())):
        answer = exchange(guarded, request(method, place, FORM, body))
        assert answer.status == 401
        assert method == "HEAD" or answer.json()["error"].startswith("This server asks for a password.")
    assert sorted(os.listdir(guarded.storage)) == before
    assert exchange(guarded, request("GET", f"/download/{uuid}", basic(PASSWORD))).body == b"kept"


def test_what_is_public(guarded: Server) -> None:
    """The sign-in page gets its icon, and the page's script is no secret."""
    for target in ("/favicon.ico", "/dropzone.js", "/dropzone.css"):
        assert exchange(guarded, request("GET", target)).status == 200


def test_public_links(start_server: StartServer) -> None:
    """With --public-links a link works for everybody, and nothing else does."""
    server = start_server("-a", "--public-links", env={"PYFILEDROP_PASSWORD": PASSWORD})
    uuid = exchange(server, request("PUT", "/upload/x.txt", basic(PASSWORD), b"0123")).json()["files"][0]["uuid"]
    assert exchange(server, request("GET", f"/download/{uuid}")).body == b"0123"
    assert exchange(server, request("GET", f"/download/{uuid}", {"Range": "bytes=1-2"})).body == b"12"
    assert exchange(server, request("GET", f"/download/{new()}")).status == 404
    for method, target in CALLS:
        body = b"x" if method in ("POST", "PUT") else None
        assert exchange(server, request(method, target, {}, body)).status == 401, target


def test_only_people_are_asked_by_the_browser(guarded: Server) -> None:
    """A script's JSON 401 makes no browser open its own password box; curl and links are told of Basic."""
    answer = exchange(guarded, request("GET", "/uploads"))
    assert answer.status == 401 and "WWW-Authenticate" not in answer.headers
    answer = exchange(guarded, request("GET", "/uploads", PLAIN))
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="pyfiledrop", charset="UTF-8"')


@pytest.mark.parametrize(
    "header", ["Basic", "Basic ", "Basic !", "Basic OnNlY3JldA", "Basic /w==", "Bearer x", "Basic OnNlY3JldA== x", "x"]
)
def test_authorization_that_is_none(patient: Server, header: str) -> None:
    """A malformed Authorization header is no password: 401, no fault."""
    answer = exchange(patient, request("GET", "/uploads", {"Authorization": header}))
    assert answer.status == 401
    assert "Traceback" not in patient.log()


def test_large_upload_without_the_password(guarded: Server) -> None:
    """Who sends megabytes without it reads the refusal, not a broken connection."""
    with Connection(guarded) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(request("PUT", "/upload/large.bin", {}, bytes(24 * MIB)))
        assert connection.receive().status == 401


def test_password_stays_secret(start_server: StartServer) -> None:
    """It stands in no answer and in no line of the log, right or wrong, plain or coded."""
    secret, wrong = "hunter2-right", "hunter2-wrong"
    server = start_server("-a", env={"PYFILEDROP_PASSWORD": secret})
    said = [
        exchange(server, data)
        for data in (
            request("GET", "/"), sign_in_request(secret), request("GET", "/uploads", basic(secret)),
            request("PUT", "/upload/x", basic(secret), b"x"), request("GET", "/nowhere", basic(secret)),
            request("GET", "/uploads", {**basic(secret), "Bad Header": "x"}),
            sign_in_request(wrong), sign_in_request(wrong),
            request("GET", "/uploads", basic(wrong)),
        )
    ]  # fmt: skip
    assert [answer.status for answer in said] == [200, 303, 200, 201, 404, 400, 200, 429, 429]
    answers = b"".join(bytes(answer.headers) + answer.body for answer in said).decode()
    wait_until(lambda: server.log().count(" in=") == len(said))
    server.stop()
    for word in (secret, wrong):
        for form in (word, basic(word)["Authorization"].split()[1], basic(word)["Authorization"].split()[1][:10]):
            assert form not in answers + server.output()


# The password: curl, and where it comes from


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["curl", "-sS", *arguments], capture_output=True, timeout=60)


def test_curl_with_a_password(guarded: Server, tmp_path: Path) -> None:
    """`curl -u :secret` sends, lists and fetches; a wrong one is 401, of which `curl -f` makes a failure."""
    file = tmp_path / "from curl.txt"
    file.write_bytes(random.randbytes(300_000))
    user = ("-u", f":{PASSWORD}")
    for sent in (
        curl(*user, "-T", str(file), guarded.url + "upload/"),
        curl(*user, "-F", f"file=@{file}", guarded.url + "upload"),
    ):
        line = sent.stdout.decode()
        assert line.startswith("Received from curl.txt (293.0 KB). Fetch it back: "), sent
        link = line.split()[-1]
        assert curl(*user, link).stdout == file.read_bytes()
        assert curl(*user, "-r", "10-19", link).stdout == file.read_bytes()[10:20]
        assert curl("-f", link).returncode == 22
    refused = curl("-w", " %{http_code}", guarded.url + "uploads").stdout
    assert refused == b"This server asks for a password. Open its page and sign in.\n 401"


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"secret", "secret"), (b"secret\n", "secret"), (b"secret\r\n", "secret"), (b"secret\nmore\n", "secret"),
        (b" two words \n", " two words "), ("пароль\n".encode(), "пароль"), (b"\xef\xbb\xbfsecret\r\n", "secret"),
    ],
)  # fmt: skip
def test_password_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, password: str) -> None:
    """The password is the file's first line, however an editor ends it or begins the file, before the environment's."""
    monkeypatch.setenv("PYFILEDROP_PASSWORD", "other")
    file = tmp_path / "password"
    file.write_bytes(content)
    assert pyfiledrop.read_password(pyfiledrop.Settings.parse(["--password-file", str(file)])) == password
    assert pyfiledrop.read_password(pyfiledrop.Settings.parse([])) == "other"


def fails_to_start(program: list[str], folder: Path, *options: str, env: dict[bytes, bytes] | None = None) -> str:
    """Start it with what it cannot use: one sentence on stderr, exit status 2. Returns the sentence."""
    places = ["--host", "127.0.0.1", "-p", "0", "-s", str(folder / "storage"), "-c", str(folder / "chunks")]
    done = subprocess.run(
        [*program, *places, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        env={**os.environb, **env} if env else None,
        start_new_session=True,  # no terminal on which it could ask
    )
    assert done.returncode == 2, done
    line = done.stderr.decode()
    assert re.fullmatch(r"pyfiledrop: [A-Z].*\.\n", line), line
    assert not done.stdout
    return line


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b"\nsecret\n", b"\xff\xfe", "grün".encode("latin-1"), None])
def test_password_file_that_cannot_be_used(program: list[str], tmp_path: Path, content: bytes | None) -> None:
    """A password file that is empty, no text, or not there ends the start: never a server without the password."""
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    assert "password" in fails_to_start(program, tmp_path, "--password-file", str(file))


@pytest.mark.skipif(os.name == "nt", reason="Windows has only text in its environment")
@pytest.mark.parametrize("value", [b"", b"\xff"])
def test_password_variable_that_cannot_be_used(program: list[str], tmp_path: Path, value: bytes) -> None:
    """So does one in the environment that is empty or no text."""
    assert "password" in fails_to_start(program, tmp_path, env={b"PYFILEDROP_PASSWORD": value})


def test_start_says_that_a_password_is_asked_for(start_server: StartServer) -> None:
    """The start says that there is a password, and whether links need it."""
    env = {"PYFILEDROP_PASSWORD": PASSWORD}
    for options, line in (((), "asked for"), (("--public-links",), "asked for, but not for links")):
        server = start_server(*options, env=env)
        wait_until(lambda: re.search(rf"^  password +{line}$", server.output(), re.MULTILINE))  # noqa: B023


# The names the server answers under


@pytest.fixture(scope="module")
def named(program: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = _servers(program, lambda: tmp_path_factory.mktemp("named"))
    names = ("Drop.Example", "192.0.2.7", "::1")
    yield next(servers)("-a", *(word for name in names for word in ("--allow-host", name)))
    next(servers, None)


@pytest.mark.parametrize(
    "host",
    [
        "drop.example", "DROP.example", "drop.example:80", "drop.example:", "192.0.2.7", "192.0.2.7:16273", "[::1]",
        "[::1]:8443",
    ],
)  # fmt: skip
def test_allowed_host(named: Server, host: str) -> None:
    """The names that were given work, in either case, with a port and without, IPv6 in its brackets."""
    assert exchange(named, request("GET", "/uploads", {"Host": host})).status == 200
    assert exchange(named, request("PUT", "/upload/x", {"Host": host}, b"x")).status == 201


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.70:1", "[::2]", "localhost:1", "a.localhost"])
def test_allowed_host_is_one_more(named: Server, host: str) -> None:
    """A name that was given takes nothing away: under its addresses the server is reached as before."""
    assert exchange(named, request("GET", "/uploads", {"Host": host})).status == 200


MISDIRECTED = {
    "error": "This server does not answer under this name. Open it by its address,"
    " or ask its owner to start it with --allow-host and this name."
}
EVERYWHERE = [
    ("GET", "/"), ("HEAD", "/"), ("POST", "/"), ("GET", "/favicon.ico"), ("GET", "/dropzone.js"), ("GET", "/uploads"),
    ("PUT", "/upload/x"), ("POST", "/upload"), ("DELETE", "/uploads"), ("GET", f"/download/{new()}"),
    ("GET", "/nothing"), ("PATCH", "/upload"), ("OPTIONS", "/uploads"), ("GET", "/upload"),
]  # fmt: skip


def assert_misdirected(server: Server, host: str, **headers: str) -> None:
    """Nothing is answered under this name but that it is none of the server's, whatever is asked for."""
    before = sorted(os.listdir(server.storage))
    for method, target in EVERYWHERE:
        body = b"x" if method in ("PUT", "POST") else None
        answer = exchange(server, request(method, target, {"Host": host, **headers}, body))
        assert answer.status == 421
        assert method == "HEAD" or answer.json() == MISDIRECTED
    assert sorted(os.listdir(server.storage)) == before


@pytest.mark.parametrize(
    "host",
    ["evil.example", "drop.example.evil.example", "evil.drop.example", "drop.example.", "-", "192.0.2.7.evil.example"],
)
def test_host_that_is_not_allowed(named: Server, host: str) -> None:
    """Any other is 421, whatever is asked for, so that no page can reach in under a name of its own."""
    assert_misdirected(named, host)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "a", f"{socket.gethostname()}.evil.example", ""])
def test_row_57_dns_rebinding(shared_server: Server, host: str) -> None:
    """A foreign name that was made to point here is 421, though to the browser all comes from one site."""
    headers = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    if not host:  # the helper would leave such a header out
        assert exchange(shared_server, b"GET / HTTP/1.1\r\nHost:\r\n\r\n").status == 421
    else:
        assert_misdirected(shared_server, f"{host}", **headers)


def test_row_57_password_comes_second(guarded: Server) -> None:
    """Under a foreign name nobody is asked for the password, and none is heard."""
    assert_misdirected(guarded, "evil.example")
    assert_misdirected(guarded, "evil.example", **basic(PASSWORD))


@pytest.mark.parametrize(
    "host", ["127.0.0.1:1", "192.0.2.1", "[::1]", "localhost", "x.LocalHost:1", socket.gethostname(),
             socket.gethostname().upper() + ":1", socket.gethostname().partition(".")[0] + ".local"],
)  # fmt: skip
def test_row_57_what_is_answered(shared_server: Server, host: str) -> None:
    """Addresses, localhost and the machine's own names need no option; neither does a client that names no host."""
    assert exchange(shared_server, request("GET", "/uploads", {"Host": host})).status == 200
    assert exchange(shared_server, b"GET /uploads HTTP/1.0\r\n\r\n").status == 200


def test_row_57_no_name_server_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the network says of names counts nowhere: neither at start nor for a request is it asked."""

    def ask(*_: object, **__: object) -> Any:
        raise AssertionError("a name was looked up")

    for name in ("getfqdn", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getaddrinfo", "getnameinfo"):
        monkeypatch.setattr(socket, name, ask)
    with serving(tmp_path) as server:
        for host, status in ((b"127.0.0.1", b"200"), (b"evil.example", b"421")):
            with socket.socket() as client:
                client.connect(("127.0.0.1", server.server_port))
                client.sendall(b"GET /uploads HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.1 " + status


def test_start_says_which_names(start_server: StartServer) -> None:
    """The start names what is answered, and the option that adds to it."""
    server = start_server("--allow-host", "drop.example")
    wait_until(lambda: "Ctrl-C ends it." in server.output())
    (line,) = re.findall(r"^  answers to (.*)$", server.output(), re.MULTILINE)
    assert line.startswith("addresses, localhost, ") and line.endswith("; --allow-host adds others")
    assert {"drop.example", socket.gethostname().lower()} <= set(re.split(r"[,;] ", line))


# https


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for this machine and its key, as files."""
    folder = tmp_path_factory.mktemp("certificate")
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.fixture(scope="session")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    """With what clients meet that certificate; they check it."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def tls_server(
    program: list[str], tmp_path_factory: pytest.TempPathFactory, certificate: tuple[str, str], trust: ssl.SSLContext
) -> Iterator[Server]:
    cert, key = certificate
    servers = _servers(program, lambda: tmp_path_factory.mktemp("https"))
    server = next(servers)("-a", "--tls-cert", cert, "--tls-key", key)
    server.tls = trust
    yield server
    next(servers, None)


def tell(answer: Response) -> tuple[int, Any]:
    """What an answer says of files, without what is different each time."""
    told = answer.json()
    for file in [*told.get("files", []), *([told["upload"]] if "upload" in told else [])]:
        for key in ("uuid", "link", "created"):
            file.pop(key)
    return answer.status, told


@pytest.mark.parametrize("size", [0, 1, 1000, 65535, 65536, 65537, 300_000, 5 * MIB + 3])
def test_https_does_what_http_does(tls_server: Server, shared_server: Server, size: int) -> None:
    """The same bytes become the same file and get the same answers as over http, where the system moves them."""
    content = random.Random(size).randbytes(size)
    half = max(1, size // 2 + 1)
    uuid, by_runs, runs_of = new(), new(), 30_000
    form = multipart_body({}, [("file", "form.bin", content), ("file", "more.bin", b"more")])
    requests = [
        chunk_request(content, 0, uuid=uuid, chunk_size=half),
        chunk_request(content, 0, uuid=uuid, chunk_size=half, data=content[:half] + b"x"),
        *([chunk_request(content, 1, uuid=uuid, chunk_size=half)] if size > half else []),
        request("POST", "/upload", FORM, form),
        request("PUT", "/upload/put.bin", {}, content),
        chunk_request(content, 0, uuid=new(), chunk_size=half, data=content[:half] + b"x"),
        request("POST", "/upload", FORM, form[:-1]),
        chunk_request(content, 0, uuid=by_runs, chunk_size=runs_of),
        run_request(content, 1, 3, uuid=by_runs, chunk_size=runs_of),
        run_request(content, 0, 999, uuid=by_runs, chunk_size=runs_of, data=content[:runs_of] + bytes(runs_of)),
        run_request(content, 0, 999, uuid=by_runs, chunk_size=runs_of, data=content + b"x"),
        run_request(content, 0, 999, uuid=by_runs, chunk_size=runs_of),
    ]
    told: list[list[Any]] = []
    for server in (tls_server, shared_server):
        with Connection(server) as connection:
            answers = []
            for data in requests:
                connection.send(data)
                answers.append(connection.receive())
                if answers[-1].status >= 400:
                    connection.close()
                    connection.__init__(server)  # type: ignore[misc]
        told.append([tell(answer) for answer in answers])
        for name in (uuid, by_runs):
            (path,) = server.storage.glob(f"{name}_*")
            assert path.read_bytes() == content
        link = exchange(server, request("PUT", "/upload/x", {}, content)).json()["files"][0]["link"]
        assert exchange(server, request("GET", f"/{link}")).body == content
    assert told[0] == told[1]


def test_https_download_and_ranges(tls_server: Server) -> None:
    """A file comes back whole, in ranges from any place, and without its body."""
    content = random.randbytes(3 * MIB + 17)
    link = upload(tls_server, content, chunk_size=MIB)["link"]
    assert exchange(tls_server, request("GET", f"/{link}")).body == content
    size = len(content)
    for first, last in ((0, 0), (1, 65536), (65535, 65537), (MIB - 1, 2 * MIB), (size - 1, size - 1), (7, size - 1)):
        answer = exchange(tls_server, request("GET", f"/{link}", {"Range": f"bytes={first}-{last}"}))
        assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes {first}-{last}/{size}")
        assert answer.body == content[first : last + 1]
    answer = exchange(tls_server, request("HEAD", f"/{link}"))
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(size))


def test_https_with_many_connections(tls_server: Server) -> None:
    """Forty clients at once, each with a file in chunks over one connection: all whole."""
    contents = [random.randbytes(200_000 + number) for number in range(40)]

    def send(content: bytes) -> bytes:
        uuid = new()
        with Connection(tls_server, timeout=60) as connection:
            for index in range(-(-len(content) // 70_000)):
                connection.send(chunk_request(content, index, uuid=uuid, chunk_size=70_000))
                answer = connection.receive()
                assert answer.status == 200, answer.text
            connection.send(request("GET", f"/download/{uuid}"))
            return connection.receive().body

    with ThreadPoolExecutor(len(contents)) as pool:
        assert list(pool.map(send, contents)) == contents


def test_https_cookies_are_secure(
    start_server: StartServer, certificate: tuple[str, str], trust: ssl.SSLContext
) -> None:
    """Over https session and drop are for https only."""
    server = start_server(
        "--tls-cert", certificate[0], "--tls-key", certificate[1], env={"PYFILEDROP_PASSWORD": PASSWORD}
    )
    server.tls = trust
    answer = exchange(server, sign_in_request(PASSWORD))
    page = exchange(server, request("GET", "/", {"Cookie": cookie_of(answer)}))
    for one in (answer, page):
        (cookie,) = one.headers.get_all("Set-Cookie") or []
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes
        assert cookie.startswith("__Host-") and not any(part.startswith("domain") for part in attributes)


def test_https_in_a_browser(tls_server: Server, visit: Visits, tmp_path: Path) -> None:
    """The page works over https, with a file of several chunks."""
    tab = visit(tls_server, ignore_https_errors=True)
    file = make_file(tmp_path / "secure.bin", 9 * MIB)
    tab.choose(file)
    tab.expect_listed("secure.bin")
    assert_stored(tls_server, file)


def test_https_with_curl(tls_server: Server, authority: trustme.CA, tmp_path: Path) -> None:
    """curl, which checks the certificate, sends, is told an https address, and goes on with a download."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    file = tmp_path / "x.bin"
    file.write_bytes(random.randbytes(2 * MIB))
    trusted = ("--cacert", str(tmp_path / "ca.pem"))
    sent = curl(*trusted, "-T", str(file), tls_server.url + "upload/")
    link = sent.stdout.decode().split()[-1]
    assert link.startswith(tls_server.url), sent
    partial = tmp_path / "partial.bin"
    partial.write_bytes(file.read_bytes()[:1_000_000])
    assert curl(*trusted, "-C", "-", "-o", str(partial), link).returncode == 0
    assert partial.read_bytes() == file.read_bytes()
    assert curl(link).returncode == 60, "curl must have checked the certificate"


def hello(trust: ssl.SSLContext) -> bytes:
    """The first bytes of a client that wants to shake hands."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trust.wrap_bio(into, out, server_hostname="127.0.0.1").do_handshake()
    return out.read()


@contextlib.contextmanager
def without_tls(server: Server) -> Iterator[None]:
    """For connections that do not shake hands."""
    trust, server.tls = server.tls, None
    try:
        yield
    finally:
        server.tls = trust


def test_https_handshakes_that_stall(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[str, str], trust: ssl.SSLContext
) -> None:
    """Who connects and never shakes hands, or not to the end, stops nobody and is dropped at the deadline."""
    cert, key = certificate
    folder = tmp_path_factory.mktemp("stalled")
    options = ("-a", "--tls-cert", cert, "--tls-key", key)
    for server in launched(lambda: folder, "HEAD_SECONDS=2,TICK_SECONDS=1", *options, env={}):
        first = hello(trust)
        with contextlib.ExitStack() as stack:
            stalled = [stack.enter_context(Connection(server)) for _ in range(60)]
            for number, connection in enumerate(stalled):
                connection.send(first[: number * len(first) // len(stalled)])
            server.tls = trust
            content = random.randbytes(300_000)
            link = upload(server, content, chunk_size=100_000)["link"]
            assert exchange(server, request("GET", f"/{link}")).body == content
            assert all(connection.closed() for connection in stalled)
        assert exchange(server, request("GET", "/uploads")).status == 200
        assert "bug" not in server.log() and "Traceback" not in server.log()


def test_https_handshakes_that_stall_at_the_end(
    start_server: StartServer, certificate: tuple[str, str], trust: ssl.SSLContext
) -> None:
    """The server does not wait for them when it is told to stop."""
    server = start_server("--tls-cert", certificate[0], "--tls-key", certificate[1])
    first = hello(trust)
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(Connection(server)) for _ in range(6)]
        for number, connection in enumerate(stalled):
            connection.send(first[: number * len(first) // len(stalled)])
        server.tls = trust
        assert (
            exchange(server, request("GET", "/uploads")).status == 200
        )  # connections are accepted one after the other
        server.stop()
        assert all(connection.closed() for connection in stalled)
    assert "Stopping" in server.output() and "Waiting" not in server.output()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\0" * 300,
        b"\x16\x03\x01\xff\xff" + b"x" * 500,
        b"SSH-2.0-x\r\n",
        b"",
    ],
)
def test_https_port_is_spoken_to_in_another_language(tls_server: Server, data: bytes) -> None:
    """Plain http or rubbish on the port of https ends that connection, without an answer or a line in the log."""
    before = len(tls_server.log())
    with without_tls(tls_server), Connection(tls_server) as connection:
        connection.send(data)
        with contextlib.suppress(OSError):  # it may have ended the connection already
            connection.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := connection.sock.recv(4096):
                assert not piece.startswith(b"HTTP")
    assert exchange(tls_server, request("GET", "/uploads")).status == 200
    wait_until(lambda: "GET /uploads" in tls_server.log()[before:])
    assert len(tls_server.log()[before:].splitlines()) == 1


def test_https_client_that_cuts_off(tls_server: Server) -> None:
    """A client that vanishes in the middle of a chunk, without a farewell, leaves nothing."""
    uuid = new()
    with Connection(tls_server) as connection:
        connection.send(chunk_request(bytes(200_000), uuid=uuid)[:-1000])
        wait_until(lambda: bool(list(tls_server.storage.glob(f".{uuid}*"))))
    wait_until(lambda: not list(tls_server.storage.glob(f".{uuid}*")))
    assert not list(tls_server.storage.glob(f"*{uuid}*"))
    assert "Traceback" not in tls_server.log()


def test_https_early_refusal(tls_server: Server) -> None:
    """A large body that is refused early: its sender reads why."""
    with Connection(tls_server) as connection:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.send(request("PUT", "/upload/x", {"Origin": "https://evil.example"}, bytes(8 * MIB)))
        assert connection.receive().status == 403


def test_https_old_versions(tls_server: Server, trust: ssl.SSLContext) -> None:
    """What is older than TLS 1.2 is not spoken."""
    old = ssl.create_default_context()
    with pytest.warns(DeprecationWarning):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with without_tls(tls_server), Connection(tls_server) as connection, pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(connection.sock)
    assert exchange(tls_server, request("GET", "/uploads")).status == 200


def test_certificate_and_key_in_one_file(
    start_server: StartServer, certificate: tuple[str, str], trust: ssl.SSLContext, tmp_path: Path
) -> None:
    """The key may stand in the certificate's file."""
    both = tmp_path / "both.pem"
    both.write_text("".join(Path(name).read_text() for name in certificate))
    server = start_server("--tls-cert", str(both))
    server.tls = trust
    assert exchange(server, request("GET", "/uploads")).status == 200
    assert f"open       https://127.0.0.1:{server.port}/" in server.output()


def test_certificate_that_cannot_be_used(program: list[str], certificate: tuple[str, str], tmp_path: Path) -> None:
    """A certificate without its key, with another's, that is none, or not there ends the start with one sentence."""
    cert, key = certificate
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(other)
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_bytes(b"\0rubbish")
    for options in (
        ("--tls-cert", cert), ("--tls-cert", cert, "--tls-key", str(other)),
        ("--tls-cert", str(rubbish), "--tls-key", key),
        ("--tls-cert", cert, "--tls-key", str(tmp_path / "missing")), ("--tls-cert", str(tmp_path)),
    ):  # fmt: skip
        assert "certificate" in fails_to_start(program, tmp_path, *options)


# The log

LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} 127\.0\.0\.1 (\S+) (\S+) (\d{3}) in=(\d+) out=(\d+) \d+\.\d{3}s"


def test_one_line_for_each_request(server: Server) -> None:
    """Each request has one line of printable ASCII, whatever it was and however it was answered."""
    target = "/%0A%1b[31m%E2%80%AE?a=%0d%0aGET"
    content = random.randbytes(1000)
    form = chunk_request(content, uuid=new(), name="zwei\r\n127.0.0.1 Zeilen\x1b[2J.bin")
    sent = [
        (request("GET", target), ("GET", target, "404")),
        (request("GET", "/uploads"), ("GET", "/uploads", "200")),
        (form, ("POST", "/upload", "200")),
        (request("PUT", "/upload/x%0Ay", {}, b"abc"), ("PUT", "/upload/x%0Ay", "201")),
        (request("PATCH", "/upload", {"Content-Length": "0"}), ("PATCH", "/upload", "405")),
        (request("GET", f"/download/{new()}"), ("GET", None, "403")),
        (b"GET / HTTP/1.1\r\n\r\n", ("-", "-", "400")),
        (b"\x1b[2J\r\n\r\n", ("-", "-", "400")),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", ("-", "-", "414")),
        (b"GET /\x1b[2J\n HTTP/1.1\r\nHost: localhost\r\n\r\n", ("-", "-", "400")),
    ]
    received = {}
    for number, (data, _) in enumerate(sent):
        received[number] = exchange(server, data)
        wait_until(lambda: server.log().count("\n") > number)  # noqa: B023 - called before the next round
    lines = server.log().splitlines()
    assert len(lines) == len(sent), lines
    for line, (data, (method, path, status)) in zip(lines, sent, strict=True):
        match = re.fullmatch(LINE, line)
        assert match and line.isascii() and line.isprintable(), line
        assert (match[1], match[3]) == (method, status) and path in (match[2], None), line
        if status in ("200", "201"):
            assert int(match[4]) == len(data.partition(b"\r\n\r\n")[2])


def test_quiet(start_server: StartServer) -> None:
    """With --quiet only what went wrong is logged."""
    server = start_server("--quiet")
    content, uuid = random.randbytes(3000), new()
    assert exchange(server, request("GET", "/nowhere")).status == 404
    assert exchange(server, chunk_request(content, 0, uuid=uuid, chunk_size=1000)).status == 200
    assert server.log() == ""
    (server.chunks / uuid / "data").unlink()  # the housekeeper may hold it open, so it goes by name only
    (server.chunks / uuid).rmdir()
    wait_until(lambda: exchange(server, chunk_request(content, 0, uuid=uuid, chunk_size=1000)).status == 200)
    server.restart()
    assert " 200 in=" not in server.log()


def test_quiet_still_tells_what_went_wrong(capfd: pytest.CaptureFixture[str], logging_as_before: None) -> None:
    """What went wrong is told in spite of --quiet."""
    pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--quiet"]))
    pyfiledrop.log.info("a request")
    pyfiledrop.log.warning("a fault")
    pyfiledrop.log.handlers[-1].close()  # as at the end of the program
    assert re.fullmatch(r"\S+ \S+ a fault\n", capfd.readouterr().err)


@pytest.fixture
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back what set_up_log changes for the whole process."""
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    before, level = list(pyfiledrop.log.handlers), pyfiledrop.log.level
    yield
    for handler in set(pyfiledrop.log.handlers) - set(before):
        pyfiledrop.log.removeHandler(handler)
        handler.close()
    pyfiledrop.log.setLevel(level)


def wait_for_line(file: Path, text: str) -> None:
    """While a log file turns over, there is none of its name for a moment."""

    def is_there() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return text in file.read_text()
        return False

    wait_until(is_there)


def test_log_file_turns_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_as_before: None) -> None:
    """A full log file makes room: four generations, none over its size, every line whole, the newest kept."""
    monkeypatch.setattr(pyfiledrop, "MAX_LOG_BYTES", 2000)
    file = tmp_path / "log.txt"
    pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--log-file", str(file)]))
    for number in range(1000):
        pyfiledrop.log.info("line %d", number)
        if number % 10 == 9:  # lines that wait are written together, and all of these fit into a file
            wait_for_line(file, f"line {number}\n")
    names = ["log.txt.3", "log.txt.2", "log.txt.1", "log.txt"]  # from the oldest to the newest
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert all((tmp_path / name).stat().st_size <= 2000 for name in names)
    text = "".join((tmp_path / name).read_text() for name in names)
    numbers = [int(number) for number in re.findall(r"^\S+ \S+ line (\d+)$", text, re.MULTILINE)]
    assert numbers == list(range(1000 - len(numbers), 1000)) and len(numbers) == text.count("\n") > 100


def test_log_file_limits() -> None:
    """The four generations take 40 MB at most, as the help says."""
    assert pyfiledrop.MAX_LOG_BYTES * (1 + pyfiledrop.LOG_GENERATIONS) == 40 * MIB


def test_log_file(start_server: StartServer, tmp_path: Path) -> None:
    """With --log-file the lines go there, after those of an earlier start, and none to stderr."""
    file = tmp_path / "log.txt"
    server = start_server("--log-file", str(file))
    for count in (1, 2):
        assert exchange(server, request("GET", "/uploads")).status == 200
        wait_until(lambda: file.read_text().count("\n") == count)  # noqa: B023 - called before the next round
        server.restart()
    assert all(re.fullmatch(LINE, line) for line in file.read_text().splitlines())
    assert server.log() == ""


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_row_50_log_file_is_for_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_as_before: None
) -> None:
    """A log file that we make is for the server's user alone, after it rolled over too; of one that is there no other
    user can read more, but those of its group may."""
    monkeypatch.setattr(pyfiledrop, "MAX_LOG_BYTES", 100)
    theirs = tmp_path / "log.txt"
    theirs.touch()
    theirs.chmod(0o644)  # whoever made it wants a group to read it
    umask = os.umask(0)
    try:
        pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--log-file", str(theirs)]))
        for number in range(1, 4):
            pyfiledrop.log.info("line %d %s", number, "x" * 60)
            wait_for_line(theirs, f"line {number} ")
        assert [mode(tmp_path / name) for name in ("log.txt", "log.txt.1", "log.txt.2")] == [0o600, 0o600, 0o640]
    finally:
        os.umask(umask)


def test_row_50_uuids_in_the_log(start_server: StartServer, tmp_path: Path) -> None:
    """A line shows the first eight characters of a UUID, wherever it stands in the line and however it was spelled."""
    file = tmp_path / "log.txt"
    server = start_server("-a", "--log-file", str(file))
    uuid = new()
    targets = [
        f"/download/{uuid}", f"/download/{uuid.upper()}", f"/download/{uuid.replace('-', '%2D')}",
        f"/download/%{ord(uuid[0]):x}{uuid[1:]}", f"/uploads/{uuid}",
        f"/x?{'y' * 170}{uuid}{'z' * 1000}", f"/{uuid}{uuid}",
    ]  # fmt: skip
    for target in targets:
        exchange(server, request("GET", target))
    exchange(server, request("PUT", f"/upload/{uuid}.txt", {}, b"x"))
    server.stop()
    lines = file.read_text().splitlines()
    assert len(lines) == len(targets) + 1
    for line in lines:
        assert uuid[8:14] not in line.lower() and f"{uuid[:8]}..." in line.lower(), line


def test_row_50_uuids_in_what_went_wrong(tmp_path: Path, logging_as_before: None) -> None:
    """So it is in a line that tells of a fault with the path of a file."""
    file, uuid = tmp_path / "log.txt", new()
    pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--log-file", str(file)]))
    pyfiledrop.log.error("disk: %s", OSError(28, "No space left on device", f"/srv/chunks/{uuid}/data"))
    pyfiledrop.log.handlers[-1].close()
    assert file.read_text().endswith(f" No space left on device: '/srv/chunks/{uuid[:8]}.../data'\n")


def test_row_60_long_targets(server: Server) -> None:
    """Addresses of 8 KB take no more room in the log than others."""
    for number in range(20):
        exchange(server, request("GET", f"/{number}{'x' * 8000}"))
        exchange(server, request("GET", f"/{number}{'%41' * 2700}"))
    exchange(server, request("GET", "/" + "y" * 199))
    server.stop()
    lines = server.log().splitlines()
    assert len(lines) == 41
    assert all(len(line) < 300 for line in lines)
    assert all(re.fullmatch(LINE, line) for line in lines)
    assert sum("..." in line for line in lines) == 40 and "/" + "y" * 199 in lines[-1]


def test_row_52_what_is_queued_is_written_at_the_end() -> None:
    """No line is lost when the program ends right after it."""
    program = (
        "import pyfiledrop; pyfiledrop.set_up_log(pyfiledrop.Settings.parse([]))\n"
        "for number in range(3000): pyfiledrop.log.info('line %d', number)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=build.ROOT, capture_output=True, text=True, timeout=60)
    assert re.findall(r" line (\d+)\n", done.stderr) == [str(number) for number in range(3000)]
    assert done.stderr.count("\n") == 3000 and done.returncode == 0


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A pipe that is a log file, and the descriptor of its other end; nobody reads unless the test does."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, end
    os.close(end)


def drain(end: int) -> str:
    """What is in a pipe now."""
    said = b""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(end, 1 << 16):
            said += data
    return said.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among its files")
def test_row_52_log_that_nobody_reads(launch: StartServer, unread: tuple[Path, int]) -> None:
    """No request waits for the log's reader; lines that fell out are counted in a line, all others come in order."""
    path, end = unread
    server = launch("MAX_LOG_LINES=1000,MAX_LOG_BYTES=10000", "--log-file", str(path))
    said = ""

    def asked() -> list[int]:
        return [int(number) for number in re.findall(r" /uploads\?(\d+) 200 .*\n", said)]

    def missing() -> list[int]:
        return [int(number) for number in re.findall(r" (\d+) of the log's lines are missing here.*\n", said)]

    def all_told() -> bool:
        nonlocal said
        said += drain(end)
        return len(asked()) + sum(missing()) == count

    count = 5000  # far more than a pipe and the queue can hold
    with Connection(server) as connection:
        for number in range(count):
            connection.send(request("GET", f"/uploads?{number}"))
            assert connection.receive().status == 200
        wait_until(all_told)
        connection.send(request("GET", f"/uploads?{count}"))
        count += 1
        assert connection.receive().status == 200
        wait_until(lambda: all_told() or asked()[-1:] == [count - 1])
    assert all_told()
    assert asked() == sorted(asked()) and asked()[0] == 0
    assert missing() and sum(missing()) > 1000
    assert said.count("\n") == len(asked()) + len(missing()), "every line is whole"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among its files")
def test_row_52_end_while_nobody_reads(program: list[str], unread: tuple[Path, int], tmp_path: Path) -> None:
    """A terminal that stands still, for what is logged and printed alike, does not keep the program from ending."""
    path, end = unread
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--host", "127.0.0.1", "-p", str(port), "-s", str(tmp_path / "s"), "-c", str(tmp_path / "c")]
    filler = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    with path.open("wb") as out, subprocess.Popen([*program, *options], stdout=out, stderr=out) as process:
        try:
            said: list[str] = []
            wait_until(lambda: said.append(drain(end)) or "Ctrl-C ends it." in "".join(said))
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(filler, b"x")
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                for _ in range(100):
                    client.sendall(request("GET", "/uploads"))
                    assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
            os.close(filler)


def test_row_52_bug_that_nobody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What Bottle tells of a bug goes to the log alone, never straight to stderr, where the request would wait."""
    monkeypatch.setattr(pyfiledrop.Store, "upload", lambda *_: 1 / 0)
    with serving(tmp_path) as server, socket.create_connection(("127.0.0.1", server.server_port), 10) as client:
        client.sendall(request("GET", f"/uploads/{new()}"))
        assert client.recv(12) == b"HTTP/1.1 500"
    assert "ZeroDivisionError" in caplog.text and "ZeroDivisionError" not in capfd.readouterr().err


def test_row_52_lines_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_as_before: None
) -> None:
    """Lines that a full disk does not take are counted as soon as it takes others again."""
    file = tmp_path / "log.txt"
    real = os.write
    is_full = threading.Event()

    def write(number: int, data: bytes) -> int:
        if is_full.is_set():
            refused.set()
            raise OSError(28, "No space left on device")
        return real(number, data)

    refused = threading.Event()
    pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--log-file", str(file)]))
    monkeypatch.setattr(os, "write", write)
    is_full.set()
    for line in ("first", "second"):  # one after the other, each of them in a look of its own
        refused.clear()
        pyfiledrop.log.info(line)
        assert refused.wait(10)
    is_full.clear()
    pyfiledrop.log.info("third")
    wait_until(lambda: "missing" in file.read_text())
    pyfiledrop.log.info("fourth")
    wait_until(lambda: "fourth" in file.read_text())
    lines = [line.split(" ", 2)[2] for line in file.read_text().splitlines()]
    assert lines == ["third", "2 of the log's lines are missing here, for nobody was reading it", "fourth"]


def test_log_file_that_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_as_before: None) -> None:
    """When a full log file cannot be made anew, the next lines try again, and requests notice nothing."""
    monkeypatch.setattr(pyfiledrop, "MAX_LOG_BYTES", 100)
    folder = tmp_path / "log"
    folder.mkdir()
    file = folder / "log.txt"
    pyfiledrop.set_up_log(pyfiledrop.Settings.parse(["--log-file", str(file)]))
    pyfiledrop.log.info("x" * 60)
    wait_until(lambda: "xxx" in file.read_text())
    folder.rename(tmp_path / "gone")
    pyfiledrop.log.info("y" * 60)
    writer = pyfiledrop.log.handlers[-1]
    assert isinstance(writer, pyfiledrop.LogWriter)
    wait_until(lambda: writer._fd < 0)
    folder.mkdir()

    def is_back() -> bool:
        pyfiledrop.log.info("z")
        return file.exists() and "z\n" in file.read_text()

    wait_until(is_back)


def test_log_file_that_cannot_be_written(program: list[str], tmp_path: Path) -> None:
    """A log file that is a folder, or in a folder that is none, ends the start with one sentence."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "log.txt"):
        assert "log file" in fails_to_start(program, tmp_path, "--log-file", str(path))
