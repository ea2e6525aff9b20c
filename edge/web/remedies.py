"""What each error of the catalogue means for whoever looks after the box, and what to do, in the reader's language."""

from __future__ import annotations

from pathlib import Path

from edge import events
from edge.device.troubles import Trouble, read_troubles
from edge.events import Event
from edge.records import Record
from edge.web.languages import gettext, mark
from edge.web.retelling import message_of, retold

NOTHING = mark("Nothing: it heals by itself. When it comes back often, send its number and the log to the maker.")
_MAKER = mark("Send its number and the log to the maker: it is a defect of the software. Nothing was lost.")
_DISK = mark(
    "Look at the disk: is it full, read-only or failing? `scanside doctor` says which. The box goes on by itself."
)
_RESTART = mark("Correct it in the configuration, then restart the box.")
_POWER = mark("Restart the box once. When it comes back, send its number and the log to the maker.")
_DAMAGED = mark(
    "Look at the disk (`dmesg`, SMART): files do not break by themselves. What could be saved was; see the log."
)

REMEDIES: dict[Event, tuple[str, ...]] = {
    events.SERVICE_DIED: (NOTHING,),
    events.DEFECT: (_MAKER,),
    events.CONFIG_REFUSED: (_RESTART,),
    events.STORE_FAILED: (_DISK,),
    events.WATCH_FAILED: (mark("Let the box's user read and remove files in the watch folder."),),
    events.PICKUP_FAILED: (
        mark("Look at the file that stays in the watch folder: its rights, or what still writes to it."),
    ),
    events.LISTEN_REFUSED: (
        mark("Another program has the port, or the address is not this box's."),
        _RESTART,
    ),
    events.THREAD_FAILED: (mark("Memory ran out: see who sends so many connections at once, and limit it."),),
    events.TLS_UNUSABLE: (
        mark("Put a certificate and a key that belong together in place."),
        _RESTART,
    ),
    events.SPOOL_FILE_MISSING: (_DAMAGED,),
    events.SPOOL_FILE_LOCKED: (mark("The file was changed, or sealed with another key: put the right key back."),),
    events.KEEPER_FAILED: (_DISK,),
    events.DATABASE_SUSPECT: (NOTHING,),
    events.DATABASE_BROKEN: (_DAMAGED,),
    events.SPOOL_FILES_BROKEN: (_DAMAGED,),
    events.SPOOL_FILES_LOCKED: (
        mark("Put the key back with which they were sealed (`scanside key show`), then restart."),
    ),
    events.ENGINE_REFUSED: (
        mark("The other engine serves. When none does, the model is not made for this processor."),
    ),
    events.PIPELINE_FAILED: (_MAKER,),
    events.PARKED: (
        mark("Read this image without the software; it is kept."),
        _MAKER,
    ),
    events.BUNDLE_REFUSED: (mark("`scanside model` says why. Put a model bundle with a valid signature in place."),),
    events.ANALYST_ENDED: (NOTHING,),
    events.ANALYST_OVERDUE: (NOTHING,),
    events.IMAGE_CRASHED: (mark("Read this image without the software; it is kept, and others are not affected."),),
    events.IMAGE_TOOK_TOO_LONG: (mark("Read this image without the software, or raise inference.image_seconds."),),
    events.IMAGE_TOO_LARGE: (mark("Read this image without the software, or raise inference.image_megabytes."),),
    events.ENGINE_REPLACED: (mark("The other engine serves. Update the software; send the log to the maker."),),
    events.JOURNAL_FAILED: (_DISK,),
    events.MESSAGE_REFUSED: (mark("Let the broker's access rules take this box's topics. The messages wait here."),),
    events.MESSAGE_UNFIT: (_MAKER,),
    events.OUTBOX_FAILED: (_DISK,),
    events.NO_ORDERS: (mark("Let the broker's access rules give this box its own topics under cmd and shadow."),),
    events.SETTINGS_BACK: (
        mark("The box works with its settings of before. Tell the fleet's manager which did not work."),
    ),
    events.ORDERS_FAILED: (_DISK,),
    events.REQUEST_FAILED: (_MAKER,),
    events.WEB_STORE_FAILED: (_DISK,),
    events.WEB_SERVER_FAILED: (_MAKER,),
    events.WEB_ADDRESS_REFUSED: (
        mark("Another program has the port, or the address is not this box's."),
        _RESTART,
    ),
    events.WEB_TLS_UNUSABLE: (
        mark("Put a certificate and a key that belong together in place."),
        _RESTART,
    ),
    events.NOT_ACCEPTED: (_DISK,),
    events.HEALTH_UNWRITTEN: (_DISK,),
    events.AUDIT_FAILED: (_DISK,),
    events.AUDIT_NOT_RETIRED: (_DISK,),
    events.AUDIT_BROKEN: (_DAMAGED,),
    events.AUDIT_UNREADABLE: (
        mark("The audit trail was changed: `scanside audit verify` says where. Tell who is in charge."),
    ),
    events.REPORT_PARKED: (
        mark("See what `scanside deliveries` says; correct it there, then `scanside deliveries --retry`."),
    ),
    events.OBJECT_CHANGED: (mark("Ask whoever looks after the PACS why it changes what it is sent."),),
    events.REPORTING_FAILED: (_DISK,),
    events.UPDATE_REFUSED: (mark("Ask whoever made the stick for another one. The box works on with what it has."),),
    events.UPDATE_FAILED: (
        mark("Put the stick in again. When it comes back, send its number and the log to the maker."),
    ),
}

_BY_NUMBER = {event.number: remedy for event, remedy in REMEDIES.items()}
_MESSAGES = {event.number: (message_of(event.template),) for event in REMEDIES}


class ErrorView(Record, frozen=True, kw_only=True):
    """An error as people see it: the number to search for, what it said last, how often, when, and what to do.

    In the reader's language, but for what another program or the system has said of its failure.
    """

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
        text=retold(trouble.text, _MESSAGES.get(trouble.number, ())),
        count=trouble.count,
        first_at=trouble.first_at,
        last_at=trouble.last_at,
        remedy=" ".join(gettext(each) for each in _BY_NUMBER.get(trouble.number, (_POWER,))),
    )
