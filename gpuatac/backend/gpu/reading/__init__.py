"""From text and BAM records to sorted columns. On a GPU."""
