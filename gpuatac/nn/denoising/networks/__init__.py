"""The denoising networks and their losses."""
