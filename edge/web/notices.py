"""What somebody who looks after the box should do something about, most pressing first: what, and what to do. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from edge.device.health import State
from edge.device.history import Sample
from edge.web.condition import FULL_SOON_HOURS, Condition, models_of
from edge.web.languages import gettext, ngettext, number
from edge.web.words import statistic

OLD_AFTER = 600.0
"""Seconds that an image may wait before somebody should look why."""

HOT = 85.0
LITTLE_MEMORY = 150e6


class Notice(NamedTuple):
    """What is or will be amiss, and what to do about it."""

    what: str
    remedy: str


def notices(condition: Condition, samples: Iterable[Sample], now: float) -> list[Notice]:
    """What is amiss, most pressing first; empty when nothing is.

    Args:
        condition: How the box is.
        samples: Its last day.
        now: Seconds since the epoch.
    """
    return [
        *_services(condition),
        *_disk(condition, now),
        *_work(condition),
        *_drift(condition),
        *_hardware(condition, tuple(samples)),
    ]


def when_full(hours: float, now: float) -> str:
    """When the disk will be full, in words of the box's own time: `tomorrow at about 14:00 (in 20 h)`."""
    then, today = time.localtime(now + hours * 3600), time.localtime(now)
    days = (time.mktime((*then[:3], 12, 0, 0, 0, 0, -1)) - time.mktime((*today[:3], 12, 0, 0, 0, 0, -1))) / 86_400
    at = f"{then.tm_hour:02d}:00"
    if round(days) == 0:
        return gettext("today at about %(time)s (in %(hours)s h)", time=at, hours=round(hours))
    if round(days) == 1:
        return gettext("tomorrow at about %(time)s (in %(hours)s h)", time=at, hours=round(hours))
    return gettext("in %(days)s days", days=round(days))


def _services(condition: Condition) -> Iterator[Notice]:
    for health in condition.services:
        if health.state is State.DOWN:
            what = gettext("The service %(service)s is down.", service=health.service)
            if health.reason:
                why = {"service": health.service, "reason": health.reason}
                what = gettext("The service %(service)s is down: %(reason)s.", **why)
            yield Notice(what, gettext("Restart the box. See the last errors below."))
        elif health.state is State.DEGRADED:
            what = gettext("The service %(service)s: %(reason)s.", service=health.service, reason=health.reason)
            yield Notice(what, gettext("See the last errors below."))


def _disk(condition: Condition, now: float) -> Iterator[Notice]:
    hours = condition.hours_until_full
    if hours is not None and hours < FULL_SOON_HOURS:
        yield Notice(
            gettext("The disk will be full %(when)s. From then on no image is taken.", when=when_full(hours, now)),
            gettext("Lower storage.image_days so that old images go earlier, or have a larger disk put in."),
        )


def _work(condition: Condition) -> Iterator[Notice]:
    if not models_of(condition):
        yield Notice(gettext("No model is in service: no image is analysed."), gettext("`scanside model` says why."))
    oldest = condition.oldest_received_at
    if oldest is not None and condition.as_of - oldest > OLD_AFTER:
        yield Notice(
            ngettext(
                "%(num)s image waits, the oldest for %(minutes)s min.",
                "%(num)s images wait, the oldest for %(minutes)s min.",
                condition.queue_depth,
                minutes=round((condition.as_of - oldest) / 60),
            ),
            gettext("Read them without the software. When no service is down, the box has more work than it can do."),
        )
    if condition.synchronised is False:
        what = gettext("Nothing keeps the clock right: times are not certain.")
        yield Notice(what, gettext("Give the box an NTP server."))


def _drift(condition: Condition) -> Iterator[Notice]:
    for one in (drifted for health in condition.services for drifted in health.drift):
        day = time.strftime("%Y-%m-%d", time.localtime(one.since))
        said = gettext(
            "How well the software does is not confirmed since %(day)s: %(what)s is not as it was"
            " (index %(index)s over %(images)s images).",
            day=day,
            what=statistic(one.statistic, one.model),
            index=number(one.index, 2),
            images=one.images,
        )
        yield Notice(
            said, gettext("Compare recent answers with a reader's. Has a device, a protocol or who is imaged changed?")
        )


def _hardware(condition: Condition, samples: tuple[Sample, ...]) -> Iterator[Notice]:
    vitals = condition.vitals
    if vitals is None:
        what = gettext("Disk, memory and temperature cannot be read.")
        yield Notice(what, gettext("Look at the disk; see the last errors below."))
        return
    counts = [sample.throttled for sample in samples if sample.throttled is not None]
    slowed = bool(counts) and counts[-1] > min(counts)
    hot = vitals.temperature_celsius is not None and vitals.temperature_celsius >= HOT
    if hot or slowed:
        said = []
        if hot:
            degrees = round(vitals.temperature_celsius or 0.0)
            said.append(gettext("The processor is hot: %(degrees)s °C.", degrees=degrees))
        if slowed:
            said.append(gettext("The processor was slowed down by heat in the last day."))
        yield Notice(" ".join(said), gettext("Clean the vents, and keep the box away from heat and sun."))
    if vitals.memory_available is not None and vitals.memory_available < LITTLE_MEMORY:
        remedy = gettext("Restart the box. When it comes back, send the log to the maker.")
        yield Notice(gettext("Little memory is available."), remedy)
