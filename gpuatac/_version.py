"""The version, which every file that gpuatac writes records."""

__version__ = "0.1.0"
