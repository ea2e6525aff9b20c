"""Images that break whoever reads them, really: a codec that crashes, hangs for ever, or takes all the memory it gets.

The codec is the real one behind a stand-in module that is found before it; a mark after the frame's end says what the
stand-in does first. Without a mark it does nothing.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames

from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
CRASH, HANG, GROW = "!crash", "!hang", "!grow"

_STAND_IN = """
import ctypes, importlib, os, sys

this = sys.modules.pop(__name__)
sys.path.remove(os.path.dirname(__file__))
real = importlib.import_module(__name__)
sys.modules[__name__] = this
if os.path.exists(__file__ + ".crash"):
    ctypes.string_at(0)
if os.path.exists(__file__ + ".stall"):
    ctypes.PyDLL(None).pause()

def testing():
    frame = sys._getframe()
    while frame and frame.f_code.co_name != "self_test":
        frame = frame.f_back
    return frame is not None

class Hangs:
    def __init__(self, *arguments, **options):
        self.session = real.InferenceSession(*arguments, **options)

    def run(self, *arguments):
        if os.path.exists(__file__ + ".hang") and not testing():
            ctypes.PyDLL(None).pause()
        return self.session.run(*arguments)

def __getattr__(name):
    function = Hangs if name == "InferenceSession" else getattr(real, name)
    if not name.endswith("_decode"):
        return function
    def decode(frame, *arguments, **options):
        data = bytes(frame)
        if b"!crash" in data:
            ctypes.string_at(0)
        if b"!hang" in data:
            ctypes.PyDLL(None).pause()  # with the interpreter's lock in its hands
        if b"!grow" in data:
            taken = []
            while True:
                taken.append(b"\\1" * (32 << 20))
        return function(frame, *arguments, **options)
    return decode
"""


def stand_in(folder: Path, module: str) -> Path:
    """Write a stand-in into a folder for PYTHONPATH. While one of these files lies beside it: with `<it>.crash`,
    importing it crashes; with `<it>.stall`, that hangs; with `<it>.hang`, passes of its `InferenceSession` hang but
    for those of the self-test."""
    path = folder / f"{module}.py"
    path.write_text(_STAND_IN, encoding="utf-8")
    return path


def image(number: int, mark: str = "", modality: str = "DX") -> bytes:
    """A radiograph as JPEG lossless, in which the stand-in for imagecodecs finds its mark."""
    dataset = dcmread(
        BytesIO(dx_file(radiograph(Kind.CLEAR, number, 200, 240), seed=number, transfer_syntax=JPEG_LOSSLESS))
    )
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.Modality = modality
    dataset.PixelData = encapsulate([frame + mark.encode()])
    written = BytesIO()
    dataset.save_as(written)
    return written.getvalue()
