"""The `scanside` command: each subcommand is a few lines that call a room below.

Exit status: 0 fine, 1 the work failed, 2 wrong use. Errors are one line: value, rule, fix; `--debug` shows tracebacks.
"""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edge import config, config_file, events
from edge.device.troubles import TroubleLog
from edge.errors import ScansideError, UsageError
from edge.fleet.command import add_fleet

SERVICES = ("intake", "inference", "web", "sync", "audit", "steward", "reporting")

DEVICE_FILE = Path("/etc/scanside/scanside.yaml")
"""The configuration of a device, where there is one and no other is named."""

_UNUSED = {"intake": ("numpy",)}
"""What a service's libraries load where it is there, and it never uses: pydicom's NumPy is 12 MB."""

Command = Callable[[argparse.Namespace], int]
if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


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
    logging.getLogger("scanside").addHandler(TroubleLog(settings.state_dir, service or "appliance"))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # images would lie in a core file (core(5)); children inherit it
    if not options.debug:
        events.silence_everything_else()
    try:
        return _serve(options, settings, service)
    except ScansideError:
        raise  # made of the configuration and the box's own files
    except Exception as error:
        if options.debug:
            raise
        events.emit(events.DEFECT, error=type(error).__name__, where=events.place(error))
        return 1


def _serve(options: argparse.Namespace, settings: config.Config, service: str | None) -> int:
    if service == "steward":
        if not options.config:
            raise UsageError("run steward: needs --config FILE, over which it lays what the fleet orders")
        from edge.steward.service import serve  # noqa: PLC0415

        return serve(settings, options.config)
    if service:
        for name in _UNUSED.get(service, ()):
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]
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
    return examine(_config(options), sys.stdout, as_json=options.json)


def _support_bundle(options: argparse.Namespace) -> int:
    from edge.support import write_bundle  # noqa: PLC0415

    events.configure("support", level=logging.CRITICAL)
    print(f"{options.file}: {', '.join(write_bundle(_config(options), options.file))}; nothing in it names anybody")
    return 0


def _setup(options: argparse.Namespace) -> int:
    from edge.setup import ask, read_answers, restart, set_up  # noqa: PLC0415

    file = options.config or DEVICE_FILE
    try:
        answers = read_answers(options.answers) if options.answers else ask(config_file.load(file), input)
    except EOFError:
        raise UsageError("setup: no answer came: answer on a console, or give a file with --answers") from None
    set_up(file, answers, sys.stdout)
    restart()
    return 0


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


def _deliveries(options: argparse.Namespace) -> int:
    from edge.store import Store, ring  # noqa: PLC0415

    settings = _config(options)
    if not settings.state_dir.is_dir():
        raise UsageError(f"{settings.state_dir}: no state folder here: give the box's own --config")
    with closing(Store(settings.state_dir, storage=settings.storage)) as store:
        if options.retry:
            print(f"{store.deliveries.unpark()} objects are tried again")
            ring(settings.state_dir, "reporting")
            return 0
        for name, standing in store.deliveries.standing().items():
            waits = f"{standing.waiting} wait, {standing.stored} without storage commitment"
            print(f"{name}: {waits}, {standing.parked} parked")
        for destination, result, kind, reason in store.deliveries.parked():
            print(f"  parked: {destination}, {kind} of result {result}: {reason}")
    return 0


