"""The firewall of a device, in a network of its own: who gets to what, and what the box may call."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from edge.cli import SERVICES
from tests.conftest import ROOT
from tests.system.conftest import await_until

pytestmark = pytest.mark.system
RULES = ROOT / "firmware_config" / "nftables.conf"
MODALITY, CLINIC, STRANGER = "192.0.2.20", "198.51.100.20", "203.0.113.66"
BOX = {MODALITY: "192.0.2.1", CLINIC: "198.51.100.200", STRANGER: "203.0.113.1"}
BROKER, PACS, SYSLOG, NAMES = "203.0.113.10", "198.51.100.10", "198.51.100.12", "198.51.100.1"
NOBODY_ELSE = 64000
USERS = {name: NOBODY_ELSE + 1 + place for place, name in enumerate(("", *SERVICES))}
"""A number for the user of each service, whom this machine need not have; of the administrator's by the empty name."""
PORTS = (11112, 2762, 8080, 22, 9999)
CALLED = (8883, 104, 6514, 53, 9999)
NAMED = {(BROKER, 8883), (PACS, 104), (SYSLOG, 6514), (NAMES, 53)}

LISTEN = """
import socket, sys
held = [socket.create_server(("", int(port)), backlog=100) for port in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read()
"""
CALL = """
import encodings.idna, os, socket, sys  # the codec of names is else read later, by whom may not
source, host, port, user = sys.argv[1:]
os.setuid(int(user))
try:
    socket.create_connection((host, int(port)), 1.5, (source, 0)).close()
except TimeoutError:
    sys.exit(1)
"""


class Call(NamedTuple):
    """From an address of the caller's to a host and port, by a user."""

    source: str
    host: str
    port: int
    user: int = NOBODY_ELSE


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
def sides(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """The box behind its firewall, and everybody else on the other end of its cable."""
    if os.geteuid():
        pytest.skip("needs root, for networks of their own")
    ip, nft = program("ip"), program("nft")
    box, others = _side(PORTS), _side(CALLED)
    try:
        others.run(ip, "link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns", str(box.holder.pid))
        for address in (MODALITY, CLINIC, STRANGER, BROKER, PACS, SYSLOG, NAMES):
            others.run(ip, "address", "add", f"{address}/24", "dev", "cable")
        for address in BOX.values():
            box.run(ip, "address", "add", f"{address}/24", "dev", "eth0")
        others.run(ip, "link", "set", "cable", "up")
        box.run(ip, "link", "set", "eth0", "up")
        rules = tmp_path_factory.mktemp("firewall") / "nftables.conf"
        rules.write_text(_with_numbers(RULES.read_text(encoding="ascii")), encoding="ascii")
        box.run(nft, "--file", str(rules))
        box.run(nft, "--file", str(rules))  # again: it replaces itself
        allowed = [Call(MODALITY, BOX[MODALITY], PORTS[0])]
        await_until(lambda: _reached(others, allowed), "a cable that carries: it takes a moment after its ends are up")
        yield box, others
    finally:
        for side in (box, others):
            side.holder.kill()
            side.holder.communicate()


def _with_numbers(rules: str) -> str:
    """The rules, with numbers for the users who come with the package."""

    def numbered(users: re.Match[str]) -> str:
        return re.sub(r"scanside(?:-(\w+))?", lambda user: str(USERS[user[1] or ""]), users[0])

    return re.sub(r"(?<=meta skuid ){[^}]*}", numbered, rules)


def _reached(side: Side, calls: list[Call]) -> set[Call]:
    """All at once, since what is dropped is only known by its silence: which got through."""
    started = {call: subprocess.Popen(side.inside(sys.executable, "-c", CALL, *map(str, call))) for call in calls}
    return {call for call, process in started.items() if process.wait() == 0}


def test_who_gets_in(sides: tuple[Side, Side]) -> None:
    _, others = sides
    calls = [Call(source, BOX[source], port) for source in BOX for port in PORTS]
    reached = {(call.source, call.port) for call in _reached(others, calls)}
    assert reached == {(MODALITY, 11112), (MODALITY, 2762), (CLINIC, 8080)}


NEAR = {BROKER: BOX[STRANGER], PACS: BOX[CLINIC], SYSLOG: BOX[CLINIC], NAMES: BOX[CLINIC], MODALITY: BOX[MODALITY]}
"""From which of its addresses the box calls a host."""


def test_what_the_box_may_call(sides: tuple[Side, Side]) -> None:
    """The administrator's doctor asks whether all that is named can be reached."""
    box, _ = sides
    calls = [Call(NEAR[host], host, port, USERS[""]) for host in NEAR for port in CALLED]
    reached = {(call.host, call.port) for call in _reached(box, calls)}
    assert reached == NAMED


def test_which_service_may_call_it(sides: tuple[Side, Side]) -> None:
    box, _ = sides
    users = {"": NOBODY_ELSE, **{name: USERS[name] for name in SERVICES}}
    calls = [Call(NEAR[host], host, port, user) for host, port in NAMED for user in users.values()]
    names = {number: name for name, number in users.items()}
    reached = {(names[call.user], call.host) for call in _reached(box, calls)}
    asking = {("sync", BROKER), ("reporting", PACS), ("audit", SYSLOG)}
    assert reached == asking | {(name, NAMES) for name in users if name not in ("intake", "web")}
