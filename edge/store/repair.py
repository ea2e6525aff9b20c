"""Repair: what happens to a SQLite file that is damaged or gone, before anybody uses it again.

Looked at is a file that was not closed (its log has something in it) or that somebody has found damaged; else only
whether it can be opened. A damaged one is moved to `broken/` as it is, a new one is made, and what can be read of the
old one is carried over. Killed anywhere, the repair goes on at the next start.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from calendar import timegm
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from edge import events, reasons
from edge.durable import flush_folder
from edge.events import emit
from edge.modes import folder_mode, make_folder, opener
from edge.store.damage import is_damage, is_failing_disk
from edge.store.standing import Line, Standing, Word

FOLDER = "broken"
MOST_KEPT = 3
"""How many damaged files of one name are kept; an older one goes when a newer one comes."""

LARGE = 256 << 20
"""Bytes from which on a file that was merely not closed gets `quick_check`, which takes as long as reading it once."""

REASON_FILE = "found.txt"
MOST_TRIES = 5
"""How often a repair may be killed while it reads the damaged file, before it goes on without it: whose power goes
twice in the middle loses nothing."""

_MOST_SAID = 20
_MOST_OPENED = 50

TOLD_FOR = 86_400.0
"""Seconds for which the page tells of a repair."""

_STAMP = "%Y%m%dT%H%M%SZ"
_LOG = "-wal"
_PARTS = ("", _LOG, "-shm")


class Contents(NamedTuple):
    """What is known of a file's contents by who opens it.

    Attributes:
        look: What is wrong with what it holds, without a word of it, empty when nothing is; the flag asks to look at
            all of it.
        carry_over: Puts into the new file, within its transaction, what can be read of the broken one (None where
            nothing can) and what else must be there; says what that was, for the log.
        migrations: What brings a file of an older schema forward: for each version that is still read, the step from it
            to the next one, before the schema's own statements and in one transaction with them. There is no way back.
    """

    look: Callable[[sqlite3.Connection, bool], str] = lambda _sql, _thorough: ""
    carry_over: Callable[[sqlite3.Connection | None, sqlite3.Connection], str] = lambda _broken, _new: "empty"
    migrations: Mapping[int, Callable[[sqlite3.Connection], None]] = MappingProxyType({})


class Repaired(NamedTuple):
    """One repair: the file's name, the folder with the damaged one, when it was (seconds since the epoch)."""

    file: str
    folder: Path
    at: float


def repair(
    path: Path, standing: Standing, version: int, contents: Contents, make: Callable[[], sqlite3.Connection]
) -> None:
    """Look at a file that nobody has open, and replace it where it is damaged.

    Args:
        path: The file.
        standing: Its standing, locked by us alone.
        version: `PRAGMA user_version` of ours; a file of another version from which no step leads here is left as it
            is, for its opener to refuse.
        contents: What it should hold.
        make: Makes a new file there and opens it; no transaction is open.

    Raises:
        OSError, sqlite3.Error: The disk failed, or has no room. The next start goes on.
    """
    line = standing.line()
    if line.word is Word.NEW and not _size(path):
        return
    if line.word not in (Word.MOVING, Word.REPLACING):
        found = _examine(path, version, contents, thorough=line.word is Word.SUSPECT)
        if not found:
            standing.say(Line(Word.WHOLE))
            return
        folder = _new_folder(path, found)
        emit(events.DATABASE_BROKEN, file=path.name, found=found, folder=folder.relative_to(path.parent))
        line = Line(Word.MOVING, folder.name)
        standing.say(line)
    aside = path.parent / FOLDER / line.folder
    if line.word is Word.MOVING:
        _move(path, aside)
        line = Line(Word.REPLACING, line.folder)
    line = line._replace(tries=line.tries + 1)
    standing.say(line)
    try:
        for part in _PARTS:  # what an earlier try had begun to make
            _part(path, part).unlink(missing_ok=True)
        with closing(make()) as new:
            carried = _carry_over(aside / path.name, new, contents, readable=line.tries <= MOST_TRIES)
    except (OSError, sqlite3.Error):  # what fails is the disk: nothing speaks against reading the file once more
        _take_back(standing, line._replace(tries=line.tries - 1))
        raise
    standing.say(Line(Word.WHOLE))
    emit(events.DATABASE_REPLACED, file=path.name, carried=carried)


def repairs(folder: Path) -> list[Repaired]:
    """The repairs of the files in a folder of which the damaged ones are still kept, oldest first."""
    return sorted(_repairs(folder), key=lambda one: (one.at, one.folder.name))


def repaired_lately(state_dir: Path) -> str:
    """The last repair of the last day in a person's words, for the page; empty when there was none."""
    lately = [one for one in repairs(state_dir) if abs(time.time() - one.at) < TOLD_FOR]
    if not lately:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(lately[-1].at))
    return reasons.REPAIRED.format(file=lately[-1].file.partition(".")[0], time=when)


