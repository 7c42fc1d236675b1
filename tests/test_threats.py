"""Bad input, faults and abuse, row by row of the table of threats: what comes, over a socket, and what it gets.

After each refusal the answer is one fixed sentence, finished files and acknowledged chunks are as they were, nothing is
left over, the log has one line, and the server goes on; `refused` looks at all of that. The rows' numbers are in the
tests' names. Rows that are missing here are the main job, or about the password, the log or the command line, or need
faults that nobody can make over a socket: their tests are at home there, and have the numbers in their names as well.
"""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import (
    BOUNDARY,
    DROP_COOKIE,
    FORM,
    Connection,
    Response,
    Server,
    StartServer,
    announce,
    announce_request,
    chunk_fields,
    chunk_request,
    exchange,
    multipart_body,
    request,
    run_request,
    running,
    upload,
    wait_until,
)
from loading import needs_proc, usage
from storing import new_uuid

import pyfiledrop

#: Stands for something of the client's own in a request; no answer may depend on it.
MARK = "mArK"
SOME = "0b5e55ed-0000-4000-8000-0123456789ab"  # a UUID
CONTENT = b"0123456789"
ROOT = str(Path(__file__).resolve().parent.parent)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder but the record: names, and the bytes of files."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        if not path.name.startswith(".pyfiledrop."):
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else None
    return found


def log_lines(server: Server) -> list[str]:
    return server.log().splitlines()


def written_sentences() -> re.Pattern[str]:
    """The texts that stand in the program; a number or a size may be filled in, nothing else."""
    patterns = set()
    for node in ast.walk(ast.parse(Path(pyfiledrop.__file__).read_text("utf-8"))):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        if all(isinstance(part, ast.FormattedValue | ast.Constant) for part in parts):
            texts = [
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[0-9.]+( [KMGTP]B| bytes?)?"
                for part in parts
            ]
            patterns.add("".join(texts))
    return re.compile("|".join(sorted(patterns)))


SENTENCES = written_sentences()


def assert_fixed_sentence(server: Server, answer: Response) -> None:
    """One sentence of the server's own: no path, no trace, no markup, nothing that the client sent."""
    text = answer.json()["error"] if answer.headers["Content-Type"] == "application/json" else answer.text.rstrip("\n")
    assert re.fullmatch(r"[A-Z][^<>\n]*\.", text) and SENTENCES.fullmatch(text), text
    for part in (MARK, str(server.storage), str(server.chunks), ROOT, "Traceback", "Error", "File ", ".py", "errno"):
        assert part not in answer.text, text


