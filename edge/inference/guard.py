"""The guard: asks the analyst, holds it to its limits, and begins with a new one when an image breaks it.

An image is blamed for the end of an analyst only when it was the first that this one was asked about. What an earlier
image left behind, or the kernel's need for memory, costs a second try and no answer. After one that took too long the
others go first: they have waited for it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self, TypeVar

import msgspec

from edge import events, reasons
from edge.config import Config
from edge.device.backoff import backoff
from edge.device.health import ModelInService, State
from edge.errors import ScansideError
from edge.events import emit
from edge.inference.channel import (
    Analyse,
    Answer,
    Begin,
    Channel,
    Draw,
    Pictures,
    Refused,
    Reply,
    Serving,
    unanswered,
)
from edge.records import Reason

LONGEST_DELAY = 30.0
RESET_AFTER = 60.0
"""Seconds that an analyst must live before the ends of those before it are forgotten; an answer does it too."""

ENDS_PER_ENGINE = 3
"""After how many ends in a row, without an answer between them, the other engine serves, until the service ends."""

LOST = frozenset({Reason.CRASHED, Reason.TOOK_TOO_LONG, Reason.TOO_LARGE})
"""What is said of images that an analyst cannot bear: they are not shown to another one."""

READY_WITHIN = 180.0
"""Seconds that an analyst may load its models: 6 of processor time at a box's first start, 1.3 at every later one
(`benchmarks/limits.py`), so that a quarter of a core that is seven times as slow still comes up."""

_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(48 << 20),
    "MALLOC_TOP_PAD_": str(40 << 20),
    "MALLOC_ARENA_MAX": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Keep a large radiograph's memory for the next one: taking 25 MB anew each time costs 10 ms (mallopt(3)).

But not what JPEG 2000 takes beyond that, nor what each thread would keep for itself.
"""

_OTHER: dict[str, Literal["openvino", "onnxruntime"]] = {"openvino": "onnxruntime", "onnxruntime": "openvino"}
_LOOK_EVERY = 0.5
_ENDS_WITHIN = 0.2
_REAPED_WITHIN = 2.0
_Kind = TypeVar("_Kind", Answer, Pictures)


class ModelsError(ScansideError):
    """No model can be served: the message says why, in one line."""


class Undecided(Exception):  # noqa: N818 - nothing is wrong yet
    """An image took too long, but perhaps an earlier one is to blame: ask again when others have had their turn."""


