"""Jobs of the denoiser: ``gpuatac denoise``, ``train-denoiser`` and ``evaluate-denoiser``."""
