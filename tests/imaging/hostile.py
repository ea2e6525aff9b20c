"""DICOM files as nobody should send them: named ones with their answer, and endless seeded ones for fuzzing."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from edge.records import Reason
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file
from edge.synthetic.encoding import CODINGS

DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
EXPLICIT = "1.2.840.10008.1.2.1"
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
_ENDLESS = b"\xff\xff\xff\xff"
_ROWS, _COLUMNS = 144, 128


def nested(depth: int, *, endless: bool) -> bytes:
    """A child's chest whose Request Attributes Sequence holds itself, again and again."""
    inner = b""
    for _ in range(depth):
        if endless:
            inner = _SQ + _ENDLESS + _ITEM + _ENDLESS + inner + _ITEM_END + bytes(4) + _SEQUENCE_END + bytes(4)
        else:
            item = _ITEM + struct.pack("<I", len(inner)) + inner
            inner = _SQ + struct.pack("<I", len(item)) + item
    return _before_pixels(inner)


_SQ = b"\x40\x00\x75\x02SQ\x00\x00"


def with_tags(transfer_syntax: str = EXPLICIT, **tags: Any) -> bytes:
    """A child's chest with these tags instead of its own; None takes one away."""
    with disable_value_validation():
        return _written(_changed(transfer_syntax, tags))


def with_frames(frames: Sequence[bytes], transfer_syntax: str = JPEG_LOSSLESS, **tags: Any) -> bytes:
    """A child's chest whose compressed pixel data are these fragments."""
    return _written(_changed(transfer_syntax, {"PixelData": encapsulate(list(frames)), **tags}))


def bomb(megabytes: int) -> bytes:
    """A deflated file that inflates to an element of so many zeros."""
    head = with_tags(DEFLATED)
    meta = dcmread(BytesIO(head), stop_before_pixels=True).file_meta
    start = 132 + 12 + int(meta.FileMetaInformationGroupLength)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [deflater.compress(b"\xe0\x7f\x10\x00OW\x00\x00" + struct.pack("<I", megabytes << 20))]
    parts += [deflater.compress(bytes(1 << 20)) for _ in range(megabytes)]
    return head[:start] + b"".join(parts) + deflater.flush()


def private_element(length: int) -> bytes:
    """A child's chest with a private element that claims this length and has four bytes."""
    return _before_pixels(
        b"\x09\x00\x10\x00LO\x04\x00TEST" + b"\x09\x00\x01\x10UN\x00\x00" + struct.pack("<I", length) + b"four"
    )


def _unknown_characters() -> bytes:
    data = with_tags(SpecificCharacterSet="ISO_IR 100", PatientName="\xc4\xd6")
    return data.replace(b"ISO_IR 100", b"ISO_IR 999")


def bad_representation(name: bytes) -> bytes:
    """A child's chest with an element of an unknown VR."""
    return _before_pixels(b"\x40\x00\x54\x02" + name + b"\x04\x00four")


def lying_offsets(offset: int) -> bytes:
    """A compressed chest whose Basic Offset Table says that its frame begins there."""
    data = _chest(JPEG_LOSSLESS)
    at = data.index(_ITEM, data.rindex(b"\xe0\x7f\x10\x00OB"))
    (length,) = struct.unpack_from("<I", data, at + 4)
    assert length == 4
    return data[: at + 8] + struct.pack("<I", offset) + data[at + 12 :]


NAMED: dict[str, tuple[Callable[[], bytes], Reason | None]] = {
    "sequences 5,000 deep, endless": (lambda: nested(5000, endless=True), Reason.UNDECODABLE),
    "sequences 5,000 deep, with lengths": (lambda: nested(5000, endless=False), None),
    "65535 x 65535 in 256 bytes": (
        lambda: with_tags(Rows=65535, Columns=65535, PixelData=bytes(256)),
        Reason.HOSTILE_DIMENSIONS,
    ),
    "65535 x 65535 in a small JPEG": (
        lambda: with_tags(JPEG_LOSSLESS, Rows=65535, Columns=65535),
        Reason.HOSTILE_DIMENSIONS,
    ),
    "8000 x 8000 in 256 bytes": (lambda: with_tags(Rows=8000, Columns=8000, PixelData=bytes(256)), Reason.UNDECODABLE),
    "no rows": (lambda: with_tags(Rows=0), Reason.UNDECODABLE),
    "300 kB that inflate to 300 MB": (lambda: bomb(300), Reason.HOSTILE_DIMENSIONS),
    "deflated, broken off": (lambda: with_tags(DEFLATED)[:-500], Reason.UNDECODABLE),
    "a private transfer syntax": (
        lambda: _renamed(with_tags(), EXPLICIT, "1.2.3.4.5.6.7.8.9"),
        Reason.UNSUPPORTED_TRANSFER_SYNTAX,
    ),
    "an unknown VR": (lambda: bad_representation(b"ZZ"), None),
    "a VR that is no letters": (lambda: bad_representation(b"\x00\x01"), None),
    "an element of 4 GB": (lambda: private_element(0xFFFFFFFE), Reason.NO_PIXELS),
    "an unknown character set": (_unknown_characters, None),
    "an offset table that lies": (lambda: lying_offsets(0x7FFFFFF0), None),
    "fragments without end": (lambda: with_tags(JPEG_LOSSLESS)[:-8], None),
    "an empty frame": (lambda: with_frames([b"\0\0"]), Reason.UNDECODABLE),
    "a frame of another size": (lambda: with_tags(JPEG_LOSSLESS, Rows=_ROWS * 2), Reason.UNDECODABLE),
    "a billion frames": (lambda: with_tags(NumberOfFrames=1_000_000_000), Reason.UNDECODABLE),
    "a window of no width": (lambda: with_tags(WindowCenter="0", WindowWidth="0"), None),
    "contradicting tags": (lambda: with_tags(ViewPosition="AP", BodyPartExamined="HAND"), Reason.NOT_A_FRONTAL_CHEST),
}
"""A maker of each file, and the reason that it must get; None where any answer that is not a failure will do."""


