"""Drops: files that were dropped together, with their folders; and how they are handed over, with codes for phones."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import socket
import sqlite3
import stat
import sys
import time
import tracemalloc
import zipfile
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from conftest import (
    FORM,
    PASSWORD,
    Connection,
    Response,
    Server,
    StartServer,
    basic,
    chunk_request,
    exchange,
    multipart_body,
    request,
    run_request,
    running,
    wait_until,
)
from playwright.sync_api import Browser, expect
from storing import ALICE, BOB, RECORD, File, Folders, new_uuid

import pyfiledrop
from pyfiledrop import Forbidden, Store

CONTENT = b"dropped"
MIB = 1 << 20


def wish_request(size: int = len(CONTENT), *, cookie: str = "", **facts: Any) -> bytes:
    """The request with which the page begins an upload, with folders and drop."""
    body = json.dumps({"name": "file.bin", "size": size, **facts}).encode()
    return request("POST", "/uploads", {"Content-Type": "application/json"}, body, cookie=cookie)


def begin(server: Server, *, cookie: str, size: int = len(CONTENT), **facts: Any) -> dict[str, Any]:
    answer = exchange(server, wish_request(size, cookie=cookie, **facts))
    assert answer.status in (200, 201), answer.text
    return dict(answer.json()["upload"])


def drop_file(
    server: Server, content: bytes = CONTENT, *, cookie: str, chunks: int = 1, **facts: Any
) -> dict[str, Any]:
    """A file that has arrived, as the page sends it."""
    uuid = begin(server, cookie=cookie, size=len(content), **facts)["uuid"]
    answer = exchange(server, run_request(content, 0, chunks, uuid=uuid, cookie=cookie))
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


@pytest.mark.parametrize(
    ("host", "network", "held"),
    [
        ("0.0.0.0", "10.0.0.1", "http://10.0.0.1:1/x"),
        ("::", "10.0.0.1", "http://10.0.0.1:1/x"),
        ("0.0.0.0", None, "http://localhost:1/x"),
        ("127.0.0.1", "10.0.0.1", "http://localhost:1/x"),
    ],
)
def test_code_leads_to_the_network(monkeypatch: pytest.MonkeyPatch, host: str, network: str | None, held: str) -> None:
    """A phone that reads a loopback address would look for the server on itself; if it listens there, it is found."""
    nothing: Any = None
    monkeypatch.setattr(pyfiledrop, "lan_address", lambda: network)
    door = pyfiledrop.Door(None, SimpleNamespace(secret=lambda: b""))  # type: ignore[arg-type]
    app = pyfiledrop.make_app(pyfiledrop.Settings(host=host), nothing, door)
    environ = pyfiledrop.parse_head(b"GET /qr?link=http://localhost:1/x HTTP/1.1\r\nHost: localhost:1")
    environ |= {"wsgi.url_scheme": "http", "wsgi.input": None, "REMOTE_ADDR": "127.0.0.1"}
    assert b"".join(app.wsgi(environ, lambda status, headers, *more: None)) == pyfiledrop.render_code(held)


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


# A drop's page, and everything as one ZIP


def archive_of(server: Server, drop: str, **headers: str) -> zipfile.ZipFile:
    """A drop's ZIP, which says its length and keeps it; zipfile reads it, and finds every checksum right."""
    answer = exchange(server, request("GET", f"/drops/{drop}.zip", headers))
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip"), answer.text
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    archive = zipfile.ZipFile(io.BytesIO(answer.body))
    assert archive.testzip() is None
    return archive


