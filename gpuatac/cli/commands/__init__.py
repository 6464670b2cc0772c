"""One file for each command: ``COMMAND`` lays out as flags what a function declares."""
