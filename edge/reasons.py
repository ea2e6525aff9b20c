"""Every reason why a service is not `up`, or takes no update: as its health file, the fleet and the log have it.

In English: the page tells them again in the reader's language, by these templates (`edge/web/retelling.py`); values
stay as they are, and so does what the system says of a failure. A reason is written here or nowhere:
`tests/test_reasons.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

STOPPED = "stopped"
NO_SIGN_OF_LIFE = "no sign of life"

SERVICE_RUNS_AGAIN = "{service} ended {count} time(s) in a row: it runs again"
SERVICE_WAITS = "{service} ended {count} time(s) in a row: it waits for its restart"
WAITING_FOR = "waiting for {services}"
SAFE_MODE = "the configuration cannot be used and the last good one is in force"

CANNOT_LISTEN = "the DICOM listener cannot listen on port {port}: {error}"
TLS_CANNOT_START = "DICOM over TLS cannot start: {why}"
NO_KEY_PAIR = "not a certificate and key in PEM, unencrypted, that belong together ({error})"
NO_CERTIFICATE = "no certificate in PEM ({error})"
WATCH_FOLDER_FAILS = "the watch folder cannot be emptied: {why}"
FILES_STUCK = "{count} file(s) in the watch folder cannot be taken"
DISK_FULL = "the disk is full"
DISK_OR_JOURNAL_FAILED = "the disk or the journal failed"

LITTLE_ROOM = "there is little room on the disk"
NO_PICTURES = "the disk is nearly full and no pictures are made"
NO_IMAGES_TAKEN = "the disk is full and no image is taken"
DISK_NOT_IN_ORDER = "the disk cannot be kept in order"
REPAIRED = "the {file} was damaged and was made again on {time}; nothing is to be done"
REPAIR_DUE = "{file}: waits for its repair: every service that has it open ends and starts again"
REPAIR_HELD_UP = "{file}: waits for its repair, and others have it open: stop them, start again"
DATABASE_DAMAGED = "{file}: damaged ({error}): the next start repairs it"
NOT_SEALED = "{place}: not a sealed value"
SEAL_MISSING = "{place}: not a sealed value: restore it from a backup"
SEAL_BROKEN = "{place}: not what was sealed: restore it from a backup"
KEY_MISSING = (
    "{place}: sealed with key {key}, and {file} holds {keys}: restore that key, or start anew with another state_dir"
)
ROW_INCOMPLETE = "a row without its {column}"
TRAIL_UNWRITABLE = "the audit trail cannot be written"

LOADING = "loading the models"
NO_MODEL = "no model passed its checks"
JOURNAL_UNWRITABLE = "the journal cannot be written"
ENGINE_REPLACED = "{engine} ended {count} times in a row: {other} serves instead"
ANALYST_ENDED = "the analysing process ended"
ANALYST_RUNS_AGAIN = "the analysing process ended and runs again"
ANALYST_ENDED_OFTEN = "the analysing process ended {count} times in a row"
ANALYST_ENDED_OFTEN_RUNS_AGAIN = "the analysing process ended {count} times in a row and runs again"

STORE_UNREADABLE = "the store cannot be read"

NOT_CONNECTED = "not connected yet"
BROKER_UNREACHABLE = "the broker cannot be reached"
BROKER_REFUSES = "the broker refuses this box"
OUTBOX_FULL = "the outbox is full"
OUTBOX_UNUSABLE = "the outbox cannot be used"
ORDERS_NOT_KEPT = "orders cannot be kept"

NOT_FORWARDED = "audit messages cannot be forwarded: {why}"
HUNG_UP = "the server has hung up"

NO_REPORTS = "reports cannot be made"
NO_COMMITMENT_ADDRESS = "the address for storage commitment cannot be had"
RESULTS_WAIT = "results wait - {count} for {destination} - {why}"
RESULTS_PARKED = "results parked - {count} for {destination}"
OUT_OF_RESOURCES = "it is out of resources"
NO_COMMITMENT = "it gives no storage commitment"
NO_CONNECTION = "no connection"
REJECTED = "it rejects this box"
ASSOCIATION_BROKE = "the association broke"
CONNECTION_BROKE = "the connection broke"
COMMITMENT_REFUSED = "it takes no request for storage commitment"

UPDATE_UNDER_WAY = "another update is being installed: put it in again in some minutes"
UPDATE_MISSING = "no {file} on it: make the stick with `scanside update prepare`"
UPDATE_UNREADABLE = "{file} cannot be read: make the stick again"
UPDATE_UNSIGNED = (
    "signed by no key that this box trusts: put the signer's key into update_keys, or ask whose stick it is"
)
UPDATE_UNKNOWN = "{file} has a form that this version does not know: install the package by hand"
UPDATE_CHANGED = "{file} is not what was signed: make the stick again"
UPDATE_OLDER = "version {version} is older than {installed}, which may have stored what it cannot read: use a newer one"
UPDATE_OTHER_PROCESSOR = "it is for {architecture}, and this box is {here}: use the package for that"
UPDATE_UNFIT = "version {version} does not work on this box: {why}"
UPDATE_NOT_UNPACKED = "it cannot be unpacked: see that there is room on the disk, and put it in again"
UPDATE_DISK = "{why}: see to the disk and the stick, and put it in again"
NO_ENGINE = "no engine passes the self-tests of all models"

ALL: tuple[str, ...] = tuple(text for name, text in globals().items() if name.isupper() and isinstance(text, str))
"""All of them."""

_AND = " - "


def joined(reasons: Iterable[str]) -> str:
    """Several as one, in characters that the fleet's messages may hold."""
    return _AND.join(reasons)


def apart(reason: str) -> list[str]:
    """What was `joined`: after the first, each is about a destination's results."""
    return re.split(f"{_AND}(?=results )", reason)
