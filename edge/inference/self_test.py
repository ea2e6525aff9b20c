"""Does this engine, on this CPU, still give the answers that the bundle was sealed with?

Golden inputs are synthetic radiographs. `golden.npz` holds `inputs` float32 (n, 1, height, width) and, for each engine
and output of the bundle, `<engine>_<output>` (n, ...): the `edge.inference.engines.Outputs` of the inputs, stacked.
"""

from __future__ import annotations

import time
from statistics import median
from typing import NamedTuple

import numpy as np

from edge.inference.bundle import GOLDEN_FILE, SealedBundle
from edge.inference.engines import Engine, EngineError

_TIMED_RUNS = 30


class Speed(NamedTuple):
    """Milliseconds of one pass: the median, and the best, which a busy machine disturbs least."""

    median_ms: float
    best_ms: float


def self_test(engine: Engine, sealed: SealedBundle, timed_runs: int = _TIMED_RUNS) -> Speed:
    """Run every golden input and compare; the first one warms the engine up. Then so many runs are timed.

    Raises:
        EngineError: An output is farther (largest absolute difference) from its golden value than the bundle allows.
    """
    with np.load(sealed.folder / GOLDEN_FILE) as golden:
        inputs = golden["inputs"]
        expected = {name: golden[f"{engine.name}_{name}"] for name in sealed.bundle.golden_tolerance}
    for number, image in enumerate(inputs):
        outputs = engine.run(image[np.newaxis])
        for name, tolerance in sealed.bundle.golden_tolerance.items():
            distance = float(np.max(np.abs(outputs[name] - expected[name][number])))
            if not distance <= tolerance:  # NaN fails too
                raise EngineError(
                    f"{engine.name}: golden input {number}: {name} is off by {distance:.4g}, the bundle allows "
                    f"{tolerance:.4g}: this CPU answers differently, use another engine"
                )
    times = []
    for run in range(timed_runs):
        start = time.perf_counter()
        engine.run(inputs[run % len(inputs)][np.newaxis])
        times.append(time.perf_counter() - start)
    return Speed(median(times) * 1000, min(times) * 1000)
