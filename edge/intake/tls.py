"""DICOM over TLS: the BCP 195 RFC 8996, RFC 9325 TLS Secure Transport Connection Profile (PS3.15 B.12)."""

from __future__ import annotations

import ssl
from pathlib import Path

from edge import reasons
from edge.config import DicomTls

CIPHERS_1_2 = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
"""The cipher suites of RFC 9325 4.2 in OpenSSL's names, ours first; those of TLS 1.3 are OpenSSL's own choice."""


class TlsUnusable(Exception):  # noqa: N818 - a state of the configuration
    """A certificate or key file that cannot be used: `file` says which, the message why."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(why)
        self.file = file


def server_context(config: DicomTls) -> ssl.SSLContext:
    """TLS 1.2 and 1.3 with forward secrecy, without renegotiation and (as Python has it) compression.

    Raises:
        TlsUnusable: A file cannot be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(CIPHERS_1_2))
    context.options |= ssl.OP_NO_RENEGOTIATION
    for file in filter(None, (config.certificate_file, config.key_file, config.client_ca_file)):
        _check_readable(file)
    try:
        context.load_cert_chain(config.certificate_file, config.key_file, password=_no_password)
    except ssl.SSLError as error:
        why = reasons.NO_KEY_PAIR.format(error=tls_words(error))
        raise TlsUnusable(config.certificate_file, why) from error
    if config.client_ca_file:
        try:
            context.load_verify_locations(config.client_ca_file)
        except ssl.SSLError as error:
            raise TlsUnusable(config.client_ca_file, reasons.NO_CERTIFICATE.format(error=tls_words(error))) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def tls_words(error: ssl.SSLError) -> str:
    """What failed, in OpenSSL's short words."""
    return getattr(error, "verify_message", "") or (error.reason or type(error).__name__).lower().replace("_", " ")


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb"):
            return
    except OSError as error:
        raise TlsUnusable(file, error.strerror or type(error).__name__) from error


def _no_password() -> str:
    """Instead of OpenSSL's question on the terminal: a box has nobody to answer it."""
    return ""
