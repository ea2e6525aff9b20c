"""`scanside analyze`: files to answers without any server; the same guard as on a device bears what a file does."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from edge.config import Config
from edge.inference.channel import Analyse, Answer, unanswered
from edge.inference.guard import Guard
from edge.records import REASON_WORDS, STATUS_WORDS, Reason, Result

_NOT_IMAGES = {".csv", ".html", ".json", ".md", ".pdf", ".txt", ".xml", ".yaml", ".yml"}


def analyze_files(
    paths: Sequence[Path],
    config: Config,
    *,
    modality: str | None,
    age_years: float | None,
    as_json: bool,
    output: TextIO,
) -> int:
    """Analyse files, and the images in folders, in input order; write one line for each.

    Returns:
        0 when every image was answered, 1 when the software failed or crashed on one.

    Raises:
        ModelsError: No model can be served.
    """
    status = 0
    with Guard(config, _cache(), service="analyze", level=logging.WARNING) as guard:
        guard.await_ready()
        for number, path in enumerate(_files(paths), start=1):
            request = Analyse(key=str(number), source=str(path), modality=modality, age_years=age_years)
            result = _answer(guard, request, path).result
            status |= result.reason in (Reason.PROCESSING_FAILED, Reason.CRASHED)
            output.write(msgspec.json.encode(result).decode() + "\n" if as_json else _words(result))
            output.flush()
    return status


def _answer(guard: Guard, request: Analyse, path: Path) -> Answer:
    try:
        with path.open("rb") as file:
            return guard.analyse(request, file.fileno())
    except OSError as error:
        return unanswered(request.source, Reason.PROCESSING_FAILED, (type(error).__name__, "open"))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (inside for inside in sorted(path.rglob("*")) if inside.is_file() and not _beside_images(inside))
        else:
            yield path


def _beside_images(path: Path) -> bool:
    """Lists and notes that lie in folders of images; named on the command line, they are answered like any file."""
    if path.suffix.lower() not in _NOT_IMAGES:
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] != b"DICM"


def _words(result: Result) -> str:
    answer = STATUS_WORDS[result.status]
    if result.reason:
        answer += f": {REASON_WORDS[result.reason]}"
    flagged = ", ".join(
        f"{finding.meaning} {finding.probability:.0%}" for finding in result.findings if finding.flagged
    )
    answer += f" ({flagged})" if flagged else ""
    if result.model and result.model.experimental:
        answer += ", experimental model"
    return f"{result.source}: {answer}\n"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scanside"
