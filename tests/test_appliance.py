"""The supervisor with real child processes: restarts, back-off, stop, and its own violent end."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from edge.appliance import Standing, judge, next_restart
from edge.device.health import Health, State, read_health
from tests.running import ROOT, RunningProgram, is_alive, scanside
from tests.system.conftest import await_until

_RUN = (
    "import sys; from edge import events; from edge.appliance import run; from edge.config_file import parse;"
    "events.configure('appliance'); sys.exit(run(parse(sys.argv[1], 'test'), sys.argv[2:]))"
)
_STARTED = re.compile(r"service (\w+) started, process (\d+)")


class Appliance(RunningProgram):
    """A supervisor over tiny services."""

    def __init__(self, state_dir: Path, *, mqtt: bool = False, **does: str) -> None:
        self.state_dir = state_dir
        for service, wish in does.items():
            (state_dir / f"{service}.does").write_text(wish, encoding="ascii")
        settings = f"state_dir: {state_dir}\n" + ("mqtt: {host: localhost}\n" if mqtt else "")
        service_command = [sys.executable, str(ROOT / "tests" / "tiny_service.py"), str(state_dir)]
        super().__init__([sys.executable, "-c", _RUN, settings, *service_command], {"PYTHONPATH": str(ROOT)})

    def pids(self) -> dict[str, int]:
        """Each service's newest process."""
        return {match[1]: int(match[2]) for line in self.lines if (match := _STARTED.search(line))}

    def account(self) -> Health:
        """What the appliance says of itself."""
        return read_health(self.state_dir, time.time())["appliance"]

    def await_account(self, state: State, reason: str) -> None:
        """Until it says this."""
        await_until(
            lambda: (
                "appliance" in read_health(self.state_dir, time.time())
                and (self.account().state, self.account().reason) == (state, reason)
            ),
            f"{state}: {reason}",
        )


@pytest.mark.parametrize(
    ("failures", "lived", "then", "delay"),
    [
        (0, 0.0, 1, 1.0),
        (1, 0.0, 2, 2.0),
        (2, 59.9, 3, 4.0),
        (3, 1.0, 4, 5.0),
        (4, 1.0, 5, 5.0),
        (10_000, 0.0, 10_001, 5.0),
        (6, 60.0, 1, 1.0),
        (0, 1e9, 1, 1.0),
    ],
)
def test_back_off(failures: int, lived: float, then: int, delay: float) -> None:
    assert next_restart(failures, lived) == (then, delay)


_UP, _SLOW = Standing(True, True, 0), Standing(True, False, 0)


@pytest.mark.parametrize(
    ("standings", "state", "reason"),
    [
        ({"intake": _UP, "web": _UP}, State.UP, ""),
        ({"intake": _UP, "web": _SLOW}, State.STARTING, "waiting for web"),
        ({"intake": _SLOW, "web": _SLOW}, State.STARTING, "waiting for intake, web"),
        ({"intake": _UP, "sync": _SLOW}, State.UP, ""),
        (
            {"intake": _UP, "web": Standing(False, False, 3)},
            State.DEGRADED,
            "web ended 3 time(s) in a row: it waits for its restart",
        ),
        (
            {"intake": _SLOW, "web": Standing(True, True, 1)},
            State.DEGRADED,
            "web ended 1 time(s) in a row: it runs again",
        ),
        (
            {"intake": _UP, "sync": Standing(False, False, 1)},
            State.DEGRADED,
            "sync ended 1 time(s) in a row: it waits for its restart",
        ),
    ],
)
def test_how_the_appliance_stands(standings: dict[str, Standing], state: State, reason: str) -> None:
    assert judge(standings) == (state, reason)


def test_it_starts_all_says_when_they_are_ready_and_stops_all(tmp_path: Path) -> None:
    with Appliance(tmp_path) as appliance:
        appliance.wait_for("SC101")
        pids = appliance.pids()
        assert list(pids) == ["intake", "inference", "web"]
        appliance.await_account(State.UP, "")
        assert appliance.account().details == {"intake_restarts": 0, "inference_restarts": 0, "web_restarts": 0}
        assert appliance.stop() == 0
        await_until(lambda: not [pid for pid in pids.values() if is_alive(pid)], "the end of all services")
        assert (appliance.account().state, appliance.account().reason) == (State.DOWN, "stopped")
        assert len(appliance.found("SC104")) == len(appliance.found("SC106")) == 1
        assert not appliance.found("SC105")
        assert not appliance.found("SC103")


def test_sync_is_started_for_a_fleet_only_and_not_waited_for(tmp_path: Path) -> None:
    with Appliance(tmp_path, mqtt=True, sync="hesitate") as appliance:
        appliance.wait_for("SC101")
        assert list(appliance.pids()) == ["intake", "inference", "web", "sync"]
        assert appliance.stop(signal.SIGINT) == 0


