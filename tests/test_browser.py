"""The page in a real browser: files go in, are listed, come back, and whatever goes wrong is said and mended.

What breaks off and goes on is in test_browser_resume.py. Each test fails, too, when the browser complains: of a script,
of the content security policy, or of a request that the test does not expect to fail.
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import (
    LAN_HOST,
    MIB,
    RUNS,
    Gate,
    Tab,
    Visits,
    assert_stored,
    make_file,
    make_sparse,
    names,
    sha256,
    stored,
)
from conftest import Server, StartServer, upload, wait_until
from playwright.sync_api import APIResponse, FilePayload, Page, Route, expect

import build
import pyfiledrop

CHUNK = 100_000
SMALL_CHUNKS = ("--chunk-size", str(CHUNK))
PARALLEL = pyfiledrop.Settings().parallel_chunks
BROWSER_CONNECTIONS = 6  # that browsers open to one server at a time
REFUSED = r"the server responded with a status of \d{3}"
SCREENSHOT, PHONE_SCREENSHOT = (build.ROOT / "tests" / name for name in ("page.png", "page-phone.png"))
SCREENSHOT_BYTES = 80_000


@pytest.fixture
def tab(start_server: StartServer, visit: Visits) -> Tab:
    """The page of a server that takes small chunks and gives files back."""
    return visit(start_server("-a", *SMALL_CHUNKS))


def drag(page: Page, *steps: str, files: tuple[Path, ...] = (), text: str = "") -> None:
    """Drag over the page as a hand does, outside of the drop area; the browser makes the DataTransfer."""
    items = [{"mimeType": "text/plain", "data": text}] if text else []
    data = {"items": items, "files": [str(path) for path in files], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for step in steps:
        session.send("Input.dispatchDragEvent", {"type": step, "x": 30, "y": 700, "data": data})


def answer(status: int, error: str, **headers: str) -> Callable[[Route], None]:
    """A route that answers as the server does when it refuses."""
    return lambda route: route.fulfill(status=status, json={"error": error}, headers=headers)


# Dropping


def test_chosen_files_arrive(tab: Tab, tmp_path: Path) -> None:
    """Files of one chunk and of several are in storage, byte for byte, when the page says so."""
    files = [make_file(tmp_path / "one.bin", 1000), make_file(tmp_path / "several.bin", 5 * CHUNK + 1)]
    tab.choose(*files)
    tab.expect_done("one.bin", "several.bin")
    assert_stored(tab.server, *files)
    assert sorted(tab.indexes()) == [0, 0, 1, 2, 3, 4, 5]
    tab.expect_news("All 2 files have arrived · 501 kB")
    expect(tab.page).to_have_title(re.compile("^Drop files to "))


def test_dropped_files_and_folders_arrive(tab: Tab, tmp_path: Path) -> None:
    """They may be dropped anywhere on the page, which says so while they hang over it; a folder is all its files."""
    file = make_file(tmp_path / "file.bin", 3 * CHUNK)
    inner = [make_file(tmp_path / "folder" / name, 10) for name in ("one.txt", "deeper/two.txt", ".hidden")]
    overlay = tab.page.locator("#overlay")
    drag(tab.page, "dragEnter", "dragOver", files=(file, tmp_path / "folder"))
    expect(overlay).to_be_visible()
    drag(tab.page, "drop", files=(file, tmp_path / "folder"))
    expect(overlay).to_be_hidden()
    tab.expect_news("All 4 files have arrived")
    tab.unfold()
    tab.expect_done("file.bin", "one.txt", "two.txt", ".hidden")
    assert_stored(tab.server, file, *inner[:2])
    assert len(stored(tab.server, "_.hidden")) == 1


def test_a_drag_that_ends_elsewhere_is_forgotten(tab: Tab, tmp_path: Path) -> None:
    """When the pointer comes back without files, nothing covers the page any more."""
    file = make_file(tmp_path / "file.bin", 10)
    drag(tab.page, "dragEnter", "dragOver", files=(file,))
    expect(tab.page.locator("#overlay")).to_be_visible()
    tab.page.mouse.move(40, 600)
    expect(tab.page.locator("#overlay")).to_be_hidden()


def test_dragged_text_is_ignored(tab: Tab) -> None:
    """Text is no file: the page neither offers to take it nor goes to it as an address."""
    drag(tab.page, "dragEnter", "dragOver", text="https://example.org/")
    expect(tab.page.locator("#overlay")).to_be_hidden()
    drag(tab.page, "drop", text="https://example.org/")
    tab.choose_content("after.txt", b"something to wait for")
    tab.expect_done("after.txt")
    expect(tab.files).to_have_count(1)
    assert tab.page.url == tab.server.url


def test_large_file_arrives_in_parallel(server: Server, visit: Visits, tmp_path: Path) -> None:
    """A file of 300 MB has the same SHA-256 in storage, and its runs really travel at the same time, four at most."""
    file = make_file(tmp_path / "large.bin", 300 * MIB + 7)
    tab = visit(server, long_runs=True)
    tab.choose(file)
    tab.expect_done("large.bin")
    assert_stored(server, file)
    assert tab.acknowledged() == list(range(301))
    assert len(tab.spy("runs")) < 100
    assert 2 <= tab.spy("most") <= PARALLEL


def test_empty_file_arrives(tab: Tab) -> None:
    """A file without a byte is a file."""
    tab.choose_content("empty.txt", b"")
    tab.expect_done("empty.txt")
    (path,) = stored(tab.server, "empty.txt")
    assert path.read_bytes() == b""


def test_name_of_any_language_is_kept(tab: Tab) -> None:
    """It is shown, listed, stored and given back as it was, with its accents composed."""
    name = "Übergrößen – отчёт 報告 🎉 שלום.txt"
    tab.choose_content(unicodedata.normalize("NFD", name), b"content")
    tab.until("document.querySelector('#list [data-state=done]')")
    tab.expect_listed(name)
    assert stored(tab.server, name)
    with tab.page.expect_download() as download:
        tab.files.locator(".link").click()
    assert download.value.suggested_filename == name


def test_name_with_html_is_text(tab: Tab) -> None:
    """A name that is markup is shown letter for letter, everywhere, and runs nothing."""
    name = "<img src=x onerror=alert(1)><script>alert(2)<\u2215script>&amp;.txt"
    tab.choose_content(name, b"content")
    tab.expect_done(name)
    tab.expect_listed(name)
    expect(tab.files.locator(".name")).to_have_text(name)
    tab.expect_notice(f"{name} has arrived.")
    expect(tab.page.locator("main img")).to_have_count(0)
    expect(tab.page.locator("main script")).to_have_count(0)


def test_file_is_not_read_before_it_is_sent(tab: Tab, tmp_path: Path) -> None:
    """No script looks into a file: the browser sends it from the disk, so that a huge one starts like a small one."""
    file = make_file(tmp_path / "file.bin", 5 * CHUNK)
    tab.choose(file)
    tab.expect_done("file.bin")
    assert tab.spy("reads") == []


def test_many_files_never_use_all_connections(tab: Tab) -> None:
    """A hundred files are all sent, four requests at a time, and one sentence says that they have arrived."""
    contents = {f"{n}.txt": os.urandom(n) for n in range(100)}
    tab.page.set_input_files(
        "#file", [FilePayload(name=name, mimeType="", buffer=content) for name, content in contents.items()]
    )
    tab.expect_news("All 100 files have arrived")
    tab.until("spy.rows().length === 0")  # a drop of more than twenty is folded
    tab.unfold()
    tab.until("spy.listed().length === 100")
    assert 2 <= tab.spy("most") <= PARALLEL
    assert tab.spy("mostOfAll") <= BROWSER_CONNECTIONS
    for name, content in contents.items():
        (path,) = stored(tab.server, name)
        assert path.read_bytes() == content


def test_small_file_does_not_wait_for_large_ones(tab: Tab, tmp_path: Path) -> None:
    """Files dropped together begin together: it is sent before any of the others is through."""
    large = [make_file(tmp_path / f"large{n}.bin", 30 * CHUNK) for n in range(3)]
    tab.choose(*large, make_file(tmp_path / "small.bin", 10))
    tab.expect_done("small.bin", *(file.name for file in large))
    runs = tab.spy("runs")
    before = [run["uuid"] for run in runs[: [run["size"] for run in runs].index(10)]]
    assert all(before.count(uuid) < 30 for uuid in before)
    assert_stored(tab.server, *large)


def test_two_tabs_send_at_once(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """Each shows its own upload, and both list both files."""
    other = visit(tab.server, tab.page.context)
    files = [make_file(tmp_path / f"{name}.bin", 20 * CHUNK) for name in ("one", "two")]
    gates = [Gate(each.page, 5) for each in (tab, other)]
    tab.choose(files[0])
    other.choose(files[1])
    tab.expect_percent("one.bin", 25)
    other.expect_percent("two.bin", 25)
    for gate in gates:
        gate.open()
    tab.expect_done("one.bin")
    other.expect_done("two.bin")
    assert_stored(tab.server, *files)
    for each in (tab, other):
        each.until("spy.rows().length === 2 && spy.listed().length === 2")


def test_two_tabs_send_the_same_file(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """The second tab says that the first is sending it, and waits: then there are two files."""
    file = make_file(tmp_path / "same.bin", 10 * CHUNK)
    gate = Gate(tab.page, 5)
    tab.choose(file)
    tab.expect_percent("same.bin", 50)
    other = visit(tab.server, tab.page.context)
    expect(other.row("same.bin").locator(".status")).to_have_text("50% is here. Another tab is sending it.")
    other.choose(file)
    expect(other.row("same.bin").first.locator(".status")).to_have_text("Waiting while another tab sends this file")
    assert other.indexes() == []
    gate.open()
    tab.expect_done("same.bin")
    other.expect_done("same.bin")
    assert [sha256(path) for path in stored(tab.server, "same.bin")] == [sha256(file)] * 2
    assert tab.acknowledged() == other.acknowledged() == list(range(10))


def test_tab_that_was_sending_is_closed(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """The tab that waited for it goes on with what has arrived."""
    file = make_file(tmp_path / "same.bin", 10 * CHUNK)
    Gate(tab.page, 5)
    tab.choose(file)
    tab.expect_percent("same.bin", 50)
    other = visit(tab.server, tab.page.context)
    other.choose(file)
    expect(other.row("same.bin").first.locator(".status")).to_have_text("Waiting while another tab sends this file")
    tab.page.close()
    other.expect_done("same.bin")
    assert len(other.acknowledged()) <= 5
    assert_stored(tab.server, file)


LATE_ANSWERS = """() => {
  const post = BroadcastChannel.prototype.postMessage;
  BroadcastChannel.prototype.postMessage = function (data) {
    setTimeout(() => post.call(this, data), Array.isArray(data) ? 1000 : 0);
  };
}"""


def test_another_tab_is_slow_to_say_what_it_sends(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """The list says it when it is known, though it was shown before."""
    gate = Gate(tab.page, 5)
    tab.page.evaluate(LATE_ANSWERS)
    tab.choose(make_file(tmp_path / "slow.bin", 10 * CHUNK))
    tab.expect_percent("slow.bin", 50)
    other = visit(tab.server, tab.page.context)
    expect(other.row("slow.bin").locator(".status")).to_have_text("50% is here. Another tab is sending it.")
    gate.open()
    tab.expect_done("slow.bin")


def test_same_file_twice_in_one_tab(tab: Tab, tmp_path: Path) -> None:
    """A file chosen again while it is being sent is a second upload, which waits, not a second hand in the first."""
    file = make_file(tmp_path / "same.bin", 10 * CHUNK)
    gate = Gate(tab.page, 3)
    tab.choose(file)
    tab.expect_percent("same.bin", 30)
    tab.choose(file)
    expect(tab.files.nth(0).locator(".status")).to_have_text("Waiting for another file of the same name")
    gate.open()
    tab.until("document.querySelectorAll('#list [data-state=done]').length === 2")
    assert [sha256(path) for path in stored(tab.server, "same.bin")] == [sha256(file)] * 2


def test_equal_names_from_two_folders(tab: Tab, tmp_path: Path) -> None:
    """Files that differ in their bytes only are not mixed: each has an upload of its own, one after the other."""
    folders = [tmp_path / f"folder{number}" for number in range(6)]
    files = [make_file(folder / "same.bin", 3 * CHUNK) for folder in folders]
    for file in files:
        os.utime(file, (1_700_000_000, 1_700_000_000))
    tab.choose(*files, make_file(tmp_path / "other.bin", CHUNK))
    tab.until("document.querySelectorAll('#list [data-state=done]').length === 7")
    assert sorted(map(sha256, stored(tab.server, "same.bin"))) == sorted(map(sha256, files))
    runs = [run["uuid"] for run in tab.spy("runs")]
    assert len(set(runs)) == 7
    assert len(runs) == 6 * 3 + 1


def test_answer_about_an_equal_file_is_late(tab: Tab, tmp_path: Path) -> None:
    """A file is not mixed with one of its name that was unfinished when it was asked about, and now is done."""
    files = [make_file(tmp_path / folder / "same.bin", 3 * CHUNK) for folder in ("first", "second")]
    for file in files:
        os.utime(file, (1_700_000_000, 1_700_000_000))
    gate = Gate(tab.page, 1)
    tab.choose(files[0])
    tab.expect_percent("same.bin", 33)
    late: list[tuple[Route, APIResponse]] = []
    tab.page.route("**/uploads", lambda route: route.continue_() if late else late.append((route, route.fetch())))
    tab.choose(files[1])
    tab.until("spy.questions === 1")
    wait_until(lambda: late or tab.page.wait_for_timeout(10))
    gate.open()
    tab.until("document.querySelectorAll('#list [data-state=done]').length === 1")
    route, response = late[0]
    assert route.request.method == "POST"
    route.fulfill(response=response)
    tab.until("document.querySelectorAll('#list [data-state=done]').length === 2")
    assert sorted(map(sha256, stored(tab.server, "same.bin"))) == sorted(map(sha256, files))


def test_equal_names_keep_no_others_waiting(tab: Tab, tmp_path: Path) -> None:
    """However many files wait for one of their name, another gets past them."""
    files = [make_file(tmp_path / f"folder{number}" / "same.bin", 2 * CHUNK) for number in range(12)]
    for file in files:
        os.utime(file, (1_700_000_000, 1_700_000_000))
    held: list[Route] = []
    tab.page.route(RUNS, lambda route: route.continue_() if len(held) > 1 else held.append(route))
    tab.choose(*files)
    tab.until("spy.underWay === 2 && spy.rows().length === 12")
    tab.choose_content("other.txt", b"content")
    tab.expect_done("other.txt")
    assert stored(tab.server, "same.bin") == []
    for route in held:
        route.continue_()
    tab.until("document.querySelectorAll('#list [data-state=done]').length === 13")


def test_first_of_equal_names_is_cancelled(tab: Tab, tmp_path: Path) -> None:
    """The next one begins when nothing of the first is left, so that it does not go on with what is about to go."""
    file = make_file(tmp_path / "same.bin", 10 * CHUNK)
    gate = Gate(tab.page, 3)
    tab.choose(file)
    tab.expect_percent("same.bin", 30)
    tab.choose(file)
    expect(tab.files.nth(0).locator(".status")).to_have_text("Waiting for another file of the same name")
    held: list[Route] = []
    tab.page.route("**/uploads/*", lambda route: held.append(route))
    tab.files.nth(1).locator(".cancel").click()
    gate.open()
    sent = len(tab.spy("runs"))
    tab.choose_content("other.txt", b"content")
    tab.expect_done("other.txt")
    assert len(tab.spy("runs")) == sent + 1
    held[0].continue_()
    tab.expect_done("same.bin")
    assert_stored(tab.server, file)


def test_plain_http_in_a_local_network(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """What browsers give only to pages over https is not needed: files arrive, and tabs know of each other."""
    server = start_server(*SMALL_CHUNKS, "--allow-host", LAN_HOST)
    url = server.url.replace(server.host, LAN_HOST)
    tab = visit(server, url=url)
    assert not tab.page.evaluate("isSecureContext")
    file = make_file(tmp_path / "file.bin", 10 * CHUNK)
    gate = Gate(tab.page, 5)
    tab.choose(file)
    tab.expect_percent("file.bin", 50)
    other = visit(server, tab.page.context, url=url)
    expect(other.row("file.bin").locator(".status")).to_contain_text("Another tab is sending it")
    gate.open()
    tab.expect_done("file.bin")
    assert_stored(server, file)


# The list


def test_list_outlives_a_reload(tab: Tab) -> None:
    """What was dropped from this browser is listed again, the newest first."""
    for name in ("first.txt", "second.txt"):
        tab.choose_content(name, b"content")
        tab.expect_done(name)
    tab.page.reload()
    tab.expect_listed("second.txt", "first.txt")


def test_list_outlives_the_browser(server: Server, visit: Visits, tmp_path: Path) -> None:
    """A browser that was closed and opened again still knows its files; another browser does not."""
    context = visit.context(tmp_path / "profile")
    tab = visit(server, context)
    tab.choose_content("file.txt", b"content")
    tab.expect_done("file.txt")
    context.close()
    visit(server, visit.context(tmp_path / "profile")).expect_listed("file.txt")
    stranger = visit(server)
    expect(stranger.page.locator("#history")).to_be_hidden()
    assert stranger.uploads() == []


def test_link_gives_the_file_back(tab: Tab, tmp_path: Path) -> None:
    """It gives the same bytes under the same name, also after a reload."""
    file = make_file(tmp_path / "back again.bin", 3 * CHUNK)
    tab.choose(file)
    tab.expect_done(file.name)
    for reload in (False, True):
        if reload:
            tab.page.reload()
        with tab.page.expect_download() as download:
            tab.row(file.name).locator(".link").click()
        assert download.value.suggested_filename == file.name
        assert sha256(download.value.path()) == sha256(file)


@pytest.mark.parametrize("clipboard", [True, False], ids=["clipboard", "no clipboard"])
def test_copy_link(start_server: StartServer, visit: Visits, clipboard: bool) -> None:
    """The button copies a complete address and says so, on plain http too, where there is no clipboard API."""
    context = visit.context(permissions=["clipboard-read", "clipboard-write"])
    tab = visit(start_server("-a"), context)
    if not clipboard:
        tab.page.evaluate("Object.defineProperty(navigator.clipboard, 'writeText', {value: undefined})")
    tab.choose_content("file.txt", b"content")
    tab.expect_notice("file.txt has arrived.")
    tab.expect_listed("file.txt")
    tab.page.clock.install()
    tab.page.clock.pause_at(datetime.now() + timedelta(hours=1))  # so that Copied stays until it has been seen
    button = tab.row("file.txt").locator(".copy")
    button.click()
    expect(button).to_have_text("Copied")
    expect(button).to_be_focused()
    tab.expect_notice("Link copied.")
    copied = tab.page.evaluate("navigator.clipboard.readText()")
    assert copied == f"{tab.server.url}download/{tab.uploads()[0]['uuid']}"
    assert tab.page.request.get(copied).body() == b"content"
    tab.page.clock.run_for(2000)
    expect(button).to_have_text("Copy link")


def test_downloads_off(server: Server, visit: Visits) -> None:
    """Without -a the page shows names and no links."""
    tab = visit(server)
    tab.choose_content("file.txt", b"content")
    tab.expect_done("file.txt")
    tab.expect_listed("file.txt")
    expect(tab.row("file.txt").locator(".copy")).to_be_hidden()
    expect(tab.row("file.txt").get_by_role("link")).to_have_count(0)
    expect(tab.page.locator("#copy-all")).to_be_hidden()


def test_remove_asks_first(tab: Tab, visit: Visits) -> None:
    """A file is removed from the disk after a second click, not before it, and vanishes from every tab."""
    for name in ("keep.txt", "remove.txt"):
        tab.choose_content(name, b"content")
        tab.expect_notice(f"{name} has arrived.")
    other = visit(tab.server, tab.page.context)
    row = tab.remove("remove.txt")
    expect(row.locator(".ask")).to_contain_text("Delete from the server?")
    expect(row.locator(".keep")).to_be_focused()
    assert len(tab.uploads()) == 2
    row.locator(".delete").click()
    for each in (tab, other):
        each.expect_listed("keep.txt")
    expect(tab.row("remove.txt")).to_have_count(0)
    tab.expect_notice("remove.txt is deleted.")
    assert stored(tab.server, "remove.txt") == []
    assert stored(tab.server, "keep.txt")


@pytest.mark.parametrize("key", ["Escape", "Enter"])
def test_remove_can_be_thought_better_of(tab: Tab, key: str) -> None:
    """Escape, or Enter on the button that has the focus then, keeps the file; the focus goes back."""
    tab.choose_content("file.txt", b"content")
    tab.expect_done("file.txt")
    menu = tab.row("file.txt").locator(".more summary")
    menu.press("Enter")
    tab.row("file.txt").locator(".remove").press("Enter")
    tab.page.keyboard.press(key)
    expect(menu).to_be_focused()
    expect(tab.files.locator(".ask")).to_be_hidden()
    assert stored(tab.server, "file.txt")


def test_clear_forgets_and_keeps(tab: Tab, visit: Visits) -> None:
    """A cleared list is empty in every tab, after a question that says what it means: files and links stay."""
    tab.choose_content("file.txt", b"content")
    tab.expect_done("file.txt")
    other = visit(tab.server, tab.page.context)
    link = tab.row("file.txt").locator(".link").get_attribute("href") or ""
    tab.page.click("#clear")
    expect(tab.page.locator("#question")).to_have_text(re.compile("files stay on the server"))
    tab.page.click("#no")
    tab.expect_listed("file.txt")
    tab.page.click("#clear")
    tab.page.click("#yes")
    for each in (tab, other):
        each.expect_listed()
    expect(tab.notice).to_have_text(re.compile("files stay on the server"))
    expect(tab.page.locator("#file")).to_be_focused()
    assert tab.uploads() == []
    assert stored(tab.server, "file.txt")
    assert tab.page.request.get(link).body() == b"content"


def test_clear_deletes_if_asked_to(tab: Tab) -> None:
    """The question has a box for that."""
    for name in ("one.txt", "two.txt"):
        tab.choose_content(name, b"content")
        tab.expect_done(name)
    tab.page.click("#clear")
    tab.page.check("#also input")
    tab.page.click("#yes")
    tab.expect_listed()
    tab.expect_notice("The files are deleted.")
    assert stored(tab.server, "one.txt") == stored(tab.server, "two.txt") == []


# What is handed over otherwise


def test_paste(tab: Tab) -> None:
    """Text becomes a file; files keep their names, and a picture without one is named by the time."""
    tab.page.evaluate(
        "(() => { const paste = (fill) => { const data = new DataTransfer(); fill(data);"
        " document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true})); };"
        " paste((data) => data.setData('text/plain', 'grüße'));"
        " paste((data) => { data.items.add(new File(['a'], 'a.txt')); data.items.add(new File(['b'], 'image.png')); });"
        "})()"
    )
    tab.expect_news("All 3 files have arrived")
    names_ = sorted(upload["name"] for upload in tab.uploads())
    assert re.fullmatch(r"Picture \d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d\.png", names_[0])
    assert re.fullmatch(r"Text \d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d\.txt", names_[1])
    assert names_[2] == "a.txt"
    assert stored(tab.server, names_[1])[0].read_bytes() == "grüße".encode()


def test_paste_into_a_field_stays_there(tab: Tab) -> None:
    """A password that is pasted is not a file."""
    tab.page.evaluate(
        "(() => { const data = new DataTransfer(); data.setData('text/plain', 'secret');"
        " const event = new ClipboardEvent('paste', {clipboardData: data, bubbles: true});"
        " document.getElementById('password').dispatchEvent(event); })()"
    )
    tab.choose_content("after.txt", b"content")
    tab.expect_done("after.txt")
    assert names(tab.uploads()) == ["after.txt"]


def test_folder_is_one_line(tab: Tab, tmp_path: Path) -> None:
    """A folder that is chosen keeps its tree: the server knows the path, and its line opens and shows it."""
    for name in ("one.txt", "deeper/two.txt"):
        make_file(tmp_path / "folder" / name, 10)
    tab.page.set_input_files("#folder", tmp_path / "folder")
    tab.expect_news("All 2 files have arrived")
    folder = tab.page.locator("#list .folder")
    expect(folder).to_contain_text("2 files")
    expect(tab.files).to_have_count(0)
    tab.unfold()
    expect(tab.row("two.txt").locator(".path")).to_have_text("deeper")
    assert {upload["path"] for upload in tab.uploads()} == {"folder", "folder/deeper"}
    assert len({upload["drop"] for upload in tab.uploads()}) == 1


def test_what_cannot_be_read_is_said(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """A folder that the browser passes over is named, and the rest arrives."""
    visit.expect_complaints("Not allowed")
    make_file(tmp_path / "folder" / "one.txt", 10)
    make_file(tmp_path / "folder" / "deeper" / "two.txt", 10)
    tab.page.evaluate(
        "addEventListener('drop', ({dataTransfer}) => {"
        " const proto = Object.getPrototypeOf(dataTransfer.items[0].webkitGetAsEntry());"
        " const {createReader} = proto;"
        " proto.createReader = function () {"
        "   return this.name === 'deeper' ? {readEntries: (_, fail) => fail('Not allowed')} : createReader.call(this);"
        " }; }, true)"
    )
    drag(tab.page, "dragEnter", "dragOver", "drop", files=(tmp_path / "folder",))
    tab.expect_news("one.txt has arrived.")
    tab.expect_notice("folder/deeper could not be read and is left out.")


def test_same_file_again_asks(tab: Tab, tmp_path: Path) -> None:
    """What has arrived is not sent a second time without a question, by name, size and time."""
    file = make_file(tmp_path / "same.txt", 10)
    tab.choose(file)
    tab.expect_done("same.txt")
    tab.choose(file)
    expect(tab.page.locator("#question")).to_have_text("You already dropped same.txt. Keep both?")
    tab.page.click("#no")
    assert len(tab.uploads()) == 1
    tab.choose(file)
    tab.page.click("#yes")
    tab.until("spy.listed().length === 2")
    assert len(stored(tab.server, "same.txt")) == 2


def test_cancel_asks_after_a_while(tab: Tab, tmp_path: Path) -> None:
    """What has run for more than ten seconds is not cancelled by a slip; nor is everything."""
    tab.page.clock.install()
    Gate(tab.page, 5)
    tab.choose(make_file(tmp_path / "file.bin", 20 * CHUNK))
    tab.until("spy.underWay === 4")
    tab.page.clock.run_for(11_000)
    row = tab.row("file.bin")
    row.locator(".cancel").click()
    expect(row.locator(".ask")).to_contain_text("Stop sending it?")
    row.locator(".keep").click()
    tab.page.click("#cancel-all")
    expect(tab.page.locator("#question")).to_contain_text("Cancel this file?")
    tab.page.click("#yes")
    expect(tab.files).to_have_count(0)
    wait_until(lambda: tab.page.wait_for_timeout(10) or not tab.uploads())


def test_pause(tab: Tab, tmp_path: Path) -> None:
    """Nothing is sent while it lasts, and then what is missing."""
    file = make_file(tmp_path / "file.bin", 20 * CHUNK)
    gate = Gate(tab.page, 5)
    tab.choose(file)
    tab.expect_percent("file.bin", 25)
    tab.page.click("#pause")
    tab.until("spy.underWay === 0")
    tab.expect_state("file.bin", "paused")
    tab.expect_news("Paused at 1 of 1")
    gate.open()
    sent = len(tab.spy("runs"))
    tab.choose_content("other.txt", b"content")
    tab.expect_news("Paused at 1 of 2")
    assert len(tab.spy("runs")) == sent
    tab.page.click("#pause")
    tab.expect_news("All 2 files have arrived")
    assert_stored(tab.server, file)


def test_qr_codes(tab: Tab) -> None:
    """Of a file, of a drop and of the page, each with its address beside it."""
    for name in ("one.txt", "two.txt"):
        tab.page.set_input_files("#file", [FilePayload(name=n + name, mimeType="", buffer=b"x") for n in "ab"])
        tab.expect_news("All 2 files have arrived")
    image = tab.page.locator("#qr img")
    dialog = tab.page.locator("#qr")
    row = tab.row("atwo.txt")
    row.locator(".more summary").click()
    for button, link in (
        (row.locator(".qr"), row.locator(".link").get_attribute("href")),
        (tab.page.locator("#qr-all"), f"{tab.server.url}drops/{tab.uploads()[0]['drop']}"),
        (tab.page.locator("#qr-page"), tab.server.url),
    ):
        button.click()
        expect(dialog).to_contain_text(link or "?")
        tab.until("document.querySelector('#qr img').naturalWidth > 0")
        expect(image).to_have_attribute("src", re.compile("^qr[?]link="))
        dialog.get_by_role("button", name="Close").click()


def test_link_of_a_drop(tab: Tab) -> None:
    """The news offer it when all has arrived; it leads to all its files."""
    tab.page.evaluate("document.execCommand = () => true")
    tab.page.set_input_files("#file", [FilePayload(name=n, mimeType="", buffer=b"x") for n in ("a.txt", "b.txt")])
    tab.expect_news("All 2 files have arrived")
    link = tab.page.evaluate("document.getElementById('copy-all').link")
    answer = tab.page.request.get(link, headers={"Accept": "application/json"})
    assert sorted(file["name"] for file in answer.json()["drop"]["files"]) == ["a.txt", "b.txt"]


def test_phone_stays_awake(tab: Tab, tmp_path: Path) -> None:
    """While something is sent, and no longer; without the browser's own means a film does it."""
    tab.page.evaluate("Object.defineProperty(navigator, 'wakeLock', {value: undefined})")
    gate = Gate(tab.page, 1)
    tab.choose(make_file(tmp_path / "file.bin", 5 * CHUNK))
    tab.until("document.documentElement.dataset.awake === 'film'")
    gate.open()
    tab.expect_done("file.bin")
    tab.until("document.documentElement.dataset.awake === ''")


