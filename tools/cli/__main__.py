"""`python -m tools.cli`: the same as `muster`."""

from __future__ import annotations

import sys

from tools.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
