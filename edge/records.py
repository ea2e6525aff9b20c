"""The nouns of Scanside: what the rooms hand to each other. Frozen, typed, free of behaviour.

Every record that leaves a process is a `msgspec.Struct`, so its JSON form is its definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Status(StrEnum):
    """The four answers (DESIGN rule 4). None of them says that a patient is healthy."""

    FLAGGED = "flagged"
    CLEAR = "clear"
    INDETERMINATE = "indeterminate"
    NOT_ANALYSED = "not_analysed"


STATUS_WORDS: dict[Status, str] = {
    Status.FLAGGED: "Flagged",
    Status.CLEAR: "No listed finding above the threshold",
    Status.INDETERMINATE: "Indeterminate",
    Status.NOT_ANALYSED: "Not analysed",
}


class Reason(StrEnum):
    """Why an image was not analysed: stable codes that other people's tools rely on."""

    NOT_DICOM = "not_dicom"
    UNDECODABLE = "undecodable"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    HOSTILE_DIMENSIONS = "hostile_dimensions"
    NO_PIXELS = "no_pixels"
    EMPTY_IMAGE = "empty_image"
    QUALITY_CONTROL_IMAGE = "quality_control_image"
    FOR_PROCESSING = "for_processing"
    UNSUPPORTED_MODALITY = "unsupported_modality"
    MULTIPLE_FRAMES = "multiple_frames"
    NOT_A_FRONTAL_CHEST = "not_a_frontal_chest"
    LATERAL_VIEW = "lateral_view"
    AGE_UNKNOWN = "age_unknown"
    UNDER_AGE = "under_age"
    OVER_AGE = "over_age"
    UNFAMILIAR_IMAGE = "unfamiliar_image"
    TOOK_TOO_LONG = "took_too_long"
    TOO_LARGE = "too_large"
    CRASHED = "crashed"
    PROCESSING_FAILED = "processing_failed"


REASON_WORDS: dict[Reason, str] = {
    Reason.NOT_DICOM: "the file is not a DICOM object or a picture that can be read",
    Reason.UNDECODABLE: "the pixels cannot be decoded: the file is damaged or incomplete",
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: "the image is compressed in a way that this device cannot read",
    Reason.HOSTILE_DIMENSIONS: "the image claims dimensions that are impossible or too large",
    Reason.NO_PIXELS: "the object holds no image",
    Reason.EMPTY_IMAGE: "the image is empty: every pixel has the same value",
    Reason.QUALITY_CONTROL_IMAGE: "this is a quality control image or a phantom, not a patient",
    Reason.FOR_PROCESSING: "this is the raw image (FOR PROCESSING); send the processed one",
    Reason.UNSUPPORTED_MODALITY: "the software reads plain radiographs (CR, DX) only",
    Reason.MULTIPLE_FRAMES: "the object holds more than one frame",
    Reason.NOT_A_FRONTAL_CHEST: "the software reads front views of the chest only",
    Reason.LATERAL_VIEW: "side view; the software reads front views only",
    Reason.AGE_UNKNOWN: "the patient's age is not known, and the model is made for certain ages only",
    Reason.UNDER_AGE: "the patient is younger than the model is made for",
    Reason.OVER_AGE: "the patient is older than the model is made for",
    Reason.UNFAMILIAR_IMAGE: "the image is unlike those the model was made for",
    Reason.TOOK_TOO_LONG: "the image took longer than this device allows for one; it is kept",
    Reason.TOO_LARGE: "the image needs more memory than this device allows for one; it is kept",
    Reason.CRASHED: "the software that reads images crashed on this one; it is kept, and others are not affected",
    Reason.PROCESSING_FAILED: "the software failed on this image; it is kept, and the failure is logged",
}


class Priority(StrEnum):
    """How soon a person should look. The order of definition is the order of work."""

    URGENT = "urgent"
    ROUTINE = "routine"
    BACKLOG = "backlog"


class Kept(StrEnum):
    """What is still kept of an accepted object; its result stays longer than any of it."""

    ALL = "all"
    IMAGE = "image"
    """The image, without the pictures that were derived from it."""
    NOTHING = "nothing"


class Level(StrEnum):
    """What a quality check found (DICOM PS3.16 CID 6044 in three words)."""

    INFO = "info"
    WARN = "warn"
    UNUSABLE = "unusable"


class OrderDifference(StrEnum):
    """In what an image and its order in the clinic's worklist differ."""

    PATIENT_ID = "patient_id"
    BIRTH_DATE = "birth_date"
    AGE = "age"
    SEX = "sex"
    NAME = "name"
    MODALITY = "modality"
    PROCEDURE = "procedure"
    STUDY = "study"


