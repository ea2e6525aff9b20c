"""What the subcommands of `scanside` share: which configuration is meant, and whether what they are given is there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from edge import config, config_file
from edge.errors import UsageError
from edge.modes import work_in

DEVICE_FILE = Path("/etc/scanside/scanside.yaml")
"""The configuration of a device, where there is one and no other is named."""


def config_of(options: argparse.Namespace) -> config.Config:
    """What `--config` names, else the device's file, else the built-in defaults; its umask holds from here on.

    Raises:
        ConfigError: The file cannot be used.
    """
    file = file_of(options)
    settings = config_file.load(file) if file else config.Config()
    work_in(settings.state_dir)
    return settings


def file_of(options: argparse.Namespace) -> Path | None:
    """The file that `--config` names, else the device's where there is one."""
    return options.config or (DEVICE_FILE if DEVICE_FILE.is_file() else None)


def require(paths: Sequence[Path]) -> None:
    """Raise `UsageError` for the first of them that is not there."""
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder: give one that exists")
