"""Data sets: labelled images, prepared as the device prepares them, split by patient and by content."""

from export.datasets.description import data_section
from export.datasets.loading import load, load_lungs
from export.datasets.preparation import read_image, to_input, write_whole
from export.datasets.records import SPLITS, Dataset, DatasetError, Row, Split

__all__ = [
    "SPLITS",
    "Dataset",
    "DatasetError",
    "Row",
    "Split",
    "data_section",
    "load",
    "load_lungs",
    "read_image",
    "to_input",
    "write_whole",
]
