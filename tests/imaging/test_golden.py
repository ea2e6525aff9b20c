"""Every real file is read as it was when somebody compared it, and as DCMTK reads it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.imaging.reader import Source
from tests.imaging import golden

_DECODERS = {"JPEG Lossless": "dcmdjpeg", "JPEG Extended": "dcmdjpeg", "JPEG-LS": "dcmdjpls", "RLE": "dcmdrle"}


def test_every_file_is_read_as_written_down(shared: Path) -> None:
    """Shape, type, range and mean grey of all; the checksum of what was coded without loss."""
    lossless = {row["path"]: "Lossless" in row["ts"] or "Endian" in row["ts"] for row in golden.index()}
    written = golden.table()
    assert [row.path for row in written] == list(lossless)
    for expected in written:
        found = golden.read(expected.path)
        same = ("answer", "shape", "low", "high", "checksum") if lossless[expected.path] else ("answer", "shape")
        assert all(getattr(found, name) == getattr(expected, name) for name in same), (expected, found)
        if found.grey:
            assert float(found.grey) == pytest.approx(float(expected.grey), abs=0.002), expected.path


def test_every_readable_file_decodes(shared: Path) -> None:
    """What common decoders read, this one reads; two of them hold a single grey value, which is its own reason."""
    answers = {row.path: row.answer for row in golden.table()}
    readable = [row["path"] for row in golden.index() if row["decodes"] == "yes"]
    refused = {path.split("/")[1][:3]: answers[path] for path in readable if answers[path] != "decoded"}
    assert refused == {"052": "empty_image", "236": "empty_image"}
    for path in readable:
        source = Source((golden.FOLDER / path).read_bytes())
        source.check()
        assert source.decode().values.size > 0


def test_dcmtk_reads_the_same(shared: Path, program: Callable[[str], str], tmp_path: Path) -> None:
    """The peer decompresses, both files are read: equal value for value, of 8, 12 and 16 bits, signed and not."""
    compared = 0
    for row in golden.index():
        name = next((tool for start, tool in _DECODERS.items() if row["ts"].startswith(start)), None)
        if name is None or row["decodes"] != "yes" or not row["photometric"].startswith("MONO"):
            continue
        peer = tmp_path / "peer.dcm"
        done = subprocess.run([program(name), golden.FOLDER / row["path"], peer], capture_output=True, check=False)
        if done.returncode:
            continue
        ours = Source((golden.FOLDER / row["path"]).read_bytes()).decode().values
        assert np.array_equal(ours, Source(peer.read_bytes()).decode().values), row["path"]
        compared += 1
    assert compared >= 25
