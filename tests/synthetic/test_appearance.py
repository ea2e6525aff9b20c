"""Synthetic radiographs: the same by seed, marked, and nobody's."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.synthetic.appearance import PARAMETERS, Kind, radiograph, unmarked
from edge.synthetic.dicom import dx_file

WORD = """
 #### #   # #   # ##### #   # ##### ##### #####  ####
#     #   # ##  #   #   #   # #       #     #   #
#      # #  ##  #   #   #   # #       #     #   #
 ###    #   # # #   #   ##### ####    #     #   #
    #   #   #  ##   #   #   # #       #     #   #
    #   #   #  ##   #   #   # #       #     #   #
####    #   #   #   #   #   # #####   #   #####  ####
"""
SAMPLES = 100  # of each kind


@pytest.mark.parametrize("kind", Kind)
def test_a_seed_is_always_the_same_radiograph(kind: Kind) -> None:
    code = (
        "import hashlib; from edge.synthetic.appearance import Kind, radiograph;"
        f"print(hashlib.sha256(radiograph(Kind('{kind}'), 5, 300, 260).tobytes()).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert hashlib.sha256(radiograph(kind, 5, 300, 260).tobytes()).hexdigest() == elsewhere


def test_another_seed_or_kind_is_another_radiograph() -> None:
    drawn = [unmarked(kind, seed, 224, 224) for kind in Kind for seed in range(4)]
    for number, one in enumerate(drawn):
        for other in drawn[number + 1 :]:
            assert np.abs(one - other).mean() > 0.01


@pytest.mark.parametrize(("rows", "columns"), [(128, 128), (224, 224), (500, 400), (1021, 1283), (2048, 2500)])
def test_every_size_shows_the_same_chest_in_range(rows: int, columns: int) -> None:
    image = radiograph(Kind.CLEAR, 3, rows, columns)
    assert image.dtype == np.float32
    assert image.shape == (rows, columns)
    assert image.min() >= 0
    assert image.max() <= 1
    small, reference = (cv2.resize(i, (64, 64), interpolation=cv2.INTER_AREA) for i in (image, _plain(Kind.CLEAR, 3)))
    assert np.abs(small - reference)[8:].mean() < 0.005  # below the mark


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("rows", "columns", "scale"), [(224, 224, 1), (700, 1000, 2), (2500, 2048, 6)])
def test_the_pixels_say_synthetic(kind: Kind, rows: int, columns: int, scale: int) -> None:
    image, bare = radiograph(kind, 1, rows, columns), unmarked(kind, 1, rows, columns)
    word = np.array([[pixel == "#" for pixel in line.ljust(54)] for line in WORD.strip("\n").splitlines()])
    plate = np.kron(np.pad(word, 2), np.ones((scale, scale)))
    height, width = plate.shape
    np.testing.assert_array_equal(image[:height, :width], plate)
    outside = np.abs(image - bare)
    outside[:height, :width] = 0
    assert outside.max() < 0.02  # nothing but grain
    assert height < 0.05 * rows  # above the lungs
    assert width < 0.27 * columns


@pytest.mark.parametrize(
    ("seed", "rows", "columns", "message"),
    [(-1, 224, 224, "seed -1"), (0, 127, 224, "127 x 224"), (0, 224, 1, "224 x 1")],
)
def test_what_cannot_be_drawn_is_refused(seed: int, rows: int, columns: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        radiograph(Kind.CLEAR, seed, rows, columns)


def test_the_shipped_model_sees_what_was_drawn(tmp_path: Path) -> None:
    """The demo shows flagged and unflagged radiographs: nine of ten of each kind get the answer of their kind."""
    for kind in Kind:
        for seed in range(10):
            (tmp_path / f"{kind}-{seed}.dcm").write_bytes(dx_file(radiograph(kind, seed, 500, 625), seed=seed))
    command = [sys.executable, "-m", "edge.cli", "analyze", str(tmp_path), "--json"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for kind, status in ((Kind.CLEAR, "clear"), (Kind.OPACITY, "flagged")):
        of_kind = [answer["status"] for answer in answers if Path(answer["source"]).name.startswith(kind)]
        assert len(of_kind) == 10
        assert of_kind.count(status) >= 9, of_kind


def test_the_parameters_are_small_and_name_their_source() -> None:
    assert PARAMETERS.stat().st_size < 5_000_000
    with np.load(PARAMETERS) as file:
        about = json.loads(str(file["about"]))
        assert all(file[f"{kind}_textures"].dtype == np.int8 for kind in Kind)
    for part in ("Kermany", "10.17632/rscbjbr9sj", "CC BY 4.0", "Changed:"):
        assert part in about["attribution"]
    assert all(count > 1000 for count in about["images"].values())


class _Training(NamedTuple):
    """The training images in the space in which nearness is judged: see `_Whitening`."""

    whitening: _Whitening
    images: NDArray[np.uint8]
    labels: NDArray[np.bool_]
    patients: NDArray[np.str_]
    vectors: NDArray[np.float32]


class _Whitening:
    """A space in which two images are near when they show the same chest, and for no other reason.

    Reduced to 56 x 56 by area: grain, which would push every sample away from every image, is gone. Brightness and
    contrast are taken out. Whitened by the training images' own covariance: what all chests share does not count, what
    tells one from another does. Scaled to unit length: a smooth sample, a short vector near the mean and so near to
    everything, gains and loses nothing. The distance is 1 - cosine: 0 the same, 1 unrelated.
    """

    SIDE, DIRECTIONS = 56, 256  # the directions hold 94 % of the variance

    def __init__(self, images: Sequence[NDArray[Any]]) -> None:
        flat = self._standardised(images)
        self._mean = flat.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((flat - self._mean).T))
        kept = slice(-self.DIRECTIONS, None)
        self._to_white = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)

    def __call__(self, images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        white = (self._standardised(images) - self._mean) @ self._to_white
        return np.asarray(white / np.linalg.norm(white, axis=1, keepdims=True))

    def _standardised(self, images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        size = (self.SIDE, self.SIDE)
        small = [cv2.resize(np.asarray(i, np.float32), size, interpolation=cv2.INTER_AREA).ravel() for i in images]
        flat = np.stack(small)
        return np.asarray((flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def training(shared: Path) -> _Training:
    folder = shared / "data/cxr_kermany"
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = np.stack([np.asarray(cv2.imread(str(folder / row["path"]), cv2.IMREAD_GRAYSCALE)) for row in rows])
    whitening = _Whitening(list(images))
    return _Training(
        whitening=whitening,
        images=images.astype(np.uint8),
        labels=np.array([row["label"] == "PNEUMONIA" for row in rows]),
        patients=np.array([f"{row['finding']}/{row['patient_id']}" for row in rows]),
        vectors=whitening(list(images)),
    )


@pytest.fixture(scope="module")
def between_patients(training: _Training) -> NDArray[np.float32]:
    """For each training image the distance to the nearest one of another patient."""
    likeness = training.vectors @ training.vectors.T
    likeness[training.patients[:, None] == training.patients[None, :]] = -1
    return np.asarray(1 - likeness.max(axis=1))


def _to_nearest(training: _Training, images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    return np.asarray(1 - (training.whitening(images) @ training.vectors.T).max(axis=1))


@pytest.mark.parametrize("kind", Kind)
def test_no_sample_is_nearer_to_a_patient_than_patients_are_to_each_other(
    kind: Kind, training: _Training, between_patients: NDArray[np.float32]
) -> None:
    """Every sample stays outside the nearest 1 % of real pairs, and as a crowd they keep the distance that patients do.

    The bare minimum of the real distances would be a weak limit: it is that of one odd pair.
    """
    distances = _to_nearest(training, [unmarked(kind, seed, 224, 224) for seed in range(SAMPLES)])
    assert distances.min() > np.percentile(between_patients, 1)
    alike = between_patients[training.labels == (kind is Kind.OPACITY)]
    assert np.median(distances) > 0.95 * np.median(alike)


@pytest.mark.parametrize("disguise", ["blur", "grain", "contrast", "blend"])
def test_a_disguised_patient_would_be_found(
    disguise: str, training: _Training, between_patients: NDArray[np.float32]
) -> None:
    """The measure is worth something: a training image handed out as a sample fails, whatever its surface."""
    random = np.random.default_rng(0)
    chosen = random.choice(len(training.images), 50, replace=False)
    real = training.images[chosen].astype(np.float32)
    if disguise == "blur":
        suspects = [cv2.GaussianBlur(image, (0, 0), 2.0) for image in real]
    elif disguise == "grain":
        suspects = list(real + random.normal(0, 15, real.shape))
    elif disguise == "contrast":
        suspects = list(255 * (real / 255) ** 0.7 * 0.6 + 30)
    else:
        suspects = [0.7 * image + 0.3 * 255 * _plain(Kind.CLEAR, seed) for seed, image in enumerate(real)]
    assert np.all(_to_nearest(training, suspects) < np.percentile(between_patients, 1))


def _plain(kind: Kind, seed: int) -> NDArray[np.float32]:
    return unmarked(kind, seed, 224, 224)
