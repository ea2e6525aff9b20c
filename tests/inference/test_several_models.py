"""Classifiers side by side, the lungs' outline beside them, the gate for unfamiliar images: with real engines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from pydicom import dcmread

from edge.config import Quality
from edge.device.health import State, read_health
from edge.inference.bundle import BundleError, Structure
from edge.inference.engines import ENGINES, EngineError
from edge.inference.familiarity import Statistics
from edge.inference.models import Model, load_model, load_models
from edge.inference.pipeline import Analysis, analyse
from edge.records import Reason, Status
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import wrap
from tests.inference.bundles import ADULTS, CELLS, CHILDREN, LIMITS, Shelf, around
from tests.running import RunningProgram, scanside
from tests.system.conftest import await_until

ROWS, COLUMNS = 560, 448
HEIGHT, WIDTH = ROWS // CELLS, COLUMNS // CELLS


def chest(*bright: tuple[int, int]) -> NDArray[np.uint8]:
    """Two dark lungs in a grey body, and brighter squares, by row and column of the 7 by 7."""
    picture = np.full((ROWS, COLUMNS), 150, dtype=np.uint8)
    for column in (1, 4):
        picture[HEIGHT : 6 * HEIGHT, column * WIDTH : (column + 2) * WIDTH] = 40
    for row, column in bright:
        picture[row * HEIGHT : (row + 1) * HEIGHT, column * WIDTH : (column + 1) * WIDTH] = 120
    return picture


def dicom(picture: NDArray[np.uint8], **tags: str) -> bytes:
    """The picture as a DX file of a child of three years, with these tags; an empty one is absent."""
    dataset = dcmread(BytesIO(wrap(picture, seed=1, age="003Y")))
    for keyword, value in tags.items():
        setattr(dataset, keyword, value.split("\\") if "\\" in value else value or None)
    written = BytesIO()
    dataset.save_as(written)
    return written.getvalue()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Children, adults (experimental) and lungs."""
    made = Shelf(tmp_path_factory.mktemp("shelf"))
    made.classifier("cxr-children", bias=0.45, accepts=CHILDREN, statistics=around(0.35, 0.15))
    made.classifier("cxr-adults", bias=0.45, accepts=ADULTS, experimental=True)
    made.lungs()
    return made


