"""What `scanside doctor` says of the services; what it says of the machine, the models and the rest is tested there."""

from __future__ import annotations

from pathlib import Path

from edge.config_file import parse
from edge.device.checks import Check
from edge.device.health import HealthFile, State
from edge.doctor import look


def _checks(state: Path, more: str = "") -> dict[str, Check]:
    config = parse(f"state_dir: {state}\ninference: {{models: {state / 'none'}}}\nweb: {{port: 0}}\n{more}", "test")
    return {check.name: check for check in look(config)}


def test_an_end_that_nobody_had_asked_for_is_told(tmp_path: Path) -> None:
    HealthFile(tmp_path, "intake").report(State.UP)  # and then the power went
    HealthFile(tmp_path, "intake").report(State.UP)
    HealthFile(tmp_path, "web").report(State.UP)
    found = _checks(tmp_path)
    assert found["service intake"].well
    assert found["service intake"].said.startswith("up; runs since 20")
    assert found["service intake"].said.endswith("after 1 end(s) in a row that nobody had asked for")
    assert found["service web"] == Check("service web", True, "up")


def test_a_service_that_is_down_says_why(tmp_path: Path) -> None:
    HealthFile(tmp_path, "inference").report(State.DOWN, "no model passed its checks")
    said = "down no model passed its checks"
    assert _checks(tmp_path)["service inference"] == Check("service inference", False, said)


def test_keys_that_should_count_and_are_not_there_are_told(tmp_path: Path) -> None:
    updates, orders = tmp_path / "updates", tmp_path / "orders"
    updates.mkdir()
    (updates / "maker.pub").write_bytes(b"any")
    found = _checks(
        tmp_path, f"update_keys: {updates}\nmqtt: {{host: 127.0.0.1, tls: false, command_keys: {orders}}}\n"
    )
    assert found["update_keys"] == Check("update_keys", True, f"{updates}: 1 public key(s)")
    said = f"{orders}: no *.pub that can be read: put the public key there"
    assert found["mqtt.command_keys"] == Check("mqtt.command_keys", False, said)
    assert not {"update_keys", "mqtt.command_keys"} & set(_checks(tmp_path))
