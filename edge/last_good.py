"""Safe mode: with a configuration that cannot be used, the services run with the last one that could.

A power cut may leave a part of what somebody was writing, or nothing of it, and a part may well read as a whole. The
last good file is kept in the state folder by the intake, which runs on every box; it also notes there that the present
one is refused, for the page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from edge import config_file
from edge.config import Config
from edge.config_section import ConfigError
from edge.modes import make_folder

_GOOD, _REFUSED = "scanside.yaml", "refused"
_DEFAULT = Config().state_dir
_STATE_DIR = re.compile(r"^state_dir: *[\"']?(/[^\"'#\s]*)", re.MULTILINE)


class Loaded(NamedTuple):
    """What the services work with.

    Attributes:
        config: The configuration.
        refused: Why it is not the file that was named; None when it is.
        text: What stood in that file.
    """

    config: Config
    refused: ConfigError | None = None
    text: str = ""


def load(file: Path, state_dir: Path = _DEFAULT) -> Loaded:
    """Read the configuration, or the last good one where it cannot be used, or is but a beginning of that.

    Args:
        file: The configuration.
        state_dir: Where the last good one is looked for when what is left of the file does not name its state folder.

    Raises:
        ConfigError: It cannot be used, and no good one was kept.
    """
    text = _text(file)
    named = _STATE_DIR.search(text)
    good = _kept(Path(named[1]) if named else state_dir)
    try:
        config = config_file.load(file)
        if not _is_cut(text, _text(good)):
            return Loaded(config, text=text)
        refused = ConfigError(f"{file}: cut off, it begins as the last good one: write it again, or remove {good}")
    except ConfigError as error:
        refused = error
    try:
        return Loaded(config_file.load(good), refused)
    except ConfigError:  # there is none, or it is of another version of the software
        raise refused from None


def keep(file: Path, loaded: Loaded) -> None:
    """Keep what was loaded when it is good, else note that it is refused; a power cut leaves the one before.

    What has changed meanwhile was never looked at, and is for the next start. Raises `OSError`.
    """
    folder = _kept(loaded.config.state_dir).parent
    make_folder(folder)
    if loaded.refused:
        (folder / _REFUSED).touch()
        return
    (folder / _REFUSED).unlink(missing_ok=True)
    good, text = folder / _GOOD, loaded.text
    if _text(file) != text or (good.exists() and _text(good) == text):
        return
    temporary = good.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
    temporary.replace(good)


def is_refused(state_dir: Path) -> bool:
    """Whether the services work with the last good configuration and not with the present one."""
    return (_kept(state_dir).parent / _REFUSED).exists()


def _is_cut(text: str, whole: str) -> bool:
    return len(text.rstrip()) < len(whole.rstrip()) and whole.startswith(text.rstrip())


def _kept(state_dir: Path) -> Path:
    return state_dir / "configuration" / _GOOD


def _text(file: Path) -> str:
    """What can be read of it."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
