"""Identifiers that nobody can mistake: planted into what a box is given, searched for in what it leaves behind.

`plant(dataset, random)` fills every attribute that can hold text; `find(planted, place)` looks for any of it, in any of
the forms in which software writes text down. `Planted.word` is for what is no data set: file names, AE titles, headers.
"""

from __future__ import annotations

import base64
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset, config
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom.charset import convert_encodings, encode_string
from pydicom.tag import Tag

CHARACTER_SETS: dict[str, tuple[str, str]] = {
    "ISO_IR 6": ("", ""),
    "ISO_IR 100": ("ISO_IR 100", "ÄÖÜßéèñçøåþæ"),
    "ISO_IR 101": ("ISO_IR 101", "ŁłŐőŹźČčŘřŮů"),
    "ISO_IR 109": ("ISO_IR 109", "ĦħĜĝĠġĈĉŬŭŜŝ"),
    "ISO_IR 110": ("ISO_IR 110", "ĀāĒēĢģĶķŅņŪū"),
    "ISO_IR 144": ("ISO_IR 144", "ЖЩЮЯБДЛФЦЧШЭ"),
    "ISO_IR 127": ("ISO_IR 127", "ابتثجحخدذرزس"),
    "ISO_IR 126": ("ISO_IR 126", "ΑΒΓΔΘΛΞΠΣΦΨΩ"),
    "ISO_IR 138": ("ISO_IR 138", "אבגדהוזחטיכל"),
    "ISO_IR 148": ("ISO_IR 148", "ĞğİıŞşÇçÖöÜü"),
    "ISO_IR 166": ("ISO_IR 166", "กขคงจฉชซญดตถ"),
    "ISO_IR 13": ("ISO_IR 13", "ﾔﾏﾀﾞﾛｳｱｲｴｵｶｷ"),
    "ISO_IR 192": ("ISO_IR 192", "Яñ漢ﾀ김אΩกŁğعÖ"),
    "GB18030": ("GB18030", "王小东李明张伟刘芳陈杰"),
    "GBK": ("GBK", "王小东李明张伟刘芳陈杰"),
    "ISO 2022 IR 13": ("ISO 2022 IR 13", "ﾔﾏﾀﾞﾛｳｱｲｴｵｶｷ"),
    "ISO 2022 IR 87": ("\\ISO 2022 IR 87", "山田太郎佐藤花子鈴木一"),
    "ISO 2022 IR 149": ("\\ISO 2022 IR 149", "김희중홍길동이박최정강"),
    "ISO 2022 IR 58": ("\\ISO 2022 IR 58", "王小东李明张伟刘芳陈杰"),
}
"""Specific Character Set (0008,0005) as it is written (PS3.3 C.12.1.1.2), and letters beyond ASCII that it has."""

STEERING = frozenset(
    {
        "SpecificCharacterSet",
        "SOPClassUID",
        "Modality",
        "PatientAge",
        "BodyPartExamined",
        "ViewPosition",
        "PresentationIntentType",
        "PatientOrientation",
        "ImageLaterality",
        "Laterality",
        "QualityControlImage",
        "QualityControlSubject",
        "AnatomicRegionSequence",
        "ViewCodeSequence",
        "NumberOfFrames",
        "PresentationLUTShape",
        "ExtendedOffsetTable",
    }
)
"""Attributes by which software decides what to do with an image. Group 0028, which says how pixels lie, counts too."""

_CONSONANTS = "BCDFGHJKLMNPQRSTVWXZ"
_TEXT = frozenset({"LO", "SH", "LT", "ST", "UT", "UC", "PN"})
_PRIVATE_GROUPS = (0x0009, 0x0019, 0x0029, 0x7FE1)
_SKIPPED_GROUPS = frozenset({0x0000, 0x0002, 0x0004, 0x7FE0, 0xFFFC, 0xFFFE})
_MOST_READ = 1 << 27
_SHORTEST = 6


class Mark(NamedTuple):
    """What many planted values share. `forms` are all the bytes as which it may be written."""

    text: str
    forms: frozenset[bytes]


