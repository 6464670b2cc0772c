"""What a backend does with count matrices beside linear algebra: columns taken, sums by group, regressions by column.

Conventions as in ``protocol``. ``blocks`` are those of ``core.rows.row_blocks``: consecutive rows of one matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gpuatac.backend.protocol.arrays import Csr


class Matrices(Protocol):
    """Counts by column and by group."""

    def take_columns(self, counts: Csr, source: Any, *, n_columns: int) -> Csr:
        """Column j of the result is column ``source[j]`` (int32, repeats allowed) of the ``n_columns`` of ``counts``.

        The arrays of ``counts`` may be overwritten by the result.
        """
        ...

    def group_sums(self, blocks: Iterable[Any], group: Any, *, shape: tuple[int, int]) -> tuple[Any, Any]:
        """Sums of the rows of each group, float64, and how many of their values are not zero, int64, each of ``shape``.

        ``shape`` is (n_groups, n_columns); ``group``: host int32 (n_rows,), -1 to leave a row out. Sums are exact for counts.
        """
        ...

    def columns(self, blocks: Callable[[], Iterable[Any]], row: Any, column: Any) -> Csr:
        """The columns with ``column`` >= 0 (host int32: their new number) of the rows with ``row`` >= 0 (likewise), transposed.

        ``blocks`` is called once or twice. Zeros are left out; the entries of a column stand in the order of its rows.
        """
        ...

    def logistic_fits(self, design: Any, trials: Any, successes: Csr, start: Any) -> tuple[Any, Any]:
        """float64 (n,) and (n, k): greatest log-likelihood for each row of ``successes``, and where it is reached.

        l(b) = sum_i s_i z_i b - t_i ln(1 + exp(z_i b)), with ``design`` Z (m, k) and ``trials`` t (m,) in float64, and s_i
        how often i stands in the row of ``successes`` (repeats allowed, data unused). ``start``: float64 (n, k).
        Newton steps, halved where l falls, until l is within 1e-8 of its supremum. Where ``design`` separates, b grows without
        bound while l converges.
        """
        ...
