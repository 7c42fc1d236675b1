"""HTTPS: the same server behind TLS, and whoever shakes hands badly."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from browsing import MIB, Visits, assert_stored, make_file
from conftest import (
    FORM,
    PASSWORD,
    Connection,
    Response,
    Server,
    StartServer,
    chunk_request,
    cookie_of,
    curl,
    exchange,
    fails_to_start,
    multipart_body,
    request,
    run_request,
    running,
    sign_in_request,
    upload,
    wait_until,
)
from storing import new_uuid


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for this machine and its key, as files."""
    folder = tmp_path_factory.mktemp("certificate")
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.fixture(scope="session")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    """With what clients meet that certificate; they check it."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def tls_server(
    program: list[str], tmp_path_factory: pytest.TempPathFactory, certificate: tuple[str, str], trust: ssl.SSLContext
) -> Iterator[Server]:
    cert, key = certificate
    with running(program, tmp_path_factory.mktemp("https"), "-a", "--tls-cert", cert, "--tls-key", key) as server:
        server.tls = trust
        yield server


def tell(answer: Response) -> tuple[int, Any]:
    """What an answer says of files, without what is different each time."""
    told = answer.json()
    for file in [*told.get("files", []), *([told["upload"]] if "upload" in told else [])]:
        for key in ("uuid", "link", "created"):
            file.pop(key)
    return answer.status, told


@pytest.mark.parametrize("size", [0, 1, 1000, 65535, 65536, 65537, 300_000, 5 * MIB + 3])
def test_https_does_what_http_does(tls_server: Server, shared_server: Server, size: int) -> None:
    """The same bytes become the same file and get the same answers as over http, where the system moves them."""
    content = random.Random(size).randbytes(size)
    half = max(1, size // 2 + 1)
    uuid, by_runs, runs_of = new_uuid(), new_uuid(), 30_000
    form = multipart_body({}, [("file", "form.bin", content), ("file", "more.bin", b"more")])
    requests = [
        chunk_request(content, 0, uuid=uuid, chunk_size=half),
        chunk_request(content, 0, uuid=uuid, chunk_size=half, data=content[:half] + b"x"),
        *([chunk_request(content, 1, uuid=uuid, chunk_size=half)] if size > half else []),
        request("POST", "/upload", FORM, form),
        request("PUT", "/upload/put.bin", {}, content),
        chunk_request(content, 0, uuid=new_uuid(), chunk_size=half, data=content[:half] + b"x"),
        request("POST", "/upload", FORM, form[:-1]),
        chunk_request(content, 0, uuid=by_runs, chunk_size=runs_of),
        run_request(content, 1, 3, uuid=by_runs, chunk_size=runs_of),
        run_request(content, 0, 999, uuid=by_runs, chunk_size=runs_of, data=content[:runs_of] + bytes(runs_of)),
        run_request(content, 0, 999, uuid=by_runs, chunk_size=runs_of, data=content + b"x"),
        run_request(content, 0, 999, uuid=by_runs, chunk_size=runs_of),
    ]
    told: list[list[Any]] = []
    for server in (tls_server, shared_server):
        with Connection(server) as connection:
            answers = []
            for data in requests:
                connection.send(data)
                answers.append(connection.receive())
                if answers[-1].status >= 400:
                    connection.close()
                    connection.__init__(server)  # type: ignore[misc]
        told.append([tell(answer) for answer in answers])
        for name in (uuid, by_runs):
            (path,) = server.storage.glob(f"{name}_*")
            assert path.read_bytes() == content
        link = exchange(server, request("PUT", "/upload/x", {}, content)).json()["files"][0]["link"]
        assert exchange(server, request("GET", f"/{link}")).body == content
    assert told[0] == told[1]


def test_https_download_and_ranges(tls_server: Server) -> None:
    """A file comes back whole, in ranges from any place, and without its body."""
    content = random.randbytes(3 * MIB + 17)
    link = upload(tls_server, content, chunk_size=MIB)["link"]
    assert exchange(tls_server, request("GET", f"/{link}")).body == content
    size = len(content)
    for first, last in ((0, 0), (1, 65536), (65535, 65537), (MIB - 1, 2 * MIB), (size - 1, size - 1), (7, size - 1)):
        answer = exchange(tls_server, request("GET", f"/{link}", {"Range": f"bytes={first}-{last}"}))
        assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes {first}-{last}/{size}")
        assert answer.body == content[first : last + 1]
    answer = exchange(tls_server, request("HEAD", f"/{link}"))
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(size))


def test_https_with_many_connections(tls_server: Server) -> None:
    """Forty clients at once, each with a file in chunks over one connection: all whole."""
    contents = [random.randbytes(200_000 + number) for number in range(40)]

    def send(content: bytes) -> bytes:
        uuid = new_uuid()
        with Connection(tls_server, timeout=60) as connection:
            for index in range(-(-len(content) // 70_000)):
                connection.send(chunk_request(content, index, uuid=uuid, chunk_size=70_000))
                answer = connection.receive()
                assert answer.status == 200, answer.text
            connection.send(request("GET", f"/download/{uuid}"))
            return connection.receive().body

    with ThreadPoolExecutor(len(contents)) as pool:
        assert list(pool.map(send, contents)) == contents


def test_https_cookies_are_secure(
    start_server: StartServer, certificate: tuple[str, str], trust: ssl.SSLContext
) -> None:
    """Over https session and drop are for https only."""
    server = start_server(
        "--tls-cert", certificate[0], "--tls-key", certificate[1], env={"PYFILEDROP_PASSWORD": PASSWORD}
    )
    server.tls = trust
    answer = exchange(server, sign_in_request(PASSWORD))
    page = exchange(server, request("GET", "/", {"Cookie": cookie_of(answer)}))
    for one in (answer, page):
        (cookie,) = one.headers.get_all("Set-Cookie") or []
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes
        assert cookie.startswith("__Host-") and not any(part.startswith("domain") for part in attributes)


def test_https_in_a_browser(tls_server: Server, visit: Visits, tmp_path: Path) -> None:
    """The page works over https, with a file of several chunks."""
    tab = visit(tls_server, ignore_https_errors=True)
    file = make_file(tmp_path / "secure.bin", 9 * MIB)
    tab.choose(file)
    tab.expect_listed("secure.bin")
    assert_stored(tls_server, file)


def test_https_with_curl(tls_server: Server, authority: trustme.CA, tmp_path: Path) -> None:
    """curl, which checks the certificate, sends, is told an https address, and goes on with a download."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    file = tmp_path / "x.bin"
    file.write_bytes(random.randbytes(2 * MIB))
    trusted = ("--cacert", str(tmp_path / "ca.pem"))
    sent = curl(*trusted, "-T", str(file), tls_server.url + "upload/")
    link = sent.stdout.decode().split()[-1]
    assert link.startswith(tls_server.url), sent
    partial = tmp_path / "partial.bin"
    partial.write_bytes(file.read_bytes()[:1_000_000])
    assert curl(*trusted, "-C", "-", "-o", str(partial), link).returncode == 0
    assert partial.read_bytes() == file.read_bytes()
    assert curl(link).returncode == 60, "curl must have checked the certificate"


