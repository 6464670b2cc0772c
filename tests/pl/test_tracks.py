"""Tracks: the numbers that are drawn, what stands where, and that no text lies on another."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import StepPatch

import gpuatac as ga
from gpuatac import pl
from gpuatac.errors import InputError, MissingFileError, MissingSlotError
from gpuatac.genome import Genome
from gpuatac.io.fragments import attach
from gpuatac.io.genome.gene_models import GeneModel
from gpuatac.io.genome.transcripts import read_transcripts
from gpuatac.pl import _track_layout as layout
from gpuatac.pl._track_genes import gene_rows

GENOME = Genome("toy", {"chr1": 3_000_000, "chr2": 40_000, "chrM": 1000})
N_CELLS = 120
WINDOW = ("chr1", 10_000, 14_000)


def gene_row(name, start, end, strand, transcript=None):
    t = transcript or f"{name}.1"
    attributes = f'gene_id "{name}"; transcript_id "{t}"; gene_name "{name}";'
    middle = (start + end) // 2
    rows = [
        ("transcript", start, end),
        ("exon", start, start + (end - start) // 5),
        ("exon", middle, end),
        ("CDS", middle, middle + 50),
    ]
    return "".join(f"chr1\tx\t{kind}\t{a + 1}\t{b}\t.\t{strand}\t.\t{attributes}\n" for kind, a, b in rows)


@pytest.fixture(scope="module")
def fragments():
    rng = np.random.default_rng(0)
    n = 6000
    start = np.concatenate(
        [rng.integers(9_000, 16_000, n), rng.integers(0, 2_990_000, n), rng.integers(0, 39_000, 500)]
    )
    end = start + rng.integers(20, 700, start.size)
    chrom = np.where(np.arange(start.size) < 2 * n, "chr1", "chr2")
    frame = pd.DataFrame({"chrom": chrom, "start": start, "end": end, "cell": rng.integers(0, N_CELLS, start.size)})
    mito = pd.DataFrame({"chrom": "chrM", "start": 5, "end": 90, "cell": np.arange(N_CELLS)})
    return pd.concat([frame, mito]).sort_values(["chrom", "start", "end"], ignore_index=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fragments):
    folder = tmp_path_factory.mktemp("tracks")
    table = fragments.assign(cell=[f"C{c:03}" for c in fragments["cell"]], count=1)
    table.to_csv(folder / "f.tsv", sep="\t", header=False, index=False)
    genes = [
        gene_row("PLUS", 11_000, 12_000, "+"),
        gene_row("PLUS", 11_500, 12_500, "+", "PLUS.2"),
        gene_row("MINUS", 13_000, 13_600, "-"),
    ]
    genes += [gene_row(f"CROWD{i:02}", 1_000_000 + 900 * i, 1_000_000 + 900 * i + 700, "+-"[i % 2]) for i in range(60)]
    genes += [gene_row("LAST", 2_999_000, 2_999_900, "+")]
    (folder / "genes.gtf").write_text("".join(genes))
    return folder


@pytest.fixture(scope="module")
def cells(folder):
    adata = ga.pp.import_fragments(folder / "f.tsv", GENOME, min_num_fragments=1, device="cpu")
    number = np.array([int(name[1:]) for name in adata.obs_names])
    adata.obs["type"] = pd.Categorical(
        np.array(["B", "T", "NK"])[np.minimum(number // 20, 2)], ["T", "B", "NK", "nobody"]
    )
    adata.obs["many"] = pd.Categorical([f"cluster {i % 40}" for i in number])
    adata.obs["long"] = pd.Categorical(
        [f"CD{i % 11} naive or effector-memory T cell of the thymus ({i % 11})" for i in number]
    )
    return adata


@pytest.fixture(scope="module")
def genes(folder):
    return folder / "genes.gtf"


def part(figure, label):
    found = [ax for ax in figure.axes if ax.get_label() == label]
    assert len(found) == 1, [ax.get_label() for ax in figure.axes]
    return found[0]


def labels(figure):
    return [ax.get_label() for ax in figure.axes]


def drawn(figure, group):
    steps = [p for p in part(figure, f"track:{group}").patches if isinstance(p, StepPatch)]
    return steps[0].get_data().values, steps[0].get_data().edges


def words(figure):
    return [t.get_text() for ax in figure.axes for t in ax.texts]


def depth_of(fragments, cells, group, window, low=0, high=10**9):
    """Fragments of the group over each base of the window, one after the other."""
    members = {int(n[1:]) for n, t in zip(cells.obs_names, cells.obs["type"], strict=True) if t == group}
    depth = np.zeros(window[2] - window[1])
    here = fragments[(fragments["chrom"] == window[0]) & fragments["cell"].isin(members)]
    for start, end in zip(here["start"], here["end"], strict=True):
        if low <= end - start <= high:
            depth[max(start - window[1], 0) : max(end - window[1], 0)] += 1
    return depth


def n_of(fragments, cells, group):
    """Cells of a group, and its fragments outside the mitochondrial chromosome."""
    members = {int(n[1:]) for n, t in zip(cells.obs_names, cells.obs["type"], strict=True) if t == group}
    inside = fragments["cell"].isin(members) & (fragments["chrom"] != "chrM")
    return len(members), int(inside.sum())


# ------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("normalize", ["cells", "reads", None])
def test_heights_are_the_mean_depth_over_the_denominator_of_the_group(cells, fragments, normalize):
    figure = pl.tracks(cells, "type", region=WINDOW, normalize=normalize, bin_size=40)
    assert [name for name in labels(figure) if name.startswith("track")] == ["track:T", "track:B", "track:NK"]
    for group in ("T", "B", "NK"):
        values, edges = drawn(figure, group)
        n_cells, n_fragments = n_of(fragments, cells, group)
        factor = {"cells": 1e3 / n_cells, "reads": 1e6 / n_fragments, None: 1.0}[normalize]
        expected = depth_of(fragments, cells, group, WINDOW).reshape(-1, 40).mean(axis=1) * factor
        np.testing.assert_allclose(values, expected, rtol=1e-12)
        np.testing.assert_array_equal(edges, np.arange(10_000, 14_001, 40))


def test_tss_scale_divides_by_the_fragments_that_meet_101_bp_around_a_tss(cells, fragments, genes):
    figure = pl.tracks(cells, "type", region=WINDOW, normalize="tss", genes=genes, bin_size=40)
    transcripts = pd.read_csv(genes, sep="\t", header=None)
    transcripts = transcripts[transcripts[2] == "transcript"]
    sites = {
        a - 1 if s == "+" else b - 1 for a, b, s in zip(transcripts[3], transcripts[4], transcripts[6], strict=True)
    }
    for group in ("T", "B", "NK"):
        members = {int(n[1:]) for n, t in zip(cells.obs_names, cells.obs["type"], strict=True) if t == group}
        mine = fragments[(fragments["chrom"] == "chr1") & fragments["cell"].isin(members)]
        n = sum(any(s < p + 51 and e > p - 50 for p in sites) for s, e in zip(mine["start"], mine["end"], strict=True))
        expected = depth_of(fragments, cells, group, WINDOW).reshape(-1, 40).mean(axis=1) * 1e4 / n
        np.testing.assert_allclose(drawn(figure, group)[0], expected, rtol=1e-12)
    assert "Fragments per 10,000 fragments at TSSs, same scale for all" in words(figure)


def test_length_bounds_are_inclusive_and_bound_the_denominator_too(cells, fragments):
    options = {"region": WINDOW, "min_frag_length": 100, "max_frag_length": 300, "bin_size": 50}
    expected = depth_of(fragments, cells, "B", WINDOW, 100, 300).reshape(-1, 50).mean(axis=1)
    raw = drawn(pl.tracks(cells, "type", normalize=None, **options), "B")[0]
    np.testing.assert_allclose(raw, expected, rtol=1e-12)
    members = {int(n[1:]) for n, t in zip(cells.obs_names, cells.obs["type"], strict=True) if t == "B"}
    length = fragments["end"] - fragments["start"]
    n = int(((fragments["chrom"] != "chrM") & fragments["cell"].isin(members) & length.between(100, 300)).sum())
    np.testing.assert_allclose(
        drawn(pl.tracks(cells, "type", normalize="reads", **options), "B")[0], expected * 1e6 / n
    )


def test_insertions_are_the_first_and_last_bases(cells, fragments):
    figure = pl.tracks(cells, region=WINDOW, normalize=None, counting_strategy="insertion", bin_size=1)
    here = fragments[fragments["chrom"] == "chr1"]
    at = np.concatenate([here["start"], here["end"] - 1]) - WINDOW[1]
    expected = np.bincount(at[(at >= 0) & (at < 4000)], minlength=4000)
    np.testing.assert_array_equal(drawn(figure, "all")[0], expected)
    assert "Insertions per bp" in words(figure)


def test_smoothing_is_the_mean_over_a_window_that_sees_beyond_the_edges(cells, fragments):
    figure = pl.tracks(cells, "type", region=WINDOW, normalize=None, bin_size=20, smooth_base=220)
    depth = depth_of(fragments, cells, "T", ("chr1", 9_800, 14_200))
    expected = [depth[i * 20 + 100 : i * 20 + 320].mean() for i in range(200)]
    np.testing.assert_allclose(drawn(figure, "T")[0], expected, rtol=1e-12)


def test_automatic_bins_are_1_bp_in_a_small_window_and_at_most_1500_in_a_large_one(cells):
    assert len(drawn(pl.tracks(cells, region=("chr1", 10_000, 10_500)), "all")[0]) == 500
    values, edges = drawn(pl.tracks(cells, region="chr1:0-3,000,000"), "all")
    assert len(values) == 1500
    assert edges[1] == 2000


def test_a_data_set_on_disk_is_not_loaded_for_a_window(folder, cells, tmp_path):
    adata = ga.pp.import_fragments(folder / "f.tsv", GENOME, min_num_fragments=1, device="cpu", out=tmp_path / "one")
    adata.obs["type"] = cells.obs["type"].reindex(adata.obs_names)
    whole = drawn(pl.tracks(adata, "type", region=WINDOW), "NK")[0]
    ga.io.forget()
    assert not attach._cache
    figure = pl.tracks(adata[::-1].copy(), "type", region=WINDOW)  # rows may be in any order
    assert not attach._cache
    np.testing.assert_array_equal(drawn(figure, "NK")[0], whole)
    np.testing.assert_array_equal(whole, drawn(pl.tracks(cells, "type", region=WINDOW), "NK")[0])
    pl.tracks(adata, "type", region=WINDOW, normalize="reads")
    assert attach._cache  # all fragments were counted


def test_shared_scale_is_one_for_all_and_written_once(cells):
    figure = pl.tracks(cells, "type", region=WINDOW)
    tracks = [part(figure, f"track:{g}") for g in ("T", "B", "NK")]
    top = {ax.get_ylim() for ax in tracks}
    assert len(top) == 1
    highest = max(drawn(figure, g)[0].max() for g in ("T", "B", "NK"))
    assert highest <= top.pop()[1] <= highest * 1.1
    assert [len(ax.get_yticks()) for ax in tracks] == [2, 0, 0]
    own = pl.tracks(cells, "type", region=WINDOW, normalize=None, shared_scale=False)
    assert len({part(own, f"track:{g}").get_ylim()[1] for g in ("T", "B", "NK")}) == 3
    assert [len(part(own, f"track:{g}").get_yticks()) for g in ("T", "B", "NK")] == [2, 2, 2]


# ------------------------------------------------------------------------------- window, genes, peaks


def test_window_of_a_gene_spans_its_transcripts_with_upstream_before_its_strand(cells, genes):
    plus = pl.tracks(cells, gene="PLUS", genes=genes, upstream=700, downstream=100)
    assert part(plus, "genes").get_xlim() == (11_000 - 700, 12_500 + 100)
    minus = pl.tracks(cells, gene="minus", genes=genes, upstream=700, downstream=100)  # in any case
    assert part(minus, "genes").get_xlim() == (13_000 - 100, 13_600 + 700)
    assert words(minus)[0] == "MINUS"
    assert "chr1:12,900–14,300 (1,400 bp)" in words(minus)
    last = pl.tracks(cells, gene="LAST", genes=genes, upstream=10**7, downstream=10**7)
    assert part(last, "genes").get_xlim() == (0, 3_000_000)  # clipped to the chromosome


def test_genes_are_drawn_with_exons_names_and_arrows_of_their_strand(cells, genes):
    figure = pl.tracks(cells, region=WINDOW, genes=genes)
    ax = part(figure, "genes")
    names = {t.get_text(): t for t in ax.texts if t.get_gid() == "gene"}
    assert set(names) == {"PLUS", "MINUS"}
    by_gid = {c.get_gid(): c for c in ax.collections}
    lines = [np.round(s[:, 0]).tolist() for s in by_gid["introns"].get_segments()]
    assert sorted(lines) == [[11_000, 12_500], [13_000, 13_600]]
    boxes = [(round(p.vertices[:, 0].min()), round(p.vertices[:, 0].max())) for p in by_gid["exons"].get_paths()]
    assert {(11_000, 11_200), (11_500, 12_500), (13_000, 13_120), (13_300, 13_600)} <= set(boxes)
    assert (13_300, 13_350) in boxes  # the coding part
    rightward = np.concatenate([line.get_xdata() for line in ax.lines if line.get_gid() == "arrows+"])
    leftward = np.concatenate([line.get_xdata() for line in ax.lines if line.get_gid() == "arrows-"])
    assert ((rightward > 11_000) & (rightward < 12_500)).all()
    assert ((leftward > 13_000) & (leftward < 13_600)).all()
    bold = pl.tracks(cells, gene="PLUS", genes=genes)
    weights = {t.get_text(): t.get_fontweight() for t in part(bold, "genes").texts if t.get_gid() == "gene"}
    assert weights == {"PLUS": "bold", "MINUS": "normal"}


def test_transcripts_can_be_drawn_each_by_itself(cells, genes):
    figure = pl.tracks(cells, region=WINDOW, genes=genes, merge_transcripts=False)
    assert {"PLUS PLUS.1", "PLUS PLUS.2", "MINUS MINUS.1"} <= set(words(figure))


def test_genome_with_transcripts_and_frame_serve_as_genes(cells, genes):
    table = read_transcripts(genes)
    for source in (table, GENOME.with_transcripts(table)):
        assert "PLUS" in words(pl.tracks(cells, region=WINDOW, genes=source))


def test_parts_that_are_not_asked_for_are_left_out(cells, genes):
    bare = labels(pl.tracks(cells, "type", region=WINDOW))
    assert not {"genes", "consensus", "links"} & set(bare)
    none = pl.tracks(cells, region="chr2:100-30000", genes=genes)
    assert "none in this window" in words(none)


def bars(ax, gid):
    found = [c for c in ax.collections if c.get_gid() == gid]
    if not found:
        return []
    return sorted((round(p.vertices[:, 0].min()), round(p.vertices[:, 0].max())) for p in found[0].get_paths())


PEAKS = pd.DataFrame(
    {
        "group": pd.Categorical(["T", "T", "B", "T", "NK"]),
        "chrom": ["chr1", "chr1", "chr1", "chr2", "chr1"],
        "start": [9_900, 11_000, 13_900, 10_500, 50_000],
        "end": [10_100, 11_400, 15_000, 11_000, 51_000],
    }
)


@pytest.mark.parametrize("how", ["uns", "frame", "dict"])
def test_peaks_lie_under_the_track_of_their_group_cut_at_the_window(cells, how):
    peaks = {
        "uns": "called",
        "frame": PEAKS,
        "dict": {g: t[["chrom", "start", "end"]] for g, t in PEAKS.groupby("group", observed=True)},
    }
    adata = cells.copy()
    adata.uns["called"] = PEAKS
    figure = pl.tracks(adata, "type", region=WINDOW, peaks=peaks[how])
    assert bars(part(figure, "track:T"), "peaks") == [(10_000, 10_100), (11_000, 11_400)]
    assert bars(part(figure, "track:B"), "peaks") == [(13_900, 14_000)]
    assert bars(part(figure, "track:NK"), "peaks") == []


def test_a_group_without_peaks_and_an_empty_consensus_draw_nothing(cells):
    none = PEAKS.iloc[:0]
    figure = pl.tracks(cells, "type", region=WINDOW, peaks={"T": none, "B": PEAKS}, consensus=none)
    assert bars(part(figure, "track:T"), "peaks") == []
    assert len(bars(part(figure, "track:B"), "peaks")) == 3
    assert bars(part(figure, "consensus"), "consensus") == []


def test_peaks_of_the_default_slot_are_drawn_where_there_are_some(cells):
    adata = cells.copy()
    adata.uns["peaks"] = PEAKS
    assert bars(part(pl.tracks(adata, "type", region=WINDOW), "track:B"), "peaks") == [(13_900, 14_000)]
    assert bars(part(pl.tracks(adata, "type", region=WINDOW, peaks=None), "track:B"), "peaks") == []


def test_consensus_highlight_links_and_chromosome_bands(cells, tmp_path):
    merged = pd.DataFrame(
        {"Peaks": ["chr1:11000-11400"], "chrom": ["chr1"], "start": [11_000], "end": [11_400], "T": [True]}
    )
    bed = tmp_path / "c.bed"
    bed.write_text("chr1\t11000\t11400\nchr2\t5\t90\n")
    band_file = tmp_path / "cytoBand.txt"
    band_file.write_text(
        "chr1\t0\t1000000\tp1\tgneg\nchr1\t1000000\t1500000\tp11\tacen\nchr1\t1500000\t1700000\tq11\tacen\n"
        "chr1\t1700000\t3000000\tq2\tgpos100\nchr2\t0\t40000\tp\tgneg\n"
    )
    links = pd.DataFrame({"chrom": "chr1", "start": [10_500, 10_100], "end": [13_000, 20_000], "score": [0.5, 0.9]})
    for consensus in (merged, merged[["Peaks"]], bed, ["chr1:11000-11400"]):
        figure = pl.tracks(
            cells, region=WINDOW, consensus=consensus, cytobands=band_file, links=links, highlight="chr1:12,000-12,100"
        )
        assert bars(part(figure, "consensus"), "consensus") == [(11_000, 11_400)]
    arcs = part(figure, "links").collections[0]
    assert [p.vertices[[0, 2], 0].tolist() for p in arcs.get_paths()] == [
        [10_500, 13_000]
    ]  # the other leaves the window
    shade = next(p for p in part(figure, "highlight").patches if p.get_gid() == "highlight")
    assert (shade.get_x(), shade.get_width()) == (12_000, 100)
    chromosome = part(figure, "chromosome")
    assert chromosome.get_xlim() == (0, 3_000_000)
    assert len(next(c for c in chromosome.collections if c.get_gid() == "bands").get_paths()) == 4
    mark = next(p for p in chromosome.patches if p.get_gid() == "window")
    assert mark.get_x() <= 10_000 < 14_000 <= mark.get_x() + mark.get_width()


def test_colors_follow_the_stored_ones_the_mapping_or_the_palette(cells):
    adata = cells.copy()

    def color(figure, group):
        return part(figure, f"track:{group}").patches[0].get_facecolor()[:3]

    plain = pl.tracks(adata, "type", region=WINDOW, selections=["B"])
    assert color(plain, "B") == pytest.approx(tuple(int(pl._style.PALETTE[1][i : i + 2], 16) / 255 for i in (1, 3, 5)))
    adata.uns["type_colors"] = ["#ff0000", "#00ff00", "#0000ff", "#000000"]
    assert color(pl.tracks(adata, "type", region=WINDOW), "B") == (0, 1, 0)
    assert color(pl.tracks(adata, "type", region=WINDOW, palette={"T": "k", "B": "r", "NK": "b"}), "B") == (1, 0, 0)


# ------------------------------------------------------------------------------------------- layout


def overlapping_texts(figure):
    figure.draw_without_rendering()
    texts = [t for ax in figure.axes for t in [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label]]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_visible() and t.get_text().strip()]
    whole = figure.bbox
    outside = [t for t, b in boxes if b.x0 < -1 or b.y0 < -1 or b.x1 > whole.width + 1 or b.y1 > whole.height + 1]
    pairs = [
        (s, t)
        for (s, a), (t, b) in itertools.combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 2  # descenders may touch
    ]
    return pairs, outside


LOOKS = {
    "three groups": {"groupby": "type", "gene": "PLUS"},
    "no genes": {"groupby": "type", "region": WINDOW, "genes": None},
    "forty groups": {"groupby": "many", "region": WINDOW, "shared_scale": False},
    "long names": {"groupby": "long", "gene": "MINUS", "normalize": "tss"},
    "crowded genes": {"groupby": "type", "region": "chr1:990,000-1,060,000"},
    "whole chromosome": {"groupby": "type", "region": "chr1:0-3,000,000"},
    "tiny": {"groupby": "type", "region": "chr1:11,000-11,060", "counting_strategy": "insertion"},
    "at the start": {"groupby": None, "region": "chr1:0-500"},
    "small figure": {"groupby": "type", "gene": "PLUS", "figsize": (2.6, 2.6), "normalize": "tss"},
    "everything": {
        "groupby": "type",
        "gene": "PLUS",
        "peaks": PEAKS,
        "consensus": PEAKS,
        "title": "A title of $some$ length",
    },
}


@pytest.mark.parametrize("look", LOOKS)
def test_no_text_lies_on_another_or_leaves_the_figure(cells, genes, look):
    figure = pl.tracks(cells, **{"genes": genes, **LOOKS[look]})
    assert overlapping_texts(figure) == ([], [])


def models(spans):
    none = np.empty((0, 2), np.int64)
    return [GeneModel(f"GENE{i}", f"GENE{i}", a, b, "+", none, none) for i, (a, b) in enumerate(spans)]


def test_genes_of_a_row_never_touch_and_rows_are_as_few_as_can_be():
    rng = np.random.default_rng(1)
    for _ in range(20):
        start = rng.integers(-500, 10_000, 40)
        placed = layout.place_genes(
            models(np.column_stack([start, start + rng.integers(10, 3000, 40)])), 0, 10_000, 5.0, size=6
        )
        assert len(placed) == 40
        for row in {p.row for p in placed}:
            spans = sorted(p.footprint for p in placed if p.row == row)
            assert all(b[0] >= a[1] for a, b in itertools.pairwise(spans))
        spans = np.array([p.footprint for p in placed])
        deepest = max(((spans[:, 0] <= x) & (spans[:, 1] + layout.GAP > x)).sum() for x in spans[:, 0])
        assert max(p.row for p in placed) + 1 == deepest
        assert all(p.text_left >= 0 and p.text_right <= 5.0 for p in placed)


def test_very_many_genes_are_drawn_without_names_on_one_row_for_each_strand():
    rows = gene_rows(models([(i, i + 50) for i in range(500)]), 0, 10_000, 5.0, bold=None)
    assert (rows.n_rows, rows.size) == (2, 0.0)
    rows = gene_rows(models([(i * 300, i * 300 + 50) for i in range(30)]), 0, 10_000, 5.0, bold=None)
    assert rows.size > 0


@pytest.mark.parametrize(
    ("start", "end", "unit", "step"),
    [
        (0, 500, "bp", 100),
        (118_200_000, 118_214_000, "bp", 2_000),
        (10_000, 60_000, "kb", 10_000),
        (0, 249_000_000, "Mb", 50_000_000),
    ],
)
def test_ticks_are_round_positions_with_thousands_separated(start, end, unit, step):
    at, texts, found = layout.ticks(start, end, 6.0, 7.0)
    assert found == unit
    assert set(np.diff(at)) == {step}
    divisor = {"bp": 1, "kb": 1_000, "Mb": 1_000_000}[unit]
    assert texts == [f"{p // divisor:,}" for p in at]
    assert start <= at[0]
    assert at[-1] <= end


def test_a_name_too_long_keeps_its_beginning_and_end():
    short = layout.shortened("a very long name that cannot be written in full (17)", 7, 1.0)
    assert re.fullmatch(r"a ve.*….*\(17\)", short)
    assert layout.text_width(short, 7) <= 1.0
    assert layout.shortened("B", 7, 1.0) == "B"


def test_scale_ends_at_two_digits():
    assert [layout.rounded_up(v) for v in (0.0, 0.0123, 1.0, 9.91, 117, 4321)] == [1.0, 0.013, 1.0, 10.0, 120, 4400]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figure_is_saved_with_text_as_text(cells, genes, tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    pl.tracks(cells, "type", gene="PLUS", genes=genes, save=path)
    data = path.read_bytes()
    assert len(data) > 5_000
    if suffix == "svg":
        assert b">PLUS</text>" in data
    if suffix == "pdf":
        assert b"/Subtype /Type3" not in data  # TrueType (42): text can be selected and edited


def test_real_data_at_cd3d(data_dir):
    source = data_dir / "scatac" / "archr_pbsmall_hg19"
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    adata = ga.pp.import_fragments(source / "PBSmall.tsv.gz", Genome.builtin("hg19"), min_num_fragments=1, device="cpu")
    types = pd.read_csv(source / "labels.tsv", sep="\t").set_index("barcode")["cell_type"].reindex(adata.obs_names)
    adata.obs["type"] = pd.Categorical(types)
    annotation = data_dir / "annotation" / "genes" / "hg19.refGene.txt.gz"
    figure = pl.tracks(adata, "type", gene="CD3D", genes=annotation)
    mean = {g: drawn(figure, g)[0].mean() for g in ("B", "Monocyte", "T")}
    assert mean["T"] > 2 * mean["B"] > 0
    assert mean["Monocyte"] == 0
    assert {"CD3D", "CD3G"} <= set(words(figure))
    assert overlapping_texts(figure) == ([], [])


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, InputError, "give either gene or region, got neither"),
        ({"gene": "PLUS", "region": WINDOW}, InputError, "got both"),
        ({"gene": "PLUS", "genes": None}, InputError, "genes=, which is None"),
        ({"gene": "PLUSS"}, InputError, "did you mean 'PLUS'"),
        ({"region": "chr1:ten"}, InputError, "region must look like"),
        ({"region": 7}, InputError, "region must look like"),
        ({"region": "chr9:10-20"}, InputError, "which genome toy lacks"),
        ({"region": "chr1:10-3,000,001"}, InputError, r"end <= 3,000,000 \(the size of chr1\)"),
        ({"region": ("chr1", 20, 20)}, InputError, "start < end"),
        ({"region": WINDOW, "selections": ["Q"]}, InputError, "selections names 'Q'"),
        ({"region": WINDOW, "groupby": "nothing"}, MissingSlotError, "adata.obs has no 'nothing'"),
        ({"region": WINDOW, "peaks": "other"}, MissingSlotError, "call tl.call_peaks first or pass peaks=None"),
        ({"region": WINDOW, "peaks": PEAKS.drop(columns="group")}, InputError, "no column 'group'"),
        ({"region": WINDOW, "peaks": PEAKS.assign(group="cluster 9")}, InputError, "none of the groups drawn"),
        ({"region": WINDOW, "normalize": "tss", "genes": None}, InputError, "needs genes="),
        ({"region": WINDOW, "normalize": "total"}, InputError, "normalize must be one of"),
        ({"region": WINDOW, "bin_size": 0}, InputError, "bin_size must be at least 1"),
        ({"region": WINDOW, "figsize": (6, 0.8)}, InputError, "inches high for 3 groups"),
        ({"region": WINDOW, "figsize": (1, 4)}, InputError, "inches wide"),
        ({"region": WINDOW, "palette": {"T": "red"}}, InputError, "palette lacks 'B', 'NK'"),
        ({"region": WINDOW, "links": PEAKS[["chrom"]]}, InputError, "links has no column 'start' or 'end'"),
        ({"region": WINDOW, "cytobands": "nowhere.txt"}, MissingFileError, "cytoBand file nowhere.txt does not exist"),
        ({"region": WINDOW, "save": "t.gif"}, InputError, "save must end in"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_a_remedy(cells, genes, options, error, match):
    with pytest.raises(error, match=match):
        pl.tracks(cells, **{"groupby": "type", "genes": genes, **options})


def test_bands_of_another_assembly_are_refused(cells):
    bands = pd.DataFrame([["chr1", 0, 5_000_000, "p", "gneg"]])
    with pytest.raises(InputError, match=r"cytobands reach 5,000,000 on chr1 of 3,000,000 bp"):
        pl.tracks(cells, region=WINDOW, cytobands=bands)
