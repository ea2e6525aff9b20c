"""multipart/related in pieces of any size: what went in comes out, one part at a time, no more than is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.web.related import Malformed, Part, RelatedParser

BOUNDARY = "scanside-0123456789"
HEADER = b"Content-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2\r\n"


def body_of(*parts: bytes, header: bytes = HEADER, boundary: str = BOUNDARY) -> bytes:
    """As a sender writes it."""
    delimiter = f"--{boundary}".encode()
    return b"".join(delimiter + b"\r\n" + header + b"\r\n" + part + b"\r\n" for part in parts) + delimiter + b"--\r\n"


def parsed(body: bytes, *, step: int = 1 << 16, largest: int = 1 << 20, boundary: str = BOUNDARY) -> list[Part]:
    """All parts of a body that comes in pieces."""
    parts: list[Part] = []
    parser = RelatedParser(boundary, largest, parts.append)
    for at in range(0, len(body), step):
        parser.feed(body[at : at + step])
    parser.finish()
    return parts


TRICKY = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from([b"\r\n", b"--", b"\r\n--", BOUNDARY.encode(), b"\r", b"\n", b"-", b"x"])).map(b"".join),
).filter(lambda data: f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + data + b"\r\n")


@settings(max_examples=300, deadline=None)
@given(st.lists(TRICKY, min_size=1, max_size=4), st.integers(1, 40))
def test_parts_come_out_as_they_went_in_however_the_body_is_cut(parts: list[bytes], step: int) -> None:
    found = parsed(body_of(*parts), step=step)
    assert [bytes(part.data) for part in found] == parts
    assert {part.media_type for part in found} == {"application/dicom"}
    assert not any(part.too_large for part in found)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 60))
def test_any_other_body_is_parts_or_malformed(data: st.DataObject, step: int) -> None:
    good = body_of(b"one", b"two")
    at = data.draw(st.integers(0, len(good)))
    body = data.draw(st.sampled_from([good[:at], good[at:], good[:at] + b"\0\r\n--" + good[at:]]))
    try:
        parts = parsed(body, step=step)
    except Malformed as refusal:
        assert "\n" not in str(refusal)
        return
    assert parts


@pytest.mark.parametrize("largest", [1, 10, 999, 1000])
def test_a_part_is_kept_up_to_its_limit(largest: int) -> None:
    small, large = parsed(body_of(b"x", b"y" * 1000), step=64, largest=largest)
    assert (bytes(small.data), small.too_large) == (b"x", False)
    assert (bytes(large.data), large.too_large) == (b"y" * largest, largest < 1000)


def test_each_part_is_handed_on_before_the_next_one_comes() -> None:
    parts: list[Part] = []
    body = body_of(b"one", b"two")
    parser = RelatedParser(BOUNDARY, 100, parts.append)
    parser.feed(body[: body.index(b"two")])
    assert [bytes(part.data) for part in parts] == [b"one"]


@pytest.mark.parametrize(
    "header", [b"", b"content-type:application/dicom\r\n", b"X: y\r\nContent-TYPE:  Application/DICOM ; a=b\r\n"]
)
def test_the_media_type_is_read_without_its_parameters(header: bytes) -> None:
    assert parsed(body_of(b"x", header=header))[0].media_type == ("application/dicom" if header else "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        f"--{BOUNDARY}--\r\n".encode(),
        b"no multipart at all",
        body_of(b"x")[:-8],
        body_of(b"x", boundary="another"),
        body_of(b"x", header=b"no colon\r\n"),
        body_of(b"x", header=b"A: " + b"b" * 5000 + b"\r\n"),
        body_of(b"x", header=b"A: b\r\n" * 50),
    ],
)
def test_what_is_no_multipart_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        parsed(body)


@pytest.mark.parametrize("boundary", ["b" * 300, "ünder"])
def test_boundaries_that_nobody_may_use_are_malformed(boundary: str) -> None:
    with pytest.raises(Malformed):
        parsed(b"", boundary=boundary)
