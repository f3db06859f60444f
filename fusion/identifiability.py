"""Where block weights cannot matter, and where they do (REFERENCE.md §6)."""

from __future__ import annotations

from fusion.answers import Classifier

TREES = ("xgboost", "histgb")
"""Heads made of trees: they split one feature at a time, so a monotone change of a feature changes nothing."""

_DO = (
    "\n  weights matter in: head 'late' (mixes the members' probabilities)"
    "\n  head 'weighted' with mode='sum' (blocks of one width)"
    "\n  head 'weighted' with mode='concat' (blocks of equal length under a regularised head)"
)


def unidentifiable(head: Classifier) -> str | None:
    """Say why sweeping this head's block weights could not change its answers, or None when it can.

    Mixing decisions and summing blocks always can. Weighted concatenation can under a regularised head, but not under
    trees, nor where a standardiser after the weights undoes them.
    """
    params = head.get_params(deep=False)
    name = type(head).__name__
    if hasattr(head, "member_proba"):
        return None
    if "weights" not in params:
        return f"{name} has no block weights to sweep" + _DO
    inner = params.get("head")
    if params.get("mode") == "sum":
        return None
    if inner in TREES:
        return f"{name} with head={inner!r}: scaling a block is an exact no-op for trees" + _DO
    after = {**params, **(params.get("head_params") or {})}.get("standardize")
    if after == "standard":
        return f"{name} with standardize={after!r}: a standardiser after the weights undoes them exactly" + _DO
    return None


def caveat(head: Classifier) -> str | None:
    """Say what blurs the weights of a head whose weights do matter, or None."""
    params = head.get_params(deep=False)
    if params.get("normalize") == "none" and params.get("mode") == "concat":
        return (
            "Blocks keep their own scales (normalize='none'): a weight only rescales its block's penalty, and weights "
            "of different blocks cannot be compared."
        )
    return None
