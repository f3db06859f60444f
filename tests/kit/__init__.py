from hypothesis import HealthCheck, settings

PATIENT = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine fails no test, and each run tries the same examples."""
