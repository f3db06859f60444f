"""Class weights as users give them, by label, and as fits take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight


def factors(class_weight: Any, classes: NDArray[Any], codes: Codes) -> NDArray[np.float64]:
    """Return one factor a class (k,).

    Parameters
    ----------
    class_weight : None, "balanced" or dict of label to factor
        None weighs every row alike, `balanced` every class alike; a label without a factor has 1.
    classes : ndarray of shape (k,)
        The labels.
    codes : ndarray of shape (n,)
        Positions in `classes`, one a training row.

    Raises
    ------
    HeadConfigError
        If a label is not known, or a factor is negative or not finite.
    """
    try:
        found = compute_class_weight(class_weight, classes=classes, y=classes[codes])
    except (ValueError, TypeError) as error:
        raise HeadConfigError(
            f"class_weight must be None, 'balanced' or a factor a label, got {class_weight!r}: {error}"
            f"\n  labels: {', '.join(map(str, classes))}"
        ) from error
    found = np.asarray(found, np.float64)
    if not (np.isfinite(found).all() and (found >= 0).all() and found.any()):
        raise HeadConfigError(f"class weights must be finite and not negative, got {class_weight!r}")
    return found


def by_code(class_weight: Any, classes: NDArray[Any], codes: Codes) -> dict[int, float] | None:
    """Return the factors as scikit-learn takes them for class codes, or None when all rows weigh alike."""
    if class_weight is None:
        return None
    return dict(enumerate(map(float, factors(class_weight, classes, codes))))
