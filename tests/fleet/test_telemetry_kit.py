"""What the kit gives Prometheus, Grafana and Telegraf: checked by Prometheus' own tool and by what is really said."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from edge.fleet.alarms import Standing
from edge.fleet.metrics import HELP, exposition
from edge.fleet.standing import Facts, measures
from edge.messages.topics import parse
from tests.conftest import ROOT
from tests.fleet.boxes import NOW, addressed, health

KIT = ROOT / "firmware_config" / "fleet"
BOX = Facts(id=1, site="clinic", box="box-1", first_seen_at=NOW, heard_at=NOW, session="s", disk_used=0.5, results=100)
SILENT = Facts(id=2, site="clinic", box="box-2", first_seen_at=NOW, heard_at=NOW - 9000, session="s", disk_used=0.9)


class _Collector(msgspec.Struct):
    name: str = "collector-1"
    alive_at: float = NOW
    connected: bool = True


def _text() -> str:
    standing = {1: {"disk": Standing(NOW, NOW)}}
    return exposition(
        [BOX, SILENT], standing, collectors=[_Collector()], apart={"not JSON": 3}, now=NOW + 60, interval=60, wanted={}
    )


Promtool = Callable[..., None]


@pytest.fixture
def promtool(program: Callable[[str], str], tmp_path: Path) -> Promtool:
    """Runs Prometheus' own tool over a document, or over what it is given on standard input; it must be content."""

    def run(arguments: list[str], document: Any = None, given: str = "") -> None:
        command = [program("promtool"), *arguments]
        if document is not None:
            file = tmp_path / "document.yml"
            file.write_text(yaml.safe_dump(document), encoding="utf-8")
            command.append(str(file))
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd=KIT)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_the_exposition_is_one_to_prometheus(promtool: Promtool) -> None:
    text = _text()
    promtool(["check", "metrics", "--extended"], given=text)
    assert 'scanside_fleet_disk_used{site="clinic",box="box-1"} 0.5' in text
    assert 'scanside_fleet_alarms{rule="disk"} 1' in text


def test_what_a_silent_box_said_last_is_left_out() -> None:
    assert 'scanside_fleet_disk_used{site="clinic",box="box-2"}' not in _text()
    assert 'scanside_fleet_silent_seconds{site="clinic",box="box-2"} 9060' in _text()


def test_every_measure_of_the_alarms_is_exported() -> None:
    assert set(HELP) == set(measures(BOX, NOW, 60))


def test_the_rules_and_the_configuration_are_prometheus_own(promtool: Promtool, tmp_path: Path) -> None:
    promtool(["check", "rules", "alert_rules.yml"])
    (tmp_path / "token").write_text("t")
    document = yaml.safe_load((KIT / "prometheus.yml").read_text("utf-8"))
    document["rule_files"] = [str(KIT / "alert_rules.yml")]
    document["scrape_configs"][0]["authorization"]["credentials_file"] = str(tmp_path / "token")
    promtool(["check", "config"], document)


@pytest.mark.parametrize(
    ("series", "values", "minutes", "alert"),
    [
        ("silent_seconds", "0+60x60", 20, "BoxLost"),
        ("silent_seconds", "0+60x10 0x60", 20, ""),
        ("services_not_up", "1x60", 5, "ServicesDegraded"),
        ("services_not_up", "1 0x60", 3, ""),
        ("drifted", "1x60", 5, "Drift"),
        ("unclean_restarts_a_day", "3x60", 5, "RestartsAgainAndAgain"),
        ("unclean_restarts_a_day", "2x60", 5, ""),
        ("models_other", "1x60", 20, "AnotherModel"),
        ("models_other", "1x60", 10, ""),
        ("trail_went_back", "1x60", 5, "AuditTrailWentBack"),
        ("certificate_days_gone", "-29x60", 5, "CertificateEnds"),
        ("certificate_days_gone", "-31x60", 5, ""),
        ("disk_used", "0.6+0.001x600", 60, "DiskFullWithin48Hours"),
        ("disk_used", "0.6x600", 60, ""),
        ("collector_silent_seconds", "0+60x60", 10, "NoCollectorWorks"),
    ],
)
def test_an_alert_comes_when_it_should_and_no_other(
    promtool: Promtool, series: str, values: str, minutes: int, alert: str
) -> None:
    about = '{collector="c"}' if series.startswith("collector") else '{site="clinic",box="b"}'
    given = [{"series": f"scanside_fleet_{series}{about}", "values": values}]
    if not series.startswith("collector"):
        given.append({"series": 'scanside_fleet_collector_silent_seconds{collector="c"}', "values": "1x1000"})
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []
    asked = {"expr": firing, "eval_time": f"{minutes}m", "exp_samples": samples}
    test = {"interval": "1m", "input_series": given, "promql_expr_test": [asked]}
    document = {"rule_files": [str(KIT / "alert_rules.yml")], "tests": [test]}
    promtool(["test", "rules"], document)


def _named(text: str) -> set[str]:
    return {name.removeprefix("scanside_fleet_") for name in re.findall(r"scanside_fleet_\w+", text)}


def test_rules_and_dashboard_ask_for_nothing_that_is_not_there(promtool: Promtool) -> None:
    exported = _named(_text()) | set(HELP)  # nothing is known of some measures of these two boxes
    dashboard = json.loads((KIT / "grafana_dashboard.json").read_text("utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert _named((KIT / "alert_rules.yml").read_text("utf-8")) <= exported
    assert _named(" ".join(asked)) <= exported
    shown = [{"record": f"shown:panel{n}", "expr": asked[n].replace("$site", ".*")} for n in range(len(asked))]
    promtool(["check", "rules"], {"groups": [{"name": "shown", "rules": shown}]})


def test_telegraf_asks_for_what_boxes_say() -> None:
    """No Telegraf is installed here: its file is TOML, its topic one of the contract, its paths are in a message."""
    config = tomllib.loads((KIT / "telegraf.conf").read_text("utf-8"))
    (consumer,) = config["inputs"]["mqtt_consumer"]
    assert consumer["qos"] == 1
    assert consumer["persistent_session"]
    topic, payload = addressed(health())
    (wanted,) = consumer["topics"]
    assert wanted == wanted.split("+")[0] + "+/+/" + "/".join(str(parse(topic)).split("/")[4:])
    said = json.loads(payload)
    for field in consumer["json_v2"][0]["field"]:
        value: Any = said
        for level in field["path"].split("."):
            value = value[level] if value is not None else None
