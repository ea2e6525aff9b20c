"""One radiograph in, one flag out: as a person would do it, with real peers on every side."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from edge.records import Reason, Status
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file, wrap
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from tests.running import is_alive
from tests.system.conftest import PATIENCE, SERVICES, Appliance, Subscriber, await_until
from tests.web.test_related import body_of
from tests.web.test_stow import CONTENT_TYPE, PATH, basic

pytestmark = pytest.mark.system
USER, PASSWORD = "technician one", "a long enough password"


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str]) -> Iterator[Browser]:
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE * 1000)
        chromium = playwright.chromium.launch(executable_path=program("chromium"), args=[*quiet, "--disable-sync"])
        yield chromium
        chromium.close()


def _sign_in(browser: Browser, appliance: Appliance) -> Page:
    """What a person does on the first day: the code on the console makes the first account."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(appliance.page)
    page.goto(f"{appliance.page}/first-account")
    page.locator("input[name=code]").fill(appliance.first_boot_code())
    page.locator("input[name=name]").fill("technician1")
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("form button[type=submit], form button.main").first.click()
    page.wait_for_url(f"{appliance.page}/")
    return page


def _storescu(program: Callable[[str], str], appliance: Appliance, *files: Path) -> bool:
    """DCMTK's storescu; True when every file was answered with success."""
    command = [program("storescu"), "-v", "-aec", "SCANSIDE", "127.0.0.1", appliance.dicom_port]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    return done.returncode == 0 and said.count("Received Store Response (Success)") == len(files)


def _full_size(shared: Path) -> list[tuple[bytes, str]]:
    """The published radiographs at full size as DX files of a child of three years, with their labels."""
    folder = shared / "data/cxr_full_size"
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pictures = [np.asarray(cv2.imread(str(folder / row["path"]), cv2.IMREAD_GRAYSCALE)) for row in rows]
    return [(wrap(picture, seed=n, age="003Y"), rows[n]["label"]) for n, picture in enumerate(pictures)]


def test_a_radiograph_from_the_modality_to_the_page_and_the_fleet(
    appliance: Appliance, subscriber: Subscriber, browser: Browser, program: Callable[[str], str], shared: Path
) -> None:
    """DCMTK sends real radiographs; the flag appears on an open page without reload, and at the broker."""
    page = _sign_in(browser, appliance)
    page.evaluate("window.neverReloaded = true")
    sent = _full_size(shared)
    chosen = [next(data for data, label in sent if label == "PNEUMONIA"), *(data for data, _ in sent[:3])]
    for number, data in enumerate(chosen):
        path = appliance.folder / f"{number}.dcm"
        path.write_bytes(data)
        assert _storescu(program, appliance, path)
    results = await_until(lambda: len(appliance.results()) == len(set(chosen)) and appliance.results(), "all results")
    assert Status.FLAGGED in {stored.result.status for stored in results}
    expect(page.get_by_text("Flagged: Pneumonia", exact=False).first).to_be_visible()
    assert page.evaluate("window.neverReloaded") is True
    summaries = subscriber.await_findings(len(results))
    assert sorted(body["status"] for body in summaries) == sorted(stored.result.status for stored in results)
    page.close()


def test_the_page_in_a_picture(
    appliance: Appliance, browser: Browser, program: Callable[[str], str], tmp_path: Path
) -> None:
    """Synthetic radiographs of each kind; the screenshot is the README's when SCANSIDE_SCREENSHOT asks for it."""
    page = _sign_in(browser, appliance)
    for number, data in enumerate(_each_kind()):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(data)
        assert _storescu(program, appliance, path)
    await_until(lambda: len(appliance.results()) == 5, "five results")
    flagged = next(stored for stored in appliance.results() if stored.result.status is Status.FLAGGED)
    page.goto(f"{appliance.page}/results/{flagged.id}")
    picture = page.locator("img").first
    expect(picture).to_be_visible()
    await_until(lambda: picture.evaluate("image => image.complete && image.naturalWidth > 0"), "the preview")
    expect(page.get_by_text("Not analysed", exact=False).first).to_be_visible()
    expect(page.get_by_text("not a diagnosis", exact=False).first).to_be_visible()
    page.get_by_text("Show where the software looked").click()
    overlay = page.locator("img[src*=overlay]").first
    await_until(lambda: overlay.evaluate("image => image.complete && image.naturalWidth > 0"), "the overlay")
    shot = page.screenshot(full_page=False)
    if "SCANSIDE_SCREENSHOT" in os.environ:
        (Path(__file__).parent / "page.png").write_bytes(shot)
    page.close()


