"""The password: who is let in, how guessing is slowed, what it guards, and how a session ends."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import bottle
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import CHROMIUM_ARGUMENTS, MIB, Visits
from conftest import (
    DROP_COOKIE,
    FORM,
    PASSWORD,
    Connection,
    Server,
    StartServer,
    basic,
    changed_program,
    chunk_request,
    cookie_of,
    curl,
    exchange,
    fails_to_start,
    multipart_body,
    request,
    running,
    sign_in_request,
    wait_until,
)
from playwright.sync_api import Browser, Page, expect
from storing import new_uuid

import build
import pyfiledrop

PLAIN = {"Accept": "*/*"}


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
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a password that lets everybody try again at once."""
    env = {"PYFILEDROP_PASSWORD": PASSWORD}
    with running(changed_program("MAX_DELAY_SECONDS=0"), tmp_path_factory.mktemp("patient"), env=env) as server:
        yield server


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
    assert exchange(guarded, request("POST", "/", {}, b"x" * 4097)).status == 413
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


@pytest.mark.parametrize(("left", "is_open"), [(-1000, False), (-1, False), (1, True), (1000, True)])
def test_a_session_ends(door: pyfiledrop.Door, clock: Clock, left: int, is_open: bool) -> None:
    """By itself, at the time that it names."""
    session = door._sign(f"{'0' * 32}.{int(clock.time()) + left}")
    environ = {"wsgi.url_scheme": "http", "REMOTE_ADDR": "10.0.0.1"}
    bottle.request.bind(environ)
    environ["HTTP_COOKIE"] = f"{door.cookie_name('session')}={session}"
    assert door.is_open_to(environ) is is_open


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
def test_row_53_connections_of_a_proxy(launch: StartServer, proxies: tuple[str, ...], status: int) -> None:
    """A trusted proxy may have more connections than any other address."""
    server = launch("MAX_CONNECTIONS_PER_ADDRESS=1", *proxies)
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
    session, drop = sign_in(guarded)["Cookie"], new_uuid()
    name = session.partition("=")[0]
    signed_out = sign_in(guarded)["Cookie"]
    exchange(guarded, sign_out_request(Cookie=signed_out))
    for others in (f"{name}=x; {DROP_COOKIE}=x", f"{signed_out}; {DROP_COOKIE}=", f"{name}=; {name}={'y' * 100}"):
        before, behind = f"{others}; {session}; {DROP_COOKIE}={drop}", f"{session}; {DROP_COOKIE}={drop}; {others}"
        for cookie in (before, behind, f"{behind}; {DROP_COOKIE}={new_uuid()}"):
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
    drop, both = new_uuid(), "; ".join(sessions.values())
    exchange(one, request("PUT", "/upload/x", {"Cookie": f"{both}; {other.drop_cookie}={drop}"}, b"x"))
    assert not exchange(one, request("GET", "/uploads", {"Cookie": f"{both}; {DROP_COOKIE}={drop}"})).json()["uploads"]


@pytest.mark.parametrize(
    "other", ["a@b=1", "a,b=1", "(=)", "=", "a b c", '"', "x=\xfc", "x=" + "y" * 4000, "session", "$x=1"]
)
def test_cookies_of_other_programs(guarded: Server, other: str) -> None:
    """Another program's cookie of the same host, however odd, keeps nobody from session and drop."""
    drop = new_uuid()
    session = sign_in(guarded)["Cookie"]
    headers = {"Cookie": f"{other}; {DROP_COOKIE}={drop}; {session}"}
    data = chunk_request(b"x", uuid=new_uuid(), name="mine.txt", headers=headers)
    assert exchange(guarded, data.decode().encode("latin-1")).status == 200
    listed = exchange(guarded, request("GET", "/uploads", {"Cookie": f"{DROP_COOKIE}={drop}; {session}"}))
    assert [file["name"] for file in listed.json()["uploads"]] == ["mine.txt"]
    assert "Traceback" not in guarded.log()


# The password: what it guards

CALLS = [
    ("POST", "/upload"), ("PUT", "/upload/x.txt"), ("GET", "/uploads"), ("DELETE", "/uploads"),
    ("GET", "/uploads/{}"), ("DELETE", "/uploads/{}"), ("POST", "/uploads"), ("PUT", "/uploads/{}/0"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target"), [*CALLS, ("GET", "/download/{}"), ("HEAD", "/download/{}")])
def test_what_the_password_guards(guarded: Server, method: str, target: str) -> None:
    """Without it nothing can be sent, seen, removed or fetched, and nobody learns what is there."""
    uuid = exchange(guarded, request("PUT", "/upload/kept.txt", basic(PASSWORD), b"kept")).json()["files"][0]["uuid"]
    before = sorted(os.listdir(guarded.storage))
    body = multipart_body({}, [("file", "x.txt", b"content")]) if method in ("POST", "PUT") else None
    for place in (target.format(uuid), target.format(new_uuid())):
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
    assert exchange(server, request("GET", f"/download/{new_uuid()}")).status == 404
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
