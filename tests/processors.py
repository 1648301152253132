"""Run the numeric tests as other processors compute, one setting after the other.

    python -m tests.processors [--setting NAME]... [PYTEST ARGUMENT...]

Numeric are the tests of models and all that runs them, and modules that import one of the packages
to compare with. Arguments replace that choice, such as ``tests/model/test_parity.py``.
A setting that this processor cannot do is skipped with the reason. The exit code is 0 if all tests
pass under all others.
"""

from __future__ import annotations

import argparse
import re

from .support.paths import ROOT
from .support.processors import SETTINGS, run, why_not

_FOLDERS = ("comparison", "evaluation", "export", "model", "prediction", "training")
_IMPORT = re.compile(r"^(from|import) +(sam2|timm|transformers)\b|importorskip\(.mlx", re.MULTILINE)


def numeric() -> list[str]:
    """The tests that compute.

    Returns:
        Folders and modules, relative to the root of the repository.
    """
    folders = [ROOT / "tests" / name for name in _FOLDERS]
    modules = [
        path
        for path in sorted(ROOT.glob("tests/**/test_*.py"))
        if not set(path.parents) & set(folders) and _IMPORT.search(path.read_text("utf-8"))
    ]
    return [str(path.relative_to(ROOT)) for path in (*folders, *modules)]


def main() -> None:
    """Run the tests and print one line for each setting."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [setting.name for setting in SETTINGS]
    parser.add_argument("--setting", action="append", choices=names, help="only this one")
    options, arguments = parser.parse_known_args()
    failed = []
    for setting in SETTINGS:
        if setting.name not in (options.setting or names):
            continue
        variables = " ".join(f"{name}={value}" for name, value in setting.environment.items())
        reason = why_not(setting)
        print(f"{setting.name}: {variables}{f': skipped, {reason}' if reason else ''}", flush=True)
        if not reason and run(setting, "-m", "pytest", *(arguments or numeric())).returncode:
            failed.append(setting.name)
    raise SystemExit(f"failed under {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
