"""Claim: a quality check warns on at most 3 % of good radiographs, and on at least 95 % of grossly spoiled ones.

`python -m benchmarks.quality [IMAGES]`: prints the tables of edge/imaging/quality/README.md, on the half of patients
that no limit was set on. Each image is beside itself spoiled. IMAGES of children and as many of adults are spoiled
(default 300); all of the half, up to four times as many, are looked at as they are. Needs the radiographs in ../shared.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.report import heading, spread
from edge.config import Quality
from edge.imaging.quality import NOTHING_YET, Recent, check_quality
from edge.imaging.quality.reduced import reduced
from edge.imaging.quality.sharpness import sharpness
from edge.inference.lungs import usable
from edge.inference.models import Segmentation
from edge.records import Header, Image
from export.quality_images import (
    ADULTS,
    CHILDREN,
    SETS,
    SIDES,
    Grey,
    Radiograph,
    cut,
    outline,
    outliner,
    radiographs,
    shifted,
    tilted,
    touches,
)

DATA = Path(__file__).resolve().parents[2] / "shared/data"
IMAGES, ROUNDS = 300, 200
LIMITS = Quality()
_Spoil = Callable[[Radiograph, int], Grey | None]


def _cut_side(image: Radiograph, number: int, sides: Sequence[str]) -> Grey | None:
    lungs = image.lungs
    return None if lungs is None or not lungs.any() else cut(image.pixels, lungs, sides[number % len(sides)], 0.25)


def _squeezed(pixels: Grey, across: float, down: float) -> Grey:
    size = (max(1, round(pixels.shape[1] * across)), max(1, round(pixels.shape[0] * down)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _half_squeezed(image: Radiograph, number: int) -> Grey:
    """One half of the chest narrower by two fifths, as when the patient is turned."""
    pixels = image.pixels[:, :: 1 if number % 2 else -1]
    half = pixels.shape[1] // 2
    return np.hstack([_squeezed(pixels[:, :half], 0.6, 1.0), pixels[:, half:]])


def _smeared(pixels: Grey, length: int) -> Grey:
    """Moved along the rows during the exposure, by `length` pixels of the short side's 256."""
    long = max(3, round(length * min(pixels.shape) / 256))
    return np.asarray(cv2.blur(pixels, (long, 1)), dtype=np.float32)


def _noisy(pixels: Grey, share: float, number: int) -> Grey:
    noise = np.random.default_rng(number).normal(0, share, pixels.shape)
    return np.clip(pixels + noise, 0, 1).astype(np.float32)


