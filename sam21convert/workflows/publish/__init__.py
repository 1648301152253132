"""A repository of the Hugging Face Hub: planned, uploaded, verified."""
