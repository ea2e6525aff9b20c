"""What stands beside an image: the answer, what its threshold meant in the test, and the patient's earlier images."""

from __future__ import annotations

from typing import NamedTuple

from edge.records import StoredResult
from edge.web.dependencies import given
from edge.web.model_figures import Figures, figures
from edge.web.views import StudyView, view_of

EARLIER = 5


class Study(NamedTuple):
    """What the study template and the API are given about a result.

    Attributes:
        figures: What each finding's threshold meant, by its code; without those of which it is not known.
        not_looked_for: What the model that answered does not look for; empty when it is not known.
        earlier: The patient's results before this one, newest first, `EARLIER` at most.
    """

    selected: StoredResult
    figures: dict[str, Figures]
    not_looked_for: str
    earlier: list[StoredResult]


def study_of(stored: StoredResult) -> Study:
    """All that belongs to a result."""
    result = stored.result
    facts = given().facts(result.model) if result.model else None
    measured = {}
    if facts and result.model:
        known = (figures(facts, result.model, finding) for finding in result.findings)
        measured = {each.finding: each for each in known if each}
    earlier = given().store.results_of_patient(stored.subject.patient_id or "", EARLIER, before=stored.id)
    return Study(stored, measured, facts.not_looked_for if facts else "", earlier)


def study_view_of(study: Study) -> StudyView:
    """What the API says about a result and what stands beside it."""
    view = view_of(study.selected)
    return StudyView(
        **{name: getattr(view, name) for name in view.__struct_fields__},
        thresholds=tuple(study.figures.values()),
        not_looked_for=study.not_looked_for,
        earlier=tuple(view_of(stored) for stored in study.earlier),
    )
