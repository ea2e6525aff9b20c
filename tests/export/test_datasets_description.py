from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from export.datasets import data_section
from export.document import markdown, page
from export.recipe import Recipe, read_recipe
from tests.conftest import ROOT
from tests.export.dataset_files import FINDING, STRUCTURE, data, load, rewrite, write_masks

__all__ = ["data"]


@pytest.fixture
def recipe() -> Recipe:
    shipped = read_recipe(ROOT / "models/cxr-pneumonia-paediatric/recipe.yaml")
    return msgspec.structs.replace(shipped, findings=(FINDING,))


def test_classes_and_known_facts_are_counted_by_split(data: Path, recipe: Recipe) -> None:
    rewrite(data, lambda n, line: line.update(view="AP" if n % 4 >= 2 else "PA", age="5" if n < 8 else "80"))
    loaded = load(data)
    text = markdown("report", [data_section(loaded, recipe)])
    assert "| train | 40 | 20 | 20 (50.0%) |" in text
    assert "| train | AP | 0 (0.0%) | 20 (100.0%) |" in text
    assert "| train | PA | 20 (100.0%) | 0 (0.0%) |" in text
    bands = re.findall(r"\| \w+ \| (\d+ to below \d+) \| (\d+) \([\d.]+%\) \| (\d+) ", text)
    assert {band for band, _, _ in bands} == {"01 to below 6", "65 to below 200"}
    assert sum(int(a) + int(b) for _, a, b in bands) == 80
    assert "| Sex" not in text
    assert "PNEUMONIA" not in text


def test_the_notes_tell_what_the_shares_hide(data: Path, recipe: Recipe) -> None:
    picture = (data / "0.png").read_bytes()
    (data / "1.png").write_bytes(picture)
    rewrite(data, lambda n, line: line.update(path=f"{n}.png", patient_id=f"p{n // 2}"))
    write_masks(data)
    of_lungs = msgspec.structs.replace(recipe, task="segmentation", familiarity=None, findings=(), structure=STRUCTURE)
    text = markdown("report", [data_section(load(data, findings=[], structure=STRUCTURE), of_lungs)])
    assert "- Left out: 1 of 80 images" in text
    assert "With the pixels of another image, and in its split: 1 of 80" in text


def test_pictures_are_in_the_page_and_nothing_is_fetched(data: Path, recipe: Recipe) -> None:
    loaded = load(data)
    made = page("report", [data_section(loaded, recipe)])
    assert made == page("report", [data_section(loaded, recipe)])
    sheet = re.search(r'<img [^>]*src="data:image/png;base64,([^"]+)"', made)
    assert sheet is not None
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(sheet[1]), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    assert pixels.shape == (2 * 112, 12 * 112)
    first = loaded.pixels[next(i for i in loaded.indices("train") if loaded.targets[i, 0] == 0)]
    assert np.array_equal(pixels[:112, :112], cv2.resize(first, (112, 112), interpolation=cv2.INTER_AREA))
    assert "without Pneumonia" in made
    assert not re.search(r'(src|href)="(?!data:|#)', made)


def test_a_segmentation_shows_what_is_inside_and_outside(data: Path, recipe: Recipe) -> None:
    write_masks(data)
    of_lungs = msgspec.structs.replace(recipe, task="segmentation", familiarity=None, findings=(), structure=STRUCTURE)
    made = page("report", [data_section(load(data, findings=[], structure=STRUCTURE), of_lungs)])
    assert "inside of Lung" in made
    assert "outside of Lung" in made
