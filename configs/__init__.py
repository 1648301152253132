"""Configs of the published SAM 2 and SAM 2.1 models, with the tensors each one has."""

from pathlib import Path

ROOT = Path(__file__).parent
