"""Brings one destination what it lacks, object by object, from the journal's queue, until it has everything.

A thread for each destination: one that is slow or away keeps no other waiting. Killed anywhere, it sends the same bytes
again, which a PACS recognises by their UID.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event, Lock

from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage

from edge import events, reasons
from edge.config_reporting import Destination
from edge.device.backoff import backoff
from edge.events import emit
from edge.reporting.decide import Answer, Drop, Park, Send, classes_of, judge, plan
from edge.reporting.hl7_result import addressed
from edge.reporting.mllp import MllpSession
from edge.reporting.names import uid_of
from edge.reporting.objects import ORU, UPS, as_comprehensive
from edge.reporting.pacs import Association, Unreachable
from edge.reporting.stow import WebSession
from edge.reporting.ups import WorklistSession
from edge.reporting.workitem import retrievable
from edge.store import Store
from edge.store.deliveries import Next, Row
from edge.store.order import Turns

LONGEST_DELAY = 300.0
AT_ONCE = 50
"""Objects in one association, but that the last result is brought whole."""

_LOOK_AHEAD = 500
_REPORT_WITHIN = 2.0
_ASK_AGAIN_AFTER = 600.0

Session = Association | WebSession | MllpSession

Sent = Callable[[Destination, Row], None]
"""Is told of each object that a destination has taken."""


class Courier:
    """What one destination lacks, and how it is getting on.

    Attributes:
        trouble: Why something waits, in words; empty when nothing is amiss.
    """

    def __init__(
        self, store: Store, destination: Destination, sent: Sent, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` gives seconds, steadily."""
        self.destination = destination
        self.trouble = ""
        self._store = store
        self._sent = sent
        self._clock = clock
        self._turns = Turns()
        self._failures, self._down = 0, False
        self._not_before = float("-inf")
        self._busy: dict[int, tuple[int, float]] = {}
        self._told: set[tuple[object, ...]] = set()
        self._refused_forms: set[str] = set()
        self._lock = Lock()
        self._asked: dict[str, dict[str, int]] = {}
        self._asked_at: dict[int, float] = {}

    def turn(self, stopping: Event) -> bool:
        """Send some of what waits, when it is time; whether there is more that can be sent at once.

        Raises:
            sqlite3.Error, OSError: The journal or the disk.
        """
        now = self._clock()
        if now < self._not_before:
            return False
        to_commit = self._to_commit(now)
        if not (self._next().rows or to_commit):
            return False
        try:
            with self._session() as session:
                self._reached()
                more = self._deliver(session, stopping)
                self._ask(session, to_commit)
        except Unreachable as error:
            self._lost(str(error))
            return False
        return more

    def committed(self, transaction: str, kept: Sequence[str], failed: Sequence[str]) -> None:
        """A PACS says what it keeps for good; from any thread. What it does not keep is sent again."""
        with self._lock:
            asked = self._asked.pop(transaction, None)
        if asked is None:
            return
        self._store.deliveries.delivered([asked[uid] for uid in kept if uid in asked])
        again = [asked[uid] for uid in failed if uid in asked]
        if again:
            self._asked_at = {number: at for number, at in self._asked_at.items() if number not in again}
            self._store.deliveries.again(again)
            emit(events.COMMITMENT_REFUSED, destination=self.destination.name, count=len(again))

    def _session(self) -> Session:
        classes = [each for each in classes_of(self.destination) if each not in self._refused_forms]
        if self.destination.stow_url:
            return WebSession(self.destination, classes)
        if self.destination.ups_url:
            return WorklistSession(self.destination, classes)
        if self.destination.hl7:
            return MllpSession(self.destination, tuple(classes))
        return Association(self.destination, classes, self.committed)

    def _next(self) -> Next:
        now = self._clock()
        resting = [number for number, (_, due) in self._busy.items() if due > now]
        lifetime = self._store.lifetime.now().lifetime
        return self._store.deliveries.next_result(
            self.destination.name, resting, lifetime, backlogs=self._turns.is_backlogs
        )

    def _deliver(self, session: Session, stopping: Event) -> bool:
        """Send result after result, the next being chosen when the one before has gone; whether more can go at once."""
        tried = 0
        while (following := self._next()).rows:
            if tried >= AT_ONCE:
                return True
            self._turns.taken(the_oldest=following.is_oldest)
            for row in following.rows:
                if stopping.is_set() or not self._bring(session, row, stopping):
                    return False
            tried += len(following.rows)
        return False

    def _bring(self, session: Session, row: Row, stopping: Event) -> bool:
        """Do with one object what is planned for it; False when the destination wants a rest."""
        step = plan(row.object, row.form, session.accepted - self._refused_forms, self.destination)
        if isinstance(step, Park):
            self._park(row, step.reason)
        elif isinstance(step, Drop):
            self._tell_once(
                events.DESTINATION_LACKS,
                destination=self.destination.name,
                lacking=row.object,
                instead=step.instead,
            )
            self._store.deliveries.delivered([row.number])
        elif not self._send(session, row, step):
            return False
        else:
            stopping.wait(1.0 / self.destination.objects_per_second)
        return True

    def _send(self, session: Session, row: Row, step: Send) -> bool:
        """Send one object; False when the destination wants a rest."""
        data = self._store.deliveries.read(row.result_id, step.kind)
        if data is None:
            self._store.deliveries.make_again(row.result_id)
            return True
        if step.sop_class == ComprehensiveSRStorage:
            uid, series = (uid_of(row.result_id, *names) for names in _names(step.sop_class))
            data = as_comprehensive(data, uid, series)
        elif step.kind == ORU:
            data = addressed(data, self.destination)
        elif step.kind == UPS:
            data = retrievable(data, self.destination)
        if row.form != step.sop_class:
            self._store.deliveries.sending([(row.number, step.sop_class)])
        status = session.store(data)
        answer = judge(status)
        if answer is Answer.BUSY:
            return self._rest(row, status)
        self._failures = 0
        self._busy.pop(row.number, None)
        if answer is Answer.UNSUPPORTED and step.sop_class == Comprehensive3DSRStorage:
            self._refused_forms.add(step.sop_class)  # it is known not to have it: another form is no second copy
            self._store.deliveries.sending([(row.number, "")])
            return True
        if answer in (Answer.REFUSED, Answer.UNSUPPORTED):
            self._park(row, f"the destination refuses it with status {status:04X}")
            return True
        if answer is Answer.CHANGED:
            emit(
                events.OBJECT_CHANGED,
                destination=self.destination.name,
                kind=row.object,
                result=row.result_id,
                status=status,
            )
        self._sent(self.destination, row._replace(form=step.sop_class))
        if self.destination.storage_commitment:
            self._store.deliveries.stored([row.number])
        else:
            self._store.deliveries.delivered([row.number])
        return True

    def _rest(self, row: Row, status: int) -> bool:
        """It is out of resources: this object goes behind the others; after the second one the destination rests."""
        failures, now = self._busy.get(row.number, (0, 0.0))[0] + 1, self._clock()
        others_resting = any(due > now for _, due in self._busy.values())
        self._busy[row.number] = failures, now + backoff(failures, LONGEST_DELAY)
        self.trouble = reasons.OUT_OF_RESOURCES
        if failures == 1 and not others_resting:
            emit(events.DESTINATION_BUSY, destination=self.destination.name, status=status)
            return True
        self._failures += 1
        self._not_before = now + backoff(self._failures, LONGEST_DELAY)
        return False

    def _park(self, row: Row, reason: str) -> None:
        emit(
            events.REPORT_PARKED,
            result=row.result_id,
            kind=row.object,
            destination=self.destination.name,
            reason=reason,
        )
        self._store.deliveries.park(row.number, reason)

    def _to_commit(self, now: float) -> list[Row]:
        """What the destination has and was not asked about lately."""
        if not self.destination.storage_commitment:
            return []
        rows = self._store.deliveries.uncommitted(self.destination.name, _LOOK_AHEAD)
        due = [row for row in rows if now - self._asked_at.get(row.number, float("-inf")) >= _ASK_AGAIN_AFTER]
        return due[:AT_ONCE]

    def _ask(self, session: Session, earlier: Sequence[Row]) -> None:
        """Ask to keep for good what was just stored, and what was stored before and not answered for."""
        if not self.destination.storage_commitment:
            return
        rows = {row.number: row for row in (*earlier, *self._to_commit(self._clock()))}
        if not rows:
            return
        now = self._clock()
        self._asked_at = {number: at for number, at in self._asked_at.items() if now - at < _ASK_AGAIN_AFTER}
        self._asked_at |= dict.fromkeys(rows, now)
        if not (session.commits and isinstance(session, Association)):
            self._tell_once(events.UNCOMMITTED, destination=self.destination.name, reason="it does not offer it")
            self.trouble = reasons.NO_COMMITMENT
            return
        instances = {number: (row.form, self._uid(row)) for number, row in rows.items()}
        with self._lock:  # the answer may be here before the question has returned
            transaction = session.ask_commitment(list(instances.values()))
            self._asked[transaction] = {uid: number for number, (_, uid) in instances.items()}
        session.await_report(lambda: transaction not in self._asked, _REPORT_WITHIN)

    def _uid(self, row: Row) -> str:
        return uid_of(row.result_id, *_names(row.form)[0])

    def _reached(self) -> None:
        if self._down:
            emit(events.DESTINATION_UP, destination=self.destination.name)
        self._down, self.trouble = False, ""

    def _lost(self, why: str) -> None:
        self._failures += 1
        self._not_before = self._clock() + backoff(self._failures, LONGEST_DELAY)
        if not self._down or self.trouble != why:
            emit(events.DESTINATION_DOWN, destination=self.destination.name, error=why)
        self._down, self.trouble = True, why

    def _tell_once(self, event: events.Event, **fields: object) -> None:
        key = (event.number, *fields.values())
        if key not in self._told:
            self._told.add(key)
            emit(event, **fields)


def _names(sop_class: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """By what an object's UID and that of its series are derived."""
    return (sop_class,), ("series", sop_class)
