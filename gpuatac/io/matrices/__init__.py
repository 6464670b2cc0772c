"""Count matrices: h5ad, 10x files, CSR on disk, and those counted from fragments."""
