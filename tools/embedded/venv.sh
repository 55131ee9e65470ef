#!/bin/sh
# Finds a Python that is new enough and lets it bring .muster/venv up to date: venv.sh embedded|dev
#
# Of those on the PATH one built with profile-guided optimisation comes first, as distributions and
# container images build theirs: without it all of Muster is a fifth slower (decision 37).
set -eu
cd "$(dirname "$0")/../.."

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    candidates=$(
        for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
            IFS=:
            for folder in $PATH; do
                if [ -x "$folder/$name" ]; then echo "$folder/$name"; fi
            done
        done
    )
fi

best='' best_rank=3
for candidate in $candidates; do
    got=$("$candidate" tools/embedded/rank.py 2>/dev/null) || got=''
    case "$got" in
        [0-2]) ;;
        *) continue ;;
    esac
    if [ "$got" -lt "$best_rank" ]; then best=$candidate best_rank=$got; fi
    if [ "$got" = 0 ]; then break; fi
done
if [ -n "$best" ]; then exec "$best" -m tools.embedded.bootstrap "$1"; fi
echo "Muster needs Python 3.11 or newer, and none was found on the PATH (${PYTHON:-python3, python3.11 … python3.14, python})." >&2
echo "Install one (\`apt-get install python3 python3-venv\`, \`brew install python\`), or name it: make PYTHON=/path/to/python3" >&2
exit 1
