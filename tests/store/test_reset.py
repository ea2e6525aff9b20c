"""Factory reset: the keys go first, then everything; what a kill leaves behind cannot be read."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from edge.records import Subject
from edge.store import AlreadyRunning, Store, VaultLocked, hold_lock
from edge.store import reset as room
from edge.store.keys import CREDENTIAL
from edge.store.reset import reset
from tests.store.samples import arrival, claimed, flagged


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    with closing(Store(folder)) as store:
        store.accept(b"an image", arrival())
        store.commit(claimed(store), flagged(), Subject(patient_id="DOE"))
    return folder


def test_nothing_is_left_and_the_box_begins_anew(state: Path) -> None:
    (state / "cache").symlink_to(state.parent)
    assert reset(state) is None
    assert list(state.iterdir()) == []
    assert state.parent.exists()
    with closing(Store(state)) as store:
        assert store.results() == []


def test_the_keys_are_overwritten_before_anything_else_goes(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at the first file after them: what is left does not open, and the next call goes on."""
    key = state / "keys/store.key"
    secret = key.read_bytes()
    os.link(key, state.parent / "the same blocks")

    def killed(_path: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        room.reset(state)
    monkeypatch.undo()
    assert not key.exists()
    assert (state.parent / "the same blocks").read_bytes() != secret
    with pytest.raises(VaultLocked):
        Store(state)
    reset(state)
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("service", ["appliance", "intake", "inference", "store"])
def test_not_while_the_box_works(state: Path, service: str) -> None:
    lock = hold_lock(state, service, shared=True)
    with pytest.raises(AlreadyRunning):
        reset(state)
    os.close(lock)
    with closing(Store(state)) as store:
        assert len(store.results()) == 1


def test_keys_elsewhere(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured key file is destroyed; a credential of systemd is named, for it cannot be."""
    elsewhere = tmp_path / "elsewhere.key"
    shutil.copy(state / "keys/store.key", elsewhere)
    assert reset(state, elsewhere) is None
    assert not elsewhere.exists()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / CREDENTIAL).write_bytes(b"any")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert reset(state) == credentials / CREDENTIAL
