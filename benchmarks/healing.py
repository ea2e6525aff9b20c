"""What looking at a journal of 100,000 results costs at a start, and how long a repair takes, beside plain reading.

`python -m benchmarks.healing [--results 100000]`: makes a journal as large as years of work leave it, then in one run:
reading the file once (the peer: no look can be cheaper), `PRAGMA quick_check`, `PRAGMA integrity_check`, the thorough
look (every sealed value opened), opening a store with and without a look, and the repair of a journal that has lost an
index page and of one that has lost its first page.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from edge.config import Storage
from edge.records import Arrival, Finding, Instance, Priority, Result, Status, Subject, Timings
from edge.store import Store
from edge.store.journal import Columns, Received, insert_instance, mark_patient
from edge.store.keys import open_ring
from edge.store.sealed_file import SealedWriter
from edge.store.vault import Vault

EXPLANATION = '{"maps": [' + ",".join(["0.123"] * 196) + '], "outline": null}'


def main() -> None:
    """Print a line for each figure: seconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=int, default=100_000)
    count = parser.parse_args().results
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        _fill(state, count)
        journal = state / "journal.sqlite"
        print(f"{count} results, journal of {journal.stat().st_size / 1e6:.0f} MB")
        _timed("reading the file once", journal.read_bytes)
        for pragma in ("quick_check", "integrity_check"):
            with closing(sqlite3.connect(journal)) as sql:
                _timed(f"PRAGMA {pragma}", lambda pragma=pragma: sql.execute(f"PRAGMA {pragma}").fetchall())  # type: ignore[misc]
        _timed("opening the store", lambda: Store(state).close())
        (journal.with_name("journal.sqlite.standing")).write_text("suspect".ljust(127) + "\n")
        _timed("opening it after an error: every sealed value", lambda: Store(state).close())
        with closing(sqlite3.connect(journal)) as sql:
            (index,) = sql.execute("SELECT rootpage FROM sqlite_master WHERE name = 'of_instance'").fetchone()
            (size,) = sql.execute("PRAGMA page_size").fetchone()
        for name, page in (("an index is damaged", index), ("the first page is gone", 1)):
            damaged = Path(folder) / "damaged"
            shutil.copytree(state, damaged, ignore=shutil.ignore_patterns("doorbells*"))
            with (damaged / "journal.sqlite").open("r+b") as file:
                file.seek((page - 1) * size)
                file.write(bytes(size))
            (damaged / "journal.sqlite.standing").write_text("suspect".ljust(127) + "\n")
            _timed(f"repair: {name}", lambda damaged=damaged: Store(damaged).close())  # type: ignore[misc]
            with closing(Store(damaged)) as store:
                print(
                    f"  then {len(store.changed_since(0, count + 1))} results, {store.queue().depth} images to analyse"
                )
            shutil.rmtree(damaged)


def _fill(state: Path, count: int) -> None:
    """Rows as the store writes them, in one transaction, and sealed files without images."""
    with closing(Store(state)) as store:
        vault = Vault(open_ring(state, Storage().key_file))
        columns = Columns(vault)
        with store._journal.transaction() as sql:
            for number in range(count):
                name = f"{number:032x}"
                arrival = Arrival(source="dicom", peer="MODALITY", sop_instance_uid=f"1.2.826.0.1.{number}")
                instance = Instance(
                    id=name, arrival=arrival, sha256=f"{number:064x}", size=0, received_at=1.8e9 + number, attempts=1
                )
                insert_instance(sql, instance, columns, Received(float(number), unsynchronised=False))
                with (state / "spool" / name).open("wb") as file:
                    SealedWriter(vault.new_file(name), file.write, 1024).finish(msgspec.json.encode(instance))
                _add_result(sql, instance, number, columns)
            sql.execute("UPDATE instances SET state = 'done'")
            sql.execute("UPDATE counter SET value = ?", (count,))


def _add_result(sql: sqlite3.Connection, instance: Instance, number: int, columns: Columns) -> None:
    finding = Finding(
        code="233604007", scheme="SCT", meaning="Pneumonia", score=0.9, probability=0.8, threshold=0.5, flagged=True,
        box=(1, 2, 3, 4),
    )  # fmt: skip
    result = Result(
        source="dicom",
        sop_instance_uid=instance.arrival.sop_instance_uid,
        status=Status.FLAGGED,
        reason=None,
        priority=Priority.URGENT,
        findings=(finding, finding),
        timings_ms=Timings(total=20.0),
    )
    subject = Subject(patient_id=f"P{number}", sex="F", age_years=3.0, modality="DX", study_instance_uid="1.2.3.4")
    name = f"{instance.id}-00000000"
    sql.execute(
        "INSERT INTO results (id, instance_id, seq, number, committed_at, waited, status, subject, result, explanation)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            name,
            instance.id,
            number + 1,
            number + 1,
            instance.received_at + 0.1,
            0.1,
            result.status,
            columns.seal("results.subject", name, subject),
            columns.seal("results.result", name, result),
            columns.seal("results.explanation", name, EXPLANATION),
        ),
    )
    mark_patient(sql, number + 1, subject, columns)


def _timed(name: str, work: Callable[[], object]) -> None:
    begun = time.perf_counter()
    work()
    print(f"{name}: {time.perf_counter() - begun:.2f} s")


if __name__ == "__main__":
    main()
