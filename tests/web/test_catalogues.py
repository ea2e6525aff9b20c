"""The catalogues: complete, true to the messages of the code, and within the rule of words."""

from __future__ import annotations

import ast
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from babel.messages.catalog import Message

import edge.web
from edge.web.languages import LANGUAGES
from tests.conftest import ROOT
from tests.web import catalogues

ROOM = Path(edge.web.__file__).parent
TEMPLATES = sorted((ROOM / "templates").glob("*.html"))
SCRIPTS = sorted((ROOM / "static").glob("*.js"))
OTHERS = tuple(LANGUAGES)[1:]

FORBIDDEN = {
    "en": r"\bnormal(ly|ity)?\b|healthy|\bfine\b|all clear|no disease|unremarkable",
    "fr": r"\bnorma(l|le|ux|les)\b|\bsaine?s?\b|en bonne santé|rien à signaler|indemne|sans maladie",
    "es": r"\bnormal(es|idad)?\b|\bsan[oa]s?\b|saludable|sin enfermedad|todo bien",
    "pt": r"\bnorma(l|is|lidade)\b|saudáve|\bsadi[oa]|sem doença|tudo bem",
    "sw": r"kawaida|mzima|\bafya\b|bila ugonjwa|hana ugonjwa|salama",
    "hi": r"सामान्य|स्वस्थ|नॉर्मल|नार्मल|बीमारी नहीं|रोग नहीं",
    "ar": r"طبيعي|سليم|معافى|خالية? من|لا مرض",
}
"""What no screen may say of a patient or an image (DESIGN rule 4), in words that a translator might take for it."""

DIAGNOSIS = {
    "en": "diagnos",
    "fr": "diagnosti",
    "es": "diagn[oó]sti",
    "pt": "diagn[oó]sti",
    "sw": "utambuzi",
    "hi": "निदान",
    "ar": "تشخيص",
}
"""Stands in one message alone: that this is none."""

NOT_A_DIAGNOSIS = "Research use; not a diagnosis."
TICKS = "✓✔✅☑👍🟢"
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def forms(message: Message) -> tuple[str, ...]:
    """A message's translation in each of its plural forms."""
    return tuple(message.string) if isinstance(message.string, list | tuple) else (str(message.string),)


def source_of(message: Message) -> tuple[str, ...]:
    """What it says in English: in the singular and, where it counts, in the plural."""
    return tuple(message.id) if isinstance(message.id, list | tuple) else (message.id,)


@pytest.mark.parametrize("language", OTHERS)
def test_a_catalogue_has_every_message_and_no_other(language: str) -> None:
    kept = {message.id: message for message in catalogues.messages(catalogues.read(language))}
    needed = {message.id for message in catalogues.messages(catalogues.template())}
    assert needed - set(kept) == set(), "run `python -m tests.web.catalogues` and translate"
    assert set(kept) - needed == set(), "no longer used: run `python -m tests.web.catalogues`"
    assert [key for key, message in kept.items() if not catalogues.translated(message)] == []
    assert [key for key, message in kept.items() if message.fuzzy] == []


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_keeps_the_places_of_its_values(language: str) -> None:
    for message in catalogues.messages(catalogues.read(language)):
        source = source_of(message)
        wanted = {name for text in source for name in _PLACEHOLDER.findall(text)}
        found = [set(_PLACEHOLDER.findall(text)) for text in forms(message)]
        assert all(names <= wanted for names in found), message.id
        assert found[-1] == wanted, message.id  # the form for one or two may say the number in words
        for text in forms(message):
            assert "%" not in _PLACEHOLDER.sub("", text), message.id  # what else begins with it breaks the page
            assert "<" not in text, message.id  # translations are no markup


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_language_calls_anybody_healthy(language: str) -> None:
    for message in catalogues.messages(catalogues.template() if language == "en" else catalogues.read(language)):
        source = source_of(message)
        for text in source if language == "en" else forms(message):
            assert not re.search(FORBIDDEN[language], text, re.IGNORECASE), text
            assert not set(TICKS) & set(text), text
            allowed = NOT_A_DIAGNOSIS in source
            assert bool(re.search(DIAGNOSIS[language], text, re.IGNORECASE)) == allowed, text


def test_python_hides_no_message_from_the_catalogues() -> None:
    """Every literal that is translated is found; within an f-string it would not be."""
    known = {key for message in catalogues.messages(catalogues.template()) for key in source_of(message)}
    for file in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("gettext", "ngettext", "mark"):
                texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
                assert set(texts) <= known, (file.name, texts)


class Bare(HTMLParser):
    """Collects what a template says outside of `{{ }}`: text, and attributes that people read or hear."""

    SPOKEN = ("alt", "title", "aria-label", "placeholder", "content")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag == "code"
        names = dict(attrs)
        for name, value in attrs:
            if name in self.SPOKEN and value and "name" not in names:
                self.found.append(value)

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag == "code"

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found.append(data)


UNITS_AND_NAMES = ("Scanside", "ms", "GB", "C", "XXXX")  # the last is the shape of a first-boot code, in its field


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_say_nothing_outside_of_the_catalogues(template: Path) -> None:
    source = template.read_text(encoding="utf-8")
    source = re.sub(r"\{% block body %\}.*?\{% endblock %\}", "", source)  # stands within a tag
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", source, flags=re.DOTALL)
    parser = Bare()
    parser.feed(text)
    for found in parser.found:
        left = [word for word in re.findall(r"[^\W\d_]+", found) if word not in UNITS_AND_NAMES]
        assert left == [], f"{template.name}: {found.strip()!r} is not in the catalogues"


def test_notices_have_no_words_of_their_own() -> None:
    tree = ast.parse((ROOT / "edge" / "web" / "notices.py").read_text(encoding="utf-8"))
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Notice"]
    assert made
    for notice in made:
        own = [each for each in notice.args if isinstance(each, ast.Constant | ast.JoinedStr)]
        assert own == [], f"line {notice.lineno} is not in the catalogues"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_have_no_words_of_their_own(script: Path) -> None:
    """No string with a space in it, nor anything assigned to what people read, but what the page has handed over."""
    source = re.sub(r"//.*", "", script.read_text(encoding="utf-8"))
    said = re.findall(
        r"(?:textContent|title|ariaLabel|placeholder|alt)\s*=\s*[\"'`]([^\"'`$]*[A-Za-z]{2}[^\"'`]*)", source
    )
    assert said == []
    for text in re.findall(r"\"([^\"\n]*)\"|'([^'\n]*)'", source):
        assert not re.search(r"[A-Za-z]{3,} [a-z]{2,} [a-z]{2,}", "".join(text)), text
