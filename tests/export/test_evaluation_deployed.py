"""`scanside-export evaluate` on sealed bundles whose answers can be said by hand: a logit is ten times how much the
brightest square's mean exceeds a half."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge.cli import main as scanside
from export.cli import main
from export.deployed.record import Evaluation
from export.deployed.site_point import SitePoint, halves
from tests.conftest import ROOT
from tests.inference.bundles import CHILDREN, SIDE, Shelf

CELL = 16
PIXELS = 7 * CELL
Line = dict[str, str]
Refused = tuple[list[str], Path]


def _probability(brightness: int) -> float:
    return 1.0 / (1.0 + math.exp(-10.0 * (brightness / 255.0 - 0.5)))


def _picture(brightness: int, cell: tuple[int, int] = (3, 3)) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Dark grey with one square of the given brightness at a row and column of the 7 by 7 squares."""
    image = np.full((PIXELS, PIXELS), 20, dtype=np.uint8)
    row, column = (number * CELL for number in cell)
    image[row : row + CELL, column : column + CELL] = brightness
    return image


def _write(folder: Path, lines: list[Line]) -> None:
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _evaluate(bundle: Path, data: Path, out: Path, *more: str | Path) -> Evaluation:
    keys = bundle.parents[2] / "keys"
    arguments = [bundle, "--dataset", data, "--trusted-keys", keys, "--out", out, "--cache", out / "cache", *more]
    assert main(["evaluate", *map(str, arguments)]) == 0
    return msgspec.json.decode((out / "evaluation.json").read_bytes(), type=Evaluation)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Shelf(tmp_path_factory.mktemp("shelf")).classifier("tiny", accepts=CHILDREN)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flagged from 0.6, indeterminate from 0.4: two found, one in the band, one missed, one flagged for nothing."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        # brightness, label, patient, sex, age
        (200, "PNEUMONIA", "a", "F", "3"),
        (190, "PNEUMONIA", "a", "F", "3"),
        (130, "PNEUMONIA", "b", "M", ""),
        (60, "PNEUMONIA", "c", "M", "5"),
        (180, "NORMAL", "d", "F", ""),
        (70, "NORMAL", "e", "M", "2"),
        (50, "NORMAL", "f", "M", "2"),
        (210, "PNEUMONIA", "g", "M", "40"),
    ]
    lines = []
    for number, (brightness, label, patient, sex, age) in enumerate(rows):
        cv2.imwrite(str(folder / f"{number}.png"), _picture(brightness))
        lines.append({"path": f"{number}.png", "label": label, "patient_id": patient, "sex": sex, "age": age})
    (folder / "8.png").write_bytes((folder / "0.png").read_bytes()[:300])
    lines.append({"path": "8.png", "label": "NORMAL", "patient_id": "h", "sex": "", "age": ""})
    _write(folder, lines)
    with (folder / "boxes.csv").open("w", encoding="utf-8") as file:
        file.write("image,x,y,width,height\n")
        file.write("0.png,48,48,16,16\n1.png,0,0,20,20\n2.png,,,,\n")
    return folder


def test_a_sealed_bundle_by_hand(bundle: Path, data: Path, tmp_path: Path) -> None:
    found = _evaluate(
        bundle, data, tmp_path, "--boxes", data / "boxes.csv", "--boxes-side", str(PIXELS), "--positive", "PNEUMONIA"
    )
    assert (found.images, found.patients, found.disagreements) == (9, 8, 0)
    assert [each.engine for each in found.engines] == ["openvino", "onnxruntime"]
    for each in found.engines:
        assert {(row.reason, row.images, row.positives) for row in each.reasons} == {
            ("over_age", 1, 1),
            ("undecodable", 1, 0),
        }
        finding = each.findings[0]
        assert msgspec.structs.astuple(finding.points[0].row.counts) == (2, 1, 2, 2)
        assert finding.points[0].indeterminate.value == pytest.approx(1 / 7)
        assert each.sensitivity_of_all[0].value == pytest.approx(2 / 5)
        assert (finding.images, finding.patients, finding.positives) == (7, 6, 4)
        # 12 pairs; the image of 130 loses to 180, that of 60 to 180 and 70.
        assert finding.auroc is not None
        assert finding.auroc.value == pytest.approx(9 / 12)
        brightness = [50, 60, 70, 130, 180, 190, 200]
        assert [row.flagged_from for row in finding.cutoffs] == pytest.approx(
            [_probability(value) for value in brightness], abs=1e-4
        )
        assert each.localisation is not None
        assert (each.localisation.region, each.localisation.images) == ("reference boxes", 2)
        assert (each.localisation.peaks.value, each.localisation.boxes.value) == (0.5, 0.5)


