"""A backup holds all of it, made while the box works, and nobody reads it; a bare box has all of it again."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from threading import Event, Thread

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge import settings
from edge.messages.commands import HealthCheck, Order, Refusal, check, sign, time, topic
from edge.modes import work_in
from edge.records import Subject
from edge.store import AlreadyRunning, Outbox, Store, VaultLocked, hold_lock
from edge.store.adoption import Swept
from edge.store.backup import BackupError, back_up, restore
from edge.store.machine import Machine
from edge.store.orders import Now, Orders
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from tests.conftest import ROOT
from tests.identifiers import Planted, find, word
from tests.running import scanside
from tests.store.samples import arrival, claimed, flagged, summary

PASSPHRASE = "correct horse battery staple"
IMAGES = 4
NOW = 1_800_000_000.0
SET = settings.Standing(settings=settings.Settings(version=7, values={"inference.operating_point": "sensitive"}))


@pytest.fixture
def planted() -> Planted:
    return word(Random(1))


@pytest.fixture
def state(tmp_path: Path, planted: Planted) -> Path:
    """A box with answered and waiting images, one of them larger than a frame, pictures, an account and messages."""
    folder = tmp_path / "state"
    with closing(Store(folder)) as store:
        for number in range(IMAGES):
            store.accept(_object(planted, number), arrival(f"1.2.{number}"))
        instance = claimed(store)
        store.commit(instance, flagged(), Subject(patient_id=planted.name), summary=summary)
        store.write_picture(instance.id, "preview.jpg", planted.name.encode())
    with closing(AccountsFile(folder)) as file:
        Accounts(file).add("technician1", "a long enough password", Role.TECHNICIAN)
    with closing(Outbox(folder)) as outbox:
        outbox.put([("1", "summary", b"{}")])
    with closing(Orders(folder)) as orders:
        orders.take(_order("before", NOW - 60), "signature", "text", Now(NOW, "boot", 1.0))
    settings.write(folder, SET)
    return folder


def _order(name: str, issued: float) -> Order:
    fields = {"id": name, "site": "clinic", "box": "box-1", "timeout_seconds": 60, "work": HealthCheck()}
    return Order(**fields, issued_at=time(issued), not_after=time(issued + 86400))  # type: ignore[arg-type]


def _object(planted: Planted, number: int) -> bytes:
    return f"{planted.name} {number} ".encode() * (1 if number else 30_000)


@pytest.fixture
def backup(state: Path, tmp_path: Path) -> Path:
    file = tmp_path / "backup"
    content = back_up(state, file, PASSPHRASE)
    assert (content.images, content.files) == (IMAGES, IMAGES + 7)
    return file


def test_a_bare_box_has_all_of_it_again(backup: Path, tmp_path: Path, planted: Planted) -> None:
    folder = tmp_path / "bare"
    assert restore(backup, folder, PASSPHRASE).images == IMAGES
    with closing(Store(folder)) as store:
        (stored,) = store.results()
        assert stored.subject.patient_id == planted.name
        assert store.picture(stored.instance_id, "preview.jpg") == planted.name.encode()
        assert [item.result_id for item in store.owed("summary")] == [stored.id]
        kept = {store.read(stored.instance_id)} | {store.read(claimed(store).id) for _ in range(IMAGES - 1)}
        assert kept == {_object(planted, number) for number in range(IMAGES)}
        assert store.sweep() == Swept(0, 0, 0, 0)
        assert not store.accept(_object(planted, 1), arrival("1.2.1")).new
    with closing(AccountsFile(folder)) as file:
        assert Accounts(file).verify("technician1", "a long enough password")
    with closing(Outbox(folder)) as outbox:
        assert len(outbox.waiting()) == 1
    modes = {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()}
    assert modes == {"0o600"}


@pytest.mark.parametrize("synchronised", [True, False])
def test_a_restored_box_keeps_the_fleet_s_settings_and_takes_no_order_twice(
    backup: Path, tmp_path: Path, synchronised: bool
) -> None:
    """CMD-ONCE-01 CMD-EXPIRY-01: one that was obeyed after the backup is not in it, and is refused for its age."""
    folder, key = tmp_path / "bare", Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    machine = Machine(synchronised=lambda: synchronised)
    restore(backup, folder, PASSPHRASE, clock=lambda: NOW, machine=machine)
    assert settings.read(folder) == SET
    with closing(Orders(folder)) as orders:
        assert orders.get("before") is not None
        assert orders.since() == (NOW if synchronised else 0.0)

        def judged(issued: float) -> object:
            order = _order("after", issued)
            command = sign(order, key, issued)
            return check(command, topic(order), [pem], NOW + 60, synchronised=True, since=orders.since())

        assert isinstance(judged(NOW + 1), Order)
        assert (judged(NOW - 1) == Refusal.TOO_LATE) is synchronised


def test_a_device_s_folders_are_there_before_and_shared_afterwards(backup: Path, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    for name in (".", "accounts", "health"):
        (folder / name).mkdir()
        (folder / name).chmod(0o2770)
    before = os.umask(0o077)
    try:
        work_in(folder)
        restore(backup, folder, PASSPHRASE)
    finally:
        os.umask(before)
    modes = {oct(path.stat().st_mode & 0o7777) for path in folder.rglob("*") if path.name != "health"}
    assert modes == {"0o660", "0o2770"}


def test_nobody_reads_a_backup(backup: Path, state: Path, planted: Planted) -> None:
    data = backup.read_bytes()
    assert find(planted, data) == []
    key = (state / "keys/store.key").read_bytes().split()
    assert not any(secret in data for secret in key)
    assert b"journal.sqlite" not in data and b"technician1" not in data
    assert oct(backup.stat().st_mode & 0o777) == "0o600"
    assert list(state.glob("backup-*")) == []


def test_what_a_killed_backup_left_is_removed_by_the_next(state: Path, tmp_path: Path) -> None:
    (state / "backup-killed" / "spool").mkdir(parents=True)
    back_up(state, tmp_path / "backup", PASSPHRASE)
    assert list(state.glob("backup-*")) == []


def test_a_backup_is_consistent_while_the_box_works(state: Path, tmp_path: Path, planted: Planted) -> None:
    """Another thread accepts and commits without pause: every row of every backup has its file."""
    stop, failures = Event(), list[BaseException]()
    store = Store(state)

    def work() -> None:
        number = IMAGES
        try:
            while not stop.is_set():
                number += 1
                store.accept(_object(planted, number), arrival(f"1.2.{number}"))
                store.commit(claimed(store), flagged(), Subject(patient_id=planted.name), summary=summary)
        except BaseException as error:
            failures.append(error)

    worker = Thread(target=work)
    worker.start()
    try:
        for number in range(3):
            back_up(state, tmp_path / f"{number}", PASSPHRASE)
    finally:
        stop.set()
        worker.join()
        store.close()
    assert failures == []
    for number in range(3):
        folder = tmp_path / f"bare{number}"
        content = restore(tmp_path / f"{number}", folder, PASSPHRASE)
        assert content.images >= IMAGES
        with closing(Store(folder)) as restored:
            for stored in restored.results(limit=1000):
                assert restored.read(stored.instance_id)
            assert restored.sweep() == Swept(0, 0, 0, 0)
        with closing(sqlite3.connect(folder / "journal.sqlite")) as journal:
            assert journal.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert journal.execute("SELECT count(*) FROM instances").fetchone() == (content.images,)


def _damaged(data: bytes) -> Iterator[bytes]:
    yield b""
    yield data[:39]
    yield data[:-1]
    yield data + b"\0"
    yield data[: len(data) // 2]
    for at in (0, 4, 5, 20, 40, 44, len(data) // 2, len(data) - 1):
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_damage_is_told_and_nothing_is_left_behind(backup: Path, tmp_path: Path) -> None:
    data = backup.read_bytes()
    folder = tmp_path / "bare"
    for damaged in _damaged(data):
        backup.write_bytes(damaged)
        with pytest.raises(BackupError):
            restore(backup, folder, PASSPHRASE)
        assert list(folder.iterdir()) == []


def test_another_passphrase_opens_nothing(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="passphrase is not its own") as refused:
        restore(backup, tmp_path / "bare", PASSPHRASE + "!")
    assert PASSPHRASE not in str(refused.value)
    assert list((tmp_path / "bare").iterdir()) == []


def test_nothing_is_overwritten(backup: Path, state: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="exists already"):
        back_up(state, backup, PASSPHRASE)
    with pytest.raises(BackupError, match="not empty"):
        restore(backup, state, PASSPHRASE)
    with pytest.raises(BackupError, match="cannot be read"):
        restore(tmp_path / "nothing", tmp_path / "bare", PASSPHRASE)


def test_what_cannot_be_backed_up(state: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="nothing is stored here"):
        back_up(tmp_path / "elsewhere", tmp_path / "file", PASSPHRASE)
    with pytest.raises(BackupError, match="must have 12"):
        back_up(state, tmp_path / "file", "short")
    (state / "keys/store.key").rename(tmp_path / "kept.key")
    with pytest.raises(VaultLocked):
        back_up(state, tmp_path / "file", PASSPHRASE)
    assert back_up(state, tmp_path / "file", PASSPHRASE, tmp_path / "kept.key").images == IMAGES
    lock = hold_lock(state, "store")
    with pytest.raises(AlreadyRunning):
        back_up(state, tmp_path / "other", PASSPHRASE, tmp_path / "kept.key")
    os.close(lock)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "kept.key", "state"]


def _scanside(folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    config = folder / "scanside.yaml"
    config.write_text(yaml.safe_dump({"state_dir": str(folder / "state")}), encoding="utf-8")
    command = scanside(*arguments, "--config", str(config))
    return subprocess.run(command, input=typed, capture_output=True, text=True, cwd=ROOT, check=False)


def test_as_a_person_does_it(state: Path, tmp_path: Path, planted: Planted) -> None:
    """Backup, factory reset, restore: the same box again."""
    file = str(tmp_path / "usb.backup")
    done = _scanside(tmp_path, "backup", file, typed=f"{PASSPHRASE}\n")
    assert done.returncode == 0 and f"{IMAGES} images" in done.stdout
    assert _scanside(tmp_path, "factory-reset").returncode == 2
    assert (state / "journal.sqlite").exists()
    done = _scanside(tmp_path, "factory-reset", "--yes")
    assert done.returncode == 0
    assert all(" SC800 " in line for line in done.stderr.splitlines()), "the trail's last head, for the log"
    assert list(state.iterdir()) == []
    wrong = _scanside(tmp_path, "restore", file, "--state-dir", str(state), typed="another passphrase\n")
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1
    done = _scanside(tmp_path, "restore", file, "--state-dir", str(state), typed=f"{PASSPHRASE}\n")
    assert done.returncode == 0 and f"{IMAGES} images" in done.stdout
    with closing(Store(state)) as store:
        assert store.results()[0].subject.patient_id == planted.name
