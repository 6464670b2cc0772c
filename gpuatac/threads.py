"""How many CPU threads gpuatac uses: one number for Numba, the readers and BLAS."""

from __future__ import annotations

import os

from gpuatac import check

COUNTING_THREAD = "gpuatac-counting"  # name of the short-lived threads that count chromosome after chromosome
_state: dict[str, int] = {}


def available() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def get_threads() -> int:
    """Threads in use: what set_threads was given, or every core of the process."""
    return _state.get("n", available())


def set_threads(n: int) -> None:
    """Use ``n`` threads from now on, in Numba, in the readers and in BLAS.

    Examples
    --------
    >>> import gpuatac
    >>> gpuatac.set_threads(1)
    """
    n = check.integer("n_threads", n, 1)
    import numba
    from threadpoolctl import threadpool_limits

    _state["n"] = n
    numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]  # Numba sets it by name
    threadpool_limits(limits=n)
