"""Runs the fleet's demo: broker, twenty simulated boxes of which one fails, a collector, and the manager's page.

Everything listens on this machine only, and everything it writes lies under `.demo-fleet/`.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from edge.demo.broker import ENDS_WITH_US, embedded_broker
from edge.demo.surroundings import clear, free_port, say
from edge.errors import ScansideError
from edge.events import configure
from edge.fleet import queries, settings
from edge.fleet.database import open_database
from edge.fleet.standing import Condition, condition

BOXES = 20
_HEALTH_SECONDS = 2
_READY_WITHIN = 120.0
_PREFERRED_PORT = 8090
_FILE = "fleet.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until Ctrl-C, or with `--once` until all boxes are heard and one fails; the exit status."""
    parser = argparse.ArgumentParser(prog="make demo-fleet", description="A fleet on this machine.")
    parser.add_argument("--folder", type=Path, default=Path(".demo-fleet"), help="where everything is written")
    parser.add_argument("--once", action="store_true", help="stop when all boxes are heard and one of them fails")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    configure("demo")
    try:
        return _demo(options.folder, once=options.once)
    except ScansideError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        say(f"Stopped. Nothing was left running; what was written lies under {options.folder}/.")
        return 0


def _demo(folder: Path, *, once: bool) -> int:
    clear(folder, _FILE)
    port, page_port = free_port(), free_port(_PREFERRED_PORT)
    with ExitStack() as running:
        broker = running.enter_context(embedded_broker(port))
        say(f"1/4 MQTT broker: {broker}, 127.0.0.1:{port}.")
        file = _write_config(folder, port, page_port)
        say(f"2/4 Starting the collector and the page (their logs: {folder}/*.log).")
        works = [running.enter_context(_running(folder, "console", "--config", str(file)))]
        works.append(running.enter_context(_running(folder, "collect", "--config", str(file))))
        _await(lambda: _is_heard(page_port) and "SC900" in (folder / "collect.log").read_text("utf-8"), works)
        say(f"3/4 Starting {BOXES} boxes, of which one fails.")
        fleet = ("--to", f"127.0.0.1:{port}", "--boxes", str(BOXES), "--failing", "1", "--seed", "1")
        traffic = ("--health-seconds", str(_HEALTH_SECONDS), "--studies-per-hour", "240", "--outages-per-day", "200")
        works.append(running.enter_context(_running(folder, "simulate", *fleet, *traffic)))
        config = settings.load(file)
        _await(lambda: (heard := _heard(config))[Condition.DEGRADED] == 1 and sum(heard.values()) == BOXES, works)
        say(f"4/4 {BOXES} boxes are heard, one of them fails.")
        say(f"The page: http://127.0.0.1:{page_port}/  (first visit: use the code above). Ctrl-C stops everything.")
        while not once and all(work.poll() is None for work in works):
            time.sleep(0.5)
        return 0 if once else 1


@contextmanager
def _running(folder: Path, work: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of the fleet's programs, until the context ends. The page's code for the first account goes to our output."""
    command = [*ENDS_WITH_US, sys.executable, "-m", "edge.cli", "fleet", work, *options]
    with (folder / f"{work}.log").open("wb") as log:
        output = None if work == "console" else log
        process = subprocess.Popen(command, stdout=output, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _heard(config: settings.FleetConfig) -> dict[Condition, int]:
    """How many boxes are how, without those that were never heard; none before the page believes the collector."""
    engine = open_database(config.database_url).execution_options(reading=True)
    with engine.connect() as connection:
        boxes = queries.facts(connection, time.time()) if queries.collectors(connection) else []
    engine.dispose()
    states = [condition(facts, time.time(), config.mqtt.health_interval_seconds) for facts in boxes]
    return {state: states.count(state) for state in Condition if state is not Condition.NEVER}


def _is_heard(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _await(happened: Callable[[], bool], works: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while not happened():
        if any(work.poll() is not None for work in works):
            raise ScansideError("a part of the demo ended: see its log in the demo's folder")
        if time.monotonic() > deadline:
            raise ScansideError(
                f"after {_READY_WITHIN:.0f} s the fleet is not there: see the logs in the demo's folder"
            )
        time.sleep(0.2)


def _write_config(folder: Path, port: int, page_port: int) -> Path:
    (folder / "state").mkdir()
    document = {
        "mqtt": {"host": "127.0.0.1", "port": port, "tls": False, "health_interval_seconds": _HEALTH_SECONDS},
        "state_dir": str((folder / "state").resolve()),
        "console": {"port": page_port},
        "alarms": {
            "services": {"grace_seconds": 10},
            "queue": {"raise_above": 30, "clear_below": 5, "grace_seconds": 5},
        },
    }
    path = folder / _FILE
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
