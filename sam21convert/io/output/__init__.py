"""Outputs: whole or not at all, also when the process is killed."""