@dataclass(frozen=True)
class Planted:
    """What was planted.

    Attributes:
        word: ASCII letters that nothing else contains: 10 of them, so that they fit into an AE title.
        name: A person's name with letters of the character set, and the word.
        marks: The word and whatever else the planted values begin with.
        attributes: How many attributes hold a planted value.
    """

    word: str
    name: str
    marks: tuple[Mark, ...]
    attributes: int


class Found(NamedTuple):
    """A planted value that was found: where, as which bytes, and what stands around it."""

    where: str
    mark: str
    form: bytes
    context: bytes


def plant(
    dataset: Dataset, random: Random, *, character_set: str = "ISO_IR 192", spared: Iterable[str] = STEERING
) -> Planted:
    """Fill every attribute of the data dictionary that can hold text, private blocks, sequences and the file meta.

    Args:
        dataset: Changed in place. Its pixels and the attributes that describe them stay.
        random: Where the identifiers come from.
        character_set: A key of `CHARACTER_SETS`.
        spared: Keywords of attributes that are left alone; with `STEERING`, group 0028 as well.

    Returns:
        What `find` is to look for. Not planted: Age Strings and binary numbers, which no search can recognise.
    """
    term, letters = CHARACTER_SETS[character_set]
    spared = frozenset(spared)
    seed = _Seed.drawn(random, letters)
    count = 0
    if letters:
        dataset.SpecificCharacterSet = term.split("\\") if "\\" in term else term
    for tag, vr, keyword in _attributes():
        if keyword in spared or tag == Tag("SpecificCharacterSet") or (spared and tag >> 16 == 0x0028):
            continue
        value = seed.value(vr, count)
        if value is not None:
            _put(dataset, tag, vr, value)
            count += 1
    count += _plant_private(dataset, seed, count)
    count += _plant_file_meta(dataset, seed)
    encodings = convert_encodings(term.split("\\")) if letters else ["iso8859"]
    return Planted(seed.word, seed.name, tuple(seed.marks(encodings)), count)


def find(planted: Planted | Sequence[Planted], place: Path | bytes, *, leaving_out: Iterable[str] = ()) -> list[Found]:
    """All places in which anything planted is readable.

    Args:
        planted: What to look for.
        place: Bytes, a file, or a folder with all below it, names and links included. Folders that are links are not
            followed.
        leaving_out: Paths relative to the folder that are not looked at, with all below them.
    """
    forms = {form: mark.text for one in _several(planted) for mark in one.marks for form in mark.forms}
    beginnings: dict[bytes, list[bytes]] = {}
    for form in forms:
        beginnings.setdefault(form[:_SHORTEST], []).append(form)
    wanted = np.array(sorted(int.from_bytes(beginning, "little") for beginning in beginnings), dtype=np.uint64)
    return [
        Found(where, forms[form], form, data[max(0, at - 60) : at + 80])
        for where, data in _contents(place, tuple(leaving_out))
        for at in _places(data, wanted)
        for form in beginnings[data[at : at + _SHORTEST]]
        if data.startswith(form, at)
    ]


def word(random: Random) -> Planted:
    """An identifier for what is no data set."""
    seed = _Seed.drawn(random, "")
    return Planted(seed.word, seed.name, tuple(seed.marks(["iso8859"])), 0)


