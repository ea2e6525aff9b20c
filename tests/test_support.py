"""The support bundle tells what helps, and holds none of the identifiers with which a box is full."""

from __future__ import annotations

import json
import subprocess
import tarfile
import time
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import yaml

from edge.device.health import HealthFile, State
from edge.device.troubles import Trouble
from edge.store import Store
from edge.support import scrubbed
from tests.identifiers import find, plant, word
from tests.intake.objects import dx, save
from tests.running import ROOT, scanside
from tests.store.samples import arrival


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("support")


@pytest.fixture(scope="module")
def planted(folder: Path) -> list[Any]:
    """A box with one image full of identifiers, and words everywhere else where people write some."""
    dataset = dx()
    in_image, elsewhere = plant(dataset, Random(9)), word(Random(10))
    state = folder / elsewhere.word / "state"
    name = elsewhere.word
    document = {
        "site": name.lower(),
        "state_dir": str(state),
        "intake": {"dicom": {"ae_title": name, "calling_ae_titles": [name]}},
        "mqtt": {"host": "127.0.0.1", "port": 9, "username": name, "password_file": f"/nowhere/{name}"},
        "reporting": {"destinations": [{"name": name.lower(), "port": 9, "called_ae_title": name}]},
    }
    (folder / "scanside.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with closing(Store(state)) as store:
        store.accept(save(dataset, folder / "one.dcm").read_bytes(), arrival("1.2.3"))
    HealthFile(state, "intake").report(State.DEGRADED, f"{name} is full", queue_depth=3, host=name)
    (state / "troubles").mkdir()
    now = time.time()
    trouble = Trouble(service="intake", number=203, text=f"no {name}", count=2, first_at=now, last_at=now)
    (state / "troubles" / "intake.json").write_bytes(msgspec.json.encode([trouble]))
    return [in_image, elsewhere]


@pytest.fixture(scope="module")
def bundle(folder: Path, planted: list[Any]) -> dict[str, Any]:
    file = folder / "bundle.tar.gz"
    command = scanside("support-bundle", str(file), "--config", str(folder / "scanside.yaml"))
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert file.stat().st_mode & 0o777 == 0o600
    again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert again.returncode == 2, "nothing is overwritten"
    with tarfile.open(file) as parts:
        parts.extractall(folder / "bundle", filter="data")
    return {path.name: json.loads(path.read_bytes()) for path in (folder / "bundle" / "scanside-support").iterdir()}


def test_no_identifier_is_in_it(folder: Path, planted: list[Any], bundle: dict[str, Any]) -> None:
    assert find(planted, folder / "scanside.yaml"), "the search finds what is there"
    assert find(planted, folder / "bundle") == []


def test_it_tells_what_helps(bundle: dict[str, Any]) -> None:
    assert set(bundle) == {"about.json", "configuration.json", "doctor.json", "health.json", "troubles.json"}
    assert {"name": "broker", "well": False} in bundle["doctor.json"]
    assert {"name": "PACS", "well": False} in bundle["doctor.json"]
    assert bundle["about.json"]["packages"]["openvino"]
    assert bundle["configuration.json"]["mqtt"]["port"] == 9
    assert bundle["configuration.json"]["mqtt"]["username"] == "(set)"
    (health,) = bundle["health.json"]
    assert (health["service"], health["details"]) == ("intake", {"queue_depth": 3})
    (trouble,) = bundle["troubles.json"]
    assert (trouble["number"], trouble["count"]) == (203, 2)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ({"a": "secret", "b": ["x"], "c": {"d": 1}}, {"a": "(set)", "b": ["(set)"], "c": {"d": 1}}),
        (["", None, True, 0.5, ()], ["(empty)", None, True, 0.5, []]),
    ],
)
def test_scrubbed(value: Any, left: Any) -> None:
    assert scrubbed(value) == left
