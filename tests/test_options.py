"""A verb called without an option does what the main job does: their defaults are the same, or the reason stands here."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import gpuatac as ga
from gpuatac.options import RunOptions, defaults

MAIN_JOB = Path(ga.__file__).parent / "workflow" / "main_job"

#: Option of the main job: the verbs and parameters that it is passed to.
PASSED = {
    "blacklist": ["metrics.qc.blacklist", "pp.select_features.blacklist", "tl.call_peaks.blacklist", "ex.export_coverage.blacklist"],
    "contigs": ["io.read_genome.contigs", "Genome.builtin.contigs"],
    "genes": ["io.read_genome.genes", "metrics.qc.genes"],
    "whitelist": ["pp.import_fragments.whitelist"],
    "call_cells": ["pp.call_cells.method"],
    "min_fragments": ["pp.filter_cells.min_counts"],
    "max_fragments": ["pp.filter_cells.max_counts"],
    "min_tsse": ["pp.filter_cells.min_tsse"],
    "max_frac_mito": ["pp.filter_cells.max_frac_mito"],
    "max_nucleosome_signal": ["pp.filter_cells.max_nucleosome_signal"],
    "max_blacklist_fraction": ["pp.filter_cells.max_blacklist_fraction"],
    "bin_size": ["pp.add_tile_matrix.bin_size"],
    "counting_strategy": ["pp.add_tile_matrix.counting_strategy"],
    "exclude_chroms": ["pp.add_tile_matrix.exclude_chroms", "tl.call_peaks.exclude_chroms"],
    "n_features": ["pp.select_features.n_features"],
    "feature_method": ["pp.select_features.method"],
    "lower_quantile": ["pp.select_features.filter_lower_quantile"],
    "upper_quantile": ["pp.select_features.filter_upper_quantile"],
    "expected_doublet_rate": ["pp.scrublet.expected_doublet_rate"],
    "n_comps": ["tl.spectral.n_comps"],
    "sample_size": ["tl.spectral.sample_size"],
    "keep_depth_components": ["pp.knn.drop_depth", "pp.harmony.drop_depth"],
    "n_neighbors": ["pp.knn.n_neighbors"],
    "min_dist": ["tl.umap.min_dist"],
    "resolution": ["tl.leiden.resolution"],
    "leiden_flavor": ["tl.leiden.flavor"],
    "gene_upstream": ["pp.make_gene_matrix.upstream"],
    "gene_key": ["pp.make_gene_matrix.id_type"],
    "peak_qvalue": ["tl.call_peaks.qvalue"],
    "peak_max_frag_size": ["tl.call_peaks.max_frag_size"],
    "peak_min_cells": ["tl.call_peaks.min_cells"],
    "peak_half_width": ["tl.merge_peaks.half_width"],
    "marker_pvalue": ["tl.marker_regions.pvalue"],
    "coverage_bin_size": ["ex.export_coverage.bin_size"],
    "coverage_normalization": ["ex.export_coverage.normalization"],
    "seed": ["pp.call_cells.seed", "pp.scrublet.seed", "pp.harmony.seed", "tl.spectral.seed", "tl.umap.seed", "tl.leiden.seed"],
}  # fmt: skip
#: Defaults that differ on purpose.
DIFFERENT = {
    "pp.call_cells.method": "the job calls no cells unless asked; who calls the verb asks",
    "tl.call_peaks.exclude_chroms": "peaks equal MACS3's and SnapATAC2's row by row, which know no chromosomes to leave out",
    "tl.call_peaks.min_cells": "groups may be bulk samples, each of which counts as one cell; the job has clusters of cells",
}
NO_PARAMETER = {
    "genome": "it has no default",
    "doublets": "which verbs are called: pp.scrublet, pp.filter_doublets",
    "batch_correction": "whether pp.harmony is called",
    "until": "which steps are done",
    "figure_format": "the suffix of save=",
}


def written_as_the_verb(option: str, value: object) -> object:
    """The default of an option in the form that the parameter has."""
    if option == "exclude_chroms":
        return frozenset(str(value).split(","))
    if option == "keep_depth_components":  # the parameters say the opposite: drop_depth
        return not value
    return value


def default_of(place: str) -> object:
    *path, parameter = place.split(".")
    verb = ga
    for name in path:
        verb = getattr(verb, name)
    value = inspect.signature(verb).parameters[parameter].default
    assert value is not inspect.Parameter.empty, f"{place} has no default"
    return frozenset(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("option", "place"), [pytest.param(o, p, id=f"{o}-{p}") for o, places in PASSED.items() for p in places]
)
def test_default_of_the_verb_is_that_of_the_main_job(option, place):
    same = default_of(place) == written_as_the_verb(option, defaults()[option])
    assert same is not (place in DIFFERENT), DIFFERENT.get(place, f"{place} and --{option.replace('_', '-')} differ")


def test_fewest_fragments_on_import_are_those_of_the_main_job():
    assert RunOptions().min_num_fragments == default_of("pp.import_fragments.min_num_fragments")


def test_every_option_is_compared_or_goes_to_no_parameter():
    assert {f.name for f in fields(RunOptions)} == PASSED.keys() | NO_PARAMETER.keys()
    assert not PASSED.keys() & NO_PARAMETER.keys()
    assert DIFFERENT.keys() <= {place for places in PASSED.values() for place in places}


def passed_in(path: Path) -> set[tuple[str, str]]:
    """(option, verb.parameter) of the calls ``pp.verb(..., parameter=options.option)`` in a file."""
    found = set()
    for call in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(call, ast.Call) and ast.unparse(call.func).partition(".")[0] in ("pp", "tl", "ex", "metrics")):
            continue
        for keyword in call.keywords:
            value = keyword.value.body if isinstance(keyword.value, ast.IfExp) else keyword.value  # not the condition
            read = [n for n in ast.walk(value) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "options"]
            found |= {(node.attr, f"{ast.unparse(call.func)}.{keyword.arg}") for node in read}
    return found


def test_every_option_that_the_steps_pass_on_is_compared():
    found = {pair for name in ("steps", "by_cluster") for pair in passed_in(MAIN_JOB / f"{name}.py")}
    assert ("resolution", "tl.leiden.resolution") in found
    assert len(found) > 20
    assert found <= {(option, place) for option, places in PASSED.items() for place in places}
