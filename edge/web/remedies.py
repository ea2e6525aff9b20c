"""What to do about each error of the catalogue, for whoever looks after the box."""

from __future__ import annotations

from pathlib import Path

from edge import events
from edge.device.troubles import Trouble, read_troubles
from edge.events import Event
from edge.records import Record

NOTHING = "Nothing: it heals by itself. When it comes back often, send its number and the log to the maker."
_MAKER = "Send its number and the log to the maker: it is a defect of the software. Nothing was lost."
_DISK = "Look at the disk: is it full, read-only or failing? `scanside doctor` says which. The box goes on by itself."
_RESTART = "Correct it in the configuration, then restart the box."
_POWER = "Restart the box once. When it comes back, send its number and the log to the maker."
_DAMAGED = "Look at the disk (`dmesg`, SMART): files do not break by themselves. What could be saved was; see the log."

REMEDIES: dict[Event, str] = {
    events.SERVICE_DIED: NOTHING,
    events.DEFECT: _MAKER,
    events.STORE_FAILED: _DISK,
    events.WATCH_FAILED: "Let the box's user read and remove files in the watch folder.",
    events.PICKUP_FAILED: "Look at the file that stays in the watch folder: its rights, or what still writes to it.",
    events.LISTEN_REFUSED: "Another program has the port, or the address is not this box's. " + _RESTART,
    events.THREAD_FAILED: "Memory ran out: see who sends so many connections at once, and limit it.",
    events.TLS_UNUSABLE: "Put a certificate and a key that belong together in place. " + _RESTART,
    events.SPOOL_FILE_MISSING: _DAMAGED,
    events.SPOOL_FILE_LOCKED: "The file was changed, or sealed with another key: put the right key back.",
    events.KEEPER_FAILED: _DISK,
    events.DATABASE_SUSPECT: NOTHING,
    events.DATABASE_BROKEN: _DAMAGED,
    events.SPOOL_FILES_BROKEN: _DAMAGED,
    events.SPOOL_FILES_LOCKED: "Put the key back with which they were sealed (`scanside key show`), then restart.",
    events.ENGINE_REFUSED: "The other engine serves. When none does, the model is not made for this processor.",
    events.PIPELINE_FAILED: _MAKER,
    events.PARKED: "Read this image without the software; it is kept. " + _MAKER,
    events.BUNDLE_REFUSED: "`scanside model` says why. Put a model bundle with a valid signature in place.",
    events.ANALYST_ENDED: NOTHING,
    events.ANALYST_OVERDUE: NOTHING,
    events.IMAGE_CRASHED: "Read this image without the software; it is kept, and others are not affected.",
    events.IMAGE_TOOK_TOO_LONG: "Read this image without the software, or raise inference.image_seconds.",
    events.IMAGE_TOO_LARGE: "Read this image without the software, or raise inference.image_megabytes.",
    events.ENGINE_REPLACED: "The other engine serves. Update the software; send the log to the maker.",
    events.JOURNAL_FAILED: _DISK,
    events.MESSAGE_REFUSED: "Let the broker's access rules take this box's topics. The messages wait here.",
    events.MESSAGE_UNFIT: _MAKER,
    events.OUTBOX_FAILED: _DISK,
    events.NO_ORDERS: "Let the broker's access rules give this box its own topics under cmd and shadow.",
    events.SETTINGS_BACK: "The box works with its settings of before. Tell the fleet's manager which did not work.",
    events.ORDERS_FAILED: _DISK,
    events.REQUEST_FAILED: _MAKER,
    events.WEB_STORE_FAILED: _DISK,
    events.WEB_SERVER_FAILED: _MAKER,
    events.WEB_ADDRESS_REFUSED: "Another program has the port, or the address is not this box's. " + _RESTART,
    events.WEB_TLS_UNUSABLE: "Put a certificate and a key that belong together in place. " + _RESTART,
    events.NOT_ACCEPTED: _DISK,
    events.HEALTH_UNWRITTEN: _DISK,
    events.AUDIT_FAILED: _DISK,
    events.AUDIT_NOT_RETIRED: _DISK,
    events.AUDIT_BROKEN: _DAMAGED,
    events.AUDIT_UNREADABLE: "The audit trail was changed: `scanside audit verify` says where. Tell who is in charge.",
}

_BY_NUMBER = {event.number: remedy for event, remedy in REMEDIES.items()}


class ErrorView(Record, frozen=True, kw_only=True):
    """An error as people see it: the number to search for, what it said last, how often, when, and what to do."""

    service: str
    number: str
    text: str
    count: int
    first_at: float
    last_at: float
    remedy: str


def last_errors(state_dir: Path) -> tuple[ErrorView, ...]:
    """The last errors of all services, the newest first."""
    return tuple(_view(trouble) for trouble in read_troubles(state_dir))


def _view(trouble: Trouble) -> ErrorView:
    return ErrorView(
        service=trouble.service,
        number=f"SC{trouble.number:03d}",
        text=trouble.text,
        count=trouble.count,
        first_at=trouble.first_at,
        last_at=trouble.last_at,
        remedy=_BY_NUMBER.get(trouble.number, _POWER),
    )
