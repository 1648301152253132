"""A parity report as an HTML page."""
