"""Rotation: killed anywhere, nothing is lost meanwhile, and in the end the new key alone opens everything."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from edge.records import Instance
from edge.store import AlreadyRunning, Damaged, Store, VaultLocked
from edge.store.keys import KeyRing, open_ring, write_ring
from edge.store.rotation import rotate
from tests.running import ROOT, scanside
from tests.store.samples import SUBJECT, arrival, claimed, flagged

OBJECTS = 3
PICTURES = {"preview.jpg": b"preview", "overlay.png": b"overlay"}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A store with objects, results, pictures and an acknowledgement."""
    folder = tmp_path / "state"
    with closing(Store(folder)) as store:
        for number in range(OBJECTS):
            store.accept(image(number), arrival(f"1.2.{number}"))
        for number in range(OBJECTS - 1):
            stored = store.commit(claimed(store), flagged(), SUBJECT, explanation=f"map {number}")
            for name, picture in PICTURES.items():
                store.write_picture(stored.instance_id, name, picture)
            store.acknowledge(stored.id, "ada", "agree")
    return folder


def image(number: int) -> bytes:
    return bytes([number]) * 300_000


def everything(folder: Path) -> list[object]:
    """All that a store gives back; a sender's repetition is known, and a conflict is seen."""
    with closing(Store(folder)) as store:
        seen: list[object] = []
        for stored in store.changed_since(0):
            seen += [stored, store.instance(stored.instance_id), store.read(stored.instance_id)]
            seen += [store.explanation(stored.id), *(store.picture(stored.instance_id, name) for name in PICTURES)]
        for number in range(OBJECTS):
            again = store.accept(image(number), arrival(f"1.2.{number}"))
            assert not again.new
            seen.append(again.instance)
        seen.append(store.results_of_patient("SYN-1", 10))
        assert seen[-1]
        return seen


def test_a_new_key_takes_over(state: Path) -> None:
    before, old = everything(state), open_ring(state)
    done = rotate(state)
    new = open_ring(state)
    assert (new.ids, done.left) == ((done.key,), ())
    assert done.key not in old.ids
    assert everything(state) == before
    assert _places(state, old.keys[0].id) == set(), "nothing is left under the old key, in no free page either"
    assert "1.2.0" in {_uid(instance) for instance in before}
    with closing(Store(state)) as store:
        other = store.accept(b"other bytes", arrival("1.2.0"))
        assert other.conflicts_with == store.accept(image(0), arrival("1.2.0")).instance.id


def test_a_killed_rotation_loses_nothing_and_goes_on(state: Path, tmp_path: Path) -> None:
    """SIGKILL after each file and batch in turn; the box works with what is there, then the rotation goes on."""
    before, old = everything(state), open_ring(state).ids
    steps = OBJECTS + (OBJECTS - 1) * len(PICTURES) + 2
    for killed_after in range(steps):
        folder = tmp_path / "killed"
        shutil.copytree(state, folder, ignore=shutil.ignore_patterns("doorbells*"))
        _kill_a_rotation(folder, killed_after)
        half = open_ring(folder)
        assert half.ids[1:] == old
        assert everything(folder) == before
        with closing(Store(folder)) as store:
            store.sweep()
            fresh = store.accept(b"came in between", arrival("1.9")).instance
        assert rotate(folder).key == half.ids[0], "it goes on, and does not begin with yet another key"
        assert open_ring(folder).ids == half.ids[:1]
        assert everything(folder) == before
        with closing(Store(folder)) as store:
            assert store.read(fresh.id) == b"came in between"
        shutil.rmtree(folder)


def test_nobody_rotates_under_a_running_box(state: Path) -> None:
    store = Store(state)
    with pytest.raises(AlreadyRunning, match="in use: stop the appliance"):
        rotate(state)
    store.close()

    def start(_: str) -> None:
        with pytest.raises(AlreadyRunning, match="its keys are being rotated"):
            Store(state)

    assert rotate(state, told=start).left == ()


def test_what_does_not_open_is_named_and_keeps_its_key(state: Path) -> None:
    with closing(Store(state)) as store:
        damaged, other = store.changed_since(0)[:2]
    file = state / "spool" / damaged.instance_id
    file.write_bytes(file.read_bytes()[:-1])
    (state / "derived" / f"{damaged.instance_id}.preview.jpg").write_bytes(b"")
    with closing(sqlite3.connect(state / "journal.sqlite", isolation_level=None)) as sql:
        sql.execute("UPDATE results SET subject = x'00' WHERE id = ?", (other.id,))
    before = open_ring(state).ids
    said = subprocess.run(
        scanside("key", "rotate", "--config", str(_config(state))),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert said.returncode == 1
    assert len(said.stderr.splitlines()) == 3
    assert other.id in said.stderr
    assert "old keys are kept" in said.stdout
    assert open_ring(state).ids[1:] == before
    with closing(Store(state)) as store:
        assert store.result(damaged.id) == damaged
        with pytest.raises(Damaged, match="not a sealed value"):
            store.result(other.id)


def test_the_command_shows_ids_and_rotates(state: Path, tmp_path: Path) -> None:
    def key(action: str) -> str:
        command = scanside("key", action, "--config", str(_config(state)))
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    ring = open_ring(state)
    assert key("show") == f"{ring.file}\n  {ring.ids[0]} seals and opens\n"
    said = key("rotate")
    (new,) = open_ring(state).ids
    assert said == f"key {new} seals from now on\n"
    write_ring(KeyRing(ring.file, (*open_ring(state).keys, *ring.keys)))
    assert f"  {ring.ids[0]} opens only: complete the rotation" in key("show")
    (tmp_path / "empty").mkdir()
    state = tmp_path / "empty"
    assert key("show") == "no key yet: the first start makes one\n"


def test_without_a_key_there_is_nothing_to_rotate(tmp_path: Path) -> None:
    with pytest.raises(VaultLocked, match="has no key yet"):
        rotate(tmp_path)


def _config(state: Path) -> Path:
    file = state.parent / "scanside.yaml"
    file.write_text(f"state_dir: {state}\n", encoding="utf-8")
    return file


def _kill_a_rotation(folder: Path, after: int) -> None:
    """A child rotates, and dies when it tells of its next step after `after` of them."""
    steps = iter(range(after))

    def step(_: str) -> None:
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        rotate(folder, told=step)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def _places(folder: Path, key_id: bytes) -> set[Path]:
    """The files in which a key's id stands, but for the ring."""
    files = {path for path in folder.rglob("*") if path.is_file() and path.parent.name != "keys"}
    return {path for path in files if key_id in path.read_bytes()}


def _uid(seen: object) -> str | None:
    return seen.arrival.sop_instance_uid if isinstance(seen, Instance) else None
