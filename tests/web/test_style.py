"""What the page is made of: readable colours, nothing inline, nothing from outside, and little of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import edge.web
from tests.web import samples
from tests.web.conftest import Box

ROOM = Path(edge.web.__file__).parent
CSS = "".join((ROOM / "static" / name).read_text(encoding="utf-8") for name in ("page.css", "dark.css"))
FILES = sorted([*(ROOM / "templates").glob("*.html"), *(ROOM / "static").glob("*")])
MAX_FIRST_LOAD = 150_000


def palettes() -> dict[str, dict[str, str]]:
    """Light and dark, as the style sheet defines them."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.S)
    )
    return {"light": light, "dark": light | dark}


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two sRGB colours."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


TEXT = [
    *((ink, paper) for ink in ("ink", "soft") for paper in ("paper", "card", "sunk", "flag-bg", "ind-bg", "clear-bg")),
    *((ink, paper) for ink in ("flag", "ind", "clear", "none") for paper in ("card", "sunk")),
    ("flag", "flag-bg"),
    ("flag", "paper"),
    ("on-alarm", "alarm"),
    ("on-strip", "strip"),
    ("card", "ink"),
]
PARTS = [("edge", "card"), ("edge", "paper"), ("focus", "card"), ("focus", "paper"), ("flag", "none-bg")]


@pytest.mark.parametrize("light", ["light", "dark"])
def test_contrast_is_wcag_aa(light: str) -> None:
    palette = palettes()[light]
    for ink, paper in TEXT:
        assert contrast(palette[ink], palette[paper]) >= 4.5, (light, ink, paper)
    for part, ground in PARTS:
        assert contrast(palette[part], palette[ground]) >= 3, (light, part, ground)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_comes_from_outside_and_nothing_is_inline(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(
        r"(https?:)?//[\w-]+\.\w|@import|url\((?!#)", re.sub(r"^\s*//.*|<!doctype html>", "", text, flags=re.M)
    )
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|\|\s*safe\b", text)
        assert not re.search(r"<script(?![^>]* src=)", text)


def test_it_can_be_installed_as_a_web_app(box: Box) -> None:
    page = box.app.test_client().get("/sign-in")
    assert '<link rel="manifest" href="/static/manifest.json">' in page.text
    assert "manifest-src 'self'" in page.headers["Content-Security-Policy"]
    manifest = json.loads((ROOM / "static" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["display"], manifest["start_url"]) == ("standalone", "/")
    assert {icon["purpose"] for icon in manifest["icons"]} == {"any", "maskable"}
    assert all((ROOM / "static" / icon["src"]).is_file() for icon in manifest["icons"])


def test_the_first_load_is_light(box: Box) -> None:
    for _ in range(50):
        samples.commit(box.store, samples.flagged(quality=(samples.CUT_OFF,)), pictures=False)
    page = len(box.signed_in().get("/").data)
    assert page + sum(path.stat().st_size for path in (ROOM / "static").iterdir()) < MAX_FIRST_LOAD
