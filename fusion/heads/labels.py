"""What a fit is told of its rows beside their columns, checked: labels or shares, groups, weights, further targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length, column_or_1d

from ..data.moments import Moments, entered_moments
from ..errors import HeadDataError

Floats: TypeAlias = NDArray[np.float64]

SHARES_OFF: Final = 1e-3
"""How far a row's shares may be from one together: float16 and three printed digits pass, counts do not."""


class Learner(Protocol):
    """What a head says that it can learn from (`cer_fusion.fusion.heads.base.Head`)."""

    name: ClassVar[str]
    learns_soft_labels: ClassVar[bool]
    learns_targets: ClassVar[bool]
    weighs_rows: ClassVar[bool]
    learns_in_time: ClassVar[bool]


def entered_targets(head: Learner, targets: Mapping[str, Any] | None, X: Any) -> dict[str, Floats] | None:
    """Return further targets (n, t) by task, refusing heads that have no use for them."""
    if targets is None:
        return None
    if not head.learns_targets:
        raise HeadDataError(
            f"the head {head.name!r} learns classes alone, however: targets were given for {', '.join(targets)}\n"
            "  leave them out, or use a head whose `learns_targets` is true, such as 'multitask'"
        )
    found = {name: np.asarray(one, dtype=np.float64) for name, one in targets.items()}
    for name, one in found.items():
        if one.ndim != 2 or not one.shape[1] or len(one) != len(X):
            raise HeadDataError(
                f"targets[{name!r}] must have a row for each of {len(X)} rows and at least one column, "
                f"however its shape is {one.shape}"
            )
    return found


def entered_labels(
    head: Learner, y: Any, classes: Any, X: Any
) -> tuple[Any, Floats | None, NDArray[Any] | None, NDArray[np.bool_] | None]:
    """Return labels (n,), and where `y` is soft its shares (n, k) and the classes of their columns, these sorted.

    The last is which rows have a class at all (n,); None: all do.
    """
    soft = np.asarray(y)
    if classes is None and (soft.ndim != 2 or soft.shape[1] == 1):
        return y, None, None, None
    if not head.learns_soft_labels:
        raise HeadDataError(
            f"the head {head.name!r} learns from one label a row, however: y has shape {soft.shape}"
            f"{'' if classes is None else ', and classes were given'}\n"
            "  take the largest share's label, or a head whose `learns_soft_labels` is true, such as 'mlp' or 'linear'"
        )
    labels = None if classes is None else column_or_1d(classes)
    if labels is None or soft.ndim != 2 or soft.shape[1] != len(labels):
        found = "no classes were given" if labels is None else f"there are {len(labels)} classes"
        raise HeadDataError(
            "soft labels need the label of each column, y (n, k) beside classes (k,), however: y has shape "
            f"{soft.shape}, and {found}"
        )
    check_consistent_length(soft, X)
    order = np.argsort(labels, kind="stable")
    if len(np.unique(labels)) < len(labels):
        raise HeadDataError(f"classes must be different labels, however: {labels.tolist()}")
    soft, labelled = soft.astype(np.float64)[:, order], None
    there: NDArray[np.bool_] = np.asarray(~np.isnan(soft).all(axis=1))
    if head.learns_targets and there.any() and not there.all():
        labelled = there
        soft[~there] = soft[there].mean(axis=0)
    wrong = np.flatnonzero(~(np.isfinite(soft).all(1) & (soft >= 0).all(1) & (np.abs(soft.sum(1) - 1) < SHARES_OFF)))
    if len(wrong):
        raise HeadDataError(
            f"soft labels must be shares that sum to one, however: {len(wrong)} of {len(soft)} rows are not "
            f"(first: row {wrong[0]}, {soft[wrong[0]].round(3).tolist()})\n  divide counts of votes by their sum a row"
        )
    return labels[order][soft.argmax(axis=1)], soft / soft.sum(axis=1, keepdims=True), labels[order], labelled


def entered_groups(groups: Any, X: Any) -> NDArray[np.int64] | None:
    """Return the groups as numbers 0..g-1, refusing those that are not one a row."""
    if groups is None:
        return None
    found = column_or_1d(groups)
    check_consistent_length(found, X)
    nameless = [i for i, one in enumerate(found.tolist()) if one is None or one != one]
    if nameless:
        raise HeadDataError(
            f"groups must name the group of every row, however: {len(nameless)} have none (first: row {nameless[0]})\n"
            "  give rows that belong to nobody else a name each"
        )
    return np.unique(found.astype(str) if found.dtype == object else found, return_inverse=True)[1].astype(np.int64)


def entered_time(head: Learner, groups: Any, times: Any, videos: Any, X: Any) -> tuple[Moments | None, Any]:
    """Return where rows stand in time, and the groups, which are the videos where none were given.

    Raises
    ------
    HeadDataError
        If the head has no sense of time, times have no videos, or a video is of several groups.
    """
    if not head.learns_in_time:
        if times is not None or videos is not None:
            raise HeadDataError(
                f"the head {head.name!r} has no sense of time, however: times or videos were given\n"
                "  leave them out, or use a head whose `learns_in_time` is true, such as 'sequence'"
            )
        return None, groups
    if videos is None and groups is None:
        if times is not None:
            raise HeadDataError("times are of rows within their videos, however: no groups or videos were given")
        return None, None
    named = column_or_1d(groups if videos is None else np.asarray(videos))
    check_consistent_length(named, X)
    moments = entered_moments(named, times, len(named))
    if groups is None:
        return moments, np.where(moments.videos < 0, -1 - np.arange(len(named)), moments.videos)
    own = entered_groups(groups, X)
    assert own is not None
    inside = np.unique(np.stack([moments.videos, own])[:, moments.videos >= 0], axis=1)
    cut = inside[0][:-1][np.diff(inside[0]) == 0]
    if len(cut):
        raise HeadDataError(
            f"a video must be of one group, however: {len(np.unique(cut)):,} are of several (first: "
            f"{moments.names[cut[0]]!r})\n  windows would reach from one group into another"
        )
    return moments, groups


def entered_weights(head: Learner, weights: Any, X: Any) -> Floats | None:
    """Return the rows' weights, refusing heads that have no use for them."""
    if weights is None:
        return None
    if not head.weighs_rows:
        raise HeadDataError(
            f"the head {head.name!r} cannot weigh rows, however: sample_weight was given\n"
            "  leave it out, or use a head whose `weighs_rows` is true, such as 'mlp', 'linear' or 'xgboost'"
        )
    found = column_or_1d(np.full(len(X), weights) if isinstance(weights, (int, float)) else weights).astype(np.float64)
    check_consistent_length(found, X)
    if not np.isfinite(found).all() or (found < 0).any():
        raise HeadDataError("sample_weight must be finite and not negative, however: some weights are not")
    if not found.any():
        raise HeadDataError("sample_weight must leave some row a weight, however: all are zero")
    return np.asarray(found)
