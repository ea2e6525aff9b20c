from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.recipe import GateRecipe
from export.steps import Steps, digest, key_of
from tests.conftest import ROOT

# A step that stands still when half of it is written, in a process of its own.
HALF_WAY = """
import sys, threading
from pathlib import Path
from export.steps import Steps
def make(folder):
    (folder / "half.bin").write_bytes(b"half")
    print("half-way", flush=True)
    threading.Event().wait()
Steps(Path(sys.argv[1]), print).folder("step", "inputs", make)
"""


class Maker:
    """Counts how often it was asked to make something."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path) -> None:
        self.times += 1
        (folder / "made.txt").write_text("made", encoding="utf-8")


def test_a_step_is_made_once_and_found_by_others_later(tmp_path: Path) -> None:
    said: list[str] = []
    make = Maker()
    first = Steps(tmp_path / "cache", said.append).folder("traced", ("key", 1), make)
    again = Steps(tmp_path / "cache", said.append).folder("traced", ("key", 1), make)
    assert (first, make.times) == (again, 1)
    assert (first / "made.txt").read_text(encoding="utf-8") == "made"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.name]
    assert said[0] == "traced: begins"
    assert said[1].startswith("traced: done after")
    assert said[2:] == [f"traced: done before, kept in {first}"]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("traced", ("key", 2)), ("answers", ("key", 1)), ("traced", ("key", GateRecipe())), ("traced", {"key": 1})],
)
def test_other_inputs_are_another_folder(tmp_path: Path, name: str, inputs: object) -> None:
    steps, make = Steps(tmp_path, lambda _: None), Maker()
    assert steps.folder("traced", ("key", 1), make) != steps.folder(name, inputs, make)
    assert make.times == 2


def test_a_record_names_a_step_by_its_values() -> None:
    assert key_of(GateRecipe(min_auroc=0.9)) == key_of(GateRecipe(min_auroc=0.9)) != key_of(GateRecipe())


def test_a_step_that_raises_leaves_nothing_and_is_made_the_next_time(tmp_path: Path) -> None:
    steps, make = Steps(tmp_path, lambda _: None), Maker()

    def fails(folder: Path) -> None:
        (folder / "half.bin").write_bytes(b"half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        steps.folder("step", "inputs", fails)
    assert list(tmp_path.iterdir()) == []
    assert [path.name for path in steps.folder("step", "inputs", make).iterdir()] == ["made.txt"]


def test_a_kill_half_way_leaves_nothing_at_the_place_and_the_step_is_made_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HALF_WAY, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("half-way" in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    make = Maker()
    done = Steps(tmp_path, lambda _: None).folder("step", "inputs", make)
    assert [path.name for path in done.iterdir()] == ["made.txt"]
    assert make.times == 1


def test_a_digest_is_the_sha_256_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert digest(tmp_path / "file") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
