"""What a transformers folder holds beside its weights."""
