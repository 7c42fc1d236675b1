#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "bottle>=0.13.4",
#     "multipart>=2.0.1",
#     "paste>=3.10.1",
#     "segno>=1.6.6",
#     "werkzeug>=3.1.9",
# ]
# ///
"""pyfiledrop: drop files of any size on this machine through a web page, and fetch them back through links.

    python pyfiledrop.py            take files in; see --help for the options
    python pyfiledrop.py -a         and give them back to whoever has the link

HTTP

    GET    /                        the page
    POST   /                        signs in and out, where a password is asked for
    POST   /uploads                 begins an upload or finds it again: name, size, modified as JSON
    PUT    /uploads/<uuid>/<first>  a run of its whole chunks as the body, from this one on
    POST   /upload                  one Dropzone chunk, or without dzuuid the files of a plain form (curl -F file=@x)
    PUT    /upload/<name>           one file as the body (curl -T x)
    GET    /uploads                 what this browser has dropped, newest first; ?before=<mark> for what is older
    DELETE /uploads                 forget the finished ones (the files stay)
    GET    /uploads/<uuid>          one upload, and which of its chunks are in
    DELETE /uploads/<uuid>          remove one's own file or unfinished upload
    GET    /drops/<uuid>            a page with the files that were dropped together, when downloads are allowed
    GET    /drops/<uuid>.zip        all of them in their folders, as one ZIP; HEAD too
    GET    /qr                      a QR code (SVG) of the address in ?link=, which must be one of this server's
    GET    /download/<uuid>         the file, when started with --allow-downloads; one byte range; HEAD too
    GET    /favicon.ico, /dropzone.js, /dropzone.css

On disk

    storage/<uuid>_<name>           a finished file, whole from the moment it has this name
    storage/.pyfiledrop.sqlite3     the record of all uploads; locked by the one server that owns the folder
    chunks/<uuid>/data              an unfinished upload, each chunk at its place
    storage/.<uuid>.part            a file that comes in one piece, or from another disk, until it is whole

Sections, each of which uses only what stands above it

    Settings        limits, and what the command line may ask for
    Errors          what a client is told, and with which status
    Decisions       pure functions: fields, names, heads, ranges, hosts
    System          calls that differ between operating systems
    Turn            threads that work one after the other, and syncs that they share
    Record          what is known of uploads: all SQL
    Engine          where bytes lie: the protocol, and the disk
    Store           what happens to uploads, and in which order
    Body            reading a request's body, from the socket to the file
    App             handlers: parse, ask the store, answer
    Page            what browsers load by themselves
    Server          connections and threads
    Command line    what is asked for, what is said, and the log
    Inline pages    the text of the pages, which the others look up when they run
"""

from __future__ import annotations

import argparse
import base64
import bisect
import contextlib
import dataclasses
import email.utils
import enum
import errno
import functools
import hashlib
import hmac
import html
import io
import ipaddress
import itertools
import json
import logging
import math
import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import ssl
import stat
import struct
import sys
import threading
import time
import types
import unicodedata
import uuid as uuidlib
import webbrowser
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Collection, Container, Generator, Iterable, Iterator, Mapping
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from socketserver import TCPServer
from string import Template
from typing import Any, BinaryIO, NamedTuple, Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

import bottle
import segno
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from paste import httpserver
from werkzeug.http import is_resource_modified, parse_etags, parse_range_header
from werkzeug.utils import secure_filename

try:  # only where the system has it; elsewhere pipes keep the size they are born with
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

__version__ = "1.0.0"

log = logging.getLogger("pyfiledrop")

# ======================================================================================================================
# Settings
# ======================================================================================================================

KIB, MIB = 1 << 10, 1 << 20

DROPZONE_VERSION = "6.3.5"
DROPZONE_CDN = "https://cdnjs.cloudflare.com/ajax/libs/dropzone"
#: route -> (file beside the script, what its bytes must hash to: https://www.w3.org/TR/SRI/)
DROPZONE_FILES = {
    "dropzone.js": ("dropzone-min.js", "sha384-wHTterC8uaPhGVKg8kmSlqcmI8CCFkOI+Mn51O3udobTBX0vQLs6a18vJqh0AnW3"),
    "dropzone.css": ("dropzone.css", "sha384-asD8pW//1IYJd67ZZn/Eyo31U/YtixrhsNyn90jnZTEIgTpYfE2mkwGYVWHwg2vD"),
}

# What one request may ask for. Each limit is far above what a browser sends and far below what would hurt.
MAX_REQUEST_LINE_BYTES = 8 * KIB
MAX_HEADERS_BYTES = 32 * KIB
MAX_HEADERS = 100
MAX_COOKIE_BYTES = 8 * KIB
MAX_CHUNKS = 100_000  # of one upload: what the record of it costs stays in the megabytes
CHUNK_BYTES = 1 * MIB  # a broken connection costs at most one chunk, so on a bad line a small one is cheap
CHUNKS_A_FILE = 50_000  # of an upload whose chunk size is ours to choose; beyond that its chunks grow
MAX_PARTS = 64  # of one form: files and fields together
MAX_FIELDS = 16  # Dropzone sends six
MAX_FIELD_BYTES = 4 * KIB  # a path, each of its characters in four bytes
MAX_PART_HEAD_BYTES = 16 * KIB
MAX_WISH_BYTES = 16 * KIB  # what begins an upload
MAX_NAME_BYTES = 255  # of UTF-8, as most file systems have it
MAX_PATH_CHARS = 1024  # of the folders that a file lay in, with the slashes between them
FORM_OVERHEAD_BYTES = 64 * KIB  # what a form may add to its file

# How long a client may take. A transfer is never ended for lasting long, only for standing still.
HEAD_SECONDS = 10
KEEP_ALIVE_SECONDS = 15
IDLE_SECONDS = 60
TICK_SECONDS = 5  # how often a socket that waits looks at the clock: the deadlines hold to within it
MIN_BYTES_PER_SECOND = 512  # over IDLE_SECONDS; a modem of 1990 sends ten times that
LINGER_SECONDS = 5
LINGER_BYTES = 64 * MIB
STOP_SECONDS = 10
MAKE_ROOM_SECONDS = 1.0  # what an idle connection may take to end for a new one
SPARE_WORKERS = 8
MAX_UPLOADS = 1_000_000  # on record: then its file has about 500 MB
MAX_REMOVED = 10_000_000  # UUIDs that are remembered as used up: some 100 bytes each
ENTRY_BYTES = 4 * KIB  # what an upload may cost beside its bytes, in the record and in its folder
MAX_ANNOUNCED = 4096  # uploads that were begun and of which nothing is in: some 1 KB each
MAX_OPEN_UPLOADS = 1536  # each holds a descriptor, also those of the latest second that wait for their sync
DESCRIPTORS_A_CONNECTION = 4  # a socket, a pipe's two ends, a file
OTHER_DESCRIPTORS = 64

# What is announced but has not come: space is kept free for it only in proportion to what has come.
PROMISED_TIMES = 8
PROMISE_SECONDS = 60.0  # without a byte, until it is free again
PROMISE_STEP_BYTES = 64 * KIB  # how often a file that comes in one piece says how far it is
MAX_CONNECTIONS = 1024
MAX_CONNECTIONS_PER_ADDRESS = 512
MAX_LINK_CHARS = 1000  # of what a QR code is made of; one of so many can still be read from a screen
FILES_A_PAGE = 1000  # of a drop's page
# Of a drop that is given as one ZIP: some 700 bytes of memory each while it is sent. A file counts once more for every
# 128 characters of its names, because folders may have 1,024 of them.
MAX_ARCHIVE_FILES = 100_000
MAX_FILES_IN_ARCHIVES = 400_000  # of all that are sent at a time, some perhaps to readers that do not read
ARCHIVE_BLOCK_BYTES = 256 * KIB
UPLOADS_A_PAGE = 100  # of one answer to GET /uploads: some 50 KB, also when every name is as long as it can be
FOLDER_BYTES_A_PAGE = 64 * KIB  # of UTF-8: a page ends early where the files lie in folders with very long names

# How bytes are moved.
BLOCK_BYTES = 64 * KIB
HEAD_BLOCK_BYTES = 8 * KIB  # what does not come with the head can be spliced
PIPE_BYTES = 1 * MIB  # the most an ordinary user may ask of Linux
PIPES_AT_A_TIME = 8  # that one writer may empty into a file before the next one's turn
MAX_IDLE_PIPES = 8
SLEEP_FROM_BYTES = 4 * MIB  # whoever receives so much in one piece sleeps until there is a good part of it
SLEEP_BYTES = 256 * KIB
SPLICE_FROM_BYTES = 64 * KIB  # below this two system calls more cost more than a copy saves
HOUSEKEEPING_SECONDS = 1.0
MAX_LOG_BYTES = 10 * MIB
LOG_GENERATIONS = 3
MAX_LOG_LINES = 4096  # that wait for whoever reads the log
MAX_LOG_TARGET_CHARS = 200
LOG_PAUSE_SECONDS = 0.02  # in which lines gather, so that many are written at once
LOG_END_SECONDS = 2.0  # that the program waits at its end for the log to be written
AGEING_SECONDS = 60.0
RESCAN_SECONDS = 5.0
TAKEOVER_SECONDS = 60.0
TURN_SECONDS = 0.01  # some thirty small requests
SLOW_SYNC_SECONDS = 0.0002
SLOW_SYNCS = 4  # in a row: a single one says little
OUT_OF_TURN_SECONDS = 1.0

FROZEN = getattr(sys, "frozen", False)  # made into an exe by PyInstaller


def home_folder() -> Path:
    """Where the user finds and puts things: beside the script or the exe; for an installed module where they are."""
    place = Path(sys.executable if FROZEN else __file__).resolve()
    while not place.is_dir():  # of a zipapp, the folders inside are none
        place = place.parent
    return Path.cwd() if place.name in ("site-packages", "dist-packages") else place


HOME = home_folder()


def option(*flags: str, default: Any, help: str, **how: Any) -> Any:
    """A field of Settings together with its command-line option (`how` goes to argparse as it is)."""
    return dataclasses.field(default=default, metadata={"flags": flags, "how": {"help": help, **how}})


def integer(low: int, high: int) -> Callable[[str], int]:
    """A reader of decimal option values from low to high."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def _cdn(text: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-:\[\]]+(/[A-Za-z0-9._~@\-]+)*/?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https address of a folder")
    return text.rstrip("/")


def _version(text: str) -> str:
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+(-[A-Za-z0-9.]+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version like {DROPZONE_VERSION}")
    return text


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("a path is needed")
    return Path(os.path.abspath(text))


def _address(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("an address is needed; 0.0.0.0 is every one that this computer has")
    return text


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._\-]+|[0-9A-Fa-f:]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a host's name or address, without a port")
    return text.lower()


@functools.lru_cache(maxsize=1024)
def plain_address(text: str) -> str:
    """An IP address in its one canonical form (RFC 5952). An IPv4 address that a socket for both kinds wraps into an
    IPv6 one (RFC 4291, 2.5.5.2) is unwrapped. Raises ValueError.
    """
    address = ipaddress.ip_address(text)
    return str(getattr(address, "ipv4_mapped", None) or address)


def _proxy(text: str) -> str:
    try:
        return plain_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from None


def _title(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 100:
        raise argparse.ArgumentTypeError(f"{text[:100]!r} is not a title of 1 to 100 printable characters")
    return text.strip()


@dataclasses.dataclass(frozen=True)
class Settings:
    """What was asked for on the command line; names, meanings and defaults are a promise."""

    port: int = option(
        "-p", "--port", default=16273, type=integer(0, 65535), metavar="N", help="port to listen on; 0: any free one"
    )
    host: str = option("--host", default="0.0.0.0", type=_address, metavar="ADDRESS", help="address to listen on")
    title: str | None = option(
        "--title", default=None, type=_title, metavar="NAME",
        help="to whom files are dropped, as the page says it (default: the computer's name)",
    )  # fmt: skip
    storage: Path = option(
        "-s", "--storage", default=HOME / "storage", type=_path, metavar="DIR",
        help="folder for finished files (default: storage beside the script)",
    )  # fmt: skip
    chunks: Path = option(
        "-c", "--chunks", default=HOME / "chunks", type=_path, metavar="DIR",
        help="folder for unfinished uploads, best on the same disk (default: chunks beside the script)",
    )  # fmt: skip
    max_size: int = option(
        "--max-size", default=100_000, type=integer(1, 1_000_000_000), metavar="MB",
        help="largest file to take, in MB of 1,048,576 bytes",
    )  # fmt: skip
    max_total: int | None = option(
        "--max-total", default=None, type=integer(1, 1_000_000_000), metavar="MB",
        help="most that all files together may take, in MB (default: no limit but the disk)",
    )  # fmt: skip
    timeout: int = option(
        "--timeout", default=120_000, type=integer(1000, 86_400_000), metavar="MS",
        help="time in which nothing moves before the page sends again, in ms",
    )  # fmt: skip
    chunk_size: int | None = option(
        "--chunk-size", default=None, type=integer(KIB, 1 << 40), metavar="BYTES",
        help="size of a chunk, in bytes (default: 1 MiB); larger for a file that would have more than 50,000 of them",
    )  # fmt: skip
    parallel_chunks: int = option(
        "--parallel-chunks", default=4, type=integer(1, 5), metavar="N",
        help="requests with chunks the page sends at a time; at most 5, so that one of a browser's six connections"
        " stays free",
    )  # fmt: skip
    disable_parallel_chunks: bool = option(
        "--disable-parallel-chunks", default=False, action="store_true", help="send one such request after the other"
    )
    disable_force_chunking: bool = option(
        "--disable-force-chunking", default=False, action="store_true",
        help="send a file that fits one chunk as a plain form",
    )  # fmt: skip
    allow_downloads: bool = option(
        "-a", "--allow-downloads", default=False, action="store_true", help="give files back to whoever has their link"
    )
    stale_hours: int = option(
        "--stale-hours", default=24, type=integer(1, 1_000_000), metavar="H",
        help="remove an unfinished upload after so many hours in which nothing came",
    )  # fmt: skip
    no_fsync: bool = option(
        "--no-fsync", default=False, action="store_true",
        help="do not wait for the disk: faster on some disks, but a power cut may cost finished files",
    )  # fmt: skip
    password_file: Path | None = option(
        "--password-file", default=None, type=_path, metavar="FILE",
        help="ask for the password in this file's first line (default: the one in $PYFILEDROP_PASSWORD, else none)",
    )  # fmt: skip
    public_links: bool = option(
        "--public-links", default=False, action="store_true", help="let links work without the password"
    )
    allow_host: list[str] | None = option(
        "--allow-host", default=None, action="append", type=_host_name, metavar="NAME",
        help="answer under this name too, besides addresses, localhost and the computer's own names;"
        " may be given several times",
    )  # fmt: skip
    trusted_proxy: list[str] | None = option(
        "--trusted-proxy", default=None, action="append", type=_proxy, metavar="ADDR",
        help="believe the X-Forwarded-For that a proxy with this IP address sends; may be given several times"
        " (default: believe none)",
    )  # fmt: skip
    tls_cert: Path | None = option(
        "--tls-cert", default=None, type=_path, metavar="FILE", help="speak https with this certificate (PEM)"
    )
    tls_key: Path | None = option(
        "--tls-key", default=None, type=_path, metavar="FILE", help="the certificate's key (default: in the same file)"
    )
    no_open: bool = option(
        "--no-open",
        default=False,
        action="store_true",
        help="do not open the page in a browser, as the exe does when it is double-clicked",
    )
    quiet: bool = option("--quiet", default=False, action="store_true", help="log only what went wrong")
    log_file: Path | None = option(
        "--log-file", default=None, type=_path, metavar="FILE",
        help="log to this file, at most 40 MB in four generations (default: to stderr)",
    )  # fmt: skip
    dz_cdn: str | None = option(
        "--dz-cdn", default=None, type=_cdn, metavar="URL",
        help=f"load Dropzone from this cdnjs-like address (default: the local copy, else {DROPZONE_CDN})",
    )  # fmt: skip
    dz_version: str = option(
        "--dz-version", default=DROPZONE_VERSION, type=_version, metavar="X", help="version of Dropzone on the CDN"
    )

    @classmethod
    def parse(cls, argv: list[str] | None = None) -> Settings:
        """The settings argv asks for. Exits with status 2 and one sentence on stderr when it asks nonsense."""
        parser = make_parser()
        settings = cls(**vars(parser.parse_args(argv)))
        if settings.tls_key and not settings.tls_cert:
            parser.error("--tls-key needs --tls-cert")
        return settings

    @property
    def machine(self) -> str:
        """To whom files are dropped: what was asked for, else the computer's name without its domain."""
        return self.title or socket.gethostname().partition(".")[0] or "this computer"

    @property
    def listens_everywhere(self) -> bool:
        """Whether it is reached under every address that this computer has."""
        return self.host in ("0.0.0.0", "::")

    @property
    def max_bytes(self) -> int:
        """Bytes of the largest file."""
        return self.max_size * MIB

    @property
    def max_total_bytes(self) -> int | None:
        """Bytes that all files together may take."""
        return None if self.max_total is None else self.max_total * MIB

    @property
    def lanes(self) -> int:
        """Requests with chunks that the page has on their way at a time."""
        return 1 if self.disable_parallel_chunks else self.parallel_chunks

    def chunk_bytes(self, size: int) -> int:
        """Bytes of a chunk of a file of size bytes: what was asked for, or so many times that as the file needs to have
        no more than CHUNKS_A_FILE chunks.
        """
        least = self.chunk_size or CHUNK_BYTES
        return least * max(1, -(-size // (least * CHUNKS_A_FILE)))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.exit(2, f"pyfiledrop: {message}\n")


def make_parser() -> argparse.ArgumentParser:
    """The command line, made from the fields of Settings."""
    parser = _Parser(prog="pyfiledrop", description="Drop files of any size on this machine through a web page.")
    parser.add_argument("--version", action="version", version=f"pyfiledrop {__version__}")
    for field in dataclasses.fields(Settings):
        how = dict(field.metadata["how"])
        if field.default not in (None, False) and "(default" not in how["help"]:
            how["help"] += " (default: %(default)s)"
        parser.add_argument(*field.metadata["flags"], dest=field.name, default=field.default, **how)
    return parser


# ======================================================================================================================
# Errors: each has its status and one sentence; nothing else decides a status
# ======================================================================================================================


class DropError(Exception):
    """A request that cannot be met. The sentence is shown to people, so it never quotes what a client sent.

    The code says the same to programs: a page knows by it what to say in a person's own language, with the values that
    stand in the sentence (bytes, seconds, counts). Each code has one meaning, which README gives.
    """

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "server-fault"
    sentence = "Something went wrong on the server. Try again; if it stays, look into the server's log."
    headers: Mapping[str, str] = {}

    def __init__(self, sentence: str = "", code: str = "", **values: int) -> None:
        super().__init__(sentence or self.sentence)
        self.code = code or self.code
        self.values = values


class BadRequest(DropError):
    status = HTTPStatus.BAD_REQUEST
    code = "malformed"
    sentence = "This request is malformed."


class CutOff(BadRequest):
    """The client went away, or said less than it had announced."""

    code = "cut-off"
    sentence = "The request ended before its announced length."


class Unauthorized(DropError):
    status = HTTPStatus.UNAUTHORIZED
    code = "password-needed"
    sentence = "This server asks for a password. Open its page and sign in."
    headers = {"WWW-Authenticate": 'Basic realm="pyfiledrop", charset="UTF-8"'}


class Forbidden(DropError):
    status = HTTPStatus.FORBIDDEN
    code = "not-allowed"
    sentence = "This is not allowed here."


class NotFound(DropError):
    status = HTTPStatus.NOT_FOUND
    code = "not-here"
    sentence = "There is nothing here under this address."


class MethodNotAllowed(DropError):
    """RFC 9110, 15.5.6: the answer names the methods that the address takes."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    code = "wrong-method"
    sentence = "This address does not take that method."

    def __init__(self, allowed: str) -> None:
        super().__init__()
        self.headers = {"Allow": allowed}


class TooSlow(DropError):
    status = HTTPStatus.REQUEST_TIMEOUT
    code = "too-slow"
    sentence = "The request came too slowly. Send it again."


class Conflict(DropError):
    status = HTTPStatus.CONFLICT
    code = "differs"
    sentence = "This differs from the upload's first chunk. Start the upload anew."


class Gone(DropError):
    """RFC 9110, 15.5.11: a UUID stands for one file for ever, so what was removed under it is never begun again."""

    status = HTTPStatus.GONE
    code = "removed"
    sentence = "This upload was removed. Start it anew."


class LengthRequired(DropError):
    status = HTTPStatus.LENGTH_REQUIRED
    code = "length-needed"
    sentence = "The request must say its length in Content-Length."


class TooLarge(DropError):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "too-large"
    sentence = "This is larger than the server accepts."


class UriTooLong(DropError):
    status = HTTPStatus.REQUEST_URI_TOO_LONG
    code = "address-too-long"
    sentence = "The address is too long."


class BadRange(DropError):
    """RFC 9110, 15.5.17: the answer names the file's size."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    code = "no-such-range"
    sentence = "The file has no such range."

    def __init__(self, size: int) -> None:
        super().__init__(size=size)
        self.headers = {"Content-Range": f"bytes */{size}"}


class PreconditionFailed(DropError):
    status = HTTPStatus.PRECONDITION_FAILED
    code = "changed"
    sentence = "The file has changed since."


class ExpectationFailed(DropError):
    status = HTTPStatus.EXPECTATION_FAILED
    code = "unknown-expectation"
    sentence = "Of all expectations the server knows only 100-continue."


class Misdirected(DropError):
    """RFC 9110, 15.5.20."""

    status = HTTPStatus.MISDIRECTED_REQUEST
    code = "unknown-name"
    sentence = (
        "This server does not answer under this name. Open it by its address,"
        " or ask its owner to start it with --allow-host and this name."
    )


class TooManyTries(DropError):
    """RFC 6585, 4."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "wrong-passwords"

    def __init__(self, seconds: float) -> None:
        wait = math.ceil(seconds)
        super().__init__(f"There were wrong passwords. Wait {wait} s, then try again.", seconds=wait)
        self.headers = {"Retry-After": str(wait)}


class HeadersTooLarge(DropError):
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    code = "headers-too-large"
    sentence = "The request's headers are too large. Removing this site's cookies may help."


class Unavailable(DropError):
    """Worth trying again soon."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "busy"
    sentence = "The server is busy. Try again in a moment."
    headers = {"Retry-After": "2"}


class DiskFault(DropError):
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "disk-fault"
    sentence = "The server's disk reported an error. Nothing that was acknowledged is lost; try again."


class NoSpace(DropError):
    """RFC 4918, 11.5."""

    status = HTTPStatus.INSUFFICIENT_STORAGE
    code = "disk-full"
    sentence = "The server's disk is full. The upload goes on once there is space."
    headers = {"Retry-After": "30"}


class StartError(Exception):
    """Why the server cannot start: one sentence for stderr."""


_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class disk_errors:
    """A context in which what the disk or the record reports becomes the error a client gets.

    The log says which upload it was about, if there is one. A class, because each request enters it several times, and
    one made by contextlib takes three times as long.
    """

    def __init__(self, uuid: str = "") -> None:
        self._uuid = uuid

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            if error.errno in _NO_SPACE:
                raise NoSpace from error
            if error.errno in _NO_DESCRIPTORS:
                raise Unavailable from error
            log.error("disk: %s%s", self._about(), error)
            raise DiskFault from error
        if isinstance(error, sqlite3.Error):
            if "full" in str(error):
                raise NoSpace from error
            log.error("record: %s%s", self._about(), error)
            raise DiskFault from error

    def _about(self) -> str:
        return f"upload {self._uuid}: " if self._uuid else ""


# ======================================================================================================================
# Decisions: pure functions; no disk, no clock, no Bottle
# ======================================================================================================================


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One chunk as its form fields describe it. Sizes and offsets are bytes."""

    uuid: str
    index: int
    count: int
    chunk_size: int
    file_size: int
    modified: int | None = None  # the file's own time in the browser, ms since 1970
    path: str = ""  # of the folders that the file lay in, with slashes between them
    drop: str | None = None  # the UUID of what it was dropped together with

    @property
    def offset(self) -> int:
        """Where in the file the chunk begins."""
        return self.index * self.chunk_size

    @property
    def length(self) -> int:
        """Bytes the chunk must have; only the last one may be shorter than chunk_size."""
        return min(self.chunk_size, self.file_size - self.offset)


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_STORED_NAME = re.compile(_UUID.pattern + r"_[^\ud800-\udfff]+", re.IGNORECASE)  # names that are no text have those
_PART_NAME = re.compile(r"\." + _UUID.pattern + r"\.part", re.IGNORECASE)
_REST_OF_UUID = re.compile(r"-(?<=[0-9a-f]{8}-)[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_ESCAPED_IN_UUID = re.compile(r"%(2d|3[0-9]|4[1-6]|6[1-6])", re.IGNORECASE)
_DIGITS = re.compile(r"0|[1-9][0-9]{0,14}", re.ASCII)


def parse_uuid(text: str) -> str:
    """The canonical form (RFC 9562, 4) in lower case. Raises BadRequest for anything else."""
    if not _UUID.fullmatch(text):
        raise BadRequest("The upload's UUID is malformed.")
    return text.lower()


def hide_uuids(text: str) -> str:
    """The text with no more than the first eight characters of each UUID in it, then three dots.

    For the log: a UUID is the key to its file. It may also stand in an address in an escaped form (RFC 3986, 2.1),
    which the server would understand, so escaped digits, letters up to F and hyphens are shown as they are.
    """
    text = _ESCAPED_IN_UUID.sub(lambda match: chr(int(match[1], 16)), text)
    return _REST_OF_UUID.sub("...", text)


def parse_drop(text: str | None) -> str | None:
    """The UUID of a drop, if there is one. Raises BadRequest."""
    return parse_uuid(text) if text else None


def parse_path(text: str) -> str:
    """The folders that a file lay in, made harmless as in clean_path. Raises BadRequest for a path that is too long."""
    if not text:  # most have none
        return ""
    if len(text) > MAX_PATH_CHARS or "\0" in text:
        sentence = f"The file's folders have more than {MAX_PATH_CHARS} characters together."
        raise BadRequest(sentence, "path-too-long", limit=MAX_PATH_CHARS)
    return clean_path(text)


def parse_drop_link(text: str) -> str:
    """The UUID of a drop in its link. Raises NotFound: nothing is under any other address."""
    if not _UUID.fullmatch(text):
        raise NotFound
    return text.lower()


def parse_mark(text: str | None) -> int | None:
    """From where on a list goes on, as its part before said. Raises BadRequest."""
    if text is None:
        return None
    if not _DIGITS.fullmatch(text):
        raise BadRequest("There is no such mark in the list. Ask for the list from its beginning.")
    return int(text)


def parse_number(text: str) -> int:
    """A plain decimal number of at most 15 digits. Raises BadRequest for signs, spaces, underscores and the like."""
    if not _DIGITS.fullmatch(text):
        raise BadRequest("A number of the upload is malformed.")
    return int(text)


def parse_time(text: str) -> int:
    """Milliseconds since 1970; a file may be older than that. Raises BadRequest."""
    return -parse_number(text[1:]) if text.startswith("-") else parse_number(text)


def parse_chunk(fields: Mapping[str, str], max_bytes: int) -> Chunk:
    """Dropzone's chunk fields (its option `params`), checked against each other.

    max_bytes is the size limit of a file. Raises BadRequest for fields that are missing, malformed or contradict
    each other, TooLarge for a file over the limit or cut into too many chunks.
    """
    try:
        size = parse_number(fields["dztotalfilesize"])
        chunk = Chunk(
            uuid=parse_uuid(fields["dzuuid"]),
            index=parse_number(fields["dzchunkindex"]),
            count=parse_number(fields["dztotalchunkcount"]),
            chunk_size=parse_number(fields["dzchunksize"]),
            file_size=size,
            modified=parse_time(fields["modified"]) if "modified" in fields else None,
            path=parse_path(fields.get("path", "")),
            drop=parse_drop(fields.get("drop")),
        )
        offset = parse_number(fields["dzchunkbyteoffset"])
    except KeyError:
        raise BadRequest("A field of the chunk is missing.") from None
    check_size(size, max_bytes)
    if chunk.count > MAX_CHUNKS:
        raise TooLarge(
            f"The upload has more than {MAX_CHUNKS} chunks. Use larger ones.", "too-many-chunks", limit=MAX_CHUNKS
        )
    if chunk.chunk_size < 1 or chunk.count != max(1, -(-size // chunk.chunk_size)):
        raise BadRequest("The number of chunks does not fit the file's size.")
    if chunk.index >= chunk.count or offset != chunk.offset:
        raise BadRequest("The chunk's number does not fit its place in the file.")
    return chunk


_BOUNDARY = re.compile(rb"[ -~]{1,70}")
_PLAIN_FIELD = re.compile(
    rb'(--[!-~]{1,70})\r\nContent-Disposition: form-data; name="([a-z]{1,32})"\r\n\r\n([ -~]{1,255})\r\n'
)
_PLAIN_FILE = re.compile(
    rb'(--[!-~]{1,70})\r\nContent-Disposition: form-data; name="[a-z]{1,32}"; '
    rb'filename="([^"%\\\x00-\x1f\x7f]{1,255})"\r\nContent-Type: [!-~]{1,99}\r\n\r\n'
)


def read_plain_form(data: bytes, opening: bytes) -> tuple[dict[str, str], str, int] | None:
    """The fields and the file's name of a form (RFC 7578) that begins as browsers write Dropzone's, and where in data
    the file's bytes begin; opening is the boundary with its two hyphens.

    None for a form that looks otherwise in any way: that is a parser's work, and takes five times as long.
    """
    fields: dict[str, str] = {}
    place = 0
    while match := _PLAIN_FIELD.match(data, place):
        name = match[2].decode("ascii")
        if match[1] != opening or name in fields or len(fields) == MAX_FIELDS:
            return None
        fields[name] = match[3].decode("ascii")
        place = match.end()
    match = _PLAIN_FILE.match(data, place)
    if match and match[1] == opening:
        with contextlib.suppress(UnicodeDecodeError):
            return fields, match[2].decode(), match.end()
    return None


class Wish(NamedTuple):
    """What a client says of a file that it wants to upload."""

    name: str
    size: int  # bytes
    modified: int | None = None  # the file's own time, ms since 1970
    path: str = ""  # of the folders that it lay in, made harmless
    drop: str | None = None  # the UUID of what it was dropped together with


def parse_wish(data: bytes, max_bytes: int) -> Wish:
    """The JSON object (RFC 8259) that begins an upload: name, size, and what is known of modified, path and drop.

    max_bytes is the size limit of a file. Raises BadRequest, and TooLarge for a file over the limit.
    """
    try:
        members = json.loads(data, object_pairs_hook=tuple)  # as a dict it would hide a member that stands twice
        wish = {"modified": None, "path": "", "drop": None} | dict(members) if isinstance(members, tuple) else {}
        name, size, modified, path, drop = (wish[key] for key in Wish._fields)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadRequest(_NO_WISH) from None
    is_sound = (
        len(wish) == len(Wish._fields)
        and len(members) == len(dict(members))
        and isinstance(name, str)
        and "\0" not in name
        and type(size) is int  # which True is not
        and 0 <= size < 10**15
        and (modified is None or (type(modified) is int and abs(modified) < 10**15))
        and isinstance(path, str)
        and isinstance(drop, str | None)
    )
    if not is_sound:
        raise BadRequest(_NO_WISH)
    check_size(size, max_bytes)
    return Wish(name, size, modified, parse_path(path), parse_drop(drop))


_NO_WISH = "An upload begins with its name, size and time of change, as JSON."


def check_size(size: int, max_bytes: int) -> None:
    """Raises TooLarge when a file of size bytes is over the limit."""
    if size > max_bytes:
        sentence = f"This file is larger than the limit of {human_size(max_bytes)}."
        raise TooLarge(sentence, "file-too-large", limit=max_bytes)


def count_files(count: int) -> str:
    """So many files, for people."""
    return "1 file" if count == 1 else f"{count:,} files"


def count_on_page(paths: Iterable[str], limit: int) -> int:
    """How many of the files in these folders one answer lists: at least one, at most limit, and fewer where their
    folders have long names, because somebody may ask for many answers at a time and read none.
    """
    room = FOLDER_BYTES_A_PAGE
    for count, path in enumerate(itertools.islice(paths, limit)):
        room -= len(path.encode())
        if room < 0:
            return max(1, count)
    return limit


def human_size(size: int) -> str:
    """Bytes for people: `1.5 GB`, a unit being 1,024 of the one below, as --max-size and Dropzone count."""
    size = max(0, size)
    if size < 1024:
        return f"{size} byte{'' if size == 1 else 's'}"
    value, units = float(size), iter(("KB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    value /= 1024
    while value >= 1023.95 and unit != "PB":  # what would be shown as 1024.0
        value, unit = value / 1024, next(units)
    return f"{value:.1f} {unit}"


#: Characters that let a name lie about itself or break a line: control characters, lone surrogates, line and paragraph
#: separators, overrides and isolates of the writing direction (UAX #9), noncharacters, and what is not seen at all
#: (Default_Ignorable_Code_Point of the Unicode Character Database, tag characters among them, and annotations).
#: Three kinds that are not seen stay, for scripts and emoji need them: the joiners U+200C and U+200D, the variation
#: selectors, and those of Mongolian. A list of our own, so that every version of Python makes the same of a name.
_DECEIVING = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
    + "]"
)
_FORBIDDEN = re.compile(r'[<>:"|?*]')  # on Windows; a colon there opens another stream of the same file
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])( *\.|$)", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_-]{0,40}(\.[0-9A-Za-z]{1,8})?", re.ASCII)
_PREFIX_BYTES = 37  # "<uuid>_"
MAX_STORED_BYTES = 255  # of a name, on most file systems
_MAX_SUFFIX_BYTES = 32


def clean_name(name: str) -> str:
    """A file name as it is shown and given back: as sent, in NFC, without what could deceive or break a line.

    At most MAX_NAME_BYTES of UTF-8: a longer one loses its folders, then the end of its stem. A clean name stays as
    it is when it is cleaned again.
    """
    if not (name.isascii() and name.isprintable()):
        name = unicodedata.normalize("NFC", _DECEIVING.sub("", name))
    if len(name.encode()) > MAX_NAME_BYTES:
        stem, suffix = split_suffix(last_component(name))
        room = MAX_NAME_BYTES - len(suffix.encode())
        name = stem.encode()[:room].decode(errors="ignore") + suffix
    return name


def last_component(name: str) -> str:
    """What stands behind the last slash or backslash."""
    return name.replace("\\", "/").rpartition("/")[2]


def split_suffix(name: str) -> tuple[str, str]:
    """A name without its suffix, and the suffix with its dot; one that is very long is none."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem and len(suffix.encode()) <= _MAX_SUFFIX_BYTES else (name, "")


def safe_name(name: str, limit: int = MAX_STORED_BYTES) -> str:
    """A file name that every file system takes, with the UUID before it: harmless, never empty, suffix kept.

    Of so many bytes of UTF-8 that `<uuid>_<name>` has no more than limit.
    """
    if _PLAIN_NAME.fullmatch(name) and not _RESERVED.match(name):  # most are, and then there is nothing to do
        return name
    safe = _FORBIDDEN.sub("_", last_component(clean_name(name))).rstrip(". ").lstrip(" ")
    if safe.startswith("."):
        safe = "_" + safe
    stem, suffix = split_suffix(safe)
    room = limit - _PREFIX_BYTES - len(suffix.encode()) - 1  # one for the underscore of the next line but one
    safe = stem.encode()[:room].decode(errors="ignore").rstrip(". ") + suffix
    return "_" + safe if _RESERVED.match(safe) else safe or "file"


def clean_path(path: str) -> str:
    """The folders that a file lay in, with slashes between them: each a harmless name as safe_name makes it, so that
    whoever gives the file back may make these folders anywhere. Those that say nothing, or lead up, are left out.
    """
    names = (name for name in path.replace("\\", "/").split("/") if clean_name(name).strip(". "))
    return "/".join(safe_name(name, MAX_NAME_BYTES + _PREFIX_BYTES) for name in names)


def content_disposition(name: str) -> str:
    """The header for a download under the name it was sent with (RFC 6266; filename* as in RFC 8187).

    Only the last component of a path: whoever saves the file must not be led into another folder.
    """
    name = last_component(clean_name(name))
    name = name if name.strip(". ") else "file"
    if re.fullmatch(r"[ !#$&\'()+,\-.0-9;=@A-Z\[\]^_`a-z{}~]+", name):
        return f'attachment; filename="{name}"'
    stem, suffix = os.path.splitext(name)  # curl -J knows only the fallback: "file.pdf" is better than "pdf"
    fallback = (secure_filename(stem) or "file") + re.sub(r"[^.0-9A-Za-z]", "", suffix).rstrip(".")
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe='')}"


def archive_names(files: Iterable[tuple[str, str]]) -> list[str]:
    """What files are called inside an archive; each is given by its folders, as clean_path makes them, and its name.

    All are harmless on every system, and none is the same as another, nor as a folder, also where case does not count:
    of equal ones the second gets " (2)", and so on.
    """
    files = list(files)
    # Sorted, so that all below one folder stand together. A set of every folder on the way would be far larger: one
    # path of 500 short folders has 250 KB of them.
    folders = sorted({f"{path.casefold()}/" for path, _ in files if path})

    def is_taken(name: str) -> bool:
        place = bisect.bisect_left(folders, f"{name}/")
        return name in taken or (place < len(folders) and folders[place].startswith(f"{name}/"))

    taken: set[str] = set()
    latest: Counter[str] = Counter()  # by names in which case does not count, for these get in each other's way
    names = []
    for path, name in files:
        folder = f"{path}/" if path else ""
        stem, suffix = split_suffix(safe_name(name))
        full = f"{folder}{stem}{suffix}"
        first = full.casefold()
        while is_taken(full.casefold()):
            latest[first] += 1
            full = f"{folder}{stem} ({latest[first] + 1}){suffix}"
        taken.add(full.casefold())
        names.append(full)
    return names


def archive_bytes(files: Iterable[tuple[str, int]]) -> int:
    """Bytes of a ZIP archive of files with these names and sizes, as Python's zipfile writes it where it cannot seek:
    not compressed, each file's checksum behind it, with the extension for large ones (APPNOTE.TXT, 4.3 and 4.5.3).
    """
    place = directory = count = 0
    for name, size in files:
        name_bytes, large, far = len(name.encode()), size > zipfile.ZIP64_LIMIT, place > zipfile.ZIP64_LIMIT
        directory += 46 + name_bytes + (4 + 16 * large + 8 * far if large or far else 0)
        place += 30 + name_bytes + size + (20 + 24 if size * 1.05 > zipfile.ZIP64_LIMIT else 16)
        count += 1
    is_large = count > zipfile.ZIP_FILECOUNT_LIMIT or max(place, directory) > zipfile.ZIP64_LIMIT
    return place + directory + (76 if is_large else 0) + 22


@dataclasses.dataclass(frozen=True)
class Span:
    """Bytes of a file: from offset, count of them; partial if that is not the whole."""

    offset: int
    count: int
    partial: bool = False


def choose_range(header: str | None, size: int) -> Span:
    """What a Range header (RFC 9110, 14.2) asks of a file of size bytes.

    One range is given; several, or a header that makes no sense, get the whole, as the RFC allows.
    Raises BadRange when the range lies beyond the end.
    """
    wanted = parse_range_header(header) if header else None
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return Span(0, size)
    start, end = wanted.ranges[0]
    if start < 0:  # the last bytes, or all if there are fewer
        start, end = max(0, size + start), size
    if start >= size:
        raise BadRange(size)
    return Span(start, min(size, end or size) - start, partial=True)


def chunk_ranges(indexes: Iterable[int]) -> list[list[int]]:
    """Rising numbers as inclusive ranges: 0 1 2 5 -> [[0, 2], [5, 5]]."""
    ranges: list[list[int]] = []
    for index in indexes:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ranges


def run_of_chunks(first: int, length: int, size: int, chunk_size: int) -> range:
    """The numbers of the chunks that length bytes from chunk `first` on are, of a file of size bytes.

    Raises BadRequest unless they begin in the file, and end where a chunk ends.
    """
    end = first * chunk_size + length
    if first >= max(1, -(-size // chunk_size)) or end > size:
        raise BadRequest("The upload has no such chunks.")
    if end < size and (length % chunk_size or not length):
        raise BadRequest("The body must end where a chunk ends.")
    return range(first, max(first + 1, -(-end // chunk_size)))


def is_same_site(environ: Mapping[str, Any]) -> bool:
    """Whether a request that changes something comes from our own page, or from no page at all (curl).

    Browsers say so in Sec-Fetch-Site; over plain http, where they do not, Origin must be our Host. A request with an
    Origin is a page's, so without a Host (HTTP/1.0) it is refused too.
    """
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return site in ("same-origin", "none")
    if "HTTP_ORIGIN" not in environ:
        return True
    origin, host = environ["HTTP_ORIGIN"].lower(), environ.get("HTTP_HOST", "").lower()
    return bool(host) and origin in (f"http://{host}", f"https://{host}")


_HOST = re.compile(r"(\[[0-9a-f.]*:[0-9a-f:.]*\]|[0-9a-z._-]*)(?::[0-9]*)?", re.ASCII | re.IGNORECASE)


@functools.lru_cache(maxsize=256)  # clients name few
def host_of(header: str) -> str:
    """The name or address in a Host header (RFC 9110, 7.2), without port and brackets, in lower case.

    Raises BadRequest for what no host can be called; the RFC's rarer characters, which no name has, are among that.
    """
    match = _HOST.fullmatch(header)
    if not match:
        raise BadRequest("The request's host is malformed.")
    host = match[1].lower()
    if host.startswith("["):
        host = host[1:-1]
        if not is_address(host):
            raise BadRequest("The request's host is malformed.")
    return host


@functools.lru_cache(maxsize=256)
def is_address(host: str) -> bool:
    """Whether this is an address of IPv4 or IPv6 and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def answers_under(host: str, names: Collection[str]) -> bool:
    """Whether the server, which has these names, answers a request for this host.

    An address and localhost (RFC 6761, 6.3) can be nobody else's name. Under any other name a page of another site
    could reach in: its owner lets the name point to this machine (DNS rebinding), and to the browser both are one site.
    """
    return host in names or host == "localhost" or host.endswith(".localhost") or is_address(host)


_LINK = re.compile(r"(https?://)([^/?#]+)([!-~]*)", re.ASCII | re.IGNORECASE)


def link_for_code(link: str, host: str, network_address: str | None) -> str:
    """What a QR code for this link holds, which must lead to the server that was asked under this Host header.

    A loopback address would lead whoever reads the code to their own device: the server's address on the network stands
    in for it, if there is one. Raises BadRequest for a link that leads elsewhere, is none of http, or is too long.
    """
    match = _LINK.fullmatch(link)
    if len(link) > MAX_LINK_CHARS or not match or match[2].lower() != host.lower():
        sentence = f"A QR code is made for addresses of this server only, of at most {MAX_LINK_CHARS} characters."
        raise BadRequest(sentence, "other-link", limit=MAX_LINK_CHARS)
    if network_address and is_loopback(host_of(host)):
        return match[1] + network_address + re.sub(r"^(\[.*\]|[^:]*)", "", host) + match[3]
    return link


def is_loopback(host: str) -> bool:
    """Whether this name or address leads back to the machine that asks for it (RFC 6761, 6.3; RFC 1122, 3.2.1.3)."""
    if is_address(host):
        return ipaddress.ip_address(plain_address(host)).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def basic_password(header: str) -> str | None:
    """The password in an Authorization header (RFC 7617); the user's name does not matter."""
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:
        return None


def guesser_of(address: str) -> str:
    """For whom a wrong password from this address counts: the IPv4 address, or the /64 of an IPv6 one.

    A /64 is the least that a customer is given (RFC 6177), so whoever has one address of it has all of them.
    """
    parsed = ipaddress.ip_address(plain_address(address))
    return str(parsed) if parsed.version == 4 else parsed.packed[:8].hex()


def client_of(peer: str, forwarded: str, proxies: Container[str]) -> str:
    """The address that a request comes from; forwarded is its X-Forwarded-For header, proxies whose word counts.

    Each proxy adds its own client at the end of that header, and what stands before it may be a lie of that client.
    So it is read from its end, for as long as the address that said so is a trusted proxy's. A malformed header says
    nothing: then the peer itself is the client.
    """
    peer = plain_address(peer)
    if peer in proxies:
        for text in reversed(forwarded.split(",")):
            try:
                address = plain_address(text.strip())
            except ValueError:
                return peer
            if address not in proxies:
                return address
    return peer


_REQUEST_LINE = re.compile(r"([A-Z]{1,20}) ([!-~]+) (HTTP/1\.[01])")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_WHOLE_ADDRESS = re.compile(r"https?://([^/]+)(/.*)?", re.IGNORECASE)
_ONCE = frozenset(
    {"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_RANGE"}
)  # fmt: skip


def parse_head(data: bytes) -> dict[str, Any]:
    """The head of a request (RFC 9112, 3 and 5), without the empty line that ends it, as WSGI wants it (PEP 3333).

    The head is read here and nowhere else; whoever wants to know something of it asks this dictionary. It has
    REQUEST_METHOD, REQUEST_URI (the address as it was sent), PATH_INFO (decoded, in WSGI's Latin-1 disguise),
    QUERY_STRING, SERVER_PROTOCOL, CONTENT_LENGTH (bytes of the body), and each other header as HTTP_<NAME>.

    Stricter than the RFC asks, because what is read in two ways is how requests are smuggled: no folded lines, no
    space before a colon, no underscore in a name (WSGI cannot tell it from a hyphen), exactly one Host, which a whole
    address in the request line may not contradict, at most one Content-Length of digits only, no Transfer-Encoding,
    a path in UTF-8. Raises a DropError; the connection cannot go on after it.
    """
    line, *lines = data.decode("latin-1").split("\r\n")
    if len(line) > MAX_REQUEST_LINE_BYTES:
        raise UriTooLong
    if len(data) - len(line) > MAX_HEADERS_BYTES or len(lines) > MAX_HEADERS:
        raise HeadersTooLarge
    match = _REQUEST_LINE.fullmatch(line)
    if not match:
        raise BadRequest("The request line is malformed.")
    method, target, version = match.groups()
    environ = _parse_headers(lines)
    _check_headers(method, version, environ)
    path, query = _parse_target(target, environ)
    environ["REQUEST_METHOD"], environ["REQUEST_URI"], environ["SERVER_PROTOCOL"] = method, target, version
    environ["PATH_INFO"], environ["QUERY_STRING"] = path, query
    return environ


@functools.lru_cache(maxsize=256)  # clients use few
def _environ_key(name: str) -> str:
    """Under which key WSGI has a header of this name."""
    if not _HEADER_NAME.fullmatch(name):
        raise BadRequest("A header of the request is malformed.")
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else "HTTP_" + key


def _parse_headers(lines: list[str]) -> dict[str, Any]:
    """The headers' lines by their keys. Values of the same name are joined, where that leaves one meaning."""
    if _CONTROL.search("".join(lines)):
        raise BadRequest("A header of the request is malformed.")
    environ: dict[str, Any] = {}
    for line in lines:
        name, colon, text = line.partition(":")
        key, value = _environ_key(name), text.strip(" \t")
        if not colon:
            raise BadRequest("A header of the request is malformed.")
        if key in environ:
            if key in _ONCE:
                raise BadRequest("A header of the request stands twice.")
            value = environ[key] + ("; " if key == "HTTP_COOKIE" else ", ") + value
        environ[key] = value
    return environ


def _check_headers(method: str, version: str, environ: dict[str, Any]) -> None:
    """Refuses headers that leave it open where the body ends, or that ask for what this server does not do."""
    if "HTTP_HOST" in environ:
        host_of(environ["HTTP_HOST"])
    elif version == "HTTP/1.1":
        raise BadRequest("The request names no host.")
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise LengthRequired
    if "CONTENT_LENGTH" in environ:
        parse_number(environ["CONTENT_LENGTH"])
    elif method in ("POST", "PUT"):
        raise LengthRequired
    else:
        environ["CONTENT_LENGTH"] = "0"
    if len(environ.get("HTTP_COOKIE", "")) > MAX_COOKIE_BYTES:
        raise HeadersTooLarge
    if version == "HTTP/1.0":
        environ.pop("HTTP_EXPECT", None)  # RFC 9110, 10.1.1: such a client would take a 100 for the answer
    if environ.get("HTTP_EXPECT", "100-continue").lower() != "100-continue":
        raise ExpectationFailed
    if method == "PUT" and "HTTP_CONTENT_RANGE" in environ:  # RFC 9110, 14.5
        raise BadRequest("Only whole files are taken in this way. Send the file from its start.", "only-whole-files")


def _parse_target(target: str, environ: dict[str, Any]) -> tuple[str, str]:
    """Path and query of the address in a request line (RFC 9112, 3.2). A whole address says the host, too."""
    path, _, query = target.partition("?")
    if not path.startswith("/"):  # a proxy's form, RFC 9112, 3.2.2
        absolute = _WHOLE_ADDRESS.fullmatch(path)
        if not absolute:
            raise BadRequest("The request's address is malformed.")
        host = absolute[1]
        host_of(host)
        environ.setdefault("HTTP_HOST", host)
        if environ["HTTP_HOST"].lower() != host.lower():  # 3.2: the client must say the same
            raise BadRequest("The request names two hosts.")
        path = absolute[2] or "/"
    path = unquote(path, "latin-1")
    try:
        path.encode("latin-1").decode()  # Bottle would leave out what is not UTF-8
    except UnicodeDecodeError:
        raise BadRequest("The request's address is not UTF-8.") from None
    if "\0" in path:
        raise BadRequest("The request's address is malformed.")
    return path, query


def keeps_alive(environ: Mapping[str, Any]) -> bool:
    """Whether the client would send another request on the same connection (RFC 9112, 9.3)."""
    tokens = environ.get("HTTP_CONNECTION", "").lower().split(",")
    return environ["SERVER_PROTOCOL"] == "HTTP/1.1" and "close" not in map(str.strip, tokens)


# ======================================================================================================================
# System: calls that differ between operating systems
# ======================================================================================================================


def _pwrite_by_seek(fd: int, data: bytes | memoryview, offset: int) -> int:
    # No two writers use a descriptor at the same time, so its position is nobody else's.
    os.lseek(fd, offset, os.SEEK_SET)
    return os.write(fd, data)


pwrite: Callable[[int, bytes | memoryview, int], int] = getattr(os, "pwrite", _pwrite_by_seek)
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
#: Others may have rights to the folders. What they put in a file's place is not followed elsewhere, nor waited for.
WARY = _BINARY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_FULLFSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_HAS_FDATASYNC = hasattr(os, "fdatasync")


def force_to_disk(fd: int, is_folder: bool = False) -> None:
    """Brings a file's bytes, or a folder's names, to the disk: on macOS, where fsync stops at its cache, past that."""
    if _FULLFSYNC is not None:
        with contextlib.suppress(OSError):  # some network file systems know only the other
            fcntl.fcntl(fd, _FULLFSYNC)
            return
    # For a file's bytes Linux need not write down when they changed, which costs as much again. A folder's names are
    # no bytes to it: of them fdatasync brings nothing.
    if is_folder or not _HAS_FDATASYNC:
        os.fsync(fd)
    else:
        os.fdatasync(fd)


def long_path(path: str, system: str = os.name) -> str:
    """An absolute path as it must be given for names beyond it that make it longer than 260 characters on Windows."""
    if system != "nt" or path.startswith("\\\\?\\"):
        return path
    return "\\\\?\\UNC" + path[1:] if path.startswith("\\\\") else "\\\\?\\" + path


def boot_mark() -> str:
    """A text that stays the same until the machine starts anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # elsewhere the time of the start, which a clock that jumps may change: then chunks are sent again
        return f"started {round((time.time() - time.monotonic()) / 60)}"


def mount_mark(folder: str) -> str:
    """A text that stays the same as long as the folder's file system stays mounted; "" where Linux does not tell.

    A disk can lose power, or be pulled and put back, while the machine runs on. What the system had not yet written
    to it is lost then, although the boot is the same.
    """
    if sys.platform != "linux":
        return ""
    device = os.stat(folder).st_dev
    with contextlib.suppress(OSError):  # ext4, xfs and others stand in /sys, under a new inode each time
        name = os.path.basename(os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))
        for kind in os.listdir("/sys/fs"):
            with contextlib.suppress(OSError):
                return f"{kind} {os.stat(f'/sys/fs/{kind}/{name}').st_ino}"
    # Of others the mount has a unique number, since Linux 6.8; in another container it is another one.
    import ctypes

    answer, unique = ctypes.create_string_buffer(256), 0x4000
    with contextlib.suppress(AttributeError):  # a C library without statx(2)
        ctypes.CDLL(None).statx(-100, os.fsencode(folder), 0, unique, answer)
    mask, number = struct.unpack_from("I", answer, 0)[0], struct.unpack_from("Q", answer, 144)[0]
    return f"mount {number}" if mask & unique else ""


# ======================================================================================================================
# Turn: threads that work one after the other
# ======================================================================================================================

# Each connection has a thread, but Python runs only one thread at a time. When threads hand the processor to each other
# at every call into the system, a small request spends more on the handing over than on its work. So whoever works
# takes the turn first, and pauses it while it waits for a client or for the disk. The turn is a courtesy and guards
# nothing: every lock that is needed is taken besides, and whoever has waited TURN_SECONDS works without the turn, so a
# slow holder stops nobody.
#
# The disk is shared in a similar way. One sync serves all who asked for it before it began, so a hundred files that are
# finished at the same moment wait for one sync instead of a hundred.


class Turn:
    """Lets threads work one after the other, as long as each is done in a moment; first come, first served."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for a moment only, by whoever changes what follows
        self._holder = 0  # the thread that has it; 0: none, and then nobody waits
        self._waiting: dict[int, threading.Lock] = {}  # thread -> what it waits for, in the order they came

    def take(self) -> None:
        """Waits for the turn, if this thread does not have it, but not for long."""
        thread = threading.get_ident()
        with self._lock:
            if self._holder in (0, thread):
                self._holder = thread
                return
            gate = self._waiting[thread] = threading.Lock()
            gate.acquire()
        if not gate.acquire(timeout=TURN_SECONDS):
            with self._lock:
                self._waiting.pop(thread, None)  # gone already if the turn came just now

    def is_mine(self) -> bool:
        """Whether this thread has the turn."""
        return self._holder == threading.get_ident()

    def give_up(self) -> bool:
        """Hands the turn to the one who has waited longest. Returns whether this thread had it."""
        if not self.is_mine():
            return False
        with self._lock:
            self._holder = next(iter(self._waiting), 0)
            if self._holder:
                self._waiting.pop(self._holder).release()
        return True

    def let_others(self) -> bool:
        """Waits behind all who wait for this thread's turn. Returns whether there were any."""
        if not (self._waiting and self.give_up()):
            return False
        self.take()
        return True

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Without the turn for as long as the caller waits for a client, the disk or another thread."""
        had_it = self.give_up()
        try:
            yield
        finally:
            if had_it:
                self.take()

    def wait_for(self, lock: threading.Lock) -> None:
        """Acquires a lock, without the turn while somebody else has it."""
        if not lock.acquire(blocking=False):
            with self.paused():
                lock.acquire()


TURN = Turn()


class SharedSync:
    """One sync for all who ask for it at the same moment. Each returns when what it did before is on the disk.

    The system tells of a failure only once, and a second sync does not make it good: so all who waited are told.
    """

    class _Round:
        is_over = False
        error: BaseException | None = None

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._lock = threading.Lock()  # held by the one who syncs for the others
        self._next = self._Round()  # the one that has not begun yet

    def __call__(self) -> None:
        """Raises what the sync raises."""
        mine = self._next
        TURN.wait_for(self._lock)
        try:
            if not mine.is_over:
                self._next = self._Round()  # whoever comes from here on may have changed what this one misses
                try:
                    self._sync()
                except BaseException as error:
                    mine.error = error
                mine.is_over = True
        finally:
            self._lock.release()
        if mine.error is not None:
            raise mine.error


# ======================================================================================================================
# Record: what is known of uploads; all SQL
# ======================================================================================================================

# SQLite keeps the record, and nothing else that matters is kept anywhere: whoever kills the server and starts it again
# finds every upload where it was. A transaction survives the end of the program from its COMMIT on, because SQLite has
# then written it to its log (the WAL). It survives a power cut only after that log was synced. SQLite would sync it
# within each COMMIT, while it holds the lock that everybody needs; so it is told not to, and make_durable() does it
# afterwards, once for all who ask at the same moment.
#
# What the server decides by at every request, the number of uploads and the sum of their bytes, is kept as running sums
# beside the connection: counting them each time would make the thousandth upload slower than the first.


class Upload(NamedTuple):
    """One upload as it is recorded, finished or not."""

    id: int  # 0: not on record
    uuid: str
    name: str  # as it is shown
    size: int  # bytes
    chunk_size: int  # bytes
    chunk_count: int
    modified: int | None  # ms since 1970, the file's own time in the browser
    owner: str | None  # None: whoever knows the UUID
    created: float  # s since 1970
    merged: int  # chunks that are in
    received: int  # bytes that are in
    stored: str | None  # the file's key in the engine, its name in storage, once it is whole
    path: str = ""  # of the folders that the file lay in, with slashes between them
    drop_uuid: str | None = None  # of what it was dropped together with; SQL has its own meaning for `drop`

    @classmethod
    def begun(
        cls,
        owner: str | None,
        uuid: str,
        name: str,
        size: int,
        chunk_size: int,
        modified: int | None,
        path: str = "",
        drop: str | None = None,
    ) -> Upload:
        """An upload that begins now, of which nothing is in yet."""
        count = max(1, -(-size // chunk_size))
        return cls(0, uuid, name, size, chunk_size, count, modified, owner, time.time(), 0, 0, None, path, drop)


class Removed(NamedTuple):
    """An upload that was removed, and whose names the disk may still have, or get back through a power cut."""

    id: int
    uuid: str
    stored: str | None


RECORD_NAME = ".pyfiledrop.sqlite3"
_COLUMNS = ", ".join(Upload._fields)
_FIND = f"SELECT {_COLUMNS} FROM uploads WHERE uuid = ?"
_INSERT = f"INSERT INTO uploads ({_COLUMNS}) VALUES (NULL{', ?' * _COLUMNS.count(',')})"
_SCHEMA_VERSION = 4
#: A drop is its first owner's for ever, also when its files are gone: else whoever has its link could put others there.
#: A trigger says so, because it costs an upload less than a statement of its own, and nothing where there is no drop.
_DROPS = f"""
    CREATE INDEX uploads_of_an_owner ON uploads (owner, id) WHERE owner IS NOT NULL;
    CREATE INDEX uploads_of_a_drop ON uploads (drop_uuid) WHERE drop_uuid IS NOT NULL;
    CREATE TABLE drops (id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, owner TEXT NOT NULL);
    CREATE TRIGGER drop_has_an_owner AFTER INSERT ON uploads WHEN new.drop_uuid IS NOT NULL BEGIN
        INSERT OR IGNORE INTO drops VALUES (NULL, new.drop_uuid, new.owner); END;
    CREATE TRIGGER oldest_drop_is_forgotten AFTER INSERT ON drops BEGIN
        DELETE FROM drops WHERE id <= new.id - {MAX_REMOVED}; END;
"""
_SCHEMA = """
    CREATE TABLE uploads (
        id INTEGER PRIMARY KEY,
        uuid TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        chunk_size INTEGER NOT NULL,
        chunk_count INTEGER NOT NULL,
        modified INTEGER,
        owner TEXT,
        created REAL NOT NULL,
        merged INTEGER NOT NULL DEFAULT 0,
        received INTEGER NOT NULL DEFAULT 0,
        stored TEXT,
        idle REAL NOT NULL DEFAULT 0,     -- s of this program's running time in which nothing came
        path TEXT NOT NULL DEFAULT '',
        drop_uuid TEXT
    );
    CREATE INDEX unfinished ON uploads (owner, size) WHERE stored IS NULL;
    CREATE TABLE chunks (
        upload INTEGER NOT NULL,
        number INTEGER NOT NULL,
        synced INTEGER NOT NULL,          -- 1: known to be on the disk, a power cut cannot take it
        PRIMARY KEY (upload, number)
    ) WITHOUT ROWID;
    CREATE TABLE removed (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uuid TEXT NOT NULL UNIQUE,
        stored TEXT,                      -- the name that the file had in storage
        for_ever INTEGER NOT NULL,        -- 0: nothing of it was ever in, so it may begin again
        cleared INTEGER NOT NULL          -- 1: the disk has lost its names, too: no power cut brings them back
    );
    CREATE INDEX uncleared ON removed (id) WHERE NOT cleared;
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
#: What takes a record of an older version along: version -> statements that make it the next one, each to a line's end.
_UPGRADES = {
    2: """
    DROP INDEX unfinished;
    CREATE INDEX unfinished ON uploads (owner, size) WHERE stored IS NULL;
""",
    3: f"""
    ALTER TABLE uploads ADD COLUMN path TEXT NOT NULL DEFAULT '';
    ALTER TABLE uploads ADD COLUMN drop_uuid TEXT;
    DROP INDEX uploads_of_a_drop;
    {_DROPS}
""",
}


class Record:
    """What is known of uploads, and of UUIDs that are used up: one SQLite database that one server has for itself.

    Safe for threads: one connection behind one lock, which is held for microseconds. Whoever decides by `count` and
    `held` and then changes them holds the lock over both. Raises sqlite3.Error, and OSError from make_durable.
    """

    def __init__(self, path: str, *, fsync: bool = True) -> None:
        """Opens or makes the record. Raises StartError when it cannot be used, or another server has it."""
        self.lock = threading.RLock()
        self._path, self._fsync = path, fsync
        self._db = self._open()
        self.is_new: bool = self._prepare()
        self.count, self.held = 0, 0  # uploads on record, and the sum of their bytes that are in
        #: A sync of the log failed, of this run or perhaps of the last one: it may not be on the disk.
        self._doubted = True
        self._sync = SharedSync(self._bring_to_disk)
        try:
            with self.transaction() as db:
                self._revoked = self._read_revoked(db)
            self._log = os.open(f"{path}-wal", os.O_RDWR | WARY)
        except (OSError, sqlite3.Error) as error:
            self._db.close()
            raise StartError(f"The record {path} cannot be opened: {error}.") from error

    def _open(self) -> sqlite3.Connection:
        try:
            self._make_private(self._path)
            return sqlite3.connect(self._path, timeout=0.5, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StartError(f"The record {self._path} cannot be opened: {error}.") from error

    @staticmethod
    def _make_private(path: str) -> None:
        """Makes the record's file, for this user only; SQLite gives its other files the same rights.

        Raises OSError when there is something else in the place of one of them, where SQLite would follow it.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | WARY, 0o600)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(fd, 0o600)
        finally:
            os.close(fd)
        for name in (path, *(f"{path}-{kind}" for kind in ("wal", "shm", "journal"))):
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(name)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                    raise OSError(errno.EPERM, "It is a link, or no file", name)

    def _prepare(self) -> bool:
        """Locks the database and brings its schema to this version. Returns whether the record is new."""
        try:
            # Exclusive: the lock that keeps a second server out, released by the system however this one ends. It
            # also spares the shared memory that a second reader would need.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA fullfsync = ON")  # for macOS, as in force_to_disk
            self._db.execute("PRAGMA synchronous = NORMAL")  # make_durable does the rest
            self._db.execute("BEGIN EXCLUSIVE")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            is_new: bool = version == 0
            steps = [_SCHEMA + _DROPS] if is_new else [_UPGRADES.get(v) for v in range(version, _SCHEMA_VERSION)]
            if version > _SCHEMA_VERSION or None in steps:
                raise StartError(f"The record {self._path} was written by another version of pyfiledrop.")
            for statement in "\n".join(filter(None, steps)).split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            self._db.execute("COMMIT")
            return is_new
        except sqlite3.OperationalError as error:
            self._db.close()
            if "locked" in str(error):
                folder = os.path.dirname(self._path)
                raise StartError(f"Another pyfiledrop is running on the folder {folder}.") from error
            raise StartError(f"The record {self._path} cannot be opened: {error}.") from error
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StartError(
                f"The record {self._path} is damaged: {error}. Move it away to start with a new one."
            ) from error
        except StartError:
            self._db.close()
            raise

    def close(self) -> None:
        """Lets go of the record."""
        with self.lock:
            os.close(self._log)  # before SQLite removes it
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; one within another is a part of it. A power cut takes it until make_durable has returned."""
        with self.lock:
            if self._db.in_transaction:
                yield self._db
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def make_durable(self) -> None:
        """Brings what was recorded until now to the disk. Others go on with the record meanwhile."""
        if self._fsync:
            self._sync()

    def _bring_to_disk(self) -> None:
        # When this fails nobody knows what of the log is on the disk; so all of it is written again, into the record.
        if self._doubted:
            with self.lock:
                (busy, _, _) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise sqlite3.OperationalError("its log could not be written back")
        self._doubted = True  # until it has come through
        force_to_disk(self._log)
        self._doubted = False

    def recount(self) -> None:
        """Takes the running sums from the record itself."""
        with self.lock:
            query = "SELECT count(*), coalesce(sum(received), 0) FROM uploads"
            self.count, self.held = self._db.execute(query).fetchone()

    # -- looking -------------------------------------------------------------------------------------------------------

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self.lock:
            return self._db.execute(query, values).fetchall()

    def _uploads(self, where: str, *values: Any) -> list[Upload]:
        return list(map(Upload._make, self._rows(f"SELECT {_COLUMNS} FROM uploads WHERE {where}", *values)))

    def find(self, uuid: str) -> Upload | None:
        """The upload with this UUID."""
        with self.lock:
            row = self._db.execute(_FIND, (uuid,)).fetchone()
        return Upload._make(row) if row else None

    def find_unfinished(self, like: Upload) -> Upload | None:
        """The latest unfinished upload of the same owner, of a file that looks like this one."""
        where = "owner = ? AND size = ? AND name = ? AND modified IS ? AND path = ? AND stored IS NULL"
        values = like.owner, like.size, like.name, like.modified, like.path
        return next(iter(self._uploads(f"{where} ORDER BY id DESC LIMIT 1", *values)), None)

    def owner_of_drop(self, drop: str) -> str | None:
        """Who used this drop first."""
        rows = self._rows("SELECT owner FROM drops WHERE uuid = ?", drop)
        return rows[0][0] if rows else None

    def of_owner(self, owner: str, before: int, limit: int) -> list[Upload]:
        """An owner's uploads, newest first: at most limit of those with an id below before."""
        return self._uploads("owner = ? AND id < ? ORDER BY id DESC LIMIT ?", owner, before, limit)

    def of_drop(self, drop: str, after: int, limit: int) -> list[Upload]:
        """A drop's finished files in the order in which they began: at most limit of those with an id above after."""
        return self._uploads("drop_uuid = ? AND stored IS NOT NULL AND id > ? ORDER BY id LIMIT ?", drop, after, limit)

    def sum_of_drop(self, drop: str) -> tuple[int, int]:
        """How many finished files a drop has, and their bytes together."""
        query = "SELECT count(*), coalesce(sum(size), 0) FROM uploads WHERE drop_uuid = ? AND stored IS NOT NULL"
        count, size = self._rows(query, drop)[0]
        return count, size

    def weight_of_drop(self, drop: str) -> int:
        """How many finished files a drop has, each counted once more for every 128 characters of its names."""
        query = "SELECT coalesce(sum(1 + (length(path) + length(name)) / 128), 0) FROM uploads"
        weight: int = self._rows(f"{query} WHERE drop_uuid = ? AND stored IS NOT NULL", drop)[0][0]
        return weight

    def unfinished(self) -> list[Upload]:
        """All uploads that are not whole yet."""
        return self._uploads("stored IS NULL")

    def stale(self, seconds: float) -> list[Upload]:
        """Unfinished uploads of which nothing has come for so many seconds of running time."""
        return self._uploads("stored IS NULL AND idle > ?", seconds)

    def is_stale(self, uuid: str, seconds: float) -> bool:
        """Whether this upload is one of those."""
        return bool(self._uploads("uuid = ? AND stored IS NULL AND idle > ?", uuid, seconds))

    def chunks_in(self, upload: Upload, first: int = 0, count: int = MAX_CHUNKS) -> list[int]:
        """Which of an unfinished upload's chunks are in, of so many from the first on; in order."""
        query = "SELECT number FROM chunks WHERE upload = ? AND number >= ? AND number < ? ORDER BY number"
        return [number for (number,) in self._rows(query, upload.id, first, first + count)]

    def unsynced_chunks(self, upload: Upload) -> list[int]:
        """Which of its chunks are not known to be on the disk."""
        query = "SELECT number FROM chunks WHERE upload = ? AND NOT synced"
        return [number for (number,) in self._rows(query, upload.id)]

    def removal(self, uuid: str) -> bool | None:
        """None: no upload of this UUID was removed. True: it is used up for ever. False: it may begin again."""
        rows = self._rows("SELECT for_ever FROM removed WHERE uuid = ?", uuid)
        return bool(rows[0][0]) if rows else None

    def uncleared(self) -> list[Removed]:
        """What was removed, while a power cut may still bring its names back."""
        return list(map(Removed._make, self._rows("SELECT id, uuid, stored FROM removed WHERE NOT cleared")))

    def is_uncleared(self, removed: Removed) -> bool:
        """Whether this is still so: the upload may have begun again, or been put back by hand."""
        return bool(self._rows("SELECT 1 FROM removed WHERE id = ? AND NOT cleared", removed.id))

    # -- an upload's life ----------------------------------------------------------------------------------------------

    def add(self, upload: Upload) -> Upload:
        """Puts an upload on record that is not there yet."""
        with self.lock:
            with self.transaction() as db:
                db.execute("DELETE FROM removed WHERE uuid = ?", (upload.uuid,))
                number = db.execute(_INSERT, upload[1:]).lastrowid
            self.count += 1
        assert number is not None
        return upload._replace(id=number)

    def add_chunks(self, upload: Upload, numbers: Collection[int]) -> Upload:
        """Says that these chunks are in, too, though perhaps not on the disk."""
        more = upload._replace(
            merged=upload.merged + len(numbers), received=upload.received + chunk_bytes(upload, numbers)
        )
        with self.lock:
            with self.transaction() as db:
                db.executemany("INSERT INTO chunks VALUES (?, ?, 0)", [(upload.id, number) for number in numbers])
                query = "UPDATE uploads SET merged = ?, received = ?, idle = 0 WHERE id = ?"
                db.execute(query, (more.merged, more.received, upload.id))
            self.held += more.received - upload.received
        return more

    def mark_synced(self, upload: Upload, numbers: Iterable[int]) -> None:
        """Says that these chunks are on the disk. It counts after a power cut once it is durable itself."""
        if self._fsync:  # else nobody knows
            with self.transaction() as db:
                query = "UPDATE chunks SET synced = 1 WHERE upload = ? AND number = ?"
                db.executemany(query, [(upload.id, number) for number in numbers])

    def forget_chunks(self, upload: Upload, only_unsynced: bool = False) -> int:
        """Counts chunks as never received: all, or those that are not known to be on the disk. Returns how many."""
        with self.lock:
            before = self.find(upload.uuid)
            with self.transaction() as db:
                which = "AND NOT synced" if only_unsynced else ""
                gone = db.execute(f"DELETE FROM chunks WHERE upload = ? {which}", (upload.id,)).rowcount
                (left, received) = db.execute(
                    "SELECT count(*), coalesce(sum(min(?, ? - number * ?)), 0) FROM chunks WHERE upload = ?",
                    (upload.chunk_size, upload.size, upload.chunk_size, upload.id),
                ).fetchone()
                db.execute("UPDATE uploads SET merged = ?, received = ? WHERE id = ?", (left, received, upload.id))
            if before is not None:
                self.held += received - before.received
        return gone

    def move(self, upload: Upload, drop: str) -> Upload:
        """Says that an upload is a part of this drop of its owner."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO drops VALUES (NULL, ?, ?)", (drop, upload.owner))
            db.execute("UPDATE uploads SET drop_uuid = ? WHERE id = ?", (drop, upload.id))
        return upload._replace(drop_uuid=drop)

    def finish(self, done: Upload) -> None:
        """Says that a file is whole and has its name. Nobody may be told before that is durable."""
        with self.lock:
            if not done.id:  # one statement is a transaction by itself
                self._db.execute(_INSERT, done[1:])
                self.count += 1
                self.held += done.size
                return
            before = self._uploads("id = ?", done.id)[0].received
            with self.transaction() as db:
                db.execute("DELETE FROM chunks WHERE upload = ?", (done.id,))
                db.execute(
                    "UPDATE uploads SET stored = ?, merged = ?, received = ?, size = ?, chunk_size = ? WHERE id = ?",
                    (done.stored, done.merged, done.received, done.size, done.chunk_size, done.id),
                )
            self.held += done.size - before

    def remove(self, upload: Upload, for_ever: bool) -> None:
        """Takes an upload off the record, and remembers it as removed until its names are cleared, or for ever."""
        if not (upload.id or for_ever):
            return
        with self.lock:
            with self.transaction() as db:
                db.execute("DELETE FROM chunks WHERE upload = ?", (upload.id,))
                db.execute("DELETE FROM uploads WHERE id = ?", (upload.id,))
                query = "INSERT OR REPLACE INTO removed VALUES (NULL, ?, ?, ?, 0)"
                db.execute(query, (upload.uuid, upload.stored, for_ever))
            if upload.id:
                self.count -= 1
                self.held -= upload.received

    def mark_cleared(self, cleared: Collection[Removed]) -> None:
        """Says that the disk has lost the names of what was removed. Of all UUIDs used up, the oldest are forgotten."""
        numbers = [(removed.id,) for removed in cleared]
        oldest = max(removed.id for removed in cleared) - MAX_REMOVED
        with self.transaction() as db:
            db.executemany("DELETE FROM removed WHERE id = ? AND NOT for_ever", numbers)
            db.executemany("UPDATE removed SET cleared = 1 WHERE id = ?", numbers)
            db.execute("DELETE FROM removed WHERE id <= ?", (oldest,))

    def disown(self, owner: str) -> int:
        """Takes an owner's finished files off the list. Returns how many."""
        with self.transaction() as db:
            query = "UPDATE uploads SET owner = NULL WHERE owner = ? AND stored IS NOT NULL"
            return db.execute(query, (owner,)).rowcount

    def age(self, seconds: float) -> None:
        """Says that so much running time has passed."""
        with self.transaction() as db:
            db.execute("UPDATE uploads SET idle = idle + ? WHERE stored IS NULL", (seconds,))

    # -- against what is stored ----------------------------------------------------------------------------------------

    def lists_just(self, keys: Iterable[str]) -> bool:
        """Whether the finished files on record are just these. Sums of hashes that nobody can foresee say so without
        holding all the names."""
        with self.lock:
            recorded = self._db.execute("SELECT stored FROM uploads WHERE stored IS NOT NULL")
            return sum(hash(key) for (key,) in recorded) == sum(map(hash, keys))

    @contextlib.contextmanager
    def compared_with(self, keys: Iterable[str]) -> Iterator[tuple[list[Upload], Iterator[tuple[str, str]]]]:
        """In a transaction: the finished uploads whose keys are not among these, and then key and UUID of new ones.

        Keys begin with the UUID. Of several for one UUID only one counts, and none for one that is being removed. Which
        are new is found out when the first is asked for, so an upload that was lost may be new under another key.
        """
        with self.transaction() as db:
            db.execute("CREATE TEMP TABLE seen (stored TEXT)")  # a transaction that fails takes it away again
            db.executemany("INSERT INTO seen VALUES (?)", zip(keys))
            db.execute("CREATE INDEX temp.seen_names ON seen (stored)")  # sorted once: faster than one by one

            def new() -> Iterator[tuple[str, str]]:
                db.execute(
                    "CREATE TEMP TABLE new AS SELECT stored, lower(substr(stored, 1, 36)) AS uuid FROM seen"
                    " WHERE uuid NOT IN (SELECT uuid FROM uploads)"
                    " AND uuid NOT IN (SELECT uuid FROM removed WHERE NOT cleared) GROUP BY uuid"
                )
                yield from db.execute("SELECT stored, uuid FROM new")
                db.execute("DROP TABLE new")

            yield self._uploads("stored IS NOT NULL AND stored NOT IN (SELECT stored FROM seen)"), new()
            db.execute("DROP TABLE seen")

    def lose(self, upload: Upload) -> None:
        """Says that a finished file was taken away by hand. Its UUID is used up."""
        with self.transaction() as db:
            db.execute("DELETE FROM uploads WHERE id = ?", (upload.id,))
            db.execute("INSERT OR REPLACE INTO removed VALUES (NULL, ?, NULL, 1, 1)", (upload.uuid,))

    def take_up(self, uuid: str, key: str, size: int, created: float) -> None:
        """Puts a finished file on record that was put into storage by hand, perhaps after it was removed."""
        name = clean_name(key.partition("_")[2])
        with self.transaction() as db:
            db.execute("DELETE FROM removed WHERE uuid = ?", (uuid,))
            upload = Upload(0, uuid, name, size, max(1, size), 1, None, None, created, 1, size, key)
            db.execute(_INSERT, upload[1:])

    # -- facts ---------------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        """What was last said of this."""
        rows = self._rows("SELECT value FROM facts WHERE name = ?", name)
        return rows[0][0] if rows else None

    def set_fact(self, name: str, value: str) -> None:
        """Says something in place of what was said before."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def secret(self) -> bytes:
        """A random key that stays the same as long as the record does."""
        with disk_errors(), self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO facts VALUES ('secret', ?)", (secrets.token_hex(32),))
            return bytes.fromhex(self.fact("secret") or "")

    def revoke(self, session: str, end: int) -> None:
        """Remembers that a session was ended, until it would have ended by itself (s since 1970)."""
        with disk_errors():
            with self.transaction() as db:
                self.set_fact(f"revoked {session}", str(end))
                self._revoked = self._read_revoked(db)
            self.make_durable()

    def is_revoked(self, session: str) -> bool:
        """Whether a session was ended. It is asked at every request, so the answer comes from memory."""
        return session in self._revoked

    @staticmethod
    def _read_revoked(db: sqlite3.Connection) -> frozenset[str]:
        db.execute("DELETE FROM facts WHERE name GLOB 'revoked *' AND CAST(value AS INTEGER) <= ?", (time.time(),))
        rows = db.execute("SELECT name FROM facts WHERE name GLOB 'revoked *'")
        return frozenset(name.removeprefix("revoked ") for (name,) in rows)


def chunk_bytes(upload: Upload, numbers: Collection[int]) -> int:
    """Bytes that these chunks of an upload have together; only the file's last one may be shorter than the others."""
    total = len(numbers) * upload.chunk_size
    return total - (upload.chunk_count * upload.chunk_size - upload.size) * ((upload.chunk_count - 1) in numbers)


# ======================================================================================================================
# Engine: where bytes lie
# ======================================================================================================================

# The store above decides what happens to an upload, and when; an engine does it to the bytes. What it must keep so that
# the store can keep its promises:
#
# - Bytes are written once, at their place, by as many parts at a time as there are requests. Once a part's close() has
#   returned, none of its bytes can land any more.
# - Publishing gives a whole file its key at one moment, and never in place of another file. Whoever repeats it after a
#   fault, or after the program was killed in it, finds that it was done, or does it.
# - Whatever removes can be repeated, too. Only after settle() is it certain that what was removed stays away.
# - A sync that failed is never repeated in the hope that it works now: the system tells of lost bytes only once. The
#   data counts as failed, and the store asks for all of its chunks that were not known to be synced.
#
# An engine knows nothing of owners, nor of the record, and raises OSError where no other error is named. Nothing above
# it knows a path, or where a descriptor comes from.


class Content(NamedTuple):
    """A finished file, opened to be given back."""

    file: BinaryIO  # with a descriptor: the server lets the system send it
    size: int  # bytes
    modified: float  # s since 1970
    tag: str  # changes with the content


class Part(Protocol):
    """The way for one writer's bytes into an upload."""

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Puts all of data at this offset of the file."""

    def splice(self, pipe: int, count: int, offset: int) -> int:
        """Moves at most count bytes out of a pipe to this offset, as os.splice does. Returns how many."""

    def read(self, size: int) -> Iterator[bytes]:
        """What the file has so far, in blocks of at most size bytes."""

    def close(self) -> None:
        """Ends it. From the return on, and also when it raises, none of its bytes can land."""


class Data(Protocol):
    """The bytes of an upload that is not finished."""

    failed: bool  # a sync failed: what was not known to be on the disk may be gone

    def part(self) -> Part:
        """A way for one more writer."""

    def sync(self) -> None:
        """Returns when all its bytes are on the disk."""

    def sync_later(self) -> Callable[[], None]:
        """A function that syncs bytes and names, to be called once. Data may be closed before it was called."""

    def publish(self, upload: Upload) -> str:
        """Makes a file of it when it is whole and synced, and lets go of it. Returns the file's key, which begins with
        the UUID. Raises DataLost when these are not the bytes that were written, and Conflict when another file has
        that key."""

    def close(self) -> None:
        """Lets go of it."""


class Engine(Protocol):
    """Keeps the bytes of uploads. Each method can be called from any thread, those for one upload one at a time."""

    #: Publishing moves the only name that the bytes have, so the record must know of the upload before.
    moves: bool

    def check(self, upload: Upload | None = None) -> None:
        """Raises Unavailable when a place where bytes lie, or this upload's will, is not what it was at start."""

    def is_free(self, upload: Upload) -> bool:
        """Whether nothing is in the place where a new upload's bytes are to lie."""

    def create(self, upload: Upload) -> Data:
        """Room for the bytes of a new upload."""

    def reopen(self, upload: Upload) -> Data:
        """The bytes of one that create() was called for, perhaps before a restart. Raises DataLost."""

    def has_data(self, upload: Upload) -> bool:
        """Whether reopen would find them."""

    def is_published(self, upload: Upload) -> bool:
        """Whether publishing has come so far that the file has its key."""

    def retract(self, upload: Upload, key: str) -> None:
        """Undoes publishing."""

    def republish(self, upload: Upload) -> bool:
        """Gives a file back the key that retract took although it counts as finished. Returns whether it has it."""

    def discard(self, uuid: str, chunk_count: int | None = None) -> None:
        """Removes unfinished data, if there is any; quicker if one knows of how many chunks."""

    def remove(self, key: str) -> None:
        """Removes a finished file, if it is there."""

    def settle(self) -> None:
        """Returns when all names that were given or removed until now are so on the disk."""

    def open(self, key: str) -> Content:
        """A finished file. Raises NotFound."""

    def has(self, key: str) -> bool:
        """Whether something is there under this key."""

    def look(self, key: str) -> tuple[int, float] | None:
        """Size and time (s since 1970) of the finished file with this key."""

    def keys(self) -> Iterator[str]:
        """The keys of all finished files, and of what the machine's owner put beside them under such a name."""

    def generation(self) -> int:
        """A number that changes when keys come or go."""

    def key_of(self, upload: Upload) -> str:
        """The key that the file has or gets."""

    def free(self) -> int:
        """Bytes that there is room for."""

    def free_to_publish(self) -> int | None:
        """The same where published files go, if publishing needs room of its own."""

    def mark(self) -> str:
        """A text that stays the same as long as nothing can have cost bytes that were not synced."""

    def tidy_storage(self, find: Callable[[str], Upload | None], record_is_new: bool) -> list[str]:
        """At start, before anything else: removes what the last run was receiving in one piece, as nobody was told
        that it is in. Returns sentences about what it found."""

    def tidy_chunks(self, find: Callable[[str], Upload | None]) -> list[str]:
        """At start: removes unfinished data that no unfinished upload has. Returns sentences about what it found."""

    def close(self) -> None:
        """Lets go of it."""


class DataLost(DiskFault):
    """An upload's unfinished bytes were removed or replaced by somebody else."""

    code = "data-changed"
    sentence = "The upload's data was changed on the server's disk. Send it again."


_CAN_LINK_LINKS = getattr(os, "link", None) in os.supports_follow_symlinks
_NOT_FOLLOWING: dict[str, Any] = {"follow_symlinks": False} if _CAN_LINK_LINKS else {}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EMLINK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTSUP}
_NOT_A_FILE = {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EMLINK}
_PROBE = ".pyfiledrop.probe"


def _open_warily(path: str, flags: int, folder: int | None = None) -> int:
    return os.open(path, flags | WARY, dir_fd=folder)


def _create_file(path: str, folder: int | None = None) -> int:
    """A new file under a name of ours. What is left there by an attempt that failed is removed, never opened."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | WARY
    try:
        return os.open(path, flags, 0o666, dir_fd=folder)
    except FileExistsError:
        os.unlink(path, dir_fd=folder)
        return os.open(path, flags, 0o666, dir_fd=folder)


def _unlink(path: str, folder: int | None = None) -> None:
    try:  # noqa: SIM105 - contextlib would take as long again, at each file
        os.unlink(path, dir_fd=folder)
    except FileNotFoundError:
        pass


class _Place:
    """A context with the way to an upload's bytes: a path, and the descriptor of the folder that it starts from.

    The folder is opened first, so that nobody who puts a link in its place leads us elsewhere.
    """

    def __init__(self, path: str, folder: str | None = None) -> None:
        self._path, self._folder = path, folder

    def __enter__(self) -> tuple[str, int | None]:
        self._fd = None if self._folder is None else os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | WARY)
        return self._path, self._fd

    def __exit__(self, *exc: object) -> None:
        if self._fd is not None:
            os.close(self._fd)


class DiskPart:
    """A descriptor for one writer."""

    def __init__(self, fd: int, is_own: bool) -> None:
        self._fd, self._is_own = fd, is_own

    def write(self, data: bytes | memoryview, offset: int) -> None:
        count = pwrite(self._fd, data, offset)
        while count < len(data):
            count += pwrite(self._fd, memoryview(data)[count:], offset + count)

    def splice(self, pipe: int, count: int, offset: int) -> int:
        try:
            return os.splice(pipe, self._fd, count, offset_dst=offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # This file system cannot: by hand then.
            self.write(data := os.read(pipe, count), offset)
            return len(data)

    def read(self, size: int) -> Iterator[bytes]:
        with open(os.dup(self._fd), "rb") as file:
            file.seek(0)
            while data := file.read(size):
                yield data

    def close(self) -> None:
        if self._is_own:
            os.close(self._fd)  # closed even if it reports an error


class DiskData:
    """A file that stays open as long as bytes may be unsynced: a failed write-back is told to descriptors that were
    open then."""

    def __init__(self, disk: Disk, upload: Upload, fd: int, folder_number: int) -> None:
        self.failed = False
        self._disk, self._upload, self._fd = disk, upload, fd
        self._folder_number = folder_number  # 0: it needs no folder; -1: the disk has its folder's name already
        #: Held while it is synced: the system tells of a failure only once, so nobody may sync beside another.
        self._syncing = threading.Lock()

    def part(self) -> DiskPart:
        if not self._folder_number:  # the only writer needs no descriptor of its own
            return DiskPart(self._fd, is_own=False)
        if pwrite is not _pwrite_by_seek:
            return DiskPart(os.dup(self._fd), is_own=True)
        # Parallel writers that have to move a file's position need one each.
        with self._disk.place(self._upload) as (path, folder):
            return DiskPart(os.open(path, os.O_WRONLY | WARY, dir_fd=folder), is_own=True)

    def publish(self, upload: Upload) -> str:
        try:
            status = os.fstat(self._fd)
        finally:
            self.close()  # an open file cannot be renamed everywhere
        if status.st_size != upload.size:
            raise DataLost
        return self._disk.publish(upload, status)

    def sync(self) -> None:
        self._sync(self._fd)

    def _sync(self, fd: int, closes: bool = False) -> None:
        TURN.wait_for(self._syncing)
        try:
            try:
                if self.failed:
                    raise OSError(errno.EIO, "An earlier sync failed")
                self._disk.sync_file(fd)
            except OSError:
                self.failed = True
                raise
            finally:
                if closes:  # before whoever publishes has its turn: an open file cannot be renamed everywhere
                    os.close(fd)
        finally:
            self._syncing.release()

    def sync_later(self) -> Callable[[], None]:
        fd = os.dup(self._fd)

        def sync() -> None:
            self._sync(fd, closes=True)
            if self._folder_number > 0:
                self._disk.sync_chunk_folder(self._upload, self._folder_number)
                self._folder_number = -1

        return sync

    def close(self) -> None:
        os.close(self._fd)


class Disk:
    """The folders `storage` and `chunks`: names, links, syncing, free space.

    An upload of several chunks lies in `chunks/<uuid>/data`. One that comes in one piece lies in
    `storage/.<uuid>.part`, which needs no folder, and no copy when the two folders are on different disks.

    A finished file gets its name by a hard link, because that never replaces another file, and until the record says
    that the file is finished it has its old name, too. Where there are no hard links it is renamed; from another disk
    it is copied to a hidden name first. Which of these it is, is tried at start.
    """

    def __init__(self, storage: Path, chunks: Path, *, fsync: bool = True) -> None:
        """Opens, or makes, both folders. Raises StartError when one cannot be used or another server owns it."""
        self._storage, self._chunks, self._fsync = str(storage), str(chunks), fsync
        self._prefix = long_path(self._storage) + os.sep
        for folder in (storage, chunks):
            self._check_folder(folder)
        if os.path.samefile(storage, chunks):
            raise StartError(f"{storage} cannot be both storage and chunks. Choose two folders with -s and -c.")
        self._places = [(p, (status := os.stat(p)).st_dev, status.st_ino) for p in (self._storage, self._chunks)]
        self._name_bytes = self._ask_name_limit()
        self._folders_made = 0  # in chunks, by this run
        self._folders_named = 0  # so many of them have their names on the disk
        self._making = threading.Lock()  # held by whoever changes these two
        self._descriptors: list[int] = []  # to be closed at the end
        try:
            self._lock_chunks()
            self.moves, self._is_one_disk = self._probe()
            if os.name == "nt":  # where a folder cannot be opened
                self._sync_storage = SharedSync(lambda: None)
            else:
                fd = os.open(self._storage, os.O_RDONLY | _BINARY)
                self._descriptors.append(fd)
                self._sync_storage = SharedSync(lambda: self._bring_names_to_disk(fd))
        except OSError as error:
            self.close()
            raise StartError(f"The folders could not be read: {error}") from error
        except StartError:
            self.close()
            raise

    @property
    def record_path(self) -> str:
        """Where the record of this storage lies."""
        return self._in_storage(RECORD_NAME)

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _check_folder(self, folder: Path) -> None:
        try:
            if not folder.exists():
                folder.mkdir(parents=True)
                self._sync_folder(str(folder.parent))
            probe = folder / _PROBE
            probe.unlink(missing_ok=True)
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise StartError(f"The folder {folder} cannot be used: {reason}. Choose others with -s and -c.") from error

    def _ask_name_limit(self) -> int:
        """The most bytes that a name in storage may have."""
        try:
            return min(MAX_STORED_BYTES, os.pathconf(self._storage, "PC_NAME_MAX"))
        except (AttributeError, OSError, ValueError):
            return MAX_STORED_BYTES

    def _probe(self) -> tuple[bool, bool]:
        """Whether a file can have no second name here, and whether chunks and storage are on one disk."""
        chunk, file, link = os.path.join(self._chunks, _PROBE), self._in_storage(_PROBE), self._in_storage(_PROBE + "2")
        try:
            _unlink(link)  # of a start that was killed here
            for name in (chunk, file):
                os.close(_create_file(name))
            is_one_disk = self._can(os.replace, chunk, file, {errno.EXDEV})
            if is_one_disk:
                os.close(_create_file(chunk))
            source = chunk if is_one_disk else file  # what is published is linked from there
            return not self._can(getattr(os, "link", None), source, link, _NO_LINKS | {errno.EXDEV}), is_one_disk
        finally:
            for name in (chunk, file, link):
                _unlink(name)

    @staticmethod
    def _can(call: Callable[[str, str], None] | None, source: str, target: str, refusals: set[int]) -> bool:
        """Whether call(source, target) works here. Raises OSError when that failed for a reason of another kind."""
        if call is None:
            return False
        try:
            call(source, target)
        except OSError as error:
            if error.errno not in refusals:
                raise
            return False
        return True

    def _lock_chunks(self) -> None:
        """Keeps a second server out of `chunks`, also one with another `storage`. The record's lock does the rest."""
        if fcntl is None:
            return
        fd = os.open(self._chunks, os.O_RDONLY | _BINARY)
        self._descriptors.append(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(f"Another pyfiledrop is running on the folder {self._chunks}.") from error
        except OSError:  # a file system without such locks
            pass

    def check(self, upload: Upload | None = None) -> None:
        self._check_places(self._places[: 1 if upload and upload.chunk_count == 1 else 2])

    def _check_places(self, places: list[tuple[str, int, int]]) -> None:
        for path, device, inode in places:
            try:
                status = os.stat(path)
                if status.st_ino == inode and status.st_dev == device:
                    continue
            except OSError:
                pass
            raise Unavailable(
                "A folder of the server was moved or replaced. Its owner must start the server again.", "folder-moved"
            )

    # -- unfinished uploads --------------------------------------------------------------------------------------------

    def place(self, upload: Upload) -> _Place:
        """The way to an unfinished upload's bytes."""
        return self._piece(upload.uuid) if upload.chunk_count == 1 else self._chunk_file(upload.uuid)

    def _piece(self, uuid: str) -> _Place:
        return _Place(self._hidden(uuid))

    def _chunk_file(self, uuid: str) -> _Place:
        folder = self._folder(uuid)
        return _Place(os.path.join(folder, "data")) if os.open not in os.supports_dir_fd else _Place("data", folder)

    def _folder(self, uuid: str) -> str:
        return os.path.join(self._chunks, uuid)

    def is_free(self, upload: Upload) -> bool:
        if upload.chunk_count == 1:
            return True
        folder = self._folder(upload.uuid)
        try:  # an upload that was removed may have left an empty one
            return stat.S_ISDIR(os.lstat(folder).st_mode) and not os.listdir(folder)
        except FileNotFoundError:
            return True

    def create(self, upload: Upload) -> DiskData:
        number = 0
        if upload.chunk_count > 1:
            os.makedirs(self._folder(upload.uuid), exist_ok=True)
            number = self._next_folder_number()
        with self.place(upload) as (path, folder):
            return DiskData(self, upload, _create_file(path, folder), number)

    def _next_folder_number(self) -> int:
        with self._making:
            self._folders_made += 1
            return self._folders_made

    def reopen(self, upload: Upload) -> DiskData:
        try:
            with self.place(upload) as (path, folder):
                fd = os.open(path, os.O_RDWR | WARY, dir_fd=folder)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                    raise OSError(errno.ELOOP, "It was replaced")
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                raise DataLost from error
            raise
        return DiskData(self, upload, fd, self._next_folder_number() if upload.chunk_count > 1 else 0)

    def has_data(self, upload: Upload) -> bool:
        try:
            with self.place(upload) as (path, folder):
                return stat.S_ISREG(os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def discard(self, uuid: str, chunk_count: int | None = None) -> None:
        if chunk_count in (1, None):
            _unlink(self._hidden(uuid))
        if chunk_count == 1:
            return
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._chunk_file(uuid) as (path, folder):
            _unlink(path, folder)
        with contextlib.suppress(OSError):  # not empty: somebody put something there, and it stays
            os.rmdir(self._folder(uuid))

    # -- publishing ----------------------------------------------------------------------------------------------------

    def publish(self, upload: Upload, status: os.stat_result) -> str:
        """Gives the file with this status, the upload's, its name in storage. Raises DataLost and Conflict."""
        key = self.key_of(upload)
        try:
            self._give_name(upload, self._in_storage(key), status)
        except FileNotFoundError as error:
            if self.has_data(upload):
                raise
            raise DataLost from error
        except FileExistsError:  # perhaps from an attempt that failed half-way
            if not self.is_published(upload):
                sentence = "A file of this name and UUID is there already. Start the upload anew."
                raise Conflict(sentence, "name-taken") from None
        try:
            self._sync_storage()
        except BaseException:
            self.retract(upload, key)
            raise
        return key

    def _give_name(self, upload: Upload, target: str, status: os.stat_result) -> None:
        """Lets target name the upload's file, which has this status. Raises FileExistsError, and DataLost."""
        if self._is_one_disk or upload.chunk_count == 1:
            with self.place(upload) as (path, folder):
                self._link_or_rename(path, target, status, folder)
            return
        hidden = self._hidden(upload.uuid)
        create = lambda path, flags: _create_file(path)  # noqa: E731
        try:
            with TURN.paused(), self.place(upload) as (path, folder):
                opener = functools.partial(_open_warily, folder=folder)
                with open(path, "rb", opener=opener) as data, open(hidden, "wb", opener=create) as copy:
                    self._check_same(os.fstat(data.fileno()), status)
                    shutil.copyfileobj(data, copy, MIB)
                    copy.flush()
                    self.sync_file(copy.fileno())
                    copied = os.fstat(copy.fileno())
            self._link_or_rename(hidden, target, copied)
        finally:
            with contextlib.suppress(OSError):  # what cannot be removed now goes at the next start
                _unlink(hidden)

    def _link_or_rename(self, path: str, target: str, status: os.stat_result, folder: int | None = None) -> None:
        if self.moves:
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
            self._check_same(os.stat(path, dir_fd=folder, follow_symlinks=False), status)
            os.rename(path, target, src_dir_fd=folder)
            return
        os.link(path, target, src_dir_fd=folder, **_NOT_FOLLOWING)
        try:
            self._check_same(os.lstat(target), status)
        except BaseException:
            _unlink(target)
            raise

    @staticmethod
    def _check_same(found: os.stat_result, status: os.stat_result) -> None:
        """Raises DataLost when somebody put another file in the place of one that we had open."""
        if not os.path.samestat(found, status):
            raise DataLost

    def is_published(self, upload: Upload) -> bool:
        target = self._in_storage(self.key_of(upload))
        if not self._is_whole(target, upload.size):
            return False
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), contextlib.ExitStack() as stack:
            path, folder = stack.enter_context(self.place(upload))
            opener = functools.partial(_open_warily, folder=folder)
            ours = stack.enter_context(open(path, "rb", opener=opener))
            named = stack.enter_context(open(target, "rb", opener=_open_warily))
            if os.path.samestat(os.fstat(ours.fileno()), os.fstat(named.fileno())):
                return True
            while data := ours.read(MIB):
                if data != named.read(MIB):
                    return False
        return True  # the same bytes, or the file had its name before its other one was taken away

    @staticmethod
    def _is_whole(path: str, size: int) -> bool:
        """Whether an ordinary file of that many bytes is there."""
        try:
            status = os.lstat(path)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == size

    def retract(self, upload: Upload, key: str) -> None:
        if self.has_data(upload):
            _unlink(self._in_storage(key))
        else:
            with self.place(upload) as (path, folder):
                os.rename(self._in_storage(key), path, dst_dir_fd=folder)

    def republish(self, upload: Upload) -> bool:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with self.place(upload) as (path, folder):
                status = os.stat(path, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or status.st_size != upload.size:
                return False
            self._give_name(upload, self._in_storage(self.key_of(upload)), status)
            self._sync_storage()
            return True
        return False

    # -- finished files ------------------------------------------------------------------------------------------------

    def _in_storage(self, name: str) -> str:
        return self._prefix + name

    def _hidden(self, uuid: str) -> str:
        return self._in_storage(f".{uuid}.part")

    def key_of(self, upload: Upload) -> str:
        return upload.stored or f"{upload.uuid}_{safe_name(upload.name, self._name_bytes)}"

    def open(self, key: str) -> Content:
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open(self._in_storage(key), "rb", buffering=0, opener=_open_warily))
            except OSError as error:
                if error.errno not in _NOT_A_FILE:
                    raise
                raise NotFound from None
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NotFound
            stack.pop_all()
            return Content(file, status.st_size, status.st_mtime, f"{status.st_size:x}-{status.st_mtime_ns:x}")

    def has(self, key: str) -> bool:
        return os.path.exists(self._in_storage(key))

    def look(self, key: str) -> tuple[int, float] | None:
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(self._in_storage(key))
            if stat.S_ISREG(status.st_mode):
                return status.st_size, status.st_mtime
        return None

    def keys(self) -> Iterator[str]:
        with os.scandir(self._storage) as entries:
            yield from filter(_STORED_NAME.fullmatch, (entry.name for entry in entries))

    def generation(self) -> int:
        self._check_places(self._places[:1])
        return os.stat(self._storage).st_mtime_ns

    def remove(self, key: str) -> None:
        _unlink(self._in_storage(key))

    # -- the disk itself -----------------------------------------------------------------------------------------------

    def free(self) -> int:
        return shutil.disk_usage(self._chunks).free

    def free_to_publish(self) -> int | None:
        return None if self._is_one_disk else shutil.disk_usage(self._storage).free

    def mark(self) -> str:
        return " ".join([boot_mark(), mount_mark(self._storage), mount_mark(self._chunks)])

    def settle(self) -> None:
        self._check_places(self._places)
        self._sync_storage()
        self._sync_folder(self._chunks)

    def sync_file(self, fd: int) -> None:
        """Brings a file's bytes to the disk, unless nobody wants to wait for it."""
        if self._fsync:
            force_to_disk(fd)

    def sync_chunk_folder(self, upload: Upload, number: int) -> None:
        """Brings the names in and of an upload's folder to the disk. One sync serves all folders made before it."""
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            self._sync_folder(self._folder(upload.uuid))
        with self._making:
            made, is_named = self._folders_made, number <= self._folders_named
        if not is_named:
            self._sync_folder(self._chunks)
            with self._making:
                self._folders_named = max(self._folders_named, made)

    def _sync_folder(self, folder: str) -> None:
        """Brings the folder's entries to the disk, where the system lets one; the others do it by themselves."""
        if self._fsync and os.name != "nt":
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | WARY)
            try:
                self._bring_names_to_disk(fd)
            finally:
                os.close(fd)

    def _bring_names_to_disk(self, folder: int) -> None:
        if self._fsync:
            try:
                force_to_disk(folder, is_folder=True)
            except OSError as error:
                if error.errno not in _NO_FOLDER_SYNC:
                    raise

    # -- at start ------------------------------------------------------------------------------------------------------

    def tidy_storage(self, find: Callable[[str], Upload | None], record_is_new: bool) -> list[str]:
        with os.scandir(self._storage) as entries:
            parts = [entry.name for entry in entries if entry.name[0] == "." and _PART_NAME.fullmatch(entry.name)]
        names = os.listdir(self._storage) if parts and not record_is_new else []
        findings = []
        for part in parts:
            path, known = self._in_storage(part), find(part[1:37].lower())
            # It may have its last name already, but not its record. A record that is new cannot say so: after a power
            # cut, a file that was reported done can still have both names.
            if known is None or known.stored is None:
                for name in names:
                    named = self._in_storage(name)
                    if name.startswith(f"{part[1:37]}_") and os.path.samestat(os.lstat(named), os.lstat(path)):
                        os.unlink(named)
            try:
                os.unlink(path)
            except OSError:  # a folder, which is none of ours
                findings.append(f"Left alone in storage, of unknown origin: {ascii(part)}.")
        return findings

    def tidy_chunks(self, find: Callable[[str], Upload | None]) -> list[str]:
        findings = []
        for name in os.listdir(self._chunks):
            known = find(name) if _UUID.fullmatch(name) else None
            if known is None and _UUID.fullmatch(name):
                with contextlib.suppress(OSError):  # only an empty one goes
                    os.rmdir(os.path.join(self._chunks, name))
                    continue
            if known is None:
                findings.append(f"Left alone in chunks, of unknown origin: {ascii(name)}.")
            elif known.stored is not None:  # published, and then cut off; or a power cut brought it back
                self.discard(known.uuid, chunk_count=2)
        return findings


# ======================================================================================================================
# Store: what happens to uploads, and in which order
# ======================================================================================================================

# The life of an upload. Each step is taken under the upload's lock, and nobody is told of it before it is on the disk.
#
#   state       where it is known           from there on
#   announced   in memory (Announcements)   POST /uploads began it, and nothing of it is in: a restart forgets it
#   in one      in memory (_Live)           its only chunk is on its way: there is nothing of it that could go on
#   piece
#   unfinished  on record, data in engine   its first chunk is on its way or in; what is in survives a kill
#   finished    on record, key in engine    it has its key, and never another content
#   removed     on record as removed        its UUID is used up; the engine's names go, again after each power cut
#
# What a power cut leaves is what was synced, in whatever order the disk liked. So the order is: an upload's record
# comes before its folder; a chunk counts as synced after its bytes are; a file's bytes and its name in storage come
# before the record that says so; a removal's record comes before its names go, and is kept until the disk has lost
# them, so that a name which a power cut brings back goes again.
#
# Chunks are synced in the background all the time while an upload runs, without the lock that merging needs, so that
# publishing finds little left to wait for.


class Promises:
    """Space that uploads on their way still need, so that those that were let in do not run out of it together.

    Announcing a large file costs nothing. So what is promised to an upload is no more than PROMISED_TIMES what it has
    brought, and it ends when nothing has come for PROMISE_SECONDS. Not safe for threads: the record's lock guards it.
    """

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, int, int, float]] = {}  # by UUID, the latest last
        self.missing = 0  # bytes that are still to come
        self.whole = 0  # the same, with what has come already of these uploads
        self.unheld = 0  # the same, with what has come but is not on record

    def make(self, uuid: str, received: int, size: int, held: int) -> None:
        """Promises what an upload of size bytes still needs, in place of what it was promised before.

        So many bytes of it have come, and so many of these are on record.
        """
        self.end(uuid)
        most = PROMISED_TIMES * received
        missing = min(size - received, most)
        self._of[uuid] = missing, min(size, most), missing + received - held, time.monotonic()
        self._add(1, self._of[uuid])

    def end(self, uuid: str) -> None:
        """The upload is done, or gone."""
        if promise := self._of.pop(uuid, None):
            self._add(-1, promise)

    def _add(self, sign: int, promise: tuple[int, int, int, float]) -> None:
        self.missing += sign * promise[0]
        self.whole += sign * promise[1]
        self.unheld += sign * promise[2]

    def end_old(self) -> None:
        """Ends those of uploads of which nothing has come for a while."""
        if not self._of:
            return
        now = time.monotonic()
        for uuid in [*itertools.takewhile(lambda uuid: now - self._of[uuid][3] > PROMISE_SECONDS, self._of)]:
            self.end(uuid)


class Space:
    """Whether an upload fits: into what the disk has free, and into what all files together may take.

    What is decided here and what changes it happen under the record's lock.
    """

    def __init__(self, record: Record, engine: Engine, max_total_bytes: int | None) -> None:
        self.promises = Promises()
        self._record, self._engine, self._max_total_bytes = record, engine, max_total_bytes

    def check_new(self, size: int) -> None:
        """Raises NoSpace unless size bytes fit beside all that uploads on their way have been promised, and TooLarge
        when they could never fit."""
        if self._max_total_bytes is not None and size > self._max_total_bytes - ENTRY_BYTES:
            raise TooLarge(
                f"This file is larger than the {human_size(self._max_total_bytes)} that all files may take here.",
                "larger-than-all",
                limit=self._max_total_bytes,
            )
        with self._record.lock:
            # Strangers read this, too: how much is free is not their business.
            if size > self.free():
                sentence = f"This file needs {human_size(size)}, and the server has less space than that."
                raise NoSpace(sentence, "no-room", size=size)
            if self._record.count >= MAX_UPLOADS:
                raise NoSpace("The server holds as many files as it can list. Its owner must remove some.", "list-full")

    def free(self) -> int:
        """Bytes that a new upload may have, beside all that those on their way have been promised."""
        with self._record.lock:
            self.promises.end_old()
            free = self._engine.free() - self.promises.missing
            if (free_to_publish := self._engine.free_to_publish()) is not None:
                free = min(free, free_to_publish - self.promises.whole)
            if self._max_total_bytes is not None:
                free = min(free, self._room(1) - self.promises.unheld)
            return free

    def check(self, upload: Upload, length: int) -> None:
        """Raises NoSpace when length more bytes of an upload would be more than all files may take."""
        if self._max_total_bytes is not None:
            with self._record.lock:
                if length > self._room(0 if upload.id else 1):
                    sentence = "The server holds as much as it may. The upload goes on once there is space."
                    raise NoSpace(sentence, "holds-all-it-may")

    def _room(self, more: int) -> int:
        """Bytes left for so many more uploads; each also counts for what it takes in the record."""
        assert self._max_total_bytes is not None
        return self._max_total_bytes - self._record.held - ENTRY_BYTES * (self._record.count + more)

    def promise(self, upload: Upload, received: int) -> None:
        """Keeps space free for the rest of an upload of which so many bytes have come."""
        with self._record.lock:
            self.promises.make(upload.uuid, received, upload.size, upload.received)

    def release(self, upload: Upload) -> None:
        """The upload needs no more."""
        with self._record.lock:
            self.promises.end(upload.uuid)


class Announcements:
    """Uploads that POST /uploads began, until their first chunk is in. They cost a client nothing, so they are kept in
    memory only, and when there are too many the oldest is forgotten: its client finds that out, and begins it again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uploads: dict[str, Upload] = {}  # by UUID, the latest last
        self._like: dict[tuple[Any, ...], Upload] = {}  # by what a client says of the file

    def add(self, upload: Upload) -> Upload:
        """Announces an upload, unless one of its owner's looks like it already. Returns the one that stands."""
        with self._lock:
            if upload.owner is not None:
                standing = self._like.setdefault(self._looks(upload), upload)
                if standing is not upload:
                    return standing
            self._uploads[upload.uuid] = upload
            if len(self._uploads) > MAX_ANNOUNCED:
                self._forget(next(iter(self._uploads)))
        return upload

    def find(self, uuid: str) -> Upload | None:
        return self._uploads.get(uuid)

    def replace(self, upload: Upload) -> None:
        """Takes this in place of what was announced under its UUID, if it still is."""
        with self._lock:
            if upload.uuid in self._uploads:
                self._uploads[upload.uuid] = self._like[self._looks(upload)] = upload

    def drop(self, upload: Upload) -> None:
        if upload.uuid in self._uploads:
            with self._lock:
                self._forget(upload.uuid)

    def _forget(self, uuid: str) -> None:
        if (upload := self._uploads.pop(uuid, None)) and upload.owner is not None:
            del self._like[self._looks(upload)]

    @staticmethod
    def _looks(upload: Upload) -> tuple[Any, ...]:
        return upload.owner, upload.name, upload.size, upload.modified, upload.path


# The life of a writer. Whoever changes its state holds the upload's lock.
#
#   from      to        by                    when
#   -         WRITING   Store, at its begin   at least one of its chunks is not in yet
#   -         IGNORED   Store, at its begin   all of them are in: it takes bytes, and they go nowhere
#   WRITING   IGNORED   begin of another      a later request brings a chunk that it still has to bring; what it brought
#                                             whole is kept
#   WRITING   IGNORED   Store                 its upload was removed, is whole without it, or its disk failed
#   WRITING   MERGED    Store.merge           all of its chunks are in
#   any       ENDED     Store.abandon         its request is over, and it was not merged
#
# The earlier of two requests for a chunk usually comes over a connection that is dead. If it is alive, its client may
# finish what it is saying, waits for the later one, its heir, and is then told what became of the chunk.


class WriterState(enum.Enum):
    """Whether a writer's bytes go to their place, and how it ended."""

    WRITING = enum.auto()
    IGNORED = enum.auto()
    MERGED = enum.auto()
    ENDED = enum.auto()


class Writer:
    """The right to write a run of chunks at their places: one chunk of a form, or as many as a request carries."""

    def __init__(
        self,
        store: Store,
        upload: Upload,
        numbers: range,
        length: int,
        part: Part | None,
        present: Container[int] = (),
        keeps: bool = False,
        splicing: threading.Lock | None = None,
    ) -> None:
        self.upload = upload
        self.numbers = numbers  # of its chunks
        self.length = length  # bytes expected; of a file of unknown length, the most that can come
        self.written = 0
        self.merged = 0  # chunks of its run, from the first on, that need no more merging
        self.keeps = keeps  # whole chunks count also when the rest does not come
        self.state = WriterState.IGNORED if part is None else WriterState.WRITING
        self.heir: Writer | None = None  # the later request for one of its chunks
        self.ended: threading.Event | None = None  # of an heir: that it is merged or ended, for those before it
        self._store = store
        self._part = part
        self._present = present  # chunks of its run that were in already: their bytes go nowhere
        self._offset = numbers.start * upload.chunk_size
        self._lock = threading.Lock()  # held while bytes go to the disk, so that none go after the right is gone
        #: The system lets only one at a time write to a file. Those who wait for that in the system do it in a loop:
        #: with four of them that was a third of all the work. So they wait here.
        self._splicing = splicing or threading.Lock()
        self._promised_at = PROMISE_STEP_BYTES if upload.chunk_count == 1 else sys.maxsize  # written, for the next one

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.state not in (WriterState.MERGED, WriterState.ENDED):
            self._store.abandon(self)

    def write(self, data: bytes | memoryview) -> None:
        """Puts data behind what was written so far. Raises BadRequest when it is more than was announced."""
        self._check_length(len(data))
        with self._lock, disk_errors(self.upload.uuid):
            rest = memoryview(data)
            while rest:
                goes_in, count = self._ahead(len(rest))
                if goes_in:
                    self._part.write(rest[:count], self._offset + self.written)  # type: ignore[union-attr]
                self.written += count
                rest = rest[count:]
        self._promise()

    def splice(self, pipe: int, count: int, refill: Callable[[], int]) -> None:
        """Puts count bytes that wait in a pipe behind what was written so far. Raises BadRequest as write does.

        Goes on with as many bytes as refill() says it has put into the pipe, a few times or until it says 0: it must
        not wait, because nobody else can write to the file meanwhile, and who waits for it is slow to wake up.
        """
        with self._splicing, self._lock, disk_errors(self.upload.uuid):
            for _ in range(PIPES_AT_A_TIME - 1):
                self._empty(pipe, count)
                if not (count := refill()):
                    break
            else:
                self._empty(pipe, count)
        self._promise()

    def _empty(self, pipe: int, count: int) -> None:
        self._check_length(count)
        while count:
            goes_in, most = self._ahead(count)
            if goes_in:
                moved = self._part.splice(pipe, most, self._offset + self.written)  # type: ignore[union-attr]
            else:
                moved = len(os.read(pipe, most))
            self.written += moved
            count -= moved

    def _check_length(self, count: int) -> None:
        if self.written + count > self.length:
            raise BadRequest("The chunk is longer than it must be.")

    def _ahead(self, count: int) -> tuple[bool, int]:
        """Whether the next bytes go into the file, and for how many of the next count bytes that stays the same."""
        if self._part is None:
            return False, count
        if not self._present:
            return True, count
        size = self.upload.chunk_size
        number = self.numbers.start + self.written // size
        return number not in self._present, min(count, size - self.written % size)

    def _promise(self) -> None:
        if self.written >= self._promised_at and self._part is not None:
            self._promised_at = self.written + PROMISE_STEP_BYTES
            self._store.promise(self)

    def read_back(self, size: int) -> Iterator[bytes]:
        """What was written, in blocks of at most size bytes. Only for a writer from begin_whole, whose file it is."""
        assert self._part is not None
        with disk_errors(self.upload.uuid):
            yield from self._part.read(size)

    @property
    def is_run_under_way(self) -> bool:
        """Whether the chunks count that it has brought whole, although the rest is still to come."""
        return self.keeps and self.state is WriterState.WRITING

    def whole_chunks(self) -> int:
        """How many of its chunks it has brought whole, from the first on."""
        return len(self.numbers) if self.written == self.length else self.written // self.upload.chunk_size

    def unmerged(self, whole: int) -> list[int]:
        """The numbers of those, of so many that are whole, that are not in yet."""
        return [number for number in self.numbers[self.merged : whole] if number not in self._present]

    def stop(self) -> None:
        """Takes the right away, for good; from the return on, no byte of this writer reaches the disk."""
        with self._lock:
            part, self._part = self._part, None
            if self.state is WriterState.WRITING:
                self.state = WriterState.IGNORED
            if part is not None:
                part.close()

    def end(self, state: WriterState) -> None:
        """Tells those who wait for this writer how it ended."""
        try:
            self.stop()
        finally:
            self.state = state
            if self.ended:
                self.ended.set()


class _Live:
    """What is going on with one upload right now. Nothing in here matters after a crash."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0  # threads that hold the lock, wait for it, or want the upload to stay the same one
        self.in_one_piece: Upload | None = None  # an upload of one chunk, which is not on record before it is whole
        self.writers: list[Writer] = []
        self.splicing = threading.Lock()  # its writers'
        self.data: Data | None = None  # from its first chunk on, and as long as there are unsynced ones
        self.unsynced: list[int] = []  # numbers of chunks

    def runs(self) -> list[Writer]:
        """Those of its writers that are runs under way."""
        return [writer for writer in list(self.writers) if writer.is_run_under_way]

    @property
    def failed(self) -> bool:
        """Whether a sync failed, and the record does not know it yet."""
        return self.data is not None and self.data.failed

    def close(self) -> None:
        self.unsynced = []
        data, self.data = self.data, None
        if data is not None:
            data.close()


class _Locked:
    """A context with an upload's lock, and what is going on with it. A class for the reason that disk_errors is one."""

    def __init__(self, lives: dict[str, _Live], lives_lock: threading.Lock, uuid: str) -> None:
        self._lives, self._lives_lock, self._uuid = lives, lives_lock, uuid

    def __enter__(self) -> _Live:
        with self._lives_lock:
            live = self._lives.get(self._uuid)
            if live is None:
                live = self._lives[self._uuid] = _Live()
            live.users += 1
        self._live = live
        TURN.wait_for(live.lock)
        return live

    def __exit__(self, *exc: object) -> None:
        live = self._live
        live.lock.release()
        with self._lives_lock:
            live.users -= 1
            if not (live.users or live.writers or live.unsynced or live.failed):
                del self._lives[self._uuid]
                live.close()


class Store:
    """Orders what happens to each upload, over one record and one engine. Safe to use from many threads.

    One lock an upload orders what happens to it, from the first chunk to publishing. Order of locks: an upload's, its
    syncing, a shared sync's, the record's; the lock of the list of uploads is held for a moment only, and never waited
    under.
    """

    def __init__(
        self,
        record: Record,
        engine: Engine,
        *,
        max_total_bytes: int | None = None,
        stale_seconds: float = 24 * 3600,
    ) -> None:
        """Reconciles the record with what the engine has, and begins to keep house. Raises StartError."""
        self.record = record
        self.max_open_uploads = MAX_OPEN_UPLOADS
        self._engine = engine
        self._stale_seconds = stale_seconds
        self._space = Space(record, engine, max_total_bytes)
        self._announced = Announcements()
        self._drops: dict[str, str] = {}  # drop -> its owner, of the latest used; the record's lock guards it
        self._lives: dict[str, _Live] = {}
        self._lives_lock = threading.Lock()
        self._stop = threading.Event()
        self._work = threading.Event()  # wakes the housekeeper before its time
        self._unconfirmed: set[str] = set()  # finished on record, but perhaps not on the disk yet
        self._slow_syncs, self._slow_until = 0, 0.0
        self._scanned = (0, 0.0)  # the engine's generation when keys and record were compared last, and when that was
        #: What start-up found and did, one sentence each.
        self.findings: list[str] = []
        try:
            self._begin()
        except (OSError, sqlite3.Error, DropError) as error:
            raise StartError(f"The folders could not be read: {error}") from error
        self._housekeeper = threading.Thread(target=self._keep_house, name="housekeeper", daemon=True)
        self._housekeeper.start()

    def _begin(self) -> None:
        """Makes record and engine agree after whatever ended the last run. Nothing acknowledged is given up."""
        self._engine.settle()  # the record's own name
        self.findings += self._engine.tidy_storage(self.record.find, self.record.is_new)
        self.clear()  # what a power cut brought back
        found, lost = self._adopt()
        self.findings += reconcile(self.record, self._engine, self._space, found, lost)
        self.clear()
        self.record.recount()
        self.record.make_durable()

    def close(self) -> None:
        """Brings what was merged to the disk and lets go of record and engine."""
        self._stop.set()
        self._work.set()
        self._housekeeper.join()
        self.flush()
        with contextlib.suppress(DropError):
            self.clear()
        with self._lives_lock:
            for live in self._lives.values():
                for writer in live.writers:  # of requests that did not end in time
                    with contextlib.suppress(OSError):
                        writer.stop()
                with contextlib.suppress(OSError):
                    live.close()
        self.record.close()
        self._engine.close()

    # -- beginning -----------------------------------------------------------------------------------------------------

    def announce(
        self,
        owner: str | None,
        name: str,
        size: int,
        modified: int | None,
        chunk_size: int,
        path: str = "",
        drop: str | None = None,
    ) -> tuple[Upload, bool]:
        """Begins an upload, or finds the owner's unfinished one of a file that looks like this, which then belongs to
        the drop. Returns it, and whether it is new. Raises NoSpace, TooLarge for a file that could never fit, and
        Forbidden for another owner's drop.
        """
        with disk_errors():
            drop = self._own_drop(owner, drop)
            upload = Upload.begun(owner, str(uuidlib.uuid4()), name, size, chunk_size, modified, path, drop)
            standing = self._announced.add(upload)
            if standing is upload and owner is not None:  # looked for last: it is on record before it is not announced
                standing = self.record.find_unfinished(upload) or upload
            if standing is not upload:
                self._announced.drop(upload)
                if drop is not None and drop != standing.drop_uuid:
                    standing = self._move(standing.uuid, drop) or standing
                return self._confirmed(self.keep_progress(standing.uuid) or standing), False
            try:
                self._engine.check(upload)
                self._space.check_new(size)
            except BaseException:
                self._announced.drop(upload)
                raise
            return upload, True

    def begin(self, owner: str | None, chunk: Chunk, name: str) -> Writer:
        """The writer for one chunk. The first one of an upload makes its record; later ones must agree with it.

        Raises NotFound for another owner's upload, Forbidden for another's drop, Gone for an upload that was removed,
        Conflict for one that differs, NoSpace for one that cannot fit, Unavailable when there are too many at a time.
        """
        with disk_errors(chunk.uuid), self._locked(chunk.uuid) as live:
            upload = self._current(live, chunk.uuid)
            if upload is None:
                drop = self._own_drop(owner, chunk.drop)
                facts = chunk.file_size, chunk.chunk_size, chunk.modified, chunk.path, drop
                upload = Upload.begun(owner, chunk.uuid, name, *facts)
            else:
                self._check_access(upload, owner)
                if (upload.name, upload.size, upload.chunk_size) != (name, chunk.file_size, chunk.chunk_size):
                    raise Conflict
            return self._begin_writer(live, upload, range(chunk.index, chunk.index + 1), chunk.length, False)

    def begin_run(self, owner: str | None, uuid: str, first: int, length: int) -> Writer:
        """The writer for a run: length bytes that are whole chunks, from this one on, of an upload that was begun.

        Raises NotFound, BadRequest when the chunks do not end where the bytes do, and what begin raises.
        """
        with disk_errors(uuid), self._locked(uuid) as live:
            upload = self._current(live, uuid)
            if upload is None:
                self._check_removed(uuid)
                raise NotFound
            self._check_access(upload, owner)
            numbers = run_of_chunks(first, length, upload.size, upload.chunk_size)
            return self._begin_writer(live, upload, numbers, length, True)

    def begin_whole(
        self, owner: str | None, name: str, max_length: int, path: str = "", drop: str | None = None
    ) -> Writer:
        """The writer for a whole file of at most max_length bytes, under a UUID of its own.

        Raises NoSpace, Forbidden for another owner's drop, and Unavailable when there are too many at a time.
        """
        with disk_errors():
            drop = self._own_drop(owner, drop)
        upload = Upload.begun(owner, str(uuidlib.uuid4()), name, max_length, max(1, max_length), None, path, drop)
        with disk_errors(upload.uuid), self._locked(upload.uuid) as live:
            return self._add_writer(live, self._create(live, upload), range(1), max_length)

    def end_file(self, writer: Writer) -> None:
        """Says of a writer from begin_whole that the file ends with what was written."""
        with self._locked(writer.upload.uuid) as live:
            writer.length = writer.written
            if live.in_one_piece is not None:
                live.in_one_piece = live.in_one_piece._replace(size=writer.length, chunk_size=max(1, writer.length))
                self._space.promise(live.in_one_piece, writer.written)

    def promise(self, writer: Writer) -> None:
        """Keeps space free for the rest of a file that comes in one piece."""
        self._space.promise(writer.upload, writer.written)

    def _own_drop(self, owner: str | None, drop: str | None) -> str | None:
        """The drop that this owner's upload may belong to. Raises Forbidden when it is another owner's.

        A client without a cookie has none: it could not be told from somebody who was only given the drop's link.
        """
        if drop is None or owner is None:
            return None
        with self.record.lock:
            if drop not in self._drops:
                self._drops[drop] = self.record.owner_of_drop(drop) or owner
                if len(self._drops) > MAX_ANNOUNCED:
                    del self._drops[next(iter(self._drops))]
            if self._drops[drop] != owner:
                raise Forbidden("This drop was begun by another browser. Drop the files anew.", "other-drop")
        return drop

    def _move(self, uuid: str, drop: str) -> Upload | None:
        """Makes an upload that is still unfinished a part of this drop of its owner. Returns it, unless it is gone."""
        with self._locked(uuid) as live:
            upload = self._current(live, uuid)
            if upload is None or upload.stored is not None:
                return upload
            upload = self.record.move(upload, drop) if upload.id else upload._replace(drop_uuid=drop)
            if live.in_one_piece is not None:
                live.in_one_piece = upload
            self._announced.replace(upload)
            return upload

    @staticmethod
    def _check_owner(upload: Upload, owner: str | None) -> None:
        if upload.owner not in (None, owner):
            raise NotFound

    def _check_access(self, upload: Upload, owner: str | None) -> None:
        """Raises NotFound for another owner's upload, and Gone for a finished one whose file was taken away by hand."""
        self._check_owner(upload, owner)
        if upload.stored is None or self._engine.has(upload.stored):
            return
        self._engine.check()  # or the whole folder is away
        if not self._engine.republish(upload):
            raise Gone("This file was removed from the server. Start the upload anew.")

    def _check_removed(self, uuid: str) -> None:
        """Raises Gone for a UUID that is used up. What is left of one of which nothing was in is removed."""
        removal = self.record.removal(uuid)
        if removal:
            raise Gone
        if removal is not None:
            self._engine.discard(uuid)

    def _begin_writer(self, live: _Live, upload: Upload, numbers: range, length: int, keeps: bool) -> Writer:
        if upload.stored is not None:
            return Writer(self, upload, numbers, length, None)
        if live.failed:
            self._distrust(live, upload)
            upload = self._current(live, upload.uuid) or upload
        if not upload.id and live.data is None:
            self._check_removed(upload.uuid)
            return self._add_writer(live, self._create(live, upload), numbers, length, keeps=keeps)
        self._engine.check(upload)
        near = [writer for writer in live.writers if overlap(writer.numbers, numbers)]
        for writer in near:
            upload = self._keep(live, upload, writer)
        # Who brings only what is in stops nobody: it repeats a request whose answer was lost.
        earlier = [writer for writer in near if any(n in numbers for n in writer.unmerged(len(writer.numbers)))]
        for writer in earlier:
            upload = self._stop_early(live, upload, writer)
        heir = self._writer_for_missing(live, upload, numbers, length, keeps)
        if earlier:
            heir.ended = threading.Event()
            for writer in earlier:
                writer.heir = heir
        return heir

    def _stop_early(self, live: _Live, upload: Upload, writer: Writer) -> Upload:
        """Takes a writer's right for a later one, and keeps what it has brought whole, if that counts."""
        live.writers.remove(writer)
        if writer.keeps:
            return self._stop_and_take(live, upload, writer)
        with contextlib.suppress(OSError):  # of bytes that do not count in any case
            writer.stop()
        return upload

    def _writer_for_missing(self, live: _Live, upload: Upload, numbers: range, length: int, keeps: bool) -> Writer:
        present = frozenset(self.record.chunks_in(upload, numbers.start, len(numbers)) if upload.merged else ())
        if upload.stored is not None or len(present) == len(numbers):
            return Writer(self, upload, numbers, length, None)
        if live.data is None:
            self._check_open()
            if not self._reopen(live, upload):
                present = frozenset()
        return self._add_writer(live, upload, numbers, length, present, keeps)

    def _add_writer(
        self,
        live: _Live,
        upload: Upload,
        numbers: range,
        length: int,
        present: Container[int] = (),
        keeps: bool = False,
    ) -> Writer:
        assert live.data is not None
        try:
            part = live.data.part()
        except OSError:
            if not (upload.merged or live.writers):  # nothing of it is here: it would only keep its space
                self._discard(live, upload)
            raise
        writer = Writer(self, upload, numbers, length, part, present, keeps, live.splicing)
        live.writers.append(writer)
        return writer

    def _create(self, live: _Live, upload: Upload) -> Upload:
        self._engine.check(upload)
        if not self._engine.is_free(upload):  # before it is on record, or what is there would be taken for ours
            raise Conflict("A folder of this upload's name is there already. Start the upload anew.", "name-taken")
        self._check_open()
        self._space.check_new(upload.size)
        if upload.chunk_count == 1:
            live.in_one_piece = upload
        else:
            upload = self.record.add(upload)
            with self._out_of_turn():
                self.record.make_durable()  # data without a record is not ours
        try:
            live.data = self._engine.create(upload)
        except OSError:
            self._discard(live, upload)
            raise
        return upload

    def _reopen(self, live: _Live, upload: Upload) -> bool:
        """Opens the data of an upload that went on before. Returns whether it is still there."""
        try:
            live.data = self._engine.reopen(upload)
            is_there = True
        except DataLost:
            # Somebody tidied up by hand, or put something else in its place: what was in is gone.
            log.warning("the data of unfinished upload %s is gone; it begins anew", upload.uuid)
            self.record.forget_chunks(upload)
            self._engine.discard(upload.uuid)
            live.data = self._engine.create(upload)
            is_there = False
        live.unsynced = self.record.unsynced_chunks(upload)  # what the last run, or an attempt to publish, left
        return is_there

    def _check_open(self) -> None:
        """Raises Unavailable when so many uploads hold a descriptor that others might find none."""
        if len(self._lives) > self.max_open_uploads:
            self._work.set()
            raise Unavailable

    # -- merging -------------------------------------------------------------------------------------------------------

    def merge(self, writer: Writer) -> Upload:
        """Makes the writer's chunks a part of their file; when that makes the file whole, publishes it. Only then are
        they safe.

        Raises BadRequest when bytes are missing, Gone when the upload was removed meanwhile, NoSpace or DiskFault
        when the disk fails; then they are not in.
        """
        if writer.written != writer.length:
            raise BadRequest("The chunk is shorter than it must be.")
        uuid = writer.upload.uuid
        with self._out_of_turn(), disk_errors(uuid), self._locked(uuid) as live:
            if writer in live.writers:
                upload = self._current(live, uuid)
                if upload is None:
                    raise NotFound
                upload = self._stop_and_take(live, upload, writer)
                self._end_writer(live, writer, WriterState.MERGED)
                return self._confirmed(upload)
        return self._wait_for_heir(writer)

    def _wait_for_heir(self, writer: Writer) -> Upload:
        heir, deadline = writer.heir, time.monotonic() + TAKEOVER_SECONDS
        with TURN.paused():
            while heir and heir.ended and heir.ended.wait(max(0, deadline - time.monotonic())):
                heir = None if heir.state is WriterState.MERGED else heir.heir
        uuid, numbers = writer.upload.uuid, writer.numbers
        with disk_errors(uuid):
            with self.record.lock:  # both looks at one moment: publishing moves what they look for
                upload = self.record.find(uuid)
                if upload is None and self.record.removal(uuid):
                    raise Gone
                if upload is None or (
                    upload.stored is None
                    and len(self.record.chunks_in(upload, numbers.start, len(numbers))) < len(numbers)
                ):
                    raise Unavailable("The chunk was sent twice, or its disk failed. Send it again.", "send-again")
            return self._confirmed(upload)

    def abandon(self, writer: Writer) -> None:
        """Ends a writer that was not merged: only the whole chunks of a run are in, and an upload of which nothing is
        in leaves no trace."""
        uuid = writer.upload.uuid
        with disk_errors(uuid), self._locked(uuid) as live:
            upload = None
            try:
                upload = self._current(live, uuid)
                if upload is not None and writer.keeps:
                    upload = self._stop_and_take(live, upload, writer)
            except BaseException:
                upload = self._current(live, uuid)  # some of it may have come in, or been forgotten
                raise
            finally:
                self._end_writer(live, writer, WriterState.ENDED)
                if upload is not None and upload.merged == 0 and not live.writers:
                    self._discard(live, upload)

    @staticmethod
    def _end_writer(live: _Live, writer: Writer, state: WriterState) -> None:
        if writer in live.writers:  # else another request, or publishing, has stopped it
            live.writers.remove(writer)
        writer.end(state)

    def keep_progress(self, uuid: str) -> Upload | None:
        """Merges what runs on their way have brought whole, so that it counts whatever becomes of them. Returns the
        upload, if there are such runs."""
        live = self._lives.get(uuid)
        if live is None or not live.runs():  # also while it is published, for which one would wait long
            return None
        with disk_errors(uuid), self._locked(uuid) as live:
            upload = self._current(live, uuid)
            for writer in live.runs():
                if upload is not None:
                    upload = self._keep(live, upload, writer)
            return upload

    def _stop_and_take(self, live: _Live, upload: Upload, writer: Writer) -> Upload:
        """Stops a writer, and merges the chunks that it has brought whole. One that was stopped before has no more."""
        if writer.state is not WriterState.WRITING:
            return upload
        try:
            writer.stop()
        except OSError:
            # A file system may report an error only when a descriptor is closed, and then what is in may be lost.
            if writer.merged and live.data is not None:
                live.data.failed = True
            raise
        return self._take_from(live, upload, writer)

    def _keep(self, live: _Live, upload: Upload, writer: Writer) -> Upload:
        """Merges what a run on its way has brought whole, if there is room for it. That is never the end of a file: its
        own request brings that about, and learns of it."""
        with contextlib.suppress(NoSpace):
            if writer.is_run_under_way:
                upload = self._take_from(live, upload, writer, may_publish=False)
        return upload

    def _take_from(self, live: _Live, upload: Upload, writer: Writer, may_publish: bool = True) -> Upload:
        """Merges the chunks that a writer has brought whole."""
        whole = writer.whole_chunks()
        numbers = writer.unmerged(whole)
        if numbers and upload.merged and upload.stored is None:
            # Of a transaction that failed nobody knows whether the record has it. A chunk that is counted twice would
            # make a file whole that is not.
            there = set(self.record.chunks_in(upload, numbers[0], numbers[-1] - numbers[0] + 1))
            numbers = [number for number in numbers if number not in there]
        is_last = upload.merged + len(numbers) == upload.chunk_count
        if not numbers or upload.stored is not None or (is_last and not may_publish):
            return upload
        if not is_last:
            upload = self._add_chunks(live, upload, numbers)
        else:
            if len(numbers) > 1:  # so that not all of them are lost should publishing fail
                upload = self._add_chunks(live, upload, numbers[:-1])
            upload = self._publish(live, upload)
        writer.merged = whole
        self._announced.drop(upload)
        return upload

    def _add_chunks(self, live: _Live, upload: Upload, numbers: list[int]) -> Upload:
        with self.record.lock:
            self._space.check(upload, chunk_bytes(upload, numbers))
            upload = self.record.add_chunks(upload, numbers)
            self._space.promise(upload, upload.received)
        live.unsynced += numbers
        return upload

    # -- publishing ----------------------------------------------------------------------------------------------------

    def _publish(self, live: _Live, upload: Upload) -> Upload:
        """Makes a whole upload a finished file. Nothing is acknowledged before it is on the disk under its name."""
        for writer in live.writers:  # so that none holds a way to write into the finished file
            writer.stop()
        if upload.chunk_count > 1:  # else it began a moment ago
            self._engine.check(upload)
        self._space.check(upload, upload.size - upload.received)
        self._sync_data(live, upload)
        if self._engine.moves and not upload.id:  # so that nobody loses the file, the record comes first
            upload = live.in_one_piece = self.record.add(upload)
            self.record.make_durable()
        assert live.data is not None
        data, live.data, live.unsynced = live.data, None, []
        try:
            key = data.publish(upload)
        except DataLost:
            self.record.forget_chunks(upload)
            raise
        done = upload._replace(stored=key, merged=upload.chunk_count, received=upload.size)
        try:
            self._unconfirmed.add(done.uuid)
            self.record.finish(done)
        except BaseException:
            self._engine.retract(upload, key)
            raise
        self._space.release(done)
        live.in_one_piece = None
        self._confirmed(done)
        try:
            self._engine.discard(done.uuid, done.chunk_count)
        except OSError as error:  # it is in, and the next start removes what is left
            log.warning("the data of finished upload %s could not be removed: %s", upload.uuid, error)
        return done

    def _confirmed(self, upload: Upload) -> Upload:
        """The upload, once its record is on the disk: nobody is told that a file is done before that."""
        if upload.stored is not None and upload.uuid in self._unconfirmed:
            self.record.make_durable()
            self._unconfirmed.discard(upload.uuid)
        return upload

    def _sync_data(self, live: _Live, upload: Upload) -> None:
        """Brings all bytes of an upload to the disk. When a sync failed, what is not known to be there is forgotten."""
        assert live.data is not None
        began = time.monotonic()
        try:
            live.data.sync()
        except OSError:
            self._distrust(live, upload)
            raise
        if TURN.is_mine():  # else this was also the time that others worked in, and who went slowly would stay slow
            ended = time.monotonic()
            self._slow_syncs = self._slow_syncs + 1 if ended - began > SLOW_SYNC_SECONDS else 0
            if self._slow_syncs == SLOW_SYNCS:
                self._slow_syncs, self._slow_until = 0, ended + OUT_OF_TURN_SECONDS

    def _out_of_turn(self) -> contextlib.AbstractContextManager[None]:
        """For what ends on the disk: if that has lately taken a while each time, others work meanwhile."""
        return TURN.paused() if time.monotonic() < self._slow_until else contextlib.nullcontext()

    def _distrust(self, live: _Live, upload: Upload) -> None:
        """After a failed sync: what is not known to be on the disk may be gone, and is asked for anew."""
        if live.in_one_piece:  # none of it is known to be there
            self._discard(live, upload)
            return
        for writer in live.writers:
            writer.stop()
        live.writers.clear()
        gone = self.record.forget_chunks(upload, only_unsynced=True)
        live.close()  # only now: until then the data itself says that it failed
        log.error("upload %s: the disk failed; %d chunks must be sent again", upload.uuid, gone)

    # -- looking, giving back, removing --------------------------------------------------------------------------------

    def uploads(self, owner: str, before: int | None = None, limit: int = UPLOADS_A_PAGE) -> list[Upload]:
        """What an owner holds, newest first, without finished files that are gone from the disk.

        At most limit of them, and only those that are older than the one whose id is before.
        """
        found: list[Upload] = []
        last = (1 << 63) - 1 if before is None else before
        more = True
        with disk_errors():
            while more and len(found) < limit:  # again when some of them are gone
                rows = self.record.of_owner(owner, last, limit)
                found += [self._confirmed(row) for row in rows if row.stored is None or self._engine.has(row.stored)]
                more = len(rows) == limit
                last = rows[-1].id if rows else 0
        return found[:limit]

    def upload(self, owner: str | None, uuid: str) -> Upload:
        """One upload of an owner, or one that belongs to whoever knows its UUID. Raises NotFound."""
        with disk_errors(uuid):
            announced = self._announced.find(uuid)  # first: it is on record before it is no longer announced
            upload = self.record.find(uuid) or announced
            if upload is None:
                raise NotFound
            self._check_owner(upload, owner)
            if upload.stored is None:
                upload = self.keep_progress(uuid) or upload
            return self._confirmed(upload)

    def chunks_in(self, upload: Upload) -> list[list[int]]:
        """The numbers of the chunks that are in, as inclusive ranges."""
        if upload.stored is not None:
            return [[0, upload.chunk_count - 1]]
        with disk_errors(upload.uuid):
            numbers = self.record.chunks_in(upload)
            if upload.merged and not numbers:  # another request may have made it a finished file meanwhile
                now = self.record.find(upload.uuid)
                return self.chunks_in(now) if now is not None and now.stored is not None else []
            return chunk_ranges(numbers)

    def open(self, uuid: str) -> tuple[Upload, Content]:
        """A finished file and its record, which is made now if somebody put the file there by hand.

        Raises NotFound, and Gone for what was removed.
        """
        with disk_errors(uuid):
            upload = self.record.find(uuid)
            if upload is None and self._rescan():
                upload = self.record.find(uuid)
            if upload is None or upload.stored is None:
                raise Gone("This file was removed.") if upload is None and self.record.removal(uuid) else NotFound
            return upload, self._engine.open(upload.stored)

    def drop(self, uuid: str, after: int, limit: int) -> tuple[list[Upload], int | None]:
        """A drop's finished files that are there, in the order in which they began: at most limit of those behind the
        one whose id is after. Returns them, and the id to go on with, if there may be more. Raises NotFound when no
        file of the drop is left.
        """
        with disk_errors():
            rows = self.record.of_drop(uuid, after, limit)
            limit = count_on_page((row.path for row in rows), limit)
            rows = rows[:limit]
            files = [self._confirmed(row) for row in rows if self._engine.has(row.stored or "")]
            if not files and len(rows) < limit and not (after and self.record.sum_of_drop(uuid)[0]):
                raise NotFound
            return files, rows[-1].id if len(rows) == limit else None

    def sum_of_drop(self, uuid: str) -> tuple[int, int]:
        """How many finished files a drop has, and their bytes together."""
        with disk_errors():
            return self.record.sum_of_drop(uuid)

    def weight_of_drop(self, uuid: str) -> int:
        """How many finished files a drop has, those with long names and many folders counted as several."""
        with disk_errors():
            return self.record.weight_of_drop(uuid)

    def remove(self, owner: str | None, uuid: str) -> None:
        """Removes an owner's own file or unfinished upload. Raises NotFound.

        What belongs to whoever knows the UUID can be removed only while unfinished: later the UUID is a link to read.
        """
        with disk_errors(uuid), self._locked(uuid) as live:
            upload = self._current(live, uuid)
            if upload is None or (upload.stored and upload.owner is None):
                raise NotFound
            self._check_owner(upload, owner)
            self._engine.check()
            self._announced.drop(upload)
            if upload.id or live.data is not None:  # else nothing of it has come yet
                self._discard(live, upload, for_ever=True)

    def forget(self, owner: str) -> int:
        """Takes an owner's finished files off the list; they stay in storage. Returns how many."""
        with disk_errors():
            count = self.record.disown(owner)
            self.record.make_durable()
            return count

    def free(self) -> int | None:
        """Bytes that a new file may have; None when the disk does not say."""
        with contextlib.suppress(OSError):
            return max(0, self._space.free())
        return None

    def _current(self, live: _Live, uuid: str) -> Upload | None:
        return live.in_one_piece or self.record.find(uuid) or self._announced.find(uuid)

    def _discard(self, live: _Live, upload: Upload, for_ever: bool = False) -> None:
        """Removes an upload. For ever, if somebody or its age wanted that; else nothing of it was in, and it may begin
        again.

        Its record comes first and stays until the disk has lost its names (clear), whatever ends the server meanwhile.
        """
        for writer in live.writers:
            writer.stop()
        live.writers.clear()
        live.close()
        live.in_one_piece = None
        self._space.release(upload)
        self.record.remove(upload, for_ever)
        if for_ever:
            self.record.make_durable()
        try:
            self._remove_names(upload.uuid, upload.stored)
        except OSError as error:  # the housekeeper tries again
            log.warning("what is left of removed upload %s cannot be removed yet: %s", upload.uuid, error)

    def _remove_names(self, uuid: str, stored: str | None) -> None:
        """Removes all that may be on the disk of an upload. To be repeated as often as one likes."""
        if stored is not None:
            self._engine.remove(stored)
        self._engine.discard(uuid)

    def _locked(self, uuid: str) -> _Locked:
        return _Locked(self._lives, self._lives_lock, uuid)

    # -- housekeeping --------------------------------------------------------------------------------------------------

    def _keep_house(self) -> None:
        aged = time.monotonic()
        while not self._stop.is_set():
            self._work.wait(HOUSEKEEPING_SECONDS)
            self._work.clear()
            try:
                self.flush()
                self.clear()
                elapsed = time.monotonic() - aged
                if elapsed >= AGEING_SECONDS:
                    aged += elapsed
                    self.clean(elapsed)
            except DropError as error:  # logged where it came from; the next round tries again
                log.warning("housekeeping: %s", error)

    def flush(self) -> None:
        """Brings what has come of unfinished uploads to the disk, and records that it is there.

        What fails is logged, and its chunks are asked for again. While the disk works, chunks go on arriving.
        """
        with self._lives_lock:
            lives = list(self._lives.items())
        for uuid, _ in lives:
            with contextlib.suppress(DropError):
                self.keep_progress(uuid)
        done = [uuid for uuid, live in lives if (live.unsynced or live.failed) and self._flush(uuid)]
        if done:
            with contextlib.suppress(DropError), disk_errors():  # logged; the next round tries again
                self.record.make_durable()

    def _flush(self, uuid: str) -> bool:
        """Flushes one upload. Returns whether that went well."""
        with contextlib.suppress(DropError), disk_errors(uuid):
            with self._locked(uuid) as live:
                upload = self.record.find(uuid)
                if upload is None:
                    live.close()  # what failed of it is nobody's any more
                elif live.failed:
                    self._distrust(live, upload)
                if live.data is None or upload is None:
                    return False
                data, numbers, sync = live.data, list(live.unsynced), live.data.sync_later()
                with self._lives_lock:
                    live.users += 1  # so that it is still the same when its lock is taken again
            try:
                sync()
                is_synced = True
            except OSError as error:
                log.error("disk: upload %s: %s", uuid, error)
                is_synced = False
            with self._locked(uuid) as live:
                with self._lives_lock:
                    live.users -= 1
                if live.failed:
                    self._distrust(live, upload)
                elif is_synced and live.data is data:  # else it was published or removed meanwhile
                    self.record.mark_synced(upload, numbers)
                    del live.unsynced[: len(numbers)]
                    return True
        return False

    def clear(self) -> None:
        """Makes removals final: once the disk has lost an upload's names, no power cut brings them back."""
        with disk_errors():
            gone = []
            for removed in self.record.uncleared():
                self._engine.check()
                with contextlib.suppress(OSError), self._locked(removed.uuid) as live:
                    if live.in_one_piece is None and self.record.is_uncleared(removed):  # else it has begun again
                        self._remove_names(removed.uuid, removed.stored)
                        gone.append(removed)
            if gone:
                self._engine.settle()
                self.record.mark_cleared(gone)

    def clean(self, elapsed_seconds: float) -> int:
        """Ages unfinished uploads by elapsed_seconds and removes the stale ones. Returns how many.

        Idle time is counted in running time, not read off a clock: a clock that jumps removes nothing.
        """
        removed = 0
        with disk_errors():
            self._engine.check()
            self.record.age(elapsed_seconds)
            all_stale = self.record.stale(self._stale_seconds)
        for stale in all_stale:  # one that cannot be removed, which is logged, keeps no others
            with contextlib.suppress(DropError), disk_errors(stale.uuid), self._locked(stale.uuid) as live:
                # Looked at again under the lock: an upload that is receiving, or just went on, wins.
                if self.record.is_stale(stale.uuid, self._stale_seconds) and not live.writers:
                    self._discard(live, stale, for_ever=True)
                    log.info("removed unfinished upload %s of %s", stale.uuid, ascii(stale.name))
                    removed += 1
        return removed

    def _rescan(self) -> bool:
        """Looks for files that were put into storage by hand, if there may be any and the last look is a while ago."""
        with self.record.lock:
            generation, (scanned, when) = self._engine.generation(), self._scanned
            if time.monotonic() - when < RESCAN_SECONDS or generation == scanned:
                return False
            return self._adopt()[0] > 0

    def _adopt(self) -> tuple[int, int]:
        """Makes the record list just the files that are there. Returns how many came, and how many were lost."""

        def is_arriving(uuid: str) -> bool:  # it has its name, and will be on record in a moment
            live = self._lives.get(uuid)
            return live is not None and live.in_one_piece is not None

        with self.record.transaction():
            generation = self._engine.generation()
            # Nearly always they agree.
            agree = self.record.lists_just(self._engine.keys())
            counts = (0, 0) if agree else adopt(self.record, self._engine, is_arriving)
        if not agree:
            self.record.recount()
        self._scanned = (generation, time.monotonic())
        return counts


def overlap(one: range, other: range) -> bool:
    """Whether two runs have a chunk in common."""
    return one.start < other.stop and other.start < one.stop


def adopt(record: Record, engine: Engine, is_arriving: Callable[[str], bool]) -> tuple[int, int]:
    """Records files that have no record, and drops records whose file is gone. Returns how many of each."""
    found = lost = 0
    with record.compared_with(engine.keys()) as (missing, new):
        for upload in missing:
            # Some file systems list a name otherwise than it was given.
            if not (engine.has(engine.key_of(upload)) or engine.republish(upload)):
                record.lose(upload)
                lost += 1
        for key, uuid in new:
            if not is_arriving(uuid) and (look := engine.look(key)):
                record.take_up(uuid, key, *look)
                found += 1
    return found, lost


def reconcile(record: Record, engine: Engine, space: Space, found: int, lost: int) -> list[str]:
    """At start: settles what becomes of each unfinished upload. Returns what was found, one sentence each."""
    counts = Counter(found=found, lost=lost, unsynced=forget_unsynced(record, engine))
    for upload in record.unfinished():
        if engine.is_published(upload):  # publishing was cut off after the file got its name: it was whole then
            done = upload._replace(stored=engine.key_of(upload), merged=upload.chunk_count, received=upload.size)
            record.finish(done)
            engine.discard(upload.uuid, upload.chunk_count)
            counts["finished"] += 1
        elif upload.merged == 0 or not engine.has_data(upload):
            record.remove(upload, for_ever=False)
            with contextlib.suppress(OSError):  # what cannot be removed now is tried again
                engine.discard(upload.uuid)
            counts["removed"] += 1
        else:
            space.promise(upload, upload.received)
            sync_again(record, engine, upload)
            counts["resumable"] += 1
    findings = []
    for kind, one, many, rest in (
        ("lost", "finished file is", "finished files are", "gone from storage and no longer listed."),
        ("found", "file in storage was", "files in storage were", "not on record and can now be fetched."),
        ("unsynced", "chunk", "chunks", "may not have reached the disk and will be asked for again."),
        ("finished", "upload was", "uploads were", "finished that the last run could not report."),
        ("removed", "unfinished upload was", "unfinished uploads were", "removed, as nothing of it is here."),
        ("resumable", "unfinished upload", "unfinished uploads", "can go on."),
    ):
        if count := counts[kind]:
            findings.append(f"{count} {one if count == 1 else many} {rest}")
    return findings + engine.tidy_chunks(record.find)


def forget_unsynced(record: Record, engine: Engine) -> int:
    """A chunk counts only if its bytes are known to be on the disk, or if nothing can have cost them.

    After a power cut of the machine, or of the disk alone, only the first says something. Returns how many are lost.
    """
    mark, before, gone = engine.mark(), record.fact("boot"), 0
    if before is not None and before != mark:
        gone = sum(record.forget_chunks(upload, only_unsynced=True) for upload in record.unfinished())
    record.set_fact("boot", mark)
    record.make_durable()  # before anything comes in that only this mount has
    return gone


def sync_again(record: Record, engine: Engine, upload: Upload) -> None:
    """Syncs what the last run did not come to. If that fails, it is asked for anew."""
    if not (numbers := record.unsynced_chunks(upload)):
        return
    try:
        data = engine.reopen(upload)
    except DataLost:  # somebody put something else in its place: it begins anew
        record.forget_chunks(upload)
        return
    try:
        data.sync_later()()
        record.mark_synced(upload, numbers)
    except OSError as error:
        log.error("disk: upload %s: %s", upload.uuid, error)
        record.forget_chunks(upload, only_unsynced=True)
    finally:
        data.close()


def open_store(
    storage: Path,
    chunks: Path,
    *,
    fsync: bool = True,
    max_total_bytes: int | None = None,
    stale_seconds: float = 24 * 3600,
) -> Store:
    """A store over these two folders, which are made if they are not there. Raises StartError."""
    disk = Disk(storage, chunks, fsync=fsync)
    try:
        record = Record(disk.record_path, fsync=fsync)
        try:
            return Store(record, disk, max_total_bytes=max_total_bytes, stale_seconds=stale_seconds)
        except BaseException:
            record.close()
            raise
    except BaseException:
        disk.close()
        raise


# ======================================================================================================================
# Body: reading a request's body
# ======================================================================================================================

# The bytes of a file go from the socket to their place on the disk, once. They are never held in memory as a whole, nor
# in a second file, so the size of a file does not matter. This is how:
#
# - A Wire is the connection's socket. A Body is what one request may take from it: as many bytes as its head announced,
#   of which some came together with the head, and none of the next request on the same connection.
# - There are two lanes. In the fast one the kernel moves the bytes through a pipe and Python never sees them; in the
#   other one Python reads them in blocks. Both lead into the same Writer, so both have the same outcome.
# - A run is whole chunks and nothing else. When it breaks off, only the torn chunk is lost; those before it are kept.
# - A form is text around a file. A chunk's form says in fields before the file how long the chunk is. So where the file
#   begins it is known where it ends, and its bytes need not be searched for the form's boundary. Any other form is read
#   by a parser. Nothing is stored of a form that is not sound to its very end.
# - A client may take as long as it likes for all of it, for a large file may take days. It is cut off when it sends
#   nothing for IDLE_SECONDS, or so little that it only keeps a place from others.

_idle_pipes: list[tuple[int, int]] = []


@contextlib.contextmanager
def borrow_pipe() -> Iterator[tuple[int, int]]:
    """An empty pipe for os.splice, as (read end, write end). It is kept for the next request, for making one costs more
    than a small chunk; after an error it is closed, because bytes may be left in it.
    """
    try:
        ends = _idle_pipes.pop()
    except IndexError:
        with disk_errors():
            ends = os.pipe()
        with contextlib.suppress(OSError, AttributeError):  # a smaller pipe is slower, that is all
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    kept = False
    try:
        yield ends
        if len(_idle_pipes) < MAX_IDLE_PIPES:
            _idle_pipes.append(ends)
            kept = True
    finally:
        if not kept:
            for end in ends:
                os.close(end)


def watch_pace() -> Callable[[int], None]:
    """A function to call with the number of bytes that have just moved. It raises TooSlow when fewer than
    MIN_BYTES_PER_SECOND did since it last looked, IDLE_SECONDS ago: each such while counts for itself, so a burst does
    not buy time for a trickle.
    """
    since, moved = time.monotonic(), 0

    def pace(count: int) -> None:
        nonlocal since, moved
        moved += count
        seconds = time.monotonic() - since
        if seconds > IDLE_SECONDS:
            if moved < MIN_BYTES_PER_SECOND * seconds:
                raise TooSlow
            since, moved = since + seconds, 0

    return pace


class Wire:
    """A connection's socket, plain or TLS: the one place that knows which of the two it is, and how it is waited for.

    Whatever waits here waits without the turn, and comes back every TICK_SECONDS to look at the clock. It raises
    TooSlow when the other side stands still for too long, and OSError when the connection is broken.
    """

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Raises OSError when the client has gone already."""
        self._sock = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) if tls else sock
        # The system can move bytes past Python only where it sees them as they are sent.
        self.can_splice = not tls and hasattr(os, "splice")
        self._can_sendfile = not tls and hasattr(os, "sendfile")
        # The flag by which a single call does not wait. Windows has none, and Python's TLS takes none: then it is 0.
        self._no_wait = 0 if tls else getattr(socket, "MSG_DONTWAIT", 0)
        self.sent = 0  # bytes, since the server last set it to 0
        self._sleeps_until = 1  # bytes

    def open(self) -> None:
        """Shakes hands, under TLS. From then on calls come back every TICK_SECONDS. Raises OSError."""
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock.settimeout(HEAD_SECONDS)
            with TURN.paused():
                self._sock.do_handshake()
        if not self._no_wait:
            self._sock.settimeout(TICK_SECONDS)
            return
        # The system's own timeout leaves the socket blocking: splice and sendfile need that, and Python need not poll
        # the socket before each call.
        self._sock.settimeout(None)
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, direction, struct.pack("@ll", TICK_SECONDS, 0))
            except OSError:  # 32-bit systems that count time beyond 2038
                self._sock.setsockopt(socket.SOL_SOCKET, direction, struct.pack("@qq", TICK_SECONDS, 0))

    def receive(self, limit: int, seconds: float | None = None) -> bytes:
        """Some bytes, at most limit; none when the client has ended its side. Waits for so long, or IDLE_SECONDS."""
        return bytes(self._wait(self._sock.recv, limit, seconds=seconds))

    def receive_after_others(self, limit: int, seconds: float) -> bytes:
        """As receive, but threads that wait for the turn go first: by then the bytes are often here, and nobody has to
        be woken up.
        """
        if self._no_wait and TURN.let_others():
            with contextlib.suppress(BlockingIOError):
                return self._sock.recv(limit, self._no_wait)
        # The turn is given up, not paused: this thread has to mark its connection as busy before it waits for the turn
        # again, or the connection could be ended as an idle one although its request has come.
        TURN.give_up()
        return self.receive(limit, seconds)

    def has_more(self) -> bool:
        """Whether receive would bring bytes without waiting. Where the system cannot say, the answer is no."""
        with contextlib.suppress(OSError):
            return bool(self._no_wait and self._sock.recv(1, socket.MSG_PEEK | self._no_wait))
        return False

    def sleep_until(self, count: int) -> None:
        """Lets a splice that has to wait be woken up only when so many bytes are here, or the connection ends.

        Linux wakes whoever waits with every packet or two, and a browser on the same machine sends 64 KiB at a time: to
        be woken for each of them took more of the processor than moving the bytes (SO_RCVLOWAT, socket(7)).
        """
        if count != self._sleeps_until:
            self._sleeps_until = count
            with contextlib.suppress(OSError):  # a connection that is gone says so when it is read
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def splice(self, pipe: int, limit: int) -> int:
        """Moves some bytes, at most limit, into a pipe. Returns how many; 0 when the client has ended its side."""
        return int(self._wait(os.splice, self._sock.fileno(), pipe, limit))

    def send(self, data: bytes) -> None:
        """Sends all of data."""
        view = memoryview(data)
        if self._no_wait:  # nearly always the system takes all of it at once, and then the turn can be kept
            with contextlib.suppress(BlockingIOError):
                self.sent += (count := self._sock.send(view, self._no_wait))
                view = view[count:]
        if not view:
            return
        pace = watch_pace()
        while view:  # not sendall, whose timeout is for all of it: a slow reader that moves is served
            count = self._wait(self._sock.send, view)
            pace(count)
            self.sent += count
            view = view[count:]

    def send_file(self, file: BinaryIO, span: Span) -> bool:
        """Sends a part of a file, straight from the disk where the system can. Returns whether the file had all of it:
        it may have become shorter meanwhile.
        """
        offset, end, pace = span.offset, span.offset + span.count, watch_pace()
        with TURN.paused():
            while offset < end:
                if self._can_sendfile:
                    count = self._wait(os.sendfile, self._sock.fileno(), file.fileno(), offset, end - offset)
                else:
                    file.seek(offset)
                    count = self._wait(self._sock.send, file.read(min(BLOCK_BYTES, end - offset)))
                if not count:
                    return False
                pace(count)
                self.sent += count
                offset += count
        return True

    def linger(self) -> None:
        """Before the connection is closed: lets the client finish what it is saying, within limits.

        A socket that is closed with bytes unread resets the connection, and then the client loses our answer.
        """
        with contextlib.suppress(OSError, TooSlow):
            self._sock.shutdown(socket.SHUT_WR)
            deadline, left = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
            while left > 0 and (seconds := deadline - time.monotonic()) > 0:
                count = len(self.receive(BLOCK_BYTES, seconds))
                if not count:
                    break
                left -= count

    def end(self) -> None:
        """Ends the connection; may be called by another thread than the one that uses it."""
        with contextlib.suppress(OSError):  # past TLS, whose state that thread may be changing at this moment
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the socket."""
        self._sock.close()

    def _wait(self, call: Callable[..., Any], *args: Any, seconds: float | None = None) -> Any:
        """What call(*args) returns, which is tried once a tick until something moves. Raises TooSlow."""
        seconds = IDLE_SECONDS if seconds is None else seconds
        had_turn = TURN.give_up()  # TURN.paused() in small, for every small request comes through here
        try:
            for _ in range(max(1, round(seconds / TICK_SECONDS))):
                try:
                    return call(*args)
                except (BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue
        finally:
            if had_turn:
                TURN.take()
        raise TooSlow


class Body:
    """The body of one request, read once from front to back, never beyond its announced length.

    Raises CutOff when the client goes away and TooSlow when it stands still.
    """

    def __init__(self, wire: Wire, length: int, buffered: bytes = b"", is_awaiting: bool = False) -> None:
        """`buffered` came with the request's head. A client that `is_awaiting` sends no more before it gets the answer
        100 Continue (RFC 9110, 10.1.1), which it gets when the first byte is asked for.
        """
        self.length = length  # bytes
        self.remaining = length
        self._wire = wire
        self._buffer = memoryview(buffered)[:length]
        self._is_awaiting = is_awaiting
        self._pace = watch_pace()

    def read(self, limit: int = BLOCK_BYTES) -> bytes:
        """Some bytes, at most limit; none at the end."""
        limit = min(limit, self.remaining)
        if limit and not self._buffer:  # a block at a time, so that reading a few bytes costs no system call each
            self._buffer = memoryview(self._receive(max(limit, min(BLOCK_BYTES, self.remaining))))
        data = bytes(self._buffer[:limit])
        self._buffer = self._buffer[limit:] or memoryview(b"")  # an empty slice would keep all the bytes in memory
        self.remaining -= len(data)
        return data

    def read_exactly(self, count: int) -> bytes:
        """Just so many bytes. Raises CutOff when the body has fewer left."""
        data = b""
        while len(data) < count:
            more = self.read(count - len(data))
            if not more:
                raise CutOff
            data += more
        return data

    def pour(self, writer: Writer, count: int) -> None:
        """Moves count bytes to the writer, without bringing them into Python where the system can."""
        while count and (self._buffer or not self._can_splice(count)):
            data = self.read(min(count, BLOCK_BYTES))
            if not data:
                raise CutOff
            writer.write(data)
            count -= len(data)
        if count:
            with TURN.paused():
                self._splice(writer, count)

    def _can_splice(self, count: int) -> bool:
        return count >= SPLICE_FROM_BYTES and self._wire.can_splice

    def _splice(self, writer: Writer, count: int) -> None:
        end = self.remaining - count
        with borrow_pipe() as (read_end, write_end):

            def fill() -> int:
                try:
                    self._invite()
                    moved = self._wire.splice(write_end, min(self.remaining - end, PIPE_BYTES))
                except OSError:
                    raise CutOff from None
                self._arrived(moved)
                self.remaining -= moved
                return moved

            def fill_at_once() -> int:
                # Only with what is here already, for the writer must not wait. Splice waits for a socket whatever flags
                # it is given, so the socket is asked before.
                return fill() if self.remaining > end and self._wire.has_more() else 0

            try:
                while self.remaining > end:
                    # Only for long pieces, which come over fast lines, and not for the last bytes of one.
                    is_long = count >= SLEEP_FROM_BYTES and self.remaining - end >= SLEEP_BYTES
                    self._wire.sleep_until(SLEEP_BYTES if is_long else 1)
                    writer.splice(read_end, fill(), fill_at_once)
            finally:
                self._wire.sleep_until(1)

    def _receive(self, limit: int) -> bytes:
        try:
            self._invite()
            data = self._wire.receive(limit)
        except OSError:
            raise CutOff from None
        self._arrived(len(data))
        return data

    def _invite(self) -> None:
        if self._is_awaiting:
            self._is_awaiting = False
            self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _arrived(self, count: int) -> None:
        if not count:
            raise CutOff
        self._pace(count)


def receive_file(body: Body, store: Store, owner: str | None, name: str, max_bytes: int) -> Upload:
    """Stores a body that is a file (curl -T). Raises TooLarge, NoSpace and what the body raises."""
    check_size(body.length, max_bytes)
    with store.begin_whole(owner, clean_name(name), body.length) as writer:
        body.pour(writer, body.length)
        return store.merge(writer)


def receive_run(body: Body, store: Store, owner: str | None, uuid: str, first: int) -> tuple[Upload, range]:
    """Stores a body that is a run of whole chunks, from this one on. When it breaks off, those that came are kept.

    Returns the upload, and the numbers of these chunks. Raises NotFound, Gone, BadRequest when it does not end where a
    chunk ends, NoSpace and what the body raises.
    """
    with store.begin_run(owner, uuid, first, body.length) as writer:
        body.pour(writer, body.length)
        return store.merge(writer), writer.numbers


def receive_form(
    body: Body, content_type: str, store: Store, owner: str | None, max_bytes: int
) -> tuple[list[Upload], bool]:
    """Stores what a multipart form (RFC 7578) carries: one Dropzone chunk, or without dzuuid one or more files.

    Returns the uploads, in the form's order, and whether it was a chunk. Nothing is stored unless the form is sound to
    its very end. Raises BadRequest, TooLarge, NoSpace, NotFound, Conflict and what the body raises.
    """
    kind, parameters = parse_options_header(content_type)
    boundary = parameters.get("boundary", "").encode("latin-1")
    if kind != "multipart/form-data" or not _BOUNDARY.fullmatch(boundary):
        raise BadRequest("The form must be sent as multipart/form-data with a boundary.")
    if body.length > max_bytes + FORM_OVERHEAD_BYTES:
        sentence = f"This is larger than the limit of {human_size(max_bytes)}."
        raise TooLarge(sentence, "file-too-large", limit=max_bytes)
    opening, closing = b"--" + boundary, b"\r\n--" + boundary + b"--\r\n"
    front = body.length - len(closing)  # bytes before the closing delimiter, whose own line break may be missing
    if front < 0:
        raise BadRequest("The form is malformed.")
    pending = body.read(min(BLOCK_BYTES, front))
    if (plain := read_plain_form(pending, opening)) and "dzuuid" in plain[0]:
        fields, name, place = plain
        chunk = parse_chunk(fields, max_bytes)
        if front - place == chunk.length:  # the file ends where the closing delimiter begins
            with store.begin(owner, chunk, clean_name(name)) as writer:
                writer.write(pending[place:])
                del pending  # there may be hundreds of chunks on their way, and each would keep 64 KiB in memory
                return [_receive_rest(body, writer, closing, store)], True
    with contextlib.ExitStack() as open_writers:
        form = _Form(body, opening, closing, store, owner, max_bytes, open_writers)
        try:
            return form.receive(pending), form.is_chunk
        except MultipartError as error:
            if error.http_status == TooLarge.status:
                sentence = "The form has more or larger parts than the server accepts. Send fewer files."
                raise TooLarge(sentence, "form-too-large") from None
            raise BadRequest("The form is malformed.") from None


def _receive_rest(body: Body, writer: Writer, closing: bytes, store: Store) -> Upload:
    """The rest of a chunk that is its form's last part: its length is known, so nothing in it is searched for."""
    body.pour(writer, writer.length - writer.written)
    if body.read_exactly(len(closing)) != closing:
        raise BadRequest("The form is malformed.")
    return store.merge(writer)


class _Form:
    """The reading of one multipart form that does not begin as browsers write Dropzone's.

    While heads and fields are read, the parser is fed no further than the next empty line, so that when a file begins
    it is known at which byte. If the fields before it say which chunk it is, and the body's length says that the chunk
    is the form's last part, then the rest needs no parser.
    """

    def __init__(
        self,
        body: Body,
        opening: bytes,
        closing: bytes,
        store: Store,
        owner: str | None,
        max_bytes: int,
        writers: contextlib.ExitStack,
    ) -> None:
        self._body, self._store, self._owner, self._max_bytes, self._writers = body, store, owner, max_bytes, writers
        self._opening, self._closing = opening, closing
        self._parser = PushMultipartParser(
            opening[2:], content_length=body.length, max_segment_count=MAX_PARTS, strict=True
        )
        self._fields: dict[str, str] = {}
        self._files: list[Writer] = []
        self._unnamed: set[Writer] = set()
        self._chunk: Chunk | None = None  # known if its fields came before the file
        self._field = b""
        self._segment: MultipartSegment | None = None

    def receive(self, pending: bytes) -> list[Upload]:
        """Reads to the end. `pending` has been read from the body already, but not yet been used."""
        opening, front = self._opening, self._body.remaining - len(self._closing)
        while front or pending:
            if self._in_file:
                if not pending:
                    pending = self._body.read(min(BLOCK_BYTES, front))
                    front -= len(pending)
                piece, pending = pending, b""
            else:
                while (cut := pending.find(b"\r\n\r\n")) < 0 and front:
                    if len(pending) > MAX_PART_HEAD_BYTES:
                        raise TooLarge("A field of the form is larger than the server accepts.")
                    more = self._body.read(min(BLOCK_BYTES, front))
                    front -= len(more)
                    pending += more
                cut = len(pending) if cut < 0 else cut + 4
                piece, pending = pending[:cut], pending[cut:]
                if opening:  # the parser would skip what stands before it (RFC 2046, 5.1.1), and other readers may not
                    if not piece.startswith(opening):
                        raise BadRequest("The form is malformed.")
                    opening = b""
            self._feed(piece)
            if self._in_file and self._chunk is not None and len(pending) + front == self._chunk.length:
                (writer,) = self._files
                writer.write(pending)
                del pending, piece
                return [_receive_rest(self._body, writer, self._closing, self._store)]
        self._feed_end()
        return self._finish()

    @property
    def is_chunk(self) -> bool:
        """Whether the fields make the file a chunk of one."""
        return "dzuuid" in self._fields

    @property
    def _in_file(self) -> bool:
        return self._segment is not None and self._segment.filename is not None

    def _feed(self, piece: bytes) -> None:
        for event in self._parser.parse(piece):
            if isinstance(event, MultipartSegment):
                self._begin_part(event)
            elif event is None:
                self._end_part()
            elif self._in_file:
                self._files[-1].write(event)
            else:
                self._field += event
                if len(self._field) > MAX_FIELD_BYTES:
                    raise TooLarge("A field of the form is larger than the server accepts.")

    def _feed_end(self) -> None:
        closing = self._body.read_exactly(len(self._closing))
        if not closing.endswith((self._closing, self._closing[:-2])):
            raise BadRequest("The form is malformed.")
        self._feed(closing)
        self._parser.close()

    def _begin_part(self, segment: MultipartSegment) -> None:
        self._segment, self._field = segment, b""
        if "\0" in (segment.name or "") + (segment.filename or ""):
            raise BadRequest("A name in the form is malformed.")
        if segment.filename is None:
            if segment.name in self._fields or len(self._fields) >= MAX_FIELDS:
                raise BadRequest("A field of the form stands twice, or there are too many.")
            return
        if self.is_chunk:
            if self._files:
                raise BadRequest("A chunk's form must have exactly one file.")
            self._chunk = parse_chunk(self._fields, self._max_bytes)
            writer = self._store.begin(self._owner, self._chunk, clean_name(segment.filename))
            self._files.append(self._writers.enter_context(writer))
            return
        # A form does not say how long a whole file is. It cannot be longer than what the other files leave of the body.
        room = self._body.length - sum(writer.written for writer in self._files)
        path, drop = parse_path(self._fields.get("path", "")), parse_drop(self._fields.get("drop"))
        writer = self._store.begin_whole(self._owner, clean_name(segment.filename), room, path, drop)
        self._files.append(self._writers.enter_context(writer))
        if not segment.filename:
            self._unnamed.add(writer)

    def _end_part(self) -> None:
        assert self._segment is not None
        if self._segment.filename is None:
            try:
                value = self._field.decode()
            except UnicodeDecodeError:
                raise BadRequest("A field of the form is malformed.") from None
            if "\0" in value:
                raise BadRequest("A field of the form is malformed.")
            self._fields[self._segment.name or ""] = value
        elif self._chunk is None:  # a whole file, of which only its end says how long it is
            self._store.end_file(self._files[-1])
        self._segment = None

    def _finish(self) -> list[Upload]:
        if self._chunk is not None:
            return [self._store.merge(self._files[0])]
        if self.is_chunk:
            return [self._move_into_place()]
        # A form whose file input was left empty sends a part with neither name nor bytes.
        files = [writer for writer in self._files if writer.written or writer not in self._unnamed]
        if not files:
            raise BadRequest("No file was sent. Choose one first.", "no-file")
        for writer in files:  # before the first one is merged, or a part of a refused form would be stored
            check_size(writer.written, self._max_bytes)
        return [self._store.merge(writer) for writer in files]

    def _move_into_place(self) -> Upload:
        """For a chunk whose fields came after its bytes: those were taken for a file, and are copied to their place."""
        if len(self._files) != 1:
            raise BadRequest("A chunk's form must have exactly one file.")
        (held,) = self._files
        chunk = parse_chunk(self._fields, self._max_bytes)
        writer = self._writers.enter_context(self._store.begin(self._owner, chunk, held.upload.name))
        for data in held.read_back(BLOCK_BYTES):
            writer.write(data)
        return self._store.merge(writer)


# ======================================================================================================================
# App: a handler is parse, ask the store, answer
# ======================================================================================================================

# Bottle finds the handler for an address. A handler reads what the request asks, asks the store, and answers; it raises
# a DropError for what cannot be met. Everything else stands around the handlers, once, in this order:
#
# - The host that the request names must be one of ours. This comes before a handler is looked for: a page of another
#   site that has got in under its own name (DNS rebinding) must not even learn which addresses there are.
# - The door decides who may call the handler. What changes something may not come from another site's page, because the
#   browser sends our cookies along with such a request. Then, if there is a password, it must have been given.
# - An error becomes an answer in render_error and nowhere else, so all errors look alike: JSON for those who accept it,
#   which are scripts, and one sentence for all others, which are people.
#
# There are no accounts. A browser's cookie is the key to the list of what it uploaded, and to removing it; the record
# has only the key's hash. An upload's UUID is the key to read its file. So whoever has a link can read, but not remove.

OWNER_SECONDS = 365 * 24 * 3600
SESSION_SECONDS = 30 * 24 * 3600
MAX_DELAY_SECONDS = 60.0  # between two wrong passwords from one address
MAX_ADDRESSES = 10_000  # whose failures are remembered
# From all addresses together, for somebody may have thousands of them. An office that comes in on a Monday does not
# mistype so often, and 86,400 tries a day need five years on average for six random small letters.
MAX_WRONG_A_MINUTE = 60
_SESSION = re.compile(r"(([0-9a-f]{32})\.([0-9]{1,15}))\.[0-9a-f]{64}", re.ASCII)
_GIVEN_LINK = re.compile(r"(download/[0-9A-Fa-f-]{36}|drops/[0-9A-Fa-f-]{36}(\.zip)?)", re.ASCII)
_DOWNLOAD_CSP = "default-src 'none'; frame-ancestors 'none'; sandbox"


class Stream:
    """An answer that is made while it is sent, block by block. What fails then can only end the connection."""

    def __init__(self, blocks: Generator[bytes, None, None], at_its_end: Callable[[], None]) -> None:
        self.blocks = blocks
        self._at_its_end = at_its_end

    def close(self) -> None:
        """Whether all of it was sent, a part, or nothing. Called once."""
        self.blocks.close()
        self._at_its_end()

    def read(self, limit: int = -1) -> bytes:
        """Only what makes Bottle take this for a file; the server sends its blocks."""
        raise NotImplementedError


class FileSpan:
    """The part of an open file that an answer consists of. The server sends it straight from the disk."""

    def __init__(self, file: BinaryIO, span: Span) -> None:
        self.file, self.span = file, span
        self.close = file.close

    def read(self, limit: int = -1) -> bytes:
        """Only what makes Bottle take this for a file; the server sends it by `file` and `span`."""
        raise NotImplementedError


def read_cookies(name: str) -> Iterator[str]:
    """The values of all cookies of this name. Other programs' cookies may look as they like.

    There may be several, because each path and each domain above ours can have its own; RFC 6265, 5.4, says that a
    server must not rely on their order.
    """
    for part in bottle.request.environ.get("HTTP_COOKIE", "").split(";"):
        key, equals, value = part.strip().partition("=")
        if equals and key == name:
            yield str(value)


_to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make one each time


#: Makes the body of a page of ours without a script. It is given the way to the server's root, with a slash at its end:
#: that differs from address to address, and the server may lie below a proxy's path.
PageBody = Callable[[str], str]


def _render(
    data: Mapping[str, Any], sentence: str, environ: Mapping[str, Any], body: PageBody | None = None
) -> tuple[dict[str, str], bytes]:
    """The one shape of all answers but files and the page itself: JSON to scripts, which accept it, a page with this
    body to browsers without one, if there is a body, and a sentence to all others. Returns headers and bytes.
    """
    accepted = environ.get("HTTP_ACCEPT", "")
    if "application/json" in accepted:
        return {"Content-Type": "application/json"}, _to_json(data).encode()
    if body and "text/html" in accepted:
        page, policy = render_plain_page(body, environ)
        return {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}, page.encode()
    return {"Content-Type": "text/plain; charset=utf-8"}, f"{sentence}\n".encode()


def _csp_hash(text: str) -> str:
    """How a policy names an inline block, or an attribute that is code (CSP 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def render_plain_page(make_body: PageBody, environ: Mapping[str, Any]) -> tuple[str, str]:
    """A page of ours without a script, in answer to this request, and its Content-Security-Policy. Its title is its
    heading.
    """
    root = "../" * (environ.get("PATH_INFO", "").count("/") - 1) or "./"
    body = make_body(root)
    heading = re.search("<h1>(.*?)</h1>", body)
    title = heading[1] if heading else "pyfiledrop"
    policy = (
        f"default-src 'none'; style-src {_csp_hash(LOOK)}; img-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    )
    return PLAIN_PAGE.substitute(title=title, look=LOOK, body=body, root=root), policy


def sign_in_body(notice: str, link: str) -> PageBody:
    """The page on which the password is asked for. It leads on to the link that was asked for, if it is one of ours."""
    link = link if _GIVEN_LINK.fullmatch(link) else ""
    return lambda root: SIGN_IN.substitute(notice=html.escape(notice), link=link, root=root)


def render_error(error: DropError, environ: Mapping[str, Any]) -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body of an error's answer. This is the one place that decides them, whoever gives the answer:
    a handler, Bottle, or the server to a request that never got to the app (then nothing is known of environ).
    """
    data = {"error": str(error), "code": error.code, "values": error.values}
    if isinstance(error, Unauthorized):
        page = sign_in_body("", environ.get("PATH_INFO", "")[1:])
    else:

        def page(root: str) -> str:
            return ERROR_PAGE.substitute(sentence=html.escape(str(error)), root=root)

    headers, body = _render(data, str(error), environ, page)
    headers |= {"Content-Length": str(len(body)), **error.headers}
    if not headers["Content-Type"].startswith("text/plain"):  # the browser must not ask for a password in its own way
        headers.pop("WWW-Authenticate", None)
    return f"{error.status.value} {error.status.phrase}", headers, body


def answer(status: int, data: Mapping[str, Any], sentence: str, page: PageBody | None = None) -> bytes:
    """Sets Bottle's response but for the body, which is returned. Browsers get the page, if there is one."""
    headers, body = _render(data, sentence, bottle.request.environ, page)
    bottle.response.status = int(status)
    for name, value in headers.items():
        bottle.response.set_header(name, value)
    return body


def refuse(error: DropError) -> bottle.HTTPResponse:
    """The answer for a request that cannot be met, to be returned or raised."""
    status, headers, body = render_error(error, bottle.request.environ)
    return bottle.HTTPResponse(body, status, headers)


def _refuse_for_bottle(error: bottle.HTTPError) -> bottle.HTTPResponse:
    """The same for what Bottle itself refuses (no such page, wrong method) or caught (a bug, which goes to the log)."""
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return refuse(MethodNotAllowed(error.get_header("Allow", "")))
    if error.status_code == HTTPStatus.NOT_FOUND:
        return refuse(NotFound())
    if error.traceback:
        log.error("bug: %s", error.traceback)
    return refuse(DropError())


class Door:
    """Who somebody is: the owner whose key is in a browser's cookie, and whether the password was given, if there is
    one. As a plugin of Bottle it stands before every handler.

    A session is a random id and the time of its end (s since 1970), signed: `<id>.<end>.<signature>`. The record only
    keeps which ones were ended early. So a session outlives a restart, but not the password, which is in the signature.
    """

    api = 2  # the version of Bottle's plugins that apply is written for

    def __init__(self, password: str | None, record: Record) -> None:
        self._password = password
        self._record = record
        secret = record.secret()
        self._key = hmac.digest(secret, (password or "").encode(), "sha256")
        # A browser sends a host's cookies to all ports of that host, so instances need different names for theirs.
        self._mark = hmac.digest(secret, b"the names of the cookies", "sha256").hex()[:6]
        self._lock = threading.Lock()  # guards what follows
        self._failures: dict[str, tuple[int, float]] = {}  # guesser -> how many, when the next try is free
        self._wrong: deque[float] = deque(maxlen=MAX_WRONG_A_MINUTE)  # when the latest wrong passwords came

    @property
    def asks(self) -> bool:
        """Whether there is a password."""
        return self._password is not None

    def cookie_name(self, kind: str) -> str:
        """What our cookie of this kind, `owner` or `session`, is called in answer to this request.

        From `__Host-` a browser knows that only this very host may set it, over https (RFC 6265bis, 4.1.3.2).
        """
        prefix = "__Host-" if bottle.request.environ["wsgi.url_scheme"] == "https" else ""
        return f"{prefix}{kind}-{self._mark}"

    def owner_key(self) -> str | None:
        """What this browser's cookie holds; of several the first that can be one of ours."""
        return next(filter(_UUID.fullmatch, read_cookies(self.cookie_name("owner"))), None)

    def owner(self) -> str | None:
        """Whose uploads these are: a hash of the key, so that the record holds nothing that opens a list."""
        if "HTTP_COOKIE" not in bottle.request.environ:
            return None
        key = self.owner_key()
        return None if key is None else hashlib.sha256(key.encode()).hexdigest()

    def is_open_to(self, environ: Mapping[str, Any]) -> bool:
        """Whether a request comes from somebody who has signed in, or brings the password. Raises TooManyTries."""
        if self._password is None or any(self._sessions()):
            return True
        given = basic_password(environ.get("HTTP_AUTHORIZATION", ""))
        return given is not None and self.knows(given, environ["REMOTE_ADDR"])

    def knows(self, given: str, address: str) -> bool:
        """Whether this is the password. Each wrong one is logged and makes its guesser wait longer, and together they
        make everybody wait who has not signed in. Raises TooManyTries.
        """
        guesser = guesser_of(address)
        with self._lock:
            now = time.monotonic()
            count, free_at = self._failures.get(guesser, (0, 0.0))
            if len(self._wrong) == MAX_WRONG_A_MINUTE:
                free_at = max(free_at, self._wrong[0] + 60)
            if now < free_at:
                raise TooManyTries(free_at - now)
            self._failures.pop(guesser, None)
            # Of equal length, so that the time it takes says nothing about the password.
            digest = hmac.digest(self._key, given.encode(), "sha256")
            if hmac.compare_digest(digest, hmac.digest(self._key, (self._password or "").encode(), "sha256")):
                return True
            self._failures[guesser] = count + 1, now + min(MAX_DELAY_SECONDS, 0.5 * 2 ** min(count, 10))
            if len(self._failures) > MAX_ADDRESSES:
                del self._failures[next(iter(self._failures))]
            self._wrong.append(now)
        log.warning("wrong password from %s", address)
        return False

    def new_session(self) -> str:
        """The cookie's value for somebody who gave the password."""
        return self._sign(f"{secrets.token_hex(16)}.{int(time.time()) + SESSION_SECONDS}")

    def end_sessions(self) -> None:
        """Ends what this browser is signed in with; copies of the cookie are worth nothing from now on."""
        for session, end in self._sessions():
            self._record.revoke(session, end)

    def _sessions(self) -> Iterator[tuple[str, int]]:
        """Id and end of each session that a request brings. Cookies of the same name that are none change nothing."""
        for value in read_cookies(self.cookie_name("session")):
            match = _SESSION.fullmatch(value)
            if match and hmac.compare_digest(value, self._sign(match[1])):
                session, end = match[2], int(match[3])
                if end > time.time() and not self._record.is_revoked(session):
                    yield session, end

    def _sign(self, text: str) -> str:
        return f"{text}.{hmac.new(self._key, text.encode(), 'sha256').hexdigest()}"

    def apply(self, handler: Callable[..., Any], route: bottle.Route) -> Callable[..., Any]:
        """Puts the door before a route's handler. The route's `public` keyword lets it do without the password."""
        changes_something = route.method in ("POST", "PUT", "DELETE")
        is_public = route.config.get("public", False)

        @functools.wraps(handler)
        def behind_the_door(*args: Any, **names: Any) -> Any:
            try:
                if changes_something and not is_same_site(bottle.request.environ):
                    raise Forbidden("Another site's page may not do this. Open this server's own page.", "other-site")
                if not (is_public or self.is_open_to(bottle.request.environ)):
                    raise Unauthorized
                return handler(*args, **names)
            except DropError as error:
                return refuse(error)

        return behind_the_door


def lan_address() -> str | None:
    """The address under which others on the network reach this machine, if it has one. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # an address for documentation (RFC 5737): only the route is asked for
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address
    return None


@functools.lru_cache(maxsize=64)  # it takes tens of milliseconds, and a page may show it again
def render_code(text: str) -> bytes:
    """A QR code (ISO/IEC 18004) as an image in SVG, black on white whatever the page's colours, which scanners like."""
    image = io.BytesIO()
    looks = {"border": 4, "dark": "#000", "light": "#fff", "omitsize": True, "svgclass": None, "lineclass": None}
    segno.make_qr(text, error="m").save(image, kind="svg", xmldecl=False, **looks)
    return image.getvalue()


def own_names(settings: Settings) -> set[str]:
    """What this server answers under besides addresses and localhost: the names of the machine and those asked for.

    The machine's are its own, with and without a domain, and the one for its own network (RFC 6762). No name server is
    asked for them: what it says is what must not be trusted.
    """
    machine = socket.gethostname().lower()
    name = machine.partition(".")[0]
    names = {machine, name, f"{name}.local", settings.host.lower(), *(settings.allow_host or ())}
    return {name for name in names if name not in ("", "localhost") and not is_address(name)}


def make_app(settings: Settings, store: Store, door: Door) -> bottle.Bottle:
    """The WSGI application without its pages. Its requests must carry a Body as wsgi.input."""
    app = bottle.Bottle()
    app.install(door)
    app.default_error_handler = _refuse_for_bottle
    names = own_names(settings)

    @app.hook("before_request")  # and before a route is looked for: under a foreign name not even a 404 is given
    def check_name() -> None:
        host = bottle.request.environ.get("HTTP_HOST")  # a browser always names one, an old program may not
        if host is not None and not answers_under(host_of(host), names):
            raise refuse(Misdirected())

    def describe(upload: Upload) -> dict[str, Any]:
        done = upload.stored is not None
        return {
            "uuid": upload.uuid,
            "name": upload.name,
            "size": upload.size,
            "received": upload.received,
            "done": done,
            "link": f"download/{upload.uuid}" if done and settings.allow_downloads else None,
            "modified": upload.modified,
            "created": upload.created,
            "path": upload.path,
            "drop": upload.drop_uuid,
        }

    def say_received(file: Mapping[str, Any]) -> str:
        environ = bottle.request.environ
        base = f"{environ['wsgi.url_scheme']}://{environ.get('HTTP_HOST', 'localhost')}/"
        line = f"Received {file['name'] or 'file'} ({human_size(file['size'])})."
        return f"{line} Fetch it back: {base}{file['link']}" if file["link"] else line

    def list_files(files: Iterable[Mapping[str, Any]], root: str) -> str:
        """Files as items of a page, each with its link, if it has one."""
        items = []
        for file in files:
            name = html.escape("/".join(filter(None, (file["path"], file["name"] or "file"))))
            name = f'<a href="{root}{file["link"]}">{name}</a>' if file["link"] else f"<span>{name}</span>"
            items.append(f"<li>{name} <small>{human_size(file['size'])}</small></li>")
        return "\n".join(items)

    def answer_received(status: int, uploads: list[Upload]) -> bytes:
        files = [describe(upload) for upload in uploads]

        def page(root: str) -> str:
            return RECEIVED_PAGE.substitute(count=count_files(len(files)), files=list_files(files, root), root=root)

        return answer(status, {"files": files}, "\n".join(map(say_received, files)), page)

    @app.post("/upload")
    def post_upload() -> Any:
        body: Body = bottle.request.environ["wsgi.input"]
        content_type = bottle.request.environ.get("CONTENT_TYPE", "")
        uploads, is_chunk = receive_form(body, content_type, store, door.owner(), settings.max_bytes)
        return answer_received(HTTPStatus.OK if is_chunk else HTTPStatus.CREATED, uploads)

    @app.put(r"/upload/<name:re:[\s\S]+>")  # Bottle's `path` does not take a name with a line break
    def put_upload(name: str) -> Any:
        body: Body = bottle.request.environ["wsgi.input"]
        return answer_received(HTTPStatus.CREATED, [receive_file(body, store, door.owner(), name, settings.max_bytes)])

    @app.get("/uploads")
    def list_uploads() -> Any:
        mark = parse_mark(bottle.request.query.get("before"))
        owner = door.owner()
        uploads = store.uploads(owner, mark, UPLOADS_A_PAGE + 1) if owner else []
        count = count_on_page((upload.path for upload in uploads), UPLOADS_A_PAGE)
        more = len(uploads) > count  # one more was asked for to see whether there is one
        uploads = uploads[:count]
        following = str(uploads[-1].id) if more else None
        lines = [f"{u.name} ({human_size(u.size)}{'' if u.stored else ', unfinished'})" for u in uploads]
        if following:
            lines.append(f"There is more: ask for /uploads?before={following}")
        sentence = "\n".join(lines) or ("Nothing older." if mark is not None else "Nothing dropped yet.")
        data = {"uploads": [describe(u) for u in uploads], "next": following, "free": store.free()}
        return answer(200, data, sentence)

    @app.delete("/uploads")
    def forget_uploads() -> Any:
        owner = door.owner()
        count = store.forget(owner) if owner else 0
        return answer(200, {"forgotten": count}, "The list is empty now; the files stay on the server.")

    def answer_progress(status: int, upload: Upload, chunks: list[list[int]]) -> bytes:
        progress = {"chunk_size": upload.chunk_size, "chunk_count": upload.chunk_count, "chunks": chunks}
        file = describe(upload) | progress
        sentence = f"{upload.name}: {human_size(upload.received)} of {human_size(upload.size)} are in."
        return answer(status, {"upload": file}, say_received(file) if file["done"] else sentence)

    @app.post("/uploads")
    def begin_upload() -> Any:
        body: Body = bottle.request.environ["wsgi.input"]
        if body.length > MAX_WISH_BYTES:
            raise TooLarge("What begins an upload is larger than the server accepts.")
        wish = parse_wish(body.read_exactly(body.length), settings.max_bytes)
        facts = wish.size, wish.modified, settings.chunk_bytes(wish.size), wish.path, wish.drop
        upload, is_new = store.announce(door.owner(), clean_name(wish.name), *facts)
        status = HTTPStatus.CREATED if is_new else HTTPStatus.OK
        return answer_progress(status, upload, store.chunks_in(upload))

    @app.put("/uploads/<uuid>/<first>")
    def put_run(uuid: str, first: str) -> Any:
        body: Body = bottle.request.environ["wsgi.input"]
        upload, numbers = receive_run(body, store, door.owner(), parse_uuid(uuid), parse_number(first))
        # Of an unfinished one only these: to list all of 50,000 chunks takes longer than to store a run.
        chunks = [[numbers[0], numbers[-1]]] if upload.stored is None else store.chunks_in(upload)
        return answer_progress(200, upload, chunks)

    @app.get("/uploads/<uuid>")
    def show_upload(uuid: str) -> Any:
        upload = store.upload(door.owner(), parse_uuid(uuid))
        return answer_progress(200, upload, store.chunks_in(upload))

    @app.delete("/uploads/<uuid>")
    def remove_upload(uuid: str) -> Any:
        store.remove(door.owner(), parse_uuid(uuid))
        return answer(200, {"removed": 1}, "Removed.")

    archives: list[int] = []  # that are being made and sent: the weight of each one's drop

    def check_downloads() -> None:
        if not settings.allow_downloads:
            sentence = "Downloads are switched off on this server. Its owner can start it with -a."
            raise Forbidden(sentence, "downloads-off")

    @app.get("/drops/<uuid:re:[0-9A-Fa-f-]+>", public=settings.public_links)
    def show_drop(uuid: str) -> Any:
        check_downloads()
        drop, after = parse_drop_link(uuid), parse_mark(bottle.request.query.get("after")) or 0
        uploads, following = store.drop(drop, after, FILES_A_PAGE)
        count, size = store.sum_of_drop(drop)
        files = [describe(upload) for upload in uploads]
        data = {
            "uuid": drop,
            "link": f"drops/{drop}",
            "zip": f"drops/{drop}.zip",
            "count": count,
            "size": size,
            "files": files,
            "next": None if following is None else str(following),
        }

        def page(root: str) -> str:
            return DROP_PAGE.substitute(
                heading=f"{count_files(count)} from {html.escape(settings.machine)}",
                zip=f"{root}{data['zip']}",
                size=human_size(size),
                files=list_files(files, root),
                more="" if following is None else MORE_FILES.substitute(link=f"{root}{data['link']}?after={following}"),
            )

        base = f"{bottle.request.environ['wsgi.url_scheme']}://{bottle.request.environ.get('HTTP_HOST', 'localhost')}/"
        lines = [f"{file['name']} ({human_size(file['size'])}): {base}{file['link']}" for file in files]
        return answer(200, {"drop": data}, "\n".join([*lines, f"All as one ZIP: {base}{data['zip']}"]), page)

    @app.get("/drops/<uuid:re:[0-9A-Fa-f-]+>.zip", public=settings.public_links)
    def give_drop(uuid: str) -> Any:
        check_downloads()
        drop = parse_drop_link(uuid)
        with TURN.paused():  # it may be of many files
            weight = store.weight_of_drop(drop)
            if weight > MAX_ARCHIVE_FILES:
                sentence = f"This drop has more than {MAX_ARCHIVE_FILES} files. Fetch them one by one."
                raise TooLarge(sentence, "too-many-files", limit=MAX_ARCHIVE_FILES)
            archives.append(weight)  # before any memory is taken: many may ask at the same moment
            try:
                if len(archives) > 1 and sum(archives) > MAX_FILES_IN_ARCHIVES:
                    raise Unavailable
                entries = archive_entries(store, drop)
            except BaseException:
                archives.remove(weight)
                raise
        stream = Stream(archive_blocks(store, entries), lambda: archives.remove(weight))
        name = f"{count_files(len(entries))} from {settings.machine.replace('/', ' ')}.zip"
        response = bottle.HTTPResponse(stream)
        for key, value in {
            "Content-Type": "application/zip",
            "Content-Length": str(archive_bytes((entry.name, entry.size) for entry in entries)),
            "Content-Disposition": content_disposition(name),
            "Accept-Ranges": "none",  # what is in the middle of it depends on the checksums of all before
            "Content-Security-Policy": _DOWNLOAD_CSP,
        }.items():
            response.set_header(key, value)
        return response

    @app.get("/qr")
    def code() -> Any:
        link, host = bottle.request.query.get("link", ""), bottle.request.environ.get("HTTP_HOST", "")
        text = link_for_code(link, host, lan_address() if settings.listens_everywhere else None)
        with TURN.paused():  # a long link takes longer than many small requests
            image = render_code(text)
        return bottle.HTTPResponse(image, headers={"Content-Type": "image/svg+xml"})

    @app.get("/download/<uuid>", public=settings.public_links)
    def download(uuid: str) -> Any:
        check_downloads()
        if not _UUID.fullmatch(uuid):
            raise NotFound
        return _give(bottle.request.environ, *store.open(uuid.lower()))

    return app


class ArchiveEntry(NamedTuple):
    """A file of a drop, as it will be in the drop's archive."""

    name: str  # with its folders
    uuid: str
    size: int  # bytes
    seconds: int  # since 1970: when it was changed, or if nobody said, when it came


def archive_entries(store: Store, drop: str) -> list[ArchiveEntry]:
    """What a drop's archive consists of. Raises NotFound."""
    names: list[tuple[str, str]] = []
    facts: list[tuple[str, int, int]] = []  # there may be very many, so no more of each is held than is needed
    after: int | None = 0
    while after is not None:
        uploads, after = store.drop(drop, after, FILES_A_PAGE)
        for upload in uploads:
            seconds = int(upload.created) if upload.modified is None else upload.modified // 1000
            names.append((upload.path, upload.name))
            facts.append((upload.uuid, upload.size, seconds))
    return [ArchiveEntry(name, *fact) for name, fact in zip(archive_names(names), facts, strict=True)]


class _Sink:
    """Where zipfile writes to: what it cannot seek in, it writes from front to back."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self.count = 0  # bytes that wait to be taken

    def write(self, data: bytes) -> int:
        self._blocks.append(data)
        self.count += len(data)
        return len(data)

    def flush(self) -> None: ...

    def take(self) -> bytes:
        """All that was written since the last time."""
        data = b"".join(self._blocks)
        self._blocks, self.count = [], 0
        return data


def archive_blocks(store: Store, entries: Iterable[ArchiveEntry]) -> Generator[bytes, None, None]:
    """A drop's archive, block by block: each file is read when its turn comes, and none is held.

    Raises what store.open does, and DataLost for a file that is not what it was: its archive ends there, too early for
    the length that was announced, so nobody takes it for whole.
    """
    sink: Any = _Sink()  # as much of a file as zipfile needs
    with zipfile.ZipFile(sink, "w") as archive:
        for name, uuid, size, seconds in entries:
            info = zipfile.ZipInfo(name, _archive_time(seconds))
            info.file_size, info.external_attr = size, (stat.S_IFREG | 0o644) << 16
            _, content = store.open(uuid)
            with contextlib.closing(content.file), archive.open(info, "w") as target:
                left = size
                while left and (block := content.file.read(min(left, ARCHIVE_BLOCK_BYTES))):
                    target.write(block)
                    left -= len(block)
                    if sink.count >= ARCHIVE_BLOCK_BYTES:
                        yield sink.take()
                if left or content.size != size:
                    raise DataLost
    yield sink.take()


def _archive_time(seconds: int) -> tuple[int, int, int, int, int, int]:
    """A time (s since 1970) as an archive can say it: local time, from 1980 to 2107."""
    try:
        year, *rest = time.localtime(seconds)[:6]
    except (OverflowError, OSError, ValueError):
        year = 0
    if not 1980 <= year <= 2107:
        return 1980, 1, 1, 0, 0, 0
    month, day, hour, minute, second = rest
    return year, month, day, hour, minute, second


def _give(environ: dict[str, Any], upload: Upload, content: Content) -> Any:
    """A file as the answer: conditional requests (RFC 9110, 13) and one range."""
    file, size = content.file, content.size
    etag = f"{upload.uuid[:8]}-{content.tag}"
    modified = email.utils.formatdate(content.modified, usegmt=True)
    response = bottle.HTTPResponse()
    for name, value in {
        "ETag": f'"{etag}"',
        "Last-Modified": modified,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": _DOWNLOAD_CSP,
    }.items():
        response.set_header(name, value)
    try:
        environ = dict(environ)
        wanted = environ.pop("HTTP_IF_MATCH", None)  # Werkzeug takes it for an If-None-Match turned round
        if wanted is not None and etag not in parse_etags(wanted):
            raise PreconditionFailed
        try:
            is_new = is_resource_modified(environ, etag=etag, last_modified=modified)
        except OverflowError:  # a date beyond what the system can count
            is_new = True
        if not is_new:
            response.status = HTTPStatus.NOT_MODIFIED.value
            file.close()
            return response
        # A range of a file that is no longer the same is not what was asked for: then the whole (If-Range).
        same = "HTTP_IF_RANGE" not in environ or environ["HTTP_IF_RANGE"] in (f'"{etag}"', modified)
        span = choose_range(environ.get("HTTP_RANGE") if same else None, size)
    except BaseException:
        file.close()
        raise
    if span.partial:
        response.status = HTTPStatus.PARTIAL_CONTENT.value
        response.set_header("Content-Range", f"bytes {span.offset}-{span.offset + span.count - 1}/{size}")
    response.set_header("Content-Type", "application/octet-stream")
    response.set_header("Content-Disposition", content_disposition(upload.name))
    response.set_header("Content-Length", str(span.count))
    response.body = FileSpan(file, span)
    return response


# ======================================================================================================================
# Page: what browsers load by themselves, and how it is rendered
# ======================================================================================================================

OWN_PAGE = HOME / "index.html"  # if it is there, it is used in place of PAGE

_SETTINGS_BLOCK = re.compile(r'(<script type="application/json" id="settings">).*?(</script>)', re.DOTALL)
MAX_RUN_BYTES = 95 * MIB  # of one request of the page; many proxies take none of more than 100 MB
_HEADING = re.compile(r"(<(title|h1)>Drop files)(?=</\2>)")
_SAFE_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+", re.ASCII)


# dropzone: begin (filled by "python build.py script")
EMBEDDED: dict[str, str] = {}
# dropzone: end


@functools.lru_cache
def dropzone_file(name: str) -> bytes | None:
    """A file of Dropzone: inside this module, beside the script, or inside the exe. None if it is nowhere."""
    if name in EMBEDDED:
        return zlib.decompress(base64.b85decode(EMBEDDED[name]))
    with contextlib.suppress(OSError):
        return (Path(getattr(sys, "_MEIPASS", Path(__file__).parent)) / name).read_bytes()
    return None


def dropzone_address(settings: Settings, route: str) -> tuple[str, str]:
    """Where the page gets one of Dropzone's files, and the hash to hold it to, if it is known.

    From this server when it has the file and no CDN was asked for; cdnjs lays out 5.x and 6.x differently.
    """
    file, integrity = DROPZONE_FILES[route]
    ours = settings.dz_cdn is None and settings.dz_version == DROPZONE_VERSION
    if ours and dropzone_file(file) is not None:
        return route, ""
    if settings.dz_version.startswith("5."):
        file = f"min/{Path(route).stem}.min{Path(route).suffix}"
    address = f"{settings.dz_cdn or DROPZONE_CDN}/{settings.dz_version}/{file}"
    return address, integrity if settings.dz_version == DROPZONE_VERSION else ""


def _csp_address(address: str) -> str:
    """How a policy names an address on another server: just this one, without what stands behind its path.

    Empty for one on this server, and for what is none.
    """
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return ""
    if parts.scheme.lower() not in ("", "http", "https") or not _SAFE_HOST.fullmatch(parts.netloc):
        return ""
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f"{scheme}{parts.netloc}{quote(parts.path or '/', safe='/%:@!$&()*+=~')}"


class _Sources(HTMLParser):
    """What a page loads and runs, by the directives of its Content-Security-Policy."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.styles, self.images = {"'self'"}, {"'self'"}, {"'self'", "data:", "blob:"}
        self._block: list[str] | None = None  # the text of the script or style that is open
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "link" and "stylesheet" in found.get("rel", "").lower().split():
            self.styles.add(_csp_address(found.get("href", "")))
        elif tag in ("script", "img") and "src" in found:
            (self.scripts if tag == "script" else self.images).add(_csp_address(found["src"]))
        elif tag in ("script", "style"):
            self._block = []
        handlers = {_csp_hash(value) for name, value in found.items() if name.startswith("on")}
        self.scripts |= handlers | {"'unsafe-hashes'"} if handlers else set()

    def handle_data(self, data: str) -> None:
        if self._block is not None:
            self._block.append(data)

    def handle_endtag(self, tag: str) -> None:
        if self._block is not None and tag in ("script", "style"):
            (self.scripts if tag == "script" else self.styles).add(_csp_hash("".join(self._block)))
            self._block = None


def page_policy(page: str, is_own: bool) -> str:
    """The Content-Security-Policy of a page: it may run and load what stands in it, and nothing else.

    So what somebody manages to put into the page later, through a name for instance, runs nothing. Whoever laid a page
    of their own beside the script is trusted with what stands in it, attributes with styles and handlers among that.
    """
    found = _Sources(page)
    directives = {
        "default-src": {"'none'"},
        "script-src": found.scripts,
        "style-src": found.styles,
        "style-src-attr": {"'unsafe-inline'"} if is_own else set(),
        "img-src": found.images,
        "connect-src": {"'self'"},
        "form-action": {"'self'"},
        "base-uri": {"'none'"},
        "frame-ancestors": {"'none'"},
    }
    return "; ".join(
        f"{name} {' '.join(sorted(filter(None, sources)))}" for name, sources in directives.items() if sources
    )


def render_page(settings: Settings, source: str, asks: bool = False, free: int | None = None) -> tuple[str, str]:
    """The page with the settings put in, and its Content-Security-Policy.

    So many bytes are free for uploads. Where a password is asked for, it shows the button to sign out.
    """
    facts = {
        "version": __version__,
        "title": settings.machine,
        "free": free,
        "maxSize": min(settings.max_bytes, settings.max_total_bytes or settings.max_bytes),
        "timeout": settings.timeout,
        "parallelChunks": settings.lanes,
        "formBytes": settings.chunk_bytes(0),
        "forceChunking": not settings.disable_force_chunking,
        "runBytes": MAX_RUN_BYTES,
        "downloads": settings.allow_downloads,
    }
    block = json.dumps(facts).replace("<", "\\u003c")
    page = _SETTINGS_BLOCK.sub(lambda match: match[1] + block + match[2], source, count=1)
    page = _HEADING.sub(lambda match: f"{match[1]} to {html.escape(settings.machine)}", page)
    if asks:
        page = page.replace(' id="leave" hidden>', ' id="leave">')
    for route in DROPZONE_FILES:
        address, integrity = dropzone_address(settings, route)
        if address != route:
            check = f' integrity="{integrity}" crossorigin="anonymous"' if integrity else ""
            page = page.replace(f'"{route}"', f'"{address}"{check}')
    return page, page_policy(page, is_own=source != PAGE)


def add_pages(app: bottle.Bottle, settings: Settings, store: Store, door: Door) -> None:
    """Adds to the app what a browser loads by itself: the page, the sign-in, Dropzone, the icon."""

    def send_sign_in(notice: str = "", link: str = "", status: int = HTTPStatus.OK.value) -> Any:
        return send_text(*render_plain_page(sign_in_body(notice, link), bottle.request.environ), status)

    def send_text(text: str, policy: str, status: int = HTTPStatus.OK.value) -> Any:
        response = bottle.HTTPResponse(text, status)
        response.set_header("Content-Type", "text/html; charset=utf-8")
        response.set_header("Content-Security-Policy", policy)
        response.set_header("Cache-Control", "no-store")
        return response

    def set_cookie(response: Any, kind: str, value: str, seconds: int) -> None:
        name, secure = door.cookie_name(kind), bottle.request.environ["wsgi.url_scheme"] == "https"
        response.set_cookie(name, value, path="/", max_age=seconds, httponly=True, samesite="lax", secure=secure)

    @app.get("/", public=True)
    def page() -> Any:
        if not door.is_open_to(bottle.request.environ):
            return send_sign_in()
        try:
            source = OWN_PAGE.read_text("utf-8")
        except FileNotFoundError:
            source = PAGE
        except (OSError, UnicodeDecodeError) as error:
            log.error("%s cannot be read: %s", OWN_PAGE, error)
            raise DropError("The server's index.html cannot be read.", "page-unreadable") from error
        response = send_text(*render_page(settings, source, door.asks, store.free()))
        set_cookie(response, "owner", door.owner_key() or str(uuidlib.uuid4()), OWNER_SECONDS)
        return response

    @app.post("/", public=True)
    def sign_in_or_out() -> Any:
        body: Body = bottle.request.environ["wsgi.input"]
        if body.length > MAX_FIELD_BYTES:
            raise TooLarge
        form = parse_qs(body.read_exactly(body.length).decode("utf-8", "replace"), keep_blank_values=True)
        link = form.get("link", [""])[0]
        location = f"./{link}" if _GIVEN_LINK.fullmatch(link) else "./"
        response = bottle.HTTPResponse(status=HTTPStatus.SEE_OTHER.value, headers={"Location": location})
        if "signout" in form:
            door.end_sessions()
            set_cookie(response, "session", "", 0)
            return response
        try:
            if door.knows(form.get("password", [""])[0], bottle.request.environ["REMOTE_ADDR"]):
                set_cookie(response, "session", door.new_session(), SESSION_SECONDS)
                return response
            return send_sign_in("That is not the password.", link)
        except TooManyTries as error:  # with the form, so that the next try needs no way back
            page = send_sign_in(str(error), link, error.status.value)
            page.headers.update(error.headers)
            return page

    def send(kind: str, data: bytes) -> Any:
        return bottle.HTTPResponse(data, headers={"Content-Type": kind, "Cache-Control": "no-cache"})

    @app.get("/favicon.ico", public=True)
    def favicon() -> Any:
        return send("image/svg+xml", ICON.encode())

    @app.get("/<route:re:dropzone[.](js|css)>", public=True)
    def dropzone(route: str) -> Any:
        data = dropzone_file(DROPZONE_FILES[route][0])
        if data is None:
            raise NotFound("Dropzone is not here; build.py dropzone gets it.")
        return send("text/javascript" if route.endswith(".js") else "text/css", data)


# ======================================================================================================================
# Server: Paste's server, with limits and an orderly end
# ======================================================================================================================

# Paste accepts connections and Bottle answers requests. What lies between them is ours, because there Paste trusts its
# clients: it waits for them without end, and believes any length that they announce.
#
# - Each connection has a thread for itself, the one that waited for it. So no connection is handed over from thread to
#   thread, and a slow client costs no more than a thread that sleeps. A pool of a few threads would be stopped by a few
#   slow clients.
# - When all places are taken, the connection that has been without a request for longest is ended for the new one. So
#   those who only hold a place cannot shut others out.
# - A thread has the turn (see Turn) from the request's head to its answer, but not while it waits for its client.
# - An answer may be given before the request was read to its end. Then the client is heard for a while longer before
#   the socket is closed: to close it with bytes unread resets the connection, and the client loses the answer.
# - A head that can be read in two ways ends its connection: nobody can say where the next request would begin.

#: Bottle writes a bug's traceback here, and waits for whoever reads it. The log has it already.
_NO_STREAM = types.SimpleNamespace(write=lambda text: None, flush=lambda: None)
_EVERY_ANSWER = {  # unless it says otherwise itself
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with "no-referrer" a browser would send our own form with "Origin: null"
    "Cross-Origin-Resource-Policy": "same-origin",
    # What a browser shows has an icon, also a sentence.
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


@functools.lru_cache(maxsize=2)
def http_date(seconds: int) -> str:
    """The Date header (RFC 9110, 6.6.1), made once a second."""
    return email.utils.formatdate(seconds, usegmt=True)


def render_head(status: str, headers: Iterable[tuple[str, str]], is_last: bool) -> bytes:
    """Status line and headers of an answer (RFC 9112, 4 and 5), those that every answer has among them."""
    lines = [f"HTTP/1.1 {status}", f"Date: {http_date(int(time.time()))}"]
    missing = _EVERY_ANSWER.copy()
    for name, value in headers:
        lines.append(f"{name}: {value}")
        missing.pop(name, None)
    for name, value in missing.items():
        lines.append(f"{name}: {value}")
    if is_last:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Handler(httpserver.WSGIHandler):
    """One connection. Paste's handler, but heads are read strictly, and answers are written in one piece."""

    protocol_version = "HTTP/1.1"
    server: Server
    request: Any  # the socket
    wire: Wire

    def setup(self) -> None:
        """Once for the connection, in its own thread."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)  # each answer goes out in one piece
        self.wire = Wire(self.request, self.server.tls)  # in place of the files that socketserver makes of a socket
        self.buffer = b""
        self.requests = 0
        self.server.idle[self] = True

    def handle(self) -> None:
        """One request after the other. Raises OSError when the client cannot shake hands for TLS."""
        self.wire.open()
        super().handle()

    def finish(self) -> None:
        """Once at the end of the connection."""
        self.server.idle.pop(self, None)
        if self.server.tls:
            self.wire.close()  # the server knows only the socket below it

    def handle_one_request(self) -> None:
        """Reads one head, lets the app answer, and leaves the connection fit for the next request or closed."""
        self.close_connection = True
        self.body: Body | None = None
        self.environ: dict[str, Any] | None = None
        self.status, self.wire.sent = 0, 0
        self.client = self.client_address[0]
        data = self._read_head()
        if data is None or not self.server.idle.pop(self, False):  # no longer there: its time was up just now
            return
        TURN.take()
        started = time.perf_counter()
        try:
            self.environ = parse_head(data)
            self.wsgi_execute(self.environ)
        except DropError as error:
            self.close_connection = True
            if not self.status:  # the request never got to the app, for its head could not be trusted
                status, headers, body = render_error(error, {})
                with contextlib.suppress(OSError):
                    self._answer(status, headers.items(), body)
        except OSError:  # the client went away
            self.close_connection = True
        finally:
            if self.status:
                self._log(time.perf_counter() - started)
            # To close a socket with bytes unread resets the connection, and the client would lose the answer.
            is_read = self.body is not None and not self.body.remaining
            if not is_read or (self.close_connection and (self.buffer or self.wire.has_more())):
                self.wire.linger()
            self.server.idle[self] = True  # from now on, so it stands behind all that have been idle for longer
            self.requests += 1

    def _read_head(self) -> bytes | None:
        """The next request's head without its last empty line; None when no request comes.

        What was received beyond it stays in self.buffer.
        """
        data, self.buffer = self.buffer, b""
        deadline = time.monotonic() + (KEEP_ALIVE_SECONDS if self.requests else HEAD_SECONDS)
        while (end := data.find(b"\r\n\r\n")) < 0 and len(data) <= MAX_REQUEST_LINE_BYTES + MAX_HEADERS_BYTES:
            if self.server.stopping.is_set() and not data:
                return None
            seconds = deadline - time.monotonic()
            try:
                more = seconds > 0 and self.wire.receive_after_others(HEAD_BLOCK_BYTES, seconds)
            except (OSError, TooSlow):
                return None
            if not more:
                return None
            if not data:  # from its first byte on a head has so long, however slowly the rest of it comes
                deadline = time.monotonic() + HEAD_SECONDS
            data += more
        if end < 0:
            end = len(data)
        self.buffer = data[end + 4 :]
        return data[:end]

    def wsgi_execute(self, environ: dict[str, Any]) -> None:
        """Lets the app answer the request whose head is in environ, to which it adds what only the server knows."""
        if self.server.proxies:
            self.client = client_of(self.client, environ.get("HTTP_X_FORWARDED_FOR", ""), self.server.proxies)
        self.close_connection = not keeps_alive(environ) or self.server.stopping.is_set()
        length = int(environ["CONTENT_LENGTH"])
        self.body = Body(self.wire, length, self.buffer, "HTTP_EXPECT" in environ)
        self.buffer = self.buffer[length:]
        environ.update(self.server.environ)
        environ["wsgi.input"], environ["REMOTE_ADDR"] = self.body, self.client
        self.wsgi_curr_headers, self.wsgi_headers_sent = None, False
        result = self.server.wsgi_application(environ, self.wsgi_start_response)
        try:
            assert self.wsgi_curr_headers is not None
            status, headers = self.wsgi_curr_headers
            self.close_connection = self.close_connection or self.body.remaining > 0
            if isinstance(result, FileSpan):
                self._answer(status, headers, b"")
                if not self.wire.send_file(result.file, result.span):
                    self.close_connection = True  # nothing else can say now that the file has become shorter
            elif isinstance(result, Stream):
                self._answer(status, headers, b"")
                with TURN.paused():
                    for block in result.blocks:
                        self.wire.send(block)
            else:
                self._answer(status, headers, b"".join(result))
        finally:
            if hasattr(result, "close"):
                result.close()

    def _answer(self, status: str, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Sends status line, headers and body, all in one piece."""
        self.status = int(status[:3])
        self.wire.send(render_head(status, headers, self.close_connection) + body)

    def _log(self, seconds: float) -> None:
        environ = self.environ or {"REQUEST_METHOD": "-", "REQUEST_URI": "-"}  # of a head that was refused
        method, target = environ["REQUEST_METHOD"], environ["REQUEST_URI"]
        if len(target) > MAX_LOG_TARGET_CHARS:
            target = hide_uuids(target)[:MAX_LOG_TARGET_CHARS] + "..."
        received = self.body.length - self.body.remaining if self.body else 0
        log.info(
            "%s %s %s %d in=%d out=%d %.3fs",
            self.client, method, target, self.status, received, self.wire.sent, seconds,
        )  # fmt: skip


class Server(httpserver.WSGIServer):
    """Paste's server with workers that wait for connections themselves, a limit to their number, an orderly end.

    A worker is a thread that serves one connection after the other. There is always one more worker than there are
    connections; it waits for the next connection, which then need not wait until a thread has started.
    """

    request_queue_size = 1024  # bursts wait here, not for a second TCP attempt
    allow_reuse_address = os.name != "nt"  # on Windows it would let two servers share a port

    def __init__(
        self,
        app: Callable[..., Any],
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        proxies: Iterable[str] = (),
    ) -> None:
        self.tls = tls
        self.proxies = frozenset(proxies)  # addresses whose word about their clients counts
        self.scheme = "https" if tls else "http"
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.max_connections = MAX_CONNECTIONS
        self.stopping = threading.Event()
        self._changed = threading.Condition()  # guards what follows
        self._idle_workers = 0
        self._connections: Counter[str] = Counter()  # by address
        # The connections without a request, the one that has been so for longest first. Whoever takes one out, its own
        # thread for a request or another to end it, has it: taking out is one step, so this needs no lock.
        self.idle: dict[Handler, bool] = {}
        super().__init__(app, (host, port), Handler)

    def server_bind(self) -> None:
        """Without the look-up of the machine's name that http.server does, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.environ = {  # what is the same for every request (PEP 3333)
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": self.scheme,
            "wsgi.errors": _NO_STREAM,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": lambda file: file,  # the handler knows how to send it
            "SCRIPT_NAME": "",
            "SERVER_NAME": self.server_name,
            "SERVER_PORT": str(self.server_port),
        }

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Until stop(). This thread only waits, in pieces, because on Windows a signal reaches it only between them."""
        with self._changed:
            self._add_worker()
        while not self.stopping.wait(poll_interval):
            pass

    def _add_worker(self) -> None:
        threading.Thread(target=self._work, daemon=True).start()
        self._idle_workers += 1

    def _work(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, address = self.get_request()
            except OSError:  # closed, or out of descriptors: then others must end first
                self.stopping.wait(0.1)
                continue
            with self._changed:
                self._idle_workers -= 1
                if not self._idle_workers:
                    with contextlib.suppress(RuntimeError):  # no more threads: who is done first waits next
                        self._add_worker()
            TURN.take()
            self._serve(connection, address)
            TURN.give_up()
            with self._changed:
                if self._idle_workers >= SPARE_WORKERS:
                    return
                self._idle_workers += 1

    def _serve(self, connection: Any, address: Any) -> None:
        host, connections = address[0], self._connections
        with self._changed:
            connections[host] += 1
            admitted = not self._is_too_full(host)
        if not admitted:
            with TURN.paused(), self._changed:
                admitted = self._make_room(host)
        try:
            if admitted:
                self.finish_request(connection, address)
            else:
                status, headers, body = render_error(Unavailable(), {})
                connection.setblocking(False)  # who is refused is not waited for
                connection.send(render_head(status, headers.items(), is_last=True) + body)
        except Exception:
            self.handle_error(connection, address)
        finally:
            self.shutdown_request(connection)
            with self._changed:
                connections[host] -= 1
                if not connections[host]:
                    del connections[host]
                self._changed.notify_all()

    def _is_too_full(self, host: str) -> bool:
        return self._connections.total() > self.max_connections or self._has_too_many(host)

    def _has_too_many(self, host: str) -> bool:
        """Whether one address has more than it may; a proxy has those of all its visitors."""
        return self._connections[host] > MAX_CONNECTIONS_PER_ADDRESS and plain_address(host) not in self.proxies

    def _make_room(self, host: str) -> bool:
        """Ends an idle connection for the one from host that has just been counted. Returns whether that may come in.

        Whoever comes is counted before there is room, so that nobody takes the place which another one waits for.
        """
        while self._is_too_full(host):
            own_only = self._has_too_many(host)
            idle = [handler for handler in list(self.idle) if not own_only or handler.client_address[0] == host]
            if not any(self._end_idle(handler) for handler in idle):  # any() stops at the first that it could end
                return False
            self._changed.wait_for(lambda: not self._is_too_full(host), MAKE_ROOM_SECONDS)
        return True

    def _end_idle(self, handler: Handler) -> bool:
        """Ends a connection, unless it has a request by now. Returns whether it did."""
        if not self.idle.pop(handler, False):
            return False
        handler.wire.end()
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left before it said anything, or a bug, which is logged; the others go on."""
        if isinstance(sys.exc_info()[1], OSError):
            return
        log.exception("bug in the connection of %s", client_address[0])

    def stop(self, seconds: float) -> bool:
        """No new connections; idle ones are closed, busy ones get so many seconds to end. Returns whether all did."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the workers that wait for a connection
        self.server_close()
        for handler in list(self.idle):
            self._end_idle(handler)
        with self._changed:
            return self._changed.wait_for(lambda: not self._connections, seconds)


def descriptors() -> float:
    """How many this process may have. Asks for as many as it can need; many systems begin with fewer."""
    try:
        import resource  # not on Windows, which has no such limit
    except ImportError:
        return math.inf
    wanted = DESCRIPTORS_A_CONNECTION * MAX_CONNECTIONS + MAX_OPEN_UPLOADS + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft


def fit_descriptors(server: Server, store: Store, count: float) -> None:
    """Lets in no more connections, and no more uploads at a time, than so many descriptors suffice for."""
    needed = DESCRIPTORS_A_CONNECTION * server.max_connections + store.max_open_uploads
    share = min(1.0, (count - OTHER_DESCRIPTORS) / needed)
    server.max_connections = max(1, int(share * server.max_connections))
    store.max_open_uploads = max(1, int(share * store.max_open_uploads))


# ======================================================================================================================
# Command line: what is asked for, what is said, and the log
# ======================================================================================================================


def read_password(settings: Settings) -> str | None:
    """What to ask visitors for. It never stands on the command line, where every user of the machine could read it."""
    password = os.environ.get("PYFILEDROP_PASSWORD")
    try:
        if settings.password_file is not None:  # Windows's editor puts a mark before the text
            password = settings.password_file.read_text("utf-8-sig").partition("\n")[0].rstrip("\r")
        (password or "").encode()
    except (OSError, UnicodeError) as error:
        raise StartError(f"The password cannot be read: {error}.") from error
    if password == "":
        raise StartError("The password is empty.")
    return password


class LogWriter(logging.Handler):
    """The log's way to stderr or into a file. Requests only hand their lines over; a thread writes them.

    Whoever reads the log may stop reading (a full pipe, Ctrl-S, text selected in a console), and then no request may
    wait for it: lines that find MAX_LOG_LINES before them are left out, and a later line says how many. The bytes go
    straight to the descriptor, for a stream would be locked while it waits, and Python wants that lock when it ends.
    """

    def __init__(self, path: Path | None) -> None:
        """`path` is the file, None is stderr. Raises OSError when the file cannot be opened."""
        super().__init__()
        self._path = path
        self._open()
        self._records: deque[logging.LogRecord] = deque()
        self._left_out = 0  # since the start; changed with the handler's lock held
        self._news, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hands a line over. Called with the handler's lock held, as `logging` does.

        The thread makes the text of it, for many lines at once. In a request that took a tenth of all its time.
        """
        if len(self._records) < MAX_LOG_LINES:
            # It may be about an error, which would hold on to the bytes that it was met with.
            if record.levelno >= logging.WARNING:
                record.msg, record.args = record.getMessage(), None
            self._records.append(record)
        else:
            self._left_out += 1
        if not self._news.is_set():
            self._news.set()

    def close(self) -> None:
        """Waits until all is written, but not for long. `logging` calls this when the program ends."""
        if not self._ending.is_set():
            self._ending.set()
            self._news.set()
            self._thread.join(LOG_END_SECONDS)
        super().close()

    def _open(self) -> None:
        self._fd = -1
        self._size = -math.inf  # only regular files grow too large
        self._encoding = "utf-8"
        if self._path is not None:  # readable by this user only: it tells who sent what, and when
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._fd = os.open(self._path, flags, 0o600)
            status = os.fstat(self._fd)
            if stat.S_ISREG(status.st_mode):
                self._size = status.st_size
                if hasattr(os, "fchmod"):
                    with contextlib.suppress(OSError):  # somebody else's file
                        os.fchmod(self._fd, stat.S_IMODE(status.st_mode) & ~stat.S_IRWXO)
        elif sys.stderr is not None:  # a program without a console may have none
            self._fd = sys.stderr.fileno()
            self._encoding = "ascii" if os.name == "nt" else sys.stderr.encoding  # a console there has its own

    def _work(self) -> None:
        reported, ending = 0, False  # of the lines that were left out, how many a line has spoken of
        while not ending:
            self._news.wait()
            ending = self._ending.is_set()
            self._news.clear()
            count = len(self._records)
            lines = list(self._texts(count))
            missing = self._left_out - reported
            if missing:
                text = f"{missing} of the log's lines are missing here, for nobody was reading it"
                lines.append(self.format(logging.makeLogRecord({"msg": text})))
            try:
                self._write("".join(f"{line}\n" for line in lines))
                reported += missing
            except OSError:  # the reader is gone, or the disk is full: these are missing too, and perhaps it goes later
                reported -= count
            self._ending.wait(LOG_PAUSE_SECONDS)
        if self._path is not None and self._fd >= 0:
            os.close(self._fd)

    def _texts(self, count: int) -> Iterator[str]:
        for _ in range(count):
            record = self._records.popleft()
            try:
                yield self.format(record)
            except Exception:  # a mistake in one line's format costs this line, not the log
                self.handleError(record)

    def _write(self, text: str) -> None:
        data = hide_uuids(text).replace("\n", os.linesep).encode(self._encoding, "backslashreplace")
        if self._size + len(data) > MAX_LOG_BYTES or (self._path is not None and self._fd < 0):
            self._roll_over()
        self._size += len(data)
        while data and self._fd >= 0:
            data = data[os.write(self._fd, data) :]

    def _roll_over(self) -> None:
        """Begins a new file; those of before become .1 to .3."""
        assert self._path is not None
        if self._fd >= 0:
            os.close(self._fd)
            names = [str(self._path), *(f"{self._path}.{number}" for number in range(1, LOG_GENERATIONS + 1))]
            for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
                with contextlib.suppress(OSError):  # not there yet, or on Windows open elsewhere
                    os.replace(newer, older)
        self._open()


def set_up_log(settings: Settings) -> None:
    """Sends the log where the settings want it. Raises StartError."""
    try:
        handler = LogWriter(settings.log_file)
    except OSError as error:
        raise StartError(f"The log file {settings.log_file} cannot be written: {error.strerror}.") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    # What our lines do not show need not be found out for each of them (the logging module's page on optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    log.addHandler(handler)
    log.setLevel(logging.WARNING if settings.quiet else logging.INFO)


def make_server(settings: Settings, store: Store) -> Server:
    """The server, listening. Raises StartError."""
    door = Door(read_password(settings), store.record)
    app = make_app(settings, store, door)
    add_pages(app, settings, store, door)
    tls = None
    if settings.tls_cert:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            tls.load_cert_chain(settings.tls_cert, settings.tls_key)
        except OSError as error:  # what the ssl module reports is one too
            raise StartError(f"The certificate {settings.tls_cert} or its key cannot be used: {error}.") from error
    try:
        return Server(app, settings.host, settings.port, tls, settings.trusted_proxy or ())
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StartError(f"Cannot listen on {ascii(settings.host)}, port {settings.port}: {reason}.") from error


def page_addresses(settings: Settings, server: Server) -> list[str]:
    """The page's addresses, the one for others on the network first, the one for this machine last."""
    here = f"[{settings.host}]" if ":" in settings.host else settings.host
    hosts = [host for host in (lan_address(), "127.0.0.1") if host] if settings.listens_everywhere else [here]
    return [f"{server.scheme}://{host}:{server.server_port}/" for host in hosts]


def describe_start(settings: Settings, store: Store, server: Server) -> Iterator[str]:
    """What is in force, line by line."""
    yield f"pyfiledrop {__version__}"
    for address in page_addresses(settings, server):
        yield f"  open       {address}{'  (on this machine)' if '//127.0.0.1:' in address else ''}"
    yield f"  storage    {settings.storage}"
    yield f"  unfinished {settings.chunks}  ({human_size(store.free() or 0)} free)"
    total = f", {human_size(settings.max_total_bytes)} in all" if settings.max_total_bytes else ""
    chunks = f"chunks of {human_size(settings.chunk_bytes(0))} or more, {settings.lanes} at a time"
    yield f"  limits     {human_size(settings.max_bytes)} a file{total}; {chunks}"
    links = "allowed: whoever has a file's link can fetch it" if settings.allow_downloads else "off; -a allows them"
    yield f"  downloads  {links}"
    if settings.password_file or "PYFILEDROP_PASSWORD" in os.environ:
        yield f"  password   asked for{', but not for links' if settings.public_links else ''}"
    names = ", ".join(["addresses", "localhost", *sorted(own_names(settings))])
    yield f"  answers to {names}; --allow-host adds others"
    if settings.trusted_proxy:
        yield f"  proxies    {', '.join(settings.trusted_proxy)}"
    if OWN_PAGE.exists():
        yield f"  page       {OWN_PAGE}"
    if settings.no_fsync:
        yield "  fsync      off: a power cut may cost finished files"
    asked_for_a_cdn = settings.dz_cdn is not None or settings.dz_version != DROPZONE_VERSION
    if not asked_for_a_cdn and any(dropzone_file(name) is None for name, _ in DROPZONE_FILES.values()):
        lack = "the page loads it from a CDN, and without internet it is a plain form"
        yield f"  note       Dropzone is not beside the script; {lack}."
    for finding in store.findings:
        yield f"  note       {finding}"
    yield "Ctrl-C ends it."


def say_at_the_end(line: str) -> None:
    """Prints a line, unless nobody reads it: that must not keep the program from ending (see LogWriter)."""

    def write() -> None:
        with contextlib.suppress(OSError):
            os.write(sys.stdout.fileno(), (line + os.linesep).encode())

    if sys.stdout is not None:
        thread = threading.Thread(target=write, daemon=True)
        with contextlib.suppress(RuntimeError):  # no more threads
            thread.start()
            thread.join(LOG_END_SECONDS)


def show_code(address: str) -> None:
    """Prints the address as a QR code for phones, where a person sees it."""
    if sys.stdout and sys.stdout.isatty():
        with contextlib.suppress(UnicodeEncodeError):  # a terminal without block characters
            "▀▄█".encode(sys.stdout.encoding)
            segno.make(address, error="l").terminal(compact=True, border=2)


def is_double_clicked(argv: list[str] | None) -> bool:
    """Whether this is the exe, started as people without a terminal do: with no arguments, on a screen."""
    arguments = sys.argv[1:] if argv is None else argv
    screen = sys.platform in ("win32", "darwin") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return FROZEN and screen and not arguments


class _Stop(BaseException):
    """Raised in the main thread by a signal; not an Exception, which socketserver would take for a request's."""


def _on_signal(number: int, frame: object) -> None:
    _handle_signals(signal.SIG_IGN)  # it may come twice: to a terminal's whole group, and passed on by an exe's outside
    raise _Stop


def _handle_signals(handler: Any) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):  # the last two: a closed window, Windows's Ctrl-Break
        if hasattr(signal, name) and not (name == "SIGHUP" and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN):
            signal.signal(getattr(signal, name), handler)


def main(argv: list[str] | None = None) -> int:
    """Runs the server until Ctrl-C or SIGTERM. Returns the exit status: 0, or 2 when it cannot start."""
    if hasattr(sys.stdout, "reconfigure"):  # a folder's name may be one that a file or a console cannot write
        sys.stdout.reconfigure(errors="backslashreplace")
    settings = Settings.parse(argv)
    clicked = is_double_clicked(argv)
    try:
        set_up_log(settings)
        opened = open_store(
            settings.storage,
            settings.chunks,
            fsync=not settings.no_fsync,
            max_total_bytes=settings.max_total_bytes,
            stale_seconds=settings.stale_hours * 3600,
        )
        with contextlib.closing(opened) as store:
            server = make_server(settings, store)
            fit_descriptors(server, store, descriptors())
            try:
                _handle_signals(_on_signal)
                addresses = page_addresses(settings, server)
                for line in describe_start(settings, store, server):
                    print(line, flush=True)
                show_code(addresses[0])
                if clicked and not settings.no_open:
                    webbrowser.open(addresses[-1])
                server.serve_forever()
            except _Stop:
                say_at_the_end("Stopping.")
            if not server.stop(1):
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                say_at_the_end(f"Waiting up to {STOP_SECONDS} s for what is on its way; Ctrl-C ends it at once.")
                server.stop(STOP_SECONDS)
    except StartError as error:
        print(f"pyfiledrop: {error}", file=sys.stderr)
        if clicked:  # or the window is gone before the sentence is read
            with contextlib.suppress(EOFError):
                input("Press Enter to close this window.")
        return 2
    return 0


# ======================================================================================================================
# Inline pages: what browsers get as it is; at the end, so that nobody scrolls through it to read code
# ======================================================================================================================

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#2563eb"/>'
    '<path d="M16 7v12m-5-5 5 5 5-5M8 24h16" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round"'
    ' stroke-linejoin="round"/></svg>'
)

#: The look of our pages without a script, in the colours of index.html.
LOOK = """
:root {
  --ground: #f4f5f7; --surface: #fff; --text: #1a1e24; --quiet: #566070; --line: #dfe3e9; --edge: #7f8a9b;
  --accent: #2b57cf; --accent-deep: #2146aa; --on-accent: #fff; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #121519; --surface: #1b1f25; --text: #e8ebef; --quiet: #a4aebb; --line: #2e343d; --edge: #6f7b8b;
    --accent: #96b4ff; --accent-deep: #b3c9ff; --on-accent: #0e1a38; --bad: #ffb0a6;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
main { display: grid; gap: 1rem; max-width: 46rem; margin: 0 auto; padding: clamp(1rem, 4vw, 3rem) 1rem; }
h1, p, ul { margin: 0; padding: 0; }
h1 { font-size: 1.125rem; font-weight: 650; letter-spacing: -.01em; overflow-wrap: anywhere; }
ul { list-style: none; background: var(--surface); border: 1px solid var(--line); border-radius: .75rem; }
li { display: flex; gap: 1rem; justify-content: space-between; padding: .625rem 1rem; }
li { border-top: 1px solid var(--line); }
li:first-child { border-top: 0; }
li > :first-child { overflow-wrap: anywhere; min-width: 0; }
small { color: var(--quiet); font-size: .875rem; white-space: nowrap; }
a { color: var(--accent); }
form { display: grid; gap: .75rem; width: min(20rem, 100%); margin: 15vh auto 0; }
input { font: inherit; color: inherit; background: var(--surface); padding: .625rem .75rem; }
input { border: 1px solid var(--edge); border-radius: .5rem; }
[role=status] { color: var(--bad); font-size: .875rem; min-height: 1.5rem; }
button, .button {
  display: inline-block; border: 0; border-radius: .5rem; padding: .625rem 1.25rem; cursor: pointer;
  background: var(--accent); color: var(--on-accent); font: inherit; font-weight: 600; text-decoration: none;
}
button:hover, .button:hover { background: var(--accent-deep); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
@media (forced-colors: active) { button, .button { border: 1px solid; } }
"""

PLAIN_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<link rel="icon" href="${root}favicon.ico">
<style>$look</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

SIGN_IN = Template("""<form action="$root" method="post">
<h1>Sign in to drop files</h1>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required autofocus>
<input type="hidden" name="link" value="$link">
<span role="status">$notice</span>
<button>Sign in</button>
</form>""")

ERROR_PAGE = Template("""<h1>$sentence</h1>
<p><a href="$root">To the page</a></p>""")

RECEIVED_PAGE = Template("""<h1>$count received</h1>
<ul>
$files
</ul>
<p><a class="button" href="$root">Drop more</a></p>""")

DROP_PAGE = Template("""<h1>$heading</h1>
<p><a class="button" href="$zip">Download all as ZIP</a> <small>$size</small></p>
<ul>
$files
</ul>
$more""")

MORE_FILES = Template('<p><a href="$link">More files</a></p>')

# page: begin (made from index.html by "python build.py page")
PAGE = r'''<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Drop files</title>
<link rel="icon" href="favicon.ico">
<style>
:root {
  --ground: #f4f5f7; --surface: #fff; --tint: #f8faff; --text: #1a1e24; --quiet: #566070; --line: #dfe3e9; --edge: #7f8a9b; --rim: #c3cad5;
  --accent: #2b57cf; --accent-deep: #2146aa; --on-accent: #fff; --good: #17693f; --warn: #8a5300; --bad: #b3261e;
  --shadow: 0 1px 2px rgb(20 30 50 / 6%), 0 6px 20px rgb(20 30 50 / 7%);
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #121519; --surface: #1b1f25; --tint: #1c222d; --text: #e8ebef; --quiet: #a4aebb; --line: #2e343d; --edge: #6f7b8b; --rim: #47505d;
    --accent: #96b4ff; --accent-deep: #b3c9ff; --on-accent: #0e1a38; --good: #7fd6a4; --warn: #f0bd6a; --bad: #ffb0a6;
    --shadow: 0 6px 20px rgb(0 0 0 / 40%);
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--ground); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: clamp(1rem, 4vw, 2.5rem) clamp(.75rem, 4vw, 1.5rem) 4rem; }
h1, h2, p, ul { margin: 0; padding: 0; }
h1 { font-size: 1.375rem; font-weight: 650; letter-spacing: -.015em; line-height: 1.25; overflow-wrap: anywhere; min-width: 0; }
h2 { font-size: .875rem; font-weight: 400; color: var(--quiet); }
ul { list-style: none; }
header { display: flex; gap: .5rem; align-items: center; justify-content: space-between; }
main > header { margin-bottom: 1rem; }
:focus-visible, #file:focus-visible ~ #drop, #folder:focus-visible + .or { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: .5rem; }
button, #drop, summary {
  border: 1px solid var(--rim); border-radius: .5rem; background: var(--surface); color: var(--text);
  font: inherit; font-size: .875rem; font-weight: 500; line-height: 1.25rem; padding: .375rem .75rem; cursor: pointer; white-space: nowrap;
}
button:hover, summary:hover { border-color: var(--accent); color: var(--accent); }
.plain, summary, #list .copy, #list .qr, #list .retry, #list .cancel { border-color: transparent; background: none; color: var(--quiet); font-weight: 400; }
.strong, #drop, #send { border-color: transparent; background: var(--accent); color: var(--on-accent); font-weight: 600; }
.strong:hover, .area:hover #drop, #send:hover { background: var(--accent-deep); color: var(--on-accent); }
.delete { border-color: var(--bad); color: var(--bad); }

/* The label of the file input reaches over the whole area, so a click anywhere in it opens the chooser. */
.area {
  position: relative; display: grid; justify-items: center; align-content: center; gap: .5rem; min-height: clamp(14rem, 40vh, 20rem); padding: 1.5rem;
  border: 2px dashed var(--edge); border-radius: 1rem; background: var(--surface); text-align: center;
}
.area:hover { border-color: var(--accent); background: var(--tint); }
.area svg { width: 3rem; height: 3rem; color: var(--accent); }
#drop { display: inline-grid; align-items: center; margin-top: .5rem; padding: .625rem 1.25rem; font-size: 1rem; }
#drop::after { content: ""; position: absolute; inset: 0; cursor: pointer; }
.or { position: relative; z-index: 1; padding: .25rem .5rem; color: var(--quiet); font-size: .875rem; text-decoration: underline; text-decoration-color: var(--rim); text-underline-offset: .2em; cursor: pointer; }
.or:hover { color: var(--accent); }
.hint, #plain { color: var(--quiet); font-size: .875rem; text-wrap: balance; }
.busy .area { grid-auto-flow: column; justify-content: center; align-items: center; min-height: 0; padding: .5rem 1rem; border-radius: .75rem; }
.busy .area svg, .busy .hint { display: none; }
.busy #drop { margin: 0; padding: .375rem .75rem; border-color: transparent; background: none; color: var(--accent); font-size: .9375rem; }

/* Without the script this is a plain form: the input shows itself and the button sends it. */
#file { max-width: 100%; font: inherit; color: inherit; }
.scripted :is(#file, #folder) { position: absolute; width: 1px; height: 1px; opacity: 0; pointer-events: none; }
.scripted :is(#send, #plain), html:not(.scripted) :is(#drop, #folder, .or, svg, .hint) { display: none; }
html:not(.scripted) .area { justify-items: start; min-height: 0; }
#plain { margin-top: .75rem; }
@media (hover: none) {
  .or, .keys { display: none; }
  button, #drop, summary { min-height: 2.75rem; min-width: 2.75rem; }
}

#status {
  position: sticky; z-index: 2; top: .5rem; display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: .375rem 1rem; align-items: center;
  min-height: 4rem; margin-top: .75rem; padding: .625rem 1rem; border: 1px solid var(--line); border-radius: .75rem; background: var(--surface); box-shadow: var(--shadow);
}
#news { font-weight: 550; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
#whole { grid-column: 1 / -1; }
[data-kind=outage] #news, [data-kind=paused] #news { color: var(--warn); }
[data-kind=failed] #news { color: var(--bad); }
[data-kind=done] #news { color: var(--good); }
.actions, .ask, .buttons { display: flex; flex-wrap: wrap; gap: .25rem .5rem; align-items: center; justify-content: end; }
progress {
  width: 100%; height: .375rem; border: 0; border-radius: 1rem; overflow: hidden; appearance: none; background: var(--line); color: var(--accent);
}
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: currentColor; border-radius: 1rem; }
progress::-moz-progress-bar { background: currentColor; border-radius: 1rem; }
:is([data-state=paused], [data-kind=paused], [data-kind=outage]) progress { color: var(--warn); }
@media (forced-colors: active) {
  progress { border: 1px solid; background: Canvas; color: Highlight; forced-color-adjust: none; }
  progress::-webkit-progress-bar { background: Canvas; }
}

#history { margin: 1.5rem .25rem 0; min-height: 2rem; }
#list li { display: grid; align-items: center; }
.drop { grid-template-columns: minmax(0, 1fr) auto; gap: 0 1rem; min-height: 2.75rem; padding: .5rem .25rem .25rem; }
.row {
  position: relative; grid-template-columns: minmax(0, 1fr) auto auto auto; gap: .125rem 1rem; min-height: 3rem; padding-block: .375rem; padding-inline: 1rem .5rem;
  background: var(--surface); border: solid var(--line); border-width: 0 1px 1px; font-size: .9375rem;
}
.drop + .row { border-top-width: 1px; border-top-left-radius: .75rem; border-top-right-radius: .75rem; }
.row:last-child, .row:has(+ .drop) { border-bottom-left-radius: .75rem; border-bottom-right-radius: .75rem; }
.row.inside { padding-inline-start: 2.25rem; }
.link { display: block; min-width: 0; color: inherit; text-decoration: none; border-radius: .25rem; }
.link[href] { color: var(--accent); text-decoration: underline; text-decoration-thickness: 1px; text-underline-offset: .2em; }
.name { display: inline-flex; max-width: 100%; text-decoration: inherit; vertical-align: bottom; white-space: pre; font-weight: 500; }
.name span:first-child { overflow: hidden; text-overflow: ellipsis; }
.name span + span { flex: none; }
.path { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: var(--quiet); font-size: .8125rem; }
.size, .status { color: var(--quiet); font-size: .875rem; font-variant-numeric: tabular-nums; }
.size { min-width: 4.5rem; text-align: end; white-space: nowrap; }
.row > .status { min-width: 2.5rem; }
.bar { position: absolute; inset: auto 1rem .125rem; width: auto; height: .25rem; }
[data-state=done] .status { color: var(--good); }
[data-state=paused] .status { color: var(--warn); }
[data-state=failed] .status { grid-row: 2; grid-column: 1 / -1; color: var(--bad); overflow-wrap: anywhere; padding-bottom: .25rem; }
[data-state=failed] .actions { grid-column: 3 / 5; }
.row .actions { min-width: 4.5rem; }
.folder .fold { grid-column: 1 / -1; display: flex; gap: .5rem; min-width: 0; padding: .25rem 0; border: 0; background: none; font-size: .9375rem; text-align: start; align-items: center; }
.folder .fold .name { min-width: 0; }
.fold::before { content: ""; flex: none; width: .5rem; height: .5rem; margin-inline: .125rem .25rem; border: solid; border-width: 0 .125rem .125rem 0; rotate: -45deg; }
.fold[aria-expanded=true]::before { rotate: 45deg; }
[dir=rtl] .fold[aria-expanded=false]::before { rotate: 135deg; }
.drop .fold::before { display: none; }
.ask { grid-column: 1 / -1; padding: .25rem 0; font-size: .875rem; }
.more { position: relative; }
summary { list-style: none; text-align: center; padding-inline: .5rem; }
summary::-webkit-details-marker { display: none; }
.menu { position: absolute; z-index: 1; inset-inline-end: 0; display: grid; min-width: 9rem; padding: .25rem; border: 1px solid var(--line); border-radius: .5rem; background: var(--surface); box-shadow: var(--shadow); }
.menu button { border: 0; text-align: start; }
@media (max-width: 36rem) {
  #qr-page { display: none; }
  main { padding-bottom: 9rem; }
  #status { position: fixed; inset: auto 0 0; top: auto; grid-template-columns: minmax(0, 1fr); padding: .75rem 1rem; border-width: 1px 0 0; border-radius: 0; }
  #status .actions { grid-row: 3; }
  .drop:has(.fold:not([hidden])) { grid-template-columns: minmax(0, 1fr); }
  .row { grid-template-columns: auto minmax(0, 1fr) auto; column-gap: .5rem; }
  .row[data-state=unfinished] .status { grid-column: 2 / -1; }
  .row[data-state=unfinished] .actions { grid-row: 1; }
  .row :is(.link, .path) { grid-column: 1 / 3; }
  .row .actions { grid-area: 1 / 3 / span 2; }
  .row .size { grid-row: 2; min-width: 0; }
  .row .status { grid-area: 2 / 2; }
  [data-state=failed] .status { grid-area: 3 / 1 / auto / -1; }
}

dialog { max-width: min(28rem, calc(100vw - 2rem)); padding: 1.5rem; border: 1px solid var(--line); border-radius: 1rem; background: var(--surface); color: var(--text); box-shadow: var(--shadow); }
dialog::backdrop { background: rgb(0 0 0 / 40%); }
dialog form { display: grid; gap: 1rem; }
dialog img { display: block; width: min(16rem, 60vw); aspect-ratio: 1; margin: 0 auto; background: #fff; }
dialog p { overflow-wrap: anywhere; }
dialog input[type=password] { width: 100%; padding: .5rem; border: 1px solid var(--edge); border-radius: .5rem; background: var(--ground); color: inherit; font: inherit; }
#notice:not(.unseen) { position: fixed; z-index: 3; inset: auto 1rem 1rem; width: fit-content; max-width: calc(100% - 2rem); margin: 0 auto; padding: .625rem 1rem; border-radius: .5rem; background: var(--text); color: var(--ground); font-size: .875rem; overflow-wrap: anywhere; }
.unseen { position: absolute; width: 1px; height: 1px; padding: 0; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
#overlay {
  position: fixed; inset: 0; z-index: 4; display: grid; place-items: center; padding: 2rem;
  background: var(--accent); color: var(--on-accent); font-size: clamp(1.75rem, 6vw, 3rem); font-weight: 650; letter-spacing: -.02em;
  outline: 3px dashed var(--on-accent); outline-offset: -1.25rem;
}
@media (prefers-reduced-motion: no-preference) {
  .area, button, #drop { transition: background-color .15s, border-color .15s, color .15s; }
  #overlay { animation: appear .12s; }
  @keyframes appear { from { opacity: 0; } }
}
</style>
</head>
<body>
<main>
  <header>
    <h1>Drop files</h1>
    <span class="actions">
      <button type="button" class="plain" id="qr-page" data-say="here" hidden></button>
      <form action="./" method="post" id="leave" hidden><button name="signout" class="plain" data-say="signOut">Sign out</button></form>
    </span>
  </header>
  <form action="upload" method="post" enctype="multipart/form-data" autocomplete="off">
    <div class="area">
      <svg viewBox="0 0 48 48" fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
        <path d="M24 30V8m-9 9 9-9 9 9M7 31v6a4 4 0 0 0 4 4h26a4 4 0 0 0 4-4v-6"/>
      </svg>
      <input id="file" type="file" name="file" multiple aria-label="Choose files" aria-describedby="hint">
      <label id="drop" for="file">Choose files</label>
      <input id="folder" type="file" webkitdirectory multiple>
      <label class="or" for="folder" data-say="folder"></label>
      <p class="hint"><span id="hint"></span> <span class="keys" data-say="paste"></span></p>
    </div>
    <button id="send">Upload</button>
    <p id="plain">This is the plain form, because the page’s script is switched off or could not be loaded. It uploads too, each
      file in one piece. Stay here until the server has answered.</p>
  </form>
  <section id="status" aria-label="Uploads" data-label="uploads" hidden>
    <p id="news"></p>
    <span class="actions">
      <button type="button" id="try-now" data-say="tryNow"></button>
      <button type="button" id="retry-all" data-say="retryAll"></button>
      <button type="button" id="pause"></button>
      <button type="button" id="cancel-all" data-say="cancelAll" class="plain"></button>
      <button type="button" id="copy-all" class="strong"></button>
      <button type="button" id="qr-all" data-say="qr"></button>
    </span>
    <progress id="whole" value="0"></progress>
  </section>
  <header id="history" hidden><h2 id="history-title" tabindex="-1" data-say="history"></h2> <button id="clear" type="button" class="plain" data-say="clear"></button></header>
  <ul id="list" role="list"></ul>
  <p id="notice" role="status" class="unseen"></p>
  <p id="heard" role="status" class="unseen"></p>
  <div id="overlay" data-say="overlay" hidden></div>
</main>
<dialog id="ask" aria-labelledby="question"><form method="dialog">
  <p id="question"></p>
  <input type="password" id="password" autocomplete="current-password" aria-labelledby="question">
  <label id="also"><input type="checkbox"> <span data-say="deleteToo"></span></label>
  <div class="buttons"><button value="yes" id="yes"></button> <button value="" id="no" formnovalidate></button></div>
</form></dialog>
<dialog id="qr" aria-labelledby="qr-name"><form method="dialog">
  <p id="qr-name"></p>
  <img alt="">
  <p class="hint"></p>
  <div class="buttons"><button type="button" class="share" data-say="share"></button> <button data-say="close"></button></div>
</form></dialog>

<template id="drop-line">
  <li class="drop"><h2></h2><span class="actions">
    <button type="button" class="fold" aria-expanded="false"></button>
    <button type="button" class="copy"></button>
    <button type="button" class="qr"></button>
  </span></li>
</template>
<template id="folder-line">
  <li class="row folder"><button type="button" class="fold" aria-expanded="false"><bdi class="name"></bdi> <span class="size"></span> <span class="status"></span></button></li>
</template>
<template id="file-line">
  <li class="row">
    <a class="link" download><bdi class="name" dir="auto"></bdi><bdi class="path"></bdi></a>
    <span class="size"></span>
    <span class="status"></span>
    <span class="actions">
      <button type="button" class="copy"></button>
      <button type="button" class="retry"></button>
      <button type="button" class="cancel"></button>
      <details class="more"><summary></summary><div class="menu"><button type="button" class="qr"></button><button type="button" class="remove"></button></div></details>
    </span>
    <span class="ask"><span></span> <button type="button" class="delete"></button> <button type="button" class="keep"></button></span>
    <progress class="bar" value="0"></progress>
  </li>
</template>

<script type="application/json" id="settings">{"version": "", "maxSize": 104857600000, "timeout": 120000, "parallelChunks": 4, "formBytes": 1048576, "forceChunking": true, "runBytes": 99614720, "downloads": false}</script>
<script src="dropzone.js"></script>
<script>
// The page's script. Dropzone gives the drop area, reads folders and holds the queue of files. Of its public methods
// `uploadFiles` is replaced: a file that it hands over is sent from there on by this script alone. `addFile` is wrapped: it
// gets thousands of files a few at a time.
//
//   1. Words     numbers, states and refusals to what a person reads; arithmetic with chunks. Pure functions.
//   2. Server    questions to the server, waiting for it while it is away, and what other tabs are sending.
//   3. Uploads   begin, runs of chunks in lanes, retry, resume, cancel. Nothing here knows how an upload looks.
//   4. List      what is seen: the news of the whole, and one list of drops, folders and files.
//   5. Wiring    what brings the sections and Dropzone together, and the start.
//   6. Messages  each sentence, in each language.
//
// Each section uses those above it. What happens below is asked for through `tell`, which the last sections fill.
// Plain http in a local network is the normal case, so nothing here may need a secure context: no Web Locks, no crypto.subtle.
(() => {
'use strict';

const MIB = 1024 * 1024;
const LEAST_SHARE_BYTES = 8 * MIB;
const RUN_SECONDS = 2;
const SLOW_SECONDS = 8;           // for a chunk: then fewer are sent at a time
const REQUESTS_AT_ONCE = 5;       // a browser has six connections per server; one is left for questions
const FILES_AT_ONCE = 8;          // more than lanes, so that a lane never waits for the answer to another file's beginning
const TRIES = 8;                  // failures in a row, with nothing more of the file in after any of them
const TIMES_ANEW = 3;             // that an upload may begin anew, or come to its end without being done
const LONGEST_PAUSE_S = 30;
const LONGEST_PROBE_S = 5;        // while somebody looks at the page
const LOOK_MS = 5000;             // in which nothing has moved: then a file is looked at, which may be gone
const ANSWER_MS = 300;            // in which other tabs say what they send
const TICK_MS = 250;
const COPY_BYTES = 16 * MIB;      // a file up to this size may be sent from memory
const ASK_AFTER_MS = 10000;       // what has run for longer is not cancelled by a slip
const FILE_WEIGHT = 20000;        // bytes that could be sent in the time that a file takes beside its bytes

const $ = (id) => document.getElementById(id);
const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, 1000 * seconds); });
const settings = JSON.parse($('settings').textContent);
const tell = {};

// ---- 1. Words ----

const tables = messages();
const tags = [new URLSearchParams(location.search).get('lang') ?? '', ...navigator.languages];
const language = tags.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => Object.hasOwn(tables, tag)) ?? 'en';
const locale = navigator.languages.find((tag) => tag.startsWith(language)) ?? language;
const isRightToLeft = language === 'ar';
const number = (options) => new Intl.NumberFormat(locale, options);
const whole = number({maximumFractionDigits: 0});
const tenths = number({maximumFractionDigits: 1});
const share = number({style: 'percent'});
const plural = new Intl.PluralRules(locale);
const FORMS = ['zero', 'one', 'two', 'few', 'many', 'other'];

// What is put into a sentence keeps its own direction of writing (Unicode TR9, isolates).
const isolate = (text) => isRightToLeft || /[\u0590-\u08ff]/.test(text) ? `\u2068${text}\u2069` : text;
const say = (key, values = {}) => {
  const forms = tables[language][key].split('|');   // one, others; in Arabic all six
  const form = plural.select(values.n ?? 0);
  const text = forms.length === 1 ? forms[0] : forms.length === 6 ? forms[FORMS.indexOf(form)] : forms[form === 'one' ? 0 : 1];
  return text.replace(/\{(\w+)\}/g, (_, name) => isolate(typeof values[name] === 'number' ? whole.format(values[name]) : `${values[name]}`));
};

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte', 'petabyte'];
const powerOf = (n) => n < 1000 ? 0 : Math.min(5, Math.floor(Math.log10(n + n / 2000) / 3));
const inUnit = (n, power) => (power && n / 1000 ** power < 99.95 ? tenths : whole).format(n / 1000 ** power);
const unit = UNITS.map((name) => [0, 1].map((digits) => number({style: 'unit', unit: name, unitDisplay: name === 'byte' ? 'long' : 'short', maximumFractionDigits: digits})));
const bytes = (n) => {
  const power = powerOf(n);
  return unit[power][power && n / 1000 ** power < 99.95 ? 1 : 0].format(n / 1000 ** power);
};
// A limit was typed as a number of MB, each of 1024 × 1024 bytes: it is said as it was meant.
const limit = (n) => bytes(n % MIB ? n : n / MIB * 1e6);
const inTime = (unit) => number({style: 'unit', unit, unitDisplay: 'short'});
const [hours, minutes, seconds] = ['hour', 'minute', 'second'].map(inTime);
const duration = (s) => s < 20 ? seconds.format(Math.ceil(s)) : s < 100 ? seconds.format(5 * Math.ceil(s / 5))
  : s < 5400 ? minutes.format(Math.round(s / 60)) : hours.format(Math.ceil(s / 1800) / 2);
const percent = (part, all) => share.format(all ? Math.floor(100 * part / all) / 100 : 0);

const clock = new Intl.DateTimeFormat(locale, {timeStyle: 'short'});
const date = new Intl.DateTimeFormat(locale, {dateStyle: 'medium', timeStyle: 'short'});
const relative = new Intl.RelativeTimeFormat(locale, {numeric: 'auto'});
const when = (ms) => {
  const days = Math.round((new Date(ms).setHours(12, 0, 0, 0) - new Date().setHours(12, 0, 0, 0)) / 864e5);
  if (days < -1 || days > 0) return isolate(date.format(ms));
  const day = relative.format(days, 'day');
  return isolate(`${day.charAt(0).toLocaleUpperCase(locale)}${day.slice(1)} ${clock.format(ms)}`);
};
const joined = (...parts) => parts.filter(Boolean).join(' · ');

// Of the values that come with a code, seconds decide the form of the sentence; the others are bytes.
const readable = ({seconds, ...sizes} = {}) => ({n: seconds, ...Object.fromEntries(Object.entries(sizes).map(([name, n]) => [name, bytes(n)]))});

// What is known by its code is said in the person's language, an unknown sentence of the server as it is, and a proxy's
// error page never.
const PROXY = {401: 'proxyLogin', 403: 'proxyRefused', 404: 'noServer', 413: 'proxySize', 502: 'proxyAway', 503: 'proxyAway', 504: 'proxyAway'};
const sentence = (status, body) => Object.hasOwn(tables[language], `${body?.code}`) ? say(body.code, readable(body.values))
  : typeof body?.error === 'string' ? body.error
  : PROXY[status] ? say(PROXY[status]) : say('proxyStatus', {status: `${status}`});

const stateOf = (upload, outage, isPaused) => upload.error ? 'failed' : upload.done ? 'done'
  : (outage && active.has(upload)) || upload.held || isPaused ? 'paused'
  : !upload.begun || upload.waits ? 'waiting' : upload.sent < upload.size ? 'sending' : 'finishing';

// Chunks are counted in ranges, as the server does: [[first, last], …].
const gaps = (count, ranges) => {
  const missing = [];
  let next = 0;
  for (const [first, last] of [...ranges].sort(([a], [b]) => a - b)) {
    if (first > next) missing.push([next, first - 1]);
    next = Math.max(next, last + 1);
  }
  if (next < count) missing.push([next, count - 1]);
  return missing;
};

const bytesIn = (ranges, {chunkSize, size}) =>
  ranges.reduce((sum, [first, last]) => sum + Math.min(size, (last + 1) * chunkSize) - first * chunkSize, 0);

const newUuid = () => {
  const random = crypto.getRandomValues(new Uint8Array(16));
  random[6] = random[6] & 15 | 64;    // RFC 9562, 5.4
  random[8] = random[8] & 63 | 128;
  return [...random].map((byte) => byte.toString(16).padStart(2, '0')).join('').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
};

// ---- 2. Server ----
//
// Whoever asks gets the answer or an error that says whether trying again may help. While the server is away nobody tries on
// his own: all wait in `reach` for the one question that it answers at last.

const failure = (status, body, wait) => Object.assign(new Error(sentence(status, body)),
  {status, own: typeof body?.error === 'string', wait: Number(wait) || 0});

const call = async (path, method = 'GET', data = undefined, limitMs = 30000) => {
  const response = await fetch(path, {
    method,
    headers: {Accept: 'application/json', ...data && {'Content-Type': 'application/json'}},
    body: data && JSON.stringify(data),
    cache: 'no-store',
    signal: AbortSignal.timeout?.(limitMs),
  });
  const body = await response.json().catch(() => null);
  if (response.ok && body) return {...body, status: response.status};
  throw failure(response.ok ? 502 : response.status, body, response.headers.get('Retry-After'));
};

// An error without a status, or with one that a proxy gives for a server that is down, or the server's own trouble.
const isOutage = (error) => !(error.status < 500);
const isSignedOut = (error) => error.own && error.status === 401;
const reasonOf = (error, otherwise) => error.own || !isOutage(error) ? error.message : say(otherwise);

const remove = (uuid) => call(`uploads/${uuid}`, 'DELETE').catch((error) => {
  if (error.status !== 404) tell.notice(reasonOf(error, 'notRemoved'));
  return error.status === 404;
});

// Resolves when the server answers; to true if it did not at first.
let outage = '';          // what to say while the server cannot be reached
let reaching = null;
let wake = () => {};
const reach = () => reaching ??= probe().finally(() => {
  reaching = null;
  tell.reached();
});
const probe = async () => {
  for (let seconds = 1; ; seconds = Math.min(document.hidden ? LONGEST_PAUSE_S : LONGEST_PROBE_S, 2 * seconds)) {
    try {
      await call('uploads', 'GET', undefined, 1000 * LONGEST_PROBE_S);
      break;
    } catch (error) {
      if (isSignedOut(error)) {
        setOutage(say('signedOut'));
        await tell.signedOut();
        seconds = .5;
        continue;
      }
      if (!isOutage(error)) break;
      setOutage(error.own ? error.message : say('lost'));
    }
    await Promise.race([pause(seconds), new Promise((resolve) => { wake = resolve; })]);
  }
  if (!outage) return false;
  setOutage('');
  return true;
};
const setOutage = (text) => {
  if (outage === text) return;
  outage = text;
  tell.outage();
};
addEventListener('online', () => wake());
addEventListener('visibilitychange', () => wake());

// Tabs tell each other what they send, so that one does not take up another's upload, and when a list is out of date.
const elsewhere = new Set();   // UUIDs, as far as the other tabs have answered
const channel = new BroadcastChannel(`pyfiledrop ${location.pathname}`);
channel.onmessage = ({data}) => {
  if (data === 'changed') tell.changedElsewhere();
  else if (data === 'who') channel.postMessage(tell.mine());
  else {
    for (const uuid of data) elsewhere.add(uuid);
    tell.sentElsewhere(data);
  }
};
const isSentElsewhere = async (uuid) => {
  elsewhere.delete(uuid);
  channel.postMessage('who');
  await pause(ANSWER_MS / 1000);
  return elsewhere.has(uuid);
};

const getUploads = async (take = () => {}) => {
  elsewhere.clear();
  channel.postMessage('who');   // answers come while the request is under way, or a moment later
  const all = [];
  let next = '';
  do {
    const page = await call(`uploads${next && `?before=${next}`}`);
    take(page);
    all.push(...page.uploads);
    next = page.next;
  } while (next);
  return all;
};

// ---- 3. Uploads ----
//
// An upload is one file of this page. A file of one chunk is sent at once, with a UUID that the page has made, so that it may
// be sent again when the answer was lost. Any other begins with a question (`ask`): the server finds it again or begins it, and
// answers its UUID, the size of a chunk and which chunks are in. What is then missing is its `todo`. A *run* is one request with
// one chunk or several in a row, taken from the front of the `todo`. When a run breaks off, `todo` becomes null: the upload asks
// again before it goes on. So this page never believes that a chunk is in, or is not, unless the server has said so.
//
// All uploads share a few *lanes*, for a browser opens only six connections to a server. Whenever something has happened,
// `pump` fills the lanes: with a question or a run of the upload that has the fewest requests under way, so that a small file
// need not wait for a large one.
//
// How long a run is, the line decides. The first is one chunk. Then each has what the line carries in two seconds, so that a
// fast line is not slowed by the pauses between requests, and on a slow one there is little to lose when it breaks.
//
// Whatever an upload waits for may come when a person has cancelled it, or retried it. So whoever waits keeps the `turn` that
// the upload had, and finds out by `isCurrent` that its time is over.

const uploads = new Set();     // of this page, done and failed ones too
const named = new Map();       // UUID → upload
const active = new Set();      // those that the queue has handed over and that have not ended
const running = new Set();     // requests under way: {upload, turn, sent, movedAt} and of a run {first, last, size, body, xhr}
const mostLanes = Math.min(REQUESTS_AT_ONCE, settings.parallelChunks);
let lanes = mostLanes;
let runBytes = 0;              // what the latest run says that the next one may have
let mostRunBytes = settings.runBytes;
let isPaused = false;
let lineSpeed = 0;             // bytes/s of all lanes, as answers tell: what the browser says is sent may only lie in a buffer

// The state from which an upload is sent. A UUID that it has already stays: the server may have more of it than was heard.
const prepare = (upload) => Object.assign(upload, {
  turn: upload.turn + 1,
  isForm: upload.size <= settings.formBytes,
  chunkSize: 0, todo: null,
  received: 0,                 // bytes that are in, without those of runs under way
  sent: 0,                     // with those
  through: 0,                  // with as much of those as can have come through
  begun: 0,                    // when its first bytes were sent
  asking: false,               // a question is under way, or other tabs are asked
  meanwhile: [],               // chunks that came in since that question was sent: its answer may not know of them
  owned: false,                // the chunks to come are ours to send: no other tab does
  resumed: false,              // it was there before
  behind: null,                // the other file of the same name, size and time that goes first
  waits: '',                   // the sentence that says whom it waits for
  held: '',                    // why it tries again; nothing has moved since
  resting: false,              // what went wrong is being looked into, or a pause has to pass
  full: false,                 // it waits for room on the server
  failures: 0, beginnings: 0, endings: 0, stalls: 0,
  error: '', done: false, known: null, copy: null, goOn: null,
});
const newUpload = (file, drop) => {
  const path = (file.fullPath || file.webkitRelativePath || '').split('/').slice(0, -1).join('/');
  const upload = prepare({file, name: file.name, path, drop, size: file.size, turn: 0, uuid: ''});
  uploads.add(upload);
  return upload;
};
const setUuid = (upload, uuid) => {
  if (named.get(upload.uuid) === upload) named.delete(upload.uuid);
  upload.uuid = uuid;
  if (uuid) named.set(uuid, upload);
};

const isBusy = (upload) => !upload.error && !upload.done;
const isCurrent = ({upload, turn}) => active.has(upload) && upload.turn === turn;
const requestsOf = (upload) => [...running].filter((request) => request.upload === upload);

tell.mine = () => [...active].filter((upload) => upload.owned).map(({uuid}) => uuid);

const start = (upload) => {
  active.add(upload);
  queueMicrotask(pump);        // after the other files of the same drop have come
  tickSoon();
};

const mustAsk = (upload) => !upload.todo && !upload.isForm;
const isReady = (upload) => !upload.asking && !upload.resting && (upload.todo ? upload.todo.length > 0 : !active.has(upload.behind));

const pump = () => {
  while (!reaching && !isPaused) {
    const runs = [...running].filter(({xhr}) => xhr).length;
    const questions = running.size - runs;
    const isFree = runs + Math.max(0, questions - 1) < lanes;   // one question may be beside the lanes: it is short
    const ready = [...active].filter((upload) => isReady(upload) && (isFree || (mustAsk(upload) && !questions)));
    if (!ready.length) return;
    const load = new Map(ready.map((upload) => [upload, requestsOf(upload).length]));
    const next = ready.reduce((best, upload) => load.get(upload) < load.get(best) ? upload : best);
    if (mustAsk(next)) ask(next);
    else send(next);
  }
};

const setPaused = (on) => {
  isPaused = on;
  if (on) {
    for (const {upload, xhr} of [...running]) {
      if (!xhr) continue;
      upload.todo = null;
      xhr.abort();
    }
  }
  pump();
};

const enter = (request) => {
  const now = performance.now();
  running.add(Object.assign(request, {turn: request.upload.turn, sent: 0, through: 0, beganAt: now, movedAt: now}));
};

// Asks what the server has of this file. One that it does not have begins by being asked for.
const ask = async (upload) => {
  const {file, name, path, drop, size, uuid} = upload;
  const request = {upload};
  Object.assign(upload, {asking: true, meanwhile: []});
  enter(request);
  let known = null;
  let error = null;
  try {
    known = uuid ? await call(`uploads/${uuid}`)
      : await call('uploads', 'POST', {name, size, modified: file.lastModified, path, drop: drop.id});
  } catch (reason) {
    error = reason;
  }
  running.delete(request);
  if (isCurrent(request)) {
    upload.asking = false;
    if (error) refused(request, error);
    else if (known.upload?.done && upload.owned && !upload.begun) beginAnew(upload);   // see `claim`: it is another's file
    else if (known.upload?.done) finish(upload, known.upload);
    else if (!known.upload?.chunk_size) fail(upload, say('stranger'));
    else if (upload.owned) take(upload, known.upload);
    else claim(request, known.upload, known.status === 201);
  }
  pump();
};

// Takes an upload for its own, unless another file of the same name, size and time has it, on this page or in another tab.
// Such files may differ in their bytes, so they must not come together in one upload: each waits until the one before it is
// in, and then begins its own.
const claim = async (request, known, isNew) => {
  const {upload} = request;
  const holder = named.get(known.uuid);
  const rival = holder !== upload && !holder?.done && holder;
  upload.asking = true;
  upload.behind = null;
  if (rival && active.has(rival)) {
    Object.assign(upload, {behind: rival, waits: say('behind')});
    makeRoom();
  } else {
    if (rival) tell.replaced(rival);   // it was this very file: its row would, when it is discarded, remove what is sent now
    setUuid(upload, known.uuid);
    upload.waits = '';
    while (!isNew && isCurrent(request) && await isSentElsewhere(known.uuid)) {
      setUuid(upload, '');
      upload.waits = say('elsewhere');
      makeRoom();
      tell.changed(upload);
      await pause(1);
    }
    upload.owned = isCurrent(request) && upload.uuid !== '';
  }
  if (!isCurrent(request)) return;
  upload.asking = false;
  // What was found again may have been finished by its owner while the answer was on its way. So it is asked about once more,
  // now that nobody else has it: else this file would be called done, and the bytes that are in would be the other's.
  upload.resumed = upload.owned && !isNew;
  if (upload.owned) tell.named(upload);
  if (upload.owned && isNew) take(upload, known);
  else tell.changed(upload);
  pump();
};

const beginAnew = (upload) => {
  setUuid(upload, '');
  Object.assign(upload, {todo: null, received: 0, owned: false, resumed: false});
};

// Goes on from what the server has: what is neither there nor under way is to be done.
const take = (upload, {chunk_size: chunkSize, chunk_count: count, chunks}) => {
  const underWay = requestsOf(upload).map(({first, last}) => [first, last]);
  const before = upload.received;
  upload.chunkSize = chunkSize;
  upload.todo = gaps(count, [...chunks, ...upload.meanwhile, ...underWay]);
  // If all is in and the file is not done, its last chunk, sent again, asks the server to finish it.
  if (!upload.todo.length && !underWay.length) upload.todo = [[count - 1, count - 1]];
  upload.received = upload.size - bytesIn([...upload.todo, ...underWay], upload);
  if (upload.received > before) upload.failures = 0;
};

// The next chunks in a row: as many as two seconds carry, but no more than this lane's share of what is left, so that all
// lanes come to the end of a file together.
const nextRun = (upload) => {
  const {todo, chunkSize} = upload;
  const share = Math.max(LEAST_SHARE_BYTES, bytesIn(todo, upload) / lanes);
  const most = Math.max(1, Math.floor(Math.min(runBytes, share, mostRunBytes) / chunkSize));
  const [[first, end]] = todo;
  const last = Math.min(end, first + most - 1);
  if (last === end) todo.shift();
  else todo[0] = [last + 1, end];
  return {upload, first, last};
};

const newForm = (upload, body) => {
  const form = new FormData();
  const {uuid, size, file, path, drop, name} = upload;
  const chunk = {dzuuid: uuid, dzchunkindex: 0, dztotalfilesize: size, dzchunksize: settings.formBytes, dztotalchunkcount: 1, dzchunkbyteoffset: 0};
  for (const [field, value] of Object.entries({...settings.forceChunking && chunk, modified: file.lastModified, drop: drop.id, path}))
    if (value !== '') form.append(field, value);
  form.append('file', body, name);
  return form;
};

const send = (upload) => {
  const {chunkSize, isForm, size} = upload;
  const xhr = new XMLHttpRequest();
  let body = upload.copy ?? upload.file;
  let run = {upload, xhr, first: 0, last: 0};
  if (isForm) {
    upload.todo = [];
    if (settings.forceChunking && !upload.uuid) setUuid(upload, newUuid());
    run.form = newForm(upload, body);
    xhr.open('POST', 'upload');
  } else {
    run = {...nextRun(upload), xhr};
    const isWhole = run.first === 0 && run.last * chunkSize + chunkSize >= size;
    if (!isWhole) body = body.slice(run.first * chunkSize, (run.last + 1) * chunkSize);
    xhr.open('PUT', `uploads/${upload.uuid}/${run.first}`);
    xhr.setRequestHeader('Content-Type', 'application/octet-stream');
  }
  run.size = body.size;
  xhr.setRequestHeader('Accept', 'application/json');
  const settle = (then) => () => {
    running.delete(run);
    if (isCurrent(run)) then(run);
    pump();
  };
  xhr.upload.onprogress = (event) => {
    Object.assign(run, {sent: Math.min(run.size, event.loaded), movedAt: performance.now()});
    if (isCurrent(run) && !upload.resting && !upload.full) upload.held = '';   // it goes well again
  };
  xhr.onload = settle(judge);
  xhr.onerror = settle(broken);
  xhr.onabort = settle(() => { if (run.stalled) broken(run); });
  enter(run);
  upload.begun ||= run.beganAt;
  xhr.send(run.form ?? body);
};

const judge = (run) => {
  const {xhr, upload, form, first, last, size, beganAt} = run;
  if (!xhr.status) return broken(run);   // so does Firefox call a connection that ends before the first byte of the answer
  let answer = null;
  try { answer = JSON.parse(xhr.responseText); } catch { /* not the server's own */ }
  if (xhr.status >= 300) return refused(run, failure(xhr.status, answer, xhr.getResponseHeader('Retry-After')));
  const known = form ? answer?.files?.[0] : answer?.upload;
  if (!known) return fail(upload, say('stranger'));
  if (known.done) return finish(upload, known);   // answers may overtake each other: this one counts
  Object.assign(upload, {received: upload.received + size, held: '', full: false, failures: 0, beginnings: 0, stalls: 0});
  if (size >= upload.chunkSize) {
    const seconds = (performance.now() - beganAt) / 1000;
    runBytes = Math.max(runBytes / 2, RUN_SECONDS * size / seconds);   // a single slow one says little
    const speed = size / seconds * (running.size + 1);
    lineSpeed = lineSpeed ? lineSpeed + (speed - lineSpeed) / 4 : speed;
    if (size === upload.chunkSize && seconds > SLOW_SECONDS) lanes = Math.max(1, lanes - 1);
  }
  if (upload.asking) upload.meanwhile.push([first, last]);
  if (!upload.todo || upload.todo.length || upload.resting || requestsOf(upload).length) return;
  // All was acknowledged and the file is not done. Something may be gone again, after a power cut for example.
  if (++upload.endings > TIMES_ANEW) return fail(upload, say('unfinished'));
  upload.todo = null;
};

// What the server, or something on the way to it, does not want. Some of it mends itself.
const refused = (request, error) => {
  const {upload} = request;
  const {status, own, message} = error;
  if (status === undefined || isSignedOut(error) || (!own && status >= 502 && status <= 504)) return broken(request, message, status);
  // It is not known any more, because nothing of it was in when the server was started anew; or it is not what it was.
  const isLost = own && (status === 404 || ((status === 409 || status === 410) && (upload.resumed || !upload.owned)));
  if (isLost && ++upload.beginnings <= TIMES_ANEW) {
    beginAnew(upload);
    return halt(upload);
  }
  if (!own && status === 413 && request.last > request.first) {   // one chunk may be small enough
    mostRunBytes = Math.min(mostRunBytes, request.size / 2);
    return Object.assign(upload, {todo: null});
  }
  if (status >= 500 || status === 408 || status === 429) return again(upload, message, error.wait, status === 507);
  fail(upload, own && status === 410 ? say('removed') : message);
};

// No answer. Either the file cannot be read any more, or the server is away for everybody, or it is this request's bad luck.
// Some phones say of a file that it has changed while it has not: a small one is sent from a copy from now on.
const broken = async (request, reason = '', status = 0) => {
  const {upload, form} = request;
  if (upload.resting) return;              // several runs that break off together are one misfortune
  upload.resting = true;
  upload.todo = null;
  runBytes = 0;
  try {
    const isSmall = upload.size <= COPY_BYTES;
    const content = await (isSmall ? upload.file : upload.file.slice(0, 1)).arrayBuffer();
    if (isSmall) upload.copy = new Blob([content]);
  } catch {
    if (isCurrent(request)) fail(upload, say('unreadable'));
    return;
  }
  const wasAway = await reach();
  if (!isCurrent(request)) return;
  if (form && !upload.uuid && !status) return fail(upload, say('unsure'));   // it would be stored a second time
  upload.resting = false;
  if (!wasAway) return again(upload, status ? reason : say('broken'));
  lanes = mostLanes;                       // what stood still says nothing about the line as it is now
  pump();                                  // and an outage is not this file's fault: it is not counted
};

// Tries again after a pause. While it waits for room on the server it never gives up.
const again = (upload, reason, wait = 0, isFull = false) => {
  upload.todo = null;
  if (upload.resting) return;
  if (!isFull || upload.failures < 5) upload.failures++;
  if (upload.failures >= TRIES) return fail(upload, reason);
  Object.assign(upload, {resting: true, held: reason, full: isFull});
  if (isFull) makeRoom();
  tell.changed(upload);
  const {turn} = upload;
  const goOn = () => {
    if (!isCurrent({upload, turn}) || !upload.goOn) return;
    Object.assign(upload, {resting: false, goOn: null});
    pump();
  };
  upload.goOn = goOn;
  pause(Math.min(LONGEST_PAUSE_S, Math.max(wait, 2 ** (upload.failures - 1)))).then(() => { if (upload.goOn === goOn) goOn(); });
};

// What waits for room, or for another file, must not keep those waiting that could be sent.
const makeRoom = () => tell.room(FILES_AT_ONCE + [...active].filter((upload) => upload.full || upload.waits).length);

const halt = (upload) => { for (const request of requestsOf(upload)) request.xhr?.abort(); };

const end = (upload) => {
  active.delete(upload);
  upload.turn++;
  upload.copy = null;
  halt(upload);
};

const finish = (upload, known) => {
  end(upload);
  setUuid(upload, known.uuid);
  Object.assign(upload, {done: true, known, sent: upload.size, through: upload.size});
  tell.done(upload);
};

const fail = (upload, reason) => {
  end(upload);
  upload.error = reason;
  tell.failed(upload);
};

// Whether what is left of a failed upload is no longer this row's to remove: another tab may have gone on with it.
const isTakenUp = async (uuid) => {
  const all = await getUploads().catch(() => []);
  return elsewhere.has(uuid) || all.some((known) => known.uuid === uuid && known.done);
};

const cancel = async (upload) => {
  const {uuid, owned, error, turn, isForm} = upload;
  Object.assign(upload, {turn: turn + 1, resting: true, owned: false});
  halt(upload);
  forget(upload);
  tell.cancelled(upload);
  if (uuid && (error ? !await isTakenUp(uuid) : owned || (isForm && upload.begun))) await remove(uuid);
  active.delete(upload);   // not before: those of the same name wait until nothing is left of it
  pump();
  tell.removed();
};

const forget = (upload) => {
  uploads.delete(upload);
  setUuid(upload, '');
};

// A timer and not animation frames: a hidden tab gets no frames, yet its uploads go on.
let ticking = 0;
let tickedAt = 0;
const tickSoon = () => { if (!ticking) ticking = setTimeout(tick, TICK_MS); };
const tick = () => {
  ticking = 0;
  const now = performance.now();
  for (const run of running) {
    if (run.xhr && !run.isLookedAt && now - run.movedAt > LOOK_MS) {
      run.isLookedAt = true;
      run.upload.file.slice(0, 1).arrayBuffer().catch(() => { if (isCurrent(run)) fail(run.upload, say('unreadable')); });
    }
    // Nothing has moved for too long: fewer at once, and more patience, for what is under way may be large for this line.
    if (!run.xhr || now - run.movedAt < settings.timeout * 2 ** run.upload.stalls) continue;
    run.stalled = true;
    run.upload.stalls++;
    lanes = Math.max(1, lanes >> 1);
    run.xhr.abort();
  }
  const each = lineSpeed * (now - tickedAt) / 1000 / running.size;
  tickedAt = now;
  for (const run of running) run.through = lineSpeed ? Math.min(run.sent, run.through + each) : run.sent;
  for (const upload of active) {
    if (!upload.begun) continue;
    const runs = requestsOf(upload);
    const sum = (part) => Math.min(upload.size, upload.received + runs.reduce((sum, run) => sum + part(run), 0));
    upload.sent = sum(({sent}) => sent);
    upload.through = sum(({through}) => through);
  }
  if (tell.tick(now)) tickSoon();
};

// ---- 4. List ----
//
// An *entry* is one file of the list: an upload of this page, or what the server knows of an earlier one; when the upload has
// arrived it is both. Entries lie in drops, and there in folders, if they came in one. What can be seen of them are *lines*: of
// a drop, a folder or a file. There may be thousands, but an element exists only for those near the part that is looked at.
//
// Names only ever go through textContent and attributes, never as HTML.

const lines = $('list');
const input = $('file');
const isTouched = matchMedia('(hover: none)').matches;
let title = '';

const setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };
const setLabel = (button, key, name) => {
  setText(button, say(key));
  button.setAttribute('aria-label', `${say(key)}: ${name}`);   // rows of equal buttons must differ for a screen reader
};
const absolute = (link) => new URL(link, document.baseURI).href;

// What is said is heard, and seen for a while unless it stands elsewhere on the page. So long nothing else takes its place:
// what is only to be heard goes beside it.
let staying = 0;
const announce = (text, isSeen = true, ms = isSeen ? 10000 : 0) => {
  if (!isSeen && staying && !ms) return setText($('heard'), text);
  clearTimeout(staying);
  $('notice').className = isSeen ? '' : 'unseen';
  setText($('notice'), text);
  staying = ms && setTimeout(() => {
    staying = 0;
    announce('', false);
  }, ms);
};
tell.notice = announce;

// Asks in a dialog. Resolves to null for no, else to what was typed or chosen besides.
let asking = Promise.resolve();
const sure = (question, yes, no = '', {password = false, also = false} = {}) => asking = asking.then(() => new Promise((resolve) => {
  const dialog = $('ask');
  const box = $('also').firstElementChild;
  setText($('question'), question);
  setText($('yes'), yes);
  setText($('no'), no);
  $('no').hidden = !no;
  $('password').hidden = !password;
  $('also').hidden = !also;
  $('yes').className = password ? 'strong' : '';
  box.checked = false;
  dialog.returnValue = $('password').value = '';
  dialog.onclose = () => resolve(dialog.returnValue ? {password: $('password').value, also: box.checked} : null);
  dialog.showModal();
}));

const copy = async (button, text) => {
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http on a local network has no clipboard API; a selected field still copies.
    const field = document.createElement('textarea');
    field.value = text;
    button.after(field);
    field.select();
    copied = document.execCommand('copy');
    field.remove();
    button.focus();
  }
  if (!copied) return announce(say('copyByHand', {link: text}));
  announce(say('linkCopied'), false, 3000);
  const label = button.textContent;
  setText(button, say('copied'));
  setTimeout(() => setText(button, label), 2000);
};

const showQr = (name, link) => {
  const dialog = $('qr');
  dialog.querySelector('img').src = `qr?link=${encodeURIComponent(link)}`;
  dialog.querySelector('img').alt = say('qrOf', {name});
  setText($('qr-name'), name);
  setText(dialog.querySelector('.hint'), link);
  const button = dialog.querySelector('.share');
  button.hidden = !navigator.share;
  button.onclick = () => navigator.share({title: name, url: link}).catch(() => {});
  dialog.showModal();
};

// The drops, newest first, and the entries in them.

let drops = [];
const dropOf = new Map();      // its id → drop
const entryOf = new Map();     // UUID or upload → entry

const getDrop = (id, time) => {
  let drop = dropOf.get(id);
  if (!drop) {
    drop = {kind: 'drop', id, time, entries: new Set(), folders: new Map(), isOpen: false, li: null};
    dropOf.set(id, drop);
    drops = [drop, ...drops].sort((a, b) => b.time - a.time);
  }
  return drop;
};
const addEntry = (drop, {name, path, size, modified}) => {
  const [top] = path.split('/');
  let home = drop;
  if (top) {
    home = drop.folders.get(top) ?? {kind: 'folder', name: top, drop, entries: new Set(), isOpen: false, li: null};
    drop.folders.set(top, home);
  }
  const entry = {kind: 'file', name, path, size, modified, drop, home, upload: null, known: null, state: '', isAsking: false, li: null};
  home.entries.add(entry);
  return entry;
};
const dropEntry = (entry) => {
  const {home, drop, li, known, upload} = entry;
  if (li?.contains(document.activeElement)) focusNext = li.nextElementSibling ?? li.previousElementSibling;
  home.entries.delete(entry);
  if (home !== drop && !home.entries.size) drop.folders.delete(home.name);
  if (!drop.entries.size && !drop.folders.size) {
    dropOf.delete(drop.id);
    drops = drops.filter((other) => other !== drop);
  }
  if (known && entryOf.get(known.uuid) === entry) entryOf.delete(known.uuid);
  entryOf.delete(upload);
};
const addUpload = (upload) => {
  const entry = addEntry(upload.drop, {...upload, modified: upload.file.lastModified});
  entry.upload = upload;
  entryOf.set(upload, entry);
};
const dropUpload = (upload) => {
  const entry = entryOf.get(upload);
  batch.delete(upload);
  forget(upload);
  if (entry) dropEntry(entry);
  showSoon();
};

// What the server has said of a file. That of an upload of this page is the upload's own entry.
const learn = (known) => {
  const upload = named.get(known.uuid);
  let entry = entryOf.get(known.uuid) ?? entryOf.get(upload);
  if (!entry) {
    const ms = known.created * 1000;
    entry = addEntry(getDrop(known.drop ?? `minute ${Math.floor(ms / 6e4)}`, ms), {...known, path: known.path ?? ''});
  }
  arrive(entry, known);
  return entry;
};
// Its name is the server's from now on.
const arrive = (entry, known) => {
  entry.known = known;
  entryOf.set(known.uuid, entry);
  if (entry.name === known.name) return;
  entry.name = known.name;
  retire(entry);
};
const retire = (line) => {
  line.li?.remove();
  line.li = null;
};

const stateOfEntry = ({upload, known}) => upload ? stateOf(upload, outage, isPaused) : known.done ? 'done' : 'unfinished';

// What is done stands below what is on its way, and what needs somebody above all. A closed drop or folder shows these two.

const RANKS = {failed: 0, sending: 1, finishing: 1, paused: 1, unfinished: 2, waiting: 2, done: 3};
const FOLDED_ABOVE = 20;

const count = (home) => {
  home.ranks = [[], [], [], []];
  home.size = 0;
  for (const entry of home.entries) {
    entry.state = stateOfEntry(entry);
    const rank = entry.state === 'paused' && !entry.upload.begun ? 2 : RANKS[entry.state];
    home.ranks[rank].push(entry);
    home.size += entry.size;
  }
  home.count = home.entries.size;
  home.rank = home.ranks.findIndex((some) => some.length);
};
const urgent = ({ranks}) => [...ranks[0].slice(0, FOLDED_ABOVE), ...ranks[1]];

const layOut = () => {
  const all = [];
  for (const drop of drops) {
    const folders = [...drop.folders.values()];
    for (const home of [drop, ...folders]) count(home);
    all.push(drop);
    const members = drop.entries.size + folders.length;
    drop.isFoldable = members > FOLDED_ABOVE;
    drop.total = drop.size;
    drop.isDone = !drop.ranks.some((some, rank) => rank < 3 && some.length);
    for (const folder of folders) {
      drop.count += folder.count;
      drop.total += folder.size;
      drop.isDone &&= folder.rank === 3;
    }
    for (let rank = 0; rank < 4; rank++) {
      if (drop.isFoldable && !drop.isOpen) {
        for (const home of rank ? [] : [drop, ...folders]) all.push(...urgent(home));
        continue;
      }
      for (const entry of drop.ranks[rank]) all.push(entry);
      for (const folder of folders) {
        if (folder.rank !== rank) continue;
        all.push(folder);
        for (const some of folder.isOpen ? folder.ranks : [urgent(folder)]) for (const entry of some) all.push(entry);
      }
    }
  }
  return all;
};

// Lines of one kind are about equally high, so it is known where those are that have no element.

const ALL_ABOVE = 150;         // so many lines and fewer have elements all the time
const heights = {drop: 44, folder: 48, file: 48, failed: 72};
const kindOf = (line) => line.state === 'failed' ? 'failed' : line.kind;
const lineOf = new WeakMap();  // element → line
let laidOut = [];
let showing = 0;
let shownAt = 0;
let focusNext = null;

const showSoon = () => { if (!showing) showing = setTimeout(show, Math.max(0, shownAt + TICK_MS / 2 - performance.now())); };
const show = () => {
  clearTimeout(showing);
  showing = 0;
  laidOut = layOut();
  paint();
  $('history').hidden = !laidOut.length;
  $('clear').hidden = !drops.some(({ranks, folders}) => ranks[3].length || [...folders.values()].some((folder) => folder.ranks[3].length));
  shownAt = performance.now();
};

const paint = () => {
  const focused = document.activeElement;
  const isLong = laidOut.length > ALL_ABOVE;
  const gaps = new Map();      // line → pixels above it without elements
  let gap = 0;
  if (isLong) {
    let y = lines.getBoundingClientRect().top;
    for (const line of laidOut) {
      const height = heights[kindOf(line)];
      if ((y + height > -innerHeight && y < 2 * innerHeight) || line.li?.contains(focused)) {
        gaps.set(line, gap);
        gap = 0;
      } else gap += height;
      y += height;
    }
  } else for (const line of laidOut) gaps.set(line, 0);
  for (const li of [...lines.children]) {
    if (gaps.has(lineOf.get(li))) continue;
    lineOf.get(li).li = null;
    li.remove();
  }
  let place = lines.firstElementChild;
  for (const [line, above] of gaps) {
    if (!line.li) {
      line.li = $(`${line.kind}-line`).content.firstElementChild.cloneNode(true);
      lineOf.set(line.li, line);
      fill[line.kind](line, line.li);
    }
    draw[line.kind](line, line.li);
    line.li.style.marginTop = above ? `${above}px` : '';
    // Rows are moved only when they must: a row that is moved loses the focus, and a click that has begun.
    if (line.li === place?.nextElementSibling) {
      lines.append(place);
      place = line.li;
    }
    if (line.li === place) place = place.nextElementSibling;
    else lines.insertBefore(line.li, place);
  }
  lines.style.paddingBottom = gap ? `${gap}px` : '';
  if (isLong) for (const line of gaps.keys()) heights[kindOf(line)] = line.li.offsetHeight || heights[kindOf(line)];
  if (focused !== document.activeElement && focused?.isConnected && lines.contains(focused)) focused.focus({preventScroll: true});
  if (!focusNext) return;
  let seen = null;
  for (let li = focusNext; li && !seen; li = li.nextElementSibling) seen = firstSeen(li, 'button, summary');
  (seen ?? input).focus();
  focusNext = null;
};
const firstSeen = (li, selector) => [...li.querySelectorAll(selector)].find((one) => one.checkVisibility());

let scrolling = 0;
const onScroll = () => {
  if (laidOut.length > ALL_ABOVE && !scrolling) scrolling = requestAnimationFrame(() => { scrolling = 0; paint(); });
};
addEventListener('scroll', onScroll, {passive: true});
addEventListener('resize', onScroll);

// A name's end tells more than its middle. Scripts whose letters join are not cut within a word.
const setName = (element, name) => {
  const [end] = /[\u0590-\u08ff]/.test(name) ? /(\.[^.]{1,8})?$/.exec(name) : /.{0,10}$/su.exec(name);
  for (const part of name.length > 24 ? [name.slice(0, name.length - end.length), end] : [name]) {
    const span = document.createElement('span');
    span.textContent = part;
    element.append(span);
  }
  element.title = name;
};
const part = (li, name) => li.getElementsByClassName(name)[0];

const fill = {
  drop(_, li) {
    setText(part(li, 'copy'), say('copyLink'));
    setText(part(li, 'qr'), say('qr'));
  },
  folder({name}, li) {
    setName(part(li, 'name'), name);
  },
  file({name, path, home, drop}, li) {
    setName(part(li, 'name'), name);
    const inner = home === drop ? '' : home.isOpen ? path.slice(home.name.length + 1) : path;
    part(li, 'path').textContent = inner;
    part(li, 'path').hidden = !inner;
    li.classList.toggle('inside', home !== drop);
    part(li, 'bar').setAttribute('aria-label', say('uploadOf', {name}));
    setLabel(part(li, 'copy'), 'copyLink', name);
    setLabel(part(li, 'retry'), 'retry', name);
    setLabel(part(li, 'qr'), 'qr', name);
    setLabel(part(li, 'remove'), 'delete', name);
    setLabel(part(li, 'keep'), 'keep', name);
    part(li, 'more').firstElementChild.setAttribute('aria-label', say('menu', {name}));
    part(li, 'more').firstElementChild.textContent = '⋯';
  },
};

const draw = {
  drop(drop, li) {
    setText(li.firstElementChild, joined(when(drop.time), ...drop.count > 1 ? [say('files', {n: drop.count}), bytes(drop.total)] : []));
    const fold = part(li, 'fold');
    fold.hidden = !drop.isFoldable;
    setText(fold, say(drop.isOpen ? 'fold' : 'unfold'));
    fold.setAttribute('aria-expanded', drop.isOpen);
    const link = settings.downloads && drop.isDone && drop.count > 1 && isUuid(drop.id);
    part(li, 'copy').hidden = part(li, 'qr').hidden = !link;
  },
  folder(folder, li) {
    const failed = folder.ranks[0].length;
    li.dataset.folder = ['failed', 'sending', 'waiting', 'done'][folder.rank];
    setText(part(li, 'size'), joined(say('files', {n: folder.count}), bytes(folder.size)));
    setText(part(li, 'status'), failed ? say('needYou', {n: failed}) : '');
    part(li, 'fold').setAttribute('aria-expanded', folder.isOpen);
  },
  file(entry, li) {
    const {state, upload, known, name, size, isAsking} = entry;
    const link = state === 'done' && (known ?? upload.known)?.link;
    const bar = part(li, 'bar');
    setText(part(li, 'size'), bytes(size));
    setText(part(li, 'status'), describe(entry));
    bar.hidden = isAsking || !upload?.begun || !['sending', 'paused'].includes(state);
    if (!bar.hidden) {
      bar.value = size ? upload.sent / size : 0;
      setText(bar, percent(upload.sent, size));
    }
    const stamp = `${state} ${isAsking} ${link} ${!!upload?.goOn}`;
    if (li.stamp === stamp) return;
    li.stamp = stamp;
    li.dataset.state = state;
    if (link) part(li, 'link').href = absolute(link);
    const focused = li.contains(document.activeElement) && document.activeElement;
    const isOver = state === 'done' || state === 'unfinished';
    part(li, 'actions').hidden = isAsking;
    part(li, 'ask').hidden = !isAsking;
    part(li, 'copy').hidden = part(li, 'qr').hidden = !link;
    part(li, 'more').hidden = !isOver;
    part(li, 'cancel').hidden = isOver;
    part(li, 'retry').hidden = !(state === 'failed' && !upload.isTooLarge) && !upload?.goOn;
    if (!isOver) setLabel(part(li, 'cancel'), state === 'failed' ? 'discard' : 'cancel', name);
    setLabel(part(li, 'delete'), isOver ? 'delete' : 'cancel', name);
    setText(part(li, 'ask').firstElementChild, say(isOver ? 'deleteAsk' : 'cancelAsk'));
    if (focused && !focused.checkVisibility()) (isAsking ? part(li, 'keep') : link ? part(li, 'copy') : isOver ? part(li, 'more').firstElementChild : part(li, 'cancel')).focus();
  },
};
const isUuid = (id) => id.length === 36;

const describe = ({state, upload, known}) => ({
  waiting: () => upload.waits || say('waiting'),
  sending: () => percent(upload.sent, upload.size),
  paused: () => upload.held ? say('tryingAgain', {reason: upload.held}) : percent(upload.sent, upload.size),
  finishing: () => say('finishing'),
  done: () => '✓',
  failed: () => upload.error,
  unfinished: () => elsewhere.has(known.uuid) ? say('sentElsewhere', {percent: percent(known.received, known.size)})
    : say('isHere', {percent: percent(known.received, known.size)}),
})[state]();

// What is clicked in a line. Elements come and go, so the list listens for all of them.

const click = {
  fold(line) {
    line.isOpen = !line.isOpen;
    for (const entry of line.entries) retire(entry);   // their paths are shown otherwise
  },
  copy: (line, button) => { copy(button, linkOf(line)); },
  qr: (line) => showQr(line.kind === 'drop' ? say('files', {n: line.count}) : line.name, linkOf(line)),
  retry({upload, li}) {
    if (upload.goOn) upload.goOn();
    else tell.retry(upload);
    part(li, 'cancel').focus();   // Retry hides itself
  },
  cancel(entry) {
    const {upload} = entry;
    if (upload.begun && !upload.error && performance.now() - upload.begun > ASK_AFTER_MS) click.remove(entry);
    else cancel(upload);
  },
  remove(entry) {
    entry.isAsking = true;
    show();
    part(entry.li, 'keep').focus();
  },
  keep(entry) {
    entry.isAsking = false;
    show();
    firstSeen(entry.li, '.more summary, .cancel').focus();
  },
  async delete(entry) {
    const {upload, known, name} = entry;
    if (upload && isBusy(upload)) return cancel(upload);
    if (!await remove((known ?? upload.known).uuid)) return click.keep(entry);
    announce(say('isRemoved', {name}), false);
    if (upload) dropUpload(upload);
    else dropEntry(entry);
    show();
    changed();
  },
};
const linkOf = (line) => absolute(line.kind === 'drop' ? `drops/${line.id}` : (line.known ?? line.upload.known).link);
lines.onclick = ({target}) => {
  const button = target.closest('button');
  const li = target.closest('li');
  for (const open of lines.querySelectorAll('details[open]')) if (button || !open.contains(target)) open.open = false;
  const action = button && Object.keys(click).find((name) => button.classList.contains(name));
  if (!action) return;
  click[action](lineOf.get(li), button);
  show();
};
lines.onkeydown = ({key, target}) => {
  if (key !== 'Escape') return;
  const line = lineOf.get(target.closest('li'));
  const open = target.closest('details[open]');
  if (line?.isAsking) click.keep(line);
  if (!open) return;
  open.open = false;
  open.firstElementChild.focus();
};
addEventListener('click', ({target}) => {
  for (const open of lines.querySelectorAll('details[open]')) if (!open.contains(target)) open.open = false;
});

// The icon of the tab is a ring that fills, and at the end a tick.
let icon = '';
const drawIcon = (part, kind) => {
  const shape = kind === 'done' ? '<path d="m4 9 3.5 3.5 6-7" stroke="#17803f"/>'
    : `<circle cx="8" cy="8" r="6" stroke="#8884"/><circle cx="8" cy="8" r="6" stroke="${kind === 'sending' ? '#2b6fef' : '#c87a00'}" stroke-dasharray="${Math.round(20 * part) * 1.885} 99" transform="rotate(-90 8 8)"/>`;
  const now = kind && kind !== 'failed' ? `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="none" stroke-width="3">${shape}</svg>`)}` : 'favicon.ico';
  if (now === icon) return;
  icon = now;
  document.querySelector('link[rel=icon]').href = now;
};

// A phone that sleeps sends nothing. Over https it can be asked to stay awake; else a muted film of nothing keeps it so.
let awake = null;
const stayAwake = async (isBusy) => {
  if (isBusy === !!awake || (isBusy && document.hidden)) return;
  if (!isBusy) {
    awake.release();
    awake = null;
  } else if (navigator.wakeLock) {
    awake = {release() {}};
    const lock = await navigator.wakeLock.request('screen').catch(() => null);
    if (!lock) return;
    if (!awake) return lock.release();
    awake = lock;
    lock.onrelease = () => { if (awake === lock) awake = null; };
  } else {
    const film = Object.assign(document.createElement('video'), {muted: true, loop: true, playsInline: true});
    const canvas = Object.assign(document.createElement('canvas'), {width: 2, height: 2});
    const pen = canvas.getContext('2d');
    film.srcObject = canvas.captureStream();
    const timer = setInterval(() => pen.fillRect(0, 0, 2, 2), 1000);   // a film without new pictures is at its end
    film.play().catch(() => {});
    awake = {release() { clearInterval(timer); film.srcObject = null; }};
  }
  document.documentElement.dataset.awake = !awake ? '' : navigator.wakeLock ? 'lock' : 'film';
};

// The news of the whole: of all that was dropped since the page was last idle, and of what failed before.

const batch = new Set();
let expected = 0;              // files that were dropped and are not in the batch yet
let quarter = -1;              // that was spoken of last
let samples = [];              // {at, weight} of what is in or on its way
let total = {n: 0, done: 0, failed: 0, size: 0, sent: 0, isBusy: false};

const sum = () => {
  const all = {n: batch.size + expected, done: 0, failed: 0, size: 0, sent: 0, through: 0, isBusy: expected > 0, retriable: 0};
  for (const upload of batch) {
    all.size += upload.size;
    all.sent += upload.error ? 0 : upload.sent;
    all.through += upload.error ? upload.size : upload.through;
    if (upload.done) all.done++;
    else if (upload.error) {
      all.failed++;
      if (!upload.isTooLarge) all.retriable++;
    } else all.isBusy = true;
  }
  all.weight = all.through + FILE_WEIGHT * (all.done + all.failed);
  all.left = all.size + FILE_WEIGHT * all.n - all.weight;
  return all;
};

// The speed is that of the latest half of the time, at least of 30 s. Until an answer has come the first seconds do not count:
// what is sent then only fills the buffers on the way. What has stopped begins to be measured anew.
let isMeasured = false;
const timeLeft = (now, {weight, left}) => {
  if (outage || isPaused) samples = [];
  if (isMeasured !== lineSpeed > 0) samples = samples.slice(0, 1);
  isMeasured = lineSpeed > 0;
  samples.push({at: now, weight});
  const [{at: began}] = samples;
  const start = Math.max(isMeasured ? began : began + 3000, now - Math.max(30000, (now - began) / 2));
  const from = samples.find(({at}) => at >= Math.min(start, now - 1000)) ?? samples[0];
  const seconds = (now - from.at) / 1000;
  const speed = (weight - from.weight) / seconds;
  if (samples.length > 4000) samples = samples.filter((_, index) => index % 2 === 0);
  const isBuffered = !isMeasured && [...running].every((run) => run.sent === run.size);
  return seconds > 2 && speed > 0 && !isBuffered ? left / speed : 0;
};

tell.tick = (now) => {
  total = sum();
  const left = total.isBusy && timeLeft(now, total);
  drawWhole(left);
  show();
  return total.isBusy;
};

const drawWhole = (left = 0) => {
  const {n, done, failed, size, sent, isBusy, retriable} = total;
  const kind = isBusy ? outage ? 'outage' : isPaused ? 'paused' : 'sending' : failed ? 'failed' : done ? 'done' : '';
  const [first] = batch;
  const power = powerOf(size);
  const part = size ? sent / size : n && done / n;
  const dropped = new Set([...kind === 'done' ? batch : []].map(({drop}) => drop));
  setText($('news'), kind === 'outage' ? outage
    : kind === 'done' ? n === 1 ? say('arrived', {name: first.name}) : joined(say('allArrived', {n}), bytes(size))
    : kind === 'failed' ? say('needYou', {n: failed})
    : kind && joined(say(kind, {i: Math.min(n, done + 1), n}), say('of', {part: inUnit(sent, power), whole: bytes(size)}),
      left && say('left', {time: duration(left)}), failed && say('needYou', {n: failed})));
  $('status').dataset.kind = kind;
  $('status').hidden = !kind;
  document.body.classList.toggle('busy', !!kind);
  setText($('drop'), say(!kind ? 'choose' : isTouched ? 'chooseMore' : 'more'));
  $('whole').hidden = !isBusy;
  $('whole').value = part;
  setText($('whole'), percent(sent, size));
  setText($('pause'), say(isPaused ? 'goOn' : 'pause'));
  $('pause').hidden = !isBusy || !!outage;
  $('cancel-all').hidden = !isBusy;
  $('try-now').hidden = kind !== 'outage';
  $('retry-all').hidden = !retriable;
  setText($('copy-all'), say(dropped.size === 1 ? 'copyLink' : 'copyAll'));
  $('copy-all').hidden = kind !== 'done' || !settings.downloads;
  $('qr-all').hidden = $('copy-all').hidden || dropped.size !== 1;
  $('copy-all').link = [...dropped].map((drop) => n === 1 ? first.known.link : `drops/${drop.id}`).map(absolute).join('\n');
  document.title = isBusy ? `${percent(sent, size)} – ${title}` : title;
  stayAwake(isBusy);
  drawIcon(isBusy ? part : kind === 'done' ? 1 : 0, kind);
  const now = isBusy ? Math.floor(part * 4) : done || failed ? 4 : -1;
  if (now === quarter || (outage && isBusy)) return;
  if (now > quarter || now < 0) {
    const isStart = quarter < 0;
    quarter = now;
    if (now >= 0) announce(now === 4 || isStart ? $('news').textContent : percent(now, 4), false);
  }
};

// ---- 5. Wiring ----
//
// A file is taken when it is dropped, chosen or pasted. It gets its upload, waits in `waiting`, and comes from there to
// Dropzone's queue, which hands it to `uploadFiles` when there is room. It stays on Dropzone's list until its upload has ended.

// The list of what was dropped from this browser. The server is asked when the page has nothing more to send, and when
// somebody else may have changed something.
let telling = 0;
let refreshing = 0;
let refreshTook = 0;            // ms; a long list is asked for less often
let refreshes = 0;
let free = settings.free;

const tellOthersSoon = () => { if (!telling) telling = setTimeout(tellOthers, 500); };
const tellOthers = () => {
  clearTimeout(telling);
  telling = 0;
  channel.postMessage('changed');
};
const refreshSoon = () => { if (!refreshing) refreshing = setTimeout(refresh, 200 + 5 * refreshTook); };
const changed = () => {
  refreshSoon();
  tellOthers();
};
const refresh = async () => {
  clearTimeout(refreshing);
  refreshing = 0;
  const turn = ++refreshes;
  const started = performance.now();
  const gone = new Set([...entryOf.values()].filter(({upload}) => !upload || upload.done));   // unless it is told of
  const learnAll = (page) => {
    if (turn !== refreshes) return;
    for (const known of page.uploads) if (known.done || known.received) gone.delete(learn(known));
    if (page.free !== undefined) free = page.free;
    sayHint();
    showSoon();
  };
  if (!await getUploads(learnAll).catch(() => null) || turn !== refreshes) return;
  for (const entry of gone) {
    if (entry.upload) dropUpload(entry.upload);
    else dropEntry(entry);
  }
  refreshTook = performance.now() - started;
  show();
};

const sayHint = () => setText($('hint'), joined(say('limit', {size: limit(settings.maxSize)}), typeof free === 'number' && say('free', {size: bytes(free)}))
  .concat(`. ${say('goesOn')}`));

document.documentElement.lang = language;
document.documentElement.dir = isRightToLeft ? 'rtl' : 'ltr';
for (const element of document.querySelectorAll('[data-say]')) element.textContent = say(element.dataset.say);
title = document.title = settings.title ? say('titleOf', {title: settings.title}) : say('title');
document.querySelector('h1').textContent = title;

addEventListener('beforeunload', (event) => {
  if (!sum().isBusy) return;
  event.preventDefault();
  event.returnValue = true;   // what older browsers look at
});
addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
refresh();

$('clear').onclick = async () => {
  const answer = await sure(say('clearAsk'), say('clear'), say('keep'), {also: true});
  if (!answer) return;
  const done = new Set([...entryOf.values()].filter(({state}) => state === 'done'));
  try {
    if (answer.also) for (const {known, upload} of done) await call(`uploads/${(known ?? upload.known).uuid}`, 'DELETE').catch((error) => { if (error.status !== 404) throw error; });
    await call('uploads', 'DELETE');
  } catch (error) {
    return announce(reasonOf(error, 'notCleared'));
  }
  for (const entry of done) {
    if (entry.upload) dropUpload(entry.upload);
    else dropEntry(entry);
  }
  announce(say(answer.also ? 'clearedAll' : 'cleared'));
  input.focus();
  if (!total.isBusy) total = sum();
  drawWhole();
  show();
  changed();
};

tell.removed = changed;
tell.changed = showSoon;
tell.changedElsewhere = () => { if (!document.hidden) refreshSoon(); };
tell.sentElsewhere = showSoon;
tell.outage = () => {
  announce(outage || say('back'), false);
  tickSoon();
  if (!outage) refreshSoon();
};
// An earlier visit's entry of this upload is this upload's now.
tell.named = (upload) => {
  const earlier = entryOf.get(upload.uuid);
  if (earlier && !earlier.upload) dropEntry(earlier);
  showSoon();
};
let isWrong = false;
tell.signedOut = async () => {
  const answer = await sure(say(isWrong ? 'wrongPassword' : 'password'), say('goOn'), '', {password: true});
  if (!answer) return;
  for (;;) {
    const response = await fetch('./', {method: 'POST', body: new URLSearchParams({password: answer.password})}).catch(() => null);
    isWrong = !!response && !response.redirected;
    if (response?.status !== 429) return;
    await pause(Number(response.headers.get('Retry-After')) || 1);   // too many tries in a short time
  }
};

// Without Dropzone the form works as it stands, and so does the list.
if (typeof Dropzone === 'undefined') return;
document.documentElement.classList.add('scripted');
$('send').disabled = true;      // else Enter on the input would send the form
$('qr-page').hidden = isTouched;
$('qr-page').onclick = () => showQr(title, absolute('./'));
input.setAttribute('aria-label', say('choose'));
$('folder').setAttribute('aria-label', say('chooseFolder'));
$('folder').hidden = isTouched;
$('status').setAttribute('aria-label', say('uploads'));
setText($('drop'), say('choose'));
sayHint();

const showOverlay = (event) => { $('overlay').hidden = !event.dataTransfer.types.includes('Files'); };
const hideOverlay = () => { $('overlay').hidden = true; };
$('overlay').onpointermove = hideOverlay;   // no such event comes while something is dragged: the drag ended elsewhere

const uploadOf = new WeakMap();   // File → upload
let dropping = null;              // the latest drop: files of its folders come by and by
const beginDrop = () => { dropping = getDrop(newUuid(), Date.now()); };

const dropzone = new Dropzone(document.documentElement, {
  url: 'upload',   // it must have one, and never uses it
  clickable: false,
  disablePreviews: true,
  previewsContainer: false,
  createImageThumbnails: false,
  ignoreHiddenFiles: false,   // a folder is all that is in it
  parallelUploads: FILES_AT_ONCE,
  maxFilesize: null,
  dragenter: showOverlay,
  dragover: showOverlay,
  dragleave: (event) => { if (!event.relatedTarget) hideOverlay(); },
  drop(event) {
    hideOverlay();
    beginDrop();
    look([...event.dataTransfer.items]);
  },
});
dropzone.uploadFiles = (handedOver) => { for (const file of handedOver) start(uploadOf.get(file)); };

// Dropzone goes through all its files whenever something happens to one of them, so it has few at a time.
const enqueue = dropzone.addFile.bind(dropzone);
dropzone.addFile = (file) => {
  found.add(file.fullPath);
  collect(file, dropping);
};
let waiting = [];
let next = 0;                     // the first of them that Dropzone does not have
const supply = () => {
  while (next < waiting.length && dropzone.files.length < 2 * dropzone.options.parallelUploads) {
    const upload = waiting[next++];
    if (uploads.has(upload) && isBusy(upload)) enqueue(upload.file);
  }
  if (next === waiting.length) [waiting, next] = [[], 0];
};

// To ask a File for its size may cost the browser a look at the disk: of thousands they are taken a few at a time.
let incoming = [];
let taken = 0;
let sorting = 0;
let doubles = [];
let known = null;                 // what has arrived, by name, size and time
const collect = (file, drop) => {
  incoming.push({file, drop});
  expected++;
  if (!sorting) sorting = setTimeout(sort);
};
const keyOf = ({name, path, size, modified}) => `${path}/${name.normalize()}/${size}/${modified}`;
const sort = () => {
  const until = performance.now() + 12;
  if (!sum().isBusy || taken === 0) beginBatch();
  known ??= new Set([...entryOf.values()].filter(({state}) => state === 'done').map(keyOf));
  while (taken < incoming.length && performance.now() < until) {
    const {file, drop} = incoming[taken++];
    const upload = newUpload(file, drop);
    expected--;
    uploadOf.set(file, upload);
    if (known.has(keyOf({...upload, modified: file.lastModified}))) doubles.push(upload);
    else add(upload);
  }
  supply();
  tickSoon();
  sorting = taken < incoming.length ? setTimeout(sort) : 0;
  if (sorting) return;
  [incoming, taken, known] = [[], 0, null];
  total = sum();
  drawWhole();
  showSoon();
  askAboutDoubles();
};
const beginBatch = () => {
  if ([...batch].some(isBusy)) return;
  for (const upload of batch) if (upload.done) batch.delete(upload);
  quarter = -1;
  lineSpeed = 0;
  samples = [{at: performance.now(), weight: sum().weight}];
  lanes = mostLanes;
};
const add = (upload) => {
  addUpload(upload);
  batch.add(upload);
  upload.isTooLarge = upload.size > settings.maxSize;
  if (upload.isTooLarge) fail(upload, say('tooLarge', {size: limit(settings.maxSize)}));
  else waiting.push(upload);
};
const askAboutDoubles = async () => {
  const some = doubles;
  doubles = [];
  if (!some.length) return;
  const keep = await sure(say('doubles', {n: some.length, name: some[0].name}), say('keepBoth'), say('skip'));
  if (keep) beginBatch();
  for (const upload of some) {
    if (keep) add(upload);
    else forget(upload);
  }
  supply();
  tickSoon();
};

// Dropzone passes over what it cannot read in a folder. So what is in there is looked at a second time, by name only.
const found = new Set();          // paths of what it has read
let missing = [];
const look = async (items) => {
  const entries = items.map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry?.isDirectory);
  if (!entries.length) return;
  found.clear();
  const paths = [];
  const unread = [];
  const walk = async (entry) => {
    if (entry.isFile) return paths.push(entry.fullPath.slice(1));
    const reader = entry.createReader();
    try {
      for (;;) {
        const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
        if (!some.length) return;
        for (const one of some) await walk(one);
      }
    } catch {
      unread.push(entry.fullPath.slice(1));
    }
  };
  for (const entry of entries) await walk(entry);
  missing = [paths, unread];
  sayMissing();
};
const sayMissing = () => {
  if (!missing.length || !isRead) return;
  const [paths, unread] = missing;
  const all = [...unread, ...paths.filter((path) => !found.has(path))];
  if (all.length) announce(say('unreadables', {n: all.length, name: all[0]}));
  missing = [];
};
let isRead = true;
dropzone.on('drop', () => { isRead = false; });
dropzone.on('addedfiles', () => {
  isRead = true;
  sayMissing();
});
dropzone.on('emptyfolder', (path) => announce(say('emptyFolder', {name: path})));

// The queue keeps a file until its upload has ended, and hands over the next one then.
const leave = ({file}, status) => {
  file.status = status;   // else removing it would count as cancelling
  dropzone.removeFile(file);
  dropzone.processQueue();
  supply();
  makeRoom();
};

tell.room = (count) => {
  if (dropzone.options.parallelUploads === count) return;
  dropzone.options.parallelUploads = count;   // it is read each time
  supply();
  dropzone.processQueue();
};
tell.reached = pump;
tell.retry = (upload) => {
  batch.add(prepare(upload));
  waiting.push(upload);
  supply();
  tickSoon();
};
tell.replaced = dropUpload;

tell.done = (upload) => {
  leave(upload, Dropzone.SUCCESS);
  const entry = entryOf.get(upload);
  if (entry) arrive(entry, upload.known);
  showSoon();
  ended();
};
tell.failed = (upload) => {
  leave(upload, Dropzone.ERROR);
  showSoon();
  ended();
};
tell.cancelled = (upload) => {
  leave(upload, Dropzone.CANCELED);
  dropUpload(upload);
  announce(say(upload.error ? 'isDiscarded' : 'isCancelled', {name: upload.name}), false);
  ended();
};
const ended = () => {
  if (active.size || next < waiting.length || incoming.length) return tellOthersSoon();
  tickSoon();
  changed();
};

$('pause').onclick = () => {
  setPaused(!isPaused);
  tickSoon();
  show();
};
$('try-now').onclick = () => wake();
$('retry-all').onclick = () => { for (const upload of [...batch]) if (upload.error && !upload.isTooLarge) tell.retry(upload); };
$('cancel-all').onclick = async () => {
  const busy = [...batch].filter(isBusy);
  if (busy.some(({begun}) => begun && performance.now() - begun > ASK_AFTER_MS)
    && !await sure(say('cancelAllAsk', {n: busy.length}), say('cancelAll'), say('goOn'))) return;
  next = waiting.length;
  [incoming, taken, expected] = [[], 0, 0];
  isPaused = false;
  for (const upload of busy) if (isBusy(upload)) {
    if (active.has(upload)) cancel(upload);
    else dropUpload(upload);
  }
  tickSoon();
};
$('copy-all').onclick = ({target}) => copy(target, target.link);
$('qr-all').onclick = () => showQr(total.n === 1 ? [...batch][0].name : say('files', {n: total.n}), $('copy-all').link);

const choose = (element) => {
  element.onchange = () => {
    beginDrop();
    const chosen = [...element.files];
    element.value = '';   // so that choosing the same file again is a change
    for (const file of chosen) collect(file, dropping);
    total = sum();
    drawWhole();
  };
  // With a form around it Enter would mean to send that.
  element.onkeydown = (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault();
    element.click();
  };
};
choose(input);
choose($('folder'));

// What is pasted has no name of its own: a picture and a text are named by the time.
addEventListener('paste', (event) => {
  if (event.target.closest?.('input:not([type=file]), textarea')) return;
  const data = event.clipboardData;
  const text = data.getData('text/plain');
  const stamp = new Date(Date.now() - 6e4 * new Date().getTimezoneOffset()).toISOString().slice(0, 19).replace('T', ' ').replaceAll(':', '.');
  const files = [...data.files].map((file) => file.name !== 'image.png' ? file
    : new File([file], `${say('picture')} ${stamp}.png`, {type: file.type}));
  if (!files.length && text) files.push(new File([text], `${say('text')} ${stamp}.txt`, {type: 'text/plain'}));
  if (!files.length) return;
  event.preventDefault();
  beginDrop();
  for (const file of files) collect(file, dropping);
});

// ---- 6. Messages ----
//
// A line a sentence. What stands in braces is put in; of forms with | between them the first is for one, the second for
// others, and in Arabic there are all six of CLDR. Names with a hyphen are the server's codes.

function messages() {
  return {
    en: {
      title: 'Drop files',
      titleOf: 'Drop files to {title}',
      choose: 'Choose files',
      chooseFolder: 'Choose a folder',
      folder: 'or a folder',
      more: 'Drop or choose more',
      chooseMore: 'Choose more',
      paste: 'You can also paste.',
      limit: 'Up to {size} each',
      free: '{size} free',
      goesOn: 'If the connection breaks, it goes on where it was.',
      overlay: 'Drop to upload',
      here: 'Open on your phone',
      signOut: 'Sign out',
      uploads: 'Uploads',
      history: 'Dropped from this browser',
      clear: 'Clear list',
      clearAsk: 'Clear the list? The files stay on the server, and their links go on working.',
      deleteToo: 'Delete the files, too',
      cleared: 'The list is cleared. The files stay on the server, and their links go on working.',
      clearedAll: 'The files are deleted.',
      sending: 'Sending {i} of {n}',
      paused: 'Paused at {i} of {n}',
      of: '{part} of {whole}',
      left: '{time} left',
      needYou: '1 file needs you|{n} files need you',
      arrived: '{name} has arrived.',
      allArrived: 'All {n} files have arrived',
      pause: 'Pause',
      goOn: 'Go on',
      cancelAll: 'Cancel all',
      cancelAllAsk: 'Cancel this file? What has arrived of it is deleted.|Cancel {n} files? What has arrived of them is deleted.',
      retryAll: 'Retry all',
      tryNow: 'Try now',
      files: '1 file|{n} files',
      unfold: 'Show files',
      fold: 'Hide files',
      copyLink: 'Copy link',
      copyAll: 'Copy links',
      copied: 'Copied',
      linkCopied: 'Link copied.',
      copyByHand: 'Copy this link by hand: {link}',
      qr: 'QR code',
      qrOf: 'QR code of {name}',
      share: 'Share',
      close: 'Close',
      retry: 'Retry',
      cancel: 'Cancel',
      discard: 'Discard',
      delete: 'Delete',
      keep: 'Keep',
      menu: 'More: {name}',
      deleteAsk: 'Delete from the server?',
      cancelAsk: 'Stop sending it?',
      isRemoved: '{name} is deleted.',
      isDiscarded: '{name} is discarded.',
      isCancelled: '{name} is cancelled.',
      notRemoved: 'The server could not be reached, so nothing was deleted. Try again.',
      notCleared: 'The server could not be reached, so the list is unchanged. Try again.',
      uploadOf: 'Upload of {name}',
      waiting: 'Waiting',
      behind: 'Waiting for another file of the same name',
      elsewhere: 'Waiting while another tab sends this file',
      finishing: 'Finishing…',
      tryingAgain: '{reason} Trying again…',
      isHere: '{percent} is here. Choose it again to go on.',
      sentElsewhere: '{percent} is here. Another tab is sending it.',
      doubles: 'You already dropped {name}. Keep both?|You already dropped {n} of these files. Keep both?',
      keepBoth: 'Keep both',
      skip: 'Skip',
      signedOut: 'Signed out. Nothing is lost.',
      password: 'Your session has ended. Enter the password to go on.',
      wrongPassword: 'That is not the password. Try again.',
      picture: 'Picture',
      text: 'Text',
      emptyFolder: 'The folder {name} is empty.',
      unreadables: '{name} could not be read and is left out.|{n} could not be read and are left out, {name} among them.',
      lost: 'No connection. Nothing is lost.',
      back: 'The server is back.',
      tooLarge: 'This file is too large. The server takes up to {size}.',
      unreadable: 'This file can no longer be read: it was changed, moved or deleted. Choose it again.',
      unfinished: 'The server has not finished this file. Retry sends what is missing.',
      removed: 'This file was deleted from the server. Retry sends it again.',
      broken: 'The connection broke off.',
      unsure: 'The connection broke off. The file may have arrived: look at the list before you retry.',
      stranger: 'Something else answered in the server’s place. Check the connection, then retry.',
      noServer: 'There is no server at this address any more. Reload this page.',
      proxyLogin: 'A proxy on the way asks for a login. Reload this page, then retry.',
      proxyRefused: 'A proxy on the way does not allow this upload.',
      proxySize: 'A proxy on the way refuses requests of this size. Ask its owner to allow larger ones.',
      proxyAway: 'A proxy on the way cannot reach the server.',
      proxyStatus: 'The upload was stopped on the way (status {status}).',
      'file-too-large': 'This file is too large. The server takes up to {limit}.',
      'larger-than-all': 'All files together may have {limit} here. This one has more.',
      'no-room': 'This file needs {size}. The server has less space than that.',
      'disk-full': 'The server’s disk is full. It goes on once there is space.',
      'holds-all-it-may': 'The server holds as much as it may. It goes on once there is space.',
      'list-full': 'The server holds as many files as it can list.',
      'busy': 'The server is busy.',
      'send-again': 'A part has to be sent again.',
      'too-slow': 'That was too slow for the server.',
      'folder-moved': 'A folder of the server was moved. Ask its owner.',
      'disk-fault': 'The server’s disk reported an error. What has arrived is kept.',
      'server-fault': 'Something went wrong on the server. If it stays, ask its owner.',
      'data-changed': 'What had arrived was changed on the server’s disk. It has to be sent again.',
      'name-taken': 'Something is in this file’s place on the server. Retry sends it again.',
      'other-drop': 'Another browser began this drop. Reload this page.',
      'wrong-passwords': 'Too many wrong passwords. Try again in 1 second.|Too many wrong passwords. Try again in {n} seconds.',
    },
    de: {
      title: 'Dateien ablegen',
      titleOf: 'Dateien ablegen auf {title}',
      choose: 'Dateien auswählen',
      chooseFolder: 'Ordner auswählen',
      folder: 'oder einen Ordner',
      more: 'Weitere ablegen oder auswählen',
      chooseMore: 'Weitere auswählen',
      paste: 'Einfügen geht auch.',
      limit: 'Je bis zu {size}',
      free: '{size} frei',
      goesOn: 'Bricht die Verbindung ab, geht es danach dort weiter.',
      overlay: 'Zum Hochladen ablegen',
      here: 'Auf dem Handy öffnen',
      signOut: 'Abmelden',
      uploads: 'Uploads',
      history: 'Von diesem Browser abgelegt',
      clear: 'Liste leeren',
      clearAsk: 'Die Liste leeren? Die Dateien bleiben auf dem Server, und ihre Links gelten weiter.',
      deleteToo: 'Auch die Dateien löschen',
      cleared: 'Die Liste ist leer. Die Dateien bleiben auf dem Server, und ihre Links gelten weiter.',
      clearedAll: 'Die Dateien sind gelöscht.',
      sending: '{i} von {n} wird gesendet',
      paused: 'Angehalten bei {i} von {n}',
      of: '{part} von {whole}',
      left: 'noch {time}',
      needYou: '1 Datei braucht Sie|{n} Dateien brauchen Sie',
      arrived: '{name} ist angekommen.',
      allArrived: 'Alle {n} Dateien sind angekommen',
      pause: 'Anhalten',
      goOn: 'Weiter',
      cancelAll: 'Alle abbrechen',
      cancelAllAsk: 'Diese Datei abbrechen? Was von ihr angekommen ist, wird gelöscht.|{n} Dateien abbrechen? Was von ihnen angekommen ist, wird gelöscht.',
      retryAll: 'Alle noch einmal',
      tryNow: 'Jetzt versuchen',
      files: '1 Datei|{n} Dateien',
      unfold: 'Dateien zeigen',
      fold: 'Dateien verbergen',
      copyLink: 'Link kopieren',
      copyAll: 'Links kopieren',
      copied: 'Kopiert',
      linkCopied: 'Der Link ist kopiert.',
      copyByHand: 'Kopieren Sie diesen Link von Hand: {link}',
      qr: 'QR-Code',
      qrOf: 'QR-Code von {name}',
      share: 'Teilen',
      close: 'Schließen',
      retry: 'Noch einmal',
      cancel: 'Abbrechen',
      discard: 'Verwerfen',
      delete: 'Löschen',
      keep: 'Behalten',
      menu: 'Mehr: {name}',
      deleteAsk: 'Vom Server löschen?',
      cancelAsk: 'Nicht weiter senden?',
      isRemoved: '{name} ist gelöscht.',
      isDiscarded: '{name} ist verworfen.',
      isCancelled: '{name} ist abgebrochen.',
      notRemoved: 'Der Server war nicht zu erreichen, es wurde nichts gelöscht. Versuchen Sie es noch einmal.',
      notCleared: 'Der Server war nicht zu erreichen, die Liste ist unverändert. Versuchen Sie es noch einmal.',
      uploadOf: 'Upload von {name}',
      waiting: 'Wartet',
      behind: 'Wartet auf eine andere Datei desselben Namens',
      elsewhere: 'Wartet, solange ein anderer Tab diese Datei sendet',
      finishing: 'Wird abgeschlossen…',
      tryingAgain: '{reason} Neuer Versuch…',
      isHere: '{percent} sind da. Wählen Sie die Datei noch einmal aus, dann geht es weiter.',
      sentElsewhere: '{percent} sind da. Ein anderer Tab sendet sie.',
      doubles: '{name} haben Sie schon abgelegt. Beide behalten?|{n} dieser Dateien haben Sie schon abgelegt. Beide behalten?',
      keepBoth: 'Beide behalten',
      skip: 'Auslassen',
      signedOut: 'Abgemeldet. Nichts ist verloren.',
      password: 'Ihre Sitzung ist zu Ende. Geben Sie das Passwort ein, dann geht es weiter.',
      wrongPassword: 'Das ist nicht das Passwort. Versuchen Sie es noch einmal.',
      picture: 'Bild',
      text: 'Text',
      emptyFolder: 'Der Ordner {name} ist leer.',
      unreadables: '{name} ließ sich nicht lesen und wird ausgelassen.|{n} ließen sich nicht lesen und werden ausgelassen, darunter {name}.',
      lost: 'Keine Verbindung. Nichts ist verloren.',
      back: 'Der Server ist wieder da.',
      tooLarge: 'Diese Datei ist zu groß. Der Server nimmt bis zu {size}.',
      unreadable: 'Diese Datei lässt sich nicht mehr lesen: Sie wurde geändert, verschoben oder gelöscht. Wählen Sie sie noch einmal aus.',
      unfinished: 'Der Server hat diese Datei nicht fertig. „Noch einmal“ sendet, was fehlt.',
      removed: 'Diese Datei wurde vom Server gelöscht. „Noch einmal“ sendet sie neu.',
      broken: 'Die Verbindung ist abgebrochen.',
      unsure: 'Die Verbindung ist abgebrochen. Vielleicht ist die Datei angekommen: Sehen Sie in der Liste nach, bevor Sie sie noch einmal senden.',
      stranger: 'Etwas anderes hat an Stelle des Servers geantwortet. Prüfen Sie die Verbindung und versuchen Sie es noch einmal.',
      noServer: 'Unter dieser Adresse ist kein Server mehr. Laden Sie die Seite neu.',
      proxyLogin: 'Ein Proxy auf dem Weg verlangt eine Anmeldung. Laden Sie die Seite neu und versuchen Sie es noch einmal.',
      proxyRefused: 'Ein Proxy auf dem Weg erlaubt diesen Upload nicht.',
      proxySize: 'Ein Proxy auf dem Weg nimmt so große Anfragen nicht an. Bitten Sie seinen Betreiber, größere zu erlauben.',
      proxyAway: 'Ein Proxy auf dem Weg erreicht den Server nicht.',
      proxyStatus: 'Der Upload wurde unterwegs aufgehalten (Status {status}).',
      'file-too-large': 'Diese Datei ist zu groß. Der Server nimmt bis zu {limit}.',
      'larger-than-all': 'Alle Dateien zusammen dürfen hier {limit} haben. Diese allein hat mehr.',
      'no-room': 'Diese Datei braucht {size}. So viel Platz hat der Server nicht.',
      'disk-full': 'Der Speicher des Servers ist voll. Es geht weiter, sobald Platz ist.',
      'holds-all-it-may': 'Der Server hat so viel, wie er haben darf. Es geht weiter, sobald Platz ist.',
      'list-full': 'Der Server hat so viele Dateien, wie er auflisten kann.',
      'busy': 'Der Server ist beschäftigt.',
      'send-again': 'Ein Teil muss noch einmal gesendet werden.',
      'too-slow': 'Das war dem Server zu langsam.',
      'folder-moved': 'Ein Ordner des Servers wurde verschoben. Fragen Sie seinen Betreiber.',
      'disk-fault': 'Der Datenträger des Servers meldet einen Fehler. Was angekommen ist, bleibt.',
      'server-fault': 'Auf dem Server ging etwas schief. Bleibt es so, fragen Sie seinen Betreiber.',
      'data-changed': 'Was angekommen war, wurde auf dem Server verändert. Es muss neu gesendet werden.',
      'name-taken': 'Auf dem Server liegt etwas am Platz dieser Datei. „Noch einmal“ sendet sie neu.',
      'other-drop': 'Ein anderer Browser hat damit begonnen. Laden Sie die Seite neu.',
      'wrong-passwords': 'Zu viele falsche Passwörter. In 1 Sekunde geht es weiter.|Zu viele falsche Passwörter. In {n} Sekunden geht es weiter.',
    },
    fr: {
      title: 'Déposer des fichiers',
      titleOf: 'Déposer des fichiers sur {title}',
      choose: 'Choisir des fichiers',
      chooseFolder: 'Choisir un dossier',
      folder: 'ou un dossier',
      more: 'Déposer ou choisir d’autres fichiers',
      chooseMore: 'En choisir d’autres',
      paste: 'Vous pouvez aussi coller.',
      limit: 'Jusqu’à {size} par fichier',
      free: '{size} libres',
      goesOn: 'Si la connexion se coupe, l’envoi reprend où il en était.',
      overlay: 'Déposez pour envoyer',
      here: 'Ouvrir sur le téléphone',
      signOut: 'Se déconnecter',
      uploads: 'Envois',
      history: 'Déposés depuis ce navigateur',
      clear: 'Vider la liste',
      clearAsk: 'Vider la liste ? Les fichiers restent sur le serveur et leurs liens restent valables.',
      deleteToo: 'Supprimer aussi les fichiers',
      cleared: 'La liste est vide. Les fichiers restent sur le serveur et leurs liens restent valables.',
      clearedAll: 'Les fichiers sont supprimés.',
      sending: 'Envoi de {i} sur {n}',
      paused: 'En pause à {i} sur {n}',
      of: '{part} sur {whole}',
      left: 'encore {time}',
      needYou: '1 fichier a besoin de vous|{n} fichiers ont besoin de vous',
      arrived: '{name} est arrivé.',
      allArrived: 'Les {n} fichiers sont arrivés',
      pause: 'Pause',
      goOn: 'Reprendre',
      cancelAll: 'Tout annuler',
      cancelAllAsk: 'Annuler ce fichier ? Ce qui en est arrivé sera supprimé.|Annuler {n} fichiers ? Ce qui en est arrivé sera supprimé.',
      retryAll: 'Tout réessayer',
      tryNow: 'Essayer maintenant',
      files: '{n} fichier|{n} fichiers',
      unfold: 'Afficher les fichiers',
      fold: 'Masquer les fichiers',
      copyLink: 'Copier le lien',
      copyAll: 'Copier les liens',
      copied: 'Copié',
      linkCopied: 'Le lien est copié.',
      copyByHand: 'Copiez ce lien à la main : {link}',
      qr: 'Code QR',
      qrOf: 'Code QR de {name}',
      share: 'Partager',
      close: 'Fermer',
      retry: 'Réessayer',
      cancel: 'Annuler',
      discard: 'Abandonner',
      delete: 'Supprimer',
      keep: 'Garder',
      menu: 'Plus : {name}',
      deleteAsk: 'Supprimer du serveur ?',
      cancelAsk: 'Arrêter l’envoi ?',
      isRemoved: '{name} est supprimé.',
      isDiscarded: '{name} est abandonné.',
      isCancelled: '{name} est annulé.',
      notRemoved: 'Le serveur est injoignable, rien n’a été supprimé. Réessayez.',
      notCleared: 'Le serveur est injoignable, la liste est inchangée. Réessayez.',
      uploadOf: 'Envoi de {name}',
      waiting: 'En attente',
      behind: 'Attend un autre fichier du même nom',
      elsewhere: 'Attend qu’un autre onglet ait envoyé ce fichier',
      finishing: 'Fin de l’envoi…',
      tryingAgain: '{reason} Nouvel essai…',
      isHere: '{percent} sont là. Choisissez-le de nouveau pour continuer.',
      sentElsewhere: '{percent} sont là. Un autre onglet l’envoie.',
      doubles: 'Vous avez déjà déposé {name}. Garder les deux ?|Vous avez déjà déposé {n} de ces fichiers. Garder les deux ?',
      keepBoth: 'Garder les deux',
      skip: 'Passer',
      signedOut: 'Déconnecté. Rien n’est perdu.',
      password: 'Votre session est terminée. Saisissez le mot de passe pour continuer.',
      wrongPassword: 'Ce n’est pas le mot de passe. Réessayez.',
      picture: 'Image',
      text: 'Texte',
      emptyFolder: 'Le dossier {name} est vide.',
      unreadables: '{name} n’a pas pu être lu et est laissé de côté.|{n} n’ont pas pu être lus et sont laissés de côté, dont {name}.',
      lost: 'Pas de connexion. Rien n’est perdu.',
      back: 'Le serveur est de retour.',
      tooLarge: 'Ce fichier est trop grand. Le serveur accepte jusqu’à {size}.',
      unreadable: 'Ce fichier ne peut plus être lu : il a été modifié, déplacé ou supprimé. Choisissez-le de nouveau.',
      unfinished: 'Le serveur n’a pas terminé ce fichier. « Réessayer » envoie ce qui manque.',
      removed: 'Ce fichier a été supprimé du serveur. « Réessayer » l’envoie de nouveau.',
      broken: 'La connexion s’est coupée.',
      unsure: 'La connexion s’est coupée. Le fichier est peut-être arrivé : regardez la liste avant de réessayer.',
      stranger: 'Autre chose a répondu à la place du serveur. Vérifiez la connexion, puis réessayez.',
      noServer: 'Il n’y a plus de serveur à cette adresse. Rechargez la page.',
      proxyLogin: 'Un proxy sur le trajet demande une connexion. Rechargez la page, puis réessayez.',
      proxyRefused: 'Un proxy sur le trajet interdit cet envoi.',
      proxySize: 'Un proxy sur le trajet refuse les requêtes de cette taille. Demandez à son responsable d’en accepter de plus grandes.',
      proxyAway: 'Un proxy sur le trajet ne peut pas joindre le serveur.',
      proxyStatus: 'L’envoi a été arrêté en chemin (statut {status}).',
      'file-too-large': 'Ce fichier est trop grand. Le serveur accepte jusqu’à {limit}.',
      'larger-than-all': 'Tous les fichiers ensemble peuvent faire {limit} ici. Celui-ci est plus grand.',
      'no-room': 'Ce fichier a besoin de {size}. Le serveur a moins de place.',
      'disk-full': 'Le disque du serveur est plein. L’envoi reprendra quand il y aura de la place.',
      'holds-all-it-may': 'Le serveur contient tout ce qu’il peut. L’envoi reprendra quand il y aura de la place.',
      'list-full': 'Le serveur contient autant de fichiers qu’il peut en lister.',
      'busy': 'Le serveur est occupé.',
      'send-again': 'Une partie doit être renvoyée.',
      'too-slow': 'C’était trop lent pour le serveur.',
      'folder-moved': 'Un dossier du serveur a été déplacé. Demandez à son responsable.',
      'disk-fault': 'Le disque du serveur signale une erreur. Ce qui est arrivé est gardé.',
      'server-fault': 'Un problème est survenu sur le serveur. S’il persiste, demandez à son responsable.',
      'data-changed': 'Ce qui était arrivé a été modifié sur le serveur. Il faut le renvoyer.',
      'name-taken': 'Quelque chose occupe la place de ce fichier sur le serveur. « Réessayer » l’envoie de nouveau.',
      'other-drop': 'Un autre navigateur a commencé ce dépôt. Rechargez la page.',
      'wrong-passwords': 'Trop de mots de passe faux. Réessayez dans {n} seconde.|Trop de mots de passe faux. Réessayez dans {n} secondes.',
    },
    es: {
      title: 'Soltar archivos',
      titleOf: 'Soltar archivos en {title}',
      choose: 'Elegir archivos',
      chooseFolder: 'Elegir una carpeta',
      folder: 'o una carpeta',
      more: 'Soltar o elegir más',
      chooseMore: 'Elegir más',
      paste: 'También se puede pegar.',
      limit: 'Hasta {size} cada uno',
      free: '{size} libres',
      goesOn: 'Si se corta la conexión, sigue donde estaba.',
      overlay: 'Suelte para subir',
      here: 'Abrir en el teléfono',
      signOut: 'Cerrar sesión',
      uploads: 'Subidas',
      history: 'Soltados desde este navegador',
      clear: 'Vaciar la lista',
      clearAsk: '¿Vaciar la lista? Los archivos quedan en el servidor y sus enlaces siguen funcionando.',
      deleteToo: 'Borrar también los archivos',
      cleared: 'La lista está vacía. Los archivos quedan en el servidor y sus enlaces siguen funcionando.',
      clearedAll: 'Los archivos están borrados.',
      sending: 'Enviando {i} de {n}',
      paused: 'En pausa en {i} de {n}',
      of: '{part} de {whole}',
      left: 'faltan {time}',
      needYou: '1 archivo le necesita|{n} archivos le necesitan',
      arrived: '{name} ha llegado.',
      allArrived: 'Han llegado los {n} archivos',
      pause: 'Pausa',
      goOn: 'Seguir',
      cancelAll: 'Cancelar todo',
      cancelAllAsk: '¿Cancelar este archivo? Se borrará lo que haya llegado de él.|¿Cancelar {n} archivos? Se borrará lo que haya llegado de ellos.',
      retryAll: 'Reintentar todo',
      tryNow: 'Probar ahora',
      files: '1 archivo|{n} archivos',
      unfold: 'Mostrar archivos',
      fold: 'Ocultar archivos',
      copyLink: 'Copiar enlace',
      copyAll: 'Copiar enlaces',
      copied: 'Copiado',
      linkCopied: 'Enlace copiado.',
      copyByHand: 'Copie este enlace a mano: {link}',
      qr: 'Código QR',
      qrOf: 'Código QR de {name}',
      share: 'Compartir',
      close: 'Cerrar',
      retry: 'Reintentar',
      cancel: 'Cancelar',
      discard: 'Descartar',
      delete: 'Borrar',
      keep: 'Conservar',
      menu: 'Más: {name}',
      deleteAsk: '¿Borrar del servidor?',
      cancelAsk: '¿Dejar de enviarlo?',
      isRemoved: '{name} está borrado.',
      isDiscarded: '{name} está descartado.',
      isCancelled: '{name} está cancelado.',
      notRemoved: 'No se pudo contactar con el servidor; no se ha borrado nada. Inténtelo de nuevo.',
      notCleared: 'No se pudo contactar con el servidor; la lista no ha cambiado. Inténtelo de nuevo.',
      uploadOf: 'Subida de {name}',
      waiting: 'En espera',
      behind: 'Espera a otro archivo del mismo nombre',
      elsewhere: 'Espera mientras otra pestaña envía este archivo',
      finishing: 'Terminando…',
      tryingAgain: '{reason} Probando otra vez…',
      isHere: 'Ya está el {percent}. Elíjalo otra vez para seguir.',
      sentElsewhere: 'Ya está el {percent}. Otra pestaña lo está enviando.',
      doubles: 'Ya soltó {name}. ¿Conservar ambos?|Ya soltó {n} de estos archivos. ¿Conservar ambos?',
      keepBoth: 'Conservar ambos',
      skip: 'Omitir',
      signedOut: 'Sesión cerrada. No se ha perdido nada.',
      password: 'Su sesión ha terminado. Escriba la contraseña para seguir.',
      wrongPassword: 'Esa no es la contraseña. Inténtelo de nuevo.',
      picture: 'Imagen',
      text: 'Texto',
      emptyFolder: 'La carpeta {name} está vacía.',
      unreadables: 'No se pudo leer {name} y se omite.|No se pudieron leer {n} y se omiten, entre ellos {name}.',
      lost: 'Sin conexión. No se ha perdido nada.',
      back: 'El servidor ha vuelto.',
      tooLarge: 'Este archivo es demasiado grande. El servidor acepta hasta {size}.',
      unreadable: 'Este archivo ya no se puede leer: se cambió, se movió o se borró. Elíjalo otra vez.',
      unfinished: 'El servidor no ha terminado este archivo. «Reintentar» envía lo que falta.',
      removed: 'Este archivo se borró del servidor. «Reintentar» lo envía otra vez.',
      broken: 'Se cortó la conexión.',
      unsure: 'Se cortó la conexión. Puede que el archivo haya llegado: mire la lista antes de reintentar.',
      stranger: 'Otra cosa respondió en lugar del servidor. Revise la conexión y reintente.',
      noServer: 'Ya no hay ningún servidor en esta dirección. Recargue la página.',
      proxyLogin: 'Un proxy en el camino pide iniciar sesión. Recargue la página y reintente.',
      proxyRefused: 'Un proxy en el camino no permite esta subida.',
      proxySize: 'Un proxy en el camino rechaza peticiones de este tamaño. Pida a su responsable que permita mayores.',
      proxyAway: 'Un proxy en el camino no alcanza el servidor.',
      proxyStatus: 'La subida se detuvo en el camino (estado {status}).',
      'file-too-large': 'Este archivo es demasiado grande. El servidor acepta hasta {limit}.',
      'larger-than-all': 'Todos los archivos juntos pueden tener {limit} aquí. Este tiene más.',
      'no-room': 'Este archivo necesita {size}. El servidor tiene menos espacio.',
      'disk-full': 'El disco del servidor está lleno. Seguirá cuando haya espacio.',
      'holds-all-it-may': 'El servidor tiene todo lo que puede tener. Seguirá cuando haya espacio.',
      'list-full': 'El servidor tiene tantos archivos como puede listar.',
      'busy': 'El servidor está ocupado.',
      'send-again': 'Hay que enviar una parte otra vez.',
      'too-slow': 'Fue demasiado lento para el servidor.',
      'folder-moved': 'Se movió una carpeta del servidor. Pregunte a su responsable.',
      'disk-fault': 'El disco del servidor informa de un error. Lo que ha llegado se conserva.',
      'server-fault': 'Algo falló en el servidor. Si continúa, pregunte a su responsable.',
      'data-changed': 'Lo que había llegado se cambió en el servidor. Hay que enviarlo otra vez.',
      'name-taken': 'Hay algo en el lugar de este archivo en el servidor. «Reintentar» lo envía otra vez.',
      'other-drop': 'Otro navegador empezó este envío. Recargue la página.',
      'wrong-passwords': 'Demasiadas contraseñas erróneas. Pruebe dentro de 1 segundo.|Demasiadas contraseñas erróneas. Pruebe dentro de {n} segundos.',
    },
    zh: {
      title: '投放文件',
      titleOf: '投放文件到 {title}',
      choose: '选择文件',
      chooseFolder: '选择文件夹',
      folder: '或文件夹',
      more: '拖入或选择更多',
      chooseMore: '继续选择',
      paste: '也可以粘贴。',
      limit: '每个最大 {size}',
      free: '剩余 {size}',
      goesOn: '连接中断后会从原处继续。',
      overlay: '松开即可上传',
      here: '在手机上打开',
      signOut: '退出登录',
      uploads: '上传',
      history: '从此浏览器投放的文件',
      clear: '清空列表',
      clearAsk: '清空列表？文件仍在服务器上，链接继续有效。',
      deleteToo: '同时删除文件',
      cleared: '列表已清空。文件仍在服务器上，链接继续有效。',
      clearedAll: '文件已删除。',
      sending: '正在发送第 {i} 个，共 {n} 个',
      paused: '已暂停在第 {i} 个，共 {n} 个',
      of: '{part}，共 {whole}',
      left: '剩余 {time}',
      needYou: '{n} 个文件需要您处理',
      arrived: '{name} 已送达。',
      allArrived: '全部 {n} 个文件已送达',
      pause: '暂停',
      goOn: '继续',
      cancelAll: '全部取消',
      cancelAllAsk: '取消 {n} 个文件？已送达的部分将被删除。',
      retryAll: '全部重试',
      tryNow: '立即重试',
      files: '{n} 个文件',
      unfold: '显示文件',
      fold: '隐藏文件',
      copyLink: '复制链接',
      copyAll: '复制全部链接',
      copied: '已复制',
      linkCopied: '链接已复制。',
      copyByHand: '请手动复制此链接：{link}',
      qr: '二维码',
      qrOf: '{name} 的二维码',
      share: '分享',
      close: '关闭',
      retry: '重试',
      cancel: '取消',
      discard: '放弃',
      delete: '删除',
      keep: '保留',
      menu: '更多：{name}',
      deleteAsk: '从服务器删除？',
      cancelAsk: '停止发送？',
      isRemoved: '{name} 已删除。',
      isDiscarded: '{name} 已放弃。',
      isCancelled: '{name} 已取消。',
      notRemoved: '无法连接服务器，没有删除任何内容。请重试。',
      notCleared: '无法连接服务器，列表没有变化。请重试。',
      uploadOf: '上传 {name}',
      waiting: '等待中',
      behind: '等待另一个同名文件',
      elsewhere: '另一个标签页正在发送此文件，请等待',
      finishing: '即将完成…',
      tryingAgain: '{reason} 正在重试…',
      isHere: '已送达 {percent}。再次选择该文件即可继续。',
      sentElsewhere: '已送达 {percent}。另一个标签页正在发送。',
      doubles: '{name} 已经投放过。两个都保留吗？|其中 {n} 个文件已经投放过。都保留吗？',
      keepBoth: '都保留',
      skip: '跳过',
      signedOut: '已退出登录。没有丢失任何内容。',
      password: '会话已结束。输入密码即可继续。',
      wrongPassword: '密码不正确。请重试。',
      picture: '图片',
      text: '文本',
      emptyFolder: '文件夹 {name} 是空的。',
      unreadables: '{n} 个文件无法读取，已略过，其中有 {name}。',
      lost: '没有连接。没有丢失任何内容。',
      back: '服务器已恢复。',
      tooLarge: '文件太大。服务器最多接受 {size}。',
      unreadable: '无法再读取此文件：它已被更改、移动或删除。请重新选择。',
      unfinished: '服务器尚未完成此文件。“重试”会发送缺少的部分。',
      removed: '此文件已从服务器删除。“重试”会重新发送。',
      broken: '连接中断。',
      unsure: '连接中断。文件可能已送达：重试前请先查看列表。',
      stranger: '有别的程序代替服务器作了应答。请检查连接后重试。',
      noServer: '此地址已没有服务器。请重新加载页面。',
      proxyLogin: '途中的代理要求登录。请重新加载页面后重试。',
      proxyRefused: '途中的代理不允许此上传。',
      proxySize: '途中的代理拒绝这么大的请求。请让其管理员放宽限制。',
      proxyAway: '途中的代理无法连接服务器。',
      proxyStatus: '上传在途中被阻止（状态 {status}）。',
      'file-too-large': '文件太大。服务器最多接受 {limit}。',
      'larger-than-all': '此处所有文件合计最多 {limit}，而此文件更大。',
      'no-room': '此文件需要 {size}，服务器空间不足。',
      'disk-full': '服务器磁盘已满。有空间后会继续。',
      'holds-all-it-may': '服务器已达到允许的总量。有空间后会继续。',
      'list-full': '服务器的文件数已达到可列出的上限。',
      'busy': '服务器繁忙。',
      'send-again': '有一部分需要重新发送。',
      'too-slow': '对服务器来说太慢了。',
      'folder-moved': '服务器的文件夹被移动了。请联系其管理员。',
      'disk-fault': '服务器磁盘报告错误。已送达的内容会保留。',
      'server-fault': '服务器出了问题。如果一直如此，请联系其管理员。',
      'data-changed': '已送达的内容在服务器上被更改，需要重新发送。',
      'name-taken': '服务器上此文件的位置已被占用。“重试”会重新发送。',
      'other-drop': '这次投放由另一个浏览器开始。请重新加载页面。',
      'wrong-passwords': '密码错误次数过多。请在 {n} 秒后重试。',
    },
    ja: {
      title: 'ファイルを届ける',
      titleOf: '{title} にファイルを届ける',
      choose: 'ファイルを選ぶ',
      chooseFolder: 'フォルダーを選ぶ',
      folder: 'またはフォルダー',
      more: 'ドロップまたは追加で選ぶ',
      chooseMore: 'さらに選ぶ',
      paste: '貼り付けもできます。',
      limit: '1 ファイル {size} まで',
      free: '空き {size}',
      goesOn: '接続が切れても、続きから再開します。',
      overlay: 'ドロップしてアップロード',
      here: 'スマートフォンで開く',
      signOut: 'サインアウト',
      uploads: 'アップロード',
      history: 'このブラウザーから届けたもの',
      clear: '一覧を空にする',
      clearAsk: '一覧を空にしますか？ファイルはサーバーに残り、リンクも使えます。',
      deleteToo: 'ファイルも削除する',
      cleared: '一覧を空にしました。ファイルはサーバーに残り、リンクも使えます。',
      clearedAll: 'ファイルを削除しました。',
      sending: '{n} 件中 {i} 件目を送信中',
      paused: '{n} 件中 {i} 件目で一時停止中',
      of: '{part} / {whole}',
      left: '残り {time}',
      needYou: '{n} 件のファイルに操作が必要です',
      arrived: '{name} が届きました。',
      allArrived: '{n} 件すべて届きました',
      pause: '一時停止',
      goOn: '再開',
      cancelAll: 'すべて中止',
      cancelAllAsk: '{n} 件を中止しますか？届いた分は削除されます。',
      retryAll: 'すべて再試行',
      tryNow: '今すぐ試す',
      files: '{n} 件のファイル',
      unfold: 'ファイルを表示',
      fold: 'ファイルを隠す',
      copyLink: 'リンクをコピー',
      copyAll: 'リンクをすべてコピー',
      copied: 'コピーしました',
      linkCopied: 'リンクをコピーしました。',
      copyByHand: 'このリンクを手でコピーしてください：{link}',
      qr: 'QR コード',
      qrOf: '{name} の QR コード',
      share: '共有',
      close: '閉じる',
      retry: '再試行',
      cancel: '中止',
      discard: '破棄',
      delete: '削除',
      keep: '残す',
      menu: 'その他：{name}',
      deleteAsk: 'サーバーから削除しますか？',
      cancelAsk: '送信をやめますか？',
      isRemoved: '{name} を削除しました。',
      isDiscarded: '{name} を破棄しました。',
      isCancelled: '{name} を中止しました。',
      notRemoved: 'サーバーにつながらず、何も削除していません。もう一度試してください。',
      notCleared: 'サーバーにつながらず、一覧は変わっていません。もう一度試してください。',
      uploadOf: '{name} のアップロード',
      waiting: '待機中',
      behind: '同じ名前の別のファイルを待っています',
      elsewhere: '別のタブがこのファイルを送信中のため待っています',
      finishing: '仕上げ中…',
      tryingAgain: '{reason} 再試行中…',
      isHere: '{percent} 届いています。もう一度選ぶと続きから送ります。',
      sentElsewhere: '{percent} 届いています。別のタブが送信中です。',
      doubles: '{name} はすでに届けています。両方残しますか？|このうち {n} 件はすでに届けています。両方残しますか？',
      keepBoth: '両方残す',
      skip: 'とばす',
      signedOut: 'サインアウトしました。失われたものはありません。',
      password: 'セッションが終わりました。続けるにはパスワードを入力してください。',
      wrongPassword: 'パスワードが違います。もう一度試してください。',
      picture: '画像',
      text: 'テキスト',
      emptyFolder: 'フォルダー {name} は空です。',
      unreadables: '{name} など {n} 件は読み取れず、とばしました。',
      lost: '接続がありません。失われたものはありません。',
      back: 'サーバーが戻りました。',
      tooLarge: 'このファイルは大きすぎます。サーバーが受け取れるのは {size} までです。',
      unreadable: 'このファイルはもう読み取れません。変更、移動、または削除されました。選び直してください。',
      unfinished: 'サーバーでこのファイルがまだ完成していません。「再試行」で足りない分を送ります。',
      removed: 'このファイルはサーバーから削除されました。「再試行」で送り直します。',
      broken: '接続が切れました。',
      unsure: '接続が切れました。ファイルは届いているかもしれません。再試行の前に一覧を確かめてください。',
      stranger: 'サーバーの代わりに別のものが応答しました。接続を確かめてから再試行してください。',
      noServer: 'このアドレスにはもうサーバーがありません。ページを再読み込みしてください。',
      proxyLogin: '途中のプロキシがログインを求めています。ページを再読み込みしてから再試行してください。',
      proxyRefused: '途中のプロキシがこのアップロードを許可していません。',
      proxySize: '途中のプロキシがこの大きさの要求を断りました。管理者に上限を上げてもらってください。',
      proxyAway: '途中のプロキシがサーバーに届きません。',
      proxyStatus: 'アップロードが途中で止められました（ステータス {status}）。',
      'file-too-large': 'このファイルは大きすぎます。サーバーが受け取れるのは {limit} までです。',
      'larger-than-all': 'ここでは全ファイル合わせて {limit} までです。このファイルだけで超えています。',
      'no-room': 'このファイルには {size} 必要ですが、サーバーの空きが足りません。',
      'disk-full': 'サーバーのディスクがいっぱいです。空きができると再開します。',
      'holds-all-it-may': 'サーバーが預かれる上限です。空きができると再開します。',
      'list-full': 'サーバーが一覧にできるファイル数の上限です。',
      'busy': 'サーバーが混み合っています。',
      'send-again': '一部を送り直す必要があります。',
      'too-slow': 'サーバーにとって遅すぎました。',
      'folder-moved': 'サーバーのフォルダーが移動されました。管理者に尋ねてください。',
      'disk-fault': 'サーバーのディスクでエラーが起きました。届いた分は残っています。',
      'server-fault': 'サーバーで問題が起きました。続くときは管理者に尋ねてください。',
      'data-changed': '届いた分がサーバー上で変更されました。送り直す必要があります。',
      'name-taken': 'サーバーでこのファイルの場所がふさがっています。「再試行」で送り直します。',
      'other-drop': '別のブラウザーが始めたものです。ページを再読み込みしてください。',
      'wrong-passwords': 'パスワードの間違いが多すぎます。{n} 秒後にもう一度試してください。',
    },
    ar: {
      title: 'إرسال الملفات',
      titleOf: 'إرسال الملفات إلى {title}',
      choose: 'اختيار ملفات',
      chooseFolder: 'اختيار مجلد',
      folder: 'أو مجلد',
      more: 'أفلت المزيد أو اختره',
      chooseMore: 'اختيار المزيد',
      paste: 'يمكنك اللصق أيضًا.',
      limit: 'حتى {size} لكل ملف',
      free: '{size} متاحة',
      goesOn: 'إذا انقطع الاتصال فسيتابع من حيث توقف.',
      overlay: 'أفلت للرفع',
      here: 'افتح على هاتفك',
      signOut: 'تسجيل الخروج',
      uploads: 'عمليات الرفع',
      history: 'أُرسلت من هذا المتصفح',
      clear: 'مسح القائمة',
      clearAsk: 'هل تريد مسح القائمة؟ تبقى الملفات على الخادم وتظل روابطها صالحة.',
      deleteToo: 'حذف الملفات أيضًا',
      cleared: 'مُسحت القائمة. تبقى الملفات على الخادم وتظل روابطها صالحة.',
      clearedAll: 'حُذفت الملفات.',
      sending: 'جارٍ إرسال {i} من {n}',
      paused: 'متوقف مؤقتًا عند {i} من {n}',
      of: '{part} من {whole}',
      left: 'بقي {time}',
      needYou: 'لا ملف يحتاج إليك|ملف واحد يحتاج إليك|ملفان يحتاجان إليك|{n} ملفات تحتاج إليك|{n} ملفًا يحتاج إليك|{n} ملف يحتاج إليك',
      arrived: 'وصل {name}.',
      allArrived: 'وصلت كل الملفات ({n})',
      pause: 'إيقاف مؤقت',
      goOn: 'متابعة',
      cancelAll: 'إلغاء الكل',
      cancelAllAsk: 'إلغاء الملفات؟|إلغاء هذا الملف؟ سيُحذف ما وصل منه.|إلغاء ملفين؟ سيُحذف ما وصل منهما.|إلغاء {n} ملفات؟ سيُحذف ما وصل منها.|إلغاء {n} ملفًا؟ سيُحذف ما وصل منها.|إلغاء {n} ملف؟ سيُحذف ما وصل منها.',
      retryAll: 'إعادة محاولة الكل',
      tryNow: 'حاول الآن',
      files: 'لا ملفات|ملف واحد|ملفان|{n} ملفات|{n} ملفًا|{n} ملف',
      unfold: 'إظهار الملفات',
      fold: 'إخفاء الملفات',
      copyLink: 'نسخ الرابط',
      copyAll: 'نسخ الروابط',
      copied: 'نُسخ',
      linkCopied: 'نُسخ الرابط.',
      copyByHand: 'انسخ هذا الرابط يدويًا: {link}',
      qr: 'رمز QR',
      qrOf: 'رمز QR للملف {name}',
      share: 'مشاركة',
      close: 'إغلاق',
      retry: 'إعادة المحاولة',
      cancel: 'إلغاء',
      discard: 'تجاهل',
      delete: 'حذف',
      keep: 'إبقاء',
      menu: 'المزيد: {name}',
      deleteAsk: 'حذف من الخادم؟',
      cancelAsk: 'إيقاف الإرسال؟',
      isRemoved: 'حُذف {name}.',
      isDiscarded: 'تُجوهل {name}.',
      isCancelled: 'أُلغي {name}.',
      notRemoved: 'تعذر الوصول إلى الخادم، فلم يُحذف شيء. حاول مرة أخرى.',
      notCleared: 'تعذر الوصول إلى الخادم، فلم تتغير القائمة. حاول مرة أخرى.',
      uploadOf: 'رفع {name}',
      waiting: 'في الانتظار',
      behind: 'ينتظر ملفًا آخر بالاسم نفسه',
      elsewhere: 'ينتظر حتى تُرسل علامة تبويب أخرى هذا الملف',
      finishing: 'جارٍ الإنهاء…',
      tryingAgain: '{reason} تجري إعادة المحاولة…',
      isHere: 'وصل {percent}. اختره مرة أخرى للمتابعة.',
      sentElsewhere: 'وصل {percent}. ترسله علامة تبويب أخرى.',
      doubles: 'الإبقاء على الكل؟|سبق أن أرسلت {name}. الإبقاء على الاثنين؟|سبق أن أرسلت ملفين منها. الإبقاء على الكل؟|سبق أن أرسلت {n} ملفات منها. الإبقاء على الكل؟|سبق أن أرسلت {n} ملفًا منها. الإبقاء على الكل؟|سبق أن أرسلت {n} ملف منها. الإبقاء على الكل؟',
      keepBoth: 'الإبقاء على الكل',
      skip: 'تخطٍّ',
      signedOut: 'سُجّل خروجك. لم يُفقد شيء.',
      password: 'انتهت جلستك. أدخل كلمة المرور للمتابعة.',
      wrongPassword: 'كلمة المرور غير صحيحة. حاول مرة أخرى.',
      picture: 'صورة',
      text: 'نص',
      emptyFolder: 'المجلد {name} فارغ.',
      unreadables: 'تعذرت قراءة {name} وتُرك.|تعذرت قراءة {name} وتُرك.|تعذرت قراءة ملفين وتُركا، منهما {name}.|تعذرت قراءة {n} ملفات وتُركت، منها {name}.|تعذرت قراءة {n} ملفًا وتُركت، منها {name}.|تعذرت قراءة {n} ملف وتُركت، منها {name}.',
      lost: 'لا يوجد اتصال. لم يُفقد شيء.',
      back: 'عاد الخادم.',
      tooLarge: 'هذا الملف كبير جدًا. يقبل الخادم حتى {size}.',
      unreadable: 'لم تعد قراءة هذا الملف ممكنة: فقد غُيّر أو نُقل أو حُذف. اختره مرة أخرى.',
      unfinished: 'لم يُنهِ الخادم هذا الملف. «إعادة المحاولة» ترسل ما ينقص.',
      removed: 'حُذف هذا الملف من الخادم. «إعادة المحاولة» ترسله من جديد.',
      broken: 'انقطع الاتصال.',
      unsure: 'انقطع الاتصال. ربما وصل الملف: راجع القائمة قبل إعادة المحاولة.',
      stranger: 'أجاب شيء آخر بدلًا من الخادم. تحقق من الاتصال ثم أعد المحاولة.',
      noServer: 'لم يعد هناك خادم في هذا العنوان. أعد تحميل الصفحة.',
      proxyLogin: 'يطلب وكيل في الطريق تسجيل الدخول. أعد تحميل الصفحة ثم أعد المحاولة.',
      proxyRefused: 'لا يسمح وكيل في الطريق بهذا الرفع.',
      proxySize: 'يرفض وكيل في الطريق الطلبات بهذا الحجم. اطلب من صاحبه السماح بأكبر منها.',
      proxyAway: 'تعذر على وكيل في الطريق الوصول إلى الخادم.',
      proxyStatus: 'أُوقف الرفع في الطريق (الحالة {status}).',
      'file-too-large': 'هذا الملف كبير جدًا. يقبل الخادم حتى {limit}.',
      'larger-than-all': 'الحد لكل الملفات معًا هنا {limit}، وهذا الملف أكبر.',
      'no-room': 'يحتاج هذا الملف إلى {size}، والمساحة على الخادم أقل.',
      'disk-full': 'قرص الخادم ممتلئ. سيتابع حين تتوفر مساحة.',
      'holds-all-it-may': 'بلغ الخادم الحد المسموح له. سيتابع حين تتوفر مساحة.',
      'list-full': 'بلغ الخادم عدد الملفات الذي يمكنه سرده.',
      'busy': 'الخادم مشغول.',
      'send-again': 'يجب إرسال جزء مرة أخرى.',
      'too-slow': 'كان ذلك بطيئًا جدًا على الخادم.',
      'folder-moved': 'نُقل مجلد من مجلدات الخادم. اسأل صاحبه.',
      'disk-fault': 'أبلغ قرص الخادم عن خطأ. ما وصل محفوظ.',
      'server-fault': 'حدث خطأ في الخادم. إذا استمر فاسأل صاحبه.',
      'data-changed': 'تغيّر ما وصل على قرص الخادم. يجب إرساله من جديد.',
      'name-taken': 'مكان هذا الملف على الخادم مشغول. «إعادة المحاولة» ترسله من جديد.',
      'other-drop': 'بدأ متصفح آخر هذا الإرسال. أعد تحميل الصفحة.',
      'wrong-passwords': 'كلمات مرور خاطئة كثيرة. حاول بعد {n} ثانية.',
    },
  };
}
})();
</script>
</body>
</html>
'''  # noqa: E501  # fmt: skip
# page: end


if __name__ == "__main__":
    sys.exit(main())
