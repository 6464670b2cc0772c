"""The main job: ``gpuatac run``, from fragment files to clusters, their peaks and coverage."""
