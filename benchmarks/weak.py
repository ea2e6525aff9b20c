"""Claim: on a quarter of a core and 1 GB of memory, the flag of an uncompressed 10 MB image takes under a second (p95).

`python -m benchmarks.weak`, as root: a whole appliance in a control group of its own, on one core, 1 GB in all. The
same box answers images with a quarter of that core and, alternating, with all of it: that is the peer. From the start
of DCMTK's storescu, which is the modality's and is not in the group, to the committed result. An image comes when the
one before has its pictures, as with patients. Exit status 1 when the claim does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.box import running_appliance, send, write_config
from benchmarks.report import heading, percentile, spread
from edge import config_file
from edge.config import Config
from edge.store import Store
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file

SHARE, MEMORY = 0.25, 1 << 30
LIMIT_MS = 1000.0
_PERIOD_US = 100_000
_GROUPS = Path("/sys/fs/cgroup")
_PICTURES_WITHIN = 60.0


class Group(NamedTuple):
    """A control group: the folders in which processes are put into it, and how its share of a core is written."""

    folders: tuple[Path, ...]
    quota: Path
    one_text: bool

    def limit(self, share: float) -> None:
        """Let its processes have this share of one core together."""
        microseconds = round(share * _PERIOD_US)
        self.quota.write_text(f"{microseconds} {_PERIOD_US}" if self.one_text else str(microseconds), encoding="ascii")


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(description="The way of an image on weak hardware.")
    parser.add_argument("--images", type=int, default=40, help="with each share of the core")
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name, _group() as group:
        folder = Path(name)
        file = write_config(folder, inference={"threads": 1, "image_megabytes": 512, "image_seconds": 30})
        settings = config_file.load(file)
        joins = "; ".join(f"echo $$ >{path / 'cgroup.procs'}" for path in group.folders)
        core = min(os.sched_getaffinity(0))
        prefix = ["sh", "-c", f'{joins}; exec taskset --cpu-list {core} "$@"', "sh"]
        heading(f"On one core, {MEMORY >> 20} MB in all, {images} images of 10 MB each")
        group.limit(SHARE)
        for words in ("first start, which chooses the engine", "later start"):
            with running_appliance(file, settings, prefix) as (_, seconds):
                print(f"{words}, on a quarter of the core: ready after {seconds:.1f} s", flush=True)
                if words == "later start":
                    found = _measure(group, settings, folder, images)
    for share, times in found.items():
        print(f"{share:4.0%} of a core: sent to committed result {spread(times)}, p95 {percentile(times, 95):.0f} ms")
    return int(percentile(found[SHARE], 95) >= LIMIT_MS)


def _measure(group: Group, settings: Config, folder: Path, images: int) -> dict[float, list[float]]:
    """Milliseconds of each image, by the share of the core."""
    found: dict[float, list[float]] = {SHARE: [], 1.0: []}
    path = folder / "image.dcm"
    with closing(Store(settings.state_dir)) as store:
        for number in range(images):
            for share, times in found.items():
                pixels = radiograph(Kind.OPACITY, number, 2048, 2500)
                path.write_bytes(dx_file(pixels, seed=2 * number + round(share)))
                group.limit(share)
                seen, start = store.last_seq(), time.perf_counter()
                send(path, settings.intake.dicom.port, settings.intake.dicom.ae_title)
                while not store.changed_since(seen):
                    time.sleep(0.001)
                times.append((time.perf_counter() - start) * 1000)
                until = time.monotonic() + _PICTURES_WITHIN
                while store.owed("preview") and time.monotonic() < until:
                    time.sleep(0.05)
    return found


@contextmanager
def _group() -> Iterator[Group]:
    """A group with limits, of version 1 or 2 of the kernel's. Raises `SystemExit` where none may be made."""
    name = f"scanside-weak.{os.getpid()}"
    if (_GROUPS / "cgroup.controllers").exists():
        folders: tuple[Path, ...] = (_GROUPS / name,)
        memory, quota = folders[0] / "memory.max", folders[0] / "cpu.max"
    else:
        folders = (_GROUPS / "cpu" / name, _GROUPS / "memory" / name)
        memory, quota = folders[1] / "memory.limit_in_bytes", folders[0] / "cpu.cfs_quota_us"
    try:
        for folder in folders:
            folder.mkdir()
        memory.write_text(str(MEMORY), encoding="ascii")
    except OSError as error:
        why = error.strerror
        raise SystemExit(f"{error.filename}: {why}: needs root, and the controllers of processor and memory") from error
    try:
        yield Group(folders, quota, one_text=len(folders) == 1)
    finally:
        for folder in folders:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Once the last process has left it, which takes a moment after its end."""
    while (folder / "cgroup.procs").read_text(encoding="ascii"):
        time.sleep(0.05)
    folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
