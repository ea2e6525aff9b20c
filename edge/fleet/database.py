"""The manager's database: its tables, and how an older one becomes the present one. SQLite or PostgreSQL, one schema.

Whole seconds of the boxes' clocks are `ts` and `hour`; every other time is the manager's, in seconds since the epoch.
What grows has its time in the primary key, as TimescaleDB's hypertables ask for (README, "At 100,000 boxes").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import ConnectionPoolEntry

from edge.errors import ScansideError

metadata = sql.MetaData()

_Whole = sql.BigInteger
_Key = sql.BigInteger().with_variant(sql.Integer(), "sqlite")  # SQLite numbers rows of INTEGER PRIMARY KEY only

boxes = sql.Table(
    "boxes",
    metadata,
    sql.Column("id", _Key, primary_key=True),
    sql.Column("site", sql.Text, nullable=False),
    sql.Column("box", sql.Text, nullable=False),
    sql.Column("first_seen_at", sql.Double, nullable=False),
    sql.Column("word", sql.Text),
    sql.Column("word_session", sql.Text),
    sql.Column("word_at", sql.Double),
    sql.Column("software", sql.Text),
    sql.Column("protocol", sql.Text),
    sql.Column("models", sql.Text),
    sql.Column("born_at", sql.Double),
    sql.Column("heard_at", sql.Double),
    sql.Column("session", sql.Text),
    sql.Column("clock_off", sql.Double),
    sql.Column("uptime", _Whole),
    sql.Column("queue_depth", _Whole),
    sql.Column("queue_oldest", _Whole),
    sql.Column("outbox_depth", _Whole),
    sql.Column("outbox_oldest", _Whole),
    sql.Column("disk_used", sql.Double),
    sql.Column("temperature", sql.Double),
    sql.Column("latency_p95", sql.Double),
    sql.Column("drift", sql.Text),
    sql.Column("clock", sql.Text),
    sql.Column("certificate_days", _Whole),
    sql.Column("dropped", _Whole),
    sql.Column("trail_back_at", sql.Double),
    sql.Column("settings", sql.Text),
    sql.Column("capabilities", sql.Text),
    sql.UniqueConstraint("site", "box"),
)
"""Each box and how it was when last heard. `models`, `drift`, `settings` and `capabilities` are JSON.

`trail_back_at` is when its audit trail last turned out to be shorter than it was, or another one.
"""

services = sql.Table(
    "services",
    metadata,
    sql.Column("box_id", _Whole, sql.ForeignKey("boxes.id"), primary_key=True),
    sql.Column("service", sql.Text, primary_key=True),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("since", _Whole, nullable=False),
)

sessions = sql.Table(
    "sessions",
    metadata,
    sql.Column("box_id", _Whole, sql.ForeignKey("boxes.id"), primary_key=True),
    sql.Column("session", sql.Text, primary_key=True),
    sql.Column("first_at", sql.Double, nullable=False),
    sql.Column("lowest", _Whole, nullable=False),
    sql.Column("highest", _Whole, nullable=False),
    sql.Column("received", _Whole, nullable=False),
    sql.Column("first_uptime", _Whole),
    sql.Column("last_uptime", _Whole),
    sql.Column("said_stopping", sql.Boolean),
    sql.Index("sessions_by_time", "first_at"),
)
"""Connections: the lowest and highest number of a health message, and how many came: what is missing was lost.

The shortest and longest time that the box said it was switched on, and whether it said that it leaves.
"""

health = sql.Table(
    "health",
    metadata,
    sql.Column("box_id", _Whole, primary_key=True),
    sql.Column("ts", _Whole, primary_key=True),
    sql.Column("session", sql.Text, primary_key=True),
    sql.Column("seq", _Whole, primary_key=True),
    sql.Column("received_at", sql.Double, nullable=False),
    sql.Column("queue_depth", _Whole),
    sql.Column("outbox_depth", _Whole),
    sql.Column("disk_used", sql.Double),
    sql.Column("temperature", sql.Double),
    sql.Column("latency_p95", sql.Double),
    sql.Index("health_by_arrival", "box_id", "received_at"),
    sqlite_with_rowid=False,
)

summaries = sql.Table(
    "summaries",
    metadata,
    sql.Column("box_id", _Whole, primary_key=True),
    sql.Column("hour", _Whole, primary_key=True),
    sql.Column("message_id", sql.Text, primary_key=True),
    sql.Column("status", sql.Text, nullable=False),
    sql.Column("reason", sql.Text),
    sql.Column("quality", sql.Integer, nullable=False),
    sql.Column("model", sql.Text),
    sql.Column("latency_ms", _Whole, nullable=False),
    sql.Column("received_at", sql.Double, nullable=False),
    sqlite_with_rowid=False,
)
"""One answer of a box, known by its message id. `quality` counts the findings about the image's quality."""

