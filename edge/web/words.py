"""What the page says: results, people, times and figures in words, in the reader's language. Pure but for that.

Nobody is ever called normal or healthy, and nothing is a diagnosis (DESIGN rule 4).
"""

from __future__ import annotations

import time
from enum import StrEnum

from edge.device.drift import SCORES_OF
from edge.records import (
    ANOTHER_PATIENT,
    REASON_WORDS,
    STATUS_WORDS,
    Finding,
    Kept,
    OrderDifference,
    Priority,
    Result,
    Status,
    StoredResult,
    Subject,
)
from edge.web import languages
from edge.web.languages import gettext, mark, ngettext


class Answer(StrEnum):
    """What a person thinks of a result when acknowledging it."""

    AGREE = "agree"
    DISAGREE = "disagree"
    UNSURE = "unsure"
    REPEATED = "repeated"


ANSWER_WORDS: dict[Answer, str] = {
    Answer.AGREE: mark("Agree"),
    Answer.DISAGREE: mark("Disagree"),
    Answer.UNSURE: mark("Unsure"),
    Answer.REPEATED: mark("Repeated"),
}
ANSWERED_WORDS: dict[Answer, str] = {
    Answer.AGREE: mark("%(person)s agrees"),
    Answer.DISAGREE: mark("%(person)s disagrees"),
    Answer.UNSURE: mark("%(person)s is unsure"),
    Answer.REPEATED: mark("%(person)s had the image repeated"),
}

SHAPES: dict[Status, str] = {
    Status.FLAGGED: "triangle",
    Status.INDETERMINATE: "diamond",
    Status.CLEAR: "circle",
    Status.NOT_ANALYSED: "square",
}

SPANS: tuple[tuple[int | None, int, str], ...] = (
    (90, 1, mark("%(num)s s")),
    (90 * 60, 60, mark("%(num)s min")),
    (48 * 3600, 3600, mark("%(num)s h")),
    (None, 86_400, mark("%(num)s days")),
)
"""Spans of time: until how many seconds they are said so, in steps of how many, and how."""

_OPERATING_POINTS = {
    "high_sensitivity": mark("high sensitivity"),
    "balanced": mark("balanced"),
    "high_specificity": mark("high specificity"),
}
_STATISTICS = {
    "answers": mark("answers"),
    "quality": mark("quality"),
    "refusals": mark("refusals"),
    "familiarity": mark("familiarity"),
    "view": mark("view"),
    "age": mark("age"),
}
_LUNGS = {"right": mark("right lung"), "left": mark("left lung"), "both": mark("both lungs")}
_ZONES = {"upper": mark("upper zone"), "middle": mark("middle zone"), "lower": mark("lower zone")}
_ORDER_DIFFERENCES = {
    OrderDifference.PATIENT_ID: mark("patient id"),
    OrderDifference.BIRTH_DATE: mark("date of birth"),
    OrderDifference.AGE: mark("age"),
    OrderDifference.SEX: mark("sex"),
    OrderDifference.NAME: mark("name"),
    OrderDifference.MODALITY: mark("kind of image"),
    OrderDifference.PROCEDURE: mark("examination"),
    OrderDifference.STUDY: mark("study"),
}
_REMOVED = {
    Kept.ALL: "",
    Kept.IMAGE: mark("The picture was removed to make room on the disk. The image itself is still kept."),
    Kept.NOTHING: mark("The image was removed from this device. Its answer is kept."),
}
# The likelihood scale of the IPCC's guidance note (Mastrandrea et al. 2010), with plainer words below two thirds.
_BANDS = (
    (0.9, mark("very likely")),
    (0.66, mark("likely")),
    (0.33, mark("possible")),
    (0.0, mark("low probability")),
)
_FRONT, _SIDE = mark("front view"), mark("side view")
_VIEWS = {"AP": _FRONT, "PA": _FRONT, "LL": _SIDE, "RL": _SIDE, "LATERAL": _SIDE}
_CHEST = mark("chest")
_BODY_PARTS = {"CHEST": _CHEST, "THORAX": _CHEST}
_SEXES = {"M": mark("male"), "F": mark("female"), "O": mark("other sex")}
_ALMOST_ALWAYS, _ALMOST_NEVER = 0.99, 0.01
_ADULT_FROM = 18
_MONTHS_UNTIL = 2
_LONGEST = 40


def band(probability: float) -> str:
    """A calibrated probability (0..1) in words."""
    return gettext(next(words for least, words in _BANDS if probability >= least))


def percent(share: float) -> str:
    """A probability (0..1) as a person may take it: no decimals, and never certainty."""
    if share > _ALMOST_ALWAYS:
        return gettext("over %(count)s", count=languages.percent(_ALMOST_ALWAYS))
    if share < _ALMOST_NEVER:
        return gettext("under %(count)s", count=languages.percent(_ALMOST_NEVER))
    return languages.percent(share)


