"""The manager's side at scale: boxes connected, messages a second, a storm of reconnections, kill -9.

`python -m benchmarks.fleet [--tls] [--boxes 5000] [--rate 2000] [--seconds 60] [--kills 10]`. Real Mosquitto,
without TLS or with it (both sides show a certificate, all simulated boxes the same one), one collector, SQLite, every
part a process of its own on this machine; the simulator's work counts against the rest. Not in `make bench`: it takes
minutes. Exit status 1 when a killed collector lost or doubled anything.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import sqlalchemy as sql
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from edge.device.client_tls import client_context
from edge.fleet import database as db
from edge.fleet.database import open_database
from edge.messages.topics import Channel, Topic
from edge.records import Priority, Reason, Status, Summary
from tests.sync.certificates import Authority

_LIMIT = 300.0
_IMAGES_A_STUDY = 4 / 3
_PROBE = ("bench", "probe")
_OUTAGE, _DRAINED = 60.0, 60.0
_CONNECTING = {False: 30.0, True: 120.0}
"""Seconds for all boxes, without and with TLS: messages are made until the storm is over, else boxes end before it."""


class Bench:
    """A broker, a database and the programs that work on them."""

    def __init__(self, folder: Path, *, tls: bool) -> None:
        """Nothing runs yet."""
        self.folder = folder
        self.tls = tls
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self._broker: subprocess.Popen[bytes] | None = None
        mqtt: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "tls": tls}
        if tls:
            authority = Authority(folder, "ca")
            self.ca, self.server, self.client = authority.certificate, authority.issue("server"), authority.issue("box")
            certificate, key = self.client
            mqtt |= {"ca_file": str(self.ca), "certificate_file": str(certificate), "key_file": str(key)}
        self.config = folder / "fleet.yaml"
        self.config.write_text(yaml.safe_dump({"mqtt": mqtt, "state_dir": str(folder)}), encoding="utf-8")
        self.engine = open_database(f"sqlite:///{folder}/fleet.sqlite")
        self.reading = self.engine.execution_options(reading=True)

    def start_broker(self) -> None:
        """Mosquitto with the fleet kit's limits."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            sys.exit("Mosquitto is missing: run tests/install_system_packages")
        settings = (
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n"
            f"persistence_location {self.folder}/\nmax_queued_messages 1000000\nautosave_interval 10\nlog_type none\n"
        )
        if self.tls:
            settings += f"cafile {self.ca}\ncertfile {self.server[0]}\nkeyfile {self.server[1]}\n"
            settings += "require_certificate true\ntls_version tlsv1.2\n"
        (self.folder / "mosquitto.conf").write_text(settings, encoding="ascii")
        command = [program, "-c", str(self.folder / "mosquitto.conf")]
        self._broker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _await(lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0)

    @property
    def broker(self) -> subprocess.Popen[bytes]:
        """The broker's process."""
        assert self._broker
        return self._broker

    def end_broker(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it in this way."""
        self.broker.send_signal(number)
        self.broker.wait()

    @contextmanager
    def running(self, work: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """One of the fleet's programs; its log is `<work>.log`."""
        with (self.folder / f"{work}.log").open("ab") as log:
            command = [sys.executable, "-m", "edge.cli", "fleet", work, *options]
            process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL)
            try:
                yield process
            finally:
                process.terminate()
                process.wait()

    def collecting(self) -> Any:
        """A collector, from when it collects on."""
        begun = self.log("collect").count("SC900")
        return self._ready(self.running("collect", "--config", str(self.config)), begun)

    @contextmanager
    def _ready(self, running: Any, begun: int) -> Iterator[subprocess.Popen[bytes]]:
        with running as process:
            _await(lambda: self.log("collect").count("SC900") > begun)
            yield process

    def simulating(self, report: str, boxes: int, rate: float, *options: str) -> Any:
        """Boxes that together make `rate` summaries a second."""
        studies = rate / boxes * 3600 / _IMAGES_A_STUDY
        fixed = ["--to", f"127.0.0.1:{self.port}", "--boxes", str(boxes), "--outages-per-day", "0"]
        if self.tls:
            fixed += ["--ca", str(self.ca), "--certificate", str(self.client[0]), "--key", str(self.client[1])]
        more = ("--studies-per-hour", f"{studies:.3f}", "--report", str(self.folder / report))
        return self.running("simulate", *fixed, *more, *options)

    def log(self, work: str) -> str:
        """What it has logged."""
        file = self.folder / f"{work}.log"
        return file.read_text("utf-8") if file.exists() else ""

    def stored(self) -> int:
        """Summaries in the store, by the counts a day."""
        with self.reading.connect() as connection:
            return int(
                connection.execute(sql.select(sql.func.coalesce(sql.func.sum(db.days.c.results), 0))).scalar_one()
            )

    def rows(self) -> int:
        """Summaries in the store, row by row."""
        with self.reading.connect() as connection:
            return int(connection.execute(sql.select(sql.func.count()).select_from(db.summaries)).scalar_one())


