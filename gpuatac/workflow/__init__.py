"""The main job, from fragment files to clusters, their peaks and coverage; and jobs on groups of cells, bulk samples and tracks."""

from functools import partial

from gpuatac.workflow.denoiser.denoise import denoise
from gpuatac.workflow.denoiser.evaluate import evaluate_denoiser
from gpuatac.workflow.denoiser.train import train_denoiser
from gpuatac.workflow.denoiser.training_data import TrainingData
from gpuatac.workflow.groups.coverage import coverage
from gpuatac.workflow.groups.peaks import peaks
from gpuatac.workflow.groups.shared import Written
from gpuatac.workflow.main_job.job import Result, run
from gpuatac.workflow.main_job.steps import STEPS

__all__ = [  # noqa: RUF022 (as sorted() has it)
    "Result", "STEPS", "TrainingData", "Written", "coverage", "denoise", "evaluate_denoiser", "peaks", "run", "train_denoiser",
]  # fmt: skip
__dir__ = partial(list[str], __all__)
