"""Killed at any instant, out of room, all at once: nothing that was accepted is lost, nothing is answered twice."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread

import msgspec

from edge.records import Instance, Subject
from edge.store import Outbox, Store
from edge.store.adoption import Swept
from edge.store.lifetime import Moment
from tests.running import ROOT, with_tmpfs
from tests.store.samples import arrival, claimed, flagged, spooled, summary

ROUNDS = 50
NOTHING = Swept(0, 0, 0, 0)


def test_a_killed_writer_loses_nothing_that_it_accepted(tmp_path: Path) -> None:
    """Three threads accept and report what was accepted, until SIGKILL at a random moment; again and again."""
    randomness = random.Random(1)
    promised: dict[str, str] = {}
    for number in range(ROUNDS):
        lines = _killed_at_some_moment(lambda report, n=number: _accept_for_ever(tmp_path, n, report), randomness)  # type: ignore[misc]
        promised |= dict(line.split() for line in lines)
        store = Store(tmp_path)
        store.sweep()
        for instance_id, digest in promised.items():
            assert hashlib.sha256(store.read(instance_id)).hexdigest() == digest
        assert store.queue().depth == len(spooled(tmp_path)) >= len(promised)
        store.close()
    assert len(promised) > ROUNDS


def test_a_killed_worker_answers_nothing_twice_and_loses_no_debt(tmp_path: Path) -> None:
    randomness = random.Random(2)
    committed: set[str] = set()
    for _ in range(ROUNDS):
        lines = _killed_at_some_moment(lambda report: _answer_for_ever(tmp_path, report), randomness)
        assert not committed & set(lines), "answered twice"
        committed |= set(lines)
    store = Store(tmp_path)
    store.sweep()
    store.recover()
    while instance := store.claim():
        store.commit(instance, flagged(), Subject(), summary=summary)
    results = store.results(limit=1_000_000)
    answers = {result.id for result in results}
    assert committed <= answers
    assert len(committed) >= ROUNDS
    assert {result.instance_id for result in results} == spooled(tmp_path)
    assert len(results) == len(answers) == len(spooled(tmp_path))
    assert {debt.result_id for debt in store.owed("summary", limit=1_000_000)} == answers
    store.close()


def test_the_same_object_from_many_senders_at_once_is_one_instance(tmp_path: Path) -> None:
    store = Store(tmp_path)
    together = Barrier(8)

    def accept(number: int) -> bool:
        together.wait()
        return all(store.accept(bytes([number % 2, image]) * 10_000, arrival(f"1.{image}")).new for image in range(20))

    with ThreadPoolExecutor(8) as senders:
        list(senders.map(accept, range(8)))
    assert store.queue().depth == len(spooled(tmp_path)) == 40
    assert store.sweep() == NOTHING
    store.close()


def test_two_processes_accept_the_same_object_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge.store import Store; from tests.store.samples import arrival;"
        "store = Store(Path(sys.argv[1]));"
        "print(sum(store.accept(b'%d' % n, arrival(f'1.{n}')).new for n in range(100)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)]
    new = [int(process.communicate()[0]) for process in processes]
    assert sum(new) == 100
    store = Store(tmp_path)
    assert store.queue().depth == len(spooled(tmp_path)) == 100
    store.close()


def test_the_first_start_of_all_services_at_once_makes_one_store(tmp_path: Path) -> None:
    for number in range(10):
        folder = tmp_path / str(number)
        children = [forked(lambda _report, folder=folder: _open_both(folder)) for _ in range(4)]  # type: ignore[misc]
        assert [os.waitpid(child, 0)[1] for child, _ in children] == [0] * 4
        for _, reports in children:
            os.close(reports)


def test_a_sweep_waits_for_what_another_service_is_just_accepting(tmp_path: Path) -> None:
    """Intake sweeps at its start while the page takes an upload whose file is there and its journal row not yet."""
    web, intake = Store(tmp_path), Store(tmp_path)
    swept: list[Swept] = []
    sweeping = Thread(target=lambda: swept.append(intake.sweep()))
    insert = web._insert

    def insert_during_a_sweep(instance: Instance, received: Moment) -> str | None:
        sweeping.start()
        sweeping.join(0.3)
        assert sweeping.is_alive()
        return insert(instance, received)

    web._insert = insert_during_a_sweep  # type: ignore[method-assign]
    accepted = web.accept(b"image", arrival()).instance
    sweeping.join()
    assert swept == [NOTHING]
    assert intake.read(accepted.id) == b"image"
    web.close()
    intake.close()


def test_no_room_for_the_file_or_the_journal_is_storage_full_and_passes(tmp_path: Path) -> None:
    """Every amount of room from none to a few pages, on a real file system: accepted wholly, or not at all."""
    script = ROOT / "tests" / "store" / "full_disk.py"
    state = tmp_path / "state"
    state.mkdir()
    command = [*with_tmpfs(state, megabytes=4), sys.executable, str(script), str(state)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    said = msgspec.json.decode(done.stdout)
    assert said["refused"] > 0
    assert said["accepted"] > 0
    assert said["commits_refused"] > 0


def _accept_for_ever(folder: Path, number: int, report: Callable[[str], None]) -> None:
    store = Store(folder)

    def accept(thread: int) -> None:
        for image in range(1_000_000):
            data = f"{number} {thread} {image} ".encode() * 3000
            instance = store.accept(data, arrival(f"1.{number}.{thread}.{image}")).instance
            report(f"{instance.id} {hashlib.sha256(data).hexdigest()}")

    threads = [Thread(target=accept, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _answer_for_ever(folder: Path, report: Callable[[str], None]) -> None:
    store = Store(folder)
    store.recover()
    while True:
        store.accept(os.urandom(16), arrival())
        report(store.commit(claimed(store), flagged(), Subject(), summary=summary).id)


def _open_both(folder: Path) -> None:
    Store(folder).accept(b"image", arrival("1.2.3"))
    Outbox(folder).put([("id", "summary", b"{}")])


def _killed_at_some_moment(work: Callable[[Callable[[str], None]], None], randomness: random.Random) -> list[str]:
    """Let a child work, kill it a random while after its first report, and give its reports."""
    child, reports = forked(work)
    with os.fdopen(reports, "rb") as pipe:
        first = pipe.readline()
        time.sleep(randomness.uniform(0, 0.03))  # the random moment is what is tested
        os.kill(child, signal.SIGKILL)
        rest = pipe.read()
    os.waitpid(child, 0)
    assert first, "the child died by itself"
    return [line.decode() for line in (first + rest).split(b"\n")[:-1]]


def forked(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """A child that does the work and reports lines into a pipe: its process id and the pipe's reading end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 1
    try:
        work(lambda line: _write_line(writing, line))
        status = 0
    finally:
        os._exit(status)


def end_of(work: Callable[[Callable[[str], None]], None]) -> int:
    """How a child ends that does the work and has nothing to report, as waitpid(2) says it."""
    child, reports = forked(work)
    os.close(reports)
    return os.waitpid(child, 0)[1]


def _write_line(descriptor: int, line: str) -> None:
    os.write(descriptor, f"{line}\n".encode())
