"""A box for the benchmarks: its services as processes, and ports for them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from edge.config import Config
from edge.device.health import State, read_health


@contextmanager
def running_service(file: Path, settings: Config, service: str) -> Iterator[subprocess.Popen[bytes]]:
    """One service with this configuration, once it says that it is there. Raises `SystemExit` when it ends before."""
    command = [sys.executable, "-m", "edge.cli", "run", "--config", str(file), service]
    began = time.time()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                said = read_health(settings.state_dir, time.time()).get(service)
                if said and said.state in (State.UP, State.DEGRADED) and said.updated_at >= began:
                    break
                if process.poll() is not None:
                    raise SystemExit(f"{service} did not start")
                time.sleep(0.02)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def running_appliance(
    file: Path, settings: Config, prefix: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """The whole appliance, once all its services are up, and the seconds that took; `prefix` runs its command.

    Raises:
        SystemExit: It ended before.
    """
    absent = file.parent / "absent"  # a device has no requests, which pydicom loads where it is: 5 MB in two processes
    absent.mkdir(exist_ok=True)
    (absent / "requests.py").write_text('raise ImportError("not on a device")\n', encoding="ascii")
    start = time.monotonic()
    command = [*prefix, sys.executable, "-m", "edge.cli", "run", "--config", str(file)]
    environment = os.environ | {"PYTHONPATH": f"{absent}:{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        began = time.time()
        while True:
            health = read_health(settings.state_dir, time.time()) if settings.state_dir.exists() else {}
            accounts = [health[name] for name in settings.services if name in health]
            up = [account for account in accounts if account.state is State.UP and account.updated_at >= began]
            if len(up) == len(settings.services):
                break
            if process.poll() is not None:
                raise SystemExit("the appliance did not start")
            time.sleep(0.01)
        yield process, time.monotonic() - start
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def send(path: Path, port: int, called: str, proposal: str = "-xe") -> None:
    """One image by DCMTK's storescu: process, association and transfer. Raises `SystemExit` when it is not taken."""
    command = ["/usr/bin/storescu", "-aec", called, proposal, "127.0.0.1", str(port), str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise SystemExit(f"port {port} did not accept {path}")


def write_config(folder: Path, broker_port: int | None = None, **sections: object) -> Path:
    """A configuration with its state in the folder and ports of its own; without a broker, of a box alone."""
    document: dict[str, object] = {
        "state_dir": str(folder / "state"),
        "intake": {"dicom": {"port": free_port()}},
        "web": {"port": free_port()},
        **sections,
    }
    if broker_port:
        document["mqtt"] = {"host": "127.0.0.1", "port": broker_port, "tls": False}
    file = folder / "scanside.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
