"""`muster generate monitoring`: writes the rules and the dashboards, or compares them."""

from __future__ import annotations

from tools.cli import generated
from tools.monitoring import dashboards, rules

SWEPT = {rules.FOLDER: "*.rules.yaml", dashboards.FOLDER: "*.json"}


def files() -> dict[str, str]:
    """Everything that is made, by its path."""
    return {**rules.files(), **dashboards.files()}


def main(*, check: bool) -> int:
    return generated.run(files(), swept=SWEPT, check=check, target="monitoring")