class Probe:
    """Publishes a summary now and then, and looks when it is visible in the store."""

    def __init__(self, bench: Bench) -> None:
        """Connected."""
        self._bench = bench
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "probe", protocol=paho.MQTTv5)
        if bench.tls:
            self._client.tls_set_context(client_context(bench.ca, *bench.client))
        self._client.connect("127.0.0.1", bench.port)
        self._client.loop_start()
        self.seconds: list[float] = []

    def once(self) -> None:
        """One message: from publish to visible."""
        message_id, begin = uuid.uuid4().hex, time.monotonic()
        self._client.publish(*probe_message(message_id), qos=1)
        seen = sql.select(db.summaries.c.hour).where(db.summaries.c.message_id == message_id)
        box = sql.select(db.boxes.c.id).where(db.boxes.c.box == _PROBE[1]).scalar_subquery()
        seen = seen.where(db.summaries.c.box_id == box)

        def visible() -> bool:
            with self._bench.reading.connect() as connection:
                return connection.execute(seen).first() is not None

        _await(visible)
        self.seconds.append(time.monotonic() - begin)

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


def probe_message(message_id: str) -> tuple[str, bytes]:
    """Topic and payload of a summary."""
    summary = Summary(
        message_id=message_id,
        hour=datetime.now(UTC).strftime("%Y-%m-%dT%H"),
        status=Status.NOT_ANALYSED,
        reason=Reason.UNDER_AGE,
        priority=Priority.ROUTINE,
        findings=(),
        quality=(),
        model=None,
        latency_ms=1,
    )
    site, box = _PROBE
    topic = Topic(site=site, box=box, service="inference", channel=Channel.FINDING, name="image", id=message_id)
    return str(topic), msgspec.json.encode(summary)


def measure_load(bench: Bench, boxes: int, rate: float, seconds: float) -> None:
    """Boxes connected, messages a second into the store, publish to visible, and a storm."""
    with bench.collecting() as collector, bench.simulating("load.json", boxes, rate) as simulator:
        begin = time.monotonic()
        while (connected := _connected(bench)) < boxes and time.monotonic() - begin < 180:
            time.sleep(1)
        print(f"connected: {connected} boxes (target 5,000)", flush=True)
        works = {"collector": collector, "broker": bench.broker, "simulator": simulator}
        spent = {name: _cpu_seconds(work) for name, work in works.items()}
        probe, before, begin = Probe(bench), bench.stored(), time.monotonic()
        while time.monotonic() - begin < seconds:
            probe.once()
            time.sleep(0.2)
        stored, elapsed = bench.stored() - before, time.monotonic() - begin
        p95 = statistics.quantiles(probe.seconds, n=20)[18] if len(probe.seconds) > 1 else probe.seconds[0]
        waiting = _waiting(bench)
        print(
            f"into the store: {stored / elapsed:.0f} summaries/s of {rate:.0f} asked for (target 2,000), {waiting} wait"
        )
        print(f"publish to visible: p95 {p95:.2f} s of {len(probe.seconds)} (target under 2)", flush=True)
        spent = {name: _cpu_seconds(work) - spent[name] for name, work in works.items()}
        per_message = ", ".join(f"{name} {seconds / max(1, stored) * 1e6:.0f}" for name, seconds in spent.items())
        print(f"microseconds of CPU time for each summary: {per_message}", flush=True)
        probe.stop()


