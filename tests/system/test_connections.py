"""What the running appliance listens on and calls is what SECURITY.md says, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
import yaml

from tests.intake.certificates import Authority
from tests.running import RunningProgram, scanside
from tests.system.conftest import await_until, free_port

pytestmark = pytest.mark.system
_LISTEN, _ESTABLISHED = "0A", "01"  # include/net/tcp_states.h, as /proc/net/tcp shows them


def _family(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):  # it, or a thread of it, has ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text(encoding="ascii").split():
                    yield from _family(int(child))


def _sockets(pid: int) -> set[tuple[str, int, int]]:
    """State, local and remote port of each TCP socket, and each UDP socket, that a process and its children hold."""
    held = set()
    for member in _family(pid):
        with suppress(OSError):  # it has ended meanwhile
            for descriptor in Path(f"/proc/{member}/fd").iterdir():
                with suppress(OSError):  # closed meanwhile
                    held.add(str(descriptor.readlink()))
    found = set()
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{kind}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in held:
                local, remote = (int(fields[at].rpartition(":")[2], 16) for at in (1, 2))
                found.add((fields[3] if kind.startswith("tcp") else kind, local, remote))
    return found


def test_it_listens_and_calls_as_written(tmp_path: Path) -> None:
    names = ("dicom", "dicom_tls", "page", "redirect", "commitment")
    ports = {name: free_port() for name in names}
    authority = Authority(tmp_path)
    certificate, key = authority.issue("box")
    with ExitStack() as stack:
        broker, syslog = (stack.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for _ in range(2))
        called = {name: peer.getsockname()[1] for name, peer in (("broker", broker), ("syslog", syslog))}
        tls = {"port": ports["dicom_tls"], "certificate_file": str(certificate), "key_file": str(key)}
        configuration = {
            "state_dir": str(tmp_path / "state"),
            "intake": {"dicom": {"port": ports["dicom"], "tls": tls}},
            "web": {"port": ports["page"], "tls": {"redirect_port": ports["redirect"]}},
            "mqtt": {"host": "127.0.0.1", "port": called["broker"], "tls": False},
            "audit": {"syslog": {"host": "127.0.0.1", "port": called["syslog"]}},
            "reporting": {
                "destinations": [{"name": "pacs", "port": free_port()}],
                "commitment_port": ports["commitment"],
            },
        }
        file = tmp_path / "scanside.yaml"
        file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        running = stack.enter_context(RunningProgram(scanside("run", "--config", str(file))))
        seen: set[tuple[str, int, int]] = set()

        def all_of_it() -> bool:
            seen.update(_sockets(running.process.pid))
            listening = {local for state, local, _ in seen if state == _LISTEN}
            remote = {remote for state, _, remote in seen if state == _ESTABLISHED}
            return listening >= set(ports.values()) and remote >= set(called.values())

        await_until(all_of_it, "every listener and every call")
        assert {local for state, local, _ in seen if state == _LISTEN} == set(ports.values())
        assert {remote for state, _, remote in seen if state == _ESTABLISHED} == set(called.values())
        assert not [state for state, _, _ in seen if state.startswith("udp")]
        running.stop()
