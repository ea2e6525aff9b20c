"""Who may have an association: one decision, and the reason that its refusal gives (PS3.8 9.3.4)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from edge.config import Dicom

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

REJECTED_PERMANENT = 1
"""The result of a rejection that trying again does not change (PS3.8 table 9-21): this sender may not."""

NO_TITLE = "(blank)"
"""What stands for a calling AE title that is blank."""

_CALLED, _CALLING = slice(4, 20), slice(20, 36)  # PS3.8 table 9-11, counted from the PDU's seventh byte
_FORBIDDEN = bytes(range(0x20)) + b"\\" + bytes(range(0x7F, 0x100))
_READABLE = bytes.maketrans(_FORBIDDEN, b"?" * len(_FORBIDDEN))


class Rejection(NamedTuple):
    """An A-ASSOCIATE-RJ: result, source and reason as PS3.8 table 9-21 numbers them, and the reason in words."""

    result: int
    source: int
    reason: int
    words: str


class Request(NamedTuple):
    """What is known when an association is asked for; `open_now` and `open_from_host` do not count this one."""

    host: str
    called: str
    calling: str
    application_context: str
    open_now: int
    open_from_host: int


def decide(request: Request, config: Dicom) -> Rejection | None:
    """Whether the association is refused, and why. None admits it.

    What will not change by itself is refused before what passes: a sender that is told "permanent" stops trying.
    """
    return next(_objections(request, config), None)


def _objections(request: Request, config: Dicom) -> Iterator[Rejection]:
    called, calling = request.called.strip(), request.calling.strip()
    allowed = {title.strip() for title in config.calling_ae_titles}
    if config.hosts and not _is_in(request.host, config.hosts):
        yield Rejection(1, 1, 1, "its address is not in intake.dicom.hosts")
    if config.require_called_ae_title and called != config.ae_title.strip():
        yield Rejection(1, 1, 7, f"it called another AE title than {config.ae_title}")
    if calling == NO_TITLE:
        if not config.allow_blank_calling_ae_title:
            yield Rejection(1, 1, 3, "its AE title is blank: see intake.dicom.allow_blank_calling_ae_title")
    elif allowed and calling not in allowed:
        yield Rejection(1, 1, 3, "its AE title is not in intake.dicom.calling_ae_titles")
    if request.application_context != APPLICATION_CONTEXT:
        yield Rejection(1, 1, 2, "its application context is not DICOM's")
    if request.open_now >= config.max_associations:
        yield Rejection(2, 3, 2, f"{config.max_associations} are open already")
    if request.open_from_host >= config.max_associations_per_host:
        yield Rejection(2, 3, 2, f"{config.max_associations_per_host} are open from there already")


def make_titles_readable(request: bytearray | memoryview) -> None:
    """Change AE titles that PS3.8 forbids, so that they are answered instead of breaking the parser.

    Args:
        request: An A-ASSOCIATE-RQ PDU without its first six bytes. NUL is padding, as many modalities mean it; other
            forbidden characters become `?`; a blank title becomes `NO_TITLE`.
    """
    for field in (_CALLED, _CALLING):
        title = bytes(request[field])
        if len(title) == 16:
            readable = title.replace(b"\0", b" ").translate(_READABLE)
            request[field] = readable if readable.strip() else NO_TITLE.encode("ascii").ljust(16)


def _is_in(host: str, networks: tuple[str, ...]) -> bool:
    address = ip_address(host.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in ip_network(network) for network in networks)
