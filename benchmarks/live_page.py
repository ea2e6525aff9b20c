"""Claim: a committed result is on an open page within 150 ms (p95), flag and row in the DOM of real Chromium.

`python -m benchmarks.live_page [CHROMIUM]`. The peer is the same page without an event stream, which asks every 2 s.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.report import heading, percentile, spread
from edge.records import StoredResult
from edge.store import Store
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from tests.web import samples
from tests.web.clinic import ARGUMENTS, PASSWORD
from tests.web.conftest import Service, start_service

RESULTS = 60
_WARM_UP = 5
_NOTE_ROWS = """
() => {
  window.shown = {};
  new MutationObserver(() => {
    for (const row of document.querySelectorAll("#rows .row")) {
      const flagged = document.querySelector(".alarm") && row.dataset.id;
      if (flagged && !(flagged in window.shown)) window.shown[flagged] = performance.timeOrigin + performance.now();
    }
  }).observe(document.body, { childList: true, subtree: true });
}
"""


def main(chromium: str | None = None) -> None:
    """Measure and print."""
    executable = chromium or shutil.which("chromium") or "chromium"
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        service = start_service(Path(name) / "box")
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        pages = {"event stream": _open(service, browser), "asks every 2 s": _open(service, browser, stream=False)}
        store = Store(service.state_dir)
        times: dict[str, list[float]] = {way: [] for way in pages}
        for _ in range(RESULTS + _WARM_UP):
            stored = samples.commit(store, samples.flagged(), pictures=False)
            committed = time.time()
            for way, page in pages.items():
                times[way].append(_shown_at(page, stored) - committed * 1000)
        browser.close()
        store.close()
        service.stop()
    heading(f"Live page: from the committed result to flag and row in the DOM, {RESULTS} results")
    for way, all_times in times.items():
        measured = all_times[_WARM_UP:]
        print(f"{way:<16} {spread(measured)}  p95 {percentile(measured, 95):.0f} ms")


def _open(service: Service, browser: Browser, *, stream: bool = True) -> Page:
    """A signed-in page that notes when it shows what."""
    file = AccountsFile(service.state_dir)
    accounts = Accounts(file)
    if not accounts.list():
        accounts.add("technician", PASSWORD, Role.TECHNICIAN)
    file.close()
    page = browser.new_context().new_page()
    if not stream:
        page.add_init_script("delete window.EventSource")
    page.goto(f"http://127.0.0.1:{service.port}/")
    page.get_by_label("User name").fill("technician")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_function("() => document.querySelector('#live.on')")
    page.evaluate(_NOTE_ROWS)
    return page


def _shown_at(page: Page, stored: StoredResult) -> float:
    """When the page showed a result, milliseconds since the epoch by this machine's clock."""
    return float(page.wait_for_function("id => window.shown[id]", arg=stored.id).json_value())


if __name__ == "__main__":
    main(*sys.argv[1:2])
