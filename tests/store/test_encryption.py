"""What lies on the disk: nothing of a patient in clear, nothing without the key, all of it with the key again."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from edge.records import Arrival, Instance, Subject
from edge.store import Damaged, Store, Tampered, VaultLocked, read_sealed
from edge.store.keys import KeyRing, new_key, open_ring, write_ring
from tests.running import ROOT, scanside
from tests.store.samples import arrival, claimed, flagged, spooled, summary

PLANTED = {
    "patient": "DOE^JANE^PLANTED",
    "uid": "1.2.826.0.1.3680043.8.498.777777",
    "peer": "Müller_Hans_geb_1950.dcm",
    "study": "1.2.826.0.1.3680043.8.498.888888",
    "model's words": "planted in a result",
    "map": '{"planted":"explanation"}',
    "person": "dr.planted",
    "picture": "planted in a picture",
}


def clear_text(folder: Path, words: Sequence[str]) -> list[tuple[str, str]]:
    """The files that hold one of the words, in UTF-8 or UTF-16, or that bear it as their name."""
    forms = [(word, word.encode(codec)) for word in words for codec in ("utf-8", "utf-16-le", "utf-16-be")]
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.name.encode() + path.read_bytes()
        found += [(str(path.relative_to(folder)), word) for word, form in forms if form in data]
    return found


def test_nothing_of_a_patient_lies_in_clear_at_any_step(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    data = "".join(f"{name}={word};" for name, word in PLANTED.items()).encode() * 5000
    arrived = Arrival(source="stow", peer=PLANTED["peer"], sop_instance_uid=PLANTED["uid"], stated_modality="DX")
    words = [*PLANTED.values(), hashlib.sha256(data).hexdigest()]
    with closing(Store(folder)) as store:
        delivery = store.begin()
        delivery.write(data)
        assert len(list((folder / "spool" / "incoming").iterdir())) == 1
        assert clear_text(folder, words) == []
        instance = store.keep(delivery, arrived).instance
        assert clear_text(folder, words) == []
        result = msgspec.structs.replace(flagged(), source=PLANTED["model's words"], sop_instance_uid=PLANTED["uid"])
        subject = Subject(patient_id=PLANTED["patient"], study_instance_uid=PLANTED["study"])
        stored = store.commit(claimed(store), result, subject, explanation=PLANTED["map"], summary=summary)
        store.write_picture(instance.id, "preview.jpg", PLANTED["picture"].encode())
        store.acknowledge(stored.id, PLANTED["person"], "agree")
        assert (folder / "journal.sqlite-wal").stat().st_size > 0
        assert clear_text(folder, words) == []
        seen = store.result(stored.id)
        assert seen is not None
        assert (seen.subject, seen.result, seen.acknowledged_by) == (subject, result, PLANTED["person"])
        assert store.instance(instance.id) == msgspec.structs.replace(instance, attempts=1)
        assert (store.read(instance.id), store.explanation(stored.id)) == (data, PLANTED["map"])
    assert clear_text(folder, words) == []
    assert clear_text(folder, ["flagged"]) != [], "what the search would find, it finds"


def test_a_spool_file_says_what_the_journal_says(store: Store) -> None:
    """So that the journal can be made again from the spool."""
    instance = store.accept(b"image", arrival("1.2.3")).instance
    unsealed = read_sealed(*store.open(instance.id))
    assert msgspec.json.decode(unsealed.record, type=Instance) == instance


def test_without_its_key_the_store_says_so_and_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with closing(Store(folder)) as store:
        instance = store.accept(b"image", arrival("1.2.3")).instance
    ring = open_ring(folder)
    kept = ring.file.rename(tmp_path / "kept")
    for _ in range(2):
        with pytest.raises(VaultLocked, match=r"store\.key: missing, and .+ restore the key file"):
            Store(folder)
    write_ring(KeyRing(ring.file, (new_key(),)))
    with pytest.raises(VaultLocked, match=f"journal: sealed with key {ring.ids[0]}, and .+ holds [0-9a-f]+: restore"):
        Store(folder)
    kept.rename(ring.file)
    with closing(Store(folder)) as store:
        assert store.read(instance.id) == b"image"


@pytest.mark.parametrize("service", ["intake", "inference", "web"])
def test_a_service_without_the_key_ends_with_one_line(tmp_path: Path, service: str) -> None:
    folder = tmp_path / "state"
    Store(folder).close()
    (folder / "keys" / "store.key").unlink()
    config = tmp_path / "scanside.yaml"
    config.write_text(f"state_dir: {folder}\nweb: {{port: 0}}\nintake: {{dicom: {{port: 0}}}}\n", encoding="utf-8")
    command = scanside("run", service, "--config", str(config))
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"scanside: {folder}/keys/store.key: missing, and {folder} holds what it sealed: restore")


def test_a_moved_file_or_row_does_not_open(store: Store) -> None:
    one, two = (store.accept(data, arrival(f"1.{data.decode()}")).instance for data in (b"1", b"2"))
    answers = [store.commit(claimed(store), flagged(), Subject(patient_id=name)) for name in ("SYN-1", "SYN-2")]
    for name in ("preview.jpg", "overlay.png"):
        store.write_picture(one.id, name, name.encode())
    spool, derived = store.state_dir / "spool", store.state_dir / "derived"
    (spool / one.id).rename(spool / two.id)
    (derived / f"{one.id}.preview.jpg").rename(derived / f"{two.id}.preview.jpg")
    (derived / f"{one.id}.overlay.png").rename(derived / f"{one.id}.preview.jpg")
    with pytest.raises(Tampered):
        store.read(two.id)
    for instance in (one, two):
        with pytest.raises(Tampered):
            store.picture(instance.id, "preview.jpg")
    with closing(sqlite3.connect(store.state_dir / "journal.sqlite", isolation_level=None)) as sql:
        sql.execute("UPDATE results SET subject = (SELECT subject FROM results WHERE id = ?)", (answers[0].id,))
    assert store.result(answers[0].id) == answers[0]
    with pytest.raises(Damaged, match="not what was sealed"):
        store.result(answers[1].id)
    assert spooled(store.state_dir) == {two.id}


def test_the_doctor_looks_at_the_key(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    config = tmp_path / "scanside.yaml"
    config.write_text(f"state_dir: {folder}\ninference: {{models: {tmp_path}}}\n", encoding="utf-8")

    def line() -> str:
        command = scanside("doctor", "--config", str(config))
        said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout
        return next(line for line in said.splitlines() if line[4:].startswith(" key: "))

    assert line() == f"ok   key: none yet: the first start makes {folder}/keys/store.key"
    assert not folder.exists()
    Store(folder).close()
    assert line().startswith(f"ok   key: {folder}/keys/store.key opens what is stored; beside the data")
    ring = open_ring(folder)
    write_ring(KeyRing(ring.file, (new_key(), *ring.keys)))
    assert line().startswith("BAD  key: ")
    assert line().endswith("a rotation is not complete: run scanside key rotate")
    write_ring(KeyRing(ring.file, (new_key(),)))
    assert line().startswith(f"BAD  key: journal: sealed with key {ring.ids[0]}")
    ring.file.chmod(0o644)
    assert line().startswith(f"BAD  key: {ring.file}: mode 0644")
