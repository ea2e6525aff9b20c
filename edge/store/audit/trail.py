"""The audit trail: an append-only, hash-chained file of sealed messages, `<state>/audit/audit.sqlite`.

Several services write it, each transaction one link further. What a message says is sealed; the chain goes over the
sealed bytes, so that it can be checked without a key (`chain.py`).
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol, TextIO

from edge import events, reasons
from edge.config import Config
from edge.errors import ScansideError
from edge.events import emit
from edge.modes import make_folder
from edge.store.audit import actions
from edge.store.audit.chain import START, Head, digest_of
from edge.store.audit.message import AuditMessage, AuditSource, to_xml
from edge.store.damage import Damaged
from edge.store.database import Database
from edge.store.doorbell import ring
from edge.store.keys import Key, KeyRing, new_key, open_ring
from edge.store.lock import AlreadyRunning, folder_lock, hold_lock
from edge.store.vault import Vault

ONE_VIEW = 300.0
"""Seconds within which the same person's looking at the same thing is one view."""

_ANCHOR_EVERY_RECORDS = 100
_ANCHOR_EVERY_SECONDS = 600.0
_MOST_REMEMBERED = 4096
_MOST_RETIRED = 1000
_DAY = 86_400.0
_NO_NUMBER = 1 << 62
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    retired INTEGER NOT NULL,
    retired_digest BLOB NOT NULL,
    digest BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS retirements ON records (retired);
