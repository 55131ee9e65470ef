"""`python -m tools.bench.table FILE`: a saved run of `make bench` as Markdown for the docs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench import ratios, results


def text(lines: Sequence[Mapping[str, Any]]) -> str:
    """The machine, the medians, the memory of each process."""
    told: Mapping[str, Any] = next((line["machine"] for line in lines if "machine" in line), {})
    parts = [", ".join(f"{name} {value}" for name, value in told.items())]
    parts += ["", ratios.markdown(results.overview(lines))]
    memory = [line["memory_megabytes"] for line in lines if "memory_megabytes" in line]
    if memory:
        sizes = (f"{name} {max(one[name] for one in memory):.0f} MB" for name in memory[0])
        parts += ["", "Memory (PSS): " + ", ".join(sizes) + "."]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    try:
        print(text(results.read(parser.parse_args().file)))
    except (OSError, ValueError) as error:
        print(f"table: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
