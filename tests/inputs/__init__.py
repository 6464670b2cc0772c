"""Files of every kind that labs have: what each must give, through Python and through the command."""
