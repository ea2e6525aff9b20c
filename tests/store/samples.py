"""Arrivals, results and summaries for the store's tests."""

from __future__ import annotations

from pathlib import Path

from edge.records import (
    Arrival,
    Finding,
    Instance,
    ModelUsed,
    Priority,
    Reason,
    Result,
    Status,
    Subject,
    Summary,
    SummaryFinding,
    Timings,
)
from edge.store import Store

MODEL = ModelUsed(id="test", version="1.0.0", digest="sha256:" + "ab" * 32, engine="openvino", precision="int8")
SUBJECT = Subject(patient_id="SYN-1", sex="F", age_years=3.5, modality="DX")


def arrival(uid: str | None = None, priority: Priority = Priority.ROUTINE) -> Arrival:
    """Over DICOM when it has a UID, out of the watch folder otherwise."""
    return Arrival(source="dicom" if uid else "folder", peer="MODALITY", sop_instance_uid=uid, priority=priority)


def flagged() -> Result:
    """A result of a model."""
    pneumonia = Finding(
        code="233604007", scheme="SCT", meaning="Pneumonia", score=0.9, probability=0.8, threshold=0.5, flagged=True,
        box=(1, 2, 3, 4),
    )  # fmt: skip
    return Result(
        source="dicom",
        sop_instance_uid="1.2.3",
        status=Status.FLAGGED,
        reason=None,
        priority=Priority.URGENT,
        findings=(pneumonia,),
        model=MODEL,
        timings_ms=Timings(decode=1.0, total=2.0),
    )


def refused() -> Result:
    """A result without a model."""
    return Result(
        source="folder",
        sop_instance_uid=None,
        status=Status.NOT_ANALYSED,
        reason=Reason.NOT_DICOM,
        priority=Priority.ROUTINE,
        timings_ms=Timings(),
    )


def summary(*, message_id: str, committed_at: float, synchronised: bool, waited: float) -> Summary:
    """What the box may say about it outside."""
    return Summary(
        message_id=message_id,
        hour="2026-11-20T23",
        status=Status.FLAGGED,
        reason=None,
        priority=Priority.URGENT,
        findings=(SummaryFinding(code="233604007", scheme="SCT", flagged=True, band="high"),),
        quality=(),
        model=MODEL,
        latency_ms=round(waited * 1000),
    )


def claimed(store: Store) -> Instance:
    """The next instance, which must be there."""
    instance = store.claim()
    assert instance is not None
    return instance


def spooled(state_dir: Path) -> set[str]:
    """The names of the spool's whole files."""
    return {path.name for path in (state_dir / "spool").iterdir() if path.is_file()}