def refused(server: Server, data: bytes, *statuses: int, closed: bool = False) -> Response:
    """Send these bytes, which must be refused with one of these statuses and change nothing; return the answer."""
    before = tree(server.storage), tree(server.chunks)
    begin, end = (f"/uploads?{random.getrandbits(64)}" for _ in range(2))  # between the lines of these is ours
    exchange(server, request("GET", begin))
    with Connection(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(data)
        answer = connection.receive(head=data.startswith(b"HEAD "))
        assert not closed or connection.closed(), "the connection must not be used any further"
    assert answer.status in statuses, answer
    assert_fixed_sentence(server, answer)
    assert exchange(server, request("GET", end)).status == 200
    mine = f" {answer.status} in="

    def log_since() -> str:
        return server.log().partition(f"GET {begin} ")[2].partition("\n")[2]

    wait_until(lambda: f"GET {end} " in log_since() and mine in log_since())
    told = log_since().splitlines()
    assert [mine in line for line in told].count(True) == 1, told
    assert all(re.search(r" 127\.0\.0\.1 \S+ \S+ \d{3} in=\d+ out=\d+ ", line) for line in told), told
    assert (tree(server.storage), tree(server.chunks)) == before
    return answer


def chunk(**changes: str | None) -> bytes:
    """The second of three chunks of a file, with these fields changed; the name carries the mark."""
    return chunk_request(CONTENT, 1, uuid=new_uuid(), name=f"{MARK}.bin", chunk_size=4, changes=changes)


def form(*parts: bytes, end: bytes = b"--\r\n", boundary: str = BOUNDARY, **headers: str) -> bytes:
    """A form of these parts, each from its head's first byte to its content's last."""
    opening = f"--{boundary}".encode()
    body = b"".join(opening + b"\r\n" + part + b"\r\n" for part in parts) + opening + end
    return request("POST", "/upload", {**FORM, **headers}, body)


def field(name: str, value: str | bytes) -> bytes:
    """A part that is a field."""
    value = value.encode() if isinstance(value, str) else value
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value


def fields(size: int = len(CONTENT), index: int = 1, chunk_size: int = 4) -> list[bytes]:
    """The six parts that say which chunk it is."""
    described = chunk_fields(size, index, uuid=new_uuid(), chunk_size=chunk_size)
    return [field(name, value) for name, value in described.items()]


def file(content: bytes, name: str | bytes = f"{MARK}.bin", more: bytes = b"") -> bytes:
    """A part that is a file."""
    name = name.encode() if isinstance(name, str) else name
    return b'Content-Disposition: form-data; name="file"; filename="' + name + b'"\r\n' + more + b"\r\n" + content


# 1 to 8: fields and names


@pytest.mark.parametrize(
    "uuid",
    [
        "../../../etc/passwd", "..", "/etc", f"/{SOME}", f"\\{SOME}", f"{{{SOME}}}", f"urn:uuid:{SOME}", f"{SOME}\n",
        f"\n{SOME}", f"{SOME} ", f"{SOME}/", f"{SOME}\0", SOME.replace("-", ""), "", "*", SOME[:-1] + "٣",
        SOME[:-1] + "ａ", SOME[:-1] + "g", SOME + SOME, MARK,
    ],
)  # fmt: skip
def test_row_1_uuid_that_is_none(shared_server: Server, uuid: str) -> None:
    """A dzuuid that is not in the canonical form is 400."""
    refused(shared_server, chunk(dzuuid=uuid), 400)


@pytest.mark.parametrize(
    "uuid", ["..", "%2e%2e", f"{SOME}%0a", f"%7b{SOME}%7d", SOME.replace("-", ""), SOME[:-1], "x" * 4000]
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_row_1_uuid_in_an_address(shared_server: Server, method: str, uuid: str) -> None:
    """So it is in an address."""
    run = ("/0", b"x") if method == "PUT" else ("", None)
    refused(shared_server, request(method, f"/uploads/{uuid}{run[0]}", body=run[1]), 400, 404)


def test_row_1_either_case_is_the_same_upload(shared_server: Server) -> None:
    """The canonical form in capitals is the same UUID."""
    uuid = new_uuid()
    for index, name in enumerate((uuid, uuid.upper(), uuid)):
        assert exchange(shared_server, chunk_request(CONTENT, index, uuid=name, chunk_size=4)).status == 200
    assert [p.read_bytes() for p in shared_server.storage.glob(f"{uuid}_*")] == [CONTENT]


HOSTILE_NAMES = [
    ("../../../../tmp/evil.txt", "evil.txt"),
    ("..\\..\\evil.txt", "evil.txt"),
    ("/etc/passwd", "passwd"),
    ("C:\\Windows\\evil.dll", "evil.dll"),
    ("C:evil.txt", "C_evil.txt"),
    ("evil.txt:stream", "evil.txt_stream"),
    ("evil.txt::$DATA", "evil.txt__$DATA"),
    ("..", "file"),
    (".", "file"),
    ("", "file"),
    ("...", "file"),
    ("CON", "_CON"),
    ("NUL.txt", "_NUL.txt"),
    ("name. ", "name"),
    ("name.txt...", "name.txt"),
    (".ssh", "_.ssh"),
    (".pyfiledrop.sqlite3", "_.pyfiledrop.sqlite3"),
    ("a\x01\x1b[31mb\x7f\x85.txt", "a[31mb.txt"),
    ("a\u202egpj.exe", "agpj.exe"),
    ("a\u2066b\u2069.txt", "ab.txt"),
    ("отче\u0308т.pdf", "отчёт.pdf"),
    ("測試.txt", "測試.txt"),
]  # fmt: skip


@pytest.mark.parametrize("way", ["chunk", "chunk, file first", "form", "form of two", "body", "run"])
@pytest.mark.parametrize("hidden", ["\u200b", "\U000e0041\U000e007f", "\ufffe", "\u00ad", "\u2060", "\u3164"])
def test_row_63_invisible_characters_in_a_name(shared_server: Server, hidden: str, way: str) -> None:
    """What cannot be seen and is not needed is taken out of a name, in whatever way it comes; joiners stay."""
    sent, shown = f"{hidden}in{hidden}voice 👩\u200d🚀.pdf{hidden}", "invoice 👩\u200d🚀.pdf"
    described = [field(name, value) for name, value in chunk_fields(1, 0, uuid=new_uuid(), chunk_size=1).items()]
    data = {
        "chunk": form(*described, file(b"x", sent)),
        "chunk, file first": form(file(b"x", sent), *described),
        "form": form(file(b"x", sent)),
        "form of two": form(file(b"x", sent), file(b"x", sent)),
        "body": request("PUT", f"/upload/{quote(sent)}", body=b"x"),
        "run": run_request(b"x", uuid=announce(shared_server, 1, name=sent)["uuid"]) if way == "run" else b"",
    }[way]
    answer = exchange(shared_server, data).json()
    for told in [answer["upload"]] if way == "run" else answer["files"]:
        assert told["name"] == shown
        assert [path.name[37:] for path in shared_server.storage.glob(f"{told['uuid']}_*")] == [shown]
        header = exchange(shared_server, request("GET", f"/{told['link']}")).headers["Content-Disposition"]
        assert header.endswith(f"''{quote(shown)}")


@pytest.mark.parametrize("way", ["form", "body", "run"])
@pytest.mark.parametrize("character", ["x", "é", "測", "😀"])
def test_row_44_longest_name(shared_server: Server, character: str, way: str) -> None:
    """A name is shown with at most 255 bytes of UTF-8, cut between characters, its suffix kept."""
    name = 1024 * character + ".txt"
    if way == "run":
        told = announce(shared_server, 1, name=name[-600:])
        assert 255 - 4 < len(told["name"].encode()) <= 255 and told["name"].endswith(".txt")
        return
    body = form(file(b"x", name)) if way == "form" else request("PUT", f"/upload/{quote(name[-600:])}", body=b"x")
    (told,) = exchange(shared_server, body).json()["files"]
    assert 255 - 4 < len(told["name"].encode()) <= 255
    assert re.fullmatch(f"{character}+\\.txt", told["name"])


@pytest.mark.parametrize(("name", "on_disk"), HOSTILE_NAMES)
def test_row_2_6_7_names_are_made_harmless(shared_server: Server, name: str, on_disk: str) -> None:
    """Whatever a file is called, it is stored right in storage, under a harmless last component; never refused."""
    before = set(tree(shared_server.storage))
    file = upload(shared_server, CONTENT, name=name, chunk_size=4)
    assert set(tree(shared_server.storage)) - before == {f"{file['uuid']}_{on_disk}"}
    assert tree(shared_server.chunks) == {}
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", file["name"])


@pytest.mark.parametrize(
    "target", ["/upload/..%2f..%2fevil", "/upload/%5c%5chost%5cevil", "/upload/../../evil", "/upload//evil"]
)
def test_row_2_names_in_an_address(shared_server: Server, target: str) -> None:
    """A path in the address of a whole file ends in its last component too."""
    answer = exchange(shared_server, request("PUT", target, body=b"x"))
    assert answer.status == 201
    (path,) = shared_server.storage.glob(f"{answer.json()['files'][0]['uuid']}_*")
    assert path.name.endswith("_evil")


@pytest.mark.parametrize(
    "name", [b"a\xffb.txt", b"a\xed\xa0\x80b.txt", b"\xc0\xae\xc0\xae/x", b"a\xf4\x90\x80\x80.txt"]
)
def test_row_7_names_that_are_not_utf_8(shared_server: Server, name: bytes) -> None:
    """Bytes that are no text, a lone surrogate among them, are refused or removed, never stored or a fault."""
    before = tree(shared_server.storage)
    answer = exchange(shared_server, form(file(CONTENT, name)))
    if answer.status == 400:
        assert tree(shared_server.storage) == before
        assert_fixed_sentence(shared_server, answer)
    else:
        assert answer.status == 201
        (described,) = answer.json()["files"]
        (path,) = shared_server.storage.glob(f"{described['uuid']}_*")
        path.name.encode()
    assert "Traceback" not in shared_server.log()


NOT_NUMBERS = ["x", "-1", "1_0", "+1", " 1", "1\n", "01", "9" * 900, "٣", "１", "", "1.0", "NaN", "0x1", MARK]


NUMBERS = ("dzchunkindex", "dztotalfilesize", "dzchunksize", "dztotalchunkcount", "dzchunkbyteoffset", "modified")


@pytest.mark.parametrize(
    ("name", "value"),
    [pair for pair in itertools.product(NUMBERS, NOT_NUMBERS) if pair != ("modified", "-1")],  # it may be before 1970
)
def test_row_3_numbers_that_are_none(shared_server: Server, name: str, value: str) -> None:
    """A number that is text, signed, grouped, spaced, endless or in other digits is 400."""
    refused(shared_server, chunk(**{name: value}), 400)


def test_row_3_number_of_5000_digits(shared_server: Server) -> None:
    """A number that costs time to read is refused by its length."""
    refused(shared_server, chunk(dzchunkindex="9" * 5000), 400, 413)


@pytest.mark.parametrize("index", ["3", "4", "99999", "999999999999999"])
def test_row_3_index_beyond_the_count(shared_server: Server, index: str) -> None:
    """A chunk that the file does not have is 400, also at the place it would have."""
    refused(shared_server, chunk(dzchunkindex=index, dzchunkbyteoffset=str(int(index) * 4)[:15]), 400)


@pytest.mark.parametrize("name", [*chunk_fields(1, 0, uuid="", chunk_size=1), "modified", "other"])
def test_row_4_nul_in_a_field(shared_server: Server, name: str) -> None:
    """A NUL in any field is 400."""
    refused(shared_server, chunk(**{name: "1\0"}), 400)


@pytest.mark.parametrize("part", [file(CONTENT, "a\0b.txt"), field("a\0b", "x")], ids=["file", "field"])
def test_row_4_nul_in_a_name(shared_server: Server, part: bytes) -> None:
    """So it is in the name of a field and of a file."""
    refused(shared_server, form(part, file(b"x")), 400)


@pytest.mark.parametrize("name", ["x" * 255, "x" * 1000 + ".jpg", "é" * 300 + ".jpg", "😀" * 200 + ".tar.gz"])
def test_row_5_long_names(shared_server: Server, name: str) -> None:
    """A name that does not fit behind its UUID is shortened between characters, its suffix kept."""
    described = upload(shared_server, CONTENT, name=name)
    (path,) = shared_server.storage.glob(f"{described['uuid']}_*")
    assert len(os.fsencode(path.name)) <= 255
    assert path.suffix == os.path.splitext(name)[1] and set(path.stem[37:]) <= set(name)


@pytest.mark.parametrize(
    "name", ['a"\r\nSet-Cookie: x=1\r\n\r\n<b>.html', "a\r\nb.txt", "é\r\n.txt", 'quote".txt', "a;b=c.txt"]
)
def test_row_8_names_that_would_break_a_header(shared_server: Server, name: str) -> None:
    """At download there is one Content-Disposition and not one header more than usual."""
    answer = exchange(shared_server, request("PUT", f"/upload/{quote(name, safe='')}", body=b"x"))
    download = exchange(shared_server, request("GET", f"/{answer.json()['files'][0]['link']}"))
    assert (download.status, download.body) == (200, b"x")
    (disposition,) = download.headers.get_all("Content-Disposition") or []
    assert re.fullmatch(r"attachment; filename=\"[ -!#-\[\]-~]+\"(; filename\*=UTF-8''[A-Za-z0-9%._~-]+)?", disposition)
    assert "Set-Cookie" not in download.headers


# 9 to 14: browsers and strangers


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.xhtml", "x.js", "x.pdf"])
def test_row_9_html_that_was_uploaded(shared_server: Server, name: str) -> None:
    """What a browser might run comes as an attachment of no type, sandboxed, and is not sniffed."""
    link = upload(shared_server, b"<script>alert(1)</script>", name=name)["link"]
    for headers in ({}, {"Range": "bytes=0-10"}, {"Accept": "text/html"}):
        answer = exchange(shared_server, request("GET", f"/{link}", headers)).headers
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["Content-Disposition"].startswith("attachment;")
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert (
            "sandbox" in answer["Content-Security-Policy"] and "default-src 'none'" in answer["Content-Security-Policy"]
        )


def test_row_10_markup_in_a_name(shared_server: Server) -> None:
    """A name that is HTML reaches the page as JSON or plain text, never as HTML."""
    name, drop = "<img src=x onerror=alert(1)>.txt", new_uuid()
    upload(shared_server, CONTENT, name=name, cookie=drop)
    answer = exchange(shared_server, request("GET", "/uploads", cookie=drop))
    assert answer.json()["uploads"][0]["name"] == name and answer.headers["Content-Type"] == "application/json"
    answer = exchange(shared_server, request("GET", "/uploads", {"Accept": "text/html"}, cookie=drop))
    assert name in answer.text and answer.headers["Content-Type"].startswith("text/plain")


def test_row_10_policy_of_the_page(shared_server: Server) -> None:
    """The page runs no script but its own: nothing inline without a hash, no eval, no foreign address."""
    policy = exchange(shared_server, request("GET", "/")).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe|\*|https?:(?!//cdnjs)", policy)


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "https://127.0.0.1.evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_row_11_page_of_another_site(shared_server: Server, headers: dict[str, str]) -> None:
    """A foreign page may neither upload nor delete: 403."""
    uuid, drop = new_uuid(), new_uuid()
    exchange(shared_server, chunk_request(CONTENT, 0, uuid=uuid, chunk_size=4, cookie=drop))
    refused(shared_server, chunk_request(CONTENT, 1, uuid=uuid, chunk_size=4, cookie=drop, headers=headers), 403)
    refused(shared_server, chunk_request(CONTENT, 0, uuid=new_uuid(), chunk_size=4, headers=headers), 403)
    refused(shared_server, request("PUT", f"/upload/{MARK}", headers, b"x", cookie=drop), 403)
    refused(shared_server, announce_request(10, name=MARK, cookie=drop, headers=headers), 403)
    refused(shared_server, run_request(CONTENT, 1, uuid=uuid, chunk_size=4, cookie=drop, headers=headers), 403)
    refused(shared_server, request("DELETE", f"/uploads/{uuid}", headers, cookie=drop), 403)
    refused(shared_server, request("DELETE", "/uploads", headers, cookie=drop), 403)
    assert exchange(shared_server, request("DELETE", f"/uploads/{uuid}", cookie=drop)).status == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://127.0.0.1"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}],
    ids=str,
)
def test_row_11_our_own_page_and_curl(shared_server: Server, headers: dict[str, str]) -> None:
    """Our own page may, and so may a program that sends neither header."""
    assert exchange(shared_server, chunk_request(CONTENT, uuid=new_uuid(), headers=headers)).status == 200


def test_row_12_clickjacking(shared_server: Server) -> None:
    """No other page can frame ours."""
    assert "frame-ancestors 'none'" in exchange(shared_server, request("GET", "/")).headers["Content-Security-Policy"]


def test_row_13_guessing_a_link(shared_server: Server) -> None:
    """A guess, a part of a UUID, a pattern and an unfinished upload are all 404, and alike."""
    done, unfinished = upload(shared_server, CONTENT)["uuid"], new_uuid()
    exchange(shared_server, chunk_request(CONTENT, 0, uuid=unfinished, chunk_size=4))
    answers = set()
    for guess in (
        new_uuid(), done[:-1], done[:8], done + "0", done + "_file.bin", "*", done[:-1] + "%2a", unfinished,
        "..%2f" + done, done + "/", ".pyfiledrop.sqlite3", "..%2f.pyfiledrop.sqlite3", done + "%0a", "", "%252e%252e",
    ):  # fmt: skip
        answers.add(refused(shared_server, request("GET", f"/download/{guess}"), 404).body)
    assert len(answers) == 1
    exchange(shared_server, request("DELETE", f"/uploads/{unfinished}"))


def test_row_14_strangers(shared_server: Server) -> None:
    """Another drop's upload is 404, in the words of one that does not exist; more in test_http.py."""
    uuid, drop = new_uuid(), new_uuid()
    exchange(shared_server, chunk_request(CONTENT, 0, uuid=uuid, chunk_size=4, cookie=drop))
    for name in (uuid, new_uuid()):
        refused(shared_server, request("GET", f"/uploads/{name}", cookie=new_uuid()), 404)
        refused(shared_server, request("DELETE", f"/uploads/{name}", cookie=new_uuid()), 404)
    refused(shared_server, chunk_request(CONTENT, 1, uuid=uuid, chunk_size=4, cookie=new_uuid()), 404)
    announced = announce(shared_server, 10, name="announced", cookie=drop)["uuid"]
    for name in (uuid, announced, new_uuid()):
        refused(shared_server, run_request(CONTENT, 1, 2, uuid=name, chunk_size=4, cookie=new_uuid()), 404)
    for name in (uuid, announced):
        assert exchange(shared_server, request("DELETE", f"/uploads/{name}", cookie=drop)).status == 200


# 15 to 20: chunks that contradict, and forms that are odd


@pytest.fixture
def begun(shared_server: Server) -> Iterator[str]:
    """The UUID of an upload of CONTENT in chunks of four of which the first is in; removed afterwards."""
    uuid = new_uuid()
    assert exchange(shared_server, chunk_request(CONTENT, 0, uuid=uuid, chunk_size=4)).status == 200
    yield uuid
    answer = exchange(shared_server, request("GET", f"/uploads/{uuid}")).json()["upload"]
    assert (answer["chunks"], answer["received"]) == ([[0, 0]], 4), "what was acknowledged has changed"
    for index in (1, 2):
        assert exchange(shared_server, chunk_request(CONTENT, index, uuid=uuid, chunk_size=4)).status == 200
    assert [path.read_bytes() for path in shared_server.storage.glob(f"{uuid}_*")] == [CONTENT]


@pytest.mark.parametrize("size", [9, 11, 12])
def test_row_15_another_total_size(shared_server: Server, begun: str, size: int) -> None:
    """A chunk of a file of another size is 409, though it would fit."""
    data = chunk_request(bytes(size), 1, uuid=begun, chunk_size=4, name="file.bin")
    refused(shared_server, data, 409)


def test_row_15_another_chunk_size(shared_server: Server, begun: str) -> None:
    """A chunk of another size, and with that another count, is 409."""
    for chunk_size in (3, 5, 10):
        refused(shared_server, chunk_request(CONTENT, 0, uuid=begun, chunk_size=chunk_size), 409)


@pytest.mark.parametrize("name", [MARK, "file.bin2", "File.bin", "", "x/file.bin"])
def test_row_15_another_name(shared_server: Server, begun: str, name: str) -> None:
    """A chunk of a file of another name is 409."""
    refused(shared_server, chunk_request(CONTENT, 1, uuid=begun, chunk_size=4, name=name), 409)


def test_row_15_after_the_end(shared_server: Server) -> None:
    """A finished file cannot be overwritten by another of its UUID: 409."""
    uuid = upload(shared_server, CONTENT)["uuid"]
    refused(shared_server, chunk_request(b"other", uuid=uuid), 409)
    refused(shared_server, chunk_request(b"other68901", uuid=uuid, name=MARK), 409)
    refused(shared_server, chunk_request(b"9876543210", 0, uuid=uuid, chunk_size=5), 409)


@pytest.mark.parametrize("length", [0, 1, 3, 5, 8, 10, 1000, 100_000])
def test_row_16_chunk_longer_or_shorter_than_it_must_be(shared_server: Server, begun: str, length: int) -> None:
    """A chunk in the middle with any other number of bytes is refused and not merged."""
    data = chunk_request(CONTENT, 1, uuid=begun, chunk_size=4, data=bytes(length))
    for _ in range(2):
        assert exchange(shared_server, data).status in (400, 413)
    assert_fixed_sentence(shared_server, exchange(shared_server, data))


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 100_000])
def test_row_16_last_chunk_longer_or_shorter(shared_server: Server, begun: str, length: int) -> None:
    """So is the last chunk, which must be the rest of the file exactly."""
    answer = exchange(shared_server, chunk_request(CONTENT, 2, uuid=begun, chunk_size=4, data=bytes(length)))
    assert answer.status in (400, 413)


