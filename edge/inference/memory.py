"""How much memory one image may take: the kernel refuses what is beyond, and the image is answered with that."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import cv2

_VM_DATA = re.compile(r"^VmData:\s+(\d+) kB$", re.MULTILINE)


def limit_memory(megabytes: int) -> None:
    """Let this process take so much more than it has now (RLIMIT_DATA, setrlimit(2)), and dump no core.

    The limit holds for what is written to (heap, private mappings, stacks), not for address space: engines reserve much
    of that and use little. It is what `VmData` in proc(5) counts. A core would be a copy of images on the disk.
    """
    found = _VM_DATA.search(Path("/proc/self/status").read_text(encoding="ascii"))
    if found is None:
        raise OSError("/proc/self/status says no VmData: is this Linux 4.7 or newer?")
    most = int(found[1]) * 1024 + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def ran_out(error: BaseException | None) -> bool:
    """Whether an error is, or comes from, memory that was refused."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem):
            return True
        error = error.__cause__ or error.__context__
    return False
