"""Makes DX images (For Presentation) of synthetic radiographs, and of a person's own pictures.

The data set follows the Digital X-Ray Image IOD (PS3.3 A.26): every Type 1 and Type 2 attribute of its mandatory
modules is there. What is not known (study date, referring physician, sex) is empty, as Type 2 permits.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRBigEndian, ExplicitVRLittleEndian

from edge.synthetic.encoding import CODINGS, Coding

MARK = "SYNTHETIC"
AGE = "003Y"
"""Patient's Age (PS3.5 6.2, VR AS) of whom the radiographs resemble: children of 1 to 5 years."""

_AGE = re.compile(r"\d{3}[DWMY]")
_DETECTOR_HEIGHT = 350.0  # mm
# View position: patient orientation (C.7.6.1.1.1) and the view's code (CID 4010).
_VIEWS = {
    "AP": (["L", "F"], ("399348003", "antero-posterior")),
    "PA": (["L", "F"], ("272479007", "postero-anterior")),
    "LL": (["A", "F"], ("399173006", "left lateral")),
    "RL": (["A", "F"], ("399198007", "right lateral")),
}
_EMPTY = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "PatientBirthDate",
    "PatientSex",
)


def dx_file(
    pixels: NDArray[np.float32],
    *,
    seed: int,
    age: str = AGE,
    transfer_syntax: str = ExplicitVRLittleEndian,
    bits_stored: int | None = None,
    photometric: str = "MONOCHROME2",
    view_position: str = "AP",
) -> bytes:
    """A DICOM file (PS3.10) of a synthetic radiograph, marked SYNTHETIC wherever a reader may look.

    The same arguments make the same file; another argument makes another SOP Instance UID.

    Args:
        pixels: float32 (rows, columns), 0 black to 1 white, with the mark burned in: from `radiograph`.
        seed: The patient's number.
        age: Patient's Age (PS3.5 6.2, VR AS).
        transfer_syntax: UID, one of `edge.synthetic.encoding.CODINGS`.
        bits_stored: 8, 10, 12, 14 or 16; None: 12 where the transfer syntax states it, else the depth that it does.
        photometric: MONOCHROME1 (stored the other way round) or MONOCHROME2.
        view_position: AP, PA, LL or RL.

    Raises:
        ValueError: When an argument is none of these, or the transfer syntax cannot state that depth.
    """
    coding = _coding(transfer_syntax)
    bits = coding.depths[0] if bits_stored is None else bits_stored
    if bits not in coding.depths:
        raise ValueError(f"{bits} bits stored: {transfer_syntax} states {sorted(coding.depths)}: take one of these")
    stored = stored_values(pixels, bits, photometric)
    dataset = _data_set(stored, bits, photometric, age, view_position)
    dataset.ImageType = ["DERIVED", "PRIMARY", "", MARK]
    dataset.PatientName, dataset.PatientID = f"{MARK}^CHEST {seed}", f"{MARK}-{seed}"
    dataset.PatientComments = f"{MARK}: drawn by a computer, no patient"
    dataset.StudyDescription = dataset.SeriesDescription = f"{MARK} chest"
    dataset.ImageComments = f"{MARK}: drawn by a computer, no patient"
    dataset.DerivationDescription = "Drawn from the statistics of many radiographs"
    return _file(dataset, stored, transfer_syntax, coding)


def wrap(picture: NDArray[np.uint8] | NDArray[np.uint16], *, seed: int, age: str) -> bytes:
    """A DICOM file of a person's own picture of a radiograph, grey values unchanged, uncompressed.

    An array does not tell what its picture went through, so Lossy Image Compression says 00 for a JPEG's, too: for
    trying the device out, not for an archive.

    Args:
        picture: uint8 or uint16 (rows, columns), bone white.
        seed: The patient's number.
        age: Patient's Age, which no picture tells (PS3.5 6.2, VR AS).

    Raises:
        ValueError: When the picture is not grey or the age not an Age String.
    """
    if picture.ndim != 2 or picture.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a picture of {picture.dtype} {picture.shape}: give uint8 or uint16 (rows, columns)")
    dataset = _data_set(picture, picture.dtype.itemsize * 8, "MONOCHROME2", age, "AP")
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.PatientName, dataset.PatientID = f"PICTURE^{seed}", f"PICTURE-{seed}"
    dataset.StudyDescription = dataset.SeriesDescription = "Picture wrapped as DX"
    return _file(dataset, picture, ExplicitVRLittleEndian, _coding(ExplicitVRLittleEndian))