def test_a_killed_service_comes_back_and_the_others_stay(tmp_path: Path) -> None:
    with Appliance(tmp_path) as appliance:
        appliance.wait_for("SC101")
        before = appliance.pids()
        os.kill(before["inference"], signal.SIGKILL)
        assert "service inference ended with exit status SIGKILL: restarting in 1.0 s" in appliance.wait_for("SC103")
        appliance.wait_for("SC102", count=4)
        after = appliance.pids()
        assert after["inference"] != before["inference"]
        assert {**after, "inference": before["inference"]} == before
        appliance.await_account(State.DEGRADED, "inference ended 1 time(s) in a row: it runs again")
        await_until(lambda: appliance.account().details["inference_restarts"] == 1, "the count of restarts")
        assert appliance.stop() == 0


def test_a_crash_loop_slows_down_and_is_seen(tmp_path: Path) -> None:
    with Appliance(tmp_path, web="die") as appliance:
        delays = [
            re.findall(r"exit status 3: restarting in ([\d.]+) s", appliance.wait_for("SC103", n)) for n in (1, 2, 3)
        ]
        assert delays == [["1.0"], ["2.0"], ["4.0"]]
        waits = re.compile(r"web ended \d+ time\(s\) in a row: it waits for its restart")
        await_until(lambda: waits.fullmatch(appliance.account().reason), "the account of it")
        assert appliance.account().state is State.DEGRADED
        (tmp_path / "web.does").unlink()
        appliance.wait_for("SC101")
        assert appliance.stop() == 0
        starts = 3 + len(appliance.found("SC103"))
        assert len(appliance.found("SC102")) == starts, "intake and inference were started once"


def test_a_service_that_is_not_up_is_waited_for_whatever_an_older_file_says(tmp_path: Path) -> None:
    (tmp_path / "health").mkdir()
    with Appliance(tmp_path) as earlier:
        earlier.wait_for("SC101")
        earlier.process.kill()
    assert read_health(tmp_path, time.time())["web"].state is State.UP, "the killed one's last word"
    (tmp_path / "health" / "appliance.json").unlink(missing_ok=True)  # the next one says it anew
    with Appliance(tmp_path, web="hesitate") as appliance:
        appliance.await_account(State.STARTING, "waiting for web")
        assert not appliance.found("SC101")
        assert appliance.stop() == 0


def test_a_service_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    with Appliance(tmp_path, web="stay") as appliance:
        appliance.wait_for("SC101")
        pids = appliance.pids()
        assert appliance.stop() == 0
        assert "service web did not stop within 4.0 s and was killed" in appliance.wait_for("SC105")
        assert len(appliance.found("SC105")) == 1
        await_until(lambda: not [pid for pid in pids.values() if is_alive(pid)], "the end of all services")


def test_services_die_with_a_killed_supervisor_and_a_new_one_starts_at_once(tmp_path: Path) -> None:
    with Appliance(tmp_path, web="stay") as appliance:
        appliance.wait_for("SC101")
        ends = [os.pidfd_open(pid) for pid in appliance.pids().values()]
        appliance.process.kill()
        for end in ends:
            select.select([end], [], [])  # readable when the process has ended (pidfd_open(2))
            os.close(end)
    with Appliance(tmp_path) as again:
        again.wait_for("SC101")
        assert again.stop() == 0


def test_what_a_dead_service_left_behind_is_ended_before_its_restart(tmp_path: Path) -> None:
    with Appliance(tmp_path, web="leave a worker behind") as appliance:
        appliance.wait_for("SC101")
        end = os.pidfd_open(int((tmp_path / "web.worker").read_text(encoding="ascii")))
        os.kill(appliance.pids()["web"], signal.SIGKILL)
        select.select([end], [], [])
        os.close(end)
        appliance.wait_for("SC102", count=4)
        assert appliance.stop() == 0


def test_a_signal_to_the_terminals_group_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    """Ctrl-C goes to the foreground process group: services are not in it, so that they stop in order."""
    with Appliance(tmp_path) as appliance:
        appliance.wait_for("SC101")
        groups = {os.getpgid(pid) for pid in appliance.pids().values()}
        assert groups == set(appliance.pids().values())
        assert appliance.stop(signal.SIGINT) == 0


def test_a_command_that_cannot_be_run_is_a_service_that_ended(tmp_path: Path) -> None:
    settings = f"state_dir: {tmp_path}\n"
    with RunningProgram([sys.executable, "-c", _RUN, settings, str(tmp_path / "nothing here")]) as appliance:
        appliance.wait_for("SC103", count=3)
        assert appliance.stop() == 0


def test_one_appliance_for_each_state_folder(tmp_path: Path) -> None:
    settings = tmp_path / "scanside.yaml"
    settings.write_text(f"state_dir: {tmp_path}\n", encoding="utf-8")
    with Appliance(tmp_path) as appliance:
        appliance.wait_for("SC101")
        with RunningProgram(scanside("run", "--config", str(settings))) as second:
            assert second.wait_for_end() == 1
        assert re.fullmatch(r"scanside: .+: appliance runs here already: .+\n", second.log)
        assert appliance.stop() == 0
