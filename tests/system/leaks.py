"""A running box, everything that it lets out, and the search in it for what was planted."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.device.health import read_health
from edge.store import Outbox, Store
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from edge.web.permissions import FORM_FIELD, SESSION_COOKIE
from edge.web.sessions import form_token
from tests.identifiers import Found, Planted, find
from tests.intake import wire
from tests.system.conftest import PATIENCE, Appliance, await_until, running_appliance, running_broker
from tests.web.test_related import body_of
from tests.web.test_stow import CONTENT_TYPE, PATH, basic

_PASSWORD = "a long enough password"
_Headers = dict[str, str]


@dataclass(repr=False)
class Leaks:
    """One running box.

    Attributes:
        appliance: `scanside run`, its working folder and its TMPDIR below `appliance.folder`.
        heard: What left it towards others: MQTT topics, payloads and properties, HTTP response headers, and the bodies
            of answers to people who were not signed in.
        planted: What was given to it.
    """

    appliance: Appliance
    program: Callable[[str], str]
    cookie: str
    heard: list[bytes] = field(default_factory=list)
    planted: list[Planted] = field(default_factory=list)

    # Doors

    def by_c_store(self, data: bytes, planted: Planted) -> None:
        """DCMTK's storescu, the word as its AE title."""
        file = self._file(data)
        command = [self.program("storescu"), "-aet", planted.word, "-aec", "SCANSIDE", "127.0.0.1"]
        subprocess.run([*command, self.appliance.dicom_port, file], capture_output=True, check=True)

    def by_wire(self, data: bytes, planted: Planted, sop_class: str, instance: str) -> None:
        """C-STORE of any bytes, and of objects that are not what their request says."""
        with wire.Peer(self.appliance.settings.intake.dicom.port) as peer:
            peer.send(wire.associate_rq(calling=planted.word.encode(), called=planted.word[::-1].encode()))
            assert peer.read().kind == wire.ASSOCIATE_AC
            request = wire.command(wire.C_STORE_RQ, sop_class=sop_class, instance=instance, data_set=True)
            peer.send(wire.p_data(wire.STORE_CONTEXT, wire.LAST_COMMAND, request))
            peer.send(wire.p_data(wire.STORE_CONTEXT, wire.LAST_DATA, data))
            peer.read()
            peer.send(wire.p_data(wire.STORE_CONTEXT, wire.LAST_COMMAND, planted.word.encode()))
            peer.read_all()

    def by_stow(self, data: bytes, planted: Planted) -> int:
        """STOW-RS, with identifiers in the part's headers, the boundary, the query and headers that nobody reads."""
        boundary = f"{planted.word}.boundary"
        header = (
            f"Content-Type: application/dicom; name={planted.word}\r\nContent-Location: {planted.word}\r\n"
            f"Content-Disposition: attachment; filename={planted.word}.dcm\r\n"
        ).encode()
        headers = {"Content-Type": CONTENT_TYPE.partition("boundary")[0] + f"boundary={boundary}"}
        headers |= basic("gateway", _PASSWORD) | _odd_headers(planted)
        return self.ask("POST", f"{PATH}?{_query(planted)}", body_of(data, header=header, boundary=boundary), headers)

    def by_upload(self, data: bytes, planted: Planted) -> int:
        """The page's form; the file's name is the patient's, as people name files."""
        boundary = secrets.token_hex(16)
        fields = {
            FORM_FIELD: form_token(self.cookie),
            "kind": "CR",
            "age": "3",
            "unit": "years",
            planted.word: planted.name,
        }
        parts = [
            f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode() for name, text in fields.items()
        ]
        name = f'Content-Disposition: form-data; name="file"; filename="{planted.name}.dcm"\r\n'
        parts.append(f"{name}Content-Type: application/{planted.word}\r\n\r\n".encode() + data)
        body = (
            b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
        )
        headers = (
            self.signed_in() | {"Content-Type": f"multipart/form-data; boundary={boundary}"} | _odd_headers(planted)
        )
        return self.ask("POST", f"/upload?{_query(planted)}", body, headers)

    def by_folder(self, data: bytes, planted: Planted) -> None:
        """The watch folder, with names of files and folders that are the patient's."""
        folder = self.appliance.folder / "watched"
        below = folder / planted.name
        below.mkdir()
        (below / "hidden.part").write_bytes(data)
        (below / "hidden.part").rename(below / f"{planted.name}.dcm")
        await_until(lambda: not any(path.is_file() for path in below.iterdir()), "the file taken")
        below.rmdir()

    # The page

    def ask(self, method: str, path: str, body: bytes | None = None, headers: _Headers | None = None) -> int:
        """One HTTP request: its status. What may be heard by others is kept."""
        with closing(HTTPConnection("127.0.0.1", self.appliance.settings.web.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
        self.heard.append(_headers_of(answer))
        if SESSION_COOKIE not in (headers or {}).get("Cookie", "") and method == "GET":
            self.heard.append(content)
        return answer.status

    def ask_by_hand(self, request: bytes) -> None:
        """Bytes that are no HTTP request, or a bad one."""
        with closing(socket.create_connection(("127.0.0.1", self.appliance.settings.web.port), PATIENCE)) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(1 << 16):
                self.heard.append(chunk.partition(b"\r\n\r\n")[0])

    def signed_in(self) -> _Headers:
        """The headers of a technician's browser."""
        return {"Cookie": f"{SESSION_COOKIE}={self.cookie}"}

    def sign_in(self) -> None:
        """As a browser does: a new session."""
        self.cookie = _session(self.appliance)

    # Search

    def settle(self) -> None:
        """Until everything that was accepted is answered, drawn and sent."""
        with closing(Store(self.appliance.settings.state_dir)) as store:
            await_until(
                lambda: not store.queue().depth and not store.owed("summary") and not store.owed("preview"),
                "all answered",
            )
        with closing(Outbox(self.appliance.settings.state_dir)) as outbox:
            await_until(lambda: not outbox.depth()[0], "all sent")

    def search(self, planted: list[Planted] | None = None) -> list[Found]:
        """What was planted, all of it or this, wherever it is readable outside of the box's own memory."""
        all_of_it = planted is None
        planted = self.planted if planted is None else planted
        self.settle()
        for process in self.processes():
            for name in ("cmdline", "environ", "comm"):
                self.heard.append(_read(process / name))
        found = find(planted, self.appliance.folder)
        found += find(planted, b"\0".join(self.heard))
        if all_of_it:
            self.heard.clear()
        return found

    def processes(self) -> list[Path]:
        """The folders in /proc of the appliance's processes: those whose environment holds its TMPDIR."""
        mark = f"TMPDIR={self.appliance.folder}".encode()
        return [path for path in Path("/proc").glob("[0-9]*") if mark in _read(path / "environ")]

    def analyst(self) -> int | None:
        """The process that reads images, if there is one."""
        found = (int(path.name) for path in self.processes() if b"edge.inference.analyst" in _read(path / "cmdline"))
        return next(found, None)

    def crash_analyst(self) -> None:
        """As a broken codec would, with the last image in its memory."""
        old, ready = await_until(self.analyst, "an analyst"), self.console().count(" SC408 ")
        os.kill(old, signal.SIGSEGV)
        await_until(lambda: re.search(r"SC409 .*SIGSEGV", self.console()), "the end of the analyst told")
        await_until(lambda: self.console().count(" SC408 ") > ready and self.analyst() not in (None, old), "a new one")

    def console(self) -> str:
        """What all services have logged."""
        return (self.appliance.folder / "console").read_text(encoding="utf-8")

    def health(self) -> dict[str, Any]:
        """The services' health files."""
        return dict(read_health(self.appliance.settings.state_dir, time.time()))

    def _file(self, data: bytes) -> Path:
        path = self.appliance.folder.with_suffix(".dcm")
        path.write_bytes(data)
        return path


@contextmanager
def running(program: Callable[[str], str], folder: Path, cache: Path) -> Iterator[Leaks]:
    """A box with a broker and somebody who listens to everything there; core dumps allowed as far as they can be."""
    below = folder / "box"
    (below / "tmp").mkdir(parents=True)
    with (
        running_broker(program, folder) as port,
        running_appliance(below, port, cache, TMPDIR=str(below / "tmp")) as box,
    ):
        leaks = leaks_of(box, program)
        with listening(port, leaks.heard):
            yield leaks


@contextmanager
def listening(port: int, heard: list[bytes]) -> Iterator[None]:
    """Somebody who takes everything that a broker has: topic, payload and properties of each message go to `heard`."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_message = lambda _client, _data, message: heard.append(
        b"\0".join((message.topic.encode(), message.payload, str(message.properties).encode()))
    )
    client.connect("127.0.0.1", port)
    client.subscribe("#", qos=1)
    client.loop_start()
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def leaks_of(box: Appliance, program: Callable[[str], str]) -> Leaks:
    """With accounts, and a technician signed in."""
    with closing(AccountsFile(box.settings.state_dir)) as file:
        accounts = Accounts(file)
        accounts.add("technician1", _PASSWORD, Role.TECHNICIAN)
        accounts.add("gateway", _PASSWORD, Role.SENDER)
    leaks = Leaks(box, program, cookie="")
    leaks.sign_in()
    return leaks


def _session(box: Appliance) -> str:
    with closing(HTTPConnection("127.0.0.1", box.settings.web.port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/sign-in")
        secret = _cookie(connection.getresponse())
        form = f"name=technician1&password={quote(_PASSWORD)}&{FORM_FIELD}={form_token(secret.partition('=')[2])}"
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": secret}
        connection.request("POST", "/sign-in", form, headers)
        return _cookie(connection.getresponse()).partition("=")[2]


def _cookie(answer: HTTPResponse) -> str:
    answer.read()
    header = answer.getheader("Set-Cookie")
    if header is None:
        pytest.fail(f"no cookie: status {answer.status}")
    return header.partition(";")[0]


def _headers_of(answer: HTTPResponse) -> bytes:
    return "\n".join(f"{name}: {value}" for name, value in answer.getheaders()).encode("latin-1")


def _query(planted: Planted) -> str:
    return f"patient={quote(planted.name)}&{planted.word}=1"


def _odd_headers(planted: Planted) -> _Headers:
    names = ("User-Agent", "Referer", "X-Forwarded-For", "X-Request-Id", "From", f"X-{planted.word}")
    return dict.fromkeys(names, planted.word)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended
        return b""
