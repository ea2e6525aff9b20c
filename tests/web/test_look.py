"""The page in real Chromium: the image under a person's hands, sound, polling, accessibility, weight and languages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from edge.web.accounts import Role
from edge.web.languages import LANGUAGES
from tests.web import samples
from tests.web.clinic import Clinic, live, width_of

pytestmark = pytest.mark.system

MAX_FIRST_LOAD = 150_000


def style_of(page: Page, selector: str, name: str) -> str:
    """A computed style."""
    return str(page.locator(selector).evaluate(f"element => getComputedStyle(element).{name}"))


def test_the_image_is_zoomed_moved_and_windowed_and_only_on_the_display(clinic: Clinic) -> None:
    samples.commit(clinic.store, samples.flagged())
    page = clinic.sign_in()
    page.wait_for_function(width_of(".preview"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    reading = page.locator("#reading")
    page.get_by_role("button", name="Zoom in").click()
    expect(reading).to_have_text("zoom 130 %")
    page.locator("#viewer").hover()
    page.mouse.wheel(0, -400)
    expect(reading).to_have_text(re.compile(r"zoom 2\d\d %"))
    before = style_of(page, ".stack", "transform")
    drag(page, 60, 30)
    assert style_of(page, ".stack", "transform") != before
    overlay, preview = page.locator(".overlay").bounding_box(), page.locator(".preview").bounding_box()
    assert overlay == pytest.approx(preview, abs=0.5)  # the explanation stays where it belongs
    page.get_by_role("button", name="Window: drag").click()
    drag(page, 80, -40)
    expect(reading).to_have_text(re.compile(r"contrast 1\d\d %, brightness \+\d+ %"))
    assert style_of(page, ".preview", "filter") == 'url("#window")'
    assert float(page.locator("feFuncG").get_attribute("slope") or 0) > 1
    page.locator("#viewer").focus()
    for key in ("w", "0"):
        page.keyboard.press(key)
    expect(reading).to_have_text("zoom 100 %")
    assert (style_of(page, ".stack", "transform"), style_of(page, ".preview", "filter")) == ("none", "none")
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    assert style_of(page, ".stack", "transform").startswith("matrix(1.3, 0, 0, 1.3, -20")
    expect(page.get_by_text("Zoom and window change the display only")).to_be_visible()
    assert [url for url in asked if "/image" in url or "/overlay" in url] == []


def test_a_study_is_printed_with_all_that_is_said_about_it(clinic: Clinic) -> None:
    stored = samples.commit(clinic.store, samples.flagged())
    page = clinic.sign_in(color_scheme="dark")
    page.goto(f"{clinic.base}/results/{stored.id}")
    expect(page.get_by_role("button", name="Print this summary")).to_be_visible()
    page.emulate_media(media="print")
    for gone in (".list", ".alarms", "nav", ".tools", ".lenses", ".answer form", "footer"):
        expect(page.locator(f"{gone} >> nth=0")).to_be_hidden()
    for said in ("Printed by technician", "Not acknowledged", "Research use; not a diagnosis.", "What was looked for"):
        expect(page.locator("main, .standing").get_by_text(said).last).to_be_visible()
    expect(page.locator(".preview")).to_be_visible()
    assert style_of(page, ".who", "color") == "rgb(82, 96, 109)"  # dark on white, although the screen was dark


def drag(page: Page, right: int, down: int) -> None:
    """Drag on the image."""
    box = page.locator("#viewer").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y + down, steps=3)
    page.mouse.up()


COUNT_TONES = """
window.tones = 0;
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (...when) { window.tones += 1; return start.apply(this, when); };
"""


def test_an_urgent_flag_sounds_only_where_it_is_wanted(clinic: Clinic) -> None:
    page = clinic.sign_in()
    page.add_init_script(COUNT_TONES)
    page.reload()
    live(page)
    samples.commit(clinic.store, samples.flagged())
    expect(page.locator(".alarm")).to_be_visible()
    assert page.evaluate("window.tones") == 0  # off until switched on
    page.locator("header summary").click()
    page.get_by_label("Sound when an urgent flag waits").check()
    page.wait_for_function("() => window.tones === 3")
    samples.commit(clinic.store, samples.flagged())
    page.wait_for_function("() => window.tones === 6")
    samples.commit(clinic.store, samples.clear())
    expect(page.locator("#rows .row")).to_have_count(3)
    assert page.evaluate("window.tones") == 6  # nothing urgent came
    page.reload()  # browsers are silent until the page is touched: it says so, and sounds then
    expect(page.locator(".sound label")).to_have_attribute("data-waits", re.compile("Touch the page"))
    page.locator("h1").click()
    page.wait_for_function("() => window.tones >= 3")


def without_streams(page: Page) -> None:
    """Something between box and browser lets no event stream through."""
    page.context.route("**/api/v1/events*", lambda route: route.fulfill(status=502))


def no_event_source(page: Page) -> None:
    """The browser has none."""
    page.context.add_init_script("delete window.EventSource")


@pytest.mark.parametrize("obstacle", [without_streams, no_event_source])
def test_without_a_stream_the_page_asks_by_itself(clinic: Clinic, obstacle: Any) -> None:
    seen = samples.commit(clinic.store, samples.clear())
    page = clinic.sign_in()
    obstacle(page)
    page.reload()
    expect(page.locator("#live")).to_have_text("live, looks every 2 s")
    unchanged = page.wait_for_event("response", lambda response: response.status == 304)
    assert unchanged.headers["etag"]
    flagged = samples.commit(clinic.store, samples.flagged())
    expect(page.locator(".alarm")).to_be_visible()
    expect(page.locator("#rows .row").first).to_have_attribute("data-id", flagged.id)
    expect(page.locator("#study")).to_have_attribute("data-id", seen.id)
    if obstacle is no_event_source:  # from here on both ask alike
        clinic.service.stop()
        expect(page.locator("#lost")).to_contain_text("Display not live")


LIGHTS: list[dict[str, Any]] = [
    {"color_scheme": "light", "locale": "en"},
    {"color_scheme": "dark", "locale": "ar"},
]
"""Colours do not depend on the language, nor what is named and in which order on the light."""


def test_no_serious_accessibility_findings(clinic: Clinic) -> None:
    samples.commit(clinic.store, samples.not_analysed())
    samples.commit(clinic.store, samples.clear())
    samples.commit(clinic.store, samples.indeterminate(quality=(samples.CUT_OFF,)))
    stored = samples.commit(clinic.store, samples.flagged())
    page = clinic.sign_in()
    state = page.context.storage_state()
    for options in LIGHTS:
        anybody = clinic.look(**options)
        anybody.goto(clinic.base + "/sign-in")
        assert serious(anybody) == [], (options, "/sign-in")
        anybody = clinic.look(**options, storage_state=state)
        for path in ("/", f"/results/{stored.id}", "/device"):
            anybody.goto(clinic.base + path)
            assert serious(anybody) == [], (options, path)


def serious(page: Page) -> list[str]:
    """What axe-core finds serious or worse on the page as it stands."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:120]}" for each in found if each["impact"] in ("serious", "critical")
    ]


