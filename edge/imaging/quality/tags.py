"""What the tags leave out or contradict themselves in, as far as it misleads whoever looks at the image.

A chest is not a paired body part: it has no Laterality, so its absence is right and its presence is the oddity
(PS3.3 C.7.3.1, C.8.11.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from edge.imaging.quality.codes import OTHER_FAILURE, finding
from edge.records import Header, Level, QualityFinding

_FRONTAL = ("AP", "PA")


def by_tags(header: Header) -> Iterator[QualityFinding]:
    """Nothing for a picture, which has no tags to leave out."""
    if header.sop_class_uid is None:
        return
    if not header.view:
        yield finding(
            "view_missing", Level.INFO, OTHER_FAILURE, "The view (AP or PA) is not stated: choose it at the modality."
        )
    if not header.body_part:
        yield finding(
            "body_part_missing", Level.INFO, OTHER_FAILURE, "The body part is not stated: choose it at the modality."
        )
    if header.laterality in ("L", "R"):
        yield finding(
            "laterality_of_chest",
            Level.INFO,
            OTHER_FAILURE,
            "The tags name one side, but a chest has none: check that the protocol chosen was that of the chest.",
        )
    along_row = (header.patient_orientation or "")[:1]
    if (header.view or "").upper() in _FRONTAL and along_row in ("A", "P"):
        yield finding(
            "view_contradicted",
            Level.WARN,
            OTHER_FAILURE,
            "The tags state a front view, and an orientation that is a side view's: correct them at the modality.",
        )
