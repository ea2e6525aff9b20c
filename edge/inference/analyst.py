"""The analyst: the process that holds the models and reads images, so that one that breaks it costs only itself.

`python -m edge.inference.analyst FD`: `edge.inference.guard` starts it with one end of their channel as FD, asks, and
kills it when it hangs. It has no keys but those of the single files that it is given, writes nothing but the engines'
cache, and ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edge import events
from edge.config import Quality
from edge.config_file import parse
from edge.device.health import ModelInService
from edge.device.heap import trim
from edge.events import place
from edge.imaging.quality import NOTHING_YET
from edge.imaging.reader import Source
from edge.imaging.resample import preview_cover, preview_jpeg
from edge.inference.bundle import BundleError
from edge.inference.channel import (
    Analyse,
    Answer,
    Begin,
    Channel,
    Draw,
    Pictures,
    Refused,
    Request,
    Serving,
    unanswered,
)
from edge.inference.engines import EngineError
from edge.inference.explanation import encode_explanation, overlay_png
from edge.inference.memory import limit_memory, ran_out
from edge.inference.models import Model, load_models
from edge.inference.pipeline import analyse
from edge.records import Image, Reason
from edge.store import read_sealed

_OVERLAY_SIDE = 768
_PR_SET_PDEATHSIG = 1
_KEPT_BYTES = 20 << 20
"""What the next image needs; the rest is what a decoder has left in pieces all over the heap."""


class Analyst:
    """Answers requests, one at a time."""

    def __init__(self, models: Sequence[Model], limits: Quality) -> None:
        self._models = models
        self._limits = limits
        self._recent = NOTHING_YET
        self._analysed: tuple[str, Image] | None = None

    def analyse(self, request: Analyse, descriptor: int) -> Answer:
        """The answer for an image; a defect of ours costs this image, not the service (DESIGN rule 2)."""
        self._analysed = None
        try:
            found = analyse(
                _read(descriptor, request.secret),
                self._models,
                source=request.source,
                modality=request.modality,
                age_years=request.age_years,
                limits=self._limits,
                recent=self._recent,
            )
        except Exception as error:
            if ran_out(error):
                return unanswered(request.source, Reason.TOO_LARGE)
            return unanswered(request.source, Reason.PROCESSING_FAILED, (type(error).__name__, place(error)))
        self._recent = found.recent
        if found.image and found.image.pixels.shape == (found.image.rows, found.image.columns):
            self._analysed = request.key, found.image  # one that was reduced shows too little
        return Answer(
            result=found.result,
            subject=found.subject,
            explanation=encode_explanation(found.maps, found.outline) if found.maps else None,
            refusal=found.refusal,
        )

    def draw(self, request: Draw, descriptor: int) -> Pictures:
        """The pictures of an image; of one that cannot be shown there are none."""
        analysed, self._analysed = self._analysed, None
        try:
            known = analysed[1] if analysed and analysed[0] == request.key else None
            image = known or _image(_read(descriptor, request.secret))
            overlay = overlay_png(request.explanation, *_overlay_size(image)) if request.explanation else None
            return Pictures(preview=preview_jpeg(image.pixels), overlay=overlay)
        except Exception as error:
            return Pictures(error=type(error).__name__)


def main(descriptor: int) -> int:
    """Serve until the other end is closed. Exit status 1 when no model can be served."""
    _end_with_parent()
    channel: Channel[Request] = Channel(socket.socket(fileno=descriptor), Request, descriptors=1)
    with channel, suppress(EOFError, ConnectionError):
        begin = channel.receive()
        if not isinstance(begin, Begin):
            raise TypeError("the first message is not how to begin")
        events.configure(begin.service, level=begin.level)
        events.silence_everything_else()
        config = parse(begin.config, "the configuration of the service")
        try:
            models = load_models(config, Path(begin.cache))
        except (BundleError, EngineError) as error:
            channel.send(Refused(error=str(error)))
            return 1
        limit_memory(config.inference.image_megabytes)
        channel.send(Serving(models=tuple(map(_in_service, models))))
        analyst = Analyst(models, config.quality)
        while True:
            request = channel.receive()
            image = channel.descriptor()
            if isinstance(request, Analyse):
                channel.send(analyst.analyse(request, image))
            elif isinstance(request, Draw):
                channel.send(analyst.draw(request, image))
                trim(_KEPT_BYTES)
            os.close(image)
    return 0


def _end_with_parent() -> None:
    """Leave stopping to the parent, die when it does (prctl(2)), and be the first whom the kernel ends for memory.

    A service manager signals whole groups of processes, and an image in work must not die of that. A parent that was
    gone before this has closed its end of the channel.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def _read(descriptor: int, secret: bytes | None) -> bytes:
    if secret is not None:
        return read_sealed(descriptor, secret).data
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        if file.seekable():  # a predecessor may have read it
            file.seek(0)
        return file.read()


def _image(data: bytes) -> Image:
    source = Source(data)
    source.check()
    return source.image(source.decode(preview_cover(*source.size())))


def _overlay_size(image: Image) -> tuple[int, int]:
    """Width and height of the overlay, in the image's proportions; the page stretches it over the preview."""
    rows, columns = image.pixels.shape
    scale = _OVERLAY_SIDE / max(rows, columns)
    return max(1, round(columns * scale)), max(1, round(rows * scale))


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


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
