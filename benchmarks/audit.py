"""Claim: an audit record costs a page's request little more than one SQLite commit; a repeated look costs nothing.

`python -m benchmarks.audit [FOLDER]`. The peer is a bare commit of as many bytes into a file beside, alternating.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import heading, ratio, spread
from edge.records import Kept, Priority, Result, Status, StoredResult, Subject, Timings
from edge.store.audit import AuditTrail, actions, audit_file
from edge.store.audit.message import AuditSource
from edge.store.database import Database
from edge.store.keys import open_ring
from edge.store.vault import Vault

RECORDS = 300
_WARM_UP = 20
_SCHEMA = "CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, body BLOB NOT NULL)"


def main(folder: Path | None = None) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        state = Path(name)
        trail = AuditTrail(state, Vault(open_ring(state)), AuditSource("clinic-12", "xray-1", "web"))
        peer = Database(state / "peer" / "peer.sqlite", _SCHEMA)
        view = actions.viewed(trail.source, actions.Person("technician", "192.0.2.7"), _stored())
        listing = actions.listed(trail.source, actions.Person("technician", "192.0.2.7"), "/", "GET /")
        body = os.urandom(600)
        record, bare, again = [], [], []
        for _ in range(RECORDS + _WARM_UP):
            record.append(_milliseconds(lambda: trail.record(listing, view)))
            bare.append(_milliseconds(lambda: _commit(peer, body)))
            again.append(_milliseconds(lambda: trail.record_once({"view": view})))
        trail.close()
        peer.close()
        size = audit_file(state).stat().st_size / trail_records(RECORDS)
    record, bare, again = record[_WARM_UP:], bare[_WARM_UP:], again[_WARM_UP:]
    heading(f"Audit: a page's two messages in one commit, {RECORDS} times")
    print(f"list and view recorded   {spread(record)}")
    print(f"a bare commit            {spread(bare)}  {ratio(record, bare)}")
    print(f"looked at again          {spread(again)}")
    print(f"{size:.0f} bytes in the file for each message")


def trail_records(rounds: int) -> int:
    """How many records the rounds have left: two each, and the first of those that are once only."""
    return 2 * (rounds + _WARM_UP) + 1


def _commit(peer: Database, body: bytes) -> None:
    with peer.transaction() as sql:
        sql.execute("INSERT INTO records (body) VALUES (?)", (body,))


def _milliseconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def _stored() -> StoredResult:
    result = Result(
        source="dicom",
        sop_instance_uid="2.25.1",
        status=Status.NOT_ANALYSED,
        reason=None,
        priority=Priority.ROUTINE,
        timings_ms=Timings(),
    )
    return StoredResult(
        number=1,
        synchronised=True,
        kept=Kept.ALL,
        id="0f" * 16,
        seq=1,
        instance_id="0f" * 16,
        received_at=0.0,
        committed_at=0.0,
        waited=0.1,
        acknowledged_at=None,
        acknowledged_by=None,
        acknowledged_as=None,
        subject=Subject(patient_id="PAT-000417", study_instance_uid="2.25.329800735698586629295641978511506172918"),
        result=result,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