CREATE TABLE IF NOT EXISTS head (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, digest BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS keys (number INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS forwarded (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS records_stay_as_they_are BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER IF NOT EXISTS only_the_retired_go BEFORE DELETE ON records
WHEN OLD.number > (SELECT max(retired) FROM records)
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END
"""


class Sealing(Protocol):
    """What keeps the trail's own keys: the `Vault` of the box, or one that a test makes."""

    def seal(self, plain: bytes, about: str) -> bytes:
        """Encrypted and authenticated, for this purpose alone."""

    def unseal(self, sealed: bytes, about: str) -> bytes:
        """What was sealed. Raises `ScansideError`: no key fits, or it was changed."""


class AuditRecord(NamedTuple):
    """One record: number, when it was written (seconds since the epoch), and the message, None when it is not ours."""

    number: int
    at: float
    xml: str | None


def audit_file(state_dir: Path) -> Path:
    """Where the trail lies."""
    return state_dir / "audit" / "audit.sqlite"


def open_trail(config: Config, service: str, clock: Callable[[], float] = time.time) -> AuditTrail:
    """The trail of this box, as one of its services (or `cli`) writes it. Raises as `AuditTrail`, and `VaultLocked`."""
    make_folder(config.state_dir)
    vault = Vault(open_ring(config.state_dir, config.storage.key_file))
    return AuditTrail(config.state_dir, vault, AuditSource(config.site, config.box, service), clock)


class AuditTrail:
    """The trail, opened by one service. Safe to share between threads.

    Attributes:
        source: What reports: to be handed to `audit_actions`.
        trouble: Why the last message is not in the trail; empty when it is.
    """

    def __init__(
        self, state_dir: Path, sealing: Sealing, source: AuditSource, clock: Callable[[], float] = time.time
    ) -> None:
        """Open the trail, or begin one. A file that is no database any more is set aside, and that is said.

        Raises:
            ScansideError: The trail's keys do not open.
            AlreadyRunning: The keys of the box are being rotated.
        """
        self.source = source
        self.trouble = ""
        self._state_dir = state_dir
        self._clock = clock
        self._lock = Lock()
        self._recently: dict[str, float] = {}
        self._missed, self._missed_since = 0, 0.0
        self._anchored = Head(0, START)
        self._anchored_at = float("-inf")
        with ExitStack() as opened:
            try:
                opened.callback(os.close, hold_lock(state_dir, "store", shared=True))
            except AlreadyRunning:
                raise AlreadyRunning(f"{state_dir}: its keys are being rotated: start when that is done") from None
            _set_aside_when_broken(audit_file(state_dir))
            self._file = opened.enter_context(closing(Database(audit_file(state_dir), _SCHEMA)))
            self._vault = _open_vault(self._file, sealing)
            self._opened = opened.pop_all()

    def record(self, *messages: AuditMessage) -> None:
        """Append messages in one transaction; on the disk when this returns. None costs nothing.

        Does not raise for a disk that fails: a technician sees the flag all the same. That messages are missing is
        logged at once, and stands in the trail as soon as it can be written again.
        """
        if messages:
            self._write(messages, self._clock())

    def record_once(self, messages: Mapping[str, AuditMessage]) -> None:
        """Append what was not recorded under the same key within `ONE_VIEW` seconds: else it is part of that."""
        now = self._clock()
        with self._lock:
            if len(self._recently) > _MOST_REMEMBERED:
                self._recently = {key: at for key, at in self._recently.items() if abs(now - at) < ONE_VIEW}
            fresh = {key: one for key, one in messages.items() if not abs(now - self._recently.get(key, 0)) < ONE_VIEW}
        if fresh and self._write(tuple(fresh.values()), now):
            with self._lock:
                self._recently.update(dict.fromkeys(fresh, now))

    def retire(self, days: int, *, only_forwarded: bool) -> int:
        """Remove the oldest records, a thousand at most, that are older than `days` days; how many.

        A record says so, and carries the chain over them. Raises `OSError`, `sqlite3.Error`.

        Args:
            days: How long records are kept.
            only_forwarded: Keep those that the syslog server has not got yet.
        """
        now = self._clock()
        with self._file.transaction() as sql:
            limit = self._forwarded(sql) if only_forwarded else (1 << 62)
            query = "SELECT number, at_ms, digest FROM records WHERE number <= ? ORDER BY number LIMIT ?"
            retired = Head(0, START)
            count = 0
            for row in sql.execute(query, (limit, _MOST_RETIRED)):
                if row["at_ms"] >= (now - days * _DAY) * 1000:
                    break
                retired, count = Head(row["number"], row["digest"]), count + 1
            if count:
                message = actions.records_retired(self.source, retired.number, days)
                self._link(sql, message, now, retired)
                sql.execute("DELETE FROM records WHERE number <= ?", (retired.number,))
        if count:
            emit(events.AUDIT_RETIRED, count=count, number=retired.number, days=days)
        return count

    def read(self, after: int = 0, limit: int = 100) -> list[AuditRecord]:
        """The oldest records with a number above `after`, at most `limit`."""
        query = "SELECT number, at_ms, sealed FROM records WHERE number > ? ORDER BY number LIMIT ?"
        with self._file.reading() as sql:
            rows = sql.execute(query, (after, limit)).fetchall()
        return [AuditRecord(number, at_ms / 1000, self._open(number, sealed)) for number, at_ms, sealed in rows]

    def newest(self, limit: int = 100, before: int | None = None) -> list[AuditRecord]:
        """The newest records, newest first; those with a number below `before` when it is given."""
        query = "SELECT number, at_ms, sealed FROM records WHERE number < ? ORDER BY number DESC LIMIT ?"
        with self._file.reading() as sql:
            rows = sql.execute(query, (_NO_NUMBER if before is None else before, limit)).fetchall()
        return [AuditRecord(number, at_ms / 1000, self._open(number, sealed)) for number, at_ms, sealed in rows]

    def export(self, output: TextIO) -> int:
        """Write every message as a line; what does not open is said on the log. 0, or 1 when there was such a one."""
        number, status = 0, 0
        while records := self.read(number):
            for record in records:
                if record.xml is None:
                    emit(events.AUDIT_UNREADABLE, number=record.number)
                    status = 1
                else:
                    output.write(f"{record.xml}\n")
            number = records[-1].number
        return status

    def forwarded(self) -> int:
        """Up to which number the syslog server has got the records; 0 before the first."""
        with self._file.reading() as sql:
            return self._forwarded(sql)

    def set_forwarded(self, number: int) -> None:
        """Note that the syslog server has got the records up to this number."""
        with self._file.transaction() as sql:
            sql.execute("INSERT OR REPLACE INTO forwarded VALUES (1, ?)", (number,))

    def check(self) -> None:
        """Raise `Damaged` when some service has found the file damaged: end, so that the next start repairs it."""
        self._file.check()

    def head(self) -> Head:
        """How far the trail goes."""
        with self._file.reading() as sql:
            return _head(sql)

    def close(self) -> None:
        """Close the trail."""
        self.anchor()
        self._opened.close()

    def anchor(self) -> None:
        """Tell the log how far the trail goes: done by itself from time to time, and to be done before an end."""
        try:
            head = self.head()
        except Damaged:  # SC320 says it; the next start looks at the file and goes on from there
            return
        if head != self._anchored:
            emit(events.AUDIT_HEAD, number=head.number, digest=head.digest.hex())

    def _write(self, messages: Sequence[AuditMessage], now: float) -> bool:
        """Whether they are in the trail now."""
        with self._lock:
            missed = self._missed
        gap = (actions.recording_resumed(self.source, missed, self._missed_since),) if missed else ()
        try:
            with self._file.transaction() as sql:
                for message in (*gap, *messages):
                    head = self._link(sql, message, now, Head(0, START))
        except (OSError, sqlite3.Error) as error:
            self._miss(messages, error, now)
            return False
        with self._lock:
            self._missed -= missed
            self.trouble = ""
        self._anchor_when_due(head, now)
        ring(self._state_dir, "audit")
        return True

    def _link(self, sql: sqlite3.Connection, message: AuditMessage, now: float, retired: Head) -> Head:
        before = _head(sql)
        number, at_ms = before.number + 1, int(now * 1000)
        xml = to_xml(message, self.source, now)
        sealed = self._vault.seal(zlib.compress(xml.encode()), _about_record(number))
        head = Head(number, digest_of(before.digest, number, at_ms, sealed, retired))
        sql.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", (number, at_ms, sealed, *retired, head.digest))
        sql.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?)", head)
        return head

    def _open(self, number: int, sealed: bytes) -> str | None:
        try:
            return zlib.decompress(self._vault.unseal(sealed, _about_record(number))).decode()
        except (ScansideError, zlib.error, UnicodeDecodeError):
            return None

    def _miss(self, messages: Sequence[AuditMessage], error: Exception, now: float) -> None:
        with self._lock:
            self._missed_since = self._missed_since if self._missed else now
            self._missed += len(messages)
            self.trouble = reasons.TRAIL_UNWRITABLE
        emit(events.AUDIT_FAILED, event=messages[0].event.meaning, error=type(error).__name__, count=self._missed)

    def _anchor_when_due(self, head: Head, now: float) -> None:
        with self._lock:
            due = (
                head.number - self._anchored.number >= _ANCHOR_EVERY_RECORDS
                or abs(now - self._anchored_at) >= _ANCHOR_EVERY_SECONDS
            )
            if due:
                self._anchored, self._anchored_at = head, now
        if due:
            emit(events.AUDIT_HEAD, number=head.number, digest=head.digest.hex())

    @staticmethod
    def _forwarded(sql: sqlite3.Connection) -> int:
        row = sql.execute("SELECT number FROM forwarded").fetchone()
        return int(row["number"]) if row else 0


def _head(sql: sqlite3.Connection) -> Head:
    """Where the chain goes on: also where somebody has removed records or the head, so that it shows for ever."""
    query = "SELECT number, digest FROM head UNION ALL SELECT max(number), digest FROM records ORDER BY number DESC"
    row = sql.execute(query).fetchone()
    return Head(row["number"], row["digest"]) if row["number"] else Head(0, START)


def renew_keys(state_dir: Path, vault: Vault) -> None:
    """Seal the trail's keys with the vault's first key, and begin another for what comes; nothing when that was done.

    The records stay as they are, or the chain would not hold. Raises `Tampered`, `VaultLocked`; also `sqlite3.Error`.
    """
    if not audit_file(state_dir).exists():
        return
    with closing(Database(audit_file(state_dir), _SCHEMA)) as file, file.transaction() as sql:
        rows = sql.execute("SELECT number, sealed FROM keys").fetchall()
        if all(sealed.startswith(vault.prefix) for _, sealed in rows):
            return
        for number, sealed in rows:
            again = vault.seal(vault.unseal(sealed, _about_key(number)), _about_key(number))
            sql.execute("UPDATE keys SET sealed = ? WHERE number = ?", (again, number))
        _add_key(sql, vault)


def _open_vault(file: Database, sealing: Sealing) -> Vault:
    """The trail's own vault: its keys lie beside the records, sealed by the box's."""
    with file.transaction() as sql:
        if not sql.execute("SELECT 1 FROM keys").fetchone():
            _add_key(sql, sealing)
        rows = sql.execute("SELECT number, sealed FROM keys ORDER BY number DESC").fetchall()
    keys = tuple(Key(number.to_bytes(4), sealing.unseal(sealed, _about_key(number))) for number, sealed in rows)
    return Vault(KeyRing(Path("audit.sqlite"), keys))


def _add_key(sql: sqlite3.Connection, sealing: Sealing) -> None:
    number = sql.execute("SELECT ifnull(max(number), 0) + 1 FROM keys").fetchone()[0]
    sql.execute("INSERT INTO keys VALUES (?, ?)", (number, sealing.seal(new_key().secret, _about_key(number))))


def _about_key(number: int) -> str:
    return f"audit.key:{number}"


def _about_record(number: int) -> str:
    """Authenticated with the message, so that no two can be exchanged."""
    return f"audit.record:{number}"


def _set_aside_when_broken(path: Path) -> None:
    """Rename a file that is no database any more, so that what happens from now on is recorded (DESIGN rule 2)."""
    if not path.exists():
        return
    with folder_lock(path.parent):
        try:
            with closing(sqlite3.connect(path)) as sql:
                sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                return  # busy, or no memory: opening it says so
        aside = path.with_suffix(f".broken-{time.time_ns()}")
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    emit(events.AUDIT_BROKEN, file=aside.name)
