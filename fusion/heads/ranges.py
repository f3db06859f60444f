"""Ranges of settings, checked alike for every head."""

from __future__ import annotations

from fusion.errors import HeadConfigError


def whole(name: str, value: object, *, most: int | None = None) -> None:
    """Refuse a setting that is no whole number of at least 1, and of at most `most`.

    Raises
    ------
    HeadConfigError
        Naming the setting, the value and the range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise HeadConfigError(f"{name} must be a whole number of at least 1, got {value!r}")
    if most is not None and value > most:
        raise HeadConfigError(f"{name} must be a whole number from 1 to {most}, got {value!r}")


def share(name: str, value: float) -> None:
    """Refuse a setting outside [0, 1)."""
    if not 0 <= value < 1:
        raise HeadConfigError(f"{name} must lie in [0, 1), got {value!r}")


def not_negative(name: str, value: float) -> None:
    """Refuse a setting that is negative, infinite or NaN."""
    if not 0 <= value < float("inf"):
        raise HeadConfigError(f"{name} must be finite and not negative, got {value!r}")