def test_changing_file_is_sent_from_a_copy(tab: Tab) -> None:
    """A browser that says of a file that it has changed gets its content from memory the second time."""
    tab.hurry()
    tab.page.evaluate(
        "(() => { const {send} = XMLHttpRequest.prototype;"
        " XMLHttpRequest.prototype.send = function (body) {"
        "   const content = body instanceof FormData ? body.get('file') : body;"
        "   if (content.lastModified === 1) { spy.failed = true; setTimeout(() => this.onerror(), 1); return; }"
        "   return send.call(this, body); }; })()"
    )
    tab.page.evaluate(
        "(() => { const data = new DataTransfer(); data.items.add(new File(['content'], 'a.txt', {lastModified: 1}));"
        " const event = new ClipboardEvent('paste', {clipboardData: data, bubbles: true});"
        " document.body.dispatchEvent(event); })()"
    )
    tab.expect_done("a.txt")
    assert tab.spy("failed")
    assert stored(tab.server, "a.txt")[0].read_bytes() == b"content"


def test_small_file_whose_answer_is_lost(tab: Tab, visit: Visits) -> None:
    """It is sent again under its UUID, so that it is stored once and nobody has to look."""
    visit.expect_complaints("net::ERR_FAILED")
    tab.hurry()
    lost: list[Route] = []

    def lose_the_first(route: Route) -> None:
        if lost:
            return route.continue_()
        lost.append(route)
        route.fetch()
        return route.abort()

    tab.page.route(RUNS, lose_the_first)
    tab.choose_content("file.txt", b"content")
    tab.expect_done("file.txt")
    assert len(tab.spy("runs")) == 2
    assert len(stored(tab.server, "file.txt")) == 1


