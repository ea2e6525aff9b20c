"""The codes of quality findings (PS3.16 CID 6135, Image Quality Findings)."""

from __future__ import annotations

from edge.records import Level, QualityFinding

POSITIONING = "111209"
MOTION_BLUR = "111210"
UNDER_EXPOSED = "111211"
OVER_EXPOSED = "111212"
NO_IMAGE = "111213"
OTHER_ARTIFACT = "111215"
IMAGE_PROCESSING = "111219"
OTHER_FAILURE = "111220"


def finding(check: str, level: Level, code: str, message: str) -> QualityFinding:
    """One finding with a code of this context group."""
    return QualityFinding(check=check, level=level, code=code, scheme="DCM", message=message)
