"""Backup, restore and factory reset of a whole box, each with its message in the audit trail."""

from __future__ import annotations

import getpass
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from edge.audit.service import Forwarder
from edge.config import Config, Storage
from edge.errors import ScansideError
from edge.store import backup
from edge.store import reset as reset_room
from edge.store.audit import actions, audit_file, open_trail


class Reset(NamedTuple):
    """What a factory reset could not do.

    Attributes:
        ring: The credential of systemd with the keys, which it cannot destroy; None where there is none.
        untold: Why the audit trail's last messages went with it, without a syslog server having them; empty when not.
    """

    ring: Path | None
    untold: str


def back_up(config: Config, file: Path, passphrase: str) -> backup.Content:
    """Back up the box while it works; the message comes first. A trail that cannot be written keeps nobody from it.

    Raises as `edge.store.backup.back_up`.
    """
    key_file = config.storage.key_file
    return backup.back_up(config.state_dir, file, passphrase, key_file, begins=lambda: _record(config, "backup", file))


def restore(config: Config, file: Path, state_dir: Path, passphrase: str) -> backup.Content:
    """Put a backup into an empty state folder; the message goes into the trail that came with it.

    Raises as `edge.store.backup.restore`.
    """
    here = msgspec.structs.replace(config, state_dir=state_dir, storage=Storage())  # its ring came with it
    return backup.restore(file, state_dir, passphrase, done=lambda: _record(here, "restore", file))


def reset(config: Config) -> Reset:
    """Destroy the keys and all that the box holds, the trail too: so a syslog server, if there is one, hears it first.

    A trail that cannot be opened, or a server that does not answer, keeps nobody from it. Raises as
    `edge.store.reset.reset`.
    """
    untold = ""

    def begins() -> None:
        nonlocal untold
        untold = _tell_reset(config)

    ring = reset_room.reset(config.state_dir, config.storage.key_file, begins=begins)
    return Reset(ring, untold)


def _record(config: Config, what: Literal["backup", "restore"], file: Path) -> None:
    with closing(open_trail(config, "cli")) as trail:
        who = actions.Person(getpass.getuser())
        trail.record(actions.whole_box(trail.source, who, what, file.absolute().as_uri()))


def _tell_reset(config: Config) -> str:
    """Why messages are lost; empty when none are."""
    if not audit_file(config.state_dir).exists():
        return ""
    try:
        with closing(open_trail(config, "cli")) as trail:
            who, folder = actions.Person(getpass.getuser()), config.state_dir.absolute().as_uri()
            trail.record(actions.whole_box(trail.source, who, "factory-reset", folder))
            if config.audit.syslog is None:
                return ""
            with closing(Forwarder(trail, config.audit.syslog)) as forwarder:
                while forwarder.turn(time.monotonic()):
                    pass
                return f"{forwarder.trouble}: {forwarder.waiting} are lost" if forwarder.trouble else ""
    except (ScansideError, sqlite3.Error) as error:  # the keys are gone already, or the trail is damaged
        return f"the reset is not in the audit trail: {error}"
