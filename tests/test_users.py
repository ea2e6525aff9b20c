"""Each service's user opens what the table in `systemd/README.md` gives it, and nothing else (run as root).

Users, groups and folders are those of the package, made by systemd's own programs under a root of their own. Each file
is opened by a process that has become the user: what the kernel says counts. What a unit hides besides, and whole
services as these users, `package/prove` shows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.cli import SERVICES
from edge.modes import make_folder, opener, work_in
from edge.store.keys import ring_file
from tests.conftest import ROOT

DATA = ("journal.sqlite", "spool/one", "derived/one", "reports/one", "cache/one", "doorbells-inside/one", "broken/one")
FOLDERS = ("accounts", "audit", "configuration", "doorbells", "health", "history", "keys", "locks", "orders", "outbox")
FILES = (*DATA, *(f"{folder}/one" for folder in (*FOLDERS, "settings", "tls", "troubles")))


class Device:
    """The users and the state folder of a device under a root of their own."""

    def __init__(self, root: Path) -> None:
        self.state = root / "var/lib/scanside"
        self.secret = root / "etc/scanside/mqtt.password"
        self._users = _fields(root / "etc/passwd")
        self._groups = _fields(root / "etc/group")

    def ids(self, user: str) -> tuple[int, int, list[int]]:
        """Its user id, group id, and other groups."""
        uid, gid, *_ = self._users[user]
        return (
            int(uid),
            int(gid),
            [int(number) for number, members in self._groups.values() if user in members.split(",")],
        )

    def as_user(self, user: str, act: Callable[[], str]) -> str:
        """What `act` says in a process of this user, which has no capability any more (capabilities(7))."""
        uid, gid, groups = self.ids(user)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.setgroups(groups)
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
                os.write(writer, act().encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as said:
            answer = said.read()
        os.waitpid(child, 0)
        return answer

    def files(self, user: str) -> set[str]:
        """The files of the state folder that the user can read and write."""
        return set(self.as_user(user, lambda: "\n".join(name for name in FILES if _opens(self.state / name))).split())


def _fields(file: Path) -> dict[str, list[str]]:
    """By name, what stands after the password."""
    lines = (line.split(":") for line in file.read_text(encoding="utf-8").splitlines())
    return {name: rest for name, _, *rest in lines}


def _opens(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR))
    except PermissionError:
        return False
    return True


def _make(state: Path) -> str:
    """As a service does."""
    work_in(state)
    for name in FILES:
        make_folder((state / name).parent)
        open(state / name, "xb", opener=opener).close()
    return "made"


@pytest.fixture(scope="module")
def device(program: Callable[[str], str]) -> Iterator[Device]:
    if os.geteuid():
        pytest.skip("needs root, to become other users")
    root = Path(tempfile.mkdtemp(prefix="scanside-device-"))  # pytest's own folders are closed to other users
    try:
        root.chmod(0o755)
        (root / "etc").mkdir()
        (root / "etc").chmod(0o755)
        for folder, options in (("sysusers", []), ("tmpfiles", ["--create"])):
            there = root / f"usr/lib/{folder}.d"
            there.mkdir(parents=True)
            shutil.copy(ROOT / f"systemd/scanside.{folder}", there / "scanside.conf")
            subprocess.run([program(f"systemd-{folder}"), f"--root={root}", *options, "scanside.conf"], check=True)
        made = Device(root)
        assert made.as_user("scanside", lambda: _make(made.state)) == "made"
        made.secret.write_text("secret", encoding="ascii")
        made.secret.chmod(0o600)
        os.chown(made.secret, made.ids("scanside-sync")[0], 0)
        yield made
    finally:
        shutil.rmtree(root)


def _table() -> dict[str, set[str]]:
    """The README's table: by service, the files of which it says that the service opens them."""
    text = (ROOT / "systemd/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+`) \| `scanside[a-z-]*` \| ([a-z, ]+) \|$", text, re.MULTILINE)
    table: dict[str, set[str]] = {service: set() for service in SERVICES}
    for row, services in rows:
        places = re.findall(r"`([a-z./_-]+)`", row)
        for service in SERVICES if services == "all" else services.split(", "):
            table[service] |= {name for name in FILES if name.partition("/")[0] in places}
    assert set().union(*table.values()) == set(FILES), "a folder is missing in the table"
    return table


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_opens_what_the_table_says_and_no_more(device: Device, service: str) -> None:
    assert device.files(f"scanside-{service}") == _table()[service]


@pytest.mark.parametrize(
    ("service", "closed"),
    [
        ("sync", {*DATA, "keys/one", "audit/one", "accounts/one", "tls/one"}),
        ("audit", {*DATA, "accounts/one", "outbox/one", "orders/one"}),
        ("inference", {"accounts/one", "audit/one", "orders/one", "tls/one"}),
        ("intake", {"accounts/one", "outbox/one", "orders/one", "tls/one"}),
        ("reporting", {"accounts/one", "outbox/one", "orders/one", "tls/one"}),
        ("web", {"outbox/one", "orders/one"}),
    ],
)
def test_what_a_service_must_not_open(device: Device, service: str, closed: set[str]) -> None:
    assert not device.files(f"scanside-{service}") & closed


@pytest.mark.parametrize("service", SERVICES)
def test_a_secret_is_for_the_service_whose_it_is(device: Device, service: str) -> None:
    opens = device.as_user(f"scanside-{service}", lambda: str(_opens(device.secret)))
    assert opens == str(service == "sync")


def test_the_administrator_opens_everything(device: Device) -> None:
    assert device.files("scanside") == set(FILES)


def test_a_closed_folder_of_credentials_is_one_without_the_key(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd 252 leaves it where there is nothing to load."""
    closed = device.state.parent / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(closed))
    found = device.as_user("scanside-intake", lambda: str(ring_file(device.state, None)))
    assert found == str(device.state / "keys/store.key")
