"""Orthanc as a sender: a PACS or gateway that forwards what it has."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.intake.certificates import Credentials
from tests.running import ROOT
from tests.system.conftest import await_until, free_port


class Orthanc:
    """Its REST API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def upload(self, file: Path) -> str:
        """Put a file into it; its id there."""
        return str(self._call("/instances", file.read_bytes())["ID"])

    def store(self, instance: str) -> str:
        """Send it on by C-STORE: `sent`, or why not."""
        try:
            self._call("/modalities/box/store", json.dumps([instance]).encode())
        except HTTPError as error:
            return str(json.loads(error.read())["Details"])
        return "sent"

    def echo(self) -> str:
        """C-ECHO: `sent`, or why not."""
        try:
            self._call("/modalities/box/echo", b"{}")
        except HTTPError as error:
            return str(json.loads(error.read())["Details"])
        return "sent"

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._call("/system"))
        except OSError:
            return False

    def _call(self, path: str, body: bytes | None = None) -> Any:
        with urlopen(Request(self._url + path, body)) as answer:
            return json.loads(answer.read() or b"null")


@contextmanager
def running_orthanc(
    program: str, folder: Path, box_port: int, credentials: Credentials | None = None, authority: Path | None = None
) -> Iterator[Orthanc]:
    """A real Orthanc that knows the box; with `credentials` it sends over TLS and trusts `authority`."""
    port = free_port()
    settings: dict[str, Any] = {
        "StorageDirectory": str(folder / "orthanc"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomModalities": {
            "box": {"AET": "SCANSIDE", "Host": "127.0.0.1", "Port": box_port, "UseDicomTls": credentials is not None}
        },
    }
    if credentials:
        settings |= {
            "DicomTlsCertificate": str(credentials.certificate),
            "DicomTlsPrivateKey": str(credentials.key),
            "DicomTlsTrustedCertificates": str(authority),
        }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    with (
        (folder / "orthanc.log").open("wb") as log,
        subprocess.Popen([program, str(file)], stdout=log, stderr=log, cwd=ROOT) as process,
    ):
        try:
            orthanc = Orthanc(port)
            await_until(orthanc.is_up, "Orthanc's REST API")
            yield orthanc
        finally:
            process.terminate()
