"""What breaks the analyst costs one image, nothing more: with real crashes, hangs and hunger, in real processes."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import yaml

from edge.device.health import Health, State, read_health
from edge.inference.guard import ENDS_PER_ENGINE, READY_WITHIN, RESET_AFTER, Guard, ModelsError, judge
from edge.records import Arrival, Reason, StoredResult
from edge.store import Store
from tests.conftest import ROOT
from tests.inference.breaking import CRASH, GROW, HANG, image, stand_in
from tests.inference.bundles import Shelf
from tests.running import RunningProgram, is_alive, scanside
from tests.system.conftest import await_until
from tests.system.faults.shim import ENOSPC, Shim

MEGABYTES = 256
PLENTY, FEW = 60, 6
"""Seconds that an image may take: on a busy machine every good one does with few, and waits for those that hang."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    made = Shelf(tmp_path_factory.mktemp("shelf"))
    made.classifier("cxr-children")
    return made


class Box:
    """An inference service on a state folder of its own, whose codecs can be made to break."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self.state = folder / "state"
        self.store = Store(self.state)
        self.config = folder / "scanside.yaml"
        inference = {
            "models": str(shelf.config.models_folder),
            "trusted_keys": str(shelf.config.inference.trusted_keys),
        }
        limits = {"image_megabytes": MEGABYTES, "threads": 1, "engine": "onnxruntime"}
        self._settings = inference | limits
        self.limit(PLENTY)
        self.codecs = folder / "codecs"
        self.codecs.mkdir()
        self.environment = {"PYTHONPATH": os.pathsep.join((str(self.codecs), str(ROOT)))}

    def accept(self, *images: bytes) -> None:
        for data in images:
            self.store.accept(data, Arrival(source="folder", peer=""))

    def limit(self, seconds: int) -> None:
        """How long an image may take, from the next start on."""
        inference = self._settings | {"image_seconds": seconds}
        self.config.write_text(yaml.safe_dump({"state_dir": str(self.state), "inference": inference}))

    def start(self) -> RunningProgram:
        return RunningProgram(scanside("run", "inference", "--config", str(self.config)), self.environment)

    def results(self) -> list[StoredResult]:
        return self.store.changed_since(0)

    def attempts(self) -> int:
        """How often the service has claimed the image that it has claimed most often."""
        with closing(sqlite3.connect(self.state / "journal.sqlite")) as journal:
            return int(journal.execute("SELECT max(attempts) FROM instances").fetchone()[0])

    def await_pictures(self) -> None:
        """Until those of all answers are drawn, which is done after they are told."""
        await_until(lambda: not self.store.owed("preview"), "the pictures")

    def account(self) -> Health:
        return read_health(self.state, time.time())["inference"]


@pytest.fixture
def box(tmp_path: Path, shelf: Shelf) -> Iterator[Box]:
    made = Box(tmp_path, shelf)
    stand_in(made.codecs, "imagecodecs")
    yield made
    made.store.close()


def analyst_of(program: RunningProgram) -> int:
    """The process number that the last analyst was announced with."""
    found = re.search(r"process (\d+) ready", program.found("SC408")[-1])
    assert found
    return int(found[1])


def test_what_breaks_the_analyst_costs_one_image(box: Box) -> None:
    box.limit(FEW)
    box.accept(image(0), image(1, CRASH), image(2, HANG), image(3, GROW), image(4))
    with box.start() as program:
        program.wait_for("SC403", 5)
        box.await_pictures()
        status = Path(f"/proc/{analyst_of(program)}/status").read_text(encoding="ascii")
        assert program.stop() == 0
    assert [stored.result.reason for stored in box.results()] == [
        None, Reason.CRASHED, Reason.TOOK_TOO_LONG, Reason.TOO_LARGE, None,
    ]  # fmt: skip
    ended = [line.partition("(")[2].partition(")")[0] for line in program.found("SC409")]
    # The crash had a second try, because the first analyst had been asked before; the hang's was a new one.
    assert ended == ["SIGSEGV", "SIGSEGV", "SIGKILL"]
    assert (len(program.found("SC410")), len(program.found("SC411")), len(program.found("SC412"))) == (2, 1, 1)
    assert len(program.found("SC404")) == 0
    shown = [box.store.picture(stored.instance_id, "preview.jpg") is not None for stored in box.results()]
    assert shown == [True, False, False, False, True]
    assert not box.store.owed("preview")
    resident = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert resident
    assert int(resident[1]) // 1024 < MEGABYTES + 250  # an analyst at rest has about 150 MB


def test_what_earlier_images_left_behind_is_not_blamed_on_a_later_one(box: Box) -> None:
    """Asked for too much memory, an analyst that was asked before gives way to a new one: that one's word counts."""
    box.accept(image(0), image(1, GROW), image(2))
    with box.start() as program:
        program.wait_for("SC403", 3)
        assert program.stop() == 0
    assert [stored.result.reason for stored in box.results()] == [None, Reason.TOO_LARGE, None]
    assert (len(program.found("SC412")), len(program.found("SC408"))) == (2, 2)


