"""What a simulated box says: the same for the same seed, whatever the machine. No socket, no clock of its own.

The figures are a small clinic's: studies of one or two images, most without a listed finding, some refused, a few wrong
clocks.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from edge import events
from edge.messages import catalogue, types
from edge.messages.aggregate import Aggregate, Category, split
from edge.messages.topics import UNUSED, Channel, Topic
from edge.records import ModelUsed, Priority, Reason, Record, Status, Summary, SummaryFinding
from edge.sync.retry import Protocol

SERVICES = ("audit", "inference", "intake", "sync", "web")
BOXES_A_SITE = 20

_STATUSES = {Status.CLEAR: 70, Status.FLAGGED: 12, Status.INDETERMINATE: 6, Status.NOT_ANALYSED: 12}
_REASONS = (Reason.LATERAL_VIEW, Reason.NOT_A_FRONTAL_CHEST, Reason.UNDER_AGE, Reason.UNFAMILIAR_IMAGE)
_QUALITY = ("DCM:111209", "DCM:111210", "DCM:111211")
_VERSIONS = ("0.1.0", "0.1.0", "0.1.0", "0.0.9")
_WARNED = 0.05
_CLOCKS_OFF = (-86400 * 365 * 20, -3600, 1800)
_WRONG_CLOCKS = 0.02
_DISK_BYTES = 240 * 10**9
_FAILING_FILLS = 0.002
_LATEST = 253402300799
_IMAGES_A_DAY = 200
_CODE = "SCT:233604007"


class SimulatedBox:
    """One box of a fleet."""

    def __init__(self, number: int, seed: int, *, failing: bool) -> None:
        """Box `number` of the fleet of this seed; a failing one has no inference service and a disk that fills."""
        self.site = f"site-{number // BOXES_A_SITE + 1:03}"
        self.box = f"box-{number + 1:05}"
        self.failing = failing
        self._images = random.Random(f"images {seed} {number}")  # noqa: S311 - a simulation, repeatable
        self._rest = random.Random(f"rest {seed} {number}")  # noqa: S311
        self.clock_off = self._rest.choice(_CLOCKS_OFF) if self._rest.random() < _WRONG_CLOCKS else 0
        version = self._rest.choice(_VERSIONS)
        digest = "sha256:" + version.replace(".", "").rjust(64, "0")
        self._software = version
        self._model = types.Model(id="cxr-pneumonia", version=f"1.{version[-1]}.0", digest=digest, engine="openvino")
        self._disk_used = self._rest.uniform(0.2, 0.7)
        self._hot = self._rest.uniform(40, 65)
        self.session = ""
        self._seq = 0
        self._trouble_since = 0.0
        self._connections = 0
        self._own = f"{seed} {number}"

    def new_session(self) -> str:
        """For a new connection."""
        self.session = f"{self._rest.getrandbits(128):032x}"
        self._seq = 0
        self._connections += 1
        return self.session

    def until_next_study(self, studies_per_hour: float) -> float:
        """Seconds until the next patient."""
        return self._images.expovariate(studies_per_hour / 3600)

    def until_outage(self, mean_seconds: float) -> float:
        """Seconds until the network fails again."""
        return self._rest.expovariate(1 / mean_seconds)

    def outage_seconds(self) -> float:
        """How long it fails: mostly a moment, sometimes for hours."""
        return self._rest.lognormvariate(3.0, 1.5)

    def jitter(self) -> float:
        """Uniform in [0, 1)."""
        return self._rest.random()

    def state(self, word: Literal["ready", "stopping", "lost"], now: float) -> tuple[str, bytes]:
        """Its state on this connection."""
        return self._said(
            UNUSED, Channel.STATUS, "state", types.State(state=word, session=self.session, ts=self._time(now))
        )

    def birth(self, now: float, protocol: Protocol) -> list[tuple[str, bytes]]:
        """What it says first on a connection, all of it retained."""
        about = types.About(
            session=self.session,
            software=self._software,
            protocol=protocol.value,
            models=() if self.failing else (self._model,),
            schemas=catalogue.schema_ids(),
            capabilities=(),
        )
        return [self.state("ready", now), self._said(UNUSED, Channel.STATUS, "about", about), *self.services(now)]

    def services(self, now: float) -> list[tuple[str, bytes]]:
        """How its services are, all of it retained."""
        return [self._said(state.service, Channel.STATUS, "health", state) for state in self._services(now)]

    def audit_head(self, now: float) -> tuple[str, bytes]:
        """How far its audit trail goes: a record further with each connection."""
        digest = hashlib.sha256(f"audit {self._own} {self._connections}".encode()).hexdigest()
        message = types.AuditHead(
            ts=self._time(now), session=self.session, number=self._connections, digest=f"sha256:{digest}"
        )
        return self._said(UNUSED, Channel.MEASUREMENT, "audit", message)

    def errors(self, now: float) -> tuple[str, bytes]:
        """The errors that it remembers: none, or that no model could be loaded."""
        bundle = types.EventCount(
            service="inference", number=events.BUNDLE_REFUSED.number, count=3, since=self._time(now)
        )
        message = types.Events(ts=self._time(now), session=self.session, events=(bundle,) if self.failing else ())
        return self._said(UNUSED, Channel.MEASUREMENT, "events", message)

    def day_before(self, now: float) -> tuple[str, bytes]:
        """What it answered on the day before, as counts."""
        day = (self._time(now) - timedelta(days=1)).strftime("%Y-%m-%d")
        rng = random.Random(f"day {self._own} {day}")  # noqa: S311 - a simulation, repeatable
        counts = Counter(category for _ in range(rng.randrange(_IMAGES_A_DAY)) for category in self._categories(rng))
        message = Aggregate(
            message_id=f"{rng.getrandbits(128):032x}", day=day, clock="right", histograms=split(counts)[0]
        )
        return self._said("inference", Channel.MEASUREMENT, "aggregate", message, message.message_id)

    def _categories(self, rng: random.Random) -> tuple[Category, ...]:
        status = rng.choices(list(_STATUSES), list(_STATUSES.values()))[0]
        if status is Status.NOT_ANALYSED:
            return (Category("answers", rng.choice(_REASONS).value),)
        found = rng.choice(_QUALITY) if rng.random() < _WARNED else "nothing-found"
        tenth = int(10 * (rng.betavariate(6, 2) if status is Status.FLAGGED else rng.betavariate(1, 6)))
        model = self._model
        return (
            Category("answers", status.value),
            Category("quality", found),
            Category("scores", f"0.{tenth}", model.id, model.version, _CODE),
        )

    def health(self, now: float, outbox: int, oldest_seconds: int | None) -> tuple[str, bytes]:
        """Its figures, given how many messages wait and for how long the oldest has."""
        if self.failing:
            self._disk_used = min(0.99, self._disk_used + _FAILING_FILLS)
            self._trouble_since = self._trouble_since or now
            waiting = int((now - self._trouble_since) / 20) + 1
            queue = types.Waiting(depth=waiting, oldest_seconds=int(now - self._trouble_since))
        else:
            queue = types.Waiting(depth=0, oldest_seconds=None)
        p50 = self._rest.uniform(60, 90)
        message = types.Health(
            ts=self._time(now),
            session=self.session,
            seq=self._seq,
            uptime_seconds=int(now) % 864000,
            services=self._services(now),
            queue=queue,
            latency=types.Latency(p50_ms=p50, p95_ms=p50 * 1.6, p99_ms=p50 * 2.5),
            outbox=types.Waiting(depth=outbox, oldest_seconds=oldest_seconds),
            disk=types.Disk(
                total_bytes=_DISK_BYTES, free_bytes=int(_DISK_BYTES * (1 - self._disk_used)), used=self._disk_used
            ),
            memory_available_bytes=10**9,
            load=self._rest.uniform(0.1, 1.5),
            temperature_celsius=round(self._hot + self._rest.uniform(-3, 3), 1),
            clock="uncertain" if self.clock_off else "right",
        )
        self._seq += 1
        return self._said(UNUSED, Channel.MEASUREMENT, "health", message)

    def study(self, now: float) -> list[tuple[str, bytes]]:
        """The summaries of one patient's images."""
        return [self._summary(now) for _ in range(self._images.choice((1, 1, 2)))]

    def _summary(self, now: float) -> tuple[str, bytes]:
        rng = self._images
        status = rng.choices(list(_STATUSES), list(_STATUSES.values()))[0]
        refused = status is Status.NOT_ANALYSED
        flagged = status is Status.FLAGGED
        finding = SummaryFinding(code="233604007", scheme="SCT", flagged=flagged, band="high" if flagged else "low")
        model = self._model
        summary = Summary(
            message_id=f"{rng.getrandbits(128):032x}",
            hour=self._time(now).strftime("%Y-%m-%dT%H"),
            status=status,
            reason=rng.choice(_REASONS) if refused else None,
            priority=Priority.URGENT if flagged else Priority.ROUTINE,
            findings=() if refused else (finding,),
            quality=(rng.choice(_QUALITY),) if rng.random() < _WARNED else (),
            model=None
            if refused
            else ModelUsed(
                id=model.id, version=model.version, digest=model.digest, engine=model.engine, precision="int8"
            ),
            latency_ms=int(rng.lognormvariate(4.8, 0.3)),
        )
        return self._said("inference", Channel.FINDING, "image", summary, summary.message_id)

    def _services(self, now: float) -> tuple[types.ServiceState, ...]:
        since = self._time(now)
        down = {"inference"} if self.failing else set()
        return tuple(
            types.ServiceState(
                service=name,
                state="down" if name in down else "up",
                reason="no model passed its checks" if name in down else "",
                since=since,
            )
            for name in SERVICES
        )

    def _time(self, now: float) -> datetime:
        return datetime.fromtimestamp(int(max(0, min(now + self.clock_off, _LATEST))), UTC)

    def _said(
        self, service: str, channel: Channel, name: str, message: Record, identifier: str = UNUSED
    ) -> tuple[str, bytes]:
        topic = Topic(site=self.site, box=self.box, service=service, channel=channel, name=name, id=identifier)
        return str(topic), msgspec.json.encode(message)
