"""What is known of a genome: chromosome sizes, transcripts, gene models, and regions however they are written."""
