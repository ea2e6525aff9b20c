"""The chain of the audit trail: what each record's digest covers, and the check of a whole trail, which needs no key.

Each digest is the SHA-256 of the one before and of the record's own bytes, sealed as they are. Whoever changes,
removes, inserts or moves a record must rewrite all that follow and the head; against that the head goes into the log
from time to time, where journald, or another machine, keeps it.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from edge import events
from edge.errors import ScansideError

START = bytes(32)
"""Stands for the digest before the first record."""

_ANCHOR = re.compile(rf"SC{events.AUDIT_HEAD.number:03d} .*?\b(\d+), digest ([0-9a-f]{{64}})\b")
_HEAD = re.compile(r"([1-9][0-9]{0,15}):(?:sha256:)?([0-9a-f]{64})")
_COLUMNS = "number, at_ms, sealed, retired, retired_digest, digest"


class Head(NamedTuple):
    """How far a trail goes: the newest record's number and digest; 0 and `START` before the first."""

    number: int
    digest: bytes


class ChainedRecord(NamedTuple):
    """One row.

    Attributes:
        number: From 1, without gaps.
        at_ms: When it was written, milliseconds since the epoch.
        sealed: The message.
        retired: Records up to this number have left the trail with this record; 0 for none.
        retired_digest: The digest of the last of them, from which the chain goes on; `START` for none.
        digest: Of this record and all before.
    """

    number: int
    at_ms: int
    sealed: bytes
    retired: int
    retired_digest: bytes
    digest: bytes


class Verdict(NamedTuple):
    """What a check found.

    Attributes:
        head: How far the trail says that it goes.
        first: The oldest record that it should hold; 1 when none was retired.
        broken_at: The number of the first record that does not hold; None when all do.
        problem: What is wrong with it.
    """

    head: Head
    first: int
    broken_at: int | None = None
    problem: str = ""


class NoTrail(ScansideError):  # noqa: N818 - a state of the box
    """There is nothing to check."""


def digest_of(before: bytes, number: int, at_ms: int, sealed: bytes, retired: Head) -> bytes:
    """The digest of a record: `before` is that of the record before it. Fields have fixed lengths, but the last."""
    fields = struct.pack(">QQQ", number, at_ms, retired.number) + retired.digest + sealed
    return hashlib.sha256(before + fields).digest()


def check(rows: Iterable[ChainedRecord], head: Head, start: Head, anchors: Iterable[Head]) -> Verdict:
    """Follow the chain.

    Args:
        rows: The records, by number.
        head: How far they must go.
        start: What the newest retirement among them says is gone; 0 and `START` when there was none.
        anchors: Heads that were told of: the chain must have gone through each of them.
    """
    wanted: dict[int, set[bytes]] = {}
    for anchor in anchors:
        if anchor.number >= start.number:
            wanted.setdefault(anchor.number, set()).add(anchor.digest)
    number, digest = start
    for row in rows:
        broken_at = min(row.number, number + 1)
        if row.number != number + 1:
            problem = f"record {number + 1} is missing" if row.number > number else "it stood there before"
            return Verdict(head, start.number + 1, broken_at, problem)
        number, digest = (
            row.number,
            digest_of(digest, row.number, row.at_ms, row.sealed, Head(row.retired, row.retired_digest)),
        )
        if digest != row.digest:
            return Verdict(head, start.number + 1, number, "it is not what its digest was made of")
        if wanted.pop(number, {digest}) != {digest}:
            return Verdict(head, start.number + 1, number, "the log, or the fleet, has another digest for it")
    wanted.pop(start.number, None)
    if (number, digest) != head:
        return Verdict(head, start.number + 1, min(number, head.number) + 1, "the trail does not end where its head is")
    if wanted:
        problem = f"the log, or the fleet, knows records up to {max(wanted)}, the trail ends at {number}"
        return Verdict(head, start.number + 1, number + 1, problem)
    return Verdict(head, start.number + 1)


def report(verdict: Verdict) -> str:
    """A verdict in one line."""
    span = f"records {verdict.first} to {verdict.head.number}"
    if verdict.broken_at is None:
        return f"the audit trail holds: {span}, digest {verdict.head.digest.hex()}"
    return f"the audit trail is BROKEN at record {verdict.broken_at}: {verdict.problem} ({span} by its head)"


def check_file(path: Path, log: Iterable[str] = (), heads: Iterable[Head] = ()) -> Verdict:
    """Check a trail as it is at one moment; services may go on writing meanwhile.

    Args:
        path: `audit.sqlite`.
        log: Lines of the log, among them those of the event `AUDIT_HEAD`.
        heads: What a fleet was told.

    Raises:
        NoTrail: There is no such file, or it cannot be read as a trail at all.
    """
    if not path.is_file():
        raise NoTrail(f"{path}: no audit trail here: give the configuration of the box with --config")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as sql:
            sql.execute("BEGIN")
            found = sql.execute("SELECT number, digest FROM head").fetchall()
            head = Head(*found[0]) if found else Head(0, START)
            newest = "SELECT retired, retired_digest FROM records ORDER BY retired DESC LIMIT 1"
            retired = sql.execute(newest).fetchone() or (0, START)
            return check(_rows(sql), head, Head(*retired), (*anchors_in(log), *heads))
    except (sqlite3.Error, TypeError, OverflowError, struct.error) as error:
        raise NoTrail(f"{path}: cannot be read as an audit trail ({error}): restore it from a backup") from error


def read_head(text: str) -> Head:
    """`NUMBER:DIGEST`, as a fleet shows it. Raises `ValueError`."""
    found = _HEAD.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:90]!r}: must be NUMBER:DIGEST, the digest of 64 hexadecimal digits")
    return Head(int(found[1]), bytes.fromhex(found[2]))


def anchors_in(log: Iterable[str]) -> Iterator[Head]:
    """The heads that lines of the log tell of."""
    for line in log:
        if found := _ANCHOR.search(line):
            yield Head(int(found[1]), bytes.fromhex(found[2]))


def _rows(sql: sqlite3.Connection) -> Iterator[ChainedRecord]:
    return map(ChainedRecord._make, sql.execute(f"SELECT {_COLUMNS} FROM records ORDER BY number"))  # noqa: S608 - ours
