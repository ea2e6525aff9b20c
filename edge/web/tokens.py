"""API tokens: what a program shows instead of a session. Each acts for one account, within scopes, until it ends.

Only hashes are kept; a token is shown once, when it is made. It may do what its scopes *and* its account's role allow:
another role narrows its tokens at once, and an account that is removed takes them along.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from enum import StrEnum

from edge.errors import ScansideError
from edge.records import Record
from edge.web.accounts import Role, normal_name
from edge.web.accounts_file import AccountsFile
from edge.web.languages import gettext, listed

PREFIX = "scanside_"
"""By which a person, or a scanner for secrets, knows a token that lies where it should not."""

DEFAULT_DAYS = 365
MOST_DAYS = 1825
_DAY = 86_400.0
_ID_LENGTH = 16
_NOTE_USE_EVERY = 3600.0
_LONGEST_PURPOSE = 64


class Scope(StrEnum):
    """What a token is for."""

    READ_RESULTS = "read/results"
    READ_DEVICE = "read/device"
    ACKNOWLEDGE = "acknowledge"
    SEND = "send"


class TokenError(ScansideError):
    """What cannot be done with a token: one line with the value, the rule and the fix; never the token."""


class Token(Record, frozen=True, kw_only=True):
    """A token as the list shows it. Times are seconds since the epoch.

    Attributes:
        id: Names it; opens nothing.
        name: The account for which it acts.
        role: That account's role.
        purpose: What its maker calls it.
        used_at: When it was last used, to the hour; None when never.
    """

    id: str
    name: str
    role: Role
    purpose: str
    scopes: tuple[Scope, ...]
    created_at: float
    created_by: str
    expires_at: float
    used_at: float | None


class Tokens:
    """The tokens in the accounts file. Safe to share between threads."""

    def __init__(self, file: AccountsFile, clock: Callable[[], float]) -> None:
        """Over an open accounts file, which stays its opener's to close."""
        self._file = file
        self._clock = clock

    def make(self, name: str, scopes: Iterable[str], purpose: str, by: str, days: int = DEFAULT_DAYS) -> str:
        """A new token for an account: 256 random bits, to be shown once.

        Args:
            name: The account.
            scopes: Of `Scope`, one at least.
            purpose: For people: what it is used for.
            by: Who makes it.
            days: How long it is good, 1 to `MOST_DAYS`.

        Raises:
            TokenError: No such account, an unknown scope or none, or a number of days that breaks its rule.
        """
        wanted = sorted(set(scopes), key=str)
        if not wanted or not set(wanted) <= set(Scope):
            given = listed(wanted)[:60] or "none"
            rule = gettext("scopes %(given)s: must be one or more of %(known)s", given=repr(given), known=listed(Scope))
            raise TokenError(rule)
        if not 1 <= days <= MOST_DAYS:
            rule = gettext(
                "%(days)s days: a token is good for 1 to %(most)s days: choose fewer, and renew it",
                days=days,
                most=MOST_DAYS,
            )
            raise TokenError(rule)
        token, now, name = PREFIX + secrets.token_urlsafe(32), self._clock(), normal_name(name)
        plain = "".join(character for character in purpose if character.isprintable()).strip()[:_LONGEST_PURPOSE]
        values = (_hash(token), name, plain, " ".join(wanted), now, by, now + days * _DAY)
        try:
            with self._file.transaction() as sql:
                sql.execute("DELETE FROM tokens WHERE expires_at <= ?", (now - MOST_DAYS * _DAY,))
                sql.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", values)
        except sqlite3.IntegrityError as error:
            rule = gettext("%(name)s: no account of this name: `scanside user list` shows them", name=repr(name[:40]))
            raise TokenError(rule) from error
        return token

    def list(self) -> list[Token]:
        """All tokens, also those that are over, the newest first."""
        query = "SELECT t.*, a.role FROM tokens t JOIN accounts a ON a.name = t.name ORDER BY t.created_at DESC"
        with self._file.reading() as sql:
            return [_token(row) for row in sql.execute(query)]

    def revoke(self, token_id: str) -> Token:
        """End a token by its id. Raises `TokenError` when there is none of this id."""
        with self._file.transaction() as sql:
            query = (
                "SELECT t.*, a.role FROM tokens t JOIN accounts a ON a.name = t.name WHERE substr(token_hash, 1, ?) = ?"
            )
            row = sql.execute(query, (_ID_LENGTH, token_id)).fetchone()
            if row is None:
                raise TokenError(f"{token_id[:40]!r}: no token of this id: `scanside user tokens` shows them")
            sql.execute("DELETE FROM tokens WHERE token_hash = ?", (row["token_hash"],))
        return _token(row)

    def find(self, secret: str) -> Token | None:
        """The token that this is; None for an unknown one and for one that is over."""
        hashed, now = _hash(secret), self._clock()
        query = "SELECT t.*, a.role FROM tokens t JOIN accounts a ON a.name = t.name WHERE t.token_hash = ?"
        with self._file.reading() as sql:
            row = sql.execute(query, (hashed,)).fetchone()
        if row is None or now >= row["expires_at"]:
            return None
        if row["used_at"] is None or abs(now - row["used_at"]) >= _NOTE_USE_EVERY:
            with self._file.transaction() as sql:
                sql.execute("UPDATE tokens SET used_at = ? WHERE token_hash = ?", (now, hashed))
        return _token(row)


def _token(row: sqlite3.Row) -> Token:
    return Token(
        id=row["token_hash"][:_ID_LENGTH],
        name=row["name"],
        role=Role(row["role"]),
        purpose=row["purpose"],
        scopes=tuple(Scope(scope) for scope in row["scopes"].split()),
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        used_at=row["used_at"],
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
