"""The box's figures in Prometheus' text exposition format 0.0.4. Labels are services, models and our own codes alone.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge import __version__
from edge.device.health import State
from edge.web.condition import Condition, models_of

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float | None]
Family = tuple[str, str, str, list[Sample]]


def exposition(condition: Condition, *, answers: Mapping[str, int], waiting: int, streams: int) -> str:
    """All families as text. What this hardware does not tell is left out, never 0.

    Args:
        condition: How the box is.
        answers: How often each of the four answers was given since the history of this box begins.
        waiting: Flagged results without an answer of a person.
        streams: Open event streams of pages.
    """
    return as_text("scanside", _families(condition, answers, waiting, streams))


def as_text(prefix: str, families: Iterable[Family]) -> str:
    """Families as text: name, kind, help and samples of each. A sample without a value is left out."""
    lines: list[str] = []
    for name, kind, text, samples in families:
        shown = [(labels, value) for labels, value in samples if value is not None]
        if shown:
            lines += [f"# HELP {prefix}_{name} {text}", f"# TYPE {prefix}_{name} {kind}"]
            lines += [f"{prefix}_{name}{_labels(labels)} {float(value):.10g}" for labels, value in shown]
    return "\n".join(lines) + "\n"


def _families(condition: Condition, answers: Mapping[str, int], waiting: int, streams: int) -> Iterable[Family]:
    none: Mapping[str, str] = {}
    oldest = condition.oldest_received_at
    details = {health.service: health.details for health in condition.services}
    yield (
        "service_up",
        "gauge",
        "1 while the service works, also degraded.",
        [({"service": one.service}, float(one.state in (State.UP, State.DEGRADED))) for one in condition.services],
    )
    yield (
        "service_degraded",
        "gauge",
        "1 while the service works but says that something is amiss.",
        [({"service": one.service}, float(one.state is State.DEGRADED)) for one in condition.services],
    )
    yield "queue_images", "gauge", "Images without a result.", [(none, condition.queue_depth)]
    age = None if oldest is None else max(0.0, condition.as_of - oldest)
    yield "queue_oldest_seconds", "gauge", "Age of the oldest image without a result.", [(none, age or 0.0)]
    quantiles = [({"quantile": f"0.{name[1:]}"}, ms / 1000) for name, ms in condition.latency_ms.items()]
    yield "latency_seconds", "gauge", "From arrival to result, of the last 200 images.", [*quantiles]
    yield (
        "results_total",
        "counter",
        "Results by answer.",
        [({"status": status}, count) for status, count in sorted(answers.items())],
    )
    yield "flags_unacknowledged", "gauge", "Flagged results that wait for a person, up to 1000.", [(none, waiting)]
    intake = details.get("intake", {})
    for name in ("accepted", "refused"):
        count = intake.get(name)
        value = float(count) if isinstance(count, int) else None
        yield f"objects_{name}_total", "counter", f"Objects {name} since the intake started.", [(none, value)]
    yield "event_streams", "gauge", "Open event streams of pages.", [(none, streams)]
    yield from _hardware(condition)
    yield "build_info", "gauge", "The software's version.", [({"version": __version__}, 1.0)]
    models = [
        ({"model": one.id, "version": one.version, "digest": one.digest, "engine": one.engine}, 1.0)
        for one in models_of(condition)
    ]
    yield "model_info", "gauge", "A model that has passed its self-test and is in service.", [*models]


def _hardware(condition: Condition) -> Iterable[Family]:
    vitals, none = condition.vitals, dict[str, str]()
    hours, synchronised = condition.hours_until_full, condition.synchronised
    yield (
        "disk_full_seconds",
        "gauge",
        "Until no image is taken, as the disk filled in the last hour; absent when it does not fill.",
        [(none, None if hours is None else hours * 3600)],
    )
    yield (
        "clock_synchronised",
        "gauge",
        "1 while something keeps the clock right.",
        [(none, None if synchronised is None else float(synchronised))],
    )
    if vitals is None:
        return
    yield "disk_free_bytes", "gauge", "Free on the disk of the state folder.", [(none, vitals.disk_free)]
    yield "disk_size_bytes", "gauge", "Size of the disk of the state folder.", [(none, vitals.disk_total)]
    yield "memory_available_bytes", "gauge", "Memory that is available.", [(none, vitals.memory_available)]
    yield "load1", "gauge", "Load average over one minute.", [(none, vitals.load_1min)]
    yield "temperature_celsius", "gauge", "The hottest zone.", [(none, vitals.temperature_celsius)]
    yield (
        "throttled_total",
        "counter",
        "How often the processor was slowed down by heat since it was switched on.",
        [(none, vitals.throttled)],
    )


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
