"""The conformance statement says what the code does."""

from __future__ import annotations

import re

from edge.intake import statuses
from tests.intake.conformance import FILE, TABLES, with_tables


def test_its_tables_are_those_of_the_code() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run python -m tests.intake.conformance"
    assert set(re.findall(r"<!-- (\w+) -->", text)) - {"end"} == set(TABLES)


def test_it_names_every_status() -> None:
    text = FILE.read_text(encoding="utf-8")
    codes = [value for name, value in vars(statuses).items() if name.isupper()]
    assert codes
    assert [code for code in codes if f"`0x{code:04X}`" not in text] == []
