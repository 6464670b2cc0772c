# Builds this checkout for CPUs: docker build -f docker/cpu.Dockerfile -t gpuatac:cpu .
# With the denoiser: --build-arg EXTRAS=[nn].
FROM python:3.12-slim-bookworm
ARG EXTRAS=""
COPY . /opt/gpuatac
RUN pip install --no-cache-dir "/opt/gpuatac${EXTRAS}" && useradd --uid 1001 --create-home gpuatac
USER 1001
WORKDIR /home/gpuatac
# Smoke test: the main job on a small simulated sample.
RUN gpuatac simulate --out s --cells 100 --types 3 --frags 2000 -q \
 && gpuatac run s.fragments.tsv.gz --genome hg38 --genes s.genes.gtf --min-fragments 500 --min-tsse 0 --out r -q \
 && rm -rf s.* r
ENTRYPOINT ["gpuatac"]
