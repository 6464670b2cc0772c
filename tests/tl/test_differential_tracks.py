"""tl.differential_tracks with a network that is a box: against one track after another in NumPy, planted truth, errors."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, norm

import gpuatac as ga
from gpuatac.errors import InputError

torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (gpuatac[nn])")

from gpuatac.nn.checkpoints import make_model  # noqa: E402
from gpuatac.nn.contract import ModelCard  # noqa: E402

SIZES = {"chr1": 40_000, "chr2": 15_000}
SHARED, OWN = np.arange(3000, 39_000, 6000), (8000, 20_000)  # sites of all cells; of the first type, on chr1
REGIONS = ["chr1:1000-25000", "chr1:25000-30000", "chr2:200-9000"]
FIELD = 101


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    found = []
    for cell in range(60):
        sites = [("chr1", s) for s in SHARED] + [("chr2", 4000)]
        if cell < 20:
            sites += [("chr1", s) for s in OWN] * 3
        for chrom, site in [sites[i] for i in rng.integers(0, len(sites), 60)]:
            start = int(np.clip(site + rng.normal(0, 60), 0, SIZES[chrom] - 200))
            found.append((chrom, start, start + int(rng.integers(30, 190)), cell))
        for _ in range(25):
            start = int(rng.integers(0, 14_000))
            found.append((rng.choice(["chr1", "chr2"]), start, start + 120, cell))
    return sorted(found)


@pytest.fixture(scope="module")
def made(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("diff") / "f.tsv"
    path.write_text("".join(f"{c}\t{s}\t{e}\tC{k:02d}\t1\n" for c, s, e, k in rows))
    adata = ga.pp.import_fragments(path, ga.Genome("toy", SIZES), min_num_fragments=0, device="cpu")
    number = adata.obs_names.str[1:].astype(int).to_numpy()
    rng = np.random.default_rng(0)
    adata.obsm["X_pca"] = np.where(number < 20, 4.0, 0.0)[:, None] + rng.normal(size=(60, 3))
    return adata


@pytest.fixture
def adata(made):
    return made.copy()


@pytest.fixture(scope="module")
def model():
    box = make_model("linear", field=FIELD)
    with torch.no_grad():
        box.conv_layer.weight.fill_(1 / FIELD)
        box.conv_layer.bias.zero_()
    return box, ModelCard()


OPTIONS = {"n_random": 25, "n_neighbors": 12, "use_rep": "X_pca", "regions": REGIONS, "seed": 4}


def track(rows, names, members):
    """The box over the coverage of some cells, over the regions end to end."""
    cells = [int(names[row][1:]) for row in members]
    parts = {}
    for chrom, size in SIZES.items():
        out = np.zeros(size + 400)
        for c, start, end, cell in rows:
            if c == chrom and cell in cells:
                for cut in (start, end - 1):
                    out[max(0, cut - 100) : cut + 101] += 1
        parts[chrom] = np.convolve(out[:size], np.full(FIELD, 1 / FIELD), "same")
    return np.concatenate([parts["chr1"][1000:30_000], parts["chr2"][200:9000]])


def by_hand(adata, rows, samples, cutoff=2.0, max_gap=200):
    drawn = ga.tl.random_aggregates(adata, 25, n_neighbors=12, use_rep="X_pca", seed=4)
    random = np.stack([track(rows, adata.obs_names, members) for members in drawn.values()])
    level = random.sum(axis=1).mean() / random.shape[1]
    random /= random.mean(axis=1, keepdims=True)
    mean, sd = random.mean(axis=0), random.std(axis=0, ddof=1)
    chrom = np.repeat(["chr1", "chr2"], [29_000, 8800])
    position = np.concatenate([np.arange(1000, 30_000), np.arange(200, 9000)])
    out = []
    for name, members in samples.items():
        own = track(rows, adata.obs_names, members)
        own /= own.mean()
        z = np.where(sd > 1e-6 * mean, (own - mean) / np.where(sd > 0, sd, 1), 0)
        regions = []
        for at in np.flatnonzero(np.abs(z) > cutoff):
            if (
                regions
                and chrom[at] == chrom[regions[-1][1]]
                and position[at] - position[regions[-1][1]] - 1 <= max_gap
            ):
                regions[-1][1] = at
            else:
                regions.append([at, at])
        for a, b in regions:
            best = a + np.abs(z[a : b + 1]).argmax()
            coverage = [values[a : b + 1].mean() * level for values in (own, mean)]
            out.append((name, chrom[a], position[a], position[b] + 1, z[best], *coverage, position[best]))
    names = ["sample", "chrom", "start", "end", "z", "coverage", "background", "summit"]
    frame = pd.DataFrame(out, columns=names)
    frame["p"] = 2 * norm.sf(frame["z"].abs())
    frame["q"] = frame.groupby("sample")["p"].transform(false_discovery_control)
    return frame, level


def test_regions_are_those_of_one_track_after_another(adata, model, rows, monkeypatch):
    samples = ga.tl.neighbor_aggregates(adata, ["C03", "C40"], n_neighbors=12, use_rep="X_pca")
    want, level = by_hand(adata, rows, samples)
    for at_once in (64, 7):
        monkeypatch.setattr("gpuatac.tl._track_differences.MOST_AT_ONCE", at_once)
        found = ga.tl.differential_tracks(adata, samples, model=model, fdr=1.0, min_coverage=0, **OPTIONS)
        kept = want[want["q"] < 1].reset_index(drop=True)
        assert len(kept) > 5
        assert list(found) == ["sample", "chrom", "start", "end", "z", "p", "q", "coverage", "background", "summit"]
        exact = ["sample", "chrom", "start", "end"]
        pd.testing.assert_frame_equal(
            found[exact].astype({"sample": str, "chrom": str}), kept[exact], check_dtype=False
        )
        np.testing.assert_allclose(
            found[["z", "coverage", "background"]], kept[["z", "coverage", "background"]], rtol=2e-3
        )
        np.testing.assert_allclose(found["q"], kept["q"], rtol=0.05)
    strict = ga.tl.differential_tracks(adata, samples, model=model, min_coverage=1.5, **OPTIONS)
    reach = want[["coverage", "background"]].max(axis=1)
    assert len(strict) == ((want["q"] < 0.05) & (reach >= 1.5 * level)).sum()
    scaled = ga.tl.differential_tracks(adata, samples, model=model, min_coverage=1.5, total=2.5e9, **OPTIONS)
    np.testing.assert_array_equal(scaled["z"], strict["z"])
    np.testing.assert_allclose(scaled["coverage"] / strict["coverage"], 2.5e9 / 37_800 / level, rtol=1e-3)
    assert ga.pp.history(adata)[-1]["verb"] == "tl.differential_tracks"


def test_planted_sites_are_found_in_their_type_with_their_sign(adata, model):
    adata.obsm["X_mixed"] = np.random.default_rng(2).normal(size=(60, 3))  # random aggregates are of both types
    samples = {"own": [f"C{i:02d}" for i in range(12)], "other": np.flatnonzero(adata.obs_names >= "C45")[:12]}
    options = {**OPTIONS, "n_random": 1000, "use_rep": "X_mixed", "cutoff": 1.2, "fdr": 1.0, "min_coverage": 0}
    found = ga.tl.differential_tracks(adata, samples, model=model, **options)
    for site in OWN:
        here = found[(found["chrom"] == "chr1") & (found["start"] < site + 100) & (found["end"] > site)]
        assert (here[here["sample"] == "own"]["z"] > 0).all()
        assert (here[here["sample"] == "other"]["z"] < 0).all()
        assert set(here["sample"]) == {"own", "other"}
    assert set(found["sample"].cat.categories) == {"own", "other"}


def test_held_out_aggregates_tell_what_chance_makes(adata, model):
    adata.obsm["X_mixed"] = np.random.default_rng(2).normal(size=(60, 3))  # aggregates of both types
    samples = {"own": [f"C{i:02d}" for i in range(12)], "mixed": np.arange(1, 60, 5)}
    options = {**OPTIONS, "min_coverage": 0, "use_rep": "X_mixed", "n_random": 35}
    published = ga.tl.differential_tracks(adata, samples, model=model, **options)
    assert (published["q"] < 0.05).all()  # by the rule itself
    assert set(published["sample"]) == {"own", "mixed"}
    found = ga.tl.differential_tracks(adata, samples, model=model, n_held_out=20, **options)
    assert list(found) == [*published.columns, "empirical_q"]
    assert (found["empirical_q"] < 0.05).all()
    assert set(found["sample"]) == {"own"}
    for site in OWN:
        assert ((found["start"] < site) & (found["end"] > site) & (found["z"] > 2)).sum() == 1
    assert len(found) < (published["sample"] == "own").sum()


def test_genes_name_the_regions_and_nothing_else_is_compared(adata, model, caplog):
    genes = pd.DataFrame(
        {
            "chrom": ["chr1", "chr1", "chr2"], "start": [8000, 20_000, 100], "end": [9000, 26_000, 900],
            "strand": ["+", "-", "+"], "transcript_id": ["t1", "t2", "t3"], "gene_id": ["g1", "g2", "g3"],
            "gene_name": ["GATA1", "MYB", "SPI1"],
        }
    )  # fmt: skip
    samples = {"s": np.arange(12)}
    options = {**OPTIONS, "regions": None, "genes": genes, "flank": 1500, "cutoff": 0.5, "fdr": 1.0, "min_coverage": 0}
    with caplog.at_level(logging.WARNING):
        found = ga.tl.differential_tracks(adata, samples, model=model, gene_names=["GATA1", "g2", "NOONE"], **options)
    assert "1 of 3 gene_names are not in the annotation (NOONE)" in caplog.text
    assert len(found)
    near = [(6500, 9501), (24_499, 27_500)]  # the sites are 8000 and 25,999
    assert all(any(a <= s and e <= b for a, b in near) for s, e in zip(found["start"], found["end"], strict=True))
    assert set(found["chrom"]) == {"chr1"}
    every = ga.tl.differential_tracks(adata, samples, model=model, **options)
    assert set(every["chrom"]) <= {"chr1", "chr2"}
    with pytest.raises(InputError, match="none of the 1 gene_names"):
        ga.tl.differential_tracks(adata, samples, model=model, gene_names=["NOONE"], **options)


def test_samples_of_other_sizes_than_the_random_ones_are_told(adata, model, caplog):
    with caplog.at_level(logging.WARNING):
        ga.tl.differential_tracks(adata, {"three": [0, 1, 2], "fine": np.arange(12)}, model=model, **OPTIONS)
    assert "random aggregates have 12 cells, 1 samples far more or fewer (three 3)" in caplog.text


@pytest.mark.parametrize(
    ("samples", "options", "told"),
    [
        ({}, {}, "samples is empty"),
        ({"s": ["nobody"]}, {}, "1 of 1 cells of sample 's' are not in obs_names"),
        ({"s": [0]}, {"n_random": 2}, r"n_random must be at least 3, got 2"),
        ({"s": [0]}, {"fdr": 0}, "fdr must be in"),
        ({"s": [0]}, {"gene_names": ["x"]}, "gene_names is given without genes"),
        ({"s": [0]}, {"genes": "a.gtf"}, "regions and genes are both given"),
        ({"s": [0, 1]}, {"regions": ["chr2:14600-14700"]}, "is 0 over all the regions"),
    ],
)
def test_what_cannot_be_done_is_told(adata, model, samples, options, told):
    with pytest.raises(InputError, match=told):
        ga.tl.differential_tracks(adata, samples, model=model, **{**OPTIONS, **options})