def test_only_lines_in_sight_have_elements(tab: Tab) -> None:
    """Of a thousand files, and the keyboard still comes from the first to those below."""
    tab.page.evaluate(
        "(() => { const data = new DataTransfer();"
        " for (let n = 0; n < 1000; n++) data.items.add(new File(['x'], `${n}.txt`));"
        " const event = new ClipboardEvent('paste', {clipboardData: data, bubbles: true});"
        " document.body.dispatchEvent(event); })()"
    )
    tab.expect_news("All 1,000 files have arrived")
    tab.unfold()
    assert 10 < tab.page.locator("#list li").count() < 100
    expect(tab.row("0.txt")).to_be_visible()
    tab.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(tab.row("999.txt")).to_be_visible()
    assert tab.page.locator("#list li").count() < 100
    tab.row("999.txt").locator(".copy").focus()
    tab.page.evaluate("scrollTo(0, 0)")
    expect(tab.row("0.txt")).to_be_visible()
    expect(tab.row("999.txt").locator(".copy")).to_be_focused()


def test_progress_in_forced_colours(tab: Tab, tmp_path: Path) -> None:
    """The bar can be told from its ground."""
    tab.page.emulate_media(forced_colors="active")
    Gate(tab.page, 5)
    tab.choose(make_file(tmp_path / "file.bin", 10 * CHUNK))
    tab.expect_percent("file.bin", 50)
    look = tab.page.evaluate(
        "(() => { const {color, backgroundColor} = getComputedStyle(document.getElementById('whole'));"
        " return [color, backgroundColor]; })()"
    )
    assert look[0] != look[1]


