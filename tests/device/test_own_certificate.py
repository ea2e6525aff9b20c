"""The box's own certificate: made once, renewed in time, for every name it has; its key stays its own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edge.device.own_certificate import DAYS, OwnCertificate, ensure_certificate, name_for_others, own_names

NOW = 1_790_000_000.0
DAY = 86_400.0
NAMES = ("xray-1", "xray-1.local", "192.0.2.7", "2001:db8::1")


def loaded(own: OwnCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(own.certificate_file.read_bytes())


def test_it_is_p256_for_all_names_with_a_key_that_nobody_else_reads(tmp_path: Path) -> None:
    own = ensure_certificate(tmp_path / "tls", NAMES, NOW)
    certificate = loaded(own)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["xray-1", "xray-1.local"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "2001:db8::1"]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == DAYS
    assert stat.S_IMODE(own.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.key_file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("days", "names", "renewed"),
    [
        (0, NAMES, False),
        (300, NAMES[:2], False),
        (DAYS - 40, NAMES, False),
        (DAYS - 20, NAMES, True),
        (2 * DAYS, NAMES, True),
        (1, (*NAMES, "198.51.100.9"), True),
    ],
)
def test_it_is_renewed_in_time_or_for_a_new_name_and_keeps_its_key(
    tmp_path: Path, days: int, names: tuple[str, ...], renewed: bool
) -> None:
    before = ensure_certificate(tmp_path, NAMES, NOW)
    key, serial = before.key_file.read_bytes(), loaded(before).serial_number
    after = ensure_certificate(tmp_path, names, NOW + days * DAY)
    assert (loaded(after).serial_number != serial) is renewed
    assert after.key_file.read_bytes() == key


@pytest.mark.parametrize("damaged", ["own.pem", "own.key"])
def test_what_is_damaged_is_made_again(tmp_path: Path, damaged: str) -> None:
    ensure_certificate(tmp_path, NAMES, NOW)
    (tmp_path / damaged).write_bytes(b"")
    own = ensure_certificate(tmp_path, NAMES, NOW)
    assert b"PRIVATE KEY" in own.key_file.read_bytes()
    assert loaded(own).not_valid_after_utc.timestamp() > NOW


def test_two_boxes_have_two_keys(tmp_path: Path) -> None:
    one, other = (ensure_certificate(tmp_path / name, NAMES, NOW) for name in ("one", "other"))
    assert one.key_file.read_bytes() != other.key_file.read_bytes()


def test_the_box_knows_its_names() -> None:
    names = own_names("xray-9", "")
    assert {"localhost", "127.0.0.1", "::1", "xray-9"} <= set(names)
    assert "" not in names


@pytest.mark.parametrize(
    ("host", "addresses", "named"),
    [
        ("xray-1", ["192.0.2.7"], "xray-1"),
        ("localhost", ["127.0.0.1", "::1", "2001:db8::1", "192.0.2.70", "192.0.2.8"], "192.0.2.8"),
        ("localhost.localdomain", ["127.0.0.1", "::1", "2001:db8::1"], "2001:db8::1"),
        ("localhost", ["127.0.0.1", "::1"], "localhost"),
    ],
)
def test_what_another_machine_calls_this_one(host: str, addresses: list[str], named: str) -> None:
    assert name_for_others(host, addresses) == named