def forms_of(text: str, encodings: Iterable[str] = ()) -> frozenset[bytes]:
    """Every way in which programs write a text down: encodings, escapes, hex, base64, and the wrong encoding read back.

    Args:
        text: At least 6 characters.
        encodings: Python's names of character sets beside Unicode's.
    """
    spellings = {text, text.lower(), text.upper(), text.title()}
    raw: set[bytes] = set()
    for spelling in spellings:
        raw |= {spelling.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")}
        for encoding in encodings:
            raw |= _encoded(spelling, encoding)
    mistaken = {data.decode("latin-1").encode("utf-8") for data in raw}
    forms = raw | mistaken
    for data in raw:
        forms |= {data.hex().encode(), data.hex().upper().encode()} | _base64(data)
        forms |= {quote(data).encode(), re.sub(r"%..", lambda found: found[0].lower(), quote(data)).encode()}
        forms |= {repr(data)[2:-1].encode(), "".join(f"\\{byte:03o}" for byte in data).encode()}
    for spelling in spellings:
        forms |= {json.dumps(spelling)[1:-1].encode(), ascii(spelling)[1:-1].encode()}
        forms |= {"".join(f"\\u{ord(letter):04{digits}}" for letter in spelling).encode() for digits in "xX"}
        forms |= {"".join(f"&#x{ord(letter):{digits}};" for letter in spelling).encode() for digits in "xX"}
        forms.add(spelling.encode("ascii", "xmlcharrefreplace"))
    return frozenset(form for form in forms if len(form) >= _SHORTEST)


@dataclass(frozen=True)
class _Seed:
    """Random values that all begin alike."""

    word: str
    native: str
    number: str
    date: str
    time: str

    @classmethod
    def drawn(cls, random: Random, letters: str) -> _Seed:
        return cls(
            word="".join(random.choices(_CONSONANTS, k=10)),
            native="".join(random.sample(letters, min(8, len(letters)))),
            number=f"1{random.randrange(10**8, 10**9)}",
            date=f"19{random.randrange(10, 70)}{random.randrange(1, 13):02d}{random.randrange(1, 29):02d}",
            time=f"{random.randrange(24):02d}{random.randrange(60):02d}12.{random.randrange(10**5, 10**6)}",
        )

    @property
    def name(self) -> str:
        return f"{self.native}^{self.word}" if self.native else f"{self.word}^J"

    def value(self, vr: str, number: int) -> object:
        """A value for the VR; None where it cannot hold what is unmistakable."""
        if vr in _TEXT:
            return self.native if self.native and number % 2 else f"{self.word}{number}"
        simple = {
            "AE": self.word,
            "CS": f"{self.word}{number}",
            "UR": f"http://{self.word}.example/{number}",
            "UI": f"2.25.{self.number}{number}",
            "IS": self.number,
            "DS": f"{self.number}.5",
            "DA": self.date,
            "TM": self.time,
            "DT": f"{self.date}{self.time}",
            "OB": f"{self.word}{number}".ljust(16).encode(),
            "UN": f"{self.word}{number}".ljust(16).encode(),
        }
        if vr == "SQ":
            return [self._item(number)]
        return simple.get(vr)

    def marks(self, encodings: Sequence[str]) -> Iterator[Mark]:
        yield Mark(self.word, forms_of(self.word))
        yield Mark(self.number, forms_of(self.number))
        written = {self.date, f"{self.date[:4]}-{self.date[4:6]}-{self.date[6:]}"}
        yield Mark(self.date, frozenset(form for text in written for form in forms_of(text)))
        yield Mark(self.time, forms_of(self.time))
        if self.native:
            yield Mark(self.native, forms_of(self.native, encodings))

    def _item(self, number: int) -> Dataset:
        item = Dataset()
        for keyword, vr in (("PersonName", "PN"), ("CodeMeaning", "LO"), ("CodeValue", "SH"), ("UID", "UI")):
            _put(item, Tag(keyword), vr, self.value(vr, number))
        inner = Dataset()
        _put(inner, Tag("TextValue"), "UT", self.value("UT", number))
        _put(item, Tag("ContentSequence"), "SQ", [inner])
        return item


def _attributes() -> Iterator[tuple[int, str, str]]:
    repeated = ((int(mask.replace("x", "0"), 16), entry) for mask, entry in RepeatersDictionary.items())
    for tag, (vr, _, _, _, keyword) in sorted([*DicomDictionary.items(), *repeated]):
        if tag >> 16 not in _SKIPPED_GROUPS and keyword:
            yield tag, vr.split(" or ")[0], keyword


def _plant_private(dataset: Dataset, seed: _Seed, number: int) -> int:
    values = [("LO", 0x01), ("PN", 0x02), ("UI", 0x03), ("OB", 0x04), ("SQ", 0x05), ("UN", 0x06), ("UT", 0x07)]
    for group in _PRIVATE_GROUPS:
        _put(dataset, group << 16 | 0x10, "LO", f"{seed.word} OWNER")
        for vr, element in values:
            _put(dataset, group << 16 | 0x1000 | element, vr, seed.value(vr, number))
    return len(_PRIVATE_GROUPS) * (len(values) + 1)


def _plant_file_meta(dataset: Dataset, seed: _Seed) -> int:
    """PS3.10 table 7.1-1, and the preamble, which is anybody's."""
    dataset.preamble = f"{seed.word} {seed.number}".encode().ljust(128, b"\0")
    meta = dataset.file_meta
    for keyword in ("SourceApplicationEntityTitle", "SendingApplicationEntityTitle", "ReceivingApplicationEntityTitle"):
        _put(meta, Tag(keyword), "AE", seed.word)
    _put(meta, Tag("ImplementationVersionName"), "SH", seed.word)
    _put(meta, Tag("PrivateInformationCreatorUID"), "UI", f"2.25.{seed.number}")
    _put(meta, Tag("PrivateInformation"), "OB", seed.word.encode())
    if "SOPInstanceUID" in dataset:
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return 7


def _put(dataset: Dataset, tag: int, vr: str, value: object) -> None:
    dataset.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))


