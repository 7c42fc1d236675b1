"""The pure functions: what is read from fields, names and headers, and what is made of it. No disk, no socket."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import re
import socket
import struct
import sys
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest
from conftest import chunk_fields
from hypothesis import example, given
from hypothesis import strategies as st

import build
import pyfiledrop
from pyfiledrop import MIB, BadRange, BadRequest, Chunk, DropError, Settings, Span, TooLarge

UUID = "0b5e55ed-0000-4000-8000-0123456789ab"
GIB = 1 << 30

# Numbers that Python's int() takes and HTTP does not know.
NOT_NUMBERS = [
    "", " ", "x", "-1", "-0", "+1", "1_0", " 1", "1 ", "1\n", "\n1", "01", "00", "1.0", "1e3", "0x10", "1\0", "½", "²",
    "٣", "１", "9" * 16, "9" * 5000, "NaN", "null",
]  # fmt: skip


# Numbers and UUIDs


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_parse_number_refuses(text: str) -> None:
    """Only plain decimal digits without a leading zero, at most 15 of them, are a number."""
    with pytest.raises(BadRequest):
        pyfiledrop.parse_number(text)


@given(st.integers(0, 10**15 - 1))
def test_parse_number_reads_what_str_writes(number: int) -> None:
    """Every number of up to 15 digits is read as it was written."""
    assert pyfiledrop.parse_number(str(number)) == number


@pytest.mark.parametrize("text", [UUID, UUID.upper(), "00000000-0000-0000-0000-000000000000"])
def test_parse_uuid_takes_the_canonical_form(text: str) -> None:
    """Either case is a UUID; it is kept in lower case, so that it is one folder."""
    assert pyfiledrop.parse_uuid(text) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "", "../../etc/passwd", f"../{UUID}", f"{UUID}/..", f"/{UUID}", f"{{{UUID}}}", f"urn:uuid:{UUID}", f"{UUID}\n",
        f"{UUID}\0", f" {UUID}", UUID.replace("-", ""), UUID[:-1], UUID + "0", UUID.replace("0", "٠"),
        UUID.replace("b", "ｂ"), UUID.replace("-", "–"), UUID.replace("b", "g"), "C:" + UUID[2:], "*" * 36,
    ],
)  # fmt: skip
def test_parse_uuid_refuses(text: str) -> None:
    """Nothing else is: no path, no braces, no urn:, no line break, no digit of another script."""
    with pytest.raises(BadRequest):
        pyfiledrop.parse_uuid(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"GET /download/{UUID} 200", "GET /download/0b5e55ed... 200"),
        (f"/uploads/{UUID.upper()}/3", "/uploads/0B5E55ED.../3"),
        (f"{UUID},{UUID}", "0b5e55ed...,0b5e55ed..."),
        (f"f{UUID}0_x", "f0b5e55ed...0_x"),
        (f"'/storage/{UUID}_a.txt': No space", "'/storage/0b5e55ed..._a.txt': No space"),
        ("/download/" + UUID.replace("-", "%2d"), "/download/0b5e55ed..."),
        ("/download/" + "".join(f"%{ord(c):02X}" for c in UUID), "/download/0b5e55ed..."),
        (UUID.replace("-", "%252d"), "0b5e55ed%252d0000%252d4000%252d8000%252d0123456789ab"),  # the server takes none
        (UUID[:-1], UUID[:-1]),
        ("/%0A%1b[31m%E2%80%AE?a=%0d%0aGET", "/%0A%1b[31m%E2%80%AE?a=%0d%0aGET"),
        ("", ""),
    ],
)
def test_hide_uuids(text: str, shown: str) -> None:
    """Of each UUID, however it is spelled, eight characters are left; all else is shown as it is."""
    assert pyfiledrop.hide_uuids(text) == shown


# Chunks


def test_parse_chunk_reads_dropzones_fields() -> None:
    """The six fields and the file's time become numbers; offset and length follow from them."""
    fields = chunk_fields(2500, 2, uuid=UUID.upper(), chunk_size=1000)
    chunk = pyfiledrop.parse_chunk({**fields, "modified": "1700000000000"}, GIB)
    assert chunk == pyfiledrop.Chunk(UUID, 2, 3, 1000, 2500, 1700000000000)
    assert (chunk.offset, chunk.length) == (2000, 500)


