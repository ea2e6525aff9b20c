"""The whole appliance while its files are destroyed under it: it notices, restarts, repairs, and loses nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge.device.health import State, read_health
from edge.store import repairs
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from tests.running import is_alive
from tests.system.conftest import SERVICES, Appliance, Subscriber, await_until
from tests.system.test_whole_way import PASSWORD, _storescu

pytestmark = pytest.mark.system


def destroy(file: Path) -> None:
    """Noise over all of it and of its log, in place: those who have it open see it."""
    for part in (file, file.with_name(f"{file.name}-wal")):
        with part.open("r+b") as opened:
            opened.write(os.urandom(part.stat().st_size))


def working(appliance: Appliance) -> dict[str, int]:
    """The process of each service that lives and works, be it not all of it."""
    accounts = read_health(appliance.settings.state_dir, time.time())
    working = {name: account for name, account in accounts.items() if account.state in (State.UP, State.DEGRADED)}
    return {name: account.pid for name, account in working.items() if is_alive(account.pid)}


def said(appliance: Appliance, event: str) -> list[str]:
    console = (appliance.folder / "console").read_text(encoding="utf-8")
    return [line for line in console.splitlines() if f" {event} " in line]


def test_journal_outbox_and_accounts_are_destroyed_while_it_runs(
    appliance: Appliance, subscriber: Subscriber, program: Callable[[str], str]
) -> None:
    state, sent = appliance.settings.state_dir, 0

    def send() -> None:
        """A sender that tries again until it is told of success."""
        nonlocal sent
        path = appliance.folder / f"{sent}.dcm"
        path.write_bytes(dx_file(radiograph(Kind.OPACITY, sent, 400, 500), seed=sent))
        await_until(lambda: _storescu(program, appliance, path), "the image is accepted")
        sent += 1

    with closing(AccountsFile(state)) as file:
        Accounts(file).add("ada", PASSWORD, Role.ADMINISTRATOR)
    send()
    subscriber.await_findings(sent)
    for repaired, victim in enumerate(("journal.sqlite", "outbox/outbox.sqlite", "accounts/accounts.sqlite"), start=1):
        destroy(state / victim)
        send()
        if victim.startswith("accounts"):  # what the page knows of them is in its memory
            os.kill(await_until(lambda: working(appliance).get("web"), "the page's service"), signal.SIGKILL)
        await_until(lambda: len(said(appliance, "SC322")) == repaired, f"{victim} is made again")  # noqa: B023
        await_until(lambda: working(appliance).keys() >= set(SERVICES), "all services are back")
        subscriber.await_findings(sent)
        assert len(repairs((state / victim).parent)) == 1
    words = "the journal was damaged and was made again on "
    await_until(lambda: read_health(state, time.time())["intake"].reason.startswith(words), "the page says it")
    send()
    assert {finding["message_id"] for finding in subscriber.await_findings(sent)} == {
        result.id for result in appliance.results()
    }
    assert len({result.instance_id for result in appliance.results()}) == sent
    await_until(lambda: len(said(appliance, "SC601")) == 2, "no account is left: the console shows a code, as at first")
    assert not said(appliance, "SC605")
