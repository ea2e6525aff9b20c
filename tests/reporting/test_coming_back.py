"""What we, or other programs, have made comes in at our own door: stored, never analysed, and never reported on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydicom.uid import UID

from edge.config import Config
from edge.config_reporting import Destination, Reporting
from edge.imaging.header import read_dataset, read_header
from edge.inference.bundle import Accepts
from edge.inference.pipeline import analyse
from edge.inference.router import route
from edge.records import Reason, Status
from edge.reporting.maker import Maker
from edge.reporting.objects import ORDER, PR, SC, SEG, SR, encode, make
from edge.reporting.source import read_source
from edge.store import Store
from tests.reporting import samples
from tests.reporting.peers import answer

EVERYTHING = Accepts(modalities=("DX", "CR", "OT", "SEG"), body_parts=("CHEST",), views=("PA",), age_years=(0.0, 130.0))


@pytest.fixture
def objects() -> dict[str, bytes]:
    image = samples.radiograph(PatientAge="040Y")
    return make(read_source(image), samples.report(), samples.pictures(), ORDER).objects


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "state")) as opened:
        yield opened


@pytest.mark.parametrize("kind", [SR, PR, SC, SEG])
def test_none_of_ours_is_analysed(kind: str, objects: dict[str, bytes]) -> None:
    answered = analyse(objects[kind], [], source="dicom").result
    assert answered.status is Status.NOT_ANALYSED
    assert answered.reason in (Reason.NO_PIXELS, Reason.UNSUPPORTED_MODALITY)


def test_a_picture_made_by_a_program_is_none_of_a_patient_whatever_modality_it_claims(
    objects: dict[str, bytes],
) -> None:
    picture = samples.read(objects[SC])
    picture.Modality = "DX"
    assert route(read_header(read_dataset(encode(picture))), [EVERYTHING]) is Reason.UNSUPPORTED_MODALITY
    picture.ConversionType = "DF"  # a digitised film is the patient's own image
    assert route(read_header(read_dataset(encode(picture))), [EVERYTHING]) == 0


@pytest.mark.parametrize("kind", [SR, PR, SC, SEG])
def test_none_of_ours_is_reported_on(kind: str, objects: dict[str, bytes], store: Store) -> None:
    """Even where it was answered as if it were a radiograph."""
    data = objects[kind]
    assert UID(samples.read(data).SOPClassUID).is_valid
    answer(store, data, reason=Reason.NO_PIXELS if kind == SR else None)
    to = Destination(name="pacs")
    Maker(store, Config(state_dir=store.state_dir, reporting=Reporting(destinations=(to,)))).turn()
    assert store.owed("report") == [] and store.deliveries.standing() == {}
