"""The `muster` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

import asyncpg

from tools.cli.errors import CliError
from tools.embedded.errors import EmbeddedError

# One file a family of commands, with the words it adds, in the order that the help shows.
FAMILIES: dict[str, tuple[str, ...]] = {
    "up": ("up",),
    "fleet": ("simulate",),
    "devices": ("devices",),
    "credentials": ("credentials",),
    "commands": ("command",),
    "policies": ("policies", "verdicts"),
    "events": ("events",),
    "dead_letters": ("dead-letters",),
    "tokens": ("token",),
    "run": ("run", "migrate"),
    "repair": ("rebuild", "db"),
    "generate": ("generate",),
}
_FAILED = 1


def parser(word: str | None = None) -> argparse.ArgumentParser:
    """Everything, or only the family of `word`: importing all of them takes seconds."""
    top = argparse.ArgumentParser(
        prog="muster", description="Muster: enroll, watch, lock and wipe devices."
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    wanted = [family for family, words in FAMILIES.items() if word in words]
    for family in wanted or FAMILIES:
        import_module(f"tools.cli.{family}").add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0: done, 1: it failed and said why, 2: it was asked for wrongly."""
    given = sys.argv[1:] if argv is None else argv
    top = parser(given[0] if given else None)
    arguments, rest = top.parse_known_args(given)
    if rest and not getattr(arguments, "passes_on", False):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        return int(arguments.run(arguments))
    except (CliError, EmbeddedError) as error:
        print(f"muster: {error}", file=sys.stderr)
    except (OSError, asyncpg.PostgresError) as error:
        print(f"muster: {type(error).__name__}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    except BrokenPipeError:
        sys.stderr.close()
    return _FAILED
