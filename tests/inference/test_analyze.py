"""`scanside analyze` as people call it: a process, its output lines, its exit status."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from edge.inference.guard import LOST
from edge.records import Reason, Result, Status
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file

SIZE = (500, 600)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def patient(cache: Path) -> Path:
    """A configuration with which no image is given up on a busy machine."""
    file = cache / "scanside.yaml"
    file.write_text("inference: {image_seconds: 60}\n", encoding="ascii")
    return file


def _scanside(cache: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", *map(str, arguments)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def _results(lines: Sequence[str]) -> list[Result]:
    """Each line is the contract, no field more or less."""
    return [msgspec.json.decode(line, type=Result) for line in lines]


def test_the_full_size_radiographs_get_the_flags_of_their_labels(cache: Path, patient: Path, shared: Path) -> None:
    folder = shared / "data/cxr_full_size"
    done = _scanside(cache, "analyze", folder, "--modality", "DX", "--age", "3Y", "--json", "--config", patient)
    assert done.returncode == 0, done.stderr
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = {str(folder / row["path"]): row["label"] == "PNEUMONIA" for row in csv.DictReader(file)}
    analysed = [result for result in _results(done.stdout.splitlines()) if result.status is not Status.NOT_ANALYSED]
    assert [result.source for result in analysed] == sorted(labels)
    agreeing = [r for r in analysed if r.status in ((Status.FLAGGED,) if labels[r.source] else (Status.CLEAR,))]
    assert len(agreeing) >= 21


def test_every_dicom_file_gets_one_line(cache: Path, patient: Path, shared: Path) -> None:
    folder = shared / "data/dicom/files"
    done = _scanside(cache, "analyze", folder, "--json", "--config", patient)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    results = _results(done.stdout.splitlines())
    assert [result.source for result in results] == [str(path) for path in sorted(folder.iterdir())]
    assert {result.status for result in results} == {Status.NOT_ANALYSED}
    assert not (LOST | {Reason.PROCESSING_FAILED}) & {result.reason for result in results}


def test_the_contract_line(cache: Path, tmp_path: Path) -> None:
    """Names and order of the fields are what other people's tools rely on."""
    path = tmp_path / "one.dcm"
    path.write_bytes(dx_file(radiograph(Kind.OPACITY, 1, *SIZE), seed=1))
    done = _scanside(cache, "analyze", path, "--json")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert ",".join(line) == "schema,source,sop_instance_uid,status,reason,priority,findings,quality,model,timings_ms"
    assert line["schema"] == "scanside.result/1"
    assert line["source"] == str(path)
    assert ",".join(line["findings"][0]) == "code,scheme,meaning,score,probability,threshold,flagged,box,side,zone"
    assert line["findings"][0]["code"] == "233604007"
    assert list(line["model"]) == ["id", "version", "digest", "engine", "precision", "experimental"]
    assert list(line["timings_ms"]) == ["decode", "prepare", "infer", "explain", "total"]


def test_input_order_is_kept_and_bad_files_are_answered(cache: Path, tmp_path: Path) -> None:
    good, text, older = tmp_path / "z.dcm", tmp_path / "a.txt", tmp_path / "m.dcm"
    good.write_bytes(dx_file(radiograph(Kind.CLEAR, 0, *SIZE), seed=0))
    text.write_text("no image")
    older.write_bytes(dx_file(radiograph(Kind.CLEAR, 0, *SIZE), seed=2, age="010Y"))
    done = _scanside(cache, "analyze", good, text, older, "--json")
    results = _results(done.stdout.splitlines())
    assert [result.source for result in results] == [str(good), str(text), str(older)]
    assert [result.reason for result in results] == [None, Reason.NOT_DICOM, Reason.OVER_AGE]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["analyze", "nowhere.dcm"], 2, "nowhere.dcm: no such file"),
        (["analyze", ".", "--age", "three"], 2, "--age 'three'"),
        (["analyze"], 2, "PATH"),
        (["send", ".", "--to", "nowhere"], 2, "--to 'nowhere'"),
        (["run", "--config", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(cache: Path, arguments: list[str], status: int, said: str) -> None:
    done = _scanside(cache, *arguments)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "analyze", "send", "doctor", "model", "user", "key"])
def test_every_subcommand_has_help(cache: Path, command: str) -> None:
    done = _scanside(cache, command, "--help")
    assert done.returncode == 0
    assert "usage: scanside" in done.stdout