@given(size=st.integers(0, 10**9), chunk_size=st.integers(10_000, 10**9), data=st.data())
def test_chunks_cover_the_file(size: int, chunk_size: int, data: st.DataObject) -> None:
    """What Dropzone cuts is accepted; each chunk ends where the next begins, the last one at the end of the file."""
    count = max(1, (size + chunk_size - 1) // chunk_size)
    index = data.draw(st.integers(0, count - 1))
    chunk = pyfiledrop.parse_chunk(chunk_fields(size, index, uuid=UUID, chunk_size=chunk_size), GIB)
    assert chunk.offset + chunk.length == (size if index == count - 1 else chunk.offset + chunk_size)


@pytest.mark.parametrize("changes", [{}, {"modified": "0"}, {"modified": "-1000"}, {"more": "of no interest"}])
def test_parse_chunk_takes(changes: dict[str, str]) -> None:
    """The file's time may be missing or before 1970; fields of others are not looked at."""
    chunk = pyfiledrop.parse_chunk({**chunk_fields(10, 0, uuid=UUID, chunk_size=4), **changes}, GIB)
    assert chunk.modified == (int(changes["modified"]) if "modified" in changes else None)


@pytest.mark.parametrize("name", ["dztotalfilesize", "dzchunkindex", "dztotalchunkcount", "dzchunksize"])
@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_parse_chunk_refuses_what_is_no_number(name: str, text: str) -> None:
    """No field is read by int()."""
    with pytest.raises(BadRequest):
        pyfiledrop.parse_chunk({**chunk_fields(10, 0, uuid=UUID, chunk_size=4), name: text}, GIB)


@pytest.mark.parametrize("name", chunk_fields(10, 1, uuid=UUID, chunk_size=4))
def test_parse_chunk_needs_every_field(name: str) -> None:
    """A chunk without one of the six fields is refused."""
    fields = chunk_fields(10, 1, uuid=UUID, chunk_size=4)
    del fields[name]
    with pytest.raises(BadRequest):
        pyfiledrop.parse_chunk(fields, GIB)


@pytest.mark.parametrize(
    "changes",
    [
        {"dzchunkindex": "3", "dzchunkbyteoffset": "12"},  # beyond the last
        {"dzchunkindex": "4", "dzchunkbyteoffset": "16"},
        {"dztotalchunkcount": "2"},
        {"dztotalchunkcount": "4"},
        {"dztotalchunkcount": "0"},
        {"dzchunksize": "0"},
        {"dzchunksize": "5"},  # the count still fits, the offset does not
        {"dzchunkbyteoffset": "0"},
        {"dzchunkbyteoffset": "5"},
        {"dzchunkbyteoffset": "-4"},
        {"dzchunkindex": "2"},
        {"dztotalfilesize": "13"},
        {"modified": "yesterday"},
        {"modified": "1e3"},
        {"modified": "--1"},
        {"modified": "9" * 5000},
    ],
)
def test_parse_chunk_refuses_contradictions(changes: dict[str, str]) -> None:
    """Count is ceil(size / chunk size), the index is below it, the offset is index x chunk size."""
    with pytest.raises(BadRequest):
        pyfiledrop.parse_chunk({**chunk_fields(10, 1, uuid=UUID, chunk_size=4), **changes}, GIB)


@pytest.mark.parametrize(
    ("size", "chunk_size", "limit"),
    [(1001, 100, 1000), (10**14, 10**14, GIB), (100_001, 1, GIB), (999_999_999_999_999, 1, 10**15)],
)
def test_parse_chunk_refuses_too_much(size: int, chunk_size: int, limit: int) -> None:
    """A file over the limit, or cut into more than 100,000 chunks, is too large."""
    with pytest.raises(TooLarge):
        pyfiledrop.parse_chunk(chunk_fields(size, 0, uuid=UUID, chunk_size=chunk_size), limit)


def test_parse_chunk_takes_the_limits_themselves() -> None:
    """A file of exactly the limit, in exactly 100,000 chunks, is not too large."""
    assert pyfiledrop.parse_chunk(chunk_fields(100_000, 99_999, uuid=UUID, chunk_size=1), 100_000).length == 1


@pytest.mark.parametrize(
    ("size", "text"),
    [(-5, "0 bytes"), (0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KB"), (1536, "1.5 KB"), (1 << 20, "1.0 MB"),
     (100_000 << 20, "97.7 GB"), (1 << 40, "1.0 TB"), (1 << 50, "1.0 PB"), (1 << 62, "4096.0 PB")],
)  # fmt: skip
def test_human_size(size: int, text: str) -> None:
    """A unit is 1,024 of the one below it."""
    assert pyfiledrop.human_size(size) == text


# Names

AWKWARD = [
    "con", "CON", "nul", "com1", "COM¹", "lpt9", "conin$", ".", "..", " ", "/", "\\", ":", "?", '"', "<", "|", "\0",
    "\n", "\r", "\x1b[31m", "\x7f", "\x85", "\u202e", "\u2066", "\ufeff", "\ud800", "\udfff", "е\u0308", "e\u0301",
    "\u200b", "\u2060", "\U000e0041", "\ufffe", "\U0010ffff", "\u3164", "\ufe0f", "\u034f",
    "😀", "👩\u200d🚀", "測", "ﬁ", "%2f", "x", "x" * 200, "é" * 100, "😀" * 60, " " * 250, "." * 250, ".tar.gz", ".txt",
]  # fmt: skip
names = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.lists(st.sampled_from(AWKWARD), max_size=8).map("".join),
)
RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {a + b for a in ("com", "lpt") for b in "0123456789¹²³"}


def reserved_on_windows(name: str) -> bool:
    """Whether Windows takes the name for a device: what stands before the first dot, spaces aside, in any case."""
    return name.split(".")[0].rstrip(" ").lower() in RESERVED


@given(names)
def test_clean_name_leaves_nothing_that_deceives(name: str) -> None:
    """Shown is text in NFC: no control character, no surrogate, no override of the writing direction."""
    clean = pyfiledrop.clean_name(name)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in clean)
    assert not set(clean) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u2028\u2029\ufeff")
    assert unicodedata.is_normalized("NFC", clean)
    assert not set(clean) & set("\u200b\u2060\ufffe\uffff\u00ad\u034f\u3164\U0010ffff")
    assert not any("\U000e0000" <= c <= "\U000e007f" for c in clean)
    assert len(clean.encode()) <= 255
    assert pyfiledrop.clean_name(clean) == clean


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("отчёт.pdf", "отчёт.pdf"),
        ("отче\u0308т.pdf", "отчёт.pdf"),  # as macOS sends it
        ("測試 (1).txt", "測試 (1).txt"),
        ("a/b\\c", "a/b\\c"),
        ("CON", "CON"),
        ("👩\u200d🚀.png", "👩\u200d🚀.png"),
        ("exe\u202egnp.evil", "exegnp.evil"),
        ("line\r\nbreak\x1b[2J\x00", "linebreak[2J"),
        ("\ud83dx", "x"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ("نامه\u200cها.txt", "نامه\u200cها.txt"),  # Persian joins these otherwise
        ("❤\ufe0f 葛\U000e0100.txt", "❤\ufe0f 葛\U000e0100.txt"),
        ("ᠠ\u180b\u180dᠡ", "ᠠ\u180b\u180dᠡ"),
        ("\u0600123\u06dd", "\u0600123\u06dd"),  # format characters that can be seen
        ("u\u034f\u0308ber", "über"),
        ("", ""),
    ],
)
def test_clean_name_keeps_the_rest(sent: str, shown: str) -> None:
    """A name is shown as it was sent, but for what would deceive or break a line."""
    assert pyfiledrop.clean_name(sent) == shown


HIDDEN = (
    "\x00\x1f\x7f\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2060\u2064\u2065"
    "\u2066\u206f\u3164\ud800\udfff\ufdd0\ufdef\ufeff\uffa0\ufff0\ufff9\ufffb\ufffc\ufffe\uffff\U0001bca0\U0001bca3\U0001d173"
    "\U0001d17a\U0001fffe\U0001ffff\U0003ffff\U000e0000\U000e0001\U000e0020\U000e007f\U000e00ff\U000e01f0\U000e0fff\U0010fffe"
)


@pytest.mark.parametrize("character", HIDDEN, ids=lambda c: f"U+{ord(c):04X}")
def test_row_63_clean_name_removes(character: str) -> None:
    """What is not seen and not needed goes, alone, in the middle and at either end of a name."""
    for name in (character, f"a{character}b", f"{character}ab{character * 3}"):
        assert pyfiledrop.clean_name(name) == name.replace(character, "")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("x" * 255, "x" * 255),
        ("x" * 256, "x" * 255),
        ("x" * 256 + ".jpeg", "x" * 250 + ".jpeg"),
        ("é" * 127 + "x", "é" * 127 + "x"),
        ("é" * 128, "é" * 127),
        ("😀" * 1024, "😀" * 63),
        ("😀" * 100 + ".tar.gz", "😀" * 63 + ".gz"),
        ("a/" * 200 + "b.txt", "b.txt"),  # of what is too long the folders go first
        ("a\\" * 200 + "b.txt", "b.txt"),
        ("a/" * 120 + "b.txt", "a/" * 120 + "b.txt"),
        ("x" * 100 + "." + "y" * 200, "x" * 100 + "." + "y" * 154),  # a suffix that long is none
        ("\u200b" * 300 + "x", "x"),
        ("e\u0301" * 100, "é" * 100),  # what counts is how it is shown
    ],
    ids=lambda text: text[:5],
)
def test_row_44_clean_name_shortens(sent: str, shown: str) -> None:
    """A name is shown with 255 bytes at most: without its folders, then without the end of its stem."""
    assert pyfiledrop.clean_name(sent) == shown


@given(names)
@example("con" + " " * 300 + "x.txt")
@example("nul" + "." * 300 + "x")
@example("con" + " " * 300 + "x")
@example("." * 300 + "x")
def test_safe_name_is_safe_everywhere(name: str) -> None:
    """Whatever comes: not empty, short enough behind a UUID, one component, no device of Windows, nothing hidden."""
    safe = pyfiledrop.safe_name(name)
    assert 1 <= len(safe.encode()) <= 218
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f]', safe)
    assert not safe.startswith((".", " ")) and not safe.endswith((".", " "))
    assert not reserved_on_windows(safe)
    assert pyfiledrop.clean_name(safe) == safe


