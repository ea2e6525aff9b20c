"""In which language a person reads the page: chosen by a cookie, else by the browser, else by the configuration.

The source language is English; each other one is a catalogue `locales/<language>/LC_MESSAGES/messages.po`, read as it
is when it is first asked for. Programs are always answered in English, and so is whoever asks outside of a request (the
command line, the watcher's thread). Figures are written in the digits 0 to 9 everywhere, as on the modality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

from babel import Locale
from babel.dates import format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from babel.support import NullTranslations, Translations
from flask import Flask, request
from flask_babel import Babel, Domain, get_locale
from flask_babel import gettext as _gettext
from flask_babel import ngettext as _ngettext

from edge.config_section import Language
from edge.web import preferences

LANGUAGES: dict[str, str] = {
    "en": "English",
    "fr": "Français",
    "es": "Español",
    "pt": "Português",
    "sw": "Kiswahili",
    "hi": "हिन्दी",
    "ar": "العربية",
}
"""Each language by its own name: whoever looks for theirs reads no other."""

LOCALES = Path(__file__).parent / "locales"
_SOURCE = "en"
_MARKS = {"ar": {",": "،", ";": "؛"}}
"""What other languages write for a comma and a semicolon (Unicode: U+060C, U+061B)."""


def gettext(text: str, **values: object) -> str:
    """A message in the reader's language; `%(name)s` in it becomes the value of that name."""
    return str(_gettext(text, **values)) if text else ""  # the empty message is a catalogue's own header


def ngettext(one: str, many: str, num: int, **values: object) -> str:
    """The same with `%(num)s` of something, in the plural form that the reader's language has for it."""
    return str(_ngettext(one, many, num, **values))


def mark(text: str) -> str:
    """Marks a message for the catalogues that is translated where it is shown: by `gettext` of a variable."""
    return text


def register(app: Flask, default: str, select: Callable[[], str | None] | None = None) -> None:
    """Choose the language for each request, and give templates `_`, `ngettext` and the picker's words.

    Args:
        app: The app.
        default: What is spoken where nothing is chosen.
        select: Chooses; by default as `chosen`.
    """
    Babel(app, default_locale=default, locale_selector=select or chosen).domain_instance = _Catalogues()
    app.context_processor(_for_every_template)


def chosen() -> str | None:
    """The language of this request's answer; None when neither cookie nor browser names one that there is."""
    if request.path.startswith("/api/"):
        return _SOURCE
    return preferences.chosen("language") or request.accept_languages.best_match(LANGUAGES)


def number(value: float, digits: int = 0) -> str:
    """A figure as the reader writes it, rounded to this many decimals."""
    pattern = "#,##0" + ("." + "0" * digits if digits else "")
    return format_decimal(value, pattern, locale=_locale())


def percent(share: float) -> str:
    """A share (0..1) in whole percent."""
    return format_percent(share, locale=_locale())


def listed(parts: Iterable[str], comma: str = ",") -> str:
    """One after the other, with a comma (or a semicolon, where the parts have commas) as the language writes it.

    Without a word before the last: not every part is a noun, and CLDR has such a list for some of the languages only.
    """
    return f"{_MARKS.get(_locale().language, {}).get(comma, comma)} ".join(parts)


def date_and_time(seconds: float) -> str:
    """A time on the box's clock with its date, to the minute."""
    moment = datetime.fromtimestamp(seconds)
    return f"{format_datetime(moment, 'd MMM y', locale=_locale())} {moment:%H:%M}"


def _locale() -> Locale:
    return get_locale() or Locale(_SOURCE)


@lru_cache(maxsize=len(LANGUAGES))
def catalogue(language: str) -> NullTranslations:
    """The messages of a language; none for the source."""
    if language == _SOURCE:
        return NullTranslations()
    compiled = BytesIO()
    with (LOCALES / language / "LC_MESSAGES" / "messages.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return Translations(compiled)


class _Catalogues(Domain):  # type: ignore[misc]
    """Reads catalogues as people write them; Flask-Babel's own domain wants them compiled."""

    def get_translations(self) -> NullTranslations:
        locale = get_locale()
        return catalogue(locale.language if locale else _SOURCE)


def _for_every_template() -> dict[str, Any]:
    locale = _locale()
    return {
        "comma": listed(("", "")),
        "language": locale.language,
        "direction": locale.text_direction,
        "languages": LANGUAGES,
    }


assert tuple(LANGUAGES) == get_args(Language), "every language of the configuration has a name"  # noqa: S101
