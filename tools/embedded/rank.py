"""Prints how well the Python that runs it would serve, 0 best; for venv.sh.

A Python too old to read this file prints nothing, which says the same.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig

OPTIMISED, USABLE, WITHOUT_VENV, TOO_OLD = range(4)


def optimised() -> bool:
    """Whether it was built with profile-guided optimisation; without it all of Muster is slower."""
    # Debian and Ubuntu optimise too, and do not say so where others do.
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in arguments or "deb_system" in sysconfig.get_scheme_names()


def rank() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 (others run this too)
        return TOO_OLD
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        return WITHOUT_VENV
    return OPTIMISED if optimised() else USABLE


if __name__ == "__main__":
    print(rank())
