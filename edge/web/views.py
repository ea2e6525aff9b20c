"""What the API says about a result: the stored one without what the page must not show."""

from __future__ import annotations

from typing import Annotated

import msgspec

from edge.device.health import ModelInService
from edge.device.history import Sample
from edge.records import Kept, OrderDifference, Record, Result, StoredResult
from edge.web import words
from edge.web.model_figures import Figures
from edge.web.remedies import ErrorView
from edge.web.tally import Day

DEFAULT_PAGE = 50
LARGEST_PAGE = 200
LONGEST_ID = 256
"""Characters; DICOM allows 64 (PS3.5 6.2, LO), and not every sender keeps to it."""


class Patient(Record, frozen=True, kw_only=True):
    """Whose image it is, without a name: the end of the patient's id, age, sex, and what kind of image it is."""

    id_end: str
    age_years: float | None
    sex: str | None
    modality: str | None
    body_part: str | None
    view: str | None


class Acknowledgement(Record, frozen=True, kw_only=True):
    """Who answered a result, when (seconds since the epoch), and what they think of it."""

    at: float
    by: str
    response: str


class ResultView(Record, frozen=True, kw_only=True):
    """One result. `seq` grows with every change of any result; times are seconds since the epoch.

    Attributes:
        synchronised: Whether these times are known to be right.
        kept: What is still kept of the image.
        headline: The answer in words.
        result: The contract `scanside.result/1`.
        order_differences: In what the image and its order in the worklist differ.
    """

    id: str
    seq: int
    received_at: float
    committed_at: float
    synchronised: bool
    kept: Kept
    headline: str
    patient: Patient
    acknowledged: Acknowledgement | None
    result: Result
    order_differences: tuple[OrderDifference, ...]


class StudyView(ResultView, frozen=True, kw_only=True):
    """One result with all that the page shows beside it.

    Attributes:
        thresholds: What each finding's threshold meant in the test; without those of which it is not known.
        not_looked_for: What the model that answered does not look for; empty when it is not known.
        earlier: The patient's results before this one, newest first, 5 at most.
    """

    thresholds: tuple[Figures, ...]
    not_looked_for: str
    earlier: tuple[ResultView, ...]


class ResultPage(Record, frozen=True, kw_only=True):
    """Results, newest first. `next` is the cursor of the following page; None on the last."""

    results: tuple[ResultView, ...]
    next: str | None


class AcknowledgeRequest(Record, frozen=True, kw_only=True):
    """The body of an acknowledgement."""

    response: words.Answer


class FindRequest(Record, frozen=True, kw_only=True):
    """Whose results are looked for: the patient's id (0010,0020) as on the modality, whole and in the same case."""

    patient_id: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_PAGE)] = DEFAULT_PAGE
    cursor: str | None = None


class Models(Record, frozen=True, kw_only=True):
    """The models in service."""

    models: tuple[ModelInService, ...]


class HistoryPage(Record, frozen=True, kw_only=True):
    """The box's figures minute by minute, oldest first; a minute of which nothing is known is missing."""

    samples: tuple[Sample, ...]


class Watched(Record, frozen=True, kw_only=True):
    """A statistic of the drift watch (`edge/device/drift.py`).

    Attributes:
        model: `id version`; empty for all images.
        images: How many were compared last.
        index: The population stability index of it; None while there are not enough images.
        since: When the alarm was raised that stands, seconds since the epoch; None without one.
    """

    model: str
    statistic: str
    images: int
    index: float | None
    since: float | None


class Trends(Record, frozen=True, kw_only=True):
    """How the box has answered, day by day in UTC, oldest first; what of it is watched, first what is not as it was."""

    days: tuple[Day, ...]
    watched: tuple[Watched, ...]


class Errors(Record, frozen=True, kw_only=True):
    """The last errors of the services, the newest first."""

    errors: tuple[ErrorView, ...]


def view_of(stored: StoredResult) -> ResultView:
    """The view of a stored result."""
    subject = stored.subject
    acknowledged = None
    if stored.acknowledged_at is not None:
        acknowledged = Acknowledgement(
            at=stored.acknowledged_at, by=stored.acknowledged_by or "", response=stored.acknowledged_as or ""
        )
    return ResultView(
        id=stored.id,
        seq=stored.seq,
        received_at=stored.received_at,
        committed_at=stored.committed_at,
        synchronised=stored.synchronised,
        kept=stored.kept,
        headline=words.headline(stored.result),
        patient=Patient(
            id_end=words.id_end(subject.patient_id),
            age_years=subject.age_years,
            sex=subject.sex,
            modality=subject.modality,
            body_part=subject.body_part,
            view=subject.view,
        ),
        acknowledged=acknowledged,
        result=stored.result,
        order_differences=stored.order_differences,
    )
