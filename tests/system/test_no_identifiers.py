"""Nothing that identifies a patient is readable outside (DESIGN rule 5): planted, sent, broken, searched for."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edge.records import Status
from edge.store import Store
from tests.identifiers import CHARACTER_SETS, find, word
from tests.system.leaks import Leaks, running
from tests.system.planting import Case, Damage, Door, ask_for, send

pytestmark = pytest.mark.system


CASES = st.builds(
    Case, st.sampled_from(Door), st.sampled_from(Damage), st.sampled_from(list(CHARACTER_SETS)), st.integers(0, 1 << 32)
)


@pytest.fixture(scope="module")
def box(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Iterator[Leaks]:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))  # that the box writes no core file is its own doing
    try:
        with running(program, tmp_path_factory.mktemp("leaks"), model_cache) as leaks:
            yield leaks
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_names_in_every_character_set(box: Leaks) -> None:
    for number, name in enumerate(CHARACTER_SETS):
        send(box, Case(list(Door)[number % len(Door)], Damage.NONE, name, number))
    assert box.search() == []


# What is found is found at once, and each example takes a second: shrinking would take minutes.
@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(CASES)
def test_whatever_comes_in_and_however_broken(box: Leaks, case: Case) -> None:
    send(box, case)
    assert box.search(box.planted[-1:]) == []


def test_what_people_type_and_programs_ask(box: Leaks) -> None:
    planted = word(Random(1))
    box.planted.append(planted)
    ask_for(box, planted)
    assert box.search() == []


def test_a_crash_leaves_no_memory_behind(box: Leaks) -> None:
    """What reads images dies of a signal that dumps core where that is allowed."""
    send(box, Case(Door.FOLDER, Damage.NONE, "ISO_IR 100", 4711))
    box.settle()
    box.crash_analyst()
    limits = [text for path in box.processes() if (text := _limits(path))]
    assert limits
    assert all(line.split()[4] == "0" for text in limits for line in text.splitlines() if "core file" in line)
    assert list(box.appliance.folder.rglob("core*")) == []
    assert box.search() == []


def _limits(process: Path) -> str:
    try:
        return (process / "limits").read_text(encoding="ascii")
    except OSError:  # it has ended
        return ""


def test_services_that_are_killed_and_come_back_say_nothing(box: Leaks) -> None:
    """SIGTERM to everything at the end: last words and files left behind are searched, too."""
    send(box, Case(Door.FOLDER, Damage.FLIPPED, "ISO_IR 192", 4712))
    before = {stored.result.status for stored in box.appliance.results()}
    assert len(before - {Status.NOT_ANALYSED}) > 0, "images were analysed, not only refused"
    assert any(box.planted[0].word in str(stored.subject) for stored in box.appliance.results()), "the box knows whose"
    box.settle()
    box.appliance.stop()
    assert box.search() == []


def test_the_search_would_have_found_it(box: Leaks) -> None:
    """What was planted is in the box: whoever has the key reads it, and finds it by the same search."""
    with closing(Store(box.appliance.settings.state_dir)) as store:
        kept = [store.read(stored.instance_id) for stored in store.results(limit=1000)]
    assert sum(bool(find(box.planted, data)) for data in kept) > len(CHARACTER_SETS)
