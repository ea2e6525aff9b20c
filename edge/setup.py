"""`scanside setup`: names, addresses and first-boot code of a box; again, it changes what is asked for.

The answers are a part of the configuration in its own words, asked for on the console or read from a file. They are
written into the commented configuration, whose other lines stay as they are. The page's certificate is made by the web
service, at its first start with `web.tls`.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import yaml

from edge import config_file
from edge.config import Config
from edge.config_section import ConfigError
from edge.device.own_certificate import name_for_others, own_addresses
from edge.durable import flush_folder
from edge.errors import ScansideError
from edge.label import Sheet
from edge.modes import work_in
from edge.web.accounts import Accounts
from edge.web.accounts_file import AccountsFile

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")


class Question(NamedTuple):
    """What is asked on the console: the key that it answers, in words, and why."""

    key: str
    words: str


QUESTIONS = (
    Question("site", "The clinic's name in the fleet, of a-z, 0-9 and -; it must say nothing about patients"),
    Question("box", "This box's name at the site, likewise"),
    Question("intake.dicom.ae_title", "The AE title that modalities call"),
    Question("intake.dicom.host", "The address on which modalities reach this box; 0.0.0.0 for all"),
    Question("web.host", "The address on which the page is reached; 127.0.0.1 for this machine alone"),
)


class SetupError(ScansideError):
    """The box cannot be set up like this."""


def set_up(file: Path, answers: dict[str, Any], output: TextIO, label: Path | None = None) -> None:
    """Lay the answers over the configuration, make a first-boot code, and say what the box is now.

    Nothing is changed when an answer breaks a rule. A second call with the same answers changes nothing but the
    first-boot code, which is made anew as long as nobody has an account.

    Args:
        file: The configuration. It is replaced whole; what it was before is kept beside it as `.before`.
        answers: Part of a configuration.
        output: The console.
        label: Where the label sheet goes as a drawing (SVG) to be printed; with the code in it only its owner reads it.

    Raises:
        ConfigError: The file or an answer cannot be used.
        SetupError, OSError: Something cannot be written.
    """
    before = file.read_text(encoding="utf-8")
    text = laid_over(before, answers)
    config = config_file.parse(text, str(file))
    if text != before:
        _replace(file.with_name(f"{file.name}.before"), before)
        _replace(file, text)
    with _as_owner_of(config.state_dir), closing(AccountsFile(config.state_dir)) as accounts:
        code = Accounts(accounts).first_boot_code()
    sheet = Sheet.of(config, name_for_others(socket.gethostname(), own_addresses()), code)
    output.write(sheet.as_text())
    if label is not None:
        _replace(label, sheet.as_svg(), mode=0o600)


def read_answers(file: Path) -> dict[str, Any]:
    """The answers for an unattended setup. Raises `ConfigError` with the file's name and line."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}): give a readable YAML file with --answers") from error
    config_file.parse(text, str(file))
    return yaml.safe_load(text) or {}


def ask(config: Config, question: Callable[[str], str]) -> dict[str, Any]:
    """Ask a person; an empty answer keeps what is. HTTPS goes on where the page leaves this machine."""
    answers: dict[str, Any] = {}
    for key, words in QUESTIONS:
        now: Any = config
        for name in key.split("."):
            now = getattr(now, name)
        _put(answers, key, question(f"{words} [{now}]: ").strip() or now)
    if answers["web"]["host"] not in ("127.0.0.1", "::1", "localhost") and config.web.tls is None:
        answers["web"]["tls"] = {}
    return answers


def laid_over(text: str, answers: dict[str, Any]) -> str:
    """A configuration's text with the answers in it, and its comments where they were.

    Raises:
        ConfigError: It has a list or section written over several lines where an answer wants to stand.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return yaml.safe_dump(answers) if answers else text
    if root.flow_style:
        raise ConfigError("the configuration stands in braces: write its keys one a line, by hand")
    for start, end, new in sorted(_edits(root, answers, ""), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def restart() -> None:
    """Let the services start with it, where systemd runs and may be told. Raises `SetupError`."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").is_dir() or os.geteuid():
        return
    done = subprocess.run([systemctl, "restart", "scanside.target"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"systemctl restart scanside.target: {done.stderr.strip()}: see `journalctl -u 'scanside-*'`")


def _put(answers: dict[str, Any], key: str, value: object) -> None:
    *above, leaf = key.split(".")
    for name in above:
        answers = answers.setdefault(name, {})
    answers[leaf] = value


def _edits(node: yaml.MappingNode, answers: dict[str, Any], above: str) -> Iterator[tuple[int, int, str]]:
    """Start and end in the text, and what is to stand there."""
    there = {key.value: value for key, value in node.value}
    for key, answer in answers.items():
        value = there.get(key)
        if value is None:
            start = node.start_mark
            yield start.index, start.index, f"{_flow(key)}: {_flow(answer)}\n{' ' * start.column}"
        elif isinstance(value, yaml.MappingNode) and isinstance(answer, dict) and not value.flow_style:
            yield from _edits(value, answer, f"{above}{key}.")
        elif isinstance(value, yaml.CollectionNode) and not value.flow_style:
            raise ConfigError(f"{above}{key}: stands over several lines in the configuration: change it there by hand")
        elif yaml.SafeLoader("").construct_document(value) != answer:
            yield value.start_mark.index, value.end_mark.index, _flow(answer)


def _flow(value: Any) -> str:
    """In one line; without quotes where YAML reads the same without."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _replace(file: Path, text: str, mode: int = 0o644) -> None:
    """Whole or not at all, on the disk when this returns; nobody reads it who may not, not even while it is written."""
    temporary = file.with_name(f"{file.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
    temporary.chmod(mode)
    temporary.replace(file)
    flush_folder(file.parent)


@contextmanager
def _as_owner_of(folder: Path) -> Iterator[None]:
    """As the services' user, where root sets up: what root made there, no service could open."""
    if os.geteuid() or not folder.is_dir():
        yield
        return
    owner, groups, umask = folder.stat(), os.getgroups(), os.umask(0o077)
    os.setgroups([])
    with suppress(KeyError):  # a user without a name is in no groups
        os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    work_in(folder)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.umask(umask)
