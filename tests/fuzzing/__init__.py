"""Fuzzing of the readers: any bytes go in, a source or one of our own errors comes out."""
