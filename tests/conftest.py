"""Fixtures that every room uses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.sync.certificates import Authority

ROOT = Path(__file__).resolve().parent.parent

# No time limit is an assertion: machines differ, and are shared.
settings.register_profile("scanside", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("scanside")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data beside the checkout. Its absence skips outside and fails in CI, which has it."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail("../shared is missing in CI")
        pytest.skip("needs ../shared (real radiographs and DICOM files), which is not here")
    return folder


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the certificates of every MQTT broker and of all that talk to one."""
    return Authority(tmp_path_factory.mktemp("authority"), "ca")


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Finds a system program (DCMTK's, not pynetdicom's namesakes). Its absence skips outside and fails in CI."""

    def find(name: str) -> str:
        path = shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin")
        if path is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{name} is missing in CI: tests/install_system_packages should have installed it")
            pytest.skip(f"needs {name}: run tests/install_system_packages")
        return path

    return find
