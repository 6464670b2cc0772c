"""Files as such: compression, BGZF, and the one way to put a new file in its place."""
