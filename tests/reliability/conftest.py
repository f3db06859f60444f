"""What the reliability suite shares: how many cases to run, and the table of figures at its end."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

FULL = 10_000
"""`CER_FUZZ_N` of a full run: the case counts of `docs/reliability.md`."""
CASES = int(os.environ.get("CER_FUZZ_N", "500"))
_FIGURE = "promise"


@pytest.fixture
def scaled() -> Callable[[int, int], int]:
    """How many of the full run's cases this run does: `scaled(200, 10)` is 200 for CER_FUZZ_N=10000, at least 10."""

    def scale(full: int, least: int = 1) -> int:
        return max(min(full, least), round(full * CASES / FULL))

    return scale


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Note a promise's figure for the table: `figure("P1", "200 kills: 0 wrong, 0 unreadable")`."""

    def note(promise: str, text: str) -> None:
        request.node.user_properties.append((_FIGURE, (promise, text)))  # goes with the report, from workers too

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every promise's figures in order."""
    figures: dict[str, list[str]] = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        for name, value in getattr(report, "user_properties", ()):
            if name == _FIGURE and report.when == "call":
                figures.setdefault(value[0], []).append(value[1])
    if not figures:
        return
    terminalreporter.section(f"promises (CER_FUZZ_N={CASES})")
    for promise in sorted(figures, key=lambda name: int(name[1:])):
        for text in figures[promise]:
            terminalreporter.line(f"{promise:<4} {text}")
