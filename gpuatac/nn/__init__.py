"""PyTorch models on device arrays: denoising of tracks. Needs the extra ``nn`` (PyTorch)."""
