"""The rules as they are committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.monitoring import rules

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def rule_files() -> list[Path]:
    return [ROOT / name for name in rules.files()]
