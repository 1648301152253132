"""Bytes of tensors: copied, cast, compared and checked, in pieces."""
