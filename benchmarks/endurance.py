"""Claim: memory is flat over time: no service grows by more than 5 % after its first 500 images.

`python -m benchmarks.endurance --images 10000`: small DX objects into a whole appliance, several senders at once, never
more of them waiting than a few. Prints the memory of each service (with what it has started) at every mark, at rest,
the median of several looks: the proportional set size, and how far what is not of files has grown since the mark at 500
(other programs on the machine change the share of files). Exit status 1 when one has grown by more.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.faults import found_programs
from benchmarks.report import heading
from edge.sync.settling import SETTLED_AFTER
from tests.system.conftest import SERVICES
from tests.system.faults.box import Box, Broker, Memory
from tests.system.faults.senders import Modalities

MOST_GROWTH = 5.0
_WARM = 500
_AT_ONCE = 50
_LOOKS = 5


def main() -> int:
    """Run and print; the exit status."""
    parser = argparse.ArgumentParser(description="Memory over many images.")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=1000, help="images between two marks after the first")
    options = parser.parse_args()
    programs = found_programs()
    with tempfile.TemporaryDirectory(prefix="scanside-endurance-") as name:
        folder = Path(name)
        state, cache, images = (folder / part for part in ("state", "cache", "images"))
        for made in (state, cache, images):
            made.mkdir(mode=0o700)
        with closing(Broker(folder / "broker", programs["mosquitto"])) as broker:
            box = Box(folder, state, cache, broker, environment={}, now=time.time)
            box.start()
            try:
                _await(box.is_up)
                heading(f"Memory (PSS, MB) of each service over {options.images} images")
                return _run(
                    box, Modalities(images, box.dicom_port, programs["storescu"]), options.images, options.every
                )
            finally:
                box.stop()


def _run(box: Box, modalities: Modalities, images: int, every: int) -> int:
    rng = random.Random(0)
    first: dict[str, Memory] = {}
    growth: dict[str, float] = {}
    print("| images | " + " | ".join(SERVICES) + " |")
    while len(modalities.accepted) < images:
        target = min(len(modalities.accepted) + every if first else _WARM, images)
        while len(modalities.accepted) < target:
            modalities.begin(2, min(_AT_ONCE, target - len(modalities.accepted)) // 2 or 1, rng)
            _await(modalities.finish)
            _await(lambda: box.last_seq() >= len(modalities.accepted))
        _rest(box, modalities, rng)
        now = _memory(box)
        first = first or now
        growth = {name: 100 * (now[name].own / first[name].own - 1) for name in SERVICES}
        cells = (f"{now[name].pss:.1f}, own {now[name].own:.1f} ({growth[name]:+.1f} %)" for name in SERVICES)
        print(f"| {len(modalities.accepted)} | " + " | ".join(cells) + " |", flush=True)
    grown = [name for name in SERVICES if growth[name] > MOST_GROWTH]
    print(f"grown by more than {MOST_GROWTH:.0f} % since {_WARM} images: {', '.join(grown) or 'none'}")
    return 1 if grown else 0


def _rest(box: Box, modalities: Modalities, rng: random.Random) -> None:
    """Let what was sent to the broker settle (edge/sync/settling.py), which the next acknowledgement after it does.

    What is held until then is the more the faster this machine is at the time.
    """
    time.sleep(SETTLED_AFTER)
    modalities.begin(1, 1, rng)
    _await(modalities.finish)
    _await(lambda: box.last_seq() >= len(modalities.accepted))


def _memory(box: Box) -> dict[str, Memory]:
    """The median of some looks, a second apart: services do a little work of their own."""
    looks = []
    for _ in range(_LOOKS):
        time.sleep(1)
        looks.append(box.memory())
    return {name: sorted(look[name] for look in looks)[_LOOKS // 2] for name in SERVICES}


def _await(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.3)


if __name__ == "__main__":
    sys.exit(main())
