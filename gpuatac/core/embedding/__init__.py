"""Features, linear algebra, the neighbour graph, layout and clusters."""