@pytest.mark.parametrize("first", [value for value in NOT_NUMBERS if "/" not in value])
def test_row_3_first_chunk_that_is_none(shared_server: Server, begun: str, first: str) -> None:
    """A run whose first chunk is text, signed, grouped, spaced, endless or in other digits is 400, or no address."""
    refused(shared_server, request("PUT", f"/uploads/{begun}/{quote(first, safe='')}", body=CONTENT[4:]), 400, 404, 405)


def test_row_3_first_chunk_of_5000_digits(shared_server: Server, begun: str) -> None:
    """As any other address that is no use."""
    refused(shared_server, request("PUT", f"/uploads/{begun}/{'9' * 5000}", body=CONTENT[4:]), 400)
    refused(shared_server, request("PUT", f"/uploads/{begun}/{'9' * 15}", body=CONTENT[4:]), 400)


@pytest.mark.parametrize(
    ("first", "length"),
    [(1, 0), (1, 3), (1, 5), (1, 7), (1, 10), (0, 0), (0, 9), (0, 11), (2, 0), (2, 1), (2, 3), (2, 4), (3, 0), (3, 4),
     (1, 100_000), (9, 2)],
)  # fmt: skip
def test_row_16_run_that_ends_within_a_chunk(shared_server: Server, begun: str, first: int, length: int) -> None:
    """Or behind the file's end, or begins there: 400 before its body is read."""
    refused(shared_server, run_request(CONTENT, first, uuid=begun, data=bytes(length)), 400)
    head = request("PUT", f"/uploads/{begun}/{first}", {"Content-Length": str(length), "Expect": "100-continue"})
    with Connection(shared_server) as connection:
        connection.send(head)
        assert connection.sock.recv(12) == b"HTTP/1.1 400"


@pytest.mark.parametrize("size", [4, 100_000])
@pytest.mark.parametrize("difference", [-1, 1, 3, 70_000])
def test_row_16_first_chunk_of_its_upload(shared_server: Server, size: int, difference: int) -> None:
    """When it would have begun an upload, nothing is left of it."""
    data = bytes(max(0, size + difference))
    for count in (1, 2):
        sent = chunk_request(bytes(size * count), 0, uuid=new_uuid(), chunk_size=size, data=data, name=MARK)
        refused(shared_server, sent, 400, 413)


@pytest.mark.parametrize(
    "changes",
    [
        {"dzchunkbyteoffset": "0"},
        {"dzchunkbyteoffset": "5"},
        {"dzchunkbyteoffset": "8"},
        {"dztotalchunkcount": "2"},
        {"dztotalchunkcount": "4"},
        {"dztotalchunkcount": "0"},
        {"dzchunksize": "0"},
        {"dzchunksize": "5"},
        {"dzchunksize": "10"},
        {"dztotalfilesize": "8"},
        {"dztotalfilesize": "13"},
        {"dztotalfilesize": "0"},
        {"dzchunkindex": "0"},
        {"dzchunkindex": "2"},
        {"dzuuid": None},
        {"dzchunkindex": None},
        {"dztotalfilesize": None},
        {"dzchunksize": None},
        {"dztotalchunkcount": None},
        {"dzchunkbyteoffset": None},
    ],
    ids=str,
)
def test_row_16_fields_that_contradict(shared_server: Server, changes: dict[str, str | None]) -> None:
    """An offset that is not index x size, a count that is not ceil(size / chunk), a field too few: 400."""
    if changes == {"dzuuid": None}:  # then it is a plain form with fields of no interest
        assert exchange(shared_server, chunk(**changes)).status == 201
    else:
        refused(shared_server, chunk(**changes), 400)


def test_row_17_empty_file(shared_server: Server) -> None:
    """A file of no bytes is stored, as a chunk, as a form and as a body."""
    answers = [
        exchange(shared_server, chunk_request(b"", uuid=new_uuid())),
        exchange(shared_server, form(file(b"", "a"))),
        exchange(shared_server, request("PUT", "/upload/a", body=b"")),
    ]
    for answer in answers:
        (described,) = answer.json()["files"]
        assert (described["done"], described["size"]) == (True, 0)
        assert [p.read_bytes() for p in shared_server.storage.glob(f"{described['uuid']}_*")] == [b""]


