"""The main job, from fragment files to clusters, their peaks and coverage; and jobs on groups of cells, bulk samples and tracks."""

from gpuatac.workflow.denoiser.denoise import denoise
from gpuatac.workflow.denoiser.evaluate import evaluate_denoiser
from gpuatac.workflow.denoiser.train import train_denoiser
from gpuatac.workflow.groups.jobs import Written, coverage, peaks
from gpuatac.workflow.main_job.job import Result, run
from gpuatac.workflow.main_job.steps import STEPS

__all__ = ["STEPS", "Result", "Written", "coverage", "denoise", "evaluate_denoiser", "peaks", "run", "train_denoiser"]


def __dir__() -> list[str]:
    return list(__all__)
