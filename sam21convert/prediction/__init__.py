"""Weights loaded onto the model, and the model used on pictures and videos."""
