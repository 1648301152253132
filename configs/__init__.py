"""Configs of the published SAM 2 and SAM 2.1 models, with the tensors each one has."""
