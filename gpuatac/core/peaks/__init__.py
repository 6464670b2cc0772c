"""Peak calling and consensus."""