days = sql.Table(
    "days",
    metadata,
    sql.Column("day", _Whole, primary_key=True),
    sql.Column("box_id", _Whole, primary_key=True),
    sql.Column("results", _Whole, nullable=False),
    sql.Column("flagged", _Whole, nullable=False),
    sql.Column("refused", _Whole, nullable=False),
    sql.Column("warned", _Whole, nullable=False),
    sqlite_with_rowid=False,
)
"""Counts of a UTC day, written in the transaction that writes the summaries: no page ever counts those."""

aggregates = sql.Table(
    "aggregates",
    metadata,
    sql.Column("box_id", _Whole, primary_key=True),
    sql.Column("day", _Whole, primary_key=True),
    sql.Column("message_id", sql.Text, primary_key=True),
    sqlite_with_rowid=False,
)
"""The aggregates that came: what is here is in `bins`."""

bins = sql.Table(
    "bins",
    metadata,
    sql.Column("day", _Whole, primary_key=True),
    sql.Column("box_id", _Whole, primary_key=True),
    sql.Column("statistic", sql.Text, primary_key=True),
    sql.Column("subject", sql.Text, primary_key=True),
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("images", _Whole, nullable=False),
    sqlite_with_rowid=False,
)
"""Histograms of a UTC day by category, in fives. `subject` says of which model and finding scores are."""

audit_heads = sql.Table(
    "audit_heads",
    metadata,
    sql.Column("box_id", _Whole, primary_key=True),
    sql.Column("number", _Whole, primary_key=True),
    sql.Column("digest", sql.Text, primary_key=True),
    sql.Column("said_at", _Whole, nullable=False),
    sql.Column("received_at", sql.Double, nullable=False),
    sqlite_with_rowid=False,
)
"""How far the boxes' audit trails went, and when they said so by their own clock."""

errors = sql.Table(
    "errors",
    metadata,
    sql.Column("box_id", _Whole, primary_key=True),
    sql.Column("service", sql.Text, primary_key=True),
    sql.Column("number", _Whole, primary_key=True),
    sql.Column("count", _Whole, nullable=False),
    sql.Column("since", _Whole, nullable=False),
    sqlite_with_rowid=False,
)
"""The errors by number that a box told of last."""

alarms = sql.Table(
    "alarms",
    metadata,
    sql.Column("box_id", _Whole, sql.ForeignKey("boxes.id"), primary_key=True),
    sql.Column("rule", sql.Text, primary_key=True),
    sql.Column("begun_at", sql.Double, primary_key=True),
    sql.Column("raised_at", sql.Double),
    sql.Column("calm_since", sql.Double),
    sql.Column("cleared_at", sql.Double),
    sql.Index("alarms_open", "cleared_at"),
)

apart = sql.Table(
    "apart",
    metadata,
    sql.Column("id", _Key, primary_key=True),
    sql.Column("received_at", sql.Double, nullable=False),
    sql.Column("why", sql.Text, nullable=False),
    sql.Column("topic", sql.Text, nullable=False),
    sql.Column("payload", sql.LargeBinary, nullable=False),
)
"""The newest messages that are no messages of ours."""

apart_counts = sql.Table(
    "apart_counts",
    metadata,
    sql.Column("why", sql.Text, primary_key=True),
    sql.Column("count", _Whole, nullable=False),
)

collectors = sql.Table(
    "collectors",
    metadata,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("alive_at", sql.Double, nullable=False),
    sql.Column("connected", sql.Boolean, nullable=False),
)

versions = sql.Table("schema_version", metadata, sql.Column("version", sql.Integer, primary_key=True))

rollouts = sql.Table(
    "rollouts",
    metadata,
    sql.Column("id", sql.Text, primary_key=True),
    sql.Column("made_at", sql.Double, nullable=False),
    sql.Column("made_by", sql.Text, nullable=False),
    sql.Column("work", sql.Text, nullable=False),
    sql.Column("wave", _Whole, nullable=False),
    sql.Column("go_on_percent", sql.Double, nullable=False),
    sql.Column("stop_after", _Whole, nullable=False),
    sql.Column("deadline", _Whole, nullable=False),
    sql.Column("progress", sql.Text, nullable=False),
    sql.Column("why", sql.Text, nullable=False),
)
"""One piece of work for one or many boxes, and how it is handed out (`cascade.py`). `work` is JSON."""

