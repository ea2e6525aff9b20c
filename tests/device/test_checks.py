"""What is said of a machine, by what its kernel says."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edge.device import checks

ROOT_DISK = "23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    ("cpuinfo", "well", "said"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n", True, "INT8 by avx512_vnni"),
        ("flags\t\t: fpu avx2 avx_vnni\n", True, "INT8 by avx_vnni"),
        ("flags\t\t: fpu avx2\n", True, "slower"),
        ("Features\t: fp asimd asimddp\n", True, "INT8 by asimddp"),
        ("Features\t: fp asimd\n", True, "slower"),
        ("flags\t\t: fpu sse4_2 avx\n", False, "use another one"),
        ("", False, "use another one"),
    ],
)
def test_processor(cpuinfo: str, well: bool, said: str) -> None:
    check = checks.judge_processor(cpuinfo)
    assert check.well is well
    assert said in check.said


@pytest.mark.parametrize(
    ("more", "well", "said"),
    [
        ("", True, "/, ext4"),
        ("24 23 8:2 / /data rw - ext4 /dev/sda2 rw\n", True, "/data, ext4"),
        ("24 23 8:2 / /data ro,noatime - ext4 /dev/sda2 ro\n", False, "read-only"),
        ("24 23 0:9 / /data rw - tmpfs tmpfs rw\n", False, "is lost with the power"),
        ("24 23 8:2 / /data rw - vfat /dev/sdb1 rw\n", False, "format it as ext4"),
        ("24 23 8:2 / /database ro - ext4 /dev/sda2 ro\n", True, "/, ext4"),
        ("24 23 8:2 / /data rw - ext4 /dev/sda2 rw\n25 24 0:9 / /data ro - ext4 /dev/sdc1 ro\n", False, "read-only"),
    ],
)
def test_mount(more: str, well: bool, said: str) -> None:
    check = checks.judge_mount(ROOT_DISK + more, Path("/data/scanside"))
    assert check.well is well
    assert said in check.said


@pytest.mark.parametrize(("available", "well"), [(None, True), (1 << 30, True), (100 << 20, False)])
def test_memory(available: int | None, well: bool) -> None:
    assert checks.judge_memory(available).well is well


@pytest.mark.parametrize(
    ("now", "kept", "well", "said"),
    [
        (checks.RELEASED + 1, True, True, "2026-11-26 00:00 UTC"),
        (checks.RELEASED + 1, False, True, "time server"),
        (0.0, True, False, "1970-01-01"),
    ],
)
def test_clock(now: float, kept: bool, well: bool, said: str) -> None:
    check = checks.judge_clock(now, kept=kept)
    assert check.well is well
    assert said in check.said


@pytest.mark.parametrize(("count", "well"), [("0\n", True), ("3\n", False)])
def test_errors_of_a_file_system(count: str, well: bool) -> None:
    assert checks.judge_errors("sda1", count).well is well


def test_this_machine(tmp_path: Path) -> None:
    found = {check.name: check for check in checks.check_machine(tmp_path)}
    assert {"processor", "memory", "clock", "disk mount"} <= set(found)
    assert all(check.said for check in found.values())


def test_what_is_there_is_reached_and_what_is_not_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert checks.check_reached("broker", "127.0.0.1", port).well
    gone = checks.check_reached("broker", "127.0.0.1", port)
    assert not gone.well
    assert "Connection refused" in gone.said
