"""Real files of every transfer syntax: each is decoded or refused with a reason, none raises anything else."""

from __future__ import annotations

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
from edge.imaging.resample import Size
from edge.records import Reason
from tests.imaging.files import dicom, picture


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
    assert Source(data, modality="DX").decode().values.shape == (64, 64)
    with pytest.raises(Refusal) as refused:
        Source(data[: len(data) // 2], modality="DX").decode()
    assert refused.value.reason is Reason.UNDECODABLE


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
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
        source.image(source.decode(Size(32, 32)))
    except Refusal:
        pass


def _raw(values: list[int], *, bits: int, high: int, signed: bool, syntax: str = "1.2.840.10008.1.2.1") -> Dataset:
    dataset = Dataset()
    dataset.file_meta = Dataset()  # type: ignore[assignment]
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 1, len(values), 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
        16,
        bits,
        high,
        int(signed),
    )
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = np.array(values, dtype="<u2").tobytes()
    return dataset


@pytest.mark.parametrize(
    ("raw", "bits", "high", "signed", "values"),
    [
        ([0x0FFF, 0x07FF], 12, 11, True, [-1, 2047]),
        ([0xFFFF, 0x07FF], 12, 11, True, [-1, 2047]),
        ([0xF123, 0x1001], 12, 11, False, [0x123, 1]),  # an overlay in the unused bits
        ([0xF001, 0x0801], 12, 11, True, [1, -2047]),
        ([0xFFF0, 0x0010], 12, 15, False, [0x0FFF, 1]),
        ([0xFFF7, 0x7FF0], 12, 15, True, [-1, 2047]),
        ([0x8000, 0x7FFF], 16, 15, True, [-32768, 32767]),
        ([0x8000, 0x0001], 16, 15, False, [32768, 1]),
        ([0x8000, 0x0001], 12, 99, False, [0, 1]),
    ],
)
def test_only_the_stored_bits_count(raw: list[int], bits: int, high: int, signed: bool, values: list[int]) -> None:
    """PS3.5 8.1.1: the unused bits are not part of the value."""
    decoded = decode_first_frame(_raw(raw, bits=bits, high=high, signed=signed)).values
    assert decoded.tolist() == [values]


def test_the_usual_case_is_not_copied() -> None:
    dataset = _raw(list(range(64)), bits=12, high=11, signed=False)
    assert np.shares_memory(decode_first_frame(dataset).values, np.frombuffer(dataset.PixelData, dtype=np.uint8))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_numbers_are_refused(odd: float) -> None:
    dataset = _raw([0], bits=32, high=31, signed=False)
    del dataset.PixelData
    dataset.Rows, dataset.Columns, dataset.BitsAllocated = 1, 2, 32
    dataset.FloatPixelData = np.array([1.0, odd], dtype="<f4").tobytes()
    with pytest.raises(Refusal, match="finite"):
        decode_first_frame(dataset)
    dataset.FloatPixelData = np.array([1.0, 2.5], dtype="<f4").tobytes()
    assert decode_first_frame(dataset).values.tolist() == [[1.0, 2.5]]


@pytest.mark.parametrize("syntax", ["4.50", "4.91", "4.203", "4.112", "4.201"])
def test_white_beside_black_does_not_wrap_round(syntax: str) -> None:
    """Lossy coding and low-pass bands overshoot the range; a codec that lets that wrap shows white as black."""
    deep = syntax != "4.50"
    stored = np.zeros((256, 256), dtype=np.uint16 if deep else np.uint8)
    stored[64:192, 64:192] = stored[::9, ::9] = np.iinfo(stored.dtype).max
    source = Source(dicom(stored, bits=16 if deep else 8, syntax=f"1.2.840.10008.1.2.{syntax}"))
    whole = source.decode().values.astype(np.float64) / np.iinfo(stored.dtype).max
    assert np.abs(whole - stored / np.iinfo(stored.dtype).max).max() < 0.5
    reduced = source.decode(Size(64, 64)).values.astype(np.float64) / np.iinfo(stored.dtype).max
    assert reduced[20:44, 20:44].min() > 0.7


def test_more_bits_than_a_sample_has_are_read_as_those_it_has() -> None:
    image = picture(600, 600)
    stored = np.round(image * 4095).astype(np.uint16)
    source = Source(dicom(stored, bits=12, BitsStored=60_000, HighBit=65_535))
    source.check()
    for cover in (None, Size(300, 300)):
        assert source.image(source.decode(cover)).rows == 600


def test_pixel_data_of_a_vr_that_there_is_not_are_refused() -> None:
    data = dicom(np.arange(64, dtype=np.uint16).reshape(8, 8), bits=16)
    spoiled = data.replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00ZZ")
    assert spoiled != data
    with pytest.raises(Refusal) as refused:
        Source(spoiled).check()
    assert refused.value.reason is Reason.UNDECODABLE
