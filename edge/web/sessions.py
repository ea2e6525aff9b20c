"""Who is signed in: random tokens in cookies, of which the box keeps hashes only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from edge.records import Record
from edge.web.accounts import Account, Role
from edge.web.accounts_file import AccountsFile

SHOWN_FOR = 300.0
"""Seconds for which the privacy screen stays away once a person has asked."""

_RENEW_EVERY = 30.0
"""A renewal is a write to the disk: not for every click."""

_ID_LENGTH = 16


class Person(Record, frozen=True, kw_only=True):
    """Who is signed in. `shown_for`: seconds for which this session still shows whose images these are."""

    name: str
    role: Role
    shown_for: float = float("inf")

    @property
    def veiled(self) -> bool:
        """Whether it is hidden now."""
        return self.shown_for <= 0


class Session(Record, frozen=True, kw_only=True):
    """An open session, as a person sees it in the list. Times are seconds since the epoch.

    Attributes:
        id: Names it; opens nothing.
        name: Whose it is.
        address: From where it was opened.
        used_at: When its person last did something.
    """

    id: str
    name: str
    role: Role
    address: str
    opened_at: float
    used_at: float


class Sessions:
    """Open sessions. One that was not used for `idle_seconds` is over."""

    def __init__(
        self,
        file: AccountsFile,
        clock: Callable[[], float],
        idle_seconds: float,
        *,
        privacy_screen: bool = False,
    ) -> None:
        """Over an open accounts file; with `privacy_screen`, sessions begin veiled."""
        self._file = file
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._privacy_screen = privacy_screen

    def open(self, account: Account, address: str = "") -> str:
        """Begin a session; its token, 256 random bits. Sessions that are over are swept away."""
        token, now = secrets.token_urlsafe(32), self._clock()
        shown_until = now if self._privacy_screen else _FOR_EVER
        with self._file.transaction() as sql:
            sql.execute("DELETE FROM open_sessions WHERE used_at <= ?", (now - self._idle_seconds,))
            values = (_hash(token), account.name, now, now, address[:64], shown_until)
            sql.execute("INSERT INTO open_sessions VALUES (?, ?, ?, ?, ?, ?)", values)
        return token

    def person(self, token: str, *, renew: bool) -> Person | None:
        """Who the token belongs to; None when it is unknown or its session is over.

        Args:
            token: From the cookie.
            renew: True for what a person did; False for what the page does by itself, which must not keep it signed in.
        """
        query = (
            "SELECT s.used_at, s.shown_until, a.name, a.role FROM open_sessions s JOIN accounts a ON a.name = s.name"
            " WHERE s.token_hash = ?"
        )
        with self._file.reading() as sql:
            row = sql.execute(query, (_hash(token),)).fetchone()
        now = self._clock()
        if row is None or now - row["used_at"] >= self._idle_seconds:
            return None
        if renew and abs(now - row["used_at"]) >= min(_RENEW_EVERY, self._idle_seconds / 2):
            with self._file.transaction() as sql:
                sql.execute("UPDATE open_sessions SET used_at = ? WHERE token_hash = ?", (now, _hash(token)))
        return Person(name=row["name"], role=Role(row["role"]), shown_for=row["shown_until"] - now)

    def list(self, name: str | None = None) -> list[Session]:
        """The open sessions of an account, or of all; the one used last comes first."""
        query = (
            "SELECT s.*, a.role FROM open_sessions s JOIN accounts a ON a.name = s.name"
            " WHERE s.used_at > ? AND a.name = ifnull(?, a.name) ORDER BY s.used_at DESC"
        )
        with self._file.reading() as sql:
            rows = sql.execute(query, (self._clock() - self._idle_seconds, name)).fetchall()
        return [
            Session(
                id=row["token_hash"][:_ID_LENGTH],
                name=row["name"],
                role=Role(row["role"]),
                address=row["address"],
                opened_at=row["opened_at"],
                used_at=row["used_at"],
            )
            for row in rows
        ]

    def revoke(self, session_id: str, name: str | None = None) -> str | None:
        """End a session by its id, if it is of the account `name` or that is None; whose it was, None for no such."""
        query = "SELECT name FROM open_sessions WHERE substr(token_hash, 1, ?) = ? AND name = ifnull(?, name)"
        with self._file.transaction() as sql:
            row = sql.execute(query, (_ID_LENGTH, session_id, name)).fetchone()
            if row is None:
                return None
            sql.execute("DELETE FROM open_sessions WHERE substr(token_hash, 1, ?) = ?", (_ID_LENGTH, session_id))
        return str(row["name"])

    def veil(self, token: str, *, veiled: bool) -> None:
        """Hide whose images these are from a session, or show it: for a while in a shared room, else until hidden."""
        now = self._clock()
        until = now if veiled else now + SHOWN_FOR if self._privacy_screen else _FOR_EVER
        with self._file.transaction() as sql:
            sql.execute("UPDATE open_sessions SET shown_until = ? WHERE token_hash = ?", (until, _hash(token)))

    def close(self, token: str) -> None:
        """End a session."""
        with self._file.transaction() as sql:
            sql.execute("DELETE FROM open_sessions WHERE token_hash = ?", (_hash(token),))


_FOR_EVER = float("inf")


def session_id(token: str) -> str:
    """By which id a session stands in the list."""
    return _hash(token)[:_ID_LENGTH]


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
