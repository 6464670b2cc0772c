"""The devices of the stand-in: how much memory each has, and which one a thread is on."""

from __future__ import annotations

import threading
import weakref

import numpy as np

from .ledger import LEDGER

GIB = 1 << 30


class OutOfMemoryError(MemoryError):
    """As ``cupy.cuda.memory.OutOfMemoryError``."""


class Device:
    """A device with ``total`` bytes; ``pool`` of them are RMM's, whether in use or not."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.clear()

    def clear(self) -> None:
        """As new: 139 GiB, nothing reserved by a pool or by anyone else; arrays from before lie elsewhere."""
        self.live = 0
        self.total = 139 * GIB
        self.pool = 0
        self.pool_limit: int | None = None
        self.others = 0

    def free(self) -> int:
        """What cudaMemGetInfo calls free: neither the pool's, nor in use beside it, nor another's."""
        return self.total - max(self.pool, self.live) - self.others

    def take(self, n_bytes: int) -> None:
        """Take memory: from the pool, which grows up to its limit, or from the device."""
        needed = self.live + n_bytes
        most = self.total - self.others
        if self.pool_limit is not None:
            most = min(most, self.pool_limit)
        if needed > most:
            msg = f"out of memory allocating {n_bytes:,} bytes: {self.live:,} are held, and {most:,} are the most"
            raise OutOfMemoryError(msg)
        if self.pool:
            self.pool = max(self.pool, needed)
        self.live = needed


DEVICES = (Device(0), Device(1))
_thread = threading.local()


def current() -> Device:
    """The device of this thread: the first one until it says otherwise, as in CUDA."""
    return DEVICES[getattr(_thread, "number", 0)]


def use(number: int) -> None:
    """Make it the device of this thread."""
    if not 0 <= number < len(DEVICES):
        msg = f"cudaErrorInvalidDevice: invalid device ordinal {number}"
        raise RuntimeError(msg)
    _thread.number = number


_held: dict[int, weakref.finalize] = {}
_life = [0]


def renew() -> None:
    """New devices and an empty ledger; what older arrays give back is not theirs."""
    _life[0] += 1
    LEDGER.live = 0
    for one in DEVICES:
        one.clear()


def own(array: np.ndarray) -> None:
    """Count the memory behind ``array`` for as long as it lives."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if root.nbytes == 0 or id(root) in _held:
        return
    device = current()
    device.take(root.nbytes)
    LEDGER.hold(root.nbytes)
    _held[id(root)] = weakref.finalize(root, _let_go, id(root), root.nbytes, device, _life[0])


def _let_go(key: int, n_bytes: int, device: Device, life: int) -> None:
    _held.pop(key, None)
    if life == _life[0]:
        device.live -= n_bytes
        LEDGER.hold(-n_bytes)
