"""A parity report as tables for papers, README files and plots."""
