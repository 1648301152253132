#!/usr/bin/env bash
# All that needs a GPU, within nine minutes, as one report in Markdown:
# the tests, the speed of the model eager and compiled, and parity of every published config.
#
#     benchmarks/gpu.sh [--device NAME] [--report FILE] [--small]
#
# Run it from the root of a checkout with the test dependencies; PYTHON names the interpreter
# (default .venv/bin/python). --small takes the debug models and few rounds: it tries the script out,
# also with --device cpu, and measures nothing. Exit code 1: something failed, or was not done in time.
set -u
device=cuda report=gpu.md small=
while [ $# -gt 0 ]; do
    case $1 in
        --device | --report)
            [ $# -gt 1 ] || { echo "$1 needs a value" >&2; exit 2; }
            declare "${1#--}=$2"; shift 2 ;;
        --small) small=1; shift ;;
        *) echo "unknown: $1; see the head of $0" >&2; exit 2 ;;
    esac
done
python=${PYTHON:-.venv/bin/python}
forward=(--device "$device") verdicts=(--device "$device")
if [ -n "$small" ]; then
    export OMP_NUM_THREADS=1
    forward+=(--config debug/sam2.1_debug --image-size 128 --rounds 3 --threads 1)
    verdicts+=(--configs debug/sam2.1_debug --scenarios point)
fi
ends=$((SECONDS + 520)) # and some seconds to begin and to end
failed=0

# Runs a command for at most so many seconds, and appends what it prints to the report.
part() {
    local title=$1 most=$2 left=$((ends - SECONDS)) begin=$SECONDS code
    shift 2
    printf '\n## %s\n\n' "$title" >>"$report"
    [ "$left" -gt "$most" ] || most=$left
    if [ "$most" -le 0 ]; then
        echo "**Not done: no time was left.**" >>"$report"
        failed=1
        return
    fi
    echo "$title, at most $most s" >&2
    timeout "$most" "$@" >>"$report" 2>"$report.err"
    code=$?
    printf '\n%s s, exit code %s\n' "$((SECONDS - begin))" "$code" >>"$report"
    [ "$code" -eq 0 ] && return
    failed=1
    [ "$code" -ne 124 ] || echo "**Not finished in time.**" >>"$report"
    printf '\n```\n%s\n```\n' "$(tail -n 20 "$report.err")" >>"$report"
}

"$python" - "$device" >"$report" <<'END' || exit 1
import platform, sys
from importlib.metadata import version
from sam21convert.prediction.devices import pick_device
import torch

device = pick_device(sys.argv[1])
name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
print(f"# On {device} ({name})\n")
print(f"Python {platform.python_version()}, CUDA {torch.version.cuda}, " + ", ".join(
    f"{one} {version(one)}" for one in ("sam21convert", "torch", "torchvision", "sam2", "transformers", "timm")
))
END
part "Parity with transformers" 200 "$python" -m benchmarks.verdicts "${verdicts[@]}"
part "Speed, eager" 60 "$python" -m benchmarks.forward "${forward[@]}"
part "Speed, compiled" 150 "$python" -m benchmarks.forward "${forward[@]}" --compile
# Parity of the published configs is above.
part "pytest -m gpu" 200 "$python" -m pytest -m gpu -p no:cacheprovider tests/model/test_gpu.py \
    -k "not parity_of_the_published" --durations 5
rm -f "$report.err"
cat "$report"
exit "$failed"
