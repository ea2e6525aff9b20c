"""The `scanside` command: each subcommand is a few lines that call a room below.

Exit status: 0 fine, 1 the work failed, 2 wrong use. Errors are one line: value, rule, fix; `--debug` shows tracebacks.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from edge import __version__, config, config_file, events, last_good
from edge.command_line import DEVICE_FILE, config_of, file_of, require
from edge.device.health import held_back
from edge.device.heap import share_heaps
from edge.device.troubles import TroubleLog
from edge.errors import ScansideError, UsageError
from edge.fleet.command import add_fleet
from edge.keeping_command import add_keeping
from edge.modes import work_in
from edge.update_command import add_update

SERVICES = ("intake", "inference", "web", "sync", "audit", "steward", "reporting")

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
    service, file = options.service, file_of(options)
    loaded = last_good.load(file) if file else last_good.Loaded(config_of(options))
    settings = loaded.config
    work_in(settings.state_dir)
    events.configure(service or "appliance")
    logging.getLogger("scanside").addHandler(TroubleLog(settings.state_dir, service or "appliance"))
    share_heaps()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # images would lie in a core file (core(5)); children inherit it
    if not options.debug:
        events.silence_everything_else()
    if loaded.refused:
        events.emit(events.CONFIG_REFUSED, error=loaded.refused)
    try:
        if file and service == "intake":
            with suppress(OSError):  # a full disk: images are received all the same
                last_good.keep(file, loaded)
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
    if service and "NOTIFY_SOCKET" in os.environ:  # systemd 252 knows no growing delay between restarts
        time.sleep(held_back(settings.state_dir, service))
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
    require(options.paths)
    events.configure("analyze", level=logging.WARNING)
    return analyze_files(
        options.paths,
        config_of(options),
        modality=options.modality,
        age_years=age_years,
        as_json=options.json,
        output=sys.stdout,
    )


def _send(options: argparse.Namespace) -> int:
    from edge.intake.sender import send_files  # noqa: PLC0415

    require(options.paths)
    host, _, port = options.to.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--to {options.to!r}: must be HOST:PORT, for instance 127.0.0.1:11112")
    return send_files(options.paths, host, int(port), called=options.called, calling=options.calling, output=sys.stdout)


def _doctor(options: argparse.Namespace) -> int:
    from edge.doctor import examine  # noqa: PLC0415

    events.configure("doctor", level=logging.CRITICAL)
    return examine(config_of(options), sys.stdout, as_json=options.json, models_only=options.models)


def _support_bundle(options: argparse.Namespace) -> int:
    from edge.support import write_bundle  # noqa: PLC0415

    events.configure("support", level=logging.CRITICAL)
    print(f"{options.file}: {', '.join(write_bundle(config_of(options), options.file))}; nothing in it names anybody")
    return 0


def _setup(options: argparse.Namespace) -> int:
    from edge.setup import ask, read_answers, restart, set_up  # noqa: PLC0415

    file = options.config or DEVICE_FILE
    try:
        answers = read_answers(options.answers) if options.answers else ask(config_file.load(file), input)
    except EOFError:
        raise UsageError("setup: no answer came: answer on a console, or give a file with --answers") from None
    set_up(file, answers, sys.stdout, options.label)
    restart()
    return 0


def _model(options: argparse.Namespace) -> int:
    from edge.inference.bundle import BundleError, find_bundles, open_bundle  # noqa: PLC0415

    settings = config_of(options)
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

    settings = config_of(options)
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


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="the device configuration (YAML)")
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    parser = argparse.ArgumentParser(
        prog="scanside",
        description="An inference appliance for medical imaging. Research use; not a diagnosis.",
    )
    parser.add_argument("--version", action="version", version=f"scanside {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_work(commands, common)
    add_keeping(commands, common)
    add_update(commands, common)
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
    setup.add_argument("--label", type=Path, metavar="FILE", help="write the label sheet as SVG too, to be printed")
    setup.set_defaults(command=_setup)

    doctor = commands.add_parser("doctor", parents=[common], help="check everything that can be wrong")
    doctor.add_argument("--json", action="store_true", help="one JSON object for each check and line")
    doctor.add_argument("--models", action="store_true", help="only the models and engines; the box is not touched")
    doctor.set_defaults(command=_doctor)

    support = commands.add_parser("support-bundle", parents=[common], help="what a helper needs, without identifiers")
    support.add_argument("file", type=Path, metavar="FILE", help="the new file (.tar.gz); must not exist")
    support.set_defaults(command=_support_bundle)

    model = commands.add_parser("model", parents=[common], help="verify the model bundles and say what they are for")
    model.set_defaults(command=_model)

    deliveries = commands.add_parser("deliveries", parents=[common], help="what waits for a PACS, and why")
    deliveries.add_argument("--retry", action="store_true", help="try again what was parked")
    deliveries.set_defaults(command=_deliveries)


if __name__ == "__main__":
    sys.exit(main())
