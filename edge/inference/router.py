"""Which model may see an image: pure rules over its tags. The tags are a hint; what they rule out stays out."""

from __future__ import annotations

from collections.abc import Sequence

from edge.inference.bundle import Accepts
from edge.records import Header, Reason

_LATERAL_VIEWS = {"LL", "RL", "LATERAL", "LAT", "LLD", "RLD"}


def route(header: Header, models: Sequence[Accepts]) -> int | Reason:
    """The number of the first model that accepts the image, or the reason why none does.

    With several models, the reason is that of the one whose rules the image satisfied furthest.
    """
    furthest, answer = -1, Reason.UNSUPPORTED_MODALITY
    for number, accepts in enumerate(models):
        rules_met, reason = _judge(header, accepts)
        if reason is None:
            return number
        if rules_met > furthest:
            furthest, answer = rules_met, reason
    return answer


def _judge(header: Header, accepts: Accepts) -> tuple[int, Reason | None]:
    """How many rules the image meets before it breaks one, and that one's reason."""
    rules = (
        (header.quality_control, Reason.QUALITY_CONTROL_IMAGE),
        (header.modality not in accepts.modalities, Reason.UNSUPPORTED_MODALITY),
        (header.presentation_intent == "FOR PROCESSING", Reason.FOR_PROCESSING),
        (header.frames > 1, Reason.MULTIPLE_FRAMES),
        (_says_other(header.body_part, accepts.body_parts), Reason.NOT_A_FRONTAL_CHEST),
        ((header.view or "").upper() in _LATERAL_VIEWS, Reason.LATERAL_VIEW),
        (_says_other(header.view, accepts.views), Reason.NOT_A_FRONTAL_CHEST),
        (header.age_years is None, Reason.AGE_UNKNOWN),
        ((header.age_years or 0.0) < accepts.age_years[0], Reason.UNDER_AGE),
        ((header.age_years or 0.0) >= accepts.age_years[1], Reason.OVER_AGE),
    )
    for number, (broken, reason) in enumerate(rules):
        if broken:
            return number, reason
    return len(rules), None


def _says_other(stated: str | None, accepted: Sequence[str]) -> bool:
    return bool(stated) and str(stated).upper() not in accepted
