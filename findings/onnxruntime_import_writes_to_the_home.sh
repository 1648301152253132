#!/usr/bin/env bash
# onnxruntime 1.32.0 (the CPU build of PyPI, Linux): `import onnxruntime`, with nothing else, writes
# two files below the user's cache folder: `deviceid`, a random UUID that stays the same from then on,
# and `onnxruntime.db`, an SQLite database. `disable_telemetry_events()`, which can only be called
# after the import, comes too late for both. Only the environment variable ORT_DISABLE_TELEMETRY=1,
# set before the import, leaves the home as it was. Whoever runs a model for somebody else, in an image
# or with a read-only home, may want to know.
# Seen:
#   import                                   deviceid, onnxruntime.db
#   import, then disable_telemetry_events()  deviceid, onnxruntime.db
#   ORT_DISABLE_TELEMETRY=1, then import     nothing
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxruntime==1.32.0
unset XDG_CACHE_HOME ORT_DISABLE_TELEMETRY

written() { # names of the files that a program leaves in an empty home
    local home
    home=$(mktemp -d -p "$folder")
    env HOME="$home" "${@:2}" "$folder/venv/bin/python" -c "$1"
    find "$home" -type f -printf '%f\n' | sort | paste -sd ' '
}

plain=$(written "import onnxruntime")
disabled=$(written "import onnxruntime; onnxruntime.disable_telemetry_events()")
variable=$(written "import onnxruntime" ORT_DISABLE_TELEMETRY=1)
echo "import                                   ${plain:-nothing}"
echo "import, then disable_telemetry_events()  ${disabled:-nothing}"
echo "ORT_DISABLE_TELEMETRY=1, then import     ${variable:-nothing}"
if [[ $plain != "deviceid onnxruntime.db" || $disabled != "$plain" || -n $variable ]]; then
    echo "changed: other files are written than stated" >&2
    exit 1
fi