@pytest.fixture(scope="module")
def models(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """All three, served."""
    return load_models(shelf.config, tmp_path_factory.mktemp("cache"))


def ask(models: list[Model], data: bytes) -> Analysis:
    """The pipeline's answer."""
    return analyse(data, models, source="test")


@pytest.mark.parametrize(
    ("age", "model", "reason"),
    [
        ("003Y", "cxr-children", None),
        ("040Y", "cxr-adults", None),
        ("010Y", None, Reason.OVER_AGE),
        ("006M", None, Reason.UNDER_AGE),
        ("", None, Reason.AGE_UNKNOWN),
    ],
)
def test_the_age_chooses_the_model(models: list[Model], age: str, model: str | None, reason: Reason | None) -> None:
    result = ask(models, dicom(chest((4, 1)), PatientAge=age)).result
    assert (result.model.id if result.model else None, result.reason) == (model, reason)
    assert result.model is None or result.model.experimental == (model == "cxr-adults")


@pytest.mark.parametrize("age", ["003Y", "040Y"])
def test_the_lungs_crop_the_explanation_of_every_classifier(models: list[Model], age: str) -> None:
    """The body is brighter than the spot, so that without the outline it takes the box."""
    data = dicom(chest((4, 1)), PatientAge=age)
    cropped, whole = ask(models, data), ask([model for model in models if not _outlines(model)], data)
    assert cropped.result.status is whole.result.status is Status.FLAGGED
    box = cropped.result.findings[0].box
    assert box is not None
    assert WIDTH * 0.8 <= box[0] < box[2] <= WIDTH * 2.2
    assert HEIGHT * 3.8 <= box[1] < box[3] <= HEIGHT * 5.2
    assert (cropped.result.findings[0].side, cropped.result.findings[0].zone) == ("right", "lower")
    assert (whole.result.findings[0].side, whole.result.findings[0].zone) == (None, None)
    assert whole.result.findings[0].box not in (None, box)
    assert cropped.maps is not None
    beside = next(iter(cropped.maps.values()))[:, : cropped.maps["233604007"].shape[1] // CELLS]
    assert not beside.any()


def _outlines(model: Model) -> bool:
    return model.sealed.bundle.task == "segmentation"


def test_no_evidence_inside_the_lungs_gives_no_box(models: list[Model]) -> None:
    finding = ask(models, dicom(chest())).result.findings[0]
    assert finding.flagged
    assert (finding.box, finding.side, finding.zone) == (None, None, None)


def test_an_image_without_lungs_is_explained_whole(models: list[Model]) -> None:
    picture = chest()
    picture[picture < 128] = 135
    finding = ask(models, dicom(picture, PatientAge="040Y")).result.findings[0]
    assert finding.box is not None
    assert (finding.side, finding.zone) == (None, None)


@pytest.mark.parametrize(
    ("orientation", "view", "side", "zone"),
    [
        ("L\\F", "AP", "right", "lower"),
        ("L\\F", "PA", "right", "lower"),
        ("R\\F", "PA", "left", "lower"),
        ("r\\f", "AP", "left", "lower"),
        ("", "AP", "right", "lower"),
        ("", "", None, "lower"),
        ("L\\F", "", "right", "lower"),
        ("L\\H", "AP", None, None),
        ("A\\F", "AP", None, None),
        ("L", "AP", None, None),
    ],
)
def test_the_side_is_the_patients(
    models: list[Model], orientation: str, view: str, side: str | None, zone: str | None
) -> None:
    finding = ask(models, dicom(chest((4, 1)), PatientOrientation=orientation, ViewPosition=view)).result.findings[0]
    assert (finding.side, finding.zone) == (side, zone)


@pytest.mark.parametrize(("grey", "reason"), [(200, Reason.UNFAMILIAR_IMAGE), (250, Reason.NOT_A_FRONTAL_CHEST)])
def test_an_unfamiliar_image_has_a_reason_and_no_score(models: list[Model], grey: int, reason: Reason) -> None:
    picture = np.full((ROWS, COLUMNS), grey, dtype=np.uint8)
    picture[:8] = 128
    analysis = ask(models, dicom(picture))
    result = analysis.result
    assert (result.status, result.reason, result.findings) == (Status.NOT_ANALYSED, reason, ())
    assert analysis.maps is None
    assert analysis.image is not None
    assert "cxr-children" in analysis.refusal
    assert ask(models, dicom(picture, PatientAge="040Y")).result.status is Status.FLAGGED


def test_an_output_that_is_no_number_is_no_answer(models: list[Model]) -> None:
    picture = chest()
    picture[:HEIGHT] = 255
    with pytest.raises(EngineError, match="no finite number"):
        ask(models, dicom(picture, PatientAge="040Y"))


@pytest.mark.parametrize("engine", ENGINES)
def test_one_changed_byte_in_any_file_of_any_kind_of_bundle_is_not_served(
    engine: str, shelf: Shelf, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(
        shelf.config, inference=msgspec.structs.replace(shelf.config.inference, engine=engine)
    )
    for folder in sorted(config.models_folder.glob("*/bundle")):
        assert load_model(folder, config, tmp_path / "cache").engine.name == engine
        for original in (path for path in folder.rglob("*") if path.is_file()):
            copy = tmp_path / "bundle"
            shutil.copytree(folder, copy)
            content = bytearray(original.read_bytes())
            content[len(content) // 2] ^= 0x01
            (copy / original.relative_to(folder)).write_bytes(content)
            with pytest.raises(BundleError):
                load_model(copy, config, tmp_path / "cache")
            shutil.rmtree(copy)


@pytest.mark.parametrize(
    "statistics",
    [
        Statistics(np.zeros(3), np.eye(3)),
        Statistics(np.zeros(CELLS**2), np.eye(3)),
        Statistics(np.zeros(CELLS**2), np.full((CELLS**2, CELLS**2), np.nan)),
    ],
)
def test_statistics_that_do_not_fit_the_network_are_refused(statistics: Statistics, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.classifier("cxr", statistics=statistics)
    with pytest.raises(BundleError, match=r"familiarity\.npz"):
        load_models(shelf.config, tmp_path / "cache")


def test_a_box_needs_a_classifier_and_can_use_lungs_only(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.lungs()
    with pytest.raises(BundleError, match="no bundle looks for findings"):
        load_models(shelf.config, tmp_path / "cache")
    shelf.classifier("cxr")
    assert len(load_models(shelf.config, tmp_path / "cache")) == 2
    shelf.lungs("cxr-heart", structure=Structure(code="80891009", scheme="SCT", meaning="Heart"))
    with pytest.raises(BundleError, match="cxr-heart outlines Heart"):
        load_models(shelf.config, tmp_path / "cache")


@pytest.fixture
def configured(shelf: Shelf, tmp_path: Path) -> Path:
    """The shelf as a configuration file."""
    inference = {"models": str(shelf.config.models_folder), "trusted_keys": str(shelf.config.inference.trusted_keys)}
    path = tmp_path / "scanside.yaml"
    path.write_text(
        yaml.safe_dump(
            {"state_dir": str(tmp_path / "state"), "inference": inference | {"engine": "openvino", "image_seconds": 60}}
        )
    )
    return path


def _said(tmp_path: Path, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", "edge.cli", *map(str, arguments)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_know_every_model_and_say_experimental(configured: Path, tmp_path: Path) -> None:
    adult = tmp_path / "adult.dcm"
    adult.write_bytes(dicom(chest((4, 1)), PatientAge="040Y"))
    listed = _said(tmp_path, "model", "--config", configured)
    heads = [line.partition(" sha256:")[0] for line in listed.splitlines() if line.startswith("cxr-")]
    assert heads == ["cxr-adults 1.0.0 experimental", "cxr-children 1.0.0", "cxr-lungs 1.0.0"]
    assert _said(tmp_path, "analyze", adult, "--config", configured).endswith(", experimental model\n")
    line = json.loads(_said(tmp_path, "analyze", adult, "--json", "--config", configured))
    assert line["model"]["experimental"] is True
    assert (line["findings"][0]["side"], line["findings"][0]["zone"]) == ("right", "lower")


def test_health_lists_every_model_while_they_are_served(configured: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"

    def account() -> tuple[State, list[str]]:
        health = read_health(state, time.time())["inference"]
        return health.state, [model.id for model in health.models]

    with RunningProgram(scanside("run", "inference", "--config", str(configured))) as program:
        program.wait_for("SC400", 3)
        await_until(lambda: account()[0] is State.UP, "the service is up")
        assert account()[1] == ["cxr-adults", "cxr-children", "cxr-lungs"]
        assert program.stop() == 0
    assert account() == (State.DOWN, [])


@pytest.mark.parametrize(
    ("body_part", "turns", "told"), [("CHEST", 2, {"upside_down"}), ("CHEST", 1, {"sideways"}), ("", 2, set())]
)
def test_a_chest_that_the_gate_refuses_is_still_checked(
    tmp_path: Path, body_part: str, turns: int, told: set[str]
) -> None:
    """An image that is upside down is unfamiliar; the technician should hear why. Without its tag it may be a hand."""
    shelf = Shelf(tmp_path)
    shelf.classifier("cxr-strict", accepts=CHILDREN, familiarity=LIMITS, statistics=around(0.35, 0.001))
    turned = np.rot90((radiograph(Kind.CLEAR, 3, ROWS, ROWS) * 255).astype(np.uint8), turns)
    result = ask(
        load_models(shelf.config, tmp_path / "cache"), dicom(np.ascontiguousarray(turned), BodyPartExamined=body_part)
    ).result
    assert result.reason in (Reason.UNFAMILIAR_IMAGE, Reason.NOT_A_FRONTAL_CHEST)
    assert {finding.check for finding in result.quality} == told


def test_the_next_image_is_checked_beside_the_one_before(models: list[Model]) -> None:
    first = ask(models, dicom(chest((4, 1)), SOPInstanceUID="1.2.3"))
    again = analyse(dicom(chest((4, 1)), SOPInstanceUID="1.2.4"), models, source="test", recent=first.recent)
    assert "duplicate" not in {finding.check for finding in first.result.quality}
    assert "duplicate" in {finding.check for finding in again.result.quality}


def test_the_site_s_limits_count(models: list[Model]) -> None:
    data = dicom(chest((4, 1)), DeviationIndex="3")
    strict = analyse(data, models, source="test", limits=Quality(highest_deviation_index=2.0))
    assert "over_exposed" not in {finding.check for finding in ask(models, data).result.quality}
    assert "over_exposed" in {finding.check for finding in strict.result.quality}
