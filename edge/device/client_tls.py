"""TLS as a client: towards the broker, a PACS, a worklist, a syslog server."""

from __future__ import annotations

import ssl
from pathlib import Path


def client_context(ca_file: Path | None, certificate_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, the server checked by name and authority (RFC 9325; PS3.15 B.12 for DICOM).

    Args:
        ca_file: The authorities to trust; None for the system's.
        certificate_file: What this side shows of itself; None for nothing.
        key_file: Its key, unencrypted: nobody is asked for a passphrase.

    Raises:
        OSError: A file cannot be read, or does not hold what it should (`ssl.SSLError`).
    """
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate_file:
        context.load_cert_chain(certificate_file, key_file, password="")
    return context
