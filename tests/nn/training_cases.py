"""Tracks in memory and the smallest models, to train on."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from gpuatac import Genome
from gpuatac.backend import get
from gpuatac.nn.contract import Denoised
from gpuatac.nn.denoising.networks.losses import published_loss

GENOME = Genome("toy", {"chr1": 20_000, "chr2": 9_000, "chr3": 7_003})
HALF_WIDTH = 10


class ArrayTracks:
    """A track source over arrays of cuts: {code: int (n_groups, size)}."""

    has_cuts, has_lengths, half_width = True, False, HALF_WIDTH

    def __init__(self, cuts, depth, bk=None):
        self.bk, self.genome, self.held = bk or get("cpu"), GENOME, cuts
        n = len(next(iter(cuts.values())))
        self.groups = [f"g{k}" for k in range(n)]
        self.depth = np.broadcast_to(np.asarray(depth, np.float64), n)
        self.codes = sorted(cuts)

    def coverage(self, code, start, stop):
        assert 0 <= start < stop <= GENOME.sizes[code]
        whole = [np.convolve(row, np.ones(2 * HALF_WIDTH + 1))[HALF_WIDTH:-HALF_WIDTH] for row in self.held[code]]
        return self.bk.asarray(np.array(whole, np.float32)[:, start:stop])

    def cuts(self, code, start, stop, *, bin_size=1, by_length=False):
        assert not by_length
        assert start >= 0
        assert start % bin_size == stop % bin_size == 0
        size = int(GENOME.sizes[code])
        out = np.pad(self.held[code][:, start : min(stop, size)], ((0, 0), (0, max(stop - size, 0))))
        return self.bk.asarray(out.reshape(len(out), 1, -1, bin_size).sum(-1).astype(np.float32))

    def empty(self, code, start, stop):
        covered = self.bk.to_host(self.coverage(code, start, stop)).any(axis=0)
        return cut_tracks_runs(~covered) + start


def cut_tracks_runs(mask):
    return np.flatnonzero(np.diff(mask, prepend=False, append=False)).reshape(-1, 2).astype(np.int64)


def toy_tracks(seed=0, deep=40.0, shallow=0.1):
    """(clean, noisy) sources: peaks every kilobase over a low background; the second half of chr1 after 15 kb is empty."""
    rng = np.random.default_rng(seed)
    clean, noisy = {}, {}
    for code, size in enumerate(GENOME.sizes.tolist()):
        at = np.arange(size)
        rate = 0.02 + sum(np.exp(-0.5 * ((at - c) / 40) ** 2) for c in range(500, size, 1000)) * rng.uniform(0.3, 1)
        if code == 0:
            rate[15_000:] = 0
        cuts = rng.poisson(rate * deep / 40)
        clean[code], noisy[code] = cuts[None], rng.binomial(cuts, shallow)[None]
    total = float(sum(c.sum() for c in clean.values()))
    return ArrayTracks(clean, total), ArrayTracks(noisy, total * shallow)


class _Tiny(nn.Module):
    kind, n_extra, bn = "tiny", 0, False

    def empty_output(self, depth):
        return Denoised(*(torch.zeros(len(depth), 1) for _ in range(2)))

    def loss(self, x, depth, batch, weights):
        signal, logit = self.outputs(x, depth)
        return published_loss(signal, logit, batch, weights)

    def predict(self, x, depth):
        signal, logit = self.outputs(x, depth)
        return Denoised(signal, torch.sigmoid(logit))


class TinyCoverage(_Tiny):
    """Two valid convolutions over coverage, with dropout."""

    inputs, bin_size, halo, align = "coverage", 1, 16, 8

    def __init__(self, dropout=0.0, n_extra=0):
        super().__init__()
        self.options, self.n_extra = {"dropout": dropout, "n_extra": n_extra}, n_extra
        self.first, self.last = nn.Conv1d(1 + n_extra, 4, 17), nn.Conv1d(4, 2, 17)
        self.dropout = nn.Dropout(dropout)

    def outputs(self, x, depth):
        out = self.last(self.dropout(torch.relu(self.first(x))))
        return torch.relu(out[:, 0]), out[:, 1]


class TinyCuts(_Tiny):
    """Convolutions over cuts in bins of 8 bp and the depth."""

    inputs, bin_size, halo, align = "cuts", 8, 64, 32

    def __init__(self):
        super().__init__()
        self.options = {}
        self.first, self.last = nn.Conv1d(2, 6, 9), nn.Conv1d(6, 2, 9)

    def outputs(self, x, depth):
        deep = torch.log(depth)[:, None, None].expand(-1, 1, x.shape[-1])
        out = self.last(torch.relu(self.first(torch.cat([x, deep], dim=1)))).repeat_interleave(8, dim=-1)
        return torch.relu(out[:, 0]), out[:, 1]