def measure_storm(bench: Bench, boxes: int, rate: float) -> bool:
    """The broker is gone for a minute and all boxes come back at once; whether nothing was lost or doubled."""
    before, making = bench.stored(), _CONNECTING[bench.tls] + _OUTAGE + _DRAINED
    with bench.collecting():
        with bench.simulating("storm.json", boxes, rate, "--seconds", str(making)) as simulator:
            _await(lambda: _connected(bench) == boxes)
            bench.end_broker()
            time.sleep(_OUTAGE)
            waiting = _waiting(bench)
            bench.start_broker()
            up = time.monotonic()
            _await(lambda: _connected(bench) == boxes and _waiting(bench) < rate)
            print(
                f"storm: all {boxes} boxes back and {waiting} summaries that had waited with the broker "
                f"{time.monotonic() - up:.0f} s after it was there again (target 180)",
                flush=True,
            )
            simulator.wait()
        made = json.loads((bench.folder / "storm.json").read_text())["summaries"]
        _settle(bench, before + made)
    return _told("storm", made, bench, before)


def measure_kills(bench: Bench, kills: int) -> bool:
    """Kill the collector at random while boxes talk, then the broker; whether nothing was lost or doubled."""
    rng = random.Random(1)
    sound = True
    for victim in ("collector", "broker"):
        with bench.collecting():
            pass  # what is said before a collector was ever there is for nobody
        before = bench.stored()
        with bench.simulating(
            f"{victim}.json", 100, 200, "--seed", str(rng.randrange(1 << 30)), "--seconds", str(20 * kills)
        ) as boxes:
            done = _kill(bench, victim, boxes, rng, time.monotonic() + 20 * kills)
        made = json.loads((bench.folder / f"{victim}.json").read_text())["summaries"]
        with bench.collecting():
            _settle(bench, before + made)
        sound = _told(f"{done} x kill -9 of the {victim}", made, bench, before) and sound
    return sound


def _told(what: str, made: int, bench: Bench, before: int) -> bool:
    lost, doubled = made - (bench.stored() - before), bench.stored() - bench.rows()
    print(f"{what}: {made} summaries, lost = {lost}, doubled = {doubled}", flush=True)
    return lost == doubled == 0


def _kill(bench: Bench, victim: str, boxes: subprocess.Popen[bytes], rng: random.Random, until: float) -> int:
    """Kill it again and again until then, and let the boxes come to their end."""
    done = 0
    while boxes.poll() is None:
        with bench.collecting() as collector:
            while time.monotonic() < until:
                time.sleep(rng.uniform(1, 4))
                done += 1
                if victim == "collector":
                    collector.kill()
                    break
                bench.end_broker(signal.SIGKILL)
                bench.start_broker()
            else:
                boxes.wait()
    return done


def _settle(bench: Bench, expected: int) -> None:
    """Until all have come, or nothing has for a minute; and then a while for what would be too much."""
    count, still = -1, 0
    while count < expected and still < 60:
        time.sleep(1)
        still = still + 1 if bench.stored() == count else 0
        count = bench.stored()
    time.sleep(5)


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """User and system time of a process so far (proc(5))."""
    fields = Path(f"/proc/{process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _last(bench: Bench, pattern: str) -> int:
    found = re.findall(pattern, bench.log("simulate"))
    return int(found[-1]) if found else 0


def _connected(bench: Bench) -> int:
    return _last(bench, r"simulated (\d+) of")


def _waiting(bench: Bench) -> int:
    return _last(bench, r"delivered, (\d+) wait")


def _await(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LIMIT
    while not happened():
        if time.monotonic() > deadline:
            sys.exit("what was waited for never came")
        time.sleep(0.01)


def main() -> int:
    """Run all; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.fleet")
    parser.add_argument("--boxes", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--tls", action="store_true", help="mutual TLS, as in the field")
    parser.add_argument("--parts", nargs="+", default=["load", "storm", "kills"])
    options = parser.parse_args()
    sound = True
    with tempfile.TemporaryDirectory(prefix="scanside-fleet-") as name:
        bench = Bench(Path(name), tls=options.tls)
        bench.start_broker()
        try:
            if "load" in options.parts:
                measure_load(bench, options.boxes, options.rate, options.seconds)
                (bench.folder / "simulate.log").unlink()
            if "storm" in options.parts:
                sound = measure_storm(bench, options.boxes, options.rate / 10)
            if "kills" in options.parts:
                sound = measure_kills(bench, options.kills) and sound
        finally:
            bench.end_broker()
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
