"""The command line: how the server starts, what it says, how it ends."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import uuid as uuids
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Connection, Server, StartServer, chunk_request, exchange, request, running, upload, wait_until

import build
import pyfiledrop

WINDOWS = sys.platform == "win32"
DEADLINE_SECONDS = 20


def run(program: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run the program, which must end by itself."""
    return subprocess.run(
        [*program, *options], capture_output=True, encoding="utf-8", timeout=DEADLINE_SECONDS, stdin=subprocess.DEVNULL
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Row 43: one sentence on stderr, nothing on stdout, exit status 2."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("pyfiledrop: "), done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--port", "65536"],
        ["-p", "-1"],
        ["-p", "http"],
        ["--host", ""],
        ["-p", ""],
        ["-p", "1_6"],
        ["-p", "٨٠"],
        ["--max-size", "0"],
        ["--max-size", "-5"],
        ["--max-size", "1.5"],
        ["--max-size", "9" * 30],
        ["--max-total", "0"],
        ["--timeout", "999"],
        ["--timeout", "86400001"],
        ["--chunk-size", "1023"],
        ["--chunk-size", "8MB"],
        ["--chunk-size", str((1 << 40) + 1)],
        ["--parallel-chunks", "0"],
        ["--parallel-chunks", "6"],
        ["--stale-hours", "0"],
        ["--stale-hours", "-24"],
        ["--dz-cdn", "javascript:alert(1)"],
        ["--dz-cdn", "ftp://cdn.example"],
        ["--dz-cdn", 'https://cdn.example/"><script>'],
        ["--dz-cdn", "https://cdn.example/; script-src *"],
        ["--dz-cdn", ""],
        ["--dz-version", "latest"],
        ["--dz-version", "6.3.5/../../x"],
        ["--dz-version", '6.3.5"'],
        ["-s", ""],
        ["-c", ""],
        ["--allow-downloads=yes"],
        ["--tls-key", "key.pem"],
        ["--allow-host", "name:8080"],
        ["--allow-host", "http://name"],
        ["--trusted-proxy", "name"],
        ["--trusted-proxy", "10.0.0.0/8"],
        ["--trusted-proxy", ""],
        ["--password-file", ""],
        ["--port"],
        ["--no-such-option"],
        ["folder"],
    ],
    ids=" ".join,
)
def test_row_43_option_out_of_range(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    """An option out of range is one sentence on stderr and exit status 2, before anything is opened."""
    with pytest.raises(SystemExit) as caught:
        pyfiledrop.Settings.parse(options)
    out, err = capsys.readouterr()
    assert_refused(subprocess.CompletedProcess(options, int(str(caught.value.code)), out, err))


def test_row_43_option_out_of_range_ends_the_program(program: list[str], tmp_path: Path) -> None:
    """The program itself ends so too, and makes no folder."""
    done = run(program, "-s", str(tmp_path / "s"), "-c", str(tmp_path / "c"), "--port", "65536")
    assert_refused(done, "65535")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        (["-p", "0"], "port", 0),
        (["-p", "65535"], "port", 65535),
        (["--max-size", "1"], "max_bytes", 1 << 20),
        (["--max-total", "3"], "max_total_bytes", 3 << 20),
        (["--chunk-size", "1024"], "chunk_size", 1024),
        (["--timeout", "1000"], "timeout", 1000),
        (["--dz-cdn", "http://10.0.0.1:8/a/b/"], "dz_cdn", "http://10.0.0.1:8/a/b"),
        (["--dz-version", "6.0.0-beta.2"], "dz_version", "6.0.0-beta.2"),
        ([], "max_total_bytes", None),
        ([], "port", 16273),
        ([], "host", "0.0.0.0"),
        ([], "max_size", 100_000),
        ([], "timeout", 120_000),
        ([], "allow_downloads", False),
        (["-a"], "allow_downloads", True),
    ],
)
def test_options_are_read(options: list[str], field: str, value: object) -> None:
    """The limits themselves are allowed; defaults are those that were promised."""
    assert getattr(pyfiledrop.Settings.parse(options), field) == value


