"""Bytes of device memory that the main job takes, and the largest sample that a device holds: the table of kernels/README.md.

python tests/strict/largest.py prints it.
"""

from __future__ import annotations

from typing import NamedTuple

GIB = 1 << 30
USABLE = 0.9  # of a device: the maximum of the pool
RESIDENT = 0.8 / 5  # of a device: columns of fragments stay there up to this share of the limit, see io/fragments/collect.py
NNZ_PER_FRAGMENT = 1.24  # of 500 bp tiles, as measured here
MOST_NNZ = 2**31 - 1
SIZES = (8, 24, 80, 139)


class Bytes(NamedTuple):
    """What a step takes at its peak, with all that lies on the device: for each fragment or non-zero, and whatever the size."""

    unit: str
    each: float
    constant: float
    what: str


#: Measured on the stand-in between samples of 0.47 and 1.86 million fragments on hg38; ``test_budgets.py`` measures them again.
STEPS = {
    "import": Bytes("fragment", 16, 190e6, "columns; a block of 64 MB of text"),
    "qc": Bytes("fragment", 16, 0.6e6, "columns; counters"),
    "tiles": Bytes("non-zero", 28.8, 0, "columns, X; the keys of one chromosome"),
    "features": Bytes("non-zero", 28.7, 97e6, "columns, X; two values for each of 6 million tiles"),
    "doublets": Bytes("non-zero", 62.8, 72e6, "columns, X; X and X' in float64, simulated cells"),
    "spectral": Bytes("non-zero", 36.2, 70e6, "columns, X; X and X' in float64 of the tiles that were selected"),
}
#: Without room for float64 copies: X, the same in float32, and pieces of a bounded size; columns are on disk then.
NARROW_EACH, NARROW_CONSTANT = 16.0, 1.7e9


def largest_wide(gib: int) -> int:
    """Non-zeros of the largest sample whose products are of X and X' in float64: the fast way."""
    step = max(STEPS.values(), key=lambda s: s.each if s.unit == "non-zero" else 0)
    return min(int((USABLE * gib * GIB - step.constant) / step.each), MOST_NNZ)


def largest_narrow(gib: int) -> int:
    """Non-zeros of the largest sample whose X is on the device; of a larger one X is on disk and passes through by blocks."""
    return min(int((USABLE * gib * GIB - NARROW_CONSTANT) / NARROW_EACH), MOST_NNZ)


def table() -> str:
    """Both tables as Markdown."""
    lines = ["| Step | Bytes | for each | and | What they are |", "| --- | --- | --- | --- | --- |"]
    for name, step in STEPS.items():
        lines.append(f"| {name} | {step.each:g} | {step.unit} | {step.constant / 1e6:.0f} MB | {step.what} |")
    lines += ["", "| Device | Columns of fragments on it | Non-zeros, fast way | Non-zeros on it at all |", "| --- | --- | --- | --- |"]
    for gib in SIZES:
        fragments = RESIDENT * gib * GIB / 16
        wide, narrow = largest_wide(gib), largest_narrow(gib)
        lines.append(
            f"| {gib} GiB | {fragments / 1e6:,.0f} M fragments | {wide / 1e6:,.0f} M (about {wide / NNZ_PER_FRAGMENT / 1e6:,.0f} M "
            f"fragments) | {narrow / 1e6:,.0f} M |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
