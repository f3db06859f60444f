"""Which sweeps cannot matter, since the head would undo the weights; and which can hardly."""

from __future__ import annotations

from typing import Any

import numpy as np
from cer_fusion.fusion.heads import head_class, head_names
from cer_fusion.fusion.keeping.answers import Classifier

_DO = (
    "\n  weights matter in: head 'late' (mixes the members' probabilities)"
    "\n  head 'weighted' with mode='sum' (blocks of one width)"
    "\n  head 'weighted' with mode='concat' (blocks of equal length under a regularised head)"
)


def unidentifiable(head: Classifier) -> str | None:
    """Say why sweeping this head's block weights could not change its answers, or None when it can.

    Mixing decisions and summing blocks always can. Weighted concatenation can under a regularised head, but not where
    the head undoes any scale (`undone`). A head without block weights is told what scaling its blocks would do.
    """
    params = head.get_params(deep=False)
    name = type(head).__name__
    if hasattr(head, "member_proba") and "weights" in params:
        return None
    if params.get("mode") == "sum" and "weights" in params:
        return None
    inner = params.get("head") if isinstance(params.get("head"), str) else None
    after = {**params, **(params.get("head_params") or {})}
    why = undone(inner or str(getattr(head, "name", "")), after)
    if "weights" not in params:
        return f"{name} has no block weights to sweep" + (f", and they could not matter: {why}" if why else "") + _DO
    if why:
        return f"{name}{f' with head={inner!r}' if inner else ''}: {why}" + _DO
    return None


def undone(name: str, params: dict[str, Any]) -> str | None:
    """Say why a head of this name and these settings answers the same whatever its blocks are multiplied by, or None.

    What it claims of the heads here is proven in `tests/fusion/sweeps/test_identifiability.py`, for factors above zero.
    """
    if name in head_names() and not head_class(name).scales_matter:
        return "scaling a block is an exact no-op for trees"
    standardize = params.get("standardize")
    if standardize == "standard":
        return f"a standardiser after the weights undoes them exactly (standardize={standardize!r})"
    if standardize in ("l2", "power"):
        return f"rows are brought to unit length a block, which undoes weights (standardize={standardize!r})"
    if name == "lda" and params.get("shrinkage") in (None, 0):
        return "discriminant analysis without shrinkage does not depend on the scale of columns"
    free = [
        f"{setting}={params[setting]!r}" for setting, none in _UNPENALISED.items() if _equals(params, setting, none)
    ]
    if free:
        return f"without a penalty ({free[0]}) a linear head makes up for any scale in its coefficients"
    return None


def caveat(head: Classifier) -> str | None:
    """Say what blurs the weights of a head whose weights do matter, or None."""
    params = head.get_params(deep=False)
    if params.get("normalize") == "none" and params.get("mode") == "concat":
        return (
            "Blocks keep their own scales (normalize='none'): a weight only rescales its block's penalty, and weights "
            "of different blocks cannot be compared."
        )
    if params.get("mode") == "concat" and params.get("head") in ("linear", "ridge"):
        return (
            "Under a linear head a weight w is that block's penalty over w\u00b2: what is swept is how strongly "
            "each block is held back."
        )
    return None


_UNPENALISED = {"C": np.inf, "alpha": 0, "penalty": "none"}


def _equals(params: dict[str, Any], setting: str, none: Any) -> bool:
    value = params.get(setting)
    return value is not None and not isinstance(value, (list, tuple, np.ndarray)) and bool(value == none)
