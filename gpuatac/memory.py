"""How much memory gpuatac may use: one number that says when data stay on disk and how large a part is.

The limit steers: fragments are loaded chromosome by chromosome, spilled columns and matrices by parts, once the whole
would take more than a share of it. Nothing is refused because of it. It holds for the host; data on a GPU are steered by
``Backend.limit``, which is the same number where it was given and is less than the device has.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from gpuatac.errors import InputError

DEFAULT_SHARE = 0.7  # of what is available when the limit is first asked for
LEAST = 512 << 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_state: dict[str, int] = {}


def parse_size(text: str | float) -> int:
    """Bytes of "4G", "512M", "4.5 GB", "4GiB" or a number; K, M, G and T are powers of 1024."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([KMGT]?)(?:I?B)?\s*", str(text).upper())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < LEAST:
        msg = f"memory must be {LEAST >> 20}M or more, such as '4G' or '900M', got {text!r}; give such a size."
        raise InputError(msg)
    return size


def _read_number(path: str) -> int | None:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def available() -> int:
    """Bytes this process could still take: what the machine has free, or less where a container's limit is lower."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        info = Path("/proc/meminfo").read_text()
        free = int(info.split("MemAvailable:")[1].split()[0]) << 10
    except (OSError, IndexError):
        free //= 2
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        allowed = _read_number(limit)
        if allowed is not None:
            free = min(free, max(allowed - (_read_number(used) or 0), 0))
    return free


def get_memory() -> int:
    """The limit in bytes: what set_memory was given, or 70 % of what was available when it was first asked for.

    Examples
    --------
    >>> import gpuatac
    >>> gpuatac.set_memory("4G")
    >>> gpuatac.get_memory()
    4294967296
    >>> gpuatac.set_memory(None)
    """
    given = given_memory()
    if given is not None:
        return given
    if "limit" not in _state:
        _state["limit"] = max(int(available() * DEFAULT_SHARE), LEAST)
    return _state["limit"]


def given_memory() -> int | None:
    """The limit that set_memory was given, in bytes; None for the default.

    Examples
    --------
    >>> import gpuatac
    >>> from gpuatac.memory import given_memory
    >>> gpuatac.set_memory("4G")
    >>> given_memory() == 4 * 2**30
    True
    >>> gpuatac.set_memory(None)
    """
    return _state.get("given")


def set_memory(size: str | float | None) -> None:
    """Use at most about ``size`` of memory from now on ("4G", or bytes); None: the default again.

    On a GPU it is the limit of the host and that of the device, each by itself: columns, groups' ends and matrices of the
    device that would take more than their share of ``size`` go to the disk and come back to the device by parts. Without a
    limit of yours the device's is 80 % of its memory, or what its memory pool may grow to where that is less. What one step
    needs at once, such as the columns of the longest chromosome, is taken whatever the limit.

    Examples
    --------
    >>> import gpuatac
    >>> gpuatac.set_memory("4G")
    >>> gpuatac.set_memory(None)
    """
    _state.clear()
    if size is not None:
        _state["given"] = parse_size(size)


@cache
def _trim() -> Any:
    import ctypes

    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):  # not glibc
        return lambda _pad: 0


def give_back() -> None:
    """Hand freed memory back to the system, where the C library (glibc) and Arrow would keep it for themselves."""
    _trim()(0)
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()


def peak() -> int:
    """Peak resident memory of this process so far, in bytes."""
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