class Guard:
    """One analyst at a time, from the first `await_ready` on. For one thread."""

    def __init__(
        self,
        config: Config,
        cache: Path,
        *,
        service: str,
        level: int = logging.INFO,
        meanwhile: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet.

        Args:
            config: Models, engine and limits.
            cache: Folder for what the engines compile.
            service: What the analyst's log lines are prefixed with.
            level: From which level on it logs.
            meanwhile: Called about every half second of waiting; what it raises ends the waiting.
            clock: Seconds, monotonic.
        """
        self._clock = clock
        self._limits = config.inference
        self._config = config
        self._engine = ""
        self._begin = Begin(config="", cache=str(cache), service=service, level=level)
        self._use(config.inference.engine)
        self._meanwhile = meanwhile
        self._analyst: _Analyst | None = None
        self._failures = 0
        self._ends = 0
        self._replaced = ""
        self._start_due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._analyst:
            self._analyst.end()

    @property
    def models(self) -> tuple[ModelInService, ...]:
        """What the present analyst serves; nothing while none is ready."""
        return self._analyst.models if self._analyst else ()

    def await_ready(self) -> int:
        """Return when an analyst can be asked, at once if one can; begins with a new one where the last has ended.

        Returns:
            A descriptor that becomes readable when this analyst ends without being asked.

        Raises:
            ModelsError: No model can be served.
        """
        return self._ready().channel.fileno()

    def analyse(self, request: Analyse, descriptor: int, *, last: bool = True) -> Answer:
        """The answer for the image behind a descriptor, also when none can be had of it.

        Args:
            request: What is asked.
            descriptor: The image's file.
            last: Whether it is its last try.

        Raises:
            Undecided: It took too long, and is not blamed for that yet; only where this is not its last try.
            ModelsError: As `await_ready`.
        """
        while True:
            analyst = self._ready()
            blamed = not analyst.asked
            answer = self._ask(analyst, request, descriptor, Answer)
            if isinstance(answer, Answer) and answer.result.reason is not Reason.TOO_LARGE:
                self._failures = self._ends = 0
                return answer
            overran = answer is Reason.TOOK_TOO_LONG
            if overran and not blamed and not last:
                emit(events.IMAGE_POSTPONED, instance=request.key, seconds=self._limits.image_seconds)
                raise Undecided
            self._tell(answer if isinstance(answer, Reason) else Reason.TOO_LARGE, request.key)
            if blamed or overran:
                return unanswered(request.source, answer) if isinstance(answer, Reason) else answer
            if self._analyst is analyst:  # it lives, and what it holds from earlier images may be the cause
                self._lose(analyst)

    def draw(self, request: Draw, descriptor: int) -> Pictures:
        """The pictures of the image behind a descriptor; none where it breaks the analyst. Raises as `await_ready`."""
        pictures = self._ask(self._ready(), request, descriptor, Pictures)
        if isinstance(pictures, Reason):
            self._tell(pictures, request.key)
            return Pictures(error=pictures)
        return pictures

    def condition(self) -> tuple[State, str]:
        """How it stands, for the health file."""
        lived = self._clock() - self._analyst.started_at if self._analyst else 0.0
        return judge(ready=bool(self.models), failures=self._failures, lived=lived, replaced=self._replaced)

    def _ready(self) -> _Analyst:
        """An analyst that can be asked, once there is one."""
        while True:
            analyst = self._analyst
            if analyst is None:
                analyst = self._analyst = self._start()
            elif self._is_ready(analyst):
                return analyst
            self._meanwhile()

    def _start(self) -> _Analyst | None:
        """A new process, if it is due; waits for that a moment at most."""
        left = self._start_due - self._clock()
        if left > 0:
            time.sleep(min(_LOOK_EVERY, left))
            return None
        try:
            return _Analyst(self._begin, self._clock())
        except OSError as error:  # no memory or no process left: later there may be
            self._count_failure(0, error.strerror or type(error).__name__)
            return None

    def _is_ready(self, analyst: _Analyst) -> bool:
        """Whether it lives and has loaded its models; waits for that a moment at most."""
        overdue = not analyst.models and self._clock() - analyst.started_at > READY_WITHIN
        try:
            said = analyst.channel.receive(0.0 if analyst.models else _LOOK_EVERY)
        except (EOFError, OSError, ValueError):
            self._lose(analyst)
            return False
        if isinstance(said, Refused):
            if not self._replaced:
                raise ModelsError(said.error)
            self._lose(analyst)  # the other engine cannot serve here: back to the one that sometimes can
            self._replace_engine()
            return False
        if isinstance(said, Serving) and not analyst.models:
            analyst.models = said.models
            self._engine = said.models[0].engine
            emit(events.ANALYST_STARTED, pid=analyst.process.pid)
        elif said is not None or overdue:  # it speaks without being asked, or hangs before its first word
            if overdue:
                emit(events.ANALYST_OVERDUE, pid=analyst.process.pid, seconds=READY_WITHIN)
            self._lose(analyst)
            return False
        return bool(analyst.models)

    def _ask(self, analyst: _Analyst, request: Analyse | Draw, descriptor: int, kind: type[_Kind]) -> _Kind | Reason:
        """What a ready analyst says, or why it says nothing; then it is no more."""
        analyst.asked = True
        deadline = self._clock() + self._limits.image_seconds
        try:
            analyst.channel.send(request, descriptor, seconds=self._limits.image_seconds)
            while (said := analyst.channel.receive(_LOOK_EVERY)) is None and self._clock() < deadline:
                self._meanwhile()
            if isinstance(said, kind):
                return said
            reason = Reason.TOOK_TOO_LONG if said is None else Reason.CRASHED
        except TimeoutError:
            reason = Reason.TOOK_TOO_LONG
        except (EOFError, OSError, ValueError):
            reason = Reason.CRASHED
        self._lose(analyst)
        return reason

    def _lose(self, analyst: _Analyst) -> None:
        self._analyst = None
        self._count_failure(analyst.process.pid, analyst.end())

    def _count_failure(self, pid: int, status: str) -> None:
        self._failures += 1
        delay = backoff(self._failures - 1, LONGEST_DELAY)
        self._start_due = self._clock() + delay
        emit(events.ANALYST_ENDED, pid=pid, status=status, delay=delay)
        self._ends += 1
        if self._ends == ENDS_PER_ENGINE:
            self._replace_engine()

    def _replace_engine(self) -> None:
        """Go on with the other engine. One image alone does not come to this: it is asked about twice at most."""
        failing = self._engine
        self._use(_OTHER[failing])
        self._replaced = reasons.ENGINE_REPLACED.format(engine=failing, count=ENDS_PER_ENGINE, other=self._engine)
        emit(events.ENGINE_REPLACED, engine=failing, count=ENDS_PER_ENGINE, other=self._engine)

    def _use(self, engine: Literal["auto", "openvino", "onnxruntime"]) -> None:
        """The engine of the next analyst; until an analyst says which one `auto` became, the first in order."""
        self._ends = 0
        inference = msgspec.structs.replace(self._config.inference, engine=engine)
        config = msgspec.structs.replace(self._config, inference=inference)
        self._begin = msgspec.structs.replace(self._begin, config=msgspec.json.encode(config, enc_hook=str).decode())
        self._engine = "openvino" if engine == "auto" else engine

    def _tell(self, reason: Reason, key: str) -> None:
        if reason is Reason.TOOK_TOO_LONG:
            emit(events.IMAGE_TOOK_TOO_LONG, instance=key, seconds=self._limits.image_seconds)
        elif reason is Reason.TOO_LARGE:
            emit(events.IMAGE_TOO_LARGE, instance=key, megabytes=self._limits.image_megabytes)
        else:
            emit(events.IMAGE_CRASHED, instance=key)


def judge(*, ready: bool, failures: int, lived: float, replaced: str = "") -> tuple[State, str]:
    """How the analysis stands, and why it is not `up`. Pure.

    Args:
        ready: An analyst waits for images.
        failures: How many ended in a row without an answer between them.
        lived: Seconds since the present one was started.
        replaced: Which engine serves in place of which; empty when it is the one that was wanted.
    """
    if ready and replaced:
        return State.DEGRADED, replaced
    if not failures or (ready and lived >= RESET_AFTER):
        return (State.UP, "") if ready else (State.STARTING, reasons.LOADING)
    if failures == 1:
        return (State.DEGRADED, reasons.ANALYST_RUNS_AGAIN) if ready else (State.STARTING, reasons.ANALYST_ENDED)
    said = reasons.ANALYST_ENDED_OFTEN_RUNS_AGAIN if ready else reasons.ANALYST_ENDED_OFTEN
    return (State.DEGRADED if ready else State.DOWN), said.format(count=failures)


class _Analyst:
    """One analyst's process, and our end of its channel.

    Attributes:
        models: What it serves, once it has said so.
        asked: Whether it was asked about an image.
        started_at: By the guard's clock.
    """

    def __init__(self, begin: Begin, now: float) -> None:
        """Start it, `now` being the time. Raises `OSError`."""
        self.models: tuple[ModelInService, ...] = ()
        self.asked = False
        self.started_at = now
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "edge.inference.analyst", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=os.environ | _MEMORY,
                )
            except OSError:
                ours.close()
                raise
        self.channel: Channel[Reply] = Channel(ours, Reply)
        with suppress(OSError):  # it has ended already, which the next look at it sees
            self.channel.send(begin, seconds=_LOOK_EVERY)

    def end(self) -> str:
        """End it, if it has not ended by itself; how it ended."""
        self.channel.close()
        for seconds in (_ENDS_WITHIN, _REAPED_WITHIN):  # one that hangs in the kernel cannot be waited for
            with suppress(subprocess.TimeoutExpired):
                status = self.process.wait(seconds)
                return signal.Signals(-status).name if status < 0 else f"exit status {status}"
            self.process.kill()
        return "it does not end"