@given(names)
def test_safe_name_is_stable(name: str) -> None:
    """A safe name that did not have to be cut is its own safe name."""
    safe = pyfiledrop.safe_name(name)
    assert len(safe.encode()) > 200 or pyfiledrop.safe_name(safe) == safe


@given(names, st.from_regex(r"[A-Za-z0-9]{1,32}", fullmatch=True))
def test_safe_name_keeps_the_suffix(stem: str, suffix: str) -> None:
    """However long the name is, what says its kind stays."""
    assert pyfiledrop.safe_name(f"{stem}.{suffix}").endswith(f".{suffix}")


@given(st.text(st.sampled_from("aéя測😀 ."), min_size=1, max_size=400))
def test_safe_name_is_cut_between_characters(name: str) -> None:
    """A long name loses whole characters from the end of its stem, never a part of one."""
    safe = pyfiledrop.safe_name(name)
    stem = safe.removeprefix("_").rpartition(".")[0] or safe.removeprefix("_")
    assert "\ufffd" not in safe
    assert stem == "file" or stem in name


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("отчёт.pdf", "отчёт.pdf"),
        ("測試 (1).txt", "測試 (1).txt"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("C:a.txt", "C_a.txt"),
        ("a.txt:stream", "a.txt_stream"),
        ("a.txt::$DATA", "a.txt__$DATA"),
        ("dir/", "file"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        (" . . ", "file"),
        ("CON", "_CON"),
        ("NUL.txt", "_NUL.txt"),
        ("nul .txt", "_nul.txt"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("LPT¹", "_LPT¹"),
        ("console.txt", "console.txt"),
        (".bashrc", "_.bashrc"),
        ("name. . ", "name"),
        ("a\0b.txt", "ab.txt"),
        ("a\u202etxt.exe", "atxt.exe"),
    ],
)
def test_safe_name(sent: str, stored: str) -> None:
    """What the file is called on disk, behind its UUID."""
    safe = pyfiledrop.safe_name(sent)
    # A space before the suffix is harmless: whether it stays is not promised.
    assert safe.replace(" .", ".") == stored


@pytest.mark.parametrize(
    ("sent", "start", "end", "character"),
    [
        ("x" * 300, "x", "x", 1),
        ("x" * 300 + ".jpeg", "x", "x.jpeg", 1),
        ("測" * 200 + ".txt", "測", "測.txt", 3),
        ("😀" * 100 + ".tar.gz", "😀", "😀.gz", 4),
        ("x" * 100 + "." + "y" * 200, "x" * 100 + ".y", "y", 1),  # a suffix that long is none
    ],
)
def test_safe_name_shortens(sent: str, start: str, end: str, character: int) -> None:
    """A name that does not fit is cut in its stem, and by no more than it must."""
    safe = pyfiledrop.safe_name(sent)
    assert safe.startswith(start) and safe.endswith(end)
    assert 217 - 2 * character < len(safe.encode()) <= 218


# Folders


@given(
    st.text()
    | st.lists(st.sampled_from(["..", ".", "a", "CON", "/", "\\", " ", "\u202e", "C:", "é" * 200])).map("/".join)
)
def test_clean_path_is_harmless(path: str) -> None:
    """Whoever makes these folders makes them below the one where they begin, on every system."""
    cleaned = pyfiledrop.clean_path(path)
    for name in cleaned.split("/") if cleaned else ():
        assert name not in ("", ".", "..") and not name.startswith((" ", ".")) and not name.endswith((" ", "."))
        assert not re.search(r'[<>:"|?*\\\x00-\x1f\u202e]', name)
        assert len(name.encode()) <= 255
    assert pyfiledrop.clean_path(cleaned) == cleaned


@pytest.mark.parametrize("path", ["", "Holiday", "Holiday/day 1", "Отпуск/день 1/фото", "a" * 250 + "/b.d"])
def test_clean_path_keeps_the_rest(path: str) -> None:
    """Folders that are called as folders may be called stay as they are."""
    assert pyfiledrop.clean_path(path) == path


# Content-Disposition


def read_disposition(header: str) -> tuple[str, str | None]:
    """The two file names of the header, read by the grammar of RFC 6266 and RFC 8187; fails when it does not obey."""
    quoted = r'"((?:[ !#-\[\]-~]|\\[ -~])*)"'
    extended = r"; filename\*=UTF-8''((?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*)"
    match = re.fullmatch(rf"attachment; filename={quoted}(?:{extended})?", header, re.ASCII)
    assert match, header
    return re.sub(r"\\(.)", r"\1", match[1]), None if match[2] is None else unquote(match[2], errors="strict")


@given(names)
def test_content_disposition_carries_the_name(name: str) -> None:
    """The name that a browser reads is the one that is shown, or its last component; both forms are harmless."""
    plain, extended = read_disposition(pyfiledrop.content_disposition(name))
    expected = re.split(r"[/\\]", pyfiledrop.clean_name(name))[-1]
    expected = expected if expected.strip(". ") else "file"
    assert (plain if extended is None else extended) == expected
    assert plain and not re.search(r'[/\\"%]', plain)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("report (1).pdf", 'attachment; filename="report (1).pdf"'),
        ("отчёт.pdf", "attachment; filename=\"file.pdf\"; filename*=UTF-8''%D0%BE%D1%82%D1%87%D1%91%D1%82.pdf"),
        ("測.я.gz", "attachment; filename=\"file.gz\"; filename*=UTF-8''%E6%B8%AC.%D1%8F.gz"),
        ('a"b\r\nSet-Cookie: x.txt', None),
        ("100%.txt", "attachment; filename=\"100.txt\"; filename*=UTF-8''100%25.txt"),
        ("", 'attachment; filename="file"'),
        ("../../a.txt", 'attachment; filename="a.txt"'),
    ],
)
def test_content_disposition(name: str, header: str | None) -> None:
    """Plain ASCII goes as it is; everything else also in filename*, and never as a second header."""
    actual = pyfiledrop.content_disposition(name)
    assert "\r" not in actual and "\n" not in actual
    if header is not None:
        assert actual == header


# Ranges

WHOLE = Span(0, 10)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, WHOLE),
        ("", WHOLE),
        ("bytes=0-", Span(0, 10, True)),
        ("bytes=0-9", Span(0, 10, True)),
        ("bytes=0-0", Span(0, 1, True)),
        ("bytes=9-9", Span(9, 1, True)),
        ("bytes=3-5", Span(3, 3, True)),
        ("bytes=3-99", Span(3, 7, True)),
        ("bytes=3-99999999999999999999999", Span(3, 7, True)),
        ("bytes=-1", Span(9, 1, True)),
        ("bytes=-10", Span(0, 10, True)),
        ("bytes=-99", Span(0, 10, True)),  # RFC 9110, 14.1.2: a longer suffix is all of it
        ("bytes=5-3", WHOLE),
        ("bytes=0-1,3-4", WHOLE),
        ("bytes=" + "0-0," * 1000 + "1-1", WHOLE),
        ("bytes=", WHOLE),
        ("bytes", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=+1-2", WHOLE),
        ("bytes=1_0-20", WHOLE),
        ("bytes=٣-٥", WHOLE),
        ("bytes=--1", WHOLE),
        ("bytes=0x1-2", WHOLE),
        ("seconds=1-2", WHOLE),
    ],
)
def test_choose_range(header: str | None, span: Span) -> None:
    """One range is given; several, or what makes no sense, get the whole file."""
    assert pyfiledrop.choose_range(header, 10) == span


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=0-", 0), ("bytes=-5", 0)]
)
def test_choose_range_beyond_the_end(header: str, size: int) -> None:
    """A range that has no byte of the file is refused, and the refusal says how long the file is."""
    with pytest.raises(BadRange) as caught:
        pyfiledrop.choose_range(header, size)
    assert (caught.value.status, caught.value.headers) == (416, {"Content-Range": f"bytes */{size}"})


