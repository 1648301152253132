#!/usr/bin/env bash
# triton 3.9.0 (which torch 2.15.0 brings, and imports when it exports a model, on a CPU as well): a
# program that ends with gc.freeze(), so that Python need not search all its objects once more, prints
# a report on stderr of hundreds of types and functions that nanobind says were leaked, and ends with
# the exit code 0. Without gc.freeze() nothing is printed; nor after os._exit(0). Seen (Python 3.11):
#   usual 0 lines; frozen: "nanobind: leaked 514 functions!" among 31 lines; os._exit 0 lines
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q triton==3.9.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import subprocess
import sys


def said(end):
    program = f"import gc, os, triton; {end}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


usual, frozen, at_once = said("gc.collect()"), said("gc.freeze()"), said("os._exit(0)")
leaked = [line for line in frozen if line.startswith("nanobind: leaked")]
print(len(usual), len(frozen), len(at_once), *leaked, sep="\n")
assert leaked and not usual and not at_once
PYTHON
