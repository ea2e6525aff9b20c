"""DX files in every transfer syntax and depth, read back by decoders other than the encoders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames

from edge.imaging.header import read_header
from edge.imaging.reader import Source
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file, stored_values, wrap
from edge.synthetic.encoding import CODINGS

IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, RLE = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2", ".5"))
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1, JPEG_LS, NEAR_LOSSLESS, JPEG_2000, JPEG_2000_LOSSY, HTJ2K, HTJ2K_LOSSY = (
    f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 57, 70, 80, 81, 90, 91, 201, 203)
)
PIXELS = radiograph(Kind.OPACITY, 1, 203, 257)  # odd sizes need padding
LOSSLESS_CASES = [
    (syntax, bits, photometric)
    for syntax, coding in CODINGS.items()
    if coding.lossy_method is None
    for bits in coding.depths
    for photometric in ("MONOCHROME1", "MONOCHROME2")
]
# The largest error that each lossy coder may make, as a part of full scale.
LOSSY_CASES = [
    (BASELINE, 8, 0.04),
    (EXTENDED, 12, 0.01),
    (NEAR_LOSSLESS, 8, 2 / 255),
    (NEAR_LOSSLESS, 16, 2 / 65535),
    *((JPEG_2000_LOSSY, bits, 0.02) for bits in (8, 10, 12, 14, 16)),
    *((HTJ2K_LOSSY, bits, 0.02) for bits in (8, 16)),
]
Program = Callable[[str], str]


def test_the_table_holds_each_promised_transfer_syntax() -> None:
    native = {IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, RLE}
    jpeg = {BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1, JPEG_LS, NEAR_LOSSLESS}
    assert set(CODINGS) == native | jpeg | {JPEG_2000, JPEG_2000_LOSSY, HTJ2K, HTJ2K_LOSSY}
    assert {bits for _, bits, _ in LOSSLESS_CASES} == {8, 10, 12, 14, 16}


@pytest.mark.parametrize(("syntax", "bits", "photometric"), LOSSLESS_CASES)
def test_lossless_files_hold_exactly_the_pixels(syntax: str, bits: int, photometric: str) -> None:
    data = dx_file(PIXELS, seed=1, transfer_syntax=syntax, bits_stored=bits, photometric=photometric)
    dataset = dcmread(BytesIO(data))
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert (dataset.Rows, dataset.Columns, dataset.BitsStored, dataset.HighBit) == (203, 257, bits, bits - 1)
    assert dataset.LossyImageCompression == "00"
    np.testing.assert_array_equal(_other_decoder(dataset, syntax), stored_values(PIXELS, bits, photometric))


@pytest.mark.parametrize(("syntax", "bits", "tolerance"), LOSSY_CASES)
def test_lossy_files_hold_nearly_the_pixels_and_say_so(syntax: str, bits: int, tolerance: float) -> None:
    data = dx_file(PIXELS, seed=1, transfer_syntax=syntax, bits_stored=bits)
    dataset = dcmread(BytesIO(data))
    assert dataset.LossyImageCompression == "01"
    assert dataset.LossyImageCompressionMethod == CODINGS[syntax].lossy_method
    assert float(dataset.LossyImageCompressionRatio) > 1
    difference = _other_decoder(dataset, syntax).astype(int) - stored_values(PIXELS, bits).astype(int)
    chest = difference[12:]  # the sharp edges of the mark ring
    assert np.abs(chest).max() <= tolerance * ((1 << bits) - 1)
    if syntax != NEAR_LOSSLESS or bits == 8:
        assert np.abs(chest).max() > 0


@pytest.mark.parametrize("syntax", CODINGS)
def test_the_box_reads_its_own_files_as_they_were_drawn(syntax: str) -> None:
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        source = Source(dx_file(PIXELS, seed=1, transfer_syntax=syntax, photometric=photometric))
        source.check()
        grey = source.image(source.decode()).pixels
        assert np.abs(grey - PIXELS)[12:].max() < 0.03


@pytest.mark.parametrize(
    ("converter", "syntax", "bits"),
    [
        ("dcmdjpeg", LOSSLESS, 12),
        ("dcmdjpeg", LOSSLESS_SV1, 8),
        ("dcmdjpeg", LOSSLESS_SV1, 10),
        ("dcmdjpeg", LOSSLESS_SV1, 14),
        ("dcmdjpeg", LOSSLESS_SV1, 16),
        ("dcmdjpls", JPEG_LS, 8),
        ("dcmdjpls", JPEG_LS, 16),
        ("dcmdrle", RLE, 8),
        ("dcmdrle", RLE, 12),
        ("dcmconv", DEFLATED, 12),
        ("dcmconv", BIG_ENDIAN, 12),
        ("dcmconv", IMPLICIT, 12),
    ],
)
def test_dcmtk_reads_the_same_pixels(converter: str, syntax: str, bits: int, program: Program, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.dcm", tmp_path / "theirs.dcm"
    ours.write_bytes(dx_file(PIXELS, seed=1, transfer_syntax=syntax, bits_stored=bits))
    subprocess.run([program(converter), "+te", str(ours), str(theirs)], check=True)
    np.testing.assert_array_equal(dcmread(theirs).pixel_array, stored_values(PIXELS, bits))


@pytest.mark.parametrize("syntax", CODINGS)
def test_dcmtk_finds_nothing_to_complain_about(syntax: str, program: Program, tmp_path: Path) -> None:
    file = tmp_path / "file.dcm"
    file.write_bytes(dx_file(PIXELS, seed=1, transfer_syntax=syntax))
    subprocess.run([program("dcmftest"), str(file)], check=True, capture_output=True)
    if syntax in (HTJ2K, HTJ2K_LOSSY):
        pytest.skip("HTJ2K became part of DICOM after DCMTK 3.6.7")
    dumped = subprocess.run([program("dcmdump"), "-M", str(file)], check=True, capture_output=True, text=True)
    assert not dumped.stderr
    assert "SYNTHETIC-1" in dumped.stdout


@pytest.mark.parametrize("view", ["AP", "PA", "LL", "RL"])
@pytest.mark.parametrize("syntax", CODINGS)
def test_dciodvfy_reports_no_error(syntax: str, view: str, program: Program, tmp_path: Path) -> None:
    if syntax in (DEFLATED, HTJ2K, HTJ2K_LOSSY):
        pytest.skip("dciodvfy cannot read this transfer syntax; its data set is that of the others")
    _verify(program("dciodvfy"), tmp_path, dx_file(PIXELS, seed=1, transfer_syntax=syntax, view_position=view))


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_wrapped_picture_is_a_valid_dx_of_the_same_values(depth: type, program: Program, tmp_path: Path) -> None:
    picture = stored_values(PIXELS, np.dtype(depth).itemsize * 8)
    data = wrap(picture, seed=7, age="018M")
    _verify(program("dciodvfy"), tmp_path, data)
    dataset = dcmread(BytesIO(data))
    np.testing.assert_array_equal(dataset.pixel_array, picture)
    assert dataset.PatientAge == "018M"
    assert b"SYNTHETIC" not in data
    source = Source(data)
    assert np.abs(source.image(source.decode()).pixels - PIXELS).max() < 0.01


def test_the_header_says_synthetic_wherever_one_may_look() -> None:
    dataset = dcmread(BytesIO(dx_file(PIXELS, seed=42)))
    assert "SYNTHETIC" in dataset.ImageType
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientComments",
        "StudyDescription",
        "SeriesDescription",
        "ImageComments",
    ):
        assert str(dataset[keyword].value).startswith("SYNTHETIC"), keyword
    assert dataset.PatientID == "SYNTHETIC-42"
    assert dataset.BurnedInAnnotation == "YES"


def test_the_header_routes_as_a_frontal_chest_of_that_age() -> None:
    header = read_header(dcmread(BytesIO(dx_file(PIXELS, seed=1, age="018M", view_position="PA"))))
    assert (header.modality, header.body_part, header.view) == ("DX", "CHEST", "PA")
    assert header.presentation_intent == "FOR PRESENTATION"
    assert header.age_years == 1.5
    assert not header.quality_control


def test_one_content_is_one_file_and_another_content_another_name() -> None:
    once, again = (dx_file(radiograph(Kind.CLEAR, 3, 203, 257), seed=3) for _ in range(2))
    assert once == again
    files = [
        once,
        dx_file(PIXELS, seed=3),
        dx_file(PIXELS, seed=4),
        dx_file(PIXELS, seed=3, age="045Y"),
        dx_file(PIXELS, seed=3, photometric="MONOCHROME1"),
        dx_file(PIXELS, seed=3, transfer_syntax=IMPLICIT),
        dx_file(PIXELS, seed=3, transfer_syntax=JPEG_2000),
        dx_file(PIXELS, seed=3, view_position="LL"),
        wrap(stored_values(PIXELS, 8), seed=3, age="003Y"),
        wrap(255 - stored_values(PIXELS, 8), seed=3, age="003Y"),
    ]
    headers = [dcmread(BytesIO(file), stop_before_pixels=True) for file in files]
    for level in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        uids = [str(header[level].value) for header in headers]
        assert len(set(uids)) == len(files)
        assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"transfer_syntax": "1.2.3"}, "transfer syntax 1.2.3"),
        ({"transfer_syntax": BASELINE, "bits_stored": 12}, r"12 bits stored: .* states \[8\]"),
        ({"transfer_syntax": JPEG_LS, "bits_stored": 12}, r"states \[8, 16\]"),
        ({"bits_stored": 11}, "11 bits stored"),
        ({"age": "3"}, "age 3"),
        ({"photometric": "RGB"}, "photometric interpretation RGB"),
        ({"view_position": "XX"}, "view position XX"),
    ],
)
def test_what_cannot_be_written_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dx_file(PIXELS, seed=1, **arguments)


@pytest.mark.parametrize("picture", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32)])
def test_only_grey_pictures_are_wrapped(picture: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="uint8 or uint16"):
        wrap(picture, seed=1, age="003Y")


def test_importing_costs_no_codec() -> None:
    code = "import sys, edge.synthetic.dicom, edge.synthetic.appearance; sys.exit('imagecodecs' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def _other_decoder(dataset: Dataset, syntax: str) -> NDArray[Any]:
    """The stored values by a decoder that shares no code with the encoder, where there is one.

    Ours: libjpeg-turbo, CharLS, OpenJPEG, OpenJPH, PackBits. DCMTK's own decoders stand in a test of their own. For
    JPEG 2000 and for lossy JPEG the library that encoded decodes as well: no other is at hand.
    """
    if syntax not in (LOSSLESS, LOSSLESS_SV1, EXTENDED, JPEG_LS, NEAR_LOSSLESS, HTJ2K, HTJ2K_LOSSY):
        return np.asarray(dataset.pixel_array)  # pydicom: native, RLE by itself, the others by Pillow
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    if syntax in (LOSSLESS, LOSSLESS_SV1):
        by_two = imagecodecs.ljpeg_decode(frame), imagecodecs.jpegsof3_decode(frame)
        for one, other in pairwise(by_two):
            np.testing.assert_array_equal(one, other)
        return np.asarray(by_two[0])
    if syntax in (HTJ2K, HTJ2K_LOSSY):
        return np.asarray(imagecodecs.jpeg2k_decode(frame))  # OpenJPEG reads what OpenJPH wrote
    decode = imagecodecs.jpeg8_decode if syntax == EXTENDED else imagecodecs.jpegls_decode
    return np.asarray(decode(frame))


def _verify(dciodvfy: str, folder: Path, data: bytes) -> None:
    file = folder / "file.dcm"
    file.write_bytes(data)
    done = subprocess.run([dciodvfy, str(file)], capture_output=True, text=True, check=False)
    errors = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
    assert not errors
    assert done.returncode == 0
