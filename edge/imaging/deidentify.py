"""A still image without what identifies its patient, for export on purpose: PS3.15 Annex E, the Basic Profile.

The new data set is built, not cleaned: what is listed in `KEPT` goes over when its value is one that such an attribute
may have; what Table E.1-1 has a dummy, an empty value or another UID for gets it; nothing else is taken. The pixels go
over decoded, so that neither comments in a codestream nor overlays in unused bits come along.
"""

from __future__ import annotations

import math
import re
import secrets
import uuid
from collections.abc import Callable
from hashlib import blake2b
from importlib import resources
from io import BytesIO
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
from pydicom import DataElement, Dataset, config, dcmwrite
from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian

from edge.errors import ScansideError
from edge.imaging.decode import Stored, check_pixels, decode_first_frame
from edge.imaging.header import read_dataset, text_of
from edge.imaging.refusal import Refusal
from edge.imaging.stored_bits import Layout

METHOD = ("113100", "DCM", "Basic Application Confidentiality Profile")
"""De-identification Method Code Sequence (0012,0064): PS3.16 CID 7050."""

BURNED_IN_IS_RARE = frozenset(("CR", "DX", "MG", "IO", "PX", "RG", "XA", "RF", "CT", "MR", "NM", "PT"))
"""Modalities whose software writes no names into the pixels; secondary captures, ultrasound and the like do."""

_DUMMIES: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"), "REMOVED"),
    **dict.fromkeys(("US", "SS", "UL", "SL", "UV", "SV"), 0),
    **dict.fromkeys(("FL", "FD"), 0.0),
    **dict.fromkeys(("DS", "IS"), "0"),
    **dict.fromkeys(("OB", "OW", "OD", "OF", "OL", "OV", "UN"), bytes(8)),
    "AS": "000Y",
    "AT": 0,
    "DA": "19000101",
    "DT": "19000101000000",
    "PN": "REMOVED",
    "TM": "000000",
    "UR": "http://removed.invalid",
}
_LARGEST_NUMBER = 1e7
"""Numbers beyond it measure nothing in an image, but may be a patient's."""

_REGISTERED = "1.2.840.10008."
_PROFILE = "confidentiality_profile.txt"


class NotExportable(ScansideError):  # noqa: N818 - an answer about the image, not a defect
    """This image cannot be exported without what identifies its patient: one line with the rule and the fix."""


class Exported(NamedTuple):
    """A DICOM file without identifiers, and what a person must still look at; empty when nothing."""

    data: bytes
    caution: str


def deidentify(data: bytes) -> Exported:
    """The image in a DICOM file as a new file of its own, Explicit VR Little Endian.

    UIDs are replaced by others of the form 2.25, the same for the same within the file; no two exports share any.

    Raises:
        NotExportable: It is no still image, cannot be decoded, or has or may have text burned into its pixels.
    """
    try:
        dataset = read_dataset(data)
        check_pixels(dataset)
        caution = _check_burned_in(dataset)
        layout = Layout.of(dataset)
        if layout.frames > 1:
            raise NotExportable(f"{layout.frames} frames: only still images are exported: use a workstation")
        stored = decode_first_frame(dataset)
    except Refusal as refusal:
        raise NotExportable(f"{refusal.detail}: only images that can be decoded are exported") from refusal
    exported = clean(dataset, secrets.token_bytes(32))
    _mark(exported)
    _write_pixels(exported, stored, layout)
    return Exported(_file(exported), caution)


def clean(dataset: Dataset, key: bytes) -> Dataset:
    """What may go over of a data set, without its pixels and what describes their storage.

    Args:
        dataset: Any; stays as it is.
        key: Which UID becomes which follows from it: of one key, the same from the same.
    """
    cleaned = Dataset()
    for tag in sorted(dataset.keys()):
        element = _readable(dataset, tag)
        value = None if element is None else _value(element, key)
        if element is not None and value is not None:
            known = element.VR in _DUMMIES or element.VR in ("SQ", "UI")
            vr = element.VR if known else dictionary_VR(tag)
            cleaned.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))
    return cleaned


def profile() -> dict[str, str]:
    """Table E.1-1 of PS3.15 2026c, column Basic Profile: action by tag, eight digits, `x` for any.

    D: a dummy. Z: empty. X: removed. U: another UID. X/Z and the like depend on what the IOD requires.
    """
    text = resources.files("edge.imaging").joinpath(_PROFILE).read_text(encoding="ascii")
    return {tag: action for tag, action, _ in (line.split(" ", 2) for line in text.splitlines())}


def action_of(tag: int) -> str | None:
    """What the Basic Profile does with an attribute; None when it is not in the table.

    Where it depends on the IOD, what suits every IOD: rather a dummy than nothing where one may be required.
    """
    digits = f"{tag:08X}"
    if BaseTag(tag).is_private:
        return "X"
    group = f"{digits[:2]}xx"
    found = next(
        (_ACTIONS[name] for name in (digits, f"{group}{digits[4:]}", f"{group}xxxx") if name in _ACTIONS), None
    )
    return found and found.split("/")[-1].rstrip("*")