ANOTHER_PATIENT = frozenset({OrderDifference.PATIENT_ID, OrderDifference.BIRTH_DATE})
"""Differences by which the order is somebody else's."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every record that is stored or sent: immutable, strict about unknown fields."""


class Finding(Record, frozen=True, kw_only=True):
    """One finding that a model looks for, in one image.

    Attributes:
        code: Code value, for instance SNOMED CT 233604007.
        scheme: Coding scheme designator (PS3.3 8.2), `SCT` or `DCM`.
        meaning: Code meaning in English.
        score: The network's own output after its sigmoid, 0..1, uncalibrated.
        probability: Calibrated probability, 0..1.
        threshold: The operating point's threshold on `probability`, 0..1.
        flagged: True when `probability >= threshold`, above the indeterminate band.
        box: Where the network looked: x0, y0, x1, y1 in pixels of the stored image, or None.
        side: In which lung, the patient's, it looked; None when that is not known.
        zone: At which third of that lung's height; None likewise.
    """

    code: str
    scheme: str
    meaning: str
    score: float
    probability: float
    threshold: float
    flagged: bool
    box: tuple[int, int, int, int] | None
    side: Literal["right", "left", "both"] | None = None
    zone: Literal["upper", "middle", "lower"] | None = None


class QualityFinding(Record, frozen=True, kw_only=True):
    """One thing about the image's quality that the technician should know (codes: PS3.16 CID 6135)."""

    check: str
    level: Level
    code: str
    scheme: str
    message: str


class ModelUsed(Record, frozen=True, kw_only=True):
    """Which model answered, down to the bytes: `digest` is the SHA-256 of its bundle.yaml.

    Attributes:
        experimental: It was measured on too little to rely on.
    """

    id: str
    version: str
    digest: str
    engine: str
    precision: str
    experimental: bool = False


class Timings(Record, frozen=True, kw_only=True):
    """Milliseconds spent in each step of the hot path; a step that did not run took 0."""

    decode: float = 0.0
    prepare: float = 0.0
    infer: float = 0.0
    explain: float = 0.0
    total: float = 0.0


class Result(Record, frozen=True, kw_only=True):
    """The answer for one image: the contract `scanside.result/1` of DESIGN.md, field by field."""

    schema: Literal["scanside.result/1"] = "scanside.result/1"
    source: str
    sop_instance_uid: str | None
    status: Status
    reason: Reason | None
    priority: Priority
    findings: tuple[Finding, ...] = ()
    quality: tuple[QualityFinding, ...] = ()
    model: ModelUsed | None = None
    timings_ms: Timings


class Subject(Record, frozen=True, kw_only=True):
    """What the page says about whose image it is. Identifying: stays in the journal, never in a summary or a log."""

    patient_id: str | None = None
    sex: str | None = None
    age_years: float | None = None
    modality: str | None = None
    body_part: str | None = None
    view: str | None = None
    study_instance_uid: str | None = None


class Arrival(Record, frozen=True, kw_only=True):
    """How an object came in, as far as its sender said.

    Attributes:
        source: `dicom` (C-STORE), `stow` (STOW-RS), `upload` (a person, on the page), `folder` or `file`.
        peer: The calling AE title, the account, or the file's name: may identify, stays in the journal.
        sop_instance_uid: From the C-STORE request (PS3.7 9.1.1.1) or the data set; None for pictures and files.
        sop_class_uid: Likewise.
        transfer_syntax_uid: The presentation context's transfer syntax, or the file's.
        priority: Where it stands in the queue until it has a result.
        stated_modality: What whoever sent it states as Modality where no header says it.
        stated_age_years: Likewise the patient's age.
    """

    source: Literal["dicom", "stow", "upload", "folder", "file"]
    peer: str
    sop_instance_uid: str | None = None
    sop_class_uid: str | None = None
    transfer_syntax_uid: str | None = None
    priority: Priority = Priority.ROUTINE
    stated_modality: str | None = None
    stated_age_years: float | None = None


class Instance(Record, frozen=True, kw_only=True):
    """One accepted object. `id` is random, so that it can name the object outside without saying anything about it."""

    id: str
    arrival: Arrival
    sha256: str
    size: int
    received_at: float
    attempts: int


_FOUND_STRANGE = frozenset({Reason.UNFAMILIAR_IMAGE, Reason.NOT_A_FRONTAL_CHEST})
"""What a model's gate says; the tags alone, before any model, may say the second."""


