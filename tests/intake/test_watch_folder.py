"""The watch folder with real files, real locks and a fake clock: a second look stands for a second later."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.intake.reception import Reception
from edge.intake.watch_folder import LONGEST_DELAY, WatchFolder
from edge.records import Arrival
from edge.store import Store
from tests.intake.conftest import IntakeProcess
from tests.intake.objects import dx, save
from tests.system.conftest import await_until

_BOUND_BY_PERMISSIONS = (
    # root may read everything: take that from it
    ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
)


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _every_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="scanside")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "watched"
    made.mkdir()
    return made


@pytest.fixture
def watch(folder: Path, store: Store, clock: Clock) -> WatchFolder:
    return WatchFolder(folder, Reception(store), clock, max_file_bytes=1_000_000)


def test_a_file_is_taken_at_the_second_look_and_removed(watch: WatchFolder, folder: Path, store: Store) -> None:
    file = save(dx(), folder / "dx.dcm")
    data = file.read_bytes()
    watch.look()
    assert store.queue().depth == 0
    watch.look()
    assert not file.exists()
    assert [(arrival, stored) for arrival, stored in _drained(store)] == [
        (Arrival(source="folder", peer="dx.dcm"), data)
    ]


@pytest.mark.parametrize(
    "name", ["no DICOM.txt", "empty", "sub/deeper/x.dcm", "ünïcode 胸.dcm", "-rf", "PART", "a.part.dcm"]
)
def test_every_regular_file_is_taken(watch: WatchFolder, folder: Path, store: Store, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"" if name == "empty" else name.encode())
    _look_twice(watch)
    assert not (folder / name).exists()
    assert [arrival.peer for arrival, _ in _drained(store)] == [Path(name).name]


def test_a_name_that_is_no_text_is_taken(watch: WatchFolder, folder: Path, store: Store) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.dcm")).write_bytes(b"x")
    _look_twice(watch)
    assert list(folder.iterdir()) == []
    assert [arrival.peer for arrival, _ in _drained(store)] == ["\ufffd\ufffd.dcm"]


@pytest.mark.parametrize("name", [".hidden", "x.part", "x.TMP", ".sub/x.dcm", "x.tmp/x.dcm"])
def test_unfinished_and_hidden_files_are_left_alone(watch: WatchFolder, folder: Path, store: Store, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
    _look_twice(watch)
    assert (folder / name).exists()
    assert store.queue().depth == 0


def test_links_and_pipes_are_left_alone(watch: WatchFolder, folder: Path, store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    (folder / "to a file").symlink_to(outside / "secret")
    (folder / "to a folder").symlink_to(outside)
    (folder / "to nothing").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    _look_twice(watch)
    assert store.queue().depth == 0
    assert (outside / "secret").exists()
    assert watch.trouble == ""


def test_a_file_that_grows_is_not_taken(watch: WatchFolder, folder: Path, store: Store) -> None:
    file = folder / "x"
    for size in range(3):
        file.write_bytes(b"x" * size)
        watch.look()
    file.write_bytes(b"yy")  # the same size at another time, however fast we are
    os.utime(file, ns=(0, 0))
    watch.look()
    assert store.queue().depth == 0
    watch.look()
    assert [data for _, data in _drained(store)] == [b"yy"]


def test_a_file_that_is_still_open_for_writing_is_not_taken(watch: WatchFolder, folder: Path, store: Store) -> None:
    """A sender that pauses: nothing changes between two looks, and yet it is not complete."""
    file = folder / "x"
    code = "import sys; f = open(sys.argv[1], 'w'); f.write('a'); f.flush(); print(flush=True); input(); f.write('b')"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        writer.stdout.readline()
        for _ in range(3):
            watch.look()
        assert store.queue().depth == 0
        writer.communicate("\n")
    _look_twice(watch)
    assert [data for _, data in _drained(store)] == [b"ab"]


def test_a_file_that_was_moved_in_is_taken(watch: WatchFolder, folder: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    (folder / "x.part").write_bytes(b"y")
    watch.look()
    (tmp_path / "x").rename(folder / "x")
    (folder / "x.part").rename(folder / "y")
    _look_twice(watch)
    assert sorted(data for _, data in _drained(store)) == [b"x", b"y"]


def test_the_same_bytes_twice_are_one_instance(watch: WatchFolder, folder: Path, store: Store) -> None:
    for _ in range(2):
        (folder / "x").write_bytes(b"x")
        _look_twice(watch)
    assert not list(folder.iterdir())
    assert store.queue().depth == 1


def test_a_file_that_is_too_large_stays_and_is_said_once(
    watch: WatchFolder, folder: Path, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "huge").write_bytes(bytes(1_000_001))
    for _ in range(10):
        watch.look()
        clock.now += LONGEST_DELAY
    assert _events(caplog) == ["SC205", "SC207"]
    assert "1000001 bytes, more than 1000000" in caplog.text
    assert "huge" not in caplog.text, "a file's name may be a patient's"
    assert watch.trouble == "1 file(s) in the watch folder cannot be taken"
    assert store.queue().depth == 0
    (folder / "huge").unlink()
    watch.look()
    assert watch.trouble == ""


def test_a_failing_store_stops_the_look_and_backs_off(
    watch: WatchFolder, folder: Path, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        (folder / f"{number}").write_bytes(b"%d" % number)
    watch.look()
    incoming = store.state_dir / "spool" / "incoming"
    shutil.rmtree(incoming)
    for delay in (1.0, 2.0, 4.0):
        watch.look()
        assert watch.trouble == "the watch folder cannot be emptied: No such file or directory"
        clock.now += delay - 0.1
        incoming.mkdir()
        watch.look()
        assert len(list(folder.iterdir())) == 5, "not tried again yet"
        incoming.rmdir()
        clock.now += 0.2
    incoming.mkdir()
    watch.look()
    assert not list(folder.iterdir())
    assert watch.trouble == ""
    assert _events(caplog)[0] == "SC205"
    assert _events(caplog).count("SC206") == 1, "said once"


def test_a_missing_folder_heals_when_it_appears(
    watch: WatchFolder, folder: Path, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    folder.rmdir()
    watch.look()
    assert watch.trouble == f"the watch folder cannot be emptied: {os.strerror(errno.ENOENT)}"
    folder.mkdir()
    (folder / "x").write_bytes(b"x")
    clock.now += 1.0
    _look_twice(watch)
    assert store.queue().depth == 1
    assert _events(caplog) == ["SC206", "SC205", "SC201"]


def test_the_service_takes_files_that_lay_there_and_that_come(tmp_path: Path, folder: Path) -> None:
    save(dx(seed=1), folder / "before.dcm")
    with IntakeProcess(tmp_path, watch_folder=folder) as intake:
        intake.wait_for("SC201")
        save(dx(seed=2), folder / "after.dcm")
        intake.wait_for("SC201", count=2)
        await_until(lambda: not list(folder.iterdir()), "an empty folder")
        assert intake.queue_depth() == 2
        assert intake.stop() == 0


def test_a_file_that_cannot_be_read_does_not_keep_others_waiting(tmp_path: Path, folder: Path) -> None:
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    (folder / "a").chmod(0)
    with IntakeProcess(tmp_path, watch_folder=folder, prefix=_BOUND_BY_PERMISSIONS) as intake:
        assert "Permission denied" in intake.wait_for("SC207")
        await_until(lambda: not (folder / "b").exists(), "the other file's removal")
        assert (folder / "a").exists()
        (folder / "a").chmod(0o600)
        await_until(lambda: not (folder / "a").exists(), "the file's removal, once it can be read")
        assert intake.queue_depth() == 2
        assert intake.stop() == 0
        assert len(intake.found("SC207")) == 1, "said once"


def test_what_was_accepted_and_cannot_be_removed_is_not_accepted_twice(tmp_path: Path, folder: Path) -> None:
    (folder / "x").write_bytes(b"x")
    folder.chmod(0o500)
    with IntakeProcess(tmp_path, watch_folder=folder, prefix=_BOUND_BY_PERMISSIONS) as intake:
        assert "accepted, but it cannot be removed: Permission denied" in intake.wait_for("SC207")
        intake.wait_for("SC202")
        folder.chmod(0o700)
        await_until(lambda: not (folder / "x").exists(), "the file's removal, once it can be")
        assert intake.queue_depth() == 1
        assert intake.stop() == 0
        assert len(intake.found("SC207")) == 1, "said once"


def _look_twice(watch: WatchFolder) -> None:
    watch.look()
    watch.look()


def _drained(store: Store) -> Iterator[tuple[Arrival, bytes]]:
    while instance := store.claim():
        yield instance.arrival, store.read(instance.id)


def _events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split()[0] for record in caplog.records]
