"""What frames say about themselves, and that nothing but a reason comes of frames that lie."""

from __future__ import annotations

from contextlib import suppress

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.imaging.codestream import Coded, Unreadable, read_jpeg, read_jpeg_2000, read_jpeg_xl
from edge.imaging.reader import Source
from edge.imaging.refusal import Refusal
from edge.records import Reason
from tests.imaging.files import ENCODERS, dicom, picture

_JPEG, _JPEG_2000, _JPEG_XL = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.110"
EIGHT = np.round(picture(61, 83) * 255).astype(np.uint8)
SIXTEEN = np.round(picture(61, 83) * 65535).astype(np.uint16)


@pytest.mark.parametrize(
    ("frame", "read", "said"),
    [
        (imagecodecs.jpeg8_encode(EIGHT), read_jpeg, Coded(61, 83, 1, 8, halvings=3)),
        (cv2.imencode(".jpg", EIGHT)[1].tobytes() + b"\0\xff", read_jpeg, Coded(61, 83, 1, 8, halvings=3)),
        (imagecodecs.jpeg8_encode(SIXTEEN, lossless=True, bitspersample=16), read_jpeg, Coded(61, 83, 1, 16)),
        (imagecodecs.jpegls_encode(SIXTEEN), read_jpeg, Coded(61, 83, 1, 16)),
        (ENCODERS[_JPEG_2000](SIXTEEN.view(np.int16), 16), read_jpeg_2000, Coded(61, 83, 1, 16, True, 2)),
        (imagecodecs.jpeg2k_encode(EIGHT, codecformat="jp2"), read_jpeg_2000, Coded(61, 83, 1, 8, halvings=2)),
        (imagecodecs.jpegxl_encode(EIGHT), read_jpeg_xl, Coded(61, 83)),
        (imagecodecs.jpegxl_encode(EIGHT, usecontainer=True), read_jpeg_xl, Coded(61, 83)),
        (imagecodecs.jpegxl_encode(np.zeros((64, 128), np.uint8)), read_jpeg_xl, Coded(64, 128)),
        (imagecodecs.jpegxl_encode(np.zeros((3000, 2250), np.uint8)), read_jpeg_xl, Coded(3000, 2250)),
    ],
)
def test_size_depth_and_sign(frame: bytes, read: object, said: Coded) -> None:
    assert callable(read)
    assert read(bytes(frame)) == said


@pytest.mark.parametrize("syntax", [_JPEG, _JPEG_2000, "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.201"])
def test_a_frame_that_breaks_off_is_refused(syntax: str) -> None:
    """Most codecs fill what is missing with grey and say nothing."""
    frame = ENCODERS[syntax](EIGHT, 8)
    read = read_jpeg if syntax in (_JPEG, "1.2.840.10008.1.2.4.80") else read_jpeg_2000
    with pytest.raises(Unreadable):
        read(frame[: len(frame) * 2 // 3])


@pytest.mark.parametrize("syntax", [_JPEG, _JPEG_2000, _JPEG_XL])
@pytest.mark.parametrize("lie", [(60, 83), (8000, 8000)])
def test_a_frame_of_another_size_than_the_header_says_is_never_decoded(syntax: str, lie: tuple[int, int]) -> None:
    """The limit on the header's dimensions would hold for nothing."""
    source = Source(dicom(EIGHT, bits=8, syntax=syntax, Rows=lie[0], Columns=lie[1]))
    with pytest.raises(Refusal, match="where the header says") as refused:
        source.decode()
    assert refused.value.reason is Reason.UNDECODABLE


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "]))
def test_any_bytes_are_a_size_or_unreadable(data: bytes, start: bytes) -> None:
    for read in (read_jpeg, read_jpeg_2000, read_jpeg_xl):
        with suppress(Unreadable):
            assert isinstance(read(start + data + b"\xff\xd9"), Coded)
