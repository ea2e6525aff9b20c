"""The store's contract as its callers see it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.errors import ScansideError
from edge.records import Priority, Summary
from edge.store import Store, Tampered, read_sealed
from edge.store.adoption import Swept
from edge.store.journal import VERSION
from tests.store.conftest import Box, Clock
from tests.store.samples import MODEL, SUBJECT, arrival, claimed, flagged, refused, spooled, summary


def test_accept_keeps_the_bytes_and_how_they_came(store: Store, clock: Clock) -> None:
    accepted = store.accept(b"image", arrival("1.2.3"))
    instance = accepted.instance
    assert (accepted.new, accepted.conflicts_with) == (True, None)
    assert store.read(instance.id) == b"image"
    assert instance.sha256 == hashlib.sha256(b"image").hexdigest()
    assert (instance.size, instance.received_at, instance.attempts) == (5, clock.now, 0)
    assert claimed(store) == msgspec.structs.replace(instance, attempts=1)


def test_accept_takes_a_memoryview_and_no_bytes_at_all(store: Store) -> None:
    view = store.accept(memoryview(bytearray(b"image")), arrival()).instance
    empty = store.accept(b"", arrival()).instance
    assert (store.read(view.id), store.read(empty.id)) == (b"image", b"")


@pytest.mark.parametrize(
    ("first", "second", "instances", "conflict"),
    [
        (("1.2.3", b"a"), ("1.2.3", b"a"), 1, False),
        (("1.2.3", b"a"), ("1.2.3", b"b"), 2, True),
        (("1.2.3", b"a"), ("1.2.4", b"a"), 2, False),
        ((None, b"a"), (None, b"a"), 1, False),
        ((None, b"a"), (None, b"b"), 2, False),
        ((None, b"a"), ("1.2.3", b"a"), 2, False),
    ],
)
def test_what_counts_as_the_same_object(
    store: Store,
    first: tuple[str | None, bytes],
    second: tuple[str | None, bytes],
    instances: int,
    conflict: bool,
) -> None:
    one = store.accept(first[1], arrival(first[0]))
    two = store.accept(second[1], arrival(second[0]))
    assert two.new is (instances == 2)
    assert two.conflicts_with == (one.instance.id if conflict else None)
    assert store.queue().depth == instances == len(spooled(store.state_dir))
    assert {one.instance.id, two.instance.id} == spooled(store.state_dir)


@pytest.mark.parametrize(
    ("statement", "new"),
    [
        ({}, False),
        ({"stated_age_years": 3.0}, True),
        ({"stated_age_years": 0.0}, True),
        ({"stated_modality": "CR"}, True),
        ({"stated_modality": "CR", "stated_age_years": 3.0}, True),
    ],
)
@pytest.mark.parametrize("uid", [None, "1.2.3"])
def test_what_is_stated_about_an_object_makes_it_another_one(
    store: Store, uid: str | None, statement: dict[str, Any], new: bool
) -> None:
    store.accept(b"image", arrival(uid))
    stated = msgspec.structs.replace(arrival(uid), **statement)
    second = store.accept(b"image", stated)
    assert (second.new, second.conflicts_with) == (new, None)
    assert second.instance.arrival == stated
    assert not store.accept(b"image", stated).new


def test_an_accepted_object_and_its_result_are_found_by_its_id(store: Store) -> None:
    instance = store.accept(b"image", arrival("1.2.3")).instance
    assert store.instance(instance.id) == instance
    assert store.instance("none") is None
    assert store.result_of(instance.id) is None
    stored = store.commit(claimed(store), flagged(), SUBJECT)
    assert store.result_of(instance.id) == stored


@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_a_journal_of_another_version_is_refused_in_one_line_and_left_as_it_is(tmp_path: Path, version: int) -> None:
    """Version 0 wrote its journals in clear: no key lies beside them, and none is made."""
    journal = tmp_path / "journal.sqlite"
    sql = sqlite3.connect(journal, isolation_level=None)
    sql.executescript(f"CREATE TABLE instances (id TEXT); PRAGMA user_version = {version}")
    sql.close()
    with pytest.raises(
        ScansideError, match=f"schema version {version}, this software reads {VERSION}: start"
    ) as refused:
        Store(tmp_path)
    assert str(refused.value).startswith(str(journal))
    assert not (tmp_path / "keys").exists()
    sql = sqlite3.connect(journal)
    assert sql.execute("SELECT name FROM sqlite_master").fetchall() == [("instances",)]
    sql.close()


def test_an_object_that_comes_again_after_its_result_is_not_analysed_again(store: Store) -> None:
    store.accept(b"image", arrival("1.2.3"))
    store.commit(claimed(store), flagged(), SUBJECT)
    assert not store.accept(b"image", arrival("1.2.3")).new
    assert store.claim() is None


def test_the_most_urgent_is_claimed_first_and_the_oldest_of_those(store: Store) -> None:
    order = [Priority.BACKLOG, Priority.ROUTINE, Priority.URGENT, Priority.ROUTINE, Priority.URGENT]
    for number, priority in enumerate(order):
        store.accept(b"%d" % number, arrival(f"1.{number}", priority))
    claims = [claimed(store).arrival for _ in order]
    assert [claim.sop_instance_uid for claim in claims] == ["1.2", "1.4", "1.1", "1.0", "1.3"]
    assert store.claim() is None


def test_the_queue_is_what_has_no_result_yet(store: Store, clock: Clock) -> None:
    assert store.queue() == (0, None, None)
    began = clock.now
    for number in range(3):
        store.accept(b"%d" % number, arrival())
        clock.now += 10
    assert store.queue()[:2] == (3, began)
    store.commit(claimed(store), flagged(), SUBJECT)
    claimed(store)
    assert store.queue()[:2] == (2, began + 10), "what is in work waits for its result too"


def test_commit_stores_the_answer_with_all_that_it_owes(store: Store, clock: Clock, box: Box) -> None:
    store.accept(b"image", arrival("1.2.3"))
    instance = claimed(store)
    box.live(0.25)
    stored = store.commit(instance, flagged(), SUBJECT, explanation='{"map": 1}', summary=summary)
    assert (stored.instance_id, stored.received_at, stored.committed_at) == (instance.id, clock.now - 0.25, clock.now)
    assert stored.waited == 0.25
    assert (stored.result, stored.subject) == (flagged(), SUBJECT)
    assert (stored.acknowledged_at, stored.acknowledged_by, stored.acknowledged_as) == (None, None, None)
    assert MODEL.digest.endswith(stored.id.rpartition("-")[2])
    assert store.result(stored.id) == stored
    assert store.results() == store.changed_since(0) == [stored]
    assert store.explanation(stored.id) == '{"map": 1}'
    (owed,) = store.owed("summary")
    assert (owed.result_id, owed.instance_id) == (stored.id, instance.id)
    assert msgspec.json.decode(owed.body, type=Summary) == summary(
        message_id=stored.id, committed_at=clock.now, synchronised=True, waited=0.25
    )
    assert [item.result_id for item in store.owed("preview")] == [stored.id]


def test_a_box_that_stands_alone_owes_no_summary(store: Store) -> None:
    store.accept(b"image", arrival())
    store.commit(claimed(store), refused(), SUBJECT)
    assert store.owed("summary") == []
    assert len(store.owed("preview")) == 1


def test_a_second_answer_to_the_same_image_changes_nothing(store: Store) -> None:
    store.accept(b"image", arrival())
    instance = claimed(store)
    first = store.commit(instance, flagged(), SUBJECT, summary=summary)
    assert store.commit(instance, refused(), SUBJECT, summary=summary) == first
    assert store.results() == [first]
    assert len(store.owed("summary")) == 1


def test_a_worker_that_was_given_up_still_answers_once(store: Store) -> None:
    """It hung, was taken for dead, and its claim put back; then it commits after all."""
    store.accept(b"image", arrival())
    hung = claimed(store)
    assert store.recover() == 1
    answer = store.commit(hung, flagged(), SUBJECT, summary=summary)
    assert answer.result.status == "flagged"
    assert store.claim() is None, "nobody answers it a second time"
    assert len(store.owed("summary")) == 1


def test_recover_puts_claims_back_in_their_order_with_their_attempts_counted(store: Store) -> None:
    for number in range(2):
        store.accept(b"%d" % number, arrival(f"1.{number}"))
    claimed(store)
    claimed(store)
    assert store.recover() == 2
    assert store.recover() == 0
    again = [claimed(store) for _ in range(2)]
    assert [(claim.arrival.sop_instance_uid, claim.attempts) for claim in again] == [("1.0", 2), ("1.1", 2)]


def test_settled_debts_are_gone_and_others_stay(store: Store) -> None:
    for number in range(3):
        store.accept(b"%d" % number, arrival())
        store.commit(claimed(store), flagged(), SUBJECT, summary=summary)
    debts = store.owed("summary")
    assert [debt.number for debt in debts] == sorted(debt.number for debt in debts)
    assert store.owed("summary", limit=2) == debts[:2]
    store.settle([debts[0].number, debts[2].number])
    store.settle([debts[0].number])
    assert store.owed("summary") == [debts[1]]
    assert len(store.owed("preview")) == 3


def test_the_first_acknowledgement_stands(store: Store, clock: Clock) -> None:
    store.accept(b"image", arrival())
    result = store.commit(claimed(store), flagged(), SUBJECT)
    clock.now += 60
    first = store.acknowledge(result.id, "ada", "agree")
    assert first is not None
    assert (first.acknowledged_at, first.acknowledged_by, first.acknowledged_as) == (clock.now, "ada", "agree")
    assert first.seq > result.seq
    clock.now += 60
    assert store.acknowledge(result.id, "bob", "disagree") == first
    assert store.acknowledge("no such result", "bob", "agree") is None


def test_changes_come_in_order_and_once(store: Store) -> None:
    results = []
    for number in range(3):
        store.accept(b"%d" % number, arrival())
        results.append(store.commit(claimed(store), flagged(), SUBJECT))
    seen = store.last_seq()
    assert store.changed_since(seen) == []
    assert [change.id for change in store.changed_since(results[0].seq)] == [results[1].id, results[2].id]
    store.acknowledge(results[0].id, "ada", "agree")
    (change,) = store.changed_since(seen)
    assert (change.id, change.acknowledged_by) == (results[0].id, "ada")
    assert store.last_seq() == change.seq
    assert len({result.seq for result in store.results()}) == 3


def test_results_are_the_newest_first(store: Store, clock: Clock) -> None:
    ids = []
    for number in range(4):
        store.accept(b"%d" % number, arrival())
        ids.append(store.commit(claimed(store), flagged(), SUBJECT).id)
        clock.now += 1
    assert [result.id for result in store.results(limit=3)] == ids[:0:-1]


def test_pictures_are_kept_and_replaced(store: Store) -> None:
    instance = store.accept(b"image", arrival()).instance
    assert store.picture(instance.id, "preview.jpg") is None
    for data in (b"first", b"second"):
        store.write_picture(instance.id, "preview.jpg", data)
        assert store.picture(instance.id, "preview.jpg") == data
    assert store.picture(instance.id, "overlay.png") is None


def test_sweep_removes_what_is_half_written_sets_aside_what_does_not_open_and_nothing_else(store: Store) -> None:
    kept = store.accept(b"image", arrival()).instance
    store.write_picture(kept.id, "preview.jpg", b"picture")
    spool = store.state_dir / "spool"
    (spool / "incoming" / "half").write_bytes(b"x")
    (spool / "whole").write_bytes(b"x")
    assert store.sweep() == Swept(removed=1, adopted=0, broken=1, locked=0)
    assert store.sweep() == Swept(0, 0, 0, 0)
    assert (store.state_dir / "broken" / "spool" / "whole").read_bytes() == b"x"
    assert store.read(kept.id) == b"image"
    assert store.picture(kept.id, "preview.jpg") == b"picture"


def test_a_lost_spool_file_is_said(store: Store) -> None:
    instance = store.accept(b"image", arrival()).instance
    (store.state_dir / "spool" / instance.id).unlink()
    with pytest.raises(FileNotFoundError):
        store.read(instance.id)
    with pytest.raises(FileNotFoundError):
        store.open(instance.id)


def test_an_open_file_with_its_key_gives_the_bytes_to_whoever_has_both(store: Store) -> None:
    one, two = (store.open(store.accept(data, arrival()).instance.id) for data in (b"image", b"another"))
    assert not os.get_inheritable(one.descriptor)
    assert read_sealed(*one).data == read_sealed(*one).data == b"image"
    with pytest.raises(Tampered):
        read_sealed(two.descriptor, one.secret)
    assert repr(one.secret)[2:-1] not in repr(one)
    os.close(one.descriptor)
    os.close(two.descriptor)


def test_all_is_there_after_opening_again(store: Store, tmp_path: Path) -> None:
    store.accept(b"image", arrival("1.2.3"))
    result = store.commit(claimed(store), flagged(), SUBJECT, summary=summary)
    store.close()
    again = Store(tmp_path / "state")
    assert again.results() == [result]
    assert len(again.owed("summary")) == 1
    assert again.read(result.instance_id) == b"image"
    again.close()


def test_only_the_services_user_can_read_the_state(store: Store) -> None:
    store.accept(b"image", arrival())
    paths = [store.state_dir, *store.state_dir.rglob("*")]
    assert len(paths) > 5
    assert [path for path in paths if stat.S_IMODE(path.lstat().st_mode) & 0o077 and not path.is_socket()] == []
