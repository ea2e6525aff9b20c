"""Reading the configuration file: one YAML file into the schema of `config.py`.

A key that is not in the schema or a value that breaks its rule is one line: file, line, key, rule and fix.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, get_args

import msgspec
import yaml

from edge import settings
from edge.config import Config, Storage
from edge.config_reporting import Destination
from edge.config_section import ConfigError, Section

FLEET = "the fleet's settings"
"""What errors call them."""


def load(path: Path) -> Config:
    """Read and check a configuration file, and lay the fleet's settings over it.

    Settings that no longer fit the file do not count: the box works as its own file says.

    Raises:
        ConfigError: It cannot be read, is not YAML, has an unknown key, or a value breaks its rule.
    """
    text = _text(path)
    config = parse(text, str(path))
    values = settings.read(config.state_dir).settings.values
    if not values:
        return config
    try:
        return parse(settings.laid_over(text, values), FLEET)
    except (ConfigError, ValueError):
        return config


def try_settings(path: Path, values: dict[str, settings.Value]) -> Config:
    """What the configuration would be with these settings of a fleet over the file.

    Raises:
        ConfigError: One of them is not for a fleet to set, or breaks its rule, or the file cannot be read.
    """
    try:
        return parse(settings.laid_over(_text(path), values), FLEET)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{FLEET}: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}): give a readable YAML file with --config") from error


def parse(text: str, name: str) -> Config:
    """Check the text of a configuration file; `name` is what errors call it. Raises `ConfigError`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
            return Config()
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{name}:1: the file: {_shown_node(root)} cannot be used: expected keys of its own")
        _check_keys(root, Config, [], name)
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{name}:{mark.line + 1 if mark else 1}: not YAML: {error.problem}: correct it") from error
    except (yaml.YAMLError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise ConfigError(f"{name}:1: not YAML: {problem}: correct it") from error
    try:
        config = msgspec.convert(document, Config, strict=True, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), root, name)) from error
    _check_together(config, root, name)
    return config


def _check_keys(node: yaml.MappingNode, section: type[Section], path: list[str], name: str) -> None:
    """Refuse keys that the section does not have or that stand there twice, and values that YAML itself cannot make."""
    fields = {field.name: field.type for field in msgspec.structs.fields(section)}
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "(a list or section)"
        line = key_node.start_mark.line + 1
        here = ".".join([*path, key])
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(fields)}"
            raise ConfigError(f"{name}:{line}: {_shown(here)}: unknown key, {hint}")
        if key in seen:
            raise ConfigError(f"{name}:{line}: {here}: given twice: remove one of the two lines")
        seen.add(key)
        below = _section_of(fields[key])
        if below and isinstance(value_node, yaml.MappingNode):
            _check_keys(value_node, below, [*path, key], name)
            continue
        if below and isinstance(value_node, yaml.SequenceNode):
            for item in value_node.value:
                if isinstance(item, yaml.MappingNode):
                    _check_keys(item, below, [*path, key], name)
        try:
            yaml.constructor.SafeConstructor().construct_document(value_node)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # PyYAML lets its own slips through: a date that is none, `!!int x`
            value = _shown_node(value_node)
            raise ConfigError(f"{name}:{line}: {here}: {value} cannot be read: put it in quotes") from error


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError(f"Expected a {kind.__name__.lower()}")


def _explain(message: str, root: yaml.Node, name: str) -> str:
    """One line out of msgspec's message: file, line, key, value, rule and fix."""
    problem, _, where = message.partition(" - at `$")
    path = re.findall(r"(?<=\.)\w+", where)  # without an index in a list: the line is the list's
    section: type[Section] = Config
    field: msgspec.structs.FieldInfo | None = None
    for key in path:
        field = next(field for field in msgspec.structs.fields(section) if field.name == key)
        section = _section_of(field.type) or section
    line, node = _find(root, path)
    place = f"{name}:{line}: {'.'.join(path) or 'the file'}"
    if missing := re.search(r"missing required field `(\w+)`", problem):
        return f"{place}: the key {missing[1]!r} is missing: add it"
    fix = "correct it" if field is None or field.required else "correct it, or remove the line to have the default"
    return f"{place}: {_shown_node(node)} cannot be used: {_rule(problem, field)}: {fix}"


