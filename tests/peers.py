"""The other implementations, as the tests use them. Nothing here is imported by the package."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path


def official_yaml(name: str) -> Path:
    """A YAML file of the installed official package, found without importing it."""
    return Path(str(metadata.distribution("sam2").locate_file(f"sam2/configs/{name}.yaml")))