def endless(seed: int, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files without end, the same for the same seed: real ones mutated, and made ones spoiled in tags and codestreams.

    Args:
        seed: Of the random numbers.
        folder: Where the real files lie.

    Yields:
        What was done, and the file.
    """
    randomness = random.Random(seed)
    files = sorted(path for path in folder.iterdir() if path.stat().st_size < 1 << 20)
    while True:
        kind = randomness.random()
        if kind < 0.5:
            path = randomness.choice(files)
            yield f"mutated {path.name}", _mutated(path.read_bytes(), randomness)
        elif kind < 0.75:
            syntax = randomness.choice(list(CODINGS))
            yield f"codestream of {syntax}", _spoiled_frame(syntax, randomness)
        else:
            syntax = randomness.choice(list(CODINGS))
            tags = dict(randomness.choice(_TAGS) for _ in range(randomness.randint(1, 4)))
            yield (
                f"{syntax} with {sorted(tags)}",
                _mutated(with_tags(syntax, **tags), randomness, randomness.randint(0, 1)),
            )


_NUMBERS = ("0", "-1", "1", "nan", "1e308", "-1e308", "1e-320", "65536", "", "1\\2\\3")
_VALUES: dict[tuple[str, ...], tuple[Any, ...]] = {
    ("Rows", "Columns"): (0, 1, 2, 255, 4096, 65535),
    ("BitsAllocated", "BitsStored", "HighBit"): (0, 1, 7, 8, 12, 15, 16, 32, 64, 65535),
    ("SamplesPerPixel",): (0, 2, 3, 4, 65535),
    ("PlanarConfiguration", "PixelRepresentation"): (0, 1, 2),
    ("PixelPaddingValue",): (0, 1, 4095, 65535),
    ("NumberOfFrames",): (0, 1, 2, 1 << 30),
    ("PhotometricInterpretation",): (
        "MONOCHROME1", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "PALETTE COLOR", "", "X" * 16,
    ),
    ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"): _NUMBERS,
    ("VOILUTFunction",): ("LINEAR", "LINEAR_EXACT", "SIGMOID", "OTHER"),
    ("SpecificCharacterSet",): ("ISO_IR 192", "ISO 2022 IR 149", ["", "ISO 2022 IR 87"]),
    ("PatientAge",): ("003Y", "999Y", "-01Y", "three"),
    ("PixelData",): (None,),
    ("PresentationLUTShape",): ("INVERSE",),
}  # fmt: skip
_TAGS = [(keyword, value) for keywords, values in _VALUES.items() for keyword in keywords for value in values]
_EXTREMES = (b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00", b"\xff\xff\xff\x7f")


def _mutated(data: bytes, randomness: random.Random, most: int = 8) -> bytes:
    """Bytes changed, lengths exaggerated, VRs replaced, pieces doubled or lost: mostly in the header."""
    content = bytearray(data)
    for _ in range(randomness.randint(min(1, most), most)):
        if not content:
            break
        end = min(len(content), 3000) if randomness.random() < 0.7 else len(content)
        at = randomness.randrange(end)
        match randomness.randrange(7):
            case 0 | 1:
                content[at] = randomness.randrange(256)
            case 2:
                content[at : at + 4] = randomness.choice(_EXTREMES)
            case 3:
                content[at : at + 2] = randomness.choice((b"SQ", b"UN", b"OB", b"ZZ", b"US", b"DS", b"PN"))
            case 4:
                content[at:at] = content[at : at + randomness.randrange(200)]
            case 5:
                del content[at : at + randomness.randrange(200)]
            case _:
                if randomness.random() < 0.3:
                    del content[at:]
    return bytes(content)


def _spoiled_frame(syntax: str, randomness: random.Random) -> bytes:
    dataset = dcmread(BytesIO(_chest(syntax)))
    if CODINGS[syntax].encode is None:
        return _mutated(_chest(syntax), randomness)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([_mutated(frame, randomness).ljust(2, b"\0")])
    return _written(dataset)


@cache
def _chest(transfer_syntax: str) -> bytes:
    return dx_file(radiograph(Kind.CLEAR, 1, _ROWS, _COLUMNS), seed=1, transfer_syntax=transfer_syntax)


def _changed(transfer_syntax: str, tags: dict[str, Any]) -> Dataset:
    dataset = dcmread(BytesIO(_chest(transfer_syntax)))
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            dataset.add_new(keyword, dictionary_VR(keyword).partition(" or ")[0], value)
    return dataset


def _written(dataset: Dataset) -> bytes:
    written = BytesIO()
    dataset.save_as(written)
    return written.getvalue()


def _before_pixels(elements: bytes) -> bytes:
    """A child's chest with these bytes before its Pixel Data element."""
    data = with_tags()
    at = data.rindex(b"\xe0\x7f\x10\x00OW")
    return data[:at] + elements + data[at:]


def _renamed(data: bytes, old: str, new: str) -> bytes:
    dataset = dcmread(BytesIO(data))
    assert dataset.file_meta.TransferSyntaxUID == old
    dataset.file_meta.TransferSyntaxUID = UID(new)
    written = BytesIO()
    dataset.save_as(written, implicit_vr=False, little_endian=True)
    return written.getvalue()
