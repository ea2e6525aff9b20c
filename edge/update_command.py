"""`scanside update`: prepare a stick, and what the units in `systemd/update` do with one."""

from __future__ import annotations

import argparse
import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge import __version__, config, events, reasons
from edge.command_line import DEVICE_FILE, config_of, file_of
from edge.errors import UsageError
from edge.events import emit

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_update(commands: _Commands, common: argparse.ArgumentParser) -> None:
    """Add it; `common` has the options that every command has."""
    works = commands.add_parser("update", help="updates on a stick").add_subparsers(required=True, metavar="WORK")
    prepare = works.add_parser("prepare", parents=[common], help="put a package and its signed document onto a stick")
    prepare.add_argument("package", type=Path, metavar="FILE", help="of `make deb`")
    prepare.add_argument("--key", type=Path, required=True, metavar="FILE", help="the private key (Ed25519, PEM)")
    prepare.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the stick, FAT with label SCANSIDE")
    prepare.set_defaults(command=_prepare)
    take = works.add_parser("take", parents=[common], help="what the box does with a stick, up to installing")
    take.add_argument("stick", type=Path, metavar="FOLDER", help="where it is mounted")
    take.add_argument("--place", type=Path, required=True, metavar="FOLDER", help="for what is taken")
    take.set_defaults(command=_take)
    end = works.add_parser("end", parents=[common], help="say how installing ended, by what systemd has left")
    end.set_defaults(command=_end)


def _prepare(options: argparse.Namespace) -> int:
    from edge.device.update import prepare  # noqa: PLC0415 - each subcommand pays for its own imports only
    from edge.signature import private_key  # noqa: PLC0415

    if not options.to.is_dir():
        raise UsageError(f"--to {options.to}: no folder: give the one where the stick is mounted")
    update = prepare(options.package, private_key(options.key), options.to)
    print(f"{options.to}: version {update.version} for {update.architecture}, signed")
    return 0


def _take(options: argparse.Namespace) -> int:
    from edge.device.update import UpdateRefused, take, try_models  # noqa: PLC0415
    from edge.signature import public_keys  # noqa: PLC0415

    settings = _config(options)
    rehearse = partial(try_models, config=file_of(options) or DEVICE_FILE)
    try:
        update = take(options.stick, options.place, public_keys(settings.update_keys), __version__, rehearse)
    except UpdateRefused as error:
        emit(events.UPDATE_REFUSED, why=error)
        return 1
    except OSError as error:
        emit(events.UPDATE_REFUSED, why=reasons.UPDATE_DISK.format(why=error.strerror))
        return 1
    emit(events.UPDATE_KNOWN if update.version == __version__ else events.UPDATE_TAKEN, version=update.version)
    return 0


def _end(options: argparse.Namespace) -> int:
    """`SERVICE_RESULT` and `EXIT_STATUS` are systemd's own words to `ExecStopPost=` (systemd.exec(5))."""
    _config(options)
    result = os.environ.get("SERVICE_RESULT", "unknown")
    if result != "success":
        emit(events.UPDATE_FAILED, why=f"{result}, exit status {os.environ.get('EXIT_STATUS', 'unknown')}")
    return 0


def _config(options: argparse.Namespace) -> config.Config:
    """The configuration, with errors kept for the page as a service's are."""
    from edge.device.troubles import TroubleLog  # noqa: PLC0415

    settings = config_of(options)
    events.configure("update")
    logging.getLogger("scanside").addHandler(TroubleLog(settings.state_dir, "update"))
    return settings
