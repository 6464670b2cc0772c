"""Groups of cells compared."""
