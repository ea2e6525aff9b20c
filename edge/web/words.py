"""What the page says: results, people, times and figures in words. Pure.

Nobody is ever called normal or healthy, and nothing is a diagnosis (DESIGN rule 4).
"""

from __future__ import annotations

import time
from enum import StrEnum

from edge.records import REASON_WORDS, STATUS_WORDS, Finding, Kept, Priority, Result, Status, StoredResult, Subject


class Answer(StrEnum):
    """What a person thinks of a result when acknowledging it."""

    AGREE = "agree"
    DISAGREE = "disagree"
    UNSURE = "unsure"
    REPEATED = "repeated"


ANSWER_WORDS: dict[Answer, str] = {
    Answer.AGREE: "Agree",
    Answer.DISAGREE: "Disagree",
    Answer.UNSURE: "Unsure",
    Answer.REPEATED: "Repeated",
}
ANSWERED_WORDS: dict[Answer, str] = {
    Answer.AGREE: "agrees",
    Answer.DISAGREE: "disagrees",
    Answer.UNSURE: "is unsure",
    Answer.REPEATED: "had the image repeated",
}

KINDS: dict[str, str] = {
    "CR": "Plain radiograph on a film or an imaging plate (CR)",
    "DX": "Plain radiograph from a digital detector (DX)",
    "OT": "Another kind of image",
}
"""What a person may state as Modality (0008,0060) of a picture."""


class UploadError(StrEnum):
    """Why an uploaded file was not taken."""

    NO_FILE = "no_file"
    TOO_LARGE = "too_large"
    OTHER_FORMAT = "other_format"
    UNREADABLE = "unreadable"
    NO_KIND = "no_kind"
    NO_AGE = "no_age"
    WRONG_AGE = "wrong_age"
    DISK_FULL = "disk_full"
    NOT_STORED = "not_stored"


_UPLOAD_ERROR_WORDS: dict[UploadError, str] = {
    UploadError.NO_FILE: "No file came: choose one.",
    UploadError.TOO_LARGE: "The file is larger than {largest}. Save the picture smaller, or send the image by DICOM.",
    UploadError.OTHER_FORMAT: (
        "The file is neither DICOM nor a PNG or JPEG picture. Some phones save photographs as HEIC: choose JPEG there."
    ),
    UploadError.UNREADABLE: "The DICOM file is damaged: it does not say which image it is. Get it anew.",
    UploadError.NO_KIND: "State what kind of image it is: a picture does not say it.",
    UploadError.NO_AGE: "State the patient's age: a picture does not say it, and the software needs it.",
    UploadError.WRONG_AGE: "The age is not one: a number such as 3 or 3.5, in years or in months.",
    UploadError.DISK_FULL: "The disk of this device is full, and the file was not taken. Tell whoever looks after it.",
    UploadError.NOT_STORED: "The device could not store the file. Try again in a moment.",
}
UPLOAD_FIELDS: dict[UploadError, str] = {
    UploadError.NO_FILE: "file",
    UploadError.TOO_LARGE: "file",
    UploadError.OTHER_FORMAT: "file",
    UploadError.UNREADABLE: "file",
    UploadError.NO_KIND: "kind",
    UploadError.NO_AGE: "age",
    UploadError.WRONG_AGE: "age",
}
"""The form's field that is wrong, where it is one."""

SHAPES: dict[Status, str] = {
    Status.FLAGGED: "triangle",
    Status.INDETERMINATE: "diamond",
    Status.CLEAR: "circle",
    Status.NOT_ANALYSED: "square",
}

# The likelihood scale of the IPCC's guidance note (Mastrandrea et al. 2010), with plainer words below two thirds.
_BANDS = ((0.9, "very likely"), (0.66, "likely"), (0.33, "possible"), (0.0, "low probability"))
_VIEWS = {"AP": "front", "PA": "front", "LL": "side", "RL": "side", "LATERAL": "side"}
_SEXES = {"M": "male", "F": "female", "O": "other sex"}
_ALMOST_ALWAYS, _ALMOST_NEVER = 0.99, 0.01
_ADULT_FROM = 18
_MONTHS_UNTIL = 2
_LONGEST = 40


def band(probability: float) -> str:
    """A calibrated probability (0..1) in words."""
    return next(words for least, words in _BANDS if probability >= least)


def percent(share: float) -> str:
    """A probability (0..1) as a person may take it: no decimals, and never certainty."""
    if share > _ALMOST_ALWAYS:
        return "over 99 %"
    return "under 1 %" if share < _ALMOST_NEVER else f"{share:.0%}".replace("%", " %")


def headline(result: Result) -> str:
    """The answer in one line: one of the four, with what was flagged or why nothing was analysed.

    The answer of an experimental model says that it is one.
    """
    answer = STATUS_WORDS[result.status]
    if result.status is Status.NOT_ANALYSED:
        return f"{answer}: {REASON_WORDS[result.reason]}" if result.reason else answer
    flagged = [f"{plain(f.meaning).lower()}, {band(f.probability)}" for f in result.findings if f.flagged]
    if result.status is Status.FLAGGED and flagged:
        answer += f": {'; '.join(flagged)}"
    return f"{answer} (experimental)" if result.model and result.model.experimental else answer


