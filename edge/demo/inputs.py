"""What the demo sends: synthetic radiographs that show each kind of answer, or the user's own files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file, wrap

DETECTOR = (2048, 2500)
OWN_AGE = "003Y"
_PICTURES = {".png", ".jpg", ".jpeg"}


def synthetic_files(folder: Path) -> list[Path]:
    """Write the demo's DICOM files: both kinds in several transfer syntaxes, and images that must not be analysed."""
    folder.mkdir(parents=True)
    paths = []
    for number, data in enumerate(_synthetic(), start=1):
        path = folder / f"synthetic-{number:02}.dcm"
        path.write_bytes(data)
        paths.append(path)
    return paths


def own_files(source: Path, folder: Path) -> list[Path]:
    """The user's DICOM files as they are, and their pictures wrapped as DX of a child of three years."""
    if not source.is_dir():
        return []
    folder.mkdir(parents=True)
    paths = []
    for number, path in enumerate(sorted(inside for inside in source.rglob("*") if inside.is_file()), start=1):
        target = folder / f"own-{number:04}.dcm"
        if path.suffix.lower() in _PICTURES:
            grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
            if grey is None:
                continue
            target.write_bytes(wrap(np.asarray(grey), seed=number, age=OWN_AGE))
        elif _is_dicom(path):
            shutil.copyfile(path, target)
        else:
            continue
        paths.append(target)
    return paths


def _synthetic() -> Iterator[bytes]:
    syntaxes = (
        "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
        "1.2.840.10008.1.2.4.70",  # JPEG Lossless SV1
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
        "1.2.840.10008.1.2.5",  # RLE Lossless
    )
    for seed, syntax in enumerate(syntaxes):
        for kind in Kind:
            yield dx_file(radiograph(kind, seed, *DETECTOR), seed=seed, transfer_syntax=syntax)
    yield dx_file(radiograph(Kind.CLEAR, 90, *DETECTOR), seed=90, age="010Y")
    yield dx_file(radiograph(Kind.CLEAR, 91, *DETECTOR), seed=91, view_position="LL")


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
