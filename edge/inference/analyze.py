"""`scanside analyze`: files to answers in one process, without any server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from edge.config import Config
from edge.inference.models import load_models
from edge.inference.pipeline import analyse, failed
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
        0 when every image was answered, 1 when the software failed on one.

    Raises:
        BundleError, EngineError: No model can be served.
    """
    models, status = load_models(config, _cache()), 0
    for path in _files(paths):
        try:
            result = analyse(path.read_bytes(), models, source=str(path), modality=modality, age_years=age_years).result
        except Exception:  # a defect of ours costs this file, not those after it
            result = failed(str(path)).result
        status |= result.reason is Reason.PROCESSING_FAILED
        output.write(msgspec.json.encode(result).decode() + "\n" if as_json else _words(result))
        output.flush()
    return status


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
