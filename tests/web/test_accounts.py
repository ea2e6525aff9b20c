"""Accounts: their rules, the first-boot code, and that nothing readable is kept."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from edge.store import Damaged
from edge.web.accounts import CODE_ALPHABET, AccountError, Accounts, Role, check_name, check_password
from edge.web.accounts_file import AccountsFile
from edge.web.sessions import Sessions
from tests.web.conftest import PASSWORD, Box


@pytest.mark.parametrize(
    ("name", "stored"), [("Ada", "ada"), ("  tech-2 ", "tech-2"), ("x.y_z", "x.y_z"), ("a" * 32, "a" * 32)]
)
def test_names_are_stored_in_one_form(name: str, stored: str) -> None:
    assert check_name(name) == stored


@pytest.mark.parametrize("name", ["", " ", "a" * 33, "-a", "a b", "a\nb", "<script>", "ä", "../x", "a;drop"])
def test_other_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(AccountError, match="must be 1 to 32") as refusal:
        check_name(name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("short", "12 to 256"),
        ("a" * 257, "12 to 256"),
        ("aaaaaaaaaaaaaaaa", "different characters"),
        ("technician-2026", "user name"),
    ],
)
def test_weak_passwords_are_refused_and_not_repeated(password: str, rule: str) -> None:
    with pytest.raises(AccountError, match=rule) as refusal:
        check_password(password, "technician")
    assert password not in str(refusal.value)


def test_the_same_letters_composed_differently_are_the_same_password(box: Box) -> None:
    box.accounts.add("ada", "pa\u0308sswort mit umlaut", Role.CLINICIAN)
    assert box.accounts.verify("ada", "p\u00e4sswort mit umlaut")


def test_an_account_is_verified_by_its_own_password_only(box: Box) -> None:
    account = box.account(Role.CLINICIAN)
    assert box.accounts.verify(" Clinician", PASSWORD) == account
    assert box.accounts.verify("clinician", PASSWORD + "x") is None
    assert box.accounts.verify("clinician", "") is None
    assert box.accounts.verify("clinician", PASSWORD * 1000) is None
    assert box.accounts.verify("nobody", PASSWORD) is None


def test_names_are_unique_whatever_their_case(box: Box) -> None:
    box.accounts.add("ada", PASSWORD, Role.CLINICIAN)
    with pytest.raises(AccountError, match="choose another"):
        box.accounts.add("ADA", PASSWORD, Role.SERVICE)


def test_the_last_administrator_stays(box: Box) -> None:
    box.accounts.add("ada", PASSWORD, Role.ADMINISTRATOR)
    with pytest.raises(AccountError, match="last administrator"):
        box.accounts.remove("ada")
    box.accounts.add("bob", PASSWORD, Role.ADMINISTRATOR)
    box.accounts.remove("ada")
    assert [account.name for account in box.accounts.list()] == ["bob"]


@pytest.mark.parametrize("act", ["remove", "set_password"])
def test_an_unknown_account_is_an_error_of_one_line(box: Box, act: str) -> None:
    arguments = ("eve",) if act == "remove" else ("eve", PASSWORD)
    with pytest.raises(AccountError, match="'eve': no account"):
        getattr(box.accounts, act)(*arguments)


def test_a_new_password_replaces_the_old_one_and_ends_sessions(box: Box) -> None:
    token = box.sessions.open(box.account())
    box.accounts.set_password("technician", "another long secret")
    assert box.sessions.person(token, renew=False) is None
    assert box.accounts.verify("technician", PASSWORD) is None
    assert box.accounts.verify("technician", "another long secret")


def test_the_code_creates_the_first_administrator_once(box: Box) -> None:
    code = box.accounts.first_boot_code()
    assert code is not None
    groups = code.split("-")
    assert [len(group) for group in groups] == [4, 4, 4, 4]
    assert set("".join(groups)) <= set(CODE_ALPHABET)
    assert box.accounts.create_first("AAAA-AAAA-AAAA-AAAA", "ada", PASSWORD) is None
    account = box.accounts.create_first(f" {code.lower().replace('-', ' ')}", "Ada", PASSWORD)
    assert account and (account.name, account.role) == ("ada", Role.ADMINISTRATOR)
    assert box.accounts.create_first(code, "eve", PASSWORD) is None
    assert not box.accounts.awaits_first()
    assert box.accounts.first_boot_code() is None


def test_a_broken_rule_does_not_spend_the_code(box: Box) -> None:
    code = box.accounts.first_boot_code() or ""
    with pytest.raises(AccountError):
        box.accounts.create_first(code, "ada", "short")
    assert box.accounts.create_first(code, "ada", PASSWORD)


def test_a_new_start_makes_a_new_code_and_the_old_one_is_void(box: Box) -> None:
    first = box.accounts.first_boot_code() or ""
    second = Accounts(box.file).first_boot_code() or ""
    assert first != second
    assert box.accounts.create_first(first, "ada", PASSWORD) is None
    assert box.accounts.create_first(second, "ada", PASSWORD)


def test_an_account_made_on_the_box_voids_the_code(box: Box) -> None:
    code = box.accounts.first_boot_code() or ""
    box.account(Role.TECHNICIAN)
    assert box.accounts.create_first(code, "eve", PASSWORD) is None


def test_nothing_secret_is_readable_on_the_disk(box: Box) -> None:
    code = box.accounts.first_boot_code() or ""
    box.accounts.create_first(code, "ada", PASSWORD)
    token = box.sessions.open(box.accounts.list()[0])
    written = b"".join(path.read_bytes() for path in (box.state_dir / "accounts").iterdir())
    assert b"ada" in written
    for secret in (PASSWORD, code, code.replace("-", ""), token):
        assert secret.encode() not in written
    assert b"$argon2id$" in written
    assert (box.state_dir / "accounts").stat().st_mode & 0o077 == 0


def test_accounts_that_can_be_read_outlive_a_broken_file(box: Box) -> None:
    """An index of another table is damaged: the accounts stay, everybody signs in again."""
    for role in Role:
        box.account(role)
    before, path = box.accounts.list(), box.state_dir / "accounts" / "accounts.sqlite"
    with box.file.reading() as sql:
        (page,) = sql.execute("SELECT rootpage FROM sqlite_master WHERE name = 'open_sessions'").fetchone()
    box.file.close()
    _overwrite(path, 4096 * (page - 1), 4096)
    with closing(AccountsFile(box.state_dir)) as file, pytest.raises(Damaged):
        Sessions(file, box.clock, 60.0).open(before[0])
    with closing(AccountsFile(box.state_dir)) as file:
        assert Accounts(file).list() == before
        assert Accounts(file).verify(Role.CLINICIAN.value, PASSWORD)
        assert Accounts(file).first_boot_code() is None


def test_when_no_account_can_be_read_the_console_shows_a_code_again(box: Box) -> None:
    box.account(Role.ADMINISTRATOR)
    box.file.close()
    _overwrite(box.state_dir / "accounts" / "accounts.sqlite", 0, 1 << 20)
    with closing(AccountsFile(box.state_dir)) as file:
        assert Accounts(file).list() == []
        assert Accounts(file).first_boot_code()


def _overwrite(path: Path, start: int, length: int) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(min(length, size - start)))
