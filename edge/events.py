"""The numbered catalogue of everything the box logs: one number, one level, one template for each event.

A support engineer searches by number. No template carries what comes from a patient, a study or a file's name.
Numbers: 1xx appliance, 2xx intake, 3xx store, 4xx inference, 5xx sync (reporting from 550 on), 6xx web, 7xx device,
8xx audit trail, 9xx the manager of a fleet.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from typing import NamedTuple


class Event(NamedTuple):
    """One kind of log line."""

    number: int
    level: int
    template: str


STARTING = Event(100, logging.INFO, "Scanside {version} starting: services {services}, state in {state_dir}")
READY = Event(101, logging.INFO, "all services ready after {seconds:.1f} s")
SERVICE_STARTED = Event(102, logging.INFO, "service {service} started, process {pid}")
SERVICE_DIED = Event(
    103, logging.ERROR, "service {service} ended with exit status {status}: restarting in {delay:.1f} s"
)
STOPPING = Event(104, logging.INFO, "stopping: signal {signal}")
SERVICE_KILLED = Event(105, logging.WARNING, "service {service} did not stop within {seconds:.1f} s and was killed")
STOPPED = Event(106, logging.INFO, "stopped")
DEFECT = Event(107, logging.CRITICAL, "the software failed: {error} in {where}")
CONFIG_REFUSED = Event(108, logging.ERROR, "safe mode, with the last good configuration: {error}")

LISTENING = Event(200, logging.INFO, "DICOM listener ready: AE title {ae_title}, {host}:{port}")
STORED = Event(201, logging.INFO, "accepted instance {instance} ({size} bytes) over {source}")
STORED_AGAIN = Event(202, logging.INFO, "instance {instance} came again with the same bytes: already stored")
STORE_FAILED = Event(203, logging.ERROR, "C-STORE answered with status {status:#06x}: {error}")
UID_CONFLICT = Event(204, logging.WARNING, "instance {instance} has the UID of {other} but other bytes: both kept")
WATCHING = Event(205, logging.INFO, "watch folder ready")
WATCH_FAILED = Event(206, logging.ERROR, "the watch folder cannot be emptied: {error}; trying again in {delay:.0f} s")
PICKUP_FAILED = Event(
    207, logging.ERROR, "a file in the watch folder cannot be taken: {error}; it stays there, trying again"
)
ASSOCIATION_REJECTED = Event(208, logging.WARNING, "association from {host} rejected: {reason}")
LISTEN_REFUSED = Event(
    209, logging.ERROR, "the DICOM listener cannot listen on {host}:{port}: {error}; change intake.dicom.host or port"
)
THREAD_FAILED = Event(210, logging.ERROR, "a connection got no thread: {error} in {where}")
TLS_LISTENING = Event(211, logging.INFO, "DICOM listener with TLS ready: AE title {ae_title}, {host}:{port}")
TLS_UNUSABLE = Event(
    212, logging.ERROR, "DICOM over TLS cannot start: {file}: {error}; change intake.dicom.tls or the file"
)
TLS_FAILED = Event(213, logging.WARNING, "no TLS with {host}: {error}")
CONNECTION_REFUSED = Event(
    214, logging.WARNING, "connection from {host} closed: {reason}; {count} since the start (told at each doubling)"
)
CONNECTION_CUT = Event(215, logging.WARNING, "connection from {host} cut: {reason}")
ASSOCIATION_ABORTED = Event(216, logging.WARNING, "connection from {host} aborted: {reason}")

LEFTOVER_REMOVED = Event(
    300, logging.INFO, "{count} half-written or half-removed files removed: no image that was answered with success"
)
SPOOL_FILE_MISSING = Event(301, logging.ERROR, "the spool file of instance {instance} is missing")
KEY_CREATED = Event(
    302,
    logging.WARNING,
    "key {key} created in {file}: beside the data it protects no stolen box; edge/store/README.md says what does",
)
SPOOL_FILE_LOCKED = Event(303, logging.ERROR, "the spool file of instance {instance} does not open: {error}")
PUT_BACK = Event(
    304, logging.WARNING, "the spool file of instance {instance} was lost or damaged: put back, as the image came again"
)
DISK_BAND = Event(310, logging.WARNING, "disk: {band}, {free_mb:.0f} MiB free of {total_mb:.0f}")
DISK_ROOM = Event(311, logging.INFO, "disk: enough room again, {free_mb:.0f} MiB free of {total_mb:.0f}")
REMOVED_BY_AGE = Event(312, logging.INFO, "removed by age: {images} images, {results} results (storage.*_days)")
REMOVED_FOR_ROOM = Event(
    313, logging.WARNING, "removed to make room: the pictures of {pictures} images, {images} images; their results stay"
)
KEEPER_FAILED = Event(314, logging.ERROR, "the disk cannot be kept in order: {error}; trying again every second")
CLOCK_UNSYNCHRONISED = Event(
    315, logging.WARNING, "nothing keeps the clock right: times are marked until something does (NTP, GPS)"
)
CLOCK_SYNCHRONISED = Event(316, logging.INFO, "the clock is right: {count} times of this boot corrected")
DATABASE_SUSPECT = Event(
    320, logging.ERROR, "{file}: {error}: the services that use it end, and the next start looks at it and repairs it"
)
DATABASE_BROKEN = Event(321, logging.ERROR, "{file} is damaged ({found}): set aside in {folder}")
DATABASE_REPLACED = Event(322, logging.WARNING, "{file} made anew: {carried}")
ADOPTED = Event(323, logging.WARNING, "{count} images put back of which the journal knew nothing")
SPOOL_FILES_BROKEN = Event(324, logging.ERROR, "{count} spool files are not what was written: set aside in {folder}")
SPOOL_FILES_LOCKED = Event(
    325, logging.ERROR, "{count} spool files were sealed with a key that is not in the ring: left where they are"
)
DATABASE_MIGRATED = Event(326, logging.INFO, "{file} is of schema version {found}: brought forward to {version}")

BUNDLE_LOADED = Event(
    400, logging.INFO, "model {model} {version} loaded on {engine} with {threads} threads in {ms:.0f} ms"
)
ENGINE_CHOSEN = Event(401, logging.INFO, "engine {engine} chosen: {figures}")
ENGINE_REFUSED = Event(402, logging.ERROR, "engine {engine} refused for model {model}: {error}")
RESULT = Event(
    403,
    logging.INFO,
    "instance {instance}: {answer}; {ms:.0f} ms in the pipeline, {latency_ms:.0f} ms since arrival",
)
PIPELINE_FAILED = Event(404, logging.ERROR, "instance {instance}: {error} in {where}")
PARKED = Event(405, logging.ERROR, "instance {instance} parked after {attempts} attempts that ended without a result")
PREVIEW_FAILED = Event(406, logging.WARNING, "instance {instance}: no preview: {error}")
BUNDLE_REFUSED = Event(407, logging.ERROR, "model bundle refused: {error}")
ANALYST_STARTED = Event(408, logging.INFO, "analysing process {pid} ready")
ANALYST_ENDED = Event(409, logging.ERROR, "analysing process {pid} ended ({status}): a new one starts in {delay:.0f} s")
IMAGE_CRASHED = Event(410, logging.ERROR, "instance {instance}: the analysing process ended on it")
IMAGE_TOOK_TOO_LONG = Event(
    411, logging.ERROR, "instance {instance}: no answer after {seconds} s (inference.image_seconds)"
)
IMAGE_TOO_LARGE = Event(
    412, logging.ERROR, "instance {instance}: needs more than {megabytes} MB (inference.image_megabytes)"
)
ENGINE_REPLACED = Event(
    413, logging.ERROR, "engine {engine} ended {count} times in a row: {other} serves until this service starts anew"
)
IMAGE_POSTPONED = Event(
    414, logging.WARNING, "instance {instance}: no answer after {seconds} s: tried once more when others had their turn"
)
ANALYST_OVERDUE = Event(
    415, logging.ERROR, "analysing process {pid}: models not loaded after {seconds:.0f} s: it is ended"
)
PROCESSOR_WEAK = Event(416, logging.WARNING, "processor: {said}")
JOURNAL_FAILED = Event(430, logging.ERROR, "the journal cannot be used: {error}; trying again every {delay:.0f} s")

LINK_UP = Event(
    500, logging.INFO, "connected to {host}:{port} with MQTT {protocol}, session {session}, {waiting} messages wait"
)
LINK_DOWN = Event(501, logging.WARNING, "no connection to {host}:{port}: {error}; trying again")
OLD_PROTOCOL = Event(
    502,
    logging.WARNING,
    "the broker does not speak MQTT 5: served with MQTT 3.1.1, which has no session expiry (it keeps this box's session"
    " for ever), no message expiry (old messages are handed on), no will delay (a short drop is told as lost), no"
    " reason codes (a message that it refuses counts as delivered) and no content type",
)
MESSAGE_REFUSED = Event(
    503, logging.ERROR, "the broker refuses messages on {topics}: {reason} ({code:#04x}); they are kept and tried again"
)
MESSAGE_UNFIT = Event(
    504, logging.ERROR, "outbox message {number} is not one that may leave the box ({error}): it stays"
)
OUTBOX_FAILED = Event(505, logging.ERROR, "the outbox cannot be used: {error}; trying again in {delay:.0f} s")
SYNC_STOPPED = Event(506, logging.INFO, "link closed, {waiting} messages wait in the outbox")
ORDER_TAKEN = Event(510, logging.INFO, "order {order} taken: {operation}")
ORDER_REFUSED = Event(511, logging.WARNING, "an order was refused: {reason}")
ORDER_ENDED = Event(512, logging.INFO, "order {order}, {operation}: {status} {reason}")
ORDERS_FAILED = Event(517, logging.ERROR, "the fleet's orders cannot be kept: {error}; they come again")
NO_ORDERS = Event(513, logging.ERROR, "the broker lets this box hear no orders: {reason}")
SETTINGS_TRIED = Event(514, logging.WARNING, "the fleet's settings {version} are tried: {services} start anew")
SETTINGS_STAND = Event(515, logging.INFO, "the fleet's settings {version} stand")
SETTINGS_BACK = Event(516, logging.ERROR, "back to the fleet's settings {version}: the box did not come up with newer")

REPORTING_READY = Event(550, logging.INFO, "reporting to {destinations}: {waiting} objects wait")
REPORT_MADE = Event(551, logging.INFO, "result {result}: {kinds} made in {ms:.0f} ms")
REPORT_SIMPLER = Event(552, logging.WARNING, "result {result}: {kind} left out: {reason}")
REPORT_PARKED = Event(
    553, logging.ERROR, "result {result}: {kind} for {destination} parked: {reason} (scanside deliveries --retry)"
)
SOURCE_REPAIRED = Event(554, logging.WARNING, "result {result}: the image lacks or breaks {keywords}: left empty")
DESTINATION_DOWN = Event(555, logging.WARNING, "{destination} cannot be reached: {error}; trying again")
DESTINATION_UP = Event(556, logging.INFO, "{destination} is reached again")
OBJECT_CHANGED = Event(
    557, logging.ERROR, "{destination} has stored {kind} of result {result} changed (status {status:04X}): look at it"
)
DESTINATION_LACKS = Event(558, logging.WARNING, "{destination} does not take {lacking}: {instead}")
REPORTING_FAILED = Event(559, logging.ERROR, "reports cannot be made or sent ({error}): trying again")
NOT_REPORTED = Event(560, logging.INFO, "result {result} is not sent: {reason}")
UNCOMMITTED = Event(
    561, logging.WARNING, "{destination} gives no storage commitment ({reason}): what it has waits here"
)
DESTINATION_BUSY = Event(562, logging.WARNING, "{destination} is out of resources (status {status:04X}): backing off")
COMMITMENT_REFUSED = Event(563, logging.WARNING, "{destination} does not keep {count} objects: they are sent again")
REPORTS_OWED_AGAIN = Event(564, logging.WARNING, "the journal was repaired: {count} reports are made again")

ORDER_DIFFERS = Event(565, logging.WARNING, "result {result}: image and order of the worklist differ in {differences}")
WORKLIST_DOWN = Event(566, logging.WARNING, "the worklist does not answer: {error}; orders are not compared meanwhile")
URGENT_ORDERS = Event(567, logging.INFO, "the worklist calls urgent: {count} accession numbers and studies")

WEB_READY = Event(600, logging.INFO, "status page ready: {scheme}://{host}:{port}/")
FIRST_BOOT_CODE = Event(
    601, logging.WARNING, "no account yet: create the first one on the page with the code on the console"
)
SIGN_IN_FAILED = Event(602, logging.WARNING, "sign-in refused: {error}")
SIGN_IN_LOCKED = Event(603, logging.WARNING, "sign-in locked for {seconds:.0f} s after {failures} failures")
FIRST_ACCOUNT = Event(604, logging.INFO, "the first account was created: the code on the console is spent")
REQUEST_FAILED = Event(605, logging.ERROR, "{method} {route}: {error} in {where}")
WEB_STORE_FAILED = Event(606, logging.ERROR, "the page cannot read the store: {error}; trying again every second")
WEB_STORE_BACK = Event(607, logging.INFO, "the page reads the store again")
STREAMS_FULL = Event(608, logging.WARNING, "a page gets no live updates: {count} streams are open already")
WEB_SERVER_FAILED = Event(609, logging.ERROR, "web server: {message} ({error})")
WEB_ADDRESS_REFUSED = Event(
    610, logging.ERROR, "the page cannot listen on {host}:{port}: {error}; change web.host or web.port"
)
WEB_TLS_UNUSABLE = Event(612, logging.ERROR, "HTTPS cannot be spoken: {error}")
WEB_IN_THE_CLEAR = Event(
    613,
    logging.WARNING,
    "the page speaks HTTP to others than this box: configure web.tls, or put a TLS front before it",
)
NOT_ACCEPTED = Event(611, logging.ERROR, "an object that came over {source} was not accepted: {error}")

HEALTH_UNWRITTEN = Event(700, logging.ERROR, "the health file of {service} cannot be written: {error}")
CERTIFICATE_EXPIRES = Event(
    701, logging.WARNING, "the certificate {file} expires in {days:.0f} days (negative: it has): put a new one in place"
)
UPDATE_TAKEN = Event(710, logging.INFO, "update {version} on the stick is signed, whole and tried: it is installed now")
UPDATE_KNOWN = Event(711, logging.INFO, "update {version} on the stick is the version that runs: nothing to do")
UPDATE_REFUSED = Event(712, logging.ERROR, "the update on the stick is not taken: {why}")
UPDATE_FAILED = Event(713, logging.ERROR, "an update could not be installed: {why}")

AUDIT_HEAD = Event(800, logging.INFO, "audit trail: the newest record is {number}, digest {digest}")
AUDIT_FAILED = Event(
    801, logging.ERROR, "audit trail: {event} could not be recorded ({error}); {count} missing since it last could"
)
AUDIT_RETIRED = Event(
    802, logging.INFO, "audit trail: {count} records up to {number} removed, older than {days} days (audit.days)"
)
AUDIT_NOT_RETIRED = Event(807, logging.ERROR, "audit trail: old records cannot be removed: {error}")
AUDIT_BROKEN = Event(
    803, logging.ERROR, "audit trail: the file is no database any more; set aside as {file}, a new one begun"
)
SYSLOG_UP = Event(804, logging.INFO, "audit messages go to {host}:{port}, {waiting} wait")
SYSLOG_DOWN = Event(
    805, logging.WARNING, "audit messages cannot go to {host}:{port}: {error}; {waiting} wait, trying again"
)
AUDIT_UNREADABLE = Event(
    806,
    logging.ERROR,
    "audit record {number} does not open, it was not sealed here: left out; see `scanside audit verify`",
)

FLEET_COLLECTING = Event(900, logging.INFO, "collecting from {host}:{port} with MQTT {protocol}, session {session}")
FLEET_LINK_DOWN = Event(901, logging.WARNING, "no connection to {host}:{port}: {error}; trying again")
FLEET_KEPT_APART = Event(902, logging.WARNING, "{count} messages kept apart: {reasons}")
FLEET_DATABASE_FAILED = Event(
    903, logging.ERROR, "the fleet's database cannot be used ({error}): nothing is acknowledged; again in {delay:.0f} s"
)
FLEET_ALARM = Event(904, logging.WARNING, "alarm {rule} {word} for box {box}")
FLEET_CONSOLE_READY = Event(905, logging.INFO, "fleet page ready: http://{host}:{port}/")
FLEET_SIMULATED = Event(
    906,
    logging.INFO,
    "simulated {connected} of {boxes} boxes connected, {delivered} messages delivered, {waiting} wait",
)
FLEET_DISPATCHING = Event(907, logging.INFO, "handing out orders at {host}:{port}")


def emit(event: Event, /, **fields: object) -> None:
    """Log one event. Raises `KeyError` when a field of the template is missing: a defect, found by the first test."""
    logging.getLogger("scanside").log(event.level, "SC%03d %s", event.number, event.template.format(**fields))


def place(error: BaseException) -> str:
    """The innermost place of an error as function and line: no values, which could come from a patient."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "unknown"


def silence_everything_else() -> None:
    """Let nothing but events speak from here on: libraries' messages, warnings and tracebacks quote what they fail on.

    What ends the process or one of its threads becomes an event of its kind and place.
    """
    logging.lastResort = None
    logging.raiseExceptions = False
    warnings.simplefilter("ignore")
    sys.excepthook = lambda _kind, error, _trace: _tell(error)
    threading.excepthook = lambda failure: _tell(failure.exc_value)
    sys.unraisablehook = lambda failure: _tell(failure.exc_value)


def configure(service: str, level: int = logging.INFO) -> None:
    """Send events to stderr (and so to journald), prefixed with the service's name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {service} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logger = logging.getLogger("scanside")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)


def _tell(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
        emit(DEFECT, error=type(error).__name__, where=place(error))
