"""An image comes again, and the box no longer has what it has promised to have: then it has it again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.records import Arrival
from edge.store import StorageFull, Store, Tampered
from tests.store.conftest import Box
from tests.store.samples import SUBJECT, arrival, claimed, flagged, spooled

IMAGE = bytes(range(256)) * 4096  # several frames


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _exchange(file: Path) -> None:
    """With the file of another image, whole in itself."""
    other = next(path for path in file.parent.iterdir() if path.is_file() and path != file)
    file.write_bytes(other.read_bytes())


DAMAGE: dict[str, Callable[[Path], None]] = {
    "removed": Path.unlink,
    "cut": lambda file: os.truncate(file, 300_000),
    "empty": lambda file: os.truncate(file, 0),
    "one bit": _flip,
    "exchanged": _exchange,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("answered", [False, True])
def test_a_repetition_puts_back_the_file_that_was_lost(
    store: Store, damage: str, answered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    instance = store.accept(IMAGE, arrival("1.2.3")).instance
    if answered:
        store.commit(claimed(store), flagged(), SUBJECT)
    store.accept(b"another", arrival("1.2.4"))
    DAMAGE[damage](store.state_dir / "spool" / instance.id)
    with pytest.raises((FileNotFoundError, Tampered)):
        store.read(instance.id)
    again = store.accept(IMAGE, arrival("1.2.3"))
    assert (again.instance.id, again.new, again.conflicts_with) == (instance.id, False, None)
    assert store.read(instance.id) == IMAGE
    assert [message.partition(" ")[0] for message in caplog.messages if "SC304" in message] == ["SC304"]
    assert len(spooled(store.state_dir)) == 2
    if answered:
        assert len(store.results()) == 1
    else:
        assert claimed(store).id == instance.id, "it waits for its analysis, as before"


def test_a_repetition_of_what_is_there_writes_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    instance = store.accept(IMAGE, arrival("1.2.3")).instance
    file = store.state_dir / "spool" / instance.id
    before = file.stat()
    assert not store.accept(IMAGE, arrival("1.2.3")).new
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "SC304" not in caplog.text


def test_what_was_put_back_is_found_again_without_the_journal(store: Store, box: Box, tmp_path: Path) -> None:
    """The file carries the record of the first time."""
    instance = store.accept(IMAGE, arrival("1.2.3")).instance
    (store.state_dir / "spool" / instance.id).unlink()
    store.accept(IMAGE, Arrival(source="stow", peer="another", sop_instance_uid="1.2.3"))
    store.close()
    for file in store.state_dir.glob("journal.sqlite*"):
        file.unlink()
    again = Store(store.state_dir, box.wall, machine=box.machine)
    again.sweep()
    assert claimed(again).arrival == instance.arrival
    again.close()


def test_without_room_a_repetition_of_what_was_lost_is_refused(store: Store, box: Box) -> None:
    """Success is only said of what is on the disk; what is there is answered with success on a full disk too."""
    lost = store.accept(b"lost", arrival("1.2.3")).instance
    store.accept(b"there", arrival("1.2.4"))
    (store.state_dir / "spool" / lost.id).unlink()
    box.free = 0
    with pytest.raises(StorageFull):
        store.accept(b"lost", arrival("1.2.3"))
    assert not store.accept(b"there", arrival("1.2.4")).new
    assert not list((store.state_dir / "spool" / "incoming").iterdir())
    box.free = box.total
    assert not store.accept(b"lost", arrival("1.2.3")).new
    assert store.read(lost.id) == b"lost"
