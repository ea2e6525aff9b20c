"""The certificate that the box makes for itself where nobody has given it one: on first boot, and anew before it ends.

ECDSA P-256, signed by itself: it keeps listeners out, and a browser that was told once to trust it notices another box
in its place. A new one keeps the key, and is made when the old one has 30 days left, or when the box has got a name or
an address that the old one lacks. Valid for 397 days, the most that browsers take (CA/Browser Forum, 6.3.2).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edge.device.certificates import WARN_WITHIN_DAYS, days_left
from edge.modes import file_mode, make_folder

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

DAYS = 397
_SIOCGIFADDR = 0x8915  # from linux/sockios.h


class OwnCertificate(NamedTuple):
    """Where it lies, PEM; the key with mode 0600."""

    certificate_file: Path
    key_file: Path


def ensure_certificate(folder: Path, names: Iterable[str], now: float) -> OwnCertificate:
    """The box's own certificate for these names and addresses, made if there is none that will do.

    Args:
        folder: Where it lies; made with mode 0700.
        names: Host names and IP addresses by which browsers reach the box.
        now: Seconds since the epoch.

    Raises:
        OSError: The disk failed.
    """
    make_folder(folder)
    own = OwnCertificate(folder / "own.pem", folder / "own.key")
    wanted = frozenset(names)
    if not _will_do(own, wanted, now):
        _make(own, sorted(wanted), now)
    return own


def own_names(*more: str) -> list[str]:
    """By what this box can be reached: its host name, also as multicast DNS has it, its addresses, and `more`."""
    host = socket.gethostname().partition(".")[0].lower()
    return [*{host, f"{host}.local", socket.gethostname().lower(), "localhost", *own_addresses(), *more} - {""}]


def name_for_others(host: str, addresses: Iterable[str]) -> str:
    """What a person on another machine types for this one: its host name, or an address where it has no name.

    Args:
        host: Its host name; a fresh machine to which nobody gave one calls itself `localhost`.
        addresses: Its own. Loopback is no help; IPv4 before IPv6, then the lowest.
    """
    if host.partition(".")[0].lower() not in ("", "localhost"):
        return host
    others = [address for address in map(ip_address, addresses) if not address.is_loopback]
    return str(min(others, key=lambda address: (address.version, int(address)), default=host))


def own_addresses() -> set[str]:
    """Of all interfaces, without asking any name server; link-local ones of IPv6 are nobody's to type."""
    found = {"127.0.0.1", "::1"}
    # if_nameindex(3) wants a netlink socket, which the unit of the web service has not (RestrictAddressFamilies).
    interfaces = [
        line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for name in interfaces:
            try:
                answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # an interface without an IPv4 address
            found.add(socket.inet_ntoa(answer[20:24]))
    try:
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:
        return found  # a kernel without IPv6
    addresses = {IPv6Address(int(line.split()[0], 16)) for line in lines}
    return found | {str(address) for address in addresses if not address.is_link_local}


def _will_do(own: OwnCertificate, names: frozenset[str], now: float) -> bool:
    try:
        return (
            days_left(own.certificate_file, now) >= WARN_WITHIN_DAYS
            and own.key_file.stat().st_size > 0
            and names <= _names_in(own.certificate_file)
        )
    except (OSError, ValueError):
        return False


def _names_in(file: Path) -> set[str]:
    from cryptography import x509  # noqa: PLC0415 - 8 MB that a box without TLS does not pay for

    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def _make(own: OwnCertificate, names: list[str], now: float) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - likewise
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(own.key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("another kind of key")  # noqa: TRY301, TRY004 - as unusable as a broken one
    except (OSError, ValueError, TypeError):
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(own.key_file, pem)
    certificate = _signed(key, names, datetime.fromtimestamp(now, UTC))
    _write(own.certificate_file, certificate.public_bytes(serialization.Encoding.PEM))


def _signed(key: ec.EllipticCurvePrivateKey, names: list[str], now: datetime) -> x509.Certificate:
    from cryptography import x509  # noqa: PLC0415 - likewise
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Scanside")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # for tablets whose clocks are behind
        .not_valid_after(now + timedelta(days=DAYS - 1))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509  # noqa: PLC0415 - likewise

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all, and for this user alone."""
    temporary = file.with_suffix(f"{file.suffix}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode(temporary.parent))
    with os.fdopen(descriptor, "wb") as output:
        output.write(data)
        output.flush()
        os.fsync(output.fileno())
    temporary.replace(file)
