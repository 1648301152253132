"""Pickles, read by a machine that builds plain data and imports nothing."""