def _require(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder: give one that exists")


def _export(options: argparse.Namespace) -> int:
    from edge.imaging.deidentify import NotExportable, deidentify  # noqa: PLC0415
    from edge.store import Store  # noqa: PLC0415
    from edge.store.audit import actions, open_trail  # noqa: PLC0415

    settings = _config(options)
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

    content = back_up(_config(options), options.file, _secret("Passphrase of the backup: "))
    print(f"{options.file}: {content.images} images, {content.files} files; without its passphrase it is lost")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from edge.keeping import restore  # noqa: PLC0415

    passphrase = _secret("Passphrase of the backup: ")
    content = restore(_config(options), options.file, options.state_dir, passphrase)
    print(f"{options.state_dir}: {content.images} images, {content.files} files; their key is in keys/store.key")
    return 0


def _factory_reset(options: argparse.Namespace) -> int:
    from edge.keeping import reset  # noqa: PLC0415

    settings = _config(options)
    if not options.yes:
        raise UsageError(f"{settings.state_dir}: all images, results and accounts would be gone for ever: add --yes")
    if not settings.state_dir.is_dir():
        raise UsageError(f"{settings.state_dir}: no state folder here: give the box's own --config")
    done = reset(settings)
    print(f"{settings.state_dir}: empty, and its keys are destroyed")
    if done.untold:
        sys.stderr.write(f"scanside: {done.untold}\n")
    if done.ring:
        sys.stderr.write(f"scanside: {done.ring}: a credential of systemd: remove its encrypted file yourself\n")
    if settings.intake.watch_folder and settings.intake.watch_folder.is_dir():
        sys.stderr.write(f"scanside: {settings.intake.watch_folder}: what waits there was not touched\n")
    return 1 if done.ring else 0


def _user(options: argparse.Namespace) -> int:
    from edge.web.user_command import user_command  # noqa: PLC0415

    return user_command(_config(options), options, _secret)


def _audit(options: argparse.Namespace) -> int:
    from edge.store.audit import actions, audit_file, open_trail  # noqa: PLC0415
    from edge.store.audit.chain import check_file, report  # noqa: PLC0415

    settings = _config(options)
    file = audit_file(settings.state_dir)
    if options.action == "verify":
        with _lines_of(options.log) as log:
            verdict = check_file(file, log)
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
    _require([log])
    return log.open(encoding="utf-8", errors="replace")


def _secret(prompt: str) -> str:
    """From the terminal, unseen, or the first line of standard input: never from the command line."""
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


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
    file = options.config or (DEVICE_FILE if DEVICE_FILE.is_file() else None)
    return config_file.load(file) if file else config.Config()


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
    _add_work(commands, common)
    _add_keeping(commands, common)
    add_fleet(commands, common)
    return parser


def _add_work(commands: _Commands, common: argparse.ArgumentParser) -> None:
    """What the box does."""
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

    setup = commands.add_parser("setup", parents=[common], help="make this machine a box, or change its names")
    setup.add_argument("--answers", type=Path, metavar="FILE", help="part of a configuration, instead of questions")
    setup.set_defaults(command=_setup)

    doctor = commands.add_parser("doctor", parents=[common], help="check everything that can be wrong")
    doctor.add_argument("--json", action="store_true", help="one JSON object for each check and line")
    doctor.set_defaults(command=_doctor)

    support = commands.add_parser("support-bundle", parents=[common], help="what a helper needs, without identifiers")
    support.add_argument("file", type=Path, metavar="FILE", help="the new file (.tar.gz); must not exist")
    support.set_defaults(command=_support_bundle)

    model = commands.add_parser("model", parents=[common], help="verify the model bundles and say what they are for")
    model.set_defaults(command=_model)

    deliveries = commands.add_parser("deliveries", parents=[common], help="what waits for a PACS, and why")
    deliveries.add_argument("--retry", action="store_true", help="try again what was parked")
    deliveries.set_defaults(command=_deliveries)

    export = commands.add_parser("export", parents=[common], help="a result's image as DICOM without identifiers")
    export.add_argument("result", metavar="RESULT", help="its id, as in the address of its page")
    export.add_argument("--output", type=Path, required=True, metavar="FILE", help="the new file; must not exist")
    export.set_defaults(command=_export)


def _add_keeping(commands: _Commands, common: argparse.ArgumentParser) -> None:
    """What is done with what it keeps."""
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
    audit.set_defaults(command=_audit)

    key = commands.add_parser(
        "key", parents=[common], help="show the ids of the keys of what is stored, or rotate them"
    )
    key.add_argument("action", choices=("show", "rotate"))
    key.set_defaults(command=_key)


if __name__ == "__main__":
    sys.exit(main())
