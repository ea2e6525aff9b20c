"""Which transfer syntax carries which grey values: every combination written, decoded and compared.

`python -m tests.imaging.matrix` writes the table into edge/imaging/README.md; a test holds the README to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.reader import Source
from edge.imaging.resample import Size
from edge.imaging.transfer_syntaxes import DECODED_SYNTAXES
from tests.imaging.files import dicom, picture

README = Path(__file__).parents[2] / "edge/imaging/README.md"
START, END = "<!-- matrix: python -m tests.imaging.matrix -->\n", "<!-- end of matrix -->\n"
NAMES = {
    "1": "explicit little endian", "": "implicit little endian", "2": "explicit big endian", "1.99": "deflated",
    "5": "RLE", "4.50": "JPEG baseline", "4.51": "JPEG extended", "4.53": "JPEG spectral selection (retired)",
    "4.55": "JPEG full progression (retired)", "4.57": "JPEG lossless", "4.70": "JPEG lossless SV1",
    "4.80": "JPEG-LS lossless", "4.81": "JPEG-LS near-lossless", "4.90": "JPEG 2000 lossless", "4.91": "JPEG 2000",
    "4.201": "HTJ2K lossless", "4.202": "HTJ2K lossless RPCL", "4.203": "HTJ2K", "4.110": "JPEG XL lossless",
    "4.111": "JPEG XL JPEG recompression", "4.112": "JPEG XL",
}  # fmt: skip
LOSSY = ("4.50", "4.51", "4.53", "4.55", "4.81", "4.91", "4.203", "4.111", "4.112")
DEPTHS = (8, 10, 12, 14, 16, -8, -12, -16)
"""Bits stored; negative: signed."""
COLOURS = {
    "RGB": (8, 16), "YBR_FULL": (8,), "YBR_FULL_422": (8,), "YBR_RCT": (8,), "YBR_ICT": (8,), "PALETTE COLOR": (8, 16),
}  # fmt: skip
WHOLE_BYTES = ("4.80", "4.81", "4.201", "4.202", "4.203", "4.110", "4.111", "4.112")
"""Our coders of these know 8 and 16 bits only."""
_JPEG = {"4.50": (8,), "4.51": (8, 12), "4.53": (8,), "4.55": (8,)}
_CODED = {
    "YBR_FULL": ("1", "", "2", "1.99", "5"), "YBR_FULL_422": ("1", "", "1.99", "4.50", "4.51"),
    "YBR_RCT": ("4.90", "4.201", "4.202"), "YBR_ICT": ("4.91", "4.203"),
    "PALETTE COLOR": ("1", "", "2", "1.99", "5", "4.57", "4.70", "4.80", "4.90", "4.201", "4.202"),
}  # fmt: skip


def error(short: str, photometric: str, depth: int) -> float | None:
    """The largest difference of grey values between what was written and what is read; None: no such file exists.

    Reduced by its codec, a grey picture differs from the mean of the whole one by at most a seventh
    at its steepest (a low-pass band sits half a pixel aside), or it counts.
    """
    syntax = "1.2.840.10008.1.2" + (f".{short}" if short else "")
    if not _exists(short, photometric, depth):
        return None
    made = _colour(short, photometric, depth) if photometric in COLOURS else _grey(photometric, depth)
    stored, expected, elements = made
    source = Source(dicom(stored, bits=abs(depth), photometric=photometric, syntax=syntax, **elements))
    source.check()
    read = source.image(source.decode()).pixels
    reduced = source.image(source.decode(Size(20, 20))).pixels
    means = cv2.resize(expected, reduced.shape[::-1], interpolation=cv2.INTER_AREA)
    off = float(np.abs(reduced - means).max())
    return max(float(np.abs(read - expected).max()), 0.0 if off < 0.15 else off)


def tolerance(short: str, photometric: str, depth: int) -> float:
    """Rounding for what is lossless; a few grey levels of 256 for the rest."""
    if short in LOSSY or photometric.startswith("YBR"):
        return 0.04
    return 1.01 / ((1 << min(abs(depth), 12)) - 1)


def table() -> str:
    """The matrix as Markdown."""
    columns = ("MONOCHROME1", "MONOCHROME2", *COLOURS)
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for syntax in DECODED_SYNTAXES:
        short = syntax.removeprefix("1.2.840.10008.1.2").removeprefix(".")
        cells = []
        for photometric in columns:
            depths = COLOURS.get(photometric, DEPTHS)
            right = [depth for depth in depths if _is_right(short, photometric, depth)]
            cells.append(" ".join(str(depth).replace("-", "±") for depth in right) or "-")
        lines.append(f"| {NAMES[short]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _is_right(short: str, photometric: str, depth: int) -> bool:
    found = error(short, photometric, depth)
    return found is not None and found <= tolerance(short, photometric, depth)


def _exists(short: str, photometric: str, depth: int) -> bool:
    """What the standard allows (PS3.5 8.2) and a coder at hand writes."""
    if photometric in _CODED and short not in _CODED[photometric]:
        return False
    if short in _JPEG:
        return photometric == "YBR_FULL_422" or (photometric.startswith("MONO") and depth in _JPEG[short])
    if depth < 0 and (short in LOSSY or short == "4.110"):
        return False
    if short == "4.111" and depth != 8:
        return False
    return not (short in WHOLE_BYTES and abs(depth) not in (8, 16))


def _grey(photometric: str, depth: int) -> tuple[NDArray[Any], NDArray[np.float32], dict[str, Any]]:
    bits, signed = abs(depth), depth < 0
    wide = picture() * ((1 << bits) - 1)
    kind = f"{'i' if signed else 'u'}{1 if bits == 8 else 2}"
    lowest = -(1 << (bits - 1)) if signed else 0
    stored = (np.round(wide) + lowest).astype(kind)
    grey = ((stored.astype(np.float32) - lowest) / ((1 << bits) - 1)).astype(np.float32)
    window = {"WindowCenter": lowest + (1 << (bits - 1)), "WindowWidth": 1 << bits}
    return stored, 1 - grey if photometric == "MONOCHROME1" else grey, window


def _colour(short: str, photometric: str, bits: int) -> tuple[NDArray[Any], NDArray[np.float32], dict[str, Any]]:
    """Red, green and blue of different pictures, and their luminance."""
    base, kind = picture(96, 130), np.uint8 if bits == 8 else np.uint16
    if photometric == "PALETTE COLOR":
        return _palette(base, bits)
    colours = np.stack([base, base[::-1] * 0.8, base[:, ::-1] * 0.6], axis=2)
    stored = np.round(colours * ((1 << bits) - 1)).astype(kind)
    grey = cv2.cvtColor((stored.astype(np.float32) / np.float32((1 << bits) - 1)), cv2.COLOR_RGB2GRAY)
    if photometric in ("YBR_FULL", "YBR_FULL_422") and short not in ("4.50", "4.51"):
        stored = cv2.cvtColor(stored, cv2.COLOR_RGB2YCrCb)[:, :, [0, 2, 1]]
    return stored, grey, {}


def _palette(base: NDArray[np.float32], bits: int) -> tuple[NDArray[Any], NDArray[np.float32], dict[str, Any]]:
    """256 entries that run downwards, so that indices taken for greys are seen."""
    entries = np.linspace(65535, 0, 256).astype("<u2")
    stored = np.round(base * 255).astype(np.uint8 if bits == 8 else np.uint16)
    elements: dict[str, Any] = {}
    for name in ("Red", "Green", "Blue"):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    return stored, (entries[stored] / 65535).astype(np.float32), elements


def main() -> None:
    """Write the table into the README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    README.write_text(before + START + table() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