@pytest.fixture(scope="module")
def small_server(program: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes files up to a megabyte."""
    with running(program, tmp_path_factory.mktemp("small"), "-a", "--max-size", "1") as server:
        yield server


MIB = 1 << 20


def test_row_18_size_over_the_limit(small_server: Server) -> None:
    """A file that is declared too large is 413 before anything is created, in any form; the limit itself is not."""
    over = {
        "dztotalfilesize": str(MIB + 1),
        "dztotalchunkcount": "2",
        "dzchunksize": str(MIB),
        "dzchunkbyteoffset": "0",
    }
    refused(small_server, chunk_request(bytes(MIB), 0, uuid=new_uuid(), changes=over, name=MARK), 413)
    refused(
        small_server, chunk_request(b"x", 0, uuid=new_uuid(), changes={**over, "dztotalfilesize": "9" * 15}), 413, 400
    )
    refused(small_server, form(file(bytes(MIB + 1))), 413)
    refused(small_server, form(file(b"1"), file(bytes(MIB + 1))), 413)
    refused(small_server, form(file(bytes(2 * MIB))), 413)
    refused(small_server, request("PUT", f"/upload/{MARK}", body=bytes(MIB + 1)), 413)
    for size in (MIB + 1, 10**15 - 1):
        refused(small_server, announce_request(size, name=MARK), 413)
    assert upload(small_server, bytes(MIB), cookie=(drop := new_uuid()))["done"]
    exchange(small_server, request("DELETE", f"/uploads/{listed_uuid(small_server, drop)}", cookie=drop))


def listed_uuid(server: Server, drop: str) -> str:
    """The UUID of the newest upload of a drop."""
    return str(exchange(server, request("GET", "/uploads", cookie=drop)).json()["uploads"][0]["uuid"])


def test_row_18_too_many_chunks(shared_server: Server) -> None:
    """An upload of more than 100,000 chunks is 413 before anything is created."""
    changes = {"dztotalfilesize": "100001", "dztotalchunkcount": "100001", "dzchunksize": "1"}
    refused(shared_server, chunk_request(b"x", 0, uuid=new_uuid(), changes=changes, name=MARK), 413)


def test_row_35_quota(start_server: StartServer) -> None:
    """Over the quota, unfinished uploads counted, it is 507 with Retry-After; it goes on when there is space."""
    server = start_server("-a", "--max-size", "1", "--max-total", "2")
    drop, begun, more = new_uuid(), new_uuid(), new_uuid()
    half = bytes(MIB // 2 - 4200)  # each of two uploads also counts 4,096 bytes for the record
    upload(server, bytes(MIB), cookie=drop)
    kept = listed_uuid(server, drop)
    assert exchange(server, chunk_request(2 * half, 0, uuid=begun, chunk_size=len(half), cookie=drop)).status == 200
    for data in (
        chunk_request(half, 0, uuid=more, chunk_size=1000, cookie=drop, name=MARK),
        chunk_request(b"x", 0, uuid=more, cookie=drop, name=MARK),
        form(file(b"x")),
        request("PUT", f"/upload/{MARK}", body=b"x"),
    ):
        answer = refused(server, data, 507)
        assert answer.headers["Retry-After"]
    assert exchange(server, chunk_request(2 * half, 1, uuid=begun, chunk_size=len(half), cookie=drop)).status == 200
    assert exchange(server, request("DELETE", f"/uploads/{kept}", cookie=drop)).status == 200
    assert upload(server, half, uuid=more, chunk_size=1000 * 100, cookie=drop)["done"]
    for uuid in (begun, more):
        exchange(server, request("DELETE", f"/uploads/{uuid}", cookie=drop))


def test_row_35_quota_counts_what_is_on_its_way(start_server: StartServer) -> None:
    """Whole files that are still coming in count as what they said they would be."""
    server = start_server("-a", "--max-size", "1", "--max-total", "2")
    sent = request("PUT", f"/upload/{MARK}", body=bytes(MIB - 2048))  # and 4,096 bytes of the record for the next
    with Connection(server) as one, Connection(server) as other:
        for connection in (one, other):
            connection.send(sent[: MIB // 2])
        # Space is kept in proportion to what has come, so it must have come.
        wait_until(lambda: sum(path.stat().st_size for path in server.storage.glob(".*.part")) > MIB - 2000)
        for data in (request("PUT", "/upload/x", body=b"x"), chunk_request(CONTENT, uuid=new_uuid(), chunk_size=4)):
            answer = exchange(server, data)
            assert answer.status == 507
            assert_fixed_sentence(server, answer)
    wait_until(lambda: tree(server.storage) == {})
    assert exchange(server, sent).status == 201


TOO_MUCH = {
    "field of 1 MB", "uuid of 1 MB", "name of 1 MB", "field of 4,097 bytes", "10,000 files",
    "header of 1 MB in a part", "10,000 headers in a part", "65 files",
}  # fmt: skip


@pytest.mark.parametrize(
    "parts",
    [
        [*fields(), field("dzchunkindex", "1"), file(CONTENT[4:8])],
        [*fields(), field("dzuuid", new_uuid()), file(CONTENT[4:8])],
        [field("a", "1"), field("a", "1"), file(CONTENT)],
        [*fields(), file(CONTENT[4:8]), file(CONTENT[4:8])],
        [*fields(), file(CONTENT[4:8]), file(CONTENT[4:8]), field("modified", "1")],
        [file(CONTENT[4:8]), file(CONTENT[4:8]), *fields()],
        [*fields()],
        [*fields(), field("file", CONTENT[4:8])],
        [field("a", "1")],
        [*fields(), field("x", "y" * (1 << 20)), file(CONTENT[4:8])],
        [field("dzuuid", "y" * (1 << 20)), file(CONTENT[4:8])],
        [field("x" * (1 << 20), "y"), file(CONTENT)],
        [field("x", "y" * 4097), file(CONTENT)],
        [*[field(f"f{n}", "1") for n in range(17)], file(CONTENT)],
        [*[field(f"f{n}", "1") for n in range(10_000)], file(CONTENT)],
        [file(b"") for _ in range(10_000)],
        [file(b"x") for _ in range(65)],
        [*fields(), file(CONTENT[4:8], more=b"X: " + b"y" * (1 << 20) + b"\r\n")],
        [*fields(), file(CONTENT[4:8], more=b"X: y\r\n" * 10_000)],
        [*fields(), file(CONTENT[4:8], more=b"X y\r\n")],
        [*fields(), file(CONTENT[4:8], more=b" folded: y\r\n")],
        [*fields(), b"\r\nno head", file(CONTENT[4:8])],
        [*fields(), b"Content-Type: text/plain\r\n\r\nno name", file(CONTENT[4:8])],
        [*fields(), b"Content-Disposition: attachment; name=a\r\n\r\nno form-data", file(CONTENT[4:8])],
        [*fields(), field("x", b"\xff"), file(CONTENT[4:8])],
    ],
    ids=[
        "field twice", "uuid twice", "field twice in a plain form", "file twice", "file twice, then a field",
        "two files first", "no file", "file without a name", "only a field", "field of 1 MB", "uuid of 1 MB",
        "name of 1 MB", "field of 4,097 bytes", "17 fields",
        "10,000 fields", "10,000 files", "65 files", "header of 1 MB in a part", "10,000 headers in a part",
        "header without colon", "folded header",
        "part without head", "part without disposition", "part that is no form-data", "field that is not UTF-8",
    ],
)  # fmt: skip
def test_row_19_forms_that_are_too_much_or_too_little(
    shared_server: Server, parts: list[bytes], request: pytest.FixtureRequest
) -> None:
    """A field or file twice, none, or too many fields is 400, what is too large 413; nothing is kept."""
    too_much = request.node.callspec.id in TOO_MUCH
    refused(shared_server, form(*parts), 413 if too_much else 400)


def test_row_19_form_at_the_limits(shared_server: Server) -> None:
    """Sixteen fields of a kilobyte and several files are not too much."""
    parts = [field(f"f{n}", "y" * 1024) for n in range(16)]
    assert exchange(shared_server, form(*parts, *[file(CONTENT) for _ in range(16)])).status == 201


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_row_19_memory_stays_flat(shared_server: Server) -> None:
    """Fifty large fields and heads one after the other take no memory that stays."""

    def resident() -> int:
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{shared_server.proc.pid}/status").read_text())
        assert match
        return int(match[1]) << 10

    large = form(*fields(), field("x", "y" * (4 << 20)), file(CONTENT[4:8]))
    exchange(shared_server, large)
    before = resident()
    for _ in range(50):
        assert exchange(shared_server, large).status == 413
    assert resident() - before < 20 << 20


WISH = b'"name": "mArK.bin", "size": 10'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *((body, 400) for body in (
            b"", b" ", b"null", b"true", b"1", b'"name"', b"[]", b"{}", b"{", b"}", b"{" + WISH, WISH,
            b"{" + WISH + b",}",
            b"{" + WISH + b"}}", b"{" + WISH + b"} {" + WISH + b"}", b"[{" + WISH + b"}]",
            b'[["name", "a"], ["size", 1]]',
            b"{'name': 'a', 'size': 1}", b'{"size": 10}', b'{"name": "a"}', b'{"name": null, "size": 10}',
            b'{"name": 5, "size": 10}', b'{"name": ["a"], "size": 10}', b'{"name": {"a": 1}, "size": 10}',
            b'{"name": "a\x00b", "size": 10}', b'{"name": "a\\u0000b", "size": 10}', b'{"name": "a\nb", "size": 10}',
            b'{"name": "\xff", "size": 10}', b'{"name": "\xc0\xaf", "size": 10}', b'{"name": "a, "size": 10}',
            b'{"name": "a", "size": "10"}', b'{"name": "a", "size": -1}', b'{"name": "a", "size": 1.0}',
            b'{"name": "a", "size": 1e3}', b'{"name": "a", "size": true}', b'{"name": "a", "size": null}',
            b'{"name": "a", "size": NaN}', b'{"name": "a", "size": Infinity}', b'{"name": "a", "size": +1}',
            b'{"name": "a", "size": 01}', b'{"name": "a", "size": 0x10}', b'{"name": "a", "size": 1_0}',
            b'{"name": "a", "size": [10]}', b'{"name": "a", "size": ' + b"9" * 16 + b"}",
            b'{"name": "a", "size": ' + b"9" * 5000 + b"}", b'{"name": "a", "size": 1e999}',
            b"{" + WISH + b', "modified": "1"}', b"{" + WISH + b', "modified": 1.5}',
            b"{" + WISH + b', "modified": true}',
            b"{" + WISH + b', "modified": ' + b"9" * 16 + b"}", b"{" + WISH + b', "modified": -' + b"9" * 5000 + b"}",
            b"{" + WISH + b', "modified": []}', b"{" + WISH + b', "size": 10}', b"{" + WISH + b', "name": "mArK.bin"}',
            b"{" + WISH + b', "modified": 1, "modified": 1}', b"{" + WISH + b', "uuid": "x"}',
            b"{" + WISH + b', "": 1}',
            b"{" + WISH + b', "Name": "a"}', b"[" * 8000, b'{"a":' * 1600, b'{"name": ' + b"[" * 4000 + b"]" * 4000,
            b"--x\r\n\r\n", b"name=a&size=10",
        )),
        *((body, 413) for body in (
            b"{" + WISH + b"}" + b" " * 16384, b'{"name": "' + b"x" * 16400 + b'", "size": 10}',
            b"[" * 100_000, b"x" * (4 << 20),
        )),
    ],
    ids=lambda value: None if isinstance(value, int) else repr(value[:40]),
)  # fmt: skip
def test_row_19_wishes_that_are_none(shared_server: Server, body: bytes, status: int) -> None:
    """JSON that is malformed, too large, too deep, or says too much, too little or something twice: 400 or 413."""
    refused(shared_server, request("POST", "/uploads", {"Content-Type": "application/json"}, body), status)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"name": "", "size": 1}', ""),
        (b'{"name": "..", "size": 1}', ".."),
        (b'{"name": "a\\ud800b", "size": 1}', "ab"),
        (b'{"name": "a\xed\xa0\x80b", "size": 1}', "ab"),
        (b'{"name": "\\ud83d\\ude80", "size": 1}', "🚀"),
        (b'{"name": "a\\nb\\u202e", "size": 1}', "ab"),
        (b'\n{ "modified" : null , "size" : 1 ,\t"name":"a"}\r\n', "a"),
        (b'{"name": "a", "size": 1, "modified": -999999999999999}', "a"),
    ],
)
def test_row_7_wishes_with_odd_names(shared_server: Server, body: bytes, name: str) -> None:
    """Whatever the name, the upload is begun, and its file comes in under a harmless one."""
    answer = exchange(shared_server, request("POST", "/uploads", {"Content-Type": "application/json"}, body))
    assert answer.status == 201 and answer.json()["upload"]["name"] == name
    done = exchange(shared_server, run_request(b"x", uuid=answer.json()["upload"]["uuid"])).json()["upload"]
    assert done["done"]
    assert [path.read_bytes() for path in shared_server.storage.glob(f"{done['uuid']}_*")] == [b"x"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_row_19_announcing_takes_no_memory_that_stays(shared_server: Server) -> None:
    """However many uploads are announced, and however large their names: the oldest are forgotten."""

    def resident() -> int:
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{shared_server.proc.pid}/status").read_text())
        assert match
        return int(match[1]) << 10

    def announce_many(count: int) -> None:
        with Connection(shared_server) as connection:
            for number in range(count):
                connection.send(announce_request(10, name=f"{number}{'x' * 8000}"))
                assert connection.receive().status == 201

    announce_many(pyfiledrop.MAX_ANNOUNCED)
    before = resident()
    announce_many(pyfiledrop.MAX_ANNOUNCED)
    assert resident() - before < 4 << 20


@pytest.mark.parametrize("chunk_size", [4, 100_000])
@pytest.mark.parametrize("count", [1, 3])
def test_row_20_file_before_the_fields(shared_server: Server, chunk_size: int, count: int) -> None:
    """A form whose file stands before its fields works as any other, for chunks and for whole files."""
    uuid, content = new_uuid(), random.randbytes(chunk_size * count - 1)
    for index in range(count):
        piece = content[index * chunk_size : (index + 1) * chunk_size]
        described = chunk_fields(len(content), index, uuid=uuid, chunk_size=chunk_size)
        parts = [file(piece, "a.bin"), *[field(name, value) for name, value in described.items()]]
        answer = exchange(shared_server, form(*parts))
        assert answer.status == 200 and answer.json()["files"][0]["done"] is (index == count - 1)
    assert tree(shared_server.storage)[f"{uuid}_a.bin"] == content
    assert tree(shared_server.chunks) == {}
    assert exchange(shared_server, form(file(b"x", "a"), field("comment", "y"))).status == 201


def test_row_20_file_before_the_fields_that_does_not_fit(shared_server: Server) -> None:
    """What would be refused otherwise is refused then too, and what was taken in meanwhile is gone."""
    refused(shared_server, form(file(CONTENT[4:7]), *fields()), 400)
    refused(shared_server, form(file(CONTENT[4:9]), *fields()), 400, 413)
    refused(shared_server, form(file(CONTENT[4:8]), *fields(), field("dzuuid", new_uuid())), 400)


# 21 and 22: bodies that are no forms, or break off

WHOLE = multipart_body({}, [("file", f"{MARK}.bin", CONTENT)])
CLOSING = f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", WHOLE),
        ("multipart/form-data; boundary=", WHOLE),
        ('multipart/form-data; boundary=""', WHOLE),
        (f"multipart/form-data; boundary={BOUNDARY}x", WHOLE),
        (f"multipart/form-data; boundary={BOUNDARY[:-1]}", WHOLE),
        (f"multipart/form-data; boundary={'x' * 71}", WHOLE.replace(BOUNDARY.encode(), b"x" * 71)),
        (f"multipart/mixed; boundary={BOUNDARY}", WHOLE),
        (f"text/plain; boundary={BOUNDARY}", WHOLE),
        ("application/x-www-form-urlencoded", b"file=x"),
        ("application/octet-stream", CONTENT),
        ("", CONTENT),
        (FORM["Content-Type"], b""),
        (FORM["Content-Type"], b"\r\n"),
        (FORM["Content-Type"], CLOSING),
        (FORM["Content-Type"], b"preamble\r\n" + WHOLE),
        (FORM["Content-Type"], b"\r\n" + WHOLE),
        (FORM["Content-Type"], WHOLE + b"epilogue"),
        (FORM["Content-Type"], WHOLE + b"\r\n"),
        (FORM["Content-Type"], WHOLE + WHOLE),
        (FORM["Content-Type"], WHOLE.removesuffix(CLOSING)),
        (FORM["Content-Type"], WHOLE.removesuffix(b"--\r\n")),
        (FORM["Content-Type"], WHOLE.removesuffix(b"--\r\n") + b"\r\n"),
        (FORM["Content-Type"], WHOLE.removesuffix(b"-\r\n") + b"x\r\n"),
        (FORM["Content-Type"], WHOLE.replace(b"\r\n", b"\n")),
        (FORM["Content-Type"], WHOLE.replace(b"\r\n\r\n", b"\r\n")),
        (FORM["Content-Type"], WHOLE.replace(b"--" + BOUNDARY.encode() + b"\r", b"--" + BOUNDARY.encode() + b" \r")),
    ],
    ids=[
        "no boundary", "boundary=", "empty boundary", "longer boundary", "shorter boundary", "boundary of 71", "mixed",
        "text", "urlencoded", "octets", "no type", "empty", "line break", "only the end", "preamble", "line before",
        "epilogue",
        "line after", "twice", "no end", "no dashes at the end", "not the last", "half an end", "bare line feeds",
        "no empty line", "space behind the boundary",
    ],
)  # fmt: skip
def test_row_21_bodies_that_are_no_form(shared_server: Server, kind: str, body: bytes) -> None:
    """No or another boundary, a preamble, an epilogue, no closing delimiter: 400, nothing is kept."""
    refused(shared_server, request("POST", "/upload", {"Content-Type": kind}, body), 400)


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("end", [b"", b"--", b"--\r", b"--\n\n", b"\r\n--", b"--\r\n\r\n", b"--\r\nx", b"-x\r\n"])
def test_row_21_chunks_with_another_end(shared_server: Server, size: int, end: bytes) -> None:
    """A chunk is checked to the last byte of the delimiter behind it, also where nobody looks at its bytes."""
    parts = [*fields(size, 0, size), file(bytes(size))]
    if end == b"--":  # RFC 2046: the line break belongs to what follows, and nothing does
        assert exchange(shared_server, form(*parts, end=end)).status == 200
    else:
        refused(shared_server, form(*parts, end=end), 400)


SMALL = {
    "chunk": chunk_request(CONTENT, 1, uuid=new_uuid(), chunk_size=4),
    "only chunk": chunk_request(CONTENT, uuid=new_uuid()),
    "form": form(file(CONTENT)),
    "body": request("PUT", "/upload/x", body=CONTENT),
}


@pytest.mark.parametrize("kind", SMALL)
def test_row_22_request_that_breaks_off_at_every_byte(shared_server: Server, kind: str) -> None:
    """A request whose client goes away after any of its bytes is never taken for a whole one, and leaves nothing."""
    data, before = SMALL[kind], (tree(shared_server.storage), tree(shared_server.chunks))
    body = data.index(b"\r\n\r\n") + 4

    def cut(length: int) -> int | None:
        with Connection(shared_server) as connection:
            connection.send(data[:length])
            connection.sock.shutdown(socket.SHUT_WR)
            try:
                answer = connection.receive()
            except ConnectionError:
                return None
            assert_fixed_sentence(shared_server, answer)
            return answer.status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(cut, range(len(data))))
    assert set(statuses[body:]) == {400}
    assert set(statuses[:body]) <= {None, 400}
    assert (tree(shared_server.storage), tree(shared_server.chunks)) == before
    assert "Traceback" not in shared_server.log()


@pytest.mark.parametrize("kind", ["chunk", "only chunk", "form"])
def test_row_22_body_that_is_cut_at_every_byte(shared_server: Server, kind: str) -> None:
    """A body that ends early, under a Content-Length that says so, is no form; only its last line break may go."""
    head, _, body = SMALL[kind].partition(b"\r\n\r\n")
    before = tree(shared_server.storage), tree(shared_server.chunks)

    def cut(length: int) -> int:
        headers = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % length, head)
        return exchange(shared_server, headers + b"\r\n\r\n" + body[:length]).status

    with ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(cut, range(len(body) - 2)))
    assert statuses == {400}
    assert (tree(shared_server.storage), tree(shared_server.chunks)) == before


@pytest.mark.parametrize("first", [0, 1])
def test_row_22_run_that_breaks_off_at_every_byte(shared_server: Server, first: int) -> None:
    """Of a run whose client goes away the chunks that came whole are kept, and just those; the upload goes on."""
    whole = run_request(CONTENT, first, 3 - first, uuid=SOME, chunk_size=4)
    body = whole.index(b"\r\n\r\n") + 4

    def cut(length: int) -> tuple[int | None, list[list[int]], bool]:
        uuid = new_uuid()
        assert exchange(shared_server, chunk_request(CONTENT, 2, uuid=uuid, chunk_size=4)).status == 200
        data = whole.replace(SOME.encode(), uuid.encode())
        with Connection(shared_server) as connection:
            connection.send(data[:length])
            connection.sock.shutdown(socket.SHUT_WR)
            try:
                answer = connection.receive()
                assert_fixed_sentence(shared_server, answer)
                status = answer.status
            except ConnectionError:
                status = None
        chunks = exchange(shared_server, request("GET", f"/uploads/{uuid}")).json()["upload"]["chunks"]
        done = exchange(shared_server, run_request(CONTENT, 0, 3, uuid=uuid, chunk_size=4)).json()["upload"]["done"]
        assert [path.read_bytes() for path in shared_server.storage.glob(f"{uuid}_*")] == [CONTENT]
        return status, chunks, done

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(cut, range(len(whole))))
    for length, (status, chunks, done) in enumerate(results):
        came = [*range(first, first + max(0, length - body) // 4), 2]
        assert chunks == pyfiledrop.chunk_ranges(sorted(set(came))), f"after {length - body} bytes of the body"
        assert done and (status == 400 if length >= body else status in (None, 400))
    assert "Traceback" not in shared_server.log()


@pytest.mark.parametrize("vanish", ["close", "reset"])
@pytest.mark.parametrize("size", [1000, 200_000])
def test_row_22_client_of_a_run_that_vanishes(shared_server: Server, vanish: str, size: int) -> None:
    """A client that closes or resets in the middle of a run has what came whole of it, in both lanes."""
    uuid, content = new_uuid(), random.randbytes(5 * size)
    assert exchange(shared_server, chunk_request(content, 1, uuid=uuid, chunk_size=size)).status == 200
    with Connection(shared_server) as connection:
        connection.send(run_request(content, 0, 5, uuid=uuid, chunk_size=size)[: -size * 3 // 2])
        path = shared_server.chunks / uuid / "data"
        wait_until(lambda: path.stat().st_size >= 7 * size // 2)
        if vanish == "reset":
            linger_none = b"\1\0\0\0\0\0\0\0" if sys.platform != "win32" else b"\1\0\0\0"
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
    wait_until(lambda: f"PUT /uploads/{uuid[:8]}.../0 400" in shared_server.log())
    answer = exchange(shared_server, request("GET", f"/uploads/{uuid}")).json()["upload"]
    assert answer["chunks"] == [[0, 2]]
    assert exchange(shared_server, run_request(content, 3, 2, uuid=uuid, chunk_size=size)).json()["upload"]["done"]
    assert tree(shared_server.storage)[f"{uuid}_file.bin"] == content


@pytest.mark.parametrize("vanish", ["close", "reset"])
@pytest.mark.parametrize("size", [1000, 500_000])
def test_row_22_client_that_vanishes(shared_server: Server, vanish: str, size: int) -> None:
    """A client that closes or resets in the middle of a chunk leaves nothing of it; the upload goes on."""
    uuid, content = new_uuid(), random.randbytes(2 * size)
    assert exchange(shared_server, chunk_request(content, 0, uuid=uuid, chunk_size=size)).status == 200
    lines = len(log_lines(shared_server))
    with Connection(shared_server) as connection:
        connection.send(chunk_request(content, 1, uuid=uuid, chunk_size=size, data=bytes(size))[: -size // 2])
        wait_until(lambda: (shared_server.chunks / uuid / "data").stat().st_size > size)
        if vanish == "reset":
            linger_none = b"\1\0\0\0\0\0\0\0" if sys.platform != "win32" else b"\1\0\0\0"
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
    wait_until(lambda: len(log_lines(shared_server)) > lines)
    answer = exchange(shared_server, request("GET", f"/uploads/{uuid}")).json()["upload"]
    assert answer["chunks"] == [[0, 0]]
    assert exchange(shared_server, chunk_request(content, 1, uuid=uuid, chunk_size=size)).status == 200
    assert tree(shared_server.storage)[f"{uuid}_file.bin"] == content


# 23 to 26: heads


def raw(*lines: str, body: bytes = b"") -> bytes:
    """A request of exactly these lines."""
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


POST = ("POST /upload HTTP/1.1", "Host: localhost", f"Content-Type: {FORM['Content-Type']}")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 411),
        *[
            ([f"Content-Length: {n}"], 400)
            for n in ("-1", "+4", "1_0", "4 4", "4, 4", "x", "0x4", "٣", "1" * 16, "9" * 400)
        ],
        (["Content-Length: 4", "Content-Length: 4"], 400),
        (["Content-Length: 4", "content-length: 5"], 400),
    ],
    ids=str,
)
def test_row_23_length_that_is_none(shared_server: Server, lines: list[str], status: int) -> None:
    """A length that is missing, signed, grouped, doubled or endless: 411 or 400, and the connection is closed."""
    data = "\r\n".join([*POST, *lines, "", ""]).encode("utf-8")
    refused(shared_server, data, status, closed=True)
    for first in (b"PUT /upload/x", b"POST /uploads", b"PUT /uploads/%s/0" % SOME.encode()):
        refused(shared_server, data.replace(b"POST /upload", first), status, closed=True)


@pytest.mark.parametrize("lines", [["Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked", "Content-Length: 5"],
                                   ["transfer-encoding: x, chunked", "Content-Length: 0"]], ids=str)  # fmt: skip
@pytest.mark.parametrize(
    "first",
    ["POST /upload HTTP/1.1", "PUT /upload/x HTTP/1.1", "GET /uploads HTTP/1.1", "POST /uploads HTTP/1.1",
     f"PUT /uploads/{SOME}/0 HTTP/1.1"],
)  # fmt: skip
def test_row_24_chunked_coding(shared_server: Server, first: str, lines: list[str]) -> None:
    """A body in chunked coding is 411 and the connection closed; it is never an empty file, nor a second request."""
    body = b"1c\r\n" + raw("GET /uploads HTTP/1.1", "Host: localhost") + b"\r\n0\r\n\r\n"
    refused(shared_server, raw(first, *POST[1:], *lines, body=body), 411, 501, closed=True)


@pytest.mark.parametrize(
    "data",
    [
        raw("GET /uploads HTTP/1.1", "Host: localhost", "X: a", " folded"),
        raw("GET /uploads HTTP/1.1", "Host: localhost", "X : a"),
        raw("GET /uploads HTTP/1.1", "Host: localhost", "Content_Length: 5", body=b"GET /"),
        raw("GET /uploads HTTP/1.1", "Host: localhost", "Host: localhost"),
        raw("GET /uploads HTTP/1.1", "Host: localhost", "host: b"),
        raw("GET /uploads HTTP/1.1"),
        raw("GET /uploads HTTP/1.1", "Host: localhost", "no colon"),
        raw("GET /uploads HTTP/1.1", "Host: localhost", "X: \0"),
        raw("GET /uploads HTTP/1.1", "Host: localhost", "X: a\nY: b"),
        raw("GET /uploads HTTP/1.1", "Host: localhost", "X: a\rY: b"),
        raw("GET /uploads HTTP/1.1\nHost: localhost", "X: b"),
        raw("GET /uploads HTTP/1.2", "Host: localhost"),
        raw("GET /uploads HTTP/2.0", "Host: localhost"),
        raw("GET /uploads", "Host: localhost"),
        raw("GET  /uploads HTTP/1.1", "Host: localhost"),
        raw("get /uploads HTTP/1.1", "Host: localhost"),
        raw("GET uploads HTTP/1.1", "Host: localhost"),
        raw("GET http://[ HTTP/1.1", "Host: localhost"),
        raw("GET /%00 HTTP/1.1", "Host: localhost"),
        raw("GET /\xff HTTP/1.1", "Host: localhost"),
        raw("PRI * HTTP/2.0"),
        raw(f"{MARK}"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\0" * 100_000,
    ],
    ids=lambda data: repr(data[:60]),
)
def test_row_25_heads_that_can_be_read_in_two_ways(shared_server: Server, data: bytes) -> None:
    """Folded lines, a space before the colon, an underscore, two hosts, other line ends: 400 and closed."""
    refused(shared_server, data, 400, 414, 431, closed=True)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (raw(f"GET /{'x' * 8192} HTTP/1.1", "Host: localhost"), 414),
        (raw(f"GET /{'x' * 1_000_000} HTTP/1.1", "Host: localhost"), 414),
        (raw("GET /uploads HTTP/1.1", "Host: localhost", f"X: {'x' * 32_768}"), 431),
        (raw("GET /uploads HTTP/1.1", "Host: localhost", f"X: {'x' * 1_000_000}"), 431),
        (raw("GET /uploads HTTP/1.1", "Host: localhost", *["X: y"] * 10_000), 431),
        (raw("GET /uploads HTTP/1.1", "Host: localhost", f"Cookie: {DROP_COOKIE}={'x' * 8192}"), 431),
        (raw("GET /uploads HTTP/1.1", "Host: localhost", *["Cookie: " + "x" * 1000] * 9), 431),
    ],
    ids=["request line", "endless request line", "headers", "endless header", "10,000 headers", "cookie", "cookies"],
)
def test_row_19_26_heads_that_are_too_long(shared_server: Server, data: bytes, status: int) -> None:
    """A request line over 8 KiB is 414; headers over 32 KiB, ten thousand of them, or a cookie over 8 KiB are 431."""
    refused(shared_server, data, status, closed=True)


def test_row_26_heads_that_are_just_short_enough(shared_server: Server) -> None:
    """What a browser with many cookies of other programs sends is served."""
    answer = exchange(
        shared_server, request("GET", f"/uploads?{'x' * 8000}", {"Cookie": "a=" + "x" * 8000, "X": "y" * 20_000})
    )
    assert answer.status == 200


# 47, 48 and 58: heads that say one thing and mean another


@pytest.mark.parametrize(
    "path",
    [
        "/down%ffload/{}", "/%c0%afdownload/{}", "/download/{}%80", "/uploads/%ed%a0%80", "/upload/a%e9.txt",
        "http://127.0.0.1/up%ffload/x", "/%f5", "/upload/%D1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_row_47_path_that_is_not_utf_8(shared_server: Server, method: str, path: str) -> None:
    """Bytes that are not UTF-8 are 400 before anybody looks for a route, so that no two readers see two paths."""
    link = upload(shared_server, CONTENT)["uuid"]
    body = b"x" if method == "PUT" else None
    refused(shared_server, request(method, path.format(link), body=body), 400, closed=True)
    if method == "PUT":
        refused(shared_server, request(method, f"/uploads/{link}/0%ff", body=body), 400, closed=True)


@pytest.mark.parametrize("content_range", ["bytes 6-9/10", "bytes 0-3/10", "bytes 6-9/*", "bytes */10", MARK])
def test_row_48_part_of_a_file(shared_server: Server, content_range: str) -> None:
    """A body that says it is a part (`curl -C 6 -T`) is no whole file: 400, and nothing is stored."""
    data = request("PUT", f"/upload/{MARK}", {"Content-Range": content_range}, CONTENT[6:])
    refused(shared_server, data, 400, closed=True)


@pytest.mark.parametrize(
    "host",
    ["a b", "[::1", "::1]", "[::1]x", "[]", "[1]", "[::1%25eth0]", "<b>", "a/b", "a:b", "a:1:2", "a@b", "a, b", "\xe9",
     "a%20b", "127.0.0.1;x", '"', "a?b", "a#b", "\\"],
)  # fmt: skip
@pytest.mark.parametrize("target", ["/uploads", "/nothing"])
def test_row_58_host_that_is_none(shared_server: Server, target: str, host: str) -> None:
    """A Host header that nothing can be called is 400 and closed, whatever is asked for (RFC 9112, 3.2)."""
    refused(shared_server, raw(f"GET {target} HTTP/1.1", f"Host: {host}"), 400, closed=True)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://evil.example/uploads", "localhost"), ("http://localhost/uploads", "evil.example"),
        ("http://localhost:1/uploads", "localhost"), ("http://localhost/uploads", "localhost:1"),
        ("http://a@localhost/uploads", "localhost"), ("http:///uploads", "localhost"), ("http://[::1/uploads", "[::1"),
    ],
)  # fmt: skip
def test_row_58_two_hosts(shared_server: Server, target: str, host: str) -> None:
    """A whole address in the request line must name the same host as the header, or one of the two lies: 400."""
    refused(shared_server, raw(f"GET {target} HTTP/1.1", f"Host: {host}"), 400, closed=True)
    assert exchange(shared_server, raw("GET http://LocalHost:1/uploads HTTP/1.1", "Host: localhost:1")).status == 200


def test_row_58_whole_address_without_host(shared_server: Server) -> None:
    """In HTTP/1.0 a whole address stands for the header that is not there."""
    refused(shared_server, raw("GET http://evil.example/uploads HTTP/1.0"), 421)
    assert exchange(shared_server, raw("GET http://localhost/uploads HTTP/1.0")).status == 200


@pytest.mark.parametrize("origin", ["http://none", "http://None", "http://", "null", "http://localhost"])
@pytest.mark.parametrize("first", ["PUT /upload/x HTTP/1.0", "DELETE /uploads HTTP/1.0"])
def test_row_58_page_without_host(shared_server: Server, first: str, origin: str) -> None:
    """Who has an Origin is a page, and a page that names no host cannot be ours: 403."""
    refused(shared_server, raw(first, f"Origin: {origin}", "Content-Length: 1", body=b"x"), 403)


@pytest.mark.parametrize("expect", ["100-continue", "200-ok"])
def test_row_58_expect_in_http_1_0(shared_server: Server, expect: str) -> None:
    """A client of HTTP/1.0 does not know what a 100 is, so its Expect is not there (RFC 9110, 10.1.1)."""
    with Connection(shared_server) as connection:
        lines = ("Host: localhost", f"Expect: {expect}", "Content-Length: 1", "Accept: application/json")
        connection.send(raw("PUT /upload/old.txt HTTP/1.0", *lines, body=b""))
        connection.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.sock.recv(1)
        connection.sock.settimeout(10)
        connection.send(b"x")
        assert connection.sock.recv(12) == b"HTTP/1.1 201"
    refused(shared_server, raw("PUT /upload/x HTTP/1.1", "Host: localhost", "Expect: 200-ok", "Content-Length: 0"), 417)


# 27 and 28: slow and early


def test_row_27_silent_connections(shared_server: Server) -> None:
    """Forty connections that say nothing, half a head or half a chunk do not keep others from being served."""
    said = [b"", b"GET /uploads HT", raw("GET /uploads HTTP/1.1", "Host: localhost")[:-2], SMALL["form"][:-20]]
    with contextlib.ExitStack() as stack:
        for number in range(40):
            connection = stack.enter_context(Connection(shared_server))
            connection.send(said[number % len(said)])
        content = random.randbytes(100_000)
        uuid = upload(shared_server, content, chunk_size=10_000)["uuid"]
        assert exchange(shared_server, request("GET", f"/download/{uuid}")).body == content
    wait_until(lambda: not any(name.endswith(".part") for name in tree(shared_server.storage)))
    assert tree(shared_server.chunks) == {}


def test_row_27_slow_readers(shared_server: Server) -> None:
    """A dozen clients that ask for a large file and do not read it do not keep others from being served."""
    content = random.randbytes(8 << 20)
    uuid = upload(shared_server, content, chunk_size=4 << 20)["uuid"]
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Connection(shared_server)) for _ in range(12)]
        for reader in readers:
            reader.send(request("GET", f"/download/{uuid}"))
        assert exchange(shared_server, request("GET", f"/download/{uuid}")).body == content
        assert readers[0].receive().body == content, "a reader that wakes up is served to the end"


@pytest.mark.parametrize(
    ("piece", "most"),
    [
        (1, pyfiledrop.LINGER_SECONDS),
        (pyfiledrop.BLOCK_BYTES, pyfiledrop.LINGER_BYTES // pyfiledrop.BLOCK_BYTES),
        (0, 1),
    ],
    ids=["slowly", "fast", "no more"],
)
def test_row_28_who_goes_on_talking(monkeypatch: pytest.MonkeyPatch, piece: int, most: int) -> None:
    """After an early answer a client is heard for so long, for so many bytes, or to its end: whatever comes first."""
    clock, heard = 1000.0, 0

    class Talker:
        def shutdown(self, how: int) -> None: ...

        def recv(self, count: int) -> bytes:
            nonlocal clock, heard
            clock += 1 if piece == 1 else 0
            heard += 1
            assert heard <= most
            return bytes(piece)

    monkeypatch.setattr(pyfiledrop.time, "monotonic", lambda: clock)
    pyfiledrop.Wire(Talker()).linger()  # type: ignore[arg-type]
    assert heard == most


LARGE = 24 << 20


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("PUT", f"/upload/{MARK}", body=bytes(LARGE)), 413),
        (form(file(bytes(LARGE))), 413),
        (chunk_request(bytes(LARGE), uuid=new_uuid(), chunk_size=LARGE, name=MARK), 413),
        (
            chunk_request(bytes(LARGE), uuid=new_uuid(), chunk_size=LARGE, headers={"Origin": "http://evil.example"}),
            403,
        ),
        (request("POST", "/upload", {"Content-Type": "text/plain"}, bytes(LARGE)), 400),
        (request("POST", "/nothing", {}, bytes(LARGE)), 404),
        (run_request(bytes(LARGE), uuid=new_uuid(), chunk_size=LARGE), 404),
        (run_request(bytes(LARGE), uuid=new_uuid(), chunk_size=LARGE, headers={"Origin": "http://evil.example"}), 403),
        (request("POST", "/uploads", {}, bytes(LARGE)), 413),
        (request("PUT", "/upload", {}, bytes(LARGE)), 405),
        (raw(*POST, "X : y", f"Content-Length: {LARGE}", body=bytes(LARGE)), 400),
        (raw(*POST, "Transfer-Encoding: chunked", body=bytes(LARGE)), 411),
    ],
    ids=[
        "body", "form", "chunk", "foreign", "type", "address", "run", "foreign run", "wish", "method", "head", "coding",
    ],
)  # fmt: skip
def test_row_28_early_refusal_of_a_large_body(small_server: Server, data: bytes, status: int) -> None:
    """A client that sends all it has before it reads sees status and sentence, not a reset connection; every time."""
    for _ in range(3):
        with Connection(small_server) as connection:
            connection.send(data)  # a reset would be an error here
            answer = connection.receive()
        assert answer.status == status
        assert_fixed_sentence(small_server, answer)
    assert tree(small_server.chunks) == {}


@pytest.mark.parametrize(
    "first",
    ["POST /nothing HTTP/1.1", "PUT /upload HTTP/1.1", "DELETE /nothing HTTP/1.1", "GET /uploads HTTP/1.1",
     f"PUT /uploads/{SOME}/0 HTTP/1.1"],
)  # fmt: skip
def test_row_28_body_is_never_the_next_request(shared_server: Server, first: str) -> None:
    """What is left of a body that nobody read is not taken for a request, whenever it comes."""
    hidden = raw("GET /uploads HTTP/1.1", "Host: localhost")
    for at_once in (True, False):
        with Connection(shared_server) as connection:
            head = raw(first, "Host: localhost", f"Content-Length: {len(hidden)}")
            connection.send(head + hidden if at_once else head)
            assert connection.receive().status in (200, 404, 405)
            with contextlib.suppress(ConnectionError):
                connection.send(b"" if at_once else hidden)
            assert connection.closed()


@pytest.mark.parametrize(
    "first",
    ["POST /nothing HTTP/1.1", "PUT /upload HTTP/1.1", "DELETE /nothing HTTP/1.1", "GET /uploads HTTP/1.1",
     f"PUT /uploads/{SOME}/0 HTTP/1.1"],
)  # fmt: skip
def test_row_28_smuggled_request(launch: StartServer, first: str) -> None:
    """What comes of an unread body after the server has stopped waiting for its end is not answered as a request."""
    server = launch("LINGER_SECONDS=0")
    evil = raw("PUT /upload/evil HTTP/1.1", "Host: localhost", "Content-Length: 1", body=b"x")
    with Connection(server) as connection:
        connection.send(raw(first, "Host: localhost", f"Content-Length: {len(evil) * 1_000_000}"))
        assert connection.receive().status in (200, 404, 405)
        with pytest.raises(ConnectionError):  # the connection has ended altogether, so nobody reads any more
            while True:
                connection.send(evil)
    exchange(server, request("GET", "/uploads?fence"))
    wait_until(lambda: "fence" in server.log())
    assert "evil" not in server.log()
    assert tree(server.storage) == {}


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize(
    "read",
    [
        "with the head",
        pytest.param("not yet", marks=pytest.mark.skipif(sys.platform == "win32", reason="its sockets do not tell")),
    ],
)
def test_row_28_more_than_was_asked_for(start_server: StartServer, version: str, read: str) -> None:
    """Who goes on talking on a connection that ends gets the whole answer all the same."""
    server = start_server("-a")
    content = random.randbytes(200_000)
    link = upload(server, content, chunk_size=len(content))["link"]
    head = raw(f"GET /{link} {version}", "Host: localhost", "Connection: close", "X: ")
    if read == "not yet":  # then the server must ask the socket whether there is more
        head = head.replace(b"X: ", b"X: " + b"y" * (pyfiledrop.HEAD_BLOCK_BYTES - len(head)))
    with Connection(server) as connection:
        connection.send(head + b"x" * 100_000)
        line = f"GET /{link[: len('download/') + 8]}... 200 "
        wait_until(lambda: line in server.log())  # all of it is in the system's hands
        assert connection.receive().body == content
        assert connection.sock.recv(1) == b"", "an end, not a reset"


def test_row_28_client_that_waits_to_be_asked(small_server: Server) -> None:
    """With Expect: 100-continue a refusal comes before a byte of the body is sent."""
    with Connection(small_server) as connection:
        connection.send(
            raw("PUT /upload/x HTTP/1.1", "Host: localhost", f"Content-Length: {LARGE}", "Expect: 100-continue")
        )
        assert connection.sock.recv(12) == b"HTTP/1.1 413"


# 42: the log


def test_row_42_names_in_the_log(server: Server) -> None:
    """Line breaks and escape codes in names, addresses and headers do not reach the log as such."""
    for name in ("a\r\nfake line", "\x1b[2J", "a\u2028b"):
        exchange(server, request("PUT", f"/upload/{quote(name, safe='')}", body=b"x"))
        exchange(server, form(file(b"x", name)))
        exchange(server, request("GET", f"/download/{quote(name, safe='')}"))
        exchange(server, request("GET", "/uploads", {"User-Agent": "x\x1b[2J"}))
    exchange(server, raw("GET /\x1b[2J HTTP/1.1", "Host: localhost"))
    wait_until(lambda: len(log_lines(server)) >= 13)
    assert re.fullmatch(r"[ -~\n]*", server.log())
    assert len(server.log().splitlines()) == 13
    assert all(" 127.0.0.1 " in line for line in log_lines(server))


def test_row_42_names_in_the_findings(start_server: StartServer, tmp_path: Path) -> None:
    """What start prints of names that it found is escaped too."""
    (tmp_path / "chunks" / "a\x1b[2J\u202e").mkdir(parents=True)
    server = start_server(folder=tmp_path)
    wait_until(lambda: "Ctrl-C ends it." in server.output())
    assert "Left alone in chunks" in server.output()
    assert not re.search("[\x1b\u202e]", server.output())


def test_answers_are_json_that_python_reads(shared_server: Server) -> None:
    """An error for a script has the key that Dropzone shows, and a code with values for other languages."""
    answer = exchange(shared_server, chunk(dzuuid="x"))
    assert list(json.loads(answer.body)) == ["error", "code", "values"]


# Row 37: the disk fails


def test_row_37_disk_that_fails(server: Server) -> None:
    """A fault of the disk is 500 in one sentence without a path; when it is mended, the same request goes through."""
    uuid = new_uuid()
    in_its_place = server.storage / f".{uuid}.part"
    in_its_place.mkdir()
    answer = exchange(server, chunk_request(CONTENT, uuid=uuid))
    assert (answer.status, answer.json()["error"]) == (500, pyfiledrop.DiskFault.sentence)
    assert "/" not in answer.json()["error"]
    wait_until(lambda: "disk: " in server.log())
    assert "Traceback" not in server.log()
    in_its_place.rmdir()
    assert exchange(server, chunk_request(CONTENT, uuid=uuid)).status == 200


def test_a_bug_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody thought of is 500 with a fixed sentence; the log has what a developer needs."""
    settings = pyfiledrop.Settings.parse(["-s", str(tmp_path / "s"), "-c", str(tmp_path / "c")])
    with contextlib.closing(pyfiledrop.open_store(settings.storage, settings.chunks)) as store:
        app = pyfiledrop.make_app(settings, store, pyfiledrop.Door(None, store.record))
        monkeypatch.setattr(store, "upload", lambda drop, uuid: 1 / 0)
        told: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": f"/uploads/{SOME}",
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
        }
        body = b"".join(app(environ, lambda status, *_: told.append(status)))
    assert told == ["500 Internal Server Error"]
    assert body.decode() == pyfiledrop.DropError.sentence + "\n"
    assert "ZeroDivisionError" in caplog.text