def headline(result: Result) -> str:
    """The answer in one line: one of the four, with what was flagged or why nothing was analysed.

    The answer of an experimental model says that it is one.
    """
    answer = gettext(STATUS_WORDS[result.status])
    if result.status is Status.NOT_ANALYSED:
        reason = gettext(REASON_WORDS[result.reason]) if result.reason else ""
        return gettext("Not analysed: %(reason)s", reason=reason) if reason else answer
    flagged = [_suggested(f) for f in result.findings if f.flagged]
    if result.status is Status.FLAGGED and flagged:
        answer = gettext("Flagged: %(findings)s", findings=languages.listed(flagged, ";"))
    experimental = result.model and result.model.experimental
    return gettext("%(answer)s (experimental)", answer=answer) if experimental else answer


def _suggested(finding: Finding) -> str:
    return gettext("%(finding)s, %(band)s", finding=meaning(finding).lower(), band=band(finding.probability))


def advice(result: Result, *, acknowledged: bool = False) -> str:
    """What to do now, for the person at the scanner: what to do, not what the patient has.

    A flag that was `acknowledged` calls nobody any more.
    """
    if result.status is Status.FLAGGED:
        what = languages.listed(meaning(f).lower() for f in result.findings if f.flagged) or gettext("a finding")
        suggests = gettext("The software suggests: %(findings)s. It can be wrong.", findings=what)
        if acknowledged:
            return suggests
        urgent = result.priority is Priority.URGENT
        call = gettext("Call the clinician now.") if urgent else gettext("Ask the clinician to look.")
        return f"{call} {suggests}"
    if result.status is Status.INDETERMINATE:
        return gettext("The software cannot tell either way. Ask for a reading.")
    if result.status is Status.CLEAR:
        return gettext("This does not rule anything out. It looked only for what is listed below, and it can be wrong.")
    return gettext("The software gave no answer for this image. Ask for a reading as if it were not there.")


def meaning(finding: Finding) -> str:
    """What a finding is called."""
    return gettext(plain(finding.meaning))


def said(text: str) -> str:
    """A fixed text of another part of the box (a quality check's, a role, a state) in the reader's language."""
    return gettext(text)


def answered(stored: StoredResult) -> str:
    """Who has answered to a result, and what."""
    return gettext(ANSWERED_WORDS[Answer(stored.acknowledged_as or "")], person=stored.acknowledged_by or "")


def caveat(result: Result) -> str:
    """What must be known of how the image came; empty when it came as images should.

    A picture has no SOP Instance UID.
    """
    if result.source != "upload":
        return ""
    if result.sop_instance_uid is None:
        return gettext(
            "An uploaded picture, not a DICOM image. Photographs and scans of films are outside of what the software"
            " was measured on: its answer for them is worth less. Age and kind of image are as stated by hand."
        )
    return gettext("Uploaded by hand: an age or kind of image that its tags leave out is as stated there.")


def of_100(count: float) -> str:
    """How many of 100 (0..100), as a person may take it: rounded, and never all or none."""
    if count > 100 * _ALMOST_ALWAYS:
        return gettext("over %(count)s", count=languages.number(100 * _ALMOST_ALWAYS))
    if count < 100 * _ALMOST_NEVER:
        return gettext("fewer than %(count)s", count=languages.number(100 * _ALMOST_NEVER))
    return gettext("about %(count)s", count=languages.number(count))


def operating_point(name: str) -> str:
    """A bundle's operating point in words; its own name where it is none of the usual three."""
    return gettext(_OPERATING_POINTS.get(name, plain(name)))


def outcome(finding: Finding, result: Result) -> str:
    """One finding against its threshold, in words."""
    if finding.flagged:
        return gettext("flagged, %(band)s", band=band(finding.probability))
    if result.status is Status.INDETERMINATE:
        return gettext("not flagged; the image as a whole is indeterminate")
    return gettext("below the threshold")


def whereabouts(finding: Finding) -> str:
    """Where in the lungs the software looked, `right lung, lower zone`; empty when that is not known."""
    lung = gettext(_LUNGS[finding.side]) if finding.side else ""
    zone = gettext(_ZONES[finding.zone]) if finding.zone else ""
    return gettext("%(lung)s, %(zone)s", lung=lung, zone=zone) if lung and zone else lung or zone


def removed(kept: Kept) -> str:
    """What has gone of an image, in a sentence; empty when nothing has."""
    return gettext(_REMOVED[kept])


def order_warning(stored: StoredResult) -> str:
    """In what the image and its order in the clinic's worklist differ; empty where nothing is known to."""
    differences = " · ".join(gettext(_ORDER_DIFFERENCES[each]) for each in stored.order_differences)
    return gettext("Not as ordered: %(differences)s", differences=differences) if differences else ""


