"""HTTPS as browsers find it: the box's own certificate or one given to it, renewed in time, and HTTP redirected."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from edge.config import Config, Web, WebTls
from edge.config_file import parse
from edge.device.own_certificate import OwnCertificate, ensure_certificate
from edge.errors import UsageError
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from edge.web.tls import HSTS, Certificate, Redirect, TlsUnusable, redirection
from tests.system.conftest import free_port
from tests.web.conftest import PASSWORD, Box, Service, start_service

NOW = 1_790_000_000.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Service]]:
    """Starts the service with something in its section `web`."""
    running: list[Service] = []

    def started(web: str) -> Service:
        running.append(start_service(tmp_path / "box", web=web))
        return running[-1]

    yield started
    for service in running:
        service.process.kill()
        service.process.wait()
        for pipe in (service.process.stdout, service.process.stderr):
            if pipe:
                pipe.close()


def trusting(own: OwnCertificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(own.certificate_file))


def get(port: int, context: ssl.SSLContext, path: str = "/sign-in") -> http.client.HTTPResponse:
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    connection.request("GET", path)
    return connection.getresponse()


def test_a_box_makes_its_certificate_on_first_boot_and_speaks_nothing_else(start: Callable[[str], Service]) -> None:
    plain = free_port()
    service = start(f"tls: {{redirect_port: {plain}}}")
    assert "https://127.0.0.1" in "".join(service.log)
    own = OwnCertificate(service.state_dir / "tls" / "own.pem", service.state_dir / "tls" / "own.key")
    file = AccountsFile(service.state_dir)
    Accounts(file).add("ada", PASSWORD, Role.TECHNICIAN)
    file.close()
    response = get(service.port, trusting(own))
    assert response.status == HTTPStatus.OK
    assert "; Secure;" in response.headers["Set-Cookie"]
    assert "Strict-Transport-Security" not in response.headers, "nobody could get past the warning of the next box"
    with pytest.raises(ssl.SSLCertVerificationError):
        get(service.port, ssl.create_default_context())
    with socket.create_connection(("127.0.0.1", service.port), 30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/" not in connection.recv(4096)
    for name, path in (("127.0.0.1", "/"), ("xray-1.local", "/results/1")):
        redirected = http.client.HTTPConnection("127.0.0.1", plain, timeout=30)
        redirected.request("GET", path, headers={"Host": name})
        answer = redirected.getresponse()
        assert (answer.status, answer.headers["Location"]) == (308, f"https://{name}:{service.port}/")
    assert service.stop() == 0
    assert service.process.stderr and " ERROR " not in service.process.stderr.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_old_versions_are_refused_and_stalled_handshakes_hold_nobody_up(
    start: Callable[[str], Service], version: ssl.TLSVersion
) -> None:
    service = start("tls: {}")
    own = OwnCertificate(service.state_dir / "tls" / "own.pem", service.state_dir / "tls" / "own.key")
    stalled = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(10)]
    context = trusting(own)
    context.minimum_version = context.maximum_version = version
    assert get(service.port, context, "/healthz").status == HTTPStatus.OK
    old = trusting(own)
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        get(service.port, old)
    for connection in stalled:
        connection.close()


def config_with(folder: Path, tls: WebTls) -> Config:
    return Config(state_dir=folder / "state", web=Web(tls=tls))


def test_an_installed_certificate_is_used_reloaded_and_told_to_browsers_for_good(tmp_path: Path) -> None:
    given = ensure_certificate(tmp_path / "clinic", ["box.clinic.example"], NOW)
    tls = WebTls(certificate_file=given.certificate_file, key_file=given.key_file)
    certificate = Certificate(config_with(tmp_path, tls), tls, lambda: NOW)
    assert certificate.hsts == HSTS
    assert not (tmp_path / "state" / "tls").exists()
    before = certificate.context()
    assert certificate.context() is before
    other = ensure_certificate(tmp_path / "other", ["box.clinic.example"], NOW)
    os.replace(other.key_file, given.key_file)  # noqa: PTH105 - as an administrator does it, one after the other
    assert certificate.context() is before, "what does not belong together changes nothing"
    os.replace(other.certificate_file, given.certificate_file)  # noqa: PTH105
    assert certificate.context() is not before


def test_the_boxs_own_is_renewed_while_it_runs(tmp_path: Path) -> None:
    clock = [NOW]
    tls = WebTls()
    certificate = Certificate(config_with(tmp_path, tls), tls, lambda: clock[0])
    assert certificate.hsts is None
    before, bytes_before = certificate.context(), certificate.file.read_bytes()
    clock[0] += 380 * 86_400.0
    certificate.look()
    assert certificate.file.read_bytes() != bytes_before
    assert certificate.context() is not before


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_what_cannot_be_used_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    given = ensure_certificate(tmp_path / "clinic", ["x"], NOW)
    if content is None:
        given.certificate_file.unlink()
    else:
        given.certificate_file.write_bytes(content)
    tls = WebTls(certificate_file=given.certificate_file, key_file=given.key_file)
    with pytest.raises(TlsUnusable, match=r"correct web\.tls or the files"):
        Certificate(config_with(tmp_path, tls), tls, lambda: NOW)


@pytest.mark.parametrize(
    ("request_bytes", "location"),
    [
        (b"GET /a HTTP/1.1\r\nHost: box.local\r\n\r\n", b"https://box.local:8443/"),
        (b"GET / HTTP/1.1\r\nX: y\r\nhost: box:8080\r\n\r\n", b"https://box:8443/"),
        (b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", b"https://[2001:db8::1]:8443/"),
        (b"GET / HTTP/1.1\r\nHost: evil\r\nX: \xff\r\n\r\n", b"https://evil:8443/"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: a\r Set-Cookie: x\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: user@evil\r\n\r\n", None),
        (b"GET / HTTP/1.0\r\n\r\n", None),
        (b"\x16\x03\x01", None),
        (b"", None),
    ],
)
def test_redirections_repeat_nothing_but_a_host(request_bytes: bytes, location: bytes | None) -> None:
    answer = redirection(request_bytes, 8443)
    if location is None:
        assert answer.startswith(b"HTTP/1.1 400 ")
    else:
        assert f"Location: {location.decode()}\r\n".encode() in answer
    assert answer.count(b"\r\n\r\n") == 1
    assert answer.endswith(b"\r\n\r\n")


def test_strict_transport_security_is_sent_over_https_alone(tmp_path: Path) -> None:
    box = Box(tmp_path / "state", hsts=HSTS)
    client: Any = box.app.test_client()
    assert client.get("/healthz", base_url="https://box/").headers["Strict-Transport-Security"] == HSTS
    assert "Strict-Transport-Security" not in client.get("/healthz").headers
    box.close()


def test_one_file_without_the_other_is_refused() -> None:
    with pytest.raises(UsageError, match=r"web.tls: certificate_file and key_file belong together"):
        parse("web:\n  tls: {certificate_file: /x}\n", "scanside.yaml")
    with pytest.raises(UsageError, match=r"web.tls.redirect_port: 8080 is web.port as well"):
        parse("web:\n  tls: {redirect_port: 8080}\n", "scanside.yaml")


class _Idle(socket.socket):
    """A listener to which nobody comes at first, for longer than its connections may stall (SO_RCVTIMEO)."""

    waited = False

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.waited:
            self.waited = True
            raise BlockingIOError
        return super().accept()


def test_the_redirection_outlives_a_time_without_visitors() -> None:
    listener = _Idle(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    Redirect(listener, 8443).start()
    with socket.create_connection(listener.getsockname(), 30) as visitor:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: xray\r\n\r\n")
        assert b"Location: https://xray:8443/" in visitor.recv(1000)
    assert listener.waited