def advice(result: Result) -> str:
    """What to do now, for the person at the scanner: what to do, not what the patient has."""
    if result.status is Status.FLAGGED:
        what = ", ".join(plain(f.meaning).lower() for f in result.findings if f.flagged) or "a finding"
        call = "Call the clinician now. " if result.priority is Priority.URGENT else "Ask the clinician to look. "
        return f"{call}The software suggests {what}. It can be wrong."
    if result.status is Status.INDETERMINATE:
        return "The software cannot tell either way. Ask for a reading."
    if result.status is Status.CLEAR:
        return "This does not rule anything out. It looked only for what is listed below, and it can be wrong."
    return "The software gave no answer for this image. Ask for a reading as if it were not there."


def caveat(result: Result) -> str:
    """What must be known of how the image came; empty when it came as images should.

    A picture has no SOP Instance UID.
    """
    if result.source != "upload":
        return ""
    if result.sop_instance_uid is None:
        return (
            "An uploaded picture, not a DICOM image. Photographs and scans of films are outside of what the software"
            " was measured on: its answer for them is worth less. Age and kind of image are as stated by hand."
        )
    return "Uploaded by hand: an age or kind of image that its tags leave out is as stated there."


def upload_error(error: UploadError, max_bytes: int) -> str:
    """Why a file was not taken, and what to do."""
    return _UPLOAD_ERROR_WORDS[error].format(largest=megabytes(max_bytes))


def megabytes(size: int) -> str:
    """A size as the configuration states it: `64 MiB`."""
    return f"{size / (1 << 20):g} MiB"


def outcome(finding: Finding, result: Result) -> str:
    """One finding against its threshold, in words."""
    if finding.flagged:
        return f"flagged, {band(finding.probability)}"
    if result.status is Status.INDETERMINATE:
        return "not flagged; the image as a whole is indeterminate"
    return "below the threshold"


def whereabouts(finding: Finding) -> str:
    """Where in the lungs the software looked, `right lung, lower zone`; empty when that is not known."""
    lung = {None: "", "both": "both lungs"}.get(finding.side, f"{finding.side} lung")
    zone = f"{finding.zone} zone" if finding.zone else ""
    return ", ".join(part for part in (lung, zone) if part)


def removed(kept: Kept) -> str:
    """What has gone of an image, in a sentence; empty when nothing has."""
    return {
        Kept.ALL: "",
        Kept.IMAGE: "The picture was removed to make room on the disk. The image itself is still kept.",
        Kept.NOTHING: "The image was removed from this device. Its answer is kept.",
    }[kept]


def needs_answer(stored: StoredResult) -> bool:
    """Whether this result raises the alarm: flagged, and nobody has acknowledged it."""
    return stored.result.status is Status.FLAGGED and stored.acknowledged_at is None


def id_end(patient_id: str | None) -> str:
    """The last characters of a patient's id, three at most, never more than half: enough to tell rows apart."""
    text = plain(patient_id or "")
    shown = min(3, len(text) // 2)
    return f"…{text[-shown:]}" if shown else "no patient id"


def age(years: float | None) -> str:
    """An age as a clinic says it: months below two years; empty when it is not known."""
    if years is None or not 0 <= years < 150:
        return ""
    words = f"{int(years * 12)} months" if years < _MONTHS_UNTIL else f"{int(years)} y"
    return f"child {words}" if years < _ADULT_FROM else words


HIDDEN = "patient hidden"
"""Instead of whose image it is, while the privacy screen is on."""


def patient(subject: Subject) -> tuple[str, ...]:
    """Whose image it is, without a name: `…417`, `child 3 y`, `male`."""
    sex = _SEXES.get(plain(subject.sex or "").upper(), "")
    return tuple(part for part in (id_end(subject.patient_id), age(subject.age_years), sex) if part)


def image(subject: Subject) -> tuple[str, ...]:
    """What kind of image it is: `DX`, `chest, front (PA)`."""
    view = plain(subject.view or "")
    known = _VIEWS.get(view.upper())
    what = ", ".join(part for part in (plain(subject.body_part or "").lower(), known or "") if part)
    if view:
        what += f" ({view})"
    return tuple(part for part in (plain(subject.modality or ""), what.strip()) if part)


def clock_state(synchronised: bool | None) -> str:
    """Whether something keeps the box's clock right; None when that is not known."""
    return {
        True: "kept right",
        False: "not kept right by anything: times are not certain",
        None: "not known",
    }[synchronised]


def clock(seconds: float, now: float) -> str:
    """A time of day on the box's clock, with the date when it is not today's."""
    then, today = time.localtime(seconds), time.localtime(now)
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%d %b %Y %H:%M", then)


def iso(seconds: float) -> str:
    """The same for machines: ISO 8601, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def day(seconds: float) -> str:
    """A day of UTC, `2026-11-25`."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def ago(seconds: float) -> str:
    """A span since something: `40 s`, `6 min`, `3 h`, `2 days`. The page's script counts on in the same words."""
    span = max(0, int(seconds))
    if span < 90:
        return f"{span} s"
    if span < 90 * 60:
        return f"{span // 60} min"
    return f"{span // 3600} h" if span < 48 * 3600 else f"{span // 86400} days"


def plain(text: str) -> str:
    """Text that came from outside, fit for one line: without control and direction characters, and not too long."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"