def test_icon_carries_the_progress(tab: Tab, tmp_path: Path) -> None:
    """A ring, and at the end a tick."""
    gate = Gate(tab.page, 5)
    icon = tab.page.locator("link[rel=icon]")
    tab.choose(make_file(tmp_path / "file.bin", 10 * CHUNK))
    expect(icon).to_have_attribute("href", re.compile("^data:image.*circle"))
    gate.open()
    tab.expect_done("file.bin")
    expect(icon).to_have_attribute("href", re.compile("^data:image.*17803f"))


# What goes wrong


def test_cancel_stops_and_removes(tab: Tab, tmp_path: Path) -> None:
    """A cancelled upload sends no more, and nothing of it stays on the server."""
    file = make_file(tmp_path / "cancelled.bin", 20 * CHUNK)
    gate = Gate(tab.page, 5)
    tab.choose(file)
    tab.expect_percent("cancelled.bin", 25)
    expect(tab.page).to_have_title(re.compile("^25% – Drop files to "))
    tab.row("cancelled.bin").locator(".cancel").click()
    expect(tab.files).to_have_count(0)
    tab.expect_notice("cancelled.bin is cancelled.")
    tab.until("spy.underWay === 0")
    gate.open()
    sent = len(tab.indexes())
    tab.choose_content("after.txt", b"content")
    tab.expect_done("after.txt")
    tab.expect_listed("after.txt")
    assert len(tab.indexes()) == sent + 1
    assert names(tab.uploads()) == ["after.txt"]
    assert list(tab.server.chunks.iterdir()) == []
    expect(tab.page).to_have_title(re.compile("^Drop files to "))


def test_too_large_for_the_page(start_server: StartServer, visit: Visits) -> None:
    """A file over the limit is refused before a byte is sent; there is nothing to retry, and smaller ones go on."""
    tab = visit(start_server("--max-size", "1"))
    expect(tab.page.locator("#hint")).to_contain_text("Up to 1 MB each")
    tab.choose_content("large.bin", bytes(MIB + 1))
    tab.expect_state("large.bin", "failed")
    expect(tab.row("large.bin").locator(".status")).to_have_text("This file is too large. The server takes up to 1 MB.")
    expect(tab.row("large.bin").locator(".retry")).to_be_hidden()
    assert tab.indexes() == []
    tab.choose_content("small.bin", bytes(MIB))
    tab.expect_done("small.bin")
    tab.expect_listed("small.bin")
    tab.row("large.bin").locator(".cancel").click()
    expect(tab.row("large.bin")).to_have_count(0)


