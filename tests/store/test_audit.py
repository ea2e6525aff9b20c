"""The trail as services write it: what it keeps, what it hides, and what it does when the disk or a key is gone."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest

from edge.errors import ScansideError
from edge.store import AlreadyRunning, Store
from edge.store.audit import ONE_VIEW, AuditTrail, actions, audit_file
from edge.store.audit.actions import Person
from edge.store.audit.chain import START, Head, anchors_in, check_file, digest_of
from edge.store.audit.message import AuditMessage, AuditSource, utc
from edge.store.keys import Key, KeyRing, open_ring
from edge.store.rotation import rotate
from edge.store.vault import Vault
from tests.store.audit_reading import in_words
from tests.store.test_audit_message import stored

WEB = AuditSource("clinic-12", "xray-1", "web")
DAY = 86_400.0


class Clock:
    """Time that only moves when told to."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A fake clock."""
    return Clock()


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """A key ring in the state folder."""
    return open_ring(tmp_path)


@pytest.fixture
def trail(tmp_path: Path, ring: KeyRing, clock: Clock) -> Iterator[AuditTrail]:
    """A trail of its own."""
    opened = AuditTrail(tmp_path, Vault(ring), WEB, clock)
    yield opened
    opened.close()


def sign_in(name: str = "ada") -> AuditMessage:
    return actions.signed_in(WEB, Person(name, "192.0.2.7"))


def kinds(trail: AuditTrail) -> list[str]:
    """Every record up to its first participant."""
    return [in_words(record.xml).split(" | ")[0] for record in trail.read(limit=1000) if record.xml]


