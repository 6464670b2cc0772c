"""Fragments in files, on disk and behind an AnnData: text, BAM, SnapATAC2, the data set, and questions to them."""
