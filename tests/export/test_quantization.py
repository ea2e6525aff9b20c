from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edge.inference.bundle import ONNX_FILE, OPENVINO_FILE, find_bundles
from export.architectures import GRID_STEPS
from export.quantization.onnxruntime_int8 import matching
from export.recipe import RecipeError
from tests.conftest import ROOT

BUNDLES = find_bundles(ROOT / "models")
NAMES = ["stem", "blocks.1.expand", "blocks.1.project", "blocks.11.expand", "cam"]


def _onnx_integers(folder: Path) -> dict[str, NDArray[np.int8]]:
    suffix = ".weight_quantized"
    initializers = onnx.load(str(folder / ONNX_FILE)).graph.initializer
    return {
        each.name.removesuffix(suffix): numpy_helper.to_array(each)
        for each in initializers
        if each.name.endswith(suffix)
    }


def _openvino_integers(folder: Path) -> dict[str, NDArray[np.int8]]:
    found = {}
    for op in openvino.Core().read_model(str(folder / OPENVINO_FILE)).get_ordered_ops():
        if op.get_type_name() in ("Convolution", "GroupConvolution"):
            node = op.input_value(1).get_node()
            while node.get_type_name() != "Constant":
                node = node.input_value(0).get_node()
            if node.data.dtype == np.int8:
                found[op.get_friendly_name().removesuffix("/WithoutBiases")] = node.data.copy()
    return found


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.parent.name)
def test_both_engines_compute_with_the_same_integers_that_cannot_saturate(folder: Path) -> None:
    """Two products of an unsigned activation and a weight of at most 64 steps fit into 16 bits, whatever the image."""
    ours, theirs = _onnx_integers(folder), _openvino_integers(folder)
    assert len(ours) >= 50
    assert ours.keys() == theirs.keys()
    for name, integers in ours.items():
        assert int(np.abs(integers.astype(int)).max()) <= GRID_STEPS
        assert np.array_equal(integers.ravel(), theirs[name].ravel()), name


def test_a_prefix_names_whole_parts_of_the_module_path() -> None:
    assert matching(NAMES, ("blocks.1", "cam")) == ["blocks.1.expand", "blocks.1.project", "cam"]
    assert matching(NAMES, ()) == []
    with pytest.raises(RecipeError, match="'block' names no convolution"):
        matching(NAMES, ("block",))
