"""The commented default configuration is complete, true to the schema, and differs from it only where it says so."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml

from edge.config import Audit, Config, DicomTls, Mqtt, Syslog, WebTls
from edge.config_file import parse
from edge.config_reporting import Destination, Reporting, Worklist
from edge.setup import laid_over, read_answers
from tests.conftest import ROOT

FILE = ROOT / "firmware_config" / "scanside.yaml"
OPTIONAL_SECTIONS = (
    "mqtt.",
    "reporting.destinations.",
    "reporting.worklist.",
    "intake.dicom.tls.",
    "audit.syslog.",
    "web.tls.",
)
DIFFERENT_ON_A_DEVICE = {"intake.dicom.host": "0.0.0.0"}  # a device must be reachable for its modalities


def _fields(section: Any, above: str = "") -> dict[str, msgspec.structs.FieldInfo]:
    found: dict[str, msgspec.structs.FieldInfo] = {}
    for field in msgspec.structs.fields(section):
        below = [kind for kind in (field.type, *get_args(field.type)) if hasattr(kind, "__struct_fields__")]
        found |= _fields(below[0], f"{above}{field.name}.") if below else {f"{above}{field.name}": field}
    return found


def _with_all_sections() -> str:
    """The file with its sections `mqtt`, both `tls`, `syslog` and `destinations` uncommented, as their comments say."""
    head, _, commented = FILE.read_text(encoding="utf-8").partition("mqtt: null\n")
    text = head + re.sub(r"^# ?", "", commented, flags=re.MULTILINE)
    for indent, name in (("    ", "tls"), ("  ", "tls"), ("  ", "syslog"), ("  ", "worklist")):
        text = _with_section(text, indent, name)
    return _with_section(text, "  ", "destinations", "[]")


def _with_section(text: str, indent: str, name: str, absent: str = "null") -> str:
    head, _, tail = text.partition(f"{indent}{name}: {absent}\n")
    commented, end, tail = tail.partition("\n\n")
    return head + re.sub(f"^{indent}# ?", indent, commented, flags=re.MULTILINE) + end + tail


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def test_it_loads() -> None:
    config = parse(FILE.read_text(encoding="utf-8"), str(FILE))
    assert config.mqtt is None
    different = {key: _value(config, key) for key in _fields(Config) if not key.startswith(OPTIONAL_SECTIONS)}
    built_in = Config()
    assert {key: value for key, value in different.items() if value != _value(built_in, key)} == DIFFERENT_ON_A_DEVICE


def test_its_optional_sections_load_with_the_defaults() -> None:
    config = parse(_with_all_sections(), str(FILE))
    assert config.mqtt == Mqtt(host="broker.example.org")
    assert config.audit == Audit(syslog=Syslog(host="arr.example.org"))
    certificate, key = Path("/etc/scanside/dicom.pem"), Path("/etc/scanside/dicom.key")
    assert config.intake.dicom.tls == DicomTls(certificate_file=certificate, key_file=key)
    assert config.web.tls == WebTls()
    assert config.reporting == Reporting(destinations=(Destination(name="pacs"),), worklist=Worklist())


@pytest.mark.parametrize("key", _fields(Config))
def test_every_option_stands_in_it_with_its_own_comment_and_default(key: str) -> None:
    document = yaml.safe_load(_with_all_sections())
    for name in key.split("."):
        assert name in document, f"{key} is not in {FILE.name}"
        document = document[name]
        document = document[0] if name == "destinations" else document
    block = _block_above(key.split("."))
    field = _fields(Config)[key]
    if field.required:
        assert "Required." in block
        return
    default = _value(Config(), key) if not key.startswith(OPTIONAL_SECTIONS) else field.default
    shown = json.dumps(list(default) if isinstance(default, tuple) else default, default=str).strip('"')
    assert f"Default: {shown}" in block, f"{key}: the comment does not state the default {shown}"


def _block_above(path: list[str]) -> str:
    """The comment over a key; keys that stand together share one."""
    lines = _with_all_sections().splitlines()
    node: Any = yaml.compose(_with_all_sections())
    start = at = 0
    for name in path:
        node = node.value[0] if isinstance(node, yaml.SequenceNode) else node
        key_node, node = next((key, value) for key, value in node.value if key.value == name)
        start = at = key_node.start_mark.line
    while start and lines[start - 1].strip():
        start -= 1
    return "\n".join(lines[start:at])


@pytest.mark.parametrize("profile", sorted((FILE.parent / "profiles").iterdir()), ids=lambda path: path.stem)
def test_each_profile_is_what_setup_takes_and_the_file_stays_one_that_loads(profile: Path) -> None:
    text = laid_over(FILE.read_text(encoding="utf-8"), read_answers(profile))
    alone = parse(profile.read_text(encoding="utf-8"), profile.name)
    config = parse(text, profile.name)
    assert config.inference == alone.inference
    assert config.storage == alone.storage
    assert 1 <= config.inference.threads <= 4


def test_chrony_takes_its_file(program: Callable[[str], str]) -> None:
    done = subprocess.run(
        [program("chronyd"), "-p", "-f", str(FILE.parent / "chrony.conf")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"port 0", "cmdport 0"} <= set(done.stdout.splitlines()), "no port is open"


def test_the_journal_is_bounded() -> None:
    lines = [line for line in (FILE.parent / "journald.conf").read_text(encoding="ascii").splitlines() if "=" in line]
    said = dict(line.split("=") for line in lines if not line.startswith("#"))
    assert list(said) == sorted(said)
    assert (said["Storage"], said["SystemMaxUse"], said["SystemKeepFree"]) == ("persistent", "256M", "1G")
    assert said["ForwardToSyslog"] == "no"


def test_no_line_is_too_long_for_a_console() -> None:
    assert not [line for line in FILE.read_text(encoding="utf-8").splitlines() if len(line) > 120]


def test_each_kernel_setting_is_one_of_this_kernel() -> None:
    lines = (ROOT / "firmware_config/sysctl.conf").read_text(encoding="ascii").splitlines()
    names = [line.partition(" = ")[0] for line in lines if line and not line.startswith("#")]
    assert len(names) > 5
    known = Path("/proc/sys")
    optional = {"kernel.yama.ptrace_scope"}  # a security module that Debian's kernels have
    assert [name for name in names if not (known / name.replace(".", "/")).exists() and name not in optional] == []


def test_the_disks_can_be_read(program: Callable[[str], str]) -> None:
    command = [program("findmnt"), "--fstab", "--tab-file", str(ROOT / "firmware_config/fstab"), "--json", "--evaluate"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {each["target"]: each["options"].split(",") for each in _all(json.loads(said)["filesystems"])}
    assert list(found) == ["/", "/var", "/var/lib/scanside", "/tmp"]
    assert "ro" in found["/"]
    assert {"noexec", "errors=remount-ro"} <= set(found["/var/lib/scanside"])


def _all(mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [found for mount in mounts for found in (mount, *_all(mount.get("children", [])))]
