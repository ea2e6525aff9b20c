"""What a build refuses, through the real command: one line, the right exit status, and never a half-written bundle."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge.inference.bundle import open_bundle
from tests.conftest import ROOT
from tests.export.conftest import ENVIRONMENT, killed_at, scanside_export, tiny_recipe, write_model
from tests.export.dataset_files import lines, rewrite
from tests.export.test_build import STEPS, contents
from tests.export.test_datasets_refusals import write_nan

Built = tuple[Path, Sequence[str]]
Keys = tuple[Path, Path]
pytestmark = pytest.mark.timeout(900)  # whole builds: a minute when idle, many on a busy machine
# The real command on a disk on which no file can grow beyond so many bytes: what a full disk does, without being root.
ON_A_FULL_DISK = """
import resource, sys
most = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
from export.cli import main
sys.exit(main(sys.argv[1:]))
"""
# The real command, killed right before it puts the staged bundle in its place.
KILLED_BEFORE_THE_LAST_STEP = """
import os, signal, sys
place = sys.argv.pop(1)
def watch(event, arguments):
    if event == "os.rename" and str(arguments[1]) == place:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
from export.cli import main
sys.exit(main(sys.argv[1:]))
"""


def reserve_known_pixels(data: Path) -> None:
    """A reserved label file with most of the data set's pixels, all said to be the last patient's."""
    folder = data / "reserved"
    folder.mkdir()
    listed = lines(data)
    text = ["path,finding,patient_id"]
    for line in listed[:60]:
        shutil.copy(data / line["path"], folder)
        text.append(f"{line['path']},{listed[-1]['finding']},{listed[-1]['patient_id']}")
    (folder / "labels.csv").write_text("\n".join(text), encoding="utf-8")


def start(name: str) -> dict[str, Any]:
    """A recipe whose member begins with the file ``name`` beside it."""
    recipe = tiny_recipe()
    recipe["training"]["members"][0]["start"] = name
    return recipe


def with_dataset(**changed: Any) -> dict[str, Any]:
    recipe = tiny_recipe()
    recipe["dataset"] |= changed
    return recipe


def nothing(folder: Path) -> None:
    """Spoils nothing: the recipe is what is wrong."""


BAD: list[tuple[str, Callable[[Path], object], dict[str, Any], int, str]] = [
    (
        "no label file",
        lambda model: (model / "data/labels.csv").unlink(),
        {},
        1,
        "labels.csv: No such file or directory; correct the recipe's dataset or give --dataset",
    ),
    (
        "no image",
        lambda model: (model / "data/3.png").unlink(),
        {},
        1,
        "3.png: No such file or directory; restore it or take it out",
    ),
    (
        "one class",
        lambda model: rewrite(model / "data", lambda _, line: line.update(label="NORMAL")),
        {},
        1,
        "split 'train' has 0 of 40 images with 'Pneumonia'; each split needs both classes: add images",
    ),
    (
        "leaking split",
        lambda model: reserve_known_pixels(model / "data"),
        with_dataset(reserved=["reserved/labels.csv"]),
        1,
        "no reserved image may be trained on: correct the patient in one of the two label files",
    ),
    (
        "strangers reserved",
        lambda model: (model / "data/r.csv").write_text("path,finding,patient_id\n0.png,normal,no one\n"),
        with_dataset(reserved=["r.csv"]),
        1,
        "none of its patients is in the data set, so it keeps nobody apart; name patients alike in both",
    ),
    ("NaN", lambda model: write_nan(model / "data"), {}, 1, "3.dcm: undecodable: some pixels are no finite numbers"),
    ("unknown key", nothing, tiny_recipe() | {"sead": 1}, 2, "unknown key 'sead'; the nearest valid key is 'seed'"),
    (
        "no masks",
        nothing,
        tiny_recipe(members=[{"name": "lungs", "architecture": "unet"}])
        | {"task": "segmentation", "findings": [], "familiarity": None}
        | {"structure": {"code": "39607008", "scheme": "SCT", "meaning": "Lung"}},
        1,
        "split 'train' has no image with a mask; each split needs some: add images or change the shares",
    ),
    ("no start", nothing, start("none.pt"), 1, "none.pt: No such file or directory; correct the member's start"),
    (
        "broken start",
        lambda model: (model / "broken.pt").write_bytes(b"no state dict"),
        start("broken.pt"),
        1,
        "broken.pt: no readable state dict",
    ),
    (
        "another network's start",
        lambda model: torch.save({"conv.weight": torch.zeros(2, 1, 3, 3)}, model / "other.pt"),
        start("other.pt"),
        1,
        "is missing, the network wants (32, 1, 3, 3); choose weights of the same architecture",
    ),
    (
        "start of another width",
        lambda model: np.savez(model / "wide.npz", w00=np.zeros((48, 3, 3, 3)), b00=np.zeros(48)),
        start("wide.npz"),
        1,
        "wide.npz: convolution 0 has shape (48, 1, 3, 3), MobileNetV2 1.0 has (32, 1, 3, 3); use weights",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "recipe", "refusal"), [(each[1], each[2], each[3:]) for each in BAD], ids=[each[0] for each in BAD]
)
def test_bad_input_is_refused_in_one_line_and_leaves_no_bundle(
    keys: Keys, tmp_path: Path, spoil: Callable[[Path], object], recipe: dict[str, Any], refusal: tuple[int, str]
) -> None:
    status, words = refusal
    path = write_model(tmp_path / "model", recipe or tiny_recipe())
    spoil(path.parent)
    before = set(contents(path.parent))
    done = scanside_export("build", path, "--cache", tmp_path / "cache", "--key", keys[0])
    assert done.returncode == status
    assert done.stderr.startswith("scanside-export: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert set(contents(path.parent)) == before
    assert not [each for each in path.parent.iterdir() if each.name.startswith(".")]


def on_a_full_disk(most: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(most), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=880)


def check_full(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the disk is full" in done.stderr
    assert "free some space and run the same command again" in done.stderr


def test_a_disk_that_fills_up_in_training_leaves_nothing_half_done(keys: Keys, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model", tiny_recipe(epochs=1, quantized_epochs=0))
    command = ("build", path, "--cache", tmp_path / "cache", "--key", keys[0])
    check_full(on_a_full_disk(2_000_000, *command))
    assert {each.name for each in path.parent.iterdir()} == {"data", "recipe.yaml"}
    assert not list((tmp_path / "cache").rglob("*.pt"))
    trained = scanside_export("train", path, "--cache", tmp_path / "cache")
    assert trained.returncode == 0, trained.stderr


def test_a_disk_that_fills_up_while_sealing_leaves_the_bundle_before_untouched(
    built: Built, keys: Keys, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(built[0].parent, model)
    before = contents(model / "bundle")
    command = ("build", model / "recipe.yaml", "--cache", model / "cache", "--key", keys[0])
    check_full(on_a_full_disk(2_000_000, *command))  # the report fits, the models do not
    assert contents(model / "bundle") == before
    assert {each.name for each in model.iterdir()} == {"bundle", "cache", "data", "recipe.yaml"}
    shutil.rmtree(model / "bundle")
    check_full(on_a_full_disk(2_000_000, *command))
    assert {each.name for each in model.iterdir()} == {"cache", "data", "recipe.yaml"}


def test_killed_in_any_step_there_is_no_bundle_and_the_same_command_finishes(keys: Keys, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model", tiny_recipe(epochs=1, quantized_epochs=0))
    arguments = ["build", str(path), "--cache", str(tmp_path / "cache"), "--key", str(keys[0])]
    for step in (*(f"{step}: begins" for step in STEPS), "report: "):
        killed_at(step, *arguments)
        assert not (path.parent / "bundle").exists()
    place = path.parent / "bundle"
    command = [sys.executable, "-c", KILLED_BEFORE_THE_LAST_STEP, str(place), *arguments]
    killed = subprocess.run(command, cwd=ROOT, check=False, env=ENVIRONMENT, timeout=880, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not place.exists()
    done = scanside_export(*arguments)
    assert done.returncode == 0, done.stderr
    assert ": begins" not in done.stdout
    open_bundle(place, keys[1].glob("*.pub"))
