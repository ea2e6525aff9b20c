from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.inference.bundle import Bundle, Threshold
from export import evaluation
from export.card import CardError, card_sections, card_title, write_cards
from export.cli import main
from export.document import Section, markdown
from export.evaluation.findings import FindingFigures, Scored
from export.recipe import Recipe, read_recipe
from tests.conftest import ROOT
from tests.inference.bundles import CODE, classification, segmentation

NINE = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
]
PROVENANCE: dict[str, Any] = {
    "built": "2026-11-21",
    "command": "scanside-export build models/tiny/recipe.yaml",
    "dataset": {
        "name": "made",
        "licence": "CC BY 4.0",
        "sha256": "abc",
        "splits": {"train": {"images": 700, "patients": 350}, "test": {"images": 90, "patients": 45}},
    },
    "quantization": {"onnxruntime": "QDQ", "float": ["head"]},
    "versions": {"torch": "2.13.0"},
}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(ROOT / "models/cxr-pneumonia-paediatric/recipe.yaml")


@pytest.fixture(scope="module")
def tested() -> tuple[Scored, FindingFigures]:
    random = np.random.default_rng(7)
    positive = random.random(90) < 0.4
    scored = Scored(
        code=CODE,
        meaning="Pneumonia",
        engine="openvino",
        precision="int8",
        probabilities=1.0 / (1.0 + np.exp(-random.normal(3.0 * positive - 1.5, 1.3))),
        positive=positive,
        patients=tuple(str(number // 2) for number in range(90)),
        groups={"sex": ["F", "M"] * 45},
        thresholds={"balanced": Threshold(code=CODE, indeterminate_from=0.4, flagged_from=0.6)},
        prevalence=0.1,
    )
    return scored, evaluation.figures_of(scored)


@pytest.fixture(scope="module")
def bundle(tested: tuple[Scored, FindingFigures]) -> Bundle:
    scored, _ = tested
    logits = np.log(scored.probabilities / (1.0 - scored.probabilities)).astype(np.float32)[:, None]
    draft = classification("tiny", provenance=PROVENANCE, title="Pneumonia", experimental=True)
    measured = evaluation.measure(
        evaluation.EngineScores(engine="openvino", precision="int8", test=logits),
        reference=logits,
        positive=scored.positive,
        column=0,
        spec=draft.findings[0],
        threshold=draft.operating_points[0].thresholds[0],
        point="balanced",
        dataset="made",
        patients=45,
    )
    return msgspec.structs.replace(draft, measured=(measured,))


def test_the_nine_sections_with_every_figure(
    bundle: Bundle, recipe: Recipe, tested: tuple[Scored, FindingFigures]
) -> None:
    sections = card_sections(bundle, recipe, [tested], analyses=[Section("Gate", ("All checks passed.",))])
    assert [section.title for section in sections] == NINE
    text = markdown(card_title(bundle), sections)
    measured = bundle.measured[0]
    for figure in (measured.auroc, measured.sensitivity, measured.specificity):
        assert f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})" in text
    for said in ("2026-11-21", "test", "### Gate", "torch 2.13.0", "quantization, float: head", *recipe.weak_spots):
        assert said in text
    assert "Worst group for Pneumonia on openvino: sex" in text
    assert f"Only {measured.positives} test images have the finding" in text


def test_experimental_stands_on_top(bundle: Bundle, recipe: Recipe, tested: tuple[Scored, FindingFigures]) -> None:
    assert card_title(bundle).startswith("Experimental: ")
    text = markdown(card_title(bundle), card_sections(bundle, recipe, [tested]))
    assert "EXPERIMENTAL" in text.split("##")[1]
    proven = msgspec.structs.replace(bundle, experimental=False)
    assert "xperimental" not in markdown(card_title(proven), card_sections(proven, recipe, [tested])).split("###")[0]


def test_every_command_in_a_card_is_one(
    bundle: Bundle, recipe: Recipe, tested: tuple[Scored, FindingFigures], capsys: pytest.CaptureFixture[str]
) -> None:
    text = markdown("x", card_sections(bundle, recipe, [tested]))
    commands = set(re.findall(r"`(scanside-export [^`]*)`", text))
    assert {shlex.split(command)[1] for command in commands} == {"build", "inspect", "evaluate"}
    for command in commands:
        arguments = shlex.split(command.replace("DIR", str(ROOT)))[1:]
        assert main(arguments) in {1, 2}  # there is no such model; an option that is none would raise SystemExit
        assert "models/tiny" in capsys.readouterr().err
    assert str(ROOT) not in text


def test_a_segmentation_has_a_card_too(recipe: Recipe) -> None:
    dice = evaluation.measure_masks(
        np.array([0.95, 0.97]), ["a", "b"], engine="openvino", precision="int8", dataset="made", split="test"
    )
    bundle = segmentation("lungs", provenance=PROVENANCE, measured_masks=(dice,))
    sections = card_sections(bundle, recipe, [])
    assert [section.title for section in sections] == NINE
    text = markdown(card_title(bundle), sections)
    assert "0.9600 (0.9500 to 0.9700)" in text
    assert "outline of: Lung (39607008 SCT)" in text


def test_no_picture_gets_into_a_card(tmp_path: Path) -> None:
    below = Section("Data", plots=('<img src="data:image/png;base64,AAAA">',))
    with pytest.raises(CardError, match="a card has drawings only"):
        write_cards(tmp_path, "x", [Section("Training data", sections=(below,))])
    assert list(tmp_path.iterdir()) == []
    write_cards(tmp_path, "x", [Section("Training data")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.html", "card.md"]
