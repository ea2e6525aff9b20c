"""The inference service: takes the most urgent image, has it analysed, commits the answer, then does what can wait.

It reads no byte of an image itself: that is the analyst's work, a process of its own (`edge.inference.guard`).
"""

from __future__ import annotations

import os
import select
import sqlite3
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from threading import Event

import msgspec

from edge import events, reasons
from edge.config import Config
from edge.device.checks import check_processor
from edge.device.health import Figure, HealthFile, State
from edge.device.signals import stop_on_signals
from edge.events import emit
from edge.inference.channel import Analyse, Answer, Draw, unanswered
from edge.inference.counting import Counting
from edge.inference.guard import LOST, Guard, ModelsError, Undecided
from edge.messages.summary import summarise
from edge.records import Instance, Reason, Result, StoredResult
from edge.store import (
    Arriving,
    Band,
    Damaged,
    Doorbell,
    Outbox,
    SealedFile,
    Store,
    Tampered,
    VaultLocked,
    heard,
    hold_lock,
    ring,
)
from edge.store.outbox import OutboxFull, oldest_news

MAX_ATTEMPTS = 3
_LOOK_EVERY = 1.0
_LATENCIES_KEPT = 200
_RESENT_AT_ONCE = 100


class Worker:
    """Has what the store holds analysed, one image at a time."""

    def __init__(self, store: Store, guard: Guard, outbox: Outbox | None, *, report: bool = False) -> None:
        """`outbox` is None on a box that stands alone: then no summary is owed. `report`: results go to a PACS."""
        self._report = report
        self._store = store
        self._guard = guard
        self._outbox = outbox
        lost = outbox is not None and (outbox.is_incomplete() or store.must_resend())
        self._resend_after = 0 if lost else None
        self._counting = Counting(store, outbox) if outbox else None
        self._latencies: deque[float] = deque(maxlen=_LATENCIES_KEPT)
        self._uncommitted: tuple[Instance, Answer | None] | None = None
        self._ahead: tuple[str, Answer | None] | None = None

    def look_ahead(self, arriving: Arriving) -> None:
        """While nothing waits, have an object analysed that the disk still takes: `work` answers once it is accepted.

        Raises as `work`.
        """
        instance, file = arriving
        try:
            if self._store.instance(instance.id) is None:
                self._ahead = instance.id, self._ask(instance, file)
        finally:
            os.close(file.descriptor)

    def work(self) -> bool:
        """Answer the next image, if one waits; False when none does.

        Raises:
            sqlite3.OperationalError: The journal cannot be written. Nothing is lost: an answer is committed by a later
                call, and a full disk is not counted as an attempt at its image.
        """
        if self._uncommitted is None:
            instance = self._store.claim()
            if instance is None:
                return False
            self._uncommitted = instance, self._analyse(instance)
        instance, answer = self._uncommitted
        if answer is None:
            self._store.postpone(instance)
            self._uncommitted = None
            return True
        self._commit(instance, answer)
        self._uncommitted = None
        self.relay()
        self._draw(instance.id, answer.result, answer.explanation)
        return True

    def relay(self) -> None:
        """Copy owed summaries to the outbox, under ids that a repetition leaves as they are, then strike them out."""
        if self._outbox is None:
            return
        self._outbox.check()
        owed = self._store.owed("summary")
        if owed:
            with suppress(OutboxFull):  # they stay owed, and the next call tries again; `sync` says that it is full
                self._outbox.put((item.result_id, "summary", item.body.encode()) for item in owed)
                self._store.settle([item.number for item in owed])

    def resend(self) -> bool:
        """After a repair in which summaries may have been lost, put the next ones in the outbox again; False when done.

        But for old news. Their ids are those of before: who has them already drops them.
        """
        if self._outbox is None or self._resend_after is None:
            return False
        news = oldest_news(self._store.lifetime.now().lifetime)
        changed = self._store.changed_since(self._resend_after, _RESENT_AT_ONCE, received_since=news)
        if changed:
            try:
                self._outbox.put((stored.id, "summary", _summary(stored)) for stored in changed)
            except OutboxFull:
                return False  # later
            self._resend_after = changed[-1].seq
            return True
        self._outbox.completed()
        self._store.resent()
        self._resend_after = None
        return False

    def tidy(self) -> bool:
        """Do what a crash or a repair has left; True when there is more of it. Raises as `work`."""
        self.relay()
        if self.resend():
            return True
        self.draw_leftovers()
        return self._counting is not None and self._counting.turn()

    def draw_leftovers(self) -> None:
        """Draw the pictures that a crash left owed."""
        for item in self._store.owed("preview", limit=1):
            stored = self._store.result(item.result_id)
            if stored:
                self._draw(item.instance_id, stored.result, self._store.explanation(item.result_id))

    def figures(self) -> dict[str, Figure]:
        """For the health file: the queue, and percentiles of milliseconds from arrival to committed result.

        The queue is not among them while the journal cannot be read.
        """
        figures: dict[str, Figure] = {}
        with suppress(sqlite3.OperationalError):
            queue = self._store.queue()
            figures |= {"queue_depth": queue.depth, "oldest_uptime": queue.oldest_uptime}
        if self._latencies:
            figures |= {f"p{percent}_ms": round(percentile(self._latencies, percent), 1) for percent in (50, 95, 99)}
        return figures

    def _analyse(self, instance: Instance) -> Answer | None:
        """The answer for an image; None when it is to be tried once more, after others."""
        source = instance.arrival.source
        if instance.attempts > MAX_ATTEMPTS:
            emit(events.PARKED, instance=instance.id, attempts=instance.attempts - 1)
            return unanswered(source, Reason.PROCESSING_FAILED)
        if self._ahead and self._ahead[0] == instance.id:
            answer, self._ahead = self._ahead[1], None
            return answer
        try:
            file = self._store.open(instance.id)
        except FileNotFoundError:
            emit(events.SPOOL_FILE_MISSING, instance=instance.id)
            return unanswered(source, Reason.PROCESSING_FAILED)
        except (Tampered, VaultLocked) as error:
            emit(events.SPOOL_FILE_LOCKED, instance=instance.id, error=error)
            return unanswered(source, Reason.PROCESSING_FAILED)
        try:
            return self._ask(instance, file)
        finally:
            os.close(file.descriptor)

    def _ask(self, instance: Instance, file: SealedFile) -> Answer | None:
        arrival = instance.arrival
        request = Analyse(
            key=instance.id,
            source=arrival.source,
            modality=arrival.stated_modality,
            age_years=arrival.stated_age_years,
            secret=file.secret,
        )
        try:
            answer = self._guard.analyse(request, file.descriptor, last=instance.attempts > 1)
        except Undecided:
            return None
        if answer.defect:
            kind, where = answer.defect
            emit(events.PIPELINE_FAILED, instance=instance.id, error=kind, where=where)
        return answer

    def _commit(self, instance: Instance, answer: Answer) -> None:
        result = answer.result
        if result.sop_instance_uid is None and instance.arrival.sop_instance_uid:
            result = msgspec.structs.replace(result, sop_instance_uid=instance.arrival.sop_instance_uid)
        stored = self._store.commit(
            instance,
            result,
            answer.subject,
            explanation=answer.explanation,
            summary=partial(summarise, result) if self._outbox else None,
            report=self._report,
        )
        latency_ms = stored.waited * 1000
        self._latencies.append(latency_ms)
        emit(
            events.RESULT,
            instance=instance.id,
            answer=f"{result.status}, {result.reason}: {answer.refusal}" if result.reason else result.status,
            ms=result.timings_ms.total,
            latency_ms=latency_ms,
        )

    def _draw(self, instance_id: str, result: Result, explanation: str | None) -> None:
        """Have the preview and the overlay drawn that a result owes; where the image cannot be shown there is none.

        On a disk that is nearly full they stay owed.
        """
        if self._store.band() >= Band.SPARE:
            return
        owed = self._store.owed("preview", instance_id=instance_id)
        error = self._drawn(instance_id, explanation) if result.reason not in LOST else result.reason
        if error:
            emit(events.PREVIEW_FAILED, instance=instance_id, error=error)
        self._store.settle([item.number for item in owed])
        if self._report:
            ring(self._store.state_dir, "reporting")

    def _drawn(self, instance_id: str, explanation: str | None) -> str | None:
        """Draw and keep an image's pictures; what went wrong, if something did."""
        try:
            image, secret = self._store.open(instance_id)
            try:
                pictures = self._guard.draw(Draw(key=instance_id, explanation=explanation, secret=secret), image)
            finally:
                os.close(image)
            for name, picture in (("preview.jpg", pictures.preview), ("overlay.png", pictures.overlay)):
                if picture:
                    self._store.write_picture(instance_id, name, picture)
        except (OSError, Tampered, VaultLocked) as error:
            return type(error).__name__
        return pictures.error


