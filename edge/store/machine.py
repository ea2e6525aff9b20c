"""What the store asks the machine under it: room on the disk, and what time it is by which clock."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_LIBC = ctypes.CDLL(None)
_UNSYNCHRONISED_FROM = 16_000_000  # microseconds: NTP_PHASE_LIMIT in the kernel's timekeeping
_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")  # systemd-timesyncd.service(8) makes it


class Room(NamedTuple):
    """Bytes on a file system: how many are free for this user, and how many there are."""

    free: int
    total: int


def room(folder: Path) -> Room:
    """Of the file system under a folder (statvfs(3)); takes microseconds. Raises `OSError`."""
    said = os.statvfs(folder)
    return Room(said.f_bavail * said.f_frsize, said.f_blocks * said.f_frsize)


def uptime() -> float:
    """Seconds since the machine was switched on, suspended ones included: no setting of a clock changes it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Names this boot: random, made by the kernel (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def synchronised() -> bool:
    """Whether something keeps the wall clock right: its largest error, as the kernel knows it, is under 16 s.

    The bit STA_UNSYNC says less: programs leave it set to keep the kernel from writing the hardware clock (adjtimex(2),
    and `ntp_synced` in systemd's src/basic/time-util.c). Where asking is forbidden, timesyncd's mark counts.
    """
    asked = _Timex()
    if _LIBC.adjtimex(ctypes.byref(asked)) < 0:
        return _SYNCHRONISED.exists()
    return bool(asked.maxerror < _UNSYNCHRONISED_FROM)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine's clocks and disk, to be passed in: see the functions of the same names."""

    uptime: Callable[[], float] = uptime
    boot_id: Callable[[], str] = boot_id
    synchronised: Callable[[], bool] = synchronised
    room: Callable[[Path], Room] = room


class _Timex(ctypes.Structure):
    """The first fields of `struct timex` (adjtimex(2)); `modes` 0 only asks."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    )
