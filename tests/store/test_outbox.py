"""The outbox's contract: in order, once for each id, gone only when removed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge.store import Doorbell, Outbox
from tests.store.conftest import Clock


@pytest.fixture
def outbox(tmp_path: Path, clock: Clock) -> Outbox:
    return Outbox(tmp_path, clock)


def test_messages_wait_in_the_order_in_which_they_were_put(outbox: Outbox, clock: Clock) -> None:
    outbox.put([("a", "summary", b"1"), ("b", "summary", b"2")])
    clock.now += 5
    outbox.put([("c", "summary", b"3")])
    waiting = outbox.waiting()
    assert [(message.message_id, message.kind, message.body) for message in waiting] == [
        ("a", "summary", b"1"),
        ("b", "summary", b"2"),
        ("c", "summary", b"3"),
    ]
    assert [message.created_at for message in waiting] == [clock.now - 5, clock.now - 5, clock.now]
    assert outbox.waiting(limit=2) == waiting[:2]
    assert outbox.waiting(after=waiting[1].number) == waiting[2:]
    assert outbox.depth() == (3, clock.now - 5)


def test_an_id_that_waits_already_is_left_as_it_is(outbox: Outbox) -> None:
    outbox.put([("a", "summary", b"1")])
    outbox.put([("a", "summary", b"another"), ("b", "summary", b"2")])
    assert [(message.message_id, message.body) for message in outbox.waiting()] == [("a", b"1"), ("b", b"2")]


def test_removed_messages_are_gone_and_their_numbers_are_not_used_again(outbox: Outbox) -> None:
    outbox.put([("a", "summary", b"1"), ("b", "summary", b"2")])
    a, b = outbox.waiting()
    outbox.remove(b.number)
    outbox.remove(b.number)
    outbox.put([("c", "summary", b"3")])
    assert [message.message_id for message in outbox.waiting()] == ["a", "c"]
    assert outbox.waiting()[-1].number > b.number
    outbox.remove(a.number)
    assert outbox.depth()[0] == 1


def test_an_empty_outbox(outbox: Outbox) -> None:
    assert (outbox.waiting(), outbox.depth()) == ([], (0, None))
    outbox.put([])
    assert outbox.depth() == (0, None)


def test_a_put_that_fails_in_the_middle_puts_nothing_and_the_next_one_works(outbox: Outbox) -> None:
    with pytest.raises(sqlite3.Error):
        outbox.put([("a", "summary", b"1"), ("b", "summary", object())])  # type: ignore[list-item]
    assert outbox.depth() == (0, None)
    outbox.put([("a", "summary", b"1")])
    assert outbox.depth()[0] == 1


def test_putting_wakes_sync(outbox: Outbox, tmp_path: Path) -> None:
    bell = Doorbell(tmp_path, "sync")
    outbox.put([("a", "summary", b"1")])
    assert bell.wait(3600.0)
    bell.close()


def test_messages_outlive_the_process(outbox: Outbox, tmp_path: Path) -> None:
    outbox.put([("a", "summary", b"1")])
    waiting = outbox.waiting()
    outbox.close()
    again = Outbox(tmp_path)
    assert again.waiting() == waiting
    again.close()


def test_the_outbox_is_a_file_of_its_own(outbox: Outbox, tmp_path: Path) -> None:
    """`sync` needs nothing else of the state folder but health and doorbells."""
    outbox.put([("a", "summary", b"1")])
    assert {path.name for path in tmp_path.iterdir()} <= {"outbox", "doorbells"}