def test_folders_do_not_depend_on_where_one_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Folders lie beside the script unless asked for; one that is asked for is made absolute at once."""
    monkeypatch.chdir(tmp_path)
    default, asked = pyfiledrop.Settings.parse([]), pyfiledrop.Settings.parse(["-s", "a", "-c", "b"])
    beside = Path(pyfiledrop.__file__).resolve().parent
    assert (default.storage, default.chunks) == (beside / "storage", beside / "chunks")
    assert (asked.storage, asked.chunks) == (tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("option", ["-s", "-c"])
@pytest.mark.parametrize("below", [False, True], ids=["a file", "below a file"])
def test_row_43_folder_that_cannot_be_used(program: list[str], tmp_path: Path, option: str, below: bool) -> None:
    """A folder that is a file, or that cannot be written to, is one sentence that names it."""
    file = tmp_path / "file"
    file.write_text("mine")
    folder = file / "below" if below else file
    options = {"-s": str(tmp_path / "s"), "-c": str(tmp_path / "c"), option: str(folder)}
    done = run(program, "-p", "0", *[word for pair in options.items() for word in pair])
    assert_refused(done, str(folder))
    assert file.read_text() == "mine"


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"\0" * 4096], ids=["text", "zeros"])
def test_row_43_record_that_is_damaged(program: list[str], tmp_path: Path, content: bytes) -> None:
    """A record that is no database is never overwritten; one sentence says where it is."""
    record = tmp_path / ".pyfiledrop.sqlite3"
    record.write_bytes(content)
    done = run(program, "-p", "0", "-s", str(tmp_path), "-c", str(tmp_path / "c"))
    assert_refused(done, str(record))
    assert record.read_bytes() == content


def test_row_43_busy_port(program: list[str], server: Server, tmp_path: Path) -> None:
    """A port that another program has is one sentence that names it; the other one is not disturbed."""
    folders = ["-s", str(tmp_path / "s"), "-c", str(tmp_path / "c")]
    assert_refused(run(program, "--host", server.host, "-p", str(server.port), *folders), str(server.port))
    assert exchange(server, request("GET", "/uploads")).status == 200


@pytest.mark.parametrize("host", ["203.0.113.7", "é" * 80, "a..b", "[::1"])
def test_row_43_host_that_is_not_ours(program: list[str], tmp_path: Path, host: str) -> None:
    """An address that this machine does not have, or that is none, is one sentence."""
    done = run(program, "-p", "0", "-s", str(tmp_path / "s"), "-c", str(tmp_path / "c"), "--host", host)
    assert_refused(done, "listen")


def test_row_34_second_server_on_the_same_storage(program: list[str], server: Server, tmp_path: Path) -> None:
    """Two servers on one storage: the second says so and exits; the first goes on."""
    before = upload(server, b"first")
    done = run(program, "-p", "0", "-s", str(server.storage), "-c", str(tmp_path / "c"))
    assert_refused(done, str(server.storage), "Another pyfiledrop")
    upload(server, b"second")
    assert before["name"] in {path.name[37:] for path in server.storage.iterdir()}


def test_storage_is_free_after_a_crash(server: Server) -> None:
    """What keeps a second server out ends with the process, however it ends."""
    server.kill()
    server.start()
    assert exchange(server, request("GET", "/uploads")).status == 200


def test_version(program: list[str]) -> None:
    """`--version` prints name and version, and starts nothing."""
    done = run(program, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pyfiledrop {pyfiledrop.__version__}\n", "")


def said_at_start(server: Server) -> str:
    """All that it prints; the line with the address, for which a start waits, is not the last."""
    wait_until(lambda: "Ctrl-C ends it." in server.output())
    return server.output()


def test_start_says_what_is_in_force(start_server: StartServer) -> None:
    """Address, folders, limits and whether files are given back: each is printed at start."""
    server = start_server("--max-size", "3", "--max-total", "2048", "--chunk-size", "65536", "--parallel-chunks", "5")
    said = said_at_start(server)
    for words in (server.url, str(server.storage), str(server.chunks), "3.0 MB", "2.0 GB", "64.0 KB", "5 at a time"):
        assert words in said
    assert "off; -a allows them" in said
    assert server.log() == ""


def test_start_says_what_is_unusual(start_server: StartServer) -> None:
    """Downloads that are allowed and a disk that is not waited for are named."""
    said = said_at_start(start_server("-a", "--no-fsync", "--disable-parallel-chunks"))
    assert "can fetch it" in said and "power cut" in said and "1 at a time" in said


#: As the command that pip installs does it: the module lies among the packages, and the folder is where one is.
INSTALLED = """
import os, sys
packages, folder = sys.argv[1:3]
del sys.argv[1:3]
os.chdir(folder)
sys.path.insert(0, packages)
import pyfiledrop
sys.exit(pyfiledrop.main())
"""


@pytest.mark.parametrize("there", [True, False])
def test_row_59_page_of_ones_own(tmp_path: Path, there: bool) -> None:
    """An index.html in the folder where the installed command is started is the page, and the start says so."""
    packages, folder = tmp_path / "site-packages", tmp_path / "folder"
    for path in (packages, folder):
        path.mkdir()
    shutil.copy(pyfiledrop.__file__, packages)
    own = folder / "index.html"
    if there:
        own.write_text("<p>mine</p>", "utf-8")
    with running([sys.executable, "-c", INSTALLED, str(packages), str(folder)], tmp_path) as server:
        assert re.findall(r"^  page +(.*)$", said_at_start(server), re.MULTILINE) == ([str(own)] if there else [])
        assert ("<p>mine</p>" in exchange(server, request("GET", "/")).text) is there


@pytest.mark.parametrize("content", [b"<p>mine</p>", b"\xff", None])
def test_row_59_page_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, run_on_screen: Callable[..., list[str]], tmp_path: Path, content: bytes | None
) -> None:
    """A page of one's own is named at start whether it can be read or not, for it is used in either case."""
    own = tmp_path / "index.html"
    if content is not None:
        own.write_bytes(content)
    monkeypatch.setattr(pyfiledrop, "OWN_PAGE", own)
    run_on_screen(out=(out := Terminal("utf-8")))
    assert (f"\n  page       {own}\n" in out.shown()) is (content is not None)


