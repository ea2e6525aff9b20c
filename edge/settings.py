"""The fleet's settings: what stands over the box's own configuration file since a fleet has ordered it.

One small file, `<state>/settings/settings.json`, written by the steward alone. It holds what stood before as well,
until the box has come up with what is new: whoever finds it after a power cut knows where to go back to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from edge.durable import flush_folder
from edge.modes import make_folder
from edge.records import Record

SETTABLE = frozenset(
    (
        "inference.engine",
        "inference.image_megabytes",
        "inference.image_seconds",
        "inference.operating_point",
        "inference.threads",
        "mqtt.health_interval_seconds",
        "mqtt.keepalive_seconds",
        "mqtt.messages_per_second",
        "mqtt.session_expiry_hours",
        "mqtt.summary_hour",
        "quality.highest_deviation_index",
        "quality.highest_exposure_ratio",
        "quality.lowest_deviation_index",
        "quality.lowest_exposure_ratio",
        "quality.target_exposure_index",
        "storage.image_days",
        "storage.refuse_below_mb",
        "storage.refuse_below_percent",
        "storage.result_days",
        "storage.spare_below_mb",
        "storage.spare_below_percent",
        "storage.warn_below_mb",
        "storage.warn_below_percent",
        "web.language",
        "web.privacy_screen",
        "web.session_minutes",
    )
)
"""Keys that a fleet may set. Addresses, ports, files, keys and who may send are for a person at the box."""

_SERVICES = {
    "inference": ("inference",),
    "quality": ("inference",),
    "mqtt": ("sync",),
    "storage": ("intake", "inference", "web"),
    "web": ("web",),
}

Value = bool | int | float | str | None


class Settings(Record, frozen=True, kw_only=True):
    """One set of them.

    Attributes:
        version: Grows with each order that stands.
        values: Keys with dots, and their values; None is the built-in default.
    """

    version: int = 0
    values: dict[str, Value] = msgspec.field(default_factory=dict)


class Standing(Record, frozen=True, kw_only=True):
    """What the file holds.

    Attributes:
        settings: Those that count.
        state: `trying` until the box has come up with them.
        before: Those to go back to, while it is trying.
    """

    settings: Settings = msgspec.field(default_factory=Settings)
    state: Literal["standing", "trying"] = "standing"
    before: Settings | None = None


def read(state_dir: Path) -> Standing:
    """What stands; nothing where nothing was ordered yet, or where the file is damaged."""
    try:
        return msgspec.json.decode((state_dir / "settings" / "settings.json").read_bytes(), type=Standing)
    except (OSError, msgspec.MsgspecError):
        return Standing()


def write(state_dir: Path, standing: Standing) -> None:
    """Let this stand, on the disk when it returns; a power cut leaves the old or the new. Raises `OSError`."""
    folder = state_dir / "settings"
    make_folder(folder)
    temporary = folder / "settings.new"
    with temporary.open("wb") as file:
        file.write(msgspec.json.encode(standing))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "settings.json")
    flush_folder(folder)


def laid_over(text: str, values: dict[str, Value]) -> str:
    """A configuration file's text with these settings in it, as YAML without its comments.

    Raises:
        yaml.YAMLError: The text is none.
        ValueError: A key is not one that a fleet may set, or the file has something else where it should stand.
    """
    document: Any = yaml.safe_load(text) or {}
    for key, value in values.items():
        if key not in SETTABLE:
            raise ValueError(f"{key[:80]}: not a setting that a fleet may change")
        name, _, leaf = key.partition(".")
        section = document.setdefault(name, {})
        if not isinstance(section, dict):
            raise ValueError(f"{key}: the box has no section {name}")  # noqa: TRY004 - a value, not a type, to callers
        section[leaf] = value
    return yaml.safe_dump(document)


def affected(old: Settings, new: Settings) -> tuple[str, ...]:
    """The services that must start anew for a change."""
    keys = {key for key in {*old.values, *new.values} if old.values.get(key, _ABSENT) != new.values.get(key, _ABSENT)}
    return tuple(sorted({service for key in keys for service in _SERVICES[key.partition(".")[0]]}))


_ABSENT = object()
