"""What may leave the box about one image: the one function through which it must pass.

It is an allow-list. Enumerated words pass as they are. Codes of findings, of quality checks and of models pass when
they have the form of such a code, and become `unlisted` when not. No other text of a result passes at all.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

from edge.records import Finding, ModelUsed, QualityFinding, Result, Summary, SummaryFinding

UNLISTED = "unlisted"

# SNOMED CT identifiers have 6 to 18 digits, the codes of PS3.16 Annex D have 5 or 6.
_CODES = {
    "SCT": re.compile(r"[1-9][0-9]{5,17}"),
    "DCM": re.compile(r"[0-9]{5,6}"),
}
_MODEL_ID = re.compile(r"[a-z]([a-z0-9-]{0,62}[a-z0-9])?")
_MODEL_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]{1,16})?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WORD = re.compile(r"[a-z][a-z0-9]{0,15}")

Band = Literal["low", "moderate", "high"]


def summarise(result: Result, *, message_id: str, received_at: float, committed_at: float) -> Summary:
    """The de-identified summary of a result.

    Args:
        result: The answer for one image.
        message_id: Random, never made from anything in the image.
        received_at: When the image was accepted, seconds since the epoch.
        committed_at: When the answer was stored; only its hour leaves the box.
    """
    return Summary(
        message_id=message_id,
        hour=datetime.fromtimestamp(committed_at, UTC).strftime("%Y-%m-%dT%H"),
        status=result.status,
        reason=result.reason,
        priority=result.priority,
        findings=tuple(_finding(finding) for finding in result.findings),
        quality=tuple(sorted({_quality(finding) for finding in result.quality})),
        model=_model(result.model) if result.model else None,
        latency_ms=max(0, round((committed_at - received_at) * 1000)),
    )


def band(probability: float, threshold: float) -> Band:
    """How far a calibrated probability lies from its threshold: `moderate` is nearer to it than to 0 or to 1."""
    if probability < threshold / 2:
        return "low"
    if probability < (1 + threshold) / 2:
        return "moderate"
    return "high"


def _finding(finding: Finding) -> SummaryFinding:
    scheme, code = _coded(finding.scheme, finding.code)
    return SummaryFinding(
        code=code, scheme=scheme, flagged=finding.flagged, band=band(finding.probability, finding.threshold)
    )


def _quality(finding: QualityFinding) -> str:
    scheme, code = _coded(finding.scheme, finding.code)
    return UNLISTED if UNLISTED in (scheme, code) else f"{scheme}:{code}"


def _coded(scheme: str, code: str) -> tuple[str, str]:
    if scheme not in _CODES:
        return UNLISTED, UNLISTED
    return scheme, _listed(code, _CODES[scheme])


def _model(model: ModelUsed) -> ModelUsed:
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
