"""What may leave the box about one image: the one function through which it must pass.

It is an allow-list. Enumerated words pass as they are, codes of quality checks when they are among those that this box
has. What a signed model bundle says (codes of findings; the model's name, version and digest) passes when it has the
form of such a code, check digit included. Everything else becomes `unlisted`; no other text of a result passes at all.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

from edge.records import Finding, ModelUsed, QualityFinding, Result, Summary, SummaryFinding

UNLISTED = "unlisted"

LATEST = 253402300799.0
"""The last second of the year 9999, the last that RFC 3339 can say."""

QUALITY_CODES = frozenset(
    ("111209", "111210", "111211", "111212", "111213", "111215", "111219", "111220"),
)
"""The codes of PS3.16 CID 6135 that quality checks give."""

_CODES = {"SCT": re.compile(r"[1-9][0-9]{5,17}"), "DCM": re.compile(r"1[0-3][0-9]{4}")}
"""SNOMED CT identifiers have 6 to 18 digits; the codes of findings in PS3.16 Annex D are these six."""

_CONCEPT_PARTITIONS = ("00", "10")
_PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
_MODEL_ID = re.compile(r"[a-z]([a-z0-9-]{0,62}[a-z0-9])?")
_MODEL_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]{1,16})?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WORD = re.compile(r"[a-z][a-z0-9]{0,15}")

Band = Literal["low", "moderate", "high"]


def summarise(result: Result, *, message_id: str, committed_at: float, synchronised: bool, waited: float) -> Summary:
    """The de-identified summary of a result.

    Args:
        result: The answer for one image.
        message_id: Random, never made from anything in the image.
        committed_at: When the answer was stored, seconds since the epoch; only its hour leaves the box.
        synchronised: Whether the clock was known to be right that says so.
        waited: Seconds from acceptance to answer, by no clock that can be set.
    """
    return Summary(
        message_id=message_id,
        hour=hour(committed_at),
        clock="right" if synchronised else "uncertain",
        status=result.status,
        reason=result.reason,
        priority=result.priority,
        findings=tuple(_finding(finding) for finding in result.findings),
        quality=tuple(sorted({listed_quality(finding) for finding in result.quality})),
        model=listed_model(result.model) if result.model else None,
        latency_ms=max(0, round(waited * 1000)),
    )


def hour(at: float) -> str:
    """The hour (UTC) of a time in seconds since the epoch, as a summary says it."""
    return datetime.fromtimestamp(max(0.0, min(at, LATEST)), UTC).strftime("%Y-%m-%dT%H")


def band(probability: float, threshold: float) -> Band:
    """How far a calibrated probability lies from its threshold: `moderate` is nearer to it than to 0 or to 1."""
    if probability < threshold / 2:
        return "low"
    if probability < (1 + threshold) / 2:
        return "moderate"
    return "high"


def _finding(finding: Finding) -> SummaryFinding:
    scheme, code = listed_code(finding.scheme, finding.code)
    return SummaryFinding(
        code=code, scheme=scheme, flagged=finding.flagged, band=band(finding.probability, finding.threshold)
    )


def is_concept(code: str) -> bool:
    """Whether a text is a SNOMED CT concept's identifier: length, partition and Verhoeff check digit are right.

    SNOMED CT Release File Specifications, 6 (SCTID): of all other numbers one in 500 passes for one.
    """
    if not _CODES["SCT"].fullmatch(code) or code[-3:-1] not in _CONCEPT_PARTITIONS:
        return False
    check = 0
    for place, digit in enumerate(reversed(code)):
        check = _combined(check, _permuted(int(digit), place))
    return check == 0


def _combined(left: int, right: int) -> int:
    """Multiplication in the dihedral group of the pentagon, as Verhoeff numbers its elements."""
    if left < 5:
        return (left + right) % 5 if right < 5 else 5 + (left + right) % 5
    return 5 + (left - right) % 5 if right < 5 else (left - right) % 5


def _permuted(digit: int, place: int) -> int:
    for _ in range(place % 8):
        digit = _PERMUTATION[digit]
    return digit


def listed_quality(finding: QualityFinding) -> str:
    """The code of a finding of quality when it is one that this box has, else `unlisted`."""
    return f"DCM:{finding.code}" if finding.scheme == "DCM" and finding.code in QUALITY_CODES else UNLISTED


def listed_code(scheme: str, code: str) -> tuple[str, str]:
    """Scheme and code of a finding, each when it has the form of one, else `unlisted`."""
    if scheme not in _CODES:
        return UNLISTED, UNLISTED
    known = is_concept(code) if scheme == "SCT" else _CODES[scheme].fullmatch(code)
    return scheme, code if known else UNLISTED


def listed_model(model: ModelUsed) -> ModelUsed:
    """A model with those of its words that have the form of such words; each other one is `unlisted`."""
    return ModelUsed(
        id=_listed(model.id, _MODEL_ID),
        version=_listed(model.version, _MODEL_VERSION),
        digest=_listed(model.digest, _DIGEST),
        engine=_listed(model.engine, _WORD),
        precision=_listed(model.precision, _WORD),
        experimental=model.experimental,
    )


def _listed(value: str, pattern: re.Pattern[str]) -> str:
    return value if pattern.fullmatch(value) else UNLISTED
