#!/bin/sh
# Finds a Python that is new enough and lets it bring .muster/venv up to date: venv.sh embedded|dev
set -eu
cd "$(dirname "$0")/../.."
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$candidate" -m tools.embedded.bootstrap "$1"
    fi
done
echo "Muster needs Python 3.11 or newer, and none was found on the PATH (${PYTHON:-python3, python3.11 … python3.14, python})." >&2
echo "Install one (\`apt-get install python3 python3-venv\`, \`brew install python\`), or name it: make PYTHON=/path/to/python3" >&2
exit 1
