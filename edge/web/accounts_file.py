"""The file of accounts, sessions, API tokens and failed sign-ins: `<state>/accounts/accounts.sqlite`, mode 0600."""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from pathlib import Path

from edge.store.database import Database
from edge.store.repair import Contents, copy_row, rows

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password TEXT NOT NULL,
    created_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS first_boot (id INTEGER PRIMARY KEY CHECK (id = 1), code TEXT NOT NULL);
DROP TABLE IF EXISTS sessions;
CREATE TABLE IF NOT EXISTS open_sessions (
    token_hash TEXT PRIMARY KEY,
    name TEXT NOT NULL REFERENCES accounts (name) ON DELETE CASCADE,
    opened_at REAL NOT NULL,
    used_at REAL NOT NULL,
    address TEXT NOT NULL,
    shown_until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
    token_hash TEXT PRIMARY KEY,
    name TEXT NOT NULL REFERENCES accounts (name) ON DELETE CASCADE,
    purpose TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at REAL NOT NULL,
    created_by TEXT NOT NULL,
    expires_at REAL NOT NULL,
    used_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    subject TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    last_at REAL NOT NULL
) WITHOUT ROWID
"""


class Role(StrEnum):
    """What somebody is here for. `service` looks after the box and never sees patient data; `sender` is a program."""

    TECHNICIAN = "technician"
    CLINICIAN = "clinician"
    ADMINISTRATOR = "administrator"
    SERVICE = "service"
    SENDER = "sender"


class AccountsFile(Database):
    """Opened by the web service, and by `scanside user` meanwhile."""

    def __init__(self, state_dir: Path) -> None:
        """Open the file, or create it with its schema."""
        super().__init__(state_dir / "accounts" / "accounts.sqlite", _SCHEMA, contents=Contents(carry_over=_carry_over))


def _carry_over(broken: sqlite3.Connection | None, new: sqlite3.Connection) -> str:
    """Accounts that can be read outlive a broken file; sessions, API tokens and counted failures do not.

    Without them nobody could see a flag until somebody stands at the console. When none can be read, the next start
    shows a first-boot code there.
    """
    read = rows(broken, "SELECT * FROM accounts") if broken else ()
    count = sum(copy_row(new, "accounts", row) for row in read if _is_account(row))
    return f"{count} accounts carried over, all sessions are ended and all API tokens revoked"


def _is_account(row: sqlite3.Row) -> bool:
    name, role, password = row["name"], row["role"], row["password"]
    texts = all(isinstance(value, str) for value in (name, role, password))
    return texts and isinstance(row["created_at"], float) and role in set(Role) and password.startswith("$argon2id$")
