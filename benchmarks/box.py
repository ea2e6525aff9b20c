"""A box for the benchmarks: its services as processes, and ports for them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