@given(st.text(st.sampled_from("bytes=-,0123456789 +_x"), max_size=20), st.integers(0, 50))
def test_choose_range_stays_inside_the_file(header: str, size: int) -> None:
    """Whatever is asked, no byte before the beginning or behind the end is promised."""
    try:
        span = pyfiledrop.choose_range(header, size)
    except BadRange:
        return
    assert 0 <= span.offset <= span.offset + span.count <= size
    assert span.count > 0 if span.partial else span == Span(0, size)


@given(st.sets(st.integers(0, 300)))
def test_chunk_ranges_say_the_same(indexes: set[int]) -> None:
    """The ranges name exactly the numbers, in order, with a gap between any two."""
    ranges = pyfiledrop.chunk_ranges(sorted(indexes))
    assert [n for first, last in ranges for n in range(first, last + 1)] == sorted(indexes)
    assert all(left[1] + 1 < right[0] for left, right in zip(ranges, ranges[1:], strict=False))


def test_chunk_ranges() -> None:
    """0 1 2 5 is two ranges; nothing is none."""
    assert pyfiledrop.chunk_ranges([0, 1, 2, 5]) == [[0, 2], [5, 5]]
    assert pyfiledrop.chunk_ranges([]) == []


# Who asks


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"host": "a:1"}, True),  # curl
        ({}, True),
        ({"host": "a:1", "origin": "http://a:1"}, True),
        ({"host": "A:1", "origin": "http://a:1"}, True),
        ({"host": "a:1", "origin": "http://a:1", "sec-fetch-site": "same-origin"}, True),
        ({"host": "a:1", "sec-fetch-site": "none"}, True),
        ({"host": "inside:1", "origin": "http://proxy", "sec-fetch-site": "same-origin"}, True),  # a reverse proxy
        ({"host": "a:1", "origin": "http://evil"}, False),
        ({"host": "a:1", "origin": "http://a:2"}, False),
        ({"host": "a:1", "origin": "http://evil/a:1"}, False),
        ({"host": "a:1", "origin": "http://a:1@evil"}, False),
        ({"host": "a:1", "origin": "null"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://None"}, False),  # without a Host nobody is the same
        ({"origin": "http://none"}, False),
        ({"host": "", "origin": "http://"}, False),
        ({"host": "", "origin": "null"}, False),
        ({"host": "a:1", "origin": ""}, False),
        ({"host": "a:1", "origin": "http://["}, False),
        ({"host": "a:1", "origin": "http://a:1", "sec-fetch-site": "cross-site"}, False),
        ({"host": "a:1", "origin": "http://a:1", "sec-fetch-site": "same-site"}, False),
        ({"host": "a:1", "sec-fetch-site": "x"}, False),
    ],
)
def test_is_same_site(headers: dict[str, str], allowed: bool) -> None:
    """Our own page and programs without a page may change something, a page of another site may not."""
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    assert pyfiledrop.is_same_site(environ) is allowed


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),  # the first is what the client said of itself
        ("10.0.0.1", "198.51.100.7,2001:DB8::0:2 ,\t10.0.0.1", "198.51.100.7"),  # one proxy behind the other
        ("::ffff:10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),  # as a socket for both kinds sees them
        ("2001:db8::2", "2001:0db8::AB", "2001:db8::ab"),
        ("10.0.0.1", "x, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, x", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, ", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7:80", "10.0.0.1"),
        ("10.0.0.1", "[2001:db8::ab]", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.07", "10.0.0.1"),
        ("10.0.0.1", "1" * 5000, "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1, 10.0.0.1", "10.0.0.1"),
        ("10.0.0.2", "198.51.100.7", "10.0.0.2"),  # nobody's word but a proxy's counts
        ("198.51.100.7", "10.0.0.1", "198.51.100.7"),
    ],
)
def test_client_of(peer: str, forwarded: str, client: str) -> None:
    """The last address that is not a trusted proxy's, as a trusted proxy tells it."""
    assert pyfiledrop.client_of(peer, forwarded, {"10.0.0.1", "2001:db8::2"}) == client


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("198.51.100.7", "198.51.100.7", True),
        ("198.51.100.7", "198.51.100.8", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:198.51.100.7", "198.51.100.7", True),
        ("::ffff:198.51.100.7", "::ffff:198.51.100.8", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_guesser_of(one: str, other: str, same: bool) -> None:
    """An address is one guesser, but all of an IPv6 network are."""
    assert (pyfiledrop.guesser_of(one) == pyfiledrop.guesser_of(other)) is same


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("a", "a"), ("A.Example", "a.example"), ("a:80", "a"), ("a:", "a"), ("a.example.:1", "a.example."), ("", ""),
        (":80", ""), ("192.0.2.7:16273", "192.0.2.7"), ("[::1]", "::1"), ("[FE80::1]:80", "fe80::1"),
        ("[::ffff:192.0.2.7]", "::ffff:192.0.2.7"), ("my_nas-2", "my_nas-2"), ("xn--bcher-kva.example", None),
    ],
)  # fmt: skip
def test_host_of(header: str, host: str | None) -> None:
    """A host without its port and brackets, in lower case."""
    assert pyfiledrop.host_of(header) == (header if host is None else host)


NO_HOSTS = [
    "a b", "[::1", "::1", "[::1]x", "[]", "[1]", "[a.example]", "[::1%25eth0]", "<b>", "a/b", "a:b", "a:1:2", "a@b",
    "a,b", "bücher.example", "a%20b", '"', "a?", "a#", "a\\", "a\n", "a:80\n", "a:٣", "[127.0.0.1]", "[127.0.0.1]x",
    "*", "a;b",
]  # fmt: skip


@pytest.mark.parametrize("header", NO_HOSTS)
def test_row_58_host_of_refuses(header: str) -> None:
    """What nothing can be called is no host."""
    with pytest.raises(BadRequest):
        pyfiledrop.host_of(header)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "192.0.2.7", "::1", "fe80::1", "localhost", "a.localhost", "nas", "nas.local", "nas.home.example"],
)
def test_row_57_answers_under(host: str) -> None:
    """Addresses, this machine's own name, and the names that were given."""
    assert pyfiledrop.answers_under(host, {"nas", "nas.local", "nas.home.example"})


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "", "nas.evil.example", "nas.", "evilnas", "127.0.0.1.evil.example", "127.1", "2130706433",
        "0x7f.0.0.1", "0177.0.0.1", "127.0.0.1.", "localhost.evil.example", "evillocalhost", "localhost.", "1", "a",
        "127.0.0.256",
    ],
)  # fmt: skip
def test_row_57_answers_under_no_other(host: str) -> None:
    """Not under what only looks like one of them: a page of another site may be called so."""
    assert not pyfiledrop.answers_under(host, {"nas", "nas.local"})


