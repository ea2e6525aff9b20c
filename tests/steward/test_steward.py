"""Orders that need the steward, from a console over a real Mosquitto to processes that are really ended."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from edge import settings
from edge.device.health import read_health
from edge.messages.commands import Command, Configure, OperatingPoint, Restart, SelfTest, Setting
from edge.store.machine import Machine
from edge.store.orders import Now, Orders
from tests.running import ROOT, RunningProgram
from tests.sync.conftest import BOX, SITE, Mosquitto, broker, mosquitto
from tests.sync.console import Console
from tests.system.conftest import await_until

__all__ = ["broker", "mosquitto"]

pytestmark = pytest.mark.system

_RUN = (
    "import sys; from pathlib import Path; from edge import events; from edge.appliance import run;"
    "from edge.config_file import load;"
    "events.configure('appliance'); sys.exit(run(load(Path(sys.argv[1])), sys.argv[2:]))"
)
_STARTED = re.compile(r"service (\w+) started, process (\d+)")
WENT_BACK = "the box did not come up with it and went back to the settings before"


class Box(RunningProgram):
    """An appliance whose link and steward are real."""

    def __init__(self, config: Path) -> None:
        self.state_dir = Path(yaml.safe_load(config.read_text(encoding="utf-8"))["state_dir"])
        service = [sys.executable, str(ROOT / "tests" / "steward" / "box.py"), str(config)]
        super().__init__([sys.executable, "-c", _RUN, str(config), *service], {"PYTHONPATH": str(ROOT)})

    def pids(self) -> dict[str, int]:
        """Each service's newest process."""
        return {match[1]: int(match[2]) for line in self.lines if (match := _STARTED.search(line))}

    def await_steward(self) -> None:
        await_until(lambda: self.states().get("steward") == self.states().get("sync") == "up", "link and steward up")

    def states(self) -> dict[str, str]:
        return {name: account.state.value for name, account in read_health(self.state_dir, time.time()).items()}

    def threads(self) -> object:
        """With how many the inference says that it works."""
        return read_health(self.state_dir, time.time())["inference"].details.get("threads")


@pytest.fixture
def console(broker: Mosquitto, tmp_path: Path) -> Iterator[Console]:
    client = Console(broker.port, tmp_path / "keys", broker.context())
    yield client
    client.stop()


