"""What a card or a report consists of, and its two forms: Markdown, and one HTML file that needs nothing else.

Whoever has something to tell gives a function that returns a `Section`.
"""

import html
from collections.abc import Iterable, Iterator, Sequence

import msgspec

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1f2933}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0;font-size:.9rem}"
    "td,th{border:1px solid #ccd;padding:.25rem .55rem;text-align:left;font-variant-numeric:tabular-nums}"
    "thead{background:#f1f3f6}svg,img{max-width:100%;height:auto}code{white-space:pre-wrap}"
)
# The browser itself refuses whatever would reach outside of the file.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Table(msgspec.Struct, frozen=True):
    """Rows of text below a heading row.

    Raises:
        ValueError: A row has another number of cells than the heading.
    """

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        odd = next((row for row in self.rows if len(row) != len(self.heading)), None)
        if odd is not None:
            raise ValueError(f"row {odd} has {len(odd)} cells; the heading has {len(self.heading)}: give as many")


class Section(msgspec.Struct, frozen=True):
    """A heading with paragraphs, a list of points, tables, plots and sections below it, in this order.

    Attributes:
        paragraphs: Plain text; what stands between two backticks is shown as code.
        points: As the paragraphs, one line each.
        plots: Pictures as ``<svg>`` without date or metadata, or, in local reports only, ``<img>`` of a PNG data URI.
            They are put into the page as they are, and only there.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[str, ...] = ()
    sections: tuple["Section", ...] = ()


def plots_of(sections: Iterable[Section]) -> Iterator[str]:
    """Every plot, those of the sections below included."""
    for section in sections:
        yield from section.plots
        yield from plots_of(section.sections)


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The document for people who read text; plots stay out, and the document says so."""
    lines = [f"# {title}", ""]
    if any(plots_of(sections)):
        lines += ["Plots of these results are in the HTML file of the same name.", ""]
    for section in sections:
        lines += _markdown_lines(section, 2)
    return "\n".join(lines)


def page(title: str, sections: Sequence[Section]) -> str:
    """The document as one HTML file with its plots inside and no reference to anything outside."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        parts += _html_parts(section, 2)
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _markdown_lines(section: Section, level: int) -> Iterator[str]:
    yield from (f"{'#' * level} {section.title}", "")
    for paragraph in section.paragraphs:
        yield from (paragraph, "")
    if section.points:
        yield from (*(f"- {point}" for point in section.points), "")
    for table in section.tables:
        rows = (table.heading, ("---",) * len(table.heading), *table.rows)
        yield from (*(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows), "")
    for below in section.sections:
        yield from _markdown_lines(below, level + 1)


def _html_parts(section: Section, level: int) -> Iterator[str]:
    yield f"<h{level}>{html.escape(section.title)}</h{level}>"
    for paragraph in section.paragraphs:
        yield f"<p>{_text(paragraph)}</p>"
    if section.points:
        yield f"<ul>{''.join(f'<li>{_text(point)}</li>' for point in section.points)}</ul>"
    yield from map(_html_table, section.tables)
    yield from section.plots
    for below in section.sections:
        yield from _html_parts(below, level + 1)


def _text(text: str) -> str:
    """Escaped text; every second stretch between backticks is code. A lone backtick stays what it is."""
    parts = html.escape(text, quote=False).split("`")
    if len(parts) % 2 == 0:
        return "`".join(parts)
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.heading)
    rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