def test_what_breaks_only_its_drawing_is_answered_and_has_no_picture(box: Box) -> None:
    """An image that is refused by its tags is decoded for the page alone."""
    with box.start() as program:
        program.wait_for("SC408")
        box.accept(image(0, CRASH, modality="CT"))
        program.wait_for("SC408", 2)
        box.accept(image(1))
        program.wait_for("SC403", 2)
        box.await_pictures()
        assert program.stop() == 0
    assert [stored.result.reason for stored in box.results()] == [Reason.UNSUPPORTED_MODALITY, None]
    shown = [box.store.picture(stored.instance_id, "preview.jpg") is not None for stored in box.results()]
    assert shown == [False, True]
    assert len(program.found("SC406")) == 1


def test_a_full_disk_costs_neither_the_service_nor_an_attempt(
    box: Box, program: Callable[[str], str], tmp_path: Path
) -> None:
    """The models stay loaded, an answer waits for its commit, and no image is parked for what was not its fault."""
    shim = Shim(tmp_path, program("cc"), box.state)
    box.environment |= shim.environment
    with box.start() as service:
        service.wait_for("SC408")
        with shim.failing_disk(ENOSPC, 3, seed=1):
            box.accept(*map(image, range(5)))
            service.wait_for("SC430")
            await_until(lambda: box.account().state is State.DEGRADED, "health says so")
        service.wait_for("SC403", 5)
        await_until(lambda: box.account().state is State.UP, "it is well again")
        assert service.stop() == 0
    assert [stored.result.reason for stored in box.results()] == [None] * 5
    assert box.attempts() == 1
    assert len(service.found("SC408")) == 1


def test_the_next_images_do_not_wait_for_the_second_try_of_one_that_hangs(box: Box) -> None:
    """Blamed it is only when it hangs again: what the analyst was asked about before may have been the cause."""
    box.limit(FEW)
    box.accept(image(0), image(1, HANG), image(2), image(3))
    with box.start() as program:
        program.wait_for("SC403", 4)
        assert program.stop() == 0
    assert [stored.result.reason for stored in box.results()] == [None, None, None, Reason.TOOK_TOO_LONG]
    assert (len(program.found("SC414")), len(program.found("SC411")), len(program.found("SC409"))) == (1, 1, 2)
    assert box.attempts() == 2


