"""Claim: reading images in a process of their own costs no more than reading them in one (10 MB each).

`python -m benchmarks.isolation`. The peer is the same pipeline in this very process. What the pipeline itself takes is
subtracted on both sides: what is left is reading the file, and for the guard the way to the analyst and back.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.report import heading, spread
from edge.config import Config
from edge.inference.channel import Analyse
from edge.inference.guard import Guard
from edge.inference.models import Model, load_models
from edge.inference.pipeline import analyse
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file

IMAGES = 60


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        path, cache = Path(folder) / "image.dcm", Path(folder) / "cache"
        path.write_bytes(dx_file(radiograph(Kind.OPACITY, 1, 2048, 2500), seed=1))
        with Guard(Config(), cache, service="benchmark") as guard:
            guard.await_ready()
            guarded = [_beside(lambda: _guarded(guard, path)) for _ in range(IMAGES)]
        models = load_models(Config(), cache)
        here = [_beside(lambda: _here(models, path)) for _ in range(IMAGES)]
    heading(f"Isolation: 2048 x 2500 x 16 bit DX, {IMAGES} images each, milliseconds beside the pipeline's own")
    print(f"through the guard  {spread(guarded[5:])}\nin this process    {spread(here[5:])}")


def _beside(answer: Callable[[], float]) -> float:
    start = time.perf_counter()
    pipeline = answer()
    return (time.perf_counter() - start) * 1000 - pipeline


def _guarded(guard: Guard, path: Path) -> float:
    with path.open("rb") as file:
        return guard.analyse(Analyse(key="1", source="file"), file.fileno()).result.timings_ms.total


def _here(models: Sequence[Model], path: Path) -> float:
    return analyse(path.read_bytes(), models, source="file").result.timings_ms.total


if __name__ == "__main__":
    main()
