"""The services' processes: which one is a service now, whether it is up, and ending it.

Whoever supervises them, the appliance or systemd, starts the next one. Each service is the leader of a process group of
its own; its health file names a process of that group.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from edge.device.health import State, read_health


class Seen(NamedTuple):
    """A service at one moment.

    Attributes:
        leader: Names its main process, and no other of this boot or another; empty when there is none.
        up: It says that it works.
    """

    leader: str
    up: bool


def look(state_dir: Path, boot_id: str) -> dict[str, Seen]:
    """Every service that has a health file."""
    accounts = read_health(state_dir, time.time())
    return {
        name: Seen(leader := _leader(account.pid, name, boot_id), bool(leader) and account.state is State.UP)
        for name, account in accounts.items()
    }


def end(leader: str, number: signal.Signals) -> None:
    """Send a signal to this process, if it is still there."""
    pid, _, started = leader.partition(":")
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(int(pid))
        try:
            if _started(int(pid)) == started.partition(":")[0]:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _leader(pid: int, service: str, boot_id: str) -> str:
    """Its number, its start in ticks of this boot, and the boot; empty when no process of ours has this number."""
    try:
        leader = os.getpgid(pid)
        words = Path(f"/proc/{leader}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return ""
    started = _started(leader)
    # `... run [--config FILE] SERVICE`: a process that has got an old number is not taken for the service.
    return f"{leader}:{started}:{boot_id}" if started and service.encode() in words[-2:] else ""


def _started(pid: int) -> str:
    """Field 22 of /proc/pid/stat (proc(5)): the second field may hold spaces and brackets, the others none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
