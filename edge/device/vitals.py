"""Figures of the box: disk, memory, load, temperature. Each is None where this hardware does not tell."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge.records import Record


class Vitals(Record, frozen=True, kw_only=True):
    """Disk under the state folder (bytes, share in use 0..1), available memory (bytes), load, hottest zone (°C)."""

    disk_total: int
    disk_free: int
    disk_used_share: float
    memory_available: int | None
    load_1min: float
    temperature_celsius: float | None


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
    readings = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            readings.append(int(zone.read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError):
            continue
    return max(readings, default=None)
