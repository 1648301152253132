"""Conversions: planned from headers, then written."""