def serve(config: Config) -> int:
    """Work until SIGTERM. Exit status 1 when no model can be served.

    Raises:
        AlreadyRunning: Another inference works on this state folder.
    """
    stopping = stop_on_signals(partial(ring, config.state_dir, "inference"))
    hold_lock(config.state_dir, "inference")
    health = HealthFile(config.state_dir, "inference")
    if not (processor := check_processor()).well:
        emit(events.PROCESSOR_WEAK, said=processor.said)
    store = Store(config.state_dir, storage=config.storage)
    status, last_words = 0, reasons.STOPPED
    try:
        store.recover()
        _work(config, store, health, stopping)
    except _Stopped:
        pass
    except ModelsError as error:
        emit(events.BUNDLE_REFUSED, error=error)
        status, last_words = 1, reasons.NO_MODEL
    except Damaged as error:
        status, last_words = 1, str(error)
    health.list_models(())
    health.report(State.DOWN, last_words)
    store.close()
    return status


def _summary(stored: StoredResult) -> bytes:
    summary = summarise(
        stored.result,
        message_id=stored.id,
        committed_at=stored.committed_at,
        synchronised=stored.synchronised,
        waited=stored.waited,
    )
    return msgspec.json.encode(summary)


def percentile(values: Sequence[float] | deque[float], percent: int) -> float:
    """The percentile of some values by nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


class _Stopped(Exception):  # noqa: N818 - a signal has come, nothing failed
    """Work ends here; an image in work is put back by `recover` at the next start."""


def _work(config: Config, store: Store, health: HealthFile, stopping: Event) -> None:
    """Answer images for ever. Raises `_Stopped`, `ModelsError`."""
    told: tuple[State, str] | None = None
    trouble = ""

    def breathe() -> None:
        """Between images and while one is waited for: see whether to stop, and renew the health file when it is due."""
        nonlocal told
        if stopping.is_set():
            raise _Stopped
        condition = (State.DEGRADED, reasons.JOURNAL_UNWRITABLE) if trouble else guard.condition()
        if condition != told or health.due():
            told = condition
            health.list_models(guard.models)
            health.report(condition[0], condition[1], **worker.figures())

    bell = Doorbell(config.state_dir, "inference")
    with Guard(config, config.state_dir / "cache", service="inference", meanwhile=breathe) as guard:
        outbox = Outbox(config.state_dir) if config.mqtt else None
        worker = Worker(store, guard, outbox, report=bool(config.reporting.destinations))
        while True:
            guard.await_ready()
            breathe()
            try:
                if arriving := heard(bell):
                    worker.look_ahead(arriving)
                busy = worker.work() or worker.tidy()
            except sqlite3.OperationalError as error:  # a full or failing disk: models stay loaded until it is well
                if not trouble:
                    emit(events.JOURNAL_FAILED, error=error, delay=_LOOK_EVERY)
                trouble = str(error)
                select.select([guard.await_ready()], [], [], _LOOK_EVERY)
                continue
            trouble = ""
            if not busy:
                select.select([bell.fileno(), guard.await_ready()], [], [], _LOOK_EVERY)
                bell.wait(0)
