"""The format of spool files: any chunks in, the same object out; anything else than the whole file does not open."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.store.keys import KeyRing, new_key
from edge.store.sealed_file import FRAME_BYTES, SealedWriter, Unsealed, read_header, read_sealed
from edge.store.vault import HEADER_BYTES, FileKey, Tampered, Vault

VAULT = Vault(KeyRing(Path("ring"), (new_key(),)))
KEY = VAULT.new_file("a")
RECORD = b'{"size": 1}'
FRAME = 16


def sealed(pieces: Sequence[bytes], record: bytes = RECORD, key: FileKey = KEY, frame_bytes: int = FRAME) -> bytes:
    written = bytearray()
    writer = SealedWriter(key, written.extend, frame_bytes)
    for piece in pieces:
        writer.write(piece)
    writer.finish(record)
    return bytes(written)


def opened(data: bytes, secret: bytes = KEY.secret) -> Unsealed:
    descriptor = os.memfd_create("sealed")
    try:
        os.write(descriptor, data)
        assert data[:HEADER_BYTES] == read_header(descriptor)
        return read_sealed(descriptor, secret)
    finally:
        os.close(descriptor)


def frames(data: bytes) -> list[bytes]:
    found, start = [], HEADER_BYTES
    while start < len(data):
        end = start + 4 + struct.unpack_from(">I", data, start)[0]
        found.append(data[start:end])
        start = end
    return found


def refused(data: bytes, secret: bytes = KEY.secret) -> None:
    with pytest.raises(Tampered, match=r"a sealed file: .+: restore it from a backup"):
        opened(data, secret)


@given(pieces=st.lists(st.binary(max_size=3 * FRAME), max_size=8), record=st.binary(max_size=3 * FRAME))
def test_any_chunking_comes_back_as_the_object(pieces: list[bytes], record: bytes) -> None:
    whole = b"".join(pieces)
    file = sealed(pieces, record)
    assert opened(file) == (whole, record)
    assert file == sealed([whole], record), "the file does not show in which pieces the object came"
    assert len(frames(file)) == -(-len(whole) // FRAME) + 1
    assert file.startswith(KEY.header)


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES])
def test_objects_of_real_size(size: int) -> None:
    data = os.urandom(size)
    assert opened(sealed([data], frame_bytes=FRAME_BYTES)) == (data, RECORD)
    pieces = [data[start : start + 99_999] for start in range(0, size, 99_999)]
    assert opened(sealed(pieces, frame_bytes=FRAME_BYTES)) == (data, RECORD)


def test_frames_of_any_size_are_read() -> None:
    data = os.urandom(5_000_000)
    for frame_bytes in (65_536, 1 << 20, 1 << 23):
        assert opened(sealed([data], frame_bytes=frame_bytes)) == (data, RECORD)


SAMPLE = sealed([bytes(range(FRAME * 3 + 5))])


@given(length=st.integers(0, len(SAMPLE) - 1))
def test_a_cut_file_does_not_open(length: int) -> None:
    refused(SAMPLE[:length])


@given(place=st.integers(HEADER_BYTES, len(SAMPLE) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_does_not_open(place: int, bit: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[place] ^= 1 << bit
    refused(bytes(damaged))


@given(place=st.integers(0, HEADER_BYTES - 1), bit=st.integers(0, 7))
def test_a_changed_header_leads_to_no_key_or_another(place: int, bit: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[place] ^= 1 << bit
    header = bytes(damaged[:HEADER_BYTES])
    if header[:8] == KEY.header[:8]:
        refused(bytes(damaged), VAULT.file_key("a", header))


@given(order=st.lists(st.integers(0, len(frames(SAMPLE)) - 1), max_size=7))
def test_frames_in_another_order_dropped_or_repeated_do_not_open(order: list[int]) -> None:
    whole = frames(SAMPLE)
    if order != list(range(len(whole))):
        refused(SAMPLE[:HEADER_BYTES] + b"".join(whole[number] for number in order))


@given(added=st.binary(min_size=1, max_size=60))
def test_what_was_added_does_not_open(added: bytes) -> None:
    refused(SAMPLE + added)


def test_a_file_under_another_name_or_key_does_not_open() -> None:
    refused(SAMPLE, VAULT.file_key("b", SAMPLE[:HEADER_BYTES]))
    refused(SAMPLE, VAULT.new_file("a").secret)


def test_frames_of_another_file_do_not_open() -> None:
    other = sealed([bytes(FRAME * 4)], key=VAULT.new_file("a"))
    mixed = frames(SAMPLE)
    for number in range(len(mixed)):
        refused(SAMPLE[:HEADER_BYTES] + b"".join([*mixed[:number], frames(other)[number], *mixed[number + 1 :]]))


def test_a_record_does_not_open_as_image_nor_an_image_as_record() -> None:
    """The last frame of a file with one frame more, and a file that ends where an object's frame does."""
    longer = sealed([bytes(FRAME * 3)], record=bytes(FRAME))
    refused(SAMPLE[:HEADER_BYTES] + b"".join([*frames(longer)[:3], frames(longer)[3], frames(longer)[3]]))
    refused(SAMPLE[:HEADER_BYTES] + b"".join(frames(longer)[:3]))


@given(junk=st.binary(max_size=300))
def test_a_foreign_file_does_not_open(junk: bytes) -> None:
    refused(junk)


@given(junk=st.binary(max_size=300))
def test_a_foreign_file_with_our_header_does_not_open(junk: bytes) -> None:
    refused(KEY.header + junk)


def test_a_length_that_lies_takes_no_memory() -> None:
    refused(KEY.header + b"\xff\xff\xff\xff" + bytes(100))
