"""Claim: what the models were not made for gets a reason instead of a score, whatever its tags say.

`python -m benchmarks.scope`: prints the tables of edge/inference/README.md. Needs the real images in ../shared. The
files go through the same guard as on a device; the peer is the same image with tags that lie.
"""

from __future__ import annotations

import csv
import math
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread

from benchmarks.report import heading
from edge.config import Config
from edge.inference.bundle import Bundle, find_bundles, open_bundle
from edge.inference.channel import Analyse
from edge.inference.guard import Guard
from edge.records import Reason, Status

DATA = Path(__file__).resolve().parents[2] / "shared/data"
_GATE = (Reason.NOT_A_FRONTAL_CHEST, Reason.UNFAMILIAR_IMAGE)
_ADULTS_SHOWN = 200
_Answers = Counter[Reason | None]


def main() -> None:
    """Measure and print."""
    config = Config()
    bundles = [open_bundle(folder, config.trusted_keys).bundle for folder in find_bundles(config.models_folder)]
    with tempfile.TemporaryDirectory() as cache, Guard(config, Path(cache), service="benchmark") as guard:
        _as_they_are(guard)
        for bundle in bundles:
            if bundle.task == "classification":
                _as_stated(guard, bundle)


def _as_they_are(guard: Guard) -> None:
    """Every file of the toolkits' test sets, with the tags that it has."""
    files = sorted((DATA / "dicom/files").iterdir())
    said: dict[Reason | None, Counter[str]] = defaultdict(Counter)
    for path in files:
        said[_ask(guard, path.read_bytes())][_modality(path)] += 1
    heading(f"Scope: the {len(files)} files of dicom/ as they are")
    print("| answer | files | their Modality |\n| --- | --- | --- |")
    for reason, modalities in sorted(said.items(), key=lambda item: -item[1].total()):
        told = ", ".join(f"{name} {count}" for name, count in modalities.most_common())
        print(f"| {f'`{reason}`' if reason else 'a score'} | {modalities.total()} | {told} |")


def _as_stated(guard: Guard, bundle: Bundle) -> None:
    """Images of which nothing but the pixels says what they are: all are stated to be what the model accepts."""
    age = float(math.ceil(bundle.accepts.age_years[0]))
    heading(f"Scope: all stated to be DX, chest, AP, {age:g} years, for {bundle.id} {bundle.version}")
    print("| images | count | `not_a_frontal_chest` | `unfamiliar_image` | another reason | a score | refused |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, images in _sets(age):
        answers: _Answers = Counter(_ask(guard, data, age_years=age) for data in images)
        print(_row(name, answers))


def _row(name: str, answers: _Answers) -> str:
    total, scored = answers.total(), answers[None]
    by_gate = [answers[reason] for reason in _GATE]
    others = total - scored - sum(by_gate)
    return f"| {name} | {total} | {by_gate[0]} | {by_gate[1]} | {others} | {scored} | {(total - scored) / total:.1%} |"


def _sets(age: float) -> Iterator[tuple[str, Iterable[bytes]]]:
    kinds: dict[str, list[Path]] = defaultdict(list)
    with (DATA / "not_frontal_chest/labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            kinds[row["kind"]].append(DATA / "not_frontal_chest" / row["path"])
    for kind, paths in sorted(kinds.items()):
        yield f"`not_frontal_chest`, {kind}", _contents(paths)
    yield "`not_frontal_chest`, all", _contents(path for paths in kinds.values() for path in paths)
    yield "`dicom`, tags replaced", _retagged(age)
    yield f"`cxr_nih`, {_ADULTS_SHOWN} adults", _contents(sorted((DATA / "cxr_nih/images").iterdir())[:_ADULTS_SHOWN])
    yield "`cxr_full_size`, children", _contents(sorted((DATA / "cxr_full_size").glob("*.jpeg")))
    yield "`cxr_kermany_aspect`, children", _contents(sorted((DATA / "cxr_kermany_aspect").rglob("*.jp*g")))


def _contents(paths: Iterable[Path]) -> Iterator[bytes]:
    return (path.read_bytes() for path in paths)


def _retagged(age: float) -> Iterator[bytes]:
    """The toolkits' files with the tags of a child's frontal chest; those that cannot be written again are left out."""
    for path in sorted((DATA / "dicom/files").iterdir()):
        try:
            dataset = dcmread(path, force=True)
            _claim(dataset, age)
            written = BytesIO()
            dataset.save_as(written)
        except Exception as error:  # broken files break writers in every way
            print(f"<!-- {path.name[:3]} cannot be written again: {type(error).__name__} -->")
            continue
        yield written.getvalue()


def _claim(dataset: Dataset, age: float) -> None:
    for keyword in (
        "AnatomicRegionSequence",
        "ViewCodeSequence",
        "ImageLaterality",
        "Laterality",
        "PatientOrientation",
    ):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "AP"
    dataset.PresentationIntentType, dataset.PatientAge = "FOR PRESENTATION", f"{age:03.0f}Y"


def _ask(guard: Guard, data: bytes, *, age_years: float | None = None) -> Reason | None:
    image = os.memfd_create("image")
    try:
        with os.fdopen(os.dup(image), "wb") as file:
            file.write(data)
        modality = "DX" if age_years is not None else None
        answer = guard.analyse(Analyse(key="1", source="file", modality=modality, age_years=age_years), image)
    finally:
        os.close(image)
    assert (answer.result.status is Status.NOT_ANALYSED) == (answer.result.reason is not None)
    return answer.result.reason


def _modality(path: Path) -> str:
    try:
        return str(dcmread(path, force=True, stop_before_pixels=True).get("Modality") or "none")
    except Exception:  # it cannot be parsed: that is why it is in the set
        return "unreadable"


if __name__ == "__main__":
    main()
