"""The main job: from fragment files to clusters, figures and one .h5ad."""

from gpuatac.workflow.run import Result, run
from gpuatac.workflow.steps import STEPS

__all__ = ["STEPS", "Result", "run"]
