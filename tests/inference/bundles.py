"""Bundles with networks so small that a test can say what they answer, sealed and served like the shipped ones.

A classifier averages the image over 7 by 7 squares. Its map is those means less `bias`, its logit the map's maximum
times ten, its embedding the 49 means; where a square is all white, the map is no number. The segmentation calls dark
what is below a half, and dark is lung.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import openvino
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from onnx import TensorProto, helper

from edge.config import Config, Inference
from edge.inference.bundle import (
    FAMILIARITY_FILE,
    GOLDEN_FILE,
    ONNX_FILE,
    OPENVINO_FILE,
    Accepts,
    Bundle,
    Familiarity,
    FindingSpec,
    Input,
    OperatingPoint,
    SealedBundle,
    Structure,
    Threshold,
)
from edge.inference.engines import ENGINES, Outputs, open_engine
from edge.inference.familiarity import Statistics
from export.familiarity import save
from export.golden import golden_inputs, write_golden
from export.seal import seal

SIDE = 56
CELLS = 7
CODE = "233604007"
ANY_CHEST = Accepts(modalities=("CR", "DX"), body_parts=("CHEST",), views=("AP", "PA"), age_years=(0.0, 150.0))
CHILDREN = Accepts(modalities=("CR", "DX"), body_parts=("CHEST",), views=("AP", "PA"), age_years=(1.0, 6.0))
ADULTS = Accepts(modalities=("CR", "DX"), body_parts=("CHEST",), views=("AP", "PA"), age_years=(15.0, 120.0))

Fields = dict[str, Any]


class Shelf:
    """A models folder, the key that signs what stands in it, and a configuration that serves it."""

    def __init__(self, folder: Path, engine: Literal["openvino", "onnxruntime", "auto"] = "onnxruntime") -> None:
        """Begin empty."""
        self._key = Ed25519PrivateKey.generate()
        self._folder = folder
        keys = folder / "keys"
        keys.mkdir(parents=True)
        public = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (keys / "test.pub").write_bytes(public)
        self.config = Config(
            state_dir=folder / "state",
            inference=Inference(models=folder / "models", trusted_keys=keys, engine=engine, threads=1),
        )

    def classifier(self, name: str, *, bias: float = 0.5, statistics: Statistics | None = None, **fields: Any) -> Path:
        """Add one; without statistics every image is familiar to it."""
        known = statistics or around(0.5, 1.0)
        return self._add(classification(name, **fields), lambda path: _classifier(path, bias), known)

    def lungs(self, name: str = "cxr-lungs", **fields: Any) -> Path:
        """Add a segmentation."""
        return self._add(segmentation(name, **fields), _segmentation, None)

    def _add(self, bundle: Bundle, draw: Callable[[Path], None], statistics: Statistics | None) -> Path:
        folder = self._folder / "models" / bundle.id / "bundle"
        (folder / OPENVINO_FILE).parent.mkdir(parents=True)
        draw(folder / ONNX_FILE)
        openvino.save_model(openvino.convert_model(folder / ONNX_FILE), folder / OPENVINO_FILE, compress_to_fp16=False)
        inputs = golden_inputs(2, SIDE)
        unsealed = SealedBundle(folder=folder, bundle=bundle, digest="")
        expected: dict[str, Outputs] = {}
        for name in ENGINES:
            engine = open_engine(name, unsealed, 1, self._folder / "cache")
            answers = [engine.run(image[np.newaxis]) for image in inputs]
            expected[name] = {str(output): np.stack([each[output] for each in answers]) for output in bundle.outputs}
        write_golden(folder / GOLDEN_FILE, inputs, expected)
        if statistics:
            save(folder / FAMILIARITY_FILE, statistics)
        seal(folder, bundle, self._key)
        return folder


def classification(name: str, **fields: Any) -> Bundle:
    """The bundle.yaml of a classifier, before it is sealed."""
    threshold = Threshold(code=CODE, indeterminate_from=0.4, flagged_from=0.6)
    given: Fields = {
        "task": "classification",
        "accepts": CHILDREN,
        "outputs": {key: key for key in ("logits", "cam", "embedding")},
        "findings": (FindingSpec(code=CODE, scheme="SCT", meaning="Pneumonia", temperature=1.0),),
        "operating_points": (OperatingPoint(id="balanced", description="", thresholds=(threshold,)),),
        "default_operating_point": "balanced",
        "familiarity": LIMITS,
        "golden_tolerance": dict.fromkeys(("logits", "cam", "embedding"), 0.01),
    }
    return _bundle(name, given | fields)


def segmentation(name: str, **fields: Any) -> Bundle:
    """The bundle.yaml of a segmentation, before it is sealed."""
    given: Fields = {
        "task": "segmentation",
        "accepts": ANY_CHEST,
        "outputs": {"mask": "mask"},
        "structure": Structure(code="39607008", scheme="SCT", meaning="Lung"),
        "golden_tolerance": {"mask": 0.01},
    }
    return _bundle(name, given | fields)


def around(middle: float, width: float) -> Statistics:
    """Statistics that find familiar, at distances around 1, what lies about `width` from `middle` in each square."""
    features = CELLS * CELLS
    return Statistics(np.full(features, middle), np.eye(features) / width)


LIMITS = Familiarity(unfamiliar_from=4.0, not_frontal_chest_from=16.0)


def _bundle(name: str, fields: Fields) -> Bundle:
    given: Fields = {
        "id": name,
        "version": "1.0.0",
        "title": "",
        "intended_use": "",
        "not_looked_for": "",
        "input": Input(name="image", height=SIDE, width=SIDE),
        "provenance": {},
        "files": {},
    }
    return Bundle(**(given | fields))


def _classifier(path: Path, bias: float) -> None:
    square = SIDE // CELLS
    nodes = [
        helper.make_node("AveragePool", ["image"], ["means"], kernel_shape=[square, square], strides=[square, square]),
        helper.make_node("Sub", ["nearly_white", "means"], ["greyness"]),
        helper.make_node("Sqrt", ["greyness"], ["number"]),
        helper.make_node("Mul", ["number", "nothing"], ["nearly_nothing"]),
        helper.make_node("Sub", ["means", "bias"], ["evidence"]),
        helper.make_node("Add", ["evidence", "nearly_nothing"], ["cam"]),
        helper.make_node("ReduceMax", ["cam", "plane"], ["peak"], keepdims=0),
        helper.make_node("Mul", ["peak", "ten"], ["logits"]),
        helper.make_node("Flatten", ["means"], ["embedding"]),
    ]
    constants = {
        "bias": np.float32(bias),
        "ten": np.float32(10),
        "plane": np.array([2, 3], dtype=np.int64),
        "nearly_white": np.float32(0.999),
        "nothing": np.float32(1e-9),
    }
    shapes = {"logits": [1, 1], "cam": [1, 1, CELLS, CELLS], "embedding": [1, CELLS * CELLS]}
    _save(path, nodes, constants, shapes)


def _segmentation(path: Path) -> None:
    nodes = [
        helper.make_node("Sub", ["half", "image"], ["dark"]),
        helper.make_node("Mul", ["dark", "steep"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["mask"]),
    ]
    constants = {"half": np.float32(0.5), "steep": np.float32(100)}
    _save(path, nodes, constants, {"mask": [1, 1, SIDE, SIDE]})


def _save(path: Path, nodes: list[Any], constants: dict[str, Any], shapes: dict[str, list[int]]) -> None:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
