#!/usr/bin/env bash
# Make a virtual environment and install normlab in it, with the versions that were tested.
# usage: scripts/install.sh [VENV [EXTRA]]     (PYTHON=python3.12 to choose the interpreter)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
extra=${2:-}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "error: normlab needs Python 3.11 to 3.13; $("$python" --version) is here. Name another: make PYTHON=python3.12 ..." >&2
    exit 2
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || {
    echo "error: cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 2
}
pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet)
torch=$(grep '^torch==' constraints.txt)

# Without a GPU, take the build of torch that has no CUDA: gigabytes less to load. Wherever a CPU build can be had
# it is named <version>+cpu; uv knows where PyTorch keeps those. If neither works, the normal build runs on a CPU too.
has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; }
if "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    : # there already, whichever build it is
elif [ "$(uname -s)" = Linux ] && ! has_gpu; then
    echo "no GPU found: installing the CPU build of $torch"
    "${pip[@]}" "$torch+cpu" 2>/dev/null ||
        { "${pip[@]}" --constraint constraints.txt uv && "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --torch-backend cpu "$torch"; } ||
        { echo "no CPU build could be had; installing the normal one"; "${pip[@]}" "$torch"; }
else
    "${pip[@]}" "$torch"
fi
echo "installing normlab${extra:+ with what its $extra needs}"
"${pip[@]}" --constraint constraints.txt --editable ".${extra:+[$extra]}"
