"""A running service with a store behind it, and real Chromium before it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from edge.store import Store
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile

if TYPE_CHECKING:
    from tests.web.conftest import Service

PASSWORD = "correct horse battery"

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 90_000
"""Bounds what never comes; no measure."""

expect.set_options(timeout=PATIENCE_MS)


class Clinic:
    """A running service, a store to commit results to, and browsers that look at it."""

    def __init__(self, service: Service, browser: Browser) -> None:
        self.service = service
        self.browser = browser
        self.store = Store(service.state_dir)
        self.base = f"http://127.0.0.1:{service.port}"
        self.complaints: list[str] = []
        self.contexts: list[BrowserContext] = []

    def look(self, **options: Any) -> Page:
        """A new browser without session. What it complains about, or asks of others, is collected."""
        context = self.browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options))
        context.set_default_timeout(PATIENCE_MS)
        self.contexts.append(context)
        context.on("page", self._watch)
        return context.new_page()

    def sign_in(self, role: Role = Role.TECHNICIAN, path: str = "/", **options: Any) -> Page:
        """A browser that has signed in with a form, at a page."""
        file = AccountsFile(self.service.state_dir)
        accounts = Accounts(file)
        if role not in [account.name for account in accounts.list()]:
            accounts.add(role.value, PASSWORD, role)
        file.close()
        page = self.look(**options)
        page.goto(self.base + path)
        page.get_by_label("User name").fill(role.value)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/sign-in" not in url)
        return page

    def _watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.complaints.append(error.stack or str(error)))
        page.on("console", self._console)
        page.on("request", lambda request: self._request(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        """Chromium itself reports each failed request; 503 is what a service answers that is just ending."""
        expected = re.search(r"a status of (401|404|413|422|502|503) |net::ERR_", message.text)
        if message.type == "error" and not expected:
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def _request(self, url: str) -> None:
        if not url.startswith(self.base):
            self.complaints.append(f"foreign request: {url}")

    def close(self) -> None:
        """Close the browsers; nothing may have been complained about."""
        for context in self.contexts:
            context.close()
        self.store.close()
        assert self.complaints == [], self.complaints


def live(page: Page, said: str = "live, ") -> None:
    """Wait until the page says that it is live."""
    expect(page.locator("#live")).to_contain_text(said)


def width_of(picture: str) -> str:
    return f"() => document.querySelector('{picture}') && document.querySelector('{picture}').naturalWidth > 0"
