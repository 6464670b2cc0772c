"""Groups of cells compared. On a GPU."""
