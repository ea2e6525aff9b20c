"""The doorbell between two real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge.store import Doorbell, Store, ring
from tests.running import ROOT
from tests.store.samples import arrival

_FOR_EVER = 3600.0


def test_accepting_wakes_another_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge.store import Doorbell;"
        "bell = Doorbell(Path(sys.argv[1]), 'inference'); print('ready', flush=True); print(bell.wait(3600.0))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as sleeper:
        assert sleeper.stdout
        assert sleeper.stdout.readline() == "ready\n"
        store = Store(tmp_path)
        store.accept(b"image", arrival())
        store.close()
        assert sleeper.communicate()[0] == "True\n"


def test_a_ring_that_came_before_the_sleep_is_heard_and_many_count_once(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path, "web")
    for _ in range(10_000):
        ring(tmp_path, "web")
    assert bell.wait(_FOR_EVER)
    assert not bell.wait(0.0)
    bell.close()


def test_ringing_where_nobody_is_does_nothing(tmp_path: Path) -> None:
    ring(tmp_path, "web")
    bell = Doorbell(tmp_path, "web")
    bell.close()
    ring(tmp_path, "web")
    ring(tmp_path / "not" / "there", "web")


def test_ringing_never_fails_what_was_done_before(tmp_path: Path) -> None:
    """Where even the folder of the bells cannot be: what was accepted stays accepted."""
    store = Store(tmp_path)
    (tmp_path / "doorbells-inside").write_bytes(b"a file in the way")
    assert store.accept(b"image", arrival()).new
    store.close()


def test_a_new_bell_takes_the_place_of_a_killed_ones(tmp_path: Path) -> None:
    first = Doorbell(tmp_path, "web")
    second = Doorbell(tmp_path, "web")
    ring(tmp_path, "web")
    assert second.wait(_FOR_EVER)
    assert not first.wait(0.0)
    first.close()
    second.close()


@pytest.mark.parametrize("length", [10, 150, 240])
def test_however_deep_the_state_folder_lies(tmp_path: Path, length: int) -> None:
    """A socket's address has 108 bytes."""
    deep = tmp_path / ("x" * length)
    bell = Doorbell(deep, "inference")
    ring(deep, "inference")
    assert bell.wait(_FOR_EVER)
    bell.close()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = _open_descriptors()
    bell = Doorbell(tmp_path, "web")
    for _ in range(100):
        ring(tmp_path, "web")
        ring(tmp_path, "nobody")
    bell.close()
    assert _open_descriptors() <= before


def _open_descriptors() -> int:
    """May become fewer by itself: what earlier tests have left is closed at any time."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_who_sees_the_doorbells_of_services_without_the_key_hears_no_other(tmp_path: Path) -> None:
    """What rings `inference` may bring the key of a file: `sync` could put a bell of its own in that place."""
    for service in ("intake", "inference", "web", "sync", "audit"):
        Doorbell(tmp_path, service).close()
    assert {path.name for path in (tmp_path / "doorbells").iterdir()} == {"sync", "audit"}
