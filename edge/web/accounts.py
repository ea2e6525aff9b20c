"""Who may sign in: accounts with a role and an argon2id password, and the code that creates the first of them.

There is no default password. A box without any account makes a first-boot code at each start, shows it on its console
and keeps only its hash; whoever stands at the console creates the first administrator with it, once.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import time
import unicodedata
from collections.abc import Callable
from threading import Lock

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from edge.errors import ScansideError
from edge.records import Record
from edge.web.accounts_file import AccountsFile
from edge.web.accounts_file import Role as Role  # noqa: PLC0414 - for those who import it from here
from edge.web.languages import gettext

MIN_PASSWORD = 12
MAX_PASSWORD = 256
CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTVWXYZ"
"""Without 0 O, 1 I and U (read as V): 16 of these 31 characters are 79 bits."""

_CODE_GROUPS = 4
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
# OWASP's minimum for argon2id (Password Storage Cheat Sheet): 19 MiB, because the whole box has 450 MB.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_WAIT_FOR_TURN = 2.0


class AccountError(ScansideError):
    """What cannot be done with an account: one line with the value, the rule and the fix; never the password."""


class Busy(Exception):  # noqa: N818 - a state that callers answer with 503
    """Too many people sign in at this moment."""


class Account(Record, frozen=True, kw_only=True):
    """A person's account. `name` is lower case and unique."""

    name: str
    role: Role
    created_at: float


class Accounts:
    """The accounts in the accounts file. Safe to share between threads."""

    def __init__(self, file: AccountsFile, clock: Callable[[], float] = time.time) -> None:
        """Over an open accounts file, which stays its opener's to close."""
        self._file = file
        self._clock = clock
        self._turn = Lock()
        # Checked for unknown names, so that they take as long as known ones.
        self._nobody = _HASHER.hash(secrets.token_hex(16))

    def add(self, name: str, password: str, role: Role) -> Account:
        """Create an account. Raises `AccountError`: the name is taken or no name, or the password breaks its rule."""
        account = Account(name=check_name(name), role=role, created_at=self._clock())
        password_hash = _HASHER.hash(check_password(password, account.name))
        with self._file.transaction() as sql:
            _insert(sql, account, password_hash)
        return account

    def list(self) -> list[Account]:
        """All accounts by name."""
        with self._file.reading() as sql:
            return [_account(row) for row in sql.execute("SELECT * FROM accounts ORDER BY name")]

    def remove(self, name: str) -> None:
        """Remove an account with its sessions and tokens. Raises `AccountError`: unknown, or the last administrator."""
        with self._file.transaction() as sql:
            row = _row(sql, normal_name(name))
            others = "SELECT count(*) AS n FROM accounts WHERE role = ? AND name != ?"
            left = sql.execute(others, (Role.ADMINISTRATOR, row["name"])).fetchone()["n"]
            if row["role"] == Role.ADMINISTRATOR and not left:
                raise AccountError(
                    gettext("%(name)s: the last administrator must stay: add another one first", name=row["name"])
                )
            sql.execute("DELETE FROM accounts WHERE name = ?", (row["name"],))

    def set_password(self, name: str, password: str) -> None:
        """Change a password, end the account's sessions and its lock-out. Raises `AccountError`."""
        name = normal_name(name)
        password_hash = _HASHER.hash(check_password(password, name))
        with self._file.transaction() as sql:
            _row(sql, name)
            sql.execute("UPDATE accounts SET password = ? WHERE name = ?", (password_hash, name))
            sql.execute("DELETE FROM open_sessions WHERE name = ?", (name,))
            sql.execute("DELETE FROM failures WHERE subject = ?", (f"account {name}",))

    def verify(self, name: str, password: str) -> Account | None:
        """The account when the password is its own, else None; unknown names take the same time.

        Raises:
            Busy: Others are being verified; this costs memory, so it happens one at a time.
        """
        with self._file.reading() as sql:
            row = sql.execute("SELECT * FROM accounts WHERE name = ?", (normal_name(name),)).fetchone()
        right = self._matches(row["password"] if row else self._nobody, _normal(password))
        return _account(row) if row and right else None

    def first_boot_code(self) -> str | None:
        """A new code for the first account, in place of any earlier one; None when there is an account.

        For the console alone: it is never logged, and only its hash is kept.
        """
        groups = ("".join(secrets.choice(CODE_ALPHABET) for _ in range(4)) for _ in range(_CODE_GROUPS))
        code = "-".join(groups)
        code_hash = _HASHER.hash(_plain_code(code))
        with self._file.transaction() as sql:
            if sql.execute("SELECT 1 FROM accounts LIMIT 1").fetchone():
                return None
            sql.execute("INSERT OR REPLACE INTO first_boot VALUES (1, ?)", (code_hash,))
        return code

    def awaits_first(self) -> bool:
        """Whether the first account is still to be created with a code."""
        with self._file.reading() as sql:
            return sql.execute("SELECT 1 FROM first_boot").fetchone() is not None

    def create_first(self, code: str, name: str, password: str) -> Account | None:
        """Create the first administrator, spending the code; None when it is not the code.

        Raises:
            AccountError: The name or the password breaks its rule; the code is not spent.
            Busy: As `verify`.
        """
        account = Account(name=check_name(name), role=Role.ADMINISTRATOR, created_at=self._clock())
        check_password(password, account.name)
        with self._file.reading() as sql:
            row = sql.execute("SELECT code FROM first_boot").fetchone()
        if not self._matches(row["code"] if row else self._nobody, _plain_code(code)) or not row:
            return None
        password_hash = _HASHER.hash(_normal(password))
        with self._file.transaction() as sql:
            if not sql.execute("DELETE FROM first_boot WHERE code = ?", (row["code"],)).rowcount:
                return None  # somebody else spent it in this moment
            _insert(sql, account, password_hash)
        return account

    def _matches(self, password_hash: str, text: str) -> bool:
        if len(text) > MAX_PASSWORD:
            text = ""
        if not self._turn.acquire(timeout=_WAIT_FOR_TURN):
            raise Busy("others are signing in: try again")
        try:
            return _HASHER.verify(password_hash, text)
        except (VerificationError, InvalidHashError):
            return False
        finally:
            self._turn.release()