def test_the_reports_say_the_same_and_stand_alone(bundle: Path, data: Path, tmp_path: Path) -> None:
    found = _evaluate(bundle, data, tmp_path, "--positive", "PNEUMONIA", "--engine", "openvino")
    assert [each.engine for each in found.engines] == ["openvino"]
    text = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    assert "AUROC 0.7500" in text
    assert "older than the model is made for" in text
    assert found.dataset["sha256"] in text
    assert found.command in text
    page = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "src=" not in page
    for name in ("evaluation.md", "evaluation.html", "evaluation.json"):  # neither patients nor files by name
        assert "8.png" not in (tmp_path / name).read_text(encoding="utf-8")


def test_the_figures_are_those_of_the_device(bundle: Path, data: Path, tmp_path: Path) -> None:
    """Against `scanside analyze` over the same files."""
    config = tmp_path / "scanside.yaml"
    inference = {
        "models": str(bundle.parents[1]),
        "trusted_keys": str(bundle.parents[2] / "keys"),
        "engine": "openvino",
    }
    config.write_text(yaml.safe_dump({"inference": inference, "state_dir": str(tmp_path)}), encoding="utf-8")
    files = [str(data / f"{number}.png") for number in range(7)]
    with pytest.MonkeyPatch.context() as patched, (tmp_path / "answers.json").open("w+", encoding="utf-8") as output:
        patched.setattr("sys.stdout", output)
        arguments = ["analyze", "--config", str(config), "--json", "--modality", "DX", "--age", "3Y", *files]
        assert scanside(arguments) == 0
        output.seek(0)
        answers = [msgspec.json.decode(line) for line in output]
    found = _evaluate(bundle, data, tmp_path / "out", "--positive", "PNEUMONIA", "--engine", "openvino")
    said = sorted(answer["findings"][0]["probability"] for answer in answers)
    assert [row.flagged_from for row in found.engines[0].findings[0].cutoffs] == said