class StoredResult(Record, frozen=True, kw_only=True):
    """A committed result as the page and the API see it.

    Attributes:
        seq: Grows with every change of any result, and never repeats.
        number: Its first `seq`: the order of commits, whatever the clock said.
        waited: Seconds from its arrival to its result in the box's lifetime, whatever the clock said.
        synchronised: Whether its times are known to be right.
        kept: What is still kept of the image.
        order_differences: In what the image and its order differ, where a worklist was asked.
    """

    id: str
    seq: int
    number: int
    instance_id: str
    received_at: float
    committed_at: float
    waited: float
    acknowledged_at: float | None
    acknowledged_by: str | None
    acknowledged_as: str | None
    synchronised: bool
    kept: Kept
    subject: Subject
    result: Result
    order_differences: tuple[OrderDifference, ...] = ()

    @property
    def quality_checked(self) -> bool:
        """Whether the quality checks ran: without a finding, none of them warned.

        On each image that was analysed, and on what a model found strange although its tags say what body part it is.
        """
        found_strange = self.result.reason in _FOUND_STRANGE and self.result.timings_ms.infer > 0
        return self.result.status is not Status.NOT_ANALYSED or (found_strange and self.subject.body_part is not None)


class SummaryFinding(Record, frozen=True, kw_only=True):
    """A finding without its score: the band says as much as a fleet needs."""

    code: str
    scheme: str
    flagged: bool
    band: Literal["low", "moderate", "high"]


class Summary(Record, frozen=True, kw_only=True):
    """What leaves the box about one image: the allow-list. Nothing here identifies a patient or a study.

    Attributes:
        message_id: Random at acceptance, the same at every repetition: the receiver's key against duplicates.
        hour: The hour of the result in UTC, `2026-11-20T23`: no study can be timed. None as the site wishes.
        clock: Whether the clock was known to be right that says so.
        latency_ms: From acceptance to commit.
    """

    schema: Literal["scanside.summary/2"] = "scanside.summary/2"
    message_id: str
    hour: str | None
    clock: Literal["right", "uncertain"] = "right"
    status: Status
    reason: Reason | None
    priority: Priority
    findings: tuple[SummaryFinding, ...]
    quality: tuple[str, ...]
    model: ModelUsed | None
    latency_ms: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Header:
    """What the tags of an image say about it: hints for routing, not truths.

    Attributes:
        modality: (0008,0060); a value the caller states where no header does.
        age_years: From Patient's Age (0010,1010) or the birth and study dates; None when unknown.
        region: Anatomic Region Sequence (0008,2218) as a term of Body Part Examined, else its meaning in capitals.
        projection: View Code Sequence (0054,0220) as a term of View Position, else its meaning in capitals.
        laterality: Image Laterality (0020,0062), else Laterality (0020,0060).
        patient_orientation: (0020,0020), where rows and columns run to, both values as they are stored.
        presentation_intent: (0008,0068), `FOR PRESENTATION` or `FOR PROCESSING`; else what the SOP Class says.
        quality_control: (0028,0300) YES or a subject marked as phantom.
        made_by_software: A picture that a workstation or a program has made: Conversion Type (0008,0064) WSD or SYN.
        exposure_index: (0018,1411); its target (0018,1412); the deviation from it (0018,1413), negative is under.
        device: Manufacturer's model, station and serial number of what made the image: whose images compare.
        frames: (0028,0008), 1 when absent.
    """

    sop_instance_uid: str | None = None
    sop_class_uid: str | None = None
    study_instance_uid: str | None = None
    modality: str | None = None
    body_part: str | None = None
    region: str | None = None
    view: str | None = None
    projection: str | None = None
    laterality: str | None = None
    patient_orientation: str | None = None
    presentation_intent: str | None = None
    quality_control: bool = False
    made_by_software: bool = False
    exposure_index: float | None = None
    target_exposure_index: float | None = None
    deviation_index: float | None = None
    device: str | None = None
    frames: int = 1
    patient_id: str | None = None
    sex: str | None = None
    age_years: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Image:
    """One decoded image: grey values as a person should see them, at no more resolution than was asked for.

    Attributes:
        pixels: float32 (height, width), 0 black to 1 white, bone white; the whole image, perhaps reduced.
        rows: Height of the stored image, pixels: what boxes count in.
        columns: Width likewise.
        header: What its tags say.
    """

    pixels: NDArray[np.float32]
    rows: int
    columns: int
    header: Header
