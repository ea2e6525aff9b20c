"""What is done with what a box keeps: `scanside export`, `backup`, `restore`, `user`, `audit`, `key` and the like."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge.command_line import config_of, require
from edge.errors import UsageError

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_keeping(commands: _Commands, common: argparse.ArgumentParser) -> None:
    """Add them; `common` has the options that every command has."""
    export = commands.add_parser("export", parents=[common], help="a result's image as DICOM without identifiers")
    export.add_argument("result", metavar="RESULT", help="its id, as in the address of its page")
    export.add_argument("--output", type=Path, required=True, metavar="FILE", help="the new file; must not exist")
    export.set_defaults(command=_export)

    backup = commands.add_parser("backup", parents=[common], help="everything in one sealed file, while the box works")
    backup.add_argument("file", type=Path, metavar="FILE", help="the new file; must not exist")
    backup.set_defaults(command=_backup)

    restore = commands.add_parser("restore", parents=[common], help="a backup onto a bare box")
    restore.add_argument("file", type=Path, metavar="FILE")
    restore.add_argument("--state-dir", type=Path, required=True, metavar="DIR", help="must be empty")
    restore.set_defaults(command=_restore)

    reset = commands.add_parser("factory-reset", parents=[common], help="destroy the keys and all that is stored")
    reset.add_argument("--yes", action="store_true", help="yes, all of it")
    reset.set_defaults(command=_factory_reset)

    user = commands.add_parser("user", parents=[common], help="manage the accounts of the status page")
    user.add_argument("action", choices=("add", "list", "remove", "password", "token", "tokens", "revoke"))
    user.add_argument("name", nargs="?", help="the account's name; for revoke, the token's id")
    roles = ("technician", "clinician", "administrator", "service", "sender")
    user.add_argument("--role", default="technician", choices=roles)
    user.add_argument("--scope", nargs="+", default=[], metavar="SCOPE", help="for token: what it may do")
    user.add_argument("--purpose", default="", metavar="WORDS", help="for token: what it is used for")
    user.add_argument("--days", type=int, default=365, help="for token: how long it is good")
    user.set_defaults(command=_user)

    audit = commands.add_parser("audit", parents=[common], help="check the audit trail, or write out its messages")
    audit.add_argument(
        "action",
        choices=("verify", "export"),
        help="verify: whether it is whole, without any key; export: one DICOM audit message (XML) a line",
    )
    log = "the log, for verify: the trail must go through what events SC800 in it say (- is standard input)"
    audit.add_argument("--log", type=Path, metavar="FILE", help=log)
    head = "for verify: what the fleet was told, NUMBER:DIGEST of the box's page there; the trail must go through it"
    audit.add_argument("--head", action="append", default=[], metavar="HEAD", help=head)
    audit.set_defaults(command=_audit)

    key = commands.add_parser(
        "key", parents=[common], help="show the ids of the keys of what is stored, or rotate them"
    )
    key.add_argument("action", choices=("show", "rotate"))
    key.set_defaults(command=_key)


def _export(options: argparse.Namespace) -> int:
    from edge.imaging.deidentify import NotExportable, deidentify  # noqa: PLC0415
    from edge.store import Store  # noqa: PLC0415
    from edge.store.audit import actions, open_trail  # noqa: PLC0415

    settings = config_of(options)
    if not settings.state_dir.is_dir():
        raise UsageError(f"{settings.state_dir}: no state folder here: give the box's own --config")
    if options.output.exists():
        raise UsageError(f"{options.output}: exists already, and nothing is overwritten: choose another name")
    with closing(Store(settings.state_dir, storage=settings.storage)) as store:
        stored = store.result(options.result)
        if stored is None:
            raise UsageError(f"{options.result[:80]!r}: no result of this id: it stands in the address of its page")
        try:
            data = store.read(stored.instance_id)
        except FileNotFoundError:
            raise NotExportable(f"{stored.id}: the box no longer has this image") from None
    exported = deidentify(data)
    with closing(open_trail(settings, "cli")) as trail:  # first: what cannot be recorded is not done
        who = actions.Person(getpass.getuser())
        trail.record(actions.exported(trail.source, who, stored, options.output.absolute().as_uri()))
    with open(options.output, "xb", opener=partial(os.open, mode=0o600)) as file:
        file.write(exported.data)
    if exported.caution:
        sys.stderr.write(f"scanside: {exported.caution}\n")
    return 0


def _backup(options: argparse.Namespace) -> int:
    from edge.keeping import back_up  # noqa: PLC0415

    content = back_up(config_of(options), options.file, _secret("Passphrase of the backup: "))
    print(f"{options.file}: {content.images} images, {content.files} files; without its passphrase it is lost")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from edge.keeping import restore  # noqa: PLC0415

    passphrase = _secret("Passphrase of the backup: ")
    content = restore(config_of(options), options.file, options.state_dir, passphrase)
    print(f"{options.state_dir}: {content.images} images, {content.files} files; their key is in keys/store.key")
    return 0


def _factory_reset(options: argparse.Namespace) -> int:
    from edge.keeping import reset  # noqa: PLC0415

    settings = config_of(options)
    if not options.yes:
        raise UsageError(f"{settings.state_dir}: all images, results and accounts would be gone for ever: add --yes")
    if not settings.state_dir.is_dir():
        raise UsageError(f"{settings.state_dir}: no state folder here: give the box's own --config")
    done = reset(settings)
    print(f"{settings.state_dir}: empty, and its keys are destroyed")
    if done.untold:
        sys.stderr.write(f"scanside: {done.untold}\n")
    if done.ring:
        sys.stderr.write(f"scanside: {done.ring.name}: a credential of systemd: remove its encrypted file yourself\n")
    if settings.intake.watch_folder and settings.intake.watch_folder.is_dir():
        sys.stderr.write(f"scanside: {settings.intake.watch_folder}: what waits there was not touched\n")
    return 1 if done.ring else 0


def _user(options: argparse.Namespace) -> int:
    from edge.web.user_command import user_command  # noqa: PLC0415

    return user_command(config_of(options), options, _secret)


def _audit(options: argparse.Namespace) -> int:
    from edge.store.audit import actions, audit_file, open_trail  # noqa: PLC0415
    from edge.store.audit.chain import check_file, read_head, report  # noqa: PLC0415

    try:
        heads = [read_head(text) for text in options.head]
    except ValueError as error:
        raise UsageError(f"--head {error}: copy it from the fleet's page") from error
    settings = config_of(options)
    file = audit_file(settings.state_dir)
    if options.action == "verify":
        with _lines_of(options.log) as log:
            verdict = check_file(file, log, heads)
        print(report(verdict))
        return int(verdict.broken_at is not None)
    with closing(open_trail(settings, "cli")) as trail:
        trail.record(actions.trail_used(trail.source, getpass.getuser(), file.absolute().as_uri()))
        return trail.export(sys.stdout)


def _lines_of(log: Path | None) -> AbstractContextManager[Iterable[str]]:
    if log is None:
        return nullcontext(())
    if str(log) == "-":
        return nullcontext(sys.stdin)
    require([log])
    return log.open(encoding="utf-8", errors="replace")


def _secret(prompt: str) -> str:
    """From the terminal, unseen, or the first line of standard input: never from the command line."""
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def _key(options: argparse.Namespace) -> int:
    from edge.store.keys import find_ring  # noqa: PLC0415
    from edge.store.rotation import rotate  # noqa: PLC0415

    settings = config_of(options)
    where = settings.state_dir, settings.storage.key_file
    if options.action == "rotate":
        done = rotate(*where, told=_show_progress)
        for left in done.left:
            sys.stderr.write(f"scanside: {left}\n")
        kept = "; what is named above does not open: old keys are kept" if done.left else ""
        print(f"key {done.key} seals from now on{kept}")
        return 1 if done.left else 0
    ring = find_ring(*where)
    if ring is None:
        print("no key yet: the first start makes one")
        return 0
    print(ring.file)
    for number, key in enumerate(ring.ids):
        does = "opens only: complete the rotation with `scanside key rotate`" if number else "seals and opens"
        print(f"  {key} {does}")
    return 0


def _show_progress(step: str) -> None:
    """On a terminal, in place of the step before."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{step}\r")
        sys.stderr.flush()
