"""Drops: files that were dropped together, with their folders; and how they are handed over, with codes for phones."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from conftest import (
    FORM,
    Response,
    Server,
    StartServer,
    chunk_request,
    exchange,
    multipart_body,
    request,
    run_request,
)
from storing import ALICE, BOB, RECORD, File, Folders, new_uuid

import pyfiledrop
from pyfiledrop import Forbidden, Store

CONTENT = b"dropped"


def wish_request(size: int = len(CONTENT), *, cookie: str = "", **facts: Any) -> bytes:
    """The request with which the page begins an upload, with folders and drop."""
    body = json.dumps({"name": "file.bin", "size": size, **facts}).encode()
    return request("POST", "/uploads", {"Content-Type": "application/json"}, body, cookie=cookie)


def begin(server: Server, *, cookie: str, size: int = len(CONTENT), **facts: Any) -> dict[str, Any]:
    answer = exchange(server, wish_request(size, cookie=cookie, **facts))
    assert answer.status in (200, 201), answer.text
    return dict(answer.json()["upload"])


def drop_file(server: Server, content: bytes = CONTENT, *, cookie: str, **facts: Any) -> dict[str, Any]:
    """A file that has arrived, as the page sends it."""
    uuid = begin(server, cookie=cookie, size=len(content), **facts)["uuid"]
    answer = exchange(server, run_request(content, uuid=uuid, cookie=cookie))
    assert answer.status == 200, answer.text
    return dict(answer.json()["upload"])


def assert_refused(answer: Response, status: int, code: str) -> None:
    assert (answer.status, answer.json()["code"]) == (status, code), answer.text


# Folders, and what was dropped together


def test_path_and_drop_come_back(shared_server: Server) -> None:
    """Whoever begins an upload says where the file lay and what it was dropped with, and is told so ever after."""
    cookie, drop = new_uuid(), new_uuid()
    file = drop_file(shared_server, cookie=cookie, path="Holiday/day 1", drop=drop)
    assert (file["path"], file["drop"], file["done"]) == ("Holiday/day 1", drop, True)
    other = drop_file(shared_server, b"", cookie=cookie)
    assert (other["path"], other["drop"]) == ("", None)
    listed = exchange(shared_server, request("GET", "/uploads", cookie=cookie)).json()["uploads"]
    assert [(upload["path"], upload["drop"]) for upload in listed] == [("", None), ("Holiday/day 1", drop)]
    stored = shared_server.storage / f"{file['uuid']}_file.bin"
    assert stored.read_bytes() == CONTENT, "on disk it lies where it always did"


@pytest.mark.parametrize("fields_first", [True, False], ids=["fields first", "file first"])
@pytest.mark.parametrize("path", ["Holiday/day1", "Holiday/day 1", "Отпуск/день 1"])
def test_path_and_drop_in_a_chunks_form(shared_server: Server, path: str, fields_first: bool) -> None:
    """In a form they are fields, in whatever order and whichever way it is read."""
    cookie, drop = new_uuid(), new_uuid()
    changes = {"path": path, "drop": drop}
    data = chunk_request(CONTENT, uuid=new_uuid(), cookie=cookie, changes=changes)
    if not fields_first:
        head, _, body = data.partition(b"\r\n\r\n")
        opening = body[: body.index(b"\r\n") + 2]
        *fields, file = body.split(opening)[1:]
        file, closing = file[: -len(opening) - 4], file[-len(opening) - 4 :]
        assert closing.endswith(b"--\r\n") and b"filename=" in file
        data = head + b"\r\n\r\n" + opening + file + b"\r\n" + opening + opening.join(fields)[:-2] + closing
    answer = exchange(shared_server, data)
    assert answer.status == 200, answer.text
    (file_said,) = answer.json()["files"]
    assert (file_said["path"], file_said["drop"], file_said["done"]) == (path, drop, True)


def test_path_and_drop_in_a_plain_form(shared_server: Server) -> None:
    """They hold for all whole files that come after them."""
    cookie, drop = new_uuid(), new_uuid()
    body = multipart_body({"path": "a/b", "drop": drop}, [("file", "1", b"1"), ("file", "2", b"2")])
    answer = exchange(shared_server, request("POST", "/upload", FORM, body, cookie=cookie))
    assert [(file["path"], file["drop"]) for file in answer.json()["files"]] == [("a/b", drop)] * 2


def test_an_upload_is_found_again_by_its_folder_too(folders: Folders, store: Store) -> None:
    """Files of one name, size and time in two folders are two files, announced or on record."""
    facts = "file.bin", 8, 1234, 4
    uuids = {path: store.announce(ALICE, *facts, path)[0].uuid for path in ("", "a", "a/b")}
    assert len(set(uuids.values())) == 3
    for uuid in uuids.values():
        File(b"aaaabbbb", uuid=uuid).run(store, range(1))
    for _ in range(2):
        for path, uuid in uuids.items():
            again, is_new = store.announce(ALICE, *facts, path)
            assert (again.uuid, again.path, is_new) == (uuid, path, False)
        store = folders.open()


@pytest.mark.parametrize("state", ["announced", "its only chunk on its way", "on record"])
def test_found_again_it_belongs_to_the_new_drop(folders: Folders, store: Store, state: str) -> None:
    """Who drops an unfinished file once more has it among what was dropped last, in whatever state it is."""
    size = 8 if state == "on record" else 4
    facts = (ALICE, "file.bin", size, 1, 4, "")
    first, second = new_uuid(), new_uuid()
    upload, _ = store.announce(*facts, first)
    file = File(b"aaaabbbb"[:size], uuid=upload.uuid)
    if state == "on record":
        file.run(store, range(1))
    if state == "its only chunk on its way":
        with file.begin_run(store, range(1)) as writer:
            writer.write(b"aaaa")
            again, is_new = store.announce(*facts, second)
            done = store.merge(writer)
    else:
        again, is_new = store.announce(*facts, second)
        done = file.run(store, range(file.count))
    assert (again.uuid, again.drop_uuid, is_new) == (upload.uuid, second, False)
    assert (done.drop_uuid, done.stored is not None) == (second, True)
    (listed,) = folders.open().uploads(ALICE)
    assert listed.drop_uuid == second


def test_found_again_without_a_drop_it_stays_in_its_own(store: Store) -> None:
    """A client that knows nothing of drops takes nothing out of one."""
    drop = new_uuid()
    store.announce(ALICE, "file.bin", 8, 1, 4, "", drop)
    assert store.announce(ALICE, "file.bin", 8, 1, 4)[0].drop_uuid == drop


def test_without_a_cookie_there_is_no_drop(shared_server: Server) -> None:
    """Its owner could not be told from somebody who was given the link. The file itself is taken."""
    answer = exchange(shared_server, wish_request(drop=new_uuid(), path="a"))
    assert (answer.status, answer.json()["upload"]["drop"], answer.json()["upload"]["path"]) == (201, None, "a")


@pytest.mark.parametrize(
    "how", ["while it goes on", "after a restart", "when its files are gone", "when they are forgotten"]
)
def test_row_67_drop_of_somebody_else(folders: Folders, store: Store, how: str) -> None:
    """A drop is its first owner's for ever: nobody else puts files under its link, in any way."""
    drop = new_uuid()
    with store.begin_whole(ALICE, "file.bin", 4, "", drop) as writer:
        writer.write(b"aaaa")
        done = store.merge(writer)
    match how:
        case "after a restart":
            store = folders.open()
        case "when its files are gone":
            store.remove(ALICE, done.uuid)
            store = folders.open()
        case "when they are forgotten":
            store.forget(ALICE)
            store = folders.open()
    uuid = new_uuid()
    chunk = pyfiledrop.Chunk(uuid, 0, 1, 4, 4, None, "", drop)
    for call in (
        lambda: store.announce(BOB, "file.bin", 4, 1, 4, "", drop),
        lambda: store.begin(BOB, chunk, "file.bin"),
        lambda: store.begin_whole(BOB, "file.bin", 4, "", drop),
    ):
        with pytest.raises(Forbidden):
            call()
    assert store.announce(ALICE, "file.bin", 4, 1, 4, "", drop)[0].drop_uuid == drop
    with store.begin(BOB, pyfiledrop.Chunk(uuid, 0, 1, 4, 4), "file.bin") as writer:
        writer.write(b"bbbb")
        assert store.merge(writer).drop_uuid is None, "the refusal left nothing behind"


