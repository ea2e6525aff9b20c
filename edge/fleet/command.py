"""`scanside fleet ...`: the arguments of each work; what it does is in the files of that name."""

from __future__ import annotations

import argparse
import getpass
import random
from pathlib import Path
from typing import TYPE_CHECKING

from edge import events
from edge.errors import UsageError

if TYPE_CHECKING:
    from edge.fleet.settings import FleetConfig

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_FAILING = "so many boxes have no inference service, and a disk that fills"


def add_fleet(commands: _Commands, debug: argparse.ArgumentParser) -> None:
    """Add the subcommand; `debug` has the options that every command has."""
    fleet = commands.add_parser("fleet", help="the manager's side: collect what boxes say, show it, simulate boxes")
    works = fleet.add_subparsers(required=True, metavar="WORK")
    serving = (
        ("collect", "what boxes say, into the database"),
        ("console", "the page over the database"),
        ("dispatch", "what the page orders, to the boxes"),
    )
    for name, words in serving:
        work = works.add_parser(name, parents=[debug], help=words)
        work.set_defaults(command=_serve, work=name)
    user = works.add_parser("user", parents=[debug], help="manage the accounts of the page")
    user.add_argument("action", choices=("add", "list", "remove", "password"))
    user.add_argument("name", nargs="?", help="the account's name")
    user.add_argument("--role", default="service", choices=("service", "administrator", "technician"))
    user.set_defaults(command=_user, work="user")
    simulate = works.add_parser(
        "simulate", parents=[debug], help="many boxes that do as real ones do, for tests and demos"
    )
    simulate.add_argument("--to", default="127.0.0.1:1883", metavar="HOST:PORT", help="the broker")
    simulate.add_argument("--ca", type=Path, metavar="FILE", help="who signed the broker's certificate: with TLS")
    simulate.add_argument("--certificate", type=Path, metavar="FILE", help="with --ca: what every box shows of itself")
    simulate.add_argument("--key", type=Path, metavar="FILE", help="with --certificate: its key")
    simulate.add_argument("--boxes", type=int, default=20, metavar="N")
    simulate.add_argument("--seed", type=int, metavar="N", help="the same seed, the same fleet with the same images")
    simulate.add_argument("--studies-per-hour", type=float, default=12.0, metavar="N", help="of each box")
    simulate.add_argument("--health-seconds", type=float, default=60.0, metavar="S", help="between two of a box")
    simulate.add_argument("--failing", type=int, default=0, metavar="N", help=_FAILING)
    simulate.add_argument("--outages-per-day", type=float, default=2.0, metavar="N", help="of each box's network")
    simulate.add_argument("--storm-seconds", type=float, metavar="S", help="all lose their connections this often")
    simulate.add_argument("--seconds", type=float, metavar="S", help="then wait for the last acknowledgements and end")
    simulate.add_argument("--report", type=Path, metavar="FILE", help="what happened, as JSON")
    simulate.set_defaults(command=_simulate)


def _config(options: argparse.Namespace) -> FleetConfig:
    from edge.fleet import settings  # noqa: PLC0415 - each subcommand pays for its own imports only

    if not options.config:
        raise UsageError(f"fleet {options.work}: needs --config FILE: firmware_config/fleet/fleet.yaml explains it")
    return settings.load(options.config)


def _user(options: argparse.Namespace) -> int:
    from edge.web.user_command import user_command  # noqa: PLC0415

    return user_command(_config(options).own_box, options, getpass.getpass)


def _serve(options: argparse.Namespace) -> int:
    config = _config(options)
    events.configure(f"fleet-{options.work}")
    if not options.debug:
        events.silence_everything_else()
    if options.work == "collect":
        from edge.fleet import collector  # noqa: PLC0415

        return collector.serve(config)
    if options.work == "dispatch":
        from edge.fleet import dispatcher  # noqa: PLC0415

        return dispatcher.serve(config)
    from edge.fleet import console_service  # noqa: PLC0415

    return console_service.serve(config)


def _simulate(options: argparse.Namespace) -> int:
    from edge.config import Mqtt  # noqa: PLC0415
    from edge.fleet.simulator import Scenario, simulate  # noqa: PLC0415

    host, _, port = options.to.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--to {options.to!r}: must be HOST:PORT, for instance 127.0.0.1:1883")
    positive = {"--boxes": options.boxes, "--health-seconds": options.health_seconds}
    for name, value in positive.items():
        if value <= 0:
            raise UsageError(f"{name} {value}: must be more than 0")
    if (options.certificate is None) != (options.key is None) or (options.certificate and not options.ca):
        raise UsageError("--certificate and --key belong together, and to --ca: give all three, or --ca alone")
    mqtt = Mqtt(
        host=host,
        port=int(port),
        tls=options.ca is not None,
        ca_file=options.ca,
        certificate_file=options.certificate,
        key_file=options.key,
        keepalive_seconds=min(3600, max(60, round(2 * options.health_seconds))),
    )
    scenario = Scenario(
        boxes=options.boxes,
        seed=random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed,
        studies_per_hour=options.studies_per_hour,
        health_seconds=options.health_seconds,
        failing=options.failing,
        outages_per_day=options.outages_per_day,
        storm_seconds=options.storm_seconds,
        seconds=options.seconds,
    )
    events.configure("fleet-simulate")
    return simulate(mqtt, scenario, options.report)
