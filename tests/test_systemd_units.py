"""The units are valid, tight, and one for each service."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cli import SERVICES
from edge.store.keys import CREDENTIAL
from tests.conftest import ROOT

_KINDS = (".mount", ".path", ".service", ".slice", ".target")
UNITS = sorted(path for path in (ROOT / "systemd").rglob("*") if path.suffix in _KINDS)
SERVICE_UNITS = [path for path in UNITS if path.suffix == ".service" and path.parent.name == "systemd"]
TIGHT_UNITS = [*SERVICE_UNITS, ROOT / "systemd" / "update" / "update-scanside-stick.service"]
"""All but the one that is dpkg, which may do everything."""
MOST_EXPOSED = 15
"""Tenths: systemd's own best units are at 12 to 15."""


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """The units with the path of this checkout's `scanside`, which `systemd-analyze` wants to see."""
    here = Path(sys.executable).parent / "scanside"
    for unit in UNITS:
        text = unit.read_text(encoding="ascii").replace("/opt/scanside/bin/scanside", str(here))
        (tmp_path / unit.name).write_text(text, encoding="ascii")
    return tmp_path


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong(unit: Path, copies: Path, program: Callable[[str], str]) -> None:
    said = _run([program("systemd-analyze"), "verify", "--man=no", str(copies / unit.name)])
    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.parametrize("unit", TIGHT_UNITS, ids=lambda unit: unit.name)
def test_exposure(unit: Path, copies: Path, program: Callable[[str], str]) -> None:
    options = ["--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}"]
    said = _run([program("systemd-analyze"), "security", *options, str(copies / unit.name)])
    assert said.returncode == 0, said.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_one_directive_a_line_in_order(unit: Path) -> None:
    for section in unit.read_text(encoding="ascii").strip().split("\n\n"):
        title, *lines = section.splitlines()
        assert title in ("[Unit]", "[Service]", "[Slice]", "[Install]", "[Mount]", "[Path]")
        names = [line.partition("=")[0] for line in lines]
        assert names == sorted(names)
        assert all(name.isalpha() for name in names)


def test_each_service_has_its_unit() -> None:
    assert {unit.name for unit in SERVICE_UNITS} == {f"scanside-{service}.service" for service in SERVICES}
    for service in SERVICES:
        text = (ROOT / "systemd" / f"scanside-{service}.service").read_text(encoding="ascii")
        assert f"ExecStart=/opt/scanside/bin/scanside run --config /etc/scanside/scanside.yaml {service}\n" in text


def test_all_but_sync_are_given_the_key() -> None:
    asking = {unit.name for unit in SERVICE_UNITS if f"{CREDENTIAL}\n" in unit.read_text(encoding="ascii")}
    assert asking == {unit.name for unit in SERVICE_UNITS} - {"scanside-sync.service"}


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
