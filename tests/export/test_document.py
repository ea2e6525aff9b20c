from __future__ import annotations

from html.parser import HTMLParser

import pytest

from export.document import Section, Table, markdown, page


class _Page(HTMLParser):
    """What a browser would see: the text by element, and whatever is fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, str]] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.fetched += [f"{tag} {name}" for name, value in attrs if name in {"src", "href"} and value]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.seen.append((self.open[-1] if self.open else "", data))


SECTIONS = (
    Section(
        "Results <1>",
        ("AUROC & more", "Print it with `scanside-export inspect <bundle>`"),
        ("a point",),
        (Table(("Label", "n"), (("PNEUMONIA|VIRUS", "3"),)),),
        ("<svg><path d='M0 0'/></svg>",),
        (Section("Below", ("deeper",)),),
    ),
)


def test_the_page_shows_every_part_as_text() -> None:
    seen = _Page(page("Card", SECTIONS)).seen
    for part in (
        ("h1", "Card"),
        ("h2", "Results <1>"),
        ("p", "AUROC & more"),
        ("code", "scanside-export inspect <bundle>"),
        ("li", "a point"),
        ("h3", "Below"),
        ("th", "Label"),
        ("td", "PNEUMONIA|VIRUS"),
    ):
        assert part in seen


def test_the_page_fetches_nothing_and_forbids_it() -> None:
    text = page("Card", SECTIONS)
    assert _Page(text).fetched == []
    assert "default-src &#x27;none&#x27;" in text
    assert "<svg>" in text


def test_markdown_keeps_a_table_whole_and_says_where_the_plots_are() -> None:
    text = markdown("Card", SECTIONS)
    assert "| Label | n |\n| --- | --- |\n| PNEUMONIA&#124;VIRUS | 3 |" in text
    assert "<svg" not in text
    assert "### Below\n\ndeeper" in text
    assert "in the HTML file" in text
    assert "HTML" not in markdown("Card", (Section("Plain"),))


def test_a_lone_backtick_is_no_code() -> None:
    assert ("p", "one ` tick") in _Page(page("x", (Section("t", ("one ` tick",)),))).seen


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1 cells; the heading has 2"):
        Table(("a", "b"), (("1",),))
