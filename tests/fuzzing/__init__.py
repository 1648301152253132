"""Fuzzing of the readers: for any bytes they return a source or raise one of our errors."""
