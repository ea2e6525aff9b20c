"""What is said of a machine, by what its kernel says."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.device import checks
from tests.running import ROOT
from tests.system.conftest import free_port

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


@pytest.mark.parametrize(
    ("reserve", "worn", "well", "said"),
    [
        (1, [1, 2], True, "10 to 20 % of its life"),
        (0, [0, 0], True, "says nothing of its wear"),
        (1, [9], True, "80 to 90 %"),
        (1, [10, 1], False, "90 to 100 %"),
        (1, [1, 11], False, "past its life"),
        (2, [3], False, "reserve level 2"),
        (3, [], False, "reserve level 3"),
    ],
)
def test_wear_of_flash(reserve: int, worn: list[int], well: bool, said: str) -> None:
    check = checks.judge_flash("mmcblk0", reserve, worn)
    assert check.well is well
    assert said in check.said


def test_disks_are_found_as_the_kernel_shows_them(tmp_path: Path) -> None:
    """As sysfs of Linux has them: an eMMC, an SD card without such files, an NVMe that is hot, one that is gone."""
    shown = {
        "block/mmcblk0/device/pre_eol_info": "0x02\n",
        "block/mmcblk0/device/life_time": "0x03 0x01\n",
        "block/mmcblk1/device/name": "SD32G\n",
        "class/nvme/nvme0/state": "live\n",
        "class/nvme/nvme0/hwmon2/temp1_alarm": "1\n",
        "class/nvme/nvme1/state": "dead\n",
        "class/nvme/nvme2/state": "live\n",
    }
    for name, content in shown.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="ascii")
    found = {check.name: (check.well, check.said.partition(":")[0]) for check in checks.check_disks(tmp_path)}
    assert found == {
        "disk mmcblk0": (False, "20 to 30 % of its life is over, reserve level 2"),
        "disk nvme0": (False, "it is too hot"),
        "disk nvme1": (False, "it is dead"),
        "disk nvme2": (True, "it works"),
    }


def test_a_box_says_at_its_start_that_its_processor_is_weak(tmp_path: Path, program: Callable[[str], str]) -> None:
    """With the /proc/cpuinfo of a processor without AVX2; it goes on all the same, here to find no model."""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu sse4_2 avx\n", encoding="ascii")
    (tmp_path / "scanside.yaml").write_text(
        f"state_dir: {tmp_path / 'state'}\ninference: {{models: {tmp_path / 'none'}}}\n", encoding="utf-8"
    )
    run = f"mount --bind {tmp_path}/cpuinfo /proc/cpuinfo && exec {sys.executable} -m edge.cli run inference"
    command = [program("unshare"), "--mount", "--map-root-user", "sh", "-c", f"{run} --config {tmp_path}/scanside.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    events = [line for line in done.stderr.splitlines() if "SC416" in line or "SC407" in line]
    assert "SC416 processor: no AVX2" in events[0]
    assert "SC407" in events[1]
    assert done.returncode == 1


def test_this_machine(tmp_path: Path) -> None:
    found = {check.name: check for check in checks.check_machine(tmp_path)}
    assert {"processor", "memory", "clock", "disk mount"} <= set(found)
    assert all(check.said for check in found.values())


def test_what_is_there_is_reached_and_what_is_not_is_told() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert checks.check_reached("broker", "127.0.0.1", port).well
    gone = checks.check_reached("broker", "127.0.0.1", port)
    assert not gone.well
    assert "Connection refused" in gone.said
