"""The whole appliance as in a clinic, and what is around it: a broker that keeps sessions, a manager who listens.

Everything here can be killed and started again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import paho.mqtt.client as mqtt
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.demo.broker import ENDS_WITH_US
from edge.device.health import Health, State, read_health
from edge.records import Kept
from edge.store import Outbox, Store, Tampered, VaultLocked
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from edge.web.permissions import SESSION_COOKIE
from edge.web.sessions import Sessions
from tests.conftest import ROOT
from tests.running import scanside
from tests.system.conftest import SERVICES, await_until, free_port
from tests.system.faults.ledger import Held

_ACCOUNT, _PASSWORD = "checker", "a long enough password"
_SESSION_SECONDS = 1800.0
_PAGE = 200
_ANALYST = "edge.inference.analyst"
_PSS = re.compile(r"^Pss(_Anon|_Shmem|):\s+(\d+) kB", re.MULTILINE)


class Memory(NamedTuple):
    """Of some processes, in MB (proc(5), smaps_rollup).

    Attributes:
        pss: Proportional set size. What is shared of files counts the less, the more programs of this machine map it.
        own: What of it is not of files: that a leak grows, and no other program changes.
    """

    pss: float
    own: float


class Broker:
    """Mosquitto, killed and started again at will, and a client of its own that hears everything.

    A message that the broker has acknowledged is on its way to that client: the client's session is in the broker's
    database before the first kill, and the broker holds nothing back (no limit on what is in flight or queued).
    """

    def __init__(self, folder: Path, mosquitto: str) -> None:
        """Start both; they hear `scanside/1/#` from here on."""
        self.port = free_port()
        self._folder = folder
        folder.mkdir()
        settings = folder / "mosquitto.conf"
        settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_type none\n"
            f"persistence true\npersistence_location {folder}/\nmax_inflight_messages 0\nmax_queued_messages 0\n",
            encoding="ascii",
        )
        self._command = [*ENDS_WITH_US, mosquitto, "-c", str(settings)]
        self._lock = Lock()
        self._bodies: dict[str, set[bytes]] = {}
        self._subscribed = False
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="manager", protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._hear
        self._client.on_subscribe = self._note_subscription
        self.start()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 86400
        self._client.connect_async("127.0.0.1", self.port, clean_start=False, properties=properties)
        self._client.loop_start()
        self.await_listener()
        self._client.subscribe("scanside/1/#", qos=1)
        await_until(lambda: self._subscribed, "the manager's subscription")
        self._process.send_signal(signal.SIGUSR1)  # writes the database now
        await_until((folder / "mosquitto.db").exists, "the broker's database")

    def start(self) -> None:
        """Start the broker."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def await_listener(self) -> None:
        """Until the manager is connected: what the broker acknowledges from here on, the manager gets."""
        await_until(self._client.is_connected, "the manager's connection")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def messages(self) -> dict[str, set[bytes]]:
        """By message id, the different bodies that came."""
        with self._lock:
            return {key: set(bodies) for key, bodies in self._bodies.items()}

    def close(self) -> None:
        """End both."""
        self._client.disconnect()
        self._client.loop_stop()
        self.kill()

    def _hear(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        if "/find/" in message.topic and message.payload:
            with self._lock:
                self._bodies.setdefault(json.loads(message.payload)["message_id"], set()).add(bytes(message.payload))

    def _note_subscription(self, *_: object) -> None:
        self._subscribed = True


class Box:
    """A `scanside run` on a state folder that outlives it."""

    def __init__(
        self,
        folder: Path,
        state: Path,
        cache: Path,
        broker: Broker,
        *,
        environment: Mapping[str, str],
        now: Callable[[], float],
    ) -> None:
        """Start nothing yet.

        Args:
            folder: For its configuration and its log.
            state: The state folder.
            cache: Keeps the choice of the engine and its compiled models.
            broker: The broker of its fleet.
            environment: What its processes find there beside ours.
            now: What time its processes see.
        """
        self.state = state
        self._now = now
        (self.state / "cache").symlink_to(cache)
        self.dicom_port, self._web_port = free_port(), free_port()
        self._folder = folder
        self._environment = environment
        self._file = folder / "scanside.yaml"
        document = {
            "site": "test",
            "box": "box-1",
            "state_dir": str(self.state),
            "intake": {"dicom": {"port": self.dicom_port}},
            "inference": {"threads": 1},
            "web": {"port": self._web_port},
            "mqtt": {"host": "127.0.0.1", "port": broker.port, "tls": False, "health_interval_seconds": 5},
        }
        self._file.write_text(yaml.safe_dump(document), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """As systemd starts it."""
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                [*ENDS_WITH_US, *scanside("run", "--config", str(self._file))],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=ROOT,
                env={**os.environ, **self._environment},
            )

    @property
    def console(self) -> Path:
        """What it has logged."""
        return self._folder / "console"

    @property
    def supervisor(self) -> int:
        """The process number of `scanside run`."""
        assert self._process
        return self._process.pid

    def pids(self) -> dict[str, int]:
        """Each service that lives and works: it is up, or degraded, as after a repair; `sync` has its broker, too."""
        working = dict.fromkeys(SERVICES, (State.UP, State.DEGRADED)) | {"sync": (State.UP,)}
        return {name: account.pid for name, account in self._accounts().items() if account.state in working[name]}

    def processes(self, name: str) -> list[int]:
        """A service's own processes, however it is: the one that works, and the master that has started it, if any."""
        account = self._accounts().get(name)
        if account is None:
            return []
        master = _parent(account.pid)
        return [account.pid] if master is None or master == self.supervisor else [account.pid, master]

    def is_up(self) -> bool:
        """Whether all four services are."""
        return len(self.pids()) == len(SERVICES)

    def analyst(self) -> int | None:
        """The process that reads images, if there is one."""
        return next((pid for pid in self.tree() if _ANALYST in _cmdline(pid)), None)

    def tree(self) -> list[int]:
        """All its processes, the supervisor first."""
        return list(_tree(self.supervisor))

    def kill_all(self, *, at_once: bool) -> None:
        """SIGKILL to the supervisor, alone or with all that it has started; returns when none of them lives."""
        assert self._process
        doomed = self.tree()
        for pid in doomed if at_once else doomed[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        await_until(lambda: not [pid for pid in doomed if _cmdline(pid)], "no process outlives the supervisor")

    def stop(self) -> None:
        """SIGTERM, and the end."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def quiet(self) -> bool:
        """Whether nothing is left to do: every image answered, every summary acknowledged by the broker."""
        with closing(Store(self.state)) as store, closing(Outbox(self.state)) as outbox:
            return not store.queue().depth and not store.owed("summary") and not outbox.depth()[0]

    def last_seq(self) -> int:
        """The number of the newest change of a result."""
        with closing(Store(self.state)) as store:
            return store.last_seq()

    def held(self, after: int = 0) -> tuple[Held, ...]:
        """The results in the store, those after a change's number."""
        with closing(Store(self.state)) as store:
            return tuple(
                Held(stored.id, stored.result.sop_instance_uid or "")
                for stored in store.changed_since(after, limit=1_000_000)
            )

    def kept(self, tails: Mapping[str, bytes]) -> set[str]:
        """Of some images, by UID with the bytes at their end: those whose spool file can be read and is theirs.

        An image that the keeper has removed to make room, answered and delivered, counts as kept: its result is there.
        """
        kept: set[str] = set()
        with closing(Store(self.state)) as store:
            for stored in store.changed_since(0, limit=1_000_000):
                uid = stored.result.sop_instance_uid or ""
                if uid in tails and stored.kept is Kept.NOTHING:
                    kept.add(uid)
                elif uid in tails:
                    with suppress(OSError, Tampered, VaultLocked):
                        kept |= {uid} if store.read(stored.instance_id).endswith(tails[uid]) else set()
        return kept

    def shown(self) -> tuple[Held, ...]:
        """The results as the HTTP API gives them to a signed-in person, page after page."""
        with closing(AccountsFile(self.state)) as file:
            accounts = Accounts(file)
            account = next((account for account in accounts.list() if account.name == _ACCOUNT), None)
            account = account or accounts.add(_ACCOUNT, _PASSWORD, Role.ADMINISTRATOR)
            token = Sessions(file, self._now, _SESSION_SECONDS).open(account)
        return tuple(self._pages(token))

    def memory(self) -> dict[str, Memory]:
        """Of each service with its master and what it has started, and of `all`."""
        trees = {name: found[-1] for name in self.pids() if (found := self.processes(name))}
        sizes = {name: _memory(_tree(pid)) for name, pid in trees.items()}
        return sizes | {"all": _memory(self.tree())}

    def _accounts(self) -> dict[str, Health]:
        """What the services that live say of themselves."""
        accounts = read_health(self.state, self._now())
        return {name: accounts[name] for name in SERVICES if name in accounts and _cmdline(accounts[name].pid)}

    def _pages(self, token: str) -> Iterator[Held]:
        cursor = ""
        while True:
            url = f"http://127.0.0.1:{self._web_port}/api/v1/results?limit={_PAGE}{cursor}"
            page = await_until(lambda url=url: _fetch(url, token), "the HTTP API answers")  # type: ignore[misc]
            yield from (Held(view["id"], view["result"]["sop_instance_uid"]) for view in page["results"])
            if page["next"] is None:
                return
            cursor = f"&cursor={page['next']}"


def _fetch(url: str, token: str) -> dict[str, Any] | None:
    try:
        request = Request(url, headers={"Cookie": f"{SESSION_COOKIE}={token}", "Accept": "application/json"})
        with urlopen(request, timeout=30) as answer:
            page: dict[str, Any] = json.load(answer)
            return page
    except HTTPError as error:
        if error.code != 503:
            raise
    except (URLError, OSError):
        pass  # the service is being started again
    return None


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from _tree(int(child))


def _cmdline(pid: int) -> str:
    """Empty for a process that is no more, or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _memory(pids: Iterable[int]) -> Memory:
    total = Memory(0.0, 0.0)
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            sizes = dict(_PSS.findall(rollup))
            own = int(sizes.get("_Anon", 0)) + int(sizes.get("_Shmem", 0))
            total = Memory(total.pss + int(sizes.get("", 0)) / 1024, total.own + own / 1024)
    return total