def test_start_says_what_it_found(start_server: StartServer) -> None:
    """Unfinished uploads that can go on, files that are gone and files that were added are counted at start."""
    server = start_server()
    exchange(server, chunk_request(b"0123456789", 0, uuid=str(uuids.uuid4()), chunk_size=4))
    gone = upload(server, b"gone")
    server.stop()
    next(server.storage.glob(f"{gone['uuid']}_*")).unlink()
    (server.storage / f"{uuids.uuid4()}_old.txt").write_text("from before")
    (server.chunks / "something else").mkdir()
    server.start()
    said = said_at_start(server)
    for words in (
        "1 unfinished upload can go on",
        "1 finished file is gone",
        "1 file in storage was",
        "something else",
    ):
        assert words in said
    assert (server.chunks / "something else").is_dir()


@pytest.mark.parametrize(
    ("files", "options", "is_said"),
    [
        ((), (), True),
        (("dropzone-min.js",), (), True),
        (("dropzone-min.js", "dropzone.css"), (), False),
        ((), ("--dz-cdn", "https://cdn.example"), False),
        ((), ("--dz-version", "5.9.3"), False),
    ],
)
def test_start_says_what_the_page_lacks(
    tmp_path: Path, files: tuple[str, ...], options: tuple[str, ...], is_said: bool
) -> None:
    """A script without Dropzone serves, and says in one line what that means, unless a CDN was asked for."""
    for name in ("pyfiledrop.py", *files):
        shutil.copy(build.ROOT / name, tmp_path)
    server = Server([sys.executable, str(tmp_path / "pyfiledrop.py")], tmp_path, options, {})
    try:
        lines = [line for line in said_at_start(server).splitlines() if "Dropzone" in line]
        assert exchange(server, request("GET", "/")).status == 200
    finally:
        server.kill()
    assert lines == is_said * [
        "  note       Dropzone is not beside the script; the page loads it from a CDN, "
        "and without internet it is a plain form."
    ]


