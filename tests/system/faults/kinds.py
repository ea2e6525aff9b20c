"""The kinds of faults, by name: each strikes, lasts as long as it does, and is over when it returns."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from threading import Event
from typing import NamedTuple

from tests.system.conftest import SERVICES, await_until
from tests.system.faults.box import Box, Broker
from tests.system.faults.senders import Modalities


class Scene(NamedTuple):
    """What a fault can strike."""

    box: Box
    broker: Broker
    modalities: Modalities


Strike = Callable[[Scene, Random], None]


def _kill_service(name: str, scene: Scene, _rng: Random) -> None:
    pid = await_until(lambda: scene.box.pids().get(name), f"{name} up")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_analyst(scene: Scene, _rng: Random) -> None:
    os.kill(await_until(scene.box.analyst, "an analyst"), signal.SIGKILL)


def _kill_supervisor(scene: Scene, rng: Random) -> None:
    scene.box.kill_all(at_once=rng.random() < 0.5)
    scene.box.start()


def _kill_broker(scene: Scene, rng: Random) -> None:
    scene.broker.kill()
    Event().wait(rng.uniform(0, 1))
    scene.broker.start()
    scene.broker.await_listener()


def _sender_dies(scene: Scene, rng: Random) -> None:
    image = scene.modalities.new_image()
    with suppress(OSError, EOFError):
        scene.modalities.die_in_the_middle(image, rng.uniform(0.1, 0.9))
    if rng.random() < 0.5:  # comes back later
        scene.modalities.send(image)


KINDS: dict[str, Strike] = {
    **{f"kill {name}": partial(_kill_service, name) for name in SERVICES},
    "kill analyst": _kill_analyst,
    "kill supervisor": _kill_supervisor,
    "kill broker": _kill_broker,
    "sender dies": _sender_dies,
}
