"""SECURITY.md promises no telemetry: what the engines bring of it must not load, nor leave anything behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge.config import Config
from edge.inference.bundle import find_bundles
from edge.inference.engines import ENGINES
from tests.conftest import ROOT

CODE = """
import sys
from pathlib import Path
from edge.config import Config
from edge.inference.bundle import find_bundles, open_bundle
from edge.inference.engines import open_engine
from edge.inference.self_test import self_test

config = Config()
sealed = open_bundle(find_bundles(config.models_folder)[0], config.trusted_keys)
self_test(open_engine(sys.argv[1], sealed, 1, Path(sys.argv[2])), sealed)
loaded = [name for name in sys.modules if name.startswith("openvino_telemetry") and sys.modules[name]]
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_at_work_leaves_nothing_at_home(engine: str, tmp_path: Path) -> None:
    assert find_bundles(Config().models_folder)
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", CODE, engine, str(tmp_path / "cache")],
        cwd=ROOT,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []
