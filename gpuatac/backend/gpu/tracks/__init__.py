"""Coverage and cuts along the genome. On a GPU."""
