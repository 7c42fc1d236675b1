"""Requests that nobody would send: whatever comes, each gets an answer that makes sense, and nothing is left over.

The fuzzer speaks the server's own grammar with mistakes in it, over real connections. It is seeded, so a failure comes
again; its message has the bytes. The two lanes on which a form's bytes travel are held against each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import sqlite3
import time
import uuid as uuids
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    BOUNDARY,
    DROP_COOKIE,
    Connection,
    Server,
    StartServer,
    addressed,
    chunk_fields,
    exchange,
    multipart_body,
    request,
    upload,
    wait_until,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from loading import KIB, MIB, Usage, needs_proc, usage
from storing import Folders

import pyfiledrop

HANG_SECONDS = 1.0  # an answer takes milliseconds; what takes so long waits for something that never comes
WORKERS = 4
MAX_LOST = 3  # of all requests: more is no machine that was busy for a moment
PASSWORD = "fuzzing"
STATUSES = {
    200, 201, 206, 303, 304, 400, 401, 403, 404, 405, 409, 410, 411, 412, 413, 414, 416, 417, 421, 429, 431, 503, 507,
}  # fmt: skip
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

# The grammar

NUMBERS = [
    "", "0", "1", "2", "-1", "+1", "1_0", "01", " 1", "1 ", "1e3", "0x1", "1.0", "NaN", "\u0663", "9" * 15, "9" * 16,
    "9" * 999, "\0", "1\r\n", "4294967296", "9223372036854775808", "100001",
]  # fmt: skip
NAMES = [
    b"a.txt", b"", b".", b"..", b"../../x", b"C:\\x", b"CON", b"nul.txt", b".ssh", b"x" * 300, b"x" * 5000, b"a\0b",
    b"a\xffb", "отчёт.pdf".encode(), "e\u0301\u202e.exe".encode(), b"%0d%0aX: y", b"a%22b", b"a;b=c", b"\xed\xa0\x80",
    b"<img onerror=x>", b"a\tb\x7f",
]  # fmt: skip
DISPOSITIONS = [
    b'form-data; name="file"', b"form-data", b"", b"attachment; filename=x", b'form-data; name="file"; filename=x',
    b"form-data; filename=x", b"form-data; name=file; filename*=UTF-8''%e2%82%ac",
    b'form-data; name="file"; filename="a\\"b"', b'form-data; name="file; filename="x"',
    b'form-data; name="file"; filename="x"; filename="y"', b'form-data; name="dzuuid"; filename="x"',
    b"FORM-DATA; NAME=file; FILENAME=x", b'form-data; name="\xff"; filename="\xff"',
    b'form-data;;; name="file";filename="x";', b'form-data; name="file"; filename="' + b"y" * 9000 + b'"',
]  # fmt: skip
PART_HEADERS = [
    b"", b"", b"", b"Content-Type: text/html\r\n", b"Content-Transfer-Encoding: base64\r\n", b" folded\r\n", b"X\r\n",
    b"X: " + b"y" * 20_000 + b"\r\n", b"Content-Disposition: form-data; name=x\r\n", b"\xff: \xff\r\n",
    b"Content-Length: 1\r\n",
]  # fmt: skip
TARGETS = [
    "/", "/upload", "/uploads", "/uploads/", "/upload/", "/upload/x", "/upload/%2e%2e%2fx", "/upload/a%00b",
    "/upload/%ff%fe", "/download/", "/favicon.ico", "/dropzone.js", "/dropzone.css", "/dropzone.map", "//", "/?",
    "/%", "/%zz", "/uploads?x=1&y=%00", "/../etc/passwd", "*", "x", "http://127.0.0.1/uploads",
    "http://[::1]:80/uploads", "http://[", "https://a/%ff", "/" + "a" * 3000, "/" + "%41" * 3000,
    "/upload/" + "b" * 7000, "/uploads;x", "/uploads/..", "/UPLOADS", "/upload/%0d%0aX:%20y", "/\x7f", "/a b",
    "/<script>", "/download/%2e%2e", "/drops/", "/drops/x.zip", f"/drops/{'0' * 36}.zip", "/drops/-?after=-1",
    "/qr", "/qr?link=javascript:x", "/qr?link=http://127.0.0.1/&link=", "/qr?link=%ff",
]  # fmt: skip
WISHES = [
    '{"name": "a", "size": 5, "modified": null}', '{"name": "a", "size": 0}', '{"name": "a", "size": 99999}', "", "{}",
    '{"name": "a", "size": 5, "size": 5}', '{"name": "a", "size": -5}', '{"name": "a", "size": NaN}', "[" * 8000,
    '{"name": "\\ud800\\u0000", "size": 5}', '{"name": "\\u202ea", "size": 1e3}', '{"name": 5, "size": "5"}', "null",
    '{"name": "a", "size": 1, "path": "../\\ud800/\\u0000"}', '{"name": "a", "size": 1, "drop": "../x", "path": 5}',
    '{"name": "' + "x" * 8000 + '", "size": 1}', '{"name": "a", "size": ' + "9" * 5000 + "}", " " * 9000, "\xff",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "G T", "", "GET\t", "A" * 30]
HEADERS: dict[str, list[str]] = {
    "Host": ["a", "127.0.0.1", "", "a:b", "[::1]:1", "a, b", "\xff", "x" * 500],
    "Accept": ["application/json", "*/*", "text/html", "", "application/json;q=0", "\xff"],
    "Cookie": [
        f"{DROP_COOKIE}=x", "a@b=1", DROP_COOKIE, "=", "(=)", f'{DROP_COOKIE}="\\377"', ";" * 100,
        f"{DROP_COOKIE}=\xff", "x=" + "y" * 8000, "x=" + "y" * 9000, f"{DROP_COOKIE};" * 40,
    ],
    "Content-Type": [
        "multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="a b"',
        "multipart/form-data; boundary=\xff", "multipart/mixed; boundary=x", "text/plain", "",
        "multipart/form-data; boundary=" + "b" * 71, "multipart/form-data; boundary=-; boundary=x",
        f'multipart/form-data; boundary="{BOUNDARY}"', f"MULTIPART/Form-Data; charset=x; BOUNDARY={BOUNDARY}",
        f"multipart/form-data;{BOUNDARY}",
    ],
    "Range": [
        "bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=5-2", "bytes=0-1,3-4", "bytes=9999999-",
        "bytes=-999999999999999999", "bytes=--1", "bytes=1", "bytes=", "bytes", "items=0-1", "bytes=a-b",
        "bytes=0x0-", "bytes= 0 - 1 ", "bytes=\u0661-".encode().decode("latin-1"), "bytes=0-" + "9" * 99,
        "bytes=" + "0-1," * 500, "",
    ],
    "If-Range": ['"x"', "x", "Thu, 01 Jan 1970 00:00:00 GMT", "", "\xff"],
    "If-None-Match": ["*", '"x"', 'W/"x"', '"', "", "\xff", ",,,"],
    "If-Match": ["*", '"x"', "x", '"', ""],
    "If-Modified-Since": [
        "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 99 Foo 99999", "", "0", "Thu, 01 Jan 99999 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
    ],
    "If-Unmodified-Since": ["Thu, 01 Jan 1970 00:00:00 GMT", "x"],
    "Origin": ["null", "http://127.0.0.1", "http://evil.example", "http://[", "", "\xff", "http://a:b:c"],
    "Sec-Fetch-Site": ["same-origin", "cross-site", "none", "same-site", "", "x"],
    "Expect": ["100-continue", "100-Continue", "200-ok", ""],
    "Connection": ["close", "keep-alive", "Keep-Alive, close", "upgrade", "", ",,,", "x" * 1000],
    "Authorization": ["Basic", "Basic x", "Basic OnNlY3JldA==", "Bearer x", "Basic \xff", "Digest x=y", "Basic /w=="],
    "Transfer-Encoding": ["chunked", "identity", "gzip, chunked", "\x0bchunked", ""],
    "Upgrade": ["h2c", "websocket"],
    "X-Forwarded-For": ["1.2.3.4", "x"],
    "Content-Encoding": ["gzip", "identity"],
    "X_Under": ["x"],
    "Proxy-Connection": ["close"],
    "Bad Name": ["x"],
    "": ["x"],
    "X-Long": ["x" * 20_000, "x" * 40_000],
    "X": ["a\tb", "a\0b", "a\x7fb", "a\rb", "a\nb", "a\r\n b", "\x80\x85\xa0"],
}  # fmt: skip
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b":", b"--", b"\xff", b"HTTP/1.1", b"GET ",
    b"Content-Length: 1\r\n", b"=", b";", b'"', b"%", f"--{BOUNDARY}".encode(), f"\r\n--{BOUNDARY}--\r\n".encode(),
    f"\r\n--{BOUNDARY}\r\n".encode(), b"Content-Disposition: ", b"\r\nX: y", b"0", b"9" * 20,
]  # fmt: skip


@dataclass
class Said:
    """One request: its bytes, whether the server can know where it ends, and what it is about."""

    data: bytes
    framed: bool = True
    head: bool = False
    uuids: set[str] = field(default_factory=set)  # uploads that are not as they were meant to be after it


class Grammar:
    """Makes requests. A drop of its own, so that what it does to its uploads happens in the order of its requests."""

    def __init__(self, seed: int, session: str = "") -> None:
        self.pick = random.Random(seed)
        self.drop = str(uuids.UUID(int=self.pick.getrandbits(128), version=4))
        self._cookie = f"{DROP_COOKIE}={self.drop}" + (f"; {session}" if session else "")
        self._open: dict[str, tuple[bytes, int, list[int]]] = {}
        self.done: list[str] = []
        self.contents: dict[str, bytes] = {}  # of uploads about which nothing wrong was said

    def chance(self, part: float) -> bool:
        return self.pick.random() < part

    def request(self) -> Said:
        kind = self.pick.random()
        if kind < 0.45:
            said = self._chunk()
        elif kind < 0.55:
            said = self._form()
        elif kind < 0.62:
            said = self._run()
        elif kind < 0.64:
            said = self._said("POST", "/uploads", {}, self.pick.choice(WISHES).encode("latin-1"))
        elif kind < 0.7:
            name = self.pick.choice(NAMES).decode("latin-1").encode("unicode_escape").decode().replace(" ", "")
            said = self._said("PUT", f"/upload/{name[:900]}", {}, self._content())
        elif kind < 0.73:
            form = b"password=" + self.pick.choice([b"x", b"%ff", b"", PASSWORD.encode(), b"&" * 50, b"x" * 1100])
            said = self._said("POST", "/", {}, form)
        else:
            said = self._look()
        return self._mutate(said) if self.chance(0.3) else said

    # Requests that are whole; what is wrong with them is inside

    def _content(self) -> bytes:
        kind = self.pick.random()
        if kind < 0.05:
            return self.pick.randbytes(self.pick.randrange(60_000, 200_000))
        if kind < 0.2:
            return b"".join(self.pick.choices(TOKENS, k=self.pick.randrange(20)))
        return self.pick.randbytes(self.pick.randrange(self.pick.choice([1, 10, 3000])))

    def _said(self, method: str, target: str, headers: dict[str, str], body: bytes | None = None) -> Said:
        lines = {
            "Host": "127.0.0.1",
            "Accept": self.pick.choice(["application/json"] * 4 + ["*/*"]),
            "Cookie": self._cookie if self.chance(0.9) else "",
            **headers,
        }
        if body is not None:
            lines["Content-Length"] = str(len(body))
        version = (
            "HTTP/1.1" if self.chance(0.97) else self.pick.choice(["HTTP/1.0", "HTTP/2", "HTTP/1.1 ", "http/1.1", ""])
        )
        text = [f"{method} {target} {version}"] + [f"{name}: {value}" for name, value in lines.items() if value]
        if self.chance(0.2):
            for _ in range(self.pick.choice([1, 1, 2, 3, 120])):
                name = self.pick.choice(list(HEADERS))
                text.insert(self.pick.randrange(1, len(text) + 1), f"{name}: {self.pick.choice(HEADERS[name])}")
        data = "\r\n".join([*text, "", ""]).encode("latin-1", "replace") + (body or b"")
        return Said(data, head=method == "HEAD")

    def _form_request(self, parts: list[bytes], wrong: float) -> Said:
        body = b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts)
        body += f"--{BOUNDARY}--\r\n".encode()
        if self.chance(wrong):
            body = self.pick.choice(
                [
                    body[:-2],
                    body[:-4],
                    body + b"epilogue",
                    b"preamble\r\n" + body,
                    body.replace(b"\r\n", b"\n"),
                    b"",
                    body + body,
                ]
            )
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        if self.chance(wrong):
            kind = self.pick.choice(HEADERS["Content-Type"])
        return self._said("POST", "/upload", {"Content-Type": kind}, body)

    def _chunk(self) -> Said:
        if self._open and self.chance(0.8):
            uuid = self.pick.choice(list(self._open))
        else:
            uuid = str(uuids.UUID(int=self.pick.getrandbits(128), version=4))
            content = self._content()
            chunk_size = max(1, self.pick.choice([len(content), len(content) // 2 + 1, len(content) // 7 + 1]))
            self._open[uuid] = content, chunk_size, list(range(max(1, -(-len(content) // chunk_size))))
            self.contents[uuid] = content
        content, chunk_size, missing = self._open[uuid]
        index = self.pick.choice(missing)
        chunk = content[index * chunk_size : (index + 1) * chunk_size]
        fields = list(chunk_fields(len(content), index, uuid=uuid, chunk_size=chunk_size).items())
        file = b'Content-Disposition: form-data; name="file"; filename="fuzz.bin"\r\n\r\n' + chunk
        if self.chance(0.6):
            missing.remove(index)
            if not missing:
                del self._open[uuid]
                self.done.append(uuid)
            parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields]
            return self._form_request([*parts, file], 0)
        self.contents.pop(uuid, None)
        for _ in range(self.pick.choice([1, 1, 2])):
            place = self.pick.randrange(len(fields))
            name, value = fields[place]
            change = self.pick.randrange(6)
            if change < 3:
                fields[place] = (
                    name,
                    self.pick.choice([*NUMBERS, value.upper(), str(uuids.UUID(int=self.pick.getrandbits(128)))]),
                )
            elif change == 3 and len(fields) > 1:
                del fields[place]
            elif change == 4:
                fields.append((name, value))
            else:
                fields.append(("modified", self.pick.choice([*NUMBERS, "-5"])))
        parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields]
        parts.append(self._odd_file(chunk) if self.chance(0.3) else file)
        if self.chance(0.2):
            self.pick.shuffle(parts)
        said = self._form_request(parts, 0.2)
        said.uuids.add(uuid)
        return said

    def _run(self) -> Said:
        begun = [uuid for uuid, (content, size, missing) in self._open.items() if len(missing) * size < len(content)]
        if not begun:
            return self._chunk()
        uuid = self.pick.choice(begun)
        content, chunk_size, missing = self._open[uuid]
        first = end = self.pick.choice(missing)
        while end in missing and self.chance(0.8):
            end += 1
        end = max(end, first + 1)
        body = content[first * chunk_size : end * chunk_size]
        if self.chance(0.6):
            missing[:] = [index for index in missing if not first <= index < end]
            if not missing:
                del self._open[uuid]
                self.done.append(uuid)
            return self._said("PUT", f"/uploads/{uuid}/{first}", {}, body)
        self.contents.pop(uuid, None)
        number = self.pick.choice([str(first), *map(ascii, NUMBERS), "%20", "%ff"])[:3000].replace(" ", "")
        body = self.pick.choice([body, body[:-1], body + b"x", b"", content, self._content()])
        said = self._said("PUT", f"/uploads/{uuid}/{number}", {}, body)
        said.uuids.add(uuid)
        return said

    def _odd_file(self, content: bytes) -> bytes:
        if self.chance(0.5):
            disposition = b'form-data; name="file"; filename="' + self.pick.choice(NAMES) + b'"'
        else:
            disposition = self.pick.choice(DISPOSITIONS)
        more = self.pick.choice(PART_HEADERS)
        return b"Content-Disposition: " + disposition + b"\r\n" + more + b"\r\n" + content

    def _form(self) -> Said:
        count = self.pick.choice([0, 1, 1, 1, 2, 3, 70])
        return self._form_request([self._odd_file(self._content()[:5000]) for _ in range(count)], 0.2)

    def _look(self) -> Said:
        uuid = str(uuids.UUID(int=self.pick.getrandbits(128)))
        if self.chance(0.9):
            uuid = self.pick.choice([*self.done[-50:], *self._open, uuid])
        kind = self.pick.random()
        if kind < 0.35:
            headers = {}
            for name in ("Range", "If-Range", "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"):
                if self.chance(0.3):
                    headers[name] = self.pick.choice(HEADERS[name])
            return self._said(self.pick.choice(["GET", "GET", "HEAD"]), f"/download/{uuid}", headers)
        if kind < 0.5:
            return self._said(
                self.pick.choice(["GET", "HEAD"]), self.pick.choice(["/uploads", f"/uploads/{uuid}", "/"]), {}
            )
        if kind < 0.6:
            self._open.pop(uuid, None)
            self.contents.pop(uuid, None)
            said = self._said("DELETE", self.pick.choice([f"/uploads/{uuid}"] * 9 + ["/uploads"]), {})
            said.uuids.add(uuid)
            return said
        method = self.pick.choice(METHODS) if self.chance(0.5) else "GET"
        body = b"x" * self.pick.randrange(20) if self.chance(0.2) else None
        return self._said(method, self.pick.choice(TARGETS), {}, body)

    # Requests whose end, or whose everything, is uncertain

    def _mutate(self, said: Said) -> Said:
        data = bytearray(said.data)
        if said.head:
            return said
        for _ in range(self.pick.choice([1, 1, 1, 2, 5])):
            # Heads are short and bodies may be long: half of the mistakes are made among the first bytes.
            most = len(data) if self.chance(0.5) else min(len(data), 300)
            place, other = sorted((self.pick.randrange(most + 1), self.pick.randrange(most + 1)))
            change = self.pick.randrange(8)
            if change == 0 and place < len(data):
                data[place] ^= 1 << self.pick.randrange(8)
            elif change == 1:
                del data[place : place + self.pick.choice([1, 1, 2, 10])]
            elif change == 2:
                data[place:place] = self.pick.choice(TOKENS)
            elif change == 3:
                data[place:place] = data[place:other][:2000]
            elif change == 4:
                del data[place:]
            elif change == 5:
                data[place : place + 4] = self.pick.choice(TOKENS)
            elif change == 6:
                length = str(self.pick.choice([*NUMBERS, len(data)])).encode()
                before, found, after = bytes(data).partition(b"Content-Length: ")
                data = bytearray(before + found + (length + after.lstrip(b"0123456789") if found else b""))
            else:
                data[place:other] = self.pick.randbytes(min(50, other - place))
        named = {match.decode() for match in re.findall(UUID.encode(), said.data + bytes(data))}
        return Said(bytes(data), framed=False, uuids=said.uuids | named)


# The client that judges the answers


@dataclass
class Judge:
    """What a worker has been told, for the look into the folders at the end."""

    kept: dict[str, int | None] = field(default_factory=dict)  # finished files: size, if it was told
    unsaid: set[str] = field(default_factory=set)  # sent by runs whose answers, as text, do not say that it is done
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0  # scripts of which nobody heard what they did, since a busy machine was late

    def hear(self, status: int, head: bytes, body: bytes, cut: bool) -> None:
        assert status in STATUSES, f"status {status}"
        self.statuses[status] += 1
        assert status not in (429, 503, 507) or b"\r\nRetry-After: " in head, head
        if b"\r\nContent-Type: application/json" in head and body:
            told = json.loads(body)
            assert status < 400 or re.fullmatch(r"[A-Z].*", told["error"]), told
            for file in [*told.get("files", []), *([told["upload"]] if "upload" in told else [])]:
                if file["done"]:
                    self.kept[file["uuid"]] = file["size"]
        elif status in (200, 201) and (body.startswith(b"Received ") or b" received</h1>" in body):
            for uuid in re.findall(rf'download/({UUID})["\n]'.encode(), body + b"\n"):
                self.kept.setdefault(uuid.decode(), None)


class Worker:
    """Sends what a grammar makes, one after the other or several at once, over a connection kept while it can be."""

    def __init__(self, server: Server, grammar: Grammar) -> None:
        self._server, self._grammar = server, grammar
        self._sock: socket.socket | None = None
        self._in = b""
        self.judge = Judge()

    def run(self, count: int, until: float = float("inf")) -> None:
        try:
            self._run(count, until)
        finally:
            self.close()

    def _run(self, count: int, until: float) -> None:
        while count > 0 and time.monotonic() < until:
            script = [self._grammar.request() for _ in range(self._grammar.pick.choice([1, 1, 1, 2, 3, 6]))]
            for position, said in enumerate(script):
                if not said.framed:  # nothing can follow it
                    for unsent in script[position + 1 :]:
                        self._forget(unsent)
                    del script[position + 1 :]
            count -= len(script)
            try:
                try:
                    self._send(script)
                except TimeoutError:  # a busy machine may be late, but not twice for the same
                    self._lose(script)
                    self._send(script)
            except (AssertionError, OSError, ValueError) as error:
                sent = [one.data if len(one.data) < 3000 else one.data[:3000] + b"..." for one in script]
                raise AssertionError(f"{error!r} after {sent}") from error

    def close(self) -> None:
        if self._sock:
            self._sock.close()
        self._sock, self._in = None, b""

    def _forget(self, said: Said) -> None:
        """What was not sent, or not heard to its end, says nothing about its upload."""
        for uuid in re.findall(UUID.encode(), said.data):
            self._grammar.contents.pop(uuid.decode(), None)

    def _lose(self, script: list[Said]) -> None:
        """The connection, and with it whatever the answers would have said."""
        self.close()
        self.judge.lost += 1
        for said in script:
            self._forget(said)
            for uuid in re.findall(UUID.encode(), said.data):
                self.judge.kept.pop(uuid.decode(), None)

    def _send(self, script: list[Said]) -> None:
        if self._sock is None:
            self._sock = socket.create_connection((self._server.host, self._server.port), HANG_SECONDS)
        for said in script:
            for uuid in said.uuids:
                self._grammar.contents.pop(uuid, None)
        framed = script[-1].framed
        with contextlib.suppress(ConnectionError):
            self._sock.sendall(addressed(b"".join(said.data for said in script), self._server))
        if not framed:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        for position, said in enumerate(script):
            if not self._answer(said):
                for unheard in script[position:]:
                    self._forget(unheard)
                break
        else:
            if framed:
                return
        # The server has ended the connection, or will: whatever else it says must be answers too.
        while self._answer(Said(b"", framed=False)):
            pass
        self.close()

    def _answer(self, said: Said) -> bool:
        """Hear one answer; whether another one can follow."""
        while True:
            head = self._until(b"\r\n\r\n")
            if not head:
                assert not said.framed or self._closing, "no answer"
                return False
            match = re.match(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+\r\n", head)
            assert match, head
            status = int(match[1])
            if status != 100:
                break
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        self._closing = b"\r\nConnection: close\r\n" in head
        assert length or status in (304, 303) or said.head, head
        count = int(length[1]) if length and status != 304 and not said.head else 0
        while len(self._in) < count and self._more():
            pass
        body, self._in = self._in[:count], self._in[count:]
        assert len(body) == count, f"{len(body)} of {count} bytes"
        if said.head and self._closing:
            self._in = b""  # what is refused before its method is known is answered with a body
            while self._more():
                self._in = b""
        self.judge.hear(status, head, body, not said.framed)
        removed = re.match(rf"DELETE \S*/uploads/({UUID})".encode(), said.data, re.IGNORECASE)
        if status == 200 and removed and (b'"removed"' in body or body == b"Removed.\n"):
            self.judge.kept.pop(removed[1].decode().lower(), None)
        run = re.match(rf"PUT \S*/uploads/({UUID})/".encode(), said.data, re.IGNORECASE)
        if status == 200 and run and (body.endswith(b" are in.\n") or body.startswith(b"Received ")):
            self.judge.unsaid.add(run[1].decode().lower())
        return not self._closing

    _closing = False

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._in:
            if not self._more():
                assert not self._in, f"half an answer: {self._in[:300]!r}"
                return b""
        head, _, self._in = self._in.partition(mark)
        return head + mark

    def _more(self) -> bool:
        assert self._sock
        try:
            data = self._sock.recv(256 * KIB)
        except ConnectionResetError:
            return False
        self._in += data
        return bool(data)


def crowd(server: Server, seed: int, count: int, session: str = "", until: float = float("inf")) -> list[Worker]:
    """Let some workers send so many requests together."""
    workers = [Worker(server, Grammar(seed * 1000 + number, session)) for number in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        for done in [pool.submit(worker.run, count // WORKERS, until) for worker in workers]:
            done.result()
    return workers


def assert_consistent(server: Server, workers: list[Worker]) -> None:
    """In storage is what somebody was told of, in chunks what is on record. The server must have been stopped."""
    kept = {uuid: size for worker in workers for uuid, size in worker.judge.kept.items()}
    stored = {name[:36]: server.storage / name for name in os.listdir(server.storage) if not name.startswith(".")}
    hidden = [name for name in os.listdir(server.storage) if name.startswith(".")]
    assert set(stored) >= set(kept), set(kept) - set(stored)
    unsaid = set().union(*(worker.judge.unsaid for worker in workers))
    if not any(worker.judge.lost for worker in workers):
        differ = (set(stored) ^ set(kept)) - unsaid
        assert not differ, f"{differ}; {[w._grammar.drop for w in workers]}"
    assert all(path.stat().st_size == kept[uuid] for uuid, path in stored.items() if kept.get(uuid) is not None)
    assert all(name.startswith(".pyfiledrop.sqlite3") for name in hidden), hidden
    clean = {uuid: content for worker in workers for uuid, content in worker._grammar.contents.items()}
    compared = [uuid for uuid in clean if uuid in stored]
    assert all(stored[uuid].read_bytes() == clean[uuid] for uuid in compared)
    assert len(compared) > len(stored) // 50, "too few could be compared for that to mean anything"
    with contextlib.closing(sqlite3.connect(server.storage / ".pyfiledrop.sqlite3")) as db:
        rows = db.execute("SELECT uuid, stored, chunk_count FROM uploads").fetchall()
    assert {uuid for uuid, name, _ in rows if name is not None} == set(stored)
    unfinished = {uuid for uuid, name, _ in rows if name is None}
    assert {path.name for path in server.chunks.iterdir()} == unfinished
    assert all(os.listdir(server.chunks / uuid) == ["data"] for uuid in unfinished)


@needs_proc
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("seed", "part", "options"), [(1, 0.8, ()), (2, 0.2, ("--allow-host", "127.0.0.1"))])
def test_fuzz(
    start_server: StartServer, pytestconfig: pytest.Config, seed: int, part: float, options: tuple[str, ...]
) -> None:
    """Whatever is said is answered soon and never with 500, memory stays flat, the store agrees with the answers."""
    count = int(pytestconfig.getoption("--fuzz") * part)
    env = {"PYFILEDROP_PASSWORD": PASSWORD} if options else {}
    server = start_server("-a", "--no-fsync", "--max-size", "1", *options, env=env)
    session = ""
    if options:
        answer = exchange(server, request("POST", "/", {}, f"password={PASSWORD}".encode()))
        session = answer.headers["Set-Cookie"].partition(";")[0]
    workers = crowd(server, seed, count // 10, session)
    warm = usage(server)
    workers += crowd(server, seed + 100, count - count // 10, session)
    statuses = sum((worker.judge.statuses for worker in workers), Counter[int]())
    assert sum(statuses.values()) > count / 2, statuses
    assert sum(worker.judge.lost for worker in workers) <= MAX_LOST, "answers are late too often"
    assert {200, 201, 400, 404, 405, 411, 413} | ({401, 421} if options else {206, 416}) <= set(statuses), statuses
    assert usage(server).memory < warm.memory + 32 * MIB
    assert usage(server).threads <= warm.threads + pyfiledrop.SPARE_WORKERS
    assert exchange(server, request("GET", "/favicon.ico")).status == 200
    assert "Traceback" not in server.log() and "bug" not in server.log()
    server.stop()
    assert_consistent(server, workers)
    server.start()
    assert "Traceback" not in server.log()
    if not options:
        assert upload(server, random.randbytes(100_000), chunk_size=30_000)["done"]


@needs_proc
@pytest.mark.timeout(0)
def test_soak(start_server: StartServer, pytestconfig: pytest.Config) -> None:
    """However long it goes on, threads, descriptors and memory stay as they are, the store agrees with the answers."""
    seconds = float(pytestconfig.getoption("--soak"))
    server = start_server("-a", "--no-fsync", "--max-size", "1", "--quiet")
    started = time.monotonic()
    samples: list[Usage] = []
    workers: list[Worker] = []
    seed = 10_000
    while time.monotonic() < started + seconds:
        seed += 1
        until = min(started + seconds, time.monotonic() + max(5.0, seconds / 100))
        workers += crowd(server, seed, 1 << 40, until=until)
        wait_until(lambda: usage(server).threads <= 3 + pyfiledrop.SPARE_WORKERS, 60)
        samples.append(usage(server))
    first, last = samples[len(samples) // 4], samples[-1]
    assert last.threads <= first.threads + pyfiledrop.SPARE_WORKERS, samples
    assert last.descriptors <= first.descriptors + 2 * pyfiledrop.MAX_IDLE_PIPES, samples
    requests = sum(sum(worker.judge.statuses.values()) for worker in workers)
    assert last.memory <= first.memory + 32 * MIB, (samples, requests)
    server.stop()
    assert_consistent(server, workers)


def test_requests_in_one_piece(shared_server: Server) -> None:
    """Two requests that come in one piece, cut anywhere between two packets, are two requests with two answers."""
    body = multipart_body({}, [("file", "x.bin", b"content")])
    form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    data = request("POST", "/upload", form, body) + request("GET", "/uploads")
    for cut in [*range(1, len(data), 7), len(data) - 1]:
        with Connection(shared_server) as connection:
            for piece in (data[:cut], data[cut:]):
                connection.send(piece)
            assert [connection.receive().status for _ in range(2)] == [201, 200], cut


# The two lanes


@dataclass
class Lane:
    """A store, and a way of bytes into it: by a look at the first ones and the system's pipe, or by a parser."""

    folders: Folders
    store: pyfiledrop.Store
    splices: bool

    def receive(self, body: bytes, length: int, buffered: int, content_type: str) -> Any:
        """What becomes of a form whose body announces this length; so many of its bytes come with the head."""
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.MonkeyPatch.context() as patch:
            patch.setattr(pyfiledrop, "SPLICE_FROM_BYTES", 1)
            wire = pyfiledrop.Wire(ours)
            wire.open()
            if not self.splices:
                wire.can_splice = False
                patch.setattr(pyfiledrop, "read_plain_form", lambda data, opening: None)
            theirs.sendall(body[buffered:])
            theirs.shutdown(socket.SHUT_WR)
            taken = pyfiledrop.Body(wire, length, body[:buffered])
            before = self.listing()
            try:
                uploads, is_chunk = pyfiledrop.receive_form(taken, content_type, self.store, None, 10 * MIB)
            except pyfiledrop.DropError as error:
                assert self.listing() == before, "what was refused must leave nothing"
                return type(error), str(error), {}
            return is_chunk, taken.remaining, [self.describe(upload) for upload in uploads]

    def listing(self) -> set[str]:
        return {*os.listdir(self.folders.storage), *os.listdir(self.folders.chunks)}

    def describe(self, upload: pyfiledrop.Upload) -> Any:
        if upload.stored is not None:
            content = (self.folders.storage / upload.stored).read_bytes()
            return upload.name, upload.size, upload.modified, upload.stored[36:], content
        (ranges,) = self.store.chunks_in(upload) or [[]]
        data = (self.folders.chunks / upload.uuid / "data").read_bytes()
        content = data[ranges[0] * upload.chunk_size : (ranges[1] + 1) * upload.chunk_size]
        return upload.name, upload.size, upload.modified, ranges, content


