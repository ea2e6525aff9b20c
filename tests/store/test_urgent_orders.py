"""The list of urgent orders: who is on it goes first; what cannot be read says nothing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.identity import Identity
from edge.records import Priority
from edge.store import Store
from edge.store.rotation import rotate

URGENT, ROUTINE, LOW = Priority


@pytest.mark.parametrize(
    ("says", "otherwise", "place"),
    [
        ({"accession_number": "A1"}, ROUTINE, URGENT),
        ({"accession_number": "A2", "study_instance_uid": "1.2.3"}, ROUTINE, URGENT),
        ({"accession_number": "A1"}, LOW, URGENT),
        ({"accession_number": "A2", "study_instance_uid": "1.2"}, ROUTINE, ROUTINE),
        ({"accession_number": "A2", "study_instance_uid": "1.2"}, LOW, LOW),
        ({}, ROUTINE, ROUTINE),
        ({"accession_number": "A2", "urgent": True}, LOW, URGENT),
    ],
)
def test_who_is_on_it_goes_first(tmp_path: Path, says: dict[str, Any], otherwise: Priority, place: Priority) -> None:
    with closing(Store(tmp_path)) as store:
        store.urgent_orders.write(["A1", "1.2.3"])
        assert store.urgent_orders.priority(Identity("1", "2", **says), otherwise) is place


def test_who_reads_sees_what_was_written_last_and_only_a_change_is_written(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as writer, closing(Store(tmp_path)) as reader:
        assert reader.urgent_orders.names() == frozenset()
        assert [writer.urgent_orders.write(names) for names in (["A1"], ["A1"], ["A2"], [])] == [
            True,
            False,
            True,
            True,
        ]
        writer.urgent_orders.write(["A3"])
        assert reader.urgent_orders.names() == {"A3"}


def test_it_is_sealed_outlives_a_rotation_and_says_nothing_when_damaged(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        store.urgent_orders.write(["ACCESSION-1"])
    file = tmp_path / "worklist" / "urgent"
    before = file.read_bytes()
    rotate(tmp_path)
    assert b"ACCESSION" not in before and file.read_bytes() != before
    with closing(Store(tmp_path)) as store:
        assert store.urgent_orders.names() == {"ACCESSION-1"}
        file.write_bytes(before[:-1])
        assert store.urgent_orders.names() == frozenset()
