"""The steps of a build, each kept under the hash of what goes into it: a second build does only what changed."""

import functools
import hashlib
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

Report = Callable[[str], None]


class Steps:
    """Finished steps in a cache folder, which may be deleted at any time."""

    def __init__(self, cache: Path, report: Report) -> None:
        self._cache, self._report = cache, report

    def folder(self, name: str, inputs: object, make: Callable[[Path], None]) -> Path:
        """The folder with what ``make`` wrote for these inputs; made once, and never half.

        Args:
            name: What the step is called, for people.
            inputs: Everything that decides the outcome, as plain values or records: recipe parts, keys of other steps,
                digests of files. The code of the export stage and of the device always counts among them.
            make: Fills the folder that it is given.
        """
        final = self._cache / f"{name}-{key_of((inputs, code()))}"
        if final.exists():
            self._report(f"{name}: done before, kept in {final}")
            return final
        started = time.monotonic()
        self._report(f"{name}: begins")
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=self._cache) as temporary:
            staged = Path(temporary) / "step"
            staged.mkdir()
            make(staged)
            staged.rename(final)
        self._report(f"{name}: done after {time.monotonic() - started:.0f} s")
        return final


def key_of(inputs: object) -> str:
    """Hex name of some inputs."""
    return hashlib.sha256(msgspec.json.encode(inputs)).hexdigest()[:16]


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def code() -> str:
    """SHA-256 over the sources of the export stage and of the device's imaging and inference, in hex."""
    root = Path(__file__).parents[1]
    folders = (root / "export", root / "edge" / "imaging", root / "edge" / "inference")
    sources = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return hashlib.sha256("".join(digest(path) for path in sources).encode()).hexdigest()


def cpu() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
