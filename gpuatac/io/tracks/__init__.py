"""Numbers along the genome: bigWig, bedGraph, AtacWorks' HDF5, and tracks of fragments by window."""