orders = sql.Table(
    "orders",
    metadata,
    sql.Column("rollout", sql.Text, sql.ForeignKey("rollouts.id"), primary_key=True),
    sql.Column("place", _Whole, primary_key=True),
    sql.Column("box_id", _Whole, sql.ForeignKey("boxes.id"), nullable=False),
    sql.Column("id", sql.Text, nullable=False, unique=True),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("sent_at", sql.Double),
    sql.Column("document", sql.LargeBinary),
    sql.Column("lines", sql.Text, nullable=False),
)
"""What one box is ordered. `document` is what was signed and sent; `lines` is its answer, JSON."""


def _to_2(connection: sql.Connection) -> None:
    """Drift, clock and certificate of each box; commands."""
    for name, kind in (("drift", "TEXT"), ("clock", "TEXT"), ("certificate_days", "BIGINT"), ("dropped", "BIGINT")):
        connection.execute(sql.text(f"ALTER TABLE boxes ADD COLUMN {name} {kind}"))
    metadata.create_all(connection, tables=[rollouts, orders])


def _to_3(connection: sql.Connection) -> None:
    """Aggregates, audit trails, errors by number, settings of the fleet's."""
    for name, kind in (("trail_back_at", "DOUBLE PRECISION"), ("settings", "TEXT")):
        connection.execute(sql.text(f"ALTER TABLE boxes ADD COLUMN {name} {kind}"))
    metadata.create_all(connection, tables=[aggregates, bins, audit_heads, errors])


def _to_4(connection: sql.Connection) -> None:
    """How long a box was on, and whether it left on purpose, by connection; what it can be ordered to do."""
    connection.execute(sql.text("ALTER TABLE boxes ADD COLUMN capabilities TEXT"))
    for name, kind in (("first_uptime", "BIGINT"), ("last_uptime", "BIGINT"), ("said_stopping", "BOOLEAN")):
        connection.execute(sql.text(f"ALTER TABLE sessions ADD COLUMN {name} {kind}"))


MIGRATIONS: dict[int, Callable[[sql.Connection], None]] = {2: _to_2, 3: _to_3, 4: _to_4}
"""What makes a database of the version before into this one; a new database begins with the newest."""

NEWEST = 4


def open_database(url: str) -> sql.Engine:
    """Open the database, made or brought up to date where necessary. Several processes may do so at once.

    Raises:
        ScansideError: It cannot be opened, was made by a newer version of Scanside, or the URL is none.
    """
    try:
        # A server that went away is noticed before a connection is used again.
        engine = sql.create_engine(url, pool_pre_ping=True)
    except (sql.exc.ArgumentError, sql.exc.NoSuchModuleError, ImportError) as error:
        raise ScansideError(f"database: cannot be used ({error}): give sqlite:/// or postgresql+psycopg://") from error
    if engine.dialect.name == "sqlite":
        sql.event.listen(engine, "connect", _prepare_sqlite)
        sql.event.listen(engine, "begin", _begin_sqlite)
    try:
        with engine.begin() as connection:
            take_turn(connection)
            migrate(connection)
    except sql.exc.OperationalError as error:
        words = " ".join(str(error.orig).split())[:200]
        raise ScansideError(f"database: cannot be opened ({words}): start it, or correct `database`") from error
    return engine


def migrate(connection: sql.Connection) -> None:
    """Bring the database up to date in the caller's transaction. Raises `ScansideError`: made by a newer version."""
    fresh = not sql.inspect(connection).has_table(versions.name)
    if fresh:
        metadata.create_all(connection)
        connection.execute(versions.insert().values(version=NEWEST))
        return
    present = connection.execute(sql.select(sql.func.max(versions.c.version))).scalar_one()
    if present > NEWEST:
        raise ScansideError(f"database: version {present}, this software knows {NEWEST}: update the software")
    for version in range(present + 1, NEWEST + 1):
        MIGRATIONS[version](connection)
        connection.execute(versions.insert().values(version=version))


def take_turn(connection: sql.Connection) -> None:
    """Wait until no other process is between here and the end of its transaction; on SQLite none is, as it wrote."""
    if connection.dialect.name == "postgresql":
        connection.execute(sql.text("SELECT pg_advisory_xact_lock(7236)"))


def insert(connection: sql.Connection, table: sql.Table) -> Any:
    """An INSERT that knows ON CONFLICT, in the database's own dialect: both write it alike."""
    return (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(table)


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun below, not guessed by the driver
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sql.Connection) -> None:
    """Readers need no lock; who may write takes it at once, else two could wait for each other."""
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
