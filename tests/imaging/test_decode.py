"""Real files of every transfer syntax: each is decoded or refused with a reason, none raises anything else."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import UID

from edge.imaging.decode import decode_first_frame
from edge.imaging.reader import Source
from edge.imaging.refusal import Refusal
from edge.records import Reason


def _index(shared: Path) -> list[dict[str, str]]:
    with (shared / "data/dicom/index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_file_is_decoded_or_refused(shared: Path) -> None:
    """What common decoders read, this one reads, to float32 grey values in 0..1 of the size that the header says."""
    answers: dict[str, str] = {}
    for row in _index(shared):
        try:
            source = Source((shared / "data/dicom" / row["path"]).read_bytes())
            pixels = source.image(source.decode()).pixels
        except Refusal as refusal:
            answers[row["path"]] = refusal.reason
            continue
        assert pixels.dtype == np.float32, row["path"]
        assert pixels.shape == (int(row["rows"]), int(row["cols"])), row["path"]
        assert 0.0 <= float(pixels.min()) < float(pixels.max()) <= 1.0, row["path"]
        answers[row["path"]] = "decoded"
    readable = {row["path"] for row in _index(shared) if row["decodes"] == "yes"}
    flat = {name for name in readable if name.split("/")[1][:3] in ("052", "236")}
    assert {name for name in readable if answers[name] != "decoded"} == flat
    assert {answers[name] for name in flat} == {Reason.EMPTY_IMAGE}


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("006", Reason.HOSTILE_DIMENSIONS),
        ("010", Reason.UNDECODABLE),
        ("108", Reason.UNDECODABLE),
        ("218", Reason.NO_PIXELS),
        ("052", Reason.EMPTY_IMAGE),
    ],
)
def test_refusals_name_their_reason(shared: Path, number: str, reason: Reason) -> None:
    """Hostile dimensions, no pixels, truncated and empty images are told apart."""
    path = next((shared / "data/dicom/files").glob(f"{number}_*"))
    with pytest.raises(Refusal) as refused:
        source = Source(path.read_bytes())
        source.image(source.decode())
    assert refused.value.reason is reason


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7" + b"x" * 500, bytes(200), b"\x00" * 128 + b"DICM"])
def test_what_is_not_dicom_is_refused(data: bytes) -> None:
    """Text, other formats and emptiness get `not_dicom` or, after a preamble, an answer of their own."""
    with pytest.raises(Refusal):
        Source(data).check()


@pytest.mark.parametrize("ending", [".jpeg", ".png"])
def test_truncated_pictures_are_refused(ending: str) -> None:
    """A half-transferred picture would otherwise be filled up with grey."""
    import cv2  # noqa: PLC0415

    grey = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    data = cv2.imencode(ending, grey)[1].tobytes()
    assert Source(data, modality="DX").decode().shape == (64, 64)
    with pytest.raises(Refusal) as refused:
        Source(data[: len(data) // 2], modality="DX").decode()
    assert refused.value.reason is Reason.UNDECODABLE


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_only_refuse(shared: Path, data: st.DataObject) -> None:
    """Any bytes changed anywhere in a real file: an image or a reason, never another exception."""
    names = (
        "028_gdcm",
        "190_Issue140",
        "122_MR_small",
        "022_JPEGLS",
        "138_MR_small_RLE",
        "188_JPEGBaseline",
        "154_image",
    )
    folder = shared / "data/dicom/files"
    path = next(folder.glob(f"{data.draw(st.sampled_from(names))}*"))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        source = Source(bytes(content[: data.draw(st.integers(1, len(content)))]))
        source.check()
        source.image(source.decode())
    except Refusal:
        pass


def test_signed_values_keep_their_sign() -> None:
    """12 of 16 bits, two's complement: the unused bits are not part of the value (PS3.5 8.1.1)."""
    dataset = Dataset()
    dataset.file_meta = Dataset()  # type: ignore[assignment]
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 1, 2, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = np.array([0x0FFF, 0x07FF], dtype="<u2").tobytes()
    assert decode_first_frame(dataset).tolist() == [[-1, 2047]]
