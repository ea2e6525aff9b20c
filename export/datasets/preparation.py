"""Files to pixels: with the device's own decoding and resizing, kept in a cache."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

import edge.imaging
from edge.imaging.reader import Source
from edge.imaging.refusal import Refusal
from edge.imaging.resample import to_model_input
from edge.records import Header
from export.datasets.records import DatasetError
from export.steps import Report

_Item = TypeVar("_Item")
_SECONDS_BETWEEN_LINES = 10.0


class Tags(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself; None for pictures, and for absent tags."""

    patient: str | None
    """Not the Patient ID (0010,0020) but a digest of it: it tells patients apart, and the cache names nobody."""
    view: str | None
    sex: str | None
    age_years: float | None
    rows: int
    columns: int


def read_image(path: Path, side: int) -> NDArray[np.float32]:
    """Reads a radiograph (DICOM, PNG or JPEG) as the device does: float32 [1, 1, side, side] in 0..1.

    Raises:
        DatasetError: The device would refuse the file, or all its pixels are equal or not finite.
    """
    return _read(path, side)[0]


def to_input(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Prepared 8-bit images [N, H, W] as network input: float32 [N, 1, H, W] in 0..1."""
    return pixels[:, np.newaxis].astype(np.float32) / np.float32(255.0)


def content(image: NDArray[np.uint8]) -> str:
    """The same for identical prepared images."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def prepare(
    root: Path, paths: Sequence[str], side: int, cache: Path, report: Report
) -> tuple[NDArray[np.uint8], tuple[Tags, ...]]:
    """The images as u8 [N, side, side] and their tags, in order; kept in ``cache`` until a file or the code changes.

    Raises:
        DatasetError: As `read_image`.
    """
    kept = cache / f"pixels-{_key(root, paths, side)}.npy"
    tags_file = kept.with_suffix(".json")
    if kept.exists() and tags_file.exists():
        return np.load(kept), msgspec.json.decode(tags_file.read_bytes(), type=tuple[Tags, ...])
    pixels = np.empty((len(paths), side, side), dtype=np.uint8)
    tags: list[Tags] = []
    for index, path in enumerate(in_progress(paths, "preparing images", report)):
        image, found = _read(root / path, side)
        pixels[index] = np.rint(image[0, 0] * 255.0)
        tags.append(found)
    write_whole(tags_file, lambda path: path.write_bytes(msgspec.json.encode(tags)))
    write_whole(kept, lambda path: _save(path, pixels))
    return pixels, tuple(tags)


def read_mask(path: Path, side: int, value: int, tags: Tags) -> NDArray[np.uint8]:
    """Reads a mask picture: u8 [side, side], 1 where its grey value is ``value``, resized by nearest neighbour.

    Raises:
        DatasetError: It cannot be read, has another shape than its image (``tags``), or ``value`` nowhere.
    """
    try:
        stored = cv2.imdecode(np.frombuffer(path.read_bytes(), dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error) as error:
        raise DatasetError(f"{path}: the mask cannot be read; restore it or empty its cell") from error
    if stored is None:
        raise DatasetError(f"{path}: the mask is no picture; restore it or empty its cell in the label file")
    if stored.shape != (tags.rows, tags.columns):
        raise DatasetError(
            f"{path}: the mask's shape is {stored.shape}, its image's {(tags.rows, tags.columns)}; a mask has one grey "
            "channel and its image's size: export it again"
        )
    mask = (stored == value).astype(np.uint8)
    if not mask.any():
        raise DatasetError(
            f"{path}: no pixel of the mask is {value}, the structure's mask_value; correct the recipe, or empty the "
            "mask's cell in the label file"
        )
    resized: NDArray[np.uint8] = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
    return resized


def in_progress(
    items: Sequence[_Item], doing: str, report: Report, clock: Callable[[], float] = time.monotonic
) -> Iterator[_Item]:
    """The items one after another, with a line every ten seconds that says how long the rest will take."""
    started = said = clock()
    for done, item in enumerate(items):
        now = clock()
        if now - said >= _SECONDS_BETWEEN_LINES:
            report(f"{doing}: {done} of {len(items)}, {(now - started) / done * (len(items) - done):.0f} s left")
            said = now
        yield item


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file so that it appears at ``path`` only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    write(partial)
    partial.replace(path)


def _read(path: Path, side: int) -> tuple[NDArray[np.float32], Tags]:
    fix = "repair the file or take it out of the data set"
    try:
        source = Source(path.read_bytes())
        grey = source.image(source.decode()).pixels
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; restore it or take it out of the data set") from error
    except Refusal as refusal:
        raise DatasetError(f"{path}: {refusal.reason}: {refusal.detail}; {fix}") from refusal
    if not np.isfinite(grey).all():
        raise DatasetError(f"{path}: some pixels are not finite; an image has numbers only: {fix}")
    if grey.min() == grey.max():
        raise DatasetError(f"{path}: all pixels are equal; an image has contrast: {fix}")
    return to_model_input(grey, side, side), _tags(source.header, grey.shape)


def _tags(header: Header, shape: tuple[int, ...]) -> Tags:
    who = header.patient_id
    return Tags(
        patient=None if who is None else hashlib.sha256(who.encode()).hexdigest()[:16],
        view=header.view,
        sex=header.sex,
        age_years=header.age_years,
        rows=shape[0],
        columns=shape[1],
    )


def _key(root: Path, paths: Sequence[str], side: int) -> str:
    """Names the files as they are now and the code that prepares them."""
    stats = []
    for path in paths:
        try:
            stat = (root / path).stat()
        except OSError as error:
            raise DatasetError(f"{root / path}: {error.strerror}; restore it or take it out of the data set") from error
        stats.append((path, stat.st_size, stat.st_mtime_ns))
    code = [each.read_bytes() for each in sorted(Path(edge.imaging.__path__[0]).glob("*.py"))]
    return hashlib.sha256(msgspec.json.encode((str(root.resolve()), stats, side, code))).hexdigest()[:16]


def _save(path: Path, array: NDArray[np.uint8]) -> None:
    with path.open("wb") as file:
        np.save(file, array)
