"""From a result and its image to the objects that a PACS is sent: encoded, checked, and simpler where they must be.

Pure: bytes and records in, bytes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, Comprehensive3DSRStorage, ComprehensiveSRStorage, ExplicitVRLittleEndian

from edge.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from edge.imaging.evidence import Explanation
from edge.reporting.hl7_result import broken_rules_of_message, observation_result
from edge.reporting.modules import Report
from edge.reporting.presentation_state import presentation_state
from edge.reporting.secondary_capture import secondary_capture
from edge.reporting.segmentation import segmentation
from edge.reporting.source import Source, Unreportable
from edge.reporting.structured_report import structured_report
from edge.reporting.validation import broken_rules
from edge.reporting.workitem import broken_rules_of_workitem, workitem

SR, SC, PR, SEG, ORU, UPS = "sr", "sc", "pr", "seg", "oru", "ups"
"""The kinds of objects: DICOM's, and HL7 message and workitem, which go where none of them does."""

ORDER = (SC, PR, SEG, SR)
"""In which DICOM objects are sent: the report last, as it refers to the picture."""

ANSWERS = (SR, SC, ORU)
"""Those of which one is enough for a destination to have the answer."""

_CHECKS = {ORU: broken_rules_of_message, UPS: broken_rules_of_workitem}


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What the analyst has drawn and stored of an image; None where there is none."""

    preview: bytes | None = None
    overlay: bytes | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """What could be made.

    Attributes:
        objects: PS3.10 files by kind, in the order of `ORDER`; HL7 message and workitem, as they are sent.
        left_out: Why a kind is missing, by kind.
    """

    objects: dict[str, bytes]
    left_out: dict[str, str]


def make(
    source: Source, report: Report, pictures: Pictures, kinds: Sequence[str], *, link_picture: bool = True
) -> Made:
    """Make objects of these kinds. One that cannot be made, or would break a rule, is left out, with the reason.

    With the report the picture is made: a destination gets it that takes no report, or when the report breaks a rule.
    `link_picture`: whether everybody who gets the report gets the picture too, so that it may refer to it.
    """
    objects: dict[str, bytes] = {}
    left_out: dict[str, str] = {}

    def add(kind: str, build: Callable[[], Dataset | bytes | None]) -> Dataset | None:
        try:
            built = build()
            data = encode(built) if isinstance(built, Dataset) else built
        except Unreportable as error:
            left_out[kind] = str(error)
            return None
        except Exception as error:  # whatever a library says to an odd image costs this object alone
            left_out[kind] = f"it cannot be made ({type(error).__name__})"
            return None
        broken = _CHECKS.get(kind, broken_rules)(data) if data else []
        if broken or data is None:
            if broken:
                left_out[kind] = "; ".join(broken[:3])
            return None
        objects[kind] = data
        return built if isinstance(built, Dataset) else None

    picture = None
    if SC in kinds or SR in kinds:
        picture = add(SC, lambda: secondary_capture(source, report, pictures.preview, pictures.overlay))
    if PR in kinds:
        add(PR, lambda: presentation_state(source, report, pictures.explanation))
    if SEG in kinds:
        add(SEG, lambda: segmentation(source, report, pictures.explanation))
    if SR in kinds:
        shown = picture if link_picture and pictures.overlay and SC in kinds else None
        add(SR, lambda: structured_report(source, report, shown))
    if ORU in kinds:
        add(ORU, lambda: observation_result(source, report))
    if UPS in kinds:
        add(UPS, lambda: workitem(source, report))
    return Made(objects={kind: objects[kind] for kind in (*ORDER, ORU, UPS) if kind in objects}, left_out=left_out)


def encode(dataset: Dataset) -> bytes:
    """A DICOM file (PS3.10) in explicit VR little endian, under our implementation's name."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def as_comprehensive(report: bytes, uid: str, series_uid: str) -> bytes:
    """The same report as Comprehensive SR, an object and a series of its own. It holds nothing that this class lacks.

    Args:
        report: A Comprehensive 3D SR.
        uid: Its own SOP Instance UID.
        series_uid: Its own Series Instance UID.
    """
    dataset = dcmread(BytesIO(report))
    if dataset.SOPClassUID != Comprehensive3DSRStorage:
        return report
    dataset.SOPClassUID = ComprehensiveSRStorage
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = UID(uid), UID(series_uid)
    return encode(dataset)
