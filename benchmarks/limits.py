"""Claim: an image of the largest radiography detectors, coded at its slowest, is answered well within `image_seconds`.

`python -m benchmarks.limits`: noise over half of the depth, which coding makes little smaller, of 18 million pixels
(the largest detectors') and of 67 million (the most that is decoded), in each transfer syntax, from bytes to the result
of all models and the pictures for the page. And what loading the models takes, with a cold cache and with a warm one.
Wall time, and processor time: at a quarter of a core the wall time is four times the processor time.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.report import heading
from edge.config import Config, Inference
from edge.inference.channel import Analyse, Draw
from edge.inference.guard import Guard
from edge.synthetic.dicom import dx_file
from edge.synthetic.encoding import CODINGS

LONGEST = 120
SIZES = ((4300, 4200), (8192, 8192))


def main() -> None:
    """Measure and print."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        path, cache = Path(name) / "image.dcm", Path(name) / "cache"
        config = Config(inference=Inference(image_seconds=LONGEST))
        heading("Loading all models")
        for words in ("cold cache", "warm cache", "warm cache"):
            with Guard(config, cache, service="benchmark") as guard:
                start = time.monotonic()
                guard.await_ready()
                print(f"{words}: {time.monotonic() - start:.2f} s, processor {_processor(_child()):.2f} s", flush=True)
        heading(f"Bytes to the result and to its pictures, of image_seconds: {Config().inference.image_seconds}")
        print("| transfer syntax | million pixels | MB | result, s | processor, s | pictures, s | answer |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        with Guard(config, cache, service="benchmark") as guard:
            guard.await_ready()
            for syntax in CODINGS:
                for rows, columns in SIZES:
                    noise = rng.random((rows, columns), dtype=np.float32)
                    noise /= 2
                    path.write_bytes(dx_file(noise, seed=1, transfer_syntax=syntax))
                    del noise
                    cells = _measure(guard, path)
                    print(f"| {syntax} | {rows * columns / 1e6:.0f} | {cells} |", flush=True)


def _measure(guard: Guard, path: Path) -> str:
    with path.open("rb") as file:
        guard.await_ready()
        start, used = time.monotonic(), _processor(_child())
        result = guard.analyse(Analyse(key="1", source="file"), file.fileno()).result
        answered, used = time.monotonic() - start, _processor(_child()) - used
        start = time.monotonic()
        drawn = guard.draw(Draw(key="1", explanation=None), file.fileno())
        pictures = f"{time.monotonic() - start:.2f}" if drawn.preview else f"none: {drawn.error}"
    size = path.stat().st_size / 1e6
    return f"{size:.0f} | {answered:.2f} | {used:.2f} | {pictures} | {result.reason or result.status}"


def _child() -> int:
    """The analyst: our only child."""
    tasks = Path("/proc/self/task").iterdir()
    (pid,) = [int(pid) for task in tasks for pid in (task / "children").read_text(encoding="ascii").split()]
    return pid


def _processor(pid: int) -> float:
    """Seconds of processor time of a process and the children that it has waited for (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