@pytest.mark.parametrize(
    ("machine", "options", "names"),
    [
        ("NAS", [], {"nas", "nas.local"}),
        ("nas.home.example", [], {"nas.home.example", "nas", "nas.local"}),
        ("mac.local", [], {"mac.local", "mac"}),
        ("localhost", [], {"localhost.local"}),
        ("", [], {".local"}),
        ("10.0.0.1", [], {"10", "10.local"}),
        ("nas", ["--host", "192.0.2.7"], {"nas", "nas.local"}),
        ("nas", ["--host", "Drop.example"], {"nas", "nas.local", "drop.example"}),
        ("nas", ["--allow-host", "Drop.example", "--allow-host", "::1", "--allow-host", "a_b"],
         {"nas", "nas.local", "drop.example", "a_b"}),
    ],
)  # fmt: skip
def test_row_57_own_names(monkeypatch: pytest.MonkeyPatch, machine: str, options: list[str], names: set[str]) -> None:
    """The machine's name with and without its domain and for its own network, and what the command line says."""
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    assert pyfiledrop.own_names(Settings.parse(options)) == names


@pytest.mark.parametrize(
    ("link", "host", "held"),
    [
        ("http://localhost:1/x?y#z", "LOCALHOST:1", "http://10.0.0.1:1/x?y#z"),
        ("https://a.localhost/", "a.localhost", "https://10.0.0.1/"),
        ("http://127.1.2.3", "127.1.2.3", "http://10.0.0.1"),
        ("http://[::1]:80/?a", "[::1]:80", "http://10.0.0.1:80/?a"),
        ("http://192.168.1.2:1/x", "192.168.1.2:1", "http://192.168.1.2:1/x"),
        ("https://ANNA.local/x", "anna.local", "https://ANNA.local/x"),
        ("http://[fe80::1]/x", "[fe80::1]", "http://[fe80::1]/x"),
    ],
)
def test_link_for_code(link: str, host: str, held: str) -> None:
    """A loopback address gives way to the one on the network, if there is one; any other stays."""
    assert pyfiledrop.link_for_code(link, host, "10.0.0.1") == held
    assert pyfiledrop.link_for_code(link, host, None) == link


# The head of a request

GET = b"GET / HTTP/1.1\r\nHost: a"
POST = b"POST /upload HTTP/1.1\r\nHost: a"


def test_parse_head_reads() -> None:
    """Method, address and headers; names without case, values without the spaces around them, cookies as one."""
    head = pyfiledrop.parse_head(
        b"POST /uploads/%D1%91?a=b?c HTTP/1.1\r\nHOST:a:1\r\nContent-Length: \t12 \r\n"
        b"Cookie: a=1\r\nX: 1\r\nx: 2\r\ncookie: b=2"
    )
    assert head == {
        "REQUEST_METHOD": "POST", "REQUEST_URI": "/uploads/%D1%91?a=b?c", "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": "/uploads/ё".encode().decode("latin-1"), "QUERY_STRING": "a=b?c", "CONTENT_LENGTH": "12",
        "HTTP_HOST": "a:1", "HTTP_COOKIE": "a=1; b=2", "HTTP_X": "1, 2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "keep"),
    [
        (GET, True),
        (GET + b"\r\nConnection: Close", False),
        (GET + b"\r\nConnection: x, close", False),
        (GET + b"\r\nConnection: keep-alive", True),
        (b"GET / HTTP/1.0", False),
        (b"GET / HTTP/1.0\r\nConnection: x", False),
    ],
)
def test_parse_head_keep_alive(data: bytes, keep: bool) -> None:
    """HTTP/1.1 goes on unless somebody says close; HTTP/1.0 ends."""
    assert pyfiledrop.keeps_alive(pyfiledrop.parse_head(data)) is keep


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"GET http://a:1/x?y HTTP/1.1\r\nHost: a:1", "/x"),
        (b"GET http://a HTTP/1.1\r\nHost: a", "/"),
        (b"GET https://A.example/x HTTP/1.1\r\nHost: a.Example", "/x"),
        (b"GET http://[::1]:1/ HTTP/1.1\r\nHost: [::1]:1", "/"),
        (b"GET http://a/x HTTP/1.0", "/x"),
    ],
)
def test_parse_head_takes_a_proxys_address(data: bytes, path: str) -> None:
    """A whole address (RFC 9112, 3.2.2) means its path."""
    assert pyfiledrop.parse_head(data)["PATH_INFO"] == path


def test_row_58_parse_head_of_http_1_0() -> None:
    """A whole address stands for the host; what is expected does not count, whatever it is."""
    head = pyfiledrop.parse_head(b"PUT http://A:1/x HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\nexpect: x")
    assert (head["HTTP_HOST"], head["CONTENT_LENGTH"], "HTTP_EXPECT" in head) == ("A:1", "1", False)
    assert "HTTP_EXPECT" in pyfiledrop.parse_head(GET + b"\r\nExpect: 100-Continue")