def test_a_film_by_upload_and_an_instance_by_stow_are_answered_alike(
    appliance: Appliance, browser: Browser, tmp_path: Path
) -> None:
    """One synthetic radiograph with an opacity: as a picture with the age in the form, and as DICOM by STOW-RS."""
    grey = radiograph(Kind.OPACITY, 0, 1024, 1250)
    film = tmp_path / "film.png"
    assert cv2.imwrite(str(film), (grey * 255).astype(np.uint8))
    page = _sign_in(browser, appliance)
    page.get_by_role("link", name="Upload").click()
    page.get_by_label("File").set_input_files(film)
    page.get_by_label("Kind of image").select_option("CR")
    page.get_by_label("Patient's age").fill("3")
    page.get_by_role("button", name="Upload and analyse").click()
    expect(page.locator(".caveat")).to_contain_text("outside of what the software was measured on")
    expect(page.locator("#study h2")).to_contain_text("Flagged: pneumonia")
    page.close()
    file = AccountsFile(appliance.settings.state_dir)
    Accounts(file).add("gateway", PASSWORD, Role.SENDER)
    file.close()
    request = Request(
        f"{appliance.page}{PATH}",
        data=body_of(dx_file(grey, seed=10)),
        headers={"Content-Type": CONTENT_TYPE} | basic("gateway", PASSWORD),
    )
    with urlopen(request, timeout=60) as answer:
        assert answer.status == 200
    results = await_until(lambda: len(appliance.results()) == 2 and appliance.results(), "two results")
    assert {stored.result.source for stored in results} == {"upload", "stow"}
    assert {stored.result.status for stored in results} == {Status.FLAGGED}


def _each_kind() -> list[bytes]:
    size = (1024, 1250)
    return [
        dx_file(radiograph(Kind.CLEAR, 0, *size), seed=0),
        dx_file(radiograph(Kind.CLEAR, 1, *size), seed=1, age="010Y"),
        dx_file(radiograph(Kind.CLEAR, 2, *size), seed=2),
        dx_file(radiograph(Kind.OPACITY, 1, *size), seed=11),
        dx_file(radiograph(Kind.OPACITY, 0, *size), seed=10),
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_loses_nothing(
    appliance: Appliance, subscriber: Subscriber, program: Callable[[str], str], tmp_path: Path, service: str
) -> None:
    """SIGKILL during the way: what was answered with success gets exactly one result and one summary."""
    accepted = 0
    for number in range(8):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(dx_file(radiograph(Kind(list(Kind)[number % 2]), number, 1024, 1250), seed=number))
        if number in (2, 5):
            os.kill(await_until(lambda: appliance.pids().get(service), f"{service} up"), signal.SIGKILL)
        # A modality whose C-STORE fails sends again; the same image twice is one instance.
        await_until(lambda path=path: _storescu(program, appliance, path), "the image accepted")  # type: ignore[misc]
        accepted += 1
    results = await_until(lambda: len(appliance.results()) >= accepted and appliance.results(), f"{accepted} results")
    assert len(results) == accepted
    assert len({stored.instance_id for stored in results}) == accepted
    assert len(subscriber.await_findings(accepted)) == accepted


def test_sigterm_stops_all(appliance: Appliance) -> None:
    """No service outlives the appliance."""
    pids = appliance.pids()
    assert appliance.stop() == 0
    await_until(lambda: not [pid for pid in pids.values() if is_alive(pid)], "the end of all services")


BAD = [
    ("text.dcm", b"this is no DICOM file" * 20, Reason.NOT_DICOM),
    ("older.dcm", dx_file(radiograph(Kind.CLEAR, 3, 400, 500), seed=3, age="010Y"), Reason.OVER_AGE),
    ("truncated.dcm", dx_file(radiograph(Kind.CLEAR, 4, 400, 500), seed=4)[:200_000], Reason.UNDECODABLE),
]


def test_bad_input_gets_its_reason_everywhere(
    appliance: Appliance, subscriber: Subscriber, browser: Browser, shared: Path
) -> None:
    """Through the watch folder: what cannot be analysed is answered on the page and over MQTT, and harms nothing."""
    page = _sign_in(browser, appliance)
    expected = {reason for _, _, reason in BAD}
    for name, content, _ in BAD:
        (appliance.folder / f"{name}.part").write_bytes(content)
        (appliance.folder / f"{name}.part").rename(appliance.folder / "watched" / name)
    others = {"006": Reason.HOSTILE_DIMENSIONS, "218": Reason.NO_PIXELS, "054": Reason.UNSUPPORTED_MODALITY}
    for number, reason in others.items():
        real = next((shared / "data/dicom/files").glob(f"{number}_*"))
        shutil.copy(real, appliance.folder / "watched" / f"{number}.dcm")
        expected.add(reason)
    await_until(lambda: len(appliance.results()) == len(expected), "all answered")
    assert {stored.result.reason for stored in appliance.results()} == expected
    assert {body["reason"] for body in subscriber.await_findings(len(expected))} == expected
    page.goto(appliance.page)
    for words in ("not a DICOM", "older than", "cannot be decoded", "impossible or too large"):
        expect(page.get_by_text(words, exact=False).first).to_be_visible()
    assert appliance.process.poll() is None
    page.close()
