"""Makes the objects of each result that is owed to a PACS, once, and puts them into the queue of every destination."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from edge import __version__, events
from edge.config import Config
from edge.events import emit
from edge.imaging.evidence import Explanation
from edge.model_facts import ModelFacts, ModelShelf
from edge.records import ANOTHER_PATIENT, Result, StoredResult
from edge.reporting.decide import kinds_of, why_not
from edge.reporting.modules import Report
from edge.reporting.objects import ANSWERS, SC, SR, UPS, Made, Pictures, make
from edge.reporting.source import Source, Unreportable, read_source
from edge.reporting.workitem import PRIORITIES
from edge.reporting.worklist import Orders
from edge.store import Band, Owed, Store, Tampered, VaultLocked
from edge.store.deliveries import MOST_TRIES
from edge.store.order import Turns

QUIET = 1.0
"""Seconds without an image that waits or was just answered, after which reports are made: they come in bursts."""

PATIENCE = 30.0
"""Seconds that reports wait for that: behind a long backlog they are made all the same."""


class Maker:
    """What is between a committed result and the queue.

    Attributes:
        waits: Whether something is ready to be made as soon as it is quiet.
    """

    def __init__(self, store: Store, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, steadily."""
        self._store = store
        self._clock = clock
        self.waits = False
        self._turns = Turns()
        self._seq = store.last_seq()
        self._busy_since: float | None = None
        self._busy_at = float("-inf")
        self._config = config
        self._destinations = config.reporting.destinations
        self._kinds = {destination.name: kinds_of(destination) for destination in self._destinations}
        self._wanted = sorted({kind for kinds in self._kinds.values() for kind in kinds})
        self._orders = Orders(config.reporting.worklist) if config.reporting.worklist else None
        self._shelf = ModelShelf(config.models_folder)
        self._software = __version__

    def turn(self) -> bool:
        """Make the objects of one result that is owed and ready; whether there was one.

        Only when it is quiet, see `QUIET` and `PATIENCE`: making shares the processor with no image.
        A result whose pictures are still being drawn waits for them; on a disk that is nearly full none are drawn.
        Nothing is made on one that is full.

        Raises:
            sqlite3.Error, OSError: The journal or the disk; the next call goes on.
        """
        quiet, band = self._is_quiet(), self._store.band()
        self.waits = False
        if band >= Band.FULL:
            return False
        drawing = set() if band >= Band.SPARE else {item.result_id for item in self._store.owed("preview")}
        item, is_oldest = self._store.deliveries.next_to_make(
            drawing, self._store.lifetime.now().lifetime, backlogs=self._turns.is_backlogs
        )
        if item is None or not quiet:
            self.waits = item is not None
            return False
        self._turns.taken(the_oldest=is_oldest)
        self._make(item)
        return True

    def _is_quiet(self) -> bool:
        now, before = self._clock(), self._seq
        self._seq = self._store.last_seq()
        if self._store.queue().depth or self._seq != before:
            self._busy_at = now
        if now - self._busy_at >= QUIET:
            self._busy_since = None
            return True
        self._busy_since = now if self._busy_since is None else self._busy_since
        return now - self._busy_since >= PATIENCE

    def _make(self, item: Owed) -> None:
        stored = self._store.result(item.result_id)
        instance = self._store.instance(item.instance_id)
        if stored is None or instance is None:
            self._store.settle([item.number])
            return
        reason = why_not(stored, instance.arrival.sop_class_uid, self._config.reporting)
        if reason:
            emit(events.NOT_REPORTED, result=item.result_id, reason=reason)
            self._store.settle([item.number])
            return
        begun = time.perf_counter()
        try:
            made = self._made(stored, self._source(stored, self._store.deliveries.try_to_make(item.number)))
        except Unreportable as error:
            calls = (UPS,) if stored.result.status in PRIORITIES else ()
            left_out = {kind: str(error) for kind in (*ANSWERS, *calls) if kind in self._wanted}
            self._queue(item, Made(objects={}, left_out=left_out))
            return
        self._queue(item, made)
        ms = (time.perf_counter() - begun) * 1000
        emit(events.REPORT_MADE, result=item.result_id, kinds=", ".join(made.objects) or "nothing", ms=ms)

    def _source(self, stored: StoredResult, tries: int) -> Source:
        """The image, unless earlier tries with it have ended the service. Raises `Unreportable`."""
        if tries > MOST_TRIES:
            raise Unreportable("making its objects ended the service again and again")
        try:
            data = self._store.read(stored.instance_id)
        except (FileNotFoundError, Tampered, VaultLocked) as error:
            raise Unreportable("its image is not on this box any more, or does not open") from error
        source = read_source(data)
        self._compare(stored, source)
        if source.repaired:
            emit(events.SOURCE_REPAIRED, result=stored.id, keywords=", ".join(source.repaired))
        return source

    def _compare(self, stored: StoredResult, source: Source) -> None:
        """The image with its order. Raises `Unreportable` when that is another patient's."""
        if self._orders is None:
            return
        found = self._orders.differences(source.header)
        if found is None:
            found = stored.order_differences  # what was known before stands: a worklist that is away clears nobody
        else:
            self._store.note_order_differences(stored.id, found)
        if found:
            words = ", ".join(each.replace("_", " ") for each in found)
            emit(events.ORDER_DIFFERS, result=stored.id, differences=words)
            if not ANOTHER_PATIENT.isdisjoint(found):
                raise Unreportable(f"the worklist has another patient for its accession number ({words})")

    def _made(self, stored: StoredResult, source: Source) -> Made:
        report = Report(
            result_id=stored.id,
            result=stored.result,
            at=datetime.fromtimestamp(stored.committed_at, UTC).astimezone(),
            box=self._config.box,
            software=self._software,
            facts=self._facts(stored.result),
        )
        shown = all(SC in of_one for of_one in self._kinds.values() if SR in of_one)
        return make(source, report, self._pictures(stored), self._wanted, link_picture=shown)

    def _facts(self, result: Result) -> ModelFacts:
        """What the bundle of its model says; nothing when that is not there any more."""
        return (self._shelf.facts(result.model) if result.model else None) or ModelFacts()

    def _pictures(self, stored: StoredResult) -> Pictures:
        def picture(name: str) -> bytes | None:
            try:
                return self._store.picture(stored.instance_id, name)
            except (Tampered, VaultLocked):
                return None

        return Pictures(
            preview=picture("preview.jpg"),
            overlay=picture("overlay.png"),
            explanation=self._explanation(stored.id),
        )

    def _explanation(self, result_id: str) -> Explanation | None:
        """Where the network looked; None where nothing is kept of it, or it is no explanation that can be read."""
        kept = self._store.explanation(result_id)
        try:
            return msgspec.json.decode(kept, type=Explanation) if kept else None
        except msgspec.DecodeError:
            return None

    def _queue(self, item: Owed, made: Made) -> None:
        for kind, why in made.left_out.items():
            emit(events.REPORT_SIMPLER, result=item.result_id, kind=kind, reason=why)
        wanted = [row for name in self._kinds for row in wanted_by(name, self._kinds[name], made)]
        for name, kind, reason in wanted:
            if reason:
                emit(events.REPORT_PARKED, result=item.result_id, kind=kind, destination=name, reason=reason)
        self._store.deliveries.made(item.number, item.result_id, made.objects, wanted)


def wanted_by(name: str, kinds: Sequence[str], made: Made) -> list[tuple[str, str, str]]:
    """What one destination gets of what was made: its name, the kind, and why that is parked.

    Where the report could not be made, the picture takes its place; where that could not either, it is parked. A
    workitem is not made of every result.
    """
    rows = [(name, kind, "") for kind in made.objects if kind in kinds]
    if any(kind in ANSWERS for _, kind, _ in rows):
        return rows
    if UPS in kinds:
        return [(name, UPS, made.left_out[UPS])] if UPS in made.left_out else rows
    if SC in made.objects and SR in kinds:
        return [*rows, (name, SC, "")]
    kind = next((each for each in ANSWERS if each in kinds), SC)
    return [*rows, (name, kind, made.left_out.get(kind, "it cannot be made"))] if kinds else rows
