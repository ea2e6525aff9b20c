"""How long one image takes, INT8 and FP32, in the device's own engines."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import onnx
import openvino
from numpy.typing import NDArray

from edge.inference.bundle import ONNX_FILE, OPENVINO_FILE, SealedBundle
from edge.inference.engines import ENGINES, open_engine
from export.document import Section, Table

_ROUNDS, _RUNS = 15, 5
_Name = TypeVar("_Name")


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of one image: medians of alternating rounds."""

    engine: str
    threads: int
    int8_ms: float
    fp32_ms: float
    speedup: float
    """Median over the rounds of FP32 by INT8."""


def measure(sealed: SealedBundle, fp32: onnx.ModelProto, threads: int = 1) -> tuple[Latency, ...]:
    """Each engine's INT8 model of the bundle (or its draft) beside the FP32 graph in the same engine."""
    with tempfile.TemporaryDirectory() as folder:
        times = alternate(contenders(sealed, fp32, threads, Path(folder)), _ROUNDS, _RUNS)
    return tuple(
        Latency(
            engine=engine,
            threads=threads,
            int8_ms=float(np.median(times[engine, "INT8"])),
            fp32_ms=float(np.median(times[engine, "FP32"])),
            speedup=float(np.median(np.divide(times[engine, "FP32"], times[engine, "INT8"]))),
        )
        for engine in ENGINES
    )


def latency_section(measured: Sequence[Latency]) -> Section:
    """The speed of one image as a table."""
    rows = [
        (each.engine, str(each.threads), f"{each.int8_ms:.2f}", f"{each.fp32_ms:.2f}", f"{each.speedup:.2f}")
        for each in measured
    ]
    heading = ("Engine", "Threads", "INT8, ms", "FP32, ms", "Times as fast")
    return Section(
        "Speed",
        ("One image, medians of alternating rounds on the machine of the build.",),
        (),
        (Table(heading, tuple(rows)),),
    )


def contenders(
    sealed: SealedBundle, fp32: onnx.ModelProto, threads: int, folder: Path
) -> dict[tuple[str, str], Callable[[], object]]:
    """One pass over one image, by engine and precision (``INT8``, ``FP32``).

    Args:
        sealed: The bundle or its draft.
        fp32: The same network in FP32, for example from `export.quantization.qdq.dequantized`.
        threads: CPU threads of each engine.
        folder: An empty folder that outlives the passes.
    """
    write_fp32(fp32, folder / "models")
    plain = SealedBundle(folder=folder / "models", bundle=sealed.bundle, digest="")
    image = random_image(sealed)
    return {
        (engine, precision): partial(open_engine(engine, given, threads, folder / precision).run, image)
        for engine in ENGINES
        for precision, given in (("INT8", sealed), ("FP32", plain))
    }


def write_fp32(model: onnx.ModelProto, folder: Path) -> None:
    """Writes an FP32 graph where the device's engines look for a bundle's models."""
    (folder / OPENVINO_FILE).parent.mkdir(parents=True)
    onnx.save(model, str(folder / ONNX_FILE))
    openvino.save_model(
        openvino.Core().read_model(str(folder / ONNX_FILE)), str(folder / OPENVINO_FILE), compress_to_fp16=False
    )


def random_image(sealed: SealedBundle) -> NDArray[np.float32]:
    """An input of the model's size: float32 [1, 1, H, W] in 0..1."""
    shape = (1, 1, sealed.bundle.input.height, sealed.bundle.input.width)
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def alternate(contenders: Mapping[_Name, Callable[[], object]], rounds: int, runs: int) -> dict[_Name, list[float]]:
    """Milliseconds of one run by contender: the median of each round's runs, after a round that warms up.

    The contenders take turns in every round, so that a busy neighbour slows all of them.
    """
    times: dict[_Name, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            laps = []
            for _ in range(runs):
                start = time.perf_counter()
                run()
                laps.append((time.perf_counter() - start) * 1000)
            if turn > 0:
                times[name].append(float(np.median(laps)))
    return times