def test_row_67_drop_of_somebody_else_over_the_socket(shared_server: Server) -> None:
    """403 with a code, whichever way the file comes, and nothing is stored; a drop that is no UUID is 400."""
    alice, bob, drop = new_uuid(), new_uuid(), new_uuid()
    begin(shared_server, cookie=alice, drop=drop)
    before = sorted(path.name for path in shared_server.storage.iterdir())
    body = multipart_body({"drop": drop}, [("file", "1", b"1")])
    for data in (
        wish_request(cookie=bob, drop=drop),
        chunk_request(CONTENT, uuid=new_uuid(), cookie=bob, changes={"drop": drop}),
        request("POST", "/upload", FORM, body, cookie=bob),
    ):
        assert_refused(exchange(shared_server, data), 403, "other-drop")
    for wrong in ("../x", drop[:-1], f"{drop}\n", "{" + drop + "}"):
        assert_refused(exchange(shared_server, wish_request(cookie=bob, drop=wrong)), 400, "malformed")
    assert sorted(path.name for path in shared_server.storage.iterdir()) == before


def test_latest_drops_are_remembered_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose a drop is is looked up once, not at each of its files; and only so many are remembered."""
    monkeypatch.setattr(pyfiledrop, "MAX_ANNOUNCED", 2)
    asked: list[str] = []
    look_up = store.record.owner_of_drop
    monkeypatch.setattr(store.record, "owner_of_drop", lambda drop: asked.append(drop) or look_up(drop))
    drops = [new_uuid() for _ in range(3)]
    for drop in drops:
        for name in ("a", "b", "c"):
            store.announce(ALICE, name, 4, 1, 4, "", drop)
    assert asked == drops
    assert len(store._drops) == 2


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc", "etc"), ("/etc/passwd", "etc/passwd"), (r"C:\Users\anna", "C_/Users/anna"),
        ("a/./b/../c", "a/b/c"), (".ssh", "_.ssh"),
        ("a\u202eb/\u200b/c\r\nd", "ab/cd"), ("CON/aux.txt", "_CON/_aux.txt"), ("..", ""), ("", ""),
    ],
)  # fmt: skip
def test_row_68_folders_that_lead_elsewhere(shared_server: Server, sent: str, kept: str) -> None:
    """Folders are made harmless like names; nothing is refused for them but their length."""
    assert begin(shared_server, cookie=new_uuid(), path=sent)["path"] == kept


def test_row_68_folders_without_end(shared_server: Server) -> None:
    """1,024 characters are taken, in any script and in a form too; more are 400."""
    longest = "/".join(["отпуск"] * 147)[:1024]
    assert begin(shared_server, cookie=new_uuid(), path=longest)["path"] == longest
    data = chunk_request(CONTENT, uuid=new_uuid(), changes={"path": longest})
    assert exchange(shared_server, data).json()["files"][0]["path"] == longest
    for data in (
        wish_request(path="a" * 1025),
        chunk_request(CONTENT, uuid=new_uuid(), changes={"path": "a" * 1025}),
    ):
        answer = exchange(shared_server, data)
        assert_refused(answer, 400, "path-too-long")
        assert answer.json()["values"] == {"limit": 1024}


@pytest.mark.parametrize("version", [2, 3])
def test_record_of_an_older_version(folders: Folders, store: Store, version: int) -> None:
    """What it knows is taken along, and from then on it is as if it were new."""
    done = File(b"aaaa", name="done.txt")
    done.send(store)
    unfinished = File(b"aaaabbbb").announced(store)
    unfinished.run(store, range(1))
    folders.close()

    def schema() -> set[tuple[str, ...]]:
        with sqlite3.connect(folders.storage / RECORD) as db:
            rows = db.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
            columns = db.execute("SELECT name FROM pragma_table_info('uploads')").fetchall()
        db.close()
        return {*rows, *columns}

    new = schema()
    with sqlite3.connect(folders.storage / RECORD) as db:
        for statement in (
            *("DROP TRIGGER drop_has_an_owner", "DROP TRIGGER oldest_drop_is_forgotten", "DROP TABLE drops"),
            *("DROP INDEX uploads_of_a_drop", "DROP INDEX uploads_of_an_owner"),
            *("ALTER TABLE uploads DROP COLUMN path", "ALTER TABLE uploads DROP COLUMN drop_uuid"),
            "CREATE INDEX uploads_of_a_drop ON uploads (owner, id) WHERE owner IS NOT NULL",
            f"PRAGMA user_version = {version}",
        ):
            db.execute(statement)
    db.close()
    assert schema() != new
    store = folders.open()
    assert [(upload.name, upload.path, upload.drop_uuid) for upload in store.uploads(ALICE)] == [
        ("file.bin", "", None), ("done.txt", "", None),
    ]  # fmt: skip
    drop = new_uuid()
    assert store.announce(ALICE, "file.bin", 8, None, 4, "", drop)[0].uuid == unfinished.uuid
    assert unfinished.run(store, range(1, 2)).drop_uuid == drop
    folders.close()
    assert schema() == new


# What the page is told of the machine


def settings_of(server: Server) -> tuple[str, dict[str, Any]]:
    """The page, and the block of settings in it."""
    page = exchange(server, request("GET", "/", {"Accept": "text/html"})).text
    match = re.search(r'id="settings">(.*?)</script>', page)
    assert match
    return page, json.loads(match[1])


def test_title(start_server: StartServer) -> None:
    """The page says to whom files are dropped: the computer, or whoever was named."""
    page, settings = settings_of(start_server())
    assert settings["title"] and f"<title>Drop files to {settings['title']}</title>" in page
    page, settings = settings_of(start_server("--title", "Anna's <laptop> & more"))
    assert settings["title"] == "Anna's <laptop> & more"
    for tag in ("title", "h1"):
        assert f"<{tag}>Drop files to Anna&#x27;s &lt;laptop&gt; &amp; more</{tag}>" in page


@pytest.mark.parametrize("title", ["", " ", "a\r\nSet-Cookie: a=b", "a\x1b[31m", "\u202eannA", "a" * 101])
def test_row_69_title_that_is_none(capsys: pytest.CaptureFixture[str], title: str) -> None:
    """One sentence at the start: what could end a header or a line, or is too long, is no title."""
    with pytest.raises(SystemExit) as caught:
        pyfiledrop.Settings.parse(["--title", title])
    sentence = capsys.readouterr().err
    assert caught.value.code == 2 and sentence.count("\n") == 1 and sentence[:-1].isprintable()


def test_row_69_title_that_is_markup(start_server: StartServer) -> None:
    """It is text wherever it stands, and ends no block."""
    title = "</title></script><script>alert(1)</script>\\1"
    page, settings = settings_of(start_server("--title", title))
    assert settings["title"] == title and "<script>alert" not in page


def test_free_space(start_server: StartServer) -> None:
    """Page and list say how many bytes a new file may have: what the disk has left, or what --max-total leaves."""
    server = start_server("--max-total", "1")
    free = exchange(server, request("GET", "/uploads")).json()["free"]
    assert free == settings_of(server)[1]["free"] == (1 << 20) - pyfiledrop.ENTRY_BYTES
    drop_file(server, cookie=new_uuid())
    left = exchange(server, request("GET", "/uploads")).json()["free"]
    assert left == free - len(CONTENT) - pyfiledrop.ENTRY_BYTES


def test_free_space_that_nobody_knows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not say keeps nobody from the page."""

    def fail() -> int:
        raise OSError

    monkeypatch.setattr(store._engine, "free", fail)
    assert store.free() is None
    monkeypatch.setattr(store._engine, "free", lambda: 0)
    store._space.promises.make(new_uuid(), 10, 100, 10)
    assert store.free() == 0, "no debts are told"