_ACTIONS = profile()


def _readable(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    """An element, or None: one that cannot be read cannot be known to be harmless."""
    try:
        return dataset[tag]
    except Exception:  # pydicom raises nearly any type on a value that does not fit its VR
        return None


def _value(element: DataElement, key: bytes) -> Any:
    """What an element's value becomes; None when it does not go over."""
    action = action_of(element.tag)
    if action is None:
        return _kept(element, key)
    if action == "X":
        return None
    if action == "Z":
        return [] if element.VR == "SQ" else ""
    if element.VR == "SQ":
        return [clean(item, key) for item in element.value]
    if action == "U" or element.VR == "UI":
        uids = element.value if isinstance(element.value, MultiValue | list) else [element.value]
        replaced = [_other_uid(str(uid), key) for uid in uids if uid]
        return replaced or ""
    return _DUMMIES.get(element.VR, "")


def _kept(element: DataElement, key: bytes) -> Any:
    """The value of an attribute outside of the table; None when it does not go over."""
    keyword = keyword_for_tag(element.tag)
    allowed = KEPT.get(keyword)
    if element.VR == "SQ":
        if keyword in _CODED:
            codes = (text_of(item, "CodeValue") for item in element.value)
            return [_code(*_CODES[code]) for code in codes if code in _CODES]
        return [clean(item, key) for item in element.value] if allowed is _items else None
    if keyword in _EMPTIED or (allowed and element.value in (None, "", [])):
        return ""
    if allowed is None or isinstance(element.value, bytes):
        return element.value if allowed is _table and element.VR in ("OB", "OW", "US", "SS") else None
    values = list(element.value) if isinstance(element.value, MultiValue | list) else [element.value]
    if keyword == "ImageType":  # from its third value on, anybody's own terms are allowed
        return list(takewhile(allowed, values)) or ""
    return element.value if all(allowed(value) for value in values) else None


def _other_uid(uid: str, key: bytes) -> str:
    """A UID made of a UUID (PS3.5 B.2); registered ones, which say what something is, stay."""
    if uid.startswith(_REGISTERED) and uid in UID_dictionary:
        return uid
    digest = blake2b(uid.encode(errors="replace"), key=key, digest_size=16).digest()
    return f"2.25.{uuid.UUID(bytes=digest, version=5).int}"


def _check_burned_in(dataset: Dataset) -> str:
    """What a person must look at. Raises `NotExportable`."""
    said, modality = text_of(dataset, "BurnedInAnnotation"), text_of(dataset, "Modality")
    if said == "NO":
        return ""
    if said == "YES":
        raise NotExportable(
            "Burned In Annotation (0028,0301) is YES, and pixels are not cleaned here:"
            " black the text out on a workstation"
        )
    if modality not in BURNED_IN_IS_RARE:
        raise NotExportable(
            "Burned In Annotation (0028,0301) is not NO, and images of this modality often have names in their pixels:"
            " look at it, and black them out on a workstation"
        )
    return "Burned In Annotation (0028,0301) is absent: look at the picture for names before you give it away"


def _mark(dataset: Dataset) -> None:
    """Say what was done (PS3.15 E.1.1, steps 6 and 7; PS3.3 C.7.1.1)."""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "PS3.15 Basic Profile"
    dataset.DeidentificationMethodCodeSequence = [_code(*METHOD)]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _write_pixels(dataset: Dataset, stored: Stored, layout: Layout) -> None:
    """The Image Pixel module (PS3.3 C.7.6.3) anew. Raises `NotExportable`."""
    values = stored.values
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        raise NotExportable(f"pixels of type {values.dtype}: only whole numbers of up to 16 bits are exported")
    bits = values.dtype.itemsize * 8
    colour = values.ndim == 3
    dataset.SamplesPerPixel = 3 if colour else 1
    grey = layout.photometric if layout.photometric in ("MONOCHROME1", "PALETTE COLOR") else "MONOCHROME2"
    dataset.PhotometricInterpretation = "RGB" if colour else grey
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.BitsAllocated = bits
    dataset.BitsStored = layout.stored if 0 < layout.stored <= bits else bits
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    data = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
    dataset.add(DataElement(0x7FE00010, "OW" if bits > 8 else "OB", data + bytes(len(data) % 2)))


def _file(dataset: Dataset) -> bytes:
    """PS3.10 7.1, with file meta information of our own and an empty preamble."""
    if not dataset.get("SOPInstanceUID") or not dataset.get("SOPClassUID"):
        raise NotExportable(
            "no SOP Class UID that is known, or no SOP Instance UID: it is no image that others can read"
        )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID(dataset.get("SOPClassUID", ""))
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    written = BytesIO()
    dcmwrite(written, dataset, enforce_file_format=True)
    return written.getvalue()


def _one_of(*terms: str) -> Callable[[Any], bool]:
    allowed = frozenset(terms)
    return lambda value: isinstance(value, str) and value in allowed


def _like(pattern: str) -> Callable[[Any], bool]:
    expression = re.compile(pattern)
    return lambda value: isinstance(value, str) and expression.fullmatch(value) is not None


def _number(value: Any) -> bool:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return math.isfinite(number) and abs(number) < _LARGEST_NUMBER


def _class(value: Any) -> bool:
    return str(value) in UID_dictionary


def _items(_value: Any) -> bool:
    return False


def _table(value: Any) -> bool:
    return isinstance(value, int)


_YES_NO = _one_of("YES", "NO")

KEPT: dict[str, Callable[[Any], bool]] = {
    "SOPClassUID": _class,
    "ReferencedSOPClassUID": _class,
    "ImageType": _one_of("ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "LOCALIZER", ""),
    "Modality": _one_of(*BURNED_IN_IS_RARE, "OT", "US", "ES", "XC", "OP", "SM", "GM"),
    "PresentationIntentType": _one_of("FOR PRESENTATION", "FOR PROCESSING"),
    "ConversionType": _one_of("DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"),
    "BodyPartExamined": _one_of(
        "CHEST", "ABDOMEN", "BREAST", "HAND", "HEAD", "HIP", "KNEE", "PELVIS", "SKULL", "SPINE"
    ),
    "ViewPosition": _one_of("AP", "PA", "LL", "RL", "LLD", "RLD", "LLO", "RLO", "LATERAL", "CC", "MLO", "ML", "LM"),
    "Laterality": _one_of("L", "R"),
    "ImageLaterality": _one_of("L", "R", "U", "B"),
    "PatientOrientation": _like(r"[LRAPHF]{0,3}"),
    "QualityControlImage": _YES_NO,
    "BurnedInAnnotation": _one_of("NO"),
    "LossyImageCompression": _one_of("00", "01"),
    "LossyImageCompressionMethod": _one_of("ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15", "ISO_18181_1"),
    "PixelIntensityRelationship": _one_of("LIN", "LOG", "DISP"),
    "PresentationLUTShape": _one_of("IDENTITY", "INVERSE"),
    "VOILUTFunction": _one_of("LINEAR", "LINEAR_EXACT", "SIGMOID"),
    "RescaleType": _one_of("OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"),
    "ModalityLUTType": _one_of("OD", "HU", "US"),
    "PositionerType": _one_of("CARM", "COLUMN", "MAMMOGRAPHIC", "PANORAMIC", "CEPHALOSTAT", "RIGID", "NONE"),
    "DetectorType": _one_of("DIRECT", "SCINTILLATOR", "STORAGE", "FILM"),
    "ModalityLUTSequence": _items,
    "VOILUTSequence": _items,
    "PresentationLUTSequence": _items,
    "LUTData": _table,
    "RedPaletteColorLookupTableData": _table,
    "GreenPaletteColorLookupTableData": _table,
    "BluePaletteColorLookupTableData": _table,
    **dict.fromkeys(
        (
            "SeriesNumber",
            "InstanceNumber",
            "LUTDescriptor",
            "RedPaletteColorLookupTableDescriptor",
            "GreenPaletteColorLookupTableDescriptor",
            "BluePaletteColorLookupTableDescriptor",
            "PixelSpacing",
            "ImagerPixelSpacing",
            "NominalScannedPixelSpacing",
            "PixelAspectRatio",
            "PixelPaddingValue",
            "PixelPaddingRangeLimit",
            "PixelIntensityRelationshipSign",
            "RescaleIntercept",
            "RescaleSlope",
            "WindowCenter",
            "WindowWidth",
            "LossyImageCompressionRatio",
            "KVP",
            "Exposure",
            "ExposureInuAs",
            "ExposureTime",
            "ExposureTimeInuS",
            "XRayTubeCurrent",
            "XRayTubeCurrentInuA",
            "DistanceSourceToDetector",
            "DistanceSourceToPatient",
            "EstimatedRadiographicMagnificationFactor",
            "ExposureIndex",
            "TargetExposureIndex",
            "DeviationIndex",
            "Sensitivity",
        ),
        _number,
    ),
}
"""What goes over as it is: what somebody needs who reads the image again, and the test that each value must pass."""

_EMPTIED = frozenset(("Manufacturer",))
"""Of Type 2 in every image: present, and empty."""

_CODED = frozenset(("AnatomicRegionSequence", "ViewCodeSequence"))
_CODES = {
    code: (code, "SCT", meaning)
    for code, meaning in (
        ("816094009", "Chest"),
        ("51185008", "Chest"),
        ("399348003", "antero-posterior"),
        ("272479007", "postero-anterior"),
        ("399173006", "left lateral"),
        ("399198007", "right lateral"),
    )
}
"""Of PS3.16 CID 4009 and 4010, those of a chest radiograph. Other codes, and anybody's own meanings, stay behind."""
