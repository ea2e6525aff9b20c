"""What can be wrong with the machine itself: processor, memory, clock, and the disk under the state folder."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge.device.vitals import read_vitals
from edge.store.machine import synchronised

LEAST_MEMORY = 300 << 20
"""Bytes that the largest image needs beside the services."""

RELEASED = 1795651200.0
"""2026-11-26, when this was written: a clock before it is wrong, whatever keeps it."""

_VNNI = ("avx512_vnni", "avx_vnni", "asimddp")
_REACHED_WITHIN = 2.0


class Check(NamedTuple):
    """One line: what was looked at, whether it is well, and what was found or what to do."""

    name: str
    well: bool
    said: str


def check_machine(state_dir: Path) -> Iterator[Check]:
    """Look at the machine now; `state_dir` must be there. Raises `OSError`."""
    yield judge_processor(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    yield judge_memory(read_vitals(state_dir).memory_available)
    yield judge_clock(time.time(), kept=synchronised())
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    yield judge_mount(mounts, state_dir.resolve())
    for file in sorted(Path("/sys/fs/ext4").glob("*/errors_count")):
        yield judge_errors(file.parent.name, file.read_text(encoding="ascii"))


def judge_processor(cpuinfo: str) -> Check:
    """By the flags of the first core in /proc/cpuinfo, as x86 and ARM64 write them."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = next((set(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features")), set())
    vnni = sorted(flags.intersection(_VNNI))
    if not flags & {"avx2", "asimd"}:
        return Check("processor", False, "no AVX2 or Advanced SIMD: the engines are not made for it: use another one")
    return Check("processor", True, f"INT8 by {vnni[0]}" if vnni else "without INT8 dot products: slower by about half")


def judge_memory(available: int | None) -> Check:
    """Bytes that may be had without swapping; None where the kernel does not tell."""
    if available is None:
        return Check("memory", True, "the kernel does not say how much there is")
    said = f"{available / 1e6:.0f} MB available"
    well = available >= LEAST_MEMORY
    return Check("memory", well, said if well else f"{said}: end other programs, or lower inference.image_megabytes")


def judge_clock(now: float, *, kept: bool) -> Check:
    """Seconds since the epoch, and whether something keeps them right."""
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < RELEASED:
        return Check("clock", False, f"{shown} is before this software was made: set it (timedatectl set-time)")
    advice = "nothing keeps it right, and times are marked so: give it a time server (firmware_config/README.md)"
    return Check("clock", True, shown if kept else f"{shown}; {advice}")


def judge_mount(mountinfo: str, folder: Path) -> Check:
    """By the entry of /proc/self/mountinfo (proc(5)) over an absolute folder."""
    best, options, kind = Path("/"), "", ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        point = Path(fields.split()[4].replace("\\040", " "))
        if folder.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, options, kind = point, fields.split()[5], rest.split()[0]
    if "ro" in options.split(","):
        return Check("disk mount", False, f"{best} is read-only: the disk may be failing: see `dmesg`, then fsck")
    if kind in ("tmpfs", "ramfs"):
        return Check("disk mount", False, f"{best} is memory, and is lost with the power: set state_dir to a disk")
    if kind in ("vfat", "exfat"):
        return Check("disk mount", False, f"{best} is {kind}, which knows no users: format it as ext4")
    return Check("disk mount", True, f"{best}, {kind or 'unknown'}")


def judge_errors(device: str, count: str) -> Check:
    """ext4's own count of damage that it has found (Documentation/ABI/testing/sysfs-fs-ext4)."""
    well = count.strip() in ("0", "")
    said = "no damage found" if well else f"{count.strip()} errors: unmount it, fsck it, and think of a new disk"
    return Check(f"file system {device}", well, said)


def check_reached(name: str, host: str, port: int) -> Check:
    """Whether something takes connections there, within two seconds; what it speaks is not asked."""
    try:
        with socket.create_connection((host, port), _REACHED_WITHIN):
            return Check(name, True, f"{host}:{port} takes connections")
    except OSError as error:
        why = error.strerror or type(error).__name__
        return Check(name, False, f"{host}:{port}: {why}: is it on, and is the way to it open (cable, firewall, name)?")