def test_the_first_load_is_light_and_from_this_box_alone(clinic: Clinic) -> None:
    for _ in range(50):
        samples.commit(clinic.store, samples.flagged(quality=(samples.CUT_OFF,)), pictures=False)
    page = clinic.sign_in()
    page.goto(clinic.base + "/?language=hi")  # three bytes for each letter
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
    received: dict[str, float] = {}
    urls: dict[str, str] = {}
    devtools.on("Network.requestWillBeSent", lambda event: urls.update({event["requestId"]: event["request"]["url"]}))
    devtools.on(
        "Network.loadingFinished", lambda event: received.update({event["requestId"]: event["encodedDataLength"]})
    )
    page.goto(clinic.base)
    live(page, "सजीव")
    pictures = ("/image", "/overlay")
    weights = {urls[key]: size for key, size in received.items() if key in urls and not urls[key].endswith(pictures)}
    assert any(url.endswith("page.js") for url in weights)
    assert sum(weights.values()) < MAX_FIRST_LOAD, weights


@pytest.mark.parametrize("path", ["/", "/device", "/access"])
def test_the_head_is_low_in_every_language(clinic: Clinic, path: str) -> None:
    """Also for an administrator, who sees most; a row is a finger high."""
    samples.commit(clinic.store, samples.flagged(), pictures=False)
    page = clinic.sign_in(Role.ADMINISTRATOR)
    for language in LANGUAGES:
        page.goto(f"{clinic.base}{path}?language={language}")
        if path != "/access":
            page.wait_for_function("() => document.querySelector('#live.on')")
        for width, rows in ((360, 2), (768, 1), (1280, 1)):
            page.set_viewport_size({"width": width, "height": 800})
            head = page.locator("header").evaluate(
                "header => [header, ...header.querySelectorAll('nav a, .eye, summary')].map((part) => {"
                " const { left, right, height } = part.getBoundingClientRect(); return [left, right, height]; })"
            )
            assert head[0][2] < rows * 44 + 20, (language, width)
            assert page.evaluate("document.documentElement.scrollWidth") == width, (language, width)
            assert len(head) >= 6
            for left, right, height in head[1:]:
                assert height >= 44, (language, width)
                assert 0 <= left <= right <= width, (language, width)


def test_every_language_fits_a_phone(clinic: Clinic) -> None:
    samples.commit(clinic.store, samples.not_analysed())
    stored = samples.commit(clinic.store, samples.flagged(quality=(samples.CUT_OFF,)))
    page = clinic.sign_in(viewport={"width": 360, "height": 740}, has_touch=True)
    for language in LANGUAGES:
        for path in ("/", f"/results/{stored.id}", "/device", "/upload"):
            page.goto(f"{clinic.base}{path}?language={language}&theme=dark")
            assert page.evaluate("document.documentElement.scrollWidth") == 360, (language, path)
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    page.goto(clinic.base)
    page.locator("header summary").tap()  # the choices fit, too
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert style_of(page, "body", "backgroundColor") == "rgb(11, 16, 22)"  # dark, on a device that is set to light
    page.get_by_role("link", name="English").tap()
    expect(page.get_by_role("heading", name="Worklist")).to_be_visible()
