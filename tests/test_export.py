"""`scanside export`: a result's image for a second opinion, out of the store of a box, as a person runs it."""

from __future__ import annotations

import getpass
import stat
import subprocess
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
import yaml
from pydicom import dcmread

from edge.records import Arrival, Priority, Result, Status, Subject, Timings
from edge.store import Store
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file
from tests.conftest import ROOT
from tests.identifiers import Planted, find, plant
from tests.running import scanside


class Box:
    """A configured box with one answered image."""

    def __init__(self, folder: Path, burned_in: str | None) -> None:
        dataset = dcmread(BytesIO(dx_file(radiograph(Kind.CLEAR, 0, 128, 160), seed=1)))
        self.planted: Planted = plant(dataset, Random(7))
        del dataset.BurnedInAnnotation
        if burned_in:
            dataset.BurnedInAnnotation = burned_in
        buffer = BytesIO()
        dataset.save_as(buffer)
        self.config = folder / "scanside.yaml"
        self.config.write_text(yaml.safe_dump({"state_dir": str(folder / "state")}), encoding="utf-8")
        self.output = folder / "second opinion.dcm"
        self.store = Store(folder / "state")
        self.store.accept(buffer.getvalue(), Arrival(source="file", peer="any"))
        instance = self.store.claim()
        assert instance is not None
        self.result = self.store.commit(
            instance,
            Result(
                source="file",
                sop_instance_uid=None,
                status=Status.CLEAR,
                reason=None,
                priority=Priority.ROUTINE,
                timings_ms=Timings(),
            ),
            Subject(),
        ).id
        self.store.close()

    def export(self, result: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = scanside("export", result, "--output", str(self.output), "--config", str(self.config), *options)
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_an_image_is_written_without_identifiers(tmp_path: Path) -> None:
    box = Box(tmp_path, "NO")
    done = box.export(box.result)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert dcmread(box.output).PatientIdentityRemoved == "YES"
    assert find(box.planted, box.output) == []
    assert stat.S_IMODE(box.output.stat().st_mode) == 0o600


def test_who_took_an_image_off_the_box_stands_in_the_audit_trail(tmp_path: Path) -> None:
    box = Box(tmp_path, "NO")
    assert box.export(box.result).returncode == 0
    command = scanside("audit", "export", "--config", str(box.config))
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.splitlines()
    (message,) = [line for line in told if 'csd-code="110106"' in line]
    assert box.output.as_uri() in message
    assert b64encode(box.result.encode()).decode() in message
    assert getpass.getuser() in message


def test_what_a_person_must_look_at_is_said(tmp_path: Path) -> None:
    box = Box(tmp_path, None)
    done = box.export(box.result)
    assert done.returncode == 0 and box.output.exists()
    assert done.stderr.count("\n") == 1 and "look at the picture" in done.stderr


def test_an_image_with_text_in_it_is_refused(tmp_path: Path) -> None:
    box = Box(tmp_path, "YES")
    done = box.export(box.result)
    assert done.returncode == 1 and not box.output.exists()
    assert done.stderr.count("\n") == 1 and "workstation" in done.stderr
    assert find(box.planted, done.stderr.encode()) == []


@pytest.mark.parametrize(("result", "words"), [("nothing", "no result of this id"), ("", "no result of this id")])
def test_wrong_use(tmp_path: Path, result: str, words: str) -> None:
    box = Box(tmp_path, "NO")
    done = box.export(result)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
    assert not box.output.exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    box = Box(tmp_path, "NO")
    box.output.write_bytes(b"mine")
    done = box.export(box.result)
    assert done.returncode == 2 and "nothing is overwritten" in done.stderr
    assert box.output.read_bytes() == b"mine"


def test_an_image_that_the_box_no_longer_has(tmp_path: Path) -> None:
    box = Box(tmp_path, "NO")
    for path in (tmp_path / "state/spool").iterdir():
        if path.is_file():
            path.unlink()
    done = box.export(box.result)
    assert done.returncode == 1 and "no longer has this image" in done.stderr


def test_a_box_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    box = Box(tmp_path, "NO")
    box.config.write_text(yaml.safe_dump({"state_dir": str(tmp_path / "elsewhere")}), encoding="utf-8")
    done = box.export(box.result)
    assert done.returncode == 2 and "no state folder" in done.stderr
    assert not (tmp_path / "elsewhere").exists()
