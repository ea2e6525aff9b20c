"""A tablet that has not been updated for five years: the page in Chromium 92, which npm still has."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.web import samples
from tests.web.clinic import ARGUMENTS, Clinic, live, width_of
from tests.web.conftest import Service

pytestmark = pytest.mark.system

PACKAGE = "chrome-aws-lambda@10.1.0"
SHA512 = "NZQVf+J4kqG4sVhRm3WNmOfzY0OtTSm+S8rg77pwePa9RCYHzhnzRs8YvNI6L9tALIW6RpmefWiPURt3vURXcw=="
INFLATE = """
const [, from, to] = process.argv;
require("stream").pipeline(
  require("fs").createReadStream(from), require("zlib").createBrotliDecompress(), require("fs").createWriteStream(to),
  (error) => { if (error) throw error; });
"""


@pytest.fixture(scope="module")
def old_chromium(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program, of which npm keeps the package between runs. No registry: skips outside and fails in CI."""
    npm, node, folder = program("npm"), program("node"), tmp_path_factory.mktemp("old")
    fetched = subprocess.run([npm, "pack", PACKAGE], cwd=folder, capture_output=True, text=True, check=False)
    if fetched.returncode:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up(f"npm cannot fetch {PACKAGE}: {fetched.stderr}")
    package = next(folder.glob("*.tgz"))
    with package.open("rb") as file:
        assert base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode() == SHA512
    with tarfile.open(package) as archive:
        archive.extract("package/bin/chromium.br", folder, filter="data")
    package.unlink()
    packed, chromium = folder / "package/bin/chromium.br", folder / "chromium"
    subprocess.run([node, "-e", INFLATE, packed, chromium], check=True)
    packed.unlink()
    chromium.chmod(0o700)
    yield chromium
    chromium.unlink()  # 150 MB


@pytest.fixture(scope="module")
def browser(old_chromium: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=old_chromium, args=ARGUMENTS)
        yield opened
        opened.close()


class OldClinic(Clinic):
    """Playwright itself wants `Element.checkVisibility` (Chromium 105): its own world of each page gets one."""

    def look(self, **options: Any) -> Page:
        page = super().look(**options)
        devtools, worlds = page.context.new_cdp_session(page), set()
        devtools.on("Runtime.executionContextCreated", lambda event: worlds.add(event["context"]["name"]))
        devtools.send("Runtime.enable")
        devtools.send("Page.enable")
        own = next(world for world in worlds if world.startswith("__playwright_utility_world"))
        source = "Element.prototype.checkVisibility = function () { return this.getClientRects().length > 0; };"
        devtools.send("Page.addScriptToEvaluateOnNewDocument", {"source": source, "worldName": own})
        return page


@pytest.fixture
def clinic(service: Service, browser: Browser) -> Iterator[OldClinic]:
    opened = OldClinic(service, browser)
    yield opened
    opened.close()


def test_a_tablet_of_five_years_ago_shows_all_of_it(clinic: OldClinic) -> None:
    assert clinic.browser.version.startswith("92.")
    samples.commit(clinic.store, samples.clear())
    page = clinic.sign_in()
    live(page)
    flagged = samples.commit(clinic.store, samples.flagged())
    expect(page.locator(".alarm")).to_contain_text("Call the clinician now: …417 · child 3 y · female")
    expect(page.locator("#rows .row").first).to_have_attribute("data-id", flagged.id)
    page.get_by_role("link", name="See it and answer").click()
    page.wait_for_function(width_of(".overlay"))
    expect(page.locator(".overlay")).to_be_hidden()
    page.get_by_text("Show where the software looked").click()
    expect(page.locator(".overlay")).to_be_visible()
    page.get_by_role("button", name="Zoom in").click()
    expect(page.locator("#reading")).to_have_text("zoom 130 %")
    page.get_by_role("button", name="Unsure").click()
    expect(page.locator("#answer")).to_contain_text("technician is unsure")
    expect(page.locator(".alarm")).to_have_count(0)
    for path in ("/", f"/results/{flagged.id}", "/device", "/upload", "/access"):
        for language in ("en", "ar"):
            page.set_viewport_size({"width": 360, "height": 740})
            page.goto(f"{clinic.base}{path}?language={language}")
            assert page.evaluate("document.documentElement.scrollWidth") == 360, (path, language)
    page.goto(f"{clinic.base}/?language=en")
    live(page)
    clinic.service.stop()
    expect(page.locator("#lost")).to_contain_text("Display not live")
    expect(page.locator("body")).to_have_class(re.compile("stale"))
