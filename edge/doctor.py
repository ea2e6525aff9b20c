"""`scanside doctor`: everything that can be wrong with this box, one line each, with what to do."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO
from urllib.parse import urlsplit

from edge.config import Config
from edge.device.certificates import WARN_WITHIN_DAYS, days_left
from edge.device.checks import Check, check_machine, check_reached
from edge.device.health import State, read_health
from edge.device.vitals import read_vitals
from edge.errors import ScansideError
from edge.inference.bundle import BundleError, find_bundles, open_bundle
from edge.inference.engines import ENGINES, EngineError, open_engine
from edge.inference.familiarity import read_gate
from edge.inference.self_test import self_test
from edge.signature import public_keys
from edge.store import Store, repairs
from edge.store.keys import find_ring, ring_file

_LOW_DISK_SHARE = 0.9
_TIMED_RUNS = 5
"""A person wants to know about how fast it is, not which engine is the faster."""


def examine(config: Config, output: TextIO, *, as_json: bool = False, models_only: bool = False) -> int:
    """Check the box and write a line, or one JSON object, about each thing; 0 when all is well, 1 otherwise.

    With `models_only` it is whether this software could serve with this configuration here; the box is not touched.
    """
    status = 0
    for check in _look_at_models(config) if models_only else look(config):
        if as_json:
            output.write(f"{json.dumps(check._asdict(), ensure_ascii=False)}\n")
        else:
            output.write(f"{'ok  ' if check.well else 'BAD '} {check.name}: {check.said}\n")
        status |= not check.well
    return status


def look(config: Config) -> Iterator[Check]:
    """Check one thing after the other; the network's in the meantime."""
    with ThreadPoolExecutor() as elsewhere:
        network = [elsewhere.submit(check_reached, *where) for where in _peers(config)]
        yield from _state_folder(config)
        if config.state_dir.is_dir():
            yield from check_machine(config.state_dir)
        yield from _models(config, config.state_dir / "cache")
        yield from _ports(config)
        yield from (check.result() for check in network)
        yield from check_certificates(config, time.time())
        yield from _public_keys(config)
        yield from _services(config)


def _look_at_models(config: Config) -> Iterator[Check]:
    with TemporaryDirectory() as cache:
        yield from _models(config, Path(cache))


def _peers(config: Config) -> Iterator[tuple[str, str, int]]:
    """What the box talks to: a name, host and port of each."""
    if config.mqtt:
        yield "broker", config.mqtt.host, config.mqtt.port
    if config.audit.syslog:
        yield "syslog server", config.audit.syslog.host, config.audit.syslog.port
    for destination in config.reporting.destinations:
        url = urlsplit(destination.url or "")
        host = url.hostname or destination.host
        port = (url.port or (443 if url.scheme == "https" else 80)) if url.hostname else destination.port
        yield f"PACS {destination.name}", host, port
    if config.reporting.worklist:
        yield "worklist", config.reporting.worklist.host, config.reporting.worklist.port


def check_certificates(config: Config, now: float) -> Iterator[Check]:
    """A check of each certificate with which this box shows itself; `now` is in seconds since the epoch."""
    dicom, mqtt = config.intake.dicom.tls, config.mqtt
    web = config.web.tls
    files = (
        dicom.certificate_file if dicom else None,
        mqtt.certificate_file if mqtt else None,
        web.certificate_file if web else None,
        *(destination.certificate_file for destination in config.reporting.destinations),
    )
    for file in filter(None, files):
        try:
            days = days_left(file, now)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "no certificate in PEM"
            yield Check("certificate", False, f"{file}: {why}: correct the file, or its key in the configuration")
            continue
        when = f"expires in {days:.0f} days" if days >= 0 else f"expired {-days:.0f} days ago"
        well = days >= WARN_WITHIN_DAYS
        yield Check("certificate", well, f"{file} {when}" if well else f"{file} {when}: put a new one in place")


def _public_keys(config: Config) -> Iterator[Check]:
    """Of folders whose keys count: without one that can be read, all that they should let in is refused."""
    folders = {"update_keys": config.update_keys, "mqtt.command_keys": config.mqtt and config.mqtt.command_keys}
    for name, folder in folders.items():
        if folder:
            there = len(public_keys(folder))
            none = f"{folder}: no *.pub that can be read: put the public key there"
            yield Check(name, there > 0, f"{folder}: {there} public key(s)" if there else none)


