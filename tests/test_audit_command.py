"""`scanside audit` and what `scanside user` leaves in the trail, as a person runs them."""

from __future__ import annotations

import getpass
import sqlite3
import subprocess
from pathlib import Path

import pytest

from edge.store.audit import audit_file
from tests.running import ROOT, scanside
from tests.store.audit_reading import in_words


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of a box of its own."""
    file = tmp_path / "scanside.yaml"
    file.write_text(f"site: clinic-12\nbox: xray-1\nstate_dir: {tmp_path / 'state'}\n")
    return file


def run(config: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = scanside(*arguments, "--config", str(config))
    return subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT, check=False)


def test_from_the_first_account_to_a_broken_trail(config: Path, tmp_path: Path) -> None:
    password = "several words for a test"
    assert run(config, "user", "add", "Eve", "--role", "clinician", given=password).returncode == 0
    assert run(config, "user", "password", "eve", given=password + "!").returncode == 0
    assert run(config, "user", "add", "eve", given=password).returncode == 1, "there is one already"
    assert run(config, "user", "list").returncode == 0
    assert run(config, "user", "remove", "eve").returncode == 0

    exported = run(config, "audit", "export")
    assert exported.returncode == 0
    me = getpass.getuser()
    file = audit_file(tmp_path / "state")
    alert = f"Security Alert: User Security Attributes Changed E 0 | scanside-cli, {me}@xray-1.clinic-12"
    about = "URI 2/13 /accounts/eve Alert Description="
    assert [in_words(line) for line in exported.stdout.splitlines()] == [
        f"{alert} | {about}created, role clinician",
        f"{alert} | {about}password changed",
        f"{alert} | {about}removed",
        f"Audit Log Used R 0 | {me}*, scanside-cli | URI 2/13 {file.as_uri()} 'Security Audit Log'",
    ]

    (tmp_path / "state" / "keys" / "store.key").unlink()
    log = tmp_path / "log"
    log.write_text(exported.stderr)
    verified = run(config, "audit", "verify", "--log", str(log))
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.startswith("the audit trail holds: records 1 to 4, digest ")
    assert run(config, "audit", "verify", "--log", "-", given=log.read_text()).returncode == 0
    number, digest = 4, verified.stdout.rpartition("digest ")[2].strip()
    assert run(config, "audit", "verify", "--head", f"{number}:sha256:{digest}").returncode == 0
    shorter = run(config, "audit", "verify", "--head", f"{number + 1}:{digest}")
    assert (shorter.returncode, "knows records up to 5, the trail ends at 4" in shorter.stdout) == (1, True)
    other = run(config, "audit", "verify", "--head", f"2:{digest}")
    assert (other.returncode, "BROKEN at record 2" in other.stdout) == (1, True)
    wrong = run(config, "audit", "verify", "--head", "2")
    assert (wrong.returncode, wrong.stderr.count("\n"), "NUMBER:DIGEST" in wrong.stderr) == (2, 1, True)
    refused = run(config, "user", "add", "bob", given=password)
    assert refused.returncode == 1, "nothing is changed that cannot be recorded"
    assert "bob" not in run(config, "user", "list").stdout
    assert run(config, "audit", "export").returncode == 1

    with sqlite3.connect(file) as sql:
        sql.execute("DROP TRIGGER only_the_retired_go")
        sql.execute("DELETE FROM records WHERE number = 2")
    sql.close()
    broken = run(config, "audit", "verify")
    assert broken.returncode == 1
    assert "BROKEN at record 2: record 2 is missing" in broken.stdout


def test_a_box_without_a_trail_says_so(config: Path) -> None:
    said = run(config, "audit", "verify")
    assert said.returncode == 1
    assert "no audit trail here: give the configuration of the box with --config" in said.stderr
    assert not audit_file(config.parent / "state").exists(), "a check makes nothing"