@pytest.mark.parametrize(
    ("status", "data"),
    [
        # 23: lengths
        (411, POST),
        (411, b"PUT /upload/x HTTP/1.1\r\nHost: a"),
        *[(400, POST + b"\r\nContent-Length: " + text.encode()) for text in NOT_NUMBERS if text.strip() == text],
        (400, POST + b"\r\nContent-Length: 1 2"),
        (400, POST + b"\r\nContent-Length: 4, 4"),
        (400, POST + b"\r\nContent-Length: 4\r\nContent-Length: 4"),
        (400, POST + b"\r\nContent-Length: 4\r\ncontent-length: 5"),
        # 24: bodies without a length
        (411, POST + b"\r\nTransfer-Encoding: chunked"),
        (411, POST + b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 4"),
        (411, POST + b"\r\nContent-Length: 4\r\nTRANSFER-ENCODING: identity"),
        (411, GET + b"\r\nTransfer-Encoding: chunked"),
        # 25: what two readers read in two ways
        (400, GET + b"\r\nX: a\r\n b"),
        (400, GET + b"\r\nX: a\r\n\tb"),
        (400, b"GET / HTTP/1.1\r\n Host: a"),
        (400, GET + b"\r\nX : a"),
        (400, GET + b"\r\nX\t: a"),
        (400, GET + b"\r\n X: a"),
        (400, GET + b"\r\nX_Y: a"),
        (400, GET + b"\r\nContent_Length: 4"),
        (400, GET + b"\r\n: a"),
        (400, GET + b"\r\nX"),
        (400, GET + b"\r\nX: a\nY: b"),
        (400, GET + b"\r\nX: a\rY: b"),
        (400, GET + b"\r\nX: a\0b"),
        (400, GET + b"\r\nX: a\x7fb"),
        (400, GET + b"\r\nX\xff: a"),
        (400, GET + b"\r\nX(y): a"),
        (400, GET + b"\r\nHost: a"),
        (400, GET + b"\r\nhOST: b"),
        (400, b"GET / HTTP/1.1"),
        *[
            (400, POST + b"\r\nContent-Length: 0\r\n" + line + b"\r\n" + line.lower())
            for line in (b"Origin: a", b"Content-Type: a/b", b"Sec-Fetch-Site: none", b"Range: bytes=0-")
        ],
        (400, b""),
        (400, b"GET /"),
        (400, b"GET / HTTP/2.0\r\nHost: a"),
        (400, b"GET / HTTP/1.1 \r\nHost: a"),
        (400, b"GET  / HTTP/1.1\r\nHost: a"),
        (400, b" GET / HTTP/1.1\r\nHost: a"),
        (400, b"get / HTTP/1.1\r\nHost: a"),
        (400, b"GET /\xd1\x91 HTTP/1.1\r\nHost: a"),
        (400, b"GET /\t HTTP/1.1\r\nHost: a"),
        (400, b"GET /%00 HTTP/1.1\r\nHost: a"),
        (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a"),
        (400, b"GET http://[ HTTP/1.1\r\nHost: a"),
        (400, b"GET * HTTP/1.1\r\nHost: a"),
        (400, b"CONNECT a:1 HTTP/1.1\r\nHost: a"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),  # TLS
        # 47: paths that are not UTF-8, overlong forms and surrogates among them
        *[
            (400, b"GET /" + path + b" HTTP/1.1\r\nHost: a")
            for path in (
                b"%ff",
                b"down%ffload/x",
                b"%c0%af",
                b"%e0%80%af",
                b"%ed%a0%80",
                b"%f4%90%80%80",
                b"%D1",
                b"a%80b",
            )
        ],
        (400, b"GET http://a/%ff HTTP/1.1\r\nHost: a"),
        # 48: parts
        (400, b"PUT /upload/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Range: bytes 6-9/10"),
        (400, b"PUT /upload/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\ncontent-range:"),
        # 58: hosts
        *[
            (400, b"GET / HTTP/1.1\r\nHost: " + host.encode())
            for host in NO_HOSTS
            if host.isprintable()  # the others are malformed as headers
        ],
        (400, b"GET http://b/ HTTP/1.1\r\nHost: a"),
        (400, b"GET http://a:80/ HTTP/1.1\r\nHost: a"),  # the client has to say the same: RFC 9112, 3.2
        (400, b"GET http://a/ HTTP/1.1\r\nHost:"),
        (400, b"GET http://b/ HTTP/1.0\r\nHost: a"),
        (400, b"GET http://u@a/ HTTP/1.1\r\nHost: a"),
        (400, b"GET http:///x HTTP/1.1\r\nHost: a"),
        (400, b"GET http://a%20b/ HTTP/1.0"),
        # 26: too much
        (414, b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: a"),
        (431, GET + b"\r\nX: " + b"x" * 32768),
        (431, GET + b"\r\nX: y" * 10_000),
        (431, GET + b"\r\nX:" * 101),
        (431, GET + b"\r\nCookie: " + b"x" * 8193),
        (431, GET + (b"\r\nCookie: " + b"x" * 4096) * 2),
        (417, POST + b"\r\nContent-Length: 4\r\nExpect: 200-ok"),
    ],
    ids=str,
)
def test_parse_head_refuses(status: int, data: bytes) -> None:
    """A head that two programs could read in two ways, or that is too long, is not read at all."""
    with pytest.raises(DropError) as caught:
        pyfiledrop.parse_head(data)
    assert caught.value.status == status


def test_parse_head_counts_headers_without_the_request_line() -> None:
    """A long address takes nothing away from what the headers may have; a byte more than that is too much."""
    line = b"GET /" + b"x" * 8000 + b" HTTP/1.1"
    head = line + b"\r\nHost: a\r\nX: "
    most = head + b"y" * (len(line) + pyfiledrop.MAX_HEADERS_BYTES - len(head))
    assert pyfiledrop.parse_head(most)["REQUEST_URI"].startswith("/xxx")
    with pytest.raises(DropError) as caught:
        pyfiledrop.parse_head(most + b"y")
    assert caught.value.status == 431


@given(st.binary(max_size=60))
def test_parse_head_fails_in_one_way(data: bytes) -> None:
    """Whatever bytes come, they are a head or a DropError."""
    for text in (data, GET + b"\r\n" + data, b"GET " + data + b" HTTP/1.1\r\nHost: a"):
        try:
            pyfiledrop.parse_head(text)
        except DropError as error:
            assert 400 <= error.status < 500


# The page


class Blocks(HTMLParser):
    """What an HTML parser, other than the server's, finds in the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.links: dict[str, dict[str, str | None]] = {}
        self.settings: Any = None
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        address = found.get("src") or found.get("href")
        if tag in ("script", "link") and address:
            self.links[address] = found
        elif tag in ("script", "style"):
            self._open = found.get("id") or tag
            self.inline.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open == "settings":
            self.settings = json.loads(self.inline[-1])
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inline[-1] += data


OUR_PAGE = build.read_text(build.ROOT / "index.html")
THEIR_PAGE = """<!doctype html>
<link rel="stylesheet" href="dropzone.css">
<style>p { color: red }</style>
<style media="print">p::after { content: "<&>" }</style>
<script type="application/json" id="settings">
{}
</script>
<script src="dropzone.js"></script>
<script>if (1 < 2 && "é") alert("</p>")</script>
<script></script>
"""


def hash_source(text: str) -> str:
    """How a policy names an inline block."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def render(*options: str, source: str = THEIR_PAGE) -> tuple[Blocks, dict[str, set[str]]]:
    """A page with these options, and its policy as a set of sources for each directive."""
    page, policy = pyfiledrop.render_page(Settings.parse(list(options)), source)
    directives = [part.split() for part in policy.split(";")]
    return Blocks(page), {name: set(sources) for name, *sources in directives}


@pytest.fixture
def no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Dropzone did not come with the program."""
    monkeypatch.setattr(pyfiledrop, "dropzone_file", lambda name: None)


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it did."""
    monkeypatch.setattr(pyfiledrop, "dropzone_file", lambda name: b"")


def test_page_carries_the_settings() -> None:
    """What the command line says reaches the page as JSON."""
    blocks, _ = render("--max-size", "5", "--timeout", "7000", "--chunk-size", "2048", "-a", "--title", "Anna")
    assert blocks.settings == {
        "version": pyfiledrop.__version__, "title": "Anna", "free": None, "maxSize": 5 << 20,
        "timeout": 7000, "parallelChunks": 4, "formBytes": 2048,
        "forceChunking": True, "runBytes": 95 << 20, "downloads": True,
    }  # fmt: skip


def test_page_carries_the_switches() -> None:
    """One chunk at a time, plain forms for small files, no links: each as the page reads it."""
    blocks, _ = render("--disable-parallel-chunks", "--parallel-chunks", "3", "--disable-force-chunking")
    facts = {name: blocks.settings[name] for name in ("parallelChunks", "forceChunking", "downloads")}
    assert facts == {"parallelChunks": 1, "forceChunking": False, "downloads": False}


def test_settings_cannot_end_their_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting is able to break out of its script block."""
    monkeypatch.setattr(pyfiledrop, "__version__", r"</script><script>alert(1)</script>\1")
    assert render()[0].settings["version"] == r"</script><script>alert(1)</script>\1"


@pytest.mark.parametrize("source", [OUR_PAGE, THEIR_PAGE], ids=["our page", "a page of the user's"])
@pytest.mark.parametrize("options", [[], ["--dz-version", "5.9.3"], ["--dz-cdn", "https://cdn.example/x"]])
def test_policy_allows_exactly_the_pages_own_blocks(options: list[str], source: str) -> None:
    """The hashes in the policy are those of the inline blocks that stand in the page, and nothing inline is missing."""
    blocks, policy = render(*options, source=source)
    expected = {hash_source(text) for text in blocks.inline}
    allowed = {s for name in ("script-src", "style-src") for s in policy[name] if s.startswith("'sha256-")}
    nothing = {hash_source("")}  # a script without a word does no harm
    assert allowed - nothing == expected - nothing and len(expected) >= 3
    assert policy.pop("style-src-attr", None) == (None if source == OUR_PAGE else {"'unsafe-inline'"})
    assert not [source for sources in policy.values() for source in sources if "unsafe" in source or source == "*"]
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == {"'none'"}
    assert policy["connect-src"] == policy["form-action"] == {"'self'"}


def test_page_takes_dropzone_from_here(copy: None) -> None:
    """With a copy of its own nothing is loaded from elsewhere."""
    blocks, policy = render()
    assert {"dropzone.js", "dropzone.css"} <= set(blocks.links)
    assert not any(urlsplit(address).netloc for address in blocks.links)
    assert not any("//" in source for sources in policy.values() for source in sources)


CDN = pyfiledrop.DROPZONE_CDN


@pytest.mark.parametrize(
    ("options", "script", "style", "known"),
    [
        ([], f"{CDN}/6.3.5/dropzone-min.js", f"{CDN}/6.3.5/dropzone.css", True),
        (["--dz-cdn", "https://cdn.example:8/dz/"], "https://cdn.example:8/dz/6.3.5/dropzone-min.js",
         "https://cdn.example:8/dz/6.3.5/dropzone.css", True),
        (["--dz-version", "6.0.0-b.2"], f"{CDN}/6.0.0-b.2/dropzone-min.js", f"{CDN}/6.0.0-b.2/dropzone.css", False),
        (["--dz-version", "5.9.3"], f"{CDN}/5.9.3/min/dropzone.min.js", f"{CDN}/5.9.3/min/dropzone.min.css", False),
        (["--dz-version", "5.9.3", "--dz-cdn", "http://10.0.0.1"], "http://10.0.0.1/5.9.3/min/dropzone.min.js",
         "http://10.0.0.1/5.9.3/min/dropzone.min.css", False),
    ],
)  # fmt: skip
def test_page_takes_dropzone_from_a_cdn(
    no_copy: None, options: list[str], script: str, style: str, known: bool
) -> None:
    """The address follows the CDN's layout of 5.x and 6.x; the version whose hash is known is held to it."""
    blocks, policy = render(*options)
    assert {script, style} <= set(blocks.links) and "dropzone.js" not in blocks.links
    for address, route, directive in ((script, "dropzone.js", "script-src"), (style, "dropzone.css", "style-src")):
        link = blocks.links[address]
        assert link.get("integrity") == (pyfiledrop.DROPZONE_FILES[route][1] if known else None)
        assert link.get("crossorigin") == ("anonymous" if known else None)
        assert {s for s in policy[directive] if "//" in s} == {address}


@pytest.mark.parametrize(
    ("markup", "directive", "source"),
    [
        ('<script src="https://a.example/x.js?v=1#y"></script>', "script-src", "https://a.example/x.js"),
        ('<SCRIPT SRC=//a.example/x.js></SCRIPT>', "script-src", "a.example/x.js"),
        ("<link rel='preload stylesheet' href='http://a.example:8/x;y,z w.css'>", "style-src", "http://a.example:8/x%3By%2Cz%20w.css"),
        ('<img src="https://a.example/x%20y.png">', "img-src", "https://a.example/x%20y.png"),
        ('<script type="module">let a = "<b>&amp;"</script>', "script-src", hash_source('let a = "<b>&amp;"')),
        ("<style>\n</style>", "style-src", hash_source("\n")),
        ('<p onclick="a(&quot;b&quot;)">', "script-src", hash_source('a("b")')),
        ("<p style='color: red'>", "style-src-attr", "'unsafe-inline'"),
    ],
)  # fmt: skip
def test_policy_of_a_page_of_ones_own(markup: str, directive: str, source: str) -> None:
    """What stands in it is allowed, just that, and once: its addresses, blocks, handlers and styles."""
    with_it, without = (render(source=page)[1] for page in (f"<p>{markup}", "<p>"))
    new = {name: sources - without[name] for name, sources in with_it.items()}
    new["script-src"] -= {"'unsafe-hashes'"} if "onclick" in markup else set()
    assert {name: sources for name, sources in new.items() if sources} == (
        {directive: {source}} if directive != "style-src-attr" else {}
    )
    assert source in with_it[directive]


@pytest.mark.parametrize(
    "markup",
    [
        '<script src="data:text/javascript,x"></script>', '<script src="javascript:x"></script>',
        '<script src="https://*/x.js"></script>', "<script src=\"https://a.example'; script-src *\"></script>",
        '<script src="https://a.example, *; x/y"></script>', '<script src="https://[/x.js"></script>',
        '<script src="blob:https://a/x"></script>', '<script src="x.js"></script>', '<link rel="icon" href="https://a/x">',
        '<script src="https://\u0430.example/x.js"></script>', "<script>never ended", '<iframe src="https://a.example/">',
    ],
)  # fmt: skip
def test_row_76_policy_says_no_more_than_it_must(markup: str) -> None:
    """What is no address of a script, style or image adds nothing, and no address can end its directive."""
    assert render(source=f"<p>{markup}")[1] == render(source="<p>")[1]


def test_row_76_our_own_page_is_trusted_no_further() -> None:
    """Neither handlers nor styles in attributes are allowed in it, for it has none."""
    policy = render(source=pyfiledrop.PAGE)[1]
    assert "style-src-attr" not in policy and not [s for sources in policy.values() for s in sources if "unsafe" in s]


def test_a_cdn_that_was_asked_for_is_used(copy: None) -> None:
    """A copy of its own does not override what the command line says."""
    assert not {"dropzone.js", "dropzone.css"} & set(render("--dz-cdn", "https://cdn.example")[0].links)
    assert not {"dropzone.js", "dropzone.css"} & set(render("--dz-version", "5.9.3")[0].links)


@pytest.mark.parametrize(
    ("options", "size", "chunk_bytes"),
    [
        ([], 0, MIB),
        ([], 50_000 * MIB, MIB),
        ([], 50_000 * MIB + 1, 2 * MIB),
        ([], 10**15, 19_074 * MIB),
        (["--chunk-size", "70000"], 0, 70_000),
        (["--chunk-size", "70000"], 70_000 * 50_000, 70_000),
        (["--chunk-size", "70000"], 70_000 * 100_000 + 1, 210_000),
    ],
)
def test_chunk_bytes(options: list[str], size: int, chunk_bytes: int) -> None:
    """A chunk has 1 MiB or what was asked for, and several times that where the file would have over 50,000 of them."""
    assert Settings.parse(options).chunk_bytes(size) == chunk_bytes


@given(size=st.integers(0, 10**15), least=st.integers(1024, 1 << 40))
def test_chunk_bytes_suffice(size: int, least: int) -> None:
    """No file has more than 50,000 chunks, and chunks are not larger than that asks for."""
    settings = Settings(chunk_size=least)
    chunk_bytes = settings.chunk_bytes(size)
    assert chunk_bytes % least == 0 and chunk_bytes * 50_000 >= size
    assert chunk_bytes == least or (chunk_bytes - least) * 50_000 < size


@pytest.mark.parametrize(
    ("options", "lanes"), [([], 4), (["--parallel-chunks", "2"], 2), (["--disable-parallel-chunks"], 1)]
)
def test_lanes(options: list[str], lanes: int) -> None:
    """The page sends as many chunks at a time as it was asked to, and one with --disable-parallel-chunks."""
    assert Settings.parse(options).lanes == lanes


def test_settings_are_a_value() -> None:
    """Nothing changes the settings behind the server's back."""
    settings = Settings()
    with pytest.raises(AttributeError):
        settings.port = 1  # type: ignore[misc]
    assert replace(settings, port=1) != settings == Settings.parse([])


@pytest.mark.parametrize("value", [Span(0, 5), Chunk("a", 0, 1, 4, 4)])
def test_decisions_are_values(value: Any) -> None:
    """Nor what was read out of a request, which is compared and kept: equal ones are one."""
    with pytest.raises(AttributeError):
        value.count = 2
    assert len({value, replace(value)}) == 1


# Forms


@pytest.mark.parametrize(
    ("names", "fits"),
    [
        (["a", "b"], True),
        (["a" * length for length in range(1, pyfiledrop.MAX_FIELDS + 1)], True),
        (["a" * length for length in range(1, pyfiledrop.MAX_FIELDS + 2)], False),
        (["a", "b", "a"], False),
    ],
)
def test_read_plain_form(names: list[str], fits: bool) -> None:
    """The short way is for forms with few fields, each there once; the parser judges the others."""
    part = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    fields = "".join(part.format(name, "") + f"{name}!\r\n" for name in names)
    file = part.format("file", '; filename="x.bin"\r\nContent-Type: text/plain')
    data = (fields + file).encode()
    expected = ({name: f"{name}!" for name in names}, "x.bin", len(data)) if fits else None
    assert pyfiledrop.read_plain_form(data + b"content", b"--b") == expected
    assert pyfiledrop.read_plain_form(data + b"content", b"--c") is None


# Other systems


@pytest.mark.parametrize(
    ("path", "system", "given"),
    [
        (r"C:\drop\storage", "nt", r"\\?\C:\drop\storage"),
        (r"\\server\share\storage", "nt", r"\\?\UNC\server\share\storage"),
        (r"\\?\C:\drop", "nt", r"\\?\C:\drop"),
        ("/srv/drop", "posix", "/srv/drop"),
    ],
)
def test_long_path(path: str, system: str, given: str) -> None:
    """Windows takes more than 260 characters only in a form that says so."""
    assert pyfiledrop.long_path(path, system) == given


@pytest.mark.skipif(sys.platform == "win32", reason="its sockets tick by themselves")
def test_ticking_on_32_bit_systems() -> None:
    """Where time is counted beyond 2038 in 32 bits, a socket's time-out has two numbers of 64 bits."""

    class Socket:
        given: ClassVar[list[tuple[int, bytes]]] = []

        def settimeout(self, seconds: float | None) -> None:
            assert seconds is None

        def setsockopt(self, level: int, option: int, value: bytes) -> None:
            self.given.append((option, value))
            if len(self.given) % 2:
                raise OSError(errno.EINVAL, "Invalid argument")

    pyfiledrop.Wire(Socket()).open()  # type: ignore[arg-type]
    wide = struct.pack("@qq", pyfiledrop.TICK_SECONDS, 0)
    assert Socket.given[1::2] == [(socket.SO_RCVTIMEO, wide), (socket.SO_SNDTIMEO, wide)]


# What begins an upload, and its runs


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ('{"name": "a", "size": 0}', ("a", 0, None)),
        ('{"size": 5, "modified": null, "name": ""}', ("", 5, None)),
        (f'{{"name": "a", "size": {10**15 - 1}, "modified": {10**15 - 1}}}', ("a", 10**15 - 1, 10**15 - 1)),
        (f'{{"name": "a", "size": 1, "modified": {1 - 10**15}}}', ("a", 1, 1 - 10**15)),
    ],
)
def test_wish(text: str, wish: tuple[str, int, int | None]) -> None:
    """Name and size are needed, the time of change is not; the order is the client's."""
    assert pyfiledrop.parse_wish(text.encode(), 10**15) == (*wish, "", None)


@pytest.mark.parametrize(
    ("more", "path", "drop"),
    [
        ('"path": "a/../b", "drop": null', "a/b", None),
        (f'"path": "", "drop": "{UUID.upper()}"', "", UUID),
        ('"drop": ""', "", None),
    ],
)
def test_wish_with_folders_and_drop(more: str, path: str, drop: str | None) -> None:
    """Folders come out harmless, the drop's UUID in lower case."""
    text = f'{{"name": "a", "size": 0, {more}}}'
    assert pyfiledrop.parse_wish(text.encode(), 1) == ("a", 0, None, path, drop)


@pytest.mark.parametrize(
    "text",
    [
        "", "nothing", "[]", "5", "null", "[" * 8000, '[["name", "a"], ["size", 1]]', '{"name": "a"}', '{"size": 1}',
        '{"name": "a", "size": 1, "more": 1}', '{"name": "a", "size": 1, "modified": 1, "more": 1}',
        '{"name": "a", "name": "a", "size": 1}', '{"name": "a", "size": 1, "size": 1, "modified": 1}',
        '{"name": 1, "size": 1}', '{"name": {"a": 1}, "size": 1}', r'{"name": "a\u0000", "size": 1}',
        '{"name": "a", "size": true}', '{"name": "a", "size": 1.0}', '{"name": "a", "size": "1"}',
        '{"name": "a", "size": -1}', f'{{"name": "a", "size": {10**15}}}', '{"name": "a", "size": NaN}',
        '{"name": "a", "size": 1, "modified": true}', '{"name": "a", "size": 1, "modified": 1.5}',
        f'{{"name": "a", "size": 1, "modified": {10**15}}}', f'{{"name": "a", "size": 1, "modified": {-10**15}}}',
        '{"name": "a", "size": ' + "1" * 5000 + "}",
        '{"name": "a", "size": 1, "path": null}', '{"name": "a", "size": 1, "path": ["a"]}',
        '{"name": "a", "size": 1, "drop": 5}', '{"name": "a", "size": 1, "drop": "", "drop": ""}',
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_wish_that_is_none(text: str) -> None:
    """Whatever is missing, stands twice, is of another kind or nobody knows is refused in one sentence."""
    with pytest.raises(BadRequest, match=r"name, size and time of change"):
        pyfiledrop.parse_wish(text.encode(), 10**15)


def test_wish_for_too_much() -> None:
    """A file over the limit is refused, one of just that size is not."""
    assert pyfiledrop.parse_wish(b'{"name": "a", "size": 5}', 5).size == 5
    with pytest.raises(TooLarge):
        pyfiledrop.parse_wish(b'{"name": "a", "size": 6}', 5)


@pytest.mark.parametrize(
    ("first", "length", "size", "numbers"),
    [
        (0, 4, 10, range(1)), (1, 4, 10, range(1, 2)), (0, 8, 10, range(2)), (0, 10, 10, range(3)),
        (2, 2, 10, range(2, 3)), (1, 6, 10, range(1, 3)), (0, 8, 8, range(2)), (0, 0, 0, range(1)), (0, 3, 3, range(1)),
        (0, 0, 10, None), (2, 0, 10, None), (0, 3, 10, None), (1, 5, 10, None), (2, 1, 10, None), (2, 3, 10, None),
        (3, 0, 10, None), (2, 0, 8, None), (1, 0, 0, None), (0, 1, 0, None), (0, 12, 10, None), (99, 4, 10, None),
    ],
)  # fmt: skip
def test_run_of_chunks(first: int, length: int, size: int, numbers: range | None) -> None:
    """A run of a file in chunks of four bytes ends where one of them ends, and not beyond the file."""
    if numbers is not None:
        assert pyfiledrop.run_of_chunks(first, length, size, 4) == numbers
    else:
        with pytest.raises(BadRequest):
            pyfiledrop.run_of_chunks(first, length, size, 4)
