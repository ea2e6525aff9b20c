"""Results, pictures and images for the reporting's tests."""

from __future__ import annotations

import subprocess
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from edge.imaging.evidence import Explanation
from edge.model_facts import Calibration, ModelFacts, OperatingPoint, Threshold
from edge.records import (
    Finding,
    Level,
    ModelUsed,
    Priority,
    QualityFinding,
    Reason,
    Result,
    Status,
    Timings,
)
from edge.reporting.codes import Code
from edge.reporting.modules import Report
from edge.reporting.objects import Pictures

MODEL = ModelUsed(
    id="cxr-opacity-adult", version="1.1.0", digest="sha256:" + "ab" * 32, engine="openvino", precision="int8"
)
FACTS = ModelFacts(
    not_looked_for="Anything but opacity of the lungs: fractures, pneumothorax.",
    findings=(Calibration(code="112033", temperature=0.34, bias=-1.46),),
    operating_points=(
        OperatingPoint(
            id="balanced", thresholds=(Threshold("112033", indeterminate_from=0.3468, flagged_from=0.7522),)
        ),
    ),
)
EXPLANATION = Explanation(
    maps={"112033": np.outer([0, 2, 4, 2, 0, 0], [0, 2, 4, 1, 0, 0, 1]).astype(float).tolist()},
    lungs=[[(0.1, 0.1), (0.4, 0.1), (0.4, 0.9)], [(0.6, 0.1), (0.9, 0.1), (0.9, 0.9)]],
)


def finding(probability: float = 0.83, *, placed: bool = True) -> Finding:
    return Finding(
        code="112033",
        scheme="DCM",
        meaning="Abnormal opacity",
        score=0.9,
        probability=probability,
        threshold=0.7522,
        flagged=probability >= 0.7522,
        box=(10, 20, 60, 90) if placed else None,
        side="right" if placed else None,
        zone="lower" if placed else None,
    )


def result(status: Status = Status.FLAGGED) -> Result:
    """One of each answer."""
    found = {
        Status.FLAGGED: (finding(),),
        Status.INDETERMINATE: (finding(0.5),),
        Status.CLEAR: (finding(0.1, placed=False),),
        Status.NOT_ANALYSED: (),
    }[status]
    poor = QualityFinding(check="lung_cut_off", level=Level.WARN, code="111209", scheme="DCM", message="cut off")
    analysed = status is not Status.NOT_ANALYSED
    return Result(
        source="dicom",
        sop_instance_uid="1.2.3",
        status=status,
        reason=None if analysed else Reason.LATERAL_VIEW,
        priority=Priority.ROUTINE,
        findings=found,
        quality=(poor,) if status is Status.FLAGGED else (),
        model=MODEL if analysed else None,
        timings_ms=Timings(),
    )


def report(status: Status = Status.FLAGGED, result_id: str = "0" * 32 + "-abababab") -> Report:
    return Report(
        result_id=result_id,
        result=result(status),
        at=datetime(2026, 11, 26, 1, 2, 3),
        box="box",
        software="0.1.0",
        facts=FACTS,
    )


def pictures() -> Pictures:
    """What the analyst draws."""
    grey = np.tile(np.arange(300, dtype=np.uint8), (200, 1))
    drawn = np.zeros((100, 150, 4), np.uint8)
    drawn[20:40, 20:60] = (0, 159, 230, 255)
    return Pictures(
        preview=_encoded(".jpg", grey),
        overlay=_encoded(".png", drawn),
        explanation=EXPLANATION,
    )


def radiograph(**values: Any) -> bytes:
    """A small DX file of which nothing but what a report needs is there; `values` by keyword, None leaves one out."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.826.0.1.3680043.8.1.3"
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.826.0.1.3680043.8.1.1", "1.2.826.0.1.3680043.8.1.2"
    image.Modality, image.PhotometricInterpretation, image.Rows, image.Columns = "DX", "MONOCHROME2", 100, 80
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Test^A", "1", "19700101", "F"
    image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20261126", "0102", "A1", "S1"
    image.ReferringPhysicianName, image.PatientOrientation = "", ["L", "F"]
    image.SamplesPerPixel, image.BitsAllocated, image.BitsStored, image.HighBit = 1, 8, 8, 7
    image.PixelRepresentation, image.PixelData = 0, bytes(8000)
    for keyword, value in values.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    dcmwrite(file, image, enforce_file_format=True)
    return file.getvalue()


def order(**values: Any) -> Dataset:
    """The order of `radiograph()`; `values` by keyword, those of the scheduled procedure step too, codes as lists."""
    made, step = Dataset(), Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.AccessionNumber, made.PatientName, made.PatientID = "A1", "Test^A", "1"
    made.PatientBirthDate, made.PatientSex, made.StudyInstanceUID = "19700101", "F", "1.2.826.0.1.3680043.8.1.1"
    made.RequestedProcedureID, made.RequestedProcedureDescription = "P1", "Chest"
    step.Modality, step.ScheduledStationAETitle = "CR", "ROOM1"
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = "20261126", "0100"
    step.ScheduledProcedureStepID, step.ScheduledProcedureStepDescription = "S1", "Chest"
    made.ScheduledProcedureStepSequence = [step]
    for keyword, value in values.items():
        ready = [code.item() for code in value] if isinstance(value, list) else value
        setattr(step if keyword in step else made, keyword, ready)
    return made


def requested(code: Code) -> Dataset:
    """A request as modalities copy it into an image."""
    request = Dataset()
    request.RequestedProcedureCodeSequence = [code.item()]
    return request


def errors_of(program: str, data: bytes, file: Path) -> list[str]:
    """What `dciodvfy` calls an error."""
    file.write_bytes(data)
    said = subprocess.run([program, str(file)], capture_output=True, check=False)
    return [line for line in (said.stdout + said.stderr).decode("utf-8", "replace").splitlines() if "rror" in line]


def read(data: bytes) -> Dataset:
    return dcmread(BytesIO(data))


def _encoded(kind: str, picture: Any) -> bytes:
    written, data = cv2.imencode(kind, picture)
    assert written
    return bytes(data)
