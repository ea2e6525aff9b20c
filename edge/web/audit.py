"""What people do on the page and through the API, told to the audit trail before they see the answer.

Looking at the same thing again within five minutes, or at its picture, is part of the first look and costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flask import g, request

from edge.identity import Identity
from edge.records import StoredResult
from edge.store.audit import actions
from edge.store.audit.actions import Person, Received
from edge.store.audit.message import AuditMessage
from edge.web.dependencies import entrance, given


def acting(name: str | None = None) -> Person:
    """Who sends this request: who is signed in, or whose name is given."""
    return Person(g.person.name if name is None else name, request.remote_addr or "")


def record(*messages: AuditMessage) -> None:
    """Tell the trail."""
    entrance().audit.record(*messages)


def saw(*results: StoredResult, listing: bool = False) -> None:
    """The person sees these results with their images; with `listing`, the list of results as well."""
    source, who = given().audit.source, acting()
    views = {f"view {who} {stored.id}": actions.viewed(source, who, stored) for stored in results}
    if listing:
        query = f"{request.method} {request.full_path.rstrip('?')}"
        views = {f"list {who}": actions.listed(source, who, request.path, query)} | views
    given().audit.record_once(views)


def searched(patient_id: str) -> None:
    """The person looks for a patient's results, and sees the list."""
    query = f"{request.method} {request.path} patient_id={patient_id}"
    record(actions.listed(given().audit.source, acting(), request.path, query))


def answered(stored: StoredResult, answer: str) -> None:
    """The person has answered to a result: their answer stands, or another one that was there before."""
    who = acting()
    stands = (stored.acknowledged_by, stored.acknowledged_as) == (who.name, answer)
    record(actions.acknowledged(given().audit.source, who, stored, answer, stands=stands))


def uploaded(identity: Identity, *, new: bool) -> None:
    """The person has brought a file."""
    received = Counter((Received.of(identity, new=new),))
    record(actions.imported(given().audit.source, acting(), received, "upload"))


def sent(stored: Iterable[tuple[Identity, bool]]) -> None:
    """A program has sent instances in one request: what each is, and whether it was new."""
    received = Counter(Received.of(identity, new=new) for identity, new in stored)
    record(*actions.transferred(given().audit.source, actions.program(acting()), received))
