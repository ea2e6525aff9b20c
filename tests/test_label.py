"""The label: its QR code is read back, from the console and from the printed sheet, and opens the form it names."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.config import Config, Web, WebTls
from edge.label import Sheet
from tests.running import ROOT, scanside

CODE = "ABCD-EFGH-JKLM-NPQR"
OPEN_PAGE = Config(web=Web(host="0.0.0.0", tls=WebTls()))


def _read(picture: npt.NDArray[np.uint8]) -> str:
    return str(cv2.QRCodeDetector().detectAndDecode(picture)[0])


def _seen(text: str) -> npt.NDArray[np.uint8]:
    """A console's characters as a camera sees them: two modules each, one above the other, light where ink is."""
    rows = [line for line in text.splitlines() if set(line) <= set(" \u2580\u2584\u2588")]
    halves = [[[mark in "\u2580\u2588" for mark in row], [mark in "\u2584\u2588" for mark in row]] for row in rows]
    modules = np.array(halves).reshape(2 * len(rows), -1)
    return np.kron(modules, np.ones((6, 6))).astype(np.uint8) * 255


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        (Config(), None, "http://127.0.0.1:8080/"),
        (OPEN_PAGE, CODE, f"https://xray-1:8080/first-account#{CODE}"),
        (OPEN_PAGE, None, "https://xray-1:8080/"),
        (Config(web=Web(host="2001:db8::7", tls=WebTls())), None, "https://[2001:db8::7]:8080/"),
    ],
)
def test_the_console_shows_what_a_telephone_reads(config: Config, code: str | None, said: str) -> None:
    sheet = Sheet.of(config, "xray-1", code)
    assert _read(_seen(sheet.as_text())) == sheet.address == said
    words = sheet.as_text()
    assert said.partition("first-account")[0] in words
    assert (code or "there is one already") in words


def test_the_printed_sheet(tmp_path: Path, program: Callable[[str], str]) -> None:
    """As a browser prints it; nobody but its owner may read the code."""
    file, label, picture = tmp_path / "scanside.yaml", tmp_path / "label.svg", tmp_path / "label.png"
    file.write_text(f"state_dir: {tmp_path / 'state'}\nsite: clinic-7\n", encoding="utf-8")
    (tmp_path / "answers.yaml").write_text("box: xray-1\n", encoding="utf-8")
    options = "--config", str(file), "--answers", str(tmp_path / "answers.yaml"), "--label", str(label)
    done = subprocess.run(scanside("setup", *options), capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(label.stat().st_mode) == 0o600
    shot = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=800,600", f"--screenshot={picture}"]
    alone = f"--user-data-dir={tmp_path / 'profile'}"  # else it hands the page to one that runs already
    subprocess.run([program("chromium"), *shot, alone, label.as_uri()], capture_output=True, check=True)
    read = [program("zbarimg"), "--quiet", "--raw", str(picture)]  # a reader of other people than the writer
    address = subprocess.run(read, capture_output=True, text=True, check=True).stdout.strip()
    page, _, code = address.partition("first-account#")
    assert f"Page       {page}" in done.stdout
    assert f"First code {code}:" in done.stdout
