"""Tensor data: copy, cast, compare and verify it, piece by piece."""
