"""Linear algebra, the neighbour graph, layout and clusters. On a GPU."""
