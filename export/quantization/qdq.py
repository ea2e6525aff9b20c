"""Graph surgery on ONNX models in QDQ form: what is quantized where, and taking it out again."""

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_ACTIVATIONS = ("Relu", "Clip")
_FLOAT = "_float"


def convolutions(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the convolutions' nodes, in the order of the graph."""
    return tuple(node.name for node in model.graph.node if node.op_type == "Conv")


def without_inner_pairs(quantized: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which an activation function reads its convolution directly: one pair behind both is enough."""
    model = _copy(quantized)
    makers = _makers(model)
    for node in model.graph.node:
        if node.op_type in _ACTIVATIONS:
            node.input[0] = _unquantized(node.input[0], makers)
    return _pruned(model)


def leave_float(
    quantized: onnx.ModelProto, fp32: onnx.ModelProto, names: Collection[str], *, inputs: bool
) -> onnx.ModelProto:
    """A copy in which the convolutions ``names`` compute in float, with unquantized weights and bias.

    Their output is quantized for quantized convolutions only.

    Args:
        quantized: The QDQ model made from ``fp32``.
        fp32: Where the weights come from; its convolutions have the same names.
        names: Convolutions of both.
        inputs: Whether they read their unquantized input too, other readers keeping its quantized form. The convolution
            in front must then give floats, which ONNX Runtime can only compute in float.
    """
    model = _copy(quantized)
    makers, originals = _makers(model), {node.name: node for node in fp32.graph.node}
    weights = {each.name: each for each in fp32.graph.initializer}
    chosen = [node for node in model.graph.node if node.op_type == "Conv" and node.name in names]
    for name in sorted({name for node in chosen for name in originals[node.name].input[1:]}):
        # Another name, since the quantized model calls the way back from an integer bias by the bias's own.
        weight = onnx.TensorProto()
        weight.CopyFrom(weights[name])
        weight.name = f"{name}{_FLOAT}"
        model.graph.initializer.append(weight)
    for node in chosen:
        node.input[0] = _unquantized(node.input[0], makers) if inputs else node.input[0]
        node.input[1:] = [f"{name}{_FLOAT}" for name in originals[node.name].input[1:]]

    def is_chosen(source: str) -> bool:
        maker = makers.get(source)
        if maker is not None and maker.op_type in _ACTIVATIONS:
            maker = makers.get(maker.input[0])
        return maker is not None and maker in chosen

    for node in model.graph.node:
        if node.op_type not in ("Conv", _QUANTIZE, _DEQUANTIZE):
            sources = [_unquantized(name, makers) for name in node.input]
            node.input[:] = [
                source if is_chosen(source) else name for name, source in zip(node.input, sources, strict=True)
            ]
    _free_graph_outputs(model, makers, is_chosen)
    return _pruned(model)


def _free_graph_outputs(
    model: onnx.ModelProto, makers: Mapping[str, onnx.NodeProto], wanted: Callable[[str], bool]
) -> None:
    """Takes the pair away behind outputs of the graph: the node before it makes them instead."""
    for output in model.graph.output:
        source = _unquantized(output.name, makers)
        if source != output.name and wanted(source):
            back = makers[output.name]
            back.output[0] = f"{output.name}_unused"
            for node in model.graph.node:
                node.input[:] = [output.name if name in (source, output.name) else name for name in node.input]
                node.output[:] = [output.name if name == source else name for name in node.output]


def quantized_alone(fp32: onnx.ModelProto, quantized: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy of ``fp32`` whose convolution ``name`` alone reads its input and weights as in ``quantized``."""
    model = _copy(fp32)
    values, makers = _values(quantized), _makers(quantized)
    theirs = next(node for node in quantized.graph.node if node.name == name)
    place, ours = next((place, node) for place, node in enumerate(model.graph.node) if node.name == name)
    if (maker := makers.get(theirs.input[1])) is not None:
        weight = numpy_helper.from_array(_dequantized(maker, values), f"{name}_on_grid")
        model.graph.initializer.append(weight)
        ours.input[1] = weight.name
    if (maker := makers.get(theirs.input[0])) is not None and maker.op_type == _DEQUANTIZE:
        steps = [numpy_helper.from_array(values[each], f"{name}_{each}") for each in maker.input[1:3]]
        model.graph.initializer.extend(steps)
        parameters = [step.name for step in steps]
        integers, seen = f"{name}_integers", f"{name}_seen"
        down = onnx.helper.make_node(_QUANTIZE, [ours.input[0], *parameters], [integers], name=integers)
        back = onnx.helper.make_node(_DEQUANTIZE, [integers, *parameters], [seen], name=seen)
        ours.input[0] = seen
        model.graph.node.insert(place, back)
        model.graph.node.insert(place, down)
    return model


def dequantized(quantized: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with every Q/DQ pair taken out and the weights back in float32: the same network in FP32."""
    model = _copy(quantized)
    values, makers = _values(model), _makers(model)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            maker = makers.get(name)
            if maker is None or maker.op_type != _DEQUANTIZE:
                continue
            if maker.input[0] in values:
                weight = numpy_helper.from_array(_dequantized(maker, values), f"{maker.input[0]}{_FLOAT}")
                if weight.name not in {each.name for each in model.graph.initializer}:
                    model.graph.initializer.append(weight)
                node.input[place] = weight.name
            else:
                node.input[place] = _unquantized(name, makers)
    _free_graph_outputs(model, makers, lambda _: True)
    return _pruned(model)


def weight_integers(quantized: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    """The quantized weights of the nodes that compute with some, by node name."""
    values, makers = _values(quantized), _makers(quantized)
    found = {}
    for node in quantized.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            maker = makers.get(node.input[1])
            if maker is not None and maker.input[0] in values:
                found[node.name] = values[maker.input[0]]
    return found


def _dequantized(maker: onnx.NodeProto, values: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    """What a DequantizeLinear of constants gives."""
    integers, scale = np.asarray(values[maker.input[0]], dtype=np.float32), np.asarray(values[maker.input[1]])
    zero = np.asarray(values[maker.input[2]], dtype=np.float32) if len(maker.input) > 2 else np.float32(0)
    axis = next((each.i for each in maker.attribute if each.name == "axis"), 1)
    if scale.ndim == 1 and scale.size > 1:
        shape = [-1 if place == axis % integers.ndim else 1 for place in range(integers.ndim)]
        scale, zero = scale.reshape(shape), np.broadcast_to(zero, scale.shape).reshape(shape)
    return np.asarray((integers - zero) * scale, dtype=np.float32).reshape(integers.shape)


def _unquantized(name: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    """The tensor in front of the pair that makes ``name``, or ``name`` itself."""
    back = makers.get(name)
    down = makers.get(back.input[0]) if back is not None and back.op_type == _DEQUANTIZE else None
    return down.input[0] if down is not None and down.op_type == _QUANTIZE else name


def _makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def _values(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what no output needs, in place."""
    needed = {output.name for output in model.graph.output}
    for node in reversed(list(model.graph.node)):
        if needed.isdisjoint(node.output):
            model.graph.node.remove(node)
        else:
            needed.update(node.input)
    for initializer in [each for each in model.graph.initializer if each.name not in needed]:
        model.graph.initializer.remove(initializer)
    return model
