"""A person who has never seen the page, in real Chromium: what they find from what it says alone.

They know no address, no selector and no id: they read what is visible, follow links, press buttons, or use the keyboard
alone. Each question of the clinic is one test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from edge.device.health import HealthFile, State
from edge.records import Reason
from edge.web.accounts import Role
from tests.system.conftest import kept_up
from tests.web import samples
from tests.web.clinic import Clinic, live

pytestmark = pytest.mark.system

MOST_TABS = 40


@pytest.fixture
def morning(clinic: Clinic) -> Iterator[Clinic]:
    """Three images came: one is flagged, one is below the threshold, the third is of a baby; the disk fills."""
    samples.commit(clinic.store, samples.flagged())
    samples.commit(clinic.store, samples.clear())
    samples.commit(clinic.store, samples.not_analysed(Reason.UNDER_AGE))
    intake, inference = (HealthFile(clinic.service.state_dir, name) for name in ("intake", "inference"))
    inference.list_models(samples.IN_SERVICE)

    def services() -> None:
        intake.report(State.UP, hours_until_full=30.0, synchronised=True)
        inference.report(State.UP)

    with kept_up(services):
        yield clinic


def read(page: Page) -> str:
    """What a person can read without scrolling sideways: the visible text, in its order."""
    return " ".join(page.locator("body").inner_text().split())


def rows(page: Page) -> list[str]:
    """The worklist as a person reads it, line after line."""
    return [" ".join(text.split()) for text in page.get_by_role("listitem").filter(visible=True).all_inner_texts()]


def tab_to(page: Page, words: str) -> None:
    """Press Tab until what has the focus says these words."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        focused = page.evaluate("(document.activeElement.closest('a, button, summary, input') || {}).innerText || ''")
        if re.search(words, focused):
            return
    raise AssertionError(f"{words}: not reached within {MOST_TABS} steps")


SCREENS = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 360, "height": 740}}


@pytest.mark.parametrize("screen", SCREENS)
def test_what_was_flagged_and_what_to_do_stands_in_the_first_look(morning: Clinic, screen: str) -> None:
    page = morning.sign_in(viewport=SCREENS[screen])
    call = page.get_by_text(re.compile("Call the clinician now"))
    expect(call.first).to_be_in_viewport()
    expect(call.first).to_contain_text("child 3 y")
    shown = rows(page)
    flagged = [row for row in shown if "Flagged" in row]
    assert len(flagged) == 1
    assert "pneumonia, very likely" in flagged[0]
    assert "Not acknowledged" in flagged[0]
    assert shown[0] == flagged[0], "it stands first, although it came first"
    expect(page.get_by_text("A person must read every image.")).to_be_in_viewport()


@pytest.mark.parametrize("screen", SCREENS)
def test_why_the_third_image_was_not_analysed(morning: Clinic, screen: str) -> None:
    page = morning.sign_in(viewport=SCREENS[screen])
    (third,) = (row for row in rows(page) if "Not analysed" in row)
    assert "the patient is younger than the model is made for" in third
    page.get_by_role("link", name=re.compile("Not analysed")).click()
    expect(page.get_by_text("Ask for a reading as if it were not there.")).to_be_visible()
    expect(page.get_by_text("Nothing was looked for in this image.")).to_be_visible()


@pytest.mark.parametrize("screen", SCREENS)
def test_that_the_disk_will_be_full_tomorrow(morning: Clinic, screen: str) -> None:
    page = morning.sign_in(viewport=SCREENS[screen])
    expect(page.get_by_text("the disk will be full in about 30 h").first).to_be_in_viewport()
    page.get_by_role("link", name="What is wrong?").click()
    what = page.get_by_text(re.compile(r"The disk will be full (tomorrow|in 2 days)"))
    expect(what).to_be_in_viewport()
    expect(what).to_contain_text("From then on no image is taken.")
    expect(page.get_by_text("Lower storage.image_days")).to_be_in_viewport()


def test_the_same_from_the_role_that_looks_after_the_box(morning: Clinic) -> None:
    page = morning.sign_in(Role.SERVICE, path="/device")
    expect(page.get_by_text(re.compile("The disk will be full "))).to_be_in_viewport()
    assert "Flagged" not in read(page).replace("flagged", "")


def test_how_to_acknowledge_by_touch(morning: Clinic) -> None:
    page = morning.sign_in(viewport=SCREENS["phone"], has_touch=True)
    page.get_by_role("link", name="See it and answer").tap()
    expect(page.get_by_text("What do you think, having read it?")).to_be_in_viewport()
    for answer in ("Agree", "Disagree", "Unsure", "Repeated"):
        expect(page.get_by_role("button", name=answer, exact=True)).to_be_in_viewport()
    page.get_by_role("button", name="Disagree").tap()
    expect(page.get_by_text("technician disagrees").filter(visible=True).first).to_be_visible()
    expect(page.get_by_role("link", name="See it and answer")).to_have_count(0)
    page.get_by_role("link", name="Worklist").last.tap()
    expect(page.get_by_role("heading", name="Worklist")).to_be_visible()
    assert not [row for row in rows(page) if "Not acknowledged" in row]


def test_how_to_acknowledge_by_the_keyboard_alone(morning: Clinic) -> None:
    page = morning.sign_in()
    live(page)
    tab_to(page, "See it and answer")
    page.keyboard.press("Enter")
    expect(page.get_by_text("What do you think, having read it?")).to_be_in_viewport()
    tab_to(page, "^Unsure$")
    page.keyboard.press("Enter")
    expect(page.get_by_text("technician is unsure").filter(visible=True).first).to_be_visible()
    expect(page.get_by_role("link", name="See it and answer")).to_have_count(0)


def test_a_patient_is_found_again_by_the_keyboard_alone(morning: Clinic) -> None:
    page = morning.sign_in()
    live(page)
    tab_to(page, "Find a patient")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Patient id")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.type("PAT-000417")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Images of this patient")).to_be_visible()
    assert len([row for row in rows(page) if "child 3 y" in row]) == 3
    page.get_by_label("Patient id").fill("PAT-000418")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No image with this patient id is stored here.")).to_be_visible()
