"""`scanside support-bundle`: what somebody far away needs to help, and nothing that identifies anybody.

Only what is listed here goes in, each by a rule of its own; nothing is copied and cleaned afterwards. Images, journal,
outbox, audit trail, accounts, keys and the log stay on the box.
"""

from __future__ import annotations

import io
import json
import os
import platform
import tarfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edge import __version__
from edge.config import Config
from edge.device.checks import Check
from edge.device.health import Health, read_health
from edge.device.troubles import read_troubles
from edge.device.vitals import read_vitals
from edge.doctor import look
from edge.errors import UsageError

_TOLD = (bool, int, float, type(None))


class Part(NamedTuple):
    """One file of the bundle."""

    name: str
    text: str


def write_bundle(config: Config, file: Path) -> tuple[str, ...]:
    """Write the bundle, readable for this user alone, and never over anything: the names of its parts.

    Raises:
        UsageError: The file exists.
        OSError: It cannot be written.
    """
    if file.exists():
        raise UsageError(f"{file}: exists already, and nothing is overwritten: choose another name")
    made = list(parts(config))
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as output, tarfile.open(fileobj=output, mode="w:gz") as bundle:
        for name, text in made:
            data = text.encode()
            entry = tarfile.TarInfo(f"scanside-support/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
            bundle.addfile(entry, io.BytesIO(data))
    return tuple(name for name, _ in made)


def parts(config: Config) -> Iterator[Part]:
    """What goes in."""
    yield Part("about.json", _json(_about(config)))
    yield Part("configuration.json", _json(scrubbed(msgspec.to_builtins(config, enc_hook=str))))
    yield Part("doctor.json", _json([_without_what_was_found(check) for check in look(config)]))
    if not config.state_dir.is_dir():
        return
    accounts = read_health(config.state_dir, time.time()).values()
    yield Part("health.json", _json([_account(health) for health in accounts]))
    told = ("service", "number", "count", "first_at", "last_at")
    troubles = read_troubles(config.state_dir)
    yield Part("troubles.json", _json([{name: getattr(trouble, name) for name in told} for trouble in troubles]))


def scrubbed(value: Any) -> Any:
    """A configuration without its words: switches and figures stay, of a text only whether there is one."""
    if isinstance(value, dict):
        return {key: scrubbed(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(below) for below in value]
    return value if isinstance(value, _TOLD) else "(set)" if value else "(empty)"


def _about(config: Config) -> dict[str, Any]:
    """The machine and the software; not its name, which is the clinic's."""
    existing = next(path for path in (config.state_dir, *config.state_dir.absolute().parents) if path.exists())
    return {
        "scanside": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "made_at": time.time(),
        "vitals": msgspec.to_builtins(read_vitals(existing)),
        "packages": {one.metadata["Name"]: one.version for one in metadata.distributions()},
    }


def _account(health: Health) -> dict[str, Any]:
    """Without its words, but for the models': those are the maker's own."""
    figures = {name: value for name, value in health.details.items() if isinstance(value, _TOLD)}
    models = msgspec.to_builtins(health.models)
    told = {"service": health.service, "state": health.state.value, "since": health.since, "pid": health.pid}
    return {**told, "updated_at": health.updated_at, "models": models, "details": figures}


def _without_what_was_found(check: Check) -> dict[str, Any]:
    """Its name and whether it is well; a destination's name is the clinic's."""
    return {"name": "PACS" if check.name.startswith("PACS ") else check.name, "well": check.well}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
