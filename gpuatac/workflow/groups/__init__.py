"""Jobs on groups of cells and bulk samples: ``gpuatac peaks`` and ``gpuatac coverage``."""
