"""`python -m tools.embedded down`: stop servers that outlived a killed `make up`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home
from tools.embedded.stack import stop_leftovers

USAGE = "usage: python -m tools.embedded down"


def main(arguments: list[str]) -> int:
    if arguments != ["down"]:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        stopped = asyncio.run(stop_leftovers(Home.at(Path(".muster"))))
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"stopped {' and '.join(stopped)}" if stopped else "nothing was left running")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
