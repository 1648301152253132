"""Workflows that combine several of the tools: batch, publishing, demo, convert with parity."""