@pytest.fixture
def config(console: Console, broker: Mosquitto, tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir()
    mqtt = {**broker.section(), "command_keys": str(tmp_path / "keys")}
    document = {"site": SITE, "box": BOX, "state_dir": str(state), "mqtt": mqtt, "inference": {"threads": 3}}
    file = tmp_path / "scanside.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


@pytest.fixture
def box(config: Path) -> Iterator[Box]:
    with Box(config) as running:
        running.wait_for("SC101")
        running.await_steward()
        yield running
        sys.stderr.write(running.log)


def _set(threads: int, version: int) -> Configure:
    return Configure(version=version, settings=(Setting(key="inference.threads", value=threads),))


def _ended(command: Command) -> tuple[str, str]:
    return command.status, command.reason


def test_a_service_is_restarted_and_the_others_stay(console: Console, box: Box) -> None:
    """CMD-RESTART-01"""
    before = box.pids()
    assert _ended(console.do(Restart(service="web"))) == ("successful", "")
    await_until(lambda: box.pids()["web"] != before["web"], "the line about another process")
    after = box.pids()
    assert {**after, "web": before["web"]} == before
    assert _ended(console.do(Restart(service="sync"))) == ("successful", ""), "the link itself"


def test_a_service_that_does_not_listen_is_ended(console: Console, box: Box) -> None:
    """CMD-RESTART-02 CMD-TIMEOUT-01"""
    (box.state_dir / "intake.does").write_text("stay", encoding="ascii")
    assert _ended(console.do(Restart(service="intake"))) == ("successful", "")
    assert _ended(console.do(Restart(service="intake"), timeout=1)) == ("failed", "intake did not come up in time")
    assert _ended(console.do(Restart(service="intake"))) == ("successful", ""), "it was killed"
    await_until(lambda: "SIGKILL" in box.log, "the line about its end")


def test_settings_stand_when_the_box_comes_up_with_them_and_older_ones_are_refused(console: Console, box: Box) -> None:
    """CMD-CONFIGURE-01"""
    assert box.threads() == 3
    assert _ended(console.do(_set(5, version=2))) == ("successful", "")
    await_until(lambda: box.threads() == 5, "five threads")
    console.first("-/shadow/reported/-", version=2, state="standing")
    for version in (1, 2):
        assert _ended(console.do(_set(6, version))) == ("failed", "version 2 is in force and this one not newer")
    assert _ended(console.do(Configure(version=3, settings=()))) == ("successful", "")
    await_until(lambda: box.threads() == 3, "the file's own again")


BAD: list[tuple[str, int | str]] = [
    ("inference.threads", 0),
    ("inference.threads", "many"),
    ("inference.wings", 2),
    ("web.host", "0.0.0.0"),
    ("mqtt.host", "elsewhere"),
    ("state_dir", "/"),
    ("storage.warn_below_percent", 1),
]


def test_settings_that_are_not_the_fleets_or_break_a_rule_change_nothing(console: Console, box: Box) -> None:
    """CMD-CONFIGURE-02"""
    before = box.pids()
    for key, value in BAD:
        ended = console.do(Configure(version=1, settings=(Setting(key=key, value=value),)))
        assert _ended(ended) == ("failed", "a setting is not one that a fleet may make or breaks its rule"), key
    assert box.pids() == before
    assert settings.read(box.state_dir) == settings.Standing()


@pytest.mark.parametrize("threads", [13, 12], ids=["dies of it", "never works with it"])
def test_settings_with_which_the_box_does_not_come_up_are_taken_back(console: Console, box: Box, threads: int) -> None:
    """CMD-CONFIGURE-03"""
    assert _ended(console.do(_set(5, version=1))) == ("successful", "")
    assert _ended(console.do(_set(threads, version=2), timeout=4)) == ("failed", WENT_BACK)
    await_until(lambda: box.threads() == 5, "the settings of before")
    assert settings.read(box.state_dir).settings.version == 1
    box.wait_for("SC516")


def test_an_operating_point_is_one_setting_and_leaves_the_others(console: Console, box: Box) -> None:
    """CMD-POINT-01"""
    assert _ended(console.do(_set(5, version=1))) == ("successful", "")
    assert _ended(console.do(OperatingPoint(version=2, name="screening"))) == ("successful", "")
    assert settings.read(box.state_dir).settings.values == {
        "inference.threads": 5,
        "inference.operating_point": "screening",
    }


def test_what_sync_might_smuggle_in_is_not_obeyed(console: Console, box: Box) -> None:
    """CMD-SIGN-02: the steward looks at signatures for himself."""
    order = console.order(Restart(service="web"))
    orders = Orders(box.state_dir)
    before = box.pids()
    machine = Machine()
    now = Now(time.time(), machine.boot_id(), machine.uptime())
    assert orders.take(order, "A" * 86 + "==", msgspec.json.encode(order).decode(), now)
    await_until(lambda: (one := orders.get(order.id)) and one.status == "failed", "a refusal")
    ended = orders.get(order.id)
    orders.close()
    assert ended
    assert ended.reason == "not signed by a key of this fleet"
    assert box.pids() == before


def test_the_self_test_says_each_check(console: Console, box: Box) -> None:
    """CMD-SELFTEST-01"""
    ended = console.do(SelfTest(), timeout=120)
    names = {line.name for line in ended.lines}
    assert {"disk", "key", "model"} <= names
    bad = sum(not line.well for line in ended.lines)
    assert bad, "its certificate, at least, ends tomorrow"
    assert _ended(ended) == ("failed", f"found something in {bad} of {len(ended.lines)} checks")
    assert not [line for line in ended.lines if line.text]


@pytest.mark.parametrize(
    ("victim", "after"), [("steward", "SC510"), ("steward", "SC514"), ("sync", "SC510"), ("everything", "SC514")]
)
def test_killed_in_the_middle_of_new_settings_it_brings_them_to_an_end(
    console: Console, config: Path, victim: str, after: str
) -> None:
    """CMD-RESUME-01: SIGKILL when the order was taken, or while the settings are tried."""
    with Box(config) as box:
        box.wait_for("SC101")
        box.await_steward()
        where = console.send(console.order(_set(13, version=1), timeout=6))
        box.wait_for(after)
        if victim != "everything":
            os.kill(box.pids()[victim], signal.SIGKILL)
            ended = console.ends(where)
        else:
            box.process.kill()
            box.process.wait()
            with Box(config) as again:
                ended = console.ends(where)
                await_until(lambda: again.threads() == 3, "the settings of before")
                assert again.stop() == 0
        assert _ended(ended) == ("failed", WENT_BACK)
        assert settings.read(box.state_dir).settings == settings.Settings()
