"""The page's messages as they stand in the code, and their catalogues brought up to them.

    python -m tests.web.catalogues            # adds what is new to each catalogue, removes what is no longer used

What is new is empty then: `test_catalogues.py` names it until somebody has translated it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from edge import reasons
from edge.device.health import State
from edge.records import REASON_WORDS, STATUS_WORDS
from edge.web.accounts_file import Role
from edge.web.languages import LANGUAGES, LOCALES
from edge.web.remedies import REMEDIES
from edge.web.retelling import message_of
from tests.conftest import ROOT

MACHINE_MADE = "machine-made, to be reviewed"
"""The comment of a translation that no speaker has looked at: whoever has, takes it off."""

_HEADER = """\
# Scanside's status page in PROJECT.
# Rule for every translation: never "normal", never a diagnosis, never an all-clear (tests/web/test_catalogues.py).
# A message with the comment "machine-made, to be reviewed" was not yet read by a speaker."""
_BEGUN = datetime(2026, 11, 25, tzinfo=UTC)
_KEYWORDS: dict[str, Any] = {"_": None, "gettext": None, "ngettext": (1, 2), "mark": None}


def template() -> Catalog:
    """Every message of the code, with the files that say it."""
    catalog = Catalog(project="Scanside", header_comment=_HEADER)
    for text, file in [*_written(), *_taken_from_others()]:
        catalog.add(text, locations=[(file, 0)])
    return catalog


def messages(catalog: Catalog) -> Iterator[Message]:
    """The messages of a catalogue without its header."""
    return (message for message in catalog if message.id)


def translated(message: Message) -> bool:
    """Whether a message has a translation, in each of its plural forms."""
    return all(message.string) if isinstance(message.string, tuple) else bool(message.string)


def path_of(language: str) -> Path:
    """Where a language's catalogue lies."""
    return LOCALES / language / "LC_MESSAGES" / "messages.po"


def read(language: str) -> Catalog:
    """A language's catalogue; an empty one while there is none."""
    path = path_of(language)
    if not path.exists():
        return Catalog(locale=language, project="Scanside", fuzzy=False)
    with path.open("rb") as file:
        return read_po(file, locale=language)


def update(language: str) -> Catalog:
    """Bring a language's catalogue up to the code, and write it."""
    catalog, current = read(language), template()
    catalog.update(current, no_fuzzy_matching=True)
    catalog.obsolete.clear()
    catalog.fuzzy = False
    catalog.header_comment = _HEADER.replace("PROJECT", LANGUAGES[language])
    write(language, catalog)
    return catalog


def write(language: str, catalog: Catalog) -> None:
    """Write a language's catalogue, in an order and form that do not change by themselves."""
    catalog.creation_date = catalog.revision_date = _BEGUN
    path_of(language).parent.mkdir(parents=True, exist_ok=True)
    with path_of(language).open("wb") as file:
        write_po(file, catalog, sort_output=True, include_lineno=False, width=110)


def _written() -> Iterator[tuple[str | tuple[str, str], str]]:
    """What templates and Python files mark as messages, and the sentences of the quality checks."""
    sources: list[tuple[str, str, str, dict[str, Any]]] = [
        ("edge/web", "**.py", "python", _KEYWORDS),
        ("edge/web/templates", "**.html", "jinja2", _KEYWORDS),
        ("edge/imaging/quality", "**.py", "python", {"finding": (4,)}),
    ]
    for folder, pattern, method, keywords in sources:
        found = extract_from_dir(ROOT / folder, [(pattern, method)], {}, keywords)
        for file, _, text, _, _ in found:
            yield (text[0], text[1]) if isinstance(text, tuple) else text, f"{folder}/{file}"


def _taken_from_others() -> Iterator[tuple[str, str]]:
    """Fixed texts of other parts that the page shows in the reader's language."""
    for text in [*STATUS_WORDS.values(), *REASON_WORDS.values()]:
        yield text, "edge/records.py"
    for text in (*State, *Role):
        yield text.value, "edge/device/health.py" if isinstance(text, State) else "edge/web/accounts_file.py"
    for text in reasons.ALL:
        yield message_of(text), "edge/reasons.py"
    for event in REMEDIES:
        yield message_of(event.template), "edge/events.py"
    for bundle in sorted((ROOT / "models").glob("*/bundle/bundle.yaml")):
        sealed = yaml.load(bundle.read_bytes(), Loader=yaml.CSafeLoader)
        for text in [each["meaning"] for each in sealed["findings"]] + [sealed["not_looked_for"]]:
            if sealed["findings"]:
                yield text, str(bundle.relative_to(ROOT))


if __name__ == "__main__":
    for code in list(LANGUAGES)[1:]:
        missing = [message for message in messages(update(code)) if not translated(message)]
        print(f"{path_of(code).relative_to(ROOT)}: {len(missing)} messages without a translation")
