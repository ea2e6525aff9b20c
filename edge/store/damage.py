"""What counts as damage of a SQLite file, as against a full disk, a busy file or a mistake of ours."""

from __future__ import annotations

import sqlite3

from edge.errors import ScansideError

_FILE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNREADABLE = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS})
_UNWRITABLE = frozenset({
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
})  # fmt: skip


class Damaged(ScansideError, sqlite3.DatabaseError):  # noqa: N818 - what was found, not what failed
    """A SQLite file is not to be used until it has been looked at, and made again where it is damaged."""


def is_damage(error: BaseException) -> bool:
    """Whether a file is known to be damaged by this: malformed, no database, or not to be read."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, Damaged) or (code is not None and (code & 0xFF in _FILE or code in _UNREADABLE))


def is_failing_disk(error: BaseException) -> bool:
    """Whether the disk did not do what it was asked to, this time."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_IOERR


def is_suspicion(error: BaseException) -> bool:
    """Whether a file should be looked at before it is used again: damaged, or the disk has failed under it."""
    return is_damage(error) or getattr(error, "sqlite_errorcode", None) in _UNWRITABLE
