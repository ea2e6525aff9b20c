"""A tiny data set and its recipe, for tests that run the real command."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from tests.conftest import ROOT

SIDE = 64
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
"""Networks this small gain nothing from a second thread, and one thread adds in one order."""


def scanside_export(*arguments: str | Path, timeout: float = 280.0) -> subprocess.CompletedProcess[str]:
    """Runs the real command in the checkout."""
    command = [sys.executable, "-m", "export.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False, env=ENVIRONMENT
    )


def write_dataset(folder: Path, patients: int) -> None:
    """Grey discs (absent) and grey discs with a bright spot (present), two images for each patient."""
    random = np.random.default_rng(1)
    lines = []
    for number in range(2 * patients):
        present, patient = number % 4 >= 2, number // 2
        image = np.full((SIDE, SIDE), 40, dtype=np.uint8)
        cv2.circle(image, (SIDE // 2, SIDE // 2), SIDE // 3, 120, -1)
        if present:
            cv2.circle(image, tuple(int(v) for v in random.integers(SIDE // 3, 2 * SIDE // 3, 2)), SIDE // 8, 230, -1)
        image += random.integers(0, 20, image.shape, dtype=np.uint8)
        name = f"{number}.png"
        cv2.imwrite(str(folder / name), image)
        label = "PNEUMONIA" if present else "NORMAL"
        lines.append({"path": name, "label": label, "finding": label.lower(), "patient_id": f"person{patient}"})
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def tiny_recipe(**training: Any) -> dict[str, Any]:
    """The shipped recipe cut down: small images, random start, few epochs."""
    shipped = ROOT / "models/cxr-pneumonia-paediatric/recipe.yaml"
    recipe: dict[str, Any] = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    recipe |= {"id": "tiny", "side": SIDE}
    shares = {"train": 0.5, "validation": 0.2, "calibration": 0.1, "test": 0.2}
    recipe["dataset"] |= {"path": "data", "reserved": [], **shares}
    recipe["training"] |= {"weights": None, "epochs": 2, "quantized_epochs": 1, "batch_size": 8, **training}
    return recipe


def write_model(folder: Path, recipe: dict[str, Any], patients: int = 40) -> Path:
    """A model's folder with its data beside the recipe; returns the recipe's path."""
    (folder / "data").mkdir(parents=True)
    write_dataset(folder / "data", patients)
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
