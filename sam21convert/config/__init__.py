"""Settings of a model, from whatever describes them, and back."""