def browser_request(target: str, **headers: str) -> bytes:
    """How a browser opens a link."""
    return request("GET", target, {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", **headers})


def test_drop_for_scripts(shared_server: Server) -> None:
    """Its finished files in the order in which they came, with all that is said of an upload elsewhere."""
    cookie, drop = new_uuid(), new_uuid()
    files = [drop_file(shared_server, b"x" * n, cookie=cookie, drop=drop, path="a" * n, name=f"{n}") for n in range(3)]
    unfinished = begin(shared_server, cookie=cookie, drop=drop, name="unfinished", size=2 * MIB)
    first = run_request(bytes(2 * MIB), uuid=unfinished["uuid"], cookie=cookie)
    assert exchange(shared_server, first).json()["upload"]["received"] == MIB
    answer = exchange(shared_server, request("GET", f"/drops/{drop.upper()}"))
    progress = {"chunk_size", "chunk_count", "chunks"}
    assert answer.json()["drop"] == {
        "uuid": drop, "link": f"drops/{drop}", "zip": f"drops/{drop}.zip", "count": 3, "size": 3, "next": None,
        "files": [{key: value for key, value in file.items() if key not in progress} for file in files],
    }  # fmt: skip


def test_drop_for_people(start_server: StartServer) -> None:
    """A page without a script: who it is from, each file with its size and link, and one link for all."""
    server, cookie, drop = start_server("-a", "--title", "Anna & Bob"), new_uuid(), new_uuid()
    file = drop_file(server, cookie=cookie, drop=drop, path="Holiday", name="<b>$root.txt")
    answer = exchange(server, browser_request(f"/drops/{drop}"))
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert (
        "<h1>1 file from Anna &amp; Bob</h1>" in answer.text
        and "<title>1 file from Anna &amp; Bob</title>" in answer.text
    )
    assert f'<a href="../download/{file["uuid"]}">Holiday/&lt;b&gt;$root.txt</a> <small>7 bytes</small>' in answer.text
    assert f'href="../drops/{drop}.zip"' in answer.text and "<script" not in answer.text
    plain = exchange(server, request("GET", f"/drops/{drop}", {"Accept": "*/*"})).text
    assert f"http://127.0.0.1/download/{file['uuid']}" in plain and f"http://127.0.0.1/drops/{drop}.zip" in plain
    assert exchange(server, request("HEAD", f"/drops/{drop}")).status == 200


def test_drop_in_pages(launch: StartServer) -> None:
    """A drop of many files is told a part at a time, to people too; as a ZIP it is whole, until there are too many."""
    server = launch("FILES_A_PAGE=2,MAX_ARCHIVE_FILES=4", "-a")
    cookie, drop = new_uuid(), new_uuid()
    for number in range(4):
        drop_file(server, cookie=cookie, drop=drop, name=str(number))
    names, target = [], f"/drops/{drop}"
    for _ in range(3):
        said = exchange(server, request("GET", target)).json()["drop"]
        assert (said["count"], said["size"]) == (4, 4 * len(CONTENT))
        names += [file["name"] for file in said["files"]]
        page = exchange(server, browser_request(target)).text
        assert page.count("<li>") == len(said["files"])
        if said["next"] is None:
            break
        target = f"/drops/{drop}?after={said['next']}"
        assert f'href="..{target}"' in page
    assert names == ["0", "1", "2", "3"] and "More files" not in page
    assert archive_of(server, drop).namelist() == names
    drop_file(server, cookie=cookie, drop=drop)
    answer = exchange(server, request("GET", f"/drops/{drop}.zip"))
    assert_refused(answer, 413, "too-many-files")
    assert exchange(server, request("GET", f"/drops/{drop}?after=x")).status == 400


def test_drop_as_a_zip(start_server: StartServer) -> None:
    """The folders inside are those that were dropped; names and times too; nothing is compressed."""
    server, cookie, drop = start_server("-a", "--title", "Anna/Bob"), new_uuid(), new_uuid()
    when = 1_600_000_000_000
    contents = {"top.txt": b"", "Отпуск/день 1/фото.jpg": random.randbytes(700_000), "Отпуск/b.txt": b"b"}
    for name, content in contents.items():
        path, _, last = name.rpartition("/")
        drop_file(server, content, cookie=cookie, drop=drop, path=path, name=last, modified=when)
    archive = archive_of(server, drop)
    assert {name: archive.read(name) for name in archive.namelist()} == contents
    for info in archive.infolist():
        assert info.compress_type == zipfile.ZIP_STORED
        assert info.date_time == time.localtime(when / 1000)[:6]
        assert info.external_attr >> 16 == stat.S_IFREG | 0o644
    answer = exchange(server, request("HEAD", f"/drops/{drop}.zip"))
    assert (answer.status, answer.body, answer.headers["Accept-Ranges"]) == (200, b"", "none")
    assert int(answer.headers["Content-Length"]) > 700_000
    assert answer.headers["Content-Disposition"] == 'attachment; filename="3 files from Anna Bob.zip"'
    ranged = exchange(server, request("GET", f"/drops/{drop}.zip", {"Range": "bytes=5-"}))
    assert ranged.status == 200, "the whole is an answer to every range (RFC 9110, 14.2)"


@pytest.mark.parametrize("modified", [None, -(10**14), 10**14, 315532800000 - 86_400_000 * 2])
def test_times_that_a_zip_cannot_say(shared_server: Server, modified: int | None) -> None:
    """Before 1980 and after 2107 there are none: then it is the first. A file without a time has that of its coming."""
    cookie, drop = new_uuid(), new_uuid()
    drop_file(shared_server, cookie=cookie, drop=drop, modified=modified)
    (info,) = archive_of(shared_server, drop).infolist()
    assert info.date_time[0] == (time.localtime().tm_year if modified is None else 1980)


def test_row_71_drops_that_are_not_given(start_server: StartServer) -> None:
    """Without -a nothing is; under no other address is anything; and once its files are gone the drop is, too."""
    server, cookie, drop = start_server(), new_uuid(), new_uuid()
    file = drop_file(server, cookie=cookie, drop=drop)
    for target in (f"/drops/{drop}", f"/drops/{drop}.zip", f"/drops/{new_uuid()}"):
        assert_refused(exchange(server, request("GET", target)), 403, "downloads-off")
    server.restart("-a")
    for target in (new_uuid(), drop[:-1], f"{drop}0", "x", "", f"{drop}/", f"%2e%2e/{drop}", "-" * 36, file["uuid"]):
        for kind in ("", ".zip"):
            assert exchange(server, request("GET", f"/drops/{target}{kind}")).status == 404, target
    begun = new_uuid()
    begin(server, cookie=cookie, drop=begun)
    assert exchange(server, request("GET", f"/drops/{begun}")).status == 404, "nothing of it is in"
    second = drop_file(server, cookie=cookie, drop=drop, name="second")
    (server.storage / f"{file['uuid']}_file.bin").unlink()
    assert [entry["name"] for entry in exchange(server, request("GET", f"/drops/{drop}")).json()["drop"]["files"]] == [
        "second"
    ]
    assert archive_of(server, drop).namelist() == ["second"]
    exchange(server, request("DELETE", f"/uploads/{second['uuid']}", cookie=cookie))
    for target in (f"/drops/{drop}", f"/drops/{drop}.zip"):
        assert_refused(exchange(server, request("GET", target)), 404, "not-here")


def test_row_71_link_of_a_drop_is_to_read_it(shared_server: Server) -> None:
    """Whoever has it can fetch all, and neither remove nor add; forgetting the list leaves the link as it is."""
    alice, bob, drop = new_uuid(), new_uuid(), new_uuid()
    file = drop_file(shared_server, cookie=alice, drop=drop)
    assert exchange(shared_server, request("DELETE", f"/uploads/{file['uuid']}", cookie=bob)).status == 404
    assert exchange(shared_server, request("DELETE", f"/drops/{drop}", cookie=bob)).status == 405
    assert exchange(shared_server, wish_request(cookie=bob, drop=drop)).status == 403
    exchange(shared_server, request("DELETE", "/uploads", cookie=alice))
    assert archive_of(shared_server, drop).read("file.bin") == CONTENT


def test_row_71_password_of_a_drop(start_server: StartServer) -> None:
    """A drop is behind the password like a file's link, and like that in front of it with --public-links."""
    server, drop = start_server("-a", env={"PYFILEDROP_PASSWORD": PASSWORD}), new_uuid()
    body = multipart_body({"drop": drop}, [("file", "a", b"1")])
    answer = exchange(server, request("POST", "/upload", {**FORM, **basic(PASSWORD)}, body, cookie=new_uuid()))
    assert answer.json()["files"][0]["drop"] == drop
    targets = (f"/drops/{drop}", f"/drops/{drop}.zip", "/qr?link=http://127.0.0.1/")
    assert [exchange(server, request("GET", target)).status for target in targets] == [401, 401, 401]
    assert [exchange(server, request("GET", target, basic(PASSWORD))).status for target in targets] == [200, 200, 200]
    server.restart("--public-links")
    assert [exchange(server, request("GET", target)).status for target in targets] == [200, 200, 401]


SLIPPERY = [
    "../../etc/passwd",
    "/etc/passwd",
    r"..\..\evil.bat",
    "C:evil",
    "..",
    "CON",
    "a\x00b"[:1],
    ".bashrc",
    "a/b/c",
]


def test_row_72_names_inside_a_zip(shared_server: Server) -> None:
    """None leads out of the folder where the ZIP is unpacked, on any system, and none hides another."""
    cookie, drop = new_uuid(), new_uuid()
    for name in SLIPPERY:
        drop_file(shared_server, cookie=cookie, drop=drop, name=name, path="../..")
    for name, path in (("same", ""), ("same", ""), ("Same", ""), ("d", ""), ("x", "D"), ("x", "d"), ("n", "same/d")):
        drop_file(shared_server, cookie=cookie, drop=drop, name=name, path=path)
    names = archive_of(shared_server, drop).namelist()
    assert len(names) == len(SLIPPERY) + 7
    assert len({name.casefold() for name in names}) == len(names)
    folders = {name[: slash.start()].casefold() for name in names for slash in re.finditer("/", name)}
    assert not folders & {name.casefold() for name in names}
    for name in names:
        assert not name.startswith("/") and "\\" not in name and ":" not in name
        assert not {"", ".", ".."} & set(name.split("/")) and not name.upper().startswith("CON")


def memory(server: Server) -> int:
    """Bytes that the server has in memory."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.proc.pid}/status").read_text())
    assert match
    return int(match[1]) << 10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="its memory is read from /proc")
def test_row_73_zip_of_many_files(shared_server: Server) -> None:
    """10,000 files: what the server holds of them does not grow with their bytes, whoever reads how slowly."""
    cookie, drop = new_uuid(), new_uuid()
    with Connection(shared_server) as connection:
        for part in range(200):
            files = [("file", f"{part}-{n}.txt", b"%d" % n) for n in range(50)]
            connection.send(request("POST", "/upload", FORM, multipart_body({"drop": drop}, files), cookie=cookie))
            assert connection.receive().status == 201
    length = int(exchange(shared_server, request("HEAD", f"/drops/{drop}.zip")).headers["Content-Length"])
    before = memory(shared_server)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(Connection(shared_server)) for _ in range(3)]
        for connection in slow:
            connection.send(request("GET", f"/drops/{drop}.zip"))
        archive = archive_of(shared_server, drop)
        assert len(archive.namelist()) == 10_000 and archive.read("199-49.txt") == b"49"
    assert length > 10_000 * 100
    assert memory(shared_server) - before < 64 * MIB  # four archives; with 40 it failed on Python 3.10


def test_row_73_zips_that_nobody_reads(launch: StartServer) -> None:
    """So many files may be on their way in all ZIPs together. More are 503, until a reader has gone."""
    server = launch("MAX_FILES_IN_ARCHIVES=3", "-a")
    cookie, drop = new_uuid(), new_uuid()
    for number in range(2):
        drop_file(server, bytes(16 * MIB), chunks=16, cookie=cookie, drop=drop, name=str(number))
    for _ in range(5):
        assert exchange(server, request("HEAD", f"/drops/{drop}.zip")).status == 200
    with Connection(server) as connection:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.send(request("GET", f"/drops/{drop}.zip"))
        assert connection.sock.recv(12) == b"HTTP/1.1 200"
        assert_refused(exchange(server, request("GET", f"/drops/{drop}.zip")), 503, "busy")
    wait_until(lambda: exchange(server, request("HEAD", f"/drops/{drop}.zip")).status == 200)


def test_row_73_zips_that_are_asked_for_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is still being made counts already: else many would take their memory before the first is counted."""
    drop = new_uuid()
    with store.begin_whole(ALICE, "file.bin", len(CONTENT), "", drop) as writer:
        writer.write(CONTENT)
        store.merge(writer)
    app = pyfiledrop.make_app(pyfiledrop.Settings(allow_downloads=True), store, pyfiledrop.Door(None, store.record))
    monkeypatch.setattr(pyfiledrop, "MAX_FILES_IN_ARCHIVES", 1)
    statuses: list[str] = []

    def ask() -> None:
        environ = pyfiledrop.parse_head(f"GET /drops/{drop}.zip HTTP/1.1\r\nHost: localhost".encode())
        environ |= {"wsgi.url_scheme": "http", "wsgi.input": None, "wsgi.file_wrapper": lambda result: result}
        result = app.wsgi(environ, lambda status, headers, *more: statuses.append(status[:3]))
        if hasattr(result, "close"):
            result.close()

    make = pyfiledrop.archive_entries

    def make_while_another_asks(*facts: Any) -> Any:
        monkeypatch.setattr(pyfiledrop, "archive_entries", make)
        ask()
        return make(*facts)

    monkeypatch.setattr(pyfiledrop, "archive_entries", make_while_another_asks)
    ask()
    assert statuses == ["503", "200"]


def test_row_73_folders_with_very_long_names(launch: StartServer) -> None:
    """They count for more than a file in a ZIP, and end the part of a list early: an answer stays small. Each is listed
    all the same."""
    server, cookie, drop = launch("MAX_ARCHIVE_FILES=30", "-a"), new_uuid(), new_uuid()
    path = "/".join(["\U0001f6b6" * 50] * 20)
    names = [str(number) for number in range(30)]
    for name in names:
        drop_file(server, cookie=cookie, drop=drop, path=path, name=name)
    for target, mark in (("/uploads", "before"), (f"/drops/{drop}", "after")):
        listed, following = [], ""
        while following is not None:
            answer = exchange(server, request("GET", target + following, cookie=cookie))
            assert len(answer.body) < 100_000
            said = answer.json()
            said = said.get("drop", said)
            listed += [file["name"] for file in said.get("files", said.get("uploads"))]
            following = said["next"] and f"?{mark}={said['next']}"
        assert sorted(listed, key=int) == names
    assert_refused(exchange(server, request("GET", f"/drops/{drop}.zip")), 413, "too-many-files")


@pytest.mark.parametrize("how", ["removed", "shorter"])
def test_row_74_file_that_goes_while_it_is_sent(start_server: StartServer, how: str) -> None:
    """The ZIP ends too early for its length, so that nobody takes it for whole; the server serves on."""
    server, cookie, drop = start_server("-a"), new_uuid(), new_uuid()
    drop_file(server, bytes(1 << 20), cookie=cookie, drop=drop, name="first")  # each is a chunk, which one run brings
    last = None
    for number in range(20):
        last = drop_file(server, bytes(1 << 20), cookie=cookie, drop=drop, name=str(number))
    assert last
    with Connection(server) as connection:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.send(request("GET", f"/drops/{drop}.zip"))
        head = connection.sock.recv(100)
        assert head.startswith(b"HTTP/1.1 200")
        if how == "removed":
            assert exchange(server, request("DELETE", f"/uploads/{last['uuid']}", cookie=cookie)).status == 200
        else:
            os.truncate(server.storage / f"{last['uuid']}_19", 1000)
        count = len(head)
        while data := connection.sock.recv(1 << 20):
            count += len(data)
    assert count < 21 << 20
    assert "Traceback" not in server.log()
    assert exchange(server, request("GET", "/")).status == 200


@pytest.mark.parametrize(
    "sizes",
    [[], [0], [1, 2, 3], [0] * 300, [(1 << 31) - 1], [1 << 31], [2_045_222_521], [2_045_222_520], [1 << 33, 1, 5]],
)
def test_length_of_a_zip(sizes: list[int]) -> None:
    """The length that is announced is the one that zipfile writes, also where it needs its extension for large ones."""
    names = [f"{'ü' * (n % 3)}{n}" for n in range(len(sizes))]

    class Counter:
        """Counts what it is given, and takes zeros for content without their being written."""

        count = 0

        def write(self, data: bytes) -> int:
            self.count += len(data)
            return len(data)

        def flush(self) -> None: ...

    sink: Any = Counter()
    zeros = bytes(1 << 24)
    with zipfile.ZipFile(sink, "w") as archive:
        for name, size in zip(names, sizes, strict=True):
            info = zipfile.ZipInfo(name)
            info.file_size = size
            with archive.open(info, "w") as target:
                for start in range(0, size, len(zeros)):
                    target.write(zeros[: size - start])
    assert sink.count == pyfiledrop.archive_bytes(zip(names, sizes, strict=True))


def test_large_file_in_a_zip() -> None:
    """Where a file has 2 GiB, its archive is written with the extension for that, and is as long as was said."""

    class Zeros(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    content = pyfiledrop.Content(Zeros(), 1 << 31, 0.0, "")  # type: ignore[arg-type]
    store: Any = SimpleNamespace(open=lambda uuid: (None, content))
    blocks = pyfiledrop.archive_blocks(store, [pyfiledrop.ArchiveEntry("a/b", new_uuid(), 1 << 31, 0)])
    assert sum(map(len, blocks)) == pyfiledrop.archive_bytes([("a/b", 1 << 31)])


def test_length_of_a_zip_of_very_many_files() -> None:
    """At 65,536 files the extension begins; at 65,535 it does not yet."""
    step = [pyfiledrop.archive_bytes([("a", 0)] * count) for count in (65_534, 65_535, 65_536)]
    assert (step[1] - step[0], step[2] - step[1]) == (94, 94 + 76)


def test_many_files_of_one_name() -> None:
    """Each gets its number at once, not after a look at all before it; numbers that are taken are left out."""
    names = pyfiledrop.archive_names([("a", "x (2).txt"), *[("a", "x.txt")] * 20_000])
    assert names[:4] == ["a/x (2).txt", "a/x.txt", "a/x (3).txt", "a/x (4).txt"] and names[-1] == "a/x (20001).txt"


def test_many_files_of_one_name_in_other_cases() -> None:
    """Those are numbered together: with a count for each way to write it, 100,000 took twenty minutes."""
    files = [("", f"{number:016b}".translate({48: "a", 49: "A"})) for number in range(60_000)]
    names = pyfiledrop.archive_names(files)
    assert names[0] == "a" * 16 and names[-1].endswith(" (60000)")
    assert len({name.casefold() for name in names}) == len(names)


def test_row_73_many_folders_within_each_other() -> None:
    """What an archive's names take in memory grows with the paths, not with all the folders on their way."""
    files = [(f"{number}/" + "/".join("a" * 500), "file") for number in range(100)]
    tracemalloc.start()
    try:
        names = pyfiledrop.archive_names([*files, ("", "99"), ("7/A", "a"), ("7/a", "ab")])
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert names[-3:] == ["99 (2)", "7/A/a (2)", "7/a/ab"]


# A page of one's own


TUTORIAL = """<!doctype html>
<html lang="en">
<head>
<meta charset="UTF-8">
<link rel="stylesheet" href="https://cdnjs.cloudflare.com/ajax/libs/dropzone/5.7.0/min/dropzone.min.css"/>
<script type="application/javascript"
 src="https://cdnjs.cloudflare.com/ajax/libs/dropzone/5.7.0/min/dropzone.min.js"></script>
<title>pyfiledrop</title>
</head>
<body>
<div id="content" style="width: 800px; margin: 0 auto;">
<h2>Upload new files</h2>
<form method="POST" action='/upload' class="dropzone dz-clickable" id="dropper" enctype="multipart/form-data"></form>
<h2>Uploaded <input type="button" value="Clear" onclick="clearAll()" /></h2>
<div id="uploaded"></div>
<script type="application/javascript">
function clearAll() { document.getElementById("uploaded").innerHTML = "cleared"; }
Dropzone.options.dropper = {
  paramName: 'file', chunking: true, forceChunking: true,
  parallelChunkUploads: true, url: '/upload', chunkSize: 1000000,
  init: function () {
    this.on("complete", function (file) {
      document.getElementById("uploaded").innerHTML +=
        `<a href="/download/${file.upload.uuid}" style="color: rgb(1, 2, 3)">${file.upload.filename}</a>`;
    });
  }
}
</script>
</div>
</body>
</html>
"""
#: What stands for Dropzone 5.7: it sends a file as that does, in one chunk.
DROPZONE_5 = """
window.Dropzone = { options: {} };
addEventListener('DOMContentLoaded', async () => {
  const options = Dropzone.options.dropper, uuid = '%s', handlers = {};
  options.init.call({ on: (name, handler) => { handlers[name] = handler; } });
  const form = new FormData();
  const fields = { dzuuid: uuid, dzchunkindex: 0, dztotalfilesize: 3, dzchunksize: options.chunkSize,
    dztotalchunkcount: 1, dzchunkbyteoffset: 0 };
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append(options.paramName, new Blob(['abc']), 'a.txt');
  await fetch(options.url, { method: 'POST', body: form });
  handlers.complete({ upload: { uuid, filename: 'a.txt' } });
});
"""


def test_tutorials_page_works(browser: Browser, tmp_path: Path) -> None:
    """A page as tutorials have it, beside the script: script and style from a CDN, code inline and in an attribute."""
    script = tmp_path / "pyfiledrop.py"
    shutil.copy(pyfiledrop.__file__, script)
    (tmp_path / "index.html").write_text(TUTORIAL, "utf-8")
    uuid, complaints = new_uuid(), list[str]()
    with running([sys.executable, str(script)], tmp_path, "-a") as server, closing(browser.new_context()) as context:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        cdn = "https://cdnjs.cloudflare.com/ajax/libs/dropzone/5.7.0/min/"
        page.route(
            f"{cdn}dropzone.min.js", lambda route: route.fulfill(body=DROPZONE_5 % uuid, content_type="text/javascript")
        )
        page.route(
            f"{cdn}dropzone.min.css",
            lambda route: route.fulfill(body="h2 { color: rgb(4, 5, 6) }", content_type="text/css"),
        )
        page.goto(server.url)
        link = page.locator("#uploaded a")
        expect(link).to_have_text("a.txt")
        expect(link).to_have_css("color", "rgb(1, 2, 3)")
        expect(page.locator("#content")).to_have_css("width", "800px")
        expect(page.locator("h2").first).to_have_css("color", "rgb(4, 5, 6)")
        assert exchange(server, request("GET", f"/download/{uuid}")).body == b"abc"
        page.locator("input[type=button]").click()
        expect(page.locator("#uploaded")).to_have_text("cleared")
        later = "<img id=evil src=dropzone.css onerror=this.title=1>"
        page.evaluate("markup => document.body.insertAdjacentHTML('beforeend', markup)", later)
        foreign = (
            "document.head.append(Object.assign(document.createElement('script'), { src: 'https://evil.example/' }))"
        )
        with page.expect_console_message(lambda message: "evil.example" in message.text):
            page.evaluate(foreign)
        page.wait_for_function("document.getElementById('evil').complete")
        expect(page.locator("#evil")).not_to_have_attribute("title", "1")
    assert len([text for text in complaints if "Content Security Policy" in text]) == 2, complaints


# Pages for browsers without a script


def test_form_is_answered_with_a_page(shared_server: Server) -> None:
    """Who sends the plain form in a browser gets a page with links, in the page's colours."""
    body = multipart_body({}, [("file", "<b>.txt", b"12345"), ("file", "b.txt", b"")])
    kind = {**FORM, "Accept": "text/html,*/*;q=0.8"}
    answer = exchange(shared_server, request("POST", "/upload", kind, body))
    assert (answer.status, answer.headers["Content-Type"]) == (201, "text/html; charset=utf-8")
    first, second = re.findall(r'<a href="\./(download/[^"]+)">(.*?)</a>', answer.text)
    assert (first[1], second[1]) == ("&lt;b&gt;.txt", "b.txt") and "<h1>2 files received</h1>" in answer.text
    assert exchange(shared_server, request("GET", f"/{first[0]}")).body == b"12345"
    assert 'class="button" href="./">Drop more</a>' in answer.text


def test_errors_are_pages_for_browsers(shared_server: Server) -> None:
    """With the sentence, and the way to the page from wherever one is."""
    for target, root in (("/nothing", "./"), (f"/download/{new_uuid()}", "../"), ("/a/b/c", "../../")):
        answer = exchange(shared_server, browser_request(target))
        assert (answer.status, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
        assert f"<h1>{pyfiledrop.NotFound.sentence}</h1>" in answer.text and f'<a href="{root}">' in answer.text


def test_policy_of_plain_pages(shared_server: Server, guarded: Server) -> None:
    """They run no script and load nothing but the icon; the one style is known by its hash."""
    style = base64.b64encode(hashlib.sha256(pyfiledrop.LOOK.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{style}'; img-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    )
    for answer in (
        exchange(shared_server, browser_request("/nothing")),
        exchange(guarded, browser_request("/")),
        exchange(guarded, browser_request(f"/drops/{new_uuid()}")),
    ):
        assert answer.headers.get_all("Content-Security-Policy") == [policy]
        assert f"<style>{pyfiledrop.LOOK}</style>" in answer.text and "<script" not in answer.text


def test_link_behind_the_password(start_server: StartServer) -> None:
    """In a browser the password is asked for on that very page, and signing in leads on to the file."""
    server = start_server("-a", env={"PYFILEDROP_PASSWORD": PASSWORD})
    file = exchange(server, request("PUT", "/upload/x", basic(PASSWORD), b"kept")).json()["files"][0]
    answer = exchange(server, browser_request(f"/{file['link']}"))
    assert answer.status == 401 and "WWW-Authenticate" not in answer.headers
    assert '<form action="../" method="post">' in answer.text and f'name="link" value="{file["link"]}"' in answer.text
    body = f"password={quote(PASSWORD, safe='')}&link={quote(file['link'], safe='')}".encode()
    answer = exchange(server, request("POST", "/", {"Accept": "text/html"}, body))
    assert (answer.status, answer.headers["Location"]) == (303, f"./{file['link']}")
    session = (answer.headers.get_all("Set-Cookie") or [""])[0].partition(";")[0]
    assert exchange(server, browser_request(f"/{file['link']}", Cookie=session)).body == b"kept"
    wrong = exchange(server, request("POST", "/", {"Accept": "text/html"}, body.replace(b"password=", b"password=x")))
    assert "That is not the password." in wrong.text and f'value="{file["link"]}"' in wrong.text


@pytest.mark.parametrize(
    "link",
    [
        "//evil.example",
        "https://evil.example/",
        "/drops/x",
        "drops/../..",
        "javascript:alert(1)",
        "a\r\nX: y",
        '"><script>',
    ],
)
def test_row_75_sign_in_leads_nowhere_else(start_server: StartServer, link: str) -> None:
    """A form on another site could name any address; only those of files and drops are followed, or shown again."""
    server = start_server("-a", env={"PYFILEDROP_PASSWORD": PASSWORD})
    body = f"link={quote(link, safe='')}&password=".encode()
    right = exchange(server, request("POST", "/", {"Accept": "text/html"}, body + quote(PASSWORD, safe="").encode()))
    assert (right.status, right.headers["Location"], right.headers["X"]) == (303, "./", None)
    wrong = exchange(server, request("POST", "/", {"Accept": "text/html"}, body + b"x"))
    assert 'name="link" value=""' in wrong.text
