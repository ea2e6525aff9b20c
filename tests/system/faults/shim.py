"""A disk that fails, a clock that jumps or that nothing keeps, for a whole appliance: a library below it (`shim.c`)."""

from __future__ import annotations

import ctypes
import errno
import mmap
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EIO, ENOSPC, SHORT = errno.EIO, errno.ENOSPC, -1


class _Control(ctypes.Structure):
    """The control block, as in `shim.c`."""

    _fields_ = (
        ("clock_offset", ctypes.c_int64),
        ("error", ctypes.c_int32),
        ("one_in", ctypes.c_uint32),
        ("state", ctypes.c_uint32),
        ("struck", ctypes.c_uint32),
        ("largest_error", ctypes.c_int32),
    )


class Shim:
    """The library, compiled, and its control block. Does nothing until it is told to.

    Attributes:
        environment: With which a program and all that it starts get the library.
    """

    def __init__(self, folder: Path, compiler: str, strike_under: Path) -> None:
        """Compile it into `folder`. Raises `subprocess.CalledProcessError` when the compiler refuses."""
        library, block = folder / "shim.so", folder / "shim.control"
        source = Path(__file__).with_name("shim.c")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        block.write_bytes(bytes(ctypes.sizeof(_Control)))
        with block.open("r+b") as file:
            self._control = _Control.from_buffer(mmap.mmap(file.fileno(), 0))
        self.environment = {
            "LD_PRELOAD": str(library),
            "SCANSIDE_SHIM": str(block),
            "SCANSIDE_SHIM_FOLDER": str(strike_under.resolve()),
        }

    @property
    def struck(self) -> int:
        """How many calls have failed or were cut short since the start."""
        return int(self._control.struck)

    @property
    def clock_offset(self) -> int:
        """Seconds that the appliance's wall clock is ahead of ours; may be set at any time, to a negative one too."""
        return int(self._control.clock_offset)

    @clock_offset.setter
    def clock_offset(self, seconds: int) -> None:
        self._control.clock_offset = seconds

    def keep_clock(self, *, right: bool) -> None:
        """Have the kernel say that something keeps the wall clock right (to 1 ms), or that nothing does (16 s)."""
        self._control.largest_error = 1_000 if right else 16_000_000

    @contextmanager
    def failing_disk(self, error: int, one_in: int, seed: int) -> Iterator[None]:
        """While the context lasts, one of so many writes and flushes under the state folder fails with this errno.

        `SHORT` cuts writes short instead, which is no error and must be noticed all the same.
        """
        self._control.state, self._control.one_in = seed & 0xFFFFFFFF, one_in
        self._control.error = error
        try:
            yield
        finally:
            self._control.error = 0
