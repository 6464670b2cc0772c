# Builds this checkout for NVIDIA GPUs: docker build -f docker/gpu.Dockerfile -t gpuatac:gpu .
# Run with: docker run --gpus all gpuatac:gpu run fragments.tsv.gz --genome hg38 --out results
FROM nvidia/cuda:13.0.1-base-ubuntu24.04
# The distribution's Python 3.12, whatever its patch level.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1001 --create-home gpuatac
COPY . /opt/gpuatac
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir "/opt/gpuatac[cuda13,nn]" \
 && /opt/venv/bin/python -m gpuatac.backend.gpu.precompile
ENV PATH=/opt/venv/bin:$PATH
USER 1001
WORKDIR /home/gpuatac
# Smoke test without a GPU: every import works, and the CPU backend runs.
RUN gpuatac info && gpuatac simulate --out s --cells 60 --types 2 --frags 1000 -q && rm s.*
ENTRYPOINT ["gpuatac"]
