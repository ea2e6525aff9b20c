"""Decoding no more than is needed moves no score: real radiographs in many codings, reduced beside whole."""

from __future__ import annotations

import csv
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import Dataset
from pydicom.sequence import Sequence

from edge.config import Config
from edge.imaging.codecs import jpeg_2000_reduced
from edge.imaging.codestream import read_jpeg_2000
from edge.imaging.reader import Source
from edge.imaging.resample import PREVIEW_SIDE, Size, halvings, preview_cover
from edge.inference.bundle import find_bundles
from edge.inference.models import Classifier, load_model
from edge.inference.pipeline import analyse
from edge.synthetic.dicom import dx_file
from tests.imaging.files import ENCODERS, dicom, edited, picture

_PREFIX = "1.2.840.10008.1.2"
MOST = 0.005
"""By which a score may move."""
CODINGS = (
    ("1", 12), ("4.90", 12), ("4.91", 10), ("4.50", 8), ("4.201", 16), ("4.70", 14), ("4.80", 16), ("5", 12),
    ("4.90", 8), ("4.51", 12),
)  # fmt: skip


def _voi_lut(bits: int, curve: float) -> Sequence:
    item = Dataset()
    item.add_new(0x00283002, "US", [1 << bits if bits < 16 else 0, 0, bits])
    shown = np.linspace(0, 1, 1 << bits) ** curve * ((1 << bits) - 1)
    item.add_new(0x00283006, "OW", shown.astype("<u2").tobytes())
    return Sequence([item])


