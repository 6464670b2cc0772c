"""Small tables that come with the data: delimited text however it was saved, lists of barcodes, tables of cells."""
