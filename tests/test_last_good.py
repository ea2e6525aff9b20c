"""Safe mode: what a power cut has left of the configuration does not keep the box from working."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge import last_good, reasons
from edge.config_section import ConfigError
from edge.device.health import State, read_health
from tests.running import RunningProgram, scanside
from tests.system.conftest import await_until

GOOD = "site: clinic-7\nstate_dir: {state}\nintake: {dicom: {port: 0}}\n"
DAMAGED = {
    "its first line": "site: clinic-7\n",
    "its first lines": "site: clinic-7\nstate_dir: {state}\n",
    "half a line": "site: clinic-7\nstate_dir: {state}\nintake: {di",
    "nothing": "",
    "only blanks": "\n\n",
    "zeros": "\0" * 90,
    "an unknown key": "site: clinic-7\nstate_dir: {state}\nintaek: 1\n",
    "no text": "state_dir: {state}\n\udcff\udcfe",
    "no value of its kind": "state_dir: {state}\nsite: [1, 2]\n",
}


def _write(file: Path, text: str, state: Path) -> None:
    file.write_bytes(text.replace("{state}", str(state)).encode("utf-8", "surrogateescape"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def file(tmp_path: Path, state: Path) -> Path:
    """A configuration that was good once."""
    made = tmp_path / "scanside.yaml"
    _write(made, GOOD, state)
    last_good.keep(made, last_good.load(made))
    return made


@pytest.mark.parametrize("damage", DAMAGED)
def test_the_last_good_one_is_in_force_until_the_file_is_well(file: Path, state: Path, damage: str) -> None:
    _write(file, DAMAGED[damage], state)
    loaded = last_good.load(file, state)
    last_good.keep(file, loaded)
    assert loaded.config.site == "clinic-7"
    assert str(file) in str(loaded.refused)
    assert last_good.is_refused(state)
    _write(file, GOOD.replace("clinic-7", "clinic-8"), state)
    loaded = last_good.load(file, state)
    last_good.keep(file, loaded)
    assert (loaded.config.site, loaded.refused, last_good.is_refused(state)) == ("clinic-8", None, False)
    _write(file, DAMAGED[damage].replace("clinic-7", "clinic-8"), state)
    assert last_good.load(file, state).config.site == "clinic-8"


def test_a_file_that_is_gone(file: Path, state: Path) -> None:
    file.unlink()
    assert last_good.load(file, state).config.site == "clinic-7"


def test_without_a_good_one_the_error_is_the_file_s_own(tmp_path: Path) -> None:
    file = tmp_path / "scanside.yaml"
    file.write_text("site: clinic-7\nintaek: 1\n", encoding="ascii")
    with pytest.raises(ConfigError, match=r"scanside\.yaml:2: intaek: unknown key"):
        last_good.load(file, tmp_path / "state")


def test_a_good_one_of_another_version_helps_nobody(file: Path, state: Path) -> None:
    (state / "configuration/scanside.yaml").write_text("was_known_once: 1\n", encoding="ascii")
    _write(file, DAMAGED["half a line"], state)
    with pytest.raises(ConfigError, match="not YAML"):
        last_good.load(file, state)


def test_the_service_runs_and_the_page_is_told(file: Path, state: Path) -> None:
    def account() -> tuple[State, str]:
        health = read_health(state, time.time())["intake"]
        return health.state, health.reason

    _write(file, DAMAGED["half a line"], state)
    with RunningProgram(scanside("run", "--config", str(file), "intake")) as intake:
        assert f"{file}:3: not YAML" in intake.wait_for("SC108")
        intake.wait_for("SC200")
        await_until(lambda: account() == (State.DEGRADED, reasons.SAFE_MODE), "the page's account of it")
        assert intake.stop() == 0