# Codes for phones


def code(server: Server, link: str, host: str = "127.0.0.1") -> Response:
    return exchange(server, request("GET", f"/qr?link={quote(link, safe='')}", {"Host": host}))


def test_code_is_an_image(shared_server: Server) -> None:
    """An SVG of black squares on white, which the page shows like any image."""
    answer = code(shared_server, "http://127.0.0.1/drops/x")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/svg+xml")
    image = ElementTree.fromstring(answer.body)
    assert image.tag == "{http://www.w3.org/2000/svg}svg" and image.get("viewBox") and not image.get("width")
    assert [path.get("fill") or path.get("stroke") for path in image] == ["#fff", "#000"]
    assert code(shared_server, "http://127.0.0.1/drops/y").body != answer.body


def test_code_leads_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone that reads a loopback address would look for the server on itself."""
    assert pyfiledrop.link_for_code("http://localhost:1/x", "LOCALHOST:1", "10.0.0.1") == "http://10.0.0.1:1/x"


@pytest.mark.parametrize(
    ("link", "host"),
    [
        ("javascript:alert(1)", "127.0.0.1"), ("JavaScript://127.0.0.1/%0aalert(1)", "127.0.0.1"),
        ("data:text/html,x", "127.0.0.1"), ("ftp://127.0.0.1/", "127.0.0.1"), ("//127.0.0.1/", "127.0.0.1"),
        ("/drops/x", "127.0.0.1"), ("", "127.0.0.1"), ("http://evil.example/", "127.0.0.1"),
        ("http://127.0.0.1@evil.example/", "127.0.0.1"), ("http://evil.example#127.0.0.1", "127.0.0.1"),
        ("http://127.0.0.1\\@evil.example/", "127.0.0.1"), ("http://127.0.0.1:81/", "127.0.0.1"),
        ("http://127.0.0.1/", "127.0.0.1:81"), ("http://127.0.0.1/a b", "127.0.0.1"),
        ("http://127.0.0.1/\r\n", "127.0.0.1"), ("http://127.0.0.1/ü", "127.0.0.1"),
        ("http://127.0.0.1/" + "a" * 984, "127.0.0.1"), (" http://127.0.0.1/", "127.0.0.1"),
    ],
)  # fmt: skip
def test_row_70_code_of_somebody_elses_address(shared_server: Server, link: str, host: str) -> None:
    """A code is made for addresses of this very server only: nobody's phone is led elsewhere in its name."""
    answer = code(shared_server, link, host)
    assert_refused(answer, 400, "other-link")
    assert "evil" not in answer.text


def test_row_70_longest_code(shared_server: Server) -> None:
    """1,000 characters are taken."""
    assert code(shared_server, "http://127.0.0.1/" + "a" * 983).status == 200


def test_code_without_a_host(shared_server: Server) -> None:
    """An old program that names no host has no address that could be checked."""
    answer = exchange(shared_server, b"GET /qr?link=http:/// HTTP/1.0\r\nAccept: application/json\r\n\r\n")
    assert_refused(answer, 400, "other-link")
