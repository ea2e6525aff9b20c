"""Sealed values: nobody without the key reads, changes or moves one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.store.keys import KeyRing, VaultLocked, new_key
from edge.store.vault import HEADER_BYTES, MAGIC, Tampered, Vault

OLD, NEW = new_key(), new_key()


def vault(*keys: object) -> Vault:
    return Vault(KeyRing(Path("ring"), keys))  # type: ignore[arg-type]


@given(plain=st.binary(max_size=1000), about=st.text())
def test_a_value_comes_back(plain: bytes, about: str) -> None:
    sealed = vault(OLD).seal(plain, about)
    assert vault(OLD).unseal(sealed, about) == plain
    assert len(sealed) == len(plain) + 33
    assert len(plain) < 4 or plain not in sealed


@given(data=st.data(), plain=st.binary(max_size=100))
def test_a_changed_value_does_not_open(data: st.DataObject, plain: bytes) -> None:
    sealed = bytearray(vault(OLD).seal(plain, "here"))
    change = data.draw(st.sampled_from(["flip", "cut", "append"]))
    if change == "flip":
        sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif change == "cut":
        del sealed[data.draw(st.integers(0, len(sealed) - 1)) :]
    else:
        sealed += data.draw(st.binary(min_size=1, max_size=20))
    with pytest.raises((Tampered, VaultLocked)):
        vault(OLD).unseal(bytes(sealed), "here")


@given(junk=st.binary(max_size=100))
def test_what_was_never_sealed_does_not_open(junk: bytes) -> None:
    with pytest.raises((Tampered, VaultLocked)):
        vault(OLD).unseal(junk, "here")


def test_a_moved_value_does_not_open() -> None:
    sealed = vault(OLD).seal(b"DOE^JANE", "results.subject:1")
    for elsewhere in ("results.subject:2", "results.result:1", ""):
        with pytest.raises(Tampered, match=f"{elsewhere}: not what was sealed: restore"):
            vault(OLD).unseal(sealed, elsewhere)


def test_the_same_value_looks_different_each_time() -> None:
    assert len({vault(OLD).seal(b"DOE^JANE", "here") for _ in range(100)}) == 100


def test_the_first_key_seals_and_all_open() -> None:
    old = vault(OLD).seal(b"value", "here")
    both = vault(NEW, OLD)
    new = both.seal(b"value", "here")
    assert both.unseal(old, "here") == both.unseal(new, "here") == vault(NEW).unseal(new, "here") == b"value"
    assert new.startswith(both.prefix)
    assert not old.startswith(both.prefix)


def test_a_missing_key_is_named() -> None:
    sealed = vault(OLD).seal(b"value", "here")
    with pytest.raises(VaultLocked, match=f"here: sealed with key {OLD.id.hex()}, and ring holds {NEW.id.hex()}: "):
        vault(NEW).unseal(sealed, "here")


@given(
    one=st.binary(), other=st.binary(), here=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10)
)
def test_marks_are_equal_for_equal_values_about_the_same(one: bytes, other: bytes, here: str) -> None:
    marking = vault(OLD)
    assert (marking.mark(one, here) == marking.mark(other, here)) is (one == other)
    assert marking.mark(one, here) != marking.mark(one, here + "!")
    assert marking.mark(one, here) != vault(NEW).mark(one, here)


def test_marks_of_older_keys_are_known() -> None:
    before = vault(OLD).mark("1.2.3", "uid")
    both = vault(NEW, OLD)
    assert both.marks("1.2.3", "uid") == (both.mark("1.2.3", "uid"), before)
    assert both.mark(b"1.2.3", "uid") == both.mark("1.2.3", "uid")


def test_each_file_has_a_key_of_its_own() -> None:
    keeper = vault(NEW, OLD)
    files = [keeper.new_file(name) for name in ("a", "a", "b")]
    assert len({file.secret for file in files}) == 3
    assert all(len(file.secret) == 32 and len(file.header) == HEADER_BYTES for file in files)
    assert keeper.file_key("a", files[0].header) == vault(NEW).file_key("a", files[0].header) == files[0].secret
    assert keeper.file_key("b", files[0].header) != files[0].secret
    assert files[0].header.startswith(keeper.file_prefix)
    assert NEW.secret not in {file.secret for file in files}
    assert repr(files[0].secret)[2:-1] not in repr(files[0])


def test_a_header_that_is_none_is_said() -> None:
    header = vault(OLD).new_file("a").header
    for wrong in (b"", header[:-1], header + b"x", b"DICM" + header[4:]):
        with pytest.raises(Tampered, match="file a: not a sealed file"):
            vault(OLD).file_key("a", wrong)
    with pytest.raises(VaultLocked, match=f"file a: sealed with key {OLD.id.hex()}"):
        vault(NEW).file_key("a", header)
    assert header.startswith(MAGIC)
