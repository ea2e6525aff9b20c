"""One process for each service and state folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.store import AlreadyRunning, hold_lock
from tests.running import ROOT


def test_the_second_one_is_told_what_to_do(tmp_path: Path) -> None:
    held = hold_lock(tmp_path, "intake")
    with pytest.raises(AlreadyRunning, match=r"intake runs here already: stop it, or set another state_dir"):
        hold_lock(tmp_path, "intake")
    other = hold_lock(tmp_path, "inference")
    os.close(held)
    os.close(hold_lock(tmp_path, "intake"))
    os.close(other)


def test_a_killed_holder_gives_it_back(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge.store import hold_lock;"
        "hold_lock(Path(sys.argv[1]), 'intake'); print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(AlreadyRunning):
            hold_lock(tmp_path, "intake")
        holder.kill()
    os.close(hold_lock(tmp_path, "intake"))


def test_a_child_of_the_holder_does_not_keep_it(tmp_path: Path) -> None:
    held = hold_lock(tmp_path, "intake")
    with subprocess.Popen(["sleep", "3600"], close_fds=False) as child:
        os.close(held)
        os.close(hold_lock(tmp_path, "intake"))
        child.kill()
