"""Objects full of identifiers, damaged or not, through every door; and what curious people and programs ask."""

from __future__ import annotations

import base64
import zlib
from enum import StrEnum
from io import BytesIO
from random import Random
from typing import NamedTuple
from urllib.parse import quote

import cv2
import numpy as np
from pydicom import Dataset, dcmread

from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file
from edge.web.permissions import FORM_FIELD
from edge.web.sessions import form_token
from tests.identifiers import STEERING, Planted, plant
from tests.intake.objects import report
from tests.intake.peer import encoded
from tests.system.leaks import Leaks


class Door(StrEnum):
    """How it comes in."""

    C_STORE = "c-store"
    STOW = "stow"
    UPLOAD = "upload"
    FOLDER = "folder"


class Damage(StrEnum):
    """What is wrong with it: error paths speak, too."""

    NONE = "none"
    CONFUSED = "what the pixels are like is said by identifiers"
    REPORT = "no image"
    BREAKS_OFF = "it breaks off"
    FLIPPED = "bytes are changed"
    ZEROED = "a part is zero"
    NO_PREFIX = "no DICOM prefix"
    TEXT = "a letter, not an image"
    PNG = "a picture with text chunks"
    BROKEN_PNG = "the same, damaged"
    JPEG = "a photograph with Exif and comments"


class Case(NamedTuple):
    """One object and its way."""

    door: Door
    damage: Damage
    character_set: str
    seed: int


def send(box: Leaks, case: Case) -> None:
    """Make it, damage it, bring it in. What was planted is noted."""
    random = Random(case.seed)
    dataset = report() if case.damage is Damage.REPORT else dcmread(BytesIO(_image(case.seed)))
    spared: frozenset[str] = frozenset({"SOPClassUID"}) if case.damage is Damage.CONFUSED else STEERING
    planted = plant(dataset, random, character_set=case.character_set, spared=spared)
    box.planted.append(planted)
    data = _damaged(dataset, case.damage, random, planted)
    if case.door is Door.C_STORE and case.damage in (Damage.NONE, Damage.REPORT):
        box.by_c_store(data, planted)
    elif case.door is Door.C_STORE:
        at = data.find(b"\x08\0\x05\0") if data[128:132] == b"DICM" else 0
        box.by_wire(data[max(0, at) :], planted, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
    elif case.door is Door.STOW:
        box.by_stow(data, planted)
    elif case.door is Door.UPLOAD:
        box.by_upload(data, planted)
    else:
        box.by_folder(data, planted)


def ask_for(box: Leaks, planted: Planted) -> None:
    """Names in addresses, queries, headers and forms, and in fields that they do not belong into."""
    name = quote(planted.name)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in (f"/?{name}", f"/{name}", f"/results/{name}", f"/results/x?{name}={name}", f"/sign-in?next=/{name}"):
        box.ask("GET", path)
        box.ask("GET", path, headers=box.signed_in())
        box.ask("DELETE", path)
    for path in (f"results?limit={name}", f"results?cursor={name}", f"results/{name}/image", f"studies/{name}", name):
        box.ask("GET", f"/api/v1/{path}", headers=box.signed_in() | {"User-Agent": planted.word})
        box.ask("POST", f"/api/v1/{path}", b"{}", box.signed_in() | {"Content-Type": f"application/{planted.word}"})
    for fields in (f"name={name}&password={name}", f"name=technician1&password={name}", f"code={name}&name={name}"):
        for path in ("/sign-in", "/first-account"):
            secret = "secret"
            token = f"{FORM_FIELD}={form_token(secret)}"
            box.ask("POST", path, f"{fields}&{token}".encode(), form | {"Cookie": f"scanside_form={secret}"})
    basic = box.signed_in() | {"Authorization": f"Basic {planted.word}"}
    box.ask("POST", "/api/v1/studies", b"", basic)
    for _ in range(7):  # up to the lock
        box.ask("POST", "/api/v1/studies", b"", {"Authorization": _basic(planted.name, planted.word)})
    box.ask("GET", "/", headers={"Cookie": f"scanside_session={planted.word}; {planted.word}=1"})
    for request in (
        f"GET /{planted.word} HTTP/9.9\r\n\r\n",
        f"{planted.word} / HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\n{planted.word}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {planted.word}\r\nContent-Length: {planted.word}\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{planted.word}\r\n",
        planted.word * 1000,
    ):
        box.ask_by_hand(request.encode())


def _image(seed: int) -> bytes:
    return dx_file(radiograph(Kind.CLEAR, seed % 3, 320, 400), seed=seed)


def _damaged(dataset: Dataset, damage: Damage, random: Random, planted: Planted) -> bytes:
    if damage is Damage.NO_PREFIX:
        return encoded(dataset)
    if damage is Damage.TEXT:
        return f"Dear colleague, {planted.name} was born on a Monday.\n".encode() * 20
    if damage in (Damage.PNG, Damage.BROKEN_PNG, Damage.JPEG):
        return _picture(damage, planted, random)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    data = bytearray(buffer.getvalue())
    if damage is Damage.BREAKS_OFF:
        del data[random.randrange(200, len(data)) :]
    elif damage is Damage.FLIPPED:
        for _ in range(200):
            data[random.randrange(132, len(data))] ^= 1 << random.randrange(8)
    elif damage is Damage.ZEROED:
        at = random.randrange(132, len(data))
        data[at : at + 4096] = bytes(len(data[at : at + 4096]))
    return bytes(data)


def _picture(damage: Damage, planted: Planted, random: Random) -> bytes:
    """With the name wherever such a file has room for text."""
    grey = (radiograph(Kind.CLEAR, 0, 320, 400) * 255).astype(np.uint8)
    name = planted.name.encode()
    if damage is Damage.JPEG:
        data = cv2.imencode(".jpg", grey)[1].tobytes()
        exif = (
            b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0"
            + len(name).to_bytes(4, "little")
            + b"\x1a\0\0\0\0\0\0\0"
            + name
        )
        segments = [(0xE1, exif), (0xFE, name), (0xED, b"Photoshop 3.0\0" + name), (0xEF, name)]
        extra = b"".join(bytes((0xFF, mark)) + (len(body) + 2).to_bytes(2, "big") + body for mark, body in segments)
        return data[:2] + extra + data[2:]
    data = cv2.imencode(".png", grey)[1].tobytes()
    texts = [(b"tEXt", planted.word.encode() + b"\0" + name), (b"iTXt", b"Author\0\0\0\0\0" + name), (b"oDDx", name)]
    texts += [(b"tEXt", name * 20), (b"iCCP", planted.word.encode() + b"\0\0" + name), (b"sPLT", name), (b"eXIf", name)]
    extra = b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in texts
    )
    whole = data[:33] + extra + data[33:]
    if damage is Damage.BROKEN_PNG:
        broken = bytearray(whole)
        broken[random.randrange(40, len(broken) - 20)] ^= 0x55
        return bytes(broken)
    return whole


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