# 44: long lists


@pytest.mark.slow
@needs_proc
def test_row_44_a_long_list_costs_little(start_server: StartServer) -> None:
    """Twenty who ask for 10,000 entries with the longest names and read nothing take less than 10 MB of memory."""
    server, drop = start_server("--no-fsync"), new_uuid()
    names = [f"{number:05}{'😀' * 62}" for number in range(10_000)]  # 253 bytes each; one more would be too many
    with Connection(server) as connection:
        for start in range(0, len(names), 50):
            body = multipart_body({}, [("file", name, b"") for name in names[start : start + 50]])
            connection.send(request("POST", "/upload", FORM, body, cookie=drop))
            assert connection.receive().status == 201
        before = usage(server)
        mark, found = "", []
        while mark is not None:
            connection.send(request("GET", f"/uploads{mark and f'?before={mark}'}", cookie=drop))
            answer = connection.receive()
            page = answer.json()
            assert len(page["uploads"]) <= 100 and len(answer.body) <= 100 * 600
            found += [upload["name"] for upload in page["uploads"]]
            mark = page["next"]
    assert found == names[::-1]
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Connection(server)) for _ in range(20)]
        for reader in readers:
            reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.send(request("GET", "/uploads", cookie=drop) * 100)  # more than the system takes off the server
        assert all(reader.sock.recv(1) for reader in readers)  # each is being answered
        assert exchange(server, request("GET", "/uploads", cookie=drop)).status == 200
        assert usage(server).most_memory < before.memory + 10 * MIB


