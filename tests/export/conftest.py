"""A tiny data set and its recipe, for tests that run the real command."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from edge.synthetic.appearance import Kind, radiograph
from tests.conftest import ROOT

SIDE = 64
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
"""Networks this small gain nothing from a second thread, and one thread adds in one order."""


def scanside_export(*arguments: str | Path, timeout: float = 880.0) -> subprocess.CompletedProcess[str]:
    """Runs the real command in the checkout."""
    command = [sys.executable, "-m", "export.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False, env=ENVIRONMENT
    )


_KILLED_AT = """
import os, signal, sys
said = sys.argv.pop(1)
class Output:
    def write(self, text):
        sys.__stdout__.write(text)
        if said in text:
            sys.__stdout__.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    def flush(self):
        sys.__stdout__.flush()
sys.stdout = Output()
from export.cli import main
sys.exit(main(sys.argv[1:]))
"""


def killed_at(said: str, *arguments: str | Path) -> None:
    """Runs the real command, which dies by SIGKILL in the moment in which it has said this."""
    command = [sys.executable, "-c", _KILLED_AT, said, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=880, check=False, env=ENVIRONMENT)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def write_dataset(folder: Path, patients: int) -> None:
    """Grey discs (absent) and grey discs with a bright spot (present), two images for each patient."""
    random = np.random.default_rng(1)
    images = []
    for number in range(2 * patients):
        image = np.full((SIDE, SIDE), 40, dtype=np.uint8)
        cv2.circle(image, (SIDE // 2, SIDE // 2), SIDE // 3, 120, -1)
        if is_present(number):
            cv2.circle(image, tuple(int(v) for v in random.integers(SIDE // 3, 2 * SIDE // 3, 2)), SIDE // 8, 230, -1)
        image += random.integers(0, 20, image.shape, dtype=np.uint8)
        images.append(image)
    _write_images(folder, images)


def write_radiographs(folder: Path, patients: int) -> None:
    """Synthetic radiographs, two for each patient, clear (absent) and with an opacity (present).

    The gate for unfamiliar images wants the golden inputs to look like the training's. Each eighth image is stripes, so
    that the farthest image of the validation split, where the gate's limit lies, lies well beyond them.
    """
    random = np.random.default_rng(1)
    images = []
    for number in range(2 * patients):
        drawn = radiograph(Kind.OPACITY if is_present(number) else Kind.CLEAR, 100 + number, 128, 128)
        if number % 8 == 0:
            waves = random.uniform(-0.6, 0.6, 2) @ np.indices(drawn.shape).reshape(2, -1)
            drawn = (np.sin(waves).reshape(drawn.shape) > random.uniform(-0.8, 0.8)).astype(np.float32)
        images.append(np.rint(drawn * 255.0).astype(np.uint8))
    _write_images(folder, images)


def is_present(number: int) -> bool:
    """Whether image ``number`` shows the finding: both images of every second patient do."""
    return number % 4 >= 2


def _write_images(folder: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    lines = []
    for number, image in enumerate(images):
        name = f"{number}.png"
        cv2.imwrite(str(folder / name), image)
        label = "PNEUMONIA" if is_present(number) else "NORMAL"
        lines.append({"path": name, "label": label, "finding": label.lower(), "patient_id": f"person{number // 2}"})
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


# Every limit as wide as it goes: what is built from so little must pass, and the gate is obeyed all the same.
LENIENT = {
    "auroc_drop": 1.0,
    "sensitivity_drop": 1.0,
    "specificity_drop": 1.0,
    "decision_flips": 1.0,
    "dice_drop": 1.0,
    "faster_than_fp32": 0.0,
    "capped_shift": 1e6,
}


def tiny_recipe(**training: Any) -> dict[str, Any]:
    """The shipped recipe cut down: small images, one member with a random start, few epochs, a lenient gate."""
    shipped = ROOT / "models/cxr-pneumonia-paediatric/recipe.yaml"
    recipe: dict[str, Any] = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    recipe |= {"id": "tiny", "side": SIDE, "gate": dict(LENIENT)}
    shares = {"train": 0.5, "validation": 0.2, "calibration": 0.1, "test": 0.2}
    recipe["dataset"] |= {"path": "data", "reserved": [], **shares}
    recipe["training"]["augmentation"]["background"] = 0.0
    recipe["training"] |= {"members": [{"name": "grey"}], "epochs": 2, "quantized_epochs": 1, "batch_size": 8}
    recipe["training"]["outside_evidence"] = 0.0
    recipe["training"] |= training
    recipe["quantization"] = {
        "onnxruntime": {"calibrators": ["minmax"]},
        "openvino": {"preset": "performance", "bias_correction": False},
    }
    recipe["familiarity"] = {"refused_share": 0.0}
    return recipe


def write_model(folder: Path, recipe: dict[str, Any], patients: int = 40) -> Path:
    """A model's folder with its data beside the recipe; returns the recipe's path."""
    (folder / "data").mkdir(parents=True)
    write_radiographs(folder / "data", patients)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key pair made by the real command: the private key, and the folder with the public one."""
    folder = tmp_path_factory.mktemp("keys")
    private, trusted = folder / "private" / "signing.key", folder / "trusted"
    made = scanside_export("key", "new", "--key", private, "--trusted-keys", trusted, "--name", "test")
    assert made.returncode == 0, made.stderr
    return private, trusted


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> tuple[Path, Sequence[str]]:
    """A bundle that the real command built from a tiny recipe, and what it printed."""
    folder = tmp_path_factory.mktemp("tiny")
    recipe = write_model(folder, tiny_recipe())
    made = scanside_export("build", recipe, "--cache", folder / "cache", "--key", keys[0])
    assert made.returncode == 0, made.stderr
    return folder / "bundle", made.stdout.splitlines()
