"""The key ring: made once, kept for this user alone, and a clear line when it is lost, wrong or open to others."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.store.keys import CREDENTIAL, KeyRing, VaultLocked, find_ring, new_key, open_ring, parse_keys, write_ring
from tests.running import ROOT

KEY = new_key()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


def test_the_first_use_makes_a_key_for_this_user_alone_and_keeps_it(state: Path) -> None:
    assert find_ring(state) is None
    ring = open_ring(state)
    assert ring == open_ring(state) == find_ring(state)
    assert ring.file == state / "keys" / "store.key"
    assert stat.S_IMODE(ring.file.stat().st_mode) == 0o600
    assert [len(key.secret) for key in ring.keys] == [32]


def test_services_that_start_together_have_one_key(state: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge.store.keys import open_ring;"
        "print(open_ring(Path(sys.argv[1])).ids)"
    )
    command = [sys.executable, "-c", code, str(state)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1


@pytest.mark.parametrize("data", ["journal.sqlite", "spool/0123", "spool/incoming/0123"])
def test_no_new_key_is_made_where_one_is_lost(state: Path, data: str) -> None:
    (state / data).parent.mkdir(parents=True, exist_ok=True)
    (state / data).write_bytes(b"sealed")
    message = _refusal(state)
    assert f"{state / 'keys' / 'store.key'}: missing" in message
    assert "restore the key file" in message
    assert not (state / "keys" / "store.key").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o777])
def test_a_key_that_others_may_touch_is_refused(state: Path, mode: int) -> None:
    open_ring(state).file.chmod(mode)
    assert f"mode {mode:04o}" in _refusal(state)


def test_a_configured_file_is_made_where_its_folder_is(state: Path, tmp_path: Path) -> None:
    ring = open_ring(state, tmp_path / "my.key")
    assert ring.file == tmp_path / "my.key"
    assert open_ring(state, tmp_path / "my.key") == ring
    assert not (state / "keys").exists()
    assert "cannot be read or made" in _refusal(state, tmp_path / "not mounted" / "my.key")


def test_the_credential_of_systemd_comes_first_and_its_mode_is_systemds(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = open_ring(state)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert open_ring(state) == beside, "a service may have other credentials"
    given_key = KeyRing(credentials / CREDENTIAL, (new_key(),))
    write_ring(given_key)
    given_key.file.chmod(0o440)
    assert open_ring(state) == given_key
    assert open_ring(state, beside.file) == beside, "what the configuration names comes before it"


def test_what_is_no_file_is_one_line(state: Path) -> None:
    (state / "keys" / "store.key").mkdir(parents=True)
    assert "cannot be read" in _refusal(state)


def test_a_ring_keeps_its_order(state: Path) -> None:
    ring = open_ring(state)
    longer = KeyRing(ring.file, (new_key(), *ring.keys))
    write_ring(longer)
    assert open_ring(state) == longer
    assert ring.file.read_bytes().count(b"\n") == 2


@given(data=st.data())
def test_a_damaged_line_is_named_and_never_shown(data: st.DataObject) -> None:
    key = KEY
    line = f"{key.id.hex()} {base64.b64encode(key.secret).decode()}"
    assert parse_keys(f"\n{line.upper()[:8]}{line[8:]} \r\n\n".encode(), Path("ring")) == (key,)
    place = data.draw(st.integers(0, len(line) - 1))
    same = " \t\v\f\r\n" if line[place] == " " else f"\r\n{line[place].lower()}{line[place].upper()}"
    other = data.draw(st.characters(codec="ascii", exclude_characters=same))
    damaged = line[:place] + other + line[place + 1 :]
    with pytest.raises(VaultLocked) as refused:
        parse_keys(f"{line}\n{damaged}\n".encode(), Path("ring"))
    assert str(refused.value).startswith("ring:2: ")
    assert line[9:] not in str(refused.value)
    assert damaged[9:] not in str(refused.value)


@given(text=st.binary(max_size=200))
def test_any_text_is_a_ring_or_refused(text: bytes) -> None:
    with pytest.raises(VaultLocked, match="ring") as refused:
        parse_keys(text, Path("ring"))
    assert "\n" not in str(refused.value)


def test_a_ring_does_not_show_its_keys() -> None:
    key = new_key()
    ring = KeyRing(Path("ring"), (key,))
    assert repr(key.secret)[2:-1] not in repr(ring)
    assert key.id.hex() in repr(ring)


def test_half_a_ring_is_never_seen(state: Path) -> None:
    """What a killed writer leaves is beside the ring, and the next writer replaces it."""
    ring = open_ring(state)
    ring.file.with_name("store.key.new").write_bytes(b"half")
    assert open_ring(state) == ring
    write_ring(ring)
    assert list(ring.file.parent.iterdir()) == [ring.file]


def _refusal(state: Path, key_file: Path | None = None) -> str:
    with pytest.raises(VaultLocked) as refused:
        open_ring(state, key_file)
    message = str(refused.value)
    assert "\n" not in message
    return message
