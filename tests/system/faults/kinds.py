"""The kinds of faults, by name: each strikes, lasts as long as it does, and is over when it returns."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from threading import Event
from typing import NamedTuple

from edge import store
from tests.inference.breaking import CRASH, GROW, HANG
from tests.inference.breaking import image as poisoned
from tests.system.conftest import SERVICES, await_until
from tests.system.faults.box import Box, Broker
from tests.system.faults.disk import SmallDisk
from tests.system.faults.outage import a_day_of_summaries
from tests.system.faults.senders import Modalities
from tests.system.faults.shim import EIO, ENOSPC, SHORT, Shim


class Scene(NamedTuple):
    """What a fault can strike.

    Attributes:
        shim: None where there is no C compiler.
        disk: None where none may be mounted.
        other_messages: Ids of what was put into the outbox by hand; faults add to it.
        repeated: Ids of results that may have been lost with a torn journal and given again; likewise.
    """

    box: Box
    broker: Broker
    modalities: Modalities
    shim: Shim | None
    disk: SmallDisk | None
    other_messages: set[str]
    repeated: set[str]


Strike = Callable[[Scene, Random], None]

_FIRST_POISONED = 1_000_000
_LEAST_STRUCK = 10
_REFUSALS = 3
_DAY = 86400
_JUMPS = (-400 * _DAY, -_DAY, -3600, -90, 90, 3600, _DAY, 400 * _DAY)


def possible(scene: Scene) -> dict[str, Strike]:
    """The kinds that can strike here."""
    kinds = dict(KINDS)
    if scene.shim:
        kinds |= WITH_SHIM
    if scene.disk:
        kinds |= WITH_DISK
    if CGROUPS.is_dir() and os.access(CGROUPS, os.W_OK) and os.geteuid() == 0:
        kinds |= WITH_CGROUP
    if hasattr(store, "Damaged"):
        kinds |= WITH_REPAIR
    return kinds


def _kill_service(name: str, scene: Scene, rng: Random) -> None:
    _kill(rng.choice(await_until(lambda: scene.box.processes(name), f"{name} running")))


def _kill_analyst(scene: Scene, _rng: Random) -> None:
    _kill(await_until(scene.box.analyst, "an analyst"))


def _kill_supervisor(scene: Scene, rng: Random) -> None:
    scene.box.kill_all(at_once=rng.random() < 0.5)
    scene.box.start()


def _kill_broker(scene: Scene, rng: Random) -> None:
    scene.broker.kill()
    Event().wait(rng.uniform(0, 1))
    scene.broker.start()
    scene.broker.await_listener()


def _outage(scene: Scene, rng: Random) -> None:
    """A day without the broker: what the box would have said in that time waits; `sync` is killed meanwhile, too."""
    scene.broker.kill()
    scene.other_messages.update(a_day_of_summaries(scene.box.state, rng))
    if rng.random() < 0.5:
        _kill_service("sync", scene, rng)
    scene.broker.start()
    scene.broker.await_listener()


def _torn_journal(scene: Scene, rng: Random) -> None:
    """Power goes, and the disk had lied about what it wrote last: the journal's tail is cut off, or zeros."""
    scene.repeated.update(held.id for held in scene.box.held())
    scene.box.kill_all(at_once=True)
    scene.repeated.update(scene.broker.messages())  # what was committed and told since
    journal = scene.box.state / "journal.sqlite"
    log = journal.with_name("journal.sqlite-wal")
    torn = log if log.exists() and log.stat().st_size and rng.random() < 0.7 else journal
    size = torn.stat().st_size
    kept = max(0, size - rng.randint(1, 1 << 16))
    os.truncate(torn, kept)
    if rng.random() < 0.5:
        os.truncate(torn, size)
    scene.box.start()


def _sender_dies(scene: Scene, rng: Random) -> None:
    image = scene.modalities.new_image()
    with suppress(OSError, EOFError):  # nobody listens at this moment
        scene.modalities.die_in_the_middle(image, rng.uniform(0.1, 0.9))
    if rng.random() < 0.5:  # it comes back and sends it again
        scene.modalities.send(image)


