"""The main job, from fragment files to clusters, their peaks and coverage; and jobs on groups of cells and bulk samples."""

from gpuatac.workflow.grouped import Written, coverage, peaks
from gpuatac.workflow.run import Result, run
from gpuatac.workflow.steps import STEPS

__all__ = ["STEPS", "Result", "Written", "coverage", "peaks", "run"]
