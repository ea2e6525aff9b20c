"""Writers killed at any instant, and several at once: the chain holds, and what was recorded is there."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from edge.store.audit import AuditTrail, audit_file
from edge.store.audit.chain import check_file
from edge.store.keys import open_ring
from edge.store.vault import Vault
from tests.running import ROOT
from tests.store.test_audit import WEB

ROUNDS = 12
_WRITER = """
import sys
from pathlib import Path
from edge.store.audit import AuditTrail
from edge.store.keys import open_ring
from edge.store.vault import Vault
from tests.store.test_audit import WEB, sign_in
folder, count = Path(sys.argv[1]), int(sys.argv[2])
trail = AuditTrail(folder, Vault(open_ring(folder)), WEB)
for number in range(count):
    trail.record(sign_in(f"{sys.argv[3]}-{number}"))
    if not trail.trouble:  # the other has held the file for too long
        print(f"{sys.argv[3]}-{number}", flush=True)
"""


def _writer(folder: Path, count: int, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WRITER, str(folder), str(count), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def _recorded(folder: Path) -> set[str]:
    trail = AuditTrail(folder, Vault(open_ring(folder)), WEB)
    found = {(record.xml or "").partition('UserID="')[2].partition("@")[0] for record in trail.read(limit=1_000_000)}
    trail.close()
    return found


def test_writers_killed_at_random_moments_leave_a_chain_with_all_that_they_recorded(tmp_path: Path) -> None:
    randomness = random.Random(5)
    promised: set[str] = set()
    for number in range(ROUNDS):
        writers = [_writer(tmp_path, 1_000_000, f"{name}{number}") for name in ("intake", "web")]
        for writer in writers:
            assert writer.stdout
            promised.add(writer.stdout.readline().strip())
        time.sleep(randomness.uniform(0, 0.05))  # the random moment is what is tested
        for writer in writers:
            writer.kill()
            assert writer.stdout
            promised |= {line.strip() for line in writer.stdout if line.endswith("\n")}
            writer.wait()
            writer.stdout.close()
        verdict = check_file(audit_file(tmp_path))
        assert verdict.broken_at is None, verdict
        assert verdict.head.number >= len(promised)
    assert len(promised) > 2 * ROUNDS
    assert promised <= _recorded(tmp_path)


def test_two_services_write_one_chain(tmp_path: Path) -> None:
    writers = [_writer(tmp_path, 60, name) for name in ("intake", "web")]
    told = {line.strip() for writer in writers for line in writer.communicate()[0].splitlines()}
    verdict = check_file(audit_file(tmp_path))
    assert (verdict.broken_at, verdict.head.number) == (None, 120)
    assert told == _recorded(tmp_path)
    assert len(told) == 120
