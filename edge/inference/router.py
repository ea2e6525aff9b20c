"""Which model may see an image: pure rules over its tags. The tags are a hint; what they rule out stays out.

What is said twice, as a word and as a code, counts twice: one that says something else is enough to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge.inference.bundle import Accepts
from edge.records import Header, Reason

_LATERAL_VIEWS = {"LL", "RL", "LATERAL", "LAT", "LLD", "RLD", "LEFT LATERAL", "RIGHT LATERAL"}
_ONE_SIDE = {"L", "R"}


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
    parts, views = _stated(header.body_part, header.region), _stated(header.view, header.projection)
    age = header.age_years
    rules = (
        (header.quality_control, Reason.QUALITY_CONTROL_IMAGE),
        (header.made_by_software, Reason.UNSUPPORTED_MODALITY),  # our own pictures too: no answer about an answer
        (_stated(header.modality).isdisjoint(accepts.modalities), Reason.UNSUPPORTED_MODALITY),
        ("FOR PROCESSING" in _stated(header.presentation_intent), Reason.FOR_PROCESSING),
        (header.frames > 1, Reason.MULTIPLE_FRAMES),
        (not parts <= set(accepts.body_parts), Reason.NOT_A_FRONTAL_CHEST),
        (bool(views & _LATERAL_VIEWS), Reason.LATERAL_VIEW),
        (not views and _seen_from_the_side(header.patient_orientation), Reason.LATERAL_VIEW),
        (not views <= set(accepts.views), Reason.NOT_A_FRONTAL_CHEST),
        # A side belongs to a paired part: where no part is named, it says that this is none of the trunk.
        (not parts and bool(_stated(header.laterality) & _ONE_SIDE), Reason.NOT_A_FRONTAL_CHEST),
        (age is None, Reason.AGE_UNKNOWN),
        (age is not None and age < accepts.age_years[0], Reason.UNDER_AGE),
        (age is not None and not age < accepts.age_years[1], Reason.OVER_AGE),
    )
    for number, (broken, reason) in enumerate(rules):
        if broken:
            return number, reason
    return len(rules), None


def _stated(*values: str | None) -> set[str]:
    """What tags say, in capitals; an absent or empty one says nothing."""
    return {value.strip().upper() for value in values if value and value.strip()}


def _seen_from_the_side(orientation: str | None) -> bool:
    """Rows or columns that run between front and back lie in a sagittal or transverse plane (PS3.3 C.7.6.1.1.1)."""
    return any(direction[:1] in ("A", "P") for direction in (orientation or "").split("\\"))
