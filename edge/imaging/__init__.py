"""Bytes to pixels: header, decode, grey values, quality, the model's input, previews."""

import logging
import warnings

from pydicom import config

# pydicom quotes the values that it finds odd, and values identify patients: it stays silent (DESIGN rule 5).
config.settings.reading_validation_mode = config.IGNORE
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
