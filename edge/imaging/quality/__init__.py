"""What the technician should know about the image itself. The box warns; a person decides."""

from edge.imaging.quality.checks import check_quality
from edge.imaging.quality.recent import NOTHING_YET, Recent

__all__ = ["NOTHING_YET", "Recent", "check_quality"]
