"""The file of accounts, sessions and failed sign-ins: `<state>/accounts/accounts.sqlite`, mode 0600."""

from __future__ import annotations

from pathlib import Path

from edge.store.database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password TEXT NOT NULL,
    created_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS first_boot (id INTEGER PRIMARY KEY CHECK (id = 1), code TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    token_hash TEXT PRIMARY KEY,
    name TEXT NOT NULL REFERENCES accounts (name) ON DELETE CASCADE,
    used_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    subject TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    last_at REAL NOT NULL
) WITHOUT ROWID
"""


class AccountsFile(Database):
    """Opened by the web service, and by `scanside user` meanwhile."""

    def __init__(self, state_dir: Path) -> None:
        """Open the file, or create it with its schema."""
        super().__init__(state_dir / "accounts" / "accounts.sqlite", _SCHEMA)
