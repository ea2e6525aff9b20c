"""The standard's grey scale formulas against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from edge.imaging.grayscale import to_grey, window


@pytest.mark.parametrize(
    ("function", "center", "width", "value", "expected"),
    [
        # PS3.3 C.11.2.1.2.1: the example of the standard, c=2048, w=4096 spans the whole of 12 bits.
        ("LINEAR", 2048, 4096, 0, 0.0),
        ("LINEAR", 2048, 4096, 4095, 1.0),
        ("LINEAR", 2048, 1, 2047, 0.0),
        ("LINEAR", 2048, 1, 2048, 1.0),
        ("LINEAR", 0, 100, 0, (0 + 0.5) / 99 + 0.5),
        ("LINEAR_EXACT", 2048, 4096, 0, 0.0),
        ("LINEAR_EXACT", 2048, 4096, 2048, 0.5),
        ("SIGMOID", 100, 50, 100, 0.5),
        ("SIGMOID", 100, 50, 112.5, 1 / (1 + np.exp(-1))),
    ],
)
def test_window(function: str, center: float, width: float, value: float, expected: float) -> None:
    assert window(np.array([float(value)]), center, width, function)[0] == pytest.approx(expected, abs=1e-9)


def _dataset(**elements: object) -> Dataset:
    dataset = Dataset()
    base = {"BitsStored": 12, "BitsAllocated": 16, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2"}
    for keyword, value in {**base, **elements}.items():
        setattr(dataset, keyword, value)
    return dataset


STORED = np.array([[0, 1000], [2000, 4095]], dtype=np.uint16)


def test_window_applies_after_rescale() -> None:
    dataset = _dataset(
        RescaleSlope=2, RescaleIntercept=-100, WindowCenter=2000, WindowWidth=2000, VOILUTFunction="LINEAR_EXACT"
    )
    assert to_grey(STORED, dataset).ravel().tolist() == pytest.approx([0.0, 0.45, 1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize(
    "elements", [{"PhotometricInterpretation": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}]
)
def test_inversion(elements: dict[str, str]) -> None:
    plain = to_grey(STORED, _dataset(WindowCenter=2048, WindowWidth=4096))
    turned = to_grey(STORED, _dataset(WindowCenter=2048, WindowWidth=4096, **elements))
    assert turned.ravel().tolist() == pytest.approx((1 - plain).ravel().tolist(), abs=1e-6)


def test_voi_lut_sequence() -> None:
    item = Dataset()
    item.add_new(0x00283002, "US", [4, 1000, 8])
    item.add_new(0x00283006, "US", [0, 51, 102, 255])
    grey = to_grey(np.array([[0, 1001], [1002, 4095]], dtype=np.uint16), _dataset(VOILUTSequence=Sequence([item])))
    assert grey.ravel().tolist() == pytest.approx([0.0, 0.2, 0.4, 1.0], abs=1e-6)


def test_eight_bits_without_window_are_taken_as_they_are() -> None:
    grey = to_grey(np.array([[10, 200]], dtype=np.uint8), _dataset(BitsStored=8, BitsAllocated=8))
    assert grey.ravel().tolist() == pytest.approx([10 / 255, 200 / 255], abs=1e-6)


def test_padding_does_not_stretch_the_scale() -> None:
    stored = np.full((100, 100), 500, dtype=np.uint16)
    stored[50:, :] = np.linspace(1000, 2000, 5000, dtype=np.uint16).reshape(50, 100)
    stored[:20, :] = 4095
    grey = to_grey(stored, _dataset(PixelPaddingValue=4095))
    assert float(grey[-1, -1]) == pytest.approx(1.0, abs=0.01)
    assert float(grey[30, 0]) == 0.0
