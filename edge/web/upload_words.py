"""What the form for files says: kinds of image, and why a file was not taken, in the reader's language."""

from __future__ import annotations

from enum import StrEnum

from edge.web.languages import gettext, mark

KINDS: dict[str, str] = {
    "CR": mark("Plain radiograph on a film or an imaging plate (CR)"),
    "DX": mark("Plain radiograph from a digital detector (DX)"),
    "OT": mark("Another kind of image"),
}
"""What a person may state as Modality (0008,0060) of a picture."""


class UploadError(StrEnum):
    """Why an uploaded file was not taken."""

    NO_FILE = "no_file"
    TOO_LARGE = "too_large"
    OTHER_FORMAT = "other_format"
    UNREADABLE = "unreadable"
    NO_KIND = "no_kind"
    NO_AGE = "no_age"
    WRONG_AGE = "wrong_age"
    DISK_FULL = "disk_full"
    NOT_STORED = "not_stored"


FIELDS: dict[UploadError, str] = {
    UploadError.NO_FILE: "file",
    UploadError.TOO_LARGE: "file",
    UploadError.OTHER_FORMAT: "file",
    UploadError.UNREADABLE: "file",
    UploadError.NO_KIND: "kind",
    UploadError.NO_AGE: "age",
    UploadError.WRONG_AGE: "age",
}
"""The form's field that is wrong, where it is one."""

_WORDS: dict[UploadError, str] = {
    UploadError.NO_FILE: mark("No file came: choose one."),
    UploadError.TOO_LARGE: mark(
        "The file is larger than %(largest)s. Save the picture smaller, or send the image by DICOM."
    ),
    UploadError.OTHER_FORMAT: mark(
        "The file is neither DICOM nor a PNG or JPEG picture. Some phones save photographs as HEIC: choose JPEG there."
    ),
    UploadError.UNREADABLE: mark("The DICOM file is damaged: it does not say which image it is. Get it anew."),
    UploadError.NO_KIND: mark("State what kind of image it is: a picture does not say it."),
    UploadError.NO_AGE: mark("State the patient's age: a picture does not say it, and the software needs it."),
    UploadError.WRONG_AGE: mark("The age is not one: a number such as 3 or 3.5, in years or in months."),
    UploadError.DISK_FULL: mark(
        "The disk of this device is full, and the file was not taken. Tell whoever looks after it."
    ),
    UploadError.NOT_STORED: mark("The device could not store the file. Try again in a moment."),
}


def refusal(error: UploadError, max_bytes: int) -> str:
    """Why a file was not taken, and what to do."""
    return gettext(_WORDS[error], largest=megabytes(max_bytes))


def megabytes(size: int) -> str:
    """A size as the configuration states it: `64 MiB`."""
    return f"{size / (1 << 20):g} MiB"