def test_an_analyst_that_hangs_before_its_first_word_is_given_up_and_replaced(
    box: Box, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a clock that passes the limit at once, as long as the first analyst hangs."""
    stall = Path(f"{stand_in(box.codecs, 'onnxruntime')}.stall")
    stall.touch()
    monkeypatch.setenv("PYTHONPATH", box.environment["PYTHONPATH"])
    inference = msgspec.structs.replace(shelf.config.inference, engine="onnxruntime")
    passed = 0.0

    def meanwhile() -> None:
        nonlocal passed
        if "SC415" in caplog.text:
            stall.unlink(missing_ok=True)
        elif guard.condition() == (State.STARTING, "loading the models"):
            passed += READY_WITHIN / 2

    with Guard(
        msgspec.structs.replace(shelf.config, inference=inference),
        box.state / "cache",
        service="test",
        meanwhile=meanwhile,
        clock=lambda: time.monotonic() + passed,
    ) as guard:
        guard.await_ready()
        assert guard.condition() == (State.DEGRADED, "the analysing process ended and runs again")
        assert [model.engine for model in guard.models] == ["onnxruntime"]
    assert [line.partition(" ")[0] for line in caplog.messages] == ["SC415", "SC409"]


def test_an_analyst_that_dies_at_rest_is_replaced_and_health_says_so(box: Box) -> None:
    with box.start() as program:
        program.wait_for("SC408")
        assert await_until(lambda: box.account().models, "the models are listed")[0].id == "cxr-children"
        os.kill(analyst_of(program), signal.SIGKILL)
        program.wait_for("SC408", 2)
        await_until(lambda: box.account().state is State.DEGRADED, "health says that one ended")
        box.accept(image(0))
        program.wait_for("SC403")
        await_until(lambda: box.account().state is State.UP, "an answer makes it well")
        assert program.stop() == 0
    assert [stored.result.reason for stored in box.results()] == [None]
    assert not program.found("SC410")


def test_an_analyst_that_cannot_start_is_waited_for_and_images_are_kept(box: Box) -> None:
    crash = Path(f"{stand_in(box.codecs, 'onnxruntime')}.crash")
    crash.touch()
    box.accept(image(0))
    with box.start() as program:
        program.wait_for("SC409", 2)
        account = await_until(
            lambda: box.account().state is State.DOWN and box.account(), "health says that it is down"
        )
        assert account.reason == "the analysing process ended 2 times in a row"
        assert (account.models, account.details["queue_depth"]) == ((), 1)
        crash.unlink()
        program.wait_for("SC403")
        assert program.stop() == 0
    assert [stored.result.reason for stored in box.results()] == [None]


def test_an_engine_that_crashes_again_and_again_is_replaced_by_the_other_one_until_the_next_start(box: Box) -> None:
    crash = Path(f"{stand_in(box.codecs, 'onnxruntime')}.crash")
    crash.touch()
    box.accept(image(0))
    with box.start() as program:
        program.wait_for("SC403")
        account = await_until(lambda: box.account().models and box.account(), "the models are listed")
        assert (account.state, account.models[0].engine) == (State.DEGRADED, "openvino")
        assert account.reason == "onnxruntime ended 3 times in a row: openvino serves instead"
        assert (len(program.found("SC409")), len(program.found("SC413"))) == (ENDS_PER_ENGINE, 1)
        assert program.stop() == 0
    crash.unlink()
    box.accept(image(1))
    with box.start() as program:
        program.wait_for("SC403")
        await_until(lambda: box.account().state is State.UP, "the wanted engine is back")
        assert program.stop() == 0
    used = [stored.result.model.engine for stored in box.results() if stored.result.model]
    assert used == ["openvino", "onnxruntime"]


def test_an_engine_that_hangs_in_its_work_is_replaced_too(box: Box) -> None:
    """Its first images are given up, one after the other, as if each of them were to blame."""
    box.limit(FEW)
    hang = Path(f"{stand_in(box.codecs, 'onnxruntime')}.hang")
    with box.start() as program:
        program.wait_for("SC408")
        hang.touch()
        box.accept(*map(image, range(4)))
        program.wait_for("SC403", 4)
        assert program.stop() == 0
    assert len(program.found("SC413")) == 1
    assert [stored.result.reason for stored in box.results()] == [Reason.TOOK_TOO_LONG] * ENDS_PER_ENGINE + [None]
    assert box.results()[-1].result.model.engine == "openvino"  # type: ignore[union-attr]


def test_an_image_in_whose_middle_the_service_dies_three_times_is_parked_with_its_reason(box: Box) -> None:
    box.accept(image(0, HANG), image(1))
    for attempt in (1, 2, 3):
        with box.start() as program:
            await_until(lambda: box.attempts() == attempt, "the image is in work")  # noqa: B023 - asked at once
            assert program.stop(signal.SIGKILL) == -signal.SIGKILL
    box.limit(FEW)  # it is drawn, or is to be: that hangs, too
    with box.start() as program:
        program.wait_for("SC403", 2)
        assert program.stop() == 0
    assert len(program.found("SC405")) == 1
    assert [stored.result.reason for stored in box.results()] == [Reason.PROCESSING_FAILED, None]


def test_the_analyst_ends_with_its_service_however_that_ends(box: Box) -> None:
    box.accept(image(0, HANG))
    with box.start() as program:
        program.wait_for("SC408")
        await_until(lambda: box.attempts() == 1, "the image is in work")
        analyst = analyst_of(program)
        assert program.stop(signal.SIGKILL) == -signal.SIGKILL
        await_until(lambda: not is_alive(analyst), "the analyst is gone")
    assert not box.results()
    with box.start() as program:
        program.wait_for("SC408")
        await_until(lambda: box.attempts() == 2, "the image is in work again")
        analyst = analyst_of(program)
        assert program.stop(signal.SIGTERM) == 0
        assert not is_alive(analyst)
    box.limit(FEW)
    with box.start() as program:
        program.wait_for("SC403")
        assert program.stop() == 0
    assert [stored.result.reason for stored in box.results()] == [Reason.TOOK_TOO_LONG]


def test_the_service_itself_holds_nothing_that_reads_images(box: Box) -> None:
    box.accept(image(0))
    with box.start() as program:
        program.wait_for("SC403")
        own, analysts = (
            Path(f"/proc/{pid}/maps").read_text(encoding="utf-8") for pid in (program.process.pid, analyst_of(program))
        )
    heavy = ("openvino", "onnxruntime", "cv2", "numpy", "imagecodecs", "pydicom")
    assert [name for name in heavy if name in own] == []
    assert "onnxruntime" in analysts
    code = (
        "import sys; import edge.inference.service;"
        f"sys.exit(str([name for name in {heavy!r} if name in sys.modules] or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_models_that_cannot_be_served_end_the_service_with_one_line(box: Box, shelf: Shelf) -> None:
    nowhere = msgspec.structs.replace(shelf.config.inference, models=box.state)
    config = msgspec.structs.replace(shelf.config, inference=nowhere)
    with (
        Guard(config, box.state / "cache", service="test") as guard,
        pytest.raises(ModelsError, match="no bundle looks for findings"),
    ):
        guard.await_ready()
    text = box.config.read_text().replace(str(shelf.config.models_folder), str(box.state))
    box.config.write_text(text)
    with box.start() as program:
        program.wait_for("SC407")
        assert program.wait_for_end() == 1
    assert (box.account().state, box.account().reason) == (State.DOWN, "no model passed its checks")


def test_a_run_over_files_goes_on_after_a_crash(box: Box, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.dcm" for number in range(3)]
    for number, (path, mark) in enumerate(zip(paths, ("", CRASH, ""), strict=True)):
        path.write_bytes(image(number, mark))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(box.codecs), str(ROOT)))}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    command = scanside("analyze", *map(str, paths), "--json", "--config", str(box.config))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [msgspec.json.decode(line)["reason"] for line in done.stdout.splitlines()] == [None, "crashed", None]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("ready", "failures", "lived", "state", "said"),
    [
        (False, 0, 0.0, State.STARTING, "loading the models"),
        (True, 0, 1.0, State.UP, ""),
        (False, 1, 0.5, State.STARTING, "the analysing process ended"),
        (True, 1, 1.0, State.DEGRADED, "the analysing process ended and runs again"),
        (False, 3, 0.0, State.DOWN, "the analysing process ended 3 times in a row"),
        (True, 3, 59.0, State.DEGRADED, "the analysing process ended 3 times in a row and runs again"),
        (True, 3, RESET_AFTER, State.UP, ""),
        (False, 3, RESET_AFTER, State.DOWN, "the analysing process ended 3 times in a row"),
    ],
)
def test_judge(ready: bool, failures: int, lived: float, state: State, said: str) -> None:
    assert judge(ready=ready, failures=failures, lived=lived) == (state, said)


@pytest.mark.parametrize(
    ("ready", "failures", "state", "said"),
    [
        (True, 0, State.DEGRADED, "a serves for b"),
        (True, 3, State.DEGRADED, "a serves for b"),
        (False, 0, State.STARTING, "loading the models"),
        (False, 3, State.DOWN, "the analysing process ended 3 times in a row"),
    ],
)
def test_judge_with_another_engine_than_the_wanted_one(ready: bool, failures: int, state: State, said: str) -> None:
    assert judge(ready=ready, failures=failures, lived=RESET_AFTER, replaced="a serves for b") == (state, said)
