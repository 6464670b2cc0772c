"""Runs the cases on a library built with AddressSanitizer: ``python -m kernels.sanitized LIBRARY``.

At the end it reads one element past an array on purpose, so that a build that checks nothing does not pass
for clean.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from .cases import CASES, run
from .cpu_run import CpuLauncher, CpuRunBackend


def main() -> None:
    library = Path(sys.argv[1])
    n = 0
    for order in (0, 1, 7):
        bk = CpuRunBackend(CpuLauncher(library, order=order))
        for case in CASES:
            # forward order sees every case, the others the smaller half
            if order == 0 or "random" not in case.name:
                run(bk, case)
                n += 1
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        launcher = CpuLauncher(library)
        launcher("row_sums", 5_000, np.zeros(4_000, np.int32), None, 5_000, np.zeros(1, np.int64))
        os._exit(0)
    caught = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    assert caught, "an access past the end went unseen"
    print(f"{n} runs clean")


if __name__ == "__main__":
    main()
