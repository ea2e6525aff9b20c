"""What can be wrong with the machine itself: processor, memory, clock, and the disk under the state folder."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from edge.device.vitals import read_vitals
from edge.store.machine import synchronised

LEAST_MEMORY = 300 << 20
"""Bytes that the largest image needs beside the services."""

RELEASED = 1795651200.0
"""2026-11-26, when this was written: a clock before it is wrong, whatever keeps it."""

_VNNI = ("avx512_vnni", "avx_vnni", "asimddp")
_WEAK = "engines that pass the self-test serve, many times slower; when none does, nothing is analysed: use another one"
_REACHED_WITHIN = 2.0


class Check(NamedTuple):
    """One line: what was looked at, whether it is well, and what was found or what to do."""

    name: str
    well: bool
    said: str


def check_machine(state_dir: Path) -> Iterator[Check]:
    """Look at the machine now; `state_dir` must be there. Raises `OSError`."""
    yield check_processor()
    yield judge_memory(read_vitals(state_dir).memory_available)
    yield judge_clock(time.time(), kept=synchronised())
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    yield judge_mount(mounts, state_dir.resolve())
    for file in sorted(Path("/sys/fs/ext4").glob("*/errors_count")):
        yield judge_errors(file.parent.name, file.read_text(encoding="ascii"))
    yield from check_disks(Path("/sys"))


def check_processor() -> Check:
    """What this machine's processor can do. Raises `OSError`."""
    return judge_processor(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))


def judge_processor(cpuinfo: str) -> Check:
    """By the flags of the first core in /proc/cpuinfo, as x86 and ARM64 write them."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = next((set(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features")), set())
    vnni = sorted(flags.intersection(_VNNI))
    if not flags & {"avx2", "asimd"}:
        return Check("processor", False, f"no AVX2 or Advanced SIMD: {_WEAK}")
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


def check_disks(sysfs: Path) -> Iterator[Check]:
    """What eMMC, SD and NVMe disks say of their own wear and state, to everybody; SATA disks tell nobody but root."""
    for disk in sorted(sysfs.glob("block/mmcblk[0-9]")):
        with suppress(OSError, ValueError):  # SD cards have no such files
            reserve, worn = (
                (disk / "device" / name).read_text(encoding="ascii") for name in ("pre_eol_info", "life_time")
            )
            yield judge_flash(disk.name, int(reserve, 16), [int(each, 16) for each in worn.split()])
    for disk in sorted(sysfs.glob("class/nvme/nvme*")):
        with suppress(OSError):  # without the kernel's hwmon there is no alarm
            alarms = [file.read_text(encoding="ascii").strip() for file in disk.glob("hwmon*/temp1_alarm")]
            yield judge_nvme(disk.name, (disk / "state").read_text(encoding="ascii").strip(), hot="1" in alarms)


def judge_flash(disk: str, reserve: int, worn: Sequence[int]) -> Check:
    """By what an eMMC says of itself (JEDEC JESD84-B51, EXT_CSD; Documentation/driver-api/mmc/mmc-dev-attrs).

    Args:
        disk: Its name.
        reserve: PRE_EOL_INFO: 1 while less than 80 % of the reserve blocks are used, 2 from there, 3 from 90 %.
        worn: DEVICE_LIFE_TIME_EST: tenths of its life that are begun, by kind of cell; 11 is past the end, 0 unknown.
    """
    most = max(worn, default=0)
    said = (
        f"{10 * (most - 1)} to {10 * most} % of its life is over" if 1 <= most <= 10 else "it says nothing of its wear"
    )
    if most > 10:
        said = "it is past its life"
    well = reserve <= 1 and most < 10
    return Check(
        f"disk {disk}", well, said if well else f"{said}, reserve level {reserve}: back up, and put in a new one"
    )


def judge_nvme(disk: str, state: str, *, hot: bool) -> Check:
    """By the driver's state of it, and its own alarm of heat (NVM Express, Critical Warning; nvme/host/hwmon.c)."""
    if state != "live":
        return Check(f"disk {disk}", False, f"it is {state}: see `dmesg`; when it stays so, put in a new one")
    return Check(f"disk {disk}", not hot, "it is too hot: give it air" if hot else "it works")


def check_reached(name: str, host: str, port: int) -> Check:
    """Whether something takes connections there, within two seconds; what it speaks is not asked."""
    try:
        with socket.create_connection((host, port), _REACHED_WITHIN):
            return Check(name, True, f"{host}:{port} takes connections")
    except OSError as error:
        why = error.strerror or type(error).__name__
        return Check(name, False, f"{host}:{port}: {why}: is it on, and is the way to it open (cable, firewall, name)?")
