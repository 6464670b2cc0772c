"""Coverage and cuts along the genome."""
