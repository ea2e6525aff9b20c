"""Nobody changes, removes, inserts or moves a record unseen, and no key is needed to see it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.store.audit import AuditTrail, audit_file
from edge.store.audit.chain import (
    START,
    ChainedRecord,
    Head,
    NoTrail,
    Verdict,
    anchors_in,
    check,
    check_file,
    digest_of,
    report,
)
from edge.store.keys import open_ring
from edge.store.vault import Vault
from tests.store.test_audit import WEB, damage, sign_in


def chain(contents: list[bytes], start: Head = Head(0, START)) -> list[ChainedRecord]:  # noqa: B008 - immutable
    """A chain that holds."""
    rows, digest = [], start.digest
    for number, sealed in enumerate(contents, start.number + 1):
        digest = digest_of(digest, number, 1000 * number, sealed, Head(0, START))
        rows.append(ChainedRecord(number, 1000 * number, sealed, 0, START, digest))
    return rows


def verdict_of(rows: list[ChainedRecord], head: Head, start: Head = Head(0, START)) -> Verdict:  # noqa: B008
    return check(rows, head, start, [])


CONTENTS = st.lists(st.binary(max_size=40), min_size=1, max_size=12)


@given(CONTENTS, st.integers(0, 1000), st.binary(min_size=32, max_size=32))
def test_a_chain_holds(contents: list[bytes], retired: int, digest: bytes) -> None:
    start = Head(retired, digest)
    rows = chain(contents, start)
    verdict = verdict_of(rows, Head(rows[-1].number, rows[-1].digest), start)
    assert (verdict.broken_at, verdict.first) == (None, retired + 1)


@given(st.data())
def test_whatever_is_done_to_one_record_shows_there(data: st.DataObject) -> None:
    """A change, removal, insertion or exchange of whole records; truncation; a change of the head."""
    contents = data.draw(CONTENTS)
    rows = chain(contents)
    head = Head(rows[-1].number, rows[-1].digest)
    at = data.draw(st.integers(0, len(rows) - 1))
    how = data.draw(st.sampled_from(["change", "remove", "insert", "exchange", "truncate", "head"]))
    if how == "change":
        field = data.draw(st.sampled_from(["at_ms", "sealed", "retired", "retired_digest", "digest"]))
        fields: dict[str, Any] = rows[at]._asdict()
        value = fields[field]
        fields[field] = value + 1 if isinstance(value, int) else _other(data, value)
        rows[at] = ChainedRecord(**fields)
    elif how == "remove":
        del rows[at]
    elif how == "insert":
        extra = rows[at]._replace(
            number=data.draw(st.integers(0, len(rows) + 5)), sealed=data.draw(st.binary(max_size=9))
        )
        rows.insert(at, extra)
        at = min(at, extra.number - 1)
    elif how == "exchange":
        other = data.draw(st.integers(0, len(rows) - 1))
        if rows[at].sealed == rows[other].sealed:
            return
        rows[at], rows[other] = (
            rows[at]._replace(sealed=rows[other].sealed),
            rows[other]._replace(sealed=rows[at].sealed),
        )
        at = min(at, other)
    elif how == "truncate":
        del rows[at:]
    else:
        head = data.draw(
            st.sampled_from([Head(head.number + 1, head.digest), Head(head.number, bytes(32)), Head(0, START)])
        )
        at = min(head.number, len(rows))
    verdict = verdict_of(rows, head)
    assert verdict.broken_at == at + 1
    assert "BROKEN" in report(verdict)


def _other(data: st.DataObject, value: bytes) -> bytes:
    return data.draw(st.binary(min_size=len(value), max_size=len(value) + 2).filter(lambda other: other != value))


@given(CONTENTS, st.data())
def test_a_chain_that_was_made_anew_does_not_go_through_what_the_log_knows(
    contents: list[bytes], data: st.DataObject
) -> None:
    rows = chain(contents)
    anchors = [Head(row.number, row.digest) for row in rows]
    at = data.draw(st.integers(0, len(rows) - 1))
    forged = chain([*contents[:at], _other(data, contents[at]), *contents[at + 1 :]])
    head = Head(forged[-1].number, forged[-1].digest)
    assert verdict_of(forged, head).broken_at is None
    assert check(forged, head, Head(0, START), anchors).broken_at == at + 1
    shorter = rows[:at]
    shortened = Head(at, shorter[-1].digest) if shorter else Head(0, START)
    assert check(shorter, shortened, Head(0, START), anchors).broken_at == at + 1
    assert check(rows, anchors[-1], Head(0, START), anchors).broken_at is None


def test_heads_are_found_in_journald_lines() -> None:
    line = (
        f"Nov 25 10:00:00 xray-1 scanside[7]: web INFO SC800 audit trail: the newest record is 12, digest {'ab' * 32}"
    )
    assert list(anchors_in([line, "SC600 status page ready", "SC800 audit trail: nothing"])) == [
        Head(12, bytes.fromhex("ab" * 32))
    ]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real trail of 12 records, of which the first three were retired."""
    folder = tmp_path_factory.mktemp("recorded")
    moment = [1_790_000_000.0]
    trail = AuditTrail(folder, Vault(open_ring(folder)), WEB, lambda: moment[0])
    trail.record(*[sign_in()] * 3)
    moment[0] += 3 * 86_400
    trail.record(*[sign_in()] * 8)
    assert trail.retire(1, only_forwarded=False) == 3
    trail.close()
    return audit_file(folder)


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 12), st.sampled_from(["at_ms = at_ms + 1", "sealed = zeroblob(80)", "digest = zeroblob(32)"]))
def test_a_changed_row_of_a_real_file_is_found(recorded: Path, number: int, change: str) -> None:
    copy = Path(shutil.copy(recorded, recorded.with_name("changed.sqlite")))
    damage(copy, f"UPDATE records SET {change} WHERE number = {number}")
    assert check_file(copy).broken_at == number


