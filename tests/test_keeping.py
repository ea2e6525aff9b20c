"""Who backed up, restored or reset a box stands in its audit trail, or with the syslog server when that goes too."""

from __future__ import annotations

import getpass
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from edge.store import Store
from tests.audit.test_forwarding import Repository
from tests.intake.certificates import Authority
from tests.running import ROOT, scanside
from tests.store.audit_reading import in_words
from tests.store.samples import arrival

PASSPHRASE = "correct horse battery staple\n"
ME = f"{getpass.getuser()}@xray-1.clinic-12"


class Box:
    """A box with one image."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.state = folder / "state"
        self.config = folder / "scanside.yaml"
        document = {"site": "clinic-12", "box": "xray-1", "state_dir": str(self.state), **options}
        self.config.write_text(yaml.safe_dump(document), encoding="utf-8")
        with closing(Store(self.state)) as store:
            store.accept(b"image", arrival("1.2.3"))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = scanside(*arguments, "--config", str(self.config))
        return subprocess.run(command, input=PASSPHRASE, capture_output=True, text=True, cwd=ROOT, check=False)

    def told(self) -> list[str]:
        """What the trail holds."""
        return [in_words(line) for line in self.run("audit", "export").stdout.splitlines()]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_backup_and_restore_stand_in_the_trail_and_the_backup_in_its_own(box: Box, tmp_path: Path) -> None:
    file = tmp_path / "stick"
    backed_up = f"Security Alert: Backup of the whole box begun E 0 | scanside-cli, {ME} | URI 2/13 {file.as_uri()}"
    restored = f"Security Alert: Whole box restored from a backup E 0 | scanside-cli, {ME} | URI 2/13 {file.as_uri()}"
    assert box.run("backup", str(file)).returncode == 0
    assert box.told()[0].startswith(backed_up)
    assert box.run("backup", str(file)).returncode == 1, "there is one already"
    assert len(box.told()) == 3, "what was not begun is not told; reading the trail is"
    box.state.rename(tmp_path / "stolen")
    assert box.run("restore", str(file), "--state-dir", str(box.state)).returncode == 0
    first, second, *_ = box.told()
    assert first.startswith(backed_up)
    assert second.startswith(restored)
    assert box.run("audit", "verify").returncode == 0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_factory_reset_is_told_to_the_syslog_server_before_the_trail_goes(
    tmp_path: Path, authority: Authority
) -> None:
    repository = Repository(authority)
    syslog = {"host": "localhost", "port": repository.port, "ca_file": str(authority.file)}
    box = Box(tmp_path, audit={"syslog": syslog})
    box.run("user", "add", "eve")
    assert box.run("factory-reset", "--yes").returncode == 0
    told = [in_words(message) for message in repository.wait_for(2)]
    assert told[1].startswith(f"Security Alert: Factory reset begun E 0 | scanside-cli, {ME} | URI 2/13 file://")
    repository.stop()
    assert list(box.state.iterdir()) == []


def test_a_server_that_does_not_answer_keeps_nobody_from_a_reset(tmp_path: Path) -> None:
    box = Box(tmp_path, audit={"syslog": {"host": "localhost", "port": 1}})
    box.run("user", "add", "eve")
    done = box.run("factory-reset", "--yes")
    assert done.returncode == 0
    assert "audit messages cannot be forwarded: Connection refused: 2 are lost" in done.stderr
    assert list(box.state.iterdir()) == []


def test_nor_does_a_key_that_is_lost(box: Box) -> None:
    box.run("user", "add", "eve")
    (box.state / "keys/store.key").unlink()
    done = box.run("factory-reset", "--yes")
    assert done.returncode == 0
    assert "the reset is not in the audit trail" in done.stderr
    assert list(box.state.iterdir()) == []
