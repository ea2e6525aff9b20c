"""Which engine serves a bundle: the configured one, or the faster of those that pass the self-test on this CPU.

Trials run in processes of their own: an engine that crashes costs its trial, and only the chosen one stays in memory.
The choice is kept until the bundle, the engines, the CPU or the number of threads change.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge.events import ENGINE_CHOSEN, ENGINE_REFUSED, emit
from edge.inference.bundle import SealedBundle, open_bundle
from edge.inference.engines import ENGINES, Engine, EngineError, open_engine
from edge.inference.self_test import Speed, self_test

_TRIAL_SECONDS = 120


class Serving(NamedTuple):
    """An engine that has passed the self-test, and how fast it was."""

    engine: Engine
    speed: Speed


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine did: its best pass in milliseconds, or why it is refused."""

    engine: str
    best_ms: float | None = None
    error: str | None = None


def serve_bundle(wanted: str, sealed: SealedBundle, threads: int, cache: Path, trusted_keys: Sequence[Path]) -> Serving:
    """Load the bundle on `wanted`, or for `auto` on the fastest engine; what is served has passed the self-test here.

    Raises:
        EngineError: No engine passes.
    """
    names = [wanted] if wanted != "auto" else _by_speed(sealed, threads, cache, trusted_keys)
    errors = []
    for name in names:
        try:
            engine = open_engine(name, sealed, threads, cache)
            return Serving(engine, self_test(engine, sealed))
        except EngineError as error:
            emit(ENGINE_REFUSED, engine=name, model=sealed.bundle.id, error=error)
            errors.append(str(error))
    raise EngineError("; ".join(errors) or f"no engine passed the self-test with model {sealed.bundle.id}")


def rank(trials: Sequence[Trial]) -> list[str]:
    """The engines that passed, fastest first."""
    passed = [(trial.best_ms, trial.engine) for trial in trials if trial.best_ms is not None]
    return [engine for _, engine in sorted(passed)]


def _by_speed(sealed: SealedBundle, threads: int, cache: Path, trusted_keys: Sequence[Path]) -> list[str]:
    kept, key = cache / "engine_choice.json", _key(sealed, threads)
    try:
        known: dict[str, list[str]] = msgspec.json.decode(kept.read_bytes(), type=dict[str, list[str]])
    except (OSError, msgspec.DecodeError):
        known = {}
    if key not in known:
        trials = [_trial(name, sealed, threads, cache, trusted_keys) for name in ENGINES]
        for trial in trials:
            if trial.error:
                emit(ENGINE_REFUSED, engine=trial.engine, model=sealed.bundle.id, error=trial.error)
        known[key] = rank(trials)
        figures = ", ".join(f"{trial.engine} {trial.best_ms:.2f} ms" for trial in trials if trial.best_ms)
        emit(ENGINE_CHOSEN, engine=(known[key] or ["none"])[0], figures=figures or "none passed")
        cache.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(known))
        temporary.replace(kept)
    return known[key]


def _trial(name: str, sealed: SealedBundle, threads: int, cache: Path, trusted_keys: Sequence[Path]) -> Trial:
    arguments = [name, str(sealed.folder), str(threads), str(cache), *map(str, trusted_keys)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge.inference.engine_choice", *arguments],
            capture_output=True,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
        return msgspec.json.decode(done.stdout, type=Trial)
    except subprocess.TimeoutExpired:
        return Trial(engine=name, error=f"{name}: its trial took more than {_TRIAL_SECONDS} s")
    except msgspec.DecodeError:
        return Trial(engine=name, error=f"{name}: its trial ended with status {done.returncode}")


def _key(sealed: SealedBundle, threads: int) -> str:
    versions = ",".join(f"{name}={_version(name)}" for name in ENGINES)
    return f"{sealed.digest} {versions} threads={threads} cpu={_cpu()}"


def _version(distribution: str) -> str:
    """As its folder's name says (PyPA, Recording installed projects): `importlib.metadata` would stay in memory."""
    folders = (found for place in sys.path for found in Path(place).glob(f"{distribution}-*.dist-info"))
    return next((folder.stem.partition("-")[2] for folder in folders), "absent")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags", "Features"))]
    return f"{platform.machine()} {hashlib.sha256(' '.join(named[:2]).encode()).hexdigest()[:12]}"


def main(arguments: Sequence[str]) -> int:
    """One trial, as a process: engine, bundle folder, threads, cache, trusted keys. Prints a `Trial` as JSON."""
    name, folder, threads, cache, *keys = arguments
    try:
        sealed = open_bundle(Path(folder), map(Path, keys))
        speed = self_test(open_engine(name, sealed, int(threads), Path(cache)), sealed)
        trial = Trial(engine=name, best_ms=speed.best_ms)
    except EngineError as error:
        trial = Trial(engine=name, error=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(trial))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
