"""A certificate authority for tests; the fixture `authority` makes one for each session."""

from __future__ import annotations

import datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


class Authority:
    """Issues certificates for 127.0.0.1, each once; its own is `<folder>/<name>.pem`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._issued: dict[tuple[str, datetime.timedelta], tuple[Path, Path]] = {}
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = folder / f"{name}.pem"
        basic = x509.BasicConstraints(ca=True, path_length=0)
        signed = (
            self._builder(self._name, self._key).add_extension(basic, critical=True).sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(signed.public_bytes(Encoding.PEM))

    def issue(self, name: str, begins_in: datetime.timedelta = -_DAY) -> tuple[Path, Path]:
        """A certificate, valid for two days from then on, and its private key. A name may be `<site>/<box>`."""
        if (name, begins_in) not in self._issued:
            self._issued[name, begins_in] = self._issue(name, begins_in)
        return self._issued[name, begins_in]

    def _issue(self, name: str, begins_in: datetime.timedelta) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        builder = self._builder(subject, key, begins_in).add_extension(address, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        certificate_file, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate_file.parent.mkdir(exist_ok=True)
        certificate_file.write_bytes(signed.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate_file, key_file

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins_in: datetime.timedelta = -_DAY
    ) -> x509.CertificateBuilder:
        begin = datetime.datetime.now(datetime.UTC) + begins_in
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + 2 * _DAY)
        )
