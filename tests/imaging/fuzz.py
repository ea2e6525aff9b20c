"""Fuzzing of everything that reads an image's bytes, through the same guard as on a device.

`python -m tests.imaging.fuzz --minutes 30 --seed 1`: counts, and keeps each file that crashed the analyst, hung it,
asked for too much memory or met a defect of ours, under `--keep`. Exit status 1 when there was one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from edge import events
from edge.config import Config, Inference
from edge.inference.channel import Analyse, Draw
from edge.inference.guard import LOST, Guard
from edge.records import Reason
from tests.imaging.hostile import endless

LIMITS = Inference(image_megabytes=512, threads=1)
_FINDINGS = LOST | {Reason.PROCESSING_FAILED}
_REFUSED_PICTURES = {None, "Refusal"}


class Case(NamedTuple):
    """One file: what was done to it, its bytes, what the analysis answered, and what is wrong with that."""

    done: str
    data: bytes
    answer: str
    finding: str | None


def run(guard: Guard, files: Iterable[tuple[str, bytes]]) -> Iterator[Case]:
    """Analyse and draw each file. The limits are the guard's."""
    for done, data in files:
        image = os.memfd_create("image")
        try:
            os.write(image, data)
            answer = guard.analyse(Analyse(key="fuzz", source="fuzz"), image)
            reason = answer.result.reason
            finding = f"{reason} {answer.defect or ''}".strip() if reason in _FINDINGS else None
            if finding is None:
                pictures = guard.draw(Draw(key="fuzz", explanation=answer.explanation), image)
                finding = None if pictures.error in _REFUSED_PICTURES else f"pictures: {pictures.error}"
        finally:
            os.close(image)
        yield Case(done, data, reason or answer.result.status, finding)


def main() -> int:
    """Fuzz, print the count, keep what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.imaging.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--files", type=Path, default=Path("../shared/data/dicom/files"), help="real files to begin with"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path(tempfile.gettempdir()) / "scanside-fuzz", help="for what is found"
    )
    options = parser.parse_args()
    events.configure("fuzz")
    answers, findings = Counter[str](), Counter[str]()
    with (
        tempfile.TemporaryDirectory() as cache,
        Guard(Config(inference=LIMITS), Path(cache), service="fuzz") as guard,
    ):
        guard.await_ready()
        begun = time.monotonic()
        for number, case in enumerate(run(guard, endless(options.seed, options.files))):
            answers[case.answer] += 1
            if case.finding:
                findings[case.finding] += 1
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{options.seed}-{number}.dcm").write_bytes(case.data)
                print(f"{number}: {case.finding}: {case.done}", flush=True)
            if time.monotonic() - begun > options.minutes * 60:
                break
    print(f"seed {options.seed}: {answers.total()} files in {options.minutes:g} minutes, {findings.total()} findings")
    for counted in (answers, findings):
        print(", ".join(f"{name} {count}" for name, count in counted.most_common()))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