def test_a_signal_that_is_ignored_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nohup` lets a server outlive its terminal: SIGHUP stays ignored then. The others end the server all the same."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    for ignored in (False, True):
        handled: dict[int, str] = {}
        monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN if ignored else signal.SIG_DFL)  # noqa: B023
        monkeypatch.setattr(signal, "signal", handled.__setitem__)
        pyfiledrop._handle_signals("handler")
        expected = [name for name in names if not (ignored and name == "SIGHUP")]
        assert handled == {getattr(signal, name): "handler" for name in expected}


@pytest.mark.skipif(WINDOWS, reason="Windows has no signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it(server: Server, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with exit status 0 and without a traceback, also with connections open."""
    with Connection(server) as idle, Connection(server) as used:
        used.send(request("GET", "/uploads"))
        assert used.receive().status == 200
        server.proc.send_signal(number)
        assert server.proc.wait(DEADLINE_SECONDS) == 0, server.output()
        assert idle.closed() and used.closed()
    assert "Traceback" not in server.log()


def refuses(server: Server) -> bool:
    """Whether nobody listens on the server's port any more."""
    try:
        socket.create_connection((server.host, server.port), 1).close()
    except OSError:
        return True
    return False


def stop_in_the_middle(server: Server, connection: Connection, uuid: str, content: bytes) -> bytes:
    """Send the first of two chunks, and half of the other one; return what is left of it."""
    first, second = (chunk_request(content, index, uuid=uuid, chunk_size=200_000) for index in (0, 1))
    assert exchange(server, first).status == 200
    connection.send(second[:50_000])
    wait_until(lambda: (server.chunks / uuid / "data").stat().st_size > 200_000)
    return second[50_000:]


CONTENT = os.urandom(300_000)


@pytest.mark.skipif(WINDOWS, reason="Windows has no signals")
def test_sigterm_while_an_upload_runs(server: Server) -> None:
    """A chunk on its way is taken in before the server ends, and acknowledged."""
    uuid = str(uuids.uuid4())
    with Connection(server) as connection:
        rest = stop_in_the_middle(server, connection, uuid, CONTENT)
        server.proc.terminate()
        wait_until(lambda: refuses(server))
        connection.send(rest)
        answer = connection.receive()
        assert answer.status == 200 and answer.json()["files"][0]["done"]
    assert server.proc.wait(DEADLINE_SECONDS) == 0, server.output()
    assert (server.storage / f"{uuid}_file.bin").read_bytes() == CONTENT
    assert "Traceback" not in server.log()


@pytest.mark.slow
@pytest.mark.skipif(WINDOWS, reason="Windows has no signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_twice_while_an_upload_stands_still(server: Server, number: signal.Signals) -> None:
    """A client that stands still does not keep it running; what was acknowledged is there at the next start."""
    uuid = str(uuids.uuid4())
    with Connection(server) as connection:
        stop_in_the_middle(server, connection, uuid, CONTENT)
        server.proc.send_signal(number)
        wait_until(lambda: refuses(server))
        server.proc.send_signal(number)
        assert server.proc.wait(DEADLINE_SECONDS) in (0, -number), server.output()
    assert "Traceback" not in server.log()
    server.start()
    assert exchange(server, request("GET", f"/uploads/{uuid}")).json()["upload"]["chunks"] == [[0, 0]]
    answer = exchange(server, chunk_request(CONTENT, 1, uuid=uuid, chunk_size=200_000))
    assert answer.json()["files"][0]["done"]
    assert (server.storage / f"{uuid}_file.bin").read_bytes() == CONTENT


# What only a person at the screen sees


@pytest.fixture
def run_on_screen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """A function that runs the main program on a screen up to where it serves: what it told the browser to open."""

    def serve(server: pyfiledrop.Server) -> None:
        raise pyfiledrop._Stop

    def run(*options: str, clicked: bool = True, out: Any = None, folder: Path = tmp_path) -> list[str]:
        opened: list[str] = []
        here = ("--host", "127.0.0.1", "-p", "0", "-s", str(folder / "s"), "-c", str(folder / "c"))
        settings = pyfiledrop.Settings.parse([*here, *options])
        with monkeypatch.context() as patch:
            patch.setenv("DISPLAY", ":0")
            patch.setattr(pyfiledrop, "FROZEN", clicked)
            patch.setattr(pyfiledrop, "_handle_signals", lambda handler: None)
            patch.setattr(pyfiledrop.Settings, "parse", lambda argv: settings)
            patch.setattr(pyfiledrop.Server, "serve_forever", serve)
            patch.setattr("webbrowser.open", opened.append)
            patch.setattr(sys, "stdout", out)
            assert pyfiledrop.main([]) == 0
        return opened

    handlers, level = list(pyfiledrop.log.handlers), pyfiledrop.log.level
    yield run
    pyfiledrop.log.handlers[:] = handlers
    pyfiledrop.log.setLevel(level)


class Terminal(io.TextIOWrapper):
    """A terminal that can show what this encoding has."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding)

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined, no-any-return]


def test_double_click_opens_the_page(run_on_screen: Callable[..., list[str]]) -> None:
    """The exe, started without a terminal, opens the page in the browser, unless it was told not to."""
    (address,) = run_on_screen()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    assert run_on_screen("--no-open") == []
    assert run_on_screen(clicked=False) == []


@pytest.mark.parametrize(
    ("frozen", "display", "argv", "expected"),
    [(True, ":0", [], True), (True, "", [], False), (False, ":0", [], False), (True, ":0", ["-a"], False)],
)
def test_what_a_double_click_is(
    monkeypatch: pytest.MonkeyPatch, frozen: bool, display: str, argv: list[str], expected: bool
) -> None:
    """The exe, a screen, and not one argument: from a terminal or a service nothing is opened."""
    monkeypatch.setattr(pyfiledrop, "FROZEN", frozen)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    assert pyfiledrop.is_double_clicked(argv) is expected


def test_code_for_phones(run_on_screen: Callable[..., list[str]]) -> None:
    """A terminal shows the address as a QR code; what is no terminal, or has no such characters, does not."""
    terminal, plain, pipe = Terminal("utf-8"), Terminal("ascii"), io.StringIO()
    for out in (terminal, plain, pipe):
        run_on_screen(out=out)
    assert terminal.shown().count("█") > 50
    assert "█" not in pipe.getvalue() and "http://127.0.0.1:" in pipe.getvalue()
    assert "http://127.0.0.1:" in plain.shown()


def test_folder_that_the_output_cannot_spell(run_on_screen: Callable[..., list[str]], tmp_path: Path) -> None:
    """A name beyond the console's characters is shown escaped, and a program without any output runs as well."""
    plain = Terminal("cp1252")
    run_on_screen(out=plain, folder=tmp_path / "Загрузки")
    assert r"\u0417" in plain.shown() and "http://127.0.0.1:" in plain.shown()
    run_on_screen(out=None)
