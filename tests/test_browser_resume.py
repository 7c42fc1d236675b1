"""An upload that broke off goes on: after a reload, a closed browser, a lost network, a killed server.

Each test counts the chunks that the page sends, for an upload that begins again from the start would arrive as well.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid as uuids
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browsing import MIB, RUNS, Gate, Line, Tab, Visits, assert_stored, make_file, sha256, stored
from conftest import (
    BOUNDARY,
    Connection,
    Server,
    StartServer,
    chunk_request,
    exchange,
    multipart_body,
    request,
    wait_until,
)
from playwright.sync_api import Route, expect

import pyfiledrop

CHUNK = 100_000
COUNT = 20
HALF = COUNT // 2
LANES = pyfiledrop.Settings().parallel_chunks
LOST = "No connection. Nothing is lost."
REFUSED = r"the server responded with a status of \d{3}"


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """One that takes small chunks."""
    return start_server("--chunk-size", str(CHUNK))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of COUNT chunks."""
    return make_file(tmp_path / "file.bin", COUNT * CHUNK - 1)


def drop_of(tab: Tab) -> str:
    """What the browser's cookie holds."""
    (drop,) = (cookie["value"] for cookie in tab.page.context.cookies() if cookie["name"].startswith("owner-"))
    return str(drop)


@dataclass(frozen=True)
class Half:
    """An upload of which the server has these chunks; the others are held."""

    uuid: str
    present: set[int]
    gate: Gate


def send_half(tab: Tab, file: Path) -> Half:
    gate = Gate(tab.page, HALF)
    tab.choose(file)
    tab.expect_percent(file.name, 50)
    (upload,) = tab.uploads()
    present = tab.present(upload["uuid"])
    assert len(present) == HALF
    assert not upload["done"]
    return Half(upload["uuid"], present, gate)


def assert_rest_was_sent(tab: Tab, file: Path, half: Half) -> None:
    """Of a file that was dropped again exactly the missing chunks were sent, each once, and it has arrived whole."""
    tab.expect_done(file.name)
    assert sorted(tab.indexes()) == sorted(set(range(COUNT)) - half.present)
    assert {run["uuid"] for run in tab.spy("runs")} == {half.uuid}
    assert_stored(tab.server, file)


def assert_sent_once(tab: Tab, file: Path, count: int) -> None:
    """Each chunk was acknowledged once and not sent after that, and the file has arrived whole."""
    tab.expect_done(file.name)
    assert tab.acknowledged() == list(range(count))
    assert_stored(tab.server, file)


def assert_not_sent_again(tab: Tab, file: Path) -> None:
    """No chunk was sent after it had been acknowledged, and the file has arrived whole. (Some answers were lost.)"""
    tab.expect_done(file.name)
    assert len(set(tab.acknowledged())) == len(tab.acknowledged())
    assert_stored(tab.server, file)


# The page is gone


def test_after_a_reload(server: Server, visit: Visits, file: Path) -> None:
    """The same file, dropped again after the page was reloaded, goes on: no chunk that is in is sent again."""
    tab = visit(server)
    half = send_half(tab, file)
    half.gate.reload()
    expect(tab.row("file.bin").locator(".status")).to_have_text("50% is here. Choose it again to go on.")
    half.gate.close()
    tab.choose(file)
    tab.expect_percent("file.bin", 50)
    tab.expect_listed()  # it is being sent now
    expect(tab.row("file.bin")).to_have_count(1)
    half.gate.open()
    assert_rest_was_sent(tab, file, half)
    tab.expect_listed("file.bin")


def test_after_the_browser_was_closed(server: Server, visit: Visits, file: Path, tmp_path: Path) -> None:
    """The same, after the browser was closed and opened again."""
    context = visit.context(tmp_path / "profile")
    half = send_half(visit(server, context), file)
    context.close()
    tab = visit(server, visit.context(tmp_path / "profile"))
    tab.expect_listed("file.bin")
    present = tab.present(half.uuid)  # a browser that ends lets go of chunks that were held back
    assert half.present <= present
    tab.choose(file)
    assert_rest_was_sent(tab, file, Half(half.uuid, present, half.gate))


