"""Who may have an association: the whole decision as a table, and over the wire as the sender sees it."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Dicom
from edge.intake.admission import APPLICATION_CONTEXT, NO_TITLE, Request, decide, make_titles_readable
from edge.intake.dicom_listener import DicomListener
from edge.intake.reception import Reception
from edge.intake.statuses import SUCCESS
from edge.store import Store
from tests.intake import wire
from tests.intake.objects import dx

GOOD: dict[str, Any] = {
    "host": "192.0.2.7",
    "called": "SCANSIDE",
    "calling": "DX1",
    "application_context": APPLICATION_CONTEXT,
    "open_now": 0,
    "open_from_host": 0,
}
PERMANENT, TRANSIENT = 1, 2
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, int, int] | None]] = {
    "anybody by default": ({}, {}, None),
    "another called title by default": ({"called": "OTHER"}, {}, None),
    "another called title": ({"called": "OTHER"}, {"require_called_ae_title": True}, (PERMANENT, 1, 7)),
    "the called title, padded": ({"called": "SCANSIDE  "}, {"require_called_ae_title": True}, None),
    "a listed calling title": ({}, {"calling_ae_titles": ("CR", "DX1")}, None),
    "a listed title with spaces": ({}, {"calling_ae_titles": (" DX1 ",)}, None),
    "titles know upper and lower case": ({"calling": "dx1"}, {"calling_ae_titles": ("DX1",)}, (PERMANENT, 1, 3)),
    "an unlisted calling title": ({"calling": "CT"}, {"calling_ae_titles": ("CR", "DX1")}, (PERMANENT, 1, 3)),
    "a blank calling title": ({"calling": NO_TITLE}, {}, (PERMANENT, 1, 3)),
    "a blank calling title, tolerated": ({"calling": NO_TITLE}, {"allow_blank_calling_ae_title": True}, None),
    "a blank title, tolerated beside a list": (
        {"calling": NO_TITLE},
        {"allow_blank_calling_ae_title": True, "calling_ae_titles": ("DX1",)},
        None,
    ),
    "a listed address": ({}, {"hosts": ("198.51.100.1", "192.0.2.7")}, None),
    "an unlisted address": ({}, {"hosts": ("192.0.2.8",)}, (PERMANENT, 1, 1)),
    "a listed network": ({}, {"hosts": ("192.0.2.0/24",)}, None),
    "an unlisted network": ({}, {"hosts": ("192.0.3.0/24",)}, (PERMANENT, 1, 1)),
    "an IPv6 address": ({"host": "2001:db8::1"}, {"hosts": ("2001:db8::/32",)}, None),
    "an IPv6 address among IPv4 networks": ({"host": "2001:db8::1"}, {"hosts": ("0.0.0.0/0",)}, (PERMANENT, 1, 1)),
    "an IPv4 address of an IPv6 socket": ({"host": "::ffff:192.0.2.7"}, {"hosts": ("192.0.2.0/24",)}, None),
    "an IPv6 address of an interface": ({"host": "fe80::1%eth0"}, {"hosts": ("fe80::/10",)}, None),
    "another application context": ({"application_context": "1.2.3"}, {}, (PERMANENT, 1, 2)),
    "the last free place": ({"open_now": 9}, {}, None),
    "no place free": ({"open_now": 10}, {}, (TRANSIENT, 3, 2)),
    "the host's last free place": ({"open_now": 4, "open_from_host": 4}, {}, None),
    "none free for the host": ({"open_now": 5, "open_from_host": 5}, {}, (TRANSIENT, 3, 2)),
    "what is permanent comes first": ({"open_now": 10, "calling": NO_TITLE}, {}, (PERMANENT, 1, 3)),
    "the host comes before the titles": (
        {"calling": NO_TITLE, "called": "OTHER"},
        {"hosts": ("192.0.2.8",), "require_called_ae_title": True},
        (PERMANENT, 1, 1),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_refusal_has_the_reason_of_ps3_8(case: str) -> None:
    request, config, expected = CASES[case]
    rejection = decide(Request(**{**GOOD, **request}), Dicom(**config))
    assert (rejection and rejection[:3]) == expected


def test_a_reason_names_no_title_that_came_from_outside() -> None:
    request = Request(**{**GOOD, "calling": "DOE^JOHN"})
    rejection = decide(request, Dicom(calling_ae_titles=("DX1",)))
    assert rejection
    assert "DOE" not in rejection.words


TITLES = {
    "padded with spaces": (b"DX1".ljust(16), b"DX1".ljust(16)),
    "padded with NUL": (b"DX1".ljust(16, b"\0"), b"DX1".ljust(16)),
    "blank": (b" " * 16, NO_TITLE.encode().ljust(16)),
    "of NUL": (bytes(16), NO_TITLE.encode().ljust(16)),
    "with a backslash": (b"A\\B".ljust(16), b"A?B".ljust(16)),
    "with a control character": (b"A\x1bB\n".ljust(16), b"A?B?".ljust(16)),
    "not ASCII": ("RÖ".encode("latin-1").ljust(16), b"R?".ljust(16)),
}


@pytest.mark.parametrize("case", TITLES)
def test_odd_titles_become_readable_ones(case: str) -> None:
    title, expected = TITLES[case]
    pdu = bytearray(wire.associate_rq(calling=title, called=title)[6:])
    make_titles_readable(pdu)
    assert pdu[4:20] == pdu[20:36] == expected


@given(st.binary(max_size=80))
def test_any_request_keeps_its_length(body: bytes) -> None:
    changed = bytearray(body)
    make_titles_readable(changed)
    assert len(changed) == len(body)
    assert changed[36:] == body[36:]


@pytest.mark.parametrize("calling", [b"DX1\0\0\0", b"", b"\0" * 16, b"R\xd6NTGEN", b"A\\B"])
def test_odd_titles_are_answered_and_not_aborted(store: Store, calling: bytes) -> None:
    listener = DicomListener(Dicom(port=0, allow_blank_calling_ae_title=True), Reception(store))
    with wire.Peer(listener.port) as peer:
        peer.send(wire.associate_rq(calling=calling))
        assert peer.read().kind == wire.ASSOCIATE_AC
        peer.send(*wire.c_store(dx()))
        assert peer.read().status == SUCCESS
    listener.stop(0.0)


REFUSALS: dict[str, tuple[dict[str, Any], bytes, tuple[int, int, int], str]] = {
    "address": ({"hosts": ("192.0.2.0/24",)}, wire.associate_rq(), (PERMANENT, 1, 1), "intake.dicom.hosts"),
    "called": (
        {"require_called_ae_title": True},
        wire.associate_rq(called=b"OTHER"),
        (PERMANENT, 1, 7),
        "another AE title than SCANSIDE",
    ),
    "calling": (
        {"calling_ae_titles": ("DX1",)},
        wire.associate_rq(calling=b"DOE"),
        (PERMANENT, 1, 3),
        "intake.dicom.calling_ae_titles",
    ),
    "blank": ({}, wire.associate_rq(calling=b""), (PERMANENT, 1, 3), "blank"),
    "context": ({}, wire.associate_rq(application_context="1.2.3"), (PERMANENT, 1, 2), "application context"),
    "version": ({}, b"\1\0" + wire.associate_rq()[2:6] + b"\0\2" + wire.associate_rq()[8:], (PERMANENT, 2, 2), ""),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_reaches_the_sender_and_the_log(store: Store, caplog: pytest.LogCaptureFixture, case: str) -> None:
    config, request, expected, words = REFUSALS[case]
    listener = DicomListener(Dicom(port=0, **config), Reception(store))
    caplog.set_level("INFO", "scanside")
    with wire.Peer(listener.port) as peer:
        peer.send(request)
        answers = peer.read_all()
    assert [answer.kind for answer in answers] == [wire.ASSOCIATE_RJ]
    assert struct.unpack("xBBB", answers[0].body) == expected
    assert words in caplog.text
    assert "DOE" not in caplog.text
    listener.stop(0.0)