@pytest.mark.parametrize(
    ("statements", "broken_at"),
    [
        ([], None),
        (["DELETE FROM records WHERE number = 4"], 4),
        (["DELETE FROM records WHERE number = 7"], 7),
        (["DELETE FROM records WHERE number = 11"], 11),
        (["DELETE FROM records"], 1),
        (["UPDATE head SET number = 11"], 12),
        (["DELETE FROM head"], 1),
        (["UPDATE records SET number = 99 WHERE number = 7"], 7),
        (["UPDATE records SET retired = 4 WHERE retired = 3"], 4),
        (["UPDATE records SET retired = 0 WHERE retired = 3"], 1),
    ],
)
def test_each_kind_of_damage_to_a_real_file_is_found(
    recorded: Path, tmp_path: Path, statements: list[str], broken_at: int | None
) -> None:
    copy = Path(shutil.copy(recorded, tmp_path / "audit.sqlite"))
    damage(copy, *statements)
    assert check_file(copy).broken_at == broken_at


def test_a_cut_end_is_found_and_with_its_head_cut_too_by_the_log(recorded: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(recorded, tmp_path / "audit.sqlite"))
    damage(
        copy, "UPDATE records SET retired = 0, retired_digest = zeroblob(32)", "DELETE FROM records WHERE number > 10"
    )
    assert check_file(copy).broken_at is not None
    whole = AuditTrail(tmp_path / "b", _vault(tmp_path / "b"), WEB)
    whole.record(sign_in(), sign_in(), sign_in())
    line = f"SC800 audit trail: the newest record is 3, digest {whole.head().digest.hex()}"
    whole.close()
    file = audit_file(tmp_path / "b")
    damage(
        file,
        "DELETE FROM records WHERE number > 2",
        "UPDATE head SET (number, digest) = (SELECT 2, digest FROM records WHERE number = 2)",
    )
    assert check_file(file).broken_at is None, "the file alone cannot tell"
    assert check_file(file, [line]).broken_at == 3


def _vault(folder: Path) -> Vault:
    folder.mkdir()
    return Vault(open_ring(folder))


@pytest.mark.parametrize("content", [None, b"", b"no database" * 500, "CREATE TABLE head (number)"])
def test_what_is_no_trail_is_said(tmp_path: Path, content: bytes | str | None) -> None:
    file = tmp_path / "audit.sqlite"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        sqlite3.connect(file).execute(content)
    with pytest.raises(NoTrail, match=r"audit\.sqlite: "):
        check_file(file)
