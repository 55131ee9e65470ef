"""The `muster` command."""

from __future__ import annotations

import argparse
import os
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
    "imports": ("import",),
    "credentials": ("credentials",),
    "serials": ("serials",),
    "commands": ("command",),
    "groups": ("groups",),
    "policies": ("policies", "verdicts"),
    "events": ("events",),
    "dead_letters": ("dead-letters",),
    "audit": ("audit",),
    "tokens": ("token",),
    "run": ("run", "migrate"),
    "keys": ("keys",),
    "repair": ("rebuild", "db"),
    "generate": ("generate",),
}
_FAILED = 1
_PIPE_CLOSED = 141
"""What a shell says of a program that SIGPIPE ended."""


class _Lines(argparse.HelpFormatter):
    """One line a command: argparse forgets the indent when it measures the longest word."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = (
            max(len(word) for words in FAMILIES.values() for word in words) + 4
        )


def parser(word: str | None = None) -> argparse.ArgumentParser:
    """Everything, or only the family of `word`: importing all of them takes seconds."""
    top = argparse.ArgumentParser(
        prog="muster",
        description="Muster: enroll, watch, lock and wipe devices.",
        epilog="`muster COMMAND --help` says more.",
        formatter_class=_Lines,
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
    arguments.rest = rest
    if not getattr(arguments, "passes_on", False):
        _take_in(arguments, top)
    try:
        status = int(arguments.run(arguments))
        sys.stdout.flush()  # here, where a pipe that is closed is no stack trace
    except (CliError, EmbeddedError) as error:
        print(f"muster: {error}", file=sys.stderr)
    except BrokenPipeError:
        # `muster devices | head`: whoever read has enough. What is still unwritten goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except ConnectionError as error:
        print(f"muster: {error}: does `make up` still run?", file=sys.stderr)
    except (OSError, asyncpg.PostgresError) as error:
        print(f"muster: {type(error).__name__}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    else:
        return status
    return _FAILED


def _take_in(arguments: argparse.Namespace, top: argparse.ArgumentParser) -> None:
    """Words behind an option belong to the list before it: `send KIND --reason R DEVICE`.

    argparse itself ends a list of words at the first option.
    """
    rest: list[str] = arguments.rest
    gathers: str = getattr(arguments, "gathers", "")
    if rest and (not gathers or any(word.startswith("-") for word in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if gathers:
        setattr(arguments, gathers, [*getattr(arguments, gathers), *rest])
