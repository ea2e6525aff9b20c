"""A box of tiny services whose link and steward are the real ones: `box.py CONFIG SERVICE`.

With the settings `inference.threads: 13` its inference dies, with 12 it never says that it works.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from edge.cli import main
from edge.config_file import load
from edge.device.health import HealthFile, State
from edge.device.signals import Signals


def tiny(config_file: Path, service: str) -> int:
    """Say `up` and live until SIGTERM, unless the settings are such as it dies of."""
    config = load(config_file)
    signals = Signals(signal.SIGTERM, signal.SIGINT)
    wish = config.state_dir / f"{service}.does"
    does = wish.read_text(encoding="ascii") if wish.exists() else ""
    threads = config.inference.threads if service == "inference" else 0
    if threads == 13:
        return 3
    health = HealthFile(config.state_dir, service)
    while True:
        health.report(State.STARTING if threads == 12 else State.UP, threads=threads)
        if signals.wait(0.2) and does != "stay":
            return 0


if __name__ == "__main__":
    file, name = sys.argv[1:]
    if name in ("sync", "steward"):
        sys.exit(main(["run", "--config", file, name]))
    sys.exit(tiny(Path(file), name))
