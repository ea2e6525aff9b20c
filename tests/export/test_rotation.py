from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.inference.bundle import BUNDLE_FILE, SIGNATURE_FILE, SealedBundle, open_bundle
from export.keys import load_key, new_key, public_pem
from tests.conftest import ROOT
from tests.export.conftest import ENVIRONMENT, scanside_export

SHIPPED = ROOT / "models/cxr-pneumonia-paediatric/bundle"
# Every rename and removal of a file is a step of the rotation (but for what an earlier kill left half-written); the
# real command is killed right before the nth of them.
KILLED_BEFORE = """
import os, signal, sys
left = int(sys.argv.pop(1))
def watch(event, arguments):
    global left
    if event not in ("os.rename", "os.remove") or not str(arguments[0]).startswith(sys.argv[1]):
        return
    if event == "os.remove" and str(arguments[0]).endswith(".partial"):
        return
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
from export.cli import main
sys.exit(main(sys.argv[2:]))
"""


class Shop:
    """Two bundles signed by the shipped key, whose private half is not here, beside a private key that is."""

    def __init__(self, folder: Path) -> None:
        self.models, self.trusted, self.key = folder / "models", folder / "trusted", folder / "private/signing.key"
        for name in ("a", "b"):
            shutil.copytree(SHIPPED, self.models / name / "bundle")
        shutil.copytree(ROOT / "firmware_config/trusted_keys", self.trusted)
        self.key.parent.mkdir(mode=0o700)
        self.digests = [sealed.digest for sealed in self.open()]

    @property
    def arguments(self) -> list[str]:
        where = ["--models", str(self.models), "--trusted-keys", str(self.trusted), "--key", str(self.key)]
        return ["key", "rotate", "--name", "next", *where]

    def open(self) -> list[SealedBundle]:
        return [open_bundle(self.models / name / "bundle", self.trusted.glob("*.pub")) for name in ("a", "b")]

    def check_rotated(self) -> None:
        assert [path.name for path in self.trusted.iterdir()] == ["next.pub"]
        assert [sealed.digest for sealed in self.open()] == self.digests
        assert public_pem(load_key(self.key)) == (self.trusted / "next.pub").read_bytes()
        assert not [path for path in self.models.rglob("*") if path.suffix == ".partial"]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_bundles_get_a_new_signature_and_keep_their_digest(shop: Shop) -> None:
    sealed = (shop.models / "a/bundle" / BUNDLE_FILE).read_bytes()
    before = {path: path.read_bytes() for path in shop.models.rglob("*") if path.is_file()}
    made = scanside_export(*shop.arguments)
    assert made.returncode == 0, made.stderr
    shop.check_rotated()
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {SIGNATURE_FILE}
    assert (shop.models / "a/bundle" / BUNDLE_FILE).read_bytes() == sealed
    assert shop.key.stat().st_mode & 0o777 == 0o600
    inspected = scanside_export("inspect", shop.models / "a/bundle", "--trusted-keys", shop.trusted)
    assert inspected.returncode == 0, inspected.stderr
    old = scanside_export("inspect", shop.models / "a/bundle", "--trusted-keys", ROOT / "firmware_config/trusted_keys")
    assert old.returncode == 1
    assert "no trusted key" in old.stderr


def test_a_private_key_that_was_there_is_kept(shop: Shop) -> None:
    made = scanside_export("key", "new", "--key", shop.key, "--trusted-keys", shop.trusted, "--name", "second")
    assert made.returncode == 0, made.stderr
    old = shop.key.read_bytes()
    assert scanside_export(*shop.arguments).returncode == 0
    shop.check_rotated()
    assert shop.key.with_name("signing.key-before-next").read_bytes() == old
    again = scanside_export(*shop.arguments)
    assert again.returncode == 0, again.stderr
    shop.check_rotated()


STEPS = 7  # private key, public key, two signatures, the old public key, the old private key, the new one in its place


@pytest.mark.parametrize("step", range(STEPS))
def test_killed_at_any_step_every_bundle_is_still_trusted_and_the_same_command_finishes(shop: Shop, step: int) -> None:
    new_key(shop.key, shop.trusted.parent / "other/other.pub")
    watched = str(shop.models.parent)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE, str(step), watched, *shop.arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        check=False,
        timeout=600,
    )
    assert killed.returncode == -signal.SIGKILL
    assert [sealed.digest for sealed in shop.open()] == shop.digests
    again = scanside_export(*shop.arguments)
    assert again.returncode == 0, again.stderr
    shop.check_rotated()


def test_there_are_no_more_steps_than_those_killed_at(shop: Shop) -> None:
    new_key(shop.key, shop.trusted.parent / "other/other.pub")
    arguments = [sys.executable, "-c", KILLED_BEFORE, str(STEPS), str(shop.models.parent), *shop.arguments]
    assert subprocess.run(arguments, cwd=ROOT, env=ENVIRONMENT, check=False, timeout=600).returncode == 0


@pytest.mark.parametrize("name", [SIGNATURE_FILE, BUNDLE_FILE, "model.onnx"])
def test_a_bundle_that_does_not_verify_is_refused_and_nothing_changes(shop: Shop, name: str) -> None:
    broken = shop.models / "b/bundle" / name
    content = bytearray(broken.read_bytes())
    content[10] ^= 1
    broken.write_bytes(content)
    before = {path: path.read_bytes() for path in shop.models.parent.rglob("*") if path.is_file()}
    refused = scanside_export(*shop.arguments)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert str(shop.models / "b/bundle") in refused.stderr
    assert {path: path.read_bytes() for path in shop.models.parent.rglob("*") if path.is_file()} == before


def test_a_name_in_use_and_a_folder_without_bundles_are_refused(shop: Shop, tmp_path: Path) -> None:
    arguments = [*shop.arguments]
    arguments[arguments.index("next")] = "scanside"
    taken = scanside_export(*arguments)
    assert taken.returncode == 1
    assert "choose another name" in taken.stderr
    nothing = scanside_export(*shop.arguments[:4], "--models", tmp_path / "none", "--trusted-keys", shop.trusted)
    assert nothing.returncode == 1
    assert "--models" in nothing.stderr
    assert [path.name for path in shop.trusted.iterdir()] == ["scanside.pub"]