def _encoded(text: str, encoding: str) -> set[bytes]:
    """As a DICOM data set holds it: with the escapes of ISO 2022 and without."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters whose other case the character set lacks
        data = encode_string(text, [encoding])
    if b"?" in data:
        return set()
    return {data, re.sub(rb"\x1b[$()*-][()A-Z]?[A-Z]?", b"", data)} if b"\x1b" in data else {data}


def _base64(data: bytes) -> set[bytes]:
    """What stays the same of it wherever it stands in what is encoded: three alignments, two alphabets."""
    forms = set()
    for before in range(3):
        coded = base64.b64encode(bytes(before) + data)
        whole = coded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        forms |= {whole, whole.translate(bytes.maketrans(b"+/", b"-_"))}
    return forms


def _places(data: bytes, beginnings: NDArray[np.uint64]) -> list[int]:
    """Where any of many beginnings of `_SHORTEST` bytes stands: in one pass, however many they are."""
    if len(data) < _SHORTEST:
        return []
    likely = np.zeros(1 << 24, dtype=bool)  # by the first three bytes: few places are left to look at closely
    likely[(beginnings & np.uint64(0xFFFFFF)).astype(np.intp)] = True
    values = np.frombuffer(data, np.uint8)
    count = len(data) - _SHORTEST + 1
    first, second, third = (values[offset : offset + count].astype(np.uint32) for offset in range(3))
    places = np.flatnonzero(likely[first | second << 8 | third << 16])
    windows = np.zeros(len(places), dtype=np.uint64)
    for offset in range(_SHORTEST):
        windows |= values[places + offset].astype(np.uint64) << np.uint64(8 * offset)
    found: list[int] = places[np.isin(windows, beginnings)].tolist()
    return found


def _several(planted: Planted | Sequence[Planted]) -> Sequence[Planted]:
    return [planted] if isinstance(planted, Planted) else planted


def _contents(place: Path | bytes, leaving_out: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """What can be read at a place, and what it is called; sockets and pipes have a name only."""
    if isinstance(place, bytes):
        yield "bytes", place
        return
    if not place.is_dir():
        yield from _content(place)
        return
    for folder, below, names in os.walk(place):
        for name in [*names, *below]:
            path = Path(folder, name)
            if any(path.relative_to(place).is_relative_to(left_out) for left_out in leaving_out):
                below[:] = [other for other in below if other != name]
                continue
            yield f"the name {path}", os.fsencode(name)
            yield from _content(path)


def _content(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        if path.is_symlink():
            yield f"the link {path}", os.fsencode(path.readlink())
        elif path.is_file():
            with path.open("rb") as file:
                yield str(path), file.read(_MOST_READ)
    except FileNotFoundError:  # a running box replaces its files
        return
