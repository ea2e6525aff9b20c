"""The device configuration: what is wrong is said in one line with file, line, key, value, rule and fix."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Config
from edge.config_file import load, parse
from edge.config_section import ConfigError

COMPLETE: dict[str, Any] = {
    "site": "clinic-1",
    "box": "box-2",
    "state_dir": "/var/lib/scanside",
    "intake": {
        "dicom": {
            "ae_title": "BOX",
            "host": "0.0.0.0",
            "port": 104,
            "plain": False,
            "tls": {"port": 2762, "certificate_file": "/etc/c.pem", "key_file": "/etc/k.pem", "client_ca_file": "/ca"},
            "hosts": ["192.0.2.0/24"],
            "calling_ae_titles": ["DX1"],
        },
        "watch_folder": "/srv/in",
    },
    "inference": {"models": "/srv/models", "engine": "openvino", "operating_point": "sensitive", "threads": 4},
    "web": {"host": "127.0.0.1", "port": 8080, "session_minutes": 5},
    "storage": {"key_file": "/etc/scanside/store.key"},
    "mqtt": {"host": "broker", "port": 8883, "tls": True, "ca_file": "/etc/ca.pem", "username": "box"},
}

WRONG = {
    "unknown key, nearest": (
        "intake:\n  dicom:\n    aetitle: X\n",
        3,
        "intake.dicom.aetitle",
        "did you mean 'ae_title'?",
    ),
    "unknown key with a dash": ("web:\n  session-minutes: 5\n", 2, "web.session-minutes", "'session_minutes'"),
    "unknown key, nothing near": ("zzz: 1\n", 1, "zzz", "known keys: site, box, state_dir"),
    "unknown section": ("site: a\nwebb:\n  port: 1\n", 2, "webb", "did you mean 'web'?"),
    "a secret inline": ("mqtt:\n  host: b\n  password: x\n", 3, "mqtt.password", "did you mean 'password_file'?"),
    "a number as a key": ("8080: x\n", 1, "8080", "unknown key"),
    "a list as a key": ("? [a, b]\n: x\n", 1, "(a list or section)", "unknown key"),
    "a key twice": ("web:\n  port: 1\n  host: x\n  port: 2\n", 4, "web.port", "given twice: remove one"),
    "too large": ("web:\n  port: 70000\n", 2, "web.port", "70000 cannot be used: expected a TCP port up to 65535"),
    "too small": ("inference: {threads: 0}", 1, "inference.threads", "0 cannot be used: expected `int` >= 1"),
    "text for a number": ("web:\n  port: http\n", 2, "web.port", "http cannot be used: expected a TCP port"),
    "a quoted number": ('web:\n  port: "8080"\n', 2, "web.port", "'8080' cannot be used: expected a TCP port"),
    "a yes for a number": ("web:\n  port: yes\n", 2, "web.port", "yes cannot be used"),
    "a fraction": ("web:\n  port: 80.5\n", 2, "web.port", "80.5 cannot be used"),
    "a number for a text": (
        "intake:\n  dicom:\n    ae_title: 4711\n",
        3,
        "intake.dicom.ae_title",
        "4711 cannot be used",
    ),
    "a word for a switch": ("mqtt: {host: b, tls: perhaps}", 1, "mqtt.tls", "perhaps cannot be used: expected `bool`"),
    "not one of the choices": ("inference:\n  engine: torch\n", 2, "inference.engine", "auto, openvino, onnxruntime"),
    "capitals in a topic": ("site: Clinic\n", 1, "site", "expected 1 to 64 of a-z, 0-9 and -"),
    "a newline in a topic": ('site: "clinic\\n"\n', 1, "site", "expected 1 to 64 of a-z, 0-9 and -"),
    "an AE title too long": ("intake: {dicom: {ae_title: SEVENTEEN-LETTERS}}", 1, "intake.dicom.ae_title", "1 to 16"),
    "an AE title of spaces": ("intake: {dicom: {ae_title: '   '}}", 1, "intake.dicom.ae_title", "1 to 16"),
    "a backslash in an AE title": ("intake: {dicom: {ae_title: 'A\\B'}}", 1, "intake.dicom.ae_title", "1 to 16"),
    "no path": ("intake:\n  watch_folder: ''\n", 2, "intake.watch_folder", "expected a path"),
    "a path that is none": ("state_dir: [a]\n", 1, "state_dir", "a list cannot be used: expected a path"),
    "a value for a section": ("web: 8080\n", 1, "web", "8080 cannot be used: expected keys of its own"),
    "an empty section": ("web:\n", 1, "web", "nothing cannot be used: expected keys of its own"),
    "a list for the file": ("- site: a\n", 1, "the file", "a list cannot be used"),
    "text for the file": ("hello", 1, "the file", "hello cannot be used"),
    "a key missing": ("site: a\nmqtt:\n  port: 1883\n", 2, "mqtt", "the key 'host' is missing: add it"),
    "no listener at all": (
        "intake:\n  dicom:\n    plain: false\n",
        3,
        "intake.dicom.plain",
        "give one, or set it to true",
    ),
    "a TLS section without its files": (
        "intake:\n  dicom:\n    tls: {}\n",
        3,
        "intake.dicom.tls",
        "'certificate_file'",
    ),
    "no network": ("intake: {dicom: {hosts: [modality-1]}}", 1, "intake.dicom.hosts", "expected 192.0.2.7 or"),
    "an address with a mask": ("intake: {dicom: {hosts: [192.0.2.7/24]}}", 1, "intake.dicom.hosts", "host bits set"),
    "an AE title among many": (
        "intake: {dicom: {calling_ae_titles: [A, '']}}",
        1,
        "intake.dicom.calling_ae_titles",
        "",
    ),
    "half a pair for syslog": (
        "audit:\n  syslog:\n    host: a\n    key_file: /k\n",
        2,
        "audit.syslog",
        "give both",
    ),
    "half a pair": ("mqtt:\n  host: b\n  key_file: /k\n", 1, "mqtt", "give both"),
    "a RIS that commits": (
        "reporting: {destinations: [{name: ris, hl7: true, storage_commitment: true}]}",
        1,
        "reporting.destinations",
        "leave them out",
    ),
    "a worklist that is a PACS": (
        "reporting: {destinations: [{name: list, ups_url: 'http://list/workitems', stow_url: 'http://list/studies'}]}",
        1,
        "reporting.destinations",
        "give each its own",
    ),
    "bands the wrong way round": (
        "storage:\n  refuse_below_mb: 6000\n",
        1,
        "storage",
        "refuse below [10240, 5120, 6000] mb: each at most the one before it: lower the later",
    ),
    "bands of percents likewise": ("storage: {warn_below_percent: 9}", 1, "storage", "[9, 10, 5] percent"),
    "results gone before their images": (
        "storage:\n  image_days: 30\n  result_days: 7\n",
        3,
        "storage.result_days",
        "7: no image outlives its result: make it at least image_days",
    ),
    "images for ever without results": (
        "storage: {image_days: null}",
        1,
        "storage.result_days",
        "730: no image outlives",
    ),
    "watching the state": ("intake:\n  watch_folder: /var/lib/scanside\n", 2, "intake.watch_folder", "another folder"),
    "watching within the state": ("intake: {watch_folder: /var/lib/scanside/in}", 1, "intake.watch_folder", "another"),
    "watching above the state": ("intake: {watch_folder: /var}", 1, "intake.watch_folder", "choose another folder"),
    "a date that is none": ("site: 2026-13-45\n", 1, "site", "2026-13-45 cannot be read: put it in quotes"),
    "a tag that lies": ("web:\n  port: !!int http\n", 2, "web.port", "cannot be read"),
}
NO_YAML = {
    "two colons": ("web:\n  port: 1: 2\n", 2),
    "a tab": ("web:\n\tport: 1\n", 2),
    "an open quote": ("site: 'a\n", 2),
    "a control character": ("site: \x01\n", 1),
    "two documents": ("site: a\n---\nsite: b\n", 2),
    "an unknown anchor": ("site: *a\n", 1),
    "a foreign tag": ("site: !!python/object:os.system x\n", 1),
    "nested without end": ("[" * 10_000, 1),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_line_key_value_rule_and_fix(case: str) -> None:
    text, line, key, said = WRONG[case]
    message = _refusal(text)
    assert message.startswith(f"scanside.yaml:{line}: {key}: ")
    assert said in message


@pytest.mark.parametrize("case", NO_YAML)
def test_what_is_no_yaml_is_said_with_its_line(case: str) -> None:
    text, line = NO_YAML[case]
    assert _refusal(text).startswith(f"scanside.yaml:{line}: not YAML: ")


def test_an_empty_file_is_the_default() -> None:
    for text in ("", "# only a comment\n", "---\n", "{}"):
        assert parse(text, "scanside.yaml") == Config()


def test_everything_can_be_set() -> None:
    config = parse(yaml.safe_dump(COMPLETE), "scanside.yaml")
    assert config.intake.dicom.port == 104
    assert config.intake.watch_folder == Path("/srv/in")
    assert config.mqtt is not None
    assert config.mqtt.ca_file == Path("/etc/ca.pem")


@pytest.mark.parametrize("missing", ["no such file", "a folder", "not text"])
def test_a_file_that_cannot_be_read_is_said_with_its_name(tmp_path: Path, missing: str) -> None:
    file = tmp_path / "scanside.yaml"
    if missing == "a folder":
        file.mkdir()
    elif missing == "not text":
        file.write_bytes(b"site: \xff\xfe\n")
    with pytest.raises(ConfigError, match=re.escape(str(file))) as refused:
        load(file)
    assert "\n" not in str(refused.value)


def test_long_and_unprintable_values_are_shown_short_in_one_line() -> None:
    message = _refusal(f'site: "{"x" * 500}\\u0007"\n')
    assert len(message) < 300


def _paths(document: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in document.items():
        found.append((*above, key))
        if isinstance(value, dict):
            found += _paths(value, (*above, key))
    return found


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(max_size=20)
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)


@given(path=st.sampled_from(_paths(COMPLETE)), value=_VALUES)
def test_any_value_at_any_key_is_taken_or_refused(path: tuple[str, ...], value: object) -> None:
    _taken_or_refused(yaml.safe_dump(_changed(path, lambda section, key: section.__setitem__(key, value))))


@given(path=st.sampled_from(_paths(COMPLETE)), name=st.text() | st.integers() | st.none())
def test_any_other_key_is_refused_by_its_name(path: tuple[str, ...], name: object) -> None:
    document = _changed(path, lambda section, key: section.__setitem__(name, section.pop(key)))
    if document != COMPLETE and name not in {key for path in _paths(COMPLETE) for key in path}:
        assert "unknown key" in _refusal(yaml.safe_dump(document, allow_unicode=True))


@given(text=st.text())
def test_any_text_is_taken_or_refused(text: str) -> None:
    _taken_or_refused(text)


@given(
    st.lists(
        st.sampled_from([*"{}[]:,-?!&*#|>'\"% \n\t", "site", "web", "port", "1", "!!int ", "&a ", "*a"]), max_size=40
    )
)
def test_any_heap_of_yaml_is_taken_or_refused(parts: list[str]) -> None:
    _taken_or_refused("".join(parts))


def _changed(path: tuple[str, ...], change: Any) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(COMPLETE))
    section = document
    for key in path[:-1]:
        section = section[key]
    change(section, path[-1])
    return document


def _taken_or_refused(text: str) -> None:
    try:
        assert isinstance(parse(text, "scanside.yaml"), Config)
    except ConfigError as refused:
        assert re.fullmatch(r"scanside\.yaml:\d+: [^\n]+", str(refused))


def _refusal(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse(text, "scanside.yaml")
    message = str(refused.value)
    assert "\n" not in message
    return message