def damage(path: Path, *statements: str) -> None:
    """What an attacker with the file in hand can do: no trigger stops them."""
    with sqlite3.connect(path) as sql:
        for (trigger,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            sql.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            sql.execute(statement)
    sql.close()


def test_what_was_recorded_is_read_in_order(trail: AuditTrail, clock: Clock) -> None:
    trail.record(sign_in("ada"), sign_in("eve"))
    clock.now += 1
    trail.record(sign_in("bob"))
    trail.record()
    records = trail.read()
    assert [record.number for record in records] == [1, 2, 3]
    assert [record.at for record in records] == [clock.now - 1, clock.now - 1, clock.now]
    assert [
        name for record in records for name in ("ada", "eve", "bob") if f'UserID="{name}@' in (record.xml or "")
    ] == [
        "ada",
        "eve",
        "bob",
    ]
    assert [record.number for record in trail.read(after=1, limit=1)] == [2]
    assert trail.head() == check_file(audit_file(trail._state_dir)).head


def test_it_is_there_for_the_next_start_and_for_others(trail: AuditTrail, tmp_path: Path, ring: KeyRing) -> None:
    trail.record(sign_in())
    other = AuditTrail(tmp_path, Vault(ring), WEB._replace(service="intake"))
    other.record(sign_in())
    trail.record(sign_in())
    assert len(kinds(other)) == 3
    assert check_file(audit_file(tmp_path)).broken_at is None
    other.close()


def test_nothing_that_it_says_is_readable_in_the_file(trail: AuditTrail, tmp_path: Path) -> None:
    who = Person("ada.lovelace", "192.0.2.77")
    trail.record(actions.viewed(WEB, who, stored("PAT-000417", "2.25.31415926")), actions.signed_in(WEB, who))
    trail.record(actions.sign_in_refused(WEB, Person("hunter2-typed-as-name"), "wrong"))
    trail.close()
    told = b"".join(path.read_bytes() for path in (tmp_path / "audit").iterdir())
    for secret in (b"lovelace", b"192.0.2.77", b"PAT-000417", b"31415926", b"hunter2", b"AuditMessage", b"Login"):
        assert secret not in told
    trail.__init__(tmp_path, Vault(open_ring(tmp_path)), WEB)  # type: ignore[misc]


def test_looking_again_is_one_view(trail: AuditTrail, clock: Clock) -> None:
    view = {"view ada r1": sign_in()}
    trail.record_once(view)
    clock.now += ONE_VIEW - 1
    trail.record_once(view)
    trail.record_once(view | {"view ada r2": sign_in()})
    assert len(trail.read()) == 2
    clock.now += 1
    trail.record_once(view)
    assert len(trail.read()) == 3


def test_what_is_remembered_of_views_is_bounded(trail: AuditTrail, clock: Clock) -> None:
    for number in range(3):
        trail.record_once({f"{number} {view}": sign_in() for view in range(2000)})
        clock.now += ONE_VIEW
    trail.record_once({"last": sign_in()})
    assert len(trail._recently) <= 4096


def test_rows_cannot_be_changed_or_removed_by_mistake(trail: AuditTrail, tmp_path: Path) -> None:
    trail.record(sign_in())
    with sqlite3.connect(audit_file(tmp_path)) as sql:
        for statement in ("UPDATE records SET at_ms = 0", "DELETE FROM records"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                sql.execute(statement)
    sql.close()


def test_a_disk_that_fails_stops_nobody_and_leaves_its_mark(
    trail: AuditTrail, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    trail.record(sign_in())
    with sqlite3.connect(audit_file(tmp_path)) as sql:
        sql.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END")
    since = clock.now
    trail.record(sign_in("lost.lady"), sign_in())
    clock.now += 60
    trail.record_once({"view": sign_in()})
    assert trail.trouble
    assert [record.levelno for record in caplog.records if "SC801" in record.message] == [logging.ERROR] * 2
    assert "3 missing" in caplog.text
    assert "lost.lady" not in caplog.text
    with sqlite3.connect(audit_file(tmp_path)) as sql:
        sql.execute("DROP TRIGGER full")
    sql.close()
    trail.record_once({"view": sign_in()})
    assert not trail.trouble
    words = [in_words(record.xml or "") for record in trail.read()]
    assert "Audit Recording Started E 8" in words[1]
    assert f"3 audit messages since {utc(since)}" in words[1]
    assert len(words) == 3
    trail.record(sign_in())
    assert len(trail.read()) == 4
    assert check_file(audit_file(tmp_path)).broken_at is None


def test_old_records_leave_and_the_chain_goes_on_over_them(
    trail: AuditTrail, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "scanside")
    for _ in range(5):
        trail.record(sign_in())
        clock.now += DAY
    old = trail.head()
    assert trail.retire(10, only_forwarded=False) == 0
    assert trail.retire(3, only_forwarded=False) == 2
    assert [record.number for record in trail.read()] == [3, 4, 5, 6]
    assert "records up to 2, older than 3 days" in in_words(trail.read()[-1].xml or "")
    assert "2 records up to 2 removed" in caplog.text
    verdict = check_file(audit_file(tmp_path))
    assert (verdict.broken_at, verdict.first, verdict.head) == (None, 3, trail.head())
    clock.now += DAY
    assert trail.retire(3, only_forwarded=False) == 1
    assert check_file(audit_file(tmp_path), [anchor_line(old)]).broken_at is None
    damage(audit_file(tmp_path), "DELETE FROM records WHERE number = 4")
    assert check_file(audit_file(tmp_path)).broken_at == 4


def test_a_long_arrears_is_retired_in_pieces(trail: AuditTrail, clock: Clock) -> None:
    trail.record(*[sign_in()] * 1500)
    clock.now += 2 * DAY
    assert [trail.retire(1, only_forwarded=False) for _ in range(3)] == [1000, 500, 0]


def test_what_the_syslog_server_lacks_is_not_retired(trail: AuditTrail, clock: Clock) -> None:
    trail.record(sign_in(), sign_in(), sign_in())
    clock.now += 2 * DAY
    assert trail.retire(1, only_forwarded=True) == 0
    trail.set_forwarded(2)
    assert trail.retire(1, only_forwarded=True) == 2
    assert trail.forwarded() == 2


def anchor_line(head: Head) -> str:
    return f"web INFO SC800 audit trail: the newest record is {head.number}, digest {head.digest.hex()}"


def test_the_log_is_told_how_far_the_trail_goes(
    tmp_path: Path, ring: KeyRing, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "scanside")
    trail = AuditTrail(tmp_path, Vault(ring), WEB, clock)
    for _ in range(150):
        trail.record(sign_in())
    clock.now += 600
    trail.record(sign_in())
    trail.record(sign_in())
    trail.close()
    told = list(anchors_in(record.getMessage() for record in caplog.records))
    assert [head.number for head in told] == [1, 101, 151, 152]
    assert check_file(audit_file(tmp_path), [record.getMessage() for record in caplog.records]).broken_at is None


def test_the_keys_can_be_renewed_and_the_chain_holds(trail: AuditTrail, tmp_path: Path, ring: KeyRing) -> None:
    trail.record(sign_in("ada"))
    with pytest.raises(AlreadyRunning, match="stop the appliance"):
        rotate(tmp_path)
    trail.close()
    Store(tmp_path).close()
    assert rotate(tmp_path).left == ()
    again = AuditTrail(tmp_path, Vault(open_ring(tmp_path)), WEB)
    again.record(sign_in("bob"))
    assert [record.xml is not None for record in again.read()] == [True] * 2
    assert check_file(audit_file(tmp_path)).broken_at is None
    with sqlite3.connect(audit_file(tmp_path)) as sql:
        assert sql.execute("SELECT count(*) FROM keys").fetchone() == (2,)
    sql.close()
    again.close()
    trail.__init__(tmp_path, Vault(open_ring(tmp_path)), WEB)  # type: ignore[misc]
    with pytest.raises(ScansideError, match="restore that key"):
        AuditTrail(tmp_path, Vault(ring), WEB)


def test_a_key_that_is_gone_is_said_and_a_check_needs_none(trail: AuditTrail, tmp_path: Path) -> None:
    trail.record(sign_in())
    (tmp_path / "keys" / "store.key").unlink()
    with pytest.raises(ScansideError, match=r"missing, and .* holds what it sealed"):
        open_ring(tmp_path)
    assert check_file(audit_file(tmp_path)).broken_at is None


def test_a_forged_record_does_not_open(trail: AuditTrail, tmp_path: Path, clock: Clock) -> None:
    """Whoever rewrites the whole chain makes one that holds; but what they put in was not sealed here."""
    trail.record(sign_in())
    forged = tmp_path / "elsewhere"
    forged.mkdir()
    forger = AuditTrail(forged, Vault(KeyRing(Path("x"), (Key(b"forg", bytes(32)),))), WEB, clock)
    forger.record(sign_in("nobody"))
    rows = forger._file._connection.execute("SELECT number + 1, at_ms, sealed FROM records").fetchall()
    forger.close()
    number, at_ms, sealed = rows[0]
    digest = digest_of(trail.head().digest, number, at_ms, sealed, Head(0, START))
    with sqlite3.connect(audit_file(tmp_path)) as sql:
        sql.execute("INSERT INTO records VALUES (?, ?, ?, 0, zeroblob(32), ?)", (number, at_ms, sealed, digest))
        sql.execute("UPDATE head SET number = ?, digest = ?", (number, digest))
    sql.close()
    assert check_file(audit_file(tmp_path)).broken_at is None
    assert [record.xml is None for record in trail.read()] == [False, True]
    output = StringIO()
    assert trail.export(output) == 1
    assert output.getvalue().count("\n") == 1


@pytest.mark.parametrize("removed", ["DELETE FROM head", "DELETE FROM records WHERE number > 1", "DELETE FROM records"])
def test_a_damaged_trail_goes_on_and_still_shows_it(trail: AuditTrail, tmp_path: Path, removed: str) -> None:
    trail.record(sign_in(), sign_in(), sign_in())
    damage(audit_file(tmp_path), removed)
    trail.record(sign_in())
    assert not trail.trouble
    assert trail.head().number == 4
    if "records" in removed:
        assert check_file(audit_file(tmp_path)).broken_at is not None


@pytest.mark.parametrize("spoil", [lambda data: b"no database" * 1000, lambda data: b"\0" * len(data)])
def test_a_file_that_is_no_database_is_set_aside(
    tmp_path: Path, ring: KeyRing, spoil: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    trail = AuditTrail(tmp_path, Vault(ring), WEB)
    trail.record(sign_in())
    trail.close()
    file = audit_file(tmp_path)
    file.write_bytes(spoil(file.read_bytes()))
    trail = AuditTrail(tmp_path, Vault(ring), WEB)
    trail.record(sign_in())
    assert len(trail.read()) == 1
    assert "SC803" in caplog.text
    assert len(list(file.parent.glob("audit.broken-*"))) == 1
    trail.close()