@pytest.mark.parametrize(
    "mark", ["", "x", "-1", "+1", "1_0", " 1", "1%20", "%ff", "%00", "9" * 16, "1.5", "\u0663", "1,2"]
)
def test_row_44_a_mark_that_is_none(shared_server: Server, mark: str) -> None:
    """Only what the server gave as the mark of the next page is one."""
    for cookie in ("", new_uuid()):
        target = f"/uploads?before={quote(mark, safe='%+')}"
        refused(shared_server, request("GET", target, cookie=cookie), 400)


# The second table: what its rows say of the disk


@pytest.mark.parametrize("how", ["removed", "taken away by hand"])
def test_row_45_a_uuid_stands_for_one_file(start_server: StartServer, how: str) -> None:
    """Under the link of a file that is gone nobody ever puts another one, after a restart neither."""
    server = start_server("-a")
    uuid, owner = new_uuid(), new_uuid()
    upload(server, CONTENT, uuid=uuid, cookie=owner)
    path = server.storage / f"{uuid}_file.bin"
    if how == "removed":
        assert exchange(server, request("DELETE", f"/uploads/{uuid}", cookie=owner)).status == 200
    else:
        path.unlink()
    for _ in range(2):
        for stranger in (owner, new_uuid(), ""):
            for data in (b"other", CONTENT):
                answer = exchange(server, chunk_request(data, uuid=uuid, cookie=stranger))
                assert answer.status == (410 if how == "removed" or stranger == owner else answer.status), answer.text
                assert 400 <= answer.status < 500
                answer = exchange(server, run_request(data, uuid=uuid, cookie=stranger))
                assert answer.status == (410 if how == "removed" or stranger == owner else answer.status), answer.text
                assert 400 <= answer.status < 500
        assert exchange(server, request("GET", f"/download/{uuid}")).status in (404, 410)
        server.restart()
    path.write_bytes(CONTENT)  # by hand: the machine's owner may
    server.restart()
    assert exchange(server, request("GET", f"/download/{uuid}")).body == CONTENT


