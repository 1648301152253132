"""Compare two checkpoints, tensor by tensor."""