def _with_metal(image: Radiograph, number: int) -> Grey:
    """A disc, or a chain round the neck, drawn near white."""
    pixels, drawn = image.pixels.copy(), np.random.default_rng(number)
    rows, columns = pixels.shape
    unit = min(rows, columns) / 256
    if number % 2:
        middle = (int(columns * drawn.uniform(0.3, 0.7)), int(rows * drawn.uniform(0.3, 0.6)))
        cv2.circle(pixels, middle, round(7 * unit), (0.97,), -1, cv2.LINE_AA)
    else:
        size = (int(columns * 0.18), int(rows * 0.25))
        cv2.ellipse(pixels, (columns // 2, rows // 10), size, 0, 10, 170, (0.97,), max(1, round(3 * unit)), cv2.LINE_AA)
    return pixels


SPOILED: tuple[tuple[str, str, _Spoil], ...] = (
    ("inverted_greys", "black and white exchanged", lambda image, _: 1 - image.pixels),
    ("upside_down", "upside down, turned or flipped", lambda image, n: image.pixels[::-1, :: 1 if n % 2 else -1]),
    ("sideways", "turned by 90 degrees, either way", lambda image, n: np.rot90(image.pixels, 1 if n % 2 else 3)),
    ("mirrored", "mirrored", lambda image, _: image.pixels[:, ::-1]),
    ("lung_cut_off", "a quarter of the lungs cut off, any side", lambda image, n: _cut_side(image, n, SIDES)),
    ("lung_cut_off", "at the top", lambda image, n: _cut_side(image, n, SIDES[:1])),
    ("lung_cut_off", "at the bottom", lambda image, n: _cut_side(image, n, SIDES[1:2])),
    ("lung_cut_off", "shifted by a third, black behind", lambda image, n: shifted(image.pixels, SIDES[n % 4], 1 / 3)),
    ("tilted", "rotated by 20 degrees", lambda image, n: tilted(image.pixels, 20 if n % 2 else -20, black=n % 4 < 2)),
    ("tilted", "rotated by 30 degrees", lambda image, n: tilted(image.pixels, 30 if n % 2 else -30, black=n % 4 < 2)),
    ("turned", "half the chest 40 % narrower", _half_squeezed),
    ("inspiration", "half as high", lambda image, _: _squeezed(image.pixels, 1.0, 0.5)),
    (
        "blurred",
        "Gaussian blur, 2 of 256 pixels",
        lambda image, _: cv2.GaussianBlur(image.pixels, (0, 0), 2 * min(image.pixels.shape) / 256),
    ),
    ("blurred", "smeared over 7 of 256 pixels", lambda image, _: _smeared(image.pixels, 7)),
    ("noisy_image", "noise of 3 % of the grey scale", lambda image, n: _noisy(image.pixels, 0.03, n)),
    ("noisy_image", "noise of 6 %", lambda image, n: _noisy(image.pixels, 0.06, n)),
    ("clipped_greys", "1.6 times as bright (over-exposed)", lambda image, _: np.minimum(image.pixels * 1.6, 1)),
    ("clipped_greys", "darker by 0.35 (detail lost in black)", lambda image, _: np.maximum(image.pixels - 0.35, 0)),
    ("dark_image", "0.4 times as bright (under-exposed)", lambda image, _: image.pixels * 0.4),
    ("foreign_object", "a metal disc or chain drawn in", _with_metal),
    ("nearly_empty", "a fiftieth of its contrast", lambda image, _: image.pixels * 0.02 + 0.3),
)


def main(images: int = IMAGES) -> None:
    """Measure and print."""
    model = outliner()
    held_back = {name: _measured(name, 4 * images) for name in SETS}
    groups = {
        "children": [*held_back[CHILDREN], *held_back["cxr_kermany_aspect"], *held_back["cxr_full_size"]],
        "adults": held_back[ADULTS],
    }
    heading(f"Quality checks on the other half of the patients, {_counts(groups)}; {images} of each spoiled")
    alarms = {name: _alarms(group, model) for name, group in groups.items()}
    hits = {name: _hits(held_back[of][:images], model) for name, of in (("children", CHILDREN), ("adults", ADULTS))}
    print("\n| check | warns on good children | on good adults | spoiled how | children | adults |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number, (check, how, _) in enumerate(SPOILED):
        shown = [_rate(*alarms[name][check]) for name in groups]
        found = [_rate(*hits[name][number]) for name in groups]
        print(f"| `{check}` | {' | '.join(shown)} | {how} | {' | '.join(found)} |")
    _print_stored(groups, model)
    _print_time()


def image_of(pixels: Grey, header: Header) -> Image:
    """A whole image of these grey values."""
    return Image(pixels=pixels, rows=pixels.shape[0], columns=pixels.shape[1], header=header)


def _measured(name: str, most: int) -> list[Radiograph]:
    return [each for each in radiographs(DATA, name, 2 * most) if not each.tuning][:most]


def _found(pixels: Grey, model: Segmentation, recent: Recent = NOTHING_YET) -> set[str]:
    """The checks that found something, with the outline that the box would have."""
    pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    lungs = usable(outline(model, pixels)[np.newaxis])
    image = image_of(pixels, Header(device="one"))
    return {found.check for found in check_quality(image, lungs, limits=LIMITS, recent=recent)[0]}


def _alarms(group: Sequence[Radiograph], model: Segmentation) -> dict[str, tuple[int, int]]:
    """By check: warnings and images, those left out that are known to deserve the warning."""
    good = [image for image in group if not image.stored]
    counted: Counter[str] = Counter()
    cut_off, before = 0, _before(good)
    for image in good:
        found = _found(image.pixels, model, before)
        if image.lungs is not None and touches(image.lungs):
            cut_off += 1
            found.discard("lung_cut_off")
        counted.update(found)
    return {check: (counted[check], len(good) - (cut_off if check == "lung_cut_off" else 0)) for check, _, _ in SPOILED}


def _hits(group: Sequence[Radiograph], model: Segmentation) -> list[tuple[int, int]]:
    """By row of `SPOILED`: warnings and images."""
    found, before = [[0, 0] for _ in SPOILED], _before(group)
    for number, image in enumerate(image for image in group if not image.stored):
        known = image if image.lungs is not None else _outlined(image, model)
        for row, (check, _, spoil) in enumerate(SPOILED):
            pixels = spoil(known, number)
            if pixels is not None:
                found[row][0] += check in _found(pixels, model, before)
                found[row][1] += 1
    return [(warned, images) for warned, images in found]


def _outlined(image: Radiograph, model: Segmentation) -> Radiograph:
    """With lungs by the model, where no human drew them."""
    lungs = outline(model, image.pixels) >= 0.5
    return Radiograph(name=image.name, pixels=image.pixels, tuning=image.tuning, lungs=lungs)


def _before(group: Sequence[Radiograph]) -> Recent:
    """What the box would remember after the first fifty of these images: how sharp they were."""
    return Recent(sharpness={"one": tuple(sharpness(reduced(image.pixels)) for image in group[:50])})


def _print_stored(groups: dict[str, list[Radiograph]], model: Segmentation) -> None:
    """The images that lie wrong as they were published: no synthetic ones."""
    for check in ("sideways", "upside_down", "inverted_greys"):
        odd = [image for group in groups.values() for image in group if image.stored == check]
        print(f"published {check}: {sum(check in _found(image.pixels, model) for image in odd)} of {len(odd)} found")


def _print_time() -> None:
    """Milliseconds for one image of 512 pixels on one core, all checks together."""
    cv2.setNumThreads(1)
    drawn = np.random.default_rng(0)
    pixels = np.asarray(cv2.GaussianBlur(drawn.random((512, 620)), (0, 0), 5), dtype=np.float32)
    lungs = np.zeros((224, 224), dtype=np.float32)
    lungs[40:180, 30:95] = lungs[40:180, 125:190] = 1
    times = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        check_quality(image_of(pixels, Header()), lungs, limits=LIMITS, recent=NOTHING_YET)
        times.append((time.thread_time() - start) * 1000)
    print(f"all checks, {pixels.shape[0]} x {pixels.shape[1]} pixels, processor time: {spread(times)}")


def _rate(warned: int, images: int) -> str:
    return f"{warned} of {images} ({warned / max(1, images):.1%})"


def _counts(groups: dict[str, list[Radiograph]]) -> str:
    return ", ".join(f"{len(group)} {name}" for name, group in groups.items())


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
