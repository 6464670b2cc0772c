"""Peak calling and consensus. On a GPU."""
