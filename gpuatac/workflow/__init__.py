"""The main job, from fragment files to clusters, their peaks and coverage; and jobs on groups of cells, bulk samples and tracks."""

from gpuatac.workflow.denoise_files import denoise
from gpuatac.workflow.evaluate_denoiser import evaluate_denoiser
from gpuatac.workflow.grouped import Written, coverage, peaks
from gpuatac.workflow.run import Result, run
from gpuatac.workflow.steps import STEPS
from gpuatac.workflow.train_denoiser import train_denoiser

__all__ = ["STEPS", "Result", "Written", "coverage", "denoise", "evaluate_denoiser", "peaks", "run", "train_denoiser"]