def stored_values(pixels: NDArray[np.float32], bits: int, photometric: str = "MONOCHROME2") -> NDArray[Any]:
    """Grey 0..1 to stored values over the whole range of `bits`: uint8 for 8 bits, else uint16.

    Raises:
        ValueError: When `photometric` is not MONOCHROME1 or MONOCHROME2.
    """
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"photometric interpretation {photometric}: give MONOCHROME1 or MONOCHROME2")
    white = (1 << bits) - 1
    stored = np.round(np.clip(pixels, 0, 1) * np.float32(white)).astype(np.uint8 if bits == 8 else np.uint16)
    return white - stored if photometric == "MONOCHROME1" else stored


def _coding(transfer_syntax: str) -> Coding:
    if transfer_syntax not in CODINGS:
        raise ValueError(f"transfer syntax {transfer_syntax}: cannot be written; give one of {', '.join(CODINGS)}")
    return CODINGS[transfer_syntax]


def _data_set(stored: NDArray[Any], bits: int, photometric: str, age: str, view_position: str) -> Dataset:
    """Every module but what names the patient and the image; PS3.3 sections beside them."""
    if not _AGE.fullmatch(age):
        raise ValueError(f"age {age}: give an Age String such as 003Y or 018M")
    if view_position not in _VIEWS:
        raise ValueError(f"view position {view_position}: give one of {', '.join(_VIEWS)}")
    orientation, view = _VIEWS[view_position]
    dataset = Dataset()
    for keyword in _EMPTY:
        setattr(dataset, keyword, "")
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.PatientAge = age
    dataset.Manufacturer = dataset.ManufacturerModelName = "Scanside"
    # DX Series, DX Anatomy Imaged, DX Positioning (C.8.11.1, C.8.11.2, C.8.11.5)
    dataset.Modality, dataset.PresentationIntentType = "DX", "FOR PRESENTATION"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.BodyPartExamined, dataset.ImageLaterality = "CHEST", "U"
    dataset.AnatomicRegionSequence = [_code("816094009", "Chest")]
    dataset.ViewPosition, dataset.PatientOrientation = view_position, orientation
    dataset.ViewCodeSequence, dataset.PositionerType = [_code(*view)], ""
    dataset.AcquisitionContextSequence = []
    # DX Detector (C.8.11.4)
    dataset.DetectorType = "SCINTILLATOR"
    dataset.ImagerPixelSpacing = [round(_DETECTOR_HEIGHT / stored.shape[0], 4)] * 2
    # Image Pixel (C.7.6.3) and DX Image (C.8.11.3)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = stored.dtype.itemsize * 8, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if photometric == "MONOCHROME1" else -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    dataset.WindowCenter, dataset.WindowWidth = 1 << (bits - 1), 1 << bits
    dataset.BurnedInAnnotation = "YES"  # the mark; and of a person's picture nobody knows better
    dataset.LossyImageCompression = "00"
    return dataset


def _file(dataset: Dataset, stored: NDArray[Any], transfer_syntax: str, coding: Coding) -> bytes:
    if coding.encode is None:
        swapped = transfer_syntax == ExplicitVRBigEndian
        data = stored.astype(stored.dtype.newbyteorder(">" if swapped else "<")).tobytes()
        data += b"\0" * (len(data) % 2)
    else:
        frame = coding.encode(stored, dataset.BitsStored)
        data = encapsulate([frame])
        if coding.lossy_method:
            dataset.LossyImageCompression, dataset.LossyImageCompressionMethod = "01", coding.lossy_method
            dataset.LossyImageCompressionRatio = round(stored.nbytes / len(frame), 2)
    _name(dataset, transfer_syntax, data)
    dataset.add_new("PixelData", "OB" if coding.encode or stored.itemsize == 1 else "OW", data)
    dataset["PixelData"].is_undefined_length = coding.encode is not None
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def _name(dataset: Dataset, transfer_syntax: str, data: bytes) -> None:
    """UIDs under 2.25 (PS3.5 B.2) out of everything that the file says: one content, one name."""
    content = hashlib.sha256(dataset.to_json().encode() + data).hexdigest()
    names = (f"{level} {transfer_syntax} {content}" for level in ("study", "series", "instance"))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (
        f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}" for name in names
    )


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code
