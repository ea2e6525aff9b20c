"""The page in real Chromium: what a technician sees and does."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import expect

from edge import reasons
from edge.device.health import Health, HealthFile, State
from edge.records import StoredResult, Subject
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from tests.system.conftest import await_until, kept_up
from tests.web import samples
from tests.web.clinic import Clinic, live, width_of
from tests.web.conftest import PASSWORD, start_service

pytestmark = pytest.mark.system


def test_a_new_box_from_its_console_to_its_first_result(clinic: Clinic) -> None:
    assert clinic.service.process.stdout
    line = next(line for line in clinic.service.process.stdout if "First account" in line)
    code = next(word for word in line.split() if word.count("-") == 3)
    page = clinic.look()
    page.goto(f"{clinic.base}/first-account#{code}")  # as the label's QR code says it
    expect(page.get_by_label("Code on the console")).to_have_value(code)
    assert page.url == f"{clinic.base}/first-account", "it stays neither in the address nor in the history"
    page.get_by_label("Code on the console").fill(code.lower())
    page.get_by_label("User name").fill("ada")
    page.get_by_label("Password, at least 12 characters").fill(PASSWORD)
    page.get_by_role("button", name="Create the administrator").click()
    expect(page.get_by_text("Nothing received yet.")).to_be_visible()
    live(page)
    page.evaluate("window.sameDocument = true")
    samples.commit(clinic.store, samples.flagged())
    expect(page.locator("#rows .headline")).to_have_text("Flagged: pneumonia, very likely")
    expect(page.locator("#study h2")).to_have_text("Flagged: pneumonia, very likely")
    assert page.evaluate("window.sameDocument")
    page.locator("header summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("1 flagged image waits for a person.")).to_be_visible()


def test_a_flag_appears_without_reload_and_stays_until_answered(clinic: Clinic) -> None:
    seen = samples.commit(clinic.store, samples.clear())
    page, other = clinic.sign_in(), clinic.sign_in(Role.CLINICIAN)
    live(page)
    live(other)
    page.evaluate("window.sameDocument = true")
    flagged = samples.commit(clinic.store, samples.flagged())
    for screen in (page, other):
        expect(screen.locator(".alarm")).to_contain_text("Call the clinician now: …417 · child 3 y · female")
        expect(screen).to_have_title(re.compile(r"^\(1\) flagged · "))
        expect(screen.locator("#rows .row").first).to_have_attribute("data-id", flagged.id)
        expect(screen.locator("#study")).to_have_attribute("data-id", seen.id)  # nothing moves under a finger
    samples.commit(clinic.store, samples.not_analysed())
    expect(page.locator("#rows .row").nth(1)).to_contain_text("Not analysed: side view")
    assert page.evaluate("window.sameDocument")
    page.get_by_role("link", name="See it and answer").click()
    page.get_by_role("button", name="Disagree").click()
    expect(page.locator("#answer")).to_contain_text("technician disagrees")
    for screen in (page, other):
        expect(screen.locator(".alarm")).to_have_count(0)
        expect(screen).to_have_title(re.compile(r"^clinic-12"))
        expect(screen.locator("#rows .row").first).to_contain_text("Not analysed")
    expect(other.locator(f'[data-id="{flagged.id}"]')).to_contain_text("technician disagrees")


def test_the_explanation_is_off_until_asked_for(clinic: Clinic) -> None:
    samples.commit(clinic.store, samples.flagged())
    page = clinic.sign_in()
    overlay, preview = page.locator(".overlay"), page.locator(".preview")
    page.wait_for_function(width_of(".preview"))
    page.wait_for_function(width_of(".overlay"))
    expect(overlay).to_be_hidden()
    page.get_by_text("Show where the software looked").click()
    expect(overlay).to_be_visible()
    assert overlay.bounding_box() == pytest.approx(preview.bounding_box(), abs=0.5)
    page.get_by_label("Strength").fill("30")
    expect(overlay).to_have_css("opacity", "0.3")
    page.get_by_text("Hide where the software looked").click()
    expect(overlay).to_be_hidden()


def test_pictures_that_come_after_their_result_appear(clinic: Clinic) -> None:
    page = clinic.sign_in()
    live(page)
    stored = samples.commit(clinic.store, samples.flagged(), pictures=False)
    expect(page.locator(".preview")).to_have_js_property("naturalWidth", 0)
    clinic.store.write_picture(stored.instance_id, "preview.jpg", samples.preview())
    clinic.store.write_picture(stored.instance_id, "overlay.png", samples.overlay())
    page.wait_for_function(width_of(".preview"))
    page.wait_for_function(width_of(".overlay"))


def test_it_reads_and_answers_without_any_script(clinic: Clinic) -> None:
    samples.commit(clinic.store, samples.flagged())
    samples.commit(clinic.store, samples.indeterminate(quality=(samples.CUT_OFF,)))
    page = clinic.sign_in(java_script_enabled=False)
    expect(page.locator("#rows .headline")).to_have_text(["Flagged: pneumonia, very likely", "Indeterminate"])
    expect(page.locator("#live")).to_contain_text("reload to see what is new")
    expect(page.locator("#rows time").first).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    page.get_by_text("Show where the software looked").click()
    expect(page.locator(".overlay")).to_be_visible()
    page.get_by_role("link", name="See it and answer").click()
    page.get_by_role("button", name="Unsure").click()
    expect(page.locator("#answer")).to_contain_text("technician is unsure")
    expect(page.locator(".alarm")).to_have_count(0)


def test_it_can_be_used_with_the_keyboard_alone(clinic: Clinic) -> None:
    clear = samples.commit(clinic.store, samples.clear())
    samples.commit(clinic.store, samples.flagged())
    page = clinic.sign_in()
    live(page)
    page.locator("#rows a").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#rows a").nth(1)).to_be_focused()
    clinic.store.acknowledge(clear.id, "ada", "agree")
    expect(page.locator("#rows .row").nth(1)).to_contain_text("ada agrees")
    expect(page.locator("#rows a").nth(1)).to_be_focused()  # although its row was renewed under it
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator("#study h2")).to_have_text("Flagged: pneumonia, very likely")
    page.locator("#explain").focus()
    page.keyboard.press("Space")
    expect(page.locator(".overlay")).to_be_visible()
    disagree = page.get_by_role("button", name="Disagree")
    for _ in range(9):  # image, strength, zoom in and out, window, fit, image's facts, agree, disagree
        page.keyboard.press("Tab")
        if disagree.evaluate("button => button === document.activeElement"):
            break
    expect(disagree).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_contain_text("technician disagrees")


def test_a_lost_connection_is_said_and_made_good(clinic: Clinic, tmp_path: Path) -> None:
    samples.commit(clinic.store, samples.clear())
    page = clinic.sign_in()
    live(page)
    port = clinic.service.port
    clinic.service.stop()
    expect(page.locator("#lost")).to_contain_text("Display not live")
    expect(page.locator("#live")).to_have_text("display not live")
    expect(page.locator("body")).to_have_class(re.compile("stale"))
    missed = samples.commit(clinic.store, samples.flagged())
    again = start_service(tmp_path / "box", port)
    expect(page.locator("#lost")).to_be_hidden()
    live(page)
    expect(page.locator("#rows .row").first).to_have_attribute("data-id", missed.id)
    again.stop()


def test_the_device_page_keeps_itself_current_and_moves_nothing(clinic: Clinic) -> None:
    page = clinic.sign_in(Role.SERVICE, "/device")
    await_until(lambda: page.reload() and page.locator(".graph details").count(), "the first sample of the curves")
    live(page, "live, as of ")
    state = page.locator("tr", has=page.get_by_role("rowheader", name="intake")).locator("td").first
    expect(state).to_have_text("down")
    page.evaluate("window.sameDocument = true")
    table = page.locator(".graph details").first
    table.locator("summary").click()
    expect(table.locator("summary")).to_be_focused()
    scrolled = page.evaluate("scrollY")
    assert scrolled > 0
    intake = HealthFile(clinic.service.state_dir, "intake")
    with kept_up(lambda: intake.report(State.DEGRADED, reasons.DISK_FULL)):
        expect(state).to_have_text("degraded")
        expect(page.locator(".notices")).to_contain_text("The service intake: the disk is full.")
    expect(table).to_have_attribute("open", "")
    expect(table.locator("summary")).to_be_focused()
    assert page.evaluate("scrollY") == pytest.approx(scrolled, abs=150)  # at most by what has come above it
    assert page.evaluate("window.sameDocument")
    clinic.service.stop()
    expect(page.locator("#lost")).to_contain_text("Display not live")
    expect(page.locator("#live")).to_have_text("display not live")


def test_a_service_that_hangs_is_noticed_too(clinic: Clinic) -> None:
    page = clinic.sign_in()
    live(page)
    worker = msgspec.json.decode((clinic.service.state_dir / "health/web.json").read_bytes(), type=Health).pid
    os.kill(worker, signal.SIGSTOP)
    expect(page.locator("#lost")).to_contain_text("Display not live")
    os.kill(worker, signal.SIGCONT)
    expect(page.locator("#lost")).to_be_hidden()
    live(page)


def test_a_session_that_ends_takes_the_page_along(clinic: Clinic) -> None:
    samples.commit(clinic.store, samples.flagged())
    page = clinic.sign_in()
    live(page)
    file = AccountsFile(clinic.service.state_dir)
    Accounts(file).set_password("technician", "another long secret")
    file.close()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("…417")).to_have_count(0)


def test_a_duplicated_tab_and_its_twin_are_both_live(clinic: Clinic) -> None:
    first = clinic.sign_in()
    live(first)
    name = first.evaluate("sessionStorage.getItem('page')")
    second = first.context.new_page()
    second.add_init_script(f"sessionStorage.getItem('page') || sessionStorage.setItem('page', '{name}')")
    second.goto(clinic.base)
    live(second)
    samples.commit(clinic.store, samples.flagged())
    for page in (first, second):
        expect(page.locator("#rows .row")).to_have_count(1)
    assert first.evaluate("sessionStorage.getItem('page')") != second.evaluate("sessionStorage.getItem('page')")


def answer_uploads(clinic: Clinic) -> StoredResult:
    """What the inference service does with an uploaded picture."""
    instance = clinic.store.claim()
    assert instance is not None
    assert instance.arrival.source == "upload"
    answer = samples.flagged(source="upload", sop_instance_uid=None)
    return clinic.store.commit(instance, answer, Subject(age_years=instance.arrival.stated_age_years, modality="CR"))


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_a_film_is_uploaded_and_its_answer_is_marked(clinic: Clinic, tmp_path: Path, script: bool) -> None:
    film = tmp_path / "film.jpg"
    film.write_bytes(samples.preview())
    page = clinic.sign_in(java_script_enabled=script)
    page.get_by_role("link", name="Upload").click()
    expect(page.get_by_text("outside of what the software was measured on")).to_be_visible()
    page.get_by_label("File").set_input_files(film)
    page.get_by_role("button", name="Upload and analyse").click()
    alert = page.get_by_role("alert")
    expect(alert).to_have_text(
        "State what kind of image it is: a picture does not say it. The file must be chosen again."
    )
    page.get_by_label("File").set_input_files(film)
    page.get_by_label("Kind of image").select_option("CR")
    page.get_by_label("Patient's age").fill("42")
    page.get_by_label("in", exact=True).select_option("months")
    page.get_by_role("button", name="Upload and analyse").click()
    expect(page.get_by_role("heading", name="Received")).to_be_visible()
    stored = answer_uploads(clinic)
    expect(page.locator("#study h2")).to_have_text("Flagged: pneumonia, very likely")  # the page looked again by itself
    expect(page.locator(".caveat")).to_contain_text("outside of what the software was measured on")
    expect(page.locator("#study .who")).to_contain_text("child 3 y")
    expect(page.locator(f'#rows [data-id="{stored.id}"]')).to_contain_text("Uploaded picture, not a DICOM image")


def test_an_upload_needs_no_mouse(clinic: Clinic, tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(samples.overlay())
    page = clinic.sign_in(path="/upload")
    page.goto(clinic.base + "/upload")
    page.get_by_label("File").set_input_files(film)
    page.get_by_label("File").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Kind of image")).to_be_focused()
    page.keyboard.type("Plain radiograph from")
    page.keyboard.press("Tab")
    page.keyboard.type("3.5")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Upload and analyse")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Received")).to_be_visible()
    instance = clinic.store.claim()
    assert instance is not None
    assert (instance.arrival.stated_modality, instance.arrival.stated_age_years) == ("DX", 3.5)


def test_a_file_that_is_too_large_is_said_and_not_a_broken_connection(clinic: Clinic, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate((64 << 20) + (1 << 17))
    page = clinic.sign_in(path="/upload")
    page.goto(clinic.base + "/upload")
    page.get_by_label("File").set_input_files(large)
    page.get_by_role("button", name="Upload and analyse").click()
    expect(page.get_by_role("alert")).to_contain_text("The file is larger than 64 MiB.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(clinic: Clinic, scheme: str) -> None:
    wide = "W" * 64
    samples.commit(clinic.store, samples.flagged(), Subject(patient_id=wide, body_part=wide, view=wide, modality=wide))
    stored = samples.commit(clinic.store, samples.indeterminate(quality=(samples.CUT_OFF,)))
    page = clinic.sign_in(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    for path in ("/", f"/results/{stored.id}", "/device", "/upload", "/nowhere"):
        page.goto(clinic.base + path)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, path
        standing = page.get_by_text("Research use; not a diagnosis.")
        expect(standing).to_be_in_viewport()
    page.goto(clinic.base)
    expect(page.locator("#study")).to_be_hidden()
    page.locator("#rows a").nth(1).tap()
    expect(page.locator("#study h2")).to_have_text("Indeterminate")
    expect(page.locator("#rows")).to_be_hidden()
    for target in page.locator("main button, main .button:visible").all():
        box = target.bounding_box()
        assert box is None or box["height"] >= 44
    page.locator(".back").tap()
    expect(page.locator("#rows")).to_be_visible()


def test_what_came_with_an_image_never_runs(clinic: Clinic) -> None:
    text = '"><img src=x onerror="window.ran=1"><script>window.ran=1</script>'
    hostile = Subject(patient_id=text, body_part=text, view=text, modality=text, sex=text)
    samples.commit(clinic.store, samples.flagged(), hostile)
    page = clinic.sign_in()
    live(page)
    samples.commit(clinic.store, samples.indeterminate(), hostile)
    expect(page.locator("#rows .row")).to_have_count(2)
    assert page.evaluate("window.ran") is None
    assert page.locator("img[src=x]").count() == 0
