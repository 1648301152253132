"""A parity report as a page to look at."""
