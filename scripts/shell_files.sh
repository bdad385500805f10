#!/bin/bash
# Print the repository's shell scripts, each ended by a NUL: known by their first line or their name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
find . \( -name .git -o -name .venv -o -name build -o -name dist -o -name results -o -name '.*_cache' \) -prune -o \
    -type f -size -200k -print0 |
    while IFS= read -r -d '' file; do
        first=
        IFS= read -r -n 80 first <"$file" 2>/dev/null || true
        if [[ $first =~ ^'#!'.*(/|' ')(ba)?sh($|' ') || $file == *.sh || $file == *.bash ]]; then
            printf '%s\0' "$file"
        fi
    done
