"""What the checks remember of the images before: how sharp each device's were, and which pixels came already.

A value: `with_image` gives the next one. It lives with the process that analyses, in memory alone, and starts empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.records import Header

_DEVICES, _PER_DEVICE = 64, 50
_DIGESTS = 1000

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Recent:
    """What is remembered.

    Attributes:
        sharpness: By `Header.device`, of its last images, the oldest first.
        seen: SOP Instance UIDs by the digest of their pixels, the oldest first.
    """

    sharpness: dict[str, tuple[float, ...]] = field(default_factory=dict)
    seen: dict[bytes, str] = field(default_factory=dict)

    def of_device(self, header: Header) -> tuple[float, ...]:
        """The sharpness of the last images of this image's device."""
        return self.sharpness.get(header.device or "", ())

    def repeats(self, digest: bytes, header: Header) -> bool:
        """Whether these pixels came under another SOP Instance UID."""
        uid = header.sop_instance_uid
        return uid is not None and self.seen.get(digest, uid) != uid

    def with_image(self, digest: bytes, sharpness: float, header: Header) -> Recent:
        """This and one more image; the oldest fall out."""
        devices, seen = self.sharpness, self.seen
        if header.device:
            of_device = (*self.of_device(header), sharpness)[-_PER_DEVICE:]
            devices = _with(devices, header.device, of_device, _DEVICES)
        if header.sop_instance_uid and digest not in seen:
            seen = _with(seen, digest, header.sop_instance_uid, _DIGESTS)
        return Recent(sharpness=devices, seen=seen)


NOTHING_YET = Recent()


def digest_of(small: NDArray[np.float32]) -> bytes:
    """A digest of the reduced copy: the same for the same pixels, however they were compressed without loss."""
    return blake2b(small.tobytes(), digest_size=16).digest()


def _with(kept: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> dict[_Key, _Value]:
    """A copy with the key last; where that is one too many, without the first."""
    grown = {known: kept[known] for known in kept if known != key} | {key: value}
    if len(grown) > most:
        del grown[next(iter(grown))]
    return grown
