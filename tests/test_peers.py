"""What becomes of test modules whose packages are not installed, or not what they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import PEERS, pytest_pycollect_makemodule

Collect = Callable[[str], object]


@pytest.fixture
def collect(request: pytest.FixtureRequest, tmp_path: Path) -> Collect:
    """Collects a module that holds this statement."""

    def run(statement: str) -> object:
        path = tmp_path / "test_with_a_peer.py"
        path.write_text(f"{statement}\ndef test_nothing(): pass\n")
        return list(pytest_pycollect_makemodule(path, request.session).collect())

    return run


def missing(name: str) -> str:
    return f"raise ModuleNotFoundError('No module named {name}', name='{name}')"


@pytest.mark.parametrize("package", sorted(PEERS))
def test_a_package_that_is_missing_is_the_reason_to_skip(collect: Collect, package: str) -> None:
    with pytest.raises(pytest.skip.Exception, match=f"^{package} is not installed$"):
        collect(missing(package))


@pytest.mark.parametrize(
    "statement",
    [
        missing("transformers.models.sam2"),
        missing("torch"),
        "raise ImportError('cannot import name Sam2Model', name='transformers')",
        "raise RuntimeError('operator torchvision::nms does not exist')",
    ],
)
def test_one_that_is_there_and_has_changed_is_an_error(collect: Collect, statement: str) -> None:
    with pytest.raises((pytest.Collector.CollectError, RuntimeError)):
        collect(statement)


def test_a_module_that_can_be_imported_is_collected(collect: Collect) -> None:
    assert collect("import json")
