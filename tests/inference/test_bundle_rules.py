"""What a sealed bundle.yaml must hold beyond its schema, field against field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.inference.bundle import (
    Bundle,
    BundleError,
    Familiarity,
    FindingSpec,
    OperatingPoint,
    Threshold,
    broken_rule,
    open_bundle,
)
from tests.inference.bundles import CODE, LIMITS, Shelf, classification, segmentation

FILES = dict.fromkeys(("model.onnx", "openvino/model.xml", "golden.npz"), "sha256:0")
GATED = FILES | {"familiarity.npz": "sha256:0"}
CLASSIFIER = classification("cxr", files=GATED)
LUNGS = segmentation("cxr-lungs", files=FILES)


def _point(*codes: str, indeterminate: float = 0.4, flagged: float = 0.6) -> tuple[OperatingPoint, ...]:
    limits = tuple(Threshold(code=code, indeterminate_from=indeterminate, flagged_from=flagged) for code in codes)
    return (OperatingPoint(id="balanced", description="", thresholds=limits),)


def _finding(code: str = CODE, temperature: float = 1.0, bias: float = 0.0) -> FindingSpec:
    return FindingSpec(code=code, scheme="SCT", meaning="x", temperature=temperature, bias=bias)


NAN = float("nan")
CASES: list[tuple[Bundle, dict[str, Any], str | None]] = [
    (CLASSIFIER, {}, None),
    (CLASSIFIER, {"familiarity": None}, "has a gate"),
    (CLASSIFIER, {"files": FILES}, "familiarity.npz is missing"),
    (CLASSIFIER, {"files": {name: GATED[name] for name in ("model.onnx", "golden.npz")}}, "openvino/model.xml"),
    (CLASSIFIER, {"files": {}}, "model.onnx"),
    (CLASSIFIER, {"outputs": {"logits": "logits", "cam": "cam"}}, "outputs cam, logits"),
    (CLASSIFIER, {"outputs": CLASSIFIER.outputs | {"mask": "mask"}}, "outputs"),
    (CLASSIFIER, {"golden_tolerance": {}}, "golden_tolerance for none"),
    (CLASSIFIER, {"golden_tolerance": {"logits": 0.1}}, "golden_tolerance for logits"),
    (CLASSIFIER, {"golden_tolerance": dict.fromkeys(CLASSIFIER.outputs, NAN)}, "above 0 and finite"),
    (CLASSIFIER, {"golden_tolerance": dict.fromkeys(CLASSIFIER.outputs, float("inf"))}, "above 0 and finite"),
    (CLASSIFIER, {"findings": ()}, "findings"),
    (CLASSIFIER, {"findings": (_finding(), _finding())}, "each once"),
    (CLASSIFIER, {"findings": (_finding(temperature=0.0),)}, "temperature"),
    (CLASSIFIER, {"findings": (_finding(temperature=NAN),)}, "temperature"),
    (CLASSIFIER, {"findings": (_finding(bias=NAN),)}, "bias"),
    (CLASSIFIER, {"structure": LUNGS.structure}, "structure"),
    (CLASSIFIER, {"operating_points": ()}, "default operating point"),
    (CLASSIFIER, {"default_operating_point": "best"}, "'best'"),
    (CLASSIFIER, {"operating_points": _point()}, "one threshold for each"),
    (CLASSIFIER, {"operating_points": _point("1")}, "one threshold for each"),
    (CLASSIFIER, {"operating_points": _point(CODE, CODE)}, "one threshold for each"),
    (CLASSIFIER, {"operating_points": _point(CODE, indeterminate=0.7)}, "out of order"),
    (CLASSIFIER, {"operating_points": _point(CODE, flagged=1.1)}, "out of order"),
    (CLASSIFIER, {"operating_points": _point(CODE, flagged=NAN)}, "out of order"),
    (LUNGS, {}, None),
    (LUNGS, {"structure": None}, "structure is missing"),
    (LUNGS, {"outputs": CLASSIFIER.outputs}, "a segmentation has mask"),
    (LUNGS, {"findings": CLASSIFIER.findings}, "belong to a classification"),
    (LUNGS, {"familiarity": LIMITS}, "belongs to a classification"),
    *(
        (
            CLASSIFIER,
            {"familiarity": Familiarity(unfamiliar_from=unfamiliar, not_frontal_chest_from=other)},
            "familiarity out of order",
        )
        for unfamiliar, other in ((0.0, 1.0), (2.0, 1.0), (NAN, 2.0), (1.0, NAN), (1.0, float("inf")))
    ),
]


@pytest.mark.parametrize(("bundle", "change", "said"), CASES)
def test_the_rules_between_fields(bundle: Bundle, change: dict[str, Any], said: str | None) -> None:
    broken = broken_rule(msgspec.structs.replace(bundle, **change))
    assert broken is None if said is None else broken and said in broken


def test_a_well_signed_bundle_that_breaks_a_rule_is_refused(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    folder = shelf.classifier("cxr", operating_points=_point("1"))
    with pytest.raises(BundleError, match=r"bundle\.yaml: an operating point has not one threshold"):
        open_bundle(folder, shelf.config.trusted_keys)
