"""Whether the image is stored as a chest is looked at: white on black, head up, the patient's right on the left.

Patient Orientation (PS3.3 C.7.6.1.1.1) is believed where it states another orientation; a statement that all is well
is not. The field of view's rotation and flip (0018,7032 and 7034) say what was done to the detector's image, not
whether the result is right, so they are not read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.imaging.quality.codes import IMAGE_PROCESSING, POSITIONING, finding
from edge.imaging.quality.positioning import LUNG_FROM
from edge.imaging.quality.reduced import exposed, grid
from edge.imaging.quality.templates import score, templates, uprightness
from edge.records import Header, Level, QualityFinding

_INVERTED_BY = 1.0
_TURNED_BY = 0.5
_MIRRORED_BY = 1.5
_UPRIGHT, _UPSIDE_DOWN, _SIDEWAYS = (0, 4), (2, 6), (1, 3, 5, 7)
_OUTERMOST = 0.01
_MARGIN = 0.1


def turned(small: NDArray[np.float32], header: Header) -> QualityFinding | None:
    """Black and white exchanged, or the image upside down or sideways.

    Args:
        small: Grey values (rows, columns), the `reduced` copy.
        header: Its Patient Orientation counts where it says so.
    """
    scores = uprightness(grid(exposed(small)))
    upright, upside_down, sideways = (float(scores[list(ways)].max()) for ways in (_UPRIGHT, _UPSIDE_DOWN, _SIDEWAYS))
    if float(scores[len(scores) // 2 :].max()) > float(scores[: len(scores) // 2].max()) + _INVERTED_BY:
        return finding(
            "inverted_greys",
            Level.WARN,
            IMAGE_PROCESSING,
            "Black and white seem to be exchanged: check the image processing before anybody reads this image.",
        )
    stated = _stated(header)
    if stated == "upside_down" or upside_down > max(upright, sideways) + _TURNED_BY:
        return finding(
            "upside_down", Level.WARN, POSITIONING, "The image seems to stand on its head: turn it, and send it again."
        )
    if stated == "sideways" or sideways > max(upright, upside_down) + _TURNED_BY:
        return finding(
            "sideways", Level.WARN, POSITIONING, "The image seems to lie on its side: turn it, and send it again."
        )
    return None


def mirrored(small: NDArray[np.float32], lungs: NDArray[np.float32] | None, header: Header) -> QualityFinding | None:
    """Left and right exchanged: by the tag, or because the heart lies in the right half of the lungs' box.

    Args:
        small: Grey values (rows, columns) of an image that stands upright.
        lungs: Their outline over the whole image, (height, width) of any size.
        header: Its Patient Orientation counts where it says so.
    """
    if _stated(header) != "mirrored":
        if lungs is None:
            return None
        squares, heart_left = grid(around(small, lungs)), templates().heart_left
        if score(heart_left, squares[:, ::-1]) <= score(heart_left, squares) + _MIRRORED_BY:
            return None
    return finding(
        "mirrored",
        Level.WARN,
        POSITIONING,
        "Left and right seem to be exchanged: compare with the side marker, and correct the image if it is mirrored.",
    )


def _stated(header: Header) -> str | None:
    """What Patient Orientation says: where rows run to, then columns; L and F is how a chest is looked at."""
    along_row, _, along_column = (header.patient_orientation or "").partition("\\")
    if along_row[:1] in ("H", "F"):
        return "sideways"
    if along_column[:1] == "H":
        return "upside_down"
    return "mirrored" if (along_row[:1], along_column[:1]) == ("R", "F") else None


def around(small: NDArray[np.float32], lungs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The part of the image that the lungs take up, with a margin; specks beside them do not count."""
    parts = []
    for axis, length in ((1, small.shape[0]), (0, small.shape[1])):
        along = np.cumsum((lungs >= LUNG_FROM).sum(axis=axis))
        first, last = np.searchsorted(along, (_OUTERMOST * along[-1], (1 - _OUTERMOST) * along[-1])) / len(along)
        margin = (last - first) * _MARGIN
        start = int(max(0.0, first - margin) * length)
        parts.append(slice(start, max(start + 1, int(min(1.0, last + margin) * length) + 1)))
    return np.ascontiguousarray(small[parts[0], parts[1]])