def _recipe(folder: Path, data: Path) -> None:
    shipped = ROOT / "models/cxr-pneumonia-paediatric/recipe.yaml"
    recipe: dict[str, Any] = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    recipe |= {"side": SIDE}
    recipe["dataset"] |= {"path": str(data), "reserved": [], "patient_columns": ["patient_id"]}
    recipe["dataset"] |= {"train": 0.5, "validation": 0.1, "calibration": 0.1, "test": 0.3}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 patients of whom every second has the finding, brighter on the whole."""
    folder, random, lines = tmp_path_factory.mktemp("many"), np.random.default_rng(6), []
    for number in range(120):
        present = number % 2 == 0
        brightness = int(np.clip(random.normal(165 if present else 110, 30), 30, 250))
        name = f"{number}.png"
        cv2.imwrite(str(folder / name), _picture(brightness, (number % 7, number % 5)))
        lines.append({"path": name, "label": "PNEUMONIA" if present else "NORMAL", "patient_id": str(number)})
    _write(folder, lines)
    return folder


def test_of_the_recipes_own_data_only_the_test_split_is_evaluated(tmp_path: Path, many: Path) -> None:
    bundle = Shelf(tmp_path).classifier("tiny", accepts=CHILDREN)
    _recipe(bundle.parent, many)
    test = _evaluate(bundle, many, tmp_path / "test", "--engine", "openvino")
    assert "the test split" in test.dataset["part"]
    assert 30 <= test.images <= 42
    whole = _evaluate(bundle, many, tmp_path / "all", "--engine", "openvino", "--split", "all")
    assert whole.images == 120
    assert "flatter" in whole.dataset["part"]


def test_a_sites_point_is_measured_on_patients_that_it_was_not_chosen_on(
    bundle: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _evaluate(bundle, many, tmp_path, "--positive", "PNEUMONIA", "--choose", "ours:min_sensitivity=0.9")
    point = found.site_points[0]
    assert (point.chosen_on.images, point.reported_on.images) == (60, 60)
    written = (tmp_path / "operating_point_ours.yaml").read_text(encoding="utf-8")
    assert written in capsys.readouterr().out
    assert msgspec.convert(yaml.safe_load(written)["operating_point"], SitePoint) == point
    assert point.model["digest"].startswith("sha256:")
    assert point.dataset["sha256"] == found.dataset["sha256"]

    patients = [str(number) for number in range(120)]
    positive = np.arange(120) % 2 == 0
    chosen = halves(patients, positive, found.dataset["sha256"])
    pictures = [np.asarray(cv2.imread(str(many / f"{number}.png"), cv2.IMREAD_GRAYSCALE)) for number in range(120)]
    probabilities = np.array([_probability(int(picture.max())) for picture in pictures])
    flagged_from = point.thresholds[0].flagged_from
    assert (probabilities[chosen & positive] >= flagged_from).mean() >= 0.9
    other = ~chosen & positive
    assert point.figures[0].sensitivity.value == pytest.approx((probabilities[other] >= flagged_from).mean())
    assert point.figures[0].counts.true_negatives == (probabilities[~chosen & ~positive] < flagged_from).sum()


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40), st.text(max_size=4))
def test_no_patient_is_in_both_halves(images: list[tuple[int, bool]], salt: str) -> None:
    patients = [str(patient) for patient, _ in images]
    first = halves(patients, np.array([positive for _, positive in images]), salt)
    inside = {patient for patient, chosen in zip(patients, first, strict=True) if chosen}
    outside = {patient for patient, chosen in zip(patients, first, strict=True) if not chosen}
    assert not inside & outside
    assert 0 <= len(inside) - len(outside) <= 2


def test_a_segmentation_by_hand(tmp_path: Path) -> None:
    bundle, data = Shelf(tmp_path / "shelf").lungs(), tmp_path / "data"
    (data / "masks").mkdir(parents=True)
    lines = []
    for number, rows in enumerate((slice(0, 56), slice(28, 84))):
        # The upper half is dark, so the network's mask is the upper half: all, then half of the reference.
        image, mask = np.full((PIXELS, PIXELS), 230, dtype=np.uint8), np.zeros((PIXELS, PIXELS), dtype=np.uint8)
        image[:56], mask[rows] = 20, 255
        cv2.imwrite(str(data / f"{number}.png"), image)
        cv2.imwrite(str(data / "masks" / f"{number}.png"), mask)
        lines.append({"path": f"{number}.png", "label": "x", "patient_id": str(number), "mask": f"masks/{number}.png"})
    cv2.imwrite(str(data / "2.png"), _picture(200))
    lines.append({"path": "2.png", "label": "x", "patient_id": "2", "mask": ""})
    _write(data, lines)
    found = _evaluate(bundle, data, tmp_path / "out")
    for each in found.engines:
        assert each.masks is not None
        assert (each.masks.images, each.masks.patients) == (2, 2)
        assert each.masks.dice.value == pytest.approx((1.0 + 0.5) / 2)
    assert "Dice" in (tmp_path / "out" / "evaluation.md").read_text(encoding="utf-8")


def test_one_class_only_gives_no_figure_that_needs_both(bundle: Path, tmp_path: Path) -> None:
    """In folders, as the labels."""
    folder = tmp_path / "data" / "NORMAL"
    folder.mkdir(parents=True)
    for number in range(12):
        cv2.imwrite(str(folder / f"IM-{number}-0001.jpeg"), _picture(60 + number))
    found = _evaluate(bundle, tmp_path / "data", tmp_path / "out", "--positive", "PNEUMONIA", "--engine", "openvino")
    assert (found.images, found.patients) == (12, 12)
    text = (tmp_path / "out" / "evaluation.md").read_text(encoding="utf-8")
    assert "AUROC -;" in text
    assert re.search(r"\| balanced \| - \| - \| 1\.000 \([^|]*\) \| 1\.000 [^|]* \| - \| - \| - \|", text)


def test_a_data_set_of_which_nothing_is_analysed_is_reported(bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    cv2.imwrite(str(data / "0.png"), _picture(60))
    _write(data, [{"path": "0.png", "label": "NORMAL", "patient_id": "a", "age": "40"}])
    found = _evaluate(bundle, data, tmp_path / "out", "--positive", "PNEUMONIA", "--engine", "openvino")
    assert found.engines[0].not_analysed.value == 1.0
    assert found.engines[0].findings == ()
    assert found.engines[0].latency_ms is None


@pytest.fixture
def refused(bundle: Path, data: Path, tmp_path: Path) -> Refused:
    """Arguments, and the folder that must not appear."""
    out, keys = tmp_path / "out", bundle.parents[2] / "keys"
    arguments = [bundle, "--dataset", data, "--trusted-keys", keys, "--out", out, "--cache", tmp_path]
    return ["evaluate", *map(str, arguments)], out


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], (2, "no recipe beside the bundle says which labels mean 'Pneumonia': give them with --positive")),
        (["--positive", "PNEUMONIA", "--split", "test"], (2, "splits are known of the recipe's own data set only")),
        (["--positive", "PNEUMONIA", "--labels", "none.csv"], (2, "none.csv: No such file")),
        (["--positive", "PNEUMONIA", "--boxes", "none.csv"], (2, "--boxes none.csv: No such file")),
        (["--positive", "PNEUMONIA", "--choose", "ours"], (2, "expected NAME:min_sensitivity=SHARE")),
        (["--positive", "PNEUMONIA", "--choose", "ours:min_sensitivity=97"], (2, "a share above 0 and up to 1")),
        (["--positive", "PNEUMONIA", "--choose", "ours:min_sensitivity=0.9"], (1, "each half needs 10 of both")),
    ],
)
def test_what_does_not_fit_is_one_line(
    refused: Refused, capsys: pytest.CaptureFixture[str], more: list[str], expected: tuple[int, str]
) -> None:
    status, said = expected
    arguments, out = refused
    assert main([*arguments, *more]) == status
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()
