"""Run two models on the same inputs and say where, if anywhere, they part."""
