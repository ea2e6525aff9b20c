"""The `scanside` command: each subcommand is a few lines that call a room below.

Exit status: 0 fine, 1 the work failed, 2 wrong use. Errors are one line: value, rule, fix; `--debug` shows tracebacks.
"""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib import import_module, metadata
from pathlib import Path

from edge import config, events
from edge.errors import ScansideError, UsageError

SERVICES = ("intake", "inference", "web", "sync")
Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit status."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except ScansideError as error:
        if options.debug:
            raise
        sys.stderr.write(f"scanside: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if options.debug:
            raise
        sys.stderr.write(f"scanside: {type(error).__name__}: {error} (--debug shows where)\n")
        return 1


def _run(options: argparse.Namespace) -> int:
    settings = _config(options)
    service = options.service
    events.configure(service or "appliance")
    if service:
        status: int = import_module(f"edge.{service}.service").serve(settings)
        return status
    from edge.appliance import run  # noqa: PLC0415 - each subcommand pays for its own imports only

    command = [sys.executable, "-m", "edge.cli", "run"]
    if options.config:
        command += ["--config", str(options.config)]
    return run(settings, command)


def _analyze(options: argparse.Namespace) -> int:
    from edge.imaging.header import parse_age  # noqa: PLC0415
    from edge.inference.analyze import analyze_files  # noqa: PLC0415

    age_years = parse_age(options.age) if options.age else None
    if options.age and age_years is None:
        raise UsageError(f"--age {options.age!r}: must be a number and D, W, M or Y, for instance 3Y or 018M")
    _require(options.paths)
    events.configure("analyze", level=logging.WARNING)
    return analyze_files(
        options.paths,
        _config(options),
        modality=options.modality,
        age_years=age_years,
        as_json=options.json,
        output=sys.stdout,
    )


def _send(options: argparse.Namespace) -> int:
    from edge.intake.sender import send_files  # noqa: PLC0415

    _require(options.paths)
    host, _, port = options.to.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--to {options.to!r}: must be HOST:PORT, for instance 127.0.0.1:11112")
    return send_files(options.paths, host, int(port), called=options.called, calling=options.calling, output=sys.stdout)


def _doctor(options: argparse.Namespace) -> int:
    from edge.doctor import examine  # noqa: PLC0415

    events.configure("doctor", level=logging.CRITICAL)
    return examine(_config(options), output=sys.stdout)


def _model(options: argparse.Namespace) -> int:
    from edge.inference.bundle import BundleError, find_bundles, open_bundle  # noqa: PLC0415

    settings = _config(options)
    status = 0
    for folder in find_bundles(settings.models_folder):
        try:
            sealed = open_bundle(folder, settings.trusted_keys)
        except BundleError as error:
            sys.stderr.write(f"scanside: {error}\n")
            status = 1
            continue
        bundle = sealed.bundle
        marked = " experimental" if bundle.experimental else ""
        print(f"{bundle.id} {bundle.version}{marked} {sealed.digest}\n  {bundle.title}\n  {bundle.intended_use}")
    return status


def _require(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder: give one that exists")


def _user(options: argparse.Namespace) -> int:
    from edge.web.accounts import Accounts, Role  # noqa: PLC0415
    from edge.web.accounts_file import AccountsFile  # noqa: PLC0415

    with closing(AccountsFile(_config(options).state_dir)) as file:
        accounts = Accounts(file)
        if options.action != "list" and not options.name:
            raise UsageError(f"user {options.action}: needs the account's NAME")
        if options.action == "add":
            accounts.add(options.name, _password(options.name), Role(options.role))
        elif options.action == "password":
            accounts.set_password(options.name, _password(options.name))
        elif options.action == "remove":
            accounts.remove(options.name)
        for account in accounts.list():
            print(f"{account.name}\t{account.role}")
    return 0


def _password(name: str) -> str:
    """From the terminal, unseen, or the first line of standard input: never from the command line."""
    return getpass.getpass(f"Password for {name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def _key(options: argparse.Namespace) -> int:
    from edge.store.keys import find_ring  # noqa: PLC0415
    from edge.store.rotation import rotate  # noqa: PLC0415

    settings = _config(options)
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


def _config(options: argparse.Namespace) -> config.Config:
    return config.load(options.config) if options.config else config.Config()


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="the device configuration (YAML)")
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    parser = argparse.ArgumentParser(
        prog="scanside",
        description="An inference appliance for medical imaging. Research use; not a diagnosis.",
    )
    parser.add_argument("--version", action="version", version=f"scanside {metadata.version('scanside')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", parents=[common], help="start the appliance, or one of its services")
    run.add_argument("service", nargs="?", choices=SERVICES, help="run only this service, in the foreground")
    run.set_defaults(command=_run)

    analyze = commands.add_parser("analyze", parents=[common], help="analyse files without any server")
    analyze.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="DICOM, PNG or JPEG files, or folders")
    analyze.add_argument("--json", action="store_true", help="one JSON object for each image and line")
    analyze.add_argument("--modality", metavar="CODE", help="take as Modality where no header says it, e.g. DX")
    analyze.add_argument("--age", metavar="AGE", help="the patient's age where no header says it, e.g. 3Y or 018M")
    analyze.set_defaults(command=_analyze)

    send = commands.add_parser("send", parents=[common], help="send DICOM files to a listener (C-STORE)")
    send.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="DICOM files or folders")
    send.add_argument("--to", default="127.0.0.1:11112", metavar="HOST:PORT")
    send.add_argument("--called", default="SCANSIDE", metavar="AE", help="the listener's AE title")
    send.add_argument("--calling", default="SENDER", metavar="AE", help="our AE title")
    send.set_defaults(command=_send)

    doctor = commands.add_parser("doctor", parents=[common], help="check everything that can be wrong")
    doctor.set_defaults(command=_doctor)

    model = commands.add_parser("model", parents=[common], help="verify the model bundles and say what they are for")
    model.set_defaults(command=_model)

    user = commands.add_parser("user", parents=[common], help="manage the accounts of the status page")
    user.add_argument("action", choices=("add", "list", "remove", "password"))
    user.add_argument("name", nargs="?", help="the account's name")
    roles = ("technician", "clinician", "administrator", "service", "sender")
    user.add_argument("--role", default="technician", choices=roles)
    user.set_defaults(command=_user)

    key = commands.add_parser(
        "key", parents=[common], help="show the ids of the keys of what is stored, or rotate them"
    )
    key.add_argument("action", choices=("show", "rotate"))
    key.set_defaults(command=_key)
    return parser


if __name__ == "__main__":
    sys.exit(main())
