"""Does an older CPU give the same answers? The device's own engine again, its instruction set capped at AVX2.

oneDNN, which OpenVINO computes with, reads the cap from the environment when it is loaded: so a process of its own.
https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
ONNX Runtime has no such cap; for it `export.quantization.integers` proves that no sum saturates.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from edge.errors import ScansideError
from edge.inference.bundle import Bundle, SealedBundle
from edge.inference.engines import Outputs
from export.quantization.running import Pixels, run_engine

CAPPED_ENGINES = ("openvino",)
"""The engines that the cap reaches."""
CAP = {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2"}


class CappedRunError(ScansideError):
    """The run with the capped instruction set failed; the message is one line."""


def capped_shifts(engine: str, sealed: SealedBundle, pixels: Pixels) -> dict[str, float]:
    """The largest shift of each output when the CPU may not go beyond AVX2.

    Relative to the output's largest magnitude where that is above 1, as in `export.tracing.check_parity`.

    Args:
        engine: One of ``CAPPED_ENGINES``.
        sealed: The bundle, or its draft.
        pixels: Images uint8 [N, H, W].

    Raises:
        CappedRunError: The process with the cap failed.
    """
    free = run_engine(engine, sealed, pixels)
    capped = run_capped(engine, sealed, pixels)
    return {
        name: float(np.abs(free[name] - capped[name]).max()) / max(1.0, float(np.abs(free[name]).max()))
        for name in free
    }


def run_capped(engine: str, sealed: SealedBundle, pixels: Pixels) -> Outputs:
    """As `export.quantization.running.run_engine`, in a process whose instruction set is capped.

    Raises:
        CappedRunError: The process failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bundle.json").write_bytes(msgspec.json.encode(sealed.bundle))
        np.save(folder / "pixels.npy", pixels)
        command = [sys.executable, "-m", __name__, engine, str(sealed.folder.resolve()), str(folder)]
        done = subprocess.run(command, env={**os.environ, **CAP}, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise CappedRunError(f"{engine} capped at AVX2 ended with {done.returncode}: {last}; try `scanside doctor`")
        with np.load(folder / "outputs.npz") as outputs:
            return dict(outputs)


def main(engine: str, bundle: Path, folder: Path) -> None:
    """The capped process: reads ``bundle.json`` and ``pixels.npy`` in ``folder``, writes ``outputs.npz``."""
    draft = msgspec.json.decode((folder / "bundle.json").read_bytes(), type=Bundle)
    sealed = SealedBundle(folder=bundle, bundle=draft, digest="")
    outputs = run_engine(engine, sealed, np.load(folder / "pixels.npy"))
    np.savez(folder / "outputs.npz", allow_pickle=False, **outputs)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
