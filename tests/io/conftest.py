"""Helpers of the rooms below (bam_cases, text_files) are found from here."""