def normal_name(name: str) -> str:
    """A user name as it is stored: case and surrounding space do not matter."""
    return name.strip().casefold()


def check_name(name: str) -> str:
    """The name as it is stored. Raises `AccountError` when it breaks the rule."""
    normal = normal_name(name)
    if not _NAME.fullmatch(normal):
        rule = gettext(
            "user name %(name)s: must be 1 to 32 of a-z, 0-9, dot, hyphen and underscore, beginning with a letter or a"
            " digit",
            name=repr(name[:40]),
        )
        raise AccountError(rule)
    return normal


def check_password(password: str, name: str) -> str:
    """The password as it is hashed. Raises `AccountError` when it breaks the rule, without repeating it."""
    normal = _normal(password)
    if not MIN_PASSWORD <= len(normal) <= MAX_PASSWORD:
        rule = gettext(
            "password of %(count)s characters: must have %(least)s to %(most)s",
            count=len(normal),
            least=MIN_PASSWORD,
            most=MAX_PASSWORD,
        )
        raise AccountError(rule)
    if name in normal.casefold() and len(normal) - len(name) < MIN_PASSWORD:
        raise AccountError(gettext("password that is little more than the user name: choose several words instead"))
    if len(set(normal)) < 5:
        raise AccountError(gettext("password of fewer than 5 different characters: choose several words instead"))
    return normal


def _normal(password: str) -> str:
    """One form for the ways in which keyboards compose the same letter (Unicode NFKC, as RFC 8265 asks)."""
    return unicodedata.normalize("NFKC", password)


def _plain_code(code: str) -> str:
    return "".join(character for character in code.upper() if character.isalnum())


def _insert(sql: sqlite3.Connection, account: Account, password_hash: str) -> None:
    values = (account.name, account.role, password_hash, account.created_at)
    try:
        sql.execute("INSERT INTO accounts (name, role, password, created_at) VALUES (?, ?, ?, ?)", values)
    except sqlite3.IntegrityError as error:
        rule = gettext("%(name)s: there is an account of this name: choose another one", name=account.name)
        raise AccountError(rule) from error
    sql.execute("DELETE FROM first_boot")


def _row(sql: sqlite3.Connection, name: str) -> sqlite3.Row:
    row: sqlite3.Row | None = sql.execute("SELECT * FROM accounts WHERE name = ?", (name,)).fetchone()
    if row is None:
        rule = gettext("%(name)s: no account of this name: `scanside user list` shows them", name=repr(name[:40]))
        raise AccountError(rule)
    return row


def _account(row: sqlite3.Row) -> Account:
    return Account(name=row["name"], role=Role(row["role"]), created_at=row["created_at"])