def hello(trust: ssl.SSLContext) -> bytes:
    """The first bytes of a client that wants to shake hands."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trust.wrap_bio(into, out, server_hostname="127.0.0.1").do_handshake()
    return out.read()


@contextlib.contextmanager
def without_tls(server: Server) -> Iterator[None]:
    """For connections that do not shake hands."""
    trust, server.tls = server.tls, None
    try:
        yield
    finally:
        server.tls = trust


def test_https_handshakes_that_stall(launch: StartServer, certificate: tuple[str, str], trust: ssl.SSLContext) -> None:
    """Who connects and never shakes hands, or not to the end, stops nobody and is dropped at the deadline."""
    cert, key = certificate
    server = launch("HEAD_SECONDS=2,TICK_SECONDS=1", "-a", "--tls-cert", cert, "--tls-key", key)
    first = hello(trust)
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(Connection(server)) for _ in range(60)]
        for number, connection in enumerate(stalled):
            connection.send(first[: number * len(first) // len(stalled)])
        server.tls = trust
        content = random.randbytes(300_000)
        link = upload(server, content, chunk_size=100_000)["link"]
        assert exchange(server, request("GET", f"/{link}")).body == content
        assert all(connection.closed() for connection in stalled)
    assert exchange(server, request("GET", "/uploads")).status == 200
    assert "bug" not in server.log()


def test_https_handshakes_that_stall_at_the_end(
    start_server: StartServer, certificate: tuple[str, str], trust: ssl.SSLContext
) -> None:
    """The server does not wait for them when it is told to stop."""
    server = start_server("--tls-cert", certificate[0], "--tls-key", certificate[1])
    first = hello(trust)
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(Connection(server)) for _ in range(6)]
        for number, connection in enumerate(stalled):
            connection.send(first[: number * len(first) // len(stalled)])
        server.tls = trust
        assert (
            exchange(server, request("GET", "/uploads")).status == 200
        )  # connections are accepted one after the other
        server.stop()
        assert all(connection.closed() for connection in stalled)
    assert "Stopping" in server.output() and "Waiting" not in server.output()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\0" * 300,
        b"\x16\x03\x01\xff\xff" + b"x" * 500,
        b"SSH-2.0-x\r\n",
        b"",
    ],
)
def test_https_port_is_spoken_to_in_another_language(tls_server: Server, data: bytes) -> None:
    """Plain http or rubbish on the port of https ends that connection, without an answer or a line in the log."""
    before = len(tls_server.log())
    with without_tls(tls_server), Connection(tls_server) as connection:
        connection.send(data)
        with contextlib.suppress(OSError):  # it may have ended the connection already
            connection.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := connection.sock.recv(4096):
                assert not piece.startswith(b"HTTP")
    assert exchange(tls_server, request("GET", "/uploads")).status == 200
    wait_until(lambda: "GET /uploads" in tls_server.log()[before:])
    assert len(tls_server.log()[before:].splitlines()) == 1


def test_https_client_that_cuts_off(tls_server: Server) -> None:
    """A client that vanishes in the middle of a chunk, without a farewell, leaves nothing."""
    uuid = new_uuid()
    with Connection(tls_server) as connection:
        connection.send(chunk_request(bytes(200_000), uuid=uuid)[:-1000])
        wait_until(lambda: bool(list(tls_server.storage.glob(f".{uuid}*"))))
    wait_until(lambda: not list(tls_server.storage.glob(f".{uuid}*")))
    assert not list(tls_server.storage.glob(f"*{uuid}*"))
    assert "Traceback" not in tls_server.log()


def test_https_early_refusal(tls_server: Server) -> None:
    """A large body that is refused early: its sender reads why."""
    with Connection(tls_server) as connection:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.send(request("PUT", "/upload/x", {"Origin": "https://evil.example"}, bytes(8 * MIB)))
        assert connection.receive().status == 403


def test_https_old_versions(tls_server: Server, trust: ssl.SSLContext) -> None:
    """What is older than TLS 1.2 is not spoken."""
    old = ssl.create_default_context()
    with pytest.warns(DeprecationWarning):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with without_tls(tls_server), Connection(tls_server) as connection, pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(connection.sock)
    assert exchange(tls_server, request("GET", "/uploads")).status == 200


def test_certificate_and_key_in_one_file(
    start_server: StartServer, certificate: tuple[str, str], trust: ssl.SSLContext, tmp_path: Path
) -> None:
    """The key may stand in the certificate's file."""
    both = tmp_path / "both.pem"
    both.write_text("".join(Path(name).read_text() for name in certificate))
    server = start_server("--tls-cert", str(both))
    server.tls = trust
    assert exchange(server, request("GET", "/uploads")).status == 200
    assert f"open       https://127.0.0.1:{server.port}/" in server.output()


def test_certificate_that_cannot_be_used(program: list[str], certificate: tuple[str, str], tmp_path: Path) -> None:
    """A certificate without its key, with another's, that is none, or not there ends the start with one sentence."""
    cert, key = certificate
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(other)
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_bytes(b"\0rubbish")
    for options in (
        ("--tls-cert", cert), ("--tls-cert", cert, "--tls-key", str(other)),
        ("--tls-cert", str(rubbish), "--tls-key", key),
        ("--tls-cert", cert, "--tls-key", str(tmp_path / "missing")), ("--tls-cert", str(tmp_path)),
    ):  # fmt: skip
        assert "certificate" in fails_to_start(program, tmp_path, *options)
