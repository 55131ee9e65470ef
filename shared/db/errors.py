"""Which errors of PostgreSQL pass by themselves, and which come from the data."""

from __future__ import annotations

import asyncpg

# SQLSTATE classes (PostgreSQL manual, appendix A).
_TRANSIENT_CLASSES = ("08", "40", "53")
_TRANSIENT_STATES = {
    "25006",  # read-only transaction: a standby answered during a failover
    "25P03",  # idle in transaction for too long
    "55P03",  # lock_timeout
    "57014",  # statement_timeout
    "57P01",  # the server shuts down
    "57P02",  # another backend crashed
    "57P03",  # the server starts up
    "57P05",  # idle for too long
}
_DATA_CLASSES = ("21", "22", "23")
_DATA_STATES = {"54000"}  # an index row or another limit that only this value exceeds

_TEXT_STATES = {"22021", "22P05"}  # NUL, as text and in JSON

_PLACES = ("table_name", "column_name", "constraint_name")

# A file that is missing today is missing tomorrow.
_OF_FILES = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)

TRANSIENT: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InternalClientError,
)
"""What passes by itself: `except TRANSIENT`. `is_transient` knows a few more."""


def is_transient(error: BaseException) -> bool:
    """Tell whether the same work may succeed later without a change."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state.startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT_STATES:
            return True
    # asyncpg says "connection is closed", "pool is closing" and (of one that broke while it was
    # lent) "connection has been released" with its plain InterfaceError.
    if type(error) is asyncpg.InterfaceError:
        return "clos" in str(error) or "has been released" in str(error)
    return isinstance(error, TRANSIENT) and not isinstance(error, _OF_FILES)


def is_data_error(error: BaseException) -> bool:
    """Tell whether the values themselves are at fault, so that other rows would pass."""
    if is_transient(error):
        return False
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state.startswith(_DATA_CLASSES) or state in _DATA_STATES
    # asyncpg refuses a value it cannot encode with its own DataError, which has no SQLSTATE of the
    # server; the others are what code raises over a value it did not expect.
    return isinstance(
        error,
        (asyncpg.DataError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError),
    )


def is_unstorable_text(error: BaseException) -> bool:
    """Tell whether a text holds what PostgreSQL keeps in none: whoever sent it is at fault."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _TEXT_STATES


def quotes_values(error: BaseException) -> bool:
    """Tell whether its message repeats what it was given: see `describe`."""
    return isinstance(error, asyncpg.PostgresError) or hasattr(error, "error_count")


def describe(error: BaseException) -> str:
    """Name an error without the values it carries: those may be secret.

    PostgreSQL and pydantic quote the offending value in their messages.
    """
    if isinstance(error, asyncpg.PostgresError):
        parts: list[str | None] = [type(error).__name__, error.sqlstate]
        parts += [getattr(error, name, None) for name in _PLACES]
        return " ".join(str(part) for part in parts if part)
    errors = getattr(error, "errors", None)
    if callable(errors) and hasattr(error, "error_count"):
        found = errors(include_input=False, include_url=False, include_context=False)
        places = ("{}: {}".format(".".join(map(str, e["loc"])), e["type"]) for e in found[:5])
        return f"{type(error).__name__} {'; '.join(places)}"
    return f"{type(error).__name__}: {error}"[:300]