def test_too_large_for_the_server(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """What the server refuses is said, and never shown as uploaded; Retry works once it takes such files."""
    # The page may ask for the list of uploads in the very moment of a restart.
    visit.expect_complaints(REFUSED, "net::ERR_(CONNECTION_REFUSED|EMPTY_RESPONSE)")
    server = start_server(*SMALL_CHUNKS)
    tab = visit(server)  # it knows the old limit
    server.restart("--max-size", "1")
    file = make_file(tmp_path / "large.bin", MIB + 1)
    with tab.page.expect_response(lambda response: response.status == 413):
        tab.choose(file)
    tab.expect_state("large.bin", "failed")
    expect(tab.row("large.bin").locator(".status")).to_have_text("This file is too large. The server takes up to 1 MB.")
    tab.expect_news("1 file needs you")
    assert tab.uploads() == []
    server.restart("--max-size", "2")
    tab.row("large.bin").locator(".retry").click()
    tab.expect_done("large.bin")
    assert_stored(server, file)


def test_no_space_left(start_server: StartServer, visit: Visits) -> None:
    """An upload for which there is no space says so and waits, and goes on by itself when there is some."""
    visit.expect_complaints(REFUSED)
    tab = visit(start_server("--max-total", "1"))
    tab.hurry(1000)
    tab.choose_content("old.bin", bytes(700_000))
    tab.expect_done("old.bin")
    with tab.page.expect_response(lambda response: response.status == 507) as response:
        tab.choose_content("new.bin", bytes(700_000))
    tab.expect_state("new.bin", "paused")
    sentence = "This file needs 700 kB. The server has less space than that. Trying again…"
    expect(tab.row("new.bin").locator(".status")).to_have_text(sentence)
    tab.until("spy.pauses.length > 12")  # more often than a run may fail
    tab.expect_state("new.bin", "paused")
    assert names([upload for upload in tab.uploads() if upload["done"]]) == ["old.bin"]
    tab.remove("old.bin").locator(".delete").click()
    tab.expect_done("new.bin")
    tab.expect_listed("new.bin")
    assert min(tab.spy("pauses")) >= 1000 * int(response.value.headers["retry-after"])


def test_what_the_server_lost_is_sent_again(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """Chunks that were acknowledged and are gone in the end, as after a power cut, are found missing and sent again."""
    visit.expect_complaints(REFUSED)
    file = make_file(tmp_path / "file.bin", 10 * CHUNK)
    gate = Gate(tab.page, 5)
    tab.choose(file)
    tab.expect_percent("file.bin", 50)
    uuid = tab.uploads()[0]["uuid"]
    lost = tab.present(uuid)
    tab.server.stop()
    shutil.rmtree(tab.server.chunks / uuid)
    tab.server.restart()
    gate.open()
    tab.expect_done("file.bin")
    assert_stored(tab.server, file)
    sent = Counter(tab.indexes())  # not what was answered: the answer that it is done may overtake another chunk's
    assert sent.keys() == set(range(10))
    assert all(sent[index] > 1 for index in lost)


def test_retry_sends_only_what_is_missing(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """After a refusal in the middle nothing more is sent, the reason is shown as text, and Retry sends the rest."""
    visit.expect_complaints(REFUSED)
    file = make_file(tmp_path / "file.bin", 13 * CHUNK)
    seen: list[Route] = []

    def refuse_the_seventh(route: Route) -> None:
        seen.append(route)
        if len(seen) == 7:
            route.fulfill(status=409, json={"error": "The <b>seventh</b> is refused."})
        elif len(seen) <= 3:
            route.continue_()  # and three are held

    tab.page.route(RUNS, refuse_the_seventh)
    tab.choose(file)
    tab.expect_state("file.bin", "failed")
    expect(tab.row("file.bin").locator(".status")).to_have_text("The <b>seventh</b> is refused.")
    tab.until("spy.underWay === 0")  # though nobody has answered them
    tab.page.unroute(RUNS)
    assert stored(tab.server, "file.bin") == []
    (upload,) = tab.uploads()
    assert not upload["done"]
    present, sent = tab.present(upload["uuid"]), len(tab.indexes())
    expect(tab.row("file.bin")).to_have_count(1)
    tab.row("file.bin").locator(".retry").click()
    tab.expect_done("file.bin")
    assert sorted(tab.indexes()[sent:]) == sorted(set(range(13)) - present)
    assert_stored(tab.server, file)


def fail_in_the_middle(tab: Tab, name: str, choose: Callable[[], None]) -> None:
    """Of a file of ten chunks some get there, the others are refused, and then all get through again."""
    gate = Gate(tab.page, 3)
    choose()
    tab.expect_percent(name, 30)
    tab.page.route(RUNS, answer(400, "Refused."))
    gate.open()
    tab.expect_state(name, "failed")
    tab.page.unroute(RUNS)


def test_removed_elsewhere_while_it_is_sent(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """An upload that was removed fails with a sentence that names what can be done, and Retry does it."""
    visit.expect_complaints(REFUSED)
    file = make_file(tmp_path / "file.bin", 13 * CHUNK)
    seen: list[Route] = []

    def refuse_the_seventh(route: Route) -> None:
        seen.append(route)
        if len(seen) == 7:
            route.fulfill(status=410, json={"error": pyfiledrop.Gone.sentence})
        elif len(seen) <= 3:
            route.continue_()  # and three are held

    tab.page.route(RUNS, refuse_the_seventh)
    tab.choose(file)
    tab.expect_state("file.bin", "failed")
    expect(tab.row("file.bin").locator(".status")).to_have_text(
        "This file was deleted from the server. Retry sends it again."
    )
    (removed,) = tab.uploads()
    assert tab.page.context.request.delete(f"{tab.server.url}uploads/{removed['uuid']}").ok
    tab.page.unroute(RUNS)
    tab.row("file.bin").get_by_role("button", name="Retry").click()
    tab.expect_done("file.bin")
    assert removed["uuid"] not in {upload["uuid"] for upload in tab.uploads()}
    assert_stored(tab.server, file)


def test_discard_removes_what_has_arrived(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """A failed upload that is discarded leaves nothing, on the page or on the server."""
    visit.expect_complaints(REFUSED)
    file = make_file(tmp_path / "file.bin", 10 * CHUNK)
    fail_in_the_middle(tab, "file.bin", lambda: tab.choose(file))
    tab.row("file.bin").get_by_role("button", name="Discard").click()
    tab.expect_notice("file.bin is discarded.")
    expect(tab.files).to_have_count(0)
    wait_until(lambda: not list(tab.server.chunks.iterdir()))
    expect(tab.page.locator("#history")).to_be_hidden()


def test_failed_file_is_chosen_again(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """The new row goes on where the failed one stopped and takes its place: nobody can discard what has arrived."""
    visit.expect_complaints(REFUSED)
    file = make_file(tmp_path / "file.bin", 10 * CHUNK)
    fail_in_the_middle(tab, "file.bin", lambda: tab.choose(file))
    tab.choose(file)
    tab.expect_done("file.bin")
    expect(tab.files).to_have_count(1)
    assert_stored(tab.server, file)
    assert len(set(tab.acknowledged())) == len(tab.acknowledged())  # what was in has not been sent again


def test_discard_leaves_what_another_tab_finished(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """A failed upload that another tab took up and finished is not this row's to remove any more."""
    visit.expect_complaints(REFUSED)
    file = make_file(tmp_path / "file.bin", 10 * CHUNK)
    fail_in_the_middle(tab, "file.bin", lambda: tab.choose(file))
    other = visit(tab.server, tab.page.context)
    other.choose(file)
    other.expect_done("file.bin")
    assert len(other.indexes()) <= 7
    tab.row("file.bin").get_by_role("button", name="Discard").click()
    tab.expect_listed("file.bin")
    assert_stored(tab.server, file)


def test_file_of_the_same_name_from_another_folder(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """Two files that differ in nothing but their bytes and their folder are two, also when one of them failed."""
    visit.expect_complaints(REFUSED)
    files = []
    for folder in ("a", "b"):
        files.append(make_file(tmp_path / folder / "same.bin", 10 * CHUNK))
        os.utime(files[-1], (1_700_000_000, 1_700_000_000))

    def drop(folder: str) -> None:
        drag(tab.page, "dragEnter", "dragOver", "drop", files=(tmp_path / folder,))

    fail_in_the_middle(tab, "same.bin", lambda: drop("a"))
    drop("b")
    wait_until(lambda: stored(tab.server, "same.bin") or tab.page.wait_for_timeout(10))
    assert [sha256(path) for path in stored(tab.server, "same.bin")] == [sha256(files[1])]
    tab.files.filter(has_text="Refused.").locator(".retry").click()
    tab.expect_news("All 2 files have arrived")
    assert sorted(map(sha256, stored(tab.server, "same.bin"))) == sorted(map(sha256, files))


def test_several_failures_are_one_sentence(tab: Tab, visit: Visits) -> None:
    """It is said and shown, and one button sends all of them again."""
    visit.expect_complaints(REFUSED)
    tab.page.route(RUNS, answer(400, "Refused."))
    tab.page.set_input_files(
        "#file", [FilePayload(name=f"{n}.txt", mimeType="text/plain", buffer=b"content") for n in range(3)]
    )
    tab.expect_notice("3 files need you")
    tab.expect_news("3 files need you")
    tab.page.unroute(RUNS)
    tab.page.click("#retry-all")
    tab.expect_news("All 3 files have arrived")


def test_files_without_room_keep_no_others_waiting(start_server: StartServer, visit: Visits) -> None:
    """More large files than may be sent at a time wait for room; a small one that fits gets past them."""
    visit.expect_complaints(REFUSED)
    server = start_server("--max-total", "3")
    upload(server, bytes(2_000_000))
    tab = visit(server)
    content = bytes(2_000_000)
    tab.page.set_input_files(
        "#file", [FilePayload(name=f"{n}.bin", mimeType="text/plain", buffer=content) for n in range(10)]
    )
    for n in range(10):
        tab.expect_state(f"{n}.bin", "paused")
    tab.choose_content("small.txt", b"content")
    tab.expect_done("small.txt")
    for n in range(10):
        assert tab.spy(f"state('{n}.bin')") == "paused"


def test_busy_server_is_asked_again(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """503 is not a failure: what was refused is sent again after the pause that the server asked for."""
    visit.expect_complaints(REFUSED)
    tab.hurry()
    file = make_file(tmp_path / "file.bin", 13 * CHUNK)
    seen: list[Route] = []

    def be_busy(route: Route) -> None:
        seen.append(route)
        if 2 <= len(seen) <= 5:
            route.fulfill(status=503, json={"error": "Busy."}, headers={"Retry-After": "7"})
        else:
            route.continue_()

    tab.page.route(RUNS, be_busy)
    tab.choose(file)
    tab.expect_done("file.bin")
    assert_stored(tab.server, file)
    assert 7000 in tab.spy("pauses")
    assert len(tab.indexes()) == 13 + 4


def test_proxy_errors_are_translated(tab: Tab, visit: Visits) -> None:
    """A proxy's error page is not shown; after eight tries the upload fails with a sentence, and Retry works."""
    visit.expect_complaints(REFUSED)
    tab.hurry()
    tab.page.route(RUNS, lambda route: route.fulfill(status=502, content_type="text/html", body="<h1>Bad"))
    tab.choose_content("file.txt", b"content")
    tab.expect_state("file.txt", "failed")
    expect(tab.row("file.txt").locator(".status")).to_have_text("A proxy on the way cannot reach the server.")
    assert len(tab.indexes()) == 8
    tab.page.unroute(RUNS)
    tab.row("file.txt").locator(".retry").click()
    tab.expect_done("file.txt")
    assert stored(tab.server, "file.txt")


def test_connection_that_always_breaks(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """Runs that break off together are one failure. After eight with nothing gained a person is told, and may retry."""
    visit.expect_complaints("net::ERR_FAILED")
    tab.hurry()
    file = make_file(tmp_path / "file.bin", 20 * CHUNK)
    tab.page.route(RUNS, lambda route: route.abort())
    tab.choose(file)
    tab.expect_state("file.bin", "failed")
    expect(tab.row("file.bin").locator(".status")).to_have_text("The connection broke off.")
    assert tab.spy("pauses") == [1000, 2000, 4000, 8000, 16000, 30000, 30000]
    assert len(tab.spy("runs")) > 4 * PARALLEL
    tab.page.unroute(RUNS)
    tab.row("file.bin").locator(".retry").click()
    tab.expect_done("file.bin")
    assert_stored(tab.server, file)


def test_session_that_has_ended(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """The page asks for the password in place, until it is the right one, and then all goes on from what is in."""
    visit.expect_complaints(REFUSED)
    tab = visit(start_server(*SMALL_CHUNKS, env={"PYFILEDROP_PASSWORD": "open sesame"}))
    tab.page.fill("#password", "open sesame")
    tab.page.click("button")
    file = make_file(tmp_path / "file.bin", 10 * CHUNK)
    gate = Gate(tab.page, 5)
    tab.choose(file)
    tab.expect_percent("file.bin", 50)
    browser = tab.page.context.request
    browser.post(tab.server.url, form={"signout": ""})
    gate.open()
    expect(tab.page.locator("#question")).to_contain_text("session has ended")
    tab.page.fill("#password", "wrong")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#question")).to_contain_text("not the password")
    tab.page.fill("#password", "open sesame")
    tab.page.keyboard.press("Enter")
    tab.expect_done("file.bin")
    assert tab.acknowledged() == list(range(10))
    assert_stored(tab.server, file)


def test_success_of_a_stranger_is_no_success(tab: Tab) -> None:
    """A login page that answers 200 in the server's place is not taken for an acknowledgement."""
    tab.page.route(RUNS, lambda route: route.fulfill(status=200, content_type="text/html", body="<h1>Log in"))
    tab.choose_content("file.txt", b"content")
    tab.expect_state("file.txt", "failed")
    expect(tab.row("file.txt").locator(".status")).to_contain_text("answered in the server’s place")
    assert stored(tab.server, "file.txt") == []


def test_file_that_vanished(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """A file that is gone from the disk in the middle fails with a sentence that says so, not as a lost connection."""
    visit.expect_complaints(r"net::ERR_FILE_NOT_FOUND|net::ERR_UPLOAD_FILE_CHANGED")
    file = make_file(tmp_path / "gone.bin", 20 * CHUNK)
    gate = Gate(tab.page, 5)
    tab.choose(file)
    tab.expect_percent("gone.bin", 25)
    file.unlink()
    gate.open()
    tab.expect_state("gone.bin", "failed")
    expect(tab.row("gone.bin").locator(".status")).to_contain_text("can no longer be read")
    tab.expect_news("1 file needs you")
    assert stored(tab.server, "gone.bin") == []


def test_file_that_vanished_while_nothing_moves(tab: Tab, tmp_path: Path) -> None:
    """It is looked at after a few seconds, and a person need not wait for --timeout to hear of it."""
    tab.page.clock.install()
    file = make_file(tmp_path / "gone.bin", 20 * CHUNK)
    Gate(tab.page, 5)
    tab.choose(file)
    tab.until("spy.runs.length === 9")
    file.unlink()
    tab.page.clock.run_for(6_000)
    tab.expect_state("gone.bin", "failed")
    expect(tab.row("gone.bin").locator(".status")).to_contain_text("can no longer be read")


def test_line_that_stands_still(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """Runs of which nothing moves for --timeout are sent again, with more patience, and with fewer beside them."""
    tab = visit(start_server(*SMALL_CHUNKS, "--timeout", "1000"))
    tab.hurry()
    file = make_file(tmp_path / "slow.bin", 8 * CHUNK)
    gate = Gate(tab.page, 0)
    tab.choose(file)
    tab.until("spy.runs.length === 5")
    assert [run["first"] for run in tab.spy("runs")] == [0, 1, 2, 3, 0]
    tab.page.evaluate("spy.most = 0")
    gate.open()
    tab.expect_done("slow.bin")
    assert_stored(tab.server, file)
    assert tab.spy("most") == 1


def test_page_warns_before_it_is_left(tab: Tab, tmp_path: Path) -> None:
    """Closing the tab while something is being sent asks first."""
    Gate(tab.page, 1)
    tab.choose(make_file(tmp_path / "file.bin", 10 * CHUNK))
    tab.expect_percent("file.bin", 10)
    tab.page.mouse.click(5, 5)  # browsers ask only whoever has touched the page
    with tab.page.expect_event("dialog") as dialog:
        tab.page.close(run_before_unload=True)
    assert dialog.value.type == "beforeunload"


# The plain form


def test_without_javascript(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """The page is a plain form then, which says what it is, and uploads."""
    server = start_server("-a")
    page = visit(server, java_script_enabled=False).page
    expect(page.locator("#plain")).to_be_visible()
    expect(page.locator("#drop")).to_be_hidden()
    files = [make_file(tmp_path / "one.bin", 1000), make_file(tmp_path / "two.bin", MIB + 1)]
    page.set_input_files("#file", files)
    page.click("#send")
    for file in files:
        expect(page.locator("body")).to_contain_text(file.name)
    assert_stored(server, *files)


def test_without_dropzone(server: Server, visit: Visits, tmp_path: Path) -> None:
    """When Dropzone cannot be loaded, the plain form uploads and the list still works."""
    visit.expect_complaints("net::ERR_FAILED")
    context = visit.context()
    context.route("**/dropzone.js", lambda route: route.abort())
    tab = visit(server, context)
    expect(tab.page.locator("#plain")).to_be_visible()
    file = make_file(tmp_path / "file.bin", 1000)
    tab.choose(file)
    tab.page.click("#send")
    tab.page.wait_for_url("**/upload")
    assert_stored(server, file)
    tab.page.goto(server.url)
    tab.expect_listed("file.bin")


# Options that reach the page


def test_option_chunk_size(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """--chunk-size cuts files into chunks of so many bytes."""
    tab = visit(start_server("--chunk-size", "70000"))
    tab.choose(make_file(tmp_path / "file.bin", 150_000))
    tab.expect_done("file.bin")
    assert sorted((run["first"], run["size"]) for run in tab.spy("runs")) == [(0, 70_000), (1, 70_000), (2, 10_000)]


@pytest.mark.parametrize(
    ("options", "most"),
    [(["--disable-parallel-chunks"], 1), (["--parallel-chunks", "2"], 2), (["--parallel-chunks", "5"], 5)],
    ids=["disabled", "2", "5"],
)
def test_option_parallel_chunks(
    start_server: StartServer, visit: Visits, tmp_path: Path, options: list[str], most: int
) -> None:
    """So many chunks are under way at a time, over all files, and one connection is always left for questions."""
    tab = visit(start_server(*SMALL_CHUNKS, *options))
    files = [make_file(tmp_path / f"{n}.bin", 10 * CHUNK) for n in range(3)]
    tab.choose(*files)
    tab.expect_done(*(file.name for file in files))
    assert tab.spy("most") == most
    assert tab.spy("mostOfAll") <= BROWSER_CONNECTIONS
    assert_stored(tab.server, *files)


def test_option_disable_force_chunking(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """A file of one chunk travels as a plain form then, and a larger one in chunks as ever."""
    tab = visit(start_server("-a", *SMALL_CHUNKS, "--disable-force-chunking"))
    files = [make_file(tmp_path / "small.bin", CHUNK), make_file(tmp_path / "large.bin", CHUNK + 1)]
    tab.choose(*files)
    tab.expect_done("small.bin", "large.bin")
    runs = tab.spy("runs")
    assert sorted(run["first"] for run in runs if run["uuid"]) == [0, 1]
    assert [run["fields"] for run in runs if not run["uuid"]] == [["modified", "drop", "file"]]
    assert_stored(tab.server, *files)
    expect(tab.row("small.bin").get_by_role("link")).to_have_count(1)


def test_lost_answer_of_a_plain_form(start_server: StartServer, visit: Visits) -> None:
    """Nobody can tell whether the file arrived, and a second try would store it twice: a person has to look."""
    visit.expect_complaints("net::ERR_FAILED")
    tab = visit(start_server(*SMALL_CHUNKS, "--disable-force-chunking"))

    def lose_the_answer(route: Route) -> None:
        route.fetch()
        route.abort()

    tab.page.route("**/upload", lose_the_answer)
    tab.choose_content("file.txt", b"content")
    tab.expect_state("file.txt", "failed")
    expect(tab.row("file.txt").locator(".status")).to_contain_text("may have arrived")
    tab.expect_listed("file.txt")
    assert len(stored(tab.server, "file.txt")) == 1


#: version -> the npm registry's own hash of its package
DROPZONES = {
    "6.0.0-beta.2": "sha512-k44yLuFFhRk53M8zP71FaaNzJYIzr99SKmpbO/oZKNslDjNXQsBTdfLs+iONd0U0L94zzlFzRnFdqbLcs7h9fQ==",
    "6.0.0": "sha512-gL/duM3EO1wGjZtZi7fRPUyHNBz2A3SU2Z44axvuP9HhkzKWTrC2aAh/ABmcsE3uAK6d7IrZgQdQws6vfJCGWw==",
    "6.3.5": build.DROPZONE_TARBALL,
}


@pytest.mark.parametrize("version", DROPZONES)
def test_any_dropzone_from_6_0(
    tab: Tab, visit: Visits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Dropping, folders, the queue, Cancel, Retry: the page uses nothing of Dropzone that differs between versions."""
    visit.expect_complaints(REFUSED)
    monkeypatch.setattr(build, "DROPZONE_TARBALL", DROPZONES[version])
    get = build.from_npm if shutil.which("npm") else build.from_npm_of_pypi
    script = get(version, ["dropzone-min.js"])["dropzone-min.js"]
    tab.page.route("**/dropzone.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
    tab.page.reload()
    files = [make_file(tmp_path / "folder" / f"{number}.bin", 5 * CHUNK) for number in range(12)]
    gate = Gate(tab.page, 0)
    drag(tab.page, "dragEnter", "dragOver", "drop", files=(tmp_path / "folder",))
    tab.until("spy.underWay === 4 && spy.news().startsWith('Sending 1 of 12')")
    tab.unfold()
    first, last = (tab.spy(f"rows()[{index}].querySelector('.name').textContent") for index in (0, 11))
    tab.row(first).locator(".cancel").click()  # it is being sent
    tab.row(last).locator(".cancel").click()  # it waits in the queue
    tab.page.route(RUNS, answer(400, "Refused."), times=1)
    gate.open()
    tab.until("document.querySelectorAll('#list [data-state=failed]').length === 1")
    tab.files.filter(has_text="Refused.").locator(".retry").click()
    tab.until("document.querySelectorAll('#list [data-state=done]').length === 10")
    expect(tab.files).to_have_count(10)
    assert_stored(tab.server, *(file for file in files if file.name not in (first, last)))


def test_no_private_name_of_dropzone() -> None:
    """The page's script uses what Dropzone's documentation names, and nothing that begins with an underscore."""
    page = (build.ROOT / "index.html").read_text(encoding="utf-8")
    script = page[page.rindex("<script>") :]
    assert "dropzone.uploadFiles = " in script
    assert re.findall(r"\._[A-Za-z]\w*|\.prototype\b|\[['\"]_", script) == []


def test_option_timeout(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """--timeout is how long nothing may move."""
    tab = visit(start_server(*SMALL_CHUNKS, "--timeout", "54000"))
    tab.page.clock.install()
    gate = Gate(tab.page, 0)
    tab.choose(make_file(tmp_path / "file.bin", CHUNK))
    tab.until("spy.underWay === 1")
    tab.page.clock.run_for(53_000)
    assert len(tab.spy("runs")) == tab.spy("underWay") == 1
    tab.page.clock.run_for(1_500)
    assert tab.spy("underWay") == 0
    gate.open()
    tab.page.clock.resume()
    tab.expect_done("file.bin")


# Runs


# Answers runs within the page. (To look at a long one from outside, the browser would have to hand all its bytes over.)
PRETEND = """
(() => {
  const {send} = XMLHttpRequest.prototype;
  let taken = 0;
  XMLHttpRequest.prototype.send = function (body) {
    const answer = (ANSWER)(body.size, taken);
    if (!answer) return send.call(this, body);
    const [status, text] = answer;
    if (status === 200) taken += body.size;
    spy.runs.push(Object.assign(this.run, {size: body.size, status}));
    Object.defineProperties(this, {status: {value: status}, responseText: {value: text}});
    setTimeout(() => this.onload(), 5);
  };
})()
"""


def test_runs_grow_with_the_speed(server: Server, visit: Visits, tmp_path: Path) -> None:
    """The first ones are one chunk. On a fast line they are soon as long as proxies allow, and never longer."""
    size = 4 * 1024 * MIB
    tab = visit(server, long_runs=True)
    known = f"{{name: 'huge.bin', uuid: '', size: {size}, created: 0, chunks: [], done: taken + size >= {size}}}"
    tab.page.evaluate(PRETEND.replace("ANSWER", f"(size, taken) => [200, JSON.stringify({{upload: {known}}})]"))
    tab.choose(make_sparse(tmp_path / "huge.bin", size))
    tab.expect_done("huge.bin")
    lengths = [run["size"] for run in tab.spy("runs")]
    assert lengths[:PARALLEL] == [MIB] * PARALLEL
    assert max(lengths) == 95 * MIB == pyfiledrop.MAX_RUN_BYTES
    assert sum(lengths) == size
    assert tab.acknowledged() == list(range(4 * 1024))


def test_proxy_that_takes_small_requests_only(server: Server, visit: Visits, tmp_path: Path) -> None:
    """A run that is too long for a proxy on the way comes again as shorter ones, down to one chunk."""
    tab = visit(server, long_runs=True)
    tab.page.evaluate(PRETEND.replace("ANSWER", f"(size) => size > {3 * MIB} && [413, '<h1>Too large']"))
    file = make_file(tmp_path / "file.bin", 50 * MIB)
    tab.choose(file)
    tab.expect_done("file.bin")
    assert_stored(server, file)
    assert 413 in {run["status"] for run in tab.spy("runs")}
    assert tab.acknowledged() == list(range(50))


# For everybody


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[1280, 390], ids=["wide", "narrow"])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def assert_accessible(page: Page, state: str) -> None:
    results = Axe().run(page)
    assert results.violations_count == 0, f"{state}: {results.generate_report()}"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{state}: wider than the window"


def test_axe_finds_nothing(start_server: StartServer, visit: Visits, tmp_path: Path, scheme: str, width: int) -> None:
    """In every state of the page, in either colour scheme, on a desk and in a hand."""
    visit.expect_complaints(REFUSED, "net::ERR_")
    tab = visit(
        start_server("-a", *SMALL_CHUNKS),
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        reduced_motion="reduce",  # axe would see colours on their way from one to the other
    )
    page = tab.page
    assert_accessible(page, "empty")

    tab.choose(make_file(tmp_path / f"A name that does not end soon {'x' * 120}.txt", 1000))
    page.wait_for_selector("#list [data-state=done]")
    assert_accessible(page, "done")
    page.click(".more summary")
    assert_accessible(page, "menu")
    page.click(".remove")
    assert_accessible(page, "asking")
    page.click(".keep")

    gate = Gate(page, 5)
    tab.choose(make_file(tmp_path / "sending.bin", 20 * CHUNK), make_file(tmp_path / "waiting.bin", 20 * CHUNK))
    page.wait_for_selector("#list [data-state=sending]")
    assert_accessible(page, "sending")
    page.route("**/uploads", lambda route: route.abort())
    page.route(RUNS, lambda route: route.abort())
    gate.open()
    page.wait_for_selector("#list [data-state=paused]")
    tab.choose(make_file(tmp_path / "also.bin", 20 * CHUNK))
    assert_accessible(page, "paused")

    page.unroute("**/uploads")
    page.route(RUNS, answer(409, "The server said so in one sentence."))
    page.evaluate("dispatchEvent(new Event('online'))")
    tab.expect_state("sending.bin", "failed")
    assert_accessible(page, "failed")
    page.unroute(RUNS)

    page.reload()
    expect(tab.files.filter(has_text="Choose it again to go on.")).not_to_have_count(0)
    assert_accessible(page, "list")
    drag(page, "dragEnter", "dragOver", files=(tmp_path / "sending.bin",))
    expect(page.locator("#overlay")).to_be_visible()
    assert_accessible(page, "dragged over")
    page.mouse.move(40, 600)
    page.click("#clear")
    assert_accessible(page, "question")
    page.click("#yes")
    expect(tab.notice).to_contain_text("cleared")
    assert_accessible(page, "cleared")


def test_axe_finds_nothing_in_the_plain_form(server: Server, visit: Visits, scheme: str, width: int) -> None:
    """Nor without Dropzone."""
    visit.expect_complaints("net::ERR_FAILED")
    context = visit.context(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    context.route("**/dropzone.js", lambda route: route.abort())
    tab = visit(server, context)
    expect(tab.page.locator("#plain")).to_be_visible()
    assert_accessible(tab.page, "plain form")


def test_keyboard_reaches_everything(tab: Tab, visit: Visits, tmp_path: Path) -> None:
    """Tab visits each control that can be seen, in the order of the page, and shows where it is."""
    visit.expect_complaints(REFUSED)
    page = tab.page
    tab.choose_content("done.txt", b"content")
    tab.expect_listed("done.txt")
    page.route(RUNS, answer(409, "Refused."))
    tab.choose_content("failed.txt", b"content")
    tab.expect_state("failed.txt", "failed")
    Gate(page, 0)
    tab.choose(make_file(tmp_path / "sending.bin", 3 * CHUNK))
    tab.expect_state("sending.bin", "sending")
    expected = page.evaluate(
        "[...document.querySelectorAll('input, button, a[href]')].filter((one) => one.checkVisibility())"
        ".map((one) => one.getAttribute('aria-label') ?? one.textContent)"
    )
    assert len(expected) == 12, expected
    page.evaluate("document.activeElement.blur()")
    page.mouse.click(5, 5)
    visited = []
    for _ in expected:
        page.keyboard.press("Tab")
        visited.append(
            page.evaluate(
                "(() => { const one = document.activeElement;"
                " const shown = one.type === 'file' ? document.querySelector(`label[for=${one.id}]`) : one;"
                " const label = one.getAttribute('aria-label') ?? one.textContent;"
                " return [label, getComputedStyle(shown).outlineStyle]; })()"
            )
        )
    assert visited == [[label, "solid"] for label in expected]


def test_keyboard_and_pointer_open_the_chooser(tab: Tab) -> None:
    """Enter on an input and a click anywhere in the area do the same."""
    tab.page.on("filechooser", lambda chooser: None)  # Chromium is told to report choosers, and the next call waits ...
    tab.page.evaluate("0")  # ... behind that: a key pressed before would open one that nobody hears of
    tab.page.locator("#qr-page").focus()
    tab.page.keyboard.press("Tab")
    expect(tab.page.locator("#file")).to_be_focused()
    with tab.page.expect_file_chooser() as chooser:
        tab.page.keyboard.press("Enter")
    assert chooser.value.is_multiple()
    with tab.page.expect_file_chooser():
        tab.page.mouse.click(400, 150)


def test_focus_stays_when_a_row_goes(tab: Tab) -> None:
    """Whoever removes with the keyboard is next to what was removed, not at the top of the page."""
    for name in ("one.txt", "two.txt"):
        tab.choose_content(name, b"content")
        tab.expect_done(name)
    tab.expect_listed("two.txt", "one.txt")
    tab.row("two.txt").locator(".more summary").press("Enter")
    tab.row("two.txt").locator(".remove").press("Enter")
    tab.row("two.txt").locator(".delete").press("Enter")
    tab.expect_listed("one.txt")
    expect(tab.row("one.txt").get_by_role("button").first).to_be_focused()


def test_focus_stays_when_a_button_goes(tab: Tab, tmp_path: Path) -> None:
    """Whoever stood on Cancel when the file arrived is on what may be wanted next."""
    gate = Gate(tab.page, 3)
    tab.choose(make_file(tmp_path / "file.bin", 5 * CHUNK))
    tab.row("file.bin").locator(".cancel").focus()
    gate.open()
    tab.expect_done("file.bin")
    expect(tab.row("file.bin").locator(".copy")).to_be_focused()


def test_trouble_of_the_servers_own(tab: Tab, visit: Visits) -> None:
    """Its sentence is shown, and not that it could not be reached."""
    visit.expect_complaints(REFUSED)
    tab.choose_content("file.txt", b"content")
    tab.expect_listed("file.txt")
    sentence = "The server's disk reported an error."
    refuse = answer(500, sentence)
    tab.page.route("**/uploads", lambda route: refuse(route) if route.request.method == "DELETE" else route.continue_())
    tab.page.click("#clear")
    tab.page.click("#yes")
    tab.expect_notice(sentence)
    tab.page.route("**/uploads/*", refuse)
    tab.remove("file.txt")
    tab.page.locator("#notice").evaluate("notice => { notice.textContent = ''; }")
    tab.row("file.txt").locator(".delete").click()
    tab.expect_notice(sentence)
    assert len(stored(tab.server, "file.txt")) == 1


# The README's picture


def png_width(image: bytes) -> int:
    """As the head of a PNG says."""
    assert image[12:16] == b"IHDR"
    return int.from_bytes(image[16:20], "big")


def test_screenshot(start_server: StartServer, visit: Visits, tmp_path: Path) -> None:
    """The README's pictures show this page, wide and on a phone at night: a file done, one on its way, one from before.

    They are taken anew by PYFILEDROP_SCREENSHOT=1 python -m pytest -k screenshot
    """
    look: dict[str, Any] = {
        "viewport": {"width": 1280, "height": 560},
        "timezone_id": "UTC",
        "reduced_motion": "reduce",
    }
    patient = ("--timeout", "86400000")  # the clock below makes a leap
    tab = visit(start_server("-a", "--title", "anna-laptop", "--chunk-size", str(2 * MIB), *patient), **look)
    page = tab.page
    created = {"Meeting notes.pdf": "2026-06-12T09:02Z", "Photos of the garden.zip": "2026-06-12T09:40Z"}

    def date(route: Route) -> None:
        if route.request.method != "GET":
            return route.continue_()
        answer = route.fetch()
        body = answer.json()
        for one in body["uploads"]:
            if moment := created.get(one["name"]):
                one["created"] = datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
        return route.fulfill(response=answer, json=body)

    page.route("**/uploads", date)
    tab.choose(make_sparse(tmp_path / "Meeting notes.pdf", 1_840_000))
    tab.expect_listed("Meeting notes.pdf")
    page.clock.install(time="2026-06-12T09:41:00Z")
    page.reload()
    tab.choose(make_sparse(tmp_path / "Photos of the garden.zip", 6_470_000))
    tab.expect_done("Photos of the garden.zip")

    # Chunks arrive while the page's clock stands, which then goes on by a round time.
    gate = Gate(page, 0)
    tab.choose(make_sparse(tmp_path / "Summer by the lake.mp4", 40 * MIB))
    tab.until("spy.underWay === 4")
    page.clock.pause_at("2026-06-12T09:45:00Z")
    acknowledged = len(tab.acknowledged())
    gate.let(13)
    tab.until(f"spy.runs.filter((run) => run.status === 200).length === {acknowledged + 13}")
    page.clock.fast_forward(2000)
    expect(tab.row("Summer by the lake.mp4").locator(".status")).to_have_text("65%")
    page.unroute("**/uploads")

    for kept, width in ((SCREENSHOT, 1280), (PHONE_SCREENSHOT, 390)):
        page.set_viewport_size({"width": width, "height": 590})
        page.emulate_media(color_scheme="dark" if kept == PHONE_SCREENSHOT else "light")
        image = page.screenshot()
        if os.environ.get("PYFILEDROP_SCREENSHOT"):
            kept.write_bytes(image)
        assert png_width(image) == png_width(kept.read_bytes()) == width
        assert kept.stat().st_size <= SCREENSHOT_BYTES