def rows(broken: sqlite3.Connection, query: str) -> Iterator[sqlite3.Row]:
    """A query's rows as far as they can be read."""
    with suppress(sqlite3.Error):
        yield from broken.execute(query)


def reading(path: Path) -> sqlite3.Connection:
    """To read a file and its log and to leave both as they are. Nothing in a schema is run."""
    sql = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    sql.row_factory = sqlite3.Row
    sql.execute("PRAGMA trusted_schema = OFF")
    sql.execute("PRAGMA cell_size_check = ON")
    return sql


def copy_row(new: sqlite3.Connection, table: str, row: sqlite3.Row, leave_out: Sequence[str] = ()) -> bool:
    """Put a broken file's row into the new one; whether it fits there."""
    ours = {column["name"] for column in new.execute(f"PRAGMA table_info({table})")} - set(leave_out)
    names = [name for name in row.keys() if name in ours]  # noqa: SIM118 - a row is no mapping
    query = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - our own words
    try:
        new.execute(query, [row[name] for name in names])
    except sqlite3.IntegrityError:
        return False
    return True


def _repairs(folder: Path) -> Iterator[Repaired]:
    for aside in (folder / FOLDER).glob(f"*/{REASON_FILE}"):
        stamp, _, file = aside.parent.name.partition("-")
        with suppress(ValueError):
            yield Repaired(file, aside.parent, float(timegm(time.strptime(stamp, _STAMP))))


def _examine(path: Path, version: int, contents: Contents, *, thorough: bool) -> str:
    """What is wrong with a file; empty when nothing is, or when it is another version's. Changes nothing."""
    if not _size(path):
        return "it is gone"
    unclean = bool(_size(_part(path, _LOG)))
    try:
        with closing(reading(path)) as sql:
            (found,) = sql.execute("PRAGMA user_version").fetchone()
            (tables,) = sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and found != version and found not in contents.migrations:
                return ""
            if unclean or thorough:
                quick = not thorough and _size(path) > LARGE
                (said,) = sql.execute(f"PRAGMA {'quick' if quick else 'integrity'}_check(1)").fetchone()
                if said != "ok":
                    return " ".join(str(said).split())
            return contents.look(sql, thorough) if tables else ""
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return str(error)


def _take_back(standing: Standing, line: Line) -> None:
    """Say it, also on a disk that fails now and then."""
    for _ in range(_MOST_SAID):
        with suppress(OSError):
            standing.say(line)
            return


def _new_folder(path: Path, found: str) -> Path:
    """A folder for the damaged file, with the reason in it; of older ones the newest are kept."""
    earlier = [one.folder for one in repairs(path.parent) if one.file.partition(".")[0] == path.stem]
    for folder in earlier[: -(MOST_KEPT - 1)]:
        shutil.rmtree(folder)
    stamp, number = time.strftime(_STAMP, time.gmtime()), 0
    while True:
        folder = path.parent / FOLDER / f"{stamp}-{path.stem}{f'.{number}' if number else ''}"
        try:
            make_folder(folder.parent)
            folder.mkdir(mode=folder_mode(folder.parent))
            break
        except FileExistsError:
            number += 1
    with open(folder / REASON_FILE, "w", encoding="utf-8", opener=opener) as reason:
        reason.write(f"{path.name}: {found}\n")
        reason.flush()
        os.fsync(reason.fileno())
    return folder


def _move(path: Path, aside: Path) -> None:
    """Move the file and its log; when a kill came between, the rest of them."""
    for part in _PARTS:
        with suppress(FileNotFoundError):
            _part(path, part).rename(aside / _part(path, part).name)
    for folder in (aside, aside.parent, path.parent):
        flush_folder(folder)


def _carry_over(broken: Path, new: sqlite3.Connection, contents: Contents, *, readable: bool) -> str:
    with ExitStack() as opened:
        old = _opened(broken, opened) if readable and _size(broken) else None
        new.execute("BEGIN IMMEDIATE")
        carried = contents.carry_over(old, new)
        new.execute("COMMIT")
    return carried


def _opened(broken: Path, opened: ExitStack) -> sqlite3.Connection | None:
    """To read it, closed with `opened`; None when nothing of it can be read, however often the disk is asked."""
    for _ in range(_MOST_OPENED):
        try:
            sql = opened.enter_context(closing(reading(broken)))
            sql.execute("SELECT name FROM sqlite_master").fetchall()
        except sqlite3.DatabaseError as error:
            if not is_failing_disk(error):
                break
        else:
            return sql
    return None


def _part(path: Path, part: str) -> Path:
    return path.with_name(path.name + part)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
