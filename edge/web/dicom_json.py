"""The answer to STOW-RS: the Store Instances Response Module (PS3.18 annex I) in the DICOM JSON Model (annex F)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import UNSET, UnsetType

from edge.identity import Identity
from edge.records import Record


class UidElement(Record, frozen=True, kw_only=True, rename={"value": "Value"}):
    """One unique identifier."""

    vr: Literal["UI"] = "UI"
    value: tuple[str, ...]


class NumberElement(Record, frozen=True, kw_only=True, rename={"value": "Value"}):
    """One unsigned short."""

    vr: Literal["US"] = "US"
    value: tuple[int, ...]


class EmptyUrl(Record, frozen=True, kw_only=True):
    """Retrieve URL, which stays empty: nothing can be retrieved from this box."""

    vr: Literal["UR"] = "UR"


_NAMES = {
    "sop_class": "00081150",
    "sop_instance": "00081155",
    "failure_reason": "00081197",
    "retrieve_url": "00081190",
}


class StoredItem(Record, frozen=True, kw_only=True, rename=_NAMES):
    """An instance that was stored: Referenced SOP Class UID, Referenced SOP Instance UID, Retrieve URL."""

    sop_class: UidElement
    sop_instance: UidElement
    retrieve_url: EmptyUrl = EmptyUrl()


class FailedItem(Record, frozen=True, kw_only=True, rename=_NAMES):
    """An instance that was not: its UIDs and the Failure Reason (PS3.18 table I.2-2, as PS3.4 table B.2-1)."""

    sop_class: UidElement
    sop_instance: UidElement
    failure_reason: NumberElement


class OtherItem(Record, frozen=True, kw_only=True, rename=_NAMES):
    """A part that is not known as any instance: the Failure Reason alone."""

    failure_reason: NumberElement


class StoredSequence(Record, frozen=True, kw_only=True, rename={"value": "Value"}):
    """Referenced SOP Sequence."""

    vr: Literal["SQ"] = "SQ"
    value: tuple[StoredItem, ...]


class FailedSequence(Record, frozen=True, kw_only=True, rename={"value": "Value"}):
    """Failed SOP Sequence."""

    vr: Literal["SQ"] = "SQ"
    value: tuple[FailedItem, ...]


class OtherSequence(Record, frozen=True, kw_only=True, rename={"value": "Value"}):
    """Other Failures Sequence."""

    vr: Literal["SQ"] = "SQ"
    value: tuple[OtherItem, ...]


class StoreResponse(
    Record,
    frozen=True,
    kw_only=True,
    rename={"retrieve_url": "00081190", "failed": "00081198", "stored": "00081199", "other": "0008119A"},
):
    """What became of each instance: Retrieve URL, Failed SOP, Referenced SOP and Other Failures Sequence."""

    retrieve_url: EmptyUrl = EmptyUrl()
    failed: FailedSequence | UnsetType = UNSET
    stored: StoredSequence | UnsetType = UNSET
    other: OtherSequence | UnsetType = UNSET


def store_response(outcomes: Iterable[tuple[Identity | None, int | None]]) -> StoreResponse:
    """The response for parts in their order: identity, None when unknown, and failure reason, None when stored."""
    stored, failed, other = [], [], []
    for identity, reason in outcomes:
        if identity is None:
            other.append(OtherItem(failure_reason=NumberElement(value=(reason or 0,))))
            continue
        sop_class, sop_instance = (UidElement(value=(uid,)) for uid in identity[:2])
        if reason is None:
            stored.append(StoredItem(sop_class=sop_class, sop_instance=sop_instance))
        else:
            failure = NumberElement(value=(reason,))
            failed.append(FailedItem(sop_class=sop_class, sop_instance=sop_instance, failure_reason=failure))
    return StoreResponse(
        failed=FailedSequence(value=tuple(failed)) if failed else UNSET,
        stored=StoredSequence(value=tuple(stored)) if stored else UNSET,
        other=OtherSequence(value=tuple(other)) if other else UNSET,
    )
