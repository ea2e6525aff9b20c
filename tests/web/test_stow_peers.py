"""STOW-RS over real sockets: Orthanc and curl as senders, and what only a network does."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from edge.identity import read_file_identity
from edge.store import Store
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from tests.intake.objects import dx
from tests.system.conftest import await_until, free_port
from tests.web.conftest import PASSWORD, Service
from tests.web.test_related import body_of
from tests.web.test_stow import CONTENT_TYPE, PATH, as_stored, basic, everything, file_of

pytestmark = pytest.mark.system

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.fixture
def sender(service: Service) -> Service:
    """The running service, with an account for a gateway."""
    file = AccountsFile(service.state_dir)
    Accounts(file).add("sender", PASSWORD, Role.SENDER)
    file.close()
    return service


@pytest.fixture
def orthanc(program: Callable[[str], str], sender: Service, tmp_path: Path) -> Iterator[str]:
    """Orthanc with its DICOMweb plugin and this box as a server; the address of its REST API."""
    executable = program("Orthanc")
    if not PLUGIN.exists():
        pytest.skip(f"needs {PLUGIN}: run tests/install_system_packages")
    port = free_port()
    box = {"Url": f"http://127.0.0.1:{sender.port}/api/v1/", "Username": "sender", "Password": PASSWORD}
    settings = {
        "StorageDirectory": str(tmp_path / "orthanc"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Servers": {"box": box}},
    }
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    with subprocess.Popen([executable, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        base = f"http://127.0.0.1:{port}"
        await_until(lambda: _answers(f"{base}/system"), "Orthanc listening")
        yield base
        process.terminate()


def test_orthanc_sends_a_study(orthanc: str, sender: Service) -> None:
    files = [file_of(dx(size=400, seed=seed)) for seed in range(3)]
    ids = [_post(f"{orthanc}/instances", file, "application/dicom")["ID"] for file in files]
    job = json.dumps({"Resources": ids, "Synchronous": True}).encode()
    _post(f"{orthanc}/dicom-web/servers/box/stow", job, "application/json")
    store = Store(sender.state_dir)
    received = everything(store)
    store.close()
    assert sorted(read_file_identity(data)[1] for data in received) == sorted(
        read_file_identity(data)[1] for data in files
    )


def test_curl_sends_a_file_as_the_readme_says(program: Callable[[str], str], sender: Service, tmp_path: Path) -> None:
    """Chunked; curl asks with `Expect: 100-continue` before a large body."""
    file = file_of(dx(size=2000))
    body = tmp_path / "body"
    body.write_bytes(body_of(file))
    command = [program("curl"), "--silent", "--show-error", "--user", f"sender:{PASSWORD}"]
    command += ["--header", f"Content-Type: {CONTENT_TYPE}", "--header", "Transfer-Encoding: chunked"]
    command += ["--upload-file", str(body), "--request", "POST", f"http://127.0.0.1:{sender.port}{PATH}"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert len(answer["00081199"]["Value"]) == 1
    store = Store(sender.state_dir)
    assert everything(store) == [as_stored(file)]
    store.close()


def test_a_wrong_password_is_answered_although_the_body_is_large(
    program: Callable[[str], str], sender: Service, tmp_path: Path
) -> None:
    body = tmp_path / "body"
    body.write_bytes(body_of(file_of(dx(size=3000))))
    command = [program("curl"), "--silent", "--user", "sender:wrong", "--header", f"Content-Type: {CONTENT_TYPE}"]
    command += ["--data-binary", f"@{body}", "--write-out", "%{http_code}", "--output", str(tmp_path / "answer")]
    done = subprocess.run([*command, f"http://127.0.0.1:{sender.port}{PATH}"], check=False, capture_output=True)
    assert done.stdout == b"401"


@pytest.mark.parametrize(
    ("headers", "rest", "status"),
    [
        ("", b"", b"411"),
        ("Content-Length: 5000\r\n", b"--scanside", b""),
        ("Content-Length: 99999999999\r\n", b"x", b"413"),
        ("Transfer-Encoding: chunked\r\n", b"zz\r\nx\r\n", b"400"),
        ("Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"400"),
    ],
)
def test_bodies_that_a_network_brings(sender: Service, headers: str, rest: bytes, status: bytes) -> None:
    """The one that breaks off has nobody left to be answered; the service goes on."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic()['Authorization']}\r\n"
    head += f"Content-Type: {CONTENT_TYPE}\r\n{headers}\r\n"
    with socket.create_connection(("127.0.0.1", sender.port), timeout=30) as connection:
        connection.sendall(head.encode() + rest)
        if status:
            assert connection.recv(65536).split(b" ")[1] == status
    again = HTTPConnection("127.0.0.1", sender.port, timeout=30)
    again.request("POST", PATH, body_of(file_of(dx())), {"Content-Type": CONTENT_TYPE} | basic())
    assert again.getresponse().status == 200
    again.close()
    sender.stop()
    assert sender.process.stderr and " ERROR " not in sender.process.stderr.read()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _post(url: str, body: bytes, content_type: str) -> dict[str, str]:
    request = Request(url, data=body, headers={"Content-Type": content_type})
    with urlopen(request, timeout=60) as response:
        answer: dict[str, str] = json.loads(response.read())
    return answer