def _state_folder(config: Config) -> Iterator[Check]:
    folder = config.state_dir
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Check("state folder", False, f"{existing} is not writable: run as the service's user, or set state_dir")
        return
    vitals = read_vitals(existing)
    said = f"{vitals.disk_free / 1e9:.1f} GB free of {vitals.disk_total / 1e9:.1f} GB"
    full = vitals.disk_used_share > _LOW_DISK_SHARE
    yield Check("disk", not full, f"{said}: free some" if full else said)
    yield _key(config)
    for place in (folder, folder / "outbox", folder / "accounts"):
        for repair in repairs(place):
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(repair.at))
            said = f"damaged and made again on {when}: keep {repair.folder} for its maker, or remove it"
            yield Check(f"file {repair.file}", False, said)


def _key(config: Config) -> Check:
    where = config.state_dir, config.storage.key_file
    try:
        ring = find_ring(*where)
        if (config.state_dir / "journal.sqlite").exists():
            Store(config.state_dir, storage=config.storage).close()
    except ScansideError as error:
        return Check("key", False, str(error))
    if ring is None:
        return Check("key", True, f"none yet: the first start makes {ring_file(*where)}")
    said = f"{ring.file} opens what is stored"
    if ring.file.is_relative_to(config.state_dir):
        said += "; beside the data it protects no stolen box: see edge/store/README.md"
    if len(ring.keys) > 1:
        return Check("key", False, f"{said}; a rotation is not complete: run scanside key rotate")
    return Check("key", True, said)


def _models(config: Config, cache: Path) -> Iterator[Check]:
    """A check of each model bundle, and of each engine with it; engines keep what they compile in `cache`."""
    folders = find_bundles(config.models_folder)
    if not folders:
        yield Check("models", False, f"no bundle under {config.models_folder}: set inference.models")
    for folder in folders:
        try:
            sealed = open_bundle(folder, config.trusted_keys)
            if sealed.bundle.task == "classification":
                read_gate(sealed)
        except BundleError as error:
            yield Check("model", False, str(error))
            continue
        bundle = sealed.bundle
        said = f"{bundle.id} {bundle.version}, {bundle.task}{', experimental' * bundle.experimental}"
        yield Check("model", True, f"{said}: signature and digests hold")
        for name in ENGINES:
            try:
                engine = open_engine(name, sealed, config.inference.threads, cache)
                took = self_test(engine, sealed, _TIMED_RUNS).median_ms
                yield Check(f"engine {name}", True, f"{bundle.id} passes the self-test, {took:.1f} ms a pass")
            except EngineError as error:
                yield Check(f"engine {name}", False, f"{bundle.id}: {error}")


def _ports(config: Config) -> Iterator[Check]:
    running = read_health(config.state_dir, time.time()) if config.state_dir.is_dir() else {}
    dicom = config.intake.dicom
    wanted = [("web", "page port", config.web.host, config.web.port)]
    if dicom.plain:
        wanted.append(("intake", "DICOM port", dicom.host, dicom.port))
    if dicom.tls:
        wanted.append(("intake", "DICOM TLS port", dicom.host, dicom.tls.port))
    for service, name, host, port in wanted:
        up = service in running and running[service].state is State.UP
        try:
            with socket.create_server((host, port)):
                taken = False
        except OSError as error:
            taken, why = True, error.strerror
        if up or not taken:
            yield Check(name, True, f"{host}:{port} {'served' if up else 'free'}")
        else:
            yield Check(name, False, f"{host}:{port}: {why}: stop what uses it, or choose another port")


def _services(config: Config) -> Iterator[Check]:
    if not config.state_dir.is_dir():
        return
    for service, health in read_health(config.state_dir, time.time()).items():
        well = health.state in (State.UP, State.STARTING)
        said = f"{health.state} {health.reason}".strip()
        if health.failures:
            since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(health.started_at))
            said += f"; runs since {since}, after {health.failures} end(s) in a row that nobody had asked for"
        yield Check(f"service {service}", well, said)
