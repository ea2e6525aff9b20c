"""What the box's figures were, minute by minute, for a week: one file of a fixed size, written in place.

Each minute has its own slot, found by its number, so that nothing is ever moved, grown or cleaned up. A slot carries a
checksum: one that was half written, or that belongs to another week, reads as a minute of which nothing is known.
Nothing of it says anything about a patient.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from pathlib import Path

from edge.modes import file_mode, make_folder
from edge.records import Record

MINUTES_KEPT = 7 * 24 * 60
_SLOT = struct.Struct("<qI4x11d")
_CHECKED = struct.Struct("<q11d")


class Sample(Record, frozen=True, kw_only=True):
    """The figures of one minute. None is what was not measured.

    Attributes:
        minute: Minutes since the epoch.
        queue_depth: Images without a result.
        oldest_seconds: Age of the oldest of them; 0 when none waits.
        p50_ms: Percentiles of milliseconds from arrival to result.
        disk_free: Bytes.
        memory_available: Bytes.
        temperature_celsius: Hottest zone.
        throttled: How often the processor was slowed down by heat, since it was switched on.
        load_1min: Load average.
        services_amiss: How many services were not up.
    """

    minute: int
    queue_depth: float | None = None
    oldest_seconds: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    disk_free: float | None = None
    memory_available: float | None = None
    temperature_celsius: float | None = None
    throttled: float | None = None
    load_1min: float | None = None
    services_amiss: float | None = None


FIGURES = tuple(name for name in Sample.__struct_fields__ if name != "minute")


class History:
    """The file, opened by its one writer; whoever has it open may read."""

    def __init__(self, state_dir: Path) -> None:
        """Open the file or make it: 1 MB, mode 0600. Raises `OSError`."""
        folder = state_dir / "history"
        make_folder(folder)
        self._file = os.open(folder / "minutes", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, file_mode(folder))

    def keep(self, sample: Sample) -> None:
        """Write a minute over that of a week before. Not forced to the disk: a power cut may cost the last ones."""
        values = tuple(math.nan if (value := getattr(sample, name)) is None else float(value) for name in FIGURES)
        check = zlib.crc32(_CHECKED.pack(sample.minute, *values))
        os.pwrite(self._file, _SLOT.pack(sample.minute, check, *values), _place(sample.minute))

    def since(self, minute: int, until: int) -> list[Sample]:
        """The minutes from `minute` on and before `until` of which something is known, oldest first."""
        data = os.pread(self._file, MINUTES_KEPT * _SLOT.size, 0)
        data = data[: len(data) - len(data) % _SLOT.size]
        found = []
        for number, check, *values in _SLOT.iter_unpack(data):
            if minute <= number < until and zlib.crc32(_CHECKED.pack(number, *values)) == check:
                known = {
                    name: None if math.isnan(value) else value for name, value in zip(FIGURES, values, strict=True)
                }
                found.append(Sample(minute=number, **known))
        return sorted(found, key=lambda sample: sample.minute)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _place(minute: int) -> int:
    return minute % MINUTES_KEPT * _SLOT.size
