"""How often a sign-in may fail: per account and per address, with a decision that is a pure function."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3

from edge.web.accounts_file import AccountsFile

FREE_PER_ACCOUNT = 5
FREE_PER_ADDRESS = 20
"""More than for an account: a clinic's tablets may share an address."""

FIRST_LOCK = 60.0
LONGEST_LOCK = 900.0
FORGET_AFTER = 86_400.0
FIRST_ACCOUNT = "first account"
"""Under which wrong codes for the first account are counted: no user name has a space."""


def locked_for(failures: int, last_at: float, now: float, free: int) -> float:
    """Seconds until the next try is allowed; 0 when it is allowed now.

    The first `free` failures cost nothing; then it is locked for a minute, after each further failure twice as long, a
    quarter of an hour at most: an attacker gets about a hundred tries a day, a person waits fifteen minutes.

    Args:
        failures: Consecutive failures so far.
        last_at: When the last one was, seconds since the epoch.
        now: The present. When the clock was set back, the lock begins anew instead of lasting for ever.
        free: How many failures are free.
    """
    if failures < free:
        return 0.0
    lock = min(LONGEST_LOCK, FIRST_LOCK * 2.0 ** min(failures - free, 10))
    return max(0.0, lock - max(0.0, now - last_at))


class Failures:
    """The counts of failed sign-ins. They survive a restart, so that a restart is no way around them.

    A name that is no account's may be anything that a person typed into the wrong field, a patient's name or a
    password: it is kept as a keyed hash, whose key is forgotten when this service ends.
    """

    def __init__(self, file: AccountsFile) -> None:
        """Over an open accounts file."""
        self._file = file
        self._key = secrets.token_bytes(32)

    def locked_for(self, name: str, address: str, now: float) -> float:
        """Seconds until this account may be tried from this address; 0 when now."""
        with self._file.reading() as sql:
            waits = [0.0]
            for subject, free in self._subjects(sql, name, address):
                row = sql.execute("SELECT count, last_at FROM failures WHERE subject = ?", (subject,)).fetchone()
                if row and now - row["last_at"] < FORGET_AFTER:
                    waits.append(locked_for(row["count"], row["last_at"], now, free))
        return max(waits)

    def count(self, name: str, address: str, now: float) -> int:
        """Note a failure; how many the account has now. What is a day old is forgotten."""
        with self._file.transaction() as sql:
            sql.execute("DELETE FROM failures WHERE last_at <= ?", (now - FORGET_AFTER,))
            subjects = self._subjects(sql, name, address)
            for subject, _ in subjects:
                sql.execute(
                    "INSERT INTO failures VALUES (?, 1, ?)"
                    " ON CONFLICT (subject) DO UPDATE SET count = count + 1, last_at = excluded.last_at",
                    (subject, now),
                )
            account = "SELECT count FROM failures WHERE subject = ?"
            return int(sql.execute(account, (subjects[0][0],)).fetchone()["count"])

    def clear(self, name: str) -> None:
        """Forget an account's failures: it was signed in to. Its address keeps its own."""
        with self._file.transaction() as sql:
            sql.execute("DELETE FROM failures WHERE subject = ?", (self._subjects(sql, name, "")[0][0],))

    def _subjects(self, sql: sqlite3.Connection, name: str, address: str) -> tuple[tuple[str, int], tuple[str, int]]:
        """What is counted, and how often it may fail for free. Whether a name is an account's shows in no answer."""
        known = name == FIRST_ACCOUNT or sql.execute("SELECT 1 FROM accounts WHERE name = ?", (name,)).fetchone()
        hidden = "" if known else hmac.new(self._key, name.encode(errors="replace"), hashlib.sha256).hexdigest()
        account = f"account {name}" if known else f"unknown {hidden}"
        return (account, FREE_PER_ACCOUNT), (f"address {address[:64]}", FREE_PER_ADDRESS)