def _windows(bits: int) -> dict[str, dict[str, Any]]:
    """Elements by name; parts of the range of `bits`."""
    full = 1 << bits
    wide = {"WindowCenter": full // 2, "WindowWidth": full * 4 // 5}
    return {
        "as sent": {},
        "none": {"WindowCenter": None, "WindowWidth": None},
        "sigmoid": wide | {"VOILUTFunction": "SIGMOID"},
        "exact": wide | {"VOILUTFunction": "LINEAR_EXACT"},
        "narrow": {"WindowCenter": full * 11 // 20, "WindowWidth": full // 4},
        "narrowest": {"WindowCenter": full * 11 // 20, "WindowWidth": full // 15},
        "threshold": {"WindowCenter": full * 11 // 20, "WindowWidth": full // 40},
        "VOI LUT": {"VOILUTSequence": _voi_lut(bits, 1.8)},
    }


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """The shipped one."""
    config = Config()
    folder = next(folder for folder in find_bundles(config.models_folder) if "pneumonia" in str(folder))
    model = load_model(folder, config, tmp_path_factory.mktemp("cache"))
    assert isinstance(model, Classifier)
    return model


def _radiographs(shared: Path) -> list[NDArray[np.float32]]:
    """Some full-size ones, and smaller ones enlarged with grain."""
    grain = np.random.default_rng(0)
    found = []
    for name, enlarged, step in (("cxr_full_size", 1, 3), ("cxr_kermany_aspect", 4, 30)):
        with (shared / "data" / name / "labels.csv").open(newline="", encoding="utf-8") as file:
            paths = [shared / "data" / name / row["path"] for row in csv.DictReader(file)][::step]
        for path in paths:
            grey = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.float32) / np.float32(255)
            size = (grey.shape[1] * enlarged, grey.shape[0] * enlarged)
            large = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC) if enlarged > 1 else grey
            noise = grain.normal(0, 0.004 * enlarged, large.shape).astype(np.float32)
            found.append(np.clip(large * 0.8 + 0.1 + noise, 0, 1))
    return found


def test_scores_move_by_less_than_the_limit(
    shared: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every coding, every other window each, on another radiograph: the answer is that of the whole image."""
    radiographs, reduced = _radiographs(shared), 0
    for number, (short, bits) in enumerate(CODINGS):
        photometric = f"MONOCHROME{1 + number % 2}"
        radiograph = radiographs[number % len(radiographs)]
        syntax = f"{_PREFIX}.{short}"
        sent = dx_file(radiograph, seed=number, transfer_syntax=syntax, bits_stored=bits, photometric=photometric)
        for name, elements in list(_windows(bits).items())[number % 2 :: 2]:
            data = edited(sent, **elements)
            small = analyse(data, [classifier], source="reduced")
            with monkeypatch.context() as patched:
                patched.setattr("edge.inference.pipeline.cover_of", lambda *_: None)
                whole = analyse(data, [classifier], source="whole")
            assert small.image is not None
            assert (small.image.rows, small.image.columns) == radiograph.shape
            reduced += small.image.pixels.shape != radiograph.shape
            assert name != "threshold" or small.image.pixels.shape == radiograph.shape
            assert small.result.reason == whole.result.reason
            for found, expected in zip(small.result.findings, whole.result.findings, strict=True):
                assert abs(found.score - expected.score) < MOST, (short, bits, name)
                assert found.box is None or _near(found.box, expected.box, radiograph.shape)
    assert reduced > len(CODINGS)


def _near(box: tuple[int, ...], expected: tuple[int, ...] | None, shape: tuple[int, ...]) -> bool:
    return expected is not None and max(abs(a - b) for a, b in zip(box, expected, strict=True)) < 0.1 * max(shape)


@pytest.mark.parametrize("shape", [(513, 770), (514, 771), (515, 769), (1001, 1003)])
@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (12, np.uint16), (16, np.uint16), (12, np.int16)])
def test_jpeg_2000_of_any_size_and_depth_is_reduced_as_it_is(
    shape: tuple[int, int], bits: int, kind: type[np.generic]
) -> None:
    """Where the size is no multiple of the reduction, where it is signed, and at the ends of the range: no wraps."""
    lowest = -(1 << (bits - 1)) if np.dtype(kind).kind == "i" else 0
    stored = (np.round(picture(*shape) * ((1 << bits) - 1)) + lowest).astype(kind)
    frame = ENCODERS[f"{_PREFIX}.4.90"](stored, bits)
    for times in (1, 2, 3):
        reduced = jpeg_2000_reduced(frame, read_jpeg_2000(frame), times)
        assert reduced.shape == tuple(-(-side >> times) for side in shape)
        means = cv2.resize(stored.astype(np.float32), reduced.shape[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(reduced - means).max() < 0.1 * (1 << bits)


def test_jpeg_2000_in_tiles_is_reduced() -> None:
    stored = np.round(picture(600, 900) * 255).astype(np.uint8)
    file = BytesIO()
    Pillow.fromarray(stored).save(file, "JPEG2000", tile_size=(256, 256), no_jp2=True, irreversible=False)
    frame = file.getvalue()
    reduced = jpeg_2000_reduced(frame, read_jpeg_2000(frame), 2)
    means = cv2.resize(stored.astype(np.float32), reduced.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(reduced - means).max() < 12


@pytest.mark.parametrize(
    ("elements", "is_reduced"),
    [
        ({}, True),
        ({"VOILUTSequence": _voi_lut(12, 2.0)}, True),
        ({"VOILUTSequence": _voi_lut(16, 0.5)}, True),
        ({"PixelPaddingValue": 0}, False),
        ({"WindowCenter": 2048, "WindowWidth": 200}, False),
        ({"WindowCenter": 4096, "WindowWidth": 400, "RescaleSlope": "0.1"}, True),
    ],
)
def test_what_averaging_would_change_stays_whole(elements: dict[str, Any], is_reduced: bool) -> None:
    stored = np.round(picture(900, 1000) * 4095).astype(np.uint16)
    source = Source(dicom(stored, bits=12, **elements))
    values = source.decode(Size(448, 448)).values
    assert values.shape == ((450, 500) if is_reduced else (900, 1000))


def test_a_table_that_turns_back_stays_whole() -> None:
    item = Dataset()
    item.add_new(0x00283002, "US", [4096, 0, 12])
    item.add_new(0x00283006, "US", [abs(4095 - 2 * value) for value in range(4096)])
    stored = np.round(picture(900, 1000) * 4095).astype(np.uint16)
    source = Source(dicom(stored, bits=12, VOILUTSequence=Sequence([item])))
    assert source.decode(Size(448, 448)).values.shape == (900, 1000)


@pytest.mark.parametrize(
    ("size", "cover", "times"),
    [
        ((2500, 2048), (448, 448), 2),
        ((896, 896), (448, 448), 1),
        ((895, 896), (448, 448), 0),
        ((384, 300), (448, 448), 0),
        ((1, 1), (1, 1), 0),
        ((8, 8), (1, 1), 3),
        ((8, 8), (0, 0), 0),
    ],
)
def test_halvings(size: tuple[int, int], cover: tuple[int, int], times: int) -> None:
    assert halvings(size, cover) == times


@pytest.mark.parametrize(("rows", "columns"), [(2500, 2048), (100, 90), (5000, 10), (1024, 1024)])
def test_the_preview_covers_its_longest_side(rows: int, columns: int) -> None:
    cover = preview_cover(rows, columns)
    assert max(cover) == min(PREVIEW_SIDE, max(rows, columns))
    assert min(cover) >= 1


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_pictures_are_reduced_too(ending: str) -> None:
    grey = np.round(picture(1000, 1300) * 255).astype(np.uint8)
    source = Source(cv2.imencode(ending, grey)[1].tobytes(), modality="DX")
    stored = source.decode(Size(448, 448))
    assert (stored.values.shape, stored.rows, stored.columns) == ((500, 650), 1000, 1300)
    assert source.size() == (1000, 1300)
    means = cv2.resize(source.decode().values, (650, 500), interpolation=cv2.INTER_AREA)
    assert np.abs(stored.values.astype(int) - means).max() <= 6
