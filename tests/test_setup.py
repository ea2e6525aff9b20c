"""`scanside setup` makes a configuration that loads, keeps what it does not change, and can be repeated."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Config, WebTls
from edge.config_file import load, parse
from edge.config_section import ConfigError
from edge.setup import ask, laid_over
from tests.running import ROOT, scanside

SHIPPED = (ROOT / "firmware_config" / "scanside.yaml").read_text(encoding="utf-8")
CODE = re.compile(r"[0-9A-Z]{4}(-[0-9A-Z]{4})+")


def _set_up(tmp_path: Path, answers: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Through the command; with empty `answers` a person types."""
    file = tmp_path / "scanside.yaml"
    if not file.exists():
        file.write_text(SHIPPED.replace("/var/lib/scanside", str(tmp_path / "state")), encoding="utf-8")
    (tmp_path / "answers.yaml").write_text(answers, encoding="utf-8")
    more = ["--answers", str(tmp_path / "answers.yaml")] if answers else []
    command = scanside("setup", "--config", str(file), *more)
    return subprocess.run(command, input=typed, capture_output=True, text=True, cwd=ROOT, check=False)


ANSWERS = """
site: clinic-7
intake: {dicom: {ae_title: XRAY ROOM 1, host: 192.0.2.7}}
web: {host: 0.0.0.0, tls: {redirect_port: 8081}}
"""


def test_unattended_and_again(tmp_path: Path) -> None:
    first = _set_up(tmp_path, ANSWERS)
    assert (first.returncode, first.stderr) == (0, "")
    text = (tmp_path / "scanside.yaml").read_text(encoding="utf-8")
    config = load(tmp_path / "scanside.yaml")
    assert (config.site, config.box, config.intake.dicom.ae_title) == ("clinic-7", "box", "XRAY ROOM 1")
    assert config.web.tls == WebTls(redirect_port=8081)
    before = (tmp_path / "scanside.yaml.before").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.lstrip().startswith("#")] == [
        line for line in before.splitlines() if line.lstrip().startswith("#")
    ]
    again = _set_up(tmp_path, ANSWERS)
    assert (tmp_path / "scanside.yaml").read_text(encoding="utf-8") == text
    codes = [CODE.search(done.stdout) for done in (first, again)]
    assert codes[0] and codes[1] and codes[0][0] != codes[1][0], "a lost code is replaced"
    assert "https://" in first.stdout
    assert "clinic-7 / box" in first.stdout


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ("site: Clinic 7", "answers.yaml:1: site: Clinic 7 cannot be used"),
        ("sight: x", "unknown key, did you mean 'site'?"),
        ("intake: {dicom: {plain: false}}", "leaves no listener"),
        ("site: [", "not YAML"),
    ],
)
def test_what_breaks_a_rule_changes_nothing(tmp_path: Path, answers: str, said: str) -> None:
    done = _set_up(tmp_path, answers)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"scanside.yaml", "answers.yaml"}


def test_by_hand(tmp_path: Path) -> None:
    done = _set_up(tmp_path, "", "clinic-7\n\n\n192.0.2.7\n192.0.2.7\n")
    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "scanside.yaml")
    assert (config.site, config.box, config.intake.dicom.host) == ("clinic-7", "box", "192.0.2.7")
    assert config.web.tls == WebTls(), "the page leaves the machine, so it speaks HTTPS"
    before = parse((tmp_path / "scanside.yaml.before").read_text(encoding="utf-8"), "before")
    assert before.site == "site"


def test_nobody_answers(tmp_path: Path) -> None:
    done = _set_up(tmp_path, "", "clinic-7\n")
    assert done.returncode == 2
    assert "--answers" in done.stderr


def test_an_empty_answer_keeps_what_is() -> None:
    kept = ask(Config(site="a"), lambda _: "")
    assert parse(yaml.safe_dump(kept), "answers") == Config(site="a")


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=8)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(_TEXTS, below, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(["site", "box", "web", "intake", "dicom", "tls", "new"])
_SECTIONS = st.recursive(
    st.dictionaries(_KEYS, st.none() | st.booleans() | st.integers() | _TEXTS, min_size=1, max_size=4),
    lambda below: st.dictionaries(_KEYS, below | st.integers() | _TEXTS, min_size=1, max_size=4),
    max_leaves=12,
)


@given(_SECTIONS, st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_what_is_laid_over_is_what_is_read_and_the_rest_stays(
    document: dict[str, Any], answers: dict[str, Any]
) -> None:
    text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
    try:
        merged = laid_over(text, answers)
    except ConfigError as error:
        assert "by hand" in str(error)
        return
    assert yaml.safe_load(merged) == _merged(document, answers)


def _merged(document: dict[str, Any], answers: dict[str, Any]) -> dict[str, Any]:
    both = dict(document)
    for key, value in answers.items():
        there = both.get(key)
        both[key] = _merged(there, value) if isinstance(there, dict) and there and isinstance(value, dict) else value
    return both


@pytest.mark.parametrize("journal", [True, False])
def test_a_code_is_never_shown_to_the_journal(tmp_path: Path, journal: bool) -> None:
    """The web service's part: standard output is a pipe here, and systemd says of it that it is its own."""
    read, write = os.pipe()
    status = os.fstat(write)
    environment = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"} if journal else os.environ
    code = "import sys, pathlib, edge.web.service as s; s.show_first_boot_code(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, stdout=write, env=environment, cwd=ROOT, check=True)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as output:
        assert bool(CODE.search(output.read())) is not journal