def test_after_both_ends_began_anew(server: Server, visit: Visits, file: Path) -> None:
    """The same, after the page was reloaded and the server was killed and started with another chunk size."""
    visit.expect_complaints("net::ERR_")
    tab = visit(server)
    half = send_half(tab, file)
    server.kill()
    server.restart("--chunk-size", str(3 * CHUNK))
    half.gate.reload()
    tab.choose(file)
    assert_rest_was_sent(tab, file, half)


def test_far_down_a_long_list(server: Server, visit: Visits, file: Path) -> None:
    """The list shows what the server gives in several pages, and an upload on the last of them goes on."""
    tab = visit(server)
    half = send_half(tab, file)
    names = [str(number) for number in range(220)]
    for start in range(0, 220, 55):
        body = multipart_body({}, [("file", name, b"") for name in names[start : start + 55]])
        form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        assert exchange(server, request("POST", "/upload", form, body, cookie=drop_of(tab))).status == 201
    half.gate.reload()
    tab.until("/22[01] files/.test(document.getElementById('list').textContent)")
    tab.choose(file)
    assert_rest_was_sent(tab, file, half)


def test_after_a_reload_in_full_flow(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """Chunks that are cut off in their middle by the reload are sent again, and those that were in are not."""
    tab = visit(start_server("--chunk-size", str(MIB)))
    file = make_file(tmp_path / "file.bin", 20 * MIB)
    throttle(tab, 20 * MIB)
    tab.choose(file)
    tab.until("spy.runs.filter((run) => run.status === 200).length >= 5")
    tab.page.reload()
    # What was under way may still be on its way into the record, until the server notices that it has ended.
    wait_until(lambda: tab.server.log().count("PUT /uploads/") >= 9)
    (upload,) = tab.uploads()
    present = tab.present(upload["uuid"])
    assert 5 <= len(present) < 20
    throttle(tab, -1)
    tab.choose(file)
    tab.expect_done("file.bin")
    assert sorted(tab.indexes()) == sorted(set(range(20)) - present)
    assert_stored(tab.server, file)


def test_two_thousand_chunks(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """Of a file of 2,000 chunks the last ten are sent."""
    tab = visit(start_server("--chunk-size", "1024"))
    file = make_file(tmp_path / "file.bin", 2000 * 1024)
    content = file.read_bytes()
    uuid = str(uuids.uuid4())
    drop = drop_of(tab)
    modified = str(file.stat().st_mtime_ns // 1_000_000)
    with Connection(tab.server) as connection:
        for index in range(1990):
            connection.send(
                chunk_request(content, index, uuid=uuid, chunk_size=1024, changes={"modified": modified}, cookie=drop)
            )
            assert connection.receive().status == 200
    tab.choose(file)
    tab.expect_done("file.bin")
    assert sorted(tab.indexes()) == list(range(1990, 2000))
    assert_stored(tab.server, file)


@pytest.mark.parametrize("difference", ["other time", "other size", "other name"])
def test_another_file_starts_anew(server: Server, visit: Visits, file: Path, difference: str) -> None:
    """A file that differs in size, name or time of change is another file; the unfinished one stays listed."""
    tab = visit(server)
    half = send_half(tab, file)
    half.gate.reload()
    if difference == "other time":
        os.utime(file, (0, file.stat().st_mtime - 60))
    elif difference == "other size":
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        make_file(file, COUNT * CHUNK - 2)
        os.utime(file, ns=times)
    else:
        file = file.rename(file.with_name("other.bin"))
    tab.choose(file)
    tab.expect_done(file.name)
    assert sorted(tab.indexes()) == list(range(COUNT))
    assert half.uuid not in {run["uuid"] for run in tab.spy("runs")}
    assert_stored(server, file)
    tab.expect_listed(file.name, "file.bin")
    assert [upload["done"] for upload in tab.uploads()] == [True, False]


def test_unfinished_upload_can_be_removed(server: Server, visit: Visits, file: Path) -> None:
    """The list says how much of it is in, asks before it removes it, and then nothing of it is left on the disk."""
    tab = visit(server)
    half = send_half(tab, file)
    half.gate.reload()
    row = tab.row("file.bin")
    expect(row).to_have_attribute("data-state", "unfinished")
    expect(row.locator(".status")).to_have_text("50% is here. Choose it again to go on.")
    expect(tab.page.locator("#clear")).to_be_hidden()  # it clears finished files only
    tab.remove("file.bin")
    assert len(list(server.chunks.iterdir())) == 1
    row.locator(".delete").click()
    tab.expect_listed()
    assert list(server.chunks.iterdir()) == []
    tab.choose(file)
    assert_sent_once(tab, file, COUNT)


@pytest.mark.parametrize("status", [404, 409, 410])
def test_what_is_there_differs(server: Server, visit: Visits, file: Path, status: int) -> None:
    """When the server says in the middle of a resumed upload that it is another file or gone, it is sent anew."""
    visit.expect_complaints(REFUSED)
    tab = visit(server)
    half = send_half(tab, file)
    half.gate.reload()
    seen: list[Route] = []

    def differ_at_first(route: Route) -> None:
        seen.append(route)
        if len(seen) == 1:
            tab.page.context.request.delete(f"{server.url}uploads/{half.uuid}")
            route.fulfill(status=status, json={"error": "This differs."})
        else:
            route.continue_()

    tab.page.route(RUNS, differ_at_first)
    tab.choose(file)
    tab.expect_done("file.bin")
    anew = [run["first"] for run in tab.spy("runs") if run["uuid"] != half.uuid]
    assert sorted(anew) == list(range(COUNT))
    assert_stored(server, file)


def test_forgotten_before_its_first_chunk(server: Server, visit: Visits, file: Path) -> None:
    """A server that was started anew does not know an upload of which nothing was in: it begins again by itself."""
    visit.expect_complaints(REFUSED)
    tab = visit(server)
    gate = Gate(tab.page, 0)
    tab.choose(file)
    tab.until("spy.underWay === 4")
    server.restart()
    gate.open()
    tab.expect_done("file.bin")
    assert len({run["uuid"] for run in tab.spy("runs")}) == 2
    assert_stored(server, file)


def test_server_that_never_knows_an_upload(server: Server, visit: Visits, file: Path) -> None:
    """It does not begin without end: after a few times a person is told, and Retry works."""
    visit.expect_complaints(REFUSED)
    tab = visit(server)
    tab.page.route(RUNS, lambda route: route.fulfill(status=404, json={"error": "There is no such upload."}))
    tab.choose(file)
    tab.expect_state("file.bin", "failed")
    expect(tab.row("file.bin").locator(".status")).to_have_text("There is no such upload.")
    tab.page.unroute(RUNS)
    tab.row("file.bin").locator(".retry").click()
    tab.expect_done("file.bin")
    assert_stored(server, file)


def test_all_is_in_but_not_finished(server: Server, visit: Visits, file: Path) -> None:
    """When every chunk is in and the file is not done, the last is sent again: that asks the server to finish it."""
    tab = visit(server)
    half = send_half(tab, file)
    half.gate.reload()

    def claim_all(route: Route) -> None:
        answer = route.fetch()
        known: dict[str, Any] = answer.json()
        known["upload"] |= {"chunks": [[0, COUNT - 1]]}
        route.fulfill(response=answer, json=known)

    tab.page.route("**/uploads/*", claim_all)
    tab.page.route(
        "**/uploads", lambda route: claim_all(route) if route.request.method == "POST" else route.continue_()
    )
    tab.choose(file)
    tab.expect_state("file.bin", "failed")
    assert set(tab.indexes()) == {COUNT - 1}
    expect(tab.row("file.bin").locator(".status")).to_contain_text("has not finished")
    assert stored(server, "file.bin") == []
    tab.page.unroute("**/uploads/*")
    tab.page.unroute("**/uploads")
    tab.row("file.bin").locator(".retry").click()
    tab.expect_done("file.bin")
    assert_stored(server, file)


# The other end is gone


def throttle(tab: Tab, bytes_per_second: int) -> None:
    """Slow what the tab sends, so that it can be cut off in the middle of a chunk; -1 is as fast as it can."""
    session = tab.page.context.new_cdp_session(tab.page)
    session.send("Network.enable")
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    session.send("Network.emulateNetworkConditions", conditions)


def test_network_gone_and_back(server: Server, visit: Visits, file: Path) -> None:
    """An upload goes on by itself after more outages than a chunk may fail: none is counted, nothing is sent twice."""
    visit.expect_complaints("net::ERR_INTERNET_DISCONNECTED")
    tab = visit(server)
    tab.hurry()
    gate = Gate(tab.page, HALF)
    tab.choose(file)
    tab.expect_percent("file.bin", 50)
    for outage in range(1, 11):
        tab.until(f"spy.underWay === 4 && spy.runs.length === {HALF + 4 * outage}")
        tab.page.context.set_offline(True)
        gate.open()
        tab.expect_state("file.bin", "paused")
        tab.until("spy.underWay === 0")
        tab.expect_news(LOST)
        tab.expect_notice(LOST)
        gate.close()
        tab.page.context.set_offline(False)
        tab.expect_notice("The server is back.")
    gate.open()
    assert_sent_once(tab, file, COUNT)


def test_slow_line_that_breaks(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """On a line of 1 MB/s each run is one chunk of 1 MiB: a line that breaks costs no more than that in each lane."""
    visit.expect_complaints("net::ERR_")
    server = start_server()
    file = make_file(tmp_path / "file.bin", 7 * MIB)
    with contextlib.closing(Line(server, 1_000_000)) as line:
        tab = visit(server, url=line.url, long_runs=True)
        tab.hurry()
        tab.choose(file)
        tab.until("spy.runs.filter((run) => run.status === 200).length >= 2")
        line.cut()
        tab.expect_done("file.bin")
    sizes = [run["size"] for run in tab.spy("runs")]
    assert max(sizes) == MIB
    assert 7 * MIB < sum(sizes) <= (7 + LANES) * MIB
    assert_stored(server, file)


def test_server_killed_in_full_flow(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """An upload goes on by itself when the server that was killed in the middle of chunks is there again."""
    visit.expect_complaints("net::ERR_")
    tab = visit(start_server("--chunk-size", str(MIB)))
    tab.hurry()
    file = make_file(tmp_path / "file.bin", 20 * MIB)
    throttle(tab, 20 * MIB)
    tab.choose(file)
    tab.until("spy.runs.filter((run) => run.status === 200).length >= 5")
    tab.server.kill()
    tab.expect_state("file.bin", "paused")
    tab.expect_notice(LOST)
    throttle(tab, -1)
    tab.server.restart()
    assert_not_sent_again(tab, file)
    expect(tab.page).to_have_title(re.compile("^Drop files to "))


def test_server_stopped_and_started(server: Server, visit: Visits, file: Path) -> None:
    """A restart of the server while chunks wait is an outage like any other, for several files at once."""
    visit.expect_complaints("net::ERR_")
    tab = visit(server)
    tab.hurry()
    other = make_file(file.with_name("other.bin"), COUNT * CHUNK)
    gate = Gate(tab.page, HALF)
    tab.choose(file, other)
    tab.until(f"spy.runs.filter((run) => run.status === 200).length === {HALF}")
    server.stop()
    gate.open()
    for name in ("file.bin", "other.bin"):
        tab.expect_state(name, "paused")
    server.start()
    tab.expect_done("file.bin", "other.bin")
    assert tab.acknowledged() == sorted([*range(COUNT)] * 2)
    assert_stored(server, file, other)


def test_file_chosen_while_the_server_is_away(server: Server, visit: Visits, file: Path) -> None:
    """It waits for the server, and then takes up what the server has of it."""
    visit.expect_complaints("net::ERR_")
    tab = visit(server)
    tab.hurry()
    half = send_half(tab, file)
    half.gate.reload()
    tab.expect_listed("file.bin")
    server.stop()
    tab.choose(file)
    tab.expect_state("file.bin", "paused")
    tab.expect_notice(LOST)
    server.start()
    assert_rest_was_sent(tab, file, half)
    assert [sha256(path) for path in stored(server, "file.bin")] == [sha256(file)]


def test_browser_says_that_the_network_is_back(server: Server, visit: Visits, file: Path) -> None:
    """The page does not sit out its pause then, which may be half a minute long."""
    visit.expect_complaints("net::ERR_")
    tab = visit(server)
    tab.hurry(4)
    gate = Gate(tab.page, HALF)
    tab.choose(file)
    tab.expect_percent("file.bin", 50)
    server.stop()
    gate.open()
    tab.until("spy.pauses.includes(4000)")
    tab.page.evaluate("spy.hurry = 0")
    tab.until("spy.pauses.includes(5000)")
    server.start()
    tab.page.evaluate("dispatchEvent(new Event('online'))")
    assert_sent_once(tab, file, COUNT)
    assert max(tab.spy("pauses")) == 5000  # no longer while somebody looks
