"""What stands beside an image: the answer, what its threshold meant in the test, and the patient's earlier images."""

from __future__ import annotations

from edge.records import StoredResult
from edge.web.dependencies import given
from edge.web.model_facts import figures

EARLIER = 5
AMONG = 500
"""Among how many results before this one earlier images are looked for: each must be unsealed to see whose it is."""


def parts_of(stored: StoredResult) -> dict[str, object]:
    """What the study template is given about a result."""
    result = stored.result
    facts = given().facts(result.model) if result.model else None
    measured = {}
    if facts and result.model:
        measured = {finding.code: figures(facts, result.model, finding) for finding in result.findings}
    return {
        "selected": stored,
        "figures": measured,
        "not_looked_for": facts.not_looked_for if facts else "",
        "earlier": earlier(stored),
    }


def earlier(stored: StoredResult) -> list[StoredResult]:
    """Results of the same patient that came before, newest first; none when the patient is not known."""
    patient = (stored.subject.patient_id or "").strip()
    if not patient:
        return []
    before = given().store.results(AMONG, before=stored.id)
    return [other for other in before if (other.subject.patient_id or "").strip() == patient][:EARLIER]
