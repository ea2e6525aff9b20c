"""The real commands on tiny data: a bundle that the device accepts, training that survives a kill, keys, inspection."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from edge.inference.bundle import open_bundle
from edge.inference.engines import ENGINES, open_engine
from edge.inference.self_test import self_test
from tests.conftest import ROOT
from tests.export.conftest import ENVIRONMENT, scanside_export, tiny_recipe, write_model

Built = tuple[Path, Sequence[str]]
Keys = tuple[Path, Path]


def test_the_device_accepts_what_was_built(built: Built, keys: Keys, tmp_path: Path) -> None:
    sealed = open_bundle(built[0], keys[1].glob("*.pub"))
    assert [row.engine for row in sealed.bundle.measured] == ["pytorch", *ENGINES]
    assert {"model.onnx", "openvino/model.xml", "openvino/model.bin", "golden.npz", "card.md", "card.html"} == set(
        sealed.bundle.files
    )
    for engine in ENGINES:
        self_test(open_engine(engine, sealed, 1, tmp_path), sealed)


def test_nothing_is_left_beside_the_bundle(built: Built) -> None:
    assert {path.name for path in built[0].parent.iterdir()} == {"bundle", "cache", "data", "recipe.yaml"}


def test_the_card_holds_the_figures_and_needs_no_other_file(built: Built) -> None:
    folder = built[0]
    measured = yaml.safe_load((folder / "bundle.yaml").read_text(encoding="utf-8"))["measured"]
    card, page = ((folder / name).read_text(encoding="utf-8") for name in ("card.md", "card.html"))
    for row in measured:
        for text in (card, page):
            assert f"{row['auroc']['value']:.4f} ({row['auroc']['low']:.4f} to {row['auroc']['high']:.4f})" in text
    assert page.count("<svg") == 1
    assert "<image" not in page
    assert "src=" not in page
    assert str(ROOT) not in card + page


def test_inspect_verifies_and_explains(built: Built, keys: Keys) -> None:
    done = scanside_export("inspect", built[0], "--trusted-keys", keys[1])
    assert done.returncode == 0, done.stderr
    assert "signature and 6 files verified" in done.stdout
    assert done.stdout.count("AUROC") == 3


@pytest.mark.parametrize(
    "name",
    [
        "bundle.yaml", "bundle.yaml.sig", "model.onnx", "openvino/model.xml", "openvino/model.bin", "golden.npz",
        "card.md", "card.html",
    ],
)  # fmt: skip
def test_inspect_detects_one_flipped_byte(built: Built, keys: Keys, tmp_path: Path, name: str) -> None:
    shutil.copytree(built[0], tmp_path / "bundle")
    changed = tmp_path / "bundle" / name
    content = bytearray(changed.read_bytes())
    content[len(content) // 3] ^= 1
    changed.write_bytes(content)
    done = scanside_export("inspect", tmp_path / "bundle", "--trusted-keys", keys[1])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_inspect_refuses_an_unknown_key(built: Built, tmp_path: Path) -> None:
    other = tmp_path / "keys"
    scanside_export("key", "new", "--key", tmp_path / "other.key", "--trusted-keys", other)
    done = scanside_export("inspect", built[0], "--trusted-keys", other)
    assert done.returncode == 1
    assert "no trusted key" in done.stderr


def test_a_new_key_is_private_and_never_overwrites(keys: Keys) -> None:
    private, trusted = keys
    assert private.stat().st_mode & 0o777 == 0o600
    assert (trusted / "test.pub").read_text(encoding="ascii").startswith("-----BEGIN PUBLIC KEY-----")
    again = scanside_export("key", "new", "--key", private, "--trusted-keys", trusted, "--name", "other")
    assert again.returncode == 1
    assert "never overwritten" in again.stderr


def test_build_refuses_a_key_that_others_can_read(keys: Keys, tmp_path: Path) -> None:
    shown = tmp_path / "shown.key"
    shutil.copy(keys[0], shown)
    shown.chmod(0o644)
    recipe = write_model(tmp_path / "model", tiny_recipe())
    done = scanside_export("build", recipe, "--key", shown)
    assert done.returncode == 1
    assert "chmod 600" in done.stderr
    assert not (recipe.parent / "bundle").exists()


def test_training_goes_on_after_a_kill_and_ends_the_same(tmp_path: Path) -> None:
    recipe = write_model(tmp_path, tiny_recipe(epochs=2))
    command: list[str | Path] = [sys.executable, "-m", "export.cli", "train", recipe, "--cache", tmp_path / "killed"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "training loss" in line:
                break
        process.send_signal(signal.SIGKILL)
    resumed = scanside_export("train", recipe, "--cache", tmp_path / "killed")
    unbroken = scanside_export("train", recipe, "--cache", tmp_path / "unbroken")
    assert "training goes on after epoch" in resumed.stdout
    assert _last_epoch(resumed.stdout) == _last_epoch(unbroken.stdout)
    finished = scanside_export("train", recipe, "--cache", tmp_path / "killed")
    assert "finished before" in finished.stdout


def _last_epoch(printed: str) -> str:
    line = next(line for line in printed.splitlines() if " epoch 2/2 " in line)
    return line.split(" s, ")[1]  # the losses; before them stand clock and duration


def test_wrong_use_is_2_and_a_failure_is_1(tmp_path: Path) -> None:
    assert scanside_export("build", tmp_path / "none.yaml").returncode == 2
    assert scanside_export("transmogrify").returncode == 2
    recipe = write_model(tmp_path / "model", tiny_recipe())
    assert scanside_export("train", recipe, "--dataset", tmp_path / "none").returncode == 2
    (tmp_path / "empty").mkdir()
    failed = scanside_export("train", recipe, "--dataset", tmp_path / "empty", "--cache", tmp_path / "cache")
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
