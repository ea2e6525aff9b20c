"""What is sent to whom in which form, and what an answer means: pure decisions over values."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import NamedTuple

from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from edge.config_reporting import Destination, Reporting
from edge.records import Reason, StoredResult
from edge.reporting.objects import ORU, PR, SC, SEG, SR, UPS
from edge.reporting.workitem import UPS_PUSH

ORU_MESSAGE = "ORU^R01"
"""In the place of a SOP Class."""

CLASS_OF = {
    SC: SecondaryCaptureImageStorage,
    PR: GrayscaleSoftcopyPresentationStateStorage,
    SEG: SegmentationStorage,
    ORU: ORU_MESSAGE,
    UPS: UPS_PUSH,
}
_SR_FORMS = {
    "comprehensive_3d": (Comprehensive3DSRStorage, ComprehensiveSRStorage),
    "comprehensive": (ComprehensiveSRStorage,),
    "none": (),
}
NO_OBJECT_WORDS = "the destination accepts no SOP Class in which it could be sent"
CHANGED_WORDS = "it was sent in a SOP Class that the destination accepts no more"

_NOT_FOR_A_PACS = frozenset({Reason.NOT_DICOM, Reason.NO_PIXELS})


class Answer(Enum):
    """What the status of a C-STORE means (PS3.4 B.2.3, PS3.7 annex C)."""

    STORED = "stored"
    CHANGED = "changed"
    """Stored, but not as it was sent: said loudly."""
    BUSY = "busy"
    """Out of resources: later again."""
    UNSUPPORTED = "unsupported"
    """Not this SOP Class: another form."""
    REFUSED = "refused"
    """It would be refused the next time, too: a person must see to it."""


class Send(NamedTuple):
    """Send this kind of object as this SOP Class."""

    kind: str
    sop_class: str


class Drop(NamedTuple):
    """The destination does without: what takes its place, in words."""

    instead: str


class Park(NamedTuple):
    """A person must see to it: why."""

    reason: str


def judge(status: int) -> Answer:
    """What a C-STORE's answer means for the object."""
    if status in (0x0000, 0xB000, 0xB006, 0x0111, 0x0107, 0x0116):  # a duplicate is there; coerced, elements discarded
        return Answer.STORED
    if status == 0xB007:
        return Answer.CHANGED
    if 0xA700 <= status <= 0xA7FF or status == 0x0110:
        return Answer.BUSY
    if status == 0x0122:
        return Answer.UNSUPPORTED
    return Answer.REFUSED


def kinds_of(destination: Destination) -> tuple[str, ...]:
    """The kinds of objects that a destination is to have."""
    if destination.hl7:
        return (ORU,)
    if destination.ups_url:
        return (UPS,)
    wanted = (
        (SC, destination.secondary_capture),
        (PR, destination.presentation_state),
        (SEG, destination.segmentation),
        (SR, destination.structured_report != "none"),
    )
    return tuple(kind for kind, is_wanted in wanted if is_wanted)


def classes_of(destination: Destination) -> tuple[str, ...]:
    """The SOP Classes that are proposed to a destination: its own, and those that take their place."""
    kinds = kinds_of(destination)
    if destination.hl7 or destination.ups_url:
        return tuple(CLASS_OF[kind] for kind in kinds)
    return (
        *(_SR_FORMS[destination.structured_report]),
        *(CLASS_OF[kind] for kind in (SC, PR, SEG) if kind in kinds or (kind == SC and SR in kinds)),
    )


def plan(kind: str, form: str, accepted: Collection[str], destination: Destination) -> Send | Drop | Park:
    """How an object of a kind goes to a destination that has accepted these SOP Classes.

    The report falls back from Comprehensive 3D SR to Comprehensive SR to the picture. What was sent in one form is
    never sent in another: the first may have arrived although nobody heard of it.

    Args:
        kind: Of the object.
        form: The SOP Class that it was sent as before; empty when it was not.
        accepted: By the destination, in this association.
        destination: Its configuration.
    """
    if form:
        as_before = SC if form == SecondaryCaptureImageStorage else kind
        return Send(as_before, form) if form in accepted else Park(CHANGED_WORDS)
    forms = (
        [(SR, each) for each in _SR_FORMS[destination.structured_report]] if kind == SR else [(kind, CLASS_OF[kind])]
    )
    if kind == SR and SC not in kinds_of(destination):
        forms.append((SC, SecondaryCaptureImageStorage))
    for sent_kind, sop_class in forms:
        if sop_class in accepted:
            return Send(sent_kind, sop_class)
    if kind == SR:
        return Drop("it has the picture") if SecondaryCaptureImageStorage in accepted else Park(NO_OBJECT_WORDS)
    return Drop("it does without") if SR in kinds_of(destination) or kind != SC else Park(NO_OBJECT_WORDS)


def why_not(stored: StoredResult, sop_class: str | None, reporting: Reporting) -> str:
    """Why a result is none for a PACS; empty when it is one.

    A picture that somebody uploaded belongs to no study. What is no image, as a report of another vendor or one of our
    own that came back, is never reported on: that would go round in circles.
    """
    if stored.result.reason in _NOT_FOR_A_PACS:
        return "it is about no DICOM image"
    if sop_class in (SecondaryCaptureImageStorage, GrayscaleSoftcopyPresentationStateStorage, SegmentationStorage):
        return "it is about a derived object"
    if stored.subject.modality not in reporting.modalities:
        return "its modality is not among reporting.modalities"
    return ""
