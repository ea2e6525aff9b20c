"""One module for each inference engine, behind one interface; imported only when that engine is used."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import ScansideError
from edge.inference.bundle import SealedBundle

ENGINES = ("openvino", "onnxruntime")
"""Every engine, in the order in which they are tried when none is measured yet."""

Outputs = dict[str, NDArray[np.float32]]
"""What one pass over one image gives, by the keys of the bundle's `outputs`, without the batch axis.

`logits` (findings,), `cam` (findings, h, w), `embedding` (features,); `mask` (1, height, width) in 0..1.
"""

_MODULES = {"openvino": "openvino_cpu", "onnxruntime": "onnxruntime_cpu"}


class EngineError(ScansideError):
    """An engine that cannot be used here: the message says why, in one line."""


class Engine(Protocol):
    """A loaded model. `run` takes float32 (1, 1, height, width), 0..1, and is called by one thread at a time."""

    name: str

    def run(self, image: NDArray[np.float32]) -> Outputs:
        """One forward pass; the arrays belong to the caller."""


def switch_telemetry_off() -> None:
    """Keep the engines' usage telemetry, which writes identifiers into the home folder, from loading; before theirs."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # OpenVINO takes its empty stand-in for a package that is marked as absent.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def open_engine(name: str, sealed: SealedBundle, threads: int, cache: Path) -> Engine:
    """Load a bundle's model on an engine.

    Args:
        name: One of `ENGINES`.
        sealed: The verified bundle.
        threads: CPU threads.
        cache: Folder in which the engine may keep what it compiled.

    Raises:
        EngineError: The engine is not installed or cannot load the model.
    """
    switch_telemetry_off()
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
        engine: Engine = module.load(sealed, threads, cache)
    except Exception as error:  # the engines raise their own types; each means that this one cannot serve
        first_line = str(error).strip().splitlines()[:1]
        raise EngineError(f"{name}: {type(error).__name__}: {' '.join(first_line)}") from error
    return engine
