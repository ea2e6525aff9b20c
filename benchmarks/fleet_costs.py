"""What the manager's side costs: CPU time of a message in the collector, of the alarms, of the page over many rows.

`python -m benchmarks.fleet_costs [--boxes 5000] [--rows 1000000]`. CPU time says the same on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

import sqlalchemy as sql

from edge.config import Config
from edge.fleet import upkeep
from edge.fleet.alarms import RULES
from edge.fleet.collector import BATCH
from edge.fleet.console import create_app
from edge.fleet.database import open_database
from edge.fleet.people import Dependencies
from edge.fleet.reading import read
from edge.fleet.traffic import SimulatedBox
from edge.fleet.writing import Arrival, Writer
from edge.store.audit import open_trail
from edge.sync.retry import Protocol
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from edge.web.lockout import Failures
from edge.web.sessions import Sessions


def measure_costs(folder: Path) -> None:
    """CPU time of one message in the collector, without the socket: it says the same on a busy machine."""
    engine = open_database(f"sqlite:///{folder}/costs.sqlite")
    writer = Writer(engine)
    boxes = [SimulatedBox(number, 1, failing=False) for number in range(1000)]
    for box in boxes:
        box.new_session()
    now = time.time()
    births = [said for box in boxes for said in box.birth(now, Protocol.MQTT_5)]
    healths = [box.health(now, 0, None) for _ in range(5) for box in boxes]
    summaries = [said for _ in range(8) for box in boxes for said in box.study(now)]
    for name, messages in (("births", births), ("health", healths), ("summaries", summaries)):
        begin = time.process_time()
        said = [one for message in messages if (one := read(*message))]
        middle = time.process_time()
        for first in range(0, len(said), BATCH):
            writer.write([Arrival(one, now, live=True) for one in said[first : first + BATCH]])
        reading, writing = (middle - begin) / len(said) * 1e6, (time.process_time() - middle) / len(said) * 1e6
        print(f"{len(said)} {name}: {reading:.0f} us to read and {writing:.0f} us to write each, in batches of {BATCH}")
    begin = time.process_time()
    upkeep.evaluate(engine, RULES, now, 60)
    print(f"alarms of {len(boxes)} boxes: {(time.process_time() - begin) * 1000:.0f} ms", flush=True)
    engine.dispose()


def measure_overview(folder: Path, boxes: int, rows: int) -> None:
    """The overview's time over a database with so many boxes and rows."""
    engine = open_database(f"sqlite:///{folder}/large.sqlite")
    now = time.time()
    _fill(engine, boxes, rows, now)
    file = AccountsFile(folder / "accounts")
    account = Accounts(file).add("bench", uuid.uuid4().hex, Role.ADMINISTRATOR)
    sessions = Sessions(file, time.time, 3600)
    app = create_app(
        Dependencies(
            engine=engine.execution_options(reading=True),
            writing=engine,
            audit=open_trail(Config(site="fleet", box="manager", state_dir=folder), "fleet"),
            accounts=Accounts(file),
            sessions=sessions,
            failures=Failures(file),
            interval=60,
            clock=time.time,
        )
    )
    client = app.test_client()
    client.set_cookie(Dependencies.session_cookie, sessions.open(account))
    for address in ("/", "/sites", "/boxes/site-1/box-1"):
        times: list[float] = []
        spent: list[float] = []
        for _ in range(15):
            begin, cpu = time.perf_counter(), time.process_time()
            assert client.get(address).status_code == 200
            times.append((time.perf_counter() - begin) * 1000)
            spent.append((time.process_time() - cpu) * 1000)
        low, median, high = statistics.quantiles(times, n=4)
        target = " (target 200)" if address == "/" else ""
        cpu_time = f"{statistics.median(spent):.0f} ms of CPU time"
        print(f"{address}: median {median:.0f} ms ({low:.0f} to {high:.0f}), {cpu_time}{target}", flush=True)
    print(f"over {boxes} boxes, {rows} summaries, {boxes * 24} health messages")
    file.close()


def _fill(engine: sql.Engine, boxes: int, rows: int, now: float) -> None:
    hour = int(now) // 3600 * 3600
    with engine.begin() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.executemany(
            "INSERT INTO boxes (id, site, box, first_seen_at, word, word_session, software, models, heard_at, session,"
            " queue_depth, outbox_depth, disk_used)"
            " VALUES (?, ?, ?, ?, 'ready', 's', '0.1.0', '[]', ?, 's', 0, 0, 0.5)",
            ((n, f"site-{(n - 1) // 20 + 1}", f"box-{n}", now - 1e6, now) for n in range(1, boxes + 1)),
        )
        names = ("audit", "inference", "intake", "sync", "web")
        raw.executemany(
            "INSERT INTO services VALUES (?, ?, 'up', '', 0)", ((n, s) for n in range(1, boxes + 1) for s in names)
        )
        raw.executemany(
            "INSERT INTO sessions VALUES (?, 's', ?, 0, 9, 10, 60, 600, NULL)", ((n, now) for n in range(1, boxes + 1))
        )
        raw.executemany(
            "INSERT INTO health VALUES (?, ?, 's', ?, ?, 0, 0, 0.5, 50, 100)",
            ((n, h, h, now - 3600 * h) for n in range(1, boxes + 1) for h in range(24)),
        )
        raw.executemany(
            "INSERT INTO days VALUES (?, ?, 100, 10, 12, 5)",
            ((hour // 86400 - d, n) for d in range(90) for n in range(1, boxes + 1)),
        )
        raw.executemany(
            "INSERT INTO summaries VALUES (?, ?, ?, 'clear', NULL, 0, 'm 1.0.0', 100, ?)",
            ((i % boxes + 1, hour - i // boxes * 3600, f"{i:032x}", now) for i in range(rows)),
        )


def main() -> int:
    """Run both; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.fleet_costs")
    parser.add_argument("--boxes", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scanside-fleet-") as folder:
        measure_costs(Path(folder))
        measure_overview(Path(folder), options.boxes, options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
