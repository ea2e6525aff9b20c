"""The standard's grey scale formulas against values worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence

from edge.imaging import grayscale
from edge.imaging.decode import Stored
from edge.imaging.grayscale import window
from edge.imaging.refusal import Refusal
from edge.records import Reason


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


def to_grey(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.float32]:
    return grayscale.to_grey(Stored(stored, stored.shape[0], stored.shape[1]), dataset)


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


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("US", [0, 51, 102, 255]),
        ("OW", np.array([0, 51, 102, 255], "<u2").tobytes()),
        ("OW", bytes([0, 51, 102, 255])),
        ("UN", np.array([0, 51, 102, 255], "<u2").tobytes()),
    ],
    ids=["numbers", "words", "packed bytes", "too long for US"],
)
def test_voi_lut_sequence(kind: str, data: object) -> None:
    item = Dataset()
    item.add_new(0x00283002, "US", [4, 1000, 8])
    item.add_new(0x00283006, kind, data)
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


def test_the_modality_table_comes_first() -> None:
    item = Dataset()
    item.add_new(0x00283002, "US", [3, 10, 16])
    item.add_new(0x00283006, "US", [100, 300, 200])
    dataset = _dataset(
        ModalityLUTSequence=Sequence([item]), WindowCenter=200, WindowWidth=200, VOILUTFunction="LINEAR_EXACT"
    )
    grey = to_grey(np.array([[0, 10], [11, 99]], dtype=np.uint16), dataset)
    assert grey.ravel().tolist() == pytest.approx([0.0, 0.0, 1.0, 0.5], abs=1e-6)


def test_a_table_of_signed_inputs_begins_below_zero() -> None:
    item = Dataset()
    item.add_new(0x00283002, "US", [3, 65535, 16])  # -1 written as US
    item.add_new(0x00283006, "US", [0, 65535, 0])
    grey = to_grey(
        np.array([[-1, 0, 1]], dtype=np.int16), _dataset(PixelRepresentation=1, VOILUTSequence=Sequence([item]))
    )
    assert grey.ravel().tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("data", [[0, 51], []])
def test_a_table_shorter_than_it_says_is_refused(data: list[int]) -> None:
    item = Dataset()
    item.add_new(0x00283002, "US", [4, 1000, 8])
    item.add_new(0x00283006, "US", data)
    with pytest.raises(Refusal) as refused:
        to_grey(STORED, _dataset(VOILUTSequence=Sequence([item])))
    assert refused.value.reason is Reason.UNDECODABLE


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 30000, "WindowWidth": 10},
        {"WindowCenter": -5000, "WindowWidth": 10},
        {"WindowCenter": "", "WindowWidth": ""},
    ],
)
def test_a_window_beside_every_value_says_nothing(elements: dict[str, object]) -> None:
    """Peers show such an image black."""
    grey = to_grey(STORED, _dataset(**elements))
    assert grey.ravel().tolist() == pytest.approx([0.0, 0.24, 0.49, 1.0], abs=0.02)


def test_the_first_of_several_windows_counts() -> None:
    one = to_grey(STORED, _dataset(WindowCenter=1000, WindowWidth=2000))
    several = to_grey(STORED, _dataset(WindowCenter=[1000, 40], WindowWidth=[2000, 80]))
    assert np.array_equal(one, several)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black(photometric: str) -> None:
    dataset = _dataset(
        WindowCenter=2048, WindowWidth=4096, PhotometricInterpretation=photometric, PixelPaddingValue=2000
    )
    grey = to_grey(STORED, dataset)
    assert float(grey[1, 0]) == 0.0
    assert 0.2 < float(grey[0, 1]) < 0.8


def test_seven_bits_use_the_whole_scale() -> None:
    grey = to_grey(np.array([[0, 127]], dtype=np.uint8), _dataset(BitsStored=7, BitsAllocated=8))
    assert grey.ravel().tolist() == [0.0, 1.0]


def test_float_values_are_spanned() -> None:
    stored = np.linspace(-1.0, 3.0, 10000, dtype=np.float32).reshape(100, 100)
    grey = to_grey(stored, _dataset(BitsStored=32, BitsAllocated=32))
    assert float(grey.min()) == 0.0
    assert float(grey[50, 50]) == pytest.approx(0.5, abs=0.01)


def test_a_slope_that_overflows_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        to_grey(STORED, _dataset(RescaleSlope="1e308"))
    assert refused.value.reason is Reason.UNDECODABLE


def test_a_window_that_gives_no_numbers_is_left_out() -> None:
    absurd = _dataset(WindowCenter="-1e308", WindowWidth="1e308", RescaleIntercept="1e308")
    grey = to_grey(STORED, absurd)
    assert np.isfinite(grey).all()
