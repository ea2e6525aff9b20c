"""Files in the spool of which the journal knows nothing: put back, removed, set aside, or left for their key."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from edge.records import Priority
from edge.store import Store
from edge.store.adoption import Swept
from edge.store.keys import KeyRing, new_key, open_ring, write_ring
from tests.store.conftest import Clock
from tests.store.samples import SUBJECT, arrival, claimed, flagged, spooled

NOTHING = Swept(0, 0, 0, 0)


def forget(store: Store, instance_ids: Iterable[str]) -> None:
    """As a lost transaction would."""
    with closing(sqlite3.connect(store.state_dir / "journal.sqlite", isolation_level=None)) as sql:
        for instance_id in instance_ids:
            sql.execute("DELETE FROM instances WHERE id = ?", (instance_id,))


def test_a_file_without_its_row_is_put_back_as_it_was_and_once(store: Store, clock: Clock) -> None:
    instances = []
    for number, priority in enumerate((Priority.ROUTINE, Priority.URGENT, Priority.ROUTINE)):
        instances.append(store.accept(bytes([number]) * 300_000, arrival(f"1.2.{number}", priority)).instance)
        clock.now += 10
    forget(store, (instance.id for instance in instances))
    clock.now += 1000
    assert store.sweep() == Swept(removed=0, adopted=3, broken=0, locked=0)
    assert store.sweep() == NOTHING
    assert [store.instance(instance.id) for instance in instances] == instances
    assert not store.accept(bytes([0]) * 300_000, arrival("1.2.0")).new, "its sender's repetition is known"
    assert [claimed(store).id for _ in instances] == [instances[1].id, instances[0].id, instances[2].id]


def test_what_has_a_row_is_left_alone_whatever_its_state(store: Store) -> None:
    store.accept(b"done", arrival())
    store.commit(claimed(store), flagged(), SUBJECT)
    store.accept(b"in work", arrival())
    claimed(store)
    store.accept(b"waits", arrival())
    assert store.sweep() == NOTHING
    assert store.queue().depth == 2
    assert len(store.results()) == 1


def test_the_same_object_twice_stays_once(store: Store, tmp_path: Path) -> None:
    """Accepted by two processes at once, of which one was killed before it could remove its file."""
    first = store.accept(b"image", arrival("1.2.3")).instance
    shutil.copy(store.state_dir / "spool" / first.id, tmp_path / "first")
    forget(store, [first.id])
    (store.state_dir / "spool" / first.id).unlink()
    second = store.accept(b"image", arrival("1.2.3")).instance
    shutil.copy(tmp_path / "first", store.state_dir / "spool" / first.id)
    assert store.sweep() == Swept(removed=1, adopted=0, broken=0, locked=0)
    assert spooled(store.state_dir) == {second.id}


@pytest.mark.parametrize("damage", ["cut", "record", "header", "name", "empty"])
def test_what_does_not_open_is_set_aside(store: Store, damage: str) -> None:
    instance = store.accept(b"image" * 100_000, arrival("1.2.3")).instance
    forget(store, [instance.id])
    path = store.state_dir / "spool" / instance.id
    data = path.read_bytes()
    damaged = {
        "cut": data[:-1],
        "record": data[:-1] + bytes([data[-1] ^ 1]),
        "header": b"SSF0" + data[4:],
        "name": data,
        "empty": b"",
    }[damage]
    path.unlink()
    name = "another" if damage == "name" else instance.id
    (store.state_dir / "spool" / name).write_bytes(damaged)
    assert store.sweep() == Swept(removed=0, adopted=0, broken=1, locked=0)
    assert (store.state_dir / "broken" / "spool" / name).read_bytes() == damaged
    assert store.instance(instance.id) is None
    assert store.accept(b"image" * 100_000, arrival("1.2.3")).new, "what comes again is taken"


def test_a_file_of_another_key_stays_until_that_key_is_back(store: Store) -> None:
    instance = store.accept(b"image", arrival("1.2.3")).instance
    path = store.state_dir / "spool" / instance.id
    data = path.read_bytes()
    ring = open_ring(store.state_dir)
    path.unlink()
    forget(store, [instance.id])
    other = new_key()
    path.write_bytes(data[:4] + other.id + data[8:])
    assert store.sweep() == Swept(removed=0, adopted=0, broken=0, locked=1)
    assert spooled(store.state_dir) == {instance.id}
    path.write_bytes(data)
    write_ring(KeyRing(ring.file, (other, *ring.keys)))
    with closing(Store(store.state_dir)) as again:
        assert again.sweep() == Swept(removed=0, adopted=1, broken=0, locked=0)
        assert again.read(instance.id) == b"image"
