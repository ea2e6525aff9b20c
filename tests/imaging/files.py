"""DICOM files of known grey values, in every transfer syntax that carries them: what the decoder's tests read."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation

from edge.synthetic.encoding import CODINGS

_PREFIX = "1.2.840.10008.1.2"
Encoder = Callable[[NDArray[Any], int], bytes]


def picture(rows: int = 97, columns: int = 130) -> NDArray[np.float32]:
    """A smooth grey picture that uses the whole of 0..1 and no symmetry: a turned or shifted one is seen."""
    rough = np.random.default_rng(5).random((6, 7), dtype=np.float32)
    smooth = cv2.resize(rough, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return np.asarray((smooth - smooth.min()) / np.ptp(smooth), dtype=np.float32)


def dicom(
    stored: NDArray[Any], *, bits: int, photometric: str = "MONOCHROME2", syntax: str = f"{_PREFIX}.1", **elements: Any
) -> bytes:
    """A file of these stored values, (rows, columns) or (rows, columns, 3); int types are signed.

    Args:
        stored: As they are to be read again; of the colour space that `photometric` names, but RGB where the codec
            turns colours itself.
        bits: Bits Stored.
        photometric: Photometric Interpretation.
        syntax: Transfer syntax UID.
        elements: Further ones by keyword; they win.
    """
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, UID("2.25.1")
    dataset.Modality, dataset.PatientAge = "DX", "003Y"
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3 if stored.ndim == 3 else 1), photometric
    if stored.ndim == 3:
        dataset.PlanarConfiguration = 0
    allocated = stored.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    encode = ENCODERS.get(syntax)
    data = _uncompressed(stored, syntax, photometric) if encode is None else encapsulate([encode(stored, bits)])
    dataset.add_new("PixelData", "OB" if encode or allocated == 8 else "OW", data)
    dataset["PixelData"].is_undefined_length = encode is not None
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    file = BytesIO()
    implicit, little = syntax == _PREFIX, syntax != f"{_PREFIX}.2"
    dataset.preamble = bytes(128)
    # Forced: pydicom does not know JPEG XL's transfer syntaxes.
    dcmwrite(file, dataset, implicit_vr=implicit, little_endian=little, force_encoding=True)
    return file.getvalue()


def edited(data: bytes, **elements: Any) -> bytes:
    """The file with other values of some elements; None takes one out."""
    dataset = dcmread(BytesIO(data))
    for keyword, value in elements.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    file = BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def _uncompressed(stored: NDArray[Any], syntax: str, photometric: str) -> bytes:
    if photometric == "YBR_FULL_422":  # two luminances, then the chrominances of the first (PS3.3 C.7.6.3.1.2)
        pairs = stored.reshape(stored.shape[0], -1, 2, 3)
        mixed = np.stack([pairs[..., 0, 0], pairs[..., 1, 0], pairs[..., 0, 1], pairs[..., 0, 2]], axis=-1)
        return mixed.tobytes()
    kind = stored.dtype.newbyteorder(">" if syntax == f"{_PREFIX}.2" else "<")
    data = stored.astype(kind).tobytes()
    return data + b"\0" * (len(data) % 2)


def _rle(stored: NDArray[Any], bits: int) -> bytes:
    if stored.ndim == 2:
        return _grey(f"{_PREFIX}.5")(stored, bits)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.PixelRepresentation = stored.dtype.itemsize * 8, bits, 0
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration, dataset.HighBit = "RGB", 0, bits - 1
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, UID("2.25.1")
    dataset.compress(UID(f"{_PREFIX}.5"), stored, generate_instance_uid=False)
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


def _grey(syntax: str) -> Encoder:
    """The synthetic radiographs' own coders; their values are unsigned: the bits are what is coded."""
    encode = CODINGS[syntax].encode
    assert encode is not None

    def of_bits(stored: NDArray[Any], bits: int) -> bytes:
        unsigned = stored.view(f"u{stored.dtype.itemsize}")
        return encode(unsigned if bits in (8, 16) else unsigned & ((1 << bits) - 1), bits)

    return of_bits


def _jpeg(**options: Any) -> Encoder:
    return lambda stored, bits: bytes(imagecodecs.jpeg8_encode(stored, bitspersample=bits, **options))


def _jpeg_progressive(stored: NDArray[Any], _: int) -> bytes:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, 98]
    return bytes(cv2.imencode(".jpg", stored, options)[1])


def _jpeg_2000(**options: Any) -> Encoder:
    """Signed values with their sign in the codestream."""
    return lambda stored, bits: bytes(
        imagecodecs.jpeg2k_encode(stored, codecformat="j2k", bitspersample=bits, **options)
    )


def _htj2k(**options: Any) -> Encoder:
    return lambda stored, _: bytes(imagecodecs.htj2k_encode(stored, **options))


def _jpeg_xl(**options: Any) -> Encoder:
    return lambda stored, _: bytes(imagecodecs.jpegxl_encode(stored, **options))


def _by_samples(grey: Encoder, colour: Encoder) -> Encoder:
    return lambda stored, bits: (grey if stored.ndim == 2 else colour)(stored, bits)


ENCODERS: dict[str, Encoder] = {
    f"{_PREFIX}.5": _rle,
    f"{_PREFIX}.4.50": _jpeg(level=98, subsampling="422"),
    f"{_PREFIX}.4.51": _jpeg(level=98, subsampling="422"),
    f"{_PREFIX}.4.53": _jpeg_progressive,
    f"{_PREFIX}.4.55": _jpeg_progressive,
    f"{_PREFIX}.4.57": _by_samples(_grey(f"{_PREFIX}.4.57"), _jpeg(lossless=True, predictor=6)),
    f"{_PREFIX}.4.70": _by_samples(_grey(f"{_PREFIX}.4.70"), _jpeg(lossless=True, predictor=1)),
    f"{_PREFIX}.4.80": lambda stored, _: bytes(imagecodecs.jpegls_encode(stored.view(f"u{stored.dtype.itemsize}"))),
    f"{_PREFIX}.4.81": lambda stored, _: bytes(imagecodecs.jpegls_encode(stored, level=2)),
    f"{_PREFIX}.4.90": _jpeg_2000(level=0, reversible=True),
    f"{_PREFIX}.4.91": _jpeg_2000(level=60, reversible=False),
    f"{_PREFIX}.4.201": _htj2k(reversible=True),
    f"{_PREFIX}.4.202": _htj2k(reversible=True),
    f"{_PREFIX}.4.203": _htj2k(level=0.004, reversible=False),
    f"{_PREFIX}.4.110": _jpeg_xl(lossless=True),
    f"{_PREFIX}.4.111": lambda stored, bits: bytes(imagecodecs.jpegxl_encode_jpeg(_jpeg(level=98)(stored, bits))),
    f"{_PREFIX}.4.112": _jpeg_xl(level=98),
}
"""By transfer syntax UID; the others are uncompressed."""