@pytest.fixture
def lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Lane]]:
    monkeypatch.setattr(pyfiledrop, "HOUSEKEEPING_SECONDS", 1e6)
    both = []
    for splices in (True, False):
        folders = Folders(tmp_path / str(splices))
        both.append(Lane(folders, folders.open(fsync=False), splices))
    yield both
    for lane in both:
        lane.folders.close()


@dataclass
class Form:
    """What is sent; `length` is what is announced, and `buffered` bytes come with the head."""

    body: bytes
    length: int
    buffered: int
    content_type: str


# Contents in which something looks like the form's own lines.
CONTENTS = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"\r\n", b"\r", b"--", f"\r\n--{BOUNDARY}".encode(), f"--{BOUNDARY}--\r\n".encode(), b"\r\n\r\n"]
        ),
        st.integers(0, 3000).map(lambda count: b"x" * count),
    ),
    max_size=5,
).map(b"".join)
#: Without those that a form writes in two ways, so that their readers have to guess.
FILE_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="%\\\0"), max_size=30)


@st.composite
def forms(draw: st.DrawFn) -> Form:
    """A form, most often with a chunk, most often sound up to a few changed bytes; it may break off."""
    content = draw(CONTENTS)
    fields: list[tuple[str, str]] = []
    chunk = content
    if draw(st.integers(0, 3)):
        count = draw(st.integers(1, 4))
        chunk_size = max(1, -(-len(content) // count))
        index = draw(st.integers(0, max(0, -(-len(content) // chunk_size) - 1)))
        chunk = content[index * chunk_size : (index + 1) * chunk_size]
        described = chunk_fields(len(content), index, uuid=str(uuids.uuid4()), chunk_size=chunk_size)
        if draw(st.booleans()):
            described["modified"] = str(draw(st.integers(-(10**12), 10**13)))
        if not draw(st.integers(0, 4)):
            name = draw(st.sampled_from(sorted(described)))
            described[name] = draw(st.sampled_from([*NUMBERS, described[name] + "0"]))
        fields = list(described.items())
        if not draw(st.integers(0, 4)):
            fields = draw(st.permutations(fields))
    files = [("file", draw(FILE_NAMES), chunk)]
    if not draw(st.integers(0, 5)):
        files.append(("file", draw(FILE_NAMES), draw(CONTENTS)))
    body = multipart_body(fields, files)
    if not draw(st.integers(0, 5)):  # the file first
        parts = body.split(f"--{BOUNDARY}\r\n".encode())
        body = f"--{BOUNDARY}\r\n".encode().join([parts[0], *draw(st.permutations(parts[1:]))])
    body = draw(st.sampled_from([b"", b"", b"", b"", b"\r\n", b"preamble\r\n"])) + body
    body += draw(st.sampled_from([b"", b"", b"", b"", b"\r\n", b"epilogue"]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, len(body)))
        gone = draw(st.integers(0, 3))
        body = body[:place] + draw(st.sampled_from([*TOKENS, b"", b"x"])) + body[place + gone :]
    length = len(body)
    if not draw(st.integers(0, 5)):
        length = max(0, length + draw(st.integers(-3, 3)))
    if not draw(st.integers(0, 5)):
        body = body[: draw(st.integers(0, len(body)))]
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    if not draw(st.integers(0, 9)):
        kind = draw(st.sampled_from(HEADERS["Content-Type"]))
    return Form(body[:length], length, draw(st.one_of(st.just(0), st.integers(0, length))), kind)


FUNCTION_SCOPED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.skipif(not hasattr(os, "splice"), reason="this system has one lane only")
@settings(max_examples=1500, deadline=None, suppress_health_check=FUNCTION_SCOPED)
@given(form=forms())
def test_both_lanes_do_the_same(lanes: list[Lane], form: Form) -> None:
    """The same bytes become the same file and get the same answer, or are refused with the same words."""
    fast, plain = (lane.receive(form.body, form.length, form.buffered, form.content_type) for lane in lanes)
    assert fast == plain


@pytest.mark.skipif(not hasattr(os, "splice"), reason="this system has one lane only")
def test_lanes_are_two(lanes: list[Lane], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the two are held to means something: one splices a chunk, the other does not."""
    splice, spliced = os.splice, list[int]()

    def count(*args: Any, **names: Any) -> int:
        spliced.append(moved := splice(*args, **names))
        return moved

    monkeypatch.setattr(os, "splice", count)
    content = random.randbytes(100_000)
    body = multipart_body(
        chunk_fields(len(content), 0, uuid=str(uuids.uuid4()), chunk_size=MIB), [("file", "x", content)]
    )
    for lane in lanes:
        lane.receive(body, len(body), 0, f"multipart/form-data; boundary={BOUNDARY}")
        assert sum(spliced) > 0 if lane.splices else not spliced
        spliced.clear()


@settings(max_examples=300, deadline=None, suppress_health_check=FUNCTION_SCOPED)
@given(files=st.lists(st.tuples(FILE_NAMES, CONTENTS), min_size=1, max_size=4), buffered=st.integers(0, 2000))
@example(files=[("x", b"")], buffered=0)
def test_forms_become_what_was_sent(lanes: list[Lane], files: list[tuple[str, bytes]], buffered: int) -> None:
    """Each file of a sound form is stored byte for byte under its name; only an input left empty is none."""
    sound = [(name, content.replace(BOUNDARY.encode(), b"boundary")) for name, content in files]
    body = multipart_body({}, [("file", name, content) for name, content in sound])
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    for lane in lanes:
        is_chunk, left, told = lane.receive(body, len(body), min(buffered, len(body)), kind)
        expected = []
        for name, content in sound:
            if name or content:
                shown = pyfiledrop.clean_name(name)
                expected.append((shown, len(content), None, f"_{pyfiledrop.safe_name(shown)}", content))
        if not expected:
            assert is_chunk is pyfiledrop.BadRequest
        else:
            assert (is_chunk, left, told) == (False, 0, expected)
