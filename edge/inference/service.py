"""The inference service: takes the most urgent image, analyses it, commits the answer, then does what can wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np

from edge import events
from edge.config import Config
from edge.device.health import Figure, HealthFile, ModelInService, State
from edge.device.signals import stop_on_signals
from edge.events import emit, place
from edge.imaging.reader import Source
from edge.imaging.refusal import Refusal
from edge.imaging.resample import preview_cover, preview_jpeg
from edge.inference.bundle import BundleError
from edge.inference.engines import EngineError
from edge.inference.explanation import encode_explanation, overlay_png
from edge.inference.models import Model, load_models
from edge.inference.pipeline import Analysis, analyse, failed
from edge.messages.summary import summarise
from edge.records import Image, Instance
from edge.store import Doorbell, Outbox, Store, hold_lock, ring

MAX_ATTEMPTS = 3
_LOOK_EVERY = 1.0
_LATENCIES_KEPT = 200
_OVERLAY_SIDE = 768


class Worker:
    """Analyses what the store holds, one image at a time."""

    def __init__(self, store: Store, models: Sequence[Model], outbox: Outbox | None) -> None:
        """`outbox` is None on a box that stands alone: then no summary is owed."""
        self._store = store
        self._models = models
        self._outbox = outbox
        self._latencies: deque[float] = deque(maxlen=_LATENCIES_KEPT)

    def work(self) -> bool:
        """Answer the next image, if one waits; False when none does."""
        instance = self._store.claim()
        if instance is None:
            return False
        analysis = self._analyse(instance)
        self._commit(instance, analysis)
        self.relay()
        self._draw(instance.id, analysis)
        return True

    def relay(self) -> None:
        """Copy owed summaries to the outbox, under ids that a repetition leaves as they are, then strike them out."""
        if self._outbox is None:
            return
        owed = self._store.owed("summary")
        if owed:
            self._outbox.put((item.result_id, "summary", item.body.encode()) for item in owed)
            self._store.settle([item.number for item in owed])

    def draw_leftovers(self) -> None:
        """Draw the pictures that a crash left owed."""
        for item in self._store.owed("preview", limit=1):
            self._draw(item.instance_id, None)

    def figures(self) -> dict[str, Figure]:
        """For the health file: the queue, and percentiles of milliseconds from arrival to committed result."""
        queue = self._store.queue()
        figures: dict[str, Figure] = {
            "queue_depth": queue.depth,
            "oldest_received_at": queue.oldest_received_at,
        }
        if self._latencies:
            for percent in (50, 95, 99):
                figures[f"p{percent}_ms"] = round(float(np.percentile(self._latencies, percent)), 1)
        return figures

    def _analyse(self, instance: Instance) -> Analysis:
        arrival, source = instance.arrival, instance.arrival.source
        if instance.attempts > MAX_ATTEMPTS:
            emit(events.PARKED, instance=instance.id, attempts=instance.attempts - 1)
            return failed(source)
        try:
            return analyse(
                self._store.read(instance.id),
                self._models,
                source=source,
                modality=arrival.stated_modality,
                age_years=arrival.stated_age_years,
            )
        except FileNotFoundError:
            emit(events.SPOOL_FILE_MISSING, instance=instance.id)
            return failed(source)
        except Exception as error:  # a defect of ours costs this image, not the service: DESIGN rule 2
            emit(events.PIPELINE_FAILED, instance=instance.id, error=type(error).__name__, where=place(error))
            return failed(source)

    def _commit(self, instance: Instance, analysis: Analysis) -> None:
        result = analysis.result
        if result.sop_instance_uid is None and instance.arrival.sop_instance_uid:
            result = msgspec.structs.replace(result, sop_instance_uid=instance.arrival.sop_instance_uid)
        stored = self._store.commit(
            instance,
            result,
            analysis.subject,
            explanation=encode_explanation(analysis.maps, analysis.outline) if analysis.maps else None,
            summary=partial(summarise, result, received_at=instance.received_at) if self._outbox else None,
        )
        latency_ms = (stored.committed_at - instance.received_at) * 1000
        self._latencies.append(latency_ms)
        emit(
            events.RESULT,
            instance=instance.id,
            answer=f"{result.status}, {result.reason}: {analysis.refusal}" if result.reason else result.status,
            ms=result.timings_ms.total,
            latency_ms=latency_ms,
        )

    def _draw(self, instance_id: str, analysis: Analysis | None) -> None:
        """Draw the preview and the overlay that a result owes; where the image cannot be shown there is none."""
        owed = self._store.owed("preview", instance_id=instance_id)
        image = analysis.image if analysis else None
        try:
            if image is None or image.pixels.shape != (image.rows, image.columns):  # reduced further than shown
                image = _read_image(self._store.read(instance_id))
            self._store.write_picture(instance_id, "preview.jpg", preview_jpeg(image.pixels))
            maps = self._store.explanation(owed[0].result_id) if owed else None
            if maps:
                self._store.write_picture(instance_id, "overlay.png", overlay_png(maps, *_overlay_size(image)))
        except (Refusal, OSError, ValueError, MemoryError) as error:
            emit(events.PREVIEW_FAILED, instance=instance_id, error=type(error).__name__)
        self._store.settle([item.number for item in owed])


def serve(config: Config) -> int:
    """Load the models, then work until SIGTERM. Exit status 1 when no model can be served.

    Raises:
        AlreadyRunning: Another inference works on this state folder.
    """
    stopping = stop_on_signals(partial(ring, config.state_dir, "inference"))
    hold_lock(config.state_dir, "inference")
    health = HealthFile(config.state_dir, "inference")
    try:
        models = load_models(config, config.state_dir / "cache")
    except (BundleError, EngineError) as error:
        emit(events.BUNDLE_REFUSED, error=error)
        health.report(State.DOWN, "no model passed its checks")
        return 1
    store = Store(config.state_dir)
    worker = Worker(store, models, Outbox(config.state_dir) if config.mqtt else None)
    bell = Doorbell(config.state_dir, "inference")
    store.recover()
    health.list_models(tuple(_in_service(model) for model in models))
    health.report(State.UP, "", **worker.figures())
    while not stopping.is_set():
        if health.due():
            health.report(State.UP, "", **worker.figures())
        if not worker.work():
            worker.relay()
            worker.draw_leftovers()
            bell.wait(_LOOK_EVERY)
    health.list_models(())
    health.report(State.DOWN, "stopped")
    store.close()
    return 0


def _in_service(model: Model) -> ModelInService:
    used = model.used
    return ModelInService(
        id=used.id,
        version=used.version,
        digest=used.digest,
        engine=used.engine,
        experimental=used.experimental,
        median_ms=round(model.median_ms, 2),
    )


def _overlay_size(image: Image) -> tuple[int, int]:
    """Width and height of the overlay, in the image's proportions; the page stretches it over the preview."""
    rows, columns = image.pixels.shape
    scale = _OVERLAY_SIDE / max(rows, columns)
    return max(1, round(columns * scale)), max(1, round(rows * scale))


def _read_image(data: bytes) -> Image:
    source = Source(data)
    source.check()
    return source.image(source.decode(preview_cover(*source.size())))
