"""Claim: the model's input out of a file's bytes, at the resolution that is needed, is far faster than the usual way.

`python -m benchmarks.decoding`: one synthetic 2500 x 2048 radiograph in each transfer syntax. Ours reduced, ours whole,
and the usual stack (pydicom with the decoders that it finds, min-max, `cv2.resize`) take turns. Then from bytes to the
result of all models, against 35 ms uncompressed, 65 ms JPEG lossless, 60 ms JPEG 2000 lossless: of an image with an
answer at once, and of one so near to the threshold that the pipeline decodes it whole after all.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import msgspec
import numpy as np
from pydicom import dcmread

from benchmarks.report import heading, ratio, spread
from edge.config import Config
from edge.imaging.reader import Source
from edge.imaging.resample import Size, to_model_input
from edge.inference.models import load_models
from edge.inference.pipeline import analyse, cover_of
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file
from edge.synthetic.encoding import CODINGS

ROUNDS, SIDE = 15, 224
TARGETS = {
    "uncompressed": ("1.2.840.10008.1.2.1", 35),
    "JPEG lossless": ("1.2.840.10008.1.2.4.70", 65),
    "JPEG 2000 lossless": ("1.2.840.10008.1.2.4.90", 60),
}
"""Title to transfer syntax and milliseconds."""


def main() -> None:
    """Measure and print."""
    config = Config()
    with tempfile.TemporaryDirectory() as name:
        models = load_models(config, Path(name))
    cover = cover_of(*models)
    pixels = radiograph(Kind.OPACITY, 1, 2500, 2048)
    heading(f"Bytes of a 2048 x 2500 DX image to the model's input, {ROUNDS} alternating rounds")
    print("| transfer syntax | reduced | whole | usual stack | reduced beside whole | reduced beside the usual stack |")
    print("| --- | --- | --- | --- | --- | --- |")
    for syntax in CODINGS:
        data = dx_file(pixels, seed=1, transfer_syntax=syntax)
        contenders: list[Callable[[], object]] = [partial(_ours, data, cover), partial(_ours, data, None)]
        if _reads(data):
            contenders.append(partial(_usual, data))
        reduced, whole, *usual = _alternating(contenders)
        beside = (spread(usual[0]), ratio(usual[0], reduced)) if usual else ("does not decode it", "")
        cells = (syntax, spread(reduced), spread(whole), beside[0], ratio(whole, reduced), beside[1])
        print(f"| {' | '.join(cell.strip() for cell in cells)} |", flush=True)
    heading(f"Bytes to result, all models ({', '.join(model.sealed.bundle.id for model in models)}), {ROUNDS} rounds")
    for kind, words in ((Kind.CLEAR, "an answer"), (Kind.OPACITY, "undecided: looked at whole")):
        pixels = radiograph(kind, 1, 2500, 2048)
        files = [dx_file(pixels, seed=1, transfer_syntax=syntax) for syntax, _ in TARGETS.values()]
        times = _alternating([partial(analyse, data, models, source="bench") for data in files])
        for (title, (_, target)), values, data in zip(TARGETS.items(), times, files, strict=True):
            laps = msgspec.to_builtins(analyse(data, models, source="bench").result.timings_ms)
            print(f"{title}, {words}: {spread(values).strip()}, target {target} ms; {laps}", flush=True)


def _ours(data: bytes, cover: Size | None) -> None:
    source = Source(data)
    source.check()
    to_model_input(source.image(source.decode(cover)).pixels, SIDE, SIDE)


def _usual(data: bytes) -> None:
    pixels = dcmread(BytesIO(data)).pixel_array.astype(np.float32)
    cv2.resize((pixels - pixels.min()) / (pixels.max() - pixels.min()), (SIDE, SIDE))


def _reads(data: bytes) -> bool:
    try:
        _usual(data)
    except RuntimeError:  # pydicom's answer where it finds no decoder
        return False
    return True


def _alternating(contenders: list[Callable[[], object]]) -> list[list[float]]:
    """Milliseconds of each, the first call of each left out."""
    times: list[list[float]] = [[] for _ in contenders]
    for contender in contenders:
        contender()
    for _ in range(ROUNDS):
        for contender, taken in zip(contenders, times, strict=True):
            start = time.perf_counter()
            contender()
            taken.append((time.perf_counter() - start) * 1000)
    return times


if __name__ == "__main__":
    main()