def _poison(mark: str, scene: Scene, rng: Random) -> None:
    scene.modalities.send(poisoned(_FIRST_POISONED + rng.randrange(1 << 30), mark))


def _failing_disk(error: int, one_in: tuple[int, int], scene: Scene, rng: Random) -> None:
    shim = scene.shim
    assert shim
    before = shim.struck

    def has_struck() -> bool:
        if scene.modalities.finish():
            scene.modalities.begin(1, 1, rng)  # or nothing is written on which it could fail
        return shim.struck - before >= _LEAST_STRUCK

    with shim.failing_disk(error, rng.randint(*one_in), rng.getrandbits(32)):
        await_until(has_struck, "the disk fails")
        Event().wait(rng.uniform(0, 1.5))


def _full_disk(scene: Scene, rng: Random) -> None:
    """Full but for a few pages, until senders were told so; now and then a service is killed meanwhile."""
    assert scene.disk
    refusals = scene.modalities.refusals
    with scene.disk.filled(rng.randint(0, 12)) as fill_again:

        def are_refused() -> bool:
            if scene.modalities.finish():  # also because old images went for it
                fill_again()
                scene.modalities.begin(1, 1, rng)
            return scene.modalities.refusals >= refusals + _REFUSALS

        await_until(are_refused, "senders are refused")
        if rng.random() < 0.5:
            _kill_service(rng.choice(SERVICES), scene, rng)
            Event().wait(rng.uniform(0, 1.5))


def _set_clock(scene: Scene, rng: Random) -> None:
    """By chance from anywhere to anywhere, and to the right time as often as to any wrong one."""
    assert scene.shim
    scene.shim.clock_offset = rng.choice((0, *_JUMPS))


def _out_of_memory(scene: Scene, rng: Random) -> None:
    """The kernel's own doing: the analyst is in a group that may take little more when a hungry image comes."""
    group = CGROUPS / f"scanside-{os.getpid()}"
    analyst = await_until(scene.box.analyst, "an analyst")
    group.mkdir()
    try:
        with suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(str(analyst), encoding="ascii")
            (group / "memory.limit_in_bytes").write_text(str(rng.randint(1 << 20, 64 << 20)), encoding="ascii")
        _poison(GROW, scene, rng)
        await_until(lambda: scene.box.analyst() != analyst, "the kernel kills the analyst")
    finally:
        _kill(analyst)
        await_until(lambda: not (group / "cgroup.procs").read_text(encoding="ascii"), "the group is empty")
        group.rmdir()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself meanwhile
        os.kill(pid, signal.SIGKILL)


CGROUPS = Path("/sys/fs/cgroup/memory")

KINDS: dict[str, Strike] = {
    **{f"kill {name}": partial(_kill_service, name) for name in SERVICES},
    "kill analyst": _kill_analyst,
    "kill supervisor": _kill_supervisor,
    "kill broker": _kill_broker,
    "day without broker": _outage,
    "sender dies": _sender_dies,
    "crash on an image": partial(_poison, CRASH),
    "hang on an image": partial(_poison, HANG),
    "hungry image": partial(_poison, GROW),
}
WITH_SHIM: dict[str, Strike] = {
    "disk errors": partial(_failing_disk, EIO, (2, 30)),
    "no space": partial(_failing_disk, ENOSPC, (1, 10)),
    "short writes": partial(_failing_disk, SHORT, (1, 3)),
    "clock set": _set_clock,
}
WITH_DISK: dict[str, Strike] = {"disk full": _full_disk}
WITH_CGROUP: dict[str, Strike] = {"out of memory": _out_of_memory}
WITH_REPAIR: dict[str, Strike] = {"torn journal": _torn_journal}
ALL = (*KINDS, *WITH_SHIM, *WITH_DISK, *WITH_CGROUP, *WITH_REPAIR)