def _rule(problem: str, field: msgspec.structs.FieldInfo | None) -> str:
    """The rule that a value broke, in the schema's own words where it has some."""
    if field and problem.startswith("Invalid enum"):
        return f"expected one of {', '.join(get_args(field.type))}"
    if field is None or _section_of(field.type):
        return "expected keys of its own"
    described = next((meta.description for meta in getattr(field.type, "__metadata__", ()) if meta.description), None)
    return f"expected {described}" if described else f"{problem[0].lower()}{problem[1:].partition(', got')[0]}"


def _more_than_one(to: Destination) -> str:
    """Why a destination cannot be all that it says; empty when it can."""
    if to.hl7 and (to.stow_url or to.storage_commitment):
        return "hl7 has neither a stow_url nor storage_commitment: leave them out"
    if to.ups_url and (to.hl7 or to.stow_url or to.storage_commitment):
        return "ups_url has no hl7, stow_url or storage_commitment: give each its own"
    return ""


def _check_together(config: Config, root: yaml.Node, name: str) -> None:
    """The rules that join several keys, or that the schema cannot say. Raises `ConfigError`."""
    dicom = config.intake.dicom

    def refuse(keys: str, problem: str) -> NoReturn:
        raise ConfigError(f"{name}:{_find(root, keys.split('.'))[0]}: {keys}: {problem}")

    links = [("mqtt", config.mqtt), ("audit.syslog", config.audit.syslog), ("web.tls", config.web.tls)]
    for keys, link in (*links, *(("reporting.destinations", each) for each in config.reporting.destinations)):
        if link and (link.certificate_file is None) != (link.key_file is None):
            refuse(keys, "certificate_file and key_file belong together: give both")
    for destination in config.reporting.destinations:
        if problem := _more_than_one(destination):
            refuse("reporting.destinations", problem)
    names = [destination.name for destination in config.reporting.destinations]
    if len(names) != len(set(names)):
        refuse("reporting.destinations", "two of one name: what waits is kept by name, give each its own")
    web = config.web
    if web.tls and web.tls.redirect_port is not None and web.tls.redirect_port == web.port != 0:
        refuse("web.tls.redirect_port", f"{web.port} is web.port as well, which speaks HTTPS: choose another one")
    if not dicom.plain and dicom.tls is None:
        refuse("intake.dicom.plain", "false without a section tls leaves no listener: give one, or set it to true")
    for host in dicom.hosts:
        try:
            ipaddress.ip_network(host)
        except ValueError as error:
            refuse("intake.dicom.hosts", f"{_shown(str(error))}: expected 192.0.2.7 or 192.0.2.0/24: correct it")
    _check_storage(config.storage, refuse)
    folder, state = config.intake.watch_folder, config.state_dir
    if folder and (folder == state or state in folder.parents or folder in state.parents):
        refuse(
            "intake.watch_folder",
            f"{_shown(str(folder))} and state_dir lie within each other, and what is in the watch folder is taken in"
            " and removed: choose another folder",
        )


def _check_storage(storage: Storage, refuse: Callable[[str, str], NoReturn]) -> None:
    for unit in ("percent", "mb"):
        bands = [getattr(storage, f"{band}_below_{unit}") for band in ("warn", "spare", "refuse")]
        if bands != sorted(bands, reverse=True):
            refuse(
                "storage",
                f"warn, spare and refuse below {bands} {unit}: each at most the one before it: lower the later",
            )
    images, results = storage.image_days, storage.result_days
    if results is not None and (images is None or images > results):
        refuse("storage.result_days", f"{results}: no image outlives its result: make it at least image_days")


def _section_of(kind: Any) -> type[Section] | None:
    """The section that a field holds, also an optional one."""
    for candidate in (kind, *get_args(kind)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _shown(value: str) -> str:
    """A value as it may stand in one line of a message."""
    printable = "".join(character if character.isprintable() else "?" for character in value)
    return printable if len(printable) <= 60 else f"{printable[:57]}..."


def _shown_node(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return _shown(repr(node.value) if node.style else node.value) or "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a section"


def _find(root: yaml.Node, path: list[str]) -> tuple[int, yaml.Node]:
    """The line, counted from 1, on which the key at `path` stands, and its value."""
    line, node = 1, root
    for key in path:
        if not isinstance(node, yaml.MappingNode):
            break
        for key_node, value_node in node.value:
            if key_node.value == key:
                line, node = key_node.start_mark.line + 1, value_node
                break
    return line, node
