#!/bin/bash
# Run every experiment at a size into a folder of its own below OUT, going on where an earlier start was ended,
# and make a report of them all. One that fails does not keep the others from running; the status is 1 then.
#
#   scripts/experiments.sh SIZE OUT        SIZE: figures or full
set -euo pipefail
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/.."

size=$1
out=$2
mininetes=.venv/bin/mininetes
failed=()

shopt -s nullglob
for file in experiments/[!_]*.py; do
    name=$(basename "$file" .py)
    echo "== $name"
    # Ctrl-C ends all: 130 of the command, and none of the others is started.
    "$mininetes" run "$name" --size "$size" --out "$out/$name" --resume || {
        status=$?
        if ((status > 128)); then exit "$status"; fi
        failed+=("$name")
    }
done

results=("$out"/*/rows.jsonl)
if ((${#results[@]})); then
    "$mininetes" report "${results[@]%/rows.jsonl}" || failed+=(report)
fi
if ((${#failed[@]})); then
    echo "failed: ${failed[*]}; what is there is in $out/" >&2
    exit 1
fi
