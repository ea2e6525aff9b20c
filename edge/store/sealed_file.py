"""A sealed file: an object in frames that open in their order, all of them and nothing else, and what is known of it.

    header      40 bytes: `SSF1`, the ring key's id (4), a random salt (32)
    frame       length of what follows (4, big endian), AES-256-GCM ciphertext and tag (16)
    ...

A frame's nonce is its number (11 bytes, big endian) and 1 for the last one, 0 otherwise, so that a frame that was
moved, dropped, repeated or added does not open, nor a file that was cut: the STREAM construction (Hoang, Reyhanitabar,
Rogaway and Vizar, CRYPTO 2015), as Tink and age have it. The last frame holds no byte of the object but its record:
what the journal says of it, so that the journal can be made again from the files.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.store.vault import HEADER_BYTES, FileKey, Tampered

FRAME_BYTES = 256 << 10
"""How much of an object is sealed at once: fits a core's own cache (measured: benchmarks/encryption.py)."""

_LENGTH = struct.Struct(">I")
_TAG_BYTES = 16


class Unsealed(NamedTuple):
    """What a sealed file holds: the object, and its record."""

    data: bytes
    record: bytes


class SealedFile(NamedTuple):
    """A sealed file for another process: an open descriptor, and the key that opens this file and no other."""

    descriptor: int
    secret: bytes

    def __repr__(self) -> str:
        return f"SealedFile({self.descriptor})"


class SealedWriter:
    """Seals an object as it comes."""

    def __init__(
        self, key: FileKey, write: Callable[[bytes | memoryview], object], frame_bytes: int = FRAME_BYTES
    ) -> None:
        """Write the header.

        Args:
            key: What `Vault.new_file` gave; for this one object.
            write: Takes the file's bytes; what it raises goes to the caller.
            frame_bytes: How much is sealed at once.
        """
        self._cipher = AESGCM(key.secret)
        self._write = write
        self._gathered = memoryview(bytearray(frame_bytes))
        self._frame = bytearray(_LENGTH.size + frame_bytes + _TAG_BYTES)
        self._waiting = 0
        self._number = 0
        write(key.header)

    def write(self, data: bytes | memoryview) -> None:
        """Append to the object."""
        view = memoryview(data)
        size = len(self._gathered)
        while view:
            if not self._waiting and len(view) >= size:
                self._seal(view[:size])
                view = view[size:]
                continue
            part = view[: size - self._waiting]
            self._gathered[self._waiting : self._waiting + len(part)] = part
            self._waiting += len(part)
            view = view[len(part) :]
            if self._waiting == size:
                self._seal_gathered()

    def finish(self, record: bytes) -> None:
        """Complete the file with the object's record."""
        if self._waiting:
            self._seal_gathered()
        self._seal(record, last=True)

    def _seal_gathered(self) -> None:
        self._seal(self._gathered[: self._waiting])
        self._waiting = 0

    def _seal(self, plain: bytes | memoryview, *, last: bool = False) -> None:
        length = len(plain) + _TAG_BYTES
        end = _LENGTH.size + length
        if end > len(self._frame):
            self._frame = bytearray(end)
        frame = memoryview(self._frame)[:end]
        _LENGTH.pack_into(frame, 0, length)
        self._cipher.encrypt_into(_nonce(self._number, last), plain, None, frame[_LENGTH.size :])
        self._number += 1
        self._write(frame)


def read_header(descriptor: int) -> bytes:
    """The first 40 bytes of a file, or fewer."""
    return os.pread(descriptor, HEADER_BYTES, 0)


def read_sealed(descriptor: int, secret: bytes) -> Unsealed:
    """What a sealed file holds.

    Args:
        descriptor: The open file; where it stands does not matter and does not change.
        secret: The file's key.

    Raises:
        Tampered: The file is not what was sealed under this key, whole and in order.
        OSError: It cannot be read.
    """
    data = BytesIO()
    data.seek(os.fstat(descriptor).st_size)
    data.write(b"\0")  # it never grows: growing copies what is there, nine times in all
    end, record = 0, b""
    with data.getbuffer() as room:
        for piece, last in open_frames(descriptor, secret, room):
            if last:
                record = bytes(piece)
            else:
                end += len(piece)
            piece.release()  # a view that lives would hold the object's end where it is
    data.truncate(end)
    return Unsealed(data.getvalue(), record)


def open_frames(descriptor: int, secret: bytes, room: memoryview | None = None) -> Iterator[tuple[memoryview, bool]]:
    """What each frame holds, in order, and whether it is the last one, the record; valid until the next is asked for.

    Until the last one has come, nothing is known of how many there should be. Raises as `read_sealed`.

    Args:
        descriptor: The open file.
        secret: Its key.
        room: Where to put what they hold, one after another: as long as the file. None for a place of our own.
    """
    cipher = AESGCM(secret)
    size = os.fstat(descriptor).st_size
    sealed, plain = bytearray(FRAME_BYTES + _TAG_BYTES), bytearray(FRAME_BYTES)
    number, start, end, last = 0, HEADER_BYTES, 0, False
    while not last:
        length = _frame_length(descriptor, start, size)
        if length > len(sealed):
            sealed, plain = bytearray(length), bytearray(length - _TAG_BYTES)
        start += _LENGTH.size
        begin, end = end, end + length - _TAG_BYTES
        frame, piece = (
            memoryview(sealed)[:length],
            memoryview(plain)[: end - begin] if room is None else room[begin:end],
        )
        _read_into(descriptor, frame, start)
        start += length
        last = start == size
        try:
            cipher.decrypt_into(_nonce(number, last), frame, None, piece)
        except InvalidTag:
            raise _tampered(f"frame {number} does not open") from None
        yield piece, last
        number += 1


def read_record(descriptor: int, secret: bytes) -> bytes:
    """The record of a sealed file, without reading the object: a file that was cut or never completed has none.

    Raises:
        Tampered: The last frame does not open under this key.
        OSError: It cannot be read.
    """
    size = os.fstat(descriptor).st_size
    number, start = 0, HEADER_BYTES
    while True:
        length = _frame_length(descriptor, start, size)
        start += _LENGTH.size
        if start + length == size:
            break
        start += length
        number += 1
    frame = bytearray(length)
    _read_into(descriptor, memoryview(frame), start)
    try:
        return AESGCM(secret).decrypt(_nonce(number, last=True), bytes(frame), None)
    except InvalidTag:
        raise _tampered("its record does not open") from None


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _frame_length(descriptor: int, start: int, size: int) -> int:
    head = os.pread(descriptor, _LENGTH.size, start)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    if length < _TAG_BYTES or start + _LENGTH.size + length > size:
        raise _tampered("it is cut, or was never whole")
    return int(length)


def _read_into(descriptor: int, view: memoryview, start: int) -> None:
    while view:
        count = os.preadv(descriptor, [view], start)
        if not count:
            raise _tampered("it was cut while it was read")
        view, start = view[count:], start + count


def _tampered(found: str) -> Tampered:
    return Tampered(f"a sealed file: {found}: restore it from a backup")
