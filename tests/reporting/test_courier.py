"""The queue and its courier against PACS that refuse, are slow, die, warn or lack things."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest
from pydicom import uid

from edge.config import Config
from edge.config_reporting import Destination, Reporting
from edge.records import Arrival, Kept
from edge.reporting.courier import Courier
from edge.reporting.maker import Maker
from edge.reporting.names import uid_of
from edge.reporting.pacs import listen_for_commitment
from edge.store import Store
from edge.store.deliveries import BACKLOG_AFTER, Standing
from edge.store.retention import Removal
from tests.reporting import samples
from tests.reporting.peers import answer, pacs
from tests.store.conftest import Box
from tests.store.conftest import Clock as WallClock
from tests.system.conftest import await_until, free_port

SR3D = uid.Comprehensive3DSRStorage
SR2D = uid.ComprehensiveSRStorage
GSPS = uid.GrayscaleSoftcopyPresentationStateStorage
PICTURE = uid.SecondaryCaptureImageStorage


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "state")
    yield opened
    opened.close()


def queued(store: Store, to: Destination, count: int = 1) -> None:
    """Results whose objects are made and wait."""
    for number in range(count):
        answer(store, samples.radiograph(SOPInstanceUID=f"1.2.826.0.1.3680043.8.2.{number}"))
    made(store, to, count)


def made(store: Store, to: Destination, count: int = 1) -> None:
    """Make the objects of so many results that are owed, which are all."""
    maker = Maker(store, Config(state_dir=store.state_dir, reporting=Reporting(destinations=(to,))))
    assert [maker.turn() for _ in range(count + 1)] == [True] * count + [False]


def courier(store: Store, to: Destination, clock: Clock | None = None) -> Courier:
    return Courier(store, to, lambda _to, _row: None, clock or Clock())


def destination(port: int, **options: object) -> Destination:
    return Destination(name="pacs", port=port, objects_per_second=1000, **options)  # type: ignore[arg-type]


def test_all_arrives_in_order_and_nothing_is_left(store: Store) -> None:
    with pacs() as peer:
        to = destination(peer.port)
        queued(store, to, 3)
        assert courier(store, to).turn(Event()) is False
        assert [sop_class for sop_class, _ in peer.received] == [PICTURE, GSPS, SR3D] * 3
    assert store.deliveries.standing() == {}
    assert list((store.state_dir / "reports").glob("*.*")) == []


@pytest.mark.parametrize(
    ("classes", "picture", "received"),
    [
        ((SR2D, PICTURE, GSPS), True, [PICTURE, GSPS, SR2D]),
        ((SR2D,), True, [SR2D]),
        ((PICTURE,), True, [PICTURE]),
        ((PICTURE,), False, [PICTURE]),
    ],
)
def test_what_a_pacs_does_not_take_is_replaced(
    store: Store, classes: tuple[str, ...], picture: bool, received: list[str]
) -> None:
    with pacs(classes) as peer:
        to = destination(peer.port, secondary_capture=picture)
        queued(store, to)
        courier(store, to).turn(Event())
        assert [sop_class for sop_class, _ in peer.received] == received
    assert store.deliveries.standing() == {}


def test_a_pacs_that_says_only_then_that_it_lacks_the_class_gets_the_other(store: Store) -> None:
    with pacs() as peer:
        to = destination(peer.port, secondary_capture=False, presentation_state=False)
        queued(store, to)
        peer.answers = [0x0122]
        one = courier(store, to)
        one.turn(Event())
        one.turn(Event())
        assert peer.received[-1][0] == SR2D
    assert store.deliveries.standing() == {}


def test_a_pacs_that_takes_nothing_leaves_it_parked_until_somebody_has_seen_to_it(store: Store) -> None:
    with pacs(()) as peer:
        to = destination(peer.port)
        queued(store, to)
        courier(store, to).turn(Event())
        assert peer.received == []
    standing = store.deliveries.standing()["pacs"]
    assert standing.waiting == 0 and standing.parked
    assert store.deliveries.unpark() == standing.parked
    with pacs() as peer:
        to = destination(peer.port)
        Maker(store, Config(state_dir=store.state_dir, reporting=Reporting(destinations=(to,)))).turn()
        courier(store, to).turn(Event())
        assert SR3D in [sop_class for sop_class, _ in peer.received]
    assert store.deliveries.standing() == {}


@pytest.mark.parametrize("status", [0xA900, 0xC123, 0x0124])
def test_what_is_refused_is_parked_and_the_others_go(store: Store, status: int) -> None:
    with pacs() as peer:
        to = destination(peer.port, presentation_state=False)
        queued(store, to, 2)
        peer.answers = [status]
        courier(store, to).turn(Event())
        assert [sop_class for sop_class, _ in peer.received][-3:] == [SR3D, PICTURE, SR3D]
    assert store.deliveries.standing() == {"pacs": Standing(parked=1)}
    assert [reason for *_, reason in store.deliveries.parked()] == [
        f"the destination refuses it with status {status:04X}"
    ]


def test_one_without_room_is_left_alone_for_a_while_and_gets_all_later(store: Store) -> None:
    clock = Clock()
    with pacs() as peer:
        to = destination(peer.port, presentation_state=False, secondary_capture=False)
        queued(store, to, 3)
        peer.answers = [0xA700, 0xA700]
        one = courier(store, to, clock)
        assert one.turn(Event()) is False
        assert (peer.received, one.trouble) == ([], "it is out of resources")
        one.turn(Event())
        assert peer.received == []
        clock.now += 2
        one.turn(Event())
        assert len(peer.received) == 3
    assert store.deliveries.standing() == {}


def test_one_object_that_never_finds_room_keeps_no_other_waiting(store: Store) -> None:
    with pacs() as peer:
        to = destination(peer.port, presentation_state=False, secondary_capture=False)
        queued(store, to, 3)
        peer.answers = [0xA700]
        courier(store, to).turn(Event())
        assert len(peer.received) == 2
    assert store.deliveries.standing() == {"pacs": Standing(waiting=1)}


def test_one_that_stores_something_else_is_told_of(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with pacs() as peer:
        to = destination(peer.port, presentation_state=False)
        queued(store, to)
        peer.answers = [0xB000, 0xB007]
        courier(store, to).turn(Event())
    assert [record.message[:5] for record in caplog.records if record.levelname == "ERROR"] == ["SC557"]
    assert store.deliveries.standing() == {}


def test_one_that_is_away_gets_the_very_same_when_it_is_back(store: Store) -> None:
    clock, port = Clock(), free_port()
    to = destination(port)
    queued(store, to)
    one = courier(store, to, clock)
    one.turn(Event())
    assert one.trouble == "no connection"
    before = {path.name: path.read_bytes() for path in (store.state_dir / "reports").glob("*.*")}
    assert len(before) == 3
    with pacs(port=port) as peer:
        clock.now += 1.5
        one.turn(Event())
        assert len(peer.received) == 3
    assert one.trouble == ""


def test_after_an_outage_a_fresh_flag_goes_first_and_the_backlog_in_the_gaps(tmp_path: Path) -> None:
    """The flags come while the backlog is on its way, in the middle of an association."""
    box, come = Box(WallClock()), Event()
    to = destination(free_port(), presentation_state=False, secondary_capture=False)

    def flag(number: int) -> str:
        stored = answer(store, samples.radiograph(SOPInstanceUID=f"1.2.826.0.1.3680043.8.2.{number}"))
        made(store, to)
        return uid_of(stored.id, SR3D)

    def five_come() -> None:
        if not come.is_set():
            come.set()
            fresh.extend(flag(number) for number in range(6, 11))

    fresh: list[str] = []
    with closing(Store(tmp_path / "state", box.wall, machine=box.machine)) as store:
        backlog = [flag(number) for number in range(6)]
        box.live(BACKLOG_AFTER + 1)
        with pacs(port=to.port, before=five_come) as peer:
            courier(store, to).turn(Event())
    expected = [backlog[0], *fresh[:3], backlog[1], *fresh[3:], *backlog[2:]]
    assert [name for _, name in peer.received] == expected


def test_one_that_dies_in_the_middle_gets_everything_once_under_one_uid(store: Store) -> None:
    clock, dying = Clock(), Event()
    with pacs() as peer:
        to = destination(peer.port)
        queued(store, to, 2)
    stopped = Event()

    def die() -> None:
        if len(again.received) == 2 and not dying.is_set():
            dying.set()
            stopped.set()

    one = courier(store, to, clock)
    with pacs(port=to.port, before=die) as again:
        one.turn(stopped)  # the box is stopped in the middle of it
        assert 2 <= len(again.received) < 6
        clock.now += 10
        courier(store, to, clock).turn(Event())
        assert len({name for _, name in again.received}) == 6
        assert all(len(contents) == 1 for contents in again.objects.values())
    assert store.deliveries.standing() == {}


def test_bytes_that_are_lost_are_made_again_under_the_same_uid(store: Store) -> None:
    with pacs() as peer:
        to = destination(peer.port)
        queued(store, to)
        (expected,) = set((store.state_dir / "reports").glob("*.sr"))
        expected.write_bytes(b"rotten")
        one = courier(store, to)
        one.turn(Event())
        assert [sop_class for sop_class, _ in peer.received] == [PICTURE, GSPS]
        Maker(store, Config(state_dir=store.state_dir, reporting=Reporting(destinations=(to,)))).turn()
        one.turn(Event())
        assert len({name for _, name in peer.received}) == 3
    assert store.deliveries.standing() == {}


def test_what_a_pacs_commits_to_keep_is_forgotten_and_what_it_does_not_is_sent_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.reporting.courier._REPORT_WITHIN", 0.0)  # it calls back
    clock, port = Clock(), free_port()
    with pacs(commits=True) as peer:
        to = destination(
            peer.port, presentation_state=False, storage_commitment=True, calling_ae_title="READING_ROOM_2"
        )
        queued(store, to)
        one = courier(store, to, clock)
        listener = listen_for_commitment("127.0.0.1", port, one.committed)
        try:
            one.turn(Event())
            assert store.deliveries.standing() == {"pacs": Standing(stored=2)}
            asked = {str(item.ReferencedSOPInstanceUID) for item in peer.requests[-1].ReferencedSOPSequence}
            assert asked == {name for _, name in peer.received}
            peer.report_to(port, failed=True)
            assert store.deliveries.standing() == {"pacs": Standing(waiting=2)}
            one.turn(Event())
            peer.report_to(port)
            await_until(lambda: store.deliveries.standing() == {}, "the commitment")
        finally:
            listener.shutdown()
    assert peer.asked_by == "READING_ROOM_2"
    assert len({name for _, name in peer.received}) == 2


def test_one_without_storage_commitment_is_named(store: Store) -> None:
    with pacs() as peer:
        to = destination(peer.port, storage_commitment=True)
        queued(store, to)
        one = courier(store, to)
        one.turn(Event())
    assert one.trouble == "it gives no storage commitment"
    assert store.deliveries.standing() == {"pacs": Standing(stored=3)}


def test_an_image_is_kept_until_its_report_is_delivered_and_then_goes(store: Store) -> None:
    with pacs() as peer:
        to = destination(peer.port)
        stored = answer(store, samples.radiograph())
        (held,) = store.holdings.oldest(store.lifetime.now().lifetime, 10)
        assert held.undelivered
        Maker(store, Config(state_dir=store.state_dir, reporting=Reporting(destinations=(to,)))).turn()
        (held,) = store.holdings.oldest(store.lifetime.now().lifetime, 10)
        assert held.undelivered
        courier(store, to).turn(Event())
    (held,) = store.holdings.oldest(store.lifetime.now().lifetime, 10)
    assert not held.undelivered
    assert store.holdings.remove([Removal(held.id, None)])
    assert store.result(stored.id) is None


def test_an_image_that_made_room_before_its_report_is_parked_with_that_reason(store: Store) -> None:
    to = destination(1)
    stored = answer(store, samples.radiograph())
    store.holdings.remove([Removal(stored.instance_id, Kept.NOTHING)])
    Maker(store, Config(state_dir=store.state_dir, reporting=Reporting(destinations=(to,)))).turn()
    assert [reason for *_, reason in store.deliveries.parked()] == [
        "its image is not on this box any more, or does not open"
    ]
    assert store.holdings.remove([Removal(stored.instance_id, None)])


def test_a_report_whose_making_kills_is_given_up_after_some_tries(store: Store) -> None:
    answer(store, samples.radiograph())
    (owed,) = store.owed("report")
    assert [store.deliveries.try_to_make(owed.number) for _ in range(10)] == list(range(1, 11))
    Maker(store, Config(state_dir=store.state_dir, reporting=Reporting(destinations=(destination(1),)))).turn()
    assert [reason for *_, reason in store.deliveries.parked()] == [
        "making its objects ended the service again and again"
    ]


def test_reports_are_made_when_it_is_quiet_and_after_a_while_all_the_same(store: Store) -> None:
    clock = Clock()
    reporting = Reporting(destinations=(destination(1),))
    maker = Maker(store, Config(state_dir=store.state_dir, reporting=reporting), clock)

    def made_after(seconds: float) -> bool:
        clock.now += seconds
        return maker.turn()

    answer(store, samples.radiograph())
    assert (made_after(5), maker.waits) == (False, True), "it was just answered"
    assert (made_after(0.9), made_after(0.2), maker.waits) == (False, True, False)
    answer(store, samples.radiograph(SOPInstanceUID="1.2.3.8"))
    store.accept(samples.radiograph(SOPInstanceUID="1.2.3.9"), Arrival(source="folder", peer="x"))
    assert [made_after(seconds) for seconds in (1, 14, 15, 2)] == [False, False, False, True], "an image waits"
