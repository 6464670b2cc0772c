"""What was counted: crossings between host and device, kernels, remarks, and the bytes of each device."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

HERE = str(Path(__file__).parent)
#: Code whose lines are named: ours, not that of the libraries in between.
OURS = ("/gpuatac/", "/benchmarks/", "/tests/")


class StrictError(AssertionError):
    """What a GPU would do in silence and differently each time: an index out of range, a scatter of unlike values to one place."""


def where() -> str:
    """The line of our code that is running, such as "backend/gpu/reading/parsing.py:81"."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(HERE) or "/test_" in path[len(HERE) :]:
            for part in OURS:
                if part in path:
                    return f"{path.rsplit(part, 1)[1]}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


class Ledger:
    """Counts since the last ``reset``.

    A crossing is a time when the host waits for the device or hands data to it. Its kind begins with "D2H" (data to the host), "H2D"
    (data to the device) or "sync" (a library's own read of a few bytes, as CuPy's nonzero does to know a size).
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all counts; live bytes stay, the peak is what is live."""
        self.crossed: Counter[tuple[str, str]] = Counter()
        self.crossed_bytes: Counter[tuple[str, str]] = Counter()
        self.launches: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.remarks: Counter[tuple[str, str]] = Counter()
        self.live = getattr(self, "live", 0)
        self.peak, self.peak_at = self.live, ""

    def cross(self, kind: str, n_bytes: int = 0) -> None:
        """One crossing of that kind, at the line that caused it."""
        key = kind, where()
        self.crossed[key] += 1
        self.crossed_bytes[key] += int(n_bytes)

    def remark(self, what: str) -> None:
        """Something that CuPy does without a word and that costs, or that only seems to work."""
        self.remarks[what, where()] += 1

    def hold(self, n_bytes: int) -> None:
        """So many bytes of a device are taken (or, below 0, given back)."""
        self.live += n_bytes
        if self.live > self.peak:
            self.peak, self.peak_at = self.live, where()

    def pass_through(self, n_bytes: int) -> None:
        """Bytes that a library holds during a call, beside its result."""
        self.hold(n_bytes)
        self.live -= n_bytes

    def crossings(self, kind: str = "", at: str = "") -> int:
        """Crossings whose kind begins with ``kind``, at lines whose name holds ``at``."""
        return sum(n for (k, line), n in self.crossed.items() if k.startswith(kind) and at in line)

    def bytes(self, kind: str = "", at: str = "") -> int:
        """Bytes that these crossings moved."""
        return sum(n for (k, line), n in self.crossed_bytes.items() if k.startswith(kind) and at in line)

    def table(self, n: int = 40) -> str:
        """The lines that cross most often, for someone who looks for them."""
        return "\n".join(f"{count:>8} {kind:<22} {line}" for (kind, line), count in self.crossed.most_common(n))


LEDGER = Ledger()
