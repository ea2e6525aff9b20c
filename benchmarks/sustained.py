"""Claim: a box that works without a pause for half an hour is as fast at its end as in its first minutes, or says why.

`python -m benchmarks.sustained --minutes 30`: image after image into a whole appliance, the next as soon as the one
before is answered. Prints for each minute how many were answered, p50 and p95 from arrival to committed result, the
hottest zone, the slowest and fastest core's clock, and how often the kernel has slowed a core down for heat (x86 tells;
elsewhere the clock does). The peer is the run's own second minute: the first warms caches. For a device on a desk, with
its lid on; not in `make bench`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.box import running_appliance, send, write_config
from benchmarks.report import heading, percentile
from edge import config_file
from edge.config import Config
from edge.device.vitals import read_vitals
from edge.store import Store
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file

_DIFFERENT = 20
"""Images that take turns, under new UIDs each time."""
_MINUTE = 60.0
Grey = NDArray[np.float32]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="The way of an image, minute by minute.")
    parser.add_argument("--minutes", type=int, default=30)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels = [radiograph(Kind.OPACITY, seed, 2048, 2500) for seed in range(_DIFFERENT)]
        file = write_config(folder)
        settings = config_file.load(file)
        with running_appliance(file, settings):
            heading(f"Without a pause for {minutes} minutes, 2048 x 2500 x 16 bit DX, one storescu each")
            print("| minute | images | p50, ms | p95, ms | hottest, °C | clock, MHz | slowed down for heat |")
            print("| --- | --- | --- | --- | --- | --- | --- |")
            p95 = [_minute(settings, pixels, folder, number) for number in range(1, minutes + 1)]
    if len(p95) > 1:
        print(f"p95 of the last minute by that of the second: {p95[-1] / p95[1]:.2f}")


def _minute(settings: Config, pixels: Sequence[Grey], folder: Path, number: int) -> float:
    """Send for a minute and print its line: its p95 in milliseconds."""
    before = read_vitals(settings.state_dir).throttled
    times = list(_answered(settings, pixels, folder, number))
    vitals = read_vitals(settings.state_dir)
    slowed = "unknown" if vitals.throttled is None or before is None else f"{vitals.throttled - before} times"
    hottest = "unknown" if vitals.temperature_celsius is None else f"{vitals.temperature_celsius:.0f}"
    figures = f"{percentile(times, 50):.0f} | {percentile(times, 95):.0f}"
    print(f"| {number} | {len(times)} | {figures} | {hottest} | {_clocks()} | {slowed} |", flush=True)
    return percentile(times, 95)


def _answered(settings: Config, pixels: Sequence[Grey], folder: Path, minute: int) -> Iterator[float]:
    """Milliseconds from arrival to committed result of each image of a minute."""
    path, until, number = folder / "image.dcm", time.monotonic() + _MINUTE, 0
    with closing(Store(settings.state_dir)) as store:
        while time.monotonic() < until:
            path.write_bytes(dx_file(pixels[number % _DIFFERENT], seed=minute * 100_000 + number))
            seen = store.last_seq()
            send(path, settings.intake.dicom.port, settings.intake.dicom.ae_title)
            while not (new := store.changed_since(seen)):
                time.sleep(0.001)
            number += 1
            yield new[0].waited * 1000


def _clocks() -> str:
    files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = sorted(int(file.read_text(encoding="ascii")) // 1000 for file in files)
    return f"{clocks[0]} to {clocks[-1]}" if clocks else "unknown"


if __name__ == "__main__":
    main()
