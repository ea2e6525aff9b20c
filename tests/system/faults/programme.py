"""The programme: rounds of load and one fault each, and after each round the proof that nothing is lost or doubled."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event
from typing import Self

import pytest

from tests.conftest import ROOT
from tests.inference.breaking import stand_in
from tests.running import PATIENCE
from tests.system.faults.box import Box, Broker
from tests.system.faults.disk import SmallDisk
from tests.system.faults.kinds import Scene, possible
from tests.system.faults.ledger import Seen, Verdict, judge
from tests.system.faults.senders import Modalities
from tests.system.faults.shim import Shim

_FIRST_START = 300.0  # models are compiled and engines compared
_SENDERS, _IMAGES = 2, 3
_LOOK_EVERY = 0.1
_LOST_AT_MOST = 200  # changes that a torn journal may have lost, whose numbers are given again


@dataclass
class Counts:
    """What the programme has seen so far."""

    faults: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    accepted: int = 0
    refusals: int = 0
    lost: int = 0
    doubled: int = 0
    stuck: int = 0
    most_memory: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Nothing was lost or doubled, and the box came back each time."""
        return not (self.lost or self.doubled or self.stuck)

    def __str__(self) -> str:
        kinds = "\n".join(
            f"  {kind}: {count}, slowest recovery {self.slowest[kind]:.1f} s"
            for kind, count in sorted(self.faults.items())
        )
        memory = ", ".join(f"{name} {size:.0f} MB" for name, size in sorted(self.most_memory.items()))
        return (
            f"rounds: {self.faults.total()}\n{kinds}\n"
            f"images accepted: {self.accepted} (after {self.refusals} failures, each sent again)\n"
            f"lost: {self.lost}, doubled: {self.doubled}, stuck: {self.stuck}\n"
            f"slowest recovery: {max(self.slowest.values(), default=0):.1f} s (load {os.getloadavg()[2]:.1f} on"
            f" {len(os.sched_getaffinity(0))} cores); most memory (PSS): {memory}"
        )


class Programme:
    """One box and what is around it, for as many rounds as wanted."""

    def __init__(self, folder: Path, cache: Path, seed: int, programs: Mapping[str, str], megabytes: int = 256) -> None:
        """Start everything; entering the context awaits that the box is up.

        Args:
            folder: An empty one.
            cache: A folder for the choice of the engine and its compiled models.
            seed: Decides on kinds and moments, as far as load allows.
            programs: Where `mosquitto` and DCMTK's `storescu` are.
            megabytes: How large a disk to mount for the state folder, where that is allowed.
        """
        self._seed = seed
        self._rng = Random(seed)
        self.counts = Counts()
        broker = Broker(folder / "broker", programs["mosquitto"])
        state, images, codecs = (folder / name for name in ("state", "images", "codecs"))
        for made in (state, images, codecs):
            made.mkdir(mode=0o700)
        stand_in(codecs, "imagecodecs")  # breaks on what is marked as poisoned
        compiler = shutil.which("cc")
        shim = Shim(folder, compiler, state) if compiler else None
        environment = {"PYTHONPATH": os.pathsep.join((str(codecs), str(ROOT)))} | (shim.environment if shim else {})
        disk = SmallDisk.mounted(state, megabytes)
        box = Box(
            folder,
            state,
            cache,
            broker,
            environment=environment,
            now=lambda: time.time() + (shim.clock_offset if shim else 0),
        )
        self.scene = Scene(
            box, broker, Modalities(images, box.dicom_port, programs["storescu"]), shim, disk, set(), set()
        )
        self.kinds = possible(self.scene)
        self._kept: set[str] = set()
        self._told: set[str] = set()
        box.start()

    def __enter__(self) -> Self:
        if not _within(self.scene.box.is_up, _FIRST_START):
            self.__exit__()
            raise RuntimeError(f"the box did not start: see {self.scene.box.console}")
        return self

    def __exit__(self, *_: object) -> None:
        self.scene.modalities.end()
        self.scene.box.stop()
        self.scene.broker.close()
        if self.scene.disk:
            self.scene.disk.unmount()

    def run(self, kinds: Sequence[str], say: Callable[[str], None] = lambda _: None) -> None:
        """One round for each kind."""
        for kind in kinds:
            self._round(kind, say)

    def draw(self, rounds: int, among: Sequence[str]) -> list[str]:
        """So many kinds by chance, each as often as the others in the long run."""
        return self._rng.choices([kind for kind in among if kind in self.kinds], k=rounds)

    def _round(self, kind: str, say: Callable[[str], None]) -> None:
        modalities, counts, number = self.scene.modalities, self.counts, self.counts.faults.total() + 1
        before = len(modalities.accepted)
        modalities.begin(_SENDERS, _IMAGES, self._rng)
        some = self._rng.randint(0, _IMAGES)
        _within(lambda: len(modalities.accepted) >= before + some)
        Event().wait(self._rng.uniform(0, 0.5))
        problems = []
        try:
            self.kinds[kind](self.scene, self._rng)
        except pytest.fail.Exception as failure:
            problems.append(str(failure))
        took = self._recovery()
        if took is None:
            problems.append("the box did not come back")
        if not _within(modalities.finish):
            problems.append("images are not accepted")
        counts.faults[kind] += 1
        counts.stuck += bool(problems)
        counts.slowest[kind] = max(counts.slowest.get(kind, 0.0), PATIENCE if took is None else took)
        verdict = self._verdict()
        counts.accepted, counts.refusals = len(modalities.accepted), modalities.refusals
        verdict = Verdict(*(tuple(text for text in texts if text not in self._told) for texts in verdict))
        self._told.update(verdict.lost, verdict.doubled)
        counts.lost += len(verdict.lost)
        counts.doubled += len(verdict.doubled)
        for name, size in self.scene.box.memory().items():
            counts.most_memory[name] = max(size.pss, counts.most_memory.get(name, 0.0))
        say(
            f"round {number}, {kind}: {counts.accepted} accepted, back after {'-' if took is None else f'{took:.1f}'} s"
        )
        problems += [f"LOST {text}" for text in verdict.lost] + [f"DOUBLED {text}" for text in verdict.doubled]
        for problem in problems:
            say(f"seed {self._seed}, round {number}, {kind}: {problem}")

    def _recovery(self) -> float | None:
        """Seconds until an image that is sent now is answered and all services are up; None when that never happens."""
        start, box = time.monotonic(), self.scene.box
        seen = max(0, box.last_seq() - _LOST_AT_MOST)
        uid = self.scene.modalities.send(self.scene.modalities.new_image())
        answered = _within(lambda: uid in {held.sop_instance_uid for held in box.held(seen)}) and _within(box.is_up)
        return time.monotonic() - start if answered else None

    def _verdict(self) -> Verdict:
        """After all is done that is to be done, or patience is over."""
        box, broker, accepted = self.scene.box, self.scene.broker, self.scene.modalities.accepted
        _within(box.quiet)
        store = box.held()
        expected = {held.id for held in store} | self.scene.other_messages
        _within(lambda: expected <= broker.messages().keys())
        fresh = {uid: tail for uid, tail in accepted.items() if uid not in self._kept}
        self._kept |= box.kept(fresh)
        return judge(
            Seen(
                accepted=accepted.keys(),
                store=store,
                api=box.shown(),
                messages=broker.messages(),
                other_messages=self.scene.other_messages,
                repeated=self.scene.repeated,
                unreadable=fresh.keys() - self._kept,
            )
        )


def _within(happened: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait for an event that can only be looked for; False when it does not come while patience lasts."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY)
    return True


def print_line(text: str) -> None:
    """For `say`."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
