from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml

from edge.inference.bundle import (
    BUNDLE_FILE,
    Bundle,
    Familiarity,
    Interval,
    MeasuredMask,
    MeasuredRefusal,
    SealedBundle,
    Structure,
)
from export.inspection import explain
from tests.conftest import ROOT
from tests.export.conftest import scanside_export

SHIPPED = ROOT / "models/cxr-pneumonia-paediatric/bundle"
SHARE = Interval(value=0.975, low=0.9512, high=0.9876, method="Wilson")


@pytest.fixture
def bundle() -> Bundle:
    return msgspec.convert(yaml.safe_load((SHIPPED / BUNDLE_FILE).read_bytes()), Bundle)


def lines(bundle: Bundle) -> list[str]:
    return explain(SealedBundle(folder=Path("here"), bundle=bundle, digest="sha256:0")).splitlines()


def test_the_command_prints_every_figure_of_the_shipped_bundle(bundle: Bundle) -> None:
    made = scanside_export("inspect", SHIPPED)
    assert made.returncode == 0, made.stderr
    for measured in bundle.measured:
        told = [line for line in made.stdout.splitlines() if f"{measured.engine} {measured.precision} on" in line]
        assert any(f"at {measured.operating_point}: AUROC {measured.auroc.value:.4f}" in line for line in told)
    defaults = [line for line in made.stdout.splitlines() if "(default)" in line]
    assert len(defaults) == len(bundle.findings)
    assert f"operating point {bundle.default_operating_point} (default)" in defaults[0]


def test_experimental_is_said_before_what_the_model_is_for(bundle: Bundle) -> None:
    told = lines(msgspec.structs.replace(bundle, experimental=True))
    assert told[2].startswith("experimental:")
    assert told[3].startswith("intended use:")
    assert not [line for line in lines(msgspec.structs.replace(bundle, experimental=False)) if "experimental" in line]


def test_the_familiarity_gate_and_what_it_refuses_are_told(bundle: Bundle) -> None:
    refusals = tuple(
        MeasuredRefusal(engine="openvino", dataset=name, images=277, wanted=wanted, refused=SHARE)
        for name, wanted in (("Bones", True), ("Test split", False))
    )
    known = Familiarity(unfamiliar_from=1.5, not_frontal_chest_from=3.25)
    told = lines(msgspec.structs.replace(bundle, familiarity=known, measured_refusals=refusals))
    assert "familiarity: unfamiliar from a distance of 1.5000, no frontal chest radiograph from 3.2500" in told
    assert "openvino refuses as it should 97.5% [95.1%, 98.8%] of 277 images: Bones" in told
    assert "openvino refuses wrongly 97.5% [95.1%, 98.8%] of 277 images: Test split" in told


def test_a_segmentation_tells_its_structure_and_dice(bundle: Bundle) -> None:
    mask = MeasuredMask(
        engine="openvino", precision="int8", dataset="Lungs", split="test", images=9, patients=8, dice=SHARE
    )
    told = lines(
        msgspec.structs.replace(
            bundle,
            task="segmentation",
            findings=(),
            operating_points=(),
            measured=(),
            structure=Structure(code="39607008", scheme="SCT", meaning="Lung"),
            measured_masks=(mask,),
        )
    )
    assert "structure: Lung (39607008 SCT)" in told
    assert "openvino int8 on 9 test images of 8 patients: Dice 0.9750 [0.9512, 0.9876]" in told
    assert not [line for line in told if line.startswith(("finding", "operating point"))]
