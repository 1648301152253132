"""The packages that can run a model, each asked the same questions in its own way."""
