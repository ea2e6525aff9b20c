"""Runs the demo: broker, appliance, images in by DICOM, summaries out over MQTT, and the page to look at.

Everything listens on this machine only, and everything it writes lies under `.demo/`.
"""

from __future__ import annotations

import argparse
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

import msgspec
import yaml

from edge import config_file
from edge.config import Config
from edge.demo.broker import ENDS_WITH_US, embedded_broker
from edge.demo.inputs import own_files, synthetic_files
from edge.demo.subscriber import subscribe
from edge.demo.surroundings import clear, free_port, say
from edge.device.health import State, read_health
from edge.errors import ScansideError
from edge.events import configure
from edge.intake.sender import send_files
from edge.records import REASON_WORDS, STATUS_WORDS, Summary

_READY_WITHIN = 120.0
_ANSWERED_WITHIN = 60.0
_PREFERRED_PAGE_PORT = 8080


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until Ctrl-C, or with `--once` until every image has its summary; the exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description="The whole appliance on this machine.")
    parser.add_argument("--input", type=Path, metavar="FOLDER", help="send these DICOM, PNG or JPEG files instead")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where everything is written")
    parser.add_argument("--once", action="store_true", help="stop when every image has its summary")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    configure("demo")
    try:
        return _demo(options.folder, options.input, once=options.once)
    except ScansideError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        say("Stopped. Nothing was left running; what was written lies under .demo/.")
        return 0


def _demo(folder: Path, own: Path | None, *, once: bool) -> int:
    clear(folder, "scanside.yaml")
    say("1/5 Making the radiographs to send." if own is None else f"1/5 Reading {own}.")
    images = synthetic_files(folder / "images") if own is None else own_files(own, folder / "images")
    if not images:
        raise ScansideError(f"{own}: no DICOM, PNG or JPEG file here: give a folder that has some")
    broker_port = free_port()
    with embedded_broker(broker_port) as broker:
        say(f"2/5 MQTT broker: {broker}, 127.0.0.1:{broker_port}.")
        file = _write_config(folder, broker_port)
        settings = config_file.load(file)
        arrivals: queue.SimpleQueue[Summary] = queue.SimpleQueue()
        with subscribe("127.0.0.1", broker_port, lambda topic, payload: _receive(topic, payload, arrivals)):
            return _with_appliance(file, settings, images, arrivals, once=once)


def _with_appliance(
    file: Path, settings: Config, images: list[Path], arrivals: queue.SimpleQueue[Summary], *, once: bool
) -> int:
    say("3/5 Starting the appliance: intake, inference, web, sync (its log: .demo/scanside.log).")
    with (file.parent / "scanside.log").open("wb") as log:
        appliance = subprocess.Popen(
            [*ENDS_WITH_US, sys.executable, "-m", "edge.cli", "run", "--config", str(file)],
            stderr=log,
            start_new_session=True,
        )
        try:
            _await(lambda: _all_up(settings), _READY_WITHIN, appliance)
            page = f"http://{settings.web.host}:{settings.web.port}/"
            say(f"4/5 Sending {len(images)} images by DICOM C-STORE to port {settings.intake.dicom.port}, one by one.")
            say("    What arrives over MQTT, without anything about a patient:")
            counts = _send_and_show(images, settings, arrivals)
            say(f"5/5 {len(images)} images sent, {sum(counts.values())} summaries: {_counted(counts)}.")
            say(f"The page: {page}  (first visit: use the first-boot code above). Ctrl-C stops everything.")
            while not once and appliance.poll() is None:
                time.sleep(1)
            return 0 if sum(counts.values()) == len(images) else 1
        finally:
            appliance.send_signal(signal.SIGTERM)
            appliance.wait()


def _send_and_show(images: list[Path], settings: Config, arrivals: queue.SimpleQueue[Summary]) -> dict[str, int]:
    """Send each image when the one before has its summary, as a modality would; how many got which answer."""
    counts: dict[str, int] = {}
    seen: set[str] = set()
    dicom = settings.intake.dicom
    for number, image in enumerate(images, start=1):
        lines = StringIO()
        if send_files([image], dicom.host, dicom.port, called=dicom.ae_title, calling="DEMO", output=lines):
            sys.stderr.write(lines.getvalue())
            continue
        summary = _next_summary(arrivals, seen)
        if summary is None:
            sys.stderr.write(f"no summary of image {number} within {_ANSWERED_WITHIN:.0f} s: see .demo/scanside.log\n")
            continue
        counts[summary.status] = counts.get(summary.status, 0) + 1
        words = STATUS_WORDS[summary.status]
        words += f": {REASON_WORDS[summary.reason]}" if summary.reason else ""
        bands = ", ".join(f"{finding.code} {finding.band}" for finding in summary.findings)
        say(f"    [{number:2}/{len(images)}] {summary.latency_ms:5} ms  {words}{f' ({bands})' if bands else ''}")
    return counts


def _next_summary(arrivals: queue.SimpleQueue[Summary], seen: set[str]) -> Summary | None:
    """The next summary whose id is new: MQTT may bring one twice (QoS 1)."""
    deadline = time.monotonic() + _ANSWERED_WITHIN
    while (left := deadline - time.monotonic()) > 0:
        try:
            summary = arrivals.get(timeout=left)
        except queue.Empty:
            return None
        if summary.message_id not in seen:
            seen.add(summary.message_id)
            return summary
    return None


def _receive(topic: str, payload: bytes, arrivals: queue.SimpleQueue[Summary]) -> None:
    if "/find/" in topic and payload:
        arrivals.put(msgspec.json.decode(payload, type=Summary))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(counts.items()))


def _write_config(folder: Path, broker_port: int) -> Path:
    document = {
        "site": "demo",
        "box": "box-1",
        "state_dir": str((folder / "state").resolve()),
        "intake": {"dicom": {"port": free_port(), "host": "127.0.0.1"}},
        "web": {"port": free_port(_PREFERRED_PAGE_PORT)},
        "mqtt": {"host": "127.0.0.1", "port": broker_port, "tls": False, "health_interval_seconds": 5},
    }
    path = folder / "scanside.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def _all_up(settings: Config) -> bool:
    states = {name: health.state for name, health in read_health(settings.state_dir, time.time()).items()}
    return all(states.get(service) is State.UP for service in ("intake", "inference", "web", "sync"))


def _await(happened: Callable[[], bool], seconds: float, appliance: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if appliance.poll() is not None:
            raise ScansideError(f"the appliance ended with status {appliance.returncode}: see .demo/scanside.log")
        if time.monotonic() > deadline:
            raise ScansideError(f"the appliance was not ready within {seconds:.0f} s: see .demo/scanside.log")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