def test_row_46_announcing_reserves_nothing(start_server: StartServer) -> None:
    """Who announces much and sends little keeps no space from others, and learns nothing of how much there is."""
    server = start_server("--max-total", "100")
    size = 90 * 1024 * 1024
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            silent = stack.enter_context(Connection(server))
            silent.send(request("PUT", "/upload/large.bin", {"Content-Length": str(size)}))
            fields = {"dztotalfilesize": str(size), "dztotalchunkcount": str(size // 4096), "dzchunksize": "4096"}
            first = chunk_request(CONTENT, uuid=new_uuid(), changes=fields, data=b"x" * 4096)
            assert exchange(server, first).status == 200
            uuid = announce(server, size)["uuid"]
            silent = stack.enter_context(Connection(server))
            silent.send(request("PUT", f"/uploads/{uuid}/0", {"Content-Length": str(size)}))
        polite = stack.enter_context(Connection(server))
        polite.send(request("PUT", "/upload/a.bin", {"Content-Length": str(size), "Expect": "100-continue"}))
        polite.send(b"x" * 10)
        wait_until(lambda: any(path.stat().st_size == 10 for path in server.storage.glob(".*.part")))
        assert exchange(server, request("PUT", "/upload/b.bin", body=CONTENT)).status == 201
        answer = exchange(server, request("PUT", "/upload/c.bin", {"Content-Length": "104800000"}))
        assert answer.status == 507
        assert re.findall(r"[0-9.]+ [KMG]?B", answer.text) == ["99.9 MB"], "its own size, and no other"
        answer = exchange(server, announce_request(104_800_000))
        assert answer.status == 507 and answer.headers["Retry-After"]
        assert re.findall(r"[0-9.]+ [KMG]?B", answer.text) == ["99.9 MB"]
    wait_until(lambda: not list(server.storage.glob(".*.part")))


def plant(path: Path, kind: str, victim: Path) -> None:
    """Put something of a local user's in the place of a file of ours."""
    match kind:
        case "symbolic link":
            path.symlink_to(victim)
        case "hard link":
            os.link(victim, path)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()


PLANTS = ["symbolic link", "hard link", "pipe"]


@pytest.mark.skipif(os.name == "nt", reason="links and pipes are another matter there")
@pytest.mark.parametrize("kind", PLANTS)
@pytest.mark.parametrize("chunk_size", [4, 100], ids=["in chunks", "in storage"])
def test_row_49_planted_before(server: Server, tmp_path: Path, kind: str, chunk_size: int) -> None:
    """What a local user puts where a new upload's bytes go is neither written to nor waited for."""
    victim, uuid = tmp_path / "victim", new_uuid()
    victim.write_bytes(b"the victim's")
    place = server.storage / f".{uuid}.part"
    if chunk_size == 4:
        place = server.chunks / uuid / "data"
        place.parent.mkdir()
    plant(place, kind, victim)
    statuses = {exchange(server, chunk_request(CONTENT, 0, uuid=uuid, chunk_size=chunk_size)).status for _ in range(2)}
    assert victim.read_bytes() == b"the victim's"
    assert statuses == ({200} if chunk_size == 100 else {409})
    if chunk_size == 100:
        stored = server.storage / f"{uuid}_file.bin"
        assert stored.read_bytes() == CONTENT and not stored.is_symlink() and stored.stat().st_nlink == 1


@pytest.mark.skipif(os.name == "nt", reason="links and pipes are another matter there")
@pytest.mark.parametrize("kind", [*PLANTS, "link of its folder"])
@pytest.mark.parametrize("restart", [False, True])
def test_row_49_swapped_between(server: Server, tmp_path: Path, kind: str, restart: bool) -> None:
    """What is put in the place of an unfinished upload's bytes is not taken for them, nor written to, nor published."""
    elsewhere, uuid = tmp_path / "elsewhere", new_uuid()
    elsewhere.mkdir()
    victim = elsewhere / "data"
    victim.write_bytes(b"0" * len(CONTENT))
    assert exchange(server, chunk_request(CONTENT, 0, uuid=uuid, chunk_size=4)).status == 200
    data = server.chunks / uuid / "data"
    data.unlink()
    if kind == "link of its folder":
        data.parent.rmdir()
        data.parent.symlink_to(elsewhere)
    else:
        plant(data, kind, victim)
    if restart:
        server.restart()
    for index in (1, 2, 0, 1, 2):
        answer = exchange(server, chunk_request(CONTENT, index, uuid=uuid, chunk_size=4))
        assert answer.status in (200, 409, 500), answer.text
    assert victim.read_bytes() == b"0" * len(CONTENT)
    for stored in server.storage.glob("*_file.bin"):
        assert stored.read_bytes() == CONTENT and stored.stat().st_nlink == 1
    assert upload(server, CONTENT, chunk_size=4)["done"], "others are not disturbed"


@pytest.mark.skipif(os.name == "nt", reason="links and pipes are another matter there")
@pytest.mark.parametrize("kind", [*PLANTS, "folder"])
def test_row_49_in_a_finished_files_place(start_server: StartServer, tmp_path: Path, kind: str) -> None:
    """What stands under a finished file's name and is none is not given out, and nobody waits for it."""
    server = start_server("-a")
    uuid, victim = new_uuid(), tmp_path / "victim"
    victim.write_bytes(b"the victim's")
    upload(server, CONTENT, uuid=uuid)
    stored = server.storage / f"{uuid}_file.bin"
    stored.unlink()
    plant(stored, kind, victim)
    answer = exchange(server, request("GET", f"/download/{uuid}"))
    assert answer.status == (200 if kind == "hard link" else 404)


@pytest.mark.skipif(os.name == "nt", reason="there files have no such rights")
def test_row_50_the_record_is_private(server: Server) -> None:
    """Other users of the machine cannot read the record, and it holds no key of anybody's."""
    owner = new_uuid()
    upload(server, CONTENT, cookie=owner)
    files = list(server.storage.glob(".pyfiledrop.sqlite3*"))
    assert len(files) > 1
    for path in files:
        assert path.stat().st_mode & 0o077 == 0, path
        assert owner.encode() not in path.read_bytes()


def test_row_55_first_chunks_by_the_thousand(launch: StartServer) -> None:
    """Each holds a descriptor until it is synced. Before there are none left new uploads are put off, then go on."""
    server = launch("MAX_OPEN_UPLOADS=20,HOUSEKEEPING_SECONDS=10000")
    answers = [exchange(server, chunk_request(CONTENT, 0, uuid=new_uuid(), chunk_size=4)) for _ in range(60)]
    assert {answer.status for answer in answers} == {200, 503}
    assert all(answer.headers["Retry-After"] for answer in answers if answer.status == 503)
    wait_until(lambda: exchange(server, chunk_request(CONTENT, 0, uuid=new_uuid(), chunk_size=4)).status == 200)


@pytest.mark.slow
def test_row_56_empty_files_are_not_free(start_server: StartServer) -> None:
    """What the record takes of them counts beside --max-total."""
    server = start_server("--max-total", "1")
    statuses: list[int] = []
    with Connection(server) as connection:
        while not statuses or statuses[-1] == 201:
            connection.send(request("PUT", f"/upload/{len(statuses)}{'x' * 200}", body=b""))
            statuses.append(connection.receive().status)
            assert len(statuses) < 2000
    assert statuses[-1] == 507 and len(statuses) > 200


def test_row_61_short_names(launch: StartServer) -> None:
    """On a file system with shorter names than most a long one is shortened, its suffix kept."""
    server = launch("MAX_STORED_BYTES=143")
    file = upload(server, CONTENT, name="ü" * 100 + ".tar")
    (stored,) = server.storage.glob(f"{file['uuid']}_*")
    assert len(os.fsencode(stored.name)) <= 143 and stored.name.endswith("ü.tar")


@pytest.mark.skipif(os.name == "nt", reason="there a folder in use cannot be moved")
@pytest.mark.parametrize("anew", [False, True], ids=["moved away", "made anew"])
def test_row_62_storage_goes_away(server: Server, program: list[str], anew: bool) -> None:
    """Uploads are told so, and no second server starts beside the first one."""
    away = server.storage.with_name("away")
    begun = announce(server, len(CONTENT))["uuid"]
    server.storage.rename(away)
    if anew:
        server.storage.mkdir()
    for data in (
        chunk_request(CONTENT, 0, uuid=new_uuid(), chunk_size=4),
        request("PUT", "/upload/a", body=CONTENT),
        announce_request(10),
        run_request(CONTENT, uuid=begun),
    ):
        answer = exchange(server, data)
        assert answer.status == 503 and "start the server again" in answer.text
    second = subprocess.run(
        [*program, "--port", "0", "--host", "127.0.0.1", "-s", str(server.storage), "-c", str(server.chunks)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (second.returncode, second.stderr.count("\n")) == (2, 1) and "Another pyfiledrop" in second.stderr
    shutil.rmtree(server.storage, ignore_errors=True)
    away.rename(server.storage)
    assert upload(server, CONTENT)["done"]
