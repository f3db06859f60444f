"""Power: the smallest difference between two heads that a test set of this size can be expected to show."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from cer_fusion.fusion.errors import ReportError

POWER = 0.8


def smallest_shift(n: int, discordance: float, *, alpha: float = 0.05, power: float = POWER) -> float | None:
    """Return the smallest true difference of two accuracies that McNemar's test finds with this power.

    Connor 1987, *Sample size for testing differences in proportions for the paired-sample design*, solved for the
    difference d: ``n d^2 = (z_a sqrt(q) + z_b sqrt(q - d^2))^2`` with q the discordance.

    Parameters
    ----------
    n : int
        Rows that both heads answer.
    discordance : float
        Share of the rows that exactly one of the two gets right, 0-1.
    alpha, power : float
        Two-sided error; chance to find the difference.

    Returns
    -------
    float or None
        0-1; None if no difference is large enough, because it cannot exceed the discordance.
    """
    if n < 1 or not 0 <= discordance <= 1:
        raise ReportError(f"power needs n >= 1 and a discordance of 0-1, however: n = {n}, {discordance}")
    z_a, z_b = _z(alpha, power)
    a, slack = z_a * sqrt(n * discordance), n + z_b**2
    inner = a**2 - slack * discordance * (z_a**2 - z_b**2)
    found = (a + sqrt(max(inner, 0.0))) / slack
    return found if 0 < found <= discordance else None


def smallest_difference(sd: float, *, alpha: float = 0.05, power: float = POWER) -> float:
    """Return the smallest true difference that a two-sided z-test finds with this power.

    Parameters
    ----------
    sd : float
        Standard deviation of the estimated difference, for example over paired bootstrap resamples.
    alpha, power : float
        As for `smallest_shift`.
    """
    return sum(_z(alpha, power)) * sd


def _z(alpha: float, power: float) -> tuple[float, float]:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ReportError(f"alpha and power must lie between 0 and 1, however: {alpha} and {power}")
    return NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)
