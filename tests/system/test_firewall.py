"""The firewall of a device, in a network of its own: who gets to what, and what the box may call."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.conftest import ROOT
from tests.system.conftest import await_until

pytestmark = pytest.mark.system
RULES = ROOT / "firmware_config" / "nftables.conf"
MODALITY, CLINIC, STRANGER = "192.0.2.20", "198.51.100.20", "203.0.113.66"
BOX = {MODALITY: "192.0.2.1", CLINIC: "198.51.100.200", STRANGER: "203.0.113.1"}
BROKER, PACS = "203.0.113.10", "198.51.100.10"
PORTS = (11112, 2762, 8080, 22, 9999)

LISTEN = """
import socket, sys
held = [socket.create_server(("", int(port)), backlog=100) for port in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read()
"""
CALL = """
import socket, sys
source, host, port = sys.argv[1:]
try:
    socket.create_connection((host, int(port)), 1.5, (source, 0)).close()
except TimeoutError:
    sys.exit(1)
"""


class Side(NamedTuple):
    """A network namespace, held by a process that listens in it."""

    holder: subprocess.Popen[str]

    def run(self, *command: str) -> None:
        subprocess.run(self.inside(*command), check=True)

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *command]


def _side(ports: tuple[int, ...]) -> Side:
    command = ["unshare", "--net", sys.executable, "-c", LISTEN, *map(str, ports)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    return Side(holder)


@pytest.fixture(scope="module")
def sides(program: Callable[[str], str]) -> Iterator[tuple[Side, Side]]:
    """The box behind its firewall, and everybody else on the other end of its cable."""
    if os.geteuid():
        pytest.skip("needs root, for networks of their own")
    ip, nft = program("ip"), program("nft")
    box, others = _side(PORTS), _side((8883, 104, 9999))
    try:
        others.run(ip, "link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns", str(box.holder.pid))
        for address in (MODALITY, CLINIC, STRANGER, BROKER, PACS):
            others.run(ip, "address", "add", f"{address}/24", "dev", "cable")
        for address in BOX.values():
            box.run(ip, "address", "add", f"{address}/24", "dev", "eth0")
        others.run(ip, "link", "set", "cable", "up")
        box.run(ip, "link", "set", "eth0", "up")
        box.run(nft, "--file", str(RULES))
        box.run(nft, "--file", str(RULES))  # again: it replaces itself
        allowed = [(MODALITY, BOX[MODALITY], PORTS[0])]
        await_until(lambda: _reached(others, allowed), "a cable that carries: it takes a moment after its ends are up")
        yield box, others
    finally:
        for side in (box, others):
            side.holder.kill()
            side.holder.communicate()


def _reached(side: Side, calls: list[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
    """All at once, since what is dropped is only known by its silence: which source, or host, and port got through."""
    started = {call: subprocess.Popen(side.inside(sys.executable, "-c", CALL, *map(str, call))) for call in calls}
    return {call for call, process in started.items() if process.wait() == 0}


def test_who_gets_in(sides: tuple[Side, Side]) -> None:
    _, others = sides
    calls = [(source, BOX[source], port) for source in BOX for port in PORTS]
    reached = {(source, port) for source, _, port in _reached(others, calls)}
    assert reached == {(MODALITY, 11112), (MODALITY, 2762), (CLINIC, 8080)}


def test_what_the_box_may_call(sides: tuple[Side, Side]) -> None:
    box, _ = sides
    near = {BROKER: BOX[STRANGER], PACS: BOX[CLINIC], MODALITY: BOX[MODALITY]}
    calls = [(near[host], host, port) for host in near for port in (8883, 104, 9999)]
    reached = {(host, port) for _, host, port in _reached(box, calls)}
    assert reached == {(BROKER, 8883), (PACS, 104)}