def order_advice(stored: StoredResult) -> str:
    """What to do about that; empty likewise."""
    if not stored.order_differences:
        return ""
    if not ANOTHER_PATIENT.isdisjoint(stored.order_differences):
        return gettext("The order is another patient's. Check whose image this is; nothing was sent to the PACS.")
    return gettext("Check that this image belongs to this patient and this order.")


def needs_answer(stored: StoredResult) -> bool:
    """Whether this result raises the alarm: flagged, and nobody has acknowledged it."""
    return stored.result.status is Status.FLAGGED and stored.acknowledged_at is None


def id_end(patient_id: str | None) -> str:
    """The last characters of a patient's id, three at most, never more than half: enough to tell rows apart."""
    text = plain(patient_id or "")
    shown = min(3, len(text) // 2)
    return f"…{text[-shown:]}" if shown else gettext("no patient id")


def age(years: float | None) -> str:
    """An age as a clinic says it: months below two years; empty when it is not known."""
    if years is None or not 0 <= years < 150:
        return ""
    if years < _MONTHS_UNTIL:
        words = ngettext("%(num)s month", "%(num)s months", int(years * 12))
    else:
        words = ngettext("%(num)s y", "%(num)s y", int(years))
    return gettext("child %(age)s", age=words) if years < _ADULT_FROM else words


HIDDEN = mark("patient hidden")
"""Instead of whose image it is, while the privacy screen is on."""


def patient(subject: Subject) -> tuple[str, ...]:
    """Whose image it is, without a name: `…417`, `child 3 y`, `male`."""
    sex = gettext(_SEXES.get(plain(subject.sex or "").upper(), ""))
    return tuple(part for part in (id_end(subject.patient_id), age(subject.age_years), sex) if part)


def image(subject: Subject) -> tuple[str, ...]:
    """What kind of image it is: `DX`, `chest, front (PA)`."""
    view, body_part = plain(subject.view or ""), plain(subject.body_part or "")
    known = gettext(_VIEWS.get(view.upper(), ""))
    part = gettext(_BODY_PARTS.get(body_part.upper(), "")) or body_part.lower()
    what = gettext("%(part)s, %(view)s", part=part, view=known) if part and known else part or known
    if view:
        what += f" ({view})"
    return tuple(part for part in (plain(subject.modality or ""), what.strip()) if part)


def statistic(name: str, model: str = "") -> str:
    """What the drift watch calls a statistic (`edge/device/drift.py`), of a model or of all images."""
    finding = name.removeprefix(SCORES_OF)
    said = gettext(_STATISTICS.get(name, name))
    if finding != name:
        said = gettext("scores of %(finding)s", finding=gettext(finding))
    return gettext("%(statistic)s of %(model)s", statistic=said, model=model) if model else said


def clock_state(synchronised: bool | None) -> str:
    """Whether something keeps the box's clock right; None when that is not known."""
    return {
        True: gettext("kept right"),
        False: gettext("not kept right by anything: times are not certain"),
        None: gettext("not known"),
    }[synchronised]


def clock(seconds: float, now: float) -> str:
    """A time of day on the box's clock, with the date when it is not today's."""
    then, today = time.localtime(seconds), time.localtime(now)
    return time.strftime("%H:%M:%S", then) if then[:3] == today[:3] else languages.date_and_time(seconds)


def iso(seconds: float) -> str:
    """The same for machines: ISO 8601, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def day(seconds: float) -> str:
    """A day of UTC, `2026-11-25`."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def ago(seconds: float) -> str:
    """A span: `40 s`, `6 min`, `3 h`, `2 days`. The page's script counts on in the same steps and words."""
    span = max(0, int(seconds))
    _, unit, words = next(step for step in SPANS if step[0] is None or span < step[0])
    return gettext(words, num=span // unit)


def script_words() -> dict[str, object]:
    """What the page's script says by itself: it has no words of its own."""
    return {
        "spans": [(until, unit, gettext(said)) for until, unit, said in SPANS],
        "ago": gettext("%(span)s ago"),
        "live": gettext("live, %(span)s ago"),
        "live_as_of": gettext("live, as of %(time)s"),
        "polling": gettext("live, looks every 2 s"),
        "not_live": gettext("display not live"),
        "lost": gettext(
            "Display not live: the link to the box is gone. What you see may be out of date. Trying again."
        ),
        "flagged": gettext("(%(count)s) flagged"),
        "sound_waits": gettext("Touch the page once, so that it may sound."),
        "window": gettext("contrast %(contrast)s, brightness %(brightness)s"),
        "zoom": gettext("zoom %(zoom)s"),
    }


def plain(text: str, longest: int = _LONGEST) -> str:
    """Text that came from outside, fit for one line: without control and direction characters, and not too long."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"
