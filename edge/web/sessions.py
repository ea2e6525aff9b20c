"""Who is signed in: random tokens in cookies, of which the box keeps hashes only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from edge.records import Record
from edge.web.accounts import Account, Role
from edge.web.accounts_file import AccountsFile

_RENEW_EVERY = 30.0
"""A renewal is a write to the disk: not for every click."""


class Person(Record, frozen=True, kw_only=True):
    """Who is signed in."""

    name: str
    role: Role


class Sessions:
    """Open sessions. One that was not used for `idle_seconds` is over."""

    def __init__(self, file: AccountsFile, clock: Callable[[], float], idle_seconds: float) -> None:
        """Over an open accounts file."""
        self._file = file
        self._clock = clock
        self._idle_seconds = idle_seconds

    def open(self, account: Account) -> str:
        """Begin a session; its token, 256 random bits. Sessions that are over are swept away."""
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._file.transaction() as sql:
            sql.execute("DELETE FROM sessions WHERE used_at <= ?", (now - self._idle_seconds,))
            sql.execute("INSERT INTO sessions VALUES (?, ?, ?)", (_hash(token), account.name, now))
        return token

    def person(self, token: str, *, renew: bool) -> Person | None:
        """Who the token belongs to; None when it is unknown or its session is over.

        Args:
            token: From the cookie.
            renew: True for what a person did; False for what the page does by itself, which must not keep it signed in.
        """
        query = (
            "SELECT s.used_at, a.name, a.role FROM sessions s JOIN accounts a ON a.name = s.name WHERE s.token_hash = ?"
        )
        with self._file.reading() as sql:
            row = sql.execute(query, (_hash(token),)).fetchone()
        now = self._clock()
        if row is None or now - row["used_at"] >= self._idle_seconds:
            return None
        if renew and abs(now - row["used_at"]) >= min(_RENEW_EVERY, self._idle_seconds / 2):
            with self._file.transaction() as sql:
                sql.execute("UPDATE sessions SET used_at = ? WHERE token_hash = ?", (now, _hash(token)))
        return Person(name=row["name"], role=Role(row["role"]))

    def close(self, token: str) -> None:
        """End a session."""
        with self._file.transaction() as sql:
            sql.execute("DELETE FROM sessions WHERE token_hash = ?", (_hash(token),))


def new_secret() -> str:
    """A random cookie value for a browser that has no session yet."""
    return secrets.token_urlsafe(32)


def form_token(secret: str) -> str:
    """What a form must bring back to prove that this box made it: bound to the browser's secret cookie (CSRF)."""
    return hmac.new(secret.encode(), b"scanside form", hashlib.sha256).hexdigest()


def form_token_fits(secret: str, token: str) -> bool:
    """Whether a form's token belongs to the cookie."""
    return hmac.compare_digest(form_token(secret).encode(), token.encode())


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
