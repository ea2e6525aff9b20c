"""The house stands as DESIGN draws it: who may import whom, and what never comes onto the box."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FLOORS = [
    {
        "__version__",
        "records",
        "events",
        "reasons",
        "errors",
        "config",
        "config_reporting",
        "config_section",
        "config_file",
        "settings",
        "identity",
        "file_meta",
        "messages",
        "model_facts",
        "command_line",
        "modes",
        "last_good",
        "signature",
        "durable",
    },
    {"store", "imaging", "device", "synthetic"},
    {"audit", "intake", "inference", "reporting", "sync", "web"},
    {
        "cli",
        "appliance",
        "doctor",
        "demo",
        "keeping",
        "keeping_command",
        "fleet",
        "label",
        "setup",
        "steward",
        "support",
        "update_command",
    },
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Services are started by name, and the rooms of one floor stand apart, but for these.
ALLOWED_ACROSS = {
    ("device", "store"),
    ("synthetic", "imaging"),
    ("cli", "appliance"),
    ("cli", "doctor"),
    ("cli", "keeping_command"),
    ("keeping_command", "keeping"),
    ("cli", "fleet"),
    ("cli", "setup"),
    ("setup", "label"),
    ("cli", "steward"),
    ("cli", "support"),
    ("cli", "update_command"),
    ("support", "doctor"),
    ("demo", "fleet"),
    ("steward", "doctor"),
    ("messages", "records"),
    ("config", "errors"),
}
NOT_ON_THE_BOX = ("torch", "onnx", "nncf", "matplotlib", "monai", "export")


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


EDGE_FILES = sorted((ROOT / "edge").rglob("*.py"))


@pytest.mark.parametrize("file", EDGE_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down_or_stay_in_their_room(file: Path) -> None:
    room = file.relative_to(ROOT / "edge").parts[0].removesuffix(".py")
    for module in _imports(file):
        assert module.split(".")[0] not in NOT_ON_THE_BOX, f"{file} imports {module}"
        if not module.startswith("edge.") or room == "__init__":
            continue
        other = _room(module)
        if other == room or (room, other) in ALLOWED_ACROSS:
            continue
        ground_helps_ground = FLOOR_OF[room] == FLOOR_OF[other] == 0
        assert FLOOR_OF[other] < FLOOR_OF[room] or ground_helps_ground, f"{room} imports {other} ({module})"


def test_nothing_on_the_box_loads_pytorch() -> None:
    """Every module of the runtime, imported in one fresh interpreter."""
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in EDGE_FILES
        if file.name != "__main__.py"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"loaded = sorted(m for m in {NOT_ON_THE_BOX!r} if m in sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "folder",
    ["", *(str(path.relative_to(ROOT)) for path in (ROOT / "edge").iterdir() if (path / "__init__.py").exists())],
)
def test_each_folder_says_what_it_is_for(folder: str) -> None:
    assert (ROOT / folder / "README.md").is_file()


@pytest.mark.parametrize("folder", ["export", "models", "firmware_config", "package", "systemd", "tests", "benchmarks"])
def test_each_top_folder_says_what_it_is_for(folder: str) -> None:
    assert (ROOT / folder / "README.md").is_file()
