"""Seeded fragment files with known answers: cell types, doublets, empty droplets, genes and peaks."""

from gpuatac.simulate.libraries import Library, simulate_library
from gpuatac.simulate.samples import Simulation, simulate_fragments

__all__ = ["Library", "Simulation", "simulate_fragments", "simulate_library"]
