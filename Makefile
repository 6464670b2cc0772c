# Each target sets up its own virtual environment. PYTHON must be 3.11 or newer, PYTHON312 3.12 or newer.
PYTHON ?= python3
PYTHON312 ?= python3.12
RESULTS ?= benchmarks/results
SIZES ?= 5 20 80
MEMORY ?=
MUTANTS ?= 100
SEED ?= 0
JOBS ?= 1
LIMIT ?= 540
FRAGMENTS ?=
PATHS ?= gpuatac
TORCH ?= torch==2.13.0
DATA ?= $(GPUATAC_TEST_DATA)/denoise/hsc_5m_to_80m_hg19
PIP = -m pip install --quiet --disable-pip-version-check
export MPLBACKEND = Agg

.PHONY: demo test mutants lint contract parity accuracy bench bench-commit bench-scaling bench-many denoiser pretrain gpu clean

.venv/bin/gpuatac: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) -e .
	touch $@

.venv-dev/ready: pyproject.toml
	$(PYTHON) -m venv .venv-dev
	.venv-dev/bin/python $(PIP) $(TORCH)
	.venv-dev/bin/python $(PIP) -e ".[dev,nn]"
	touch $@

# The main job on a simulated sample with known cell types; results in demo/.
demo: .venv/bin/gpuatac
	.venv/bin/gpuatac simulate --out demo/sample --force
	.venv/bin/gpuatac run demo/sample.fragments.tsv.gz --genome hg38 --genes demo/sample.genes.gtf \
	  --truth demo/sample.cells.tsv --out demo/results --force

test: .venv-dev/ready lint
	.venv-dev/bin/python -m pytest -n auto --dist worksteal

# MUTANTS one-line bugs in a copy of the package (PATHS), and the share that the tests notice; results in .bench/mutants.
mutants: .venv-dev/ready
	.venv-dev/bin/python tests/mutants/plant.py --n $(MUTANTS) --seed $(SEED) --jobs $(JOBS) --paths $(PATHS)

lint: .venv-dev/ready
	.venv-dev/bin/ruff check .
	.venv-dev/bin/mypy gpuatac
	.venv-dev/bin/hadolint docker/cpu.Dockerfile docker/gpu.Dockerfile

# Signatures of the RAPIDS wheels, and the CPU tests as GPU users have it: Python 3.12, pandas 3, anndata 0.13.
.venv-contract/ready: pyproject.toml
	$(PYTHON312) -m venv .venv-contract
	.venv-contract/bin/python $(PIP) -e ".[dev,cuda13]"
	touch $@

contract: .venv-contract/ready
	.venv-contract/bin/python -m pytest tests/contract -m contract
	.venv-contract/bin/python -m pytest -n auto --dist worksteal -m "not contract and not gpu"

# SnapATAC2 2.9.0, and scanpy beside it, in an environment of their own.
.venv-peer/ready:
	$(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python $(PIP) snapatac2==2.9.0 scanpy igraph umap-learn
	touch $@

parity: .venv-dev/ready .venv-peer/ready
	.venv-dev/bin/python tests/parity/compare.py --peer .venv-peer/bin/python
	.venv-dev/bin/python tests/parity/macs3.py --macs3 .venv-peer/bin/macs3

accuracy: .venv-dev/ready .venv-peer/ready
	.venv-dev/bin/python benchmarks/accuracy.py --peer .venv-peer/bin/python --results $(RESULTS)

# Every verb beside SnapATAC2 and scanpy, then peaks and tracks, then doublets, then the denoising networks.
bench: .venv-dev/ready .venv-peer/ready
	.venv-dev/bin/python benchmarks/vs_snapatac2.py --peer .venv-peer/bin/python --work .bench --results $(RESULTS)
	.venv-dev/bin/python benchmarks/peaks_vs_snapatac2.py --peer .venv-peer/bin/python --work .bench --results $(RESULTS)
	.venv-dev/bin/python benchmarks/doublets.py --results $(RESULTS)
	.venv-dev/bin/python benchmarks/denoiser_forward.py --results $(RESULTS)

# Every step beside the same step at an earlier commit, in turn: make bench-commit REV=v0.1.0
bench-commit: .venv-dev/ready
	.venv-dev/bin/python benchmarks/vs_commit.py --rev $(REV) --work .bench/commit --results $(RESULTS)

# The denoiser on real data in DATA (hsc_5m_to_80m_hg19): trained on chr1, judged on chr2 beside every smoothing.
denoiser: .venv-dev/ready
	.venv-dev/bin/python benchmarks/denoiser_accuracy.py --data $(DATA) --work .bench/denoiser --results $(RESULTS)

# The weights that ship: gpuatac/data/denoiser.pt.
pretrain: .venv-dev/ready
	.venv-dev/bin/python benchmarks/pretrain_denoiser.py --work .bench/pretrain --out gpuatac/data/denoiser.pt

# Peaks, consensus, matrix and tracks of 300 groups of 277,000 cells within 4 GiB.
bench-many: .venv-dev/ready
	.venv-dev/bin/python benchmarks/many_groups.py --work .bench/many --results $(RESULTS)

# The main job at SIZES million fragments, within MEMORY (such as 4G) where it is given; inputs are made in .bench.
bench-scaling: .venv-dev/ready
	.venv-dev/bin/python benchmarks/scaling.py --work .bench --sizes $(SIZES) --results $(RESULTS) \
	  $(if $(MEMORY),--memory $(MEMORY))

# On a machine with a GPU, in an environment that has CuPy and pytest (best gpuatac[cuda13,nn]): tests, job, kernels and networks within
# LIMIT seconds, summed up in RESULTS; of FRAGMENTS with GENES and CHROM_SIZES where they are given.
gpu:
	$(PYTHON) benchmarks/on_gpu.py --limit $(LIMIT) --results $(RESULTS) \
	  $(if $(FRAGMENTS),--fragments $(FRAGMENTS) --genes $(GENES) --chrom-sizes $(CHROM_SIZES))

clean:
	rm -rf .bench .venv .venv-dev .venv-contract .venv-peer demo build dist
