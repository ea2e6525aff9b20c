"""Figures of the box: disk, memory, load, temperature. Each is None where this hardware does not tell."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge.records import Record


class Vitals(Record, frozen=True, kw_only=True):
    """Disk under the state folder (bytes, share in use 0..1), available memory (bytes), load, hottest zone (°C).

    Attributes:
        throttled: How often the processor was slowed down by heat since it was switched on, of all its cores the most.
    """

    disk_total: int
    disk_free: int
    disk_used_share: float
    memory_available: int | None
    load_1min: float
    temperature_celsius: float | None
    throttled: int | None = None


def read_vitals(state_dir: Path) -> Vitals:
    """Read them now. Raises `OSError` when the state folder's disk cannot be asked."""
    disk = shutil.disk_usage(state_dir)
    return Vitals(
        disk_total=disk.total,
        disk_free=disk.free,
        disk_used_share=round(1 - disk.free / disk.total, 4) if disk.total else 1.0,
        memory_available=_memory_available(),
        load_1min=round(os.getloadavg()[0], 2),
        temperature_celsius=_hottest(),
        throttled=_throttled(),
    )


def _memory_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _hottest() -> float | None:
    hottest = max(_numbers(Path("/sys/class/thermal"), "thermal_zone*/temp"), default=None)
    return None if hottest is None else hottest / 1000


def _throttled() -> int | None:
    """By the kernel's count for each core (Documentation/ABI/testing/sysfs-devices-system-cpu); x86 alone has it."""
    cores = Path("/sys/devices/system/cpu")
    return max(_numbers(cores, "cpu[0-9]*/thermal_throttle/core_throttle_count"), default=None)


def _numbers(folder: Path, pattern: str) -> list[int]:
    readings = []
    for file in folder.glob(pattern):
        try:
            readings.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return readings
