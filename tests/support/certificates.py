"""Environments of the clients of local servers, where nothing is encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def without_certificates(environment: Mapping[str, str], nowhere: Path) -> dict[str, str]:
    """Let no client read certificates: those of a whole machine take each client 30 ms.

    Args:
        environment: An environment.
        nowhere: A path without certificates.

    Returns:
        The environment that names this path alone.
    """
    kept = {name: value for name, value in environment.items() if name != "SSL_CERT_FILE"}
    return {**kept, "SSL_CERT_DIR": str(nowhere)}
