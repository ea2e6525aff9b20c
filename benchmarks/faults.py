"""Claim: whatever fails, every image that was answered with success is there once, with one result.

`python -m benchmarks.faults --rounds 500 --seed 1`: the programme of tests/system/faults, for as long as wanted. Exit
status 1 when anything was lost, doubled, or did not come back; then each line says seed, round, fault and ids, and the
folder with the state and the log is kept.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.system.faults.kinds import ALL
from tests.system.faults.programme import Programme, print_line

_PATH = "/usr/bin:/usr/sbin:/usr/local/bin"


def main() -> int:
    """Run and print; the exit status."""
    parser = argparse.ArgumentParser(description="Faults under load: nothing is lost, nothing is doubled.")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", action="append", choices=ALL, help="only these")
    options = parser.parse_args()
    programs = found_programs()
    folder = Path(tempfile.mkdtemp(prefix="scanside-faults-"))
    cache = folder / "cache"
    cache.mkdir()
    with Programme(folder, cache, options.seed, programs, 128 + 2 * options.rounds) as programme:
        programme.run(programme.draw(options.rounds, options.kind or ALL), print_line)
        print_line(str(programme.counts))
    if programme.counts.good:
        shutil.rmtree(folder)
        return 0
    print_line(f"kept for looking at it: {folder}")
    return 1


def found_programs() -> dict[str, str]:
    """Where the programs are that the programme needs; ends this one where one is missing."""
    found = {name: shutil.which(name, path=_PATH) for name in ("mosquitto", "storescu")}
    if missing := [name for name, path in found.items() if path is None]:
        sys.exit(f"{', '.join(missing)}: not found: run tests/install_system_packages")
    return {name: path for name, path in found.items() if path}


if __name__ == "__main__":
    sys.exit(main())
