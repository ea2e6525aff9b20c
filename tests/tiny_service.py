"""A tiny service to supervise: `tiny_service.py STATE_DIR SERVICE`; it misbehaves as STATE_DIR/SERVICE.does says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from edge.device.health import HealthFile, State
from edge.device.signals import Signals


def main(state_dir: Path, service: str) -> int:
    """Say `up` and live until SIGTERM, unless told otherwise."""
    wish = state_dir / f"{service}.does"
    does = wish.read_text(encoding="ascii").split() if wish.exists() else []
    signals = Signals(signal.SIGTERM, signal.SIGINT)
    if "worker" in does:
        worker = subprocess.Popen(["sleep", "3600"])
        (state_dir / f"{service}.worker").write_text(str(worker.pid), encoding="ascii")
    health = HealthFile(state_dir, service)
    if "die" in does:
        return 3
    state = State.STARTING if "hesitate" in does else State.UP
    while True:
        health.report(state, pgid=os.getpgid(0))
        if signals.wait(0.5) and "stay" not in does:
            return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
