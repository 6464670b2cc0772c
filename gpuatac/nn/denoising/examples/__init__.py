"""Training examples of the denoiser, from tracks and from AtacWorks' HDF5."""
