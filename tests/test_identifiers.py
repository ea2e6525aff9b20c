"""The search for planted identifiers finds them, however they are written: what it does not find is not there."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.identifiers import CHARACTER_SETS, find, forms_of, plant, word
from tests.intake.objects import dx, save

NAMES = ["QXJVKZWBTD", "ЖЩЮЯБД", "山田太郎佐藤", "ÄÖÜßéè"]
WRITTEN: dict[str, Callable[[str], bytes]] = {
    "UTF-8": str.encode,
    "UTF-16, little": lambda text: text.encode("utf-16-le"),
    "UTF-16, big, with a mark": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "lower case": lambda text: text.lower().encode(),
    "JSON": lambda text: json.dumps({"name": f"a {text} b"}).encode(),
    "JSON, capital digits": lambda text: "".join(f"\\u{ord(letter):04X}" for letter in text).encode(),
    "repr": lambda text: repr({"name": text}).encode(),
    "ascii": lambda text: ascii(text).encode(),
    "repr of bytes": lambda text: repr(text.encode()).encode(),
    "percent": lambda text: f"/?q={quote(text)}&".encode(),
    "percent, small digits": lambda text: quote(text).lower().encode(),
    "hex": lambda text: text.encode().hex().encode(),
    "hex, capital digits": lambda text: text.encode().hex().upper().encode(),
    "XML": lambda text: text.encode("ascii", "xmlcharrefreplace"),
    "read as Latin-1": lambda text: text.encode().decode("latin-1").encode(),
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("name", NAMES)
def test_forms(name: str, written: str) -> None:
    data = b"before " + WRITTEN[written](name) + b" after"
    assert any(form in data for form in forms_of(name))


@given(st.binary(max_size=7), st.sampled_from(NAMES), st.binary(max_size=7), st.booleans())
def test_base64_at_any_place(before: bytes, name: str, after: bytes, for_urls: bool) -> None:
    encode = base64.urlsafe_b64encode if for_urls else base64.b64encode
    data = encode(before + name.encode() + after)
    assert any(form in data for form in forms_of(name))


@pytest.mark.parametrize("character_set", CHARACTER_SETS)
def test_what_is_planted_is_found_in_the_file(character_set: str, tmp_path: Path) -> None:
    """All marks of it, as the character set has them."""
    dataset = dx()
    planted = plant(dataset, Random(1), character_set=character_set)
    path = save(dataset, tmp_path / "planted.dcm")
    assert {found.mark for found in find(planted, path)} == {mark.text for mark in planted.marks}
    assert planted.attributes > 3500


def test_folders_names_links_and_databases(tmp_path: Path) -> None:
    planted = word(Random(2))
    (tmp_path / f"{planted.word}.dcm").write_bytes(b"")
    (tmp_path / "link").symlink_to(f"/nowhere/{planted.word}")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    database = sqlite3.connect(below / "any.sqlite")
    with database:
        database.execute("CREATE TABLE any (name TEXT)")
        database.execute("INSERT INTO any VALUES (?)", (planted.name,))
    database.close()
    (below / "url").write_bytes(quote_from_bytes(planted.name.encode("utf-16-le")).encode())
    where = {found.where.rpartition("/")[2] for found in find(planted, tmp_path)}
    assert where == {f"{planted.word}.dcm", "link", "any.sqlite", "url"}
    left_out = find(planted, tmp_path, leaving_out=["a/b", "link"])
    assert {found.where.rpartition("/")[2] for found in left_out} == {f"{planted.word}.dcm"}


@given(st.binary(max_size=300))
def test_nothing_else_is_found(data: bytes) -> None:
    assert find(word(Random(3)), data) == []
